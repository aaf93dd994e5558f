"""The vocabulary the demo's objects are written in: parts, paints and a few outlines.

An object is a list of `Part`s in painting order (first is farthest). Coordinates are the object's
own: x to the right, y down, the whole object within about [-1, 1]. Photos and sketches are two
renderings of the same list, so a sketch shows its instance's own proportions.
"""

from __future__ import annotations

import colorsys
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

Color = tuple[float, float, float]
Range = tuple[float, float]
Point = tuple[float, float] | np.ndarray  # x and y


@dataclasses.dataclass(frozen=True, kw_only=True)
class Paint:
    """What a part looks like in a photo; sketches ignore it.

    `color` and `second` are RGB in [0, 1]; `texture` names a pattern of `photo.TEXTURES` that mixes
    the two; `gloss` is the strength of the highlight, `opacity` of the whole part.
    """

    color: Color
    second: Color
    texture: str = "plain"
    gloss: float = 0.25
    opacity: float = 1.0


@dataclasses.dataclass(frozen=True)
class Part:
    """One piece of an object: a filled outline, or an open line `width` wide.

    `detail` says how readily a sketcher leaves it out: 0 never, 1 seldom, 2 often. `relief` is how
    rounded it looks in the photo (0: printed on). `solid` parts are inked over (a pupil). Parts
    with a `spine` are bands around it, `width` wide, which a sketcher may draw as one line.
    """

    outline: np.ndarray  # float64 [n, 2]
    paint: Paint
    detail: int = 0
    relief: float = 1.0
    closed: bool = True
    width: float = 0.03
    solid: bool = False
    holes: tuple[np.ndarray, ...] = ()
    spine: np.ndarray | None = None


class Drawing:
    """An object in the making: `parts` in painting order, one method for each kind of part."""

    def __init__(self) -> None:
        self.parts: list[Part] = []

    def fill(
        self,
        outline: np.ndarray,
        paint: Paint,
        detail: int = 0,
        *,
        relief: float = 1.0,
        holes: tuple[np.ndarray, ...] = (),
    ) -> None:
        """A filled, rounded shape."""
        self.parts.append(Part(outline, paint, detail, relief, holes=holes))

    def decal(
        self, outline: np.ndarray, paint: Paint, detail: int = 1, *, solid: bool = False
    ) -> None:
        """A filled shape printed flat on what lies below."""
        self.parts.append(Part(outline, paint, detail, 0.0, solid=solid))

    def line(self, outline: np.ndarray, paint: Paint, width: float = 0.03, detail: int = 0) -> None:
        """An open line."""
        self.parts.append(Part(outline, paint, detail, 0.0, closed=False, width=width))

    def tube(
        self, spine: np.ndarray, start: float, stop: float, paint: Paint, detail: int = 0
    ) -> None:
        """A band along `spine`, `start` wide at its start and `stop` at its end."""
        outline, width = ribbon(spine, start, stop), max(start, stop)
        self.parts.append(Part(outline, paint, detail, width=width, spine=spine))

    def bar(self, start: Point, stop: Point, width: float, paint: Paint, detail: int = 0) -> None:
        """A straight tube, a little thinner at its end."""
        self.tube(points(start, stop), width, width * 0.85, paint, detail)


def color(
    rng: np.random.Generator,
    hues: Range = (0.0, 1.0),
    saturation: Range = (0.3, 0.8),
    value: Range = (0.45, 0.92),
) -> Color:
    """A random RGB colour in the given hue (in turns, wrapping), saturation and value ranges."""
    return colorsys.hsv_to_rgb(
        rng.uniform(*hues) % 1.0, rng.uniform(*saturation), rng.uniform(*value)
    )


def paint(
    rng: np.random.Generator,
    texture: str = "plain",
    hues: Range = (0.0, 1.0),
    saturation: Range = (0.3, 0.8),
    value: Range = (0.45, 0.92),
    **look: Any,
) -> Paint:
    """A `Paint` whose two colours are drawn from one range, the second a shade apart."""
    first = color(rng, hues, saturation, value)
    shift = rng.uniform(0.55, 0.8)
    red, green, blue = (c * shift if sum(first) > 0.9 else min(c + 0.25, 1.0) for c in first)
    second = (red, green, blue)
    return Paint(color=first, second=second, texture=texture, **look)


def plain(red: float, green: float, blue: float, **look: Any) -> Paint:
    """An even paint of one given colour."""
    return Paint(color=(red, green, blue), second=(red * 0.7, green * 0.7, blue * 0.7), **look)


WHITE = plain(0.95, 0.95, 0.93)
DARK = plain(0.12, 0.12, 0.14, gloss=0.4)
STEEL = plain(0.62, 0.65, 0.7, texture="brushed", gloss=0.8)
GLASS = plain(0.55, 0.68, 0.78, texture="sheen", gloss=0.7)


def chance(rng: np.random.Generator, probability: float) -> bool:
    """True with the given probability."""
    return bool(rng.random() < probability)


def pick(rng: np.random.Generator, names: Sequence[str]) -> str:
    """One of some names, each as likely as it stands there often."""
    return str(rng.choice(names))


def points(*xy: Point) -> np.ndarray:
    """Corner points as float64 [n, 2]."""
    return np.array(xy, dtype=np.float64)


def path(*pieces: np.ndarray) -> np.ndarray:
    """Outlines joined end to start."""
    return np.concatenate([np.asarray(piece, dtype=np.float64).reshape(-1, 2) for piece in pieces])


def oval(
    x: float,
    y: float,
    rx: float,
    ry: float | None = None,
    start: float = 0.0,
    stop: float = 1.0,
    steps: int = 28,
) -> np.ndarray:
    """An ellipse, or its arc from `start` to `stop` turns (0 is right, 0.25 is down)."""
    whole = abs(stop - start) >= 1.0
    angle = 2 * np.pi * np.linspace(start, stop, steps, endpoint=not whole)
    return np.stack(
        [x + rx * np.cos(angle), y + (rx if ry is None else ry) * np.sin(angle)], axis=1
    )


def box(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    """An upright rectangle."""
    return points((left, top), (right, top), (right, bottom), (left, bottom))


def curve(*knots: Point, closed: bool = False, steps: int = 7) -> np.ndarray:
    """The Catmull-Rom spline through the knots."""
    p = np.array(knots, dtype=np.float64)
    ring = np.concatenate([p[-1:], p, p[:2]]) if closed else np.concatenate([p[:1], p, p[-1:]])
    t = np.linspace(0, 1, steps, endpoint=False)[None, :, None]
    a, b, c, d = (ring[i : len(ring) - 3 + i, None] for i in range(4))
    spans = b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    smooth = spans.reshape(-1, 2)
    return smooth if closed else np.concatenate([smooth, p[-1:]])


def ribbon(spine: np.ndarray, start: float, stop: float | None = None) -> np.ndarray:
    """The outline of a band along `spine`, `start` wide at its start and `stop` at its end."""
    step = np.gradient(spine, axis=0)
    length = np.maximum(np.hypot(step[:, 0], step[:, 1]), 1e-9)
    normal = np.stack([-step[:, 1], step[:, 0]], axis=1) / length[:, None]
    half = 0.5 * np.linspace(start, start if stop is None else stop, len(spine))[:, None]
    return np.concatenate([spine + half * normal, (spine - half * normal)[::-1]])


def profile(*right: Point, smooth: bool = True) -> np.ndarray:
    """A shape symmetric about x = 0 from its right-hand (half width, y) knots."""
    side = curve(*right) if smooth else points(*right)
    return np.concatenate([side, side[::-1] * (-1.0, 1.0)])


def mirrored(outline: np.ndarray) -> np.ndarray:
    """The outline reflected in x = 0."""
    return outline * (-1.0, 1.0)


def around(outline: np.ndarray, scale: float) -> np.ndarray:
    """The outline scaled about its own middle."""
    middle = outline.mean(axis=0)
    return middle + (outline - middle) * scale


def turned(outline: np.ndarray, turns: float, pivot: Point = (0.0, 0.0)) -> np.ndarray:
    """The outline rotated clockwise about `pivot`."""
    c, s = np.cos(2 * np.pi * turns), np.sin(2 * np.pi * turns)
    x, y = (outline - pivot).T
    return np.stack([c * x - s * y, s * x + c * y], axis=1) + pivot
