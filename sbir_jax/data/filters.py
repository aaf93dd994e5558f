"""Separable filters of small images, as products with a band matrix for each axis.

XLA compiles one product where a filter of twenty shifted copies takes seconds to compile, and runs
it as fast; for single-channel images its convolutions are no alternative on CPUs.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def correlate(images: jax.Array, weights: jax.Array, axis: int) -> jax.Array:
    """Correlation along an axis; the border's pixels go on outside.

    Args:
      images: float32 [B, H, W, ...].
      weights: [2 r + 1], or [B, 2 r + 1] for weights of each image's own.
      axis: 1 or 2.

    Returns:
      float32 of the shape of `images`.
    """
    size, radius = images.shape[axis], weights.shape[-1] // 2
    rows = jnp.arange(size)[:, None]
    columns = jnp.clip(rows + jnp.arange(-radius, radius + 1), 0, size - 1)
    weights = jnp.broadcast_to(weights, (len(images), 2 * radius + 1))
    band = jnp.zeros((len(images), size, size)).at[:, rows, columns].add(weights[:, None, :])
    product = "bij,bjx...->bix..." if axis == 1 else "bij,bxj...->bxi..."
    return jnp.einsum(product, band, images, precision="highest")


def gaussian(images: jax.Array, sigma: jax.Array | float, *, radius: int) -> jax.Array:
    """Gaussian blur of [B, H, W, ...], cut off at `radius` pixels.

    `sigma` is one number or [B], in pixels, above 0.
    """
    offsets = jnp.arange(-radius, radius + 1)
    weights = jnp.exp(-0.5 * (offsets / jnp.asarray(sigma)[..., None]) ** 2)
    weights = weights / weights.sum(axis=-1, keepdims=True)
    return correlate(correlate(images, weights, 1), weights, 2)
