"""Values of metrics from the ranks of the relevant items; `names.define` has the definitions.

The same arithmetic runs in NumPy (float64) on the host and in jax.numpy (float32) inside jit: pass
the module as `xp`. Nothing is G wide: a query costs its number of relevant items.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import jax
import numpy as np

from sbir_jax.ranking.names import LARGEST_CUT, Metric

Array = Any  # np.ndarray on the host, jax.Array inside jit

NEVER = LARGEST_CUT + 1  # rank of a relevant item that was not found, and of padding


def scores(
    metrics: Sequence[Metric], ranks: Array, relevant: Array, size: int, xp: ModuleType
) -> dict[str, Array]:
    """Scores a block of queries.

    Args:
      metrics: from `names.parse`.
      ranks: int32 [B, M], ranks of the relevant items from 1, ascending; `NEVER` where there is
        none or it lies deeper than was ranked.
      relevant: int32 [B], R; may exceed the ranks given.
      size: G, the number of items in the gallery.
      xp: numpy or jax.numpy.

    Returns:
      name to float64 (numpy) or float32 (jax.numpy) [B]; 0 for a query without relevant items.
    """
    block = _Block(ranks, relevant, size, xp, depth(metrics))
    return {metric.name: _value(metric, block) for metric in metrics}


def depth(metrics: Sequence[Metric]) -> int | None:
    """The deepest rank that the metrics look at; None for the whole ranking."""
    if any(metric.k is None or metric.kind == "AP-first" for metric in metrics):
        return None
    return max((metric.cut for metric in metrics), default=0)


def interpolated(ranks: Array, relevant: Array, levels: int, xp: ModuleType) -> Array:
    """Interpolated precision at recall 0, 1/levels, ..., 1: the largest at that recall or more.

    The i-th relevant item has recall i/R; i/R >= l/levels is decided in integers, since 0.1 * 3 is
    more than 0.3 in floating point.

    Args:
      ranks, relevant, xp: as in `scores`.
      levels: number of steps; 10 for the eleven points.

    Returns:
      float64 or float32 [B, levels + 1]; 0 for a query without relevant items.
    """
    block = _Block(ranks, relevant, 0, xp, None)
    envelope = _envelope(block.precision, xp)
    steps = xp.arange(levels + 1, dtype=np.int32)
    item = xp.maximum(-(-steps * block.relevant[:, None] // levels), 1)  # [B, levels + 1], from 1
    width = envelope.shape[1]
    value = xp.take_along_axis(envelope, xp.minimum(item, width) - 1, axis=1)
    return xp.where(item <= width, value, 0)


class _Block:
    """What several metrics need of a block of queries, computed once."""

    def __init__(
        self, ranks: Array, relevant: Array, size: int, xp: ModuleType, deepest: int | None
    ):
        ranks = ranks[:, :deepest]  # ranks ascend: an item in the top K is among the first K
        if ranks.shape[1] == 0:
            ranks = xp.full((len(ranks), 1), NEVER, dtype=np.int32)
        self.ranks, self.relevant, self.size, self.xp = ranks, relevant, size, xp
        self.dtype = np.float64 if xp is np else np.float32
        self._hits: dict[int, Array] = {}
        self._sums: dict[int | None, Array] = {}

    @functools.cached_property
    def precision(self) -> Array:
        """[B, M], at the rank of each relevant item; 0 where it was not found."""
        found = self.xp.arange(1, self.ranks.shape[1] + 1, dtype=self.dtype)
        return self.xp.where(self.ranks < NEVER, found / self.ranks.astype(self.dtype), 0)

    def hits(self, k: int) -> Array:
        """[B], relevant items in the top k."""
        if k not in self._hits:
            self._hits[k] = (self.ranks[:, :k] <= k).sum(axis=1, dtype=np.int32)
        return self._hits[k]

    def precision_in(self, k: int | None) -> Array:
        """[B, M or k], precision with 0 for what is not in the top k."""
        if k is None:
            return self.precision
        return self.xp.where(self.ranks[:, :k] <= k, self.precision[:, :k], 0)

    def precisions(self, k: int | None) -> Array:
        """[B], sum of the precisions in the top k."""
        if k not in self._sums:
            self._sums[k] = self.precision_in(k).sum(axis=1)
        return self._sums[k]

    def share(self, count: Array, metric: Metric) -> Array:
        """[B], count over the metric's divisor."""
        xp = self.xp
        if metric.over == "hits":
            over = self.hits(metric.cut)
        else:
            over = divisor(metric, self.relevant, self.size, xp)
        return xp.asarray(count, self.dtype) / xp.maximum(over, 1).astype(self.dtype)


def divisor(metric: Metric, relevant: Array, size: int, xp: ModuleType) -> Array:
    """[B], what divides the metric, of any kind that has a choice but `hits`; 0 without relevant
    items."""
    match metric.over:
        case "min" | "min-R" | "cut-R":
            return xp.minimum(relevant, metric.k)
        case "K":
            return xp.full_like(relevant, metric.k)
        case "min-N":
            return xp.full_like(relevant, min(metric.cut, size))
        case "R":
            return relevant
    raise ValueError(f"{metric.name}: no divisor {metric.over!r}")


@functools.lru_cache(maxsize=16)
def ideal_gain(cut: int) -> np.ndarray:
    """float64 [cut + 1], sum of 1/log2(1 + rank) over the ranks 1 to n, for n = 0 to cut."""
    return np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(2, cut + 2)))])


def _value(metric: Metric, block: _Block) -> Array:
    xp, k, ranks, relevant = block.xp, metric.k, block.ranks, block.relevant
    match metric.kind:
        case "AP":
            return block.share(block.precisions(k), metric)
        case "AP-voc":
            return block.share(_envelope(block.precision_in(k), xp).sum(axis=1), metric)
        case "AP-first":
            return block.share(block.precision[:, :k].sum(axis=1), metric)
        case "AP-lecture":
            missed = (relevant - block.hits(metric.cut)).astype(block.dtype) / k
            return block.share(block.precisions(k) + missed, metric)
        case "MAP@R":
            inside = xp.where(ranks <= relevant[:, None], block.precision, 0)
            return block.share(inside.sum(axis=1), metric)
        case "R-precision":
            return block.share((ranks <= relevant[:, None]).sum(axis=1), metric)
        case "P" if metric.over == "cut-R":
            cut = xp.minimum(relevant, k)
            return block.share((ranks[:, :k] <= cut[:, None]).sum(axis=1), metric)
        case "P" | "recall":
            return block.share(block.hits(metric.cut), metric)
        case "acc":
            return (ranks[:, 0] <= k).astype(block.dtype)
        case "RR":
            return xp.where(ranks[:, 0] < NEVER, 1 / ranks[:, 0].astype(block.dtype), 0)
        case "nDCG":
            return _ndcg(block, k)
        case "11-point":
            return interpolated(ranks, relevant, 10, xp).mean(axis=1)
    raise ValueError(f"{metric.name}: no kind {metric.kind!r}")


def _envelope(precision: Array, xp: ModuleType) -> Array:
    """[B, M], the running maximum from the right."""
    if xp is np:
        return np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    return jax.lax.cummax(precision, axis=1, reverse=True)


def _ndcg(block: _Block, k: int | None) -> Array:
    xp, cut = block.xp, min(k or block.size, block.size)
    ranks = block.ranks[:, :cut]
    gain = xp.where(ranks <= cut, 1 / xp.log2(1 + ranks.astype(block.dtype)), 0).sum(axis=1)
    best = xp.asarray(ideal_gain(cut), block.dtype)[xp.minimum(block.relevant, cut)]
    return gain / xp.where(block.relevant > 0, best, 1)
