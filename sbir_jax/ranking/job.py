"""What `rank` asks of an engine, and what an engine gives back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from sbir_jax import distances
from sbir_jax.ranking import curve, ties
from sbir_jax.ranking.names import Metric
from sbir_jax.ranking.relevance import Relevance

NORMALISE = {"none": lambda x: x, "unit": distances.unit, "sr": distances.sr_norm}


@dataclasses.dataclass(frozen=True, eq=False)
class Job:
    """One ranking, checked.

    Attributes:
      queries: float32 [Q, D].
      gallery: float32 [N, D], its distinct embeddings.
      copies: int32 [G], which of them each item of the gallery is; None if all are distinct.
      size: G.
      relevance: by name.
      metrics: by name of the relevance.
      distance, normalise: names.
      ties: a rule.
      top: neighbours wanted, at most G.
      curves: whether curves are wanted.
      depth: the deepest rank that metrics and curves look at, at most G; None: all.
      memory_mib: what an engine may hold beside the embeddings; 0: it decides.
    """

    queries: np.ndarray
    gallery: np.ndarray
    copies: np.ndarray | None
    size: int
    relevance: Mapping[str, Relevance]
    metrics: Mapping[str, tuple[Metric, ...]]
    distance: str
    normalise: str
    ties: str
    top: int
    curves: bool
    depth: int | None
    memory_mib: float

    @property
    def counted(self) -> tuple[str, ...]:
        """What is to be counted of each relevant item."""
        return ties.RULES[self.ties]

    @property
    def ranked(self) -> Mapping[str, Relevance]:
        """The relevances whose items are to be ranked."""
        return {} if self.depth == 0 else self.relevance

    @property
    def prefix(self) -> int:
        """How many of the nearest items are to be found; 0 where only ranks are wanted."""
        return max(self.top, self.depth or 0)

    def not_finite(self, row: int) -> ValueError:
        """The error for the distances of a query."""
        return ValueError(
            f"queries: row {row} has a {self.distance} distance that is not finite; embeddings "
            "are too large for float32"
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Block:
    """The results of some queries.

    Attributes:
      nearest: int32 [B, top], gallery rows, nearest first, equal distances by row.
      distance: float32 [B, top].
      scores: by name of the relevance, then of the metric, float [B].
      curves: by name of the relevance; empty unless wanted.
    """

    nearest: np.ndarray
    distance: np.ndarray
    scores: dict[str, dict[str, np.ndarray]]
    curves: dict[str, curve.Sums]

    @classmethod
    def of(
        cls,
        job: Job,
        cut: slice,
        nearest: np.ndarray,
        distance: np.ndarray,
        counts: Mapping[str, Mapping[str, np.ndarray]],
    ) -> Block:
        """Scores what was counted for the queries `cut`: by name of the relevance, what the tie
        rule reads."""
        scores, curves = {}, {}
        for name, counted in counts.items():
            before, upto = counted.get("before"), counted.get("upto")
            found = (before, upto, job.relevance[name].counts[cut], job.size)
            scores[name] = ties.score(job.ties, job.metrics[name], *found)
            if job.curves:
                curves[name] = curve.sums(job.ties, *found)
        return cls(nearest, distance, scores, curves)

    @classmethod
    def joined(cls, blocks: Sequence[Block]) -> Block:
        """One block of several, in their order."""
        first, *others = blocks
        scores = {
            name: {m: np.concatenate([b.scores[name][m] for b in blocks]) for m in of}
            for name, of in first.scores.items()
        }
        curves = {
            name: sum((b.curves[name] for b in others), of) for name, of in first.curves.items()
        }
        nearest, distance = (
            np.concatenate([getattr(b, field) for b in blocks]) for field in ("nearest", "distance")
        )
        return cls(nearest, distance, scores, curves)


def padded(x: np.ndarray, rows: int, value: int = 0) -> np.ndarray:
    """Rows up to one size, so that every block runs the same compiled program; not a copy where
    nothing is missing."""
    if len(x) == rows:
        return x
    missing = [(0, rows - len(x))] + [(0, 0)] * (x.ndim - 1)
    return np.pad(x, missing, constant_values=value)
