"""Things to ride: car, sailboat, airplane, bicycle (see `kitchen` for the form)."""

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
    pick,
    plain,
    points,
)

RUBBER = plain(0.13, 0.13, 0.14, texture="speckle", gloss=0.15)


def _wheel(d: Drawing, x: float, y: float, r: float, rim: float, spokes: int) -> None:
    d.fill(oval(x, y, r), RUBBER)
    d.fill(oval(x, y, r * rim), STEEL)
    for a in np.pi * np.arange(spokes) / max(spokes, 1):
        reach = r * rim * 0.9 * np.array((np.cos(a), np.sin(a)))
        d.line(points((x, y) - reach, (x, y) + reach), DARK, 0.025, 2)


def car(d: Drawing, rng: np.random.Generator) -> None:
    """A car from the side: saloon, hatchback, van or pick-up."""
    u = rng.uniform
    body = paint(rng, gloss=0.9)
    low, belt, roof = 0.38, u(-0.12, 0.05), u(-0.6, -0.4)
    kind = pick(rng, ["saloon", "hatch", "van", "pickup"])
    hood = u(-0.55, -0.35) if kind != "van" else u(-0.85, -0.72)
    front, slant = hood + u(0.18, 0.32), u(0.05, 0.25)
    tails = dict(saloon=u(0.35, 0.5), hatch=u(0.6, 0.75), van=0.85, pickup=u(0.1, 0.25))
    tail = tails[kind]
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
    head, top, bottom = roof + 0.09, tail - front - 0.12, end - hood - 0.2
    doors = 1 if kind == "pickup" else int(rng.integers(1, 4 if kind == "van" else 3))
    edge = np.linspace(0, 1, doors + 1)
    gap = 0.03 / (tail - front)
    for a, b in zip(edge + gap, edge[1:] - gap, strict=False):
        pane = np.array((a, b))
        upper, lower = front + 0.06 + pane * top, hood + 0.1 + pane * bottom
        x = np.concatenate([upper, lower[::-1]])
        d.decal(np.stack([x, (head, head, belt, belt)], axis=1), GLASS, 0)
    for t in edge[1:-1] if doors > 1 else (0.75,):
        x = hood + 0.1 + t * bottom
        d.line(points((x, belt + 0.03), (x, low - 0.02)), DARK, 0.018, 1)
        d.line(points((x - 0.16, belt + 0.1), (x - 0.06, belt + 0.1)), STEEL, 0.03, 2)
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
    hull, trim = paint(rng, pick(rng, ["plain", "wood", "bands"]), gloss=0.5), paint(rng)
    weave = pick(rng, ["plain", "plain", "bands"])
    cloth = paint(rng, weave, saturation=(0.02, 0.6), value=(0.85, 1), gloss=0.05)
    deck, deep, mast, top = u(0.42, 0.55), u(0.22, 0.38), u(-0.15, 0.2), u(-0.95, -0.75)
    bow, stern, keel = u(-0.95, -0.75), u(0.65, 0.85), u(0.4, 0.8)
    d.bar((mast, deck + 0.05), (mast, top), 0.06, paint(rng, "wood", (0.05, 0.1)))
    if chance(rng, 0.6):
        flag = points((mast, top), (mast + u(0.12, 0.22), top + 0.06), (mast, top + 0.12))
        d.fill(flag, trim, 1, relief=0.2)
    gap = 0.05
    boom, reach, swell = deck - u(0.06, 0.15), u(0.45, 0.7), u(0.02, 0.15)
    middle = (mast + gap + reach * 0.5 + swell, (top + boom) / 2)
    leech = curve((mast + gap, top + 0.15), middle, (mast + gap + reach, boom))
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
        middle = ((foot + tack) / 2 - 0.08, (head + boom) / 2)
        belly = curve((foot, head), middle, (tack, boom + 0.02))
        d.fill(path(belly, points((foot, boom + 0.02))), cloth, relief=0.6)
    if chance(rng, 0.35):
        x = u(0.1, 0.3)
        d.fill(box(x, deck - 0.14, x + u(0.2, 0.35), deck + 0.03), WHITE, 1)
    low = deck + deep
    aft = curve((stern, deck), (stern - 0.05, low - 0.1), (stern * keel, low))
    fore = curve((bow * keel, low), (bow * 0.85, low - deep * 0.45), (bow, deck - 0.04))
    d.fill(path(aft, fore), hull)
    if chance(rng, 0.5):
        upper = points((bow + 0.05, deck + 0.04), (stern - 0.01, deck + 0.06))
        d.decal(path(upper, upper[::-1] + points((-0.01, 0.06), (0.05, 0.07))), trim)
    for x in np.linspace(-0.35, 0.35, rng.choice([0, 0, 3, 4])):
        d.decal(oval(x, deck + deep * 0.55, 0.045), GLASS)


def airplane(d: Drawing, rng: np.random.Generator) -> None:
    """An aeroplane from the side and below: jet or propeller, swept wings, fin, windows."""
    u = rng.uniform
    skin = paint(rng, saturation=(0.0, 0.35), value=(0.75, 0.98), gloss=0.7)
    trim = paint(rng, gloss=0.6)
    fat, sweep, chord, span = u(0.11, 0.2), u(0.1, 0.45), u(0.28, 0.45), u(0.45, 0.7)
    root, fin, prop = u(-0.25, -0.05), u(0.3, 0.5), chance(rng, 0.35)
    far = points((root + sweep + 0.1, -span * 0.75), (root + sweep + 0.3, -span * 0.75))
    far_root = points((root + chord, -fat * 0.5), (root + 0.05, -fat * 0.5))
    d.fill(path(far, far_root), skin)
    top = -fat * 0.6 - fin
    tail = points((0.6, -fat * 0.4), (0.78 + sweep * 0.3, top), (0.97, top), (0.92, -fat * 0.2))
    d.fill(tail, trim)
    back = ((-0.82, -fat * 0.75), (-0.5, -fat), (0.4, -fat * 0.95), (0.95, -fat * 0.45))
    belly = ((0.95, -fat * 0.1), (0.3, fat * 0.9), (-0.55, fat), (-0.85, fat * 0.65))
    d.fill(curve((-0.95, 0.02), *back, *belly, closed=True), skin)
    if chance(rng, 0.5):
        d.decal(points((-0.9, 0.03), (0.85, -0.04), (0.85, 0.0), (-0.88, 0.09)), trim)
    cockpit = ((-0.84, -fat * 0.5), (-0.7, -fat * 0.85), (-0.64, -fat * 0.3))
    d.decal(curve(*cockpit, closed=True), GLASS, 0)
    for x in np.linspace(-0.5, 0.55, rng.integers(3, 10)):
        d.decal(oval(x, -fat * 0.35, 0.032, 0.04), GLASS)
    end = fin * 0.4
    d.fill(points((0.62, -0.01), (0.8 + sweep * 0.2, end), (0.95, end), (0.86, -0.03)), skin)
    engines, tip = (0 if prop else int(rng.integers(0, 3))), root + sweep + 0.2
    for t in (np.arange(engines) + 1) / (engines + 1.3):
        x, y = root + t * (sweep + 0.15) - 0.05, fat * 0.3 + t * span * 0.9 + 0.04
        d.fill(oval(x + 0.03, y, 0.15, 0.065), trim, 1)
    low = fat * 0.3 + span
    near = points((tip, low), (tip + chord * u(0.4, 0.6), low))
    near_root = points((root + chord, fat * 0.35), (root - 0.03, fat * 0.3))
    d.fill(path(near, near_root), skin)
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
    crank = np.array((u(-0.15, -0.02), y + u(-0.02, 0.08)))
    seat = np.array((u(-0.32, -0.2), u(-0.25, -0.08)))
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
    d.bar(joint, head, tube, frame)
    for a, b in ((rear, crank), (rear, seat), (crank, seat), (crank, head), (head, front)):
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
        low, wicker = top + 0.24, paint(rng, "check", (0.06, 0.12))
        d.fill(points((x, top), (x + 0.34, top), (x + 0.28, low), (x + 0.05, low)), wicker, 1)
    d.fill(oval(*crank, u(0.06, 0.1)), STEEL)
    arm, turn = u(0.12, 0.16), u(0, 2 * np.pi)
    pedal = crank + arm * np.array((np.cos(turn), np.sin(turn)))
    d.bar(crank, pedal, 0.03, DARK, 1)
    d.bar(pedal - (0.06, 0), pedal + (0.06, 0), 0.04, DARK, 1)
