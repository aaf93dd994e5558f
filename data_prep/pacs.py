"""PACS (Li, Yang, Song, Hospedales, ICCV 2017), its photo and sketch domains.

Layout: `photo/<class>/*` and `sketch/<class>/*`. Many files of the domains are Sketchy's own, where
`n02109525_9037-5.png` was drawn after `n02109525_9037.jpg`: that link is kept. Photos with Caltech
names have no sketch, sketches with TU-Berlin names no photo.
"""

from __future__ import annotations

import re
from pathlib import Path

from data_prep.builder import PairedImages
from data_prep.items import PrepareError, Scan, class_dirs, class_items
from sbir_jax.data.images import MODALITIES

_SKETCHY_SKETCH = re.compile(r"(n\d+_\d+)-\d+")


class Pacs(PairedImages):
    """PACS photo and sketch domains: photo/<class>/*, sketch/<class>/*; Sketchy's links kept."""

    RAW = "directory with photo/ and sketch/"
    EXAMPLE = "--raw=PACS/kfold --data_dir=data"
    TRAIN_CONFIG = "configs/pacs_cpu.py"

    @classmethod
    def scan(cls, raw: Path) -> Scan:
        items = []
        for modality in MODALITIES:
            root = raw / modality
            if not root.is_dir() or not class_dirs(root):
                raise PrepareError(
                    f"--raw={raw}: expected photo/<class>/ and sketch/<class>/ in it; "
                    f"{modality}/ is missing or has no class folders"
                )
            photo_of = _drawn_after if modality == "sketch" else str
            items += class_items(raw, root, modality, photo_of)
        return Scan(items=tuple(items))


def _drawn_after(stem: str) -> str:
    match = _SKETCHY_SKETCH.fullmatch(stem)
    return match[1] if match else ""
