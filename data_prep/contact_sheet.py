"""One picture of a prepared dataset: the cheapest way to see black or mislinked sketches."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from data_prep.items import Item
from sbir_jax.data.images import MODALITIES, to_square

CLASSES = 12
COUPLES = 4
THUMB = 104
GAP, WIDE_GAP, MARGIN, HEADER = 2, 18, 20, 26
PAPER, INK, FRAME, FAINT = "white", "#222222", "#bbbbbb", "#888888"


def contact_sheet(items: Sequence[Item], *, title: str) -> Image.Image:
    """Up to 12 classes in rows of four couples, photo left and query right.

    A couple in a joint frame is linked: the sketch was drawn after that photo, or both are a pair.
    Where a class has too few links, any photo and any query fill up, in separate frames.

    Args:
      items: readable images, with labels and instance ids.
      title: one line above the rows.
    """
    queries = "queries" if any(item.photo_query for item in items) else "sketches"
    by_class: dict[str, list[Item]] = defaultdict(list)
    for item in sorted(items, key=lambda item: item.file):
        by_class[item.label].append(item)
    labels = _spread(sorted(by_class), CLASSES)
    couple_width = 2 * THUMB + GAP
    width = 2 * MARGIN + COUPLES * couple_width + (COUPLES - 1) * WIDE_GAP
    row = HEADER + THUMB + 12
    sheet = Image.new("RGB", (width, 2 * MARGIN + 20 + row * len(labels)), PAPER)
    draw = ImageDraw.Draw(sheet)
    big, small = ImageFont.load_default(size=17), ImageFont.load_default(size=13)
    draw.text((MARGIN, MARGIN - 6), title, font=big, fill=INK)
    for i, label in enumerate(labels):
        members = by_class[label]
        counts = [sum(m.modality == modality for m in members) for modality in MODALITIES]
        top = MARGIN + 24 + i * row
        draw.text((MARGIN, top), label, font=big, fill=INK)
        after = MARGIN + draw.textlength(label, font=big) + 10
        note = f"{counts[0]:,} photos, {counts[1]:,} {queries}"
        draw.text((after, top + 4), note, font=small, fill=FAINT)
        for k, couple in enumerate(_couples(members)):
            left = MARGIN + k * (couple_width + WIDE_GAP)
            _draw_couple(sheet, draw, couple, left, top + HEADER)
    return sheet


def _draw_couple(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    couple: tuple[Item | None, Item | None],
    left: int,
    top: int,
) -> None:
    photo, sketch = couple
    for x, item in ((left, photo), (left + THUMB + GAP, sketch)):
        if item is not None:
            pixels = to_square(item.pixels(item.read()), THUMB, "pad")
            sheet.paste(Image.fromarray(np.squeeze(pixels)).convert("RGB"), (x, top))
            draw.rectangle((x - 1, top - 1, x + THUMB, top + THUMB), outline=FRAME)
    if photo and sketch and photo.instance_id and photo.instance_id == sketch.instance_id:
        box = (left - 3, top - 3, left + 2 * THUMB + GAP + 2, top + THUMB + 2)
        draw.rectangle(box, outline=INK)


def _couples(members: list[Item]) -> list[tuple[Item | None, Item | None]]:
    photos = [item for item in members if item.modality == "photo"]
    sketches = [item for item in members if item.modality == "sketch"]
    sketch_of = {item.instance_id: item for item in sketches if item.instance_id}
    linked = [(p, sketch_of[p.instance_id]) for p in photos if p.instance_id in sketch_of]
    chosen = _spread(linked, COUPLES)
    missing = COUPLES - len(chosen)
    shown = {id(item) for couple in chosen for item in couple}
    fill = [
        _spread([item for item in side if id(item) not in shown], missing)
        for side in (photos, sketches)
    ]
    for k in range(missing):
        couple = tuple(side[k] if k < len(side) else None for side in fill)
        if any(couple):
            chosen.append(couple)
    return chosen


def _spread(choices: list, count: int) -> list:
    """At most `count` of the choices, evenly spaced, first one included."""
    step = max(1.0, len(choices) / count) if count else 1.0
    return [choices[int(k * step)] for k in range(min(count, len(choices)))]
