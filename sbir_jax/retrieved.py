"""What an evaluation found: the first photos of every query, and some embeddings to draw a map of.

`retrieved.npz`, beside `scores.npz`, holds what a picture needs without the model: it stays small
(a map needs no more than some thousand points) however large the gallery is.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from sbir_jax.embeddings import Embeddings
from sbir_jax.results import ResultsError

DEPTH = 10  # photos of each query
_POINTS = 1500  # of each side; at 512 dimensions they take 6 MB


@dataclasses.dataclass(frozen=True, eq=False)
class Retrieved:
    """The first photos of every query, and the embeddings of some items.

    Attributes:
      nearest: int32 [Q, k], gallery rows by rank.
      query_labels, gallery_labels: int [Q] and [G], positions in `classes`.
      query_instances, gallery_instances: int [Q] and [G], equal for a sketch and its photo; -1.
      classes: str [C].
      query_rows, gallery_rows: int [n] and [m], the items that have vectors here, ascending.
      query_vectors, gallery_vectors: float32 [n, D] and [m, D].
    """

    nearest: np.ndarray
    query_labels: np.ndarray
    gallery_labels: np.ndarray
    query_instances: np.ndarray
    gallery_instances: np.ndarray
    classes: np.ndarray
    query_rows: np.ndarray
    gallery_rows: np.ndarray
    query_vectors: np.ndarray
    gallery_vectors: np.ndarray

    def first(self, count: int) -> Retrieved:
        """The same with fewer photos of each query."""
        return dataclasses.replace(self, nearest=self.nearest[:, :count])

    @property
    def right(self) -> np.ndarray:
        """bool [Q, k], whether a photo is of the query's class."""
        return self.gallery_labels[self.nearest] == self.query_labels[:, None]

    @property
    def instance(self) -> np.ndarray:
        """bool [Q, k], whether a photo is the one that the query was drawn from."""
        own = self.query_instances[:, None]
        return (self.gallery_instances[self.nearest] == own) & (own >= 0)


def retrieved(
    queries: Embeddings, gallery: Embeddings, nearest: np.ndarray, classes: tuple[str, ...]
) -> Retrieved:
    """What to keep of an evaluation.

    Args:
      queries, gallery: with labels (positions in `classes`) and instances.
      nearest: int [Q, k], gallery rows by rank; the first `DEPTH` columns are kept.
      classes: names.
    """
    query_labels, query_instances = queries.labelled()
    gallery_labels, gallery_instances = gallery.labelled()
    rows = [np.sort(over_classes(of, _POINTS)) for of in (query_labels, gallery_labels)]
    return Retrieved(
        nearest=np.asarray(nearest[:, :DEPTH], np.int32),
        query_labels=query_labels,
        gallery_labels=gallery_labels,
        query_instances=query_instances,
        gallery_instances=gallery_instances,
        classes=np.array(classes, np.str_),
        query_rows=rows[0],
        gallery_rows=rows[1],
        query_vectors=queries.vectors[rows[0]],
        gallery_vectors=gallery.vectors[rows[1]],
    )


def write_retrieved(path: Path, found: Retrieved) -> None:
    """Writes `retrieved.npz`, whole or not at all."""
    scratch = path.with_suffix(".partial.npz")
    np.savez_compressed(scratch, **vars(found))
    scratch.replace(path)


def read_retrieved(path: Path) -> Retrieved:
    """Reads a `retrieved.npz`.

    Raises:
      ResultsError: the file is not one.
    """
    try:
        # Opened here: np.load leaves the file open when it is damaged.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            fields = [field.name for field in dataclasses.fields(Retrieved)]
            return Retrieved(**{name: arrays[name] for name in fields})
    except Exception as error:  # zipfile, ValueError, KeyError: whatever a damaged file gives
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ResultsError(f"{path}: damaged ({reason}); evaluate again") from error


def over_classes(labels: np.ndarray, count: int) -> np.ndarray:
    """At most `count` rows, evenly spread over the classes, class by class."""
    by_class = np.argsort(labels, kind="stable")
    return by_class[np.linspace(0, len(by_class) - 1, min(count, len(by_class))).astype(int)]
