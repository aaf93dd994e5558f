"""A sweep: many runs one after another, each in a workdir of its own, and a table of them.

`results.json` in the sweep's workdir says how each run went and `results.md` is the table; both
are written after every run. Started again, a sweep skips what is finished and continues the rest.
"""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sbir_jax.config import ConfigError, resolve
from sbir_jax.interrupt import Interrupts
from sbir_jax.overrides import stored_config
from sbir_jax.sweep_points import Point
from sbir_jax.workdir import write_json
from sbir_jax.writer import read_metrics

_TESTED = ("category/mAP@all", "category/P@1", "instance/acc@10")
_STOPPED = (130, 143)  # exit codes of a run that was asked to stop
_POLL_SECONDS = 0.1


class SweepFailed(RuntimeError):
    """Some runs of a sweep failed; the message names them."""


Execute = Callable[[str, Point, Path, Interrupts], tuple[int, str]]


def run_sweep(
    points: Sequence[Point], workdir: Path, execute: Execute, *, evaluate: bool = False
) -> dict[str, Any]:
    """Trains what is not finished, and returns what `results.json` holds: {name: outcome}.

    Args:
      points: the runs.
      workdir: of the sweep.
      execute: carries out "train" or "evaluate" of a point in its workdir, and returns the exit
        code and the last line of what it said.
      evaluate: also measure the best checkpoint of each run on the test split.

    Raises:
      SweepFailed: a run failed; the others are done.
      Stopped: it was asked to stop; the run that was going on is saved.
    """
    outcomes = stored_outcomes(workdir)
    with Interrupts() as interrupts:
        for number, point in enumerate(points, start=1):
            place = workdir / point.name
            if is_finished(point, workdir, outcomes, evaluate=evaluate):
                print(f"[{number}/{len(points)}] {point.name}: finished before", flush=True)
                continue
            print(f"[{number}/{len(points)}] {point.name}: training in {place}", flush=True)
            started = time.monotonic()
            outcome = _carry_out(point, place, execute, interrupts, evaluate=evaluate)
            outcome["seconds"] = round(time.monotonic() - started, 1)
            outcomes[point.name] = outcome
            write_results(points, workdir, outcomes)
            print(f"[{number}/{len(points)}] {point.name}: {_words(point, outcome)}", flush=True)
            if interrupts.asked:
                raise interrupts.stopped(
                    f"the sweep stopped at {point.name}; the same command continues it"
                )
    write_results(points, workdir, outcomes)
    print(table(points, outcomes))
    failed = [point.name for point in points if outcomes[point.name]["status"] == "failed"]
    if failed:
        raise SweepFailed(
            f"{len(failed)} of {len(points)} runs failed: {', '.join(failed)}; why is in "
            f"{workdir / 'results.md'}, and the same command tries them again"
        )
    return outcomes


def is_finished(
    point: Point, workdir: Path, outcomes: dict[str, Any], *, evaluate: bool = False
) -> bool:
    """Whether this very run ended well before (and was evaluated, if that is asked for)."""
    outcome = outcomes.get(point.name, {})
    if outcome.get("status") != "finished" or (evaluate and "test" not in outcome):
        return False
    try:
        return resolve(stored_config(workdir / point.name)) == point.run
    except ConfigError:
        return False


def subprocesses(launcher: Path, config: str, tokens: Sequence[str]) -> Execute:
    """Each run in a process of its own, so that none can hurt another; it says into `log.txt`."""

    def execute(verb: str, point: Point, workdir: Path, interrupts: Interrupts) -> tuple[int, str]:
        command = [sys.executable, str(launcher), verb, f"--workdir={workdir}"]
        if verb == "train":
            command += [f"--config={config}", *tokens, *point.tokens]
        workdir.mkdir(parents=True, exist_ok=True)
        with (workdir / "log.txt").open("a+b") as log:
            start = log.seek(0, 2)
            # In a session of its own: Ctrl-C comes from here, once, and not from the terminal too.
            process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
            told = False
            while process.poll() is None:
                if interrupts.asked and not told:
                    process.send_signal(interrupts.asked)
                    told = True
                time.sleep(_POLL_SECONDS)
            log.seek(start)
            said = log.read().decode("utf-8", "replace").strip().splitlines()
        return process.returncode, said[-1] if said else ""

    return execute


def best_validation(workdir: Path, metric: str) -> tuple[float, int]:
    """The best value of a metric in `metrics.jsonl` and its step; nan and 0 where there is none."""
    found = (math.nan, 0)
    try:
        lines = read_metrics(workdir / "metrics.jsonl")
    except OSError:
        return found
    for entry in lines:
        value = entry.get(metric) if entry["kind"] == "val" else None
        if value is not None and not value < found[0]:
            found = (value, entry["step"])
    return found


def write_results(points: Sequence[Point], workdir: Path, outcomes: dict[str, Any]) -> None:
    """Writes `results.json` and `results.md`."""
    workdir.mkdir(parents=True, exist_ok=True)
    write_json(workdir / "results.json", outcomes)
    (workdir / "results.md").write_text(table(points, outcomes) + "\n", encoding="utf-8")


def table(points: Sequence[Point], outcomes: dict[str, Any]) -> str:
    """Markdown: recipes by their validation metric, best first, with the mean over their seeds.

    "0.493 ± 0.014" is a mean and the standard deviation between the seeds; below the table come
    that deviation pooled over the recipes, and the runs that did not finish.
    """
    metric = points[0].run.eval.metric
    groups: dict[str, list[dict[str, Any]]] = {}
    for point in points:
        outcome = outcomes.get(point.name, {})
        if outcome.get("status") == "finished":
            groups.setdefault(point.recipe, []).append(outcome)
    tested = [n for n in _TESTED if any(n in o.get("test", {}) for g in groups.values() for o in g)]
    columns = {f"val {metric}": [[o["value"] for o in g] for g in groups.values()]}
    for name in tested:
        columns[f"test {name}"] = [
            [o["test"][name] for o in g if name in o.get("test", {})] for g in groups.values()
        ]
    lines = [f"| recipe | {' | '.join(columns)} | seeds |", "|---" * (len(columns) + 2) + "|"]
    rows = zip(groups.items(), *columns.values(), strict=True)
    for (recipe, group), *values in sorted(rows, key=lambda row: -statistics.fmean(row[1])):
        cells = " | ".join(map(_mean, values))
        lines.append(f"| {recipe} | {cells} | {len(group)} |")
    for name, values in columns.items():
        if apart := _pooled(values):
            lines += ["", f"{name}: seeds differ by a standard deviation of {apart:.4f} (pooled)"]
    for point in points:
        outcome = outcomes.get(point.name, {"status": "not started"})
        if outcome["status"] != "finished":
            lines += ["", f"{point.name}: {_words(point, outcome)}"]
    return "\n".join(lines)


def _carry_out(
    point: Point, place: Path, execute: Execute, interrupts: Interrupts, *, evaluate: bool
) -> dict[str, Any]:
    outcome: dict[str, Any] = {"recipe": point.recipe, "seed": point.run.seed}
    outcome["overrides"] = list(point.tokens)
    for verb in ("train", "evaluate") if evaluate else ("train",):
        code, said = execute(verb, point, place, interrupts)
        if code:
            status = "interrupted" if code in _STOPPED else "failed"
            return outcome | {"status": status, "code": code, "reason": said}
        if interrupts.asked and verb == "train" and evaluate:
            return outcome | {"status": "interrupted", "code": 0, "reason": "not evaluated yet"}
    value, step = best_validation(place, point.run.eval.metric)
    if math.isnan(value):
        return outcome | {"status": "failed", "code": 0, "reason": "no validation was recorded"}
    outcome |= {"status": "finished", "metric": point.run.eval.metric, "value": value, "step": step}
    return outcome | ({"test": _test_scores(place)} if evaluate else {})


def _test_scores(place: Path) -> dict[str, float]:
    entry = json.loads((place / "results.json").read_text())["test/best"]
    scores = {}
    for name in _TESTED:
        level, _, of = name.partition("/")
        if of in entry.get(level, {}):
            scores[name] = entry[level][of]["value"]
    return scores


def stored_outcomes(workdir: Path) -> dict[str, Any]:
    try:
        found = json.loads((workdir / "results.json").read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _words(point: Point, outcome: dict[str, Any]) -> str:
    if outcome["status"] == "finished":
        return f"{point.run.eval.metric} {outcome['value']:.4f} at step {outcome['step']}"
    reason = outcome.get("reason", "")
    return f"{outcome['status']}{': ' if reason else ''}{reason.removeprefix('launch.py: ')}"


def _mean(values: list[float]) -> str:
    if not values:
        return ""
    spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.4f}{spread}"


def _pooled(groups: list[list[float]]) -> float:
    groups = [values for values in groups if len(values) > 1]
    freedom = sum(len(values) - 1 for values in groups)
    squares = sum(statistics.variance(values) * (len(values) - 1) for values in groups)
    return math.sqrt(squares / freedom) if freedom else 0.0
