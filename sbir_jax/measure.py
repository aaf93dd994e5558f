"""Embeddings in, an evaluation out: what evaluating a run and bare embeddings have in common."""

from __future__ import annotations

import functools
import hashlib
import platform
from collections.abc import Iterable, Mapping, Sequence

import jax
import numpy as np
from jax.sharding import Mesh
from tqdm import tqdm

from sbir_jax import __version__
from sbir_jax.embeddings import Embeddings, EmbeddingsError
from sbir_jax.eval_config import EvalConfig
from sbir_jax.ranking import names as catalogue
from sbir_jax.ranking.expected import has_expectation
from sbir_jax.ranking.rank import Ranking, rank
from sbir_jax.ranking.relevance import Relevance
from sbir_jax.ranking.summary import summarise
from sbir_jax.relevant import relevance_of
from sbir_jax.results import Evaluation, fingerprint
from sbir_jax.setting import ConfigError
from sbir_jax.stopwatch import stopwatch
from sbir_jax.within_class import WITHIN_CLASS, rank_within

GENERALISED = "generalised"  # the level whose gallery also holds seen items


def check_metric(settings: EvalConfig) -> None:
    """Checks the validation metric before anything is computed.

    Raises:
      ConfigError: it has no expected value where ties ask for it.
    """
    try:
        _check_ties([settings.metric.partition("/")[2]], settings.ties)
    except catalogue.MetricError as error:
        raise ConfigError(f"config.eval.metric={settings.metric!r}: {error}") from None


def chosen(
    settings: EvalConfig, levels: Iterable[str], *, generalised: bool = False
) -> dict[str, tuple[str, ...]]:
    """The metrics that `settings.metrics` asks for, by level; levels without any are left out.

    What is asked of the category level is also asked of the generalised one.

    Raises:
      ConfigError: a metric or preset that is not valid, or has no expected value where ties ask
        for it.
    """
    levels = [*levels, *([GENERALISED] if generalised else [])]
    try:
        found = catalogue.select(settings.metrics, levels)
        for names in found.values():
            _check_ties(names, settings.ties)
    except catalogue.MetricError as error:
        raise ConfigError(f"config.eval.metrics={settings.metrics!r}: {error}") from None
    if generalised:
        found[GENERALISED] = tuple(dict.fromkeys(found["category"] + found[GENERALISED]))
    return {level: names for level, names in found.items() if names}


def rank_all(
    queries: Embeddings,
    gallery: Embeddings,
    relevance: Mapping[str, Relevance],
    names: Mapping[str, Sequence[str]],
    settings: EvalConfig,
    *,
    top: int = 0,
    curves: bool = False,
    mesh: Mesh | None = None,
) -> Ranking:
    """`ranking.rank` as the settings say, for the levels in `names`.

    Raises:
      EmbeddingsError: embeddings that cannot be ranked: of two sizes, not finite, or without the
        direction that the distance needs.
    """
    try:
        return rank(
            queries.vectors,
            gallery.vectors,
            {level: relevance[level] for level in names},
            names,
            distance=settings.distance,
            normalise=settings.normalise,
            ties=settings.ties,
            top=top,
            curves=curves,
            memory_mib=settings.memory_mib,
            mesh=mesh,
            engine=_engine(mesh),
            progress=lambda blocks: tqdm(
                blocks, desc="ranking", unit="block", delay=2, leave=False, disable=None
            ),
        )
    except ValueError as error:
        raise EmbeddingsError(str(error)) from error


def measure(
    queries: Embeddings,
    gallery: Embeddings,
    relevance: Mapping[str, Relevance],
    names: Mapping[str, Sequence[str]],
    settings: EvalConfig,
    *,
    seen: Embeddings | None = None,
    classes: np.ndarray | None = None,
    source: str = "",
    top: int = 0,
    mesh: Mesh | None = None,
) -> tuple[Evaluation, np.ndarray]:
    """Ranks the gallery for every query and sums the scores up.

    Args:
      queries: Q of them.
      gallery: G of them.
      relevance: by level, "generalised" apart; "within_class" is by photo.
      names: metrics by level, from `chosen`.
      settings: distance, rules and memory.
      seen: what joins the gallery at the level "generalised", which is by category.
      classes: str [Q], class names of the queries.
      source: where the items are from, as part of their fingerprint.
      top: neighbours wanted of each query.
      mesh: devices.

    Returns:
      the evaluation, whose entry says how it was made, and the nearest gallery rows of each query,
      int32 [Q, min(top, G)].

    Raises:
      EmbeddingsError: `seen` does not fit the gallery; or as `rank_all`.
    """
    both = None if seen is None else joined(gallery, seen)
    relevance, galleries = dict(relevance), dict.fromkeys(names, gallery)
    with stopwatch() as ranking:
        rank_some = functools.partial(rank_all, settings=settings, mesh=mesh)
        own = {
            level: asked
            for level, asked in names.items()
            if level not in (GENERALISED, WITHIN_CLASS)
        }
        ranked = rank_some(queries, gallery, relevance, own, top=top, curves=True)
        scores = dict(ranked.scores)
        if GENERALISED in names and both is not None:
            relevance[GENERALISED] = relevance_of(queries, both)["category"]
            galleries[GENERALISED] = both
            asked = {GENERALISED: names[GENERALISED]}
            found = rank_some(queries, both, relevance, asked, curves=True)
            scores |= found.scores
        if WITHIN_CLASS in names:
            asked = names[WITHIN_CLASS]
            scores[WITHIN_CLASS], galleries[WITHIN_CLASS] = rank_within(
                queries, gallery, asked, rank_some
            )
    distinct = {id(of): _distinct(of.vectors) for of in galleries.values()}
    summaries = {}
    for level, of in scores.items():
        found = summarise(of, classes=classes, no_relevant=settings.no_relevant)
        summaries[level] = {
            **{name: value for name, value in found.items() if not isinstance(value, dict)},
            "gallery_distinct": distinct[id(galleries[level])],
            **{name: value for name, value in found.items() if isinstance(value, dict)},
        }
    device = mesh.devices.flat[0] if mesh else jax.devices()[0]
    entry = {
        "distance": settings.distance,
        "normalise": settings.normalise,
        "ties": settings.ties,
        "no_relevant": settings.no_relevant,
        "levels": list(summaries),
        **summaries,
        "definitions": {
            name: catalogue.define(name)
            for name in sorted({n for of in names.values() for n in of})
        },
        "fingerprints": {
            "embeddings": {
                "queries": fingerprint(queries.vectors),
                "gallery": fingerprint(gallery.vectors),
                **({"seen_gallery": fingerprint(seen.vectors)} if seen else {}),
            },
            "items": {
                "queries": _items(source, queries),
                "gallery": _items(source, gallery),
                **{
                    level: fingerprint(r.row, r.starts, r.columns)
                    for level, r in relevance.items()
                    if level in names
                },
            },
        },
        "precision": "float32 products at highest precision",
        "engine": _engine(mesh),
        "device": device.device_kind,
        "devices": mesh.size if mesh else 1,
        "time": {
            "rank_seconds": ranking["seconds"],
            "queries_per_s": len(queries.vectors) / ranking["seconds"],
            "compile_seconds": ranking["compile_seconds"],
        },
        "versions": {
            "sbir_jax": __version__,
            "jax": jax.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }
    return Evaluation(entry, scores, classes), ranked.nearest


def _engine(mesh: Mesh | None) -> str:
    platform = mesh.devices.flat[0].platform if mesh else jax.default_backend()
    return "host" if platform == "cpu" else "device"


def _check_ties(names: Iterable[str], ties: str) -> None:
    refused = [name for name in names if not has_expectation(catalogue.parse(name))]
    if refused and ties == "expected":
        raise catalogue.MetricError(
            f"no closed form of the expected value for {', '.join(refused)}; leave them out, or "
            "use pessimistic or optimistic ties"
        )


def joined(gallery: Embeddings, seen: Embeddings) -> Embeddings:
    """The gallery, then the seen items; of both only vectors and labels."""
    if gallery.labels is None or seen.labels is None:
        raise EmbeddingsError("the seen gallery and the gallery it joins both need labels")
    if gallery.labels.dtype.kind != seen.labels.dtype.kind:
        raise EmbeddingsError("labels are integers in one gallery and strings in the other")
    if gallery.vectors.shape[1] != seen.vectors.shape[1]:
        raise EmbeddingsError(
            f"the gallery has {gallery.vectors.shape[1]} dimensions, the seen one "
            f"{seen.vectors.shape[1]}"
        )
    return Embeddings(
        np.concatenate([gallery.vectors, seen.vectors]),
        np.concatenate([gallery.labels, seen.labels]),
        None,
        None,
    )


def _distinct(vectors: np.ndarray) -> int:
    """How many different embeddings there are: galleries list some photos twice."""
    zero = np.float32(0)  # makes +0.0 of -0.0, so that equal embeddings have equal bytes
    return len({hashlib.sha256((row + zero).tobytes()).digest() for row in vectors})


def _items(source: str, of: Embeddings) -> str:
    return fingerprint(source, str(len(of.vectors)), of.labels, of.instances, of.names)
