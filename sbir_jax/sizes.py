"""Retrieval against the size of an embedding, as arithmetic on arrays.

Dimensions are cut as a prefix, by PCA, or by whitened PCA, fitted on training embeddings; each is
then stored as float32, as int8, or as one bit. Ties are scored by their expected value: codes of
few bits put many photos at one distance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jax.sharding import Mesh

from sbir_jax import compress
from sbir_jax.ranking.expected import by_chance
from sbir_jax.ranking.rank import rank
from sbir_jax.ranking.relevance import Relevance

METHODS = ("prefix", "pca", "pca-whitened")
CODES = ("float32", "int8", "binary")
METRICS = {"category": "mAP@all", "instance": "acc@10"}
_DIMS = (8, 16, 32, 64, 128, 256, 512, 1024)

Row = dict[str, Any]


def dims_up_to(embed_dim: int) -> tuple[int, ...]:
    """8, 16, ... 1024 below `embed_dim`, and `embed_dim` itself."""
    return (*(dim for dim in _DIMS if dim < embed_dim), embed_dim)


def study(
    train: np.ndarray,
    queries: np.ndarray,
    gallery: np.ndarray,
    relevance: Mapping[str, Relevance],
    *,
    methods: Sequence[str] = METHODS,
    codes: Sequence[str] = CODES,
    mesh: Mesh | None = None,
) -> list[Row]:
    """Scores of every method, dimension and code.

    Args:
      train: float32 [n, D], what PCA is fitted on.
      queries: float32 [Q, D].
      gallery: float32 [G, D].
      relevance: by level, a key of `METRICS`.
      methods, codes: some of `METHODS` and `CODES`.
      mesh: for ranking.

    Returns:
      A row each: method, dim, code, bytes (of one photo) and a mean score for each level, such as
      "category/mAP@all". PCA has no rows above the number of directions that `train` spans.

    Raises:
      ValueError: the training embeddings are all equal, or not finite.
    """
    pca = compress.fit_pca(train) if any(name.startswith("pca") for name in methods) else None
    rows = []
    for method in methods:
        most = queries.shape[1] if pca is None or method == "prefix" else len(pca.variance)
        for dim in dims_up_to(queries.shape[1]):
            if dim > most:
                continue
            own, others = (_cut(side, dim, method, pca) for side in (queries, gallery))
            for code in codes:
                size = compress.bytes_per_photo(dim, code)
                row = {"method": method, "dim": dim, "code": code, "bytes": size}
                rows.append(row | score(own, others, relevance, code=code, mesh=mesh))
    return rows


def score(
    queries: np.ndarray,
    gallery: np.ndarray,
    relevance: Mapping[str, Relevance],
    *,
    code: str,
    mesh: Mesh | None = None,
) -> dict[str, float]:
    """Mean scores of two sides once both are stored as `code`, over queries that can be right."""
    distance = "cosine"
    if code == "int8":
        queries, gallery = (
            compress.int8(side)[0].astype(np.float32) for side in (queries, gallery)
        )
    elif code == "binary":
        dim = queries.shape[1]
        queries, gallery = (compress.signs(compress.binary(s), dim) for s in (queries, gallery))
        distance = "sq_l2"  # 4 times the Hamming distance, and exact
    asked = {level: (METRICS[level],) for level in relevance}
    ranked = rank(queries, gallery, relevance, asked, distance=distance, ties="expected", mesh=mesh)
    return {
        f"{level}/{name}": float(values[found.relevant > 0].mean())
        for level, found in ranked.scores.items()
        for name, values in found.metrics.items()
    }


def chance(relevance: Mapping[str, Relevance]) -> dict[str, float]:
    """What `score` gives for photos in random order."""
    found = {}
    for level, of in relevance.items():
        counts = of.counts
        name = METRICS[level]
        values = by_chance(counts, of.size, [name])[name]
        assert values is not None  # all of METRICS have a closed form
        found[f"{level}/{name}"] = float(values[counts > 0].mean())
    return found


def _cut(x: np.ndarray, dim: int, method: str, pca: compress.PCA | None) -> np.ndarray:
    if pca is None or method == "prefix":
        return compress.prefix(x, dim)
    return compress.project(pca, x, dim, whiten=method == "pca-whitened")
