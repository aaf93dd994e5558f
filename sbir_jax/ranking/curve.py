"""Precision and recall at every depth, and against each other: means over queries."""

from __future__ import annotations

import dataclasses

import numpy as np

from sbir_jax.ranking import ties
from sbir_jax.ranking.metrics import NEVER, Array, interpolated

LEVELS = 100


@dataclasses.dataclass(frozen=True, eq=False)
class Curve:
    """Means over the queries that have a relevant item.

    Attributes:
      interpolated: float64 [101], precision at recall 0, .01, ..., 1: the largest at that recall
        or more. Under the tie rule "expected", for which there is no closed form, that of
        "pessimistic".
      precision: float64 [G], P@k at k = 1, ..., G.
      recall: float64 [G], recall@k.
    """

    interpolated: np.ndarray
    precision: np.ndarray
    recall: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Sums:
    """What blocks of queries add to a `Curve`.

    Attributes:
      queries: how many have a relevant item.
      interpolated: float64 [101].
      steps: float64 [2, G + 1], how the relevant items at each rank, counted as 1 and as 1/R,
        change from rank to rank.
    """

    queries: int
    interpolated: np.ndarray
    steps: np.ndarray

    def __add__(self, other: Sums) -> Sums:
        return Sums(
            self.queries + other.queries,
            self.interpolated + other.interpolated,
            self.steps + other.steps,
        )

    def curve(self) -> Curve:
        """The means; zeros without any query to average over."""
        queries = max(self.queries, 1)
        # Twice: to the items at each rank, and to those up to it.
        hits, found = np.cumsum(np.cumsum(self.steps[:, :-1], axis=1), axis=1) / queries
        return Curve(self.interpolated / queries, hits / np.arange(1, len(hits) + 1), found)


def sums(
    rule: str,
    before: Array,
    upto: Array,
    relevant: np.ndarray,
    size: int,
) -> Sums:
    """Sums over a block of queries that was ranked to the end; arguments as `ties.score`."""
    if rule == "expected":
        rank = ties.ranks("pessimistic", None, upto, np)
    else:
        rank = ties.ranks(rule, before, upto, np)
        before, upto = rank - 1, rank
    real = rank < NEVER
    first, last = before[real], upto[real]
    hit = 1 / (last - first)  # of an item at each of the ranks that it may have
    share = hit / np.repeat(relevant, real.sum(axis=1))
    steps = [
        np.bincount(first, weight, size + 1) - np.bincount(last, weight, size + 1)
        for weight in (hit, share)
    ]
    precision = interpolated(rank, relevant, LEVELS, np).sum(axis=0)
    return Sums(int(np.count_nonzero(relevant)), precision, np.array(steps))
