"""Things of the garden: house, tree, mushroom, flower (see `kitchen` for the form)."""

from __future__ import annotations

import numpy as np

from data_prep.demo.parts import (
    GLASS,
    STEEL,
    WHITE,
    Drawing,
    Paint,
    box,
    chance,
    curve,
    mirrored,
    oval,
    paint,
    path,
    pick,
    points,
    profile,
    ribbon,
    turned,
)


def house(d: Drawing, rng: np.random.Generator) -> None:
    """A house: gabled front, broad roof, or both seen from the corner; door, windows, chimney."""
    u = rng.uniform
    skin = pick(rng, ["brick", "plain", "bands"])
    wall = paint(rng, skin, (-0.03, 0.17), (0.1, 0.6), (0.6, 0.95), gloss=0)
    tiles = paint(rng, "brick", (-0.05, 0.1), (0.2, 0.8), (0.3, 0.65), gloss=0)
    wood = paint(rng, "wood", gloss=0.2)
    w, top, low, rise, eave = u(0.5, 0.8), u(-0.2, 0.1), 0.85, u(0.35, 0.65), u(0.04, 0.14)
    stack, tall = u(0.35, 0.6) * rng.choice([-1, 1]), u(0.15, 0.3)
    if chance(rng, 0.7):
        slope = top - rise * (1 - abs(stack) / w)
        d.fill(box(stack * w - 0.07, slope - tall, stack * w + 0.07, top), wall, 1)
        d.fill(oval(stack * w, slope - tall, 0.1, 0.04), tiles, 2)
    kind, left, right = rng.integers(3), -w, w
    if kind == 2:  # the gable to the left, the long side running back to the right
        left, right, deep, back = -0.85, u(-0.25, 0.05), 0.9, u(0.02, 0.12)
        ridge = (left + right) / 2
        side = points((right, top), (deep, top - back), (deep, low - back), (right, low))
        d.fill(side, wall, relief=0.4)
        upper = points((ridge, top - rise), (deep - 0.15, top - rise - back))
        lower = points((deep + eave, top - back + 0.03), (right + eave, top + 0.03))
        d.fill(path(upper, lower), tiles, relief=0.4)
        for t in np.linspace(0.3, 0.75, rng.integers(1, 3)):
            x, y = right + t * (deep - right), top - t * back + u(0.15, 0.3)
            _window(d, x, y, 0.16, u(0.15, 0.25), 0.0)
    if kind == 1:
        d.fill(box(left, top, right, low), wall, relief=0.4)
        inset = u(0.1, 0.35)
        slope = points((left - eave, top), (left + inset, top - rise))
        d.fill(path(slope, mirrored(slope)[::-1]), tiles, relief=0.4)
    else:
        peak = ((left + right) / 2, top - rise)
        d.fill(points((left, top), peak, (right, top), (right, low), (left, low)), wall, relief=0.4)
        rim = 0.09
        slope = points((left - eave, top + 0.06), peak, (right + eave, top + 0.06))
        d.fill(path(slope + (0, -rim), slope[::-1]), tiles, relief=0.5)
        if chance(rng, 0.5):
            d.decal(oval(peak[0], top - rise * 0.25, u(0.06, 0.11)), GLASS)
    span = right - left
    door, width, height = left + span * u(0.15, 0.85), span * u(0.16, 0.24), u(0.3, 0.42)
    door = np.clip(door, left + width * 0.7, right - width * 0.7)
    d.fill(box(door - width / 2, low - height, door + width / 2, low), wood, relief=0.3)
    d.decal(oval(door + width * 0.3, low - height * 0.45, 0.022), STEEL, 2, solid=True)
    cols = int(rng.integers(2, 5 if kind == 1 else 4))
    rows = 2 if low - top > 0.85 and chance(rng, 0.6) else 1
    size, arch = min(span / cols * u(0.45, 0.65), 0.3), u(0.1, 0.9) if chance(rng, 0.25) else 0.0
    for row in range(rows):
        y = top + 0.1 + row * (low - top) * 0.45
        for x in left + span * (np.arange(cols) + 0.5) / cols:
            if y + size < low - height or abs(x - door) > (width + size) / 2 + 0.02:
                _window(d, x, y, size, min(size * 1.1, 0.3), arch)


def _window(d: Drawing, x: float, y: float, width: float, height: float, arch: float) -> None:
    half = width / 2
    crown = points((x - half, y), (x + half, y))
    if arch:
        crown = oval(x, y + arch * half, half, arch * half, 0.5, 1.0, 9)
    d.decal(path(crown, points((x + half, y + height), (x - half, y + height))), GLASS, 0)
    d.line(points((x, y), (x, y + height)), WHITE, 0.025, 1)
    d.line(points((x - half, y + height / 2), (x + half, y + height / 2)), WHITE, 0.025, 1)


def tree(d: Drawing, rng: np.random.Generator) -> None:
    """A broad-leaved tree, a conifer or a palm."""
    u = rng.uniform
    bark = paint(rng, "bark", hues=(0.04, 0.1), saturation=(0.3, 0.6), value=(0.25, 0.5), gloss=0)
    season = (0.2, 0.38) if chance(rng, 0.7) else (0.03, 0.14)
    leaf = paint(rng, "leaf", hues=season, value=(0.35, 0.75), gloss=0)
    kind, lean = rng.random(), u(-0.12, 0.12)
    if kind < 0.3:
        trunk, wide, tiers, top = u(0.08, 0.14), u(0.4, 0.65), int(rng.integers(2, 6)), u(-1, -0.85)
        d.fill(box(-trunk / 2, 0.5, trunk / 2, 0.95), bark)
        edges, flare, overlap = np.linspace(0.65, top, tiers + 1), u(0.35, 0.6), u(0.1, 0.2)
        for i in range(tiers):
            half = wide * (1 - flare * i / tiers)
            peak, y, sag = max(edges[i + 1] - overlap, top), edges[i], u(0.02, 0.08)
            skirt = curve((half, y), (half * 0.4, y + sag), (-half * 0.4, y + sag), (-half, y))
            d.fill(path(points((0, peak)), skirt), leaf)
    elif kind < 0.5:
        bow, crown = u(-0.3, 0.3), (u(-0.25, 0.25), u(-0.6, -0.35))
        trunk = curve((0, 0.95), (bow, 0.3), crown)
        d.tube(trunk, u(0.15, 0.22), 0.09, bark)
        for t in np.linspace(0.45, 1.05, rng.integers(5, 9)):
            a, reach = 2 * np.pi * t, u(0.5, 0.7)
            x, y = reach * np.cos(a), 0.55 * reach * np.sin(a)
            up = curve((0, 0), (x * 0.5, y - 0.16), (x, y + 0.12))
            down = curve((x, y + 0.12), (x * 0.5, y + 0.02), (0, 0.05))
            d.fill(path(up, down) + crown, leaf)
    else:
        fork, wide, high = u(-0.05, 0.2), u(0.42, 0.75), u(0.4, 0.6)
        thick = u(0.12, 0.22)
        d.tube(curve((0, 0.95), (lean * 0.3, 0.5), (lean, fork)), thick, thick * 0.6, bark)
        for side in (-1, 1):
            if chance(rng, 0.5):
                y = u(0.2, 0.4)
                d.bar((lean * 0.5, y + 0.15), (side * u(0.2, 0.35), y - 0.2), thick * 0.4, bark, 1)
        lobes, depth, phase = int(rng.integers(5, 10)), u(0.06, 0.14), u(0, 6)
        angle = 2 * np.pi * np.linspace(0, 1, 72, endpoint=False)
        r = 1 - depth + 2 * depth * np.abs(np.sin(lobes * angle / 2 + phase))
        x, y = lean + wide * r * np.cos(angle), -0.32 + high * r * np.sin(angle)
        d.fill(np.stack([x, y], axis=1), leaf)
        for _ in range(rng.integers(0, 5)):
            x, y, r = lean + u(-0.6, 0.6) * wide, -0.32 + u(-0.6, 0.6) * high, u(0.08, 0.14)
            d.line(oval(x, y, r, r, 0.55, 0.95, 8), leaf, 0.02, 2)
        apples = paint(rng, hues=(-0.03, 0.12), gloss=0.5)
        for _ in range(rng.choice([0, 0, 3, 4, 5])):
            d.fill(oval(lean + u(-0.6, 0.6) * wide, -0.3 + u(-0.6, 0.7) * high, 0.06), apples, 1)


def mushroom(d: Drawing, rng: np.random.Generator) -> None:
    """A mushroom with a cap, spots and perhaps a skirt, gills or a smaller one beside it."""
    u = rng.uniform
    flesh = paint(rng, hues=(0.08, 0.14), saturation=(0.05, 0.25), value=(0.8, 0.97), gloss=0.1)
    skin = paint(rng, hues=(-0.06, 0.12), saturation=(0.5, 0.9), value=(0.45, 0.9), gloss=0.5)
    spots = int(rng.integers(0, 9))
    if chance(rng, 0.35):
        _toadstool(d, rng, u(0.4, 0.55), rng.choice([-1, 1]) * u(0.45, 0.6), spots, flesh, skin)
    _toadstool(d, rng, 1.0, 0.0, spots, flesh, skin)


def _toadstool(
    d: Drawing,
    rng: np.random.Generator,
    size: float,
    aside: float,
    spots: int,
    flesh: Paint,
    skin: Paint,
) -> None:
    """One mushroom, `size` times as large as the main one, its foot level with the main one's."""
    u = rng.uniform
    wide, high, thick, bend = u(0.5, 0.85), u(0.45, 0.95), u(0.2, 0.36), u(-0.12, 0.12)
    rim, belly, flat = u(-0.2, 0.15), u(1.0, 1.6), u(0.06, 0.16)

    def place(outline: np.ndarray) -> np.ndarray:
        return outline * size + (aside, 0.9 * (1 - size))

    stem = curve((bend, rim), (bend * 0.3, (rim + 0.9) / 2), (0, 0.9))
    d.fill(place(ribbon(stem, thick, thick * belly)), flesh)
    if chance(rng, 0.4):
        y = rim + u(0.15, 0.25)
        d.fill(place(profile((thick * 0.55, y - 0.06), (thick, y + 0.06), smooth=False)), flesh, 1)
    d.fill(place(oval(bend, rim, wide * 0.97, flat)), flesh)
    for t in np.linspace(-0.7, 0.7, rng.choice([0, 5, 7])):
        gill = points((bend + t * thick, rim), (bend + t * wide, rim + flat * 0.8))
        d.line(place(gill), flesh, 0.02, 2)
    angle, sharp = np.pi * np.linspace(0, 1, 26), u(0.55, 1.1)
    dome = np.stack([bend + wide * np.cos(angle), rim - high * np.sin(angle) ** sharp], axis=1)
    d.fill(place(path(dome, oval(bend, rim, wide, flat * 0.5, 0.5, 0, 12))), skin)
    for _ in range(spots):
        r, a = np.sqrt(u(0, 0.7)), np.pi * u(0.12, 0.88)
        x, y = bend + wide * r * np.cos(a), rim - 0.06 - high * 0.85 * r * np.sin(a)
        d.decal(place(oval(x, y, u(0.05, 0.12), u(0.04, 0.09))), WHITE)


def flower(d: Drawing, rng: np.random.Generator) -> None:
    """A daisy-like flower or a tulip on a stem with leaves, sometimes in a pot."""
    u = rng.uniform
    green = paint(rng, hues=(0.24, 0.38), value=(0.35, 0.7), gloss=0.2)
    petal = paint(rng, hues=(-0.25, 0.17), saturation=(0.3, 0.9), value=(0.75, 1.0), gloss=0.15)
    heart = paint(rng, "speckle", hues=(0.08, 0.16), value=(0.45, 0.95), gloss=0.1)
    x, y, potted = u(-0.15, 0.15), u(-0.5, -0.3), chance(rng, 0.35)
    end = 0.5 if potted else 0.98
    stem = curve((0, end), (u(-0.12, 0.12), 0.35), (x, y))
    for _ in range(rng.integers(1 if potted else 0, 4)):
        root, side, out, up = (
            stem[rng.integers(0, 8)],
            rng.choice([-1, 1]),
            u(0.3, 0.5),
            u(0.05, 0.35),
        )
        tip = root + (side * out, -up)
        bulge = root + (side * out * 0.35, -up - 0.1)
        under = root + (side * out * 0.65, -up * 0.4 + 0.06)
        d.fill(path(curve(root, bulge, tip), curve(tip, under, root)), green, 1)
    d.tube(stem, 0.06, 0.045, green)
    if potted:
        clay = paint(rng, hues=(0.02, 0.08), gloss=0.2)
        top, low = u(0.3, 0.42), u(0.2, 0.3)
        d.fill(points((-top, 0.55), (top, 0.55), (low, 0.98), (-low, 0.98)), clay)
        d.fill(box(-top - 0.06, 0.45, top + 0.06, 0.58), clay)
    if chance(rng, 0.25):
        wide, high = u(0.22, 0.32), u(0.28, 0.38)
        low = y + high
        for side in (-1, 1):
            outer = curve(
                (x, low), (x + side * wide, low - high * 0.6), (x + side * wide * 0.9, y - high)
            )
            d.fill(path(outer, points((x, y - high * 0.3))), petal)
        d.fill(
            curve((x, low), (x - wide * 0.6, y), (x, y - high), (x + wide * 0.6, y), closed=True),
            petal,
        )
        return
    count, reach, fat, core = int(rng.integers(5, 13)), u(0.38, 0.52), u(0.8, 1.15), u(0.1, 0.2)
    half, blunt, squash = fat * np.pi * reach * 0.62 / count, u(0.1, 0.8), u(0.75, 1)
    edge = ((core * 0.5, 0), (reach * 0.6, half), (reach * 0.92, half * blunt), (reach, 0))
    upper = [(along, -across) for along, across in edge[1:3]]
    one = curve(edge[0], *upper, edge[3], *edge[2:0:-1], closed=True)
    start = u(0, 1)
    for i in range(count):
        d.fill(turned(one, start + i / count) * (1, squash) + (x, y), petal)
    d.fill(oval(x, y, core, core * squash), heart)
