"""Evaluation of a checkpoint on a split: what is measured, in order, and what is left of it."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
from jax.sharding import Mesh

from sbir_jax import results, sharding, tables
from sbir_jax.config import ConfigError, RunConfig
from sbir_jax.data.source import open_dataset
from sbir_jax.evaluator import Evaluator
from sbir_jax.load import as_measured, named, parameters
from sbir_jax.measure import chosen, joined, measure
from sbir_jax.models import dual
from sbir_jax.protocol import protocol_settings, seen_splits
from sbir_jax.report import retrievals
from sbir_jax.retrieved import DEPTH, over_classes, retrieved, write_retrieved
from sbir_jax.stopwatch import stopwatch
from sbir_jax.within_class import WITHIN_CLASS

_PICTURE_QUERIES = 8


def evaluate_workdir(
    workdir: Path,
    *,
    checkpoint: str,
    split: str,
    run: RunConfig,
    elsewhere: str = "",
    protocol: str = "",
    generalised: bool = False,
    trec: Path | None = None,
    trec_depth: int = 1000,
    quiet: bool = False,
    mesh: Mesh | None = None,
) -> dict[str, Any]:
    """Evaluates a checkpoint on a split.

    Prints a table, adds an entry to `workdir/results.json`, writes `per_class.csv`, `curves.csv`,
    `scores.npz`, `retrieved.npz` and a picture of some retrievals into
    `workdir/evaluation/SPLIT_CHECKPOINT`, and returns the entry.

    Args:
      workdir: of the run.
      checkpoint: which parameters: "best", "latest", a step, "none" (untrained) or "pretrained"
        (the published backbone alone).
      split: which images.
      run: its settings.
      elsewhere: name of another prepared dataset to measure on; what is written is named after it.
      protocol: name of the published protocol that the dataset has to follow; its metrics are
        reported, besides those that the settings ask for.
      generalised: also rank the photos of the split and those of the training split together (and
        of the validation split, where a protocol holds its classes out of the seen ones).
      trec: directory for `run.txt` and `qrels.txt`.
      trec_depth: photos of each sketch in `run.txt`.
      quiet: print nothing.
      mesh: devices; all by default.

    Raises:
      CheckpointError: there is no such checkpoint, or it is not of this model.
      ConfigError: the split has no sketches or no photos, or metrics that are not valid.
      DatasetError: the dataset is missing or damaged.
      WeightsError: published weights that are missing, or not of this backbone.
    """
    workdir, mesh, run = Path(workdir), mesh or sharding.make_mesh(), as_measured(run, checkpoint)
    dataset = open_dataset(elsewhere or run.data.name, run.data.dir)
    run = protocol_settings(run, dataset, protocol)
    for side in dual.MODALITIES:
        if not len(dataset.index(split, side)):
            raise ConfigError(f"--split={split}: no {side} in this split of {dataset.name!r}")
    evaluator = Evaluator(
        run, dataset, dual.define(run.model, image_size=run.data.image_size), mesh
    )
    levels = evaluator.relevance(split)
    if "instance" in levels and dataset.protocol and dataset.protocol["within_class"]:
        levels[WITHIN_CLASS] = levels["instance"]
    if not levels:
        raise ConfigError(f"--split={split}: no sketch of {dataset.name!r} has a relevant photo")
    names = chosen(run.eval, levels, generalised=generalised)
    step, params, model_state = parameters(run, workdir, checkpoint, mesh)
    with stopwatch() as embedding:
        wanted = [(split, side) for side in dual.MODALITIES]
        wanted += [(of, "photo") for of in seen_splits(dataset, split) if generalised]
        sketches, photos, *seen = (
            evaluator.embed(*images, params, model_state) for images in wanted
        )
    evaluation, nearest = measure(
        sketches,
        photos,
        levels,
        names,
        run.eval,
        seen=functools.reduce(joined, seen) if seen else None,
        classes=np.array(dataset.classes)[sketches.labels],
        source=f"{dataset.fingerprint} {split}",
        top=max(DEPTH, trec_depth if trec else 0),
        mesh=mesh,
    )
    images = sum(len(of.vectors) for of in (sketches, photos, *seen))
    times = evaluation.entry["time"]
    entry = {
        "dataset": dataset.name,
        "dataset_fingerprint": dataset.fingerprint,
        **({"protocol": dataset.protocol} if dataset.protocol else {}),
        "split": split,
        "checkpoint": checkpoint,
        "step": step,
        **evaluation.entry,
        "time": {
            "embed_seconds": embedding["seconds"],
            "images_per_s": images / embedding["seconds"],
            **times,
            "compile_seconds": embedding["compile_seconds"] + times["compile_seconds"],
        },
    }
    title = f"{dataset.name}, {split} split, {named(run, checkpoint, step)}"
    say = (lambda text: None) if quiet else print
    say(tables.of_evaluation(entry, title))
    if dataset.protocol:
        rule = f" by {run.eval.metric} of the val split" if checkpoint == "best" else ""
        say(tables.of_protocol(entry, checkpoint=f"checkpoint {checkpoint}{rule}"))
    if "instance" not in levels:
        say("no sketch is linked to a photo of this split: no instance retrieval")
    place = f"{elsewhere}_{split}" if elsewhere else split
    folder = results.folder_of(workdir, place, checkpoint)
    results.write_files(folder, evaluation)
    found = retrieved(sketches, photos, nearest, dataset.classes)
    write_retrieved(folder / "retrieved.npz", found)
    shown = over_classes(found.query_labels, _PICTURE_QUERIES)
    headline = f"{dataset.name}, {split}: nearest photos of {len(shown)} sketches"
    picture = retrievals.picture(dataset, split, found, shown, fit=run.data.fit, title=headline)
    picture.save(folder / "retrievals.png")
    stored = results.add_entry(workdir, entry, name=f"{place}/{checkpoint}")
    say(f"wrote {stored} and the files of this evaluation into {folder}")
    if trec:
        results.write_trec(trec, sketches, photos, levels, nearest[:, :trec_depth])
        say(f"wrote run.txt and qrels.txt into {trec}")
    return entry
