"""The distribution of distance-weighted mining: negatives at every distance, not only usual ones.

Wu, Manmatha, Smola, Krähenbühl, Sampling Matters in Deep Embedding Learning, ICCV 2017.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

# The distances that it understands, to the l2 distance of unit vectors.
ON_SPHERE = {"l2": lambda d: d, "sq_l2": jnp.sqrt, "cosine": lambda d: jnp.sqrt(2.0 * d)}
_NEAREST, _FARTHEST = 0.5, 1.4  # the published cut-offs


def log_density(distance: jax.Array, dim: int) -> jax.Array:
    """Log of the density of l2 distances between random unit vectors, up to a constant.

    q(d) ~ d^(D-2) (1 - d^2/4)^((D-3)/2), 0 < d < 2: in many dimensions all lie near sqrt(2).
    """
    return (dim - 2) * jnp.log(distance) + 0.5 * (dim - 3) * jnp.log1p(-0.25 * distance**2)


def sampling_weights(distance: jax.Array, negative: jax.Array, dim: int) -> jax.Array:
    """Weights of negatives that make their distances uniform, within limits.

    The weight of a negative at distance d is min(lambda, 1 / q(d)), with q as in `log_density` and
    lambda = 1 / q(0.5), the gradient of nearer ones being mostly noise. Negatives from 1.4 on,
    which a margin of 0.2 rarely reaches, have weight 0, unless an anchor has no others: then all
    weigh the same.

    Args:
      distance: float32 [A, C], l2 between unit vectors.
      negative: bool [A, C].
      dim: D of the vectors.

    Returns:
      float32 [A, C], the largest of each row 1; 0 where `negative` is False.
    """
    near = negative & (distance < _FARTHEST)
    log_weight = -log_density(jnp.clip(distance, _NEAREST, _FARTHEST), dim)
    log_weight = jnp.where(near, log_weight, -jnp.inf)
    largest = jnp.max(log_weight, axis=1, keepdims=True)
    weights = jnp.exp(log_weight - jnp.where(jnp.isfinite(largest), largest, 0.0))
    return jnp.where(near.any(axis=1, keepdims=True), weights, negative.astype(jnp.float32))


def draw(weights: jax.Array, uniform: jax.Array) -> jax.Array:
    """int32 [A, S]: columns drawn in proportion to their weights, one for each uniform number.

    By the inverse of the cumulative weights, since the Gumbel trick needs a random number for
    each column and draw.
    """
    columns = jax.lax.broadcasted_iota(jnp.int32, weights.shape, 1)
    # Columns of weight 0 are passed over; rounding must not leave the sum to be reached by none.
    total = jnp.where(weights > 0, jnp.cumsum(weights, axis=1), 0.0)
    most = jnp.max(total, axis=1)
    drawn = []
    for slot in range(uniform.shape[1]):
        reached = jnp.minimum(uniform[:, slot] * most, jnp.nextafter(most, 0.0))
        past = total > reached[:, None]
        drawn.append(jnp.min(jnp.where(past, columns, weights.shape[1] - 1), axis=1))
    return jnp.stack(drawn, axis=1)
