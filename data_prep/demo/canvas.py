"""Photo-like painting: textured, rounded, lit and shadowed shapes on a float32 RGB canvas."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from data_prep.demo.parts import Paint, Part

SIZE = 128  # pixels a side, of photos and sketches alike

Field = np.ndarray  # float32 [h, w]


def _smooth(rng: np.random.Generator, cells: int) -> Field:
    """Value noise in about [-1, 1] with `cells` cells a side, [SIZE, SIZE]."""
    grid = rng.uniform(-1, 1, (cells, cells)).astype(np.float32)
    return np.asarray(Image.fromarray(grid).resize((SIZE, SIZE), Image.Resampling.BICUBIC))


def _square(wave: Field, sharpness: float = 3.0) -> Field:
    """A sine turned into bands with soft edges, in [0, 1]."""
    return np.clip(0.5 + sharpness * wave, 0, 1)


def _brick(u: Field, v: Field) -> Field:
    row = np.floor(v * 9)
    across = (u * 5 + 0.5 * (row % 2)) % 1
    return 0.9 * np.maximum(across < 0.1, (v * 9) % 1 < 0.16) + 0.3 * np.sin(7 * row + 5 * across)


# How much of `Paint.second` shows, from object coordinates u, v and fine, middle and coarse noise.
TEXTURES: dict[str, Callable[[Field, Field, Field, Field, Field], Field]] = {
    "plain": lambda u, v, fine, mid, coarse: 0.05 * fine + 0.2 * coarse,
    "speckle": lambda u, v, fine, mid, coarse: 0.4 * (mid > 0.3) + 0.15 * fine,
    "wood": lambda u, v, fine, mid, coarse: (
        0.45 + 0.45 * np.sin(34 * u + 5 * coarse + 2 * mid) + 0.25 * fine
    ),
    "bark": lambda u, v, fine, mid, coarse: 0.4 + 0.5 * np.sin(50 * u + 6 * mid) + 0.4 * fine,
    "stripes": lambda u, v, fine, mid, coarse: _square(np.sin(22 * u)) + 0.1 * coarse,
    "bands": lambda u, v, fine, mid, coarse: 0.7 * _square(np.sin(24 * v)) + 0.1 * coarse,
    "check": lambda u, v, fine, mid, coarse: (
        0.5 * _square(np.sin(20 * u)) + 0.5 * _square(np.sin(20 * v)) + 0.1 * fine
    ),
    "dots": lambda u, v, fine, mid, coarse: _square(np.sin(20 * u) * np.sin(20 * v) - 0.45, 6),
    "brick": lambda u, v, fine, mid, coarse: _brick(u, v) + 0.25 * fine + 0.2 * mid,
    "scales": lambda u, v, fine, mid, coarse: (
        0.8 * np.abs(np.sin(16 * u + 16 * v) * np.sin(16 * u - 16 * v)) + 0.15 * coarse
    ),
    "leaf": lambda u, v, fine, mid, coarse: 0.4 + 0.9 * mid + 0.5 * fine,
    "fur": lambda u, v, fine, mid, coarse: 0.25 + 0.45 * fine + 0.35 * mid + 0.4 * coarse,
    "brushed": lambda u, v, fine, mid, coarse: 0.35 + 0.35 * np.sin(9 * v + 4 * u) + 0.2 * fine,
    "sheen": lambda u, v, fine, mid, coarse: 0.35 + 0.4 * np.sin(5 * u - 3 * v) + 0.2 * coarse,
}


class Canvas:
    """An RGB picture under one light. `rgb` is float32 [SIZE, SIZE, 3] in [0, 1].

    Every shape is given in pixels; `unit` maps pixels back to its own coordinates (float64 [2, 3]),
    which is where textures live, so that they turn and scale with the object.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.rgb: np.ndarray = np.ones((SIZE, SIZE, 3), np.float32)
        self.fine = rng.uniform(-1, 1, (SIZE, SIZE)).astype(np.float32)
        self.mid, self.coarse = _smooth(rng, 32), _smooth(rng, 7)
        angle = rng.uniform(0.55, 0.95) * np.pi  # from upper left to nearly overhead
        side = rng.choice([-1, 1])
        self.light = np.array((side * np.cos(angle), -np.sin(angle)), np.float32)

    def lay(
        self, part: Part, unit: np.ndarray, *, over: Field | None = None, subpixels: int = 3
    ) -> tuple[tuple[slice, slice], Field] | None:
        """Paints one part; returns where and how much it covers, or None when out of sight.

        `over` [SIZE, SIZE] is what lies close below and catches the shadow of a rounded part.
        """
        margin = 0.5 * part.width if not part.closed else 0.0
        low = np.floor(part.outline.min(axis=0) - margin - 3).astype(int).clip(0, SIZE)
        high = np.ceil(part.outline.max(axis=0) + margin + 3).astype(int).clip(0, SIZE)
        wide, tall = high - low
        if wide <= 0 or tall <= 0:
            return None
        where = slice(low[1], high[1]), slice(low[0], high[0])
        mask = _mask(part, low, (int(wide), int(tall)), subpixels)
        cover = np.asarray(mask, np.float32) / 255
        below = self.rgb[where]
        if over is not None and part.relief:
            shadow = mask.filter(ImageFilter.GaussianBlur(1.6))
            shadow = shadow.transform(
                mask.size,
                Image.Transform.AFFINE,
                (1, 0, self.light[0] * 2, 0, 1, self.light[1] * 2),
            )
            below *= (1 - 0.35 * np.asarray(shadow, np.float32) / 255 * over[where])[..., None]
        color = self._color(part.paint, where, unit)
        if part.relief:
            shade, shine = self._relief(mask, cover, part.relief)
            color *= shade[..., None]
            color += (part.paint.gloss * shine)[..., None]
        below += (cover * np.float32(part.paint.opacity))[..., None] * (color - below)
        return where, cover

    def _color(self, paint: Paint, where: tuple[slice, slice], unit: np.ndarray) -> np.ndarray:
        rows, columns = where
        x = np.arange(columns.start, columns.stop, dtype=np.float32)[None, :] + 0.5
        y = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] + 0.5
        a = unit.astype(np.float32)
        u, v = a[0, 0] * x + a[0, 1] * y + a[0, 2], a[1, 0] * x + a[1, 1] * y + a[1, 2]
        share = TEXTURES[paint.texture](u, v, self.fine[where], self.mid[where], self.coarse[where])
        first, second = np.array((paint.color, paint.second), np.float32)
        return first + share.astype(np.float32)[..., None] * (second - first)

    def _relief(self, mask: Image.Image, cover: Field, relief: float) -> tuple[Field, Field]:
        """Brightness factor and highlight of a cushion with this outline.

        The blurred mask is a height map, so its slope against the light shades it.
        """
        radius = float(np.clip(0.16 * min(mask.size), 1.2, 7.0))
        height = np.asarray(mask.filter(ImageFilter.GaussianBlur(radius)), np.float32) / 255
        slope = np.zeros_like(height)
        slope[:, 1:-1] -= (height[:, 2:] - height[:, :-2]) * self.light[0]
        slope[1:-1] -= (height[2:] - height[:-2]) * self.light[1]
        slope *= radius
        shade = 0.78 + 0.24 * height + relief * 0.75 * slope
        return np.clip(shade, 0.3, 1.5), relief * 2.4 * np.clip(slope - 0.16, 0, 0.2) * cover

    def blur(self, radius: float) -> None:
        """Puts everything painted so far out of focus."""
        picture = Image.fromarray(self.pixels()).filter(ImageFilter.GaussianBlur(radius))
        self.rgb = np.asarray(picture, np.float32) / 255

    def pixels(self) -> np.ndarray:
        """The picture as uint8 [SIZE, SIZE, 3]."""
        return (np.clip(self.rgb, 0, 1) * 255 + 0.5).astype(np.uint8)


def _mask(part: Part, origin: np.ndarray, size: tuple[int, int], subpixels: int) -> Image.Image:
    """The part's coverage in 8 bits, antialiased by `subpixels` a side."""
    mask = Image.new("L", (size[0] * subpixels, size[1] * subpixels))
    draw = ImageDraw.Draw(mask)
    corners = ((part.outline - origin) * subpixels).ravel().tolist()
    if part.closed:
        draw.polygon(corners, fill=255)
    else:
        draw.line(corners, fill=255, width=max(1, round(part.width * subpixels)))
    for hole in part.holes:
        draw.polygon(((hole - origin) * subpixels).ravel().tolist(), fill=0)
    return mask.reduce(subpixels) if subpixels > 1 else mask


def placed(part: Part, view: np.ndarray) -> Part:
    """The part seen through the affine `view` (float64 [2, 3]), widths scaled alike."""
    (a, b, _), (c, d, _) = view.tolist()
    return dataclasses.replace(
        part,
        outline=look(part.outline, view),
        width=part.width * abs(a * d - b * c) ** 0.5,
        holes=tuple(look(hole, view) for hole in part.holes),
        spine=None if part.spine is None else look(part.spine, view),
    )


def look(outline: np.ndarray, view: np.ndarray) -> np.ndarray:
    """Points [n, 2] through the affine `view` [2, 3]."""
    x, y = outline[:, :1], outline[:, 1:]
    return x * view[:, 0] + y * view[:, 1] + view[:, 2]


def inverse(view: np.ndarray) -> np.ndarray:
    """The affine map that undoes `view`, float64 [2, 3]."""
    (a, b, x), (c, d, y) = view
    det = a * d - b * c
    return np.array(((d, -b, b * y - d * x), (-c, a, c * x - a * y))) / det


def fitted(parts: Sequence[Part], pose: np.ndarray, long_side: float) -> np.ndarray:
    """The view [2, 3] that turns an object by `pose` [2, 2] and centres it on the picture.

    Its longer side then measures `long_side` pixels.
    """
    view = np.concatenate([pose, np.zeros((2, 1))], axis=1)
    dots = np.concatenate([look(part.outline, view) for part in parts])
    low, high = dots.min(axis=0), dots.max(axis=0)
    view *= long_side / (high - low).max()
    view[:, 2] = SIZE / 2 - (low + high) / 2 * long_side / (high - low).max()
    return view


def silhouette(seen: Sequence[Part]) -> Image.Image:
    """The filled shape of an object already in pixels: 8 bits, SIZE x SIZE, 255 inside."""
    whole = np.zeros((SIZE, SIZE), bool)
    for part in seen:
        whole |= np.asarray(_mask(part, np.zeros(2), (SIZE, SIZE), 1)) > 0
    return Image.fromarray(whole.astype(np.uint8) * 255)
