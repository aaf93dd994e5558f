"""Objects of the kitchen: cup, bottle, teapot.

Each function adds one random instance to a `Drawing`; everything that makes it that instance
(proportions, counts, positions, paints) is drawn from `rng`.
"""

from __future__ import annotations

import numpy as np

from data_prep.demo.parts import (
    DARK,
    Drawing,
    box,
    chance,
    curve,
    mirrored,
    oval,
    paint,
    path,
    pick,
    plain,
    points,
    turned,
)


def cup(d: Drawing, rng: np.random.Generator) -> None:
    """A mug or tea cup from a little above, with a handle and perhaps saucer, band and steam."""
    u = rng.uniform
    high, rim = u(0.4, 0.72), u(0.42, 0.66)
    foot, belly, flat = rim * u(0.5, 1.0), u(-0.02, 0.12), u(0.16, 0.32)
    glaze = paint(rng, pick(rng, ["plain", "plain", "speckle", "bands"]), gloss=0.7)
    if chance(rng, 0.4):
        plate = rim * u(1.3, 1.6)
        d.fill(oval(0, high + 0.05, plate, plate * 0.3), glaze, 1)
        d.decal(oval(0, high + 0.03, plate * 0.7, plate * 0.2), glaze, 2)
    low, out, grip = u(0.15, 0.6) * high, rim + u(0.25, 0.5), u(0.07, 0.14)
    ear = curve((rim * 0.85, -high * 0.6), (out, -high * 0.5), (out - 0.06, low * 0.6), (foot, low))
    d.tube(ear, grip, grip, glaze)
    side = curve((rim, -high), (rim * 0.5 + foot * 0.5 + belly, 0.1), (foot, high))
    base = oval(0, high, foot, flat * foot, 0, 0.5, 12)
    back = oval(0, -high, rim, flat * rim, 0.5, 1, 12)
    d.fill(path(side, base, mirrored(side)[::-1], back), glaze)
    d.fill(oval(0, -high, rim, flat * rim), glaze, relief=0.3)
    drink = paint(rng, hues=(0.03, 0.12), value=(0.25, 0.75), gloss=0.5)
    d.decal(oval(0, -high + 0.03, rim * 0.87, flat * rim * 0.8), drink)
    wide, y, tall = (rim + foot) / 2 + belly * 0.8, u(-0.15, 0.15), u(0.1, 0.25)
    if chance(rng, 0.55):
        upper = oval(0, y + tall, wide * 0.97, flat * wide, 0.5, 0, 12)
        d.decal(path(oval(0, y, wide, flat * wide, 0, 0.5, 12), upper), paint(rng))
    elif chance(rng, 0.7):
        d.decal(oval(u(-0.15, 0.1), u(0.05, 0.2), u(0.1, 0.2)), paint(rng))
    top = -high - flat * rim
    for x in np.linspace(-0.25, 0.25, rng.integers(0, 4)):
        wisp = curve((x, top), (x + 0.08, top - 0.1), (x - 0.05, top - 0.2), (x + 0.04, top - 0.3))
        d.line(wisp, plain(1, 1, 1, opacity=0.4), 0.05, 2)


def bottle(d: Drawing, rng: np.random.Generator) -> None:
    """A bottle, flask or jar with stopper and label, or its level showing."""
    u = rng.uniform
    wide, neck, low = u(0.22, 0.46), u(0.07, 0.15), u(0.8, 0.95)
    lip, shoulder, slope = u(-0.85, -0.55), u(-0.3, 0.2), u(0.08, 0.3)
    foot, middle = wide * u(0.8, 1.05), wide + u(-0.06, 0.08)
    glass = paint(rng, "sheen", value=(0.3, 0.8), gloss=0.9, opacity=u(0.8, 1))
    stopper = paint(rng, "speckle", (0.05, 0.12)) if chance(rng, 0.5) else paint(rng)
    d.fill(box(-neck * 0.8, lip - u(0.06, 0.16), neck * 0.8, lip + 0.05), stopper, 1)
    upper = ((neck, lip), (neck, shoulder - slope), (wide * 0.94, shoulder))
    side = curve(*upper, (middle, (shoulder + low) / 2), (foot, low))
    d.fill(path(side, oval(0, low, foot, 0.05, 0, 0.5, 9), mirrored(side)[::-1]), glass)
    d.fill(box(-neck * 1.25, lip, neck * 1.25, lip + u(0.05, 0.09)), glass, 1)
    top, end = shoulder + u(0.1, 0.2), low - u(0.12, 0.3)
    if chance(rng, 0.25) or end - top < 0.2:
        d.decal(oval(0, u(shoulder + 0.05, low - 0.3), wide * 0.93, 0.05), glass)
        return
    kind, y = rng.integers(3), (top + end) / 2
    paper = paint(rng, saturation=(0.05, 0.5), value=(0.8, 0.98))
    d.decal(box(-wide, top, wide, end) if kind else oval(0, y, wide * 0.7, (end - top) / 2), paper)
    if kind == 1:
        d.decal(oval(0, y, wide * 0.4, (end - top) * 0.3), paint(rng), 2)
    else:
        for y in np.linspace(top, end, 5)[1:-1]:
            d.line(points((-wide * 0.5, y), (wide * 0.5, y)), DARK, 0.03, 2)


def teapot(d: Drawing, rng: np.random.Generator) -> None:
    """A teapot: body, spout, handle, lid with a knob, perhaps a foot and a painted pattern."""
    u = rng.uniform
    wide, high, y = u(0.46, 0.62), u(0.34, 0.52), 0.15
    glaze = paint(rng, pick(rng, ["plain", "plain", "speckle", "brushed"]), gloss=0.8)
    trim, lip = paint(rng, gloss=0.7), u(-0.45, -0.05)
    root = (-wide * 0.7, y + high * u(0.2, 0.6))
    bend = (-wide - u(0.15, 0.3), lip + 0.1)
    spout = curve(root, (-wide - 0.15, y + 0.02), bend, (-wide - u(0.28, 0.42), lip))
    d.tube(spout, u(0.22, 0.32), u(0.09, 0.14), glaze)
    if chance(rng, 0.75):
        x, out = wide * 0.7, wide + u(0.28, 0.42)
        knots = (
            (x, y - high * 0.65),
            (out, y - high * 0.8),
            (out, y),
            (wide * 0.85, y + high * 0.45),
        )
    else:
        x, start = wide * 0.7, y - high * 0.6
        knots = ((-x, start), (-x, -0.75), (0, u(-1.0, -0.85)), (x, -0.75), (x, start))
    d.tube(curve(*knots), grip := u(0.08, 0.13), grip, glaze)
    if chance(rng, 0.6):
        foot, top, end = wide * u(0.45, 0.7), y + high * 0.8, y + high + 0.07
        d.fill(points((-foot * 0.9, top), (foot * 0.9, top), (foot, end), (-foot, end)), trim, 1)
    angle = 2 * np.pi * np.linspace(0, 1, 44, endpoint=False)
    sides = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    square = u(0.75, 1.0)  # exponent of a superellipse: 1 is an ellipse, less is boxier
    d.fill(np.sign(sides) * np.abs(sides) ** square * (wide, high) + (0, y), glaze)
    lid, rise, seat = wide * u(0.45, 0.65), u(0.1, 0.2), y - high * 0.88
    d.fill(oval(0, seat - rise - 0.05, u(0.05, 0.09), u(0.05, 0.1)), trim)
    cap = path(oval(0, seat, lid, rise, 0.5, 1.0, 16), oval(0, seat, lid, 0.05, 0, 0.5, 8))
    d.fill(cap, trim if chance(rng, 0.5) else glaze)
    style, count = rng.integers(3), int(rng.integers(4, 7))
    if style == 0:
        for i in range(count):
            d.decal(turned(oval(0.13, 0, 0.075), i / count) + (0, y), trim)
        d.decal(oval(0, y, 0.06), paint(rng, hues=(0.1, 0.17)))
    elif style == 1:
        for v in (y - 0.12, y + 0.12):
            d.line(curve((-wide * 0.93, v), (0, v + 0.08), (wide * 0.93, v)), trim, 0.035, 1)
