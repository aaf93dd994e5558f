"""Drawings of photos: lines where SciPy sees edges, white elsewhere, and a hand set by the key."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.optimize

from sbir_jax.data import filters, ink, pseudo
from sbir_jax.mining import Ids
from sbir_jax.setting import ConfigError

SIDE = 40
draw = jax.jit(pseudo.pseudo_sketch)


def photo(seed: int = 0) -> np.ndarray:
    """Smooth shapes of several contrasts, float64 [SIDE, SIDE] in 0..1."""
    rng = np.random.default_rng(seed)
    image = scipy.ndimage.gaussian_filter(rng.random((SIDE, SIDE)), 4, mode="nearest")
    image = (image - image.min()) / (image.max() - image.min())
    image[8:20, 10:30] = 0.9
    image[24:34, 5:12] = 0.1
    return image


def test_blur_is_a_gaussian():
    """Equal to SciPy's filter with the same cut-off and border."""
    found = filters.gaussian(jnp.asarray(photo(), jnp.float32)[None], 1.7, radius=6)[0]
    wanted = scipy.ndimage.gaussian_filter(photo(), 1.7, radius=6, mode="nearest")
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_gradients_are_sobels():
    """Both derivatives equal an eighth of SciPy's Sobel filters."""
    down, across = pseudo.gradient(jnp.asarray(photo(), jnp.float32)[None])
    for found, axis in ((down, 0), (across, 1)):
        wanted = scipy.ndimage.sobel(photo(), axis=axis, mode="nearest") / 8
        np.testing.assert_allclose(found[0], wanted, atol=1e-6)


def canny_by_loop(image: np.ndarray, sigma: float, radius: int, strict: float) -> np.ndarray:
    """Canny's edges as the textbook says: a loop over pixels, and connected components."""
    smooth = scipy.ndimage.gaussian_filter(image, sigma, radius=radius, mode="nearest")
    down, across = (scipy.ndimage.sobel(smooth, axis=a, mode="nearest") / 8 for a in (0, 1))
    size = np.hypot(down, across)
    padded, ridge = np.pad(size, 1), np.zeros(image.shape, bool)
    for y in range(len(image)):
        for x in range(len(image)):
            angle = np.degrees(np.arctan2(down[y, x], across[y, x])) % 180
            sector = int(((angle + 22.5) % 180) // 45)
            dy, dx = ((0, 1), (1, 1), (1, 0), (1, -1))[sector]
            ahead, behind = padded[y + 1 + dy, x + 1 + dx], padded[y + 1 - dy, x + 1 - dx]
            ridge[y, x] = size[y, x] >= ahead and size[y, x] > behind
    high = size.mean() + strict * size.std()
    pieces, _ = scipy.ndimage.label(ridge & (size >= 0.4 * high), np.ones((3, 3)))
    strong = np.unique(pieces[ridge & (size >= high)])
    return np.isin(pieces, strong[strong > 0])


@pytest.mark.parametrize("seed", range(3))
def test_edges_are_cannys(seed, monkeypatch):
    """Equal to a loop with connected components, but for pixels where rounding decides."""
    monkeypatch.setattr(pseudo, "_GROWTH", SIDE * SIDE)
    grey = jnp.asarray(photo(seed), jnp.float32)[None]
    found = np.asarray(pseudo.canny(grey, 1.2, radius=4, strict=1.0)[0])
    wanted = canny_by_loop(photo(seed), 1.2, 4, 1.0)
    assert wanted.sum() > 40
    assert (found != wanted).mean() < 0.01


def test_xdog_draws_the_dark_side_of_an_edge():
    """A step from dark to light has one line along it, on its dark side, and nothing elsewhere."""
    step = np.full((SIDE, SIDE), 0.2)
    step[:, SIDE // 2 :] = 0.8
    lines = pseudo.xdog(jnp.asarray(step, jnp.float32)[None], 1.0, radius=5)[0]
    inked = np.flatnonzero(np.asarray(lines)[SIDE // 2] < 0.5)
    assert len(inked) and (inked < SIDE // 2).all() and (inked > SIDE // 2 - 5).all()


def test_an_empty_photo_is_a_white_sheet():
    """Whatever its colour and the hand: no edges, no ink."""
    colours = np.array([[0, 0, 0], [255, 255, 255], [10, 200, 90], [128, 128, 128]] * 3)
    photos = np.broadcast_to(colours[:, None, None], (12, SIDE, SIDE, 3)).astype(np.uint8)
    np.testing.assert_array_equal(draw(jax.random.key(0), photos), 255.0)


@pytest.mark.parametrize("axis", [1, 2])
def test_the_border_of_padding_is_no_line(axis):
    """An empty photo between white bars is a white sheet too, and what is drawn stays between."""
    colours = np.array([[0, 0, 0], [10, 200, 90], [128, 128, 128]] * 4)
    photos = np.broadcast_to(colours[:, None, None], (12, SIDE, SIDE, 3)).astype(np.uint8)
    turned = np.moveaxis(photos, axis, 1)
    turned[:, :7] = turned[:, -8:] = 255
    np.testing.assert_array_equal(draw(jax.random.key(0), photos), 255.0)
    full = np.repeat(np.repeat(photo()[None, ..., None], 3, -1), 12, 0) * 255
    photos = np.where(photos == 255, 255, full).astype(np.uint8)
    drawn = np.moveaxis(np.asarray(draw(jax.random.key(0), photos)), axis, 1)
    assert (drawn.min(axis=(1, 2, 3)) < 200).sum() >= 10  # a strict hand finds too little
    assert (drawn[:, :4] == 255).all() and (drawn[:, -4:] == 255).all()


def test_an_object_on_white_keeps_its_outline():
    """White around an object is no padding: all four sides of a dark square are drawn."""
    photos = np.full((12, SIDE, SIDE, 3), 255, np.uint8)
    photos[:, 12:28, 12:28] = 40
    drawn = np.asarray(draw(jax.random.key(0), photos))[..., 0].mean(axis=0)
    for side in (drawn, drawn[::-1], drawn.T, drawn.T[::-1]):
        assert side[8:16, 14:26].min(axis=0).mean() < 180


def test_drawings_are_lines_on_white_decided_by_the_key():
    """Ink is there and is the smaller part; equal keys draw alike and other keys otherwise."""
    photos = np.stack([np.repeat(photo(i)[..., None], 3, -1) * 255 for i in range(8)])
    photos = photos.astype(np.uint8)
    first, again, other = (np.asarray(draw(jax.random.key(k), photos)) for k in (1, 1, 2))
    assert first.shape == (8, SIDE, SIDE, 1) and first.dtype == np.float32
    assert first.min() >= 0 and first.max() <= 255
    share = (first < 128).mean(axis=(1, 2, 3))
    assert (share > 0.005).all() and (share < 0.5).all()
    np.testing.assert_array_equal(first, again)
    assert (np.abs(first - other).mean(axis=(1, 2, 3)) > 1).all()


def test_a_drawn_row_is_of_its_photo():
    """Replaced rows have their photo's label and instance; the others keep sketch and ids."""
    batch = 64
    rng = np.random.default_rng(0)
    sketch = np.full((batch, 16, 16, 1), 7, np.uint8)
    photos = rng.integers(0, 256, (batch, 16, 16, 3)).astype(np.uint8)
    mine = Ids(np.arange(batch), np.full(batch, -1))
    theirs = Ids(np.arange(batch) + 100, np.arange(batch) + 200)
    replace = jax.jit(pseudo.replace_some, static_argnames="share")
    made, ids = replace(jax.random.key(0), sketch, photos, mine, theirs, share=0.5)
    kept = np.asarray(made == 7).all(axis=(1, 2, 3))
    assert 16 < kept.sum() < 48
    np.testing.assert_array_equal(ids.label, np.where(kept, mine.label, theirs.label))
    np.testing.assert_array_equal(ids.instance, np.where(kept, -1, theirs.instance))
    assert made.dtype == np.uint8


def test_photo_queries_are_not_drawn():
    """A dataset whose queries are photos is refused by the setting's name."""
    colour = np.zeros((2, 8, 8, 3), np.uint8)
    ids = Ids(np.zeros(2), np.zeros(2))
    with pytest.raises(ConfigError, match=r"config\.augment\.pseudo=1\.0: the queries of this"):
        pseudo.replace_some(jax.random.key(0), colour, colour, ids, ids, share=1.0)


def strokes(seed: int = 0, batch: int = 3) -> np.ndarray:
    """Random ink on paper, float32 [batch, 20, 24, 1] in -1..1."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random((batch, 20, 24, 1)) < 0.1, -1.0, 1.0).astype(np.float32)


def test_strokes_grow_and_shrink_as_scipy_says():
    """Erosion and dilation of the grey image by a 3 x 3 square."""
    images = strokes()
    size = (1, 3, 3, 1)
    for found, wanted in (
        (ink.darkest(images), scipy.ndimage.grey_erosion(images, size, mode="nearest")),
        (ink.lightest(images), scipy.ndimage.grey_dilation(images, size, mode="nearest")),
    ):
        np.testing.assert_array_equal(found, wanted)


def test_thickness_lies_between_the_extremes():
    """Every image lies between its thinnest and its thickest form, and differs from itself."""
    images = strokes(batch=8)
    changed = np.asarray(ink.change_thickness(jax.random.key(0), images, 1.0))
    assert (changed >= np.asarray(ink.darkest(images))).all()
    assert (changed <= np.asarray(ink.lightest(images))).all()
    mean = changed.mean(axis=(1, 2, 3)) - images.mean(axis=(1, 2, 3))
    assert (mean > 0).any() and (mean < 0).any()


@pytest.mark.parametrize("change", [ink.drop_strokes, ink.draw_partly])
def test_left_out_ink_becomes_paper_and_nothing_else_changes(change):
    """Pixels are as they were, or white; some ink goes, and not all of it."""
    images = strokes(batch=16)
    changed = np.asarray(change(jax.random.key(3), images, 0.9))
    assert ((changed == images) | (changed == 1.0)).all()
    left = (changed < 0).sum() / (images < 0).sum()
    assert 0.2 < left < 0.95
    np.testing.assert_array_equal(change(jax.random.key(3), images, 0.0), images)


def test_a_part_drawn_ends_at_a_straight_line():
    """Of a black sheet the hidden and the shown pixels are told apart by one line (a linear
    program finds it), and at least about half is shown."""
    images = np.full((6, 24, 24, 1), -1.0, np.float32)
    for image in np.asarray(ink.draw_partly(jax.random.key(0), images, 1.0))[..., 0]:
        assert (image < 0).mean() > 0.45
        points = np.indices(image.shape).reshape(2, -1).T - 11.5
        sides = np.where(image.ravel() > 0, 1.0, -1.0)[:, None]
        rows = -sides * np.hstack([points, np.ones((len(points), 1))])
        free = [(None, None)] * 3
        assert scipy.optimize.linprog(np.zeros(3), rows, -np.ones(len(rows)), bounds=free).success
