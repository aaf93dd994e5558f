"""Photos alone: the sketches are drawn from them, so that a catalogue without sketches will do."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from PIL import Image

from data_prep.builder import PairedImages
from data_prep.folders import has_classes, side_items
from data_prep.items import BadArgument, Item, Option, PrepareError, Scan
from sbir_jax.data.images import read_image, to_square

if TYPE_CHECKING:
    import jax

_SIDE = 256  # pixels that drawing works on: a photo of any shape is stretched to this square


class Photos(PairedImages):
    """Your photos alone, in class folders or not: sketches are drawn from their edges."""

    RAW = "directory of photos: <class>/*.jpg, or all in one place"
    EXAMPLE = "--raw=my_photos --data_dir=data --name=mine"
    TRAIN_CONFIG = "configs/photos_only.py"
    OPTIONS: ClassVar = (
        Option("sketches", 2, "drawings of each photo"),
        Option("draw_seed", 0, "seed of the drawings"),
    )

    @classmethod
    def scan(cls, raw: Path, *, sketches: int, draw_seed: int) -> Scan:
        if sketches < 1:
            raise BadArgument(f"--sketches={sketches}: valid from 1")
        photos = side_items(raw, raw, "photo", has_classes(raw))
        if not photos:
            raise PrepareError(f"--raw={raw}: no photo in it")
        drawings = [
            drawing_of(item, number, draw_seed)
            for item, number in itertools.product(photos, range(1, sketches + 1))
        ]
        note = f"{sketches} drawings of each photo, made from its edges: no person drew them"
        return Scan(items=(*photos, *drawings), notes=(note,))


def drawing_of(photo: Item, number: int, seed: int) -> Item:
    """The sketch drawn from a photo for the `number`-th time; linked to it."""
    name = f"{photo.file} drawing {number}"
    draw = functools.partial(drawn, name=f"{seed} {name}")
    return dataclasses.replace(photo, file=name, modality="sketch", decode=draw)


def drawn(data: bytes, *, name: str) -> np.ndarray:
    """The pseudo-sketch of a photo's bytes: uint8 [h, w], the longer side 256, black on white.

    `name` decides the hand, so that a drawing does not depend on what else is drawn.

    Raises:
      BadImage: the bytes are no image.
    """
    import jax

    photo = read_image(data, "photo", min_side=_SIDE)
    height, width = photo.shape[:2]
    square = to_square(photo, _SIDE, "squash")
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little") >> 1
    picture = np.asarray(_draw()(jax.random.key(seed), square[None]))[0, :, :, 0]
    longer = max(height, width)
    shape = max(1, round(width * _SIDE / longer)), max(1, round(height * _SIDE / longer))
    picture = Image.fromarray(np.round(picture).astype(np.uint8))
    return np.asarray(picture.resize(shape, Image.Resampling.BILINEAR))


@functools.cache
def _draw() -> Callable[[jax.Array, np.ndarray], jax.Array]:
    """The drawing program, compiled once; JAX is loaded only where something is drawn."""
    import jax

    from sbir_jax.data.pseudo import pseudo_sketch

    return jax.jit(pseudo_sketch)
