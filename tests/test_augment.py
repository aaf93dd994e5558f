"""Random views of a batch: exact where nothing is random, keyed, and true to SciPy's sampling."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from PIL import Image

from sbir_jax.data import augment
from sbir_jax.data_config import AugmentConfig

GREY_LEVEL = 1 / 127.5  # views are exact to a fraction of it

STILL = {
    "flip": "none",
    "min_scale": 1.0,
    "rotate": 0.0,
    "stretch": 0.0,
    "color": 0.0,
    "gray": 0.0,
    "erase": 0.0,
}
WILD = {"min_scale": 0.3, "rotate": 90.0, "stretch": 0.5, "color": 0.9, "gray": 0.3, "erase": 0.5}


def draw(batch: int = 4, side: int = 12) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    shape = (batch, side, side)
    return (
        rng.integers(0, 256, (*shape, 1)).astype(np.uint8),
        rng.integers(0, 256, (*shape, 3)).astype(np.uint8),
    )


augment_pair = jax.jit(augment.augment_pair, static_argnames=("size", "config"))


def augmented(key: int, sketch, photo, *, size: int, **changes) -> tuple[np.ndarray, np.ndarray]:
    config = AugmentConfig(**STILL | changes)
    views = augment_pair(jax.random.key(key), sketch, photo, size=size, config=config)
    return tuple(np.asarray(view) for view in views)


def scaled(images: np.ndarray) -> np.ndarray:
    return images.astype(np.float64) / 127.5 - 1


def test_nothing_random_leaves_the_images_as_they_are():
    """With every change switched off and equal sizes, the views are the images, from -1 to 1."""
    sketch, photo = draw()
    for view, images in zip(augmented(0, sketch, photo, size=12), (sketch, photo), strict=True):
        assert view.dtype == np.float32
        np.testing.assert_allclose(view, scaled(images), atol=GREY_LEVEL / 2)


@pytest.mark.parametrize("size", [7, 12, 20])
def test_a_warp_samples_like_scipy(size):
    """Any affine map gives SciPy's bilinear sampling, to half a grey level, with paper outside."""
    _, photo = draw(batch=1)
    affine = np.array([[0.7, -0.4, 0.3], [0.5, 0.6, -0.2]], np.float32)
    view = augment.warp(jnp.asarray(photo[0]), jnp.asarray(affine), size)
    expected = np.empty((size, size, 3))
    points = np.empty((2, size, size))
    for row in range(size):
        for column in range(size):
            x, y = (2 * column + 1) / size - 1, (2 * row + 1) / size - 1
            u, v = affine @ [x, y, 1.0]
            points[:, row, column] = (v + 1) / 2 * 12 - 0.5, (u + 1) / 2 * 12 - 0.5
    for channel in range(3):
        plane = photo[0, ..., channel].astype(np.float64)
        expected[..., channel] = scipy.ndimage.map_coordinates(
            plane, points, order=1, mode="grid-constant", cval=255.0
        )
    np.testing.assert_allclose(view, expected, atol=0.5)


def test_a_crop_looks_at_its_share_of_the_image_and_stays_inside():
    """Without rotation and stretch, the corners of every map lie in the image, `scale` apart."""
    config = AugmentConfig(**STILL | {"min_scale": 0.4})
    maps = np.asarray(augment.random_affine(jax.random.key(1), 500, jnp.zeros(500, bool), config))
    sides = maps[:, 0, 0]
    assert 0.4 <= sides.min() < 0.45
    assert 0.95 < sides.max() <= 1.0
    np.testing.assert_allclose(maps[:, 1, 1], sides, rtol=1e-6)
    corners = np.abs(maps[:, :, 2]) + sides[:, None]
    assert corners.max() <= 1 + 1e-6
    assert corners.max() > 0.99  # up to the very border


def test_rotation_and_stretch_stay_within_their_limits():
    """The linear part is a rotation of at most 30 degrees times an aspect ratio of at most 1.2."""
    config = AugmentConfig(**STILL | {"rotate": 30.0, "stretch": 0.2})
    maps = np.asarray(augment.random_affine(jax.random.key(1), 500, jnp.zeros(500, bool), config))
    angles = np.degrees(np.arctan2(maps[:, 1, 0], maps[:, 0, 0]))
    width, height = (np.linalg.norm(maps[:, :, axis], axis=1) for axis in (0, 1))
    assert 28 < np.abs(angles).max() <= 30 + 1e-4
    assert 0.8 - 1e-5 <= (width / height).min() < 0.82
    assert 1.18 < (width / height).max() <= 1.2 + 1e-5
    np.testing.assert_allclose(np.linalg.det(maps[:, :, :2]), 1.0, rtol=1e-5)  # area is kept


@pytest.mark.parametrize("flip", ["none", "independent", "paired"])
def test_flips_mirror_both_sides_of_a_pair_only_when_told(flip):
    """Every view is the image or its mirror image; `paired` mirrors both of a pair or neither."""
    sketch, photo = draw(batch=64)
    flipped = []
    for view, images in zip(
        augmented(3, sketch, photo, size=12, flip=flip), (sketch, photo), strict=True
    ):
        same = np.isclose(view, scaled(images), atol=GREY_LEVEL / 2).all(axis=(1, 2, 3))
        mirrored = np.isclose(view, scaled(images)[:, :, ::-1], atol=GREY_LEVEL / 2).all(
            axis=(1, 2, 3)
        )
        assert (same ^ mirrored).all()
        flipped.append(mirrored)
    sketches, photos = flipped
    assert sketches.any() == photos.any() == (flip != "none")
    if flip != "none":
        assert not sketches.all()
        assert (sketches == photos).all() == (flip == "paired")


def test_views_are_a_function_of_the_key():
    """The same key gives the same views bit for bit, another key other views of every image."""
    views = [augmented(key, *draw(), size=10, **WILD, flip="independent") for key in (5, 5, 6)]
    for first, again, other in zip(*views, strict=True):
        assert first.shape[1:3] == (10, 10)
        np.testing.assert_array_equal(first, again)
        assert (np.abs(first - other).max(axis=(1, 2, 3)) > 0.01).all()


def test_images_of_one_batch_get_views_of_their_own():
    """Equal images of a batch do not come out equal."""
    sketch, photo = draw(batch=1)
    for view in augmented(
        0, np.repeat(sketch, 4, 0), np.repeat(photo, 4, 0), size=12, **WILD, flip="independent"
    ):
        assert len({image.tobytes() for image in view}) == 4


def test_values_stay_in_range():
    """The wildest settings give finite values from -1 to 1."""
    for view in augmented(2, *draw(batch=32), size=10, **WILD, flip="independent"):
        assert np.isfinite(view).all()
        assert np.abs(view).max() <= 1 + 1e-6  # the weights of a sample may add up to 1 + 2**-23


def test_a_grey_photo_has_the_luma_in_every_channel():
    """gray=1 replaces the channels by 0.299 R + 0.587 G + 0.114 B."""
    sketch, photo = draw()
    _, view = augmented(0, sketch, photo, size=12, gray=1.0)
    luma = scaled(photo) @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(view, np.repeat(luma[..., None], 3, axis=-1), atol=GREY_LEVEL / 2)


def test_the_share_of_grey_photos_is_the_setting():
    """gray=0.25 turns about a quarter of many photos grey and leaves the others alone."""
    sketch, photo = draw(batch=400, side=4)
    _, view = augmented(0, sketch, photo, size=4, gray=0.25)
    is_grey = np.ptp(view, axis=-1).max(axis=(1, 2)) < 1e-5
    assert 0.18 < is_grey.mean() < 0.32
    np.testing.assert_allclose(view[~is_grey], scaled(photo)[~is_grey], atol=GREY_LEVEL / 2)


def test_colour_changes_photos_and_never_sketches():
    """color=0.5 alters every photo, its channels' means apart, and no sketch."""
    sketch, photo = draw()
    views = augmented(0, sketch, photo, size=12, color=0.5)
    np.testing.assert_allclose(views[0], scaled(sketch), atol=GREY_LEVEL / 2)
    assert (np.abs(views[1] - scaled(photo)).max(axis=(1, 2, 3)) > 0.05).all()


def test_erasing_whitens_one_rectangle_of_a_share_of_the_images():
    """erase=0.5 puts one white rectangle of 0.1 to 0.5 of the side into about half the images."""
    black = np.zeros((300, 20, 20, 1), np.uint8), np.zeros((300, 20, 20, 3), np.uint8)
    for view in augmented(0, *black, size=20, erase=0.5):
        white = view == 1.0
        assert (view[~white] < -1 + GREY_LEVEL).all()
        assert (white == white[..., :1]).all()
        erased = white.any(axis=(1, 2, 3))
        assert 0.4 < erased.mean() < 0.6
        for hole in white[erased, ..., 0]:
            rows, columns = np.flatnonzero(hole.any(axis=1)), np.flatnonzero(hole.any(axis=0))
            for span in (rows, columns):
                assert span[-1] - span[0] + 1 == len(span)  # without a gap
                assert 1 <= len(span) <= 10
            assert hole.sum() == len(rows) * len(columns)


def test_what_lies_outside_a_sketch_is_white_paper():
    """A blank sketch stays blank under any rotation, stretch and crop."""
    blank = np.full((8, 12, 12, 1), 255, np.uint8)
    sketch, _ = augmented(0, blank, draw(batch=8)[1], size=12, rotate=180.0, stretch=0.9)
    np.testing.assert_allclose(sketch, 1.0, atol=GREY_LEVEL / 2)


def test_evaluation_sees_a_plain_resize():
    """`resize` to the same size only rescales; to a smaller one it averages like Pillow's."""
    _, photo = draw(batch=2, side=24)
    np.testing.assert_allclose(augment.resize(photo, 24), scaled(photo), atol=1e-6)
    for view, image in zip(augment.resize(photo, 15), photo, strict=True):
        expected = Image.fromarray(image).resize((15, 15), Image.Resampling.BILINEAR)
        np.testing.assert_allclose(view, scaled(np.asarray(expected)), atol=1.01 / 127.5)


def test_paired_crops_look_at_one_place():
    """Sketch and photo that are the same image stay so under `crop="paired"`, and not otherwise."""
    _, photo = draw()
    changes = WILD | {"flip": "paired", "color": 0.0, "gray": 0.0, "erase": 0.0}
    first, second = augmented(5, photo, photo, size=12, crop="paired", **changes)
    np.testing.assert_array_equal(first, second)
    first, second = augmented(5, photo, photo, size=12, **changes)
    assert np.abs(first - second).mean() > 0.1


def test_a_blur_is_a_gaussian_of_some_photos():
    """Each photo is as it was, or as SciPy blurs it with some width up to 1.5 % of the side."""
    rng = np.random.default_rng(0)
    images = rng.uniform(-1, 1, (12, 100, 100, 3)).astype(np.float32)
    blurred = np.asarray(augment.blur(jax.random.key(0), images, 0.5))
    spread = [view.std() / image.std() for view, image in zip(blurred, images, strict=True)]
    assert 2 <= sum(s < 0.9 for s in spread) <= 10
    for view, image, s in zip(blurred, images, spread, strict=True):
        if s > 0.999:
            np.testing.assert_allclose(view, image, atol=1e-6)
            continue
        sigmas = np.linspace(0.15, 1.5, 271)
        by_sigma = [
            scipy.ndimage.gaussian_filter(image[..., 0], w, radius=5, mode="nearest")
            for w in sigmas
        ]
        nearest = min(np.abs(wanted - view[..., 0]).max() for wanted in by_sigma)
        assert nearest < 0.01


@pytest.mark.parametrize("name", ["thickness", "stroke_dropout", "partial"])
def test_strokes_change_on_sketches_alone(name):
    """The drawing changes and the photo is untouched."""
    sketch, photo = draw(batch=16)
    sketch = np.where(sketch < 40, 0, 255).astype(np.uint8)
    changed, same = augmented(2, sketch, photo, size=12, **{name: 0.9})
    assert np.abs(changed - scaled(sketch)).max() > 0.1
    np.testing.assert_allclose(same, scaled(photo), atol=GREY_LEVEL / 2)


def test_what_is_switched_off_is_not_traced(monkeypatch):
    """With the default settings nothing of blur, erasing and strokes is called or drawn a key for:
    the program is that of a module without them."""
    config, images = AugmentConfig(), draw()

    def traced():
        view = lambda key: augment.augment_pair(key, *images, size=12, config=config)  # noqa: E731
        return str(jax.make_jaxpr(view)(jax.random.key(0)))

    before = traced()
    for name in ("change_thickness", "drop_strokes", "draw_partly"):
        monkeypatch.setattr(augment.ink, name, None)
    for name in ("blur", "erase", "_leave_out"):
        monkeypatch.setattr(augment, name, None)
    assert traced() == before
    # Three splits of keys for crop, crop and colour, one of the key itself, and no other.
    assert before.count("random_split") == 4 and before.count("random_fold_in") == 0
