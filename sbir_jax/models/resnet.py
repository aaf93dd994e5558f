"""ResNets in two parts, `Stem` and `Trunk`, so that two modalities can share the second only.

ResNet-18/34/50/101 are the v1.5 layout of torchvision: the stride of a bottleneck sits in its 3 x 3
convolution, the stem pads (3, 3) and its max-pool (1, 1) on every side where XLA's SAME would
not, and BatchNorm has eps 1e-5, so published weights fit. `patch_resnet` is for CPUs: its stem
cuts 4 x 4 patches, because XLA's CPU convolution gradients are slow on large maps with few
channels.

Source: He, Zhang, Ren, Sun, Deep Residual Learning for Image Recognition, CVPR 2016; v1.5 as in
torchvision's `resnet.py`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from sbir_jax.backbones import ResNetSpec
from sbir_jax.models.acts import relu
from sbir_jax.models.convolve import by_patches, convolve, halving
from sbir_jax.models.initial import he_normal
from sbir_jax.models.norms import batch_norm
from sbir_jax.models.pool import max_pool
from sbir_jax.models.remat import through


def _conv(
    inputs: int, outputs: int, size: int, stride: int, *, dtype: DTypeLike, rngs: nnx.Rngs
) -> nnx.Conv:
    pad = (size // 2, size // 2)  # torch's padding; SAME differs when the stride is 2
    return nnx.Conv(
        inputs,
        outputs,
        (size, size),
        strides=(stride, stride),
        padding=(pad, pad),
        use_bias=False,
        kernel_init=he_normal,
        dtype=dtype,
        rngs=rngs,
    )


class Stem(nnx.Module):
    """Image [B, H, W, C] to the first feature map, [B, H/4, W/4, widths[0]] either way."""

    def __init__(self, channels: int, spec: ResNetSpec, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.patches = spec.patch_stem
        width = spec.widths[0]
        if self.patches:
            self.conv = nnx.Conv(
                channels,
                width,
                (4, 4),
                strides=(4, 4),
                padding="VALID",
                use_bias=False,
                kernel_init=he_normal,
                dtype=dtype,
                rngs=rngs,
            )
        else:
            self.conv = _conv(channels, width, 7, 2, dtype=dtype, rngs=rngs)
        self.norm = batch_norm(width, dtype=dtype, rngs=rngs)

    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        if self.patches:
            return self.norm(by_patches(self.conv, images), train=train, relu=True)
        x = self.norm(halving(self.conv, images, train=train), train=train)
        return relu(max_pool(x, window=3))  # in this order ReLU has a quarter of the numbers


class Block(nnx.Module):
    """A residual block: two 3 x 3 convolutions, or 1 x 1, 3 x 3, 1 x 1 (four times as wide)."""

    def __init__(
        self,
        inputs: int,
        width: int,
        stride: int,
        bottleneck: bool,
        *,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        sizes = (1, 3, 1) if bottleneck else (3, 3)
        widths = (width, width, 4 * width) if bottleneck else (width, width)
        strides = (1, stride, 1) if bottleneck else (stride, 1)
        last = len(sizes) - 1
        convs, norms, channels = [], [], inputs
        for i, (size, out, step) in enumerate(zip(sizes, widths, strides, strict=True)):
            convs.append(_conv(channels, out, size, step, dtype=dtype, rngs=rngs))
            # The last scale starts at zero, so each block starts as the identity (Goyal 2017).
            norms.append(batch_norm(out, dtype=dtype, rngs=rngs, zero=i == last))
            channels = out
        self.convs, self.norms = nnx.List(convs), nnx.List(norms)
        self.has_projection = stride > 1 or inputs != channels
        if self.has_projection:
            self.project = _conv(inputs, channels, 1, stride, dtype=dtype, rngs=rngs)
            self.project_norm = batch_norm(channels, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        shortcut = x
        if self.has_projection:
            shortcut = self.project_norm(convolve(self.project, x, train=train), train=train)
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = convolve(conv, x, train=train)
            x = norm(x, train=train, relu=i < len(self.convs) - 1)
        return relu(x + shortcut)


class Trunk(nnx.Module):
    """The residual stages and the global average: [B, h, w, widths[0]] to float32 [B, features]."""

    def __init__(self, spec: ResNetSpec, *, dtype: DTypeLike, rngs: nnx.Rngs):
        blocks, channels = [], spec.widths[0]
        for stage, (depth, width) in enumerate(zip(spec.depths, spec.widths, strict=True)):
            for i in range(depth):
                stride = 2 if stage and not i else 1
                blocks.append(
                    Block(channels, width, stride, spec.bottleneck, dtype=dtype, rngs=rngs)
                )
                channels = width * (4 if spec.bottleneck else 1)
        self.blocks = nnx.List(blocks)

    def __call__(self, x: jax.Array, *, train: bool, remat: str = "none") -> jax.Array:
        for block in self.blocks:
            x = through(block, x, remat=remat, train=train)
        return x.astype(jnp.float32).mean(axis=(1, 2))
