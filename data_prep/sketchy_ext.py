"""Sketchy-Extended (Liu, Shen, Shen, Liu, Shao, CVPR 2017): Sketchy with 60,502 more photos.

EXTEND_image_sketchy/<category>/ext_<n>.jpg, and the 12,500 originals again under their own names,
beside Sketchy's archives (or EXTEND_image_sketchy_ready, extended_photo, as repackaged).

The usual file lists join the original photos and all of EXTEND, so each original stands in the
gallery twice: 12,553 entries of split 2 are 10,453 photos. `gallery` says which is meant.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import ClassVar

from data_prep.builder import PairedImages
from data_prep.download import Source
from data_prep.items import Item, Option, PrepareError, Scan, class_items, named_alike
from data_prep.sketchy import (
    INFO_SOURCE,
    INVALID,
    RENDERED_SOURCE,
    RENDERINGS,
    UNSEEN,
    Sketchy,
    around,
    rendered_dir,
)

_EXTENDED = ("EXTEND_image_sketchy", "EXTEND_image_sketchy_ready", "extended_photo")


class SketchyExt(PairedImages):
    """Sketchy-Extended: Sketchy with EXTEND_image_sketchy; whole classes are held out."""

    RAW = "directory with rendered_256x256/ and EXTEND_image_sketchy/ (info-06-04/ if you have it)"
    EXAMPLE = "--raw=Sketchy --data_dir=data --protocol=sketchy_ext_split2_yelamarthi"
    TRAIN_CONFIG = "configs/zero_shot.py"
    SOURCES = (
        RENDERED_SOURCE,
        Source("EXTEND_image_sketchy.zip", drive="0B2U-hnwRkpRrdGZKTzkwbkEwVkk"),
        dataclasses.replace(INFO_SOURCE, need="--invalid=drop"),
    )
    OPTIONS: ClassVar = (
        Option(
            "gallery",
            "listed",
            "listed: originals and all of EXTEND, so originals twice; distinct: each photo once; "
            "extended: EXTEND only",
            ("listed", "distinct", "extended"),
        ),
        *RENDERINGS,
        UNSEEN,
        INVALID,
    )

    @classmethod
    def scan(cls, raw: Path, *, gallery: str, **options: str) -> Scan:
        found = Sketchy.scan(raw, sketches="png", split="category", **options)
        sketches = [item for item in found.items if item.modality == "sketch"]
        originals = [item for item in found.items if item.modality == "photo"]
        extended = _extended(raw, {item.label for item in found.items})
        names = {item.instance_id for item in extended}
        twice = sum(item.instance_id in names for item in originals)
        if gallery == "extended":
            originals = []
        elif gallery == "distinct":
            originals = [item for item in originals if item.instance_id not in names]
        unseen = {item.label for item in found.items if item.split == "test"}
        extended = [
            dataclasses.replace(item, split="test") if item.label in unseen else item
            for item in extended
        ]
        note = (
            f"gallery {gallery}: {len(originals):,} original photos and {len(extended):,} of "
            f"EXTEND, which has {twice:,} of the originals too"
        )
        return dataclasses.replace(
            found,
            items=(*originals, *extended, *sketches),
            notes=(*found.notes, note),
            details=found.details | {"gallery": gallery, "originals_in_extend": twice},
        )


def _extended(raw: Path, classes: set[str]) -> list[Item]:
    for root in around(raw, rendered_dir(raw)):
        for name in _EXTENDED:
            if (root / name).is_dir():
                return class_items(root, root / name, "photo", str, named_alike(classes, {}))
    raise PrepareError(f"--raw={raw}: no EXTEND_image_sketchy/ in it or beside Sketchy's folders")
