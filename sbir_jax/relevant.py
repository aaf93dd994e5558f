"""What is relevant among embeddings made anywhere: by their ids, or by a file of the user's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sbir_jax.embeddings import Embeddings, EmbeddingsError, read_arrays
from sbir_jax.ranking.relevance import Relevance, by_ids, by_matrix, by_pairs
from sbir_jax.ranking.trec import TrecError, read_qrels

_LEVELS = {"category": "labels", "instance": "instances"}


def relevance_of(
    queries: Embeddings, gallery: Embeddings, path: str | Path | None = None
) -> dict[str, Relevance]:
    """Which gallery items are relevant to which queries, by level.

    Where both sides have labels, equal ones give the level "category"; likewise instances the
    level "instance". Queries whose label is not in the gallery have no relevant item.

    Args:
      queries: Q of them.
      gallery: G of them.
      path: a relevance of the user's own, the level "given": a dense matrix [Q, G] of bool or of
        integers 0 and 1 as .npy or as the key "relevance" of an .npz, or TREC qrels by names.

    Raises:
      EmbeddingsError: no level at all, ids of two types, ids of which the gallery has none, or a
        file that does not fit.
    """
    found = {}
    for level, key in _LEVELS.items():
        own, others = getattr(queries, key), getattr(gallery, key)
        if own is not None and others is not None:
            found[level] = _matched(key, own, others)
    if path is not None:
        found["given"] = _given(path, queries, gallery)
    if not found:
        raise EmbeddingsError(
            "nothing says what is relevant: labels in both queries and gallery, or instances in "
            "both, or a relevance file"
        )
    return found


def _matched(key: str, own: np.ndarray, others: np.ndarray) -> Relevance:
    examples = [", ".join(map(repr, np.unique(ids)[-3:].tolist())) for ids in (own, others)]
    if own.dtype.kind != others.dtype.kind:
        raise EmbeddingsError(
            f"{key} of the queries ({examples[0]}) and of the gallery ({examples[1]}) are of two "
            "types; expected integers on both sides or strings on both"
        )
    found = by_ids(own, others)
    if not found.counts.any():
        raise EmbeddingsError(
            f"no query has its {key[:-1]} in the gallery: queries have {examples[0]}, the gallery "
            f"{examples[1]}"
        )
    return found


def _given(path: str | Path, queries: Embeddings, gallery: Embeddings) -> Relevance:
    shape = len(queries.vectors), len(gallery.vectors)
    stored = read_arrays(path, ("relevance",))
    if isinstance(stored, dict) and not stored:
        raise EmbeddingsError(f"{path}: no key 'relevance'; the file is empty")
    matrix = stored["relevance"] if isinstance(stored, dict) else stored
    if matrix is not None and matrix.shape != shape:
        raise EmbeddingsError(
            f"{path}: a matrix of shape {matrix.shape}; expected {shape}, queries by gallery"
        )
    try:
        if matrix is not None:
            found = by_matrix(matrix)
        elif queries.names is None or gallery.names is None:
            raise ValueError("qrels need the key 'names' in queries and gallery")
        else:
            rows, columns = read_qrels(path, queries.names.tolist(), gallery.names.tolist())
            found = by_pairs(rows, columns, queries=shape[0], size=shape[1])
    except TrecError as error:  # names the file
        raise EmbeddingsError(str(error)) from None
    except ValueError as error:
        raise EmbeddingsError(f"{path}: {error}") from None
    if not found.counts.any():
        raise EmbeddingsError(f"{path}: no query has a relevant item")
    return found
