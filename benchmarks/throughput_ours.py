"""Our train step alone, and `train`'s loop end to end: for `throughput.py`."""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import tempfile
import threading
import time
from pathlib import Path

import jax
from turns import wait_for_turn

_LAPS = 5  # that count


def step(run, seconds: float) -> dict:
    """The step of `run` on one batch after another of the resident feed."""
    from sbir_jax import loss_config, optim, sharding
    from sbir_jax.compile import compile_ahead
    from sbir_jax.data.pipeline import make_feed
    from sbir_jax.data.source import open_dataset
    from sbir_jax.models import dual
    from sbir_jax.peak import measured, published
    from sbir_jax.step import draw, make_init, make_train_step

    mesh, dataset = sharding.make_mesh(), open_dataset(run.data.name, run.data.dir)
    feed, classes = make_feed(dataset, run.data, seed=0, mesh=mesh), len(dataset.classes)
    sizes = {"batch_size": run.data.batch_size, "epoch_size": feed.epoch_size}
    loss = loss_config.in_steps(run.loss, total=1000, **sizes)
    params, _, loss_params = jax.eval_shape(lambda: draw(run, classes=classes))
    moved = optim.everything(params, loss_params)
    optimizer = optim.make_optimizer(run.optim, lambda step: 1e-3, moved)
    graphdef = dual.define(run.model, image_size=run.data.image_size)
    state = sharding.put_copy(mesh, make_init(run, optimizer, classes=classes)())
    step = make_train_step(dataclasses.replace(run, loss=loss), graphdef, optimizer, state)
    stream = feed.batches(0, 8)
    batches = [next(stream) for _ in range(8)]
    compiled = compile_ahead(step, state, feed.resident, batches[0])
    before: list = []

    def go(steps: int) -> float:
        nonlocal state
        started = time.perf_counter()
        for i in range(steps):
            state, metrics = compiled.call(state, feed.resident, batches[i % 8])
            if i >= 2:  # as the loop does: look at what is two steps old
                jax.block_until_ready(before.pop(0))
            before.append(metrics)
        jax.block_until_ready(state)
        before.clear()
        return time.perf_counter() - started

    wait_for_turn()
    go(2)
    each = go(3) / 3
    part = max(3, round(seconds / 5 / each))
    rates = [2 * run.data.batch_size * part / go(part) for _ in range(5)]
    device = jax.devices()[0]
    return {
        "images_per_s": statistics.median(rates),
        "rates": rates,
        "first_s": compiled.seconds,
        "flop_per_image": compiled.flops / (2 * run.data.batch_size),
        "measured_peak": measured(device, run.model.dtype),
        "published_peak": published(device.device_kind, run.model.dtype),
        "device": device.device_kind,
        "mib": compiled.need.total / 2**20 if compiled.need else None,
    }


def loop(run) -> None:
    """`train` end to end, after its first two laps: prints what metrics.jsonl has of the others and
    ends the process, before a validation. The turn begins when the step is compiled."""
    from sbir_jax import train as train_module

    compiled_step = train_module.compiled_step

    def compile_and_wait(*arguments):
        found = compiled_step(*arguments)
        wait_for_turn()
        return found

    train_module.compiled_step = compile_and_wait
    with tempfile.TemporaryDirectory() as folder:
        metrics = Path(folder) / "metrics.jsonl"
        watch = threading.Thread(target=_watch, args=(metrics, run), daemon=True)
        watch.start()
        train_module.train(run, Path(folder))


def _watch(metrics: Path, run) -> None:
    laps: list[dict] = []
    while len(laps) < 2 + _LAPS:  # 1: the first step; 2: warming up
        time.sleep(0.2)
        lines = metrics.read_text().splitlines() if metrics.exists() else []
        laps = [json.loads(line) for line in lines if line.endswith("}")]
    laps = laps[2 : 2 + _LAPS]
    images = 2 * run.data.batch_size
    found = {
        "images_per_s": images / statistics.median(lap["perf/s_per_step"] for lap in laps),
        "rates": [lap["perf/images_per_s"] for lap in laps],
        "wait_share": statistics.median(lap["perf/wait_share"] for lap in laps),
    }
    print("\n" + json.dumps(found), flush=True)
    os._exit(0)
