"""Ranks in a row of distances, in NumPy: by sorting it, or without, where that is faster.

Distances are counted in cells of equal width. The counts say how many items lie in the cells before
that of a relevant item; only the items that share a cell with a relevant one are sorted and looked
up. It is exact because rounding never changes an order: a distance in an earlier cell is a smaller
one. Unevenly spread distances, such as many ties, only leave more to sort.
"""

from __future__ import annotations

import functools
import time

import numpy as np

_LEAST = np.float32(1e-30)  # no row is spread over less, so that no scale overflows


class Cells:
    """Looks distances up in one row of `size` distances after another.

    Args:
      size: of a row.
      sort: whether `find` sorts the row.
    """

    def __init__(self, size: int, *, sort: bool):
        self._sort = sort
        self._cells = size // 2 + 1  # as fast as G / 3 and G, to 3 %
        self._offset = np.empty(size, np.float32)
        self._cell = np.empty(size, np.intp)
        self._shared = np.empty(size, bool)

    def put(self, row: np.ndarray) -> bool:
        """Takes a row, float32 [size]; False if it is not finite or spread beyond float32."""
        self._row, self._low, self._counts = row, np.minimum.reduce(row), None
        with np.errstate(over="ignore", invalid="ignore"):
            self._spread = np.maximum.reduce(row) - self._low
        return bool(np.isfinite(self._spread))

    def nearest(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """At least k items with all as near as any of them: their columns and distances, nearest
        first, equal distances by column."""
        last = self._count().cumsum().searchsorted(k)
        columns = (self._cell <= last).nonzero()[0]
        distance = self._row.take(columns)
        order = distance.argsort(kind="stable")
        return columns[order], distance[order]

    def find(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray | int]:
        """Looks up distances of this row; the last thing to do with it.

        Args:
          values: float32 [n], in any order.

        Returns:
          Sorted distances [m], and what `m.searchsorted(values, side)` lacks to be the number of
          items nearer ("left") or no farther ("right"): int [n] or 0.
        """
        if self._sort:
            return np.sort(self._row), 0
        counts = self._count()
        cell = ((values - self._low) * self._scale).astype(np.intp)
        counts[cell] = 0
        shares = np.zeros(self._cells, bool)
        shares[cell] = True
        shares.take(self._cell, out=self._shared, mode="clip")
        sharing = self._row.take(self._shared.nonzero()[0])
        sharing.sort()
        return sharing, counts.cumsum().take(cell)

    def _count(self) -> np.ndarray:
        """int [cells], the items in each cell; and in `_cell` the cell of each item."""
        if self._counts is None:
            self._scale = np.float32(self._cells - 1) / max(self._spread, _LEAST)
            np.subtract(self._row, self._low, out=self._offset)
            np.multiply(self._offset, self._scale, out=self._cell, casting="unsafe")
            self._counts = np.bincount(self._cell, minlength=self._cells)
        return self._counts


@functools.lru_cache
def sorts_faster(size: int) -> bool:
    """Whether this CPU finds distances faster with `sort`; tried out, in a few milliseconds.

    NumPy's sort of 17,101 numbers took 28 us by AVX-512 on an Intel Xeon, 72 us by AVX2, and 280 us
    by AVX-512 on an AMD EPYC 9004; counting them in cells, 90 us on the latter.
    """
    row = np.random.default_rng(0).random(size, np.float32)
    values = np.sort(row[::25])
    spent = {}
    for sort in (True, False):
        cells, times = Cells(size, sort=sort), []
        for _ in range(5):
            start = time.perf_counter()
            cells.put(row)
            cells.find(values)[0].searchsorted(values)
            times.append(time.perf_counter() - start)
        spent[sort] = min(times)
    return spent[True] < spent[False]
