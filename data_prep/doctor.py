"""Looks prepared datasets over: what is there, what is wrong, which protocols can run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import tensorflow_datasets as tfds

from data_prep.protocol import load_protocol, protocol_names
from sbir_jax.data.images import MODALITIES
from sbir_jax.data.source import SPLITS, Dataset, DatasetError, open_dataset
from sbir_jax.machine import Finding

# What the report of a preparation lists, and what it means.
_NOTES = {
    "rejected": "files were rejected when it was prepared",
    "duplicates": "groups of identical files",
    "blank_sketches": "blank sketches",
    "inverted_sketches": "sketches mostly dark (white on black?)",
    "one_modality_classes": "classes with photos or sketches only",
}
_SIDE = 256


class ProblemsFound(Exception):
    """The doctor found problems; they have been printed."""


def data_findings(data_dir: Path, protocol: str = "") -> Iterator[Finding]:
    """Looks at every prepared dataset in a directory.

    Args:
      data_dir: directory of prepared datasets.
      protocol: one that has to be among them; "" for none.

    Raises:
      BadArgument: there is no such protocol.
    """
    wanted = load_protocol(protocol).name if protocol else ""
    if not data_dir.is_dir():
        yield Finding(
            "problem", f"{data_dir}: no such directory; prepare data: python -m data_prep"
        )
        return
    free = shutil.disk_usage(data_dir).free
    yield Finding("ok", f"{data_dir}: {free / 1e9:.1f} GB free")
    for left in sorted(data_dir.glob(".*.partial-*")):
        yield Finding("note", f"{left}: left by a preparation that was killed; it may be deleted")
    found: dict[str, str] = {}
    marks = ("index.npz", "prepare_report.json")
    datasets = {path.parent for mark in marks for path in data_dir.glob(f"[!.]*/{mark}")}
    for path in sorted(datasets):
        yield from _of_dataset(path, found)
    if not datasets:
        yield Finding("problem", f"{data_dir}: no prepared dataset; make one: python -m data_prep")
    if wanted and wanted not in found:
        dataset = load_protocol(protocol).dataset
        yield Finding(
            "problem",
            f"protocol {wanted}: no dataset is prepared for it: "
            f"python -m data_prep {dataset} --protocol={protocol} --raw=DIR --data_dir={data_dir}",
        )
    ready = ", ".join(f"{name} ({of})" for name, of in sorted(found.items())) or "none"
    yield Finding("ok", f"protocols that can run: {ready}")
    missing = len(set(protocol_names()) - found.keys())
    yield Finding("ok", f"{missing} others have no dataset here: python -m data_prep protocols")


def _of_dataset(path: Path, protocols: dict[str, str]) -> Iterator[Finding]:
    """One dataset; adds the protocol that it can run to `protocols`."""
    try:
        dataset = open_dataset(path.name, path.parent)
        report = json.loads((path / "prepare_report.json").read_text())
        if absent := [key for key in ("totals", "split_leakage", *_NOTES) if key not in report]:
            raise DatasetError(
                f"{path}/prepare_report.json: has no {absent[0]!r}; prepare the dataset again"
            )
        _require_records(dataset, report)
    except DatasetError as error:
        yield Finding("problem", str(error))
        return
    yield Finding("ok", f"{path}: {_sizes(dataset)}")
    yield Finding("ok", f"{path}: {_bytes(dataset)}")
    for key, meaning in _NOTES.items():
        if listed := report[key]:
            first = str(next(iter(listed)))
            yield Finding("note", f"{path}: {len(listed):,} {meaning}, such as {first}")
    if leaked := report["split_leakage"]:
        files = ", ".join(f"{file} ({split})" for file, split in leaked[0].items())
        yield Finding("problem", f"{path}: {len(leaked):,} images are in two splits: {files}")
    sketches = sum(len(dataset.index(split, "sketch")) for split in SPLITS)
    if dataset.channels["sketch"] == 1 and 2 * len(report["inverted_sketches"]) > sketches:
        yield Finding("problem", f"{path}: most sketches are white on black: invert them")
    if dataset.protocol:
        yield from _of_protocol(path, dataset.protocol, protocols)


def _of_protocol(path: Path, about: dict, protocols: dict[str, str]) -> Iterator[Finding]:
    name, differing = about["name"], about["counts_that_differ"]
    if name in protocol_names():
        now = load_protocol(name).fingerprint(about["options"])
        if now != about["fingerprint"]:
            yield Finding(
                "problem",
                f"{path}: protocol {name} has changed since it was prepared: prepare again",
            )
            return
    protocols[name] = path.name
    for line in differing[:5]:
        yield Finding("problem", f"{path}: not the counts of protocol {name}: {line}")
    if len(differing) > 5:
        yield Finding("problem", f"{path}: {len(differing) - 5} more counts of {name} differ")
    if not differing:
        held = len(about["classes_held_out_for_validation"])
        kept = f"; {held} seen classes are held out for validation" if held else ""
        yield Finding("ok", f"{path}: counts are those of protocol {name}{kept}")


def _require_records(dataset: Dataset, report: dict) -> None:
    """Index, report and shards hold equally many images, and each split's ends can be decoded."""
    for modality in MODALITIES:
        try:
            stored = tfds.builder_from_directory(dataset.path / modality / "1.0.0").info.splits
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise DatasetError(
                f"{dataset.path / modality}: damaged ({reason}); prepare the dataset again"
            ) from error
        for split in SPLITS:
            count = len(dataset.index(split, modality))
            records = stored[split].num_examples if split in stored else 0
            if not count == records == report["totals"][modality][split]:
                raise DatasetError(
                    f"{dataset.path}: {split} has {records} {modality} records, {count} in the "
                    f"index, {report['totals'][modality][split]} in the report; prepare it again"
                )
            if count:
                dataset.images(split, modality).load([0, count - 1], 32, "pad")


def _sizes(dataset: Dataset) -> str:
    sides = [
        f"{'/'.join(f'{len(dataset.index(split, side)):,}' for split in SPLITS)} {side} images"
        for side in MODALITIES
    ]
    return f"{len(dataset.classes)} classes; {', '.join(sides)} (train/val/test)"


def _bytes(dataset: Dataset) -> str:
    """Bytes on disk, and of all images in memory."""
    disk = sum(path.stat().st_size for path in dataset.path.rglob("*") if path.is_file())
    pixels = _SIDE * _SIDE
    memory = sum(
        len(dataset.index(split, side)) * pixels * dataset.channels[side]
        for split in SPLITS
        for side in MODALITIES
    )
    return f"{disk / 1e9:.2f} GB on disk; {memory / 1e9:.2f} GB in memory, resident at {_SIDE} px"
