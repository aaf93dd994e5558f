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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental.multihost_utils import reached_preemption_sync_point
from jax.sharding import Mesh

from sbir_jax import device_memory, health, hosts, sharding
from sbir_jax.batch_sheet import draw_views, views_of
from sbir_jax.checkpoint import Checkpoints
from sbir_jax.compile import advice, explained
from sbir_jax.config import RunConfig
from sbir_jax.data.pipeline import Feed
from sbir_jax.dispatch import one
from sbir_jax.diverged import dump_batch
from sbir_jax.environment import remember_start
from sbir_jax.interrupt import Interrupts
from sbir_jax.lock import only_run_in
from sbir_jax.plan import Plan, compiled_step, make_plan, opened
from sbir_jax.profile import Profile, Span, check_span
from sbir_jax.report import retrievals
from sbir_jax.retrieved import over_classes
from sbir_jax.start import items_of, start_or_resume
from sbir_jax.wandb_run import WandbRun
from sbir_jax.workdir import check_same_images, check_same_run, remember_run
from sbir_jax.writer import MetricWriter

# Validation metrics on the console; all of them are in the files.
_HEADLINE = ("category/mAP@all", "category/P@1", "instance/acc@10")
_PICTURED = 5  # sketches of a validation that TensorBoard shows, with their photos
_IN_FLIGHT = 2  # dispatches sent to the device before their losses are looked at
# The loss is of the parameters before the step; their norm shows a step that ruined them.
_FINITE = {"loss": "loss", "optim/param_norm": "norm of the parameters"}


class TrainingDiverged(RuntimeError):
    """The loss stopped being finite; the message names the step and what usually helps."""


def train(
    run: RunConfig,
    workdir: Path,
    *,
    mesh: Mesh | None = None,
    profile: Span | None = None,
    source: Path | None = None,
) -> dict[str, Any]:
    """Trains `run` in `workdir`, or continues it there; returns a summary of the run.

    `profile`: the first and last step to trace. `source`: a workdir whose run this repeats; other
    images are refused, and other versions told.

    Raises:
      ConfigError: settings that cannot work with this dataset, these devices or this workdir.
      DatasetError: the dataset is missing or damaged.
      CheckpointError: a checkpoint to start from is missing or does not fit.
      WeightsError: published weights to start from are missing or do not fit.
      DoesNotFit: the devices have too little memory.
      TrainingDiverged: a loss was not finite; nothing of that step is saved but its batch.
      WandbError: `train.wandb` is set, and W&B cannot be used.
      WorkdirInUse: another process trains in `workdir`.
      Stopped: SIGTERM or Ctrl-C; the step it came at is saved.
    """
    mesh = mesh or sharding.make_mesh()
    with explained(advice(run, devices=mesh.size)):
        return _train(run, workdir, mesh, profile, source)


def _train(
    run: RunConfig, workdir: Path, mesh: Mesh, profile: Span | None, source: Path | None
) -> dict[str, Any]:
    dataset = opened(run, mesh)
    check_same_run(run, dataset, workdir)
    if source:
        check_same_images(dataset, source)
    plan = make_plan(run, dataset, mesh)
    feed, total, like = plan.feed, plan.total, plan.like
    log_every, eval_every, evaluator = plan.log_every, plan.eval_every, plan.evaluator
    agree = reached_preemption_sync_point if jax.process_count() > 1 else None

    with (
        only_run_in(workdir) if hosts.is_first() else contextlib.nullcontext(),
        Checkpoints(workdir, metric=run.eval.metric) as checkpoints,
        Interrupts(agree=agree) as interrupts,
    ):
        if hosts.is_first():
            remember_run(run, dataset, workdir)
        state, feed, start, origin = start_or_resume(
            run, workdir, checkpoints, plan.init, like, feed
        )

        with (
            _wandb(run, workdir) if start < total else contextlib.nullcontext() as also,
            MetricWriter(
                workdir,
                total=total,
                start=start,
                images_per_step=2 * run.data.batch_size,
                silent=not hosts.is_first(),
                also=also.log if also else None,
            ) as writer,
            Profile(profile if hosts.is_first() else None, workdir, note=writer.note) as tracer,
        ):
            writer.note(str(plan))
            writer.note(origin)
            still = {"stems", "trunks"} if run.model.batch_norm == "frozen" else set()
            if run.train.chunk and like.model_state.keys() - still - {"pixels"}:
                writer.note(f"BatchNorm's statistics are of {run.train.chunk} pairs (train.chunk)")
            if start == total:
                writer.note("this run is finished; nothing to do")
                return _summary(checkpoints, total, None)
            check_span(profile, start=start, total=total)
            if hosts.is_first():
                changed = remember_start(
                    workdir, seed=run.seed, step=start, mesh=mesh, source=source
                )
                if changed:
                    writer.note(f"warning: not as it was started: {', '.join(changed)}")
            batches = _batches(plan, feed, start)
            batch = next(batches)
            step_fn, s_at_peak, words = compiled_step(plan, batch, start)
            writer.note(words)
            if run.train.steps_per_dispatch > 1 and mesh.devices.flat[0].platform == "cpu":
                writer.note(
                    f"warning: config.train.steps_per_dispatch={run.train.steps_per_dispatch}: on "
                    "CPUs convolutions in a loop are about 20 times slower; 1 is for CPUs"
                )
            if jax.process_count() == 1:
                shown = draw_views(
                    *views_of(run, start + 1, feed.resident, one(batch, 0)),
                    classes=dataset.classes,
                    title=f"step {start + 1}",
                    most=16,
                )
                writer.image(start + 1, "train/batch", np.asarray(shown))

            clock = writer.clock
            clock.start(s_at_peak=s_at_peak)
            watch = health.Watch(run)
            running: collections.deque = collections.deque()  # (steps, metrics, batch) to look at
            for number, steps in enumerate(plan.dispatches.after(start), 1):
                tracer.before(steps, state)
                state, metrics = step_fn(state, feed.resident, batch)
                tracer.after(steps, state)
                running.append((steps, metrics, batch))
                step = steps[-1]
                due = step % eval_every == 0 or step == total
                stop = interrupts.asks(number) and step < total
                # Looking at the newest steps would leave the device idle until the next are sent.
                while len(running) > (0 if due or stop else _IN_FLIGHT):
                    looked, figures, seen = running.popleft()
                    losses = {name: jax.device_get(figures[name]) for name in _FINITE}
                    dump = functools.partial(
                        dump_batch, run, workdir, feed.resident, seen, classes=dataset.classes
                    )
                    clock.tick(len(looked))
                    for place, done in enumerate(looked):
                        _check_finite(done, place, losses, workdir, dump)
                        if done % log_every == 0 or done in (1, total):
                            values = {k: of[place] for k, of in jax.device_get(figures).items()}
                            values["optim/lr"] = plan.rates[done - 1]
                            usage = device_memory.usage(mesh.local_devices)
                            writer.write(done, values | usage)
                            for words in watch(done, values):
                                writer.note(f"warning: {words}")
                if due:
                    with clock.paused():
                        scores, confusion, found = evaluator.validate(*state.evaluated)
                        headline = dict.fromkeys((run.eval.metric, *_HEADLINE))
                        writer.write(step, scores, kind="val", shown=headline)
                        if hosts.is_first():
                            few = over_classes(found.query_labels, _PICTURED)
                            picture = retrievals.picture(
                                dataset,
                                "val",
                                found.first(_PICTURED),
                                few,
                                fit=run.data.fit,
                                side=64,
                            )
                            writer.image(step, "val/retrievals", np.asarray(picture))
                        if confusion is not None:
                            feed = feed.taught(confusion)
                            batches = _batches(plan, feed, step)
                        checkpoints.save(step, items_of(state, feed), scores)
                elif stop:
                    checkpoints.save(step, items_of(state, feed), {})
                if stop and interrupts.asked:
                    checkpoints.wait()
                    raise interrupts.stopped(
                        f"stopped by {interrupts.asked.name} at step {step}, which is saved; the "
                        "same command continues the run"
                    )
                if step < total:
                    with clock.waiting(metrics["loss"].is_ready):
                        batch = next(batches)
            checkpoints.wait()
            summary = _summary(checkpoints, total, clock)
            writer.note(
                f"best step {summary['best_step']}: {run.eval.metric} "
                f"{summary['validation'][run.eval.metric]:.4f} on the validation split; for the "
                f"test split: python launch.py evaluate --workdir={workdir}"
            )
            return summary


def _wandb(run: RunConfig, workdir: Path) -> contextlib.AbstractContextManager:
    if not (run.train.wandb and hosts.is_first()):
        return contextlib.nullcontext()
    return WandbRun(run.train.wandb, workdir, dataclasses.asdict(run))


def _batches(plan: Plan, feed: Feed, step: int) -> Iterator[dict[str, Any]]:
    """Those of the dispatches after `step`; of a feed that learns, up to the next validation."""
    known = (step // plan.eval_every + 1) * plan.eval_every if feed.learnt else plan.total
    return feed.batches(step, min(known, plan.total), together=plan.dispatches.together)


def _check_finite(
    step: int,
    place: int,
    metrics: dict[str, np.ndarray],
    workdir: Path,
    dump: Callable[[int, int], Path | None],
) -> None:
    for name, what in _FINITE.items():
        if not math.isfinite(value := float(metrics[name][place])):
            folder = dump(step, place)
            kept = f"; its batch is in {folder}" if folder else ""
            raise TrainingDiverged(
                f"{what} is {value} at step {step}{kept}; the checkpoints in {workdir} are from "
                "before it. Lower config.optim.lr or config.optim.clip_norm, or lengthen "
                "config.optim.warmup"
            )


def _summary(checkpoints: Checkpoints, total: int, clock: Any) -> dict[str, Any]:
    best = checkpoints.find("best")
    summary = {"step": total, "best_step": best, "validation": checkpoints.steps()[best]}
    if clock is not None:
        summary |= {"train_seconds": clock.seconds, "images_per_s": clock.images_per_s}
    return summary
