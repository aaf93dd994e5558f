"""The picture of a training batch as the encoders see it: `launch.py show --batch`.

The images come from the feed and the augmentation of training itself, so that what a setting does
to them, and what the sampler pairs, can be looked at before a run is paid for.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sbir_jax import sharding
from sbir_jax.config import RunConfig
from sbir_jax.data.pipeline import make_feed
from sbir_jax.data.source import open_dataset
from sbir_jax.mining import Ids
from sbir_jax.step import keys, seen

MOST = 64  # pairs in the picture
_TILE = 96  # pixels that a small image is enlarged to, by a whole factor
_WIDTH = 1600  # of the picture, about, in pixels
_GAP, _SPACE, _MARGIN, _HEADER, _CAPTION = 2, 14, 16, 30, 20
_PAPER, _INK, _FRAME = "white", "#222222", "#bbbbbb"


def picture_of_batch(run: RunConfig, *, step: int) -> tuple[Image.Image, str]:
    """The batch that training takes `step` steps after its beginning, and one line about it.

    Raises:
      ConfigError: settings that cannot work with this dataset.
      DatasetError: the dataset is missing or damaged.
    """
    dataset = open_dataset(run.data.name, run.data.dir)
    mesh = sharding.make_mesh(jax.devices()[:1])
    # Batches are the same wherever images are kept; one batch is not worth decoding the others.
    data = dataclasses.replace(run.data, cache="none", workers=0)
    feed = make_feed(dataset, data, seed=run.seed, mesh=mesh)
    batch = next(feed.batches(step, step + 1))
    size, pairs = run.data.image_size, run.data.batch_size
    about = f"{run.data.name}, step {step}: {pairs} pairs at {size} px, sampler {data.sampler!r}"
    if pairs > MOST:
        about += f"; the first {MOST} are shown"
    if feed.learnt and step:
        about += "; as if no validation had told which classes are confused"
    looked = views_of(run, step + 1, feed.resident, batch)
    return draw_views(*looked, classes=dataset.classes, title=about, most=MOST), about


def views_of(run: RunConfig, step: int, resident: dict, batch: dict[str, Any]) -> tuple:
    """What the encoders saw of the batch of a step, counted from 1, on the host: `step.seen`."""
    key, _, _ = keys(run.seed, step - 1)
    return jax.device_get(jax.jit(functools.partial(seen, run))(key, resident, batch))


def draw_views(
    views: Sequence[np.ndarray],
    ids: tuple[Ids, Ids],
    *,
    classes: Sequence[str],
    title: str,
    most: int = MOST,
) -> Image.Image:
    """The sheet of the first pairs of `views_of`; what is not finite is grey."""
    sketch, photo = (to_pixels(np.nan_to_num(side[:most], posinf=1, neginf=-1)) for side in views)
    return batch_sheet(sketch, photo, *ids, classes=classes, title=title)


def to_pixels(images: np.ndarray) -> np.ndarray:
    """Views in -1..1, as the encoders see them, as uint8."""
    return np.clip(np.round((images + 1) * 127.5), 0, 255).astype(np.uint8)


def batch_sheet(
    sketch: np.ndarray,
    photo: np.ndarray,
    sketch_ids: Ids,
    photo_ids: Ids,
    *,
    classes: Sequence[str],
    title: str,
) -> Image.Image:
    """Couples of images, sketch left and photo right, with the names of their classes.

    A couple in a joint frame is an instance: the sketch was drawn after that very photo.

    Args:
      sketch, photo: uint8 [n, S, S, 1 or 3].
      classes: names by label.
      title: one line above.
    """
    side = sketch.shape[1] * max(1, -(-_TILE // sketch.shape[1]))
    couple = 2 * side + _GAP
    columns = max(1, min(len(sketch), (_WIDTH - 2 * _MARGIN) // (couple + _SPACE)))
    rows = -(-len(sketch) // columns)
    big, small = ImageFont.load_default(16), ImageFont.load_default(13)
    width = 2 * _MARGIN + columns * (couple + _SPACE) - _SPACE
    width = max(width, 2 * _MARGIN + round(big.getlength(title)))
    height = 2 * _MARGIN + _HEADER + rows * (side + _CAPTION + _SPACE) - _SPACE
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, _MARGIN), title, font=big, fill=_INK)
    for i, pair in enumerate(zip(sketch, photo, strict=True)):
        left = _MARGIN + i % columns * (couple + _SPACE)
        top = _MARGIN + _HEADER + i // columns * (side + _CAPTION + _SPACE) + _CAPTION
        names = [classes[of.label[i]] for of in (sketch_ids, photo_ids)]
        caption = names[0] if names[0] == names[1] else " | ".join(names)
        caption = _cut(caption, small, couple)
        draw.text((left, top - _CAPTION), caption, font=small, fill=_INK)
        for x, image in zip((left, left + side + _GAP), pair, strict=True):
            tile = Image.fromarray(np.squeeze(image)).convert("RGB")
            sheet.paste(tile.resize((side, side), Image.Resampling.NEAREST), (x, top))
        linked = sketch_ids.instance[i] == photo_ids.instance[i] >= 0
        box = (left - 2, top - 2, left + couple + 1, top + side + 1)
        draw.rectangle(box, outline=_INK if linked else _FRAME)
    return sheet


def _cut(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, room: int) -> str:
    """The text, or as much of its beginning as there is room for."""
    while len(text) > 1 and font.getlength(text) > room:
        text = text.removesuffix("…")[:-1] + "…"
    return text
