"""From counts to scores, under a rule for items at equal distances.

An engine counts, for each relevant item, the gallery items `before` it, which are strictly nearer,
and those `upto` it, which are no farther, itself included. Without ties `upto` is its rank. Else:

  pessimistic  among equals, relevant items come last: a lower bound, defined for every metric.
  optimistic   among equals, relevant items come first.
  expected     the mean over all orders of equals, in closed form.

None depends on the order of the gallery.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

import jax
import numpy as np

from sbir_jax.ranking import expected
from sbir_jax.ranking.metrics import NEVER, Array, scores
from sbir_jax.ranking.names import Metric

# What each rule reads of the two.
RULES = {"pessimistic": ("upto",), "optimistic": ("before",), "expected": ("before", "upto")}


def ranks(rule: str, before: Array, upto: Array, xp: ModuleType) -> Array:
    """Ranks of the relevant items.

    Args:
      rule: "pessimistic" or "optimistic".
      before, upto: int32 [B, M], a column for each relevant item in order of distance, then
        `NEVER`; None where the rule does not need it.
      xp: numpy or jax.numpy.

    Returns:
      int32 [B, M], strictly ascending, then `NEVER`.
    """
    # Of a group of relevant items at one distance the last one's pessimistic rank is `upto`, which
    # they share, and those before it have one less each. Minus their columns the ranks never
    # descend; so each is the least of what `upto` minus its column is from there on.
    count = upto if rule == "pessimistic" else before
    column = xp.arange(count.shape[1], dtype=np.int32)
    if rule == "pessimistic":
        rank = _least_after(count - column, xp) + column
    else:
        rank = _most_before(count + 1 - column, xp) + column
    return xp.where(count < NEVER, rank, NEVER)


def score(
    rule: str,
    metrics: Sequence[Metric],
    before: Array,
    upto: Array,
    relevant: np.ndarray,
    size: int,
) -> dict[str, np.ndarray]:
    """Scores a block of queries on the host.

    Args:
      rule: one of `RULES`.
      metrics: from `names.parse`.
      before, upto: as in `ranks`.
      relevant: int32 [B], R.
      size: G.

    Returns:
      name to float64 [B].

    Raises:
      MetricError: the rule is "expected" and a metric has no closed form.
    """
    if rule == "expected":
        return expected.expected(metrics, before, upto - before, relevant, size)
    return scores(metrics, ranks(rule, before, upto, np), relevant, size, np)


def _least_after(x: Array, xp: ModuleType) -> Array:
    if xp is np:
        return np.minimum.accumulate(x[:, ::-1], axis=1)[:, ::-1]
    return jax.lax.cummin(x, axis=1, reverse=True)


def _most_before(x: Array, xp: ModuleType) -> Array:
    return np.maximum.accumulate(x, axis=1) if xp is np else jax.lax.cummax(x, axis=1)
