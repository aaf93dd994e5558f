"""The embedded demo dataset: generated photos of objects and hand-like sketches of the same.

    from data_prep.demo import draw
    draw(Path("raw/demo"))  # 20 categories x 30 instances: 600 photos, 1,800 sketches, 128 x 128

Nothing is downloaded and nothing is anyone's: every picture is computed from its key. An instance
is a list of parts with its own proportions, counts and pose; its photo paints them with colour,
texture, light, shadow and clutter, its sketches trace them with a wobbling hand (see `objects`,
`photo` and `sketch`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_prep.demo import photo, sketch
from data_prep.demo.objects import CATEGORIES, Category
from data_prep.demo.parts import Drawing, Part
from data_prep.items import BadArgument

NAMES = tuple(category.name for category in CATEGORIES)


def draw(
    out: Path,
    *,
    seed: int = 0,
    instances: int = 30,
    sketches: int = 3,
    categories: Sequence[str] = NAMES,
) -> None:
    """Writes `out/photo/<category>/<id>.jpg` and `out/sketch/<category>/<id>-<k>.png`.

    Names are Sketchy's: sketch `<id>-<k>`, k from 1 to `sketches`, depicts photo `<id>`, such as
    `d03_0007` (category and instance number). Photos are RGB, sketches grey. Every file depends
    only on the seed and its own name, so asking for more of anything leaves the rest as it was.

    Raises:
      BadArgument: a number out of range or an unknown category, in one line.
    """
    for name, value, least in (
        ("seed", seed, 0),
        ("instances", instances, 1),
        ("sketches", sketches, 1),
    ):
        if value < least:
            raise BadArgument(f"{name}={value}: must be at least {least}")
    for name in categories:
        if name not in NAMES:
            raise BadArgument(f"categories: no such category {name!r}; valid: {', '.join(NAMES)}")
    jobs = [(NAMES.index(name), i) for name in categories for i in range(instances)]
    for number, i in tqdm(jobs, desc="draw demo", unit="object", mininterval=1.0):
        category, name = CATEGORIES[number], f"d{number:02d}_{i:04d}"
        folders = [Path(out) / side / category.name for side in ("photo", "sketch")]
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        parts, pose = instance(category, _rng(seed, number, i, 0))
        picture = photo.render(parts, pose, category.scenes, _rng(seed, number, i, 1))
        picture.save(folders[0] / f"{name}.jpg", quality=92)
        for k in range(1, sketches + 1):
            drawing = sketch.render(parts, pose, _rng(seed, number, i, 1 + k))
            drawing.save(folders[1] / f"{name}-{k}.png")


def instance(category: Category, rng: np.random.Generator) -> tuple[list[Part], np.ndarray]:
    """One object: its parts and its pose (float64 [2, 2]: turn, flip and squeeze)."""
    drawing = Drawing()
    category.build(drawing, rng)
    turn = np.radians(category.tilt) * rng.uniform(-1, 1)
    flip, squeeze = rng.choice([-1.0, 1.0]), rng.uniform(0.82, 1.1)
    rotation = np.array(((np.cos(turn), -np.sin(turn)), (np.sin(turn), np.cos(turn))))
    return drawing.parts, rotation * (flip * squeeze, 1.0)


def _rng(*key: int) -> np.random.Generator:
    return np.random.default_rng(key)
