"""The Sketchy database (Sangkloy, Burnell, Ham, Hays, SIGGRAPH 2016), in its official layout.

rendered_256x256/256x256/photo/tx_<rendering>/<category>/<photo>.jpg
rendered_256x256/256x256/sketch/tx_<rendering>/<category>/<photo>-<k>.png
info-06-04/info/testset.txt, invalid-*.txt      (optional)
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from data_prep.builder import PairedImages
from data_prep.items import (
    BadArgument,
    Item,
    Option,
    PrepareError,
    Scan,
    class_dirs,
    class_items,
)
from sbir_jax.config import nearest

_RENDERED = ("", "256x256", "rendered_256x256/256x256", "rendered_256x256")
_INFO = ("info-06-04/info", "info-06-04", "info", "")
_SUFFIX = re.compile(r"\.(jpe?g|png|svg)$", re.IGNORECASE)


class Sketchy(PairedImages):
    """Sketchy, official layout: any rendering, testset.txt, invalid-*.txt, unseen categories."""

    RAW = "directory with rendered_256x256/, and info-06-04/ if you have it"
    EXAMPLE = "--raw=Sketchy --data_dir=data"
    TRAIN_CONFIG = "configs/sketchy.py"
    OPTIONS: ClassVar = (
        Option("photo_render", "tx_000000000000", "rendering of the photos"),
        Option("sketch_render", "tx_000000000000", "rendering of the sketches"),
        Option(
            "split",
            "instance",
            "instance: testset.txt if there is one, else drawn; category: whole classes",
            ("instance", "category"),
        ),
        Option("unseen", "", "test classes of --split=category: a file or a,b,c (else drawn)"),
        Option(
            "invalid", "keep", "what to do with sketches listed in invalid-*.txt", ("keep", "drop")
        ),
    )

    @classmethod
    def scan(
        cls,
        raw: Path,
        *,
        photo_render: str,
        sketch_render: str,
        split: str,
        unseen: str,
        invalid: str,
    ) -> Scan:
        if unseen and split != "category":
            raise BadArgument(f"--unseen={unseen}: only with --split=category")
        rendered = _rendered_dir(raw)
        items = [
            *_scan_side(rendered, "photo", photo_render),
            *_scan_side(rendered, "sketch", sketch_render),
        ]
        info = _info_dir(raw, rendered)
        flagged = _flagged(info, items)
        details = {
            "renderings": {"photo": photo_render, "sketch": sketch_render},
            "invalid_sketches": {kind: len(files) for kind, files in flagged.items()},
        }
        notes = []
        if flagged:
            files = set().union(*flagged.values())
            done = "dropped (--invalid=drop)" if invalid == "drop" else "kept (--invalid=keep)"
            notes.append(f"{len(files):,} sketches listed in invalid-*.txt: {done}")
            if invalid == "drop":
                items = [item for item in items if item.file not in files]
        elif invalid == "drop":
            raise BadArgument(f"--invalid=drop: no invalid-*.txt found near --raw={raw}")
        if split == "category":
            items = _mark_unseen(items, unseen)
            return Scan(
                items=tuple(items), split_by="category", notes=tuple(notes), details=details
            )
        if info and (info / "testset.txt").is_file():
            items, matched = _mark_testset(items, info / "testset.txt")
            notes.append(f"testset.txt: {matched:,} test photos; train and val drawn from the rest")
            details["testset_photos"] = matched
        else:
            notes.append("no testset.txt found: test drawn by photo instance")
        return Scan(items=tuple(items), notes=tuple(notes), details=details)


def _rendered_dir(raw: Path) -> Path:
    for below in _RENDERED:
        folder = raw / below
        if (folder / "photo").is_dir() and (folder / "sketch").is_dir():
            return folder
    raise PrepareError(
        f"--raw={raw}: expected rendered_256x256/256x256/ with photo/ and sketch/ in it, "
        "or one of these folders itself"
    )


def _scan_side(rendered: Path, modality: str, render: str) -> list[Item]:
    root = rendered / modality
    found = [folder.name for folder in class_dirs(root)]
    if render not in found:
        raise BadArgument(f"--{modality}_render={render!r}: {nearest(render, found)} in {root}")
    photo_of = drawn_after if modality == "sketch" else str
    return class_items(rendered, root / render, modality, photo_of)


def drawn_after(stem: str) -> str:
    """Sketch n02691156_10151-3 depicts photo n02691156_10151; "" for a name without a number."""
    return stem.rpartition("-")[0]


def _info_dir(raw: Path, rendered: Path) -> Path | None:
    """The folder of the 'Annotation and Info' archive, unpacked beside the rendered images."""
    for root in (raw, rendered, rendered.parent, rendered.parent.parent):
        for below in _INFO:
            folder = root / below
            if (folder / "testset.txt").is_file() or any(folder.glob("invalid-*.txt")):
                return folder
    return None


def _flagged(info: Path | None, items: Iterable[Item]) -> dict[str, set[str]]:
    """Files of the sketches that each invalid-<kind>.txt lists."""
    if info is None:
        return {}
    flagged = {}
    for path in sorted(info.glob("invalid-*.txt")):
        listed = _Listed(path)
        kind = path.stem.removeprefix("invalid-")
        flagged[kind] = {
            item.file
            for item in items
            if item.modality == "sketch" and listed.has(item.label, Path(item.file).stem)
        }
    return flagged


def _mark_testset(items: list[Item], path: Path) -> tuple[list[Item], int]:
    """Puts the listed photos and their sketches into test; also returns the photos matched."""
    listed = _Listed(path)
    marked = [
        dataclasses.replace(item, split="test")
        if item.instance_id and listed.has(item.label, item.instance_id.rpartition("/")[2])
        else item
        for item in items
    ]
    matched = sum(item.modality == "photo" and item.split == "test" for item in marked)
    if not matched:
        raise PrepareError(f"{path}: none of its lines names a photo here, such as {items[0].file}")
    return marked, matched


class _Listed:
    """Photo or sketch ids, one a line: `category/id.jpg`, with or without folder and suffix."""

    def __init__(self, path: Path):
        self._with_label, self._bare = set(), set()
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            parts = line.strip().replace("\\", "/").split("/")
            stem = _SUFFIX.sub("", parts[-1])
            if len(parts) > 1:
                self._with_label.add((_plain(parts[-2]), stem))
            elif stem:
                self._bare.add(stem)

    def has(self, label: str, stem: str) -> bool:
        return stem in self._bare or (_plain(label), stem) in self._with_label


def _plain(category: str) -> str:
    """Categories are spelled with spaces, hyphens or underscores in different releases."""
    return re.sub(r"[ \-_]+", "_", category.strip().lower())


def _mark_unseen(items: list[Item], unseen: str) -> list[Item]:
    if not unseen:
        return items
    classes = {_plain(item.label): item.label for item in items}
    as_file = Path(unseen).is_file()
    names = Path(unseen).read_text(encoding="utf-8").splitlines() if as_file else unseen.split(",")
    names = [name.strip() for name in names if name.strip()]
    unknown = [name for name in names if _plain(name) not in classes]
    if unknown:
        raise BadArgument(
            f"--unseen: no class {unknown[0]!r}; {nearest(unknown[0], classes.values())}"
        )
    chosen = {classes[_plain(name)] for name in names}
    return [
        dataclasses.replace(item, split="test") if item.label in chosen else item for item in items
    ]
