"""Training: the order of operations, and nothing else.

A workdir holds all of a run: `config.json`, `dataset.json`, `metrics.jsonl`, `tensorboard/`,
`checkpoints/`, `environment.json`, `weights.json` (which published weights it started from, if
any), and what evaluation adds. Started again, a run continues from its latest checkpoint
and ends with the same numbers as if it had never stopped, since batch and randomness depend on
(seed, step).
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental.multihost_utils import reached_preemption_sync_point
from jax.sharding import Mesh

from sbir_jax import device_memory, health, hosts, loss_config, optim, sharding
from sbir_jax.checkpoint import Checkpoints
from sbir_jax.compile import advice, check_fits, compile_ahead, explained, flops
from sbir_jax.config import ConfigError, RunConfig, duration_steps
from sbir_jax.data.pipeline import Feed, make_feed
from sbir_jax.data.source import Dataset, open_dataset
from sbir_jax.diverged import dump_batch
from sbir_jax.environment import remember_start
from sbir_jax.evaluate import Evaluator
from sbir_jax.interrupt import Interrupts
from sbir_jax.lock import only_run_in
from sbir_jax.models import dual
from sbir_jax.optim import everything
from sbir_jax.paths import by_path
from sbir_jax.peak import seconds_at_peak
from sbir_jax.profile import Profile, Span, check_span
from sbir_jax.start import items_of, start_or_resume
from sbir_jax.step import draw, make_init, make_train_step
from sbir_jax.workdir import check_same_run, remember_run
from sbir_jax.writer import MetricWriter

# Validation metrics on the console; all of them are in the files.
_HEADLINE = ("category/mAP@all", "category/P@1", "instance/acc@10")
_IN_FLIGHT = 2  # steps sent to the device before their loss is looked at


class TrainingDiverged(RuntimeError):
    """The loss stopped being finite; the message names the step and what usually helps."""


def train(
    run: RunConfig, workdir: Path, *, mesh: Mesh | None = None, profile: Span | None = None
) -> dict[str, Any]:
    """Trains `run` in `workdir`, or continues it there; returns a summary of the run.

    `profile`: the first and last step to trace.

    Raises:
      ConfigError: settings that cannot work with this dataset, these devices or this workdir.
      DatasetError: the dataset is missing or damaged.
      CheckpointError: a checkpoint to start from is missing or does not fit.
      WeightsError: published weights to start from are missing or do not fit.
      DoesNotFit: the devices have too little memory.
      TrainingDiverged: a loss was not finite; nothing of that step is saved but its batch.
      WorkdirInUse: another process trains in `workdir`.
      Stopped: SIGTERM or Ctrl-C; the step it came at is saved.
    """
    mesh = mesh or sharding.make_mesh()
    with explained(advice(run, devices=mesh.size)):
        return _train(run, workdir, mesh, profile)


def _train(run: RunConfig, workdir: Path, mesh: Mesh, profile: Span | None) -> dict[str, Any]:
    for name, rows in (
        ("data.batch_size", run.data.batch_size),
        ("train.chunk", run.train.chunk),
    ):
        if rows % mesh.size:
            raise ConfigError(f"config.{name}={rows}: must divide over {mesh.size} devices")
    dataset = open_dataset(run.data.name, run.data.dir)
    check_same_run(run, dataset, workdir)
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
    loss = loss_config.in_steps(run.loss, total=total, **sizes)
    in_steps = dataclasses.replace(run, loss=loss)
    log_every, eval_every = (max(1, every[f"train.{name}"]) for name in ("log_every", "eval_every"))
    schedule = optim.make_schedule(
        run.optim, warmup_steps=min(every["optim.warmup"], total - 1), total_steps=total
    )
    # Asked for one by one in the loop, they would wait for the steps in flight.
    rates = np.asarray(jax.vmap(schedule)(np.arange(total)))
    classes = len(dataset.classes)
    params, _, loss_params = jax.eval_shape(lambda: draw(run, classes=classes))
    optimizer = optim.make_optimizer(run.optim, schedule, everything(params, loss_params))
    graphdef = dual.define(run.model, image_size=run.data.image_size)
    init = make_init(run, optimizer, classes=classes)
    like = sharding.shapes_of(mesh, init, fsdp=run.train.fsdp)
    evaluator = Evaluator(run, dataset, graphdef, mesh)
    evaluator.check_metric()
    agree = reached_preemption_sync_point if jax.process_count() > 1 else None

    with (
        only_run_in(workdir) if hosts.is_first() else contextlib.nullcontext(),
        Checkpoints(workdir, metric=run.eval.metric) as checkpoints,
        Interrupts(agree=agree) as interrupts,
    ):
        if hosts.is_first():
            remember_run(run, dataset, workdir)
        state, feed, start, origin = start_or_resume(run, workdir, checkpoints, init, like, feed)

        with (
            MetricWriter(
                workdir,
                total=total,
                start=start,
                images_per_step=2 * run.data.batch_size,
                silent=not hosts.is_first(),
            ) as writer,
            Profile(profile if hosts.is_first() else None, workdir, note=writer.note) as tracer,
        ):
            writer.note(_describe(dataset, feed, mesh, like.params, optimizer))
            writer.note(origin)
            still = {"stems", "trunks"} if run.model.batch_norm == "frozen" else set()
            if run.train.chunk and like.model_state.keys() - still - {"pixels"}:
                writer.note(f"BatchNorm's statistics are of {run.train.chunk} pairs (train.chunk)")
            if start == total:
                writer.note("this run is finished; nothing to do")
                return _summary(checkpoints, total, None)
            check_span(profile, start=start, total=total)
            if hosts.is_first() and (
                changed := remember_start(workdir, seed=run.seed, step=start, mesh=mesh)
            ):
                words = ", ".join(changed)
                writer.note(f"warning: continued under others than before: {words}")
            make = functools.partial(
                make_train_step, graphdef=graphdef, optimizer=optimizer, like=like
            )
            batches = feed.batches(start, _known(feed, start, eval_every, total))
            batch = next(batches)
            step_fn, s_at_peak = _compile(in_steps, make, (like, feed.resident, batch), writer)

            clock = writer.clock
            clock.start(s_at_peak=s_at_peak)
            watch = health.Watch(run)
            running: collections.deque = collections.deque()  # (step, metrics, batch) to look at
            for step in range(start + 1, total + 1):
                tracer.before(step, state)
                state, metrics = step_fn(state, feed.resident, batch)
                tracer.after(step, state)
                running.append((step, metrics, batch))
                due = step % eval_every == 0 or step == total
                stop = interrupts.asks(step) and step < total
                # Looking at the newest step would leave the device idle until the next is sent.
                while len(running) > (0 if due or stop else _IN_FLIGHT):
                    done, values, seen = running.popleft()
                    dump = functools.partial(dump_batch, run, workdir, done, feed.resident, seen)
                    _check_finite(done, values, workdir, dump)
                    clock.tick()
                    if done % log_every == 0 or done in (1, total):
                        values = jax.device_get(values) | {"optim/lr": rates[done - 1]}
                        usage = device_memory.usage(mesh.local_devices)
                        writer.write(done, values | usage)
                        for words in watch(done, values):
                            writer.note(f"warning: {words}")
                if due:
                    with clock.paused():
                        scores, confusion = evaluator.validate(*state.evaluated)
                        headline = dict.fromkeys((run.eval.metric, *_HEADLINE))
                        writer.write(step, scores, kind="val", shown=headline)
                        if feed.learnt:
                            feed = feed.taught(confusion)
                            batches = feed.batches(step, _known(feed, step, eval_every, total))
                        checkpoints.save(step, items_of(state, feed), scores)
                elif stop:
                    checkpoints.save(step, items_of(state, feed), {})
                if stop:
                    checkpoints.wait()
                    raise interrupts.stopped(
                        f"stopped by {interrupts.asked.name} at step {step}, which is saved; the "
                        "same command continues the run"
                    )
                if step < total:
                    with clock.waiting():
                        batch = next(batches)
            checkpoints.wait()
            summary = _summary(checkpoints, total, clock)
            writer.note(
                f"best step {summary['best_step']}: {run.eval.metric} "
                f"{summary['validation'][run.eval.metric]:.4f} on the validation split; for the "
                f"test split: python launch.py evaluate --workdir={workdir}"
            )
            return summary


def _known(feed: Feed, step: int, eval_every: int, total: int) -> int:
    """The step up to which batches are known: a feed that learns waits for the next validation."""
    return min(total, (step // eval_every + 1) * eval_every) if feed.learnt else total


def _compile(
    run: RunConfig, make: Callable[..., Callable], arguments: tuple, writer: MetricWriter
) -> tuple[Callable, float]:
    """The step that `make` makes of a run, compiled before the first one, so that the log tells
    compiling from training; and the seconds that its arithmetic takes at the devices' peak."""
    compiled = compile_ahead(make(run), *arguments)
    work = compiled.flops
    if run.train.chunk or run.model.remat != "none":  # what is computed again is not counted
        model = dataclasses.replace(run.model, remat="none")
        whole = dataclasses.replace(run, model=model, train=dataclasses.replace(run.train, chunk=0))
        graphdef = dual.define(model, image_size=run.data.image_size)
        work = flops(make(whole, graphdef=graphdef), *arguments)
    mesh = arguments[0].step.sharding.mesh
    s_at_peak, peak = seconds_at_peak(work, mesh, run.model.dtype)
    writer.note(f"the step: {compiled}, {work / 1e9:,.1f} GFLOP; peak {peak}")
    device = mesh.local_devices[0]
    check_fits(compiled.need, device_memory.room(device), advice=advice(run, devices=mesh.size))
    return compiled.call, s_at_peak


def _check_finite(
    step: int, metrics: dict[str, jax.Array], workdir: Path, dump: Callable[[], Path | None]
) -> None:
    # The loss is of the parameters before the step; their norm shows a step that ruined them.
    for name, what in (("loss", "loss"), ("optim/param_norm", "norm of the parameters")):
        if not math.isfinite(value := float(jax.device_get(metrics[name]))):
            folder = dump()
            kept = f"; its batch is in {folder}" if folder else ""
            raise TrainingDiverged(
                f"{what} is {value} at step {step}{kept}; the checkpoints in {workdir} are from "
                "before it. Lower config.optim.lr or config.optim.clip_norm, or lengthen "
                "config.optim.warmup"
            )


def _describe(
    dataset: Dataset, feed: Feed, mesh: Mesh, params: Any, optimizer: optim.Optimizer
) -> str:
    sizes = {side: len(dataset.index("train", side).label) for side in ("sketch", "photo")}
    counts = {path: math.prod(x.shape) for path, x in by_path(params).items()}
    moved = sum(count for path, count in counts.items() if path in optimizer.trained)
    devices = f"{mesh.size} x {mesh.devices.flat[0].device_kind}"
    return (
        f"{dataset.name}: {sizes['sketch']:,} sketches, {sizes['photo']:,} photos, "
        f"{len(dataset.classes)} classes; {feed.words}; "
        f"{moved:,} parameters trained, {sum(counts.values()) - moved:,} frozen; {devices}"
    )


def _summary(checkpoints: Checkpoints, total: int, clock: Any) -> dict[str, Any]:
    best = checkpoints.find("best")
    summary = {"step": total, "best_step": best, "validation": checkpoints.steps()[best]}
    if clock is not None:
        summary |= {"train_seconds": clock.seconds, "images_per_s": clock.images_per_s}
    return summary
