"""Means of the scores of queries: over queries and over classes, with chance and intervals."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from sbir_jax.ranking.bootstrap import by_class, intervals
from sbir_jax.ranking.expected import by_chance
from sbir_jax.ranking.rank import Scores

NoRelevant = Literal["exclude", "zero"]


def summarise(
    scores: Scores,
    *,
    classes: np.ndarray | None = None,
    no_relevant: NoRelevant = "exclude",
    resamples: int = 1000,
) -> dict[str, Any]:
    """Means over queries and over classes, beside chance and 95 % intervals.

    Args:
      scores: of Q queries.
      classes: integers or strings [Q], the class of each query.
      no_relevant: what a query without relevant items does: "exclude" leaves it out of every
        mean; "zero" lets it count as 0, in the chance level too. It is counted either way.
      resamples: of the bootstrap; 0 leaves the intervals out.

    Returns:
      {"queries": how many the means are over, "queries_without_relevant", "gallery": G}, and for
      each metric, unless there is no query to average over:
        "value": mean over queries.
        "chance": mean over the same queries of the expectation for a gallery in random order;
          None where there is no closed form.
        "interval": [low, high] of `value`, queries resampled.
        "class_mean": mean over classes of the mean of each; None without `classes`.
        "class_interval": [low, high] of `class_mean`, classes resampled.
      An interval is None where there is a single query or class. Nothing is ever NaN.

    Raises:
      ValueError: `classes` of another length, or an unknown `no_relevant`.
    """
    counted = _counted(scores, classes, no_relevant)
    summary: dict[str, Any] = {
        "queries": int(counted.sum()),
        "queries_without_relevant": int((scores.relevant == 0).sum()),
        "gallery": scores.gallery_size,
    }
    if not counted.any():
        return summary
    values = _stacked(scores, counted)
    spread = _intervals(values, resamples)
    class_means, class_spread = [None] * len(values), [None] * len(values)
    if classes is not None:
        _, sizes, sums = by_class(values, np.asarray(classes)[counted])
        means = sums / sizes  # [M, C]
        class_means, class_spread = means.mean(axis=1).tolist(), _intervals(means, resamples)
    chance = scores.chance
    if chance is None:
        chance = by_chance(scores.relevant, scores.gallery_size, scores.metrics)
    for row, name in enumerate(scores.metrics):
        by_luck = chance[name]
        summary[name] = {
            "value": float(values[row].mean()),
            "chance": None if by_luck is None else float(by_luck[counted].mean()),
            "interval": spread[row],
            "class_mean": class_means[row],
            "class_interval": class_spread[row],
        }
    return summary


def per_class(
    scores: Scores, classes: np.ndarray, *, no_relevant: NoRelevant = "exclude"
) -> dict[str, list]:
    """Table of the mean of every metric over the queries of each class.

    Args:
      scores, classes, no_relevant: as in `summarise`.

    Returns:
      Columns of one length: "class": the distinct classes, sorted; "queries": how many the means
      are over; "queries_without_relevant"; and the means of each metric, None for a class without
      a query to average over.

    Raises:
      ValueError: as `summarise`.
    """
    counted = _counted(scores, classes, no_relevant)
    ids, codes = np.unique(classes, return_inverse=True)
    table = {"class": ids.tolist()}
    for name, of in (("queries", counted), ("queries_without_relevant", scores.relevant == 0)):
        table[name] = np.bincount(codes[of], minlength=len(ids)).tolist()
    present, counts, sums = by_class(_stacked(scores, counted), codes[counted])
    for name, of in zip(scores.metrics, sums / counts, strict=True):
        means = dict(zip(present.tolist(), of.tolist(), strict=True))
        table[name] = [means.get(code) for code in range(len(ids))]
    return table


def _counted(scores: Scores, classes: np.ndarray | None, no_relevant: NoRelevant) -> np.ndarray:
    """bool [Q]: the queries that enter the means."""
    if no_relevant not in ("exclude", "zero"):
        raise ValueError(f"no_relevant={no_relevant!r}: valid: exclude, zero")
    if classes is not None and np.shape(classes) != scores.relevant.shape:
        raise ValueError(f"classes: shape {np.shape(classes)}; expected {scores.relevant.shape}")
    return (scores.relevant > 0) | (no_relevant == "zero")


def _intervals(values: np.ndarray, resamples: int) -> list[list[float] | None]:
    """[low, high] of the mean of each row of values [M, n]."""
    if resamples == 0 or values.shape[1] < 2:
        return [None] * len(values)
    return np.stack(intervals(values, resamples=resamples), axis=1).tolist()


def _stacked(scores: Scores, counted: np.ndarray) -> np.ndarray:
    """[M, n]: every metric of the queries that count."""
    values = [of[counted] for of in scores.metrics.values()]
    return np.array(values).reshape(len(values), np.count_nonzero(counted))
