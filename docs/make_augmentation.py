"""Draws the picture of docs/augmentation.md: python docs/make_augmentation.py

One row a setting, changed alone, on pairs of the drawn demo dataset: first the pair as it is, then
views as training makes them.
"""

from __future__ import annotations

import dataclasses
import pathlib

import jax
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from data_prep import demo
from data_prep.demo import photo, sketch
from sbir_jax.batch_sheet import to_pixels
from sbir_jax.config import RunConfig
from sbir_jax.data.images import to_square
from sbir_jax.data_config import AugmentConfig, DataConfig
from sbir_jax.mining import Ids
from sbir_jax.step import seen

PICTURE = pathlib.Path(__file__).parent / "images" / "augmentation.jpg"
SIZE = 96  # pixels of a view
VIEWS = 4  # of a pair, beside the pair as it is
OFF = {
    "flip": "none",
    "crop": "independent",
    "min_scale": 1.0,
    **dict.fromkeys(("rotate", "stretch", "color", "gray", "blur", "erase"), 0.0),
    **dict.fromkeys(("thickness", "stroke_dropout", "partial", "pseudo"), 0.0),
}
# What is switched on in each row, and the demo's category on which it is shown.
ROWS = (
    ({"flip": "independent"}, "teapot"),
    ({"flip": "paired"}, "teapot"),
    ({"min_scale": 0.5}, "car"),
    ({"min_scale": 0.5, "crop": "paired"}, "car"),
    ({"rotate": 30.0}, "bicycle"),
    ({"stretch": 0.5}, "cup"),
    ({"color": 0.5}, "butterfly"),
    ({"gray": 0.5}, "flower"),
    ({"blur": 1.0}, "sailboat"),
    ({"erase": 1.0}, "chair"),
    ({"thickness": 1.0}, "bicycle"),
    ({"stroke_dropout": 0.5}, "guitar"),
    ({"partial": 1.0}, "teapot"),
    ({"pseudo": 1.0}, "cat"),
)
_GAP, _SPACE, _MARGIN, _CAPTION = 2, 10, 12, 20


def main() -> None:
    picture().save(PICTURE, quality=88)


def picture() -> Image.Image:
    """All rows below one another, each under the settings that make it."""
    couple = 2 * SIZE + _GAP
    width = 2 * _MARGIN + (1 + VIEWS) * (couple + _SPACE) - _SPACE
    row = _CAPTION + SIZE + _SPACE
    sheet = Image.new("RGB", (width, 2 * _MARGIN + row * len(ROWS) - _SPACE), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for number, (settings, category) in enumerate(ROWS):
        top = _MARGIN + number * row
        words = ", ".join(f"augment.{name}={value}" for name, value in settings.items())
        draw.text((_MARGIN, top), words, font=font, fill="#222222")
        for i, pair in enumerate(zip(*views(settings, category), strict=True)):
            left = _MARGIN + i * (couple + _SPACE)
            for x, image in zip((left, left + SIZE + _GAP), pair, strict=True):
                sheet.paste(Image.fromarray(np.squeeze(image)).convert("RGB"), (x, top + _CAPTION))
            box = (left - 1, top + _CAPTION - 1, left + couple, top + _CAPTION + SIZE)
            draw.rectangle(box, outline="#222222" if i == 0 else "#cccccc")
    return sheet


def views(settings: dict, category: str) -> tuple[np.ndarray, np.ndarray]:
    """uint8 sketches and photos [1 + VIEWS, SIZE, SIZE, 1 or 3]: as they are, and changed."""
    run = RunConfig(
        data=DataConfig(image_size=SIZE, load_size=SIZE, batch_size=VIEWS),
        augment=AugmentConfig(**OFF | settings),
    )
    drawing, picture = pair_of(category)
    ids = Ids(np.zeros(VIEWS, np.int32), np.zeros(VIEWS, np.int32))
    batch = {
        "sketch": np.repeat(drawing[None], VIEWS, 0),
        "photo": np.repeat(picture[None], VIEWS, 0),
        "sketch_ids": ids,
        "photo_ids": ids,
    }
    key = jax.random.key(list(demo.NAMES).index(category))
    seen_views, _ = jax.jit(lambda key, batch: seen(run, key, {}, batch))(key, batch)
    changed = (to_pixels(np.asarray(side)) for side in seen_views)
    return tuple(
        np.concatenate([plain[None], side])
        for plain, side in zip((drawing, picture), changed, strict=True)
    )


def pair_of(category: str) -> tuple[np.ndarray, np.ndarray]:
    """A sketch [SIZE, SIZE, 1] and its photo [SIZE, SIZE, 3] of the demo dataset, uint8."""
    number = demo.NAMES.index(category)
    kind = demo.CATEGORIES[number]
    streams = [np.random.default_rng((0, number, 0, k)) for k in range(3)]
    parts, pose = demo.instance(kind, streams[0])
    colour = np.asarray(photo.render(parts, pose, kind.scenes, streams[1]))
    lines = np.asarray(sketch.render(parts, pose, streams[2]))
    return to_square(lines, SIZE, "pad"), to_square(colour, SIZE, "pad")


def unshown() -> set[str]:
    """Settings of `config.augment` that no row changes."""
    shown = {name for settings, _ in ROWS for name in settings}
    return {field.name for field in dataclasses.fields(AugmentConfig)} - shown


if __name__ == "__main__":
    main()
