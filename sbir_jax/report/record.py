"""What a workdir holds, read for a report. A part that is missing or damaged becomes a remark."""

from __future__ import annotations

import csv
import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sbir_jax.config import RunConfig, nearest, resolve, settings
from sbir_jax.overrides import stored_config
from sbir_jax.results import ResultsError, Stored, folder_of, read_scores
from sbir_jax.retrieved import Retrieved, read_retrieved
from sbir_jax.writer import read_metrics

Line = dict[str, Any]


class ReportError(ValueError):
    """A report that cannot be made; the message is one line."""


@dataclasses.dataclass(frozen=True)
class Record:
    """All that is known of one run.

    Attributes:
      workdir: of the run.
      name: of the run: its directory's.
      run: its settings.
      metrics: the lines of metrics.jsonl.
      entries: of results.json, by name: "test/best".
      chosen: the entry that the report is about; empty without any.
      per_class: of that evaluation: class, then "LEVEL/METRIC", as text.
      curves: of that evaluation: level, kind, x, precision, recall.
      scores: of every query; None if missing.
      retrieved: the first photos of every query; None if missing.
      dimensions: of `launch.py dimensions`; None if it was not run.
      starts: of environment.json, one for each time the run was started or continued.
      remarks: what could not be read, in words.
    """

    workdir: Path
    name: str
    run: RunConfig
    metrics: tuple[Line, ...]
    entries: dict[str, Line]
    chosen: str
    per_class: tuple[dict[str, str], ...]
    curves: tuple[dict[str, str], ...]
    scores: Stored | None
    retrieved: Retrieved | None
    dimensions: Line | None
    starts: tuple[Line, ...]
    remarks: tuple[str, ...]

    @property
    def entry(self) -> Line:
        """The entry that the report is about."""
        return self.entries.get(self.chosen, {})

    @property
    def place(self) -> tuple[str, str]:
        """(split, checkpoint) of that entry, as its folder is named."""
        split, _, checkpoint = self.chosen.partition("/")
        return split, checkpoint

    def lacks(self, file: str) -> tuple[str, str]:
        """Why a file of the evaluation is not here, and the command that makes it."""
        again = f"python launch.py evaluate --workdir={self.workdir}"
        if not self.chosen:
            return "Not evaluated yet:", again
        split, checkpoint = self.place
        return (
            f"{file} of this evaluation is missing or damaged; evaluate again:",
            f"{again} --split={split} --checkpoint={checkpoint}",
        )


def read_record(workdir: Path, evaluation: str = "") -> Record:
    """Reads a workdir.

    Args:
      workdir: of a run; it may have just begun.
      evaluation: which entry of results.json to report; by default test/best, or else val/best, or
        else the last one.

    Raises:
      ReportError: no run there, or no such evaluation.
      ConfigError: settings that cannot be read.
    """
    workdir = Path(workdir)
    if not (workdir / "config.json").is_file():
        raise ReportError(
            f"--workdir={workdir}: no run there (no config.json); make one with "
            f"python launch.py train --config=FILE --workdir={workdir}"
        )
    run = resolve(stored_config(workdir))
    remarks: list[str] = []
    read = functools.partial(_read, remarks)
    entries = read(workdir / "results.json", _entries, {})
    if evaluation and evaluation not in entries:
        there = nearest(evaluation, entries) if entries else "there is none yet"
        raise ReportError(f"--evaluation={evaluation}: not in {workdir}/results.json; {there}")
    chosen = evaluation or next(
        (name for name in ("test/best", "val/best", *reversed(entries)) if name in entries), ""
    )
    split, _, checkpoint = chosen.partition("/")
    folder = folder_of(workdir, split, checkpoint) if chosen else workdir / "evaluation"
    study = workdir / f"dimensions_{split}_{checkpoint}.json"
    return Record(
        workdir=workdir,
        name=workdir.resolve().name,
        run=run,
        metrics=read(workdir / "metrics.jsonl", read_metrics, ()),
        entries=entries,
        chosen=chosen,
        per_class=read(folder / "per_class.csv", _per_class, ()),
        curves=read(folder / "curves.csv", _curves, ()),
        scores=read(folder / "scores.npz", read_scores, None),
        retrieved=read(folder / "retrieved.npz", read_retrieved, None),
        dimensions=read(study, _study, None),
        starts=read(workdir / "environment.json", _starts, ()),
        remarks=tuple(remarks),
    )


def differing(*runs: RunConfig) -> dict[str, tuple[Any, ...]]:
    """The settings that are not the same in all of these runs: path to values."""
    found = {}
    for path, _ in settings():
        values = tuple(functools.reduce(getattr, path.split("."), run) for run in runs)
        if any(value != values[0] for value in values):
            found[path] = values
    return found


def series(metrics: tuple[Line, ...], name: str, kind: str) -> tuple[list[int], list[float]]:
    """Steps and values of a metric, where it was finite."""
    found = [
        (line["step"], line[name])
        for line in metrics
        if line["kind"] == kind and isinstance(line.get(name), int | float)
    ]
    return [step for step, _ in found], [value for _, value in found]


def metrics_of(summary: Line) -> dict[str, Line]:
    """The metrics of one level of an entry."""
    return {n: of for n, of in summary.items() if isinstance(of, dict) and "value" in of}


def _read(remarks: list[str], path: Path, reader: Callable[[Path], Any], instead: Any) -> Any:
    if not path.exists():
        return instead
    try:
        return reader(path)
    except ResultsError as error:  # names the file
        remarks.append(str(error))
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        remarks.append(f"{path}: damaged ({type(error).__name__}: {error})")
    return instead


def _entries(path: Path) -> dict[str, Line]:
    found = json.loads(path.read_text(encoding="utf-8"))
    for entry in found.values():
        _require(entry, "split", "step", "distance", "normalise", "ties", "no_relevant")
        for level in entry["levels"]:
            _require(entry[level], "queries", "gallery")
    return found


def _per_class(path: Path) -> tuple[dict[str, str], ...]:
    rows = _table(path)
    for row in rows:
        _require(row, "class")
    return rows


def _curves(path: Path) -> tuple[dict[str, str], ...]:
    rows = _table(path)
    for row in rows:
        _require(row, "level", "kind")
        float(row["recall"]), float(row["precision"])
    return rows


def _table(path: Path) -> tuple[dict[str, str], ...]:
    with path.open(newline="", encoding="utf-8") as file:
        return tuple(csv.DictReader(file, strict=True))


def _study(path: Path) -> Line:
    found = json.loads(path.read_text(encoding="utf-8"))
    _require(found, "title")
    for row in found["rows"]:
        _require(row, "run", "trained", "method", "dim", "code", "bytes", *found["chance"])
    return found


def _require(entry: Line, *names: str) -> None:
    """Raises a KeyError that names what a stored entry lacks."""
    for name in names:
        entry[name]


def _starts(path: Path) -> tuple[Line, ...]:
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, list) or not all(isinstance(start, dict) for start in found):
        raise ValueError("expected a list of starts")
    return tuple(found)
