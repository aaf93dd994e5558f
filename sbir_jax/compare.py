"""Two evaluations of the same queries, compared query by query."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sbir_jax import tables
from sbir_jax.ranking import bootstrap
from sbir_jax.results import ResultsError, Stored, folder_of, read_scores
from sbir_jax.workdir import write_json


def compare_evaluations(
    a: Path, b: Path, *, split: str = "test", checkpoint: str = "best", out: Path | None = None
) -> dict[str, Any]:
    """Compares every metric that both evaluations have, as `compared`; prints a table.

    Args:
      out: directory for `comparison.json`; without it nothing is written.
    """
    entry = compared(a, b, split=split, checkpoint=checkpoint)
    print(tables.of_comparison(entry))
    if out:
        write_json(out / "comparison.json", entry)
        print(f"wrote {out / 'comparison.json'}")
    return entry


def compared(a: Path, b: Path, *, split: str, checkpoint: str) -> dict[str, Any]:
    """Compares every metric that both evaluations have.

    Args:
      a, b: workdirs of runs, or directories with the results of bare embeddings.
      split, checkpoint: which evaluation of a workdir.

    Returns:
      {"a", "b": where they are, "levels": names, and for each level {"queries": how many, and for
      each metric {"a", "b", "difference": b - a, "interval": over queries, "class_interval": over
      classes, "p_value", "class_p_value"}}}. Without classes, or with one, what is over classes is
      None.

    Raises:
      ResultsError: an evaluation is missing or damaged, of other queries or another gallery, was
        made by other rules, or shares no metric.
    """
    one, other = (_read(path, split, checkpoint) for path in (a, b))
    _check_comparable(one, other, a, b)
    entry: dict[str, Any] = {"a": str(a), "b": str(b), "levels": []}
    for level, values in one.values.items():
        names = [name for name in values if name in other.values.get(level, {})]
        if names:
            entry["levels"].append(level)
            entry[level] = _level(one, other, level, names)
    if not entry["levels"]:
        raise ResultsError(
            f"{a} and {b}: have no metric in common; evaluate with the same --metrics"
        )
    return entry


def _level(one: Stored, other: Stored, level: str, names: list[str]) -> dict[str, Any]:
    counted = (one.relevant[level] > 0) | (one.rules["no_relevant"] == "zero")
    a, b = (np.stack([of.values[level][name][counted] for name in names]) for of in (one, other))
    over_queries = bootstrap.compare(b, a)
    classes = None if one.classes is None else one.classes[counted]
    over_classes = None
    if classes is not None and len(np.unique(classes)) > 1:
        over_classes = bootstrap.compare(b, a, groups=classes)
    found: dict[str, Any] = {"queries": int(counted.sum())}
    for row, name in enumerate(names):
        found[name] = {
            "a": float(a[row].mean()),
            "b": float(b[row].mean()),
            "difference": float(over_queries.difference[row]),
            "interval": _ends(over_queries, row),
            "class_interval": _ends(over_classes, row),
            "p_value": float(over_queries.p_value[row]),
            "class_p_value": float(over_classes.p_value[row]) if over_classes else None,
        }
    return found


def _ends(found: bootstrap.Comparison | None, row: int) -> list[float] | None:
    if found is None or not np.isfinite(found.low[row]):
        return None
    return [float(found.low[row]), float(found.high[row])]


def _read(path: Path, split: str, checkpoint: str) -> Stored:
    for folder in (path, folder_of(path, split, checkpoint)):
        if (folder / "scores.npz").exists():
            return read_scores(folder / "scores.npz")
    if not path.is_dir():
        raise ResultsError(f"--compare: {path} is not a directory")
    raise ResultsError(
        f"--compare: {path} holds no evaluation of {split}/{checkpoint}; make it with python "
        f"launch.py evaluate --workdir={path} --split={split} --checkpoint={checkpoint}"
    )


def _check_comparable(one: Stored, other: Stored, a: Path, b: Path) -> None:
    for what in ("queries", "gallery", *one.values):
        if what in other.items and one.items[what] != other.items[what]:
            named = what if what in ("queries", "gallery") else f"relevant items by {what}"
            raise ResultsError(f"{a} and {b}: are evaluations of other {named}, and not comparable")
    for rule, used in one.rules.items():
        if other.rules[rule] != used:
            raise ResultsError(
                f"{a} and {b}: were made with {rule}={used} and {rule}={other.rules[rule]}; "
                "evaluate one of them again"
            )
