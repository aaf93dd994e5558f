"""Strokes become the pixels that geometry says, from every notation."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sbir_jax.data.images import BadImage
from sbir_jax.data.strokes import rasterise, read_quickdraw, strokes_of
from sbir_jax.data.svg import read_svg, svg_strokes


def coverage(start, end, width: float, size: int) -> np.ndarray:
    """Ink of a line with round ends: the share of each pixel's 8 x 8 points nearer than width/2."""
    axis = (np.arange(8 * size) + 0.5) / 8
    points = np.stack(np.meshgrid(axis, axis), axis=-1)
    a, b = np.array(start, float), np.array(end, float)
    along = np.clip((points - a) @ (b - a) / max((b - a) @ (b - a), 1e-9), 0, 1)[..., None]
    near = np.linalg.norm(points - (a + along * (b - a)), axis=-1) <= width / 2
    return near.reshape(size, 8, size, 8).mean(axis=(1, 3))


@pytest.mark.parametrize("ends", [((10, 20), (50, 20)), ((12, 50), (44, 14)), ((30, 30), (30, 30))])
def test_a_line_covers_the_pixels_near_it(ends):
    """Against the distance of every point to the line: ink differs by 0.04 of the side at most."""
    drawn = rasterise([np.array(ends)], size=64, line=4 / 64, frame=(0, 0, 64, 64))
    ink = 1 - drawn / 255
    expected = coverage(*ends, width=4, size=64)
    assert np.abs(ink - expected).mean() < 0.01
    assert ink.sum() == pytest.approx(expected.sum(), rel=0.2)
    assert len(np.unique(drawn)) > 2 or ends[0][1] == ends[1][1]  # anti-aliased


def test_without_a_frame_the_ink_is_centred_with_its_aspect_ratio():
    """A 200 x 100 box fills 88 % of the width, is centred, and is half as high as wide."""
    box = np.array([(1000, 500), (1200, 500), (1200, 600), (1000, 600), (1000, 500)])
    rows, columns = np.nonzero(rasterise([box], size=200, line=0.01, margin=0.06) < 128)
    assert (columns.min(), columns.max()) == pytest.approx((11, 188), abs=1.5)
    assert (rows.min(), rows.max()) == pytest.approx((55, 144), abs=1.5)


def test_units_do_not_matter():
    """A drawing ten times as large, elsewhere, gives the same pixels (to anti-aliasing)."""
    rng = np.random.default_rng(0)
    strokes = [rng.uniform(0, 100, (8, 2)) for _ in range(3)]
    one = rasterise(strokes).astype(int)
    other = rasterise([stroke * 10 + 300 for stroke in strokes]).astype(int)
    assert np.abs(one - other).mean() < 0.5


def test_a_frame_stretches_the_canvas_to_the_square():
    """On a 640 x 480 canvas, a circle of strokes becomes an ellipse of those proportions."""
    angle = np.linspace(0, 2 * np.pi, 60)
    circle = np.stack([320 + 160 * np.cos(angle), 240 + 160 * np.sin(angle)], axis=1)
    rows, columns = np.nonzero(rasterise([circle], size=240, frame=(0, 0, 640, 480)) < 128)
    assert np.ptp(columns) == pytest.approx(120, abs=4)
    assert np.ptp(rows) == pytest.approx(160, abs=4)


def test_far_outside_is_cut_and_nothing_is_an_error():
    """Coordinates of 1e8 on a small canvas are cut; no strokes and NaN are refused in words."""
    drawn = rasterise([np.array([(0, 5), (1e8, 5)])], size=32, line=0.1, frame=(0, 0, 10, 10))
    assert (drawn[16] == 0).sum() > 28
    for strokes, reason in (
        ([], "without strokes"),
        ([np.empty((0, 2))], "without strokes"),
        ([np.array([(0, np.nan)])], "not finite"),
        ([np.array([(0, 1e12)])], "beyond 1e"),
    ):
        with pytest.raises(BadImage, match=reason):
            rasterise(strokes)
    with pytest.raises(BadImage, match="canvas has no area"):
        rasterise([np.zeros((1, 2))], frame=(0, 0, 0, 5))


def test_a_single_point_is_a_dot():
    """One point is drawn as a round dot of the line's width, in the middle."""
    ink = rasterise([np.array([(7, 7)])], size=100, line=0.1) < 128
    assert ink[50, 50] and ink.sum() == pytest.approx(np.pi * 25, rel=0.2)


def test_quickdraw_lines_may_hold_times_and_strings():
    """Simplified, raw, and the table's form with the strokes as a string are one drawing."""
    simple = b'{"drawing": [[[0, 255], [0, 100]], [[9], [9]]]}'
    raw = b'{"drawing": [[[0.0, 255.0], [0.0, 100.0], [0, 17]], [[9.0], [9.0], [30]]]}'
    text = b'{"drawing": "[[[0, 255], [0, 100]], [[9], [9]]]"}'
    images = [read_quickdraw(line) for line in (simple, raw, text)]
    assert (images[0] == images[1]).all() and (images[0] == images[2]).all()
    assert images[0].dtype == np.uint8 and images[0].shape == (256, 256)


@pytest.mark.parametrize(
    "drawing", [3, [3], [[1, 2]], [[[1, 2], [3]]], [[["a"], ["b"]]], [[[1]]], {"a": 1}]
)
def test_other_notations_are_refused_in_words(drawing):
    """Whatever is not a list of x and y lists names the form that is expected."""
    with pytest.raises(BadImage, match="not strokes: expected"):
        strokes_of(drawing)


@pytest.mark.parametrize("line", [b"", b"[]", b"{}", b'{"drawing": "["}', b"\xff\xfe"])
def test_lines_that_are_no_drawings_are_refused(line):
    """Broken JSON and other JSON are named as no line of the dataset."""
    with pytest.raises(BadImage, match="not a line of Quick, Draw!"):
        read_quickdraw(line)


# SVG


def lines_of(path: str) -> list[np.ndarray]:
    return svg_strokes(f'<svg><path d="{path}"/></svg>'.encode())[0]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("M1 2 L3 4", [[(1, 2), (3, 4)]]),
        ("m1,2 3,4-1-1", [[(1, 2), (4, 6), (3, 5)]]),  # repeated moves are lines
        ("M0 0H5V6h-2v-1", [[(0, 0), (5, 0), (5, 6), (3, 6), (3, 5)]]),
        ("M0 0L1 0M5 5l1 1", [[(0, 0), (1, 0)], [(5, 5), (6, 6)]]),
        ("M0 0L4 0L4 4ZL9 9", [[(0, 0), (4, 0), (4, 4), (0, 0)], [(0, 0), (9, 9)]]),
        ("M.5.5L1e1-.5", [[(0.5, 0.5), (10, -0.5)]]),
        ("M0 0L1 1 2", [[(0, 0), (1, 1)]]),  # cut short
    ],
)
def test_straight_paths_by_hand(path, expected):
    """Absolute, relative and implied commands end where the notation says."""
    lines = lines_of(path)
    assert [line.tolist() for line in lines] == [[list(p) for p in line] for line in expected]


def bezier(corners, t):
    """The Bernstein form of a Bezier curve."""
    n = len(corners) - 1
    binomial = [1, 2, 1] if n == 2 else [1, 3, 3, 1]
    return sum(
        b * t**i * (1 - t) ** (n - i) * np.array(c, float)
        for i, (b, c) in enumerate(zip(binomial, corners, strict=True))
    )


@pytest.mark.parametrize(
    ("path", "corners"),
    [
        ("M0 0C10 0 10 10 20 10", [(0, 0), (10, 0), (10, 10), (20, 10)]),
        ("M5 5c10 0 10 10 20 10", [(5, 5), (15, 5), (15, 15), (25, 15)]),
        ("M0 0Q10 0 20 20", [(0, 0), (10, 0), (20, 20)]),
        ("M0 0S10 10 20 10", [(0, 0), (0, 0), (10, 10), (20, 10)]),
        ("M0 0C9 9 10 0 10 10s5 5 10 0", [(10, 10), (10, 20), (15, 15), (20, 10)]),
        ("M0 0Q5 5 10 0T20 0", [(10, 0), (15, -5), (20, 0)]),
    ],
)
def test_curves_follow_the_bernstein_form(path, corners):
    """The last curve's twelve points are those of the polynomial at t = 1/12, ..., 1."""
    (line,) = lines_of(path)
    expected = [bezier(corners, t) for t in np.arange(1, 13) / 12]
    np.testing.assert_allclose(line[-12:], expected, atol=1e-9)


def test_groups_transform_what_is_in_them():
    """Nested translations, scales, rotations and matrices apply from the inside out."""
    text = (
        b'<svg viewBox="0 0 8 4"><g transform="translate(10, 20)"><g transform="scale(2)">'
        b'<path d="M1 1L2 2"/></g><line x1="0" y1="0" x2="1px" y2="0" transform="rotate(90)"/></g>'
        b'<polyline points="0,0 1,1" transform="matrix(0 1 1 0 5 6)"/>'
        b'<polygon points="0 0 1 0 1 1"/></svg>'
    )
    lines, frame = svg_strokes(text)
    assert frame == (0, 0, 8, 4)
    expected = [
        [(12, 22), (14, 24)],
        [(10, 20), (10, 21)],
        [(5, 6), (6, 7)],
        [(0, 0), (1, 0), (1, 1), (0, 0)],
    ]
    for line, by_hand in zip(lines, expected, strict=True):
        np.testing.assert_allclose(line, by_hand, atol=1e-9)


def test_the_canvas_is_the_view_box_or_the_size():
    """viewBox wins over width and height; percentages and nothing name no canvas."""
    path = '<path d="M0 0L9 9"/>'
    for attributes, frame in (
        ('viewBox="1 2 30 40" width="7" height="8"', (1, 2, 30, 40)),
        ('width="640px" height="480"', (0, 0, 640, 480)),
        ('width="100%" height="100%"', None),
        ("", None),
    ):
        assert svg_strokes(f"<svg {attributes}>{path}</svg>".encode())[1] == frame


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"<svg></svg>", "without lines"),
        (b'<svg><path d="M0 0A1 1 0 0 0 2 2"/></svg>', "command 'A' cannot be read"),
        (b'<svg><path d="M0 0L1 1" transform="skewX(3)"/></svg>', "skewX"),
        (b"\x89PNG", "without lines"),
        (b'<svg><path d="M1e999 0L1 1"/></svg>', "not finite"),
        (b'<svg viewBox="0 0 1e-300 1"><path d="M0 0L1 1"/></svg>', "no area"),
    ],
)
def test_what_is_not_read_is_said(text, reason):
    """Arcs, unknown transforms and files without lines are refused, not drawn wrong."""
    with pytest.raises(BadImage, match=reason):
        read_svg(text)


def test_an_svg_file_looks_like_its_strokes(tmp_path):
    """The picture of a square on its canvas has its corners where the canvas has them."""
    image = read_svg(b'<svg viewBox="0 0 100 100"><path d="M25 25H75V75H25Z"/></svg>')
    rows, columns = np.nonzero(image < 128)
    assert (rows.min(), rows.max()) == pytest.approx((63, 193), abs=2.5)
    assert (columns.min(), columns.max()) == pytest.approx((63, 193), abs=2.5)
    assert Image.fromarray(image).mode == "L"
