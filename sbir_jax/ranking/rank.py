"""Ranks a gallery for every query and scores the rankings: exact, in bounded memory.

An engine turns distances into the ranks of the relevant items, the metrics are arithmetic on those
ranks. Distances are float32, from products at highest precision, for one block of queries at a
time: there is never a [Q, G] array. Several relevances share one pass over the distances.

Equal gallery embeddings are compared once, so that they tie exactly whatever the engine, the block
size and the number of devices; what a tie is worth is a rule of `ties`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence

import jax
import numpy as np
from jax.sharding import Mesh

from sbir_jax import distances, sharding
from sbir_jax.ranking import device, host, vectors
from sbir_jax.ranking.curve import Curve
from sbir_jax.ranking.expected import has_expectation
from sbir_jax.ranking.job import NORMALISE, Block, Job
from sbir_jax.ranking.metrics import depth
from sbir_jax.ranking.names import Metric, MetricError, parse
from sbir_jax.ranking.relevance import Relevance
from sbir_jax.ranking.ties import RULES

ENGINES = ("auto", "host", "device")


@dataclasses.dataclass(frozen=True, eq=False)
class Scores:
    """Scores of every query under one relevance.

    Attributes:
      metrics: name to float64 [Q]; 0 where a query has no relevant item.
      relevant: int32 [Q], relevant items in the gallery.
      gallery_size: G.
      curve: None unless asked for.
      chance: expectation of each metric in a random order, float64 [Q], or None without a closed
        form, where the queries have galleries of several sizes; else None.
    """

    metrics: dict[str, np.ndarray]
    relevant: np.ndarray
    gallery_size: int
    curve: Curve | None = None
    chance: dict[str, np.ndarray | None] | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Ranking:
    """Result of `rank`.

    Attributes:
      nearest: int32 [Q, min(top, G)], gallery rows, nearest first, equal distances by row.
      nearest_distance: float32 [Q, min(top, G)].
      scores: one `Scores` for each relevance.
    """

    nearest: np.ndarray
    nearest_distance: np.ndarray
    scores: dict[str, Scores]


def rank(
    queries: np.ndarray,
    gallery: np.ndarray,
    relevance: Mapping[str, Relevance],
    metrics: Mapping[str, Sequence[str]],
    *,
    distance: str = "cosine",
    normalise: str = "none",
    ties: str = "pessimistic",
    top: int = 0,
    curves: bool = False,
    memory_mib: float = 0,
    mesh: Mesh | None = None,
    engine: str = "auto",
    progress: Callable[[Iterable], Iterable] = iter,
) -> Ranking:
    """Ranks the whole gallery for every query.

    Args:
      queries: float16, float32 or float64 [Q, D]; computed in float32.
      gallery: likewise [G, D].
      relevance: by a name of your own, such as "category".
      metrics: names of metrics, as `names.parse` reads them, by name of the relevance.
      distance: a name of `distances`.
      normalise: "none", "unit" (`distances.unit`) or "sr" (`distances.sr_norm`), of both sides
        before the distance.
      ties: "pessimistic", "optimistic" or "expected", as in `ties`.
      top: neighbours returned for each query.
      curves: whether to return a `Curve` for each relevance.
      memory_mib: what may be used beside the embeddings, about; 0: what an engine finds useful,
        and free on an accelerator.
      mesh: devices of the device engine, all of one kind; None: the first.
      engine: "host", NumPy on the CPU; "device", XLA on the mesh; "auto": host if the mesh, or
        else the default device, is a CPU.
      progress: wraps the sequence of blocks, for a progress bar.

    Returns:
      A `Ranking`.

    Raises:
      ValueError: shapes that do not agree, an empty side, embeddings or distances that are not
        finite, zero embeddings where a direction is needed, or an unknown name.
      MetricError: likewise, for a metric; or one without an expectation under ties "expected".
    """
    queries, query_squares = vectors.checked("queries", queries)
    gallery, gallery_squares = vectors.checked("gallery", gallery)
    if queries.shape[1] != gallery.shape[1]:
        raise ValueError(
            f"queries {queries.shape} and gallery {gallery.shape}: embeddings must have one size"
        )
    for name, given, valid in (
        ("normalise", normalise, NORMALISE),
        ("ties", ties, RULES),
        ("engine", engine, ENGINES),
    ):
        if given not in valid:
            raise ValueError(f"{name}={given!r}: valid: {', '.join(valid)}")
    _check_distance(distance)
    if distance == "cosine" or normalise != "none":
        need = "cosine" if distance == "cosine" else f"normalise={normalise!r}"
        vectors.check_directions("queries", queries, query_squares, need)
        vectors.check_directions("gallery", gallery, gallery_squares, need)
    for name, low in (("top", top), ("memory_mib", memory_mib)):
        if low < 0:
            raise ValueError(f"{name}={low}: must be at least 0")
    for name, of in relevance.items():
        if (len(of.row), of.size) != (len(queries), len(gallery)):
            raise ValueError(
                f"relevance {name!r} is of {len(of.row)} queries and {of.size} items; there are "
                f"{len(queries)} and {len(gallery)}"
            )
    parsed = _parsed(relevance, metrics, ties)
    deepest = None if curves else depth([metric for of in parsed.values() for metric in of])
    distinct, copies = vectors.distinct(gallery)
    job = Job(
        queries=queries,
        gallery=distinct,
        copies=copies,
        size=len(gallery),
        relevance=relevance,
        metrics=parsed,
        distance=distance,
        normalise=normalise,
        ties=ties,
        top=min(top, len(gallery)),
        curves=curves,
        depth=None if deepest is None or deepest >= len(gallery) else deepest,
        memory_mib=memory_mib,
    )
    if engine == "auto":
        platform = mesh.devices.flat[0].platform if mesh else jax.default_backend()
        engine = "host" if platform == "cpu" else "device"
    if engine == "host":
        found = Block.joined(list(host.blocks(job, progress)))
    else:
        mesh = mesh or sharding.make_mesh(jax.local_devices()[:1])
        found = Block.joined(list(device.blocks(job, progress, mesh=mesh)))
    scores = {
        name: Scores(
            {m: v.astype(np.float64) for m, v in found.scores.get(name, {}).items()},
            of.counts,
            len(gallery),
            found.curves[name].curve() if curves else None,
        )
        for name, of in relevance.items()
    }
    return Ranking(found.nearest, found.distance, scores)


def _parsed(
    relevance: Mapping[str, Relevance], metrics: Mapping[str, Sequence[str]], ties: str
) -> dict[str, tuple[Metric, ...]]:
    """The metrics of each relevance."""
    unknown = [name for name in metrics if name not in relevance]
    if unknown:
        raise ValueError(
            f"metrics are asked of {unknown[0]!r}; relevances: {', '.join(relevance) or 'none'}"
        )
    parsed = {name: tuple(map(parse, metrics.get(name, ()))) for name in relevance}
    refused = [m.name for of in parsed.values() for m in of if not has_expectation(m)]
    if ties == "expected" and refused:
        raise MetricError(
            f"ties='expected': no closed form for {', '.join(refused)}; leave them out, or choose "
            "pessimistic or optimistic"
        )
    return parsed


@functools.cache
def _check_distance(name: str) -> None:
    """Refuses unknown names; to trace one costs 2 ms."""
    side = jax.ShapeDtypeStruct((1, 1), np.float32)
    jax.eval_shape(functools.partial(distances.pairwise, distance=name), side, side)
