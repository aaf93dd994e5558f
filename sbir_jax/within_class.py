"""Each query against the photos of its own class only: fine-grained retrieval, class by class."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from sbir_jax.embeddings import Embeddings
from sbir_jax.ranking.expected import by_chance
from sbir_jax.ranking.rank import Ranking, Scores
from sbir_jax.ranking.relevance import Relevance, by_ids

WITHIN_CLASS = "within_class"  # the level whose gallery is the query's class


def rank_within(
    queries: Embeddings,
    gallery: Embeddings,
    names: Sequence[str],
    rank: Callable[
        [Embeddings, Embeddings, dict[str, Relevance], dict[str, Sequence[str]]], Ranking
    ],
) -> tuple[Scores, Embeddings]:
    """Ranks, for the queries of each class, the photos of that class; relevant is the instance.

    Args:
      queries: with labels and instances.
      gallery: likewise.
      names: of metrics.
      rank: ranks one gallery for some queries.

    Returns:
      the scores of all queries, whose chance is that of each class's gallery, and the largest of
      these galleries. Queries of a class without photos have nothing relevant.
    """
    count = len(queries.vectors)
    values = {name: np.zeros(count) for name in names}
    chance: dict[str, np.ndarray | None] = {name: np.zeros(count) for name in names}
    relevant = np.zeros(count, np.int32)
    largest = _rows(gallery, np.arange(0))
    own, others = queries.labelled()[0], gallery.labelled()[0]
    for label in np.unique(own):
        mine = np.flatnonzero(own == label)
        photos = _rows(gallery, np.flatnonzero(others == label))
        if not len(photos.vectors):
            continue
        if len(photos.vectors) > len(largest.vectors):
            largest = photos
        some = _rows(queries, mine)
        relevance = {WITHIN_CLASS: by_ids(some.labelled()[1], photos.labelled()[1])}
        found = rank(some, photos, relevance, {WITHIN_CLASS: names}).scores[WITHIN_CLASS]
        relevant[mine] = found.relevant
        by_luck = by_chance(found.relevant, found.gallery_size, names)
        for name in names:
            values[name][mine] = found.metrics[name]
            here, so_far = by_luck[name], chance[name]
            if here is None or so_far is None:
                chance[name] = None
            else:
                so_far[mine] = here
    return Scores(values, relevant, len(largest.vectors), chance=chance), largest


def _rows(of: Embeddings, rows: np.ndarray) -> Embeddings:
    labels, instances = of.labelled()
    return Embeddings(of.vectors[rows], labels[rows], instances[rows], None)
