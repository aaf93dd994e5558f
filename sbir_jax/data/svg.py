"""Line drawings in SVG as strokes: what sketch datasets use of the format, and no more.

Paths of M, L, H, V, C, S, Q, T and Z, polylines, polygons and lines, in groups with transforms.
Fills, arcs, text, styles and line widths are not drawn. Files that lack closing tags, as some of
Sketchy do, are read like any other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser

import numpy as np

from sbir_jax.data.images import BadImage
from sbir_jax.data.strokes import rasterise

_CURVE_POINTS = 12  # straight pieces of each curve
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_TOKEN = re.compile(rf"([A-Za-z])|({_NUMBER})")
_TRANSFORM = re.compile(r"(\w+)\s*\(([^)]*)\)")
# Numbers that each command takes.
_TAKES = {"M": 2, "L": 2, "H": 1, "V": 1, "C": 6, "S": 4, "Q": 4, "T": 2, "Z": 0}

Frame = tuple[float, float, float, float]


def read_svg(data: bytes) -> np.ndarray:
    """Draws an SVG file as uint8 [256, 256]: its whole canvas, stretched to the square.

    Stretching is how Sketchy's rendering tx_000000000000 treats the drawing and its photo, so both
    stay aligned. A file without canvas is cut to its ink.

    Raises:
      BadImage: no lines in it, or a path that cannot be read.
    """
    strokes, frame = svg_strokes(data)
    return rasterise(strokes, frame=frame)


def svg_strokes(data: bytes) -> tuple[list[np.ndarray], Frame | None]:
    """The lines of an SVG file, in drawing order, and its canvas.

    Returns:
      float64 [n, 2] of each line, and x, y, width and height of the canvas, None if the file names
      none.

    Raises:
      BadImage: no lines in it, or a path that cannot be read.
    """
    reader = _Reader()
    with np.errstate(all="ignore"):  # numbers too large become infinite, which `rasterise` refuses
        reader.feed(data.decode("utf-8", errors="replace"))
        reader.close()
    if not reader.strokes:
        raise BadImage("an SVG file without lines")
    return reader.strokes, reader.frame


class _Reader(HTMLParser):
    # HTMLParser forgives missing end tags; it makes tags and attributes lower case.

    def __init__(self) -> None:
        super().__init__()
        self.strokes: list[np.ndarray] = []
        self.frame: Frame | None = None
        self._matrices = [np.eye(3)]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._read(tag, dict(attrs))
        if tag == "g":
            self._matrices.append(self._matrices[-1] @ _matrix(dict(attrs).get("transform")))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._read(tag, dict(attrs))

    def handle_endtag(self, tag: str) -> None:
        if tag == "g" and len(self._matrices) > 1:
            self._matrices.pop()

    def _read(self, tag: str, attributes: dict[str, str | None]) -> None:
        if tag == "svg" and self.frame is None:
            self.frame = _frame(attributes)
            return
        lines: list[np.ndarray] = []
        if tag == "path":
            lines = list(_path(attributes.get("d") or ""))
        elif tag in ("polyline", "polygon"):
            points = _numbers(attributes.get("points") or "")
            points = np.reshape(points[: len(points) // 2 * 2], (-1, 2))
            lines = [np.concatenate([points, points[:1]]) if tag == "polygon" else points]
        elif tag == "line":
            names = ("x1", "y1", "x2", "y2")
            ends = [(_numbers(attributes.get(name) or "") or [0.0])[0] for name in names]
            lines = [np.reshape(ends, (2, 2))]
        matrix = self._matrices[-1] @ _matrix(attributes.get("transform"))
        self.strokes += [line @ matrix[:2, :2].T + matrix[:2, 2] for line in lines if len(line)]


def _numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(_NUMBER, text)]


def _frame(attributes: dict[str, str | None]) -> Frame | None:
    box = _numbers(attributes.get("viewbox") or "")
    if len(box) != 4:
        sides = [_numbers(attributes.get(name) or "") for name in ("width", "height")]
        percent = any("%" in (attributes.get(name) or "") for name in ("width", "height"))
        box = [0.0, 0.0, *(side[0] for side in sides)] if all(sides) and not percent else []
    return (box[0], box[1], box[2], box[3]) if box and box[2] > 0 and box[3] > 0 else None


def _matrix(text: str | None) -> np.ndarray:
    """The 3 x 3 matrix of a `transform` attribute; translations, scales, rotations, matrices."""
    matrix = np.eye(3)
    for name, inside in _TRANSFORM.findall(text or ""):
        n = _numbers(inside)
        one = np.eye(3)
        if name == "translate" and n:
            one[:2, 2] = n[0], n[1] if len(n) > 1 else 0
        elif name == "scale" and n:
            one[0, 0], one[1, 1] = n[0], n[1] if len(n) > 1 else n[0]
        elif name == "matrix" and len(n) == 6:
            one[:2] = np.reshape(n, (3, 2)).T
        elif name == "rotate" and len(n) in (1, 3):
            cos, sin = np.cos(np.radians(n[0])), np.sin(np.radians(n[0]))
            one[:2, :2] = [[cos, -sin], [sin, cos]]
            centre = np.array(n[1:] or (0, 0))
            one[:2, 2] = centre - one[:2, :2] @ centre
        else:
            raise BadImage(f"SVG transform {name}({inside}) cannot be read")
        matrix = matrix @ one
    return matrix


def _path(text: str) -> Iterator[np.ndarray]:
    """The lines of a path, float64 [n, 2] each; a move starts another one."""
    points: list[np.ndarray] = []
    at = start = control = np.zeros(2)
    before = ""
    for letter, n in _commands(text):
        kind = letter.upper()
        base = at if letter.islower() else np.zeros(2)
        if kind == "M":
            if points:
                yield np.stack(points)
            at = start = base + n
            points = [at]
        elif kind == "Z":
            points.append(start)
            yield np.stack(points)
            at, points = start, []
        else:
            # After Z a line goes on from where the closed one began.
            points = points or [at]
            if kind in "HV":
                n = [n[0], at[1] - base[1]] if kind == "H" else [at[0] - base[0], n[0]]
            corners = np.reshape(n, (-1, 2)) + base
            if kind in "ST":  # the first control point mirrors the last one of its kind
                smooth = before and before in ("CS" if kind == "S" else "QT")
                corners = np.concatenate([[2 * at - control if smooth else at], corners])
            if len(corners) > 1:
                control = corners[-2]
            points += list(_curve(np.concatenate([[at], corners])))
            at = points[-1]
        before = kind
    if points:
        yield np.stack(points)


def _commands(text: str) -> Iterator[tuple[str, list[float]]]:
    """(command, its numbers), each as often as the numbers repeat it."""
    letter, numbers = "", []
    for name, number in _TOKEN.findall(text):
        if number:
            numbers.append(float(number))
            continue
        yield from _repeated(letter, numbers)
        letter, numbers = name, []
        if name.upper() not in _TAKES:
            raise BadImage(f"SVG path command {name!r} cannot be read; valid: {' '.join(_TAKES)}")
    yield from _repeated(letter, numbers)


def _repeated(letter: str, numbers: list[float]) -> Iterator[tuple[str, list[float]]]:
    takes = _TAKES.get(letter.upper(), 0)
    if letter and not takes:
        yield letter, []
    # Numbers that are too few at the end are those of a file cut short.
    for first in range(0, len(numbers) - takes + 1, takes) if takes else ():
        yield letter, numbers[first : first + takes]
        letter = {"M": "L", "m": "l"}.get(letter, letter)


def _curve(corners: np.ndarray) -> np.ndarray:
    """Points of the Bezier curve with these corners, the first one left out; float64 [n, 2]."""
    if len(corners) == 2:
        return corners[1:]
    t = np.linspace(0, 1, _CURVE_POINTS + 1)[1:, None, None]
    level = np.broadcast_to(corners, (len(t), *corners.shape))
    while level.shape[1] > 1:  # de Casteljau
        level = level[:, :-1] * (1 - t) + level[:, 1:] * t
    return level[:, 0]
