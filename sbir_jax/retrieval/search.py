"""Search: every photo is compared with every query, a block of photos at a time, on the device.

`exact` keeps float32 vectors in the device's memory: 4 D bytes a photo. `int8` keeps D bytes and
`binary` D / 8: they choose candidates by codes (`sbir_jax.compress`) and rank these by the stored
float16 vectors, which stay on disk.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sbir_jax import compress
from sbir_jax.retrieval import RetrievalError

_BLOCK = 1 << 16  # photos: 64 queries x 65,536 similarities are 16 MiB
_BATCHES = (1, 8, 64)  # queries: sizes that are compiled for
# Candidates by codes for each photo asked for, and at the least.
_CANDIDATES, _LEAST = 10, 200


class Searcher:
    """Ranks all photos of one index.

    Args:
      vectors: float [n, D], each of length 1.
      method: exact, int8 or binary.
    """

    def __init__(self, vectors: np.ndarray, method: str):
        self.vectors, self.method = vectors, method
        rows = min(_BLOCK, len(vectors))
        self._blocks = []
        for start in range(0, len(vectors), rows):
            part = np.asarray(vectors[start : start + rows], np.float32)
            codes, scale = _coded(part, method)
            pad = rows - len(part)
            codes = np.pad(codes, [(0, pad), (0, 0)])
            scale = None if scale is None else np.pad(scale, (0, pad))
            self._blocks.append((start, len(part), *jax.device_put((codes, scale))))

    def nearest(self, queries: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
        """The `top` most similar photos of each query, best first; of equals the lower row first.

        Args:
          queries: float32 [q, D], of length 1.
          top: from 1; of fewer photos, all of them.

        Returns:
          (rows int32 [q, top], cosine similarities float32 [q, top]).

        Raises:
          RetrievalError: queries that are not [q, D], or not finite, or `top` below 1.
        """
        queries, top = checked(queries, self.vectors.shape, top)
        depth = top
        if self.method != "exact":
            depth = min(max(_CANDIDATES * top, _LEAST), len(self.vectors))
        found = [
            self._batch(queries[at : at + _BATCHES[-1]], depth)
            for at in range(0, len(queries), _BATCHES[-1])
        ]
        rows, scores = (np.concatenate(parts) for parts in zip(*found, strict=True))
        if self.method == "exact":
            return rows, scores
        return rerank(self.vectors, queries, rows, top)

    def _batch(self, queries: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
        size = next(size for size in _BATCHES if size >= len(queries))
        padded = np.pad(queries, [(0, size - len(queries)), (0, 0)])
        if self.method == "binary":
            padded = compress.binary(padded)
        padded = jax.device_put(padded)
        scores = jnp.full((size, top), -jnp.inf, jnp.float32)
        rows = jnp.full((size, top), -1, jnp.int32)
        for start, count, codes, scale in self._blocks:
            scores, rows = _merge(
                scores, rows, padded, codes, scale, start, count, method=self.method
            )
        return np.asarray(rows)[: len(queries)], np.asarray(scores)[: len(queries)]


def rerank(
    vectors: np.ndarray, queries: np.ndarray, rows: np.ndarray, top: int
) -> tuple[np.ndarray, np.ndarray]:
    """The best `top` of candidate rows, int [q, c], by the whole vectors; as `nearest` returns."""
    rows = np.sort(rows, axis=1).astype(np.int32)
    scores = np.stack(
        [similarities(vectors[own], query) for own, query in zip(rows, queries, strict=True)]
    )
    best = np.argsort(-scores, axis=1, kind="stable")[:, :top]
    return np.take_along_axis(rows, best, 1), np.take_along_axis(scores, best, 1)


def similarities(vectors: np.ndarray, query: np.ndarray) -> np.ndarray:
    """Cosine similarities float32 [n] of unit vectors [n, D] with one [D]; of equal rows, equal.

    Not by a matrix product, which rounds its last rows in another order: on an AMD EPYC (Zen 4) the
    fifth of seven equal photos came first.
    """
    return (np.asarray(vectors, np.float32) * query).sum(axis=1)


def recall(found: np.ndarray, exact: np.ndarray) -> float:
    """The share of the exact neighbours, int [q, k], that are among those found, int [q, k]."""
    shared = (found[:, :, None] == exact[:, None, :]).any(axis=1)
    return float(shared.mean())


def _coded(vectors: np.ndarray, method: str) -> tuple[np.ndarray, np.ndarray | None]:
    if method == "int8":
        return compress.int8(vectors)
    return (compress.binary(vectors) if method == "binary" else vectors), None


@functools.partial(jax.jit, static_argnames="method")
def _merge(
    scores: jax.Array,
    rows: jax.Array,
    queries: jax.Array,
    codes: jax.Array,
    scale: jax.Array | None,
    start: int,
    count: int,
    *,
    method: str,
) -> tuple[jax.Array, jax.Array]:
    """The best of those found so far, [q, top], and of one more block, codes [B, ...]."""
    if method == "binary":
        # Query by query: [q, B, bytes] at once takes five times as long on a CPU.
        own = jax.lax.map(lambda query: -_hamming(query, codes), queries)
    else:
        own = jnp.matmul(queries, codes.astype(jnp.float32).T, precision="highest")  # [q, B]
        own = own if scale is None else own * scale
    own = jnp.where(jnp.arange(codes.shape[0]) < count, own, -jnp.inf)
    top = scores.shape[1]
    best, at = jax.lax.top_k(own, min(top, codes.shape[0]))
    # top_k takes the first of equals: those found before have the lower rows.
    rows = jnp.concatenate([rows, start + at], axis=1)
    scores, at = jax.lax.top_k(jnp.concatenate([scores, best], axis=1), top)
    return scores, jnp.take_along_axis(rows, at, axis=1)


def _hamming(query: jax.Array, codes: jax.Array) -> jax.Array:
    """Differing bits of a code, [bytes], and of each of some, [B, bytes]: float32 [B]."""
    differing = jax.lax.population_count(query ^ codes)
    return jnp.sum(differing, axis=-1, dtype=jnp.int32).astype(jnp.float32)


def checked(queries: Any, shape: tuple[int, int], top: int) -> tuple[np.ndarray, int]:
    """Queries as float32 [q, D], and `top` of at most all photos; raises RetrievalError.

    `shape` is [n, D], of the vectors of the index.
    """
    queries = np.asarray(queries, np.float32)
    if queries.ndim != 2 or queries.shape[1] != shape[1]:
        raise RetrievalError(
            f"queries of shape {queries.shape}: expected [q, {shape[1]}], as the index has"
        )
    if not np.isfinite(queries).all():
        raise RetrievalError("queries that are not finite")
    if top < 1:
        raise RetrievalError(f"top={top}: expected at least 1")
    return queries, min(top, shape[0])
