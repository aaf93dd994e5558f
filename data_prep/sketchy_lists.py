"""What the 'Annotation and Info' archive of Sketchy lists: test photos and flagged sketches."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from data_prep.items import Item, PrepareError, class_key

_INFO = ("info-06-04/info", "info-06-04", "info", "")
_SUFFIX = re.compile(r"\.(jpe?g|png|svg)$", re.IGNORECASE)


def info_dir(roots: Iterable[Path]) -> Path | None:
    """The folder of the lists, unpacked in one of some folders or as one of them."""
    for root in roots:
        for below in _INFO:
            folder = root / below
            if (folder / "testset.txt").is_file() or any(folder.glob("invalid-*.txt")):
                return folder
    return None


def flagged(info: Path | None, items: Sequence[Item]) -> dict[str, set[str]]:
    """Files of the sketches that each invalid-<kind>.txt lists."""
    if info is None:
        return {}
    found = {}
    for path in sorted(info.glob("invalid-*.txt")):
        listed = _Listed(path)
        found[path.stem.removeprefix("invalid-")] = {
            item.file
            for item in items
            if item.modality == "sketch" and listed.has(item.label, Path(item.file).stem)
        }
    return found


def mark_testset(items: list[Item], path: Path) -> tuple[list[Item], int]:
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
                self._with_label.add((class_key(parts[-2]), stem))
            elif stem:
                self._bare.add(stem)

    def has(self, label: str, stem: str) -> bool:
        return stem in self._bare or (class_key(label), stem) in self._with_label
