"""The demo's sketches: an object traced from memory by a wobbling, imperfect hand.

No two strokes are alike: the hand bends straight lines, misses or passes the end of a stroke,
leaves small parts out, gets proportions a little wrong and turns the object a few degrees.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image, ImageDraw

from data_prep.demo.canvas import SIZE, fitted, placed
from data_prep.demo.parts import Part

SUBPIXELS = 3  # the page is drawn this much finer, then reduced: antialiasing
STEP = 2.0  # pixels between two points of a stroke
CORNER = np.cos(np.radians(38))  # a sharper turn is a corner, where the pen may be lifted


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hand:
    """One sketcher on one day; lengths in pixels of the finished picture."""

    width: float  # of the line
    ink: int  # grey level of the line, 0 black
    wobble: float  # how far a stroke strays
    tremor: float  # of the fine shake
    loose: float  # how far strokes miss or pass their ends
    lift: float  # chance that the pen is lifted at a corner
    retrace: float  # chance that a stroke is gone over again
    through: float  # chance that lines hidden behind a part are drawn all the same
    neglect: tuple[float, float, float]  # chance that a part is left out, by its `detail`
    simple: float  # bars narrower than this become one line
    warp: float  # of the proportions

    @classmethod
    def sample(cls, rng: np.random.Generator) -> Hand:
        """A random hand, from careful to careless."""
        u, care = rng.uniform, rng.uniform(0.5, 1.4)
        return cls(
            width=u(1.1, 2.3),
            ink=int(rng.integers(0, 60)),
            wobble=0.8 * care,
            tremor=u(0.0, 0.3),
            loose=1.8 * care,
            lift=u(0.2, 0.9),
            retrace=u(-0.1, 0.2),
            through=u(-0.05, 0.1),
            neglect=(0.0, 0.14 * care, 0.5 * care),
            simple=u(2.5, 6.5),
            warp=3.0 * care,
        )


def render(parts: Sequence[Part], pose: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """One grey sketch of SIZE x SIZE pixels, dark ink on white, of the object in about `pose`."""
    hand = Hand.sample(rng)
    turn, shear = rng.normal(0, np.radians(5)), rng.normal(0, 0.05)
    squeeze = np.exp(rng.normal(0, 0.05))
    lean = np.array(((np.cos(turn), -np.sin(turn)), (np.sin(turn), np.cos(turn))))
    slip = lean @ np.array(((squeeze, shear), (0.0, 1.0 / squeeze)))
    long_side = rng.uniform(0.68, 0.88) * SIZE
    view = fitted(parts, slip @ pose, long_side)
    view[:, 2] += rng.uniform(-0.4, 0.4, 2) * (SIZE - long_side - 8)

    page = Image.new("L", (SIZE * SUBPIXELS, SIZE * SUBPIXELS), 255)
    draw = ImageDraw.Draw(page)
    bend = _Warp(rng, hand.warp)
    for part in parts:
        if rng.random() < hand.neglect[part.detail]:
            continue
        _trace(draw, placed(part, view), hand, bend, rng)
    return page.reduce(SUBPIXELS)


class _Warp:
    """A smooth displacement of the page: proportions as they are remembered."""

    def __init__(self, rng: np.random.Generator, amount: float) -> None:
        self.wave = rng.normal(0, 2 * np.pi / (1.1 * SIZE), (2, 2, 2))  # [term, x or y, along]
        self.phase = rng.uniform(0, 2 * np.pi, (2, 2))
        self.amount = amount / 2

    def __call__(self, dots: np.ndarray) -> np.ndarray:
        turns = (self.wave[None] * dots[:, None, None, :]).sum(axis=-1) + self.phase
        return dots + self.amount * np.sin(turns).sum(axis=1)


def _trace(
    draw: ImageDraw.ImageDraw, part: Part, hand: Hand, bend: _Warp, rng: np.random.Generator
) -> None:
    """Draws one part, hiding what lies behind it."""
    middle = part.outline.mean(axis=0)
    scale, shift = np.exp(rng.normal(0, 0.035, 2)), rng.normal(0, 0.7, 2)

    def remembered(outline: np.ndarray) -> np.ndarray:
        return bend(middle + (outline - middle) * scale + shift)

    if part.spine is not None and part.width < hand.simple:
        _stroke(draw, remembered(part.spine), hand, rng)
        return
    outline = remembered(part.outline)
    if not part.closed:
        _stroke(draw, outline, hand, rng)
        return
    if part.solid:
        draw.polygon((outline * SUBPIXELS).ravel().tolist(), fill=hand.ink)
    elif rng.random() >= hand.through:
        draw.polygon((outline * SUBPIXELS).ravel().tolist(), fill=255)
    for edge in (outline, *(remembered(hole) for hole in part.holes)):
        for piece in _pieces(edge, hand, rng):
            _stroke(draw, piece, hand, rng)


def _pieces(ring: np.ndarray, hand: Hand, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """A closed outline as the strokes it is drawn in: from corner to corner, or all round."""
    way = np.diff(ring, axis=0, append=ring[:1])  # from each point to the next
    length = np.hypot(way[:, 0], way[:, 1])
    last = np.arange(-1, len(ring) - 1)
    cosine = (way * way[last]).sum(axis=1)
    corners = np.flatnonzero(cosine < CORNER * length * length[last])
    lifted = corners[rng.random(len(corners)) < hand.lift]
    if not len(lifted):
        lifted = corners[:1] if len(corners) else rng.integers(0, len(ring), 1)
    for start, stop in zip(lifted, np.append(lifted[1:], lifted[0] + len(ring)), strict=True):
        yield ring[np.arange(start, stop + 1) % len(ring)]


def _stroke(
    draw: ImageDraw.ImageDraw, dots: np.ndarray, hand: Hand, rng: np.random.Generator
) -> None:
    """Draws one stroke, sometimes twice."""
    steps = np.diff(dots, axis=0)
    far = np.hypot(steps[:, 0], steps[:, 1])
    if far.sum() < 0.5:
        return
    dots = dots[np.concatenate([[True], far > 1e-6])]  # repeated points have no direction
    arc = np.concatenate([[0.0], np.cumsum(far[far > 1e-6])])
    length = arc[-1]
    calm = min(1.0, length / 45)  # short strokes stray less
    for _ in range(2 if rng.random() < hand.retrace else 1):
        early, late = rng.normal(0, hand.loose * calm, 2).clip(-0.2 * length, 0.2 * length)
        count = max(int(length / STEP), 3) + 1
        at = np.arange(count) * ((length + early + late) / (count - 1)) - early
        line = _along(dots, arc, at)
        wave = 2 * np.pi / rng.uniform(22, 90, (3, 1, 2))
        stray = np.sin(at[None, :, None] * wave + rng.uniform(0, 2 * np.pi, (3, 1, 2))).sum(axis=0)
        drift = rng.normal(0, 0.6 * hand.loose * calm, 2) * (at[:, None] / length - 0.5)
        line = line + hand.wobble * calm * stray + drift
        line += rng.normal(0, hand.tremor, line.shape)
        line[1:-1] = 0.5 * line[1:-1] + 0.25 * (line[:-2] + line[2:])  # pens round corners off
        _ink(draw, line * SUBPIXELS, hand, rng)


def _along(dots: np.ndarray, arc: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Points of a polyline at given arc lengths, running straight on past both ends."""
    line = np.empty((len(at), 2))
    line[:, 0], line[:, 1] = np.interp(at, arc, dots[:, 0]), np.interp(at, arc, dots[:, 1])
    if at[0] < 0:
        line += (np.maximum(-at, 0) / arc[1])[:, None] * (dots[0] - dots[1])
    if at[-1] > arc[-1]:
        line += (np.maximum(at - arc[-1], 0) / (arc[-1] - arc[-2]))[:, None] * (dots[-1] - dots[-2])
    return line


def _ink(draw: ImageDraw.ImageDraw, line: np.ndarray, hand: Hand, rng: np.random.Generator) -> None:
    """Lays the ink of one stroke in runs of changing pressure, thinner at both ends."""
    run = 6
    cuts = range(0, len(line) - 1, run)
    press = 1 + 0.22 * np.sin(rng.uniform(0, 6) + 0.9 * np.arange(len(cuts)))
    press[0] *= 0.85
    press[-1] *= 0.75
    widths = np.maximum(hand.width * SUBPIXELS * press, 2.0).round().astype(int).tolist()
    dots = line.tolist()
    for cut, width in zip(cuts, widths, strict=True):
        draw.line([x for dot in dots[cut : cut + run + 1] for x in dot], hand.ink, width)
    # PIL's lines end square: a disc rounds every end and joint.
    for at, width in zip([*cuts, -1], [*widths, widths[-1]], strict=True):
        (x, y), r = dots[at], (width - 1) / 2
        draw.ellipse((x - r, y - r, x + r, y + r), hand.ink)
