"""Smooth AP: one minus average precision, with a sigmoid in place of every comparison."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from sbir_jax.losses.slots import in_blocks, over_positives
from sbir_jax.losses.ways import Diagnostics, Way, checked, mean


def smooth_ap(ways: Sequence[Way], *, temperature: float) -> tuple[jax.Array, Diagnostics]:
    """One minus the mean of the anchors' smooth average precision.

    The rank of positive i among a set is 1 + the sum over the others j of
    sigmoid((s_j - s_i) / temperature), with cosine s; precision at i is its rank among the
    positives over its rank among all, and an anchor's AP the mean over its positives (Brown et al.,
    Smooth-AP: Smoothing the Path Towards Large-Scale Image Retrieval, ECCV 2020, eq. 5).

    Args:
      ways: of one batch.
      temperature: of the sigmoids, above 0.

    Returns:
      (loss, diagnostics): smooth_ap, one minus the loss.
    """
    precision = [
        _average_precision(way.cosines(), way.positive, way.negative, temperature) for way in ways
    ]
    valid = [way.valid for way in ways]
    average = mean(precision, valid)
    loss = mean([1.0 - p for p in precision], valid)
    return checked(loss, ways), {"smooth_ap": average}


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _average_precision(
    s: jax.Array, positive: jax.Array, negative: jax.Array, temperature: float
) -> jax.Array:
    """Smooth AP of each anchor, float32 [A]; 0 without positives."""
    return _sweep(s, positive, negative, temperature)[0]


def _sweep(
    s: jax.Array, positive: jax.Array, negative: jax.Array, temperature: float
) -> tuple[jax.Array, jax.Array]:
    """AP float32 [A], and its derivative by s, float32 [A, C]."""
    rows = functools.partial(_sweep_rows, temperature=temperature)
    return in_blocks(rows, s, positive, negative)


def _sweep_rows(
    s: jax.Array, positive: jax.Array, negative: jax.Array, *, temperature: float
) -> tuple[jax.Array, jax.Array]:
    end = s.shape[1]

    def turn(here: jax.Array, column: jax.Array, state: tuple) -> tuple:
        ap, slope = state
        own = jnp.take_along_axis(s, jnp.minimum(column, end - 1)[:, None], axis=1)  # [A, 1]
        above = jax.nn.sigmoid((s - own) / temperature)  # 0.5 at the positive itself
        among = 0.5 + jnp.sum(jnp.where(positive, above, 0.0), axis=1, keepdims=True)
        beyond = jnp.sum(jnp.where(negative, above, 0.0), axis=1, keepdims=True)
        found = column[:, None] < end
        ap += jnp.where(found, among / (among + beyond), 0.0)[:, 0]
        # d(u / v) = ((v - u) du - u dw) / v^2 with v = u + w; the positive's own part cancels.
        each = jnp.where(found, 1.0 / (temperature * (among + beyond) ** 2), 0.0)
        weight = jnp.where(positive, beyond * each, jnp.where(negative, -among * each, 0.0))
        change = weight * above * (1.0 - above)
        return ap, slope + change - jnp.where(here, change.sum(axis=1, keepdims=True), 0.0)

    first = jnp.zeros(len(s)), jnp.zeros_like(s)
    ap, slope = over_positives(positive, turn, first)
    each = 1.0 / jnp.maximum(positive.sum(axis=1), 1)
    return ap * each, slope * each[:, None]


def _backward(
    temperature: float, slope: jax.Array, by_ap: jax.Array
) -> tuple[jax.Array, None, None]:
    return by_ap[:, None] * slope, None, None


_average_precision.defvjp(_sweep, _backward)
