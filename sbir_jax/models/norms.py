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
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike


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
            y = _normalised(x, self.mean[...], _inverse(self.var[...], self.epsilon), scale, bias)
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
    y = _normalised(x, mean, inverse, scale, bias)
    y = (nnx.relu(y) if relu else y).astype(dtype)
    return (y, mean, var), (x, mean, inverse, scale, bias)


def _batch_backward(eps: float, relu: bool, dtype: DTypeLike, kept: Any, slopes: Any) -> Any:
    x, mean, inverse, scale, bias = kept
    slope, rows = slopes[0].astype(jnp.float32), tuple(range(x.ndim - 1))
    if relu:
        slope = jnp.where(_normalised(x, mean, inverse, scale, bias) > 0, slope, 0.0)
    unit = (x.astype(jnp.float32) - mean) * inverse
    of_bias, of_scale = slope.sum(rows), (slope * unit).sum(rows)
    count = x.size // x.shape[-1]
    of_x = scale * inverse * (slope - (of_bias + unit * of_scale) / count)
    return of_x.astype(x.dtype), of_scale, of_bias


_batch_norm.defvjp(_batch_forward, _batch_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _layer_norm(
    x: jax.Array, scale: jax.Array, bias: jax.Array, eps: float, dtype: DTypeLike
) -> jax.Array:
    return _layer_forward(x, scale, bias, eps, dtype)[0]


def _layer_forward(
    x: jax.Array, scale: jax.Array, bias: jax.Array, eps: float, dtype: DTypeLike
) -> tuple[jax.Array, Any]:
    wide = x.astype(jnp.float32)
    mean = wide.mean(-1, keepdims=True)
    # Two passes, as E[x^2] - E[x]^2 loses digits in float32.
    inverse = _inverse(((wide - mean) ** 2).mean(-1, keepdims=True), eps)
    return _normalised(x, mean, inverse, scale, bias).astype(dtype), (x, mean, inverse, scale)


def _layer_backward(eps: float, dtype: DTypeLike, kept: Any, slope: jax.Array) -> Any:
    x, mean, inverse, scale = kept
    slope, rows = slope.astype(jnp.float32), tuple(range(x.ndim - 1))
    unit = (x.astype(jnp.float32) - mean) * inverse
    of_scale, of_bias = (slope * unit).sum(rows), slope.sum(rows)
    slope = slope * scale
    along = (slope * unit).mean(-1, keepdims=True)
    of_x = inverse * (slope - slope.mean(-1, keepdims=True) - unit * along)
    return of_x.astype(x.dtype), of_scale, of_bias


_layer_norm.defvjp(_layer_forward, _layer_backward)


def _learned(layer: BatchNorm | LayerNorm) -> tuple[jax.Array, jax.Array]:
    assert layer.scale is not None and layer.bias is not None  # what Flax has by default
    return layer.scale[...], layer.bias[...]


def _inverse(var: jax.Array, eps: float) -> jax.Array:
    return jax.lax.rsqrt(var + eps)


def _normalised(
    x: jax.Array, mean: jax.Array, inverse: jax.Array, scale: jax.Array, bias: jax.Array
) -> jax.Array:
    """float32, in one order of operations, so that both directions see the same signs."""
    return (x.astype(jnp.float32) - mean) * (inverse * scale) + bias
