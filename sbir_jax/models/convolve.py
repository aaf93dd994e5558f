"""A layer's convolution, computed in ways that are faster than the plain one."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from sbir_jax.materialise import materialised
from sbir_jax.models.padding import padded

_LAYOUT = ("NHWC", "HWIO", "NHWC")


def convolve(conv: nnx.Conv, x: jax.Array, *, train: bool) -> jax.Array:
    """`conv(x)`, [B, H, W, C] to [B, H', W', outputs], padded by half its odd kernel on all sides.

    To a map smaller than the kernel it is a product of windows, as XLA for CPUs has no fast
    convolution from or, for its gradient, to such a map: 3 x 3 from 512 to 512 channels on 2 x 2
    pixels, as in a ResNet-18 that sees 64, takes 332 ms for 40 images, and as a product 4.

    In training its input and the slope that comes back are in memory on CPUs, as both are read
    twice: the slope of the weights wants them transposed, and XLA would compute them again for it,
    BatchNorm and all. The step of `patch_resnet` is 1.15 times as fast with it.
    """
    smallest = -(-min(x.shape[1:3]) // _stride(conv))  # side of the map it makes
    if smallest < conv.kernel_size[0]:
        return _convolved(functools.partial(_by_windows, conv), x, train)
    return _convolved(conv, x, train)


def by_patches(conv: nnx.Conv, images: jax.Array) -> jax.Array:
    """`conv(images)` of a convolution whose windows do not overlap, as one product.

    [B, H, W, C] to [B, H // size, W // size, outputs]. XLA transposes an image for the gradient of
    a convolution's weights; of 4 x 4 pixels that takes two CPU cores three times as long.
    """
    side = conv.kernel_size[0]
    batch, rows, columns = images.shape[0], images.shape[1] // side, images.shape[2] // side
    x = images.astype(conv.dtype)[:, : rows * side, : columns * side]
    x = x.reshape(batch, rows, side, columns, side, -1).transpose(0, 1, 3, 2, 4, 5)
    kernel = conv.kernel[...].astype(conv.dtype)
    return x.reshape(batch, rows, columns, -1) @ kernel.reshape(-1, kernel.shape[-1])


def by_rows(conv: nnx.Conv, images: jax.Array) -> jax.Array:
    """`conv(images)` of a convolution whose windows do not overlap, by a row of each at a time.

    [B, H, W, C] to [B, H // size, W // size, outputs]. The pixels of a row become channels, of
    which a GPU wants more than three: its kernels fill them up with zeros.
    """
    side = conv.kernel_size[0]
    batch, height, width, channels = images.shape
    x = images.astype(conv.dtype)[:, :, : width // side * side]
    x = x.reshape(batch, height, width // side, side * channels)
    kernel = conv.kernel[...].astype(conv.dtype).reshape(side, 1, side * channels, -1)
    y = jax.lax.conv_general_dilated(x, kernel, (side, 1), "VALID", dimension_numbers=_LAYOUT)
    return y if conv.bias is None else y + conv.bias[...].astype(conv.dtype)


def halving(conv: nnx.Conv, images: jax.Array, *, train: bool) -> jax.Array:
    """`conv(images)` of a 7 x 7 convolution with stride 2, by 2 x 2 pixels at a time.

    As 4 x 4 with stride 1 of four times the channels it has the same products, and the few channels
    of an image leave less of a matrix unit idle.
    """
    batch, height, width, channels = images.shape
    if height % 2 or width % 2:
        return convolve(conv, images, train=train)
    x = images.astype(conv.dtype).reshape(batch, height // 2, 2, width // 2, 2, channels)
    x = x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height // 2, width // 2, 4 * channels)
    # An eighth row and column of zeros in front, so that windows start at even pixels.
    kernel = jnp.pad(conv.kernel[...].astype(conv.dtype), ((1, 0), (1, 0), (0, 0), (0, 0)))
    kernel = kernel.reshape(4, 2, 4, 2, channels, -1).transpose(0, 2, 1, 3, 4, 5)
    kernel = kernel.reshape(4, 4, 4 * channels, -1)

    def four_by_four(x: jax.Array) -> jax.Array:
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), ((2, 1), (2, 1)), dimension_numbers=_LAYOUT
        )

    return _convolved(four_by_four, x, train)


def _by_windows(conv: nnx.Conv, x: jax.Array) -> jax.Array:
    side, stride = conv.kernel_size[0], _stride(conv)
    for axis in (1, 2):
        x = padded(x, axis, side // 2, side // 2, 0.0)
    rows, columns = (range(0, n - side + 1, stride) for n in x.shape[1:3])
    windows = [
        x[:, i : i + rows[-1] + 1 : stride, j : j + columns[-1] + 1 : stride]
        for i in range(side)
        for j in range(side)
    ]
    kernel = conv.kernel[...].astype(conv.dtype)
    y = jnp.concatenate(windows, -1).astype(conv.dtype) @ kernel.reshape(-1, kernel.shape[-1])
    return y if conv.bias is None else y + conv.bias[...].astype(conv.dtype)


def _convolved(
    convolution: Callable[[jax.Array], jax.Array], x: jax.Array, train: bool
) -> jax.Array:
    return _slope_read(convolution(_read(x))) if train else convolution(x)


def _stride(conv: nnx.Conv) -> int:
    return conv.strides[0] if isinstance(conv.strides, Sequence) else conv.strides or 1


@jax.custom_vjp
def _read(x: jax.Array) -> jax.Array:
    return materialised(x, "cpu")


@jax.custom_vjp
def _slope_read(y: jax.Array) -> jax.Array:
    return y


_read.defvjp(lambda x: (materialised(x, "cpu"), None), lambda _, slope: (slope,))
_slope_read.defvjp(lambda y: (y, None), lambda _, slope: (materialised(slope, "cpu"),))
