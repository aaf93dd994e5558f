"""All that is settled of a run before its first step, and before anything is written.

Training takes its steps by it; a dry run looks at it.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from sbir_jax import device_memory, flops, loss_config, optim, sharding
from sbir_jax.compile import advice, check_fits, compile_ahead
from sbir_jax.config import ConfigError, RunConfig, duration_steps
from sbir_jax.data.pipeline import Feed, make_feed
from sbir_jax.data.source import Dataset, open_dataset
from sbir_jax.dispatch import Dispatches
from sbir_jax.evaluator import Evaluator
from sbir_jax.models import dual
from sbir_jax.optim import everything
from sbir_jax.paths import by_path
from sbir_jax.peak import seconds_at_peak
from sbir_jax.step import TrainState, draw, make_init, make_train_step


@dataclasses.dataclass(frozen=True)
class Plan:
    """One run on one dataset and mesh.

    Attributes:
      run: its settings.
      mesh: the devices.
      dataset: opened.
      feed: of training batches.
      total: steps of the run.
      log_every: steps between two metric lines.
      eval_every: steps between two validations.
      rates: learning rate of each step, float32 [total].
      optimizer: with the paths that it trains.
      graphdef: of the model.
      init: draws a first state.
      like: that state as shapes, where every array is to live.
      evaluator: of the validation split.
      dispatches: which steps are sent to the devices together.
    """

    run: RunConfig
    mesh: Mesh
    dataset: Dataset
    feed: Feed
    total: int
    log_every: int
    eval_every: int
    rates: np.ndarray
    optimizer: optim.Optimizer
    graphdef: nnx.GraphDef
    init: Callable[[], TrainState]
    like: TrainState
    evaluator: Evaluator
    dispatches: Dispatches

    def __str__(self) -> str:
        index = {side: self.dataset.index("train", side) for side in dual.MODALITIES}
        sizes = {side: len(of.label) for side, of in index.items()}
        counts = self.parameters()
        moved = sum(count for path, count in counts.items() if path in self.optimizer.trained)
        devices = f"{self.mesh.size} x {self.mesh.devices.flat[0].device_kind}"
        return (
            f"{self.dataset.name}: {sizes['sketch']:,} sketches, {sizes['photo']:,} photos, "
            f"{len(self.dataset.classes)} classes; {self.feed.words}; "
            f"{moved:,} parameters trained, {sum(counts.values()) - moved:,} frozen; {devices}"
        )

    def parameters(self) -> dict[str, int]:
        """How many numbers each array of the model holds, by path."""
        return {path: math.prod(x.shape) for path, x in by_path(self.like.params).items()}


def opened(run: RunConfig, mesh: Mesh) -> Dataset:
    """The dataset of a run.

    Raises:
      ConfigError: its batches do not divide over the devices.
      DatasetError: the dataset is missing or damaged.
    """
    for name, rows in (
        ("data.batch_size", run.data.batch_size),
        ("train.chunk", run.train.chunk),
    ):
        if rows % mesh.size:
            raise ConfigError(f"config.{name}={rows}: must divide over {mesh.size} devices")
    return open_dataset(run.data.name, run.data.dir)


def make_plan(run: RunConfig, dataset: Dataset, mesh: Mesh) -> Plan:
    """Decodes what stays in memory, and draws nothing.

    Raises:
      ConfigError: settings that cannot work with this dataset.
      DatasetError: an image cannot be read.
    """
    _check_negatives(run, dataset)
    feed = make_feed(dataset, run.data, seed=run.seed, mesh=mesh)
    sizes = {"batch_size": run.data.batch_size, "epoch_size": feed.epoch_size}
    total = duration_steps(run.train.duration, path="train.duration", **sizes)
    every = {
        path: duration_steps(text, path=path, total=total, **sizes)
        for path, text in (
            ("train.log_every", run.train.log_every),
            ("train.eval_every", run.train.eval_every),
            ("optim.warmup", run.optim.warmup),
        )
    }
    eval_every = max(1, every["train.eval_every"])
    dispatches = Dispatches(total, eval_every, run.train.steps_per_dispatch)
    dispatches.check()
    schedule = optim.make_schedule(
        run.optim, warmup_steps=min(every["optim.warmup"], total - 1), total_steps=total
    )
    classes = len(dataset.classes)
    params, _, loss_params = jax.eval_shape(lambda: draw(run, classes=classes))
    optimizer = optim.make_optimizer(run.optim, schedule, everything(params, loss_params))
    graphdef = dual.define(run.model, image_size=run.data.image_size)
    init = make_init(run, optimizer, classes=classes)
    evaluator = Evaluator(run, dataset, graphdef, mesh)
    evaluator.check_metric()
    return Plan(
        run=run,
        mesh=mesh,
        dataset=dataset,
        feed=feed,
        total=total,
        log_every=max(1, every["train.log_every"]),
        eval_every=eval_every,
        # Asked for one by one in the loop, they would wait for the steps in flight.
        rates=np.asarray(jax.vmap(schedule)(np.arange(total))),
        optimizer=optimizer,
        graphdef=graphdef,
        init=init,
        like=sharding.shapes_of(mesh, init, fsdp=run.train.fsdp),
        evaluator=evaluator,
        dispatches=dispatches,
    )


def _check_negatives(run: RunConfig, dataset: Dataset) -> None:
    """Raises ConfigError where one class is all there is: a negative is an image of another."""
    sketch, photo = (dataset.index("train", side) for side in dual.MODALITIES)
    common = np.intersect1d(sketch.label, photo.label)
    if run.loss.match == "class" and len(common) == 1:
        linked = np.isin(sketch.instance, photo.instance[photo.instance >= 0]).sum()
        raise ConfigError(
            f"config.loss.match='class': the training split of {dataset.name!r} has one class with "
            f"sketches and photos, {dataset.classes[common[0]]!r}, so nothing is a negative; use "
            f"'instance' ({linked:,} of its {len(sketch.label):,} sketches name their photo)"
        )


def compiled_step(plan: Plan, batches: dict[str, Any], taken: int) -> tuple[Callable, float, str]:
    """The train step, compiled before the first one, so that the log tells compiling from training.

    Args:
      plan: of the run.
      batches: of one dispatch, [n, B, ...].
      taken: steps of the run that have been; all programs of the others are compiled.

    Returns:
      The steps of a dispatch, as `make_train_step` makes them of stacked batches; the seconds that
      the arithmetic of one step takes at the devices' peak; and a line about them.

    Raises:
      DoesNotFit: the devices have too little memory.
    """
    run, mesh = plan.run, plan.mesh
    sizes = {"batch_size": run.data.batch_size, "epoch_size": plan.feed.epoch_size}
    loss = loss_config.in_steps(run.loss, total=plan.total, **sizes)
    in_steps = dataclasses.replace(run, loss=loss)

    make: Any = functools.partial(
        make_train_step,
        graphdef=plan.graphdef,
        optimizer=plan.optimizer,
        like=plan.like,
        stacked=True,
    )

    def arguments(count: int) -> tuple:
        def stack(x: jax.Array) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct((count, *x.shape[1:]), x.dtype, sharding=x.sharding)

        return plan.like, plan.feed.resident, jax.tree.map(stack, batches)

    step = make(in_steps)
    programs = {n: compile_ahead(step, *arguments(n)) for n in plan.dispatches.sizes(taken)}
    largest, program = next(iter(programs.items()))
    work = program.flops / largest
    if run.train.chunk or run.model.remat != "none":  # what is computed again is not counted
        model = dataclasses.replace(run.model, remat="none")
        train = dataclasses.replace(run.train, chunk=0)
        whole = dataclasses.replace(in_steps, model=model, train=train)
        graphdef = dual.define(model, image_size=run.data.image_size)
        work = flops.of_program(make(whole, graphdef=graphdef).trace(*arguments(1)).jaxpr)
    s_at_peak, peak = seconds_at_peak(work, mesh, run.model.dtype)
    device = mesh.local_devices[0]
    for compiled in programs.values():
        check_fits(compiled.need, device_memory.room(device), advice=advice(run, devices=mesh.size))

    def call(state: TrainState, resident: dict, batches: dict) -> tuple[TrainState, dict]:
        return programs[len(batches["sketch"])].call(state, resident, batches)

    told = [f"{f'{n} steps' if n > 1 else 'the step'}: {of}" for n, of in programs.items()]
    each = " a step" if run.train.steps_per_dispatch > 1 else ""
    return call, s_at_peak, f"{'; '.join(told)}, {work / 1e9:,.1f} GFLOP{each}; peak {peak}"
