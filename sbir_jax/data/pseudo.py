"""Pseudo-sketches: line drawings made from photos, for those who have photos alone.

Three ways to find lines, each with its own look: XDoG (Winnemoeller, Kyprianidis, Olsen, XDoG: an
eXtended difference-of-Gaussians compendium, Computers & Graphics 2012), Canny's edges (PAMI 1986)
and the Sobel gradient. Lines are then bent, thickened and partly left out at random, since people
draw neither where the edge is nor all of it. Everything is `jnp`, so that it runs inside the
training step (`config.augment.pseudo`); `data_prep photos` writes the same drawings to disk.

Inside, images are float32 [B, H, W] in 0..1, where 1 is white.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from sbir_jax.data import ink
from sbir_jax.data.filters import correlate, gaussian
from sbir_jax.mining import Ids
from sbir_jax.setting import ConfigError

METHODS = ("xdog", "canny", "sobel")
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
_SIGMA = (0.006, 0.013)  # of the blur that decides what is detail, as a share of the side
_WIDER = 1.6  # the second Gaussian of XDoG, which makes the difference one of Laplacians
_GROWTH = 16  # pixels that Canny's hysteresis follows a weak line from a strong one
_BEND = 0.02  # largest displacement of a line, as a share of the side
_SPECK = 0.25  # ink below this share of what a neighbourhood can hold is dropped as a speck


def pseudo_sketch(key: jax.Array, photos: jax.Array) -> jax.Array:
    """Draws photos, each with a method and a hand of its own.

    Args:
      key: decides methods, detail, bends, thickness and what is left out; row i depends on the key
        and i alone.
      photos: uint8 or float [B, H, W, 3] in 0..255.

    Returns:
      float32 [B, H, W, 1] in 0..255: dark lines on white.
    """
    return jax.vmap(_drawn)(jax.random.split(key, len(photos)), photos)


def replace_some(
    key: jax.Array,
    sketch: jax.Array,
    photo: jax.Array,
    sketch_ids: Ids,
    photo_ids: Ids,
    *,
    share: float,
) -> tuple[jax.Array, Ids]:
    """Some sketches of a batch become drawings of the photos in their rows.

    Args:
      sketch, photo: uint8 [B, H, W, 1] and [B, H, W, 3].
      share: of rows that are replaced, in expectation.

    Returns:
      The sketches, and their ids: a drawn row has label and instance of its photo.

    Raises:
      ConfigError: queries are photos themselves.
    """
    if sketch.shape[-1] != 1:
        raise ConfigError(
            f"config.augment.pseudo={share}: the queries of this dataset are photos, which no "
            "drawing replaces; valid: 0.0"
        )
    choose_key, draw_key = jax.random.split(key)
    chosen = jax.random.bernoulli(choose_key, share, (len(sketch),))
    drawn = jnp.round(pseudo_sketch(draw_key, photo)).astype(sketch.dtype)
    ids = jax.tree.map(lambda p, s: jnp.where(chosen, p, s), photo_ids, sketch_ids)
    return jnp.where(chosen[:, None, None, None], drawn, sketch), ids


def _drawn(key: jax.Array, photo: jax.Array) -> jax.Array:
    """One photo [H, W, 3] as a drawing [H, W, 1]."""
    keys = jax.random.split(key, 7)
    photo, content = _without_bars(photo)
    uniform = lambda key, low, high: jax.random.uniform(key, (), minval=low, maxval=high)  # noqa: E731
    grey = (photo.astype(jnp.float32) @ jnp.array(_LUMA) / 255)[None]
    side = max(grey.shape[1:])
    sigma = side * uniform(keys[0], *_SIGMA)
    radius = math.ceil(3 * side * _SIGMA[1])
    strict = uniform(keys[1], 0.6, 1.6)
    lines = jnp.stack(
        [
            xdog(grey, sigma, radius=math.ceil(radius * _WIDER), threshold=0.62 - 0.1 * strict)[0],
            1.0 - canny(grey, sigma, radius=radius, strict=strict)[0].astype(jnp.float32),
            sobel_lines(grey, sigma, radius=radius, strict=strict)[0],
        ]
    )
    paper = lines[jax.random.randint(keys[2], (), 0, len(METHODS))][None]
    paper = jnp.where(content, paper, 1.0)
    paper = without_specks(bent(keys[3], paper, most=side * uniform(keys[4], 0.0, _BEND)))
    drawn = 2 * paper[..., None] - 1
    # A pixel is a thick line in a small picture; real sketches are about 1.5 % of the side.
    drawn = ink.change_thickness(keys[5], drawn, min(1.0, side / 256))
    drawn = ink.drop_strokes(keys[6], drawn, 0.3)
    return 127.5 * (drawn[0] + 1)


def _without_bars(photo: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A photo [H, W, 3] with the white bars of `fit="pad"` filled up, and what is no bar, [H, W].

    The edge of a bar is no line, and stronger than most lines of the photo. Two equal bars on
    opposite sides and none on the others are padding; an object on white has white all around it.
    """
    white = (photo == 255).all(axis=-1)
    before, after = [], []
    for axis in (0, 1):
        filled = ~white.all(axis=1 - axis)
        before.append(jnp.argmax(filled))
        after.append(jnp.argmax(filled[::-1]))
    inside = []
    for axis, other in ((0, 1), (1, 0)):
        equal = jnp.abs(before[axis] - after[axis]) <= 1
        bars = equal & (before[other] == 0) & (after[other] == 0)
        low, high = (jnp.where(bars, bar[axis], 0) for bar in (before, after))
        last = photo.shape[axis] - 1 - high
        places = jnp.arange(photo.shape[axis])
        photo = jnp.take(photo, jnp.clip(places, low, last), axis=axis)
        inside.append((places >= low) & (places <= last))
    return photo, inside[0][:, None] & inside[1][None, :]


def gradient(images: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Sobel's derivatives by row and by column: grey levels a pixel, [B, H, W] each."""
    smooth, slope = jnp.array([0.25, 0.5, 0.25]), jnp.array([-0.5, 0.0, 0.5])
    down = correlate(correlate(images, slope, 1), smooth, 2)
    across = correlate(correlate(images, slope, 2), smooth, 1)
    return down, across


def xdog(
    grey: jax.Array,
    sigma: jax.Array | float,
    *,
    radius: int,
    threshold: jax.Array | float = 0.5,
    sharpness: float = 12.0,
    steepness: float = 10.0,
) -> jax.Array:
    """XDoG lines of [B, H, W] in 0..1: (1 + p) (G(s) - G(1.6 s)) + 0.75, thresholded softly.

    1 where that is at least `threshold`, else 1 + tanh(steepness (it - threshold)), not below 0;
    p is `sharpness`. The paper's (1 + p) G(s) - p G(1.6 s) has the neighbourhood's grey subtracted,
    and a light one put in its place: dark areas are no ink, only their borders are.
    """
    fine = gaussian(grey, sigma, radius=radius)
    wide = gaussian(grey, _WIDER * sigma, radius=radius)
    sharp = (1 + sharpness) * (fine - wide) + 0.75
    soft = 1 + jnp.tanh(steepness * (sharp - threshold))
    return jnp.where(sharp >= threshold, 1.0, jnp.maximum(soft, 0.0))


def sobel_lines(
    grey: jax.Array, sigma: jax.Array | float, *, radius: int, strict: jax.Array | float = 1.0
) -> jax.Array:
    """Pencil lines of [B, H, W]: darker where the gradient is larger than usual in its image."""
    down, across = gradient(gaussian(grey, sigma, radius=radius))
    size = jnp.hypot(down, across)
    return 1 - jnp.clip(1.5 * (size / _usual(size, strict) - 0.9), 0.0, 1.0)


def canny(
    grey: jax.Array, sigma: jax.Array | float, *, radius: int, strict: jax.Array | float = 1.0
) -> jax.Array:
    """Canny's edges of [B, H, W], bool: ridges of the gradient, strong or joined to strong ones.

    The high threshold is the image's mean gradient and `strict` standard deviations, the low one
    two fifths of it. Hysteresis follows a weak ridge for `_GROWTH` pixels.
    """
    down, across = gradient(gaussian(grey, sigma, radius=radius))
    size = jnp.hypot(down, across)
    ridge = _ridges(size, down, across)
    high = _usual(size, strict)
    return _joined(ridge & (size >= high), ridge & (size >= 0.4 * high))


def without_specks(paper: jax.Array, *, reach: int = 3) -> jax.Array:
    """Drops ink that has little other ink within `reach` pixels each way: no stroke, a speck."""
    weights = jnp.ones(2 * reach + 1)
    amount = correlate(correlate(1 - paper, weights, 1), weights, 2)
    return jnp.where(amount < _SPECK * (2 * reach + 1) * 3, 1.0, paper)


def bent(key: jax.Array, paper: jax.Array, *, most: jax.Array | float) -> jax.Array:
    """Lines displaced smoothly, by up to `most` pixels along each axis: an unsteady hand."""
    batch, height, width = paper.shape
    coarse = jax.random.uniform(key, (batch, 2, 5, 5), minval=-1.0)
    shift = most * jax.image.resize(coarse, (batch, 2, height, width), "linear")
    y, x = jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij")

    def one(image: jax.Array, shift: jax.Array) -> jax.Array:
        where = [y + shift[0], x + shift[1]]
        return jax.scipy.ndimage.map_coordinates(image, where, order=1, mode="nearest")

    return jax.vmap(one)(paper, shift)


def _usual(size: jax.Array, strict: jax.Array | float) -> jax.Array:
    """Mean and `strict` standard deviations of each image; above 0 for an empty one too."""
    mean, sd = (f(size, axis=(1, 2), keepdims=True) for f in (jnp.mean, jnp.std))
    return jnp.maximum(mean + strict * sd, 1e-2)


def _ridges(size: jax.Array, down: jax.Array, across: jax.Array) -> jax.Array:
    """Pixels whose gradient is not below that of the two neighbours along its direction."""
    steep, flat = jnp.abs(down), jnp.abs(across)
    low, high = math.tan(math.pi / 8), math.tan(3 * math.pi / 8)
    same = down * across > 0
    pairs = [
        (steep < low * flat, (0, 1)),
        (steep > high * flat, (1, 0)),
        ((steep >= low * flat) & (steep <= high * flat) & same, (1, 1)),
        ((steep >= low * flat) & (steep <= high * flat) & ~same, (1, -1)),
    ]
    found = jnp.zeros(size.shape, bool)
    for where, (dy, dx) in pairs:
        found |= where & (size >= _moved(size, dy, dx)) & (size > _moved(size, -dy, -dx))
    return found


def _joined(strong: jax.Array, weak: jax.Array) -> jax.Array:
    def grow(_: int, found: jax.Array) -> jax.Array:
        near = ink.lightest(found[..., None].astype(jnp.float32))[..., 0] > 0
        return near & (weak | found)

    return jax.lax.fori_loop(0, _GROWTH, grow, strong)


def _moved(images: jax.Array, dy: int, dx: int) -> jax.Array:
    """The neighbour dy rows below and dx columns to the right of each pixel; 0 outside."""
    padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1)))
    height, width = images.shape[1:]
    return padded[:, 1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]
