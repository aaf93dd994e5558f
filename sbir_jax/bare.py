"""Evaluation of bare embeddings: files in, the same results out as for a run; no model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jax.sharding import Mesh

from sbir_jax import results, sharding, tables
from sbir_jax.embeddings import EmbeddingsError, load
from sbir_jax.eval_config import EvalConfig
from sbir_jax.measure import chosen, measure
from sbir_jax.relevant import relevance_of
from sbir_jax.workdir import write_json


def evaluate_embeddings(
    queries: Path,
    gallery: Path,
    *,
    settings: EvalConfig,
    out: Path,
    query_labels: Path | None = None,
    gallery_labels: Path | None = None,
    relevance: Path | None = None,
    seen_gallery: Path | None = None,
    trec: Path | None = None,
    trec_depth: int = 1000,
    mesh: Mesh | None = None,
) -> dict[str, Any]:
    """Evaluates embeddings from files; `embeddings.load` says what they hold.

    Prints a table, writes `results.json`, `per_class.csv`, `curves.csv` and `scores.npz` into
    `out` and returns what `results.json` holds.

    Args:
      queries, gallery: .npz or .npy files.
      settings: metrics, distance, rules and memory.
      out: directory.
      query_labels, gallery_labels: labels of an .npy file.
      relevance: a relevance of the user's own, the level "given".
      seen_gallery: items that join the gallery at the level "generalised".
      trec: directory for `run.txt` and `qrels.txt`.
      trec_depth: items of each query in `run.txt`.
      mesh: devices; all by default.

    Raises:
      EmbeddingsError: files that cannot be used, or do not fit each other.
      ConfigError: metrics that are not valid, or no closed form of their expected value.
      TrecError: names that do not fit TREC files.
    """
    files = {"queries": queries, "gallery": gallery, "seen_gallery": seen_gallery}
    labels = {"queries": query_labels, "gallery": gallery_labels}
    sides = {side: load(file, labels.get(side)) for side, file in files.items() if file}
    levels = relevance_of(sides["queries"], sides["gallery"], relevance)
    if seen_gallery and "category" not in levels:
        raise EmbeddingsError(f"{seen_gallery}: needs labels in queries and gallery")
    names = chosen(settings, levels, generalised=seen_gallery is not None)
    classes = sides["queries"].labels
    evaluation, nearest = measure(
        sides["queries"],
        sides["gallery"],
        levels,
        names,
        settings,
        seen=sides.get("seen_gallery"),
        classes=None if classes is None else classes.astype(str),
        top=trec_depth if trec else 0,
        mesh=mesh or sharding.make_mesh(),
    )
    entry = {"files": {side: str(file) for side, file in files.items() if file}, **evaluation.entry}
    print(tables.of_evaluation(entry, f"queries {queries}, gallery {gallery}"))
    results.write_files(out, evaluation)
    write_json(out / "results.json", entry)
    print(f"wrote results.json, curves.csv, scores.npz and more into {out}")
    if trec:
        results.write_trec(trec, sides["queries"], sides["gallery"], levels, nearest)
        print(f"wrote run.txt and qrels.txt into {trec}")
    return entry
