"""What an evaluation leaves on disk, and reading it back.

`results.json` has every number with its definition and circumstances. A folder beside it has
`per_class.csv`, `curves.csv` and `scores.npz`: the scores of every query, which `compare` reads.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sbir_jax.embeddings import Embeddings
from sbir_jax.ranking.rank import Scores
from sbir_jax.ranking.relevance import Relevance
from sbir_jax.ranking.summary import per_class
from sbir_jax.ranking.trec import write_qrels, write_run
from sbir_jax.workdir import write_json


class ResultsError(ValueError):
    """An evaluation that is missing, damaged or cannot be compared; the message is one line."""


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """One evaluation.

    Attributes:
      entry: what `results.json` keeps of it.
      scores: by level.
      classes: class names of the queries, str [Q]; None without classes.
    """

    entry: dict[str, Any]
    scores: dict[str, Scores]
    classes: np.ndarray | None


@dataclasses.dataclass(frozen=True)
class Stored:
    """What `scores.npz` holds.

    Attributes:
      values: level to metric to float64 [Q].
      relevant: level to int32 [Q].
      classes: str [Q]; None without classes.
      rules: "ties" and "no_relevant" to the rule that was used.
      items: fingerprints: "queries", "gallery", and each level of its relevance.
    """

    values: dict[str, dict[str, np.ndarray]]
    relevant: dict[str, np.ndarray]
    classes: np.ndarray | None
    rules: dict[str, str]
    items: dict[str, str]


def fingerprint(*parts: np.ndarray | str | None) -> str:
    """sha256 over arrays and texts; equal for equal values, whatever the width of their dtype."""
    digest = hashlib.sha256()
    for part in parts:
        if part is None:
            data = b"none"
        elif isinstance(part, np.ndarray) and part.dtype.kind == "f":
            data = np.ascontiguousarray(part, "<f4").data
        elif isinstance(part, np.ndarray) and part.dtype.kind in "iu":
            data = np.ascontiguousarray(part, "<i8").data
        else:
            data = json.dumps(part.tolist() if isinstance(part, np.ndarray) else part).encode()
        digest.update(f"{part.shape if isinstance(part, np.ndarray) else ()}".encode())
        digest.update(data)
    return digest.hexdigest()


def folder_of(workdir: Path, split: str, checkpoint: str) -> Path:
    """Where the files of one evaluation of a run are."""
    return workdir / "evaluation" / f"{split}_{checkpoint}"


def write_files(folder: Path, evaluation: Evaluation) -> None:
    """Writes `scores.npz`, `curves.csv` and, where there are classes, `per_class.csv`."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_scores(folder / "scores.npz", evaluation)
    _write_csv(folder / "curves.csv", _curves(evaluation.scores))
    if evaluation.classes is not None:
        _write_csv(folder / "per_class.csv", _per_class(evaluation, evaluation.classes))


def add_entry(workdir: Path, entry: dict[str, Any], *, name: str) -> Path:
    """Adds an entry to `workdir/results.json` and returns its path.

    Entries are named SPLIT/CHECKPOINT, so the untrained baseline (`test/none`) stands beside the
    trained model (`test/best`); DATASET_SPLIT/CHECKPOINT on another dataset than the run's.

    Raises:
      ResultsError: `results.json` is there and is not one; it stays as it is.
    """
    path = workdir / "results.json"
    try:
        entries = json.loads(path.read_text()) if path.exists() else {}
    except ValueError as error:
        raise ResultsError(f"{path}: damaged ({error}); move it away and evaluate again") from None
    entries[name] = entry
    write_json(path, entries)
    return path


def write_trec(
    folder: Path,
    queries: Embeddings,
    gallery: Embeddings,
    relevance: Mapping[str, Relevance],
    nearest: np.ndarray,
) -> None:
    """Writes `run.txt`, and `qrels.txt` of the first level (`qrels_LEVEL.txt` of each other).

    Items without names are called q0, q1, ... and g0, g1, ...

    Raises:
      TrecError: names that hold whitespace.
    """
    sides = (("q", queries), ("g", gallery))
    own, others = (
        [f"{letter}{row}" for row in range(len(of.vectors))]
        if of.names is None
        else of.names.tolist()
        for letter, of in sides
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_run(folder / "run.txt", own, others, nearest)
    for number, (level, of) in enumerate(relevance.items()):
        write_qrels(folder / (f"qrels_{level}.txt" if number else "qrels.txt"), own, others, of)


def read_scores(path: Path) -> Stored:
    """Reads a `scores.npz`.

    Raises:
      ResultsError: the file is not one.
    """
    try:
        # Opened here: np.load leaves the file open when it is damaged.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
        levels = [name.removeprefix("relevant/") for name in found if name.startswith("relevant/")]
        return Stored(
            values={level: _below(found, f"values/{level}/") for level in levels},
            relevant={level: found[f"relevant/{level}"] for level in levels},
            classes=found.get("classes"),
            rules={name: str(value) for name, value in _below(found, "rules/").items()},
            items={name: str(value) for name, value in _below(found, "items/").items()},
        )
    except Exception as error:  # zipfile, ValueError, KeyError: whatever a damaged file gives
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ResultsError(f"{path}: damaged ({reason}); evaluate again") from error


def _write_scores(path: Path, evaluation: Evaluation) -> None:
    entry = evaluation.entry
    arrays: dict[str, Any] = {}
    for level, scores in evaluation.scores.items():
        arrays[f"relevant/{level}"] = scores.relevant
        for name, values in scores.metrics.items():
            arrays[f"values/{level}/{name}"] = values
    if evaluation.classes is not None:
        arrays["classes"] = evaluation.classes
    for rule in ("ties", "no_relevant"):
        arrays[f"rules/{rule}"] = np.array(entry[rule])
    for name, value in entry["fingerprints"]["items"].items():
        arrays[f"items/{name}"] = np.array(value)
    scratch = path.with_suffix(".partial.npz")
    np.savez_compressed(scratch, **arrays)
    scratch.replace(path)


def _per_class(evaluation: Evaluation, classes: np.ndarray) -> list[list]:
    rule, header = evaluation.entry["no_relevant"], ["class"]
    columns: list[list] = []
    for level, scores in evaluation.scores.items():
        found = per_class(scores, classes, no_relevant=rule)
        names = found.pop("class")
        header += [f"{level}/{name}" for name in found]
        columns += found.values()
    return [header, *map(list, zip(names, *columns, strict=True))]


def _curves(scores: dict[str, Scores]) -> list[list]:
    rows: list[list] = [["level", "kind", "x", "precision", "recall"]]
    for level, curve in ((level, found.curve) for level, found in scores.items()):
        if curve is None:
            continue
        for i, precision in enumerate(curve.interpolated):
            recall = i / (len(curve.interpolated) - 1)
            rows.append([level, "recall", recall, precision, recall])
        for k, (precision, recall) in enumerate(
            zip(curve.precision, curve.recall, strict=True), start=1
        ):
            rows.append([level, "rank", k, precision, recall])
    return rows


def _write_csv(path: Path, rows: list[list]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(
            [f"{cell:.6g}" if isinstance(cell, float) else cell for cell in row] for row in rows
        )


def _below(found: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {
        name.removeprefix(prefix): value for name, value in found.items() if name.startswith(prefix)
    }
