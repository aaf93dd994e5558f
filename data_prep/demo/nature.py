"""Living things: tree, mushroom, flower, fish, butterfly, snail, cat (see `kitchen` for the form)."""

from __future__ import annotations

import numpy as np

from data_prep.demo.parts import (
    DARK,
    WHITE,
    Drawing,
    around,
    box,
    chance,
    curve,
    mirrored,
    oval,
    paint,
    path,
    plain,
    points,
    profile,
    ribbon,
    turned,
)


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
    """A mushroom with a domed, pointed or flat cap, spots and perhaps a skirt or a small brother."""
    u = rng.uniform
    flesh = paint(rng, hues=(0.08, 0.14), saturation=(0.05, 0.25), value=(0.8, 0.97), gloss=0.1)
    skin = paint(rng, hues=(-0.06, 0.12), saturation=(0.5, 0.9), value=(0.45, 0.9), gloss=0.5)
    count = int(rng.integers(0, 9))
    small = chance(rng, 0.35)
    for size, x in ((u(0.4, 0.55), rng.choice([-1, 1]) * u(0.45, 0.6)), (1.0, 0.0))[
        0 if small else 1 :
    ]:
        wide, high, thick, bend = u(0.5, 0.85), u(0.45, 0.95), u(0.2, 0.36), u(-0.12, 0.12)
        rim, belly, flat = u(-0.2, 0.15), u(1.0, 1.6), u(0.06, 0.16)
        place = lambda outline, s=size, x=x: outline * s + (x, 0.9 * (1 - s))  # noqa: E731
        stem = curve((bend, rim), (bend * 0.3, (rim + 0.9) / 2), (0, 0.9))
        d.fill(place(ribbon(stem, thick, thick * belly)), flesh)
        if chance(rng, 0.4):
            y = rim + u(0.15, 0.25)
            skirt = points(
                (-thick * 0.55, y - 0.06),
                (thick * 0.55, y - 0.06),
                (thick, y + 0.06),
                (-thick, y + 0.06),
            )
            d.fill(place(skirt), flesh, 1)
        d.fill(place(oval(bend, rim, wide * 0.97, flat)), flesh)
        for gill in np.linspace(-0.7, 0.7, rng.choice([0, 5, 7])):
            d.line(
                place(points((bend + gill * thick, rim), (bend + gill * wide, rim + flat * 0.8))),
                flesh,
                0.02,
                2,
            )
        sharp = u(0.55, 1.1)
        t = np.pi * np.linspace(0, 1, 26)
        dome = np.stack([bend + wide * np.cos(t), rim - high * np.sin(t) ** sharp], axis=1)
        d.fill(place(path(dome, oval(bend, rim, wide, flat * 0.5, 0.5, 0, 12))), skin)
        for _ in range(count):
            r, a = np.sqrt(u(0, 0.7)), np.pi * u(0.12, 0.88)
            spot = oval(
                bend + wide * r * np.cos(a),
                rim - 0.06 - high * 0.85 * r * np.sin(a),
                u(0.05, 0.12),
                u(0.04, 0.09),
            )
            d.decal(place(spot), WHITE)


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
    half, pointed, squash = fat * np.pi * reach * 0.62 / count, u(0.2, 0.9), u(0.75, 1)
    one = curve((core * 0.5, 0), (reach * 0.6, -half), (reach * 0.92, -half * (1 - pointed)), (reach, 0),
                (reach * 0.92, half * (1 - pointed)), (reach * 0.6, half), closed=True)  # fmt: skip
    start = u(0, 1)
    for i in range(count):
        d.fill(turned(one, start + i / count) * (1, squash) + (x, y), petal)
    d.fill(oval(x, y, core, core * squash), heart)


def fish(d: Drawing, rng: np.random.Generator) -> None:
    """A fish from the side: body, tail, fins, eye, gill and stripes, spots or scales."""
    u = rng.uniform
    skin = paint(rng, rng.choice(["plain", "scales", "scales"]), gloss=0.6)
    fin = paint(rng, gloss=0.3)
    high, blunt, tail, fork = u(0.26, 0.52), u(0.5, 0.8), u(0.25, 0.45), u(0.0, 0.22)
    back = u(0.48, 0.6)  # where the body meets the tail; the nose is at -0.85

    def half(x):
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
            r, l, w = half(s + 0.09) * 0.97, half(s) * 0.97, u(0.05, 0.12)
            d.decal(
                path(
                    curve((s, -l), (s + 0.08, 0), (s, l)),
                    curve((s + w, r), (s + w + 0.08, 0), (s + w, -r)),
                ),
                ink,
            )
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
    n = lambda low, high: u(low, high)  # noqa: E731
    upper = curve((0.04, -0.18), (0.3, n(-0.65, -0.45)), (n(0.65, 0.9), n(-0.85, -0.6)), (n(0.75, 0.92), n(-0.4, -0.2)),
                  (0.5, n(-0.05, 0.08)), (0.05, 0.04), closed=True)  # fmt: skip
    lower = curve((0.04, 0.0), (0.5, n(0.0, 0.1)), (n(0.6, 0.75), n(0.3, 0.45)), (n(0.35, 0.55), n(0.6, 0.8)),
                  (n(0.15, 0.25), n(0.45, 0.6)), (0.04, 0.25), closed=True)  # fmt: skip
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
    house = paint(rng, rng.choice(["plain", "bands", "stripes"]), gloss=0.6)
    r, head, neck, sole = u(0.42, 0.6), u(-0.85, -0.65), u(-0.2, 0.15), 0.72
    x, y = u(0.05, 0.25), sole - 0.1 - r * 0.9
    tilt, spread, tall = u(-0.1, 0.1), u(0.08, 0.2), u(0.25, 0.45)
    for side in (-1, 1):
        tip = (head + 0.05 + side * spread - 0.05, neck - tall - 0.05 * side)
        d.line(
            curve(
                (head + 0.06, neck + 0.05),
                (head + 0.05 + side * spread * 0.4, neck - tall * 0.5),
                tip,
            ),
            slime,
            0.05,
            0,
        )
        d.fill(oval(*tip, 0.05), slime)
    foot = curve((0.97, sole + 0.06), (x + r * 0.5, sole - 0.14), (head + 0.3, sole - 0.2), (head + 0.2, neck + 0.15), (head + 0.08, neck - 0.04),
                 (head - 0.1, neck + 0.08), (head - 0.06, neck + 0.3), (head + 0.02, sole), (head + 0.2, sole + 0.08), (0.3, sole + 0.08), closed=True)  # fmt: skip
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
    hues, saturation = (
        ((0.05, 0.1), (0.3, 0.8)) if chance(rng, 0.6) else ((0.55, 0.65), (0.02, 0.15))
    )
    fur = paint(rng, "fur", hues, saturation, (0.35, 0.95), gloss=0)
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
        d.decal(
            points(
                (dx + x - 0.035, -high * 0.72),
                (dx + x + 0.035, -high * 0.72),
                (dx + x, -high * 0.3),
            ),
            stripe,
        )
    d.decal(oval(dx, dy + 0.42, u(0.2, 0.28), u(0.15, 0.2)), pale, 2)
    iris = paint(rng, hues=(0.1, 0.58), value=(0.7, 0.95), gloss=0.8)
    for side in (-1, 1):
        d.decal(oval(dx + side * gap, dy, size, size * u(0.7, 1.05)), iris, 0)
        d.decal(oval(dx + side * gap, dy, size * slit * 0.6, size * 0.68), DARK, 0, solid=True)
    ny, nose = dy + 0.28, u(0.06, 0.1)
    d.decal(
        points((dx - nose, ny), (dx + nose, ny), (dx, ny + nose * 1.1)),
        pink,
        0,
        solid=chance(rng, 0.5),
    )
    smile = u(0.1, 0.2)
    for side in (-1, 1):
        d.line(
            curve(
                (dx, ny + nose), (dx + side * smile * 0.5, ny + 0.2), (dx + side * smile, ny + 0.13)
            ),
            DARK,
            0.022,
            0,
        )
        for t in np.linspace(-0.1, 0.14, rng.integers(2, 4)):
            far = (dx + side * u(0.75, 0.95), ny + 0.08 + t * 1.8)
            d.line(points((dx + side * 0.2, ny + 0.08 + t * 0.6), far), WHITE, 0.016, 1)
