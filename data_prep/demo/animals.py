"""Animals: fish, butterfly, snail, cat (see `kitchen` for the form)."""

from __future__ import annotations

from typing import Any

import numpy as np

from data_prep.demo.parts import (
    DARK,
    WHITE,
    Drawing,
    around,
    chance,
    curve,
    mirrored,
    oval,
    paint,
    path,
    pick,
    plain,
    points,
    profile,
    turned,
)


def fish(d: Drawing, rng: np.random.Generator) -> None:
    """A fish from the side: body, tail, fins, eye, gill and stripes, spots or scales."""
    u = rng.uniform
    skin = paint(rng, pick(rng, ["plain", "scales", "scales"]), gloss=0.6)
    fin = paint(rng, gloss=0.3)
    high, blunt, tail, fork = u(0.26, 0.52), u(0.5, 0.8), u(0.25, 0.45), u(0.0, 0.22)
    back = u(0.48, 0.6)  # where the body meets the tail; the nose is at -0.85

    def half(x: Any) -> Any:  # of one place, or of many
        t = np.clip((np.asarray(x) + 0.85) / (back + 0.85), 0, 1)
        return high * np.sin(np.pi * t**blunt * 0.97) ** 0.8 + 0.05 * t

    x = np.linspace(-0.85, back, 24)
    wave = u(-0.06, 0.06)
    lobes = (
        (back - 0.02, -0.06),
        (0.97, -tail),
        (0.97 - fork, wave),
        (0.97, tail),
        (back - 0.02, 0.06),
    )
    d.fill(points(*lobes) if chance(rng, 0.5) else curve(*lobes, closed=True), fin)
    left, right, rise = u(-0.45, -0.2), u(0.1, 0.35), u(0.15, 0.32)
    top = curve(
        (left, -half(left) + 0.05),
        (left + 0.15, -half(left) - rise),
        (right, -half(right) - rise * u(0.2, 0.8)),
        (right, -half(right) + 0.05),
    )
    d.fill(top, fin)
    place = u(-0.1, 0.25)
    d.fill(
        points(
            (place, half(place) - 0.05),
            (place + 0.2, half(place) + u(0.1, 0.25)),
            (place + 0.25, half(place + 0.25) - 0.04),
        ),
        fin,
        1,
    )
    d.fill(path(np.stack([x, -half(x)], axis=1), np.stack([x, half(x)], axis=1)[::-1]), skin)
    ink, style, gill = paint(rng), rng.integers(3), u(-0.5, -0.35)
    if style == 0:
        for s in np.linspace(gill + 0.2, back - 0.12, rng.integers(1, 5)):
            far, near, w = half(s + 0.09) * 0.97, half(s) * 0.97, u(0.05, 0.12)
            front = curve((s, -near), (s + 0.08, 0), (s, near))
            d.decal(path(front, curve((s + w, far), (s + w + 0.08, 0), (s + w, -far))), ink)
    elif style == 1:
        for _ in range(rng.integers(3, 8)):
            s = u(gill + 0.15, back - 0.2)
            d.decal(oval(s, u(-0.7, 0.7) * half(s), u(0.04, 0.09)), ink)
    else:
        for s in np.linspace(gill + 0.22, back - 0.15, 4):
            for v in np.linspace(-0.55, 0.55, 3):
                d.line(oval(s, v * half(s), 0.07, 0.09, -0.25, 0.25, 6), fin, 0.02, 2)
    d.line(oval(gill - 0.12, 0.02, 0.14, half(gill) * 0.75, -0.2, 0.2, 10), fin, 0.03, 1)
    flap = curve((gill + 0.12, 0.05), (gill + 0.34, 0.0), (gill + 0.36, 0.16), closed=True)
    d.fill(flap, fin, 1)
    eye, ex = u(0.06, 0.1), u(-0.66, -0.58)
    d.decal(oval(ex, -0.25 * high, eye), WHITE, 0)
    d.decal(oval(ex - 0.01, -0.25 * high, eye * 0.5), DARK, 0, solid=True)
    d.line(curve((-0.83, 0.06), (-0.74, 0.1 + u(-0.05, 0.05)), (-0.68, 0.08)), DARK, 0.025, 1)


def butterfly(d: Drawing, rng: np.random.Generator) -> None:
    """A butterfly with open wings, seen a little from the side, so that one pair is narrower."""
    u = rng.uniform
    wing, edge, dots = paint(rng, gloss=0.1), paint(rng, gloss=0.1), paint(rng, gloss=0.1)
    tip, inlet = (u(0.65, 0.9), u(-0.85, -0.6)), (u(0.75, 0.92), u(-0.4, -0.2))
    front = ((0.04, -0.18), (0.3, u(-0.65, -0.45)), tip, inlet, (0.5, u(-0.05, 0.08)), (0.05, 0.04))
    outer, end = (u(0.6, 0.75), u(0.3, 0.45)), (u(0.35, 0.55), u(0.6, 0.8))
    hind = ((0.04, 0), (0.5, u(0, 0.1)), outer, end, (u(0.15, 0.25), u(0.45, 0.6)), (0.04, 0.25))
    upper, lower = curve(*front, closed=True), curve(*hind, closed=True)
    inner, seen = u(0.55, 0.78), (1.0, u(0.5, 1.0))
    style, count, size = rng.integers(3), int(rng.integers(1, 4)), u(0.05, 0.1)
    for side, width in zip((-1, 1), seen, strict=True):
        for shape in (lower, upper):
            d.fill(shape * (side * width, 1), edge, relief=0.3)
            if style != 1:
                d.decal(around(shape, inner) * (side * width, 1), wing)
            middle = shape.mean(axis=0)
            if style != 2:
                for t in np.linspace(0.2, 0.9, count):
                    spot = oval(*(middle * (0.55 + 0.6 * t)), size * (0.6 + 0.5 * t))
                    d.decal(spot * (side * width, 1), dots)
            else:
                for end in shape[8:24:6]:
                    d.line(
                        points((0.06 * side * width, -0.05), end * 0.9 * (side * width, 1)),
                        dots,
                        0.02,
                        2,
                    )
    spread, tall = u(0.15, 0.35), u(-0.85, -0.6)
    for side in (-1, 1):
        feeler = curve((0, -0.3), (side * spread * 0.4, (tall - 0.3) / 2), (side * spread, tall))
        d.line(feeler, DARK, 0.025, 0)
        d.decal(oval(side * spread, tall, 0.03), DARK, 2, solid=True)
    fur = paint(rng, "bark", value=(0.15, 0.45), gloss=0.2)
    thick = u(0.1, 0.16)
    d.fill(profile((0.02, -0.25), (thick / 2, 0), (thick / 2.4, 0.3), (0.01, u(0.45, 0.65))), fur)
    d.fill(oval(0, -0.27, thick * 0.55), fur)


def snail(d: Drawing, rng: np.random.Generator) -> None:
    """A snail: a foot, a raised head with two stalks, and a spiral shell."""
    u = rng.uniform
    slime = paint(
        rng, "speckle", hues=(0.05, 0.25), saturation=(0.2, 0.6), value=(0.5, 0.85), gloss=0.6
    )
    house = paint(rng, pick(rng, ["plain", "bands", "stripes"]), gloss=0.6)
    r, head, neck, sole = u(0.42, 0.6), u(-0.85, -0.65), u(-0.2, 0.15), 0.72
    x, y = u(0.05, 0.25), sole - 0.1 - r * 0.9
    tilt, spread, tall = u(-0.1, 0.1), u(0.08, 0.2), u(0.25, 0.45)
    for side in (-1, 1):
        tip = (head + side * spread, neck - tall - 0.05 * side)
        middle = (head + 0.05 + side * spread * 0.4, neck - tall * 0.5)
        d.line(curve((head + 0.06, neck + 0.05), middle, tip), slime, 0.05)
        d.fill(oval(*tip, 0.05), slime)
    nape = ((x + r * 0.5, sole - 0.14), (head + 0.3, sole - 0.2), (head + 0.2, neck + 0.15))
    face = ((head + 0.08, neck - 0.04), (head - 0.1, neck + 0.08), (head - 0.06, neck + 0.3))
    under = ((head + 0.02, sole), (head + 0.2, sole + 0.08), (0.3, sole + 0.08))
    foot = curve((0.97, sole + 0.06), *nape, *face, *under, closed=True)
    d.fill(foot, slime)
    d.line(oval(head - 0.02, neck + 0.14, 0.08, 0.08, 0.15, 0.4, 6), DARK, 0.025, 2)
    shell = oval(x, y, r, r * u(0.85, 1.0))
    d.fill(turned(shell, tilt, (x, y)), house)
    turns, start = u(1.5, 3.0), u(0, 1)
    t = np.linspace(0, 1, int(22 * turns))
    angle = 2 * np.pi * (start + turns * t)
    spiral = np.stack([x + r * 0.97 * t * np.cos(angle), y + r * 0.93 * t * np.sin(angle)], axis=1)
    d.line(spiral, plain(*(0.35 * c for c in house.color)), 0.035, 0)


def cat(d: Drawing, rng: np.random.Generator) -> None:
    """The face of a cat looking ahead or a little aside."""
    u = rng.uniform
    ginger, grey = ((0.05, 0.1), (0.3, 0.8)), ((0.55, 0.65), (0.02, 0.15))
    fur = paint(rng, "fur", *(ginger if chance(rng, 0.6) else grey), (0.35, 0.95), gloss=0)
    pale = paint(rng, "fur", (0.05, 0.1), (0.05, 0.2), (0.85, 0.98), gloss=0)
    pink = plain(0.85, 0.55, 0.55)
    wide, high, jaw = u(0.6, 0.78), u(0.5, 0.65), u(0.85, 1.1)
    ear, lean, root = u(0.3, 0.5), u(0.0, 0.2), u(0.12, 0.25)
    for side in (-1, 1):
        tip = (side * (wide * 0.75 + lean * 0.4), 0.1 - high - ear)
        base = points((side * root, 0.1 - high * 0.9), tip, (side * wide * 0.98, -0.05))
        d.fill(base, fur)
        d.decal(around(base, u(0.5, 0.62)), pink, 1)
    face = curve(
        (0, 0.1 - high),
        (wide * 0.75, 0.1 - high * 0.7),
        (wide, 0.15),
        (wide * 0.65 * jaw, 0.1 + high * 0.8),
        (0, 0.12 + high),
    )
    d.fill(path(face, mirrored(face)[::-1]), fur)
    dx, dy = u(-0.14, 0.14), u(-0.06, 0.08)
    gap, size, slit = u(0.24, 0.36), u(0.11, 0.18), u(0.25, 0.8)
    if chance(rng, 0.3):
        d.decal(oval(dx + rng.choice([-1, 1]) * gap, dy, size * 1.9, size * 1.8), pale)
    stripe = plain(*(0.5 * c for c in fur.color), gloss=0)
    for i in range(rng.choice([0, 0, 3, 3, 5])):
        x = (i - 1) * 0.13
        top = oval(dx + x, -high * 0.72, 0.035, 0.02, 0.5, 1.0, 5)
        d.decal(path(top, points((dx + x, -high * 0.3))), stripe)
    d.decal(oval(dx, dy + 0.42, u(0.2, 0.28), u(0.15, 0.2)), pale, 2)
    iris = paint(rng, hues=(0.1, 0.58), value=(0.7, 0.95), gloss=0.8)
    for side in (-1, 1):
        d.decal(oval(dx + side * gap, dy, size, size * u(0.7, 1.05)), iris, 0)
        d.decal(oval(dx + side * gap, dy, size * slit * 0.6, size * 0.68), DARK, 0, solid=True)
    ny, nose = dy + 0.28, u(0.06, 0.1)
    tip = points((dx - nose, ny), (dx + nose, ny), (dx, ny + nose * 1.1))
    d.decal(tip, pink, 0, solid=chance(rng, 0.5))
    smile = u(0.1, 0.2)
    for side in (-1, 1):
        middle, corner = (dx + side * smile * 0.5, ny + 0.2), (dx + side * smile, ny + 0.13)
        d.line(curve((dx, ny + nose), middle, corner), DARK, 0.022)
        for t in np.linspace(-0.1, 0.14, rng.integers(2, 4)):
            far = (dx + side * u(0.75, 0.95), ny + 0.08 + t * 1.8)
            d.line(points((dx + side * 0.2, ny + 0.08 + t * 0.6), far), WHITE, 0.016, 1)
