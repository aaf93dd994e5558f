"""Which items of the gallery are relevant to which queries.

Queries that share their relevant items, as those of one category do, share one list of them.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

_NOTHING = np.empty(0, np.int32)


@dataclasses.dataclass(frozen=True, eq=False)
class Relevance:
    """The relevant gallery rows of Q queries, as lists.

    Attributes:
      row: int32 [Q], the list of each query; -1: nothing is relevant to it.
      starts: int64 [lists + 1], where each list starts in `columns`.
      columns: int32 [n], gallery rows, ascending within a list.
      size: G, the number of items in the gallery.
    """

    row: np.ndarray
    starts: np.ndarray
    columns: np.ndarray
    size: int

    @functools.cached_property
    def counts(self) -> np.ndarray:
        """int32 [Q], R of each query."""
        lengths = np.append(np.diff(self.starts), 0)  # the last one is list -1
        return lengths[self.row].astype(np.int32)

    @property
    def width(self) -> int:
        """The largest R."""
        return int(self.counts.max(initial=0))

    def of(self, query: int) -> np.ndarray:
        """int32 [R], the gallery rows relevant to one query, ascending."""
        row = self.row[query]
        return self.columns[self.starts[row] : self.starts[row + 1]] if row >= 0 else _NOTHING

    def padded(self, rows: slice, width: int) -> np.ndarray:
        """int32 [rows, width], the gallery rows relevant to some queries, then -1."""
        queries = range(*rows.indices(len(self.row)))
        table = np.full((len(queries), width), -1, np.int32)
        for line, query in zip(table, queries, strict=True):
            found = self.of(query)
            line[: len(found)] = found
        return table


def by_ids(query_ids: np.ndarray, gallery_ids: np.ndarray) -> Relevance:
    """An item is relevant to a query if it has the same id.

    Args:
      query_ids: integers or strings [Q]; negative or "" is relevant to nothing.
      gallery_ids: of the same kind [G].

    Raises:
      ValueError: ids that are not one-dimensional, that are neither integers within int64 nor
        strings, or that are integers on one side and strings on the other.
    """
    sides = {"query": np.asarray(query_ids), "gallery": np.asarray(gallery_ids)}
    for side, ids in sides.items():
        integers = ids.dtype.kind in "iu" and np.can_cast(ids.dtype, np.int64)
        if ids.ndim != 1 or not (integers or ids.dtype.kind == "U"):
            raise ValueError(
                f"{side} ids are {ids.dtype} {ids.shape}; expected int64 or strings [n]"
            )
    own, others = sides.values()
    strings = own.dtype.kind == "U"
    if strings != (others.dtype.kind == "U"):
        raise ValueError(
            f"query ids are {own.dtype}, gallery ids {others.dtype}; expected integers on both "
            "sides or strings on both"
        )
    distinct, codes = np.unique(np.concatenate([own, others]), return_inverse=True)
    nothing = distinct == "" if strings else distinct < 0
    codes = np.where(nothing[codes], -1, codes)
    own, others = codes[: len(own)], codes[len(own) :]
    items = np.flatnonzero(others >= 0)
    items = items[np.argsort(others[items], kind="stable")]
    return _lists(own, others[items], items, len(distinct), len(others))


def by_matrix(matrix: np.ndarray) -> Relevance:
    """Relevance as a table.

    Args:
      matrix: bool or integers 0 and 1 [Q, G].

    Raises:
      ValueError: another shape, type or integer.
    """
    matrix = np.asarray(matrix)
    if matrix.ndim != 2 or matrix.dtype.kind not in "biu":
        raise ValueError(
            f"relevance matrix is {matrix.dtype} {matrix.shape}; expected bool or integers [Q, G]"
        )
    if matrix.size and not 0 <= matrix.min() <= matrix.max() <= 1:
        raise ValueError(
            f"relevance matrix holds integers from {matrix.min()} to {matrix.max()}; expected 0 "
            "and 1"
        )
    queries, size = matrix.shape
    rows, columns = np.nonzero(matrix)
    return _lists(np.arange(queries), rows, columns, queries, size)


def by_pairs(
    query_rows: np.ndarray, gallery_rows: np.ndarray, *, queries: int, size: int
) -> Relevance:
    """Relevance as pairs.

    Args:
      query_rows: integers [pairs].
      gallery_rows: integers [pairs], each relevant to the query in the same place.
      queries: Q.
      size: G.

    Raises:
      ValueError: shapes or types that do not fit, a row that does not exist, or a pair twice.
    """
    rows, columns = np.asarray(query_rows), np.asarray(gallery_rows)
    for side, given, count in (("query", rows, queries), ("gallery", columns, size)):
        if given.ndim != 1 or given.shape != rows.shape or given.dtype.kind not in "iu":
            raise ValueError(
                f"{side} rows are {given.dtype} {given.shape}; expected integers [pairs], as many "
                "on both sides"
            )
        wrong = (given < 0) | (given >= count)
        if wrong.any():
            raise ValueError(
                f"{side} row {given[np.argmax(wrong)]} does not exist; there are {count}"
            )
    order = np.lexsort((columns, rows))
    rows, columns = rows[order], columns[order]
    again = (rows[1:] == rows[:-1]) & (columns[1:] == columns[:-1])
    if again.any():
        pair = int(np.argmax(again))
        raise ValueError(
            f"the pair of query row {rows[pair]} and gallery row {columns[pair]} is there twice"
        )
    return _lists(np.arange(queries), rows, columns, queries, size)


def _lists(
    row: np.ndarray, rows: np.ndarray, columns: np.ndarray, lists: int, size: int
) -> Relevance:
    """Query i has the list `row[i]`; list `rows[j]`, ascending, has the item `columns[j]`."""
    starts = np.searchsorted(rows, np.arange(lists + 1))
    return Relevance(row.astype(np.int32), starts, columns.astype(np.int32), size)
