"""Evaluation of a split: embed every sketch and every photo, then rank and score them all."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from tqdm import tqdm

from sbir_jax import __version__, ranking, results, sharding
from sbir_jax.checkpoint import restore_from
from sbir_jax.config import ConfigError, RunConfig
from sbir_jax.data.pipeline import decoded
from sbir_jax.data.source import Dataset, open_dataset
from sbir_jax.models import dual
from sbir_jax.step import make_embed_step

_KS = (1, 5, 10)
_TOP = 10  # nearest photos kept of each query, for the picture


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
        images, doing = self.dataset.images(split, modality), f"embedding {modality} images"
        parts = []
        for part in decoded(images, self.run.data, rows=self._rows, doing=doing):
            batch = np.pad(part, [(0, self._rows - len(part)), (0, 0), (0, 0), (0, 0)])
            out = self._embed(params, model_state, self._place(batch), modality)
            parts.append(np.asarray(out)[: len(part)])
        return np.concatenate(parts)

    def rank(self, split: str, sketches: np.ndarray, photos: np.ndarray) -> ranking.Ranking:
        """Ranks the photos of a split for its sketches."""
        return ranking.rank(
            sketches,
            photos,
            self.relevance(split),
            distance=self.run.eval.distance,
            ks=_KS,
            top=_TOP,
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
        return results.values(results.summaries(self.rank("val", *sides)))

    def _place(self, rows: np.ndarray) -> jax.Array:
        return sharding.put_rows(self.mesh, rows[sharding.local_rows(self.mesh, len(rows))])


def evaluate_workdir(
    workdir: Path, *, checkpoint: str, split: str, run: RunConfig, mesh: Mesh | None = None
) -> dict[str, Any]:
    """Evaluates a checkpoint ("best", "latest", a step, or "none": untrained) on a split.

    Prints a table, adds an entry to `workdir/results.json`, saves a picture of some retrievals as
    `workdir/retrievals_SPLIT_CHECKPOINT.png` and returns the entry.

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
        **results.summaries(ranked),
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
    print(results.table(entry, sketches=len(sketches), photos=len(photos)))
    workdir.mkdir(parents=True, exist_ok=True)
    stored = results.store(workdir, entry)
    picture = workdir / f"retrievals_{split}_{checkpoint}.png"
    results.draw_retrievals(dataset, split, ranked, fit=run.data.fit).save(picture)
    print(f"wrote {stored} and {picture}")
    return entry


def _parameters(run: RunConfig, workdir: Path, checkpoint: str, mesh: Mesh) -> tuple[int, Any, Any]:
    def draw() -> tuple[Any, Any]:
        return dual.build(run.model, dual.init_key(run.seed))[1:]

    if checkpoint == "none":
        return 0, *sharding.put_copy(mesh, draw())
    params, model_state = sharding.shapes_of(mesh, draw)
    like = {"params": params, "model_state": model_state}
    step, items = restore_from(workdir, checkpoint, like, metric=run.eval.metric)
    return step, items["params"], items["model_state"]


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
