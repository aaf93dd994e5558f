"""Approximate search with faiss (extra `faiss`), for indices that are too large to read whole.

Inverted lists over k-means cells, of int8 codes (`IVF,SQ8`): about D bytes a photo. What it finds
is ranked by the stored vectors. The faiss index lies in `ann.faiss` and is made again whenever the
photos have changed. How much is lost depends on the embeddings: `launch.py search` prints the
recall against exact search.
"""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from sbir_jax.retrieval import RetrievalError
from sbir_jax.retrieval.search import checked, rerank
from sbir_jax.workdir import write_json

if TYPE_CHECKING:
    from sbir_jax.retrieval.index import Index

_PROBES = 32  # cells that a query looks into
_TRAIN, _LEAST = 64, 39  # photos a cell that k-means sees; faiss asks for so many at least
_CANDIDATES = 4  # for each photo asked for
_ADD = 1 << 16  # photos added at a time


class Approximate:
    """Approximate neighbours among the photos of one index; `of` makes or loads it."""

    def __init__(self, ann: Any, vectors: np.ndarray):
        self._ann, self.vectors = ann, vectors

    @classmethod
    def of(cls, index: Index) -> Approximate:
        """Loads `ann.faiss`, or makes it.

        Raises:
          RetrievalError: faiss is not installed.
        """
        faiss = _faiss()
        file, note = index.folder / "ann.faiss", index.folder / "ann.json"
        content = {"content": index.manifest["content"]}
        try:
            if json.loads(note.read_text()) == content:
                return cls(faiss.read_index(str(file)), index.vectors)
        except (OSError, ValueError, RuntimeError):
            pass  # absent, of other photos, or damaged: made again
        ann = _made(faiss, index.vectors)
        note.unlink(missing_ok=True)
        faiss.write_index(ann, str(file))
        write_json(note, content)
        return cls(ann, index.vectors)

    def nearest(self, queries: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray]:
        """As `search.Searcher.nearest`, but photos in cells far from the query may be missed."""
        queries, top = checked(queries, self.vectors.shape, top)
        depth = min(_CANDIDATES * top, len(self.vectors))
        rows = self._candidates(queries, depth, _PROBES)
        short = (rows < 0).any(axis=1)  # the cells hold too few photos: look into all of them
        if short.any():
            rows[short] = self._candidates(queries[short], depth, self._ann.nlist)
        return rerank(self.vectors, queries, rows, top)

    def _candidates(self, queries: np.ndarray, depth: int, probes: int) -> np.ndarray:
        self._ann.nprobe = min(probes, self._ann.nlist)
        return self._ann.search(np.ascontiguousarray(queries), depth)[1]


def _made(faiss: Any, vectors: np.ndarray) -> Any:
    cells = max(1, min(int(4 * np.sqrt(len(vectors))), len(vectors) // _LEAST))
    ann = faiss.index_factory(vectors.shape[1], f"IVF{cells},SQ8", faiss.METRIC_INNER_PRODUCT)
    chosen = np.random.default_rng(0).permutation(len(vectors))[: _TRAIN * cells]
    ann.train(np.asarray(vectors[np.sort(chosen)], np.float32))
    for start in range(0, len(vectors), _ADD):
        ann.add(np.asarray(vectors[start : start + _ADD], np.float32))
    return ann


def _faiss() -> Any:
    try:
        with warnings.catch_warnings(action="ignore"):  # of its bindings, on Python 3.12
            import faiss
    except ImportError as error:
        raise RetrievalError(
            "approximate search needs faiss: pip install 'sbir_jax[faiss]'"
        ) from error
    return faiss
