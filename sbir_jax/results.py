"""What an evaluation leaves behind: the table, `results.json` and a picture of retrievals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sbir_jax import ranking, report
from sbir_jax.data.source import Dataset
from sbir_jax.models import dual
from sbir_jax.workdir import write_json

_COUNTS = ("queries", "queries_without_relevant", "gallery")
_REPORTED = {
    "category": ("mAP@all", "P@1", "P@10", "recall@1", "recall@5", "recall@10"),
    "instance": ("recall@1", "recall@5", "recall@10", "MRR"),
}
_PICTURE_QUERIES, _PICTURE_SIZE = 8, 128


def summaries(ranked: ranking.Ranking) -> dict[str, Any]:
    """Counts and reported metrics of each level that has a query to average over."""
    found = {level: ranking.summarise(scores) for level, scores in ranked.scores.items()}
    return {
        level: {name: found[level][name] for name in (*_COUNTS, *names)}
        for level, names in _REPORTED.items()
        if found[level]["queries"]
    }


def values(found: dict[str, Any]) -> dict[str, float]:
    """The bare values of `summaries`: {"category/mAP@all": 0.61, ...}."""
    return {
        f"{level}/{name}": value["value"]
        for level, summary in found.items()
        for name, value in summary.items()
        if isinstance(value, dict)
    }


def table(entry: dict[str, Any], *, sketches: int, photos: int) -> str:
    """What the console shows of an entry: each metric beside its chance level."""
    named = f"step {entry['step']} ({entry['checkpoint']})"
    trained = "untrained" if entry["checkpoint"] == "none" else f"checkpoint of {named}"
    lines = [
        f"{entry['dataset']}, {entry['split']} split, {trained}: "
        f"{sketches:,} query sketches, {photos:,} gallery photos",
        f"{'':<22}{'value':>8}{'chance':>9}",
    ]
    for level in ("category", "instance"):
        summary = entry.get(level, {})
        lines += [
            f"{level + ' ' + name:<22}{value['value']:>8.4f}{value['chance']:>9.4f}"
            for name, value in summary.items()
            if isinstance(value, dict)
        ]
        if missing := summary.get("queries_without_relevant"):
            lines.append(f"  ({missing:,} sketches without a relevant photo are left out)")
    if "instance" not in entry:
        lines.append("no sketch is linked to a photo of this split: no instance retrieval")
    spent = entry["time"]
    lines.append(
        f"embedded at {spent['images_per_s']:,.0f} images/s, ranked at "
        f"{spent['queries_per_s']:,.0f} queries/s (compiling took {spent['compile_seconds']:.1f} s)"
    )
    return "\n".join(lines)


def store(workdir: Path, entry: dict[str, Any]) -> Path:
    """Adds an entry to `workdir/results.json` and returns its path.

    Entries are named SPLIT/CHECKPOINT, so the untrained baseline (`test/none`) stands beside the
    trained model (`test/best`).
    """
    path = workdir / "results.json"
    entries = json.loads(path.read_text()) if path.exists() else {}
    entries[f"{entry['split']}/{entry['checkpoint']}"] = entry
    write_json(path, entries)
    return path


def draw_retrievals(
    dataset: Dataset, split: str, ranked: ranking.Ranking, *, fit: str
) -> Image.Image:
    """A picture: some query sketches, evenly spread over the classes, and their nearest photos."""
    sketch, photo = (dataset.index(split, side) for side in dual.MODALITIES)
    by_class = np.argsort(sketch.label, kind="stable")
    shown = by_class[
        np.linspace(0, len(by_class) - 1, min(_PICTURE_QUERIES, len(by_class))).astype(int)
    ]
    near = ranked.nearest[shown]
    size = {"size": _PICTURE_SIZE, "fit": fit}
    queries = dataset.images(split, "sketch").load(shown, **size)
    photos = dataset.images(split, "photo").load(near.ravel(), **size)
    instance = sketch.instance[shown]
    return report.retrieval_grid(
        queries[..., 0],
        photos.reshape(*near.shape, *photos.shape[1:]),
        photo.label[near] == sketch.label[shown][:, None],
        instance=(photo.instance[near] == instance[:, None]) & (instance >= 0)[:, None],
        query_names=[dataset.classes[c] for c in sketch.label[shown]],
        result_names=[[dataset.classes[c] for c in row] for row in photo.label[near]],
        title=f"{dataset.name}, {split}: nearest photos of {len(shown)} sketches",
    )
