"""The retrieval picture: every image where it belongs, right and wrong told apart."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageColor

from sbir_jax.report.grids import INSTANCE, RIGHT, WRONG, retrieval_grid


def colour(name: str) -> np.ndarray:
    return np.array(ImageColor.getrgb(name))


def made(n: int = 2, k: int = 3, side: int = 64):
    """Plain tiles, each of its own colour, which no letter or mark has, so that it is found."""
    queries = [np.full((side, side), 10 + 20 * i, np.uint8) for i in range(n)]
    results = np.zeros((n, k, side, side, 3), np.uint8)
    results[...] = [200, 0, 220]
    results[..., 1] = 40 * np.arange(n * k).reshape(n, k, 1, 1)  # far apart: marks blend
    right = (np.arange(n * k).reshape(n, k) % 2).astype(bool)
    return queries, results, right


def box(picture: np.ndarray, value) -> tuple[int, int, int, int]:
    """Bounding box (top, left, bottom, right; inclusive) of the pixels of one colour."""
    ys, xs = np.nonzero((picture == value).all(-1))
    return ys.min(), xs.min(), ys.max(), xs.max()


def count(picture: np.ndarray, name: str) -> int:
    return int((picture == colour(name)).all(-1).sum())


def test_rows_are_queries_and_columns_ranks():
    """Reading order: a sketch stands left of its photos, ranks go right, queries go down."""
    queries, results, right = made()
    picture = np.array(retrieval_grid(queries, results, right))
    for i, query in enumerate(queries):
        sketch = box(picture, [query[0, 0]] * 3)
        photos = [box(picture, results[i, j, 0, 0]) for j in range(3)]
        edges = [sketch[1], *(photo[1] for photo in photos)]
        assert edges == sorted(set(edges))
        assert all(abs(int(photo[0]) - int(sketch[0])) < 8 for photo in photos)
    assert box(picture, [10] * 3)[2] < box(picture, [30] * 3)[0]


@pytest.mark.parametrize("side, tile", [(64, 64), (96, 96), (256, 256), (16, 64), (400, 256)])
def test_images_are_shown_at_a_legible_size(side, tile):
    """A photo is shown at its own size within 64 to 256 pixels; small ones are enlarged."""
    queries, results, right = made(1, 2, side)
    right[:] = False
    picture = np.array(retrieval_grid(queries, results, right))
    photo = box(picture, results[0, 0, 0, 0])
    assert tile - 14 <= photo[2] - photo[0] + 1 <= tile  # the frame lies inside
    top, left, bottom, wide = box(picture, [10] * 3)
    assert abs(bottom - top + 1 - tile) <= 2
    assert abs(wide - left + 1 - tile) <= 2


@pytest.mark.parametrize("right", [True, False])
def test_right_and_wrong_differ_without_colour(right):
    """A right tile has a frame twice as thick, and a lopsided tick where others have a cross."""
    queries, results, _ = made(1, 1, 96)
    picture = np.array(retrieval_grid(queries, results, np.array([[right]])))
    top, left, bottom, wide = box(picture, results[0, 0, 0, 0])
    frame = (picture[top + 48, :left] == colour(RIGHT if right else WRONG)).all(-1).sum()
    assert frame == (4 if right else 2)
    white = (picture[top : bottom + 1, left : wide + 1] > 240).all(-1)  # rim and glyph of the mark
    ys, xs = np.nonzero(white)
    mark = white[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
    lopsided = (mark != mark[:, ::-1]).sum() / mark.sum()
    assert (lopsided > 0.25) == right


def test_frames_follow_right():
    """All right has no red beyond the legend's, all wrong no green, and both have their own."""
    queries, results, right = made(2, 3, 64)
    legend = 2 * 20 * 20  # more than the marks of the legend can cover
    all_right = np.array(retrieval_grid(queries, results, np.ones_like(right)))
    all_wrong = np.array(retrieval_grid(queries, results, np.zeros_like(right)))
    assert count(all_right, WRONG) < legend < count(all_right, RIGHT)
    assert count(all_wrong, RIGHT) < legend < count(all_wrong, WRONG)


def test_instance_is_marked_on_its_photo_only():
    """The photo that the sketch was drawn from has a gold frame, no other photo has."""
    queries, results, right = made(1, 3, 64)
    instance = np.array([[False, True, False]])
    right[:] = True
    picture = np.array(retrieval_grid(queries, results, right, instance=instance))
    plain = np.array(retrieval_grid(queries, results, right))
    assert count(plain, INSTANCE) == 0
    tiles = [box(picture, results[0, j, 0, 0]) for j in range(3)]
    gold = [count(picture[t - 8 : b + 9, x - 8 : r + 9], INSTANCE) for t, x, b, r in tiles]
    assert gold[0] == gold[2] == 0
    assert gold[1] > 4 * 40


def test_grey_and_colour_sketches_look_alike():
    """A sketch stored grey and the same one stored as RGB give the same picture."""
    queries, results, right = made()
    colour_queries = [np.repeat(query[..., None], 3, -1) for query in queries]
    grey = retrieval_grid(queries, results, right)
    assert grey.tobytes() == retrieval_grid(colour_queries, results, right).tobytes()


@pytest.mark.parametrize(
    "name", ["犬", "chien à poil", "🐕", "a very long class name indeed", "two\nlines", "", " "]
)
def test_any_class_name_can_be_a_caption(name):
    """Captions of any script or length neither fail nor leave their tile's column."""
    queries, results, right = made(1, 2, 64)
    names = {"query_names": ["cat"], "result_names": [[name, "cat"]]}
    bare = {"query_names": ["cat"], "result_names": [["", "cat"]]}
    picture = np.array(retrieval_grid(queries, results, right, **names)).astype(int)
    changed = np.nonzero(
        np.abs(picture - np.array(retrieval_grid(queries, results, right, **bare)))
    )
    if name.strip():
        assert len(changed[0]) > 0
        _, left, _, wide = box(picture, results[0, 0, 0, 0])
        assert left - 8 <= changed[1].min()
        assert changed[1].max() <= wide + 8


def test_saved_as_png_it_is_the_same(tmp_path):
    """The picture is an RGB image that survives being stored."""
    queries, results, right = made()
    picture = retrieval_grid(queries, results, right, title="test split")
    picture.save(tmp_path / "retrieval.png")
    with Image.open(tmp_path / "retrieval.png") as stored:
        assert stored.mode == "RGB"
        assert stored.tobytes() == picture.tobytes()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"results": np.zeros((2, 3, 8, 8), np.uint8)}, "results has shape"),
        ({"results": np.zeros((0, 3, 8, 8, 3), np.uint8)}, "nothing to show"),
        ({"right": np.ones((2, 4), bool)}, "right has shape"),
        ({"instance": np.ones((3, 2), bool)}, "instance has shape"),
        ({"queries": [np.zeros((8, 8), np.uint8)]}, "queries has 1 entries, expected 2"),
        ({"query_names": ["a"]}, "query_names has 1 entries, expected 2"),
        ({"result_names": [["a"] * 3, ["a"]]}, "row of 1 entries, expected 3"),
    ],
)
def test_shapes_that_disagree_are_named(change, message):
    """A caller's mistake is named with the shape found and the shape expected."""
    queries, results, right = made()
    given = {"queries": queries, "results": results, "right": right} | change
    with pytest.raises(ValueError, match=message):
        retrieval_grid(**given)
