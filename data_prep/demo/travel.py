"""Where people live and what they ride: house, car, sailboat, airplane, bicycle (see `kitchen`)."""

from __future__ import annotations

import numpy as np

from data_prep.demo.parts import (
    DARK,
    GLASS,
    STEEL,
    WHITE,
    Drawing,
    box,
    chance,
    curve,
    oval,
    paint,
    path,
    plain,
    points,
)

RUBBER = plain(0.13, 0.13, 0.14, texture="speckle", gloss=0.15)


def house(d: Drawing, rng: np.random.Generator) -> None:
    """A house: gabled front, broad roof, or both seen from the corner; door, windows, chimney."""
    u = rng.uniform
    wall = paint(
        rng,
        rng.choice(["brick", "plain", "bands"]),
        (-0.03, 0.17),
        (0.1, 0.6),
        (0.6, 0.95),
        gloss=0,
    )
    tiles = paint(rng, "brick", (-0.05, 0.1), (0.2, 0.8), (0.3, 0.65), gloss=0)
    wood = paint(rng, "wood", gloss=0.2)
    w, top, low, rise, eave = u(0.5, 0.8), u(-0.2, 0.1), 0.85, u(0.35, 0.65), u(0.04, 0.14)
    stack, tall = u(0.35, 0.6) * rng.choice([-1, 1]), u(0.15, 0.3)
    if chance(rng, 0.7):
        slope = top - rise * (1 - abs(stack) / w)
        d.fill(box(stack * w - 0.07, slope - tall, stack * w + 0.07, top), wall, 1)
        d.fill(
            box(stack * w - 0.1, slope - tall - 0.05, stack * w + 0.1, slope - tall + 0.03),
            tiles,
            2,
        )
    kind, left, right = rng.integers(3), -w, w
    if kind == 2:  # the gable to the left, the long side running back to the right
        left, right, deep, back = -0.85, u(-0.25, 0.05), 0.9, u(0.02, 0.12)
        ridge = (left + right) / 2
        d.fill(
            points((right, top), (deep, top - back), (deep, low - back), (right, low)),
            wall,
            relief=0.4,
        )
        d.fill(
            points(
                (ridge, top - rise),
                (deep - 0.15, top - rise - back),
                (deep + eave, top - back + 0.03),
                (right + eave, top + 0.03),
            ),
            tiles,
            relief=0.4,
        )
        for t in np.linspace(0.3, 0.75, rng.integers(1, 3)):
            x, y = right + t * (deep - right), top - t * back + u(0.15, 0.3)
            _window(d, x, y, 0.16, u(0.15, 0.25), 0.0)
    if kind == 1:
        d.fill(box(left, top, right, low), wall, relief=0.4)
        inset = u(0.1, 0.35)
        d.fill(
            points(
                (left - eave, top),
                (left + inset, top - rise),
                (right - inset, top - rise),
                (right + eave, top),
            ),
            tiles,
            relief=0.4,
        )
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
    cols, rows = (
        int(rng.integers(2, 5 if kind == 1 else 4)),
        2 if low - top > 0.85 and chance(rng, 0.6) else 1,
    )
    size, arch = min(span / cols * u(0.45, 0.65), 0.3), u(0.1, 0.9) if chance(rng, 0.25) else 0.0
    for row in range(rows):
        y = top + 0.1 + row * (low - top) * 0.45
        for x in left + span * (np.arange(cols) + 0.5) / cols:
            if y + size < low - height or abs(x - door) > (width + size) / 2 + 0.02:
                _window(d, x, y, size, min(size * 1.1, 0.3), arch)


def _window(d: Drawing, x: float, y: float, width: float, height: float, arch: float) -> None:
    half = width / 2
    crown = (
        oval(x, y + arch * half, half, arch * half, 0.5, 1.0, 9)
        if arch
        else points((x - half, y), (x + half, y))
    )
    d.decal(path(crown, points((x + half, y + height), (x - half, y + height))), GLASS, 0)
    d.line(points((x, y), (x, y + height)), WHITE, 0.025, 1)
    d.line(points((x - half, y + height / 2), (x + half, y + height / 2)), WHITE, 0.025, 1)


def _wheel(d: Drawing, x: float, y: float, r: float, rim: float, spokes: int) -> None:
    d.fill(oval(x, y, r), RUBBER)
    d.fill(oval(x, y, r * rim), STEEL)
    for a in np.pi * np.arange(spokes) / max(spokes, 1):
        reach = r * rim * 0.9 * np.array((np.cos(a), np.sin(a)))
        d.line(points((x, y) - reach, (x, y) + reach), DARK, 0.025, 2)


def car(d: Drawing, rng: np.random.Generator) -> None:
    """A car from the side: saloon, hatchback, van or pick-up."""
    u = rng.uniform
    body, glass = paint(rng, gloss=0.9), GLASS
    low, belt, roof = 0.38, u(-0.12, 0.05), u(-0.6, -0.4)
    kind = rng.choice(["saloon", "hatch", "van", "pickup"])
    hood = u(-0.55, -0.35) if kind != "van" else u(-0.85, -0.72)
    front, slant = hood + u(0.18, 0.32), u(0.05, 0.25)
    tail = {"saloon": u(0.35, 0.5), "hatch": u(0.6, 0.75), "van": 0.85, "pickup": u(0.1, 0.25)}[
        kind
    ]
    deck = belt if kind in ("saloon", "pickup") else belt - 0.02
    end = min(tail + (slant if kind == "saloon" else 0.08), 0.93)
    shape = path(
        points((-0.95, low), (-0.97, belt + 0.16)),
        curve((-0.93, belt + 0.08), (hood - 0.1, belt), (hood, belt - 0.01)),
        curve((front, roof + 0.04), (front + 0.12, roof), (tail - 0.1, roof), (tail, roof + 0.04)),
        curve((end, deck), (0.93, deck + 0.03), (0.96, deck + 0.15), (0.95, low)),
    )
    if chance(rng, 0.25):
        d.line(points((front + 0.1, roof - 0.07), (tail - 0.05, roof - 0.07)), STEEL, 0.035, 1)
    d.fill(shape, body)
    sill, head = belt + 0.0, roof + 0.09
    doors = 1 if kind == "pickup" else int(rng.integers(1, 4 if kind == "van" else 3))
    edge = np.linspace(0, 1, doors + 1)
    for a, b in zip(edge, edge[1:], strict=False):
        up = lambda t: (front + 0.06 + t * (tail - front - 0.12), head)  # noqa: E731
        down = lambda t: (hood + 0.1 + t * (end - hood - 0.2), sill)  # noqa: E731
        gap = 0.03 / (tail - front)
        d.decal(points(up(a + gap), up(b - gap), down(b - gap), down(a + gap)), glass, 0)
    for t in edge[1:-1] if doors > 1 else (0.75,):
        x = down(t)[0]
        d.line(points((x, sill + 0.03), (x, low - 0.02)), DARK, 0.018, 1)
        d.line(points((x - 0.16, sill + 0.1), (x - 0.06, sill + 0.1)), STEEL, 0.03, 2)
    if chance(rng, 0.4):
        y = belt + u(0.14, 0.22)
        d.decal(box(-0.95, y, 0.94, y + 0.05), paint(rng), 1)
    d.decal(oval(-0.88, belt + 0.17, 0.06, 0.05), plain(1.0, 0.95, 0.7, gloss=0.8), 1)
    d.decal(box(0.87, belt + 0.12, 0.95, belt + 0.2), plain(0.8, 0.1, 0.1, gloss=0.8), 1)
    d.fill(box(-1.0, low - 0.1, -0.8, low - 0.01), STEEL, 2)
    d.fill(box(0.8, low - 0.1, 1.0, low - 0.01), STEEL, 2)
    r, rim, spokes = u(0.17, 0.25), u(0.45, 0.7), int(rng.choice([0, 2, 3, 4]))
    for x in (u(-0.64, -0.54), u(0.5, 0.64)):
        _wheel(d, x, low, r, rim, spokes)


def sailboat(d: Drawing, rng: np.random.Generator) -> None:
    """A sailing boat: hull, mast, one to three sails, perhaps flag, cabin and striped sail."""
    u = rng.uniform
    hull, trim = paint(rng, rng.choice(["plain", "wood", "bands"]), gloss=0.5), paint(rng)
    cloth = paint(
        rng,
        rng.choice(["plain", "plain", "bands"]),
        saturation=(0.02, 0.6),
        value=(0.85, 1),
        gloss=0.05,
    )
    deck, deep, mast, top = u(0.42, 0.55), u(0.22, 0.38), u(-0.15, 0.2), u(-0.95, -0.75)
    bow, stern, keel = u(-0.95, -0.75), u(0.65, 0.85), u(0.4, 0.8)
    d.bar((mast, deck + 0.05), (mast, top), 0.06, paint(rng, "wood", (0.05, 0.1)))
    if chance(rng, 0.6):
        fly = u(0.12, 0.22)
        d.fill(
            points((mast, top), (mast + fly, top + 0.06), (mast, top + 0.12)), trim, 1, relief=0.2
        )
    gap = 0.05
    boom, reach, swell = deck - u(0.06, 0.15), u(0.45, 0.7), u(0.02, 0.15)
    leech = curve(
        (mast + gap, top + 0.15),
        (mast + gap + reach * 0.5 + swell, (top + boom) / 2),
        (mast + gap + reach, boom),
    )
    d.fill(path(leech, points((mast + gap, boom))), cloth, relief=0.6)
    style = rng.integers(3)
    for t in np.linspace(0, 1, rng.integers(3, 6))[1:-1]:
        y, x = top + 0.15 + t * (boom - top - 0.15), leech[int(t * (len(leech) - 1)), 0]
        if style == 0:
            d.line(points((mast + gap, y), (x, y)), trim, 0.03, 1)
    if style == 1:
        d.decal(oval(mast + gap + reach * 0.3, (top + 2 * boom) / 3, u(0.07, 0.13)), trim)
    sails = int(rng.integers(0, 3))
    for i in range(sails):
        head, foot = top + 0.1 + 0.2 * i, mast - gap - i * 0.1
        tack = max(bow + 0.08 + 0.25 * (sails - 1 - i), bow + 0.06)
        belly = curve(
            (foot, head), ((foot + tack) / 2 - 0.08, (head + boom) / 2), (tack, boom + 0.02)
        )
        d.fill(path(belly, points((foot, boom + 0.02))), cloth, relief=0.6)
    if chance(rng, 0.35):
        x = u(0.1, 0.3)
        d.fill(box(x, deck - 0.14, x + u(0.2, 0.35), deck + 0.03), WHITE, 1)
    low = deck + deep
    d.fill(
        path(
            points((bow, deck - 0.04)),
            curve((stern, deck), (stern - 0.05, low - 0.1), (stern * keel, low)),
            curve((bow * keel, low), (bow * 0.85, low - deep * 0.45), (bow, deck - 0.04)),
        ),
        hull,
    )
    if chance(rng, 0.5):
        d.decal(
            points(
                (bow + 0.05, deck + 0.04),
                (stern - 0.01, deck + 0.06),
                (stern - 0.02, deck + 0.12),
                (bow + 0.1, deck + 0.11),
            ),
            trim,
        )
    for x in np.linspace(-0.35, 0.35, rng.choice([0, 0, 3, 4])):
        d.decal(oval(x, deck + deep * 0.55, 0.045), GLASS)


def airplane(d: Drawing, rng: np.random.Generator) -> None:
    """An aeroplane from the side and below: jet or propeller, swept wings, fin, windows."""
    u = rng.uniform
    skin = paint(rng, saturation=(0.0, 0.35), value=(0.75, 0.98), gloss=0.7)
    trim = paint(rng, gloss=0.6)
    fat, sweep, chord, span = u(0.11, 0.2), u(0.1, 0.45), u(0.28, 0.45), u(0.45, 0.7)
    root, fin, prop = u(-0.25, -0.05), u(0.3, 0.5), chance(rng, 0.35)
    far = points(
        (root + 0.05, -fat * 0.5),
        (root + sweep + 0.1, -span * 0.75),
        (root + sweep + 0.3, -span * 0.75),
        (root + chord, -fat * 0.5),
    )
    d.fill(far, skin)
    d.fill(
        points(
            (0.6, -fat * 0.4),
            (0.78 + sweep * 0.3, -fat * 0.6 - fin),
            (0.97, -fat * 0.6 - fin),
            (0.92, -fat * 0.2),
        ),
        trim,
    )
    body = curve(
        (-0.95, 0.02),
        (-0.82, -fat * 0.75),
        (-0.5, -fat),
        (0.4, -fat * 0.95),
        (0.95, -fat * 0.45),
        (0.95, -fat * 0.1),
        (0.3, fat * 0.9),
        (-0.55, fat),
        (-0.85, fat * 0.65),
        closed=True,
    )
    d.fill(body, skin)
    if chance(rng, 0.5):
        d.decal(points((-0.9, 0.03), (0.85, -0.04), (0.85, 0.0), (-0.88, 0.09)), trim)
    d.decal(
        curve((-0.84, -fat * 0.5), (-0.7, -fat * 0.85), (-0.64, -fat * 0.3), closed=True), GLASS, 0
    )
    for x in np.linspace(-0.5, 0.55, rng.integers(3, 10)):
        d.decal(oval(x, -fat * 0.35, 0.032, 0.04), GLASS)
    d.fill(
        points((0.62, -0.01), (0.8 + sweep * 0.2, fin * 0.4), (0.95, fin * 0.4), (0.86, -0.03)),
        skin,
    )
    engines, tip = (0 if prop else int(rng.integers(0, 3))), root + sweep + 0.2
    for t in (np.arange(engines) + 1) / (engines + 1.3):
        x, y = root + t * (sweep + 0.15) - 0.05, fat * 0.3 + t * span * 0.9 + 0.04
        d.fill(
            curve(
                (x - 0.1, y - 0.06),
                (x + 0.16, y - 0.05),
                (x + 0.16, y + 0.05),
                (x - 0.1, y + 0.06),
                closed=True,
            ),
            trim,
            1,
        )
    near = points(
        (root - 0.03, fat * 0.3),
        (tip, fat * 0.3 + span),
        (tip + chord * u(0.4, 0.6), fat * 0.3 + span),
        (root + chord, fat * 0.35),
    )
    d.fill(near, skin)
    if prop:
        blade = u(0.2, 0.32)
        d.fill(oval(-0.97, 0.02, 0.03, blade), DARK)
        d.fill(oval(-0.98, 0.02, 0.06, 0.05), trim)


def bicycle(d: Drawing, rng: np.random.Generator) -> None:
    """A bicycle from the side: two wheels, a diamond frame, saddle, handlebar, perhaps a basket."""
    u = rng.uniform
    frame, tube = paint(rng, gloss=0.8), u(0.05, 0.075)
    r, base, y = u(0.34, 0.44), u(0.5, 0.58), 0.42
    rear, front = np.array((-base, y)), np.array((base, y))
    crank, seat = (
        np.array((u(-0.15, -0.02), y + u(-0.02, 0.08))),
        np.array((u(-0.32, -0.2), u(-0.25, -0.08))),
    )
    head = np.array((base - u(0.14, 0.24), u(-0.3, -0.15)))
    spokes, tyre = int(rng.choice([0, 2, 3, 4, 6])), u(0.045, 0.075)
    for hub in (rear, front):
        d.fill(oval(*hub, r), RUBBER, holes=(oval(*hub, r - tyre),))
        for a in np.pi * np.arange(spokes) / max(spokes, 1):
            reach = (r - tyre) * np.array((np.cos(a), np.sin(a)))
            d.line(points(hub - reach, hub + reach), STEEL, 0.014, 2)
        d.fill(oval(*hub, 0.04), STEEL, 1)
    if chance(rng, 0.35):
        d.line(oval(*rear, r + 0.06, r + 0.06, 0.5, 0.85, 12), frame, 0.04, 1)
        d.line(oval(*front, r + 0.06, r + 0.06, 0.6, 0.95, 12), frame, 0.04, 1)
    step = chance(rng, 0.3)  # a step-through frame has its top tube low
    joint = seat + (crank - seat) * (0.55 if step else 0.08)
    for a, b in (
        (rear, crank),
        (rear, seat),
        (crank, seat),
        (crank, head),
        (joint, head),
        (head, front),
    ):
        d.bar(a, b, tube, frame)
    post, stem = seat + (seat - crank) * u(0.15, 0.3), head + (head - front) * u(0.2, 0.4)
    d.bar(seat, post, 0.045, STEEL)
    d.bar(head, stem, 0.05, STEEL)
    saddle = curve(post + (-0.15, -0.04), post + (0.14, -0.01), post + (-0.02, 0.04), closed=True)
    d.fill(saddle, DARK)
    if chance(rng, 0.5):
        bend = curve(stem, stem + (0.14, -0.02), stem + (0.17, 0.1), stem + (0.06, 0.14))
    else:
        bend = curve(stem + (0.06, -0.04), stem, stem + (-0.17, -0.02))
    d.tube(bend, 0.055, 0.055, DARK)
    if chance(rng, 0.3):
        x, top = stem[0] + 0.08, stem[1] + 0.06
        d.fill(
            points((x, top), (x + 0.34, top), (x + 0.28, top + 0.24), (x + 0.05, top + 0.24)),
            paint(rng, "check", (0.06, 0.12)),
            1,
        )
    d.fill(oval(*crank, u(0.06, 0.1)), STEEL)
    arm, turn = u(0.12, 0.16), u(0, 2 * np.pi)
    pedal = crank + arm * np.array((np.cos(turn), np.sin(turn)))
    d.bar(crank, pedal, 0.03, DARK, 1)
    d.bar(pedal - (0.06, 0), pedal + (0.06, 0), 0.04, DARK, 1)
