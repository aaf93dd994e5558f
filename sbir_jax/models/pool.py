"""Max-pooling that halves a map."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from sbir_jax.models.padding import padded


def max_pool(x: jax.Array, *, window: int) -> jax.Array:
    """The largest of each window, by stride 2, of a map [B, H, W, C].

    As maxima of shifted rows and then columns: the gradient of XLA's own windows takes CPUs a
    seventh of a ResNet-18's step. It is shared among equals, of which ReLU has many, at zero.

    Args:
      window: 2, to [B, H // 2, W // 2, C]; or 3, padded by 1, to the same rounded up.
    """
    return _halved(_halved(x, 1, window), 2, window)


def _halved(x: jax.Array, axis: int, window: int) -> jax.Array:
    size = x.shape[axis]
    if window == 2:
        x = jax.lax.slice_in_dim(x, 0, size // 2 * 2, axis=axis)
    elif size % 2:
        x = padded(x, axis, 0, 1, -jnp.inf)
    pairs = x.reshape(*x.shape[:axis], -1, 2, *x.shape[axis + 1 :])
    first = jax.lax.index_in_dim(pairs, 0, axis + 1, keepdims=False)
    second = jax.lax.index_in_dim(pairs, 1, axis + 1, keepdims=False)
    largest = jnp.maximum(first, second)
    if window == 3:
        before = jax.lax.slice_in_dim(second, 0, second.shape[axis] - 1, axis=axis)
        largest = jnp.maximum(largest, padded(before, axis, 1, 0, -jnp.inf))
    return largest
