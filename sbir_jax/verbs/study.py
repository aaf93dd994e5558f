"""`knn` and `dimensions`: what features are worth, and how small they may be."""

from __future__ import annotations

from pathlib import Path

from sbir_jax.cli import Flag, Given, UsageError, Verb
from sbir_jax.config import resolve
from sbir_jax.overrides import override, stored_config
from sbir_jax.verbs import runs


def knn(given: Given, overrides: list[str]) -> None:
    """Classify images by their nearest neighbours, on backbone features and on embeddings."""
    checkpoint, split = runs.checkpoint(given), runs.split(given)
    if split == "train":
        raise UsageError("--split=train: its images are the neighbours; valid: test, val")
    workdir, run = runs.to_measure(given, overrides)
    from sbir_jax.knn import knn_workdir

    knn_workdir(workdir, run=run, checkpoint=checkpoint, split=split)


def dimensions(given: Given, overrides: list[str]) -> None:
    """Measure how small embeddings may be: prefixes, PCA, int8 and binary codes, other heads."""
    checkpoint, split = runs.checkpoint(given), runs.split(given)
    workdir, run = runs.to_measure(given, overrides)
    others = {}
    for path in (Path(path.strip()) for path in given["also"].split(",") if path.strip()):
        if not (path / "config.json").exists():
            raise UsageError(f"--also={given['also']}: no run in {path} (no config.json)")
        others[path] = resolve(override(stored_config(path), overrides))
    from sbir_jax.dimensions import dimensions_workdir

    dimensions_workdir(workdir, run=run, others=others, checkpoint=checkpoint, split=split)


VERBS = {
    "knn": Verb(
        knn,
        {
            "workdir": Flag("directory of a run; the table goes there (required)"),
            "checkpoint": Flag(runs.CHECKPOINT, default="best"),
            "split": Flag("test or val, whose neighbours are training images", default="test"),
            "config": Flag("config file, where there is no run (--checkpoint=none or pretrained)"),
        },
        {"": "--workdir=runs/quickstart"},
    ),
    "dimensions": Verb(
        dimensions,
        {
            "workdir": Flag("directory of a run; table and figure go there (required)"),
            "also": Flag("A,B,...: more runs: heads of other sizes, Matryoshka training"),
            "checkpoint": Flag(runs.CHECKPOINT, default="best"),
            "split": Flag("test, val or train", default="test"),
            "config": Flag("config file, where there is no run (--checkpoint=none or pretrained)"),
        },
        {"": "--workdir=runs/quickstart"},
    ),
}
