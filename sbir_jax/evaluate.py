"""Evaluation of a split: embed every sketch and every photo, then rank and score them all."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from flax import nnx
from jax.sharding import Mesh

from sbir_jax import hosts, results, sharding, tables
from sbir_jax.config import ConfigError, RunConfig
from sbir_jax.data.cache import CachedImages
from sbir_jax.data.decoding import decoded, kept
from sbir_jax.data.images import Modality
from sbir_jax.data.sampling import class_confusion
from sbir_jax.data.source import Dataset, Images, open_dataset
from sbir_jax.embeddings import Embeddings
from sbir_jax.load import as_measured, named, parameters
from sbir_jax.measure import check_metric, chosen, joined, measure, rank_all
from sbir_jax.models import dual
from sbir_jax.protocol import protocol_settings, seen_splits
from sbir_jax.ranking.presets import STANDARD
from sbir_jax.ranking.relevance import Relevance, by_ids
from sbir_jax.ranking.summary import summarise
from sbir_jax.report import retrievals
from sbir_jax.retrieved import DEPTH, Retrieved, over_classes, retrieved, write_retrieved
from sbir_jax.step import make_embed_step
from sbir_jax.stopwatch import stopwatch
from sbir_jax.within_class import WITHIN_CLASS

_PICTURE_QUERIES = 8
# A sketch is confused if one of so many nearest photos is of another class.
_CONFUSED_AMONG = 10


class Validation(NamedTuple):
    """Of the validation split.

    Attributes:
      scores: {"category/mAP@all": 0.61, ...}.
      confusion: of `sampling.class_confusion`, int32 [C, C], if the sampler learns from it.
      found: the ten nearest photos of each sketch.
    """

    scores: dict[str, float]
    confusion: np.ndarray | None
    found: Retrieved


class Evaluator:
    """Embeds and ranks the splits of one dataset with one model, on one mesh."""

    def __init__(self, run: RunConfig, dataset: Dataset, graphdef: nnx.GraphDef, mesh: Mesh):
        self.run, self.dataset, self.mesh = run, dataset, mesh
        self._opened: dict[tuple[str, str], Images | CachedImages] = {}
        self._embed = make_embed_step(graphdef, image_size=run.data.image_size, mesh=mesh)
        # Whole multiples of the devices; the last batch is padded, never dropped.
        self._rows = -(-run.eval.batch_size // mesh.size) * mesh.size

    def check_metric(self) -> None:
        """Checks, before training, that the validation split can choose a best checkpoint.

        Raises:
          ConfigError: `config.eval.metric` cannot be measured on it.
        """
        check_metric(self.run.eval)
        metric = self.run.eval.metric
        level = metric.partition("/")[0]
        if level not in self.relevance("val"):
            raise ConfigError(
                f"config.eval.metric={metric!r}: no sketch of the val split of "
                f"{self.dataset.name!r} has a relevant photo by {level}"
            )

    def relevance(self, split: str) -> dict[str, Relevance]:
        """By category and by instance, each if any sketch has a relevant photo."""
        sketch, photo = (self.dataset.index(split, side) for side in dual.MODALITIES)
        levels = {
            "category": by_ids(sketch.label, photo.label),
            "instance": by_ids(sketch.instance, photo.instance),
        }
        return {level: of for level, of in levels.items() if of.counts.any()}

    def embed(self, split: str, modality: Modality, params: Any, model_state: Any) -> Embeddings:
        """Embeddings of one side of a split, in record order, with labels and instances."""
        images, doing = self._images(split, modality), f"embedding {modality} images"
        own = sharding.local_rows(self.mesh, self._rows)  # every process decodes its own
        parts = []
        for part in decoded(images, self.run.data, rows=self._rows, doing=doing, own=own):
            missing = own.stop - own.start - len(part)
            batch = np.pad(part, [(0, missing), (0, 0), (0, 0), (0, 0)])
            batch = sharding.put_rows(self.mesh, batch)
            parts.append(np.asarray(self._embed(params, model_state, batch, modality)))
        index = self.dataset.index(split, modality)
        vectors = np.concatenate(parts)[: len(images)]
        return Embeddings(vectors, index.label, index.instance, None)

    def validate(self, params: Any, model_state: Any) -> Validation:
        """Scores of the validation split, its confusion, and what was nearest.

        The standard metrics and the one that chooses the best checkpoint; no intervals, no curves.
        The confusion is that of `sampling.class_confusion`, if the sampler learns from it.
        """
        sketches, photos = (
            self.embed("val", side, params, model_state) for side in dual.MODALITIES
        )
        levels = self.relevance("val")
        level, _, name = self.run.eval.metric.partition("/")
        asked = {of: dict.fromkeys(STANDARD[of]) for of in levels}
        asked[level][name] = None
        names = {of: tuple(wanted) for of, wanted in asked.items()}
        learns = self.run.data.sampler == "confusable"
        ranked = rank_all(
            sketches,
            photos,
            levels,
            names,
            self.run.eval,
            top=_CONFUSED_AMONG,
            mesh=self.mesh,
        )
        rule = self.run.eval.no_relevant
        scores = {
            f"{level}/{name}": found["value"]
            for level, of in ranked.scores.items()
            for name, found in summarise(of, no_relevant=rule, resamples=0).items()
            if isinstance(found, dict)
        }
        values = hosts.as_first_has_it(np.array(list(scores.values()), np.float64))
        scores = dict(zip(scores, values.tolist(), strict=True))
        found = retrieved(sketches, photos, ranked.nearest, self.dataset.classes)
        if not learns:
            return Validation(scores, None, found)
        confusion = class_confusion(
            ranked.nearest,
            found.query_labels,
            found.gallery_labels,
            classes=len(self.dataset.classes),
        )
        return Validation(scores, hosts.as_first_has_it(confusion), found)

    def _images(self, split: str, modality: Modality) -> Images | CachedImages:
        if (split, modality) not in self._opened:  # a cache is checked once, not every validation
            images, _ = kept(self.dataset, split, modality, self.run.data)
            self._opened[split, modality] = images
        return self._opened[split, modality]


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
