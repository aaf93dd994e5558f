"""k-nearest neighbours in a feature space: what a backbone knows, before and after training.

Test images are classified by the labels of their nearest training images. Features are the
backbone's, pooled and before the head, or the embeddings; the same network untrained says how much
is owed to training.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jax.sharding import Mesh

from sbir_jax import sharding
from sbir_jax.config import ConfigError, RunConfig
from sbir_jax.data.source import Dataset, open_dataset
from sbir_jax.evaluator import Evaluator
from sbir_jax.load import as_measured, named, parameters
from sbir_jax.models import dual
from sbir_jax.ranking.expected import by_chance
from sbir_jax.ranking.rank import rank
from sbir_jax.ranking.relevance import by_ids
from sbir_jax.workdir import write_json

KS = (1, 5, 10)


def classify(neighbours: np.ndarray, k: int) -> np.ndarray:
    """The class that most of the k nearest have; of classes with as many, the nearest one's.

    Args:
      neighbours: int [Q, at least k], labels by rank, nearest first.
      k: from 1.

    Returns:
      int [Q].
    """
    nearest = neighbours[:, :k]
    votes = (nearest[:, :, None] == nearest[:, None, :]).sum(axis=2)  # [Q, k], of each one's class
    return np.take_along_axis(nearest, votes.argmax(axis=1)[:, None], axis=1)[:, 0]


def knn_workdir(
    workdir: Path,
    *,
    run: RunConfig,
    checkpoint: str,
    split: str = "test",
    mesh: Mesh | None = None,
) -> list[dict[str, Any]]:
    """Classifies a split by its neighbours in the training split; prints a table.

    Writes `workdir/knn_SPLIT_CHECKPOINT.json`. Distance is cosine, queries of either side meet
    training images of either side.

    Returns:
      A row for each kind of features (backbone, embedding) and each two sides: accuracies by k;
      "largest", that of always naming the class which most of those training images have; mAP@all
      of ranking them by class, and its chance level.

    Raises:
      ConfigError: no class of the split is among the training images.
      CheckpointError, DatasetError, WeightsError: as `evaluate_workdir` does.
    """
    mesh, run = mesh or sharding.make_mesh(), as_measured(run, checkpoint)
    dataset = open_dataset(run.data.name, run.data.dir)
    _check_classes(dataset, split)
    step, *state = parameters(run, workdir, checkpoint, mesh)
    # Where photos search photos, the sketch side holds photos too.
    words = {"sketch": "sketch" if dataset.channels["sketch"] == 1 else "query", "photo": "photo"}
    rows = []
    for features in ("backbone", "embedding"):
        graphdef = dual.define(
            run.model, image_size=run.data.image_size, headless=features == "backbone"
        )
        evaluator = Evaluator(run, dataset, graphdef, mesh)
        vectors = {
            (part, side): evaluator.embed(part, side, *state).vectors
            for part in (split, "train")
            for side in dual.MODALITIES
        }
        for query, among in itertools.product(dual.MODALITIES, repeat=2):
            asked, seen = vectors[split, query], vectors["train", among]
            labels = dataset.index(split, query).label, dataset.index("train", among).label
            found = _scores(asked, seen, *labels, mesh)
            rows.append(
                {"features": features, "query": words[query], "among": words[among], **found}
            )
    title = f"{dataset.name}, {split} split classified by the training images, "
    title += named(run, checkpoint, step)
    print(_table(rows, title))
    path = workdir / f"knn_{split}_{checkpoint}.json"
    workdir.mkdir(parents=True, exist_ok=True)
    write_json(path, {"title": title, "rows": rows})
    print(f"wrote {path}")
    return rows


def _scores(
    queries: np.ndarray,
    gallery: np.ndarray,
    query_labels: np.ndarray,
    gallery_labels: np.ndarray,
    mesh: Mesh,
) -> dict[str, float]:
    relevance = {"category": by_ids(query_labels, gallery_labels)}
    asked = {"category": ("mAP@all",)}
    top = min(max(KS), len(gallery))
    ranked = rank(queries, gallery, relevance, asked, distance="cosine", top=top, mesh=mesh)
    neighbours = gallery_labels[ranked.nearest]
    scores = {
        f"{k}-NN": float((classify(neighbours, k) == query_labels).mean()) for k in KS if k <= top
    }
    largest = np.bincount(gallery_labels).argmax()
    found = ranked.scores["category"]
    by_luck = by_chance(found.relevant, found.gallery_size, ["mAP@all"])["mAP@all"]
    assert by_luck is not None  # mAP@all has a closed form
    return {
        **scores,
        "largest": float((query_labels == largest).mean()),
        "mAP@all": float(found.metrics["mAP@all"].mean()),
        "chance": float(by_luck.mean()),
    }


def _check_classes(dataset: Dataset, split: str) -> None:
    sides = [(part, side) for part in (split, "train") for side in dual.MODALITIES]
    for part, side in sides:
        if not len(dataset.index(part, side)):
            raise ConfigError(f"--split={split}: no {side} in the {part} split of {dataset.name!r}")
    seen = {c for part, side in sides[2:] for c in dataset.index(part, side).label}
    asked = {c for part, side in sides[:2] for c in dataset.index(part, side).label}
    if not asked <= seen or len(seen) < 2:
        raise ConfigError(
            f"--split={split}: {len(asked - seen)} of its classes are not among the training "
            f"images of {dataset.name!r}, so neighbours there cannot name them"
        )


def _table(rows: Sequence[dict[str, Any]], title: str) -> str:
    names = [name for name in rows[0] if name not in ("features", "query", "among")]
    lines = [title, f"{'':<34}" + "".join(f"{name:>9}" for name in names)]
    for row in rows:
        what = f"{row['features']}, {row['query']} to {row['among']}"
        lines.append(f"  {what:<32}" + "".join(f"{row[name]:>9.4f}" for name in names))
    return "\n".join(lines)
