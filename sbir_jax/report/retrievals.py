"""Which queries to show, and the picture of what was found for them."""

from __future__ import annotations

import collections
from collections.abc import Sequence

import numpy as np
from PIL import Image

from sbir_jax.data.images import Fit
from sbir_jax.data.source import Dataset
from sbir_jax.report.grids import retrieval_grid
from sbir_jax.retrieved import Retrieved

_SIDE = 128
_OF_A_CLASS = 2  # or the best and the worst ones are all of one class


def best(scores: np.ndarray, counted: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """The counted rows of the highest scores, at most two of a class; among equals, the first."""
    return _first(np.argsort(-scores, kind="stable"), counted, labels, count)


def worst(scores: np.ndarray, counted: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """The counted rows of the lowest scores, at most two of a class; among equals, the first."""
    return _first(np.argsort(scores, kind="stable"), counted, labels, count)


def drawn(counted: np.ndarray, count: int, *, seed: int = 0) -> np.ndarray:
    """Rows drawn at random of the counted ones, ascending; the same for the same seed."""
    rows = np.flatnonzero(counted)
    chosen = np.random.default_rng(seed).permutation(len(rows))[:count]
    return np.sort(rows[chosen])


def picture(
    dataset: Dataset,
    split: str,
    found: Retrieved,
    rows: Sequence[int] | np.ndarray,
    *,
    fit: Fit,
    title: str = "",
    side: int = _SIDE,
) -> Image.Image:
    """Some queries of a split and their nearest photos, right or wrong, each `side` pixels large.

    Raises:
      DatasetError: an image that cannot be read.
    """
    rows = np.asarray(rows)
    near, labels = found.nearest[rows], found.query_labels[rows]
    queries = dataset.images(split, "sketch").load(rows, size=side, fit=fit)
    photos = dataset.images(split, "photo").load(near.ravel(), size=side, fit=fit)
    linked = (found.query_instances >= 0).any()
    return retrieval_grid(
        queries[..., 0] if queries.shape[-1] == 1 else queries,
        photos.reshape(*near.shape, *photos.shape[1:]),
        found.right[rows],
        instance=found.instance[rows] if linked else None,
        query_names=[str(found.classes[c]) for c in labels],
        result_names=[[str(found.classes[c]) for c in row] for row in found.gallery_labels[near]],
        title=title,
        heading="sketch" if queries.shape[-1] == 1 else "query",
    )


def _first(order: np.ndarray, counted: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    taken: collections.Counter[int] = collections.Counter()
    rows: list[int] = []
    for row in order[counted[order]]:
        label = int(labels[row])
        if taken[label] < _OF_A_CLASS and len(rows) < count:
            taken[label] += 1
            rows.append(int(row))
    return np.array(rows, np.int64)
