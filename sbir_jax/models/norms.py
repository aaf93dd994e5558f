"""BatchNorm and LayerNorm with gradients of their own.

Derived by rule, a gradient keeps arrays as large as the input, some in float32, and goes over them
more often than it must. These keep the input and its statistics and go over it twice. Everything is
computed in float32 and rounded once, whatever the activations are; Flax's layers round statistics
and parameters to the activations' type first.

Source: Ioffe, Szegedy, Batch Normalization, ICML 2015; Ba, Kiros, Hinton, Layer Normalization,
2016.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from sbir_jax.materialise import materialised


class BatchNorm(nnx.BatchNorm):
    """Normalises the channels of [..., C] by the batch's statistics or, else, by their averages."""

    def __call__(  # type: ignore[override] # `train` says what `use_running_average` would
        self, x: jax.Array, *, train: bool, relu: bool = False
    ) -> jax.Array:
        """To `x`'s shape, in the dtype of the layer.

        Args:
          x: [..., C].
          train: whether to use the statistics of `x`, and to move the averages towards them.
          relu: whether ReLU follows.
        """
        scale, bias = _learned(self)
        if not train:
            y = _scaled(x, self.mean[...], _inverse(self.var[...], self.epsilon), scale, bias)
            return (nnx.relu(y) if relu else y).astype(self.dtype)
        y, mean, var = _batch_norm(x, scale, bias, self.epsilon, relu, self.dtype)
        for average, now in ((self.mean, mean), (self.var, var)):
            moved = self.momentum * average[...] + (1 - self.momentum) * now
            average[...] = jax.lax.stop_gradient(moved)
        return y


def batch_norm(channels: int, *, dtype: DTypeLike, rngs: nnx.Rngs, zero: bool = False) -> BatchNorm:
    """BatchNorm as torch has it by default: eps 1e-5, a tenth of each batch in the averages."""
    scale = nnx.initializers.zeros if zero else nnx.initializers.ones
    return BatchNorm(channels, momentum=0.9, epsilon=1e-5, dtype=dtype, scale_init=scale, rngs=rngs)


class LayerNorm(nnx.LayerNorm):
    """Normalises each vector of [..., C] by its own mean and variance."""

    def __call__(self, x: jax.Array) -> jax.Array:  # type: ignore[override] # no mask
        """To `x`'s shape, in the dtype of the layer."""
        return _layer_norm(x, *_learned(self), self.epsilon, self.dtype)


def layer_norm(width: int, *, eps: float = 1e-6, dtype: DTypeLike, rngs: nnx.Rngs) -> LayerNorm:
    """LayerNorm over the last axis."""
    return LayerNorm(width, epsilon=eps, dtype=dtype, rngs=rngs)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def _batch_norm(
    x: jax.Array, scale: jax.Array, bias: jax.Array, eps: float, relu: bool, dtype: DTypeLike
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalised, and the mean and variance [C], which carry no gradient."""
    return _batch_forward(x, scale, bias, eps, relu, dtype)[0]


def _batch_forward(
    x: jax.Array, scale: jax.Array, bias: jax.Array, eps: float, relu: bool, dtype: DTypeLike
) -> tuple[Any, Any]:
    wide, rows = x.astype(jnp.float32), tuple(range(x.ndim - 1))
    mean, square = wide.mean(rows), (wide * wide).mean(rows)  # in one pass
    var = jnp.maximum(square - mean * mean, 0.0)
    inverse = _inverse(var, eps)
    y = _scaled(x, mean, inverse, scale, bias)
    y = (nnx.relu(y) if relu else y).astype(dtype)
    return (y, mean, var), (x, mean, inverse, scale, bias)


def _batch_backward(eps: float, relu: bool, dtype: DTypeLike, kept: Any, slopes: Any) -> Any:
    x, mean, inverse, scale, bias = kept
    rows, count = tuple(range(x.ndim - 1)), x.size // x.shape[-1]

    def slope_and_unit(mean: jax.Array, inverse: jax.Array) -> tuple[jax.Array, jax.Array]:
        slope = slopes[0].astype(jnp.float32)
        if relu:
            slope = jnp.where(_scaled(x, mean, inverse, scale, bias) > 0, slope, 0.0)
        return slope, (x.astype(jnp.float32) - mean) * inverse

    # Twice, as if of other statistics: XLA for GPUs would write what ReLU let through in the
    # forward pass and read it twice, though `x`, which tells it too, is read anyway.
    slope, unit = slope_and_unit(*materialised((mean, inverse), "gpu"))
    of_bias, of_scale = slope.sum(rows), (slope * unit).sum(rows)
    mean, inverse, in_all, along = materialised((mean, inverse, of_bias, of_scale), "gpu")
    slope, unit = slope_and_unit(mean, inverse)
    of_x = scale * inverse * (slope - (in_all + unit * along) / count)
    return of_x.astype(x.dtype), of_scale, of_bias


_batch_norm.defvjp(_batch_forward, _batch_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _layer_norm(
    x: jax.Array, scale: jax.Array, bias: jax.Array, eps: float, dtype: DTypeLike
) -> jax.Array:
    return _layer_with(lambda statistics: statistics, x, scale, bias, eps, dtype)[0]


def _layer_forward(
    x: jax.Array, scale: jax.Array, bias: jax.Array, eps: float, dtype: DTypeLike
) -> tuple[jax.Array, Any]:
    # XLA for GPUs would compute them again for each reader, in kernels that fit that badly: on an
    # H200 all LayerNorms of a ViT-B/16 took 20 ms of its step, and take 12 so.
    keep = functools.partial(materialised, where="gpu")
    y, mean, inverse = _layer_with(keep, x, scale, bias, eps, dtype)
    return y, (x, mean, inverse, scale)


def _layer_with(
    keep: Callable[[jax.Array], jax.Array],
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    eps: float,
    dtype: DTypeLike,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalised, and the mean and the inverse of the deviation, as `keep` has them."""
    wide = x.astype(jnp.float32)
    mean = keep(wide.mean(-1, keepdims=True))
    # Two passes, as E[x^2] - E[x]^2 loses digits in float32.
    inverse = keep(_inverse(((wide - mean) ** 2).mean(-1, keepdims=True), eps))
    return ((wide - mean) * (inverse * scale) + bias).astype(dtype), mean, inverse


def _layer_backward(eps: float, dtype: DTypeLike, kept: Any, slope: jax.Array) -> Any:
    x, mean, inverse, scale = kept
    slope, rows = slope.astype(jnp.float32), tuple(range(x.ndim - 1))
    unit = (x.astype(jnp.float32) - mean) * inverse
    of_scale, of_bias = (slope * unit).sum(rows), slope.sum(rows)
    slope = slope * scale
    level, along = slope.mean(-1, keepdims=True), (slope * unit).mean(-1, keepdims=True)
    level, along = materialised((level, along), "gpu")
    of_x = inverse * (slope - level - unit * along)
    return of_x.astype(x.dtype), of_scale, of_bias


_layer_norm.defvjp(_layer_forward, _layer_backward)


def _learned(layer: BatchNorm | LayerNorm) -> tuple[jax.Array, jax.Array]:
    assert layer.scale is not None and layer.bias is not None  # what Flax has by default
    return layer.scale[...], layer.bias[...]


def _inverse(var: jax.Array, eps: float) -> jax.Array:
    return jax.lax.rsqrt(var + eps)


def _scaled(
    x: jax.Array, mean: jax.Array, inverse: jax.Array, scale: jax.Array, bias: jax.Array
) -> jax.Array:
    """float32, in one order of operations, so that both directions see the same signs; by one
    factor and one sum for each channel."""
    factor = inverse * scale
    return x.astype(jnp.float32) * factor + (bias - mean * factor)
