"""Where a run starts: its own checkpoint, another run's best, published weights, or scratch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sbir_jax import hosts, sharding
from sbir_jax.checkpoint import Checkpoints
from sbir_jax.checkpoint_errors import CheckpointDamaged
from sbir_jax.config import ConfigError, RunConfig, resolve
from sbir_jax.data.pipeline import Feed
from sbir_jax.ema import Average
from sbir_jax.load import load_model
from sbir_jax.models.weights import load as load_weights
from sbir_jax.models.weights import place
from sbir_jax.overrides import stored_config
from sbir_jax.paths import pick
from sbir_jax.step import TrainState
from sbir_jax.workdir import write_json


def start_or_resume(
    run: RunConfig,
    workdir: Path,
    checkpoints: Checkpoints,
    init: Callable[[], TrainState],
    like: TrainState,
    feed: Feed,
) -> tuple[TrainState, Feed, int, str]:
    """The resume ladder: own checkpoint, `train.init_from`, `model.weights`, scratch.

    Args:
      init: draws a first state, as `step.make_init` gives it.
      like: that state as shapes, where every array is to live.

    Returns:
      The state, the feed as its sampler knew the data then, the step, and one line saying which
      rung it was.

    Raises:
      ConfigError: `train.init_from` names no run.
      CheckpointError: a checkpoint is missing or does not fit.
      WeightsError: published weights are missing or do not fit.
    """
    if checkpoints.steps():
        return _continue(workdir, checkpoints, like, feed)
    state, origin, about = first_state(run, init, like)
    if about and hosts.is_first():
        write_json(workdir / "weights.json", about)
    return state, feed, 0, origin


def first_state(
    run: RunConfig, init: Callable[[], TrainState], like: TrainState
) -> tuple[TrainState, str, dict[str, Any]]:
    """The lower rungs of the ladder: the state, which rung, and what `weights.json` will say.

    Raises:
      ConfigError, CheckpointError, WeightsError: as `start_or_resume`.
    """
    state = sharding.put_like(like, init())
    if run.train.init_from:
        return *_start_from(run, state, like), {}
    if run.model.weights:
        return _start_pretrained(run, state, like)
    return state, f"starting from scratch, seed {run.seed}", {}


def items_of(state: TrainState, feed: Feed) -> dict[str, Any]:
    """What a checkpoint holds of a run, by the names it is stored under."""
    return {
        "params": state.params,
        "model_state": state.model_state,
        "loss_params": state.loss_params,
        "opt_state": state.opt_state,
        "memory": state.memory,
        "ema": state.ema,
        "sampler": feed.learnt,
    }


def _continue(
    workdir: Path, checkpoints: Checkpoints, like: TrainState, feed: Feed
) -> tuple[TrainState, Feed, int, str]:
    """From the latest checkpoint; of damaged ones, from the one before, which a run keeps as its
    best. All that follows from a step is a function of it, so the run ends the same."""
    words = "".join(f"warning: {moved}. " for moved in checkpoints.moved)
    while True:
        start = checkpoints.find("latest")
        try:
            state, feed = _restore(checkpoints, start, like, feed)
        except CheckpointDamaged as error:
            if len(checkpoints.steps()) < 2:
                raise
            words += f"warning: {error}; moved to {checkpoints.set_aside(start)}. "
            continue
        return state, feed, start, f"{words}continuing from step {start} of {workdir}"


def _restore(
    checkpoints: Checkpoints, step: int, like: TrainState, feed: Feed
) -> tuple[TrainState, Feed]:
    items = checkpoints.restore(step, items_of(like, feed))
    if learnt := items.pop("sampler"):
        feed = feed.taught(**learnt)
    return TrainState(jax.device_put(np.int32(step), like.step.sharding), **items), feed


def _start_from(run: RunConfig, state: TrainState, like: TrainState) -> tuple[TrainState, str]:
    source = Path(run.train.init_from)
    if not (source / "config.json").exists():
        raise ConfigError(f"config.train.init_from={str(source)!r}: no run there (no config.json)")
    theirs = resolve(stored_config(source))
    step, params, model_state = load_model(theirs, source, "best", like.params, like.model_state)
    return _started(state, params, model_state), f"starting from step {step} of {source}"


def _start_pretrained(
    run: RunConfig, state: TrainState, like: TrainState
) -> tuple[TrainState, str, dict[str, Any]]:
    weights = load_weights(run.model.weights, run.model.backbone)
    params, model_state = place(weights, state.params, state.model_state)
    return (
        _started(state, *sharding.put_like((like.params, like.model_state), (params, model_state))),
        f"starting from published weights: {weights.arch} of {weights.source}, licence "
        f"{weights.licence}",
        weights.about(),
    )


def _started(state: TrainState, params: Any, model_state: Any) -> TrainState:
    """A first state with another model in it; a moving average starts there too."""
    average = state.ema
    if average:  # copies: the step could not be given one array twice
        average = Average(pick(params, average.params), model_state)
        average = jax.tree.map(jnp.copy, average)
    return dataclasses.replace(state, params=params, model_state=model_state, ema=average)
