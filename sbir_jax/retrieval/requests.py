"""What a client may send, and how it becomes the square that is embedded.

Everything is checked before anything is computed: sizes first, then types, then values. Names of
files never come from a client.
"""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np

from sbir_jax.data.images import BadImage, Modality, read_image
from sbir_jax.data.strokes import rasterise, strokes_of

LINE = 0.012  # width of the lines that stroke datasets are prepared with, as a share of the side
LINES = (0.002, 0.1)
COORDINATE = 1e6


@dataclasses.dataclass(frozen=True)
class Limits:
    """What one client, and all of them together, may ask of the server.

    Attributes:
      body_bytes: of a request.
      body_seconds: to send it in.
      pixels: of an image, decoded.
      strokes, points: of a drawing; points of all its strokes.
      top: photos of a query.
      rate: queries a second of one address, 0 for no limit; twice as many may come at once.
      waiting: queries that may wait at a time, of everybody.
    """

    body_bytes: int = 4 << 20
    body_seconds: float = 10.0
    pixels: int = 16_000_000
    strokes: int = 1_000
    points: int = 10_000
    top: int = 100
    rate: float = 20.0
    waiting: int = 64


class RequestError(Exception):
    """A request that is refused: an HTTP status, and the reason in one line."""

    def __init__(self, status: int, reason: str):
        super().__init__(reason)
        self.status, self.reason = status, reason


@dataclasses.dataclass(frozen=True)
class Drawing:
    """Strokes that a client sent.

    Attributes:
      strokes: float64 [n, 2] each.
      line: width of the lines, as a share of the side.
      top: photos that are asked for.
    """

    strokes: list[np.ndarray]
    line: float
    top: int

    def pixels(self) -> np.ndarray:
        """uint8 [256, 256], by the function that draws stroke datasets."""
        return rasterise(self.strokes, line=self.line)


def read_drawing(body: bytes, limits: Limits) -> Drawing:
    """A drawing from JSON: `{"strokes": [[[x, ...], [y, ...]], ...], "line": ..., "top": ...}`.

    Raises:
      RequestError: it is something else, or too much.
    """
    try:
        given = json.loads(body, parse_constant=_refused)
    except (ValueError, RecursionError):
        raise RequestError(400, "the body is not JSON") from None
    if not isinstance(given, dict) or "strokes" not in given:
        raise RequestError(422, 'expected an object with "strokes"')
    unknown = sorted(given.keys() - {"strokes", "line", "top"})
    if unknown:
        raise RequestError(422, f"unknown {unknown[0][:40]!r}; known: strokes, line, top")
    strokes = given["strokes"]
    _check_strokes(strokes, limits)
    line = given.get("line", LINE)
    if not _is_number(line) or not LINES[0] <= line <= LINES[1]:
        raise RequestError(422, f"line: expected a number from {LINES[0]} to {LINES[1]}")
    top = given.get("top", 20)
    if not isinstance(top, int) or isinstance(top, bool):
        raise RequestError(422, _top_error(limits))
    return Drawing(strokes_of(strokes), float(line), checked_top(top, limits))


def read_picture(body: bytes, side: Modality, limits: Limits) -> np.ndarray:
    """The pixels of an image file, as `images.read_image` gives them.

    Raises:
      RequestError: not an image, or too large.
    """
    try:
        return read_image(body, side, max_pixels=limits.pixels)
    except BadImage as error:
        too_large = str(error).startswith("too large")
        raise RequestError(413 if too_large else 422, f"the image is {error}") from None


def checked_top(top: int | str, limits: Limits) -> int:
    """The number of photos asked for, in JSON or in an address; raises RequestError."""
    text = str(top)
    if not (text.isascii() and text.isdecimal() and len(text) < 9 and 1 <= int(text) <= limits.top):
        raise RequestError(422, _top_error(limits))
    return int(text)


def _top_error(limits: Limits) -> str:
    return f"top: expected a whole number from 1 to {limits.top}"


def _check_strokes(strokes: Any, limits: Limits) -> None:
    if not isinstance(strokes, list) or not strokes:
        raise RequestError(422, "strokes: expected a list with a stroke in it")
    if len(strokes) > limits.strokes:
        raise RequestError(413, f"{len(strokes)} strokes; at most {limits.strokes}")
    points = 0
    for number, stroke in enumerate(strokes):
        form = f"stroke {number}: expected [[x, ...], [y, ...]] of equal lengths, at least 1"
        if not isinstance(stroke, list) or len(stroke) != 2:
            raise RequestError(422, form)
        if not all(isinstance(axis, list) for axis in stroke):
            raise RequestError(422, form)
        if not stroke[0] or len(stroke[0]) != len(stroke[1]):
            raise RequestError(422, form)
        points += len(stroke[0])
        if points > limits.points:
            raise RequestError(413, f"more than {limits.points} points")
        if not all(
            _is_number(value) and abs(value) <= COORDINATE for axis in stroke for value in axis
        ):
            raise RequestError(
                422, f"stroke {number}: expected numbers from {-COORDINATE:g} to {COORDINATE:g}"
            )


def _is_number(value: Any) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and (isinstance(value, int) or math.isfinite(value))
    )


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
