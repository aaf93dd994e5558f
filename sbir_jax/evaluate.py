"""Evaluation of a split: embed every sketch and every photo, rank, score, write down.

`results.json` in the workdir keeps one entry for each evaluation, named `SPLIT/CHECKPOINT`, so
the untrained baseline (`test/none`) stands beside the trained model (`test/best`).
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from tqdm import tqdm

from sbir_jax import __version__, ranking, report, sharding
from sbir_jax.checkpoint import Checkpoints
from sbir_jax.config import ConfigError, RunConfig
from sbir_jax.data.pipeline import prefetch
from sbir_jax.data.source import Dataset, open_dataset
from sbir_jax.models import dual
from sbir_jax.step import make_embed_step

_KS = (1, 5, 10)
_COUNTS = ("queries", "queries_without_relevant", "gallery")
_REPORTED = {
    "category": ("mAP@all", "P@1", "P@10", "recall@1", "recall@5", "recall@10"),
    "instance": ("recall@1", "recall@5", "recall@10", "MRR"),
}
_PICTURE_QUERIES, _PICTURE_TOP, _PICTURE_SIZE = 8, 10, 128


class Evaluator:
    """Embeds and ranks the splits of one dataset with one model, on one mesh."""

    def __init__(self, run: RunConfig, dataset: Dataset, graphdef: nnx.GraphDef, mesh: Mesh):
        self.run, self.dataset, self.mesh = run, dataset, mesh
        self._embed = make_embed_step(graphdef, image_size=run.data.image_size, mesh=mesh)
        # Whole multiples of the devices; the last batch is padded, never dropped.
        self._rows = -(-run.eval.batch_size // mesh.size) * mesh.size

    def check_metric(self) -> None:
        """Checks, before training, that the validation split can choose a best checkpoint.

        Raises:
          ConfigError: `config.eval.metric` cannot be measured on it.
        """
        metric = self.run.eval.metric
        level = metric.split("/")[0]
        queries, gallery = self.relevance("val")[level]
        if not np.isin(queries[queries >= 0], gallery).any():
            raise ConfigError(
                f"config.eval.metric={metric!r}: no sketch of the val split of "
                f"{self.dataset.name!r} has a relevant photo by {level}"
            )

    def relevance(self, split: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """(ids of the sketches, ids of the photos) by category and by instance."""
        sketch, photo = (self.dataset.index(split, side) for side in dual.MODALITIES)
        return {
            "category": (sketch.label, photo.label),
            "instance": (sketch.instance, photo.instance),
        }

    def embed(self, split: str, modality: str, params: Any, model_state: Any) -> np.ndarray:
        """Embeddings of one side of a split, in record order: float32 [N, embed_dim]."""
        images, rows = self.dataset.images(split, modality), self._rows
        starts = range(0, len(images), rows)
        data = self.run.data

        def load(batch: int) -> np.ndarray:
            chosen = np.arange(starts[batch], min(starts[batch] + rows, len(images)))
            loaded = images.load(chosen, size=data.load_size, fit=data.fit)
            return np.pad(loaded, [(0, rows - len(loaded)), (0, 0), (0, 0), (0, 0)])

        parts = []
        bar = tqdm(
            total=len(images),
            desc=f"embedding {modality} images",
            unit="img",
            delay=2,
            leave=False,
            disable=None,
        )
        with bar:
            for start, batch in zip(starts, prefetch(load, 0, len(starts), workers=0), strict=True):
                out = self._embed(params, model_state, self._place(batch), modality)
                parts.append(np.asarray(out)[: len(images) - start])
                bar.update(len(parts[-1]))
        return np.concatenate(parts)

    def rank(self, split: str, sketches: np.ndarray, photos: np.ndarray) -> ranking.Ranking:
        """Ranks the photos of a split for its sketches."""
        return ranking.rank(
            sketches,
            photos,
            self.relevance(split),
            distance=self.run.eval.distance,
            ks=_KS,
            top=_PICTURE_TOP,
            block_mib=self.run.eval.block_mib,
            row_multiple=self.mesh.size,
            place=self._place,
            replicate=lambda x: sharding.put_copy(self.mesh, x),
            progress=lambda blocks: tqdm(
                blocks, desc="ranking", unit="block", delay=2, leave=False, disable=None
            ),
        )

    def validate(self, params: Any, model_state: Any) -> dict[str, float]:
        """Scores of the validation split: {"category/mAP@all": 0.61, ...}."""
        sides = [self.embed("val", side, params, model_state) for side in dual.MODALITIES]
        return _flat(_summaries(self.rank("val", *sides)))

    def _place(self, rows: np.ndarray) -> jax.Array:
        return sharding.put_rows(self.mesh, rows[sharding.local_rows(self.mesh, len(rows))])


def evaluate_workdir(
    workdir: Path, *, checkpoint: str, split: str, run: RunConfig, mesh: Mesh | None = None
) -> dict[str, Any]:
    """Evaluates a checkpoint ("best", "latest", a step, or "none": untrained) on a split.

    Prints a table, adds an entry to `workdir/results.json`, writes `workdir/retrievals_SPLIT.png`
    and returns the entry.

    Raises:
      CheckpointError: there is no such checkpoint, or it is not of this model.
      ConfigError: the split has no sketches or no photos.
      DatasetError: the dataset is missing or damaged.
    """
    workdir, mesh = Path(workdir), mesh or sharding.make_mesh()
    dataset = open_dataset(run.data.name, run.data.dir)
    for side in dual.MODALITIES:
        if not len(dataset.index(split, side)):
            raise ConfigError(f"--split={split}: no {side} in this split of {dataset.name!r}")
    step, params, model_state = _parameters(run, workdir, checkpoint, mesh)
    evaluator = Evaluator(run, dataset, dual.define(run.model), mesh)
    with _stopwatch() as embedding:
        sketches, photos = (
            evaluator.embed(split, side, params, model_state) for side in dual.MODALITIES
        )
    with _stopwatch() as searching:
        ranked = evaluator.rank(split, sketches, photos)
    entry = {
        "dataset": dataset.name,
        "dataset_fingerprint": dataset.fingerprint,
        "split": split,
        "checkpoint": checkpoint,
        "step": step,
        "distance": run.eval.distance,
        "ties": "pessimistic",
        **_summaries(ranked),
        "time": {
            "embed_seconds": embedding["seconds"],
            "images_per_s": (len(sketches) + len(photos)) / embedding["seconds"],
            "rank_seconds": searching["seconds"],
            "queries_per_s": len(sketches) / searching["seconds"],
            "compile_seconds": embedding["compile_seconds"] + searching["compile_seconds"],
        },
        "device": mesh.devices.flat[0].device_kind,
        "devices": mesh.size,
        "sbir_jax": __version__,
    }
    print(_table(entry, len(sketches), len(photos)))
    workdir.mkdir(parents=True, exist_ok=True)
    _store(workdir / "results.json", f"{split}/{checkpoint}", entry)
    picture = workdir / f"retrievals_{split}.png"
    draw_retrievals(evaluator, split, ranked, picture)
    print(f"wrote {workdir / 'results.json'} and {picture}")
    return entry


def draw_retrievals(evaluator: Evaluator, split: str, ranked: ranking.Ranking, path: Path) -> None:
    """Saves a picture: some query sketches, evenly spread over the split, and their top photos."""
    dataset, data = evaluator.dataset, evaluator.run.data
    sketch, photo = (dataset.index(split, side) for side in dual.MODALITIES)
    by_class = np.argsort(sketch.label, kind="stable")
    shown = by_class[
        np.linspace(0, len(by_class) - 1, min(_PICTURE_QUERIES, len(by_class))).astype(int)
    ]
    near = ranked.nearest[shown]
    size = {"size": _PICTURE_SIZE, "fit": data.fit}
    queries = dataset.images(split, "sketch").load(shown, **size)
    results = dataset.images(split, "photo").load(near.ravel(), **size)
    instance = sketch.instance[shown]
    report.retrieval_grid(
        queries[..., 0],
        results.reshape(*near.shape, *results.shape[1:]),
        photo.label[near] == sketch.label[shown][:, None],
        instance=(photo.instance[near] == instance[:, None]) & (instance >= 0)[:, None],
        query_names=[dataset.classes[c] for c in sketch.label[shown]],
        result_names=[[dataset.classes[c] for c in row] for row in photo.label[near]],
        title=f"{dataset.name}, {split}: nearest photos of {len(shown)} sketches",
    ).save(path)


def _parameters(run: RunConfig, workdir: Path, checkpoint: str, mesh: Mesh) -> tuple[int, Any, Any]:
    whole = sharding.replicated(mesh)

    def draw() -> tuple[Any, Any]:
        return dual.build(run.model, dual.init_key(run.seed))[1:]

    if checkpoint == "none":
        return 0, *sharding.put_copy(mesh, draw())
    like = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole), jax.eval_shape(draw)
    )
    with Checkpoints(workdir, metric=run.eval.metric, read_only=True) as checkpoints:
        step = checkpoints.find(checkpoint)
        items = checkpoints.restore(step, {"params": like[0], "model_state": like[1]})
    return step, items["params"], items["model_state"]


def _summaries(ranked: ranking.Ranking) -> dict[str, Any]:
    """Counts and reported metrics of each level that has a query to average over."""
    found = {level: ranking.summarise(scores) for level, scores in ranked.scores.items()}
    return {
        level: {name: found[level][name] for name in (*_COUNTS, *names)}
        for level, names in _REPORTED.items()
        if found[level]["queries"]
    }


def _flat(summaries: dict[str, Any]) -> dict[str, float]:
    return {
        f"{level}/{name}": value["value"]
        for level, summary in summaries.items()
        for name, value in summary.items()
        if isinstance(value, dict)
    }


def _table(entry: dict[str, Any], sketches: int, photos: int) -> str:
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


def _store(path: Path, name: str, entry: dict[str, Any]) -> None:
    results = json.loads(path.read_text()) if path.exists() else {}
    scratch = path.with_suffix(".json.partial")
    scratch.write_text(json.dumps(results | {name: entry}, indent=2) + "\n")
    scratch.replace(path)


_compiling = {"seconds": 0.0}


def _on_duration(event: str, seconds: float, **_details: Any) -> None:
    if event.startswith("/jax/core/compile/"):
        _compiling["seconds"] += seconds


jax.monitoring.register_event_duration_secs_listener(_on_duration)


@contextlib.contextmanager
def _stopwatch() -> Iterator[dict[str, float]]:
    """Fills in `seconds` without compiling, and `compile_seconds`."""
    spent: dict[str, float] = {}
    started, compiled = time.perf_counter(), _compiling["seconds"]
    yield spent
    spent["compile_seconds"] = _compiling["seconds"] - compiled
    whole = time.perf_counter() - started
    spent["seconds"] = max(whole - spent["compile_seconds"], 1e-9)
