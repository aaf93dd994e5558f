"""The demo's photos: an object painted into a scene, with light, shadow, grain and clutter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageFilter

from data_prep.demo import scene
from data_prep.demo.canvas import SIZE, Canvas, fitted, inverse, placed, silhouette
from data_prep.demo.parts import Part, curve, paint, ribbon

# The place, and how things are there: they stand or float on the ground, lie flat, grow from below
# the picture, or hang free. This decides where they are put and which shadow they throw.
SCENES = {
    "room": (scene.room, "stand"),
    "street": (scene.street, "stand"),
    "field": (scene.field, "stand"),
    "studio": (scene.studio, "stand"),
    "sea": (scene.sea, "float"),
    "desk": (scene.desk, "lie"),
    "garden": (scene.leaves, "grow"),
    "leaves": (scene.leaves, "free"),
    "deep": (scene.deep, "free"),
    "sky": (scene.sky, "free"),
}


def render(
    parts: Sequence[Part], pose: np.ndarray, scenes: Sequence[str], rng: np.random.Generator
) -> Image.Image:
    """One RGB photo of SIZE x SIZE pixels of an object at a random place of a random scene."""
    u = rng.uniform
    canvas = Canvas(rng)
    paint_scene, stance = SCENES[rng.choice(scenes)]
    view = fitted(parts, pose, u(0.58, 0.9) * SIZE)
    seen = [placed(part, view) for part in parts]
    dots = np.concatenate([part.outline for part in seen])
    low, high = dots.min(axis=0), dots.max(axis=0)
    room = np.maximum(SIZE - (high - low) - 6, 0) / 2
    shift = u(-1, 1, 2) * room
    if stance in ("stand", "float"):
        shift[1] = abs(shift[1])
    elif stance == "grow":
        shift[1] = SIZE + 2 - high[1]
    view[:, 2] += shift
    seen = [placed(part, view) for part in parts]
    base = high[1] + shift[1]

    paint_scene(canvas, rng, base)
    canvas.blur(u(0.5, 1.8))
    _throw_shadow(canvas, seen, stance, base)
    over, unit = np.zeros((SIZE, SIZE), np.float32), inverse(view)
    for part in seen:
        hit = canvas.lay(part, unit, over=over)
        if hit:
            where, cover = hit
            np.maximum(over[where], cover, out=over[where])
    if stance == "stand" and rng.random() < 0.25 and paint_scene is scene.field:
        _grass(canvas, rng, base)
    if stance == "float":
        _water_line(canvas, rng, base)
    return _develop(canvas, rng)


def _throw_shadow(canvas: Canvas, seen: Sequence[Part], stance: str, base: float) -> None:
    if stance in ("free", "grow"):
        return
    shape = silhouette(seen)
    lean, squash = float(canvas.light[0]), 0.28
    if stance == "lie":
        matrix = (1, 0, 4 * lean, 0, 1, -4)
    else:  # the outline laid down on the ground behind the object's foot
        matrix = (1, lean * 1.6, -lean * 1.6 * base, 0, 1 / squash, base - base / squash - 1)
    fallen = shape.transform(shape.size, Image.Transform.AFFINE, matrix)
    fallen = fallen.filter(ImageFilter.GaussianBlur(2.2))
    canvas.rgb *= (1 - 0.5 * np.asarray(fallen, np.float32) / 255)[..., None]


def _grass(canvas: Canvas, rng: np.random.Generator, base: float) -> None:
    u = rng.uniform
    look = paint(rng, "plain", (0.18, 0.36), value=(0.3, 0.65))
    for _ in range(rng.integers(6, 16)):
        x, tall = u(0, SIZE), u(6, 18)
        blade = curve(
            (x, base + 6), (x + u(-2, 2), base + 6 - tall / 2), (x + u(-7, 7), base + 6 - tall)
        )
        canvas.lay(Part(ribbon(blade, 2.5, 0.5), look), np.eye(2, 3) / 32)


def _water_line(canvas: Canvas, rng: np.random.Generator, base: float) -> None:
    """Lets the water of the lower edge rise over the hull's foot."""
    u = rng.uniform
    water = canvas.rgb[-1, SIZE // 2].copy()
    knots = [(x, base - 3 + u(-1.2, 1.2)) for x in np.linspace(-4, SIZE + 4, 12)]
    line = curve(*knots)
    rows = np.interp(np.arange(SIZE), line[:, 0], line[:, 1]).astype(np.float32)
    below = np.clip(np.arange(SIZE, dtype=np.float32)[:, None] - rows, 0, 1) * 0.8
    sheen = (1 + 0.25 * canvas.mid)[..., None]
    canvas.rgb += below[..., None] * (water * sheen - canvas.rgb)


def _develop(canvas: Canvas, rng: np.random.Generator) -> Image.Image:
    """Uneven light, white balance, exposure and sensor grain."""
    u = rng.uniform
    axis = np.linspace(-1, 1, SIZE, dtype=np.float32)
    x, y = axis[None, :], axis[:, None]
    fall = 1 + u(0, 0.22) * (x * canvas.light[0] + y * canvas.light[1])
    fall = fall - u(0, 0.22) * (x * x + y * y) / 2
    tint = np.float32(u(0.92, 1.08, 3) * u(0.85, 1.12))
    canvas.rgb *= fall.astype(np.float32)[..., None] * tint
    grain = rng.standard_normal((SIZE, SIZE, 1), dtype=np.float32) * np.float32(u(0.003, 0.018))
    canvas.rgb += grain
    return Image.fromarray(canvas.pixels())
