"""Slices of one value around a map."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def padded(x: jax.Array, axis: int, before: int, after: int, value: float) -> jax.Array:
    """`x` with so many slices of `value` before and after its own, along an axis."""
    # Not jnp.pad, which jax2onnx (0.17.1) cannot convert for any number of images.
    shape = [*x.shape[:axis], 1, *x.shape[axis + 1 :]]
    one = [jnp.full(shape, value, x.dtype)]
    return jnp.concatenate(before * one + [x] + after * one, axis)
