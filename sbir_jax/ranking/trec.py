"""Relevance and rankings in the text formats of TREC, which trec_eval and ranx read.

A qrels file has a line `QUERY 0 ITEM GRADE` for each judged pair, a run file a line
`QUERY Q0 ITEM RANK SCORE TAG` for each retrieved item. Fields are separated by whitespace, so no
name may hold any.
"""

from __future__ import annotations

import array
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sbir_jax.ranking.relevance import Relevance

_DEEPEST = 2**24  # from here on not every integer is a float32


class TrecError(ValueError):
    """A file or name that does not fit the format; the message is one line."""


def read_qrels(
    path: str | Path, query_names: Sequence[str], gallery_names: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Reads the relevant pairs of a qrels file.

    A grade of 1 or more is relevant, whatever its height: metrics here are binary. As in trec_eval
    the second field means nothing.

    Args:
      path: UTF-8 text.
      query_names: [Q], distinct.
      gallery_names: [G], distinct.

    Returns:
      (rows of the queries, rows of the gallery), each int64 [pairs], in the order of the file.

    Raises:
      TrecError: a file that cannot be read, a malformed line, a name that is not among those
        given, a pair that is there twice, or a bad name (as `write_run`).
    """
    query_rows, gallery_rows = _rows("query", query_names), _rows("gallery", gallery_names)
    pairs, relevant = array.array("q"), array.array("b")
    try:
        with open(path, encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                try:
                    query, _, item, grade = line.split()
                    relevant.append(int(grade) >= 1)
                except ValueError:
                    raise TrecError(
                        f"{path}, line {number}: {line.strip()!r}; expected QUERY 0 ITEM GRADE, "
                        "the grade an integer"
                    ) from None
                if query not in query_rows:
                    raise TrecError(f"{path}, line {number}: {query!r} is not the name of a query")
                if item not in gallery_rows:
                    raise TrecError(
                        f"{path}, line {number}: {item!r} is not the name of a gallery item"
                    )
                pairs.append(query_rows[query] * len(gallery_rows) + gallery_rows[item])
    except UnicodeDecodeError as error:
        raise TrecError(f"{path}: is not UTF-8 text ({error.reason})") from None
    except OSError as error:
        raise TrecError(f"{path}: {error.strerror}") from None
    keys = np.asarray(pairs)
    _check_no_doubles(path, keys, query_names, gallery_names)
    return np.divmod(keys[np.asarray(relevant, bool)], len(gallery_rows))


def write_qrels(
    path: str | Path,
    query_names: Sequence[str],
    gallery_names: Sequence[str],
    relevance: Relevance,
) -> None:
    """Writes every relevant pair, with grade 1.

    A query without relevant items has no line, and trec_eval leaves it out of its means.

    Args:
      path: of the file to write.
      query_names: [Q], distinct.
      gallery_names: [G], distinct.
      relevance: of these queries to this gallery.

    Raises:
      TrecError: bad names, as `write_run`.
    """
    _rows("query", query_names)
    items = np.array(list(_rows("gallery", gallery_names)), object)
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for query, row in zip(query_names, range(len(relevance.row)), strict=True):
            found = items[relevance.of(row)]
            file.writelines(f"{query} 0 {item} 1\n" for item in found)


def write_run(
    path: str | Path,
    query_names: Sequence[str],
    gallery_names: Sequence[str],
    nearest: np.ndarray,
    *,
    tag: str = "sbir_jax",
) -> None:
    """Writes rankings.

    The score is not the distance: trec_eval ignores the rank, sorts by the score as float32 and
    breaks ties by name, so equal or close distances would come out in another order. It is the
    number of items from this one on, the last one's 1: distinct and exact.

    Args:
      path: of the file to write.
      query_names: [Q], distinct.
      gallery_names: [G], distinct.
      nearest: int [Q, K], rows of the gallery, nearest first.
      tag: last field of every line.

    Raises:
      TrecError: names that are doubled, empty or hold whitespace, or K of 2^24 or more.
    """
    _rows("query", query_names)
    items = np.array(list(_rows("gallery", gallery_names)), object)
    depth = nearest.shape[1]
    if depth >= _DEEPEST:
        raise TrecError(f"{path}: {depth} items a query; scores are exact below {_DEEPEST}")
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for query, row in zip(query_names, nearest, strict=True):
            file.writelines(
                f"{query} Q0 {item} {rank} {depth - rank + 1} {tag}\n"
                for rank, item in enumerate(items[row], start=1)
            )


def _rows(side: str, names: Sequence[str]) -> dict[str, int]:
    """The row of each name."""
    rows: dict[str, int] = {}
    for row, name in enumerate(names):
        if name.split() != [name]:
            raise TrecError(
                f"{side} name {str(name)!r} (row {row}): TREC files separate fields by "
                "whitespace; a name must be there and hold none"
            )
        if rows.setdefault(str(name), row) != row:
            raise TrecError(f"{side} name {str(name)!r}: rows {rows[name]} and {row} share it")
    return rows


def _check_no_doubles(
    path: str | Path, keys: np.ndarray, query_names: Sequence[str], gallery_names: Sequence[str]
) -> None:
    order = np.argsort(keys, kind="stable")
    again = order[1:][keys[order[1:]] == keys[order[:-1]]]
    if len(again):
        line = int(again.min())
        query, item = divmod(int(keys[line]), len(gallery_names))
        raise TrecError(
            f"{path}, line {line + 1}: {str(query_names[query])!r} and "
            f"{str(gallery_names[item])!r} were judged before, in line "
            f"{int(np.argmax(keys == keys[line])) + 1}"
        )
