"""The demo dataset: photos and sketches drawn by `data_prep.demo`, nothing to download."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import ClassVar

from data_prep.builder import PairedImages
from data_prep.items import BadArgument, Option, Scan, class_items
from data_prep.sketchy import drawn_after


class Demo(PairedImages):
    """Generated photos and sketches of many objects; needs no download and no --raw."""

    RAW = "new directory to keep the drawn files in (default: none are kept)"
    EXAMPLE = "--data_dir=data"
    TRAIN_CONFIG = "configs/quickstart.py"
    NEEDS_RAW = False
    OPTIONS: ClassVar = (
        Option("draw_seed", 0, "seed of the drawings"),
        Option("instances", 30, "objects (photos) of each class"),
        Option("sketches", 3, "sketches of each object"),
    )

    @classmethod
    def generator(cls) -> str:
        """Drawing takes longer than checking, so its code stands for the files it would draw."""
        digest = hashlib.sha256()
        for path in sorted(Path(__file__).parent.glob("demo/**/*.py")):
            digest.update(path.read_bytes())
        return digest.hexdigest()

    @classmethod
    def scan(cls, raw: Path, *, draw_seed: int, instances: int, sketches: int) -> Scan:
        """Draws the files into `raw`, which has to be absent or empty."""
        # Imported late: no other dataset needs the drawing code.
        from data_prep.demo import draw

        if raw.exists() and (not raw.is_dir() or any(raw.iterdir())):
            raise BadArgument(f"--raw={raw}: demo draws its files there, give a new directory")
        try:
            raw.mkdir(parents=True, exist_ok=True)
            draw(raw, seed=draw_seed, instances=instances, sketches=sketches)
        except OSError as error:
            raise BadArgument(f"--raw={raw}: cannot write there ({error.strerror})") from error
        photos = class_items(raw, raw / "photo", "photo")
        return Scan(items=(*photos, *class_items(raw, raw / "sketch", "sketch", drawn_after)))
