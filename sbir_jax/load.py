"""The model that a checkpoint names: trained here, untrained, or published weights alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from sbir_jax import sharding
from sbir_jax.checkpoint import restore_from
from sbir_jax.config import ConfigError, RunConfig
from sbir_jax.ema import Average
from sbir_jax.models import dual
from sbir_jax.models.weights import load as load_weights
from sbir_jax.models.weights import place
from sbir_jax.optim import trained_paths
from sbir_jax.paths import by_path, pick


def as_measured(run: RunConfig, checkpoint: str) -> RunConfig:
    """The settings of a checkpoint's model: of "pretrained", the published backbone alone.

    Then embeddings are its pooled features, and one tower does both sides.

    Raises:
      ConfigError: the run names no published weights.
    """
    if checkpoint != "pretrained":
        return run
    if not run.model.weights:
        raise ConfigError(
            "config.model.weights='': --checkpoint=pretrained needs published weights"
        )
    features = dual.model_spec(run.model, run.data.image_size).features
    model = dataclasses.replace(
        run.model, towers="shared", head="none", embed_dim=features, prompts=0, lora_rank=0
    )
    return dataclasses.replace(run, model=model)


def named(run: RunConfig, checkpoint: str, step: int) -> str:
    """What a checkpoint is, in words, for titles."""
    average = ", moving average" if run.optim.ema else ""
    words = {"none": "untrained", "pretrained": "published weights, no training here"}
    return words.get(checkpoint, f"checkpoint of step {step} ({checkpoint}){average}")


def parameters(run: RunConfig, workdir: Path, checkpoint: str, mesh: Mesh) -> tuple[int, Any, Any]:
    """(step, params, model_state) of a checkpoint, with `run` as `as_measured` gives it.

    Raises:
      CheckpointError: there is no such checkpoint, or it is not of this model.
      WeightsError: published weights that cannot be read, or are not of this backbone.
    """

    def draw() -> tuple[Any, Any]:
        key, size = dual.init_key(run.seed), run.data.image_size
        return dual.build(run.model, key, image_size=size)[1:]

    if checkpoint == "none":
        return 0, *sharding.put_copy(mesh, draw())
    if checkpoint == "pretrained":
        weights = load_weights(run.model.weights, run.model.backbone)
        return 0, *sharding.put_copy(mesh, place(weights, *jax.eval_shape(draw)))
    return load_model(run, workdir, checkpoint, *sharding.shapes_of(mesh, draw))


def load_model(
    run: RunConfig, workdir: Path, which: str, params: Any, model_state: Any
) -> tuple[int, Any, Any]:
    """The model of a checkpoint as it is evaluated: of a run with `optim.ema`, the average.

    Args:
      run: of the workdir.
      workdir: where the run is.
      which: best, latest or a step.
      params, model_state: what they are like: shapes, dtypes and shardings.

    Returns:
      (step, params, model_state).

    Raises:
      CheckpointError: there is no such checkpoint, or it is of another model.
    """
    wanted = {"params": params, "model_state": model_state}
    if run.optim.ema:
        moved = trained_paths(run.optim, by_path(params))
        wanted = {"params": params, "ema": Average(pick(params, moved), model_state)}
    step, items = restore_from(workdir, which, wanted, metric=run.eval.metric)
    if run.optim.ema:
        return step, *items["ema"].model(items["params"])
    return step, items["params"], items["model_state"]
