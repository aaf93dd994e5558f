"""The one place where strokes become pixels: stroke datasets, SVG drawings, drawings of a page.

A model that was trained on one line width, margin and anti-aliasing should be asked with the same.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from sbir_jax.data.images import WHITE, BadImage

# Drawn at so many times the size, then averaged.
_OVERSAMPLING = 3
INK = 0
# Coordinates beyond it, or a canvas below its inverse, are those of a damaged file.
_FARTHEST = 1e9


def rasterise(
    strokes: Sequence[np.ndarray],
    *,
    size: int = 256,
    line: float = 0.012,
    margin: float = 0.06,
    frame: tuple[float, float, float, float] | None = None,
) -> np.ndarray:
    """Draws strokes as anti-aliased black lines with round ends on white.

    Args:
      strokes: each float [n, 2], x to the right and y down, in any unit; a single point is a dot.
      size: side of the square, in pixels.
      line: width of the lines, as a share of the side; 0.012 is 3 pixels of 256.
      margin: white on each side that the longer side of the drawing leaves, as a share of the
        side; without `frame` only.
      frame: x, y, width and height of the rectangle that becomes the square, stretched. None: the
        box around the ink, centred, its aspect ratio kept.

    Returns:
      uint8 [size, size].

    Raises:
      BadImage: no strokes, coordinates that are not finite or absurd, or a frame without area.
    """
    strokes = [np.asarray(stroke, np.float64).reshape(-1, 2) for stroke in strokes]
    strokes = [stroke for stroke in strokes if len(stroke)]
    if not strokes:
        raise BadImage("a drawing without strokes")
    if not all((np.abs(stroke) <= _FARTHEST).all() for stroke in strokes):
        raise BadImage(f"a drawing with coordinates that are not finite, or beyond {_FARTHEST:g}")
    scale, shift = _placed(strokes, frame, margin)
    large = size * _OVERSAMPLING
    width = max(1, round(line * large))
    canvas = Image.new("L", (large, large), WHITE)
    draw = ImageDraw.Draw(canvas)
    for stroke in strokes:
        # Pillow counts from the centre of the first pixel. What lies far outside is cut, as its
        # integers are 32 bits wide.
        points = np.clip((stroke * scale + shift) * large - 0.5, -large, 2 * large)
        if len(points) > 1:
            draw.line(points.ravel().tolist(), fill=INK, width=width, joint="curve")
        for x, y in points[[0, -1]]:
            draw.circle((x, y), width / 2, fill=INK)
    return np.asarray(canvas.reduce(_OVERSAMPLING))


def strokes_of(drawing: Any) -> list[np.ndarray]:
    """Strokes in the notation of Quick, Draw!: `[[[x, ...], [y, ...]], ...]`, times may follow.

    Returns:
      float64 [n, 2] of each stroke.

    Raises:
      BadImage: it is something else.
    """
    try:
        strokes = []
        for x, y, *_ in drawing:
            strokes.append(np.stack([np.asarray(axis, np.float64) for axis in (x, y)], axis=1))
            if strokes[-1].ndim != 2:
                raise ValueError("x and y are lists of numbers")
    except (TypeError, ValueError, OverflowError) as error:
        raise BadImage(
            "not strokes: expected [[[x, ...], [y, ...]], ...] of equal lengths"
        ) from error
    return strokes


def read_quickdraw(data: bytes) -> np.ndarray:
    """One line of a Quick, Draw! `.ndjson` file, simplified or raw, as uint8 [256, 256].

    Raises:
      BadImage: not such a line, or no strokes in it.
    """
    try:
        drawing = json.loads(data)["drawing"]
        # The table of all drawings has the strokes as a string.
        drawing = json.loads(drawing) if isinstance(drawing, str) else drawing
    except (ValueError, KeyError, TypeError) as error:
        raise BadImage('not a line of Quick, Draw! (JSON with "drawing")') from error
    return rasterise(strokes_of(drawing))


def _placed(
    strokes: Sequence[np.ndarray], frame: tuple[float, float, float, float] | None, margin: float
) -> tuple[np.ndarray, np.ndarray]:
    """Factor and shift [2] from the drawing's unit to the unit square."""
    if frame is not None:
        corner, sides = np.array(frame[:2]), np.array(frame[2:])
        if not ((sides >= 1 / _FARTHEST) & (sides <= _FARTHEST)).all():
            raise BadImage("a drawing whose canvas has no area, or no end")
        return 1 / sides, -corner / sides
    points = np.concatenate(strokes)
    low, high = points.min(axis=0), points.max(axis=0)
    longer = (high - low).max()
    factor = (1 - 2 * margin) / longer if longer > 0 else 1.0
    return np.full(2, factor), 0.5 - factor * (low + high) / 2
