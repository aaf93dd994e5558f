"""Every triplet of a batch, without an array of all of them.

One positive of each anchor at a time is compared with all its negatives. The gradient is summed in
the same pass: by a distance it is how many of its triplets are active, or the sum of their slopes.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from sbir_jax.losses.slots import in_blocks, over_positives

Sums = tuple[jax.Array, jax.Array]


def loss_of(violation: jax.Array, form: str) -> jax.Array:
    """Loss of a triplet of which d(a, +) - d(a, -) + margin is the violation."""
    return jnp.maximum(violation, 0.0) if form == "hinge" else jax.nn.softplus(violation)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def all_triplets(
    d: jax.Array, positive: jax.Array, negative: jax.Array, margin: float, form: str
) -> Sums:
    """Sum of the losses of each anchor's triplets, and how many are above 0.

    Args:
      d: float32 [A, C], anchors to candidates.
      positive: bool [A, C].
      negative: bool [A, C].
      margin: of the triplets.
      form: "hinge" or "soft", see `triplets.triplet`.

    Returns:
      (total, active): float32 [A] each.
    """
    return _sweep(d, positive, negative, margin, form)[0]


def _sweep(
    d: jax.Array, positive: jax.Array, negative: jax.Array, margin: float, form: str
) -> tuple[Sums, jax.Array]:
    """((total, active), slope): as above, and the derivative of total by d, float32 [A, C]."""
    return in_blocks(
        functools.partial(_sweep_rows, margin=margin, form=form), d, positive, negative
    )


def _sweep_rows(
    d: jax.Array, positive: jax.Array, negative: jax.Array, *, margin: float, form: str
) -> tuple[Sums, jax.Array]:
    end = d.shape[1]

    def turn(here: jax.Array, column: jax.Array, state: tuple) -> tuple:
        total, active, slope = state
        near = jnp.take_along_axis(d, jnp.minimum(column, end - 1)[:, None], axis=1)  # [A, 1]
        counts = negative & (column[:, None] < end)
        violation = near - d + margin
        loss = jnp.where(counts, loss_of(violation, form), 0.0)
        above = jnp.where(loss > 0, 1.0, 0.0)
        pull = above if form == "hinge" else jnp.where(counts, jax.nn.sigmoid(violation), 0.0)
        own = jnp.where(here, pull.sum(axis=1, keepdims=True), 0.0)
        return total + loss.sum(axis=1), active + above.sum(axis=1), slope - pull + own

    zero = jnp.zeros(len(d))
    total, active, slope = over_positives(positive, turn, (zero, zero, jnp.zeros_like(d)))
    return (total, active), slope


def _backward(
    margin: float, form: str, slope: jax.Array, by_sums: Sums
) -> tuple[jax.Array, None, None]:
    return by_sums[0][:, None] * slope, None, None


all_triplets.defvjp(_sweep, _backward)
