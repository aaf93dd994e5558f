"""Backgrounds of the demo's photos: each paints a place and some clutter, out of focus.

A scene is `scene(canvas, rng, ground)`; `ground` is the pixel row the object stands on.
"""

from __future__ import annotations

import numpy as np

from data_prep.demo.canvas import SIZE, Canvas
from data_prep.demo.parts import (
    STEEL,
    WHITE,
    Color,
    Paint,
    Part,
    box,
    chance,
    color,
    curve,
    oval,
    paint,
    path,
    pick,
    plain,
    points,
    ribbon,
    turned,
)

# Scenery is about a quarter as fine as objects are: its units are 32 pixels.
_UNIT = np.array(((1 / 32, 0.0, -2.0), (0.0, 1 / 32, -2.0)))


def _put(canvas: Canvas, outline: np.ndarray, look: Paint, relief: float = 0.0) -> None:
    canvas.lay(Part(outline, look, relief=relief), _UNIT, subpixels=1)


def _fade(canvas: Canvas, above: Color, below: Color, start: float = 0, stop: float = SIZE) -> None:
    """A vertical change from one colour to another over the whole canvas."""
    t = np.clip((np.arange(SIZE, dtype=np.float32) - start) / max(stop - start, 1), 0, 1)[
        :, None, None
    ]
    first, last = np.array((above, below), np.float32)
    canvas.rgb[:] = first + t * (last - first)


def _sky(canvas: Canvas, rng: np.random.Generator, horizon: float) -> None:
    u = rng.uniform
    if chance(rng, 0.25):
        top, low = color(rng, (-0.05, 0.12), (0.2, 0.5), (0.7, 0.95)), (1.0, 0.85, 0.65)
    else:
        top, low = color(rng, (0.54, 0.62), (0.2, 0.7), (0.6, 0.95)), (0.86, 0.92, 0.97)
    _fade(canvas, top, low, 0, horizon)
    for _ in range(rng.integers(0, 4)):
        x, y, size = u(0, SIZE), u(0, 0.7) * horizon, u(6, 14)
        white = plain(0.97, 0.97, 0.98, opacity=u(0.5, 0.9))
        for step in range(3):
            _put(canvas, oval(x + step * size, y + u(-3, 3), size, size * 0.5), white, 0.4)


def _things(canvas: Canvas, rng: np.random.Generator, ground: float, count: int) -> None:
    """Balls, boxes, books and jars standing about."""
    u = rng.uniform
    for _ in range(count):
        x, y, size, look = u(0, SIZE), ground + u(-8, 4), u(7, 17), paint(rng, gloss=0.6)
        kind = rng.integers(4)
        if kind == 0:
            _put(canvas, oval(x, y - size * 0.7, size * 0.8), look, 1)
        elif kind == 1:
            _put(canvas, box(x - size, y - size * u(0.8, 1.8), x + size, y), look, 0.6)
        elif kind == 2:
            for i in range(3):
                w = size * u(0.8, 1.2)
                _put(canvas, box(x - w, y - 5 * i - 5, x + w, y - 5 * i), paint(rng), 0.6)
        else:
            _put(canvas, oval(x, y - size * 0.8, size * 0.45, size), look, 1)


def room(canvas: Canvas, rng: np.random.Generator, ground: float) -> None:
    """A wall with pictures or a window over a wooden floor or a table cloth."""
    u = rng.uniform
    edge = ground - u(6, 22)
    paper = pick(rng, ["plain", "plain", "stripes", "dots", "check", "brick"])
    _put(
        canvas, box(0, 0, SIZE, SIZE), paint(rng, paper, saturation=(0.05, 0.45), value=(0.5, 0.95))
    )
    for _ in range(rng.integers(0, 3)):
        x, y, w, h = u(0, 110), u(4, 45), u(8, 18), u(8, 18)
        _put(canvas, box(x - w, y - h, x + w, y + h), paint(rng, "wood"), 0.5)
        _put(canvas, box(x - w + 3, y - h + 3, x + w - 3, y + h - 3), paint(rng, "fur"))
    wood = pick(rng, ["wood", "plain", "check"])
    hues = (0.02, 0.12) if wood == "wood" else (0, 1)
    _put(canvas, box(0, edge, SIZE, SIZE), paint(rng, wood, hues, (0.15, 0.6), (0.4, 0.85)))
    _put(canvas, box(0, edge - 3, SIZE, edge), WHITE if chance(rng, 0.5) else paint(rng), 0.5)
    _things(canvas, rng, edge + 6, int(rng.integers(0, 4)))


def street(canvas: Canvas, rng: np.random.Generator, ground: float) -> None:
    """Buildings with lit windows along a road."""
    u = rng.uniform
    edge = ground - u(8, 20)
    _sky(canvas, rng, edge)
    x = u(-20, 0)
    while x < SIZE:
        w, h = u(18, 44), u(0.3, 0.9) * edge
        wall = paint(
            rng, pick(rng, ["brick", "plain", "bands"]), saturation=(0.05, 0.5), value=(0.35, 0.8)
        )
        _put(canvas, box(x, edge - h, x + w, edge), wall)
        glass, size = paint(rng, hues=(0.1, 0.6), saturation=(0.1, 0.4)), u(4, 7)
        for wx in np.arange(x + 3, x + w - size, size * 2):
            for wy in np.arange(edge - h + 4, edge - 10, size * 2.2):
                left, right = max(int(wx), 0), max(int(wx + size), 0)
                canvas.rgb[int(wy) : int(wy + size * 1.2), left:right] = glass.color
        x += w + u(0, 6)
    _put(
        canvas,
        box(0, edge, SIZE, SIZE),
        paint(rng, "speckle", saturation=(0, 0.1), value=(0.3, 0.6)),
    )
    _put(canvas, box(0, edge, SIZE, edge + 4), plain(0.7, 0.7, 0.68, texture="speckle"), 0.4)
    y = min(ground + u(8, 16), SIZE - 4)
    for x in np.arange(u(-20, 0), SIZE, 36):
        _put(canvas, box(x, y, x + 18, y + 3), WHITE)


def field(canvas: Canvas, rng: np.random.Generator, ground: float) -> None:
    """Grass under the sky, with hills, bushes, stones or a fence."""
    u = rng.uniform
    edge = ground - u(10, 30)
    _sky(canvas, rng, edge)
    for depth in range(rng.integers(1, 4)):
        y, high = edge + 4 * depth, u(6, 26)
        crest = [(x, y - u(0, high)) for x in np.linspace(-10, SIZE + 10, 6)]
        far = paint(rng, "leaf", (0.22, 0.55), (0.15, 0.5), (0.35, 0.7))
        _put(canvas, path(curve(*crest), points((SIZE + 10, SIZE), (-10, SIZE))), far)
    grass = paint(rng, "leaf", (0.14, 0.36), (0.3, 0.7), (0.35, 0.75))
    _put(canvas, box(0, edge, SIZE, SIZE), grass)
    for _ in range(rng.integers(1, 6)):
        x, y, size = u(0, SIZE), edge + u(-2, 10), u(6, 16)
        bush = paint(rng, "leaf", (0.2, 0.4), value=(0.25, 0.6))
        _put(canvas, oval(x, y - size * 0.5, size, size * u(0.5, 0.9)), bush, 0.8)
    if chance(rng, 0.3):
        for x in np.arange(u(0, 14), SIZE, 14):
            _put(canvas, box(x, edge - 12, x + 3, edge + 5), WHITE, 0.5)
        _put(canvas, box(0, edge - 8, SIZE, edge - 6), WHITE, 0.5)
    for _ in range(rng.integers(0, 4)):
        stone = plain(*(u(0.45, 0.7),) * 3, texture="speckle")
        _put(canvas, oval(u(0, SIZE), u(edge + 8, SIZE), u(3, 9), u(2, 5)), stone, 1)


def sea(canvas: Canvas, rng: np.random.Generator, ground: float) -> None:
    """Open water with waves, islands and other boats far off."""
    u = rng.uniform
    edge = ground - u(14, 40)
    _sky(canvas, rng, edge)
    for _ in range(rng.integers(0, 3)):
        x, w = u(0, SIZE), u(12, 40)
        peaks = ((x - w * 0.3, edge - u(5, 16)), (x + w * 0.4, edge - u(4, 12)))
        hill = curve((x - w, edge), *peaks, (x + w, edge))
        _put(canvas, hill, paint(rng, "leaf", (0.25, 0.6), (0.15, 0.4), (0.4, 0.65)))
    water = paint(rng, "sheen", (0.46, 0.62), (0.4, 0.8), (0.4, 0.8))
    _put(canvas, box(0, edge, SIZE, SIZE), water)
    foam = plain(0.9, 0.95, 1.0, opacity=0.5)
    for _ in range(rng.integers(8, 22)):
        x, y = u(0, SIZE), edge + (SIZE - edge) * u(0.02, 1)
        w = u(4, 16)
        _put(canvas, ribbon(curve((x - w, y), (x, y - 1.5), (x + w, y)), 1.0, 2.0), foam)
    for _ in range(rng.integers(0, 3)):
        x = u(5, SIZE - 5)
        _put(canvas, points((x, edge - u(8, 16)), (x + 6, edge), (x - 4, edge)), WHITE)


def deep(canvas: Canvas, rng: np.random.Generator, ground: float) -> None:
    """Under water: rays of light, weeds, bubbles, stones on the sand."""
    u = rng.uniform
    above = color(rng, (0.47, 0.56), (0.3, 0.6), (0.7, 0.95))
    _fade(canvas, above, color(rng, (0.5, 0.65), (0.5, 0.9), (0.2, 0.55)))
    for _ in range(rng.integers(1, 5)):
        x, w, lean = u(0, SIZE), u(4, 14), u(-40, 40)
        ray = points((x, 0), (x + w, 0), (x + lean + 2 * w, SIZE), (x + lean, SIZE))
        _put(canvas, ray, plain(1, 1, 1, opacity=0.12))
    if chance(rng, 0.6):
        y = u(100, 116)
        sand = paint(rng, "speckle", (0.08, 0.14), (0.2, 0.5), (0.5, 0.8))
        floor = curve((-5, y), (40, y - 5), (90, y + 4), (135, y - 3))
        _put(canvas, path(floor, points((135, 140), (-5, 140))), sand)
    for _ in range(rng.integers(1, 7)):
        x, tall, sway = u(0, SIZE), u(25, 80), u(-12, 12)
        bends = ((x + sway, SIZE - tall * 0.4), (x - sway, SIZE - tall * 0.7))
        weed = curve((x, SIZE), *bends, (x + sway, SIZE - tall))
        look = paint(rng, "leaf", (0.2, 0.95), value=(0.25, 0.65))
        _put(canvas, ribbon(weed, u(5, 10), 1.0), look, 0.6)
    bubble = plain(0.8, 0.92, 1.0, opacity=0.45)
    for _ in range(rng.integers(0, 10)):
        _put(canvas, oval(u(0, SIZE), u(0, SIZE), u(1.5, 4)), bubble, 1)


def sky(canvas: Canvas, rng: np.random.Generator, ground: float) -> None:
    """Clouds, perhaps roofs or hills along the lower edge."""
    _sky(canvas, rng, SIZE)
    line = SIZE - rng.uniform(0, 24)
    crest = [(x, line + rng.uniform(-8, 8)) for x in np.linspace(-10, SIZE + 10, 6)]
    far = paint(rng, "leaf", (0.2, 0.6), (0.1, 0.5), (0.35, 0.7))
    _put(canvas, path(curve(*crest), points((SIZE + 10, SIZE + 9), (-10, SIZE + 9))), far)


def leaves(canvas: Canvas, rng: np.random.Generator, ground: float) -> None:
    """A garden far out of focus: discs of green, light and blossom."""
    u = rng.uniform
    above = color(rng, (0.18, 0.4), (0.2, 0.6), (0.4, 0.8))
    _fade(canvas, above, color(rng, (0.2, 0.4), (0.3, 0.7), (0.2, 0.5)))
    for _ in range(rng.integers(14, 26)):
        hues = (0.15, 0.42) if chance(rng, 0.75) else (0, 1)
        look = paint(rng, "plain", hues, opacity=u(0.25, 0.7))
        _put(canvas, oval(u(0, SIZE), u(0, SIZE), u(4, 20)), look)
    canvas.blur(u(1.0, 3.0))


def desk(canvas: Canvas, rng: np.random.Generator, ground: float) -> None:
    """A table top from above, with sheets, coins, pencils and leaves lying about."""
    u = rng.uniform
    top = pick(rng, ["wood", "wood", "plain", "check", "stripes", "speckle"])
    hues = (0.02, 0.13) if top == "wood" else (0, 1)
    _put(canvas, box(0, 0, SIZE, SIZE), paint(rng, top, hues, (0.1, 0.65), (0.35, 0.95)))
    for _ in range(rng.integers(1, 6)):
        x, y, turn, kind = u(0, SIZE), u(0, SIZE), u(0, 1), rng.integers(4)
        if kind == 0:
            w, h = u(15, 32), u(15, 32)
            shape, look = box(-w, -h, w, h), paint(rng, saturation=(0.0, 0.25), value=(0.8, 0.98))
        elif kind == 1:
            shape, look = box(-u(25, 45), -2.5, u(10, 30), 2.5), paint(rng, gloss=0.6)
        elif kind == 2:
            shape, copper = oval(0, 0, u(5, 9)), paint(rng, hues=(0.05, 0.14), gloss=0.6)
            look = STEEL if chance(rng, 0.5) else copper
        else:
            long, wide = u(10, 22), u(4, 8)
            side = curve((-long, 0), (0, -wide), (long, 0))
            shape = path(side, (side * (1, -1))[::-1])
            look = paint(rng, "leaf", (0.05, 0.38))
        _put(canvas, turned(shape, turn) + (x, y), look, 0.7)


def studio(canvas: Canvas, rng: np.random.Generator, ground: float) -> None:
    """An even backdrop, lit from behind."""
    tone = color(rng, saturation=(0.02, 0.5), value=(0.55, 0.98))
    red, green, blue = (c * rng.uniform(0.6, 0.95) for c in tone)
    _fade(canvas, tone, (red, green, blue), ground - 40, SIZE)
    if chance(rng, 0.5):
        _things(canvas, rng, ground - 4, int(rng.integers(1, 3)))
