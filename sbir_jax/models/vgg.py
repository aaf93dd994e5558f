"""VGG in two parts, `Stem` (the first stage) and `Trunk` (the others).

Features are the average of the last feature map, after its pooling: 512 of them. The published
fully connected layers (4096 wide, for maps of 7 x 7 only) are not used.

Source: Simonyan, Zisserman, Very Deep Convolutional Networks, ICLR 2015; with BatchNorm as in
torchvision's `vgg.py`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from sbir_jax.backbones import VGGSpec
from sbir_jax.models.convolve import convolve
from sbir_jax.models.initial import he_normal
from sbir_jax.models.norms import batch_norm
from sbir_jax.models.pool import max_pool
from sbir_jax.models.remat import through


class Stage(nnx.Module):
    """3 x 3 convolutions, each with its norm (if any) and ReLU, then a 2 x 2 max-pool."""

    def __init__(
        self, inputs: int, widths: tuple[int, ...], norm: bool, *, dtype: DTypeLike, rngs: nnx.Rngs
    ):
        convs, norms = [], []
        for width in widths:
            pad = ((1, 1), (1, 1))
            convs.append(
                nnx.Conv(
                    inputs,
                    width,
                    (3, 3),
                    padding=pad,
                    kernel_init=he_normal,
                    dtype=dtype,
                    rngs=rngs,
                )
            )
            norms += [batch_norm(width, dtype=dtype, rngs=rngs)] if norm else []
            inputs = width
        self.convs, self.norms = nnx.List(convs), nnx.List(norms)

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        for i, conv in enumerate(self.convs):
            x = convolve(conv, x, train=train)
            x = self.norms[i](x, train=train, relu=True) if self.norms else nnx.relu(x)
        return max_pool(x, window=2)


class Stem(nnx.Module):
    """Image [B, H, W, C] to the first stage's map, [B, H/2, W/2, 64]."""

    def __init__(self, channels: int, spec: VGGSpec, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.stage = Stage(channels, spec.stages[0], spec.batch_norm, dtype=dtype, rngs=rngs)

    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        return self.stage(images, train=train)


class Trunk(nnx.Module):
    """The other stages and the global average: [B, h, w, 64] to float32 [B, features]."""

    def __init__(self, spec: VGGSpec, *, dtype: DTypeLike, rngs: nnx.Rngs):
        stages, channels = [], spec.stages[0][-1]
        for widths in spec.stages[1:]:
            stages.append(Stage(channels, widths, spec.batch_norm, dtype=dtype, rngs=rngs))
            channels = widths[-1]
        self.stages = nnx.List(stages)

    def __call__(self, x: jax.Array, *, train: bool, remat: str = "none") -> jax.Array:
        for stage in self.stages:
            x = through(stage, x, remat=remat, train=train)
        return x.astype(jnp.float32).mean(axis=(1, 2))
