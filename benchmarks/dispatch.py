"""What `train.steps_per_dispatch` does to the time of a step, and to compiling it.

    python benchmarks/dispatch.py                                   # on the drawn demo
    python benchmarks/dispatch.py --name=pacs --data_dir=data --counts=1,2,8,32

A small ViT and a small convolutional encoder, by the feed and the compiled step of training, with
`data.cache=device`: batches are drawn and sent, and losses looked at two dispatches late, as in the
loop. Milliseconds of a step: median (least to most) of five parts.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
import sys
import time
from pathlib import Path

import jax

HERE = Path(__file__).resolve().parent
MODELS = {
    "vit_tiny_patch16, 64 px": {"model.backbone": "vit_tiny_patch16"},
    "patch_resnet 32, 64 px": {"model.width": 32},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--name", default="demo", help="prepared dataset (demo: drawn if absent)")
    parser.add_argument("--data_dir", default="data")
    parser.add_argument("--only", default="", help="models, by how their names begin")
    parser.add_argument("--batch", type=int, default=16, help="pairs")
    parser.add_argument("--counts", default="1,2,4,8", help="steps in a dispatch")
    parser.add_argument("--steps", type=int, default=64, help="at least, in each of five parts")
    given = parser.parse_args()
    sys.path[:0] = [str(HERE), str(HERE.parent)]
    from versions import versions

    from sbir_jax.verbs import runs

    runs.ready_libraries("off")
    device, cores = jax.devices()[0].device_kind, os.cpu_count()
    print(f"{jax.device_count()} x {device}, {cores} cores, {versions(('jax', 'jaxlib', 'flax'))}")
    print("| model | steps in a dispatch | ms a step | compiling, s |\n|---|---|---|---|")
    for model, changes in MODELS.items():
        for count in map(int, given.counts.split(",")) if model.startswith(given.only) else ():
            print(f"| {model} | {count} | {measured(given, changes, count)} |", flush=True)


def measured(given: argparse.Namespace, changes: dict, count: int) -> str:
    """Time of a step and of compiling, as two cells."""
    from sbir_jax import sharding
    from sbir_jax.config import default_config, resolve
    from sbir_jax.data.source import open_dataset
    from sbir_jax.dispatch import Dispatches
    from sbir_jax.plan import compiled_step, make_plan
    from sbir_jax.verbs import runs

    part = -(-given.steps // count)
    total = (5 * part + 2) * count
    config = default_config()
    config.update_from_flattened_dict(
        {
            "data.name": given.name,
            "data.dir": given.data_dir,
            "data.cache": "device",
            "data.batch_size": given.batch,
            "train.duration": f"{total} steps",
            "train.eval_every": "100%",
            "train.steps_per_dispatch": count,
        }
        | changes
    )
    run, mesh = resolve(config), sharding.make_mesh()
    runs.draw_demo_once(run)
    plan = make_plan(run, open_dataset(run.data.name, run.data.dir), mesh)
    plan = dataclasses.replace(plan, dispatches=Dispatches(total, total, count))
    feed = plan.feed.batches(0, total, together=plan.dispatches.together)
    batches = next(feed)
    started = time.perf_counter()
    step, *_ = compiled_step(plan, batches, 0)
    compiling = time.perf_counter() - started
    state, before, times = sharding.put_like(plan.like, plan.init()), [], []

    def go(dispatches: int) -> float:
        nonlocal state, batches
        started = time.perf_counter()
        for _ in range(dispatches):
            state, metrics = step(state, plan.feed.resident, batches)
            before.append(metrics)
            if len(before) > 2:
                jax.device_get(before.pop(0)["loss"])
            batches = next(feed, batches)
        jax.block_until_ready(state)
        return time.perf_counter() - started

    go(2)
    times = [1000 * go(part) / (part * count) for _ in range(5)]
    return f"{statistics.median(times):.2f} ({min(times):.2f}..{max(times):.2f}) | {compiling:.1f}"


if __name__ == "__main__":
    main()
