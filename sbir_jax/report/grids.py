"""Pictures of what a model retrieves. A picture is a PIL image; `.save("x.png")` stores it.

Right and wrong differ in three ways, so that the picture can be read without seeing colour: a
right photo has a thick green frame and a tick, a wrong one a thin red frame and a cross.
"""

from __future__ import annotations

import contextlib
import functools
import math
import unicodedata
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

RIGHT, WRONG, INSTANCE = "#009e73", "#cc3311", "#f0b400"
_INK, _QUIET, _PAPER = "#1d2430", "#6b7280", "#ffffff"
_FINE = 4  # marks are drawn this many times larger, then reduced: PIL does not anti-alias


def retrieval_grid(
    queries: Sequence[np.ndarray] | np.ndarray,
    results: np.ndarray,
    right: np.ndarray | None,
    *,
    instance: np.ndarray | None = None,
    query_names: Sequence[str] | None = None,
    result_names: Sequence[Sequence[str]] | None = None,
    title: str = "",
    heading: str = "sketch",
    tile: int | None = None,
) -> Image.Image:
    """One row a query: the sketch, then its top-k photos, nearest first, right or wrong.

    Args:
      queries: n sketches, uint8 [side, side] or [side, side, 3].
      results: uint8 [n, k, S, S, 3], photos by rank.
      right: bool [n, k], whether a photo is of the sketch's class; None where nobody knows.
      instance: bool [n, k], whether it is the photo that the sketch was drawn from.
      query_names: n captions of the sketches, such as class names.
      result_names: n x k captions of the photos.
      title: a line above the grid.
      heading: of the column of queries.
      tile: side in pixels to show images at; by default S, but at least 64 and at most 256.

    Raises:
      ValueError: shapes that do not agree.
    """
    results = np.asarray(results)
    right = None if right is None else np.asarray(right, bool)
    rows, k = _checked_shape(queries, results, right, instance, query_names, result_names)
    tile = tile or min(max(results.shape[2], 64), 256)
    text = min(max(11, round(tile / 8)), 18)
    gap, margin = max(8, tile // 10), max(16, tile // 5)
    named = query_names is not None or result_names is not None
    row_height = tile + gap + (round(1.35 * text) if named else 0)
    top = margin + (round(2.3 * text) if title else 0) + round(1.7 * text)
    left = margin + tile + 2 * gap  # of the first photo
    legend = None if right is None else _legend(with_instance=instance is not None, size=text)
    width = max(left + k * (tile + gap) - gap, margin + (legend.width if legend else 0)) + margin
    height = top + rows * row_height + margin
    height += round(0.6 * text) + legend.height if legend else 0
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)

    if title:
        _write(draw, (margin, margin), title, size=round(1.3 * text), room=width - 2 * margin)
    head = top - round(1.7 * text)
    _write(draw, (margin, head), heading, size=text, room=tile, fill=_QUIET, centre=True)
    for rank in range(k):
        x = left + rank * (tile + gap)
        _write(draw, (x, head), str(rank + 1), size=text, room=tile, fill=_QUIET, centre=True)

    for row in range(rows):
        y = top + row * row_height
        sheet.paste(_picture(queries[row], tile), (margin, y))
        draw.rectangle((margin, y, margin + tile - 1, y + tile - 1), outline="#c3c8d0")
        if query_names is not None:
            below = (margin, y + tile + 3)
            _write(draw, below, query_names[row], size=text, room=tile, centre=True)
        for rank in range(k):
            x = left + rank * (tile + gap)
            exact = instance is not None and bool(instance[row][rank])
            photo = _picture(results[row, rank], tile)
            if right is not None:
                photo = _framed(photo, right[row, rank], exact)
            sheet.paste(photo, (x, y))
            if result_names is not None:
                wrong = right is not None and not right[row, rank]
                name, fill = result_names[row][rank], _QUIET if wrong else _INK
                below = (x, y + tile + 3)
                _write(draw, below, name, size=text, room=tile, fill=fill, centre=True)
    if legend:
        sheet.paste(legend, (margin, height - margin - legend.height))
    return sheet


def _checked_shape(
    queries: Sequence[np.ndarray] | np.ndarray,
    results: np.ndarray,
    right: np.ndarray | None,
    instance: np.ndarray | None,
    query_names: Sequence[str] | None,
    result_names: Sequence[Sequence[str]] | None,
) -> tuple[int, int]:
    if results.ndim != 5 or results.shape[2] != results.shape[3] or results.shape[4] != 3:
        raise ValueError(f"results has shape {results.shape}, expected [n, k, S, S, 3]")
    n, k = results.shape[:2]
    if not n or not k:
        raise ValueError(f"results has shape {results.shape}: nothing to show")
    for name, given in (("right", right), ("instance", instance)):
        if given is not None and np.shape(given) != (n, k):
            raise ValueError(f"{name} has shape {np.shape(given)}, expected {(n, k)}")
    for name, given in (
        ("queries", queries),
        ("query_names", query_names),
        ("result_names", result_names),
    ):
        if given is not None and len(given) != n:
            raise ValueError(f"{name} has {len(given)} entries, expected {n}")
    for row in result_names if result_names is not None else ():
        if len(row) != k:
            raise ValueError(f"result_names has a row of {len(row)} entries, expected {k}")
    return n, k


def _picture(array: np.ndarray, side: int) -> Image.Image:
    image = Image.fromarray(np.asarray(array, np.uint8)).convert("RGB")
    return (
        image
        if image.size == (side, side)
        else image.resize((side, side), Image.Resampling.LANCZOS)
    )


def _framed(photo: Image.Image, right: bool, exact: bool) -> Image.Image:
    """Frames a tile inside its own square and marks its corners."""
    side = photo.width
    draw = ImageDraw.Draw(photo)
    thick = max(3, side // 24) if right else max(1, side // 48)
    draw.rectangle((0, 0, side - 1, side - 1), outline=RIGHT if right else WRONG, width=thick)
    badge, inset = max(14, side // 5), thick + max(1, side // 64)
    if exact:
        # A second frame and a star: the one photo that instance retrieval looks for.
        line = max(2, side // 48)
        for colour in (_PAPER, INSTANCE):
            edge = side - 1 - thick
            draw.rectangle((thick, thick, edge, edge), outline=colour, width=line)
            thick += line
        inset = thick + max(1, side // 64)
        star = _badge("star", round(1.3 * badge))
        photo.paste(star, (inset, inset), star)
    mark = _badge("tick" if right else "cross", badge)
    photo.paste(mark, (side - inset - badge, inset), mark)
    return photo


@functools.lru_cache
def _badge(shape: str, side: int) -> Image.Image:
    """A tick or cross on a disc, or a star, [side, side] RGBA."""
    big = side * _FINE
    image = Image.new("RGBA", (big, big), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)

    def at(*points: tuple[float, float]) -> list[tuple[float, float]]:
        return [(x * big, y * big) for x, y in points]

    if shape == "star":
        corners = []
        for i in range(10):
            radius, angle = (0.47, 0.2)[i % 2], math.pi * (i / 5 - 0.5)
            corners.append((0.5 + radius * math.cos(angle), 0.53 + radius * math.sin(angle)))
        draw.polygon(at(*corners), fill=INSTANCE, outline=_INK, width=max(1, big // 24))
        return image.resize((side, side), Image.Resampling.LANCZOS)
    draw.ellipse((0, 0, big - 1, big - 1), fill=_PAPER)
    rim = big // 14
    colour = RIGHT if shape == "tick" else WRONG
    draw.ellipse((rim, rim, big - 1 - rim, big - 1 - rim), fill=colour)
    line = functools.partial(draw.line, fill=_PAPER, width=round(big / 8), joint="curve")
    if shape == "tick":
        line(at((0.27, 0.53), (0.44, 0.69), (0.74, 0.34)))
    else:
        line(at((0.32, 0.32), (0.68, 0.68)))
        line(at((0.68, 0.32), (0.32, 0.68)))
    return image.resize((side, side), Image.Resampling.LANCZOS)


def _legend(*, with_instance: bool, size: int) -> Image.Image:
    entries = [("tick", "right class"), ("cross", "another class")]
    if with_instance:
        entries.append(("star", "the photo this sketch was drawn from"))
    badge, space = round(1.4 * size), size // 2
    widths = [math.ceil(_font(size, True).getlength(words)) for _, words in entries]
    total = sum(width + badge + space + 2 * size for width in widths)
    image = Image.new("RGB", (total, badge + 2), _PAPER)
    draw, x = ImageDraw.Draw(image), 0
    for (shape, words), width in zip(entries, widths, strict=True):
        mark = _badge(shape, badge)
        image.paste(mark, (x, 1), mark)
        at = (x + badge + space, round((badge + 2 - 1.2 * size) / 2))
        _write(draw, at, words, size=size, room=width + size)
        x += badge + space + width + 2 * size
    return image


def _write(
    draw: ImageDraw.ImageDraw,
    at: tuple[int, int],
    words: str,
    *,
    size: int,
    room: int,
    fill: str = _INK,
    centre: bool = False,
) -> None:
    """Writes one line no wider than `room` pixels, shortened at its end if it must be."""
    words = " ".join(str(words).split())
    font = _font(size, words.isascii())
    if not words.isascii() and font is _font(size, True):
        words = unicodedata.normalize("NFKD", words)  # the built-in font has ASCII letters only
        words = "".join(c for c in words if not unicodedata.combining(c))
    shown = words
    while shown and font.getlength(shown) > room:
        words = words[:-1]
        shown = words.rstrip() + "…" if words else ""
    x = at[0] + (room - font.getlength(shown)) / 2 if centre else at[0]
    draw.text((x, at[1]), shown, font=font, fill=fill)


@functools.lru_cache
def _font(size: int, ascii_only: bool) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font, or for other letters a common font of the system, where there is one."""
    if not ascii_only:
        for name in ("NotoSansCJK-Regular.ttc", "Arial Unicode.ttf", "DejaVuSans.ttf"):
            with contextlib.suppress(OSError):
                return ImageFont.truetype(name, size)
        return _font(size, True)
    return ImageFont.load_default(size)
