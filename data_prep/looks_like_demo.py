"""A generated stand-in for Totally-Looks-Like: each object photographed in two places.

It has that dataset's layout and its task, to find a photo's partner among others, and nothing to
download. It is easier and narrower: a pair shows one object, where people pair a face and a pear.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import ClassVar

import numpy as np
from tqdm import tqdm

from data_prep.builder import PairedImages
from data_prep.items import BadArgument, Option, Scan
from data_prep.looks_like import LooksLike


class LooksLikeDemo(PairedImages):
    """Generated photo pairs in the layout of looks_like; needs no download and no --raw."""

    RAW = "new directory to keep the drawn files in (default: none are kept)"
    EXAMPLE = "--data_dir=data"
    TRAIN_CONFIG = "configs/siamese_triplet.py"
    NEEDS_RAW = False
    OPTIONS: ClassVar = (
        Option("draw_seed", 0, "seed of the drawings"),
        Option("pairs", 1200, "objects, each photographed twice"),
    )

    @classmethod
    def generator(cls) -> str:
        """Drawing takes longer than checking, so its code stands for the files it would draw."""
        folder, digest = Path(__file__).parent, hashlib.sha256()
        for path in (Path(__file__), *sorted(folder.glob("demo/**/*.py"))):
            digest.update(path.read_bytes())
        return digest.hexdigest()

    @classmethod
    def scan(cls, raw: Path, *, draw_seed: int, pairs: int) -> Scan:
        """Draws the files into `raw`, which has to be absent or empty."""
        if raw.exists() and (not raw.is_dir() or any(raw.iterdir())):
            raise BadArgument(f"--raw={raw}: the pairs are drawn there, give a new directory")
        if pairs < 3 or draw_seed < 0:
            raise BadArgument(f"--pairs={pairs} --draw_seed={draw_seed}: at least 3 and 0")
        try:
            _draw(raw, seed=draw_seed, pairs=pairs)
        except OSError as error:
            raise BadArgument(f"--raw={raw}: cannot write there ({error.strerror})") from error
        return LooksLike.scan(raw, codes="draw")


def _draw(raw: Path, *, seed: int, pairs: int) -> None:
    """Writes left/<code>.jpg and right/<code>.jpg; each depends on the seed and its name only."""
    # Imported late: no other dataset needs the drawing code.
    from data_prep.demo import instance, photo
    from data_prep.demo.objects import CATEGORIES

    for side in ("left", "right"):
        (raw / side).mkdir(parents=True, exist_ok=True)
    for i in tqdm(range(pairs), desc="draw pairs", unit="pair", mininterval=1.0):
        category = CATEGORIES[i % len(CATEGORIES)]
        parts, pose = instance(category, np.random.default_rng((seed, i, 0)))
        for number, side in enumerate(("left", "right"), start=1):
            rng = np.random.default_rng((seed, i, number))
            picture = photo.render(parts, pose, category.scenes, rng)
            picture.save(raw / side / f"{i:05d}.jpg", quality=92)
