"""A CSV manifest of a user's images, every problem of it reported at once with its line number."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import cast

from data_prep.items import SPLITS, Item, PrepareError, Scan
from sbir_jax.config import nearest
from sbir_jax.data.images import MODALITIES, Modality

COLUMNS = ("path", "modality", "label", "instance_id", "split")
REQUIRED = ("path", "modality", "label")
LISTED_PROBLEMS = 20


def scan_manifest(path: Path) -> Scan:
    """Reads a manifest: one image a line, paths relative to the CSV file.

    Columns: `path`; `modality`, photo or sketch; `label`, the class; `instance_id`, equal for a
    photo and the sketches drawn after it, within a class, or empty; `split`, train, val, test, or
    empty to have it drawn. The last two columns may be left out.

    Raises:
      PrepareError: all problems at once, up to 20 of them, with their line numbers.
    """
    rows = _read(path)
    items, problems = [], []
    line_of_path: dict[str, int] = {}
    split_of_instance: dict[str, tuple[str, int]] = {}
    for line, row in rows:
        row = {key: (value or "").strip() for key, value in row.items() if key in COLUMNS}
        found = _row_problems(path.parent, row)
        name = Path(row["path"]).as_posix()
        if name in line_of_path:
            found.append(f"{name} is already on line {line_of_path[name]}")
        line_of_path.setdefault(name, line)
        instance_id = f"{row['label']}/{row['instance_id']}" if row.get("instance_id") else ""
        split = row.get("split", "")
        if instance_id and split:
            first, at = split_of_instance.setdefault(instance_id, (split, line))
            if first != split:
                found.append(
                    f"instance {instance_id} is in {split} here and in {first} on line {at}: "
                    "a photo and its sketches belong to one split"
                )
        problems += [f"line {line}: {problem}" for problem in found]
        if not found:
            items.append(
                Item(
                    path=path.parent / row["path"],
                    file=name,
                    modality=cast(Modality, row["modality"]),  # as `_row_problems` found
                    label=row["label"],
                    instance_id=instance_id,
                    split=split,
                )
            )
    if problems:
        more = len(problems) - LISTED_PROBLEMS
        listed = problems[:LISTED_PROBLEMS] + ([f"... and {more} more"] if more > 0 else [])
        raise PrepareError("\n  ".join([f"{path}: {len(problems)} problems", *listed]))
    return Scan(items=tuple(items))


def _row_problems(root: Path, row: dict[str, str]) -> list[str]:
    problems = []
    if not row["path"]:
        problems.append("path is empty")
    elif not (root / row["path"]).is_file():
        problems.append(f"no such file: {row['path']}")
    if row["modality"] not in MODALITIES:
        problems.append(f"modality {row['modality']!r}: {nearest(row['modality'], MODALITIES)}")
    if not row["label"]:
        problems.append("label is empty; without classes, give every line the same one")
    if row.get("split") and row["split"] not in SPLITS:
        problems.append(f"split {row['split']!r}: {nearest(row['split'], SPLITS)}, or empty")
    return problems


def _read(path: Path) -> list[tuple[int, dict[str, str]]]:
    """(line number, row) of every row; the header is checked."""
    try:
        # utf-8-sig: spreadsheets put a byte-order mark before the first column name.
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            columns = [(name or "").strip() for name in reader.fieldnames or []]
            reader.fieldnames = columns
            rows = [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise PrepareError(f"{path}: not a UTF-8 CSV file ({error})") from error
    if len(columns) == 1 and ";" in columns[0]:
        raise PrepareError(f"{path}: columns are separated by ';': save it with commas")
    unknown = [name for name in columns if name not in COLUMNS]
    missing = [name for name in REQUIRED if name not in columns]
    if unknown:
        raise PrepareError(f"{path}: unknown column {unknown[0]!r}; {nearest(unknown[0], COLUMNS)}")
    if missing:
        raise PrepareError(
            f"{path}: missing column {', '.join(missing)}; the first line names the columns "
            f"{','.join(COLUMNS)}"
        )
    if not rows:
        raise PrepareError(f"{path}: no rows below the header")
    return rows
