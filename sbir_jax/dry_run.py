"""A dry run: all that training would meet at its start, two dispatches, and nothing written."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from sbir_jax import device_memory, sharding
from sbir_jax.compile import advice, explained
from sbir_jax.config import RunConfig
from sbir_jax.paths import by_path
from sbir_jax.plan import Plan, compiled_step, make_plan, opened
from sbir_jax.start import first_state
from sbir_jax.workdir import check_same_run

_TIMES = 2  # the first pays for what is done once


def dry_run(
    run: RunConfig, workdir: Path | None = None, *, mesh: Mesh | None = None
) -> dict[str, Any]:
    """Prints what a run would be, and takes two steps on its first batch.

    With `config.train.steps_per_dispatch`, twice as many steps as go together, on their batches.

    Images are read as they are needed, whatever `config.data.cache` says, since a cache would be
    written.

    Args:
      run: settings.
      workdir: of a run that would be continued, if any; it is checked as `train` checks it.
      mesh: devices; all by default.

    Returns:
      `{"loss": of each step, "s_per_step": of the last, "parameters": {part: count}}`.

    Raises:
      Whatever `train` raises before its first step.
    """
    mesh = mesh or sharding.make_mesh()
    data = dataclasses.replace(run.data, cache="none", workers=0)
    with explained(advice(run, devices=mesh.size)):
        dataset = opened(run, mesh)
        if workdir:
            check_same_run(run, dataset, workdir)
        plan = make_plan(dataclasses.replace(run, data=data), dataset, mesh)
        print(plan)
        return _look(plan)


def _look(plan: Plan) -> dict[str, Any]:
    started = time.perf_counter()
    together = plan.dispatches.together
    batch = next(plan.feed.batches(0, together(0), together=together))
    print(f"{_batches(together(0))}, read in {time.perf_counter() - started:.2f} s:")
    for path, x in by_path(batch).items():
        print(f"  {path:<28}{x.dtype}{list(x.shape[1:])}")
    parts = parameters_by_part(plan)
    print("parameters:")
    for part, (count, trained) in parts.items():
        frozen = "" if trained == count else f", {count - trained:,} of them frozen"
        print(f"  {part:<28}{count:,}{frozen}")
    state, origin, _ = first_state(plan.run, plan.init, plan.like)
    held = sum(x.nbytes for x in jax.tree.leaves(state))
    print(f"{origin}; parameters, optimiser and the rest of the state are {held / 2**20:,.1f} MiB")
    step, _, words = compiled_step(plan, batch, 0)
    print(words)
    losses = []
    for _ in range(_TIMES):
        started = time.perf_counter()
        state, metrics = step(state, plan.feed.resident, batch)
        losses += jax.device_get(metrics["loss"]).tolist()
        seconds = (time.perf_counter() - started) / together(0)
    shown = ", ".join(f"{loss:.4f}" for loss in losses)
    on = "this batch" if together(0) == 1 else "these batches"
    print(f"{len(losses)} steps on {on}: loss {shown}; the last took {seconds:.3f} s")
    usage = device_memory.usage(plan.mesh.local_devices)
    if "perf/memory_peak_mib" in usage:
        print(f"memory at most: {usage['perf/memory_peak_mib']:,.0f} MiB")
    print(
        f"the run: {plan.total:,} steps of about {seconds:.3f} s, {plan.total * seconds / 60:,.1f} "
        f"minutes and validations every {plan.eval_every:,} steps; nothing was written"
    )
    counts = {part: count for part, (count, _) in parts.items()}
    return {"loss": losses, "s_per_step": seconds, "parameters": counts}


def _batches(count: int) -> str:
    return "one batch" if count == 1 else f"{count} batches of one dispatch"


def parameters_by_part(plan: Plan) -> dict[str, tuple[int, int]]:
    """Numbers in stems, trunks and heads, of all towers, and how many of them are trained."""
    parts: dict[str, tuple[int, int]] = {}
    for path, count in plan.parameters().items():
        part = "/".join(path.split("/")[:2])
        held, trained = parts.get(part, (0, 0))
        parts[part] = held + count, trained + count * (path in plan.optimizer.trained)
    return parts
