"""A user's own data: two trees of class folders, pairs by file name, or a CSV manifest."""

from __future__ import annotations

import dataclasses
import hashlib
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
from sbir_jax.data.images import Modality

_PHOTOS, _SKETCHES, _QUERIES = ("photos", "photo"), ("sketches", "sketch"), ("queries", "query")
_NUMBERED = re.compile(r"(.+)[-_]\d+")
ONE_CLASS = "object"
LAYOUTS = """three layouts are understood:
  1. class folders:  photos/<class>/*.jpg         sketches/<class>/*.png
  2. pairs by name:  photos/ID.jpg                sketches/ID.png, sketches/ID-1.png, ...
  3. a CSV manifest: --raw=FILE.csv with the columns path,modality,label,instance_id,split
with --queries=photo, queries/ takes the place of sketches/; photos/<class>/ alone will do too"""


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
        Option(
            "queries",
            "sketch",
            "sketch: drawings, in sketches/; photo: images in colour that search images of their "
            "kind (photos, logos), in queries/ or, without that folder, half of each class",
            ("sketch", "photo"),
        ),
    )

    @classmethod
    def scan(cls, raw: Path, *, link: str, queries: str = "sketch") -> Scan:
        if raw.is_file():
            found = scan_manifest(raw)
        elif queries == "photo" and not _named(raw, _QUERIES):
            found = _halves(raw)
        else:
            found = _two_sides(raw, _QUERIES if queries == "photo" else _SKETCHES, link)
        if queries == "sketch":
            return found
        items = [dataclasses.replace(i, photo_query=i.modality == "sketch") for i in found.items]
        return dataclasses.replace(
            found, items=tuple(items), train_config="configs/photo_to_photo.py"
        )


def _two_sides(raw: Path, allowed: tuple[str, str], link: str) -> Scan:
    """photos/ and a folder of queries named as `allowed` says, both by class or both without."""
    roots = {"photo": _side(raw, _PHOTOS), "sketch": _side(raw, allowed)}
    by_class = {modality: has_classes(root) for modality, root in roots.items()}
    if by_class["photo"] != by_class["sketch"]:
        folders = next(m for m in by_class if by_class[m])
        files = next(m for m in by_class if not by_class[m])
        raise PrepareError(
            f"{roots[folders]} has class folders but {roots[files]} has none\n{LAYOUTS}"
        )
    photos = side_items(raw, roots["photo"], "photo", by_class["photo"])
    queries = side_items(raw, roots["sketch"], "sketch", by_class["sketch"])
    photo_ids = {item.instance_id for item in photos} if link == "name" else set()
    queries = [_linked(item, photo_ids) for item in queries]
    linked = sum(bool(item.instance_id) for item in queries)
    many, one = allowed
    notes = [f"{linked:,} of {len(queries):,} {many} linked to a photo by file name"]
    if not by_class["photo"]:
        notes.insert(0, f"no class folders: one class {ONE_CLASS!r}, retrieval by instance")
        if not linked:
            problem = f"no class folders, and no {one} is named after a photo"
            raise PrepareError(f"--raw={raw}: {problem}\n{LAYOUTS}")
    return Scan(items=(*photos, *queries), notes=tuple(notes))


def _halves(raw: Path) -> Scan:
    """Every second photo of each class, by a hash of its name, as a query for the others."""
    root = _side(raw, _PHOTOS)
    if not has_classes(root):
        raise PrepareError(f"{root} has no class folders, and there is no queries/ beside it")
    items = []
    for folder in class_dirs(root):
        of_class = folder_items(raw, folder, "photo", folder.name)
        of_class.sort(key=lambda item: hashlib.sha256(item.file.encode()).digest())
        items += of_class[::2]
        items += [
            dataclasses.replace(item, modality="sketch", instance_id="") for item in of_class[1::2]
        ]
    note = "no queries/: every second photo of each class is a query, and is not searched"
    return Scan(items=tuple(items), notes=(note,))


def _named(raw: Path, allowed: tuple[str, str]) -> list[Path]:
    return [p for p in class_dirs(raw) if p.name.lower() in allowed]


def _side(raw: Path, allowed: tuple[str, str]) -> Path:
    found = _named(raw, allowed)
    if len(found) == 1:
        return found[0]
    names = sorted(p.name + "/" * p.is_dir() for p in raw.iterdir() if not p.name.startswith("."))
    seen = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "") if names else "nothing"
    wanted = " or ".join(f"{name}/" for name in allowed)
    problem = f"both {wanted}" if found else f"no {wanted}"
    raise PrepareError(f"--raw={raw}: {problem} in it (found: {seen})\n{LAYOUTS}")


def has_classes(root: Path) -> bool:
    """Whether images lie in class folders; raises PrepareError where they do and do not."""
    if not class_dirs(root):
        return False
    loose = [p.name for p in image_files(root) if p.parent == root]
    if loose:
        raise PrepareError(
            f"{root} has class folders and also {len(loose)} loose files, such as {loose[0]}: "
            "move each into the folder of its class"
        )
    return True


def side_items(raw: Path, root: Path, modality: Modality, by_class: bool) -> list[Item]:
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
