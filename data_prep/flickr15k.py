"""Flickr15K (Hu, Collomosse, CVIU 2013): 33 classes of photos, and sketches by ten people.

images/<class>/<name>.jpg              classes are numbers from 1 to 33
330sketches/<person>/<class>.png       or queries/<person><class, three digits>.png, as repackaged

For evaluation only: everything is the test split, `launch.py evaluate --dataset=flickr15k`.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from data_prep.builder import PairedImages
from data_prep.download import Source
from data_prep.items import Item, PrepareError, Scan, class_items, found_dir, image_files

_JOINED = re.compile(r"\d{1,2}(\d{3})")


class Flickr15k(PairedImages):
    """Flickr15K: images/<class>/, 330sketches/<person>/<class>.png; for evaluation only."""

    RAW = "directory with images/ and 330sketches/ (or queries/)"
    EXAMPLE = "--raw=Flickr15K --data_dir=data --protocol=flickr15k"
    TRAIN_CONFIG = ""
    SOURCES = (
        Source("images.zip", drive="13AFiwNh4FMks_jGfL4UDntMf0lHL6BTQ"),
        Source("330sketches.zip", drive="16SOyCbC1H6HYJ2uT9ECDRRMj70_zbvmb"),
    )

    @classmethod
    def scan(cls, raw: Path) -> Scan:
        root = found_dir(raw, ("images", "Flickr15K/images", "resize_img"), "photos")
        photos = class_items(raw, root, "photo")
        folder = found_dir(raw, ("330sketches", "queries", "sketches"), "sketches")
        sketches = [
            Item(
                path=path,
                file=path.relative_to(raw).as_posix(),
                modality="sketch",
                label=_class_of(path, folder),
            )
            for path in image_files(folder)
        ]
        items = [dataclasses.replace(item, split="test") for item in (*photos, *sketches)]
        return Scan(items=tuple(items), notes=("no split: all of it is tested",), test_only=True)


def _class_of(path: Path, folder: Path) -> str:
    """6/9.png and 6009.png are both a sketch by person 6 of class 9."""
    joined = _JOINED.fullmatch(path.stem)
    if path.parent != folder and path.stem.isdecimal() and len(path.stem) < 3:
        return str(int(path.stem))
    if path.parent == folder and joined:
        return str(int(joined[1]))
    raise PrepareError(
        f"{path}: expected <person>/<class>.png or <person><class, three digits>.png"
    )
