"""What a metric is worth when equal distances are in random order: its exact expectation.

A group is all the items at one distance. Let a items be nearer, b of them relevant, and n items be
in the group, r of them relevant. The t-th place of the group holds a relevant item with probability
r/n, and then b + 1 + (t - 1) (r - 1)/(n - 1) relevant items are expected up to it. So for a cut-off
that leaves m of the n places, with H the harmonic numbers and c = (r - 1)/(n - 1), the group adds

  to the sum of precisions  r/n (c m + (b + 1 - c (a + 1)) (H(a + m) - H(a))),
  to the hits               r/n m,

and nDCG sums discounts in place of 1/(a + t). The first relevant item is at place t of its group
with the hypergeometric probability C(n - t, r - 1) / C(n, r). A gallery in random order is one
group: chance.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Sequence

import numpy as np

from sbir_jax.ranking import metrics as arithmetic
from sbir_jax.ranking.names import Metric, MetricError, parse

HAS_NO_EXPECTATION = frozenset({"AP-voc", "AP-first", "11-point"})  # and AP over the hits


def has_expectation(metric: Metric) -> bool:
    """Whether `expected` has a closed form for the metric."""
    return metric.kind not in HAS_NO_EXPECTATION and metric.over != "hits"


def expected(
    metrics: Sequence[Metric],
    before: np.ndarray,
    tied: np.ndarray,
    relevant: np.ndarray,
    size: int,
) -> dict[str, np.ndarray]:
    """Expectation of each metric over all orders of the items at equal distances.

    Args:
      metrics: from `names.parse`.
      before: int [B, M], for each relevant item in order of distance, the items of the gallery that
        are strictly nearer; `metrics.NEVER` as padding. The relevant items of one distance are
        given all or none.
      tied: int [B, M], the items at its distance, itself included.
      relevant: int [B], R; may exceed the items given.
      size: G, the number of items in the gallery.

    Returns:
      name to float64 [B]; 0 for a query without relevant items.

    Raises:
      MetricError: a metric has no closed form.
    """
    refused = [metric.name for metric in metrics if not has_expectation(metric)]
    if refused:
        raise MetricError(
            f"ties 'expected': no closed form for {', '.join(refused)}; use 'pessimistic' or "
            "'optimistic' ties, or leave them out"
        )
    if before.shape[1] == 0:
        before = np.full((len(before), 1), arithmetic.NEVER)
        tied = np.ones_like(before)
    real = before < arithmetic.NEVER
    column = np.arange(before.shape[1])
    starts = np.ones_like(real)
    starts[:, 1:] = before[:, 1:] != before[:, :-1]
    first = np.maximum.accumulate(
        np.where(starts, column, 0), axis=1
    )  # column of its group's first
    ends = np.where(np.roll(starts, -1, axis=1), column + 1, len(column))
    ends[:, -1] = len(column)
    after = np.minimum.accumulate(ends[:, ::-1], axis=1)[:, ::-1]
    groups = _Groups(
        a=np.where(real, before, 0),
        n=np.where(real, tied, 1),
        b=first,
        r=np.where(real, after - first, 1),
        share=real / np.where(real, tied, 1),
        relevant=np.asarray(relevant),
        size=size,
    )
    return {metric.name: _value(metric, groups) for metric in metrics}


def by_chance(
    relevant: np.ndarray, size: int, names: Iterable[str]
) -> dict[str, np.ndarray | None]:
    """Expectation of each metric when the whole gallery is in random order.

    Args:
      relevant: int [Q], R of each query.
      size: G.
      names: metric names.

    Returns:
      name to float64 [Q], 0 without relevant items; None for a metric without closed form.
    """
    distinct, inverse = np.unique(relevant, return_inverse=True)
    r = distinct[:, None]
    groups = _Groups(
        a=np.zeros_like(r),
        n=np.full_like(r, size),
        b=np.zeros_like(r),
        r=r,
        share=r / size,
        relevant=distinct,
        size=size,
    )
    chance = {}
    for name in names:
        metric = parse(name)
        chance[name] = _value(metric, groups)[inverse] if has_expectation(metric) else None
    return chance


@dataclasses.dataclass(frozen=True)
class _Groups:
    """Tie groups, the letters as at the top of this file.

    A column is one relevant item or one group, whichever `share` says: 1/n or r/n, 0 as padding.
    """

    a: np.ndarray  # [B, M] like the next four
    n: np.ndarray
    b: np.ndarray
    r: np.ndarray
    share: np.ndarray
    relevant: np.ndarray  # [B]
    size: int

    def places(self, cut: int | np.ndarray) -> np.ndarray:
        """[B, M], the places m of the group up to rank `cut`, a number or [B, 1]."""
        return np.clip(cut - self.a, 0, self.n)

    def hits(self, cut: int | np.ndarray) -> np.ndarray:
        """[B]."""
        return np.sum(self.share * self.places(cut), axis=1)

    def precisions(self, cut: int | np.ndarray) -> np.ndarray:
        """[B], the sum of the precisions."""
        m, slope = self.places(cut), (self.r - 1) / np.maximum(self.n - 1, 1)
        harmonic = _harmonic(self.size)
        steps = harmonic[self.a + m] - harmonic[self.a]
        terms = slope * m + (self.b + 1 - slope * (self.a + 1)) * steps
        return np.sum(self.share * terms, axis=1)

    def gain(self, cut: int) -> np.ndarray:
        """[B], the sum of the discounts."""
        table = arithmetic.ideal_gain(self.size)
        return np.sum(self.share * (table[self.a + self.places(cut)] - table[self.a]), axis=1)


def _value(metric: Metric, groups: _Groups) -> np.ndarray:
    relevant, size, k = groups.relevant, groups.size, metric.k
    cut = min(k or size, size)
    match metric.kind:
        case "acc" | "RR":
            return _first_relevant(groups, k)
        case "nDCG":
            best = arithmetic.ideal_gain(size)[np.minimum(relevant, cut)]
            return groups.gain(cut) / np.where(relevant > 0, best, 1)
        case "AP":
            total = groups.precisions(cut)
        case "AP-lecture":
            total = groups.precisions(cut) + (relevant - groups.hits(cut)) / k
        case "MAP@R":
            total = groups.precisions(relevant[:, None])
        case "R-precision":
            total = groups.hits(relevant[:, None])
        case "P" if metric.over == "cut-R":
            total = groups.hits(np.minimum(relevant, metric.cut)[:, None])
        case "P" | "recall":
            total = groups.hits(cut)
        case _:
            raise ValueError(f"{metric.name}: no expectation for kind {metric.kind!r}")
    return total / np.maximum(arithmetic.divisor(metric, relevant, size, np), 1)


def _first_relevant(groups: _Groups, k: int | None) -> np.ndarray:
    """[B], P(the first relevant item is in the top k); without k, the mean of 1 over its rank."""
    a, n, r = (x[:, 0].astype(np.int64) for x in (groups.a, groups.n, groups.r))
    # Where the whole group is relevant its first item is; only other groups need the sum.
    values = 1.0 / (a + 1) if k is None else (a < k).astype(np.float64)
    some = (groups.share[:, 0] > 0) & (r < n)
    kinds, inverse = np.unique(np.stack([a, n, r], axis=1)[some], axis=0, return_inverse=True)
    means = [_mean_over_places(a, n, r, k) for a, n, r in kinds.tolist()]
    values[some] = np.array(means)[inverse.ravel()] if means else 0
    return np.where(groups.share[:, 0] > 0, values, 0)


def _mean_over_places(a: int, n: int, r: int, k: int | None) -> float:
    """Of one group: P(its first relevant item is in the top k), or the mean of 1 over its rank."""
    t = np.arange(1, n - r + 2)
    # P(t + 1) = P(t) (n - t - r + 1) / (n - t), from P(1) = r / n.
    ratios = (n - t[:-1] - r + 1) / (n - t[:-1])
    chance = r / n * np.cumprod(np.r_[1.0, ratios])
    return float(np.sum(chance / (a + t)) if k is None else np.sum(chance[: max(k - a, 0)]))


@functools.lru_cache(maxsize=4)
def _harmonic(size: int) -> np.ndarray:
    """[size + 1], 1 + 1/2 + ... + 1/n for n = 0 to size."""
    return np.concatenate([[0.0], np.cumsum(1 / np.arange(1, size + 1))])
