"""Quick, Draw! from its own stroke files (Ha, Eck, 2017), beside photos of the same classes.

<class>.ndjson                 one drawing a line; simplified (256 x 256, no times) or raw
photos/<class>/<name>.jpg      or QuickDraw_images_final/<class>/, of QuickDraw-Extended

Files are as in full/simplified/ or full/raw/ of the published bucket; those folders may hold them,
and full_simplified_<class>.ndjson is read too. Drawings become pixels by
`sbir_jax.data.strokes`, as those of a page do, so both look alike to a model.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from tqdm import tqdm

from data_prep.builder import PairedImages
from data_prep.download import Source
from data_prep.items import (
    BadArgument,
    Item,
    Option,
    PrepareError,
    Scan,
    class_items,
    found_dir,
    named_alike,
)
from data_prep.quickdraw_ext import PHOTOS
from sbir_jax.data.strokes import read_quickdraw

_FOLDERS = ("", "simplified", "raw", "full/simplified", "full/raw", "ndjson")
_PREFIX = re.compile(r"^full_(simplified|raw)_")
# How Quick, Draw! calls classes that QuickDraw-Extended calls otherwise.
_ALIASES = {
    "The Eiffel Tower": "eiffel tower",
    "crocodile": "crocodilian",
    "motorbike": "motorcycle",
}


class Quickdraw(PairedImages):
    """Quick, Draw! from its stroke files, <class>.ndjson, beside photos of the same classes."""

    RAW = "directory with <class>.ndjson files and photos/<class>/ (or QuickDraw_images_final/)"
    EXAMPLE = "--raw=quickdraw --data_dir=data --per_class=1000"
    TRAIN_CONFIG = "configs/zero_shot.py"
    SOURCES = (
        Source(
            "<class>.ndjson",
            page="https://storage.googleapis.com/quickdraw_dataset/full/simplified/<class>.ndjson",
        ),
        Source(
            "QuickDraw_images_final.zip",
            url="http://datasets.cvc.uab.es/QuickDraw/QuickDraw_images_final.zip",
        ),
    )
    OPTIONS: ClassVar = (
        Option("per_class", 1000, "drawings of each class, from the start of its file (0: all)"),
        Option(
            "recognized",
            "yes",
            "yes: only drawings that the game recognised; all",
            ("yes", "all"),
        ),
    )

    @classmethod
    def scan(cls, raw: Path, *, per_class: int, recognized: str) -> Scan:
        if per_class < 0:
            raise BadArgument(f"--per_class={per_class}: valid from 0 (all)")
        files = _stroke_files(raw)
        photos = class_items(raw, found_dir(raw, PHOTOS, "photos"), "photo")
        classes = {item.label for item in photos}
        label_of = named_alike(classes, _ALIASES)
        labels = {path: label_of(_PREFIX.sub("", path.stem)) for path in files}
        used = [path for path in files if labels[path] in classes]
        sketches = [
            item
            for path in tqdm(used, desc="finding drawings", unit=" files", delay=1)
            for item in _drawings(raw, path, labels[path], per_class, recognized == "yes")
        ]
        notes = ["no sketch is linked to a photo"]
        if len(used) < len(files):
            notes.append(f"{len(files) - len(used)} stroke files have no photos and are left out")
        return Scan(items=(*photos, *sketches), notes=tuple(notes))


def _stroke_files(raw: Path) -> list[Path]:
    for below in _FOLDERS:
        if files := sorted((raw / below).glob("*.ndjson")):
            return files
    raise PrepareError(f"--raw={raw}: no <class>.ndjson in it, nor in simplified/ or raw/")


def _drawings(raw: Path, path: Path, label: str, limit: int, recognized: bool) -> Iterator[Item]:
    """An item for each of the first drawings of a file; strokes are not kept in memory."""
    offset = found = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            start, offset = offset, offset + len(line)
            if not line.strip():
                continue
            try:
                drawing = json.loads(line)
                key, known = str(drawing["key_id"]), bool(drawing["recognized"])
            except (ValueError, KeyError, TypeError) as error:
                raise PrepareError(
                    f"{path}: line {number} is not a drawing of Quick, Draw! ({error})"
                ) from error
            if recognized and not known:
                continue
            yield Item(
                path=path,
                file=f"{path.relative_to(raw).as_posix()}#{key}",
                modality="sketch",
                label=label,
                part=(start, len(line)),
                decode=read_quickdraw,
            )
            found += 1
            if found == limit:
                return
