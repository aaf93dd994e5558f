"""ConvNeXt in two parts, `Stem` (4 x 4 patches) and `Trunk` (the stages).

Features are the average of the last map, normalised by the LayerNorm that the published networks
put between the average and the classifier.

Source: Liu, Mao, Wu, Feichtenhofer, Darrell, Xie, A ConvNet for the 2020s, CVPR 2022.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from sbir_jax.backbones import ConvNeXtSpec
from sbir_jax.models.acts import gelu
from sbir_jax.models.initial import lecun_normal
from sbir_jax.models.norms import layer_norm
from sbir_jax.models.remat import through


def _patches(inputs: int, outputs: int, size: int, *, dtype: DTypeLike, rngs: nnx.Rngs) -> nnx.Conv:
    return nnx.Conv(
        inputs,
        outputs,
        (size, size),
        strides=(size, size),
        padding="VALID",
        kernel_init=lecun_normal,
        dtype=dtype,
        rngs=rngs,
    )


class Stem(nnx.Module):
    """Image [B, H, W, C] to patches of 4 x 4 pixels, [B, H/4, W/4, widths[0]], normalised."""

    def __init__(self, channels: int, spec: ConvNeXtSpec, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.conv = _patches(channels, spec.widths[0], 4, dtype=dtype, rngs=rngs)
        self.norm = layer_norm(spec.widths[0], dtype=dtype, rngs=rngs)

    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        return self.norm(self.conv(images))


class Block(nnx.Module):
    """7 x 7 convolution of each channel, then LayerNorm and an MLP, scaled, on a residual path."""

    def __init__(self, width: int, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.conv = nnx.Conv(
            width,
            width,
            (7, 7),
            padding=((3, 3), (3, 3)),
            feature_group_count=width,
            kernel_init=lecun_normal,
            dtype=dtype,
            rngs=rngs,
        )
        self.norm = layer_norm(width, dtype=dtype, rngs=rngs)
        dense = functools.partial(nnx.Linear, kernel_init=lecun_normal, dtype=dtype, rngs=rngs)
        self.fc1 = dense(width, 4 * width)
        self.fc2 = dense(4 * width, width)
        self.layer_scale = nnx.Param(jnp.full((width,), 1e-6))

    def __call__(self, x: jax.Array) -> jax.Array:
        y = gelu(self.fc1(self.norm(self.conv(x))))
        return x + self.fc2(y) * self.layer_scale[...].astype(x.dtype)


class Stage(nnx.Module):
    """Blocks at one resolution; all but the first stage begin by halving the map."""

    def __init__(
        self, inputs: int, width: int, depth: int, *, first: bool, dtype: DTypeLike, rngs: nnx.Rngs
    ):
        self.halves = not first
        if self.halves:
            self.norm = layer_norm(inputs, dtype=dtype, rngs=rngs)
            self.conv = _patches(inputs, width, 2, dtype=dtype, rngs=rngs)
        self.blocks = nnx.List([Block(width, dtype=dtype, rngs=rngs) for _ in range(depth)])

    def __call__(self, x: jax.Array, *, remat: str) -> jax.Array:
        if self.halves:
            x = self.conv(self.norm(x))
        for block in self.blocks:
            x = through(block, x, remat=remat)
        return x


class Trunk(nnx.Module):
    """The stages, the global average and LayerNorm: [B, h, w, C] to float32 [B, features]."""

    def __init__(self, spec: ConvNeXtSpec, *, dtype: DTypeLike, rngs: nnx.Rngs):
        stages, channels = [], spec.widths[0]
        for i, (width, depth) in enumerate(zip(spec.widths, spec.depths, strict=True)):
            stages.append(Stage(channels, width, depth, first=not i, dtype=dtype, rngs=rngs))
            channels = width
        self.stages = nnx.List(stages)
        self.norm = layer_norm(channels, dtype=jnp.float32, rngs=rngs)

    def __call__(self, x: jax.Array, *, train: bool, remat: str = "none") -> jax.Array:
        for stage in self.stages:
            x = stage(x, remat=remat)
        return self.norm(x.astype(jnp.float32).mean(axis=(1, 2)))
