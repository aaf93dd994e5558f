"""Small raw trees of distinct images, made by the tests of data preparation and of the reader."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw


def photo(number: int, *, size: tuple[int, int] = (40, 32)) -> Image.Image:
    """RGB noise on a ground colour; no two numbers give the same picture."""
    rng = np.random.default_rng(number)
    ground = rng.integers(0, 200, 3)
    noise = rng.integers(0, 50, (size[1], size[0], 3))
    return Image.fromarray((ground + noise).astype(np.uint8))


def sketch(number: int, *, size: tuple[int, int] = (40, 32)) -> Image.Image:
    """A few black strokes on white, RGB, as sketch files usually are."""
    rng = np.random.default_rng(10_000 + number)
    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    points = rng.integers(2, min(size) - 2, (5, 2)).tolist()
    draw.line([tuple(p) for p in points], fill="black", width=2)
    return image


def encoded(image: Image.Image, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def save(image: Image.Image, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


def sketchy_tree(
    root: Path,
    *,
    photos: str = "photo",
    sketches: str = "sketch",
    classes: tuple[str, ...] = ("cat", "dog"),
    instances: int = 5,
    per_photo: int = 2,
) -> Path:
    """`<photos>/<class>/n0000000c_i.jpg` and `<sketches>/<class>/n0000000c_i-k.png`."""
    for c, label in enumerate(classes):
        for i in range(instances):
            number, name = c * 1000 + i, f"n{c:08d}_{i}"
            save(photo(number), root / photos / label / f"{name}.jpg")
            for k in range(1, per_photo + 1):
                picture = sketch(number * 10 + k)
                save(picture, root / sketches / label / f"{name}-{k}.png")
    return root
