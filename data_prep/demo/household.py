"""Objects of the house: lamp, chair, umbrella, key, guitar (see `kitchen` for the form)."""

from __future__ import annotations

import numpy as np

from data_prep.demo.parts import (
    DARK,
    GLASS,
    STEEL,
    WHITE,
    Drawing,
    around,
    box,
    chance,
    curve,
    oval,
    paint,
    path,
    pick,
    plain,
    points,
    profile,
    turned,
)


def lamp(d: Drawing, rng: np.random.Generator) -> None:
    """A table lamp with a turned foot and a shade, or a desk lamp on a jointed arm."""
    u = rng.uniform
    if chance(rng, 0.35):
        _desk_lamp(d, rng)
        return
    top, low, rim, crown = u(0.18, 0.4), u(0.45, 0.7), u(-0.15, 0.15), u(-0.9, -0.7)
    foot, belly, middle = u(0.22, 0.42), u(0.06, 0.36), u(0.35, 0.55)
    clay = paint(rng, pick(rng, ["plain", "wood", "bands", "speckle"]), gloss=0.6)
    neck = ((0.05, rim - 0.1), (0.06, rim + 0.12))
    d.fill(profile(*neck, (belly, middle), (0.08, 0.78), (foot, 0.86), (foot, 0.93)), clay)
    weave = pick(rng, ["plain", "stripes", "dots"])
    cloth = paint(rng, weave, saturation=(0.1, 0.6), value=(0.8, 1.0), gloss=0.05)
    if chance(rng, 0.5):
        x = low * u(0.3, 0.6)
        d.line(points((x, rim - 0.1), (x, rim + u(0.15, 0.3))), STEEL, 0.02, 2)
    if chance(rng, 0.3):
        d.fill(profile((top * 0.5, crown), (low * 0.8, (crown + rim) / 2 - 0.1), (low, rim)), cloth)
        return
    d.fill(profile((top, crown), (low, rim), smooth=False), cloth)
    for t in np.linspace(-1, 1, rng.integers(2, 7))[1:-1]:
        d.line(points((t * top, crown), (t * low, rim)), clay, 0.025, 1)
    if chance(rng, 0.5):
        y = rim - u(0.08, 0.16)
        x = low + (top - low) * (rim - y) / (rim - crown)
        d.decal(points((-low, rim), (-x, y), (x, y), (low, rim)), paint(rng))


def _desk_lamp(d: Drawing, rng: np.random.Generator) -> None:
    u = rng.uniform
    metal, base = paint(rng, gloss=0.7), u(0.28, 0.42)
    elbow, head = (u(-0.5, -0.15), u(-0.2, 0.1)), (u(0.05, 0.35), u(-0.7, -0.5))
    d.bar((0.1, 0.8), elbow, 0.08, STEEL)
    d.bar(elbow, head, 0.08, STEEL)
    dome = oval(0.1, 0.82, base, base * 0.35, 0.5, 1, 14)
    d.fill(path(dome, points((0.1 + base, 0.9), (0.1 - base, 0.9))), metal)
    d.fill(oval(*elbow, 0.07), metal, 1)
    mouth, deep, turn = u(0.24, 0.36), u(0.35, 0.5), u(-0.12, -0.03)
    bulb = oval(head[0], head[1] + deep, mouth * 0.5, 0.14)
    d.fill(turned(bulb, turn, head), plain(1.0, 0.95, 0.7, gloss=0), 1)
    shade = points((-0.09, -0.08), (0.09, -0.08), (mouth, deep), (-mouth, deep)) + head
    d.fill(turned(shade, turn, head), metal)


def chair(d: Drawing, rng: np.random.Generator) -> None:
    """A chair from the front and side: four legs, a seat, a slatted, barred or padded back."""
    u = rng.uniform
    w, seat, floor, head = u(0.35, 0.52), u(0.05, 0.25), u(0.8, 0.95), u(-0.95, -0.6)
    dx, dy, leg, thick = u(0.16, 0.4), u(0.1, 0.24), u(0.06, 0.11), u(0.05, 0.11)
    hues = (0.02, 0.14) if chance(rng, 0.6) else (0, 1)
    wood = paint(rng, pick(rng, ["wood", "plain"]), hues)
    pad = paint(rng, pick(rng, ["plain", "stripes", "check"])) if chance(rng, 0.5) else wood
    x0, x1 = -w - dx / 2, w - dx / 2  # the seat's front edge; the rear edge lies (dx, -dy) away
    r0, r1, rear, splay, lean = x0 + dx, x1 + dx, seat - dy, u(-0.02, 0.1), u(-0.03, 0.14)
    d.bar((r0, rear), (r0 - splay, floor - dy), leg, wood)
    d.bar((r1, rear), (r1 + splay, floor - dy), leg, wood)
    style, count, half = rng.integers(4), int(rng.integers(2, 6)), (rear + head) / 2
    low = rear if style == 0 else half
    if style in (0, 3):
        crown = curve(
            (r0 + lean, head), ((r0 + r1) / 2 + lean, head - u(0, 0.18)), (r1 + lean, head)
        )
        d.fill(path(points((r0, low)), crown, points((r1, low))), pad)
    for t in (np.arange(count) + 1) / (count + 1):
        x, y = r0 + t * (r1 - r0), rear + t * (head - rear)
        if style == 1:
            d.bar((x, rear), (x + lean, head), leg * 0.7, wood, 1)
        elif style == 2:
            d.bar((r0 + t * lean, y), (r1 + t * lean, y), leg * 0.8, wood, 1)
    if style:
        d.bar((r0, rear), (r0 + lean, head), leg, wood)
        d.bar((r1, rear), (r1 + lean, head), leg, wood)
    if style in (1, 2):
        d.bar((r0 + lean - 0.04, head), (r1 + lean + 0.04, head), leg * u(1, 2), wood)
    edge = points((r1 + 0.03, rear), (x1 + 0.03, seat))
    d.fill(path(edge, edge[::-1] + (0, thick)), wood, relief=0.5)
    d.fill(path(points((x0 - 0.03, seat), (r0, rear)), edge), pad, relief=0.4)
    d.bar((x0, seat + thick), (x0 - splay, floor), leg, wood)
    d.bar((x1, seat + thick), (x1 + splay, floor), leg, wood)
    d.fill(box(x0 - 0.03, seat, x1 + 0.03, seat + thick), wood, relief=0.5)
    if chance(rng, 0.4):
        y = seat + u(0.4, 0.7) * (floor - seat)
        d.bar((x0, y), (x1, y), leg * 0.6, wood, 1)


def umbrella(d: Drawing, rng: np.random.Generator) -> None:
    """An open umbrella: panels between ribs, a pole, a straight or hooked handle."""
    u = rng.uniform
    count, wide, high = int(rng.integers(3, 8)), u(0.75, 0.95), u(0.5, 0.85)
    edge, dip, end, hook = u(-0.15, 0.05), u(0.05, 0.14), u(0.7, 0.95), u(0.1, 0.2)
    first = paint(rng, pick(rng, ["plain", "plain", "dots"]), gloss=0.3)
    second = first if chance(rng, 0.4) else paint(rng, gloss=0.3)
    wood = paint(rng, "wood", hues=(0.03, 0.11), value=(0.3, 0.65))
    d.bar((0, edge - high - 0.14), (0, end - 0.12), 0.05, STEEL)
    bend = 0.0 if chance(rng, 0.8) else 0.45
    grip = oval(hook, end - 0.15, hook, hook * 1.1, 0.5, bend, 10)
    d.tube(path(points((0, end - 0.35)), grip), 0.085, 0.085, wood)
    joints = np.sin(np.pi * (np.linspace(0, 1, count + 1) - 0.5) * u(0.8, 1.0))
    joints *= wide / joints[-1]
    t = np.pi / 2 * np.linspace(0, 1, 8)
    ribs = [np.stack([x * np.sin(t), edge - high * np.cos(t)], axis=1) for x in joints]
    for i, (left, right) in enumerate(zip(joints, joints[1:], strict=False)):
        sag = (0.5 * (left + right), edge - dip * min(1, (right - left) * 3))
        scallop = curve((right, edge), sag, (left, edge))
        panel = path(ribs[i + 1], scallop, ribs[i][::-1])
        d.fill(panel, second if i % 2 else first, relief=0.5)


def key(d: Drawing, rng: np.random.Generator) -> None:
    """A key: a bow with a hole, collars, and separate teeth or a serrated blade."""
    u = rng.uniform
    metal = STEEL
    if not chance(rng, 0.4):  # brass
        metal = paint(rng, "brushed", (0.08, 0.14), (0.35, 0.75), (0.55, 0.9), gloss=0.8)
    r, tip, half, x = u(0.26, 0.4), u(0.75, 0.95), u(0.04, 0.075), u(-0.65, -0.5)
    angle = 2 * np.pi * np.linspace(0, 1, 60, endpoint=False)
    lobes, depth = rng.choice([0, 0, 3, 4, 5, 6]), u(0.1, 0.22)
    radius = r * (1 + depth * np.cos(lobes * (angle + np.pi)) * (lobes > 0))
    bow = np.stack([x + radius * np.cos(angle), u(0.8, 1.2) * radius * np.sin(angle)], axis=1)
    small = oval(x - r * u(0.1, 0.4), 0, r * u(0.25, 0.4))
    hole = around(bow, u(0.45, 0.68)) if chance(rng, 0.6) else small
    start, teeth, lower = x + r * 0.85, int(rng.integers(2, 6)), []
    if chance(rng, 0.5):
        edges = np.linspace(tip - u(0.25, 0.45), tip - u(0.02, 0.1), 2 * teeth).reshape(-1, 2)
        for left, right in edges:
            y = half + u(0.12, 0.34)
            lower += [(left, half), (left, y), (right, y), (right, half)]
    else:
        half *= 1.5
        for i, v in enumerate(np.linspace(start + 0.2, tip - 0.1, 2 * teeth + 3)):
            lower.append((v, half + i % 2 * u(0.05, 0.15)))
    end = ((tip, half), (tip + 0.05, 0), (tip, -half), (start, -half))
    d.fill(points((start, half), *lower, *end), metal)
    d.fill(bow, metal, holes=(hole,))
    for i in range(rng.integers(0, 3)):
        v = start + 0.1 + 0.12 * i
        d.fill(box(v, -half * 1.6, v + 0.06, half * 1.6), metal, 1)


def guitar(d: Drawing, rng: np.random.Generator) -> None:
    """A guitar standing up: acoustic with a round hole, or electric with horns and pickups."""
    u = rng.uniform
    low, top, waist, upper = u(0.36, 0.5), u(-0.02, 0.1), u(0.22, 0.3), u(0.28, 0.38)
    neck, nut, head, flare = u(0.06, 0.09), u(-0.72, -0.55), u(0.2, 0.28), u(1.2, 1.9)
    dark = paint(rng, "wood", hues=(0.02, 0.09), value=(0.2, 0.4))
    if chance(rng, 0.4):
        body = paint(rng, gloss=0.8)
        left = (
            (-upper, top - u(0.0, 0.2)),
            (-waist - 0.04, 0.42),
            (-low, 0.66),
            (-low * 0.75, 0.88),
        )
        right = (
            (low * 0.75, 0.88),
            (low, 0.66),
            (waist + 0.04, 0.42),
            (upper, top + u(-0.05, 0.15)),
        )
        knots = ((-0.1, top + 0.22), *left, (0, 0.95), *right, (0.1, top + 0.25))
        d.fill(curve(*knots, closed=True), body)
        guard = curve((-0.18, 0.3), (0.16, 0.28), (0.26, 0.62), (-0.05, 0.75), closed=True)
        d.decal(guard, WHITE)
        for y in np.linspace(0.38, 0.62, rng.integers(1, 4)):
            d.fill(box(-0.11, y, 0.11, y + 0.06), DARK, 1)
    else:
        body = paint(rng, "wood", hues=(0.02, 0.11), value=(0.4, 0.95), gloss=0.5)
        shoulder = ((0.06, top), (upper * 0.8, top + 0.03), (upper, top + 0.15), (waist, 0.4))
        d.fill(profile(*shoulder, (low, 0.64), (low * 0.8, 0.86), (0.05, 0.95)), body)
        hole = u(0.1, 0.15)
        d.decal(oval(0, 0.38, hole * 1.3), dark, 2)
        d.decal(oval(0, 0.38, hole), plain(0.08, 0.05, 0.04), 0)
        d.fill(box(-0.17, 0.68, 0.17, 0.74), dark, 1)
    d.fill(points((-neck, 0.3), (-neck * 0.8, nut), (neck * 0.8, nut), (neck, 0.3)), dark)
    pegs, wide = int(rng.integers(2, 4)), neck * flare
    for y in nut - head * (np.arange(pegs) + 0.5) / pegs:
        d.fill(oval(-wide * 1.2, y, 0.05, 0.03), STEEL, 1)
        d.fill(oval(wide * 1.2, y, 0.05, 0.03), STEEL, 1)
    crest = nut - head
    d.fill(points((-neck, nut), (-wide, crest), (wide, crest), (neck, nut)), body)
    for y in np.linspace(nut + 0.1, 0.2, rng.integers(3, 7)):
        d.line(points((-neck * 0.85, y), (neck * 0.85, y)), STEEL, 0.015, 2)
    for x in (-0.35 * neck, 0.35 * neck):
        d.line(points((x, nut), (x, 0.7)), GLASS, 0.012, 2)
