"""A user's own data: two trees of class folders, pairs by file name, or a CSV manifest."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import ClassVar

from data_prep.builder import PairedImages
from data_prep.items import (
    Item,
    Option,
    PrepareError,
    Scan,
    class_dirs,
    class_items,
    folder_items,
    image_files,
)
from data_prep.manifest import scan_manifest

_SIDES = {"photo": ("photos", "photo"), "sketch": ("sketches", "sketch")}
_NUMBERED = re.compile(r"(.+)[-_]\d+")
ONE_CLASS = "object"
LAYOUTS = """three layouts are understood:
  1. class folders:  photos/<class>/*.jpg         sketches/<class>/*.png
  2. pairs by name:  photos/ID.jpg                sketches/ID.png, sketches/ID-1.png, ...
  3. a CSV manifest: --raw=FILE.csv with the columns path,modality,label,instance_id,split"""


class Folders(PairedImages):
    """Your own data: photos/<class>/ and sketches/<class>/, pairs by file name, or a CSV file."""

    RAW = "directory with photos/ and sketches/, or a CSV manifest"
    EXAMPLE = "--raw=my_images --data_dir=data --name=mine"
    TRAIN_CONFIG = "configs/folders.py"
    OPTIONS: ClassVar = (
        Option(
            "link",
            "name",
            "name: sketch ID.png, ID-1.png or ID_1.png was drawn after photo ID.jpg of its class; "
            "none: equal names mean nothing",
            ("name", "none"),
        ),
    )

    @classmethod
    def scan(cls, raw: Path, *, link: str) -> Scan:
        if raw.is_file():
            return scan_manifest(raw)
        roots = {modality: _side(raw, modality) for modality in _SIDES}
        by_class = {modality: _has_classes(root) for modality, root in roots.items()}
        if by_class["photo"] != by_class["sketch"]:
            folders = next(m for m in by_class if by_class[m])
            files = next(m for m in by_class if not by_class[m])
            raise PrepareError(
                f"{roots[folders]} has class folders but {roots[files]} has none\n{LAYOUTS}"
            )
        photos = _items(raw, roots["photo"], "photo", by_class["photo"])
        sketches = _items(raw, roots["sketch"], "sketch", by_class["sketch"])
        photo_ids = {item.instance_id for item in photos} if link == "name" else set()
        sketches = [_linked(item, photo_ids) for item in sketches]
        linked = sum(bool(item.instance_id) for item in sketches)
        notes = [f"{linked:,} of {len(sketches):,} sketches linked to a photo by file name"]
        if not by_class["photo"]:
            notes.insert(0, f"no class folders: one class {ONE_CLASS!r}, retrieval by instance")
            if not linked:
                problem = "no class folders, and no sketch is named after a photo"
                raise PrepareError(f"--raw={raw}: {problem}\n{LAYOUTS}")
        return Scan(items=(*photos, *sketches), notes=tuple(notes))


def _side(raw: Path, modality: str) -> Path:
    found = [p for p in class_dirs(raw) if p.name.lower() in _SIDES[modality]]
    if len(found) == 1:
        return found[0]
    names = sorted(p.name + "/" * p.is_dir() for p in raw.iterdir() if not p.name.startswith("."))
    seen = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if names else "nothing"
    wanted = " or ".join(f"{name}/" for name in _SIDES[modality])
    problem = f"both {wanted}" if found else f"no {wanted}"
    raise PrepareError(f"--raw={raw}: {problem} in it (found: {seen})\n{LAYOUTS}")


def _has_classes(root: Path) -> bool:
    if not class_dirs(root):
        return False
    loose = [p.name for p in image_files(root) if p.parent == root]
    if loose:
        raise PrepareError(
            f"{root} has class folders and also {len(loose)} loose files, such as {loose[0]}: "
            "move each into the folder of its class"
        )
    return True


def _items(raw: Path, root: Path, modality: str, by_class: bool) -> list[Item]:
    """One side, every image its own instance so far: `<class>/<name without suffix>`."""
    if by_class:
        return class_items(raw, root, modality)
    return folder_items(raw, root, modality, ONE_CLASS)


def _linked(sketch: Item, photo_ids: set[str]) -> Item:
    """The sketch with the instance of the photo it is named after, or with none."""
    numbered = _NUMBERED.fullmatch(sketch.instance_id)
    candidates = [sketch.instance_id, *([numbered[1]] if numbered else [])]
    instance_id = next((name for name in candidates if name in photo_ids), "")
    return dataclasses.replace(sketch, instance_id=instance_id)
