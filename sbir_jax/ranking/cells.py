"""Ranks in rows of distances, in NumPy: by sorting them, or without, where that is faster.

The distances of a row are counted in cells of equal width. The counts say how many items lie in the
cells before that of a relevant item; only the items that share a cell with a relevant one are
sorted and looked up. It is exact because rounding never changes an order: a distance in an earlier
cell is a smaller one. Unevenly spread distances, such as many ties, only leave more to sort.

Several rows are taken at once, since threads that call NumPy for every row wait for each other:
two threads needed 260 us a row together where one needed 140, and with eight rows 125.
"""

from __future__ import annotations

import functools
import time

import numpy as np

_TOGETHER = 2**18  # distances to take at once; they stay in a core's cache
_MOST = 2**20  # cells of a row; float32 counts further
_LEAST = np.float32(1e-30)  # no row is spread over less, so that no scale overflows


def rows_together(size: int) -> int:
    """How many rows of `size` distances `Cells` should take at once."""
    return max(_TOGETHER // size, 1)


class Cells:
    """Looks distances up in some rows of `size` distances after others.

    Args:
      size: of a row.
      sort: whether `find` sorts the rows.
    """

    def __init__(self, size: int, *, sort: bool):
        self._size, self._sort = size, sort
        self._cells = min(size // 2 + 1, _MOST)  # as fast as G / 3 and G, to 3 %
        rows = rows_together(size)
        self._scaled = np.empty((rows, size), np.float32)
        self._narrow = np.empty((rows, size), np.int32)
        self._cell = np.empty((rows, size), np.intp)
        self._chosen = np.ones(rows * size * 9 // 8, bool)

    def put(self, rows: np.ndarray) -> np.ndarray:
        """Takes B rows, float32 [B, size], B at most `rows_together`; their largest distances are
        in `high` [B, 1].

        Returns:
          bool [B], False for a row that is not finite or is spread beyond float32. The other
          methods need all True.
        """
        self._rows = rows
        self._counts: np.ndarray | None = None
        self._low = np.min(rows, axis=1, keepdims=True)
        self.high = np.max(rows, axis=1, keepdims=True)
        with np.errstate(over="ignore", invalid="ignore"):
            self._spread = self.high - self._low
        return np.isfinite(self._spread[:, 0])

    def nearest(self, k: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Of each row at least k items with all as near as any of them: their columns and
        distances, nearest first, equal distances by column."""
        counts, rows = self._count(), len(self._rows)
        last = [total.searchsorted(k) for total in counts.reshape(rows, -1).cumsum(axis=1)]
        last = np.arange(rows) * self._cells + last
        chosen = self._chosen[: rows * self._size]
        np.less_equal(self._cell[:rows], last[:, None], out=chosen.reshape(rows, -1))
        found = []
        for columns, distance in self._split(chosen.nonzero()[0]):
            order = distance.argsort(kind="stable")
            found.append((columns[order], distance[order]))
        return found

    def find(self, values: np.ndarray) -> tuple[list[np.ndarray], np.ndarray | int]:
        """Looks up distances of each row; the last thing to do with the rows.

        Args:
          values: float32 [B, M], in any order.

        Returns:
          For each row sorted distances, and what searching them for `values` lacks to give the
          number of items nearer (side "left") or no farther ("right"): int [B, M] or 0.
        """
        if self._sort:
            return list(np.sort(self._rows, axis=1)), 0
        counts, rows = self._count(), len(self._rows)
        cell = self._scale_to_cells(values, np.empty_like(values)).astype(np.intp)
        counts[cell] = 0
        shared = np.zeros(len(counts), bool)
        shared[cell] = True
        size = rows * self._size
        chosen = self._chosen[:size].reshape(rows, -1)
        shared.take(self._cell[:rows], out=chosen, mode="clip")
        # The ones that follow are there because where more than a tenth is True `nonzero` is
        # quick however they lie: 9 us a row, else 20.
        found = self._split(self._chosen[: size * 9 // 8].nonzero()[0])
        among = [distance for _, distance in found]
        for distance in among:
            distance.sort()
        return among, counts.reshape(rows, -1).cumsum(axis=1).ravel().take(cell)

    def _count(self) -> np.ndarray:
        """int [B * cells], the items in each cell, those of one row after those of another; and
        in `_cell` the cell of each item."""
        if self._counts is None:
            rows = len(self._rows)
            scaled = self._scale_to_cells(self._rows, self._scaled[:rows])
            np.copyto(
                self._narrow[:rows], scaled, casting="unsafe"
            )  # in between: 5 us a row, not 8
            np.copyto(self._cell[:rows], self._narrow[:rows])
            self._counts = np.bincount(self._cell[:rows].ravel(), minlength=rows * self._cells)
        return self._counts

    def _scale_to_cells(self, values: np.ndarray, out: np.ndarray) -> np.ndarray:
        """The cells of values [B, M], with fractions. Each step keeps their order, and the last
        cell of a row is a number that float32 has, so that none is rounded beyond it."""
        scale = np.float32(self._cells - 1) / np.maximum(self._spread, _LEAST)
        np.subtract(values, self._low, out=out)
        np.multiply(out, scale, out=out)
        first = np.arange(len(values), dtype=np.float32)[:, None] * self._cells
        return np.add(out, first, out=out)

    def _split(self, places: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Columns and distances of each row's items, from ascending places in all rows; places
        beyond them are left out."""
        edges = np.arange(len(self._rows) + 1) * self._size
        ends = places.searchsorted(edges).tolist()
        distances = self._rows.ravel().take(places[: ends[-1]])
        return [
            (places[at:end] - edge, distances[at:end])
            for edge, at, end in zip(edges, ends, ends[1:], strict=False)
        ]


@functools.lru_cache
def sorts_faster(size: int) -> bool:
    """Whether this CPU finds distances faster with `sort`; tried out, in a few milliseconds.

    NumPy's sort of 17,101 numbers took 28 us by AVX-512 on an Intel Xeon, 72 us by AVX2, and 280 us
    by AVX-512 on an AMD EPYC 9004; counting them in cells, 90 us on the latter.
    """
    row = np.random.default_rng(0).random((1, size), np.float32)
    values = np.sort(row[:, ::25])
    spent = {}
    for sort in (True, False):
        cells, times = Cells(size, sort=sort), []
        for _ in range(5):
            start = time.perf_counter()
            cells.put(row)
            cells.find(values)[0][0].searchsorted(values[0])
            times.append(time.perf_counter() - start)
        spent[sort] = min(times)
    return spent[True] < spent[False]
