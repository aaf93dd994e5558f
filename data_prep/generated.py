"""The demo dataset: photos and sketches drawn by `data_prep.demo`, nothing to download."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from data_prep.builder import PairedImages
from data_prep.items import BadArgument, Option, Scan, class_items
from data_prep.sketchy import drawn_after


class Demo(PairedImages):
    """Generated photos and sketches of many objects; needs no download and no --raw."""

    RAW = "new directory to keep the drawn files in (default: none are kept)"
    EXAMPLE = "--data_dir=data"
    NEEDS_RAW = False
    OPTIONS: ClassVar = (Option("draw_seed", 0, "seed of the drawings"),)

    @classmethod
    def scan(cls, raw: Path, *, draw_seed: int) -> Scan:
        """Draws the files into `raw`, which has to be absent, empty, or an earlier drawing."""
        # Imported late: drawing needs modules that the other datasets do without.
        from data_prep.demo import draw

        if raw.exists() and any(raw.iterdir()) and not (raw / "photo").is_dir():
            raise BadArgument(f"--raw={raw}: demo draws its files there, give a new directory")
        raw.mkdir(parents=True, exist_ok=True)
        draw(raw, seed=draw_seed)
        photos = class_items(raw, raw / "photo", "photo")
        sketches = class_items(raw, raw / "sketch", "sketch", drawn_after)
        return Scan(items=(*photos, *sketches))
