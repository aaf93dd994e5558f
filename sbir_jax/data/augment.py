"""uint8 images to what the encoders see: random changes for training, a plain resize otherwise.

Everything is `jnp` inside the jitted step, drawn from one key, so a step's images depend on
(seed, step) alone. Each image gets one affine map (crop, rotation, stretch, flip) sampled once,
bilinearly; photos change colour, and strokes of sketches change as `ink` says. What is switched off
is not in the program at all.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from sbir_jax.data import ink
from sbir_jax.data.filters import gaussian
from sbir_jax.data_config import AugmentConfig
from sbir_jax.materialise import materialised

_PAPER = 255  # what lies outside an image: white
_MOST_BLUR = 0.015  # largest sigma, as a share of the side
# Views are sampled this many pixels off the grid. XLA may compute a coordinate twice and round it
# differently; where it is an integer, as in plain mirror images, its floor and its fraction then
# disagree and the pixel moves by one (seen with jax 0.10.2 on CPUs).
_OFF_GRID = 2**-10


def to_float(images: jax.Array) -> jax.Array:
    """uint8 or float [..., C] in 0..255 to float32 in -1..1."""
    return images.astype(jnp.float32) / 127.5 - 1.0


def resize(images: jax.Array, size: int) -> jax.Array:
    """uint8 [B, S, S, C] to float32 [B, size, size, C] in -1..1: what evaluation sees."""
    shape = (images.shape[0], size, size, images.shape[-1])
    images = images.astype(jnp.float32)
    if images.shape != shape:
        images = jax.image.resize(images, shape, "linear", antialias=True)
    return to_float(images)


def augment_pair(
    key: jax.Array, sketch: jax.Array, photo: jax.Array, *, size: int, config: AugmentConfig
) -> tuple[jax.Array, jax.Array]:
    """Random views, float32 [B, size, size, C], of uint8 sketches and photos [B, S, S, 1 or 3].

    Row i of both is one pair: `flip="paired"` mirrors it on both sides or on neither. Queries with
    three channels are photos, and change as photos do.
    """
    batch = len(sketch)
    flip_key, sketch_key, photo_key, color_key, erase_key = jax.random.split(key, 5)
    flips = jax.random.bernoulli(flip_key, 0.5, (2, batch))
    if config.flip == "none":
        flips = jnp.zeros_like(flips)
    elif config.flip == "paired":
        flips = jnp.stack([flips[0], flips[0]])
    if config.thickness and sketch.shape[-1] == 1:
        # Before the views are sampled: XLA fuses what follows into the sampling, and would sample
        # each pixel's neighbours anew for it (14 ms more for 64 sketches of 64 pixels on CPUs).
        thickness_key = jax.random.fold_in(sketch_key, 2)
        sketch = ink.change_thickness(thickness_key, sketch.astype(jnp.float32), config.thickness)
    views = []
    if config.crop == "paired":
        sketch_key = photo_key
    for side_key, images, flip in ((sketch_key, sketch, flips[0]), (photo_key, photo, flips[1])):
        maps = random_affine(side_key, batch, flip, config)
        view = jax.vmap(lambda image, m: warp(image, m, size))(images, maps)
        views.append(to_float(materialised(view, "cpu")))
    sketch, photo = views
    photo = _change_photo(color_key, photo, config)
    if sketch.shape[-1] == 3:
        sketch = _change_photo(jax.random.fold_in(color_key, 1), sketch, config)
    elif config.stroke_dropout or config.partial:
        sketch = _leave_out(jax.random.fold_in(sketch_key, 1), sketch, config)
    if config.erase:
        first, second = jax.random.split(erase_key)
        sketch, photo = erase(first, sketch, config.erase), erase(second, photo, config.erase)
    return sketch, photo


def _change_photo(key: jax.Array, photo: jax.Array, config: AugmentConfig) -> jax.Array:
    photo = jitter_color(key, photo, config)
    return blur(jax.random.fold_in(key, 2), photo, config.blur) if config.blur else photo


def _leave_out(key: jax.Array, sketch: jax.Array, config: AugmentConfig) -> jax.Array:
    keys = jax.random.split(key)
    if config.stroke_dropout:
        sketch = ink.drop_strokes(keys[0], sketch, config.stroke_dropout)
    if config.partial:
        sketch = ink.draw_partly(keys[1], sketch, config.partial)
    return sketch


def random_affine(key: jax.Array, batch: int, flip: jax.Array, config: AugmentConfig) -> jax.Array:
    """Maps from output to input coordinates, both -1..1 over the image: float32 [B, 2, 3].

    A crop of relative side s looks at s of the image, anywhere inside it; the aspect ratio
    changes by up to `stretch`; rotation is about the crop's centre.
    """
    keys = jax.random.split(key, 4)
    scale = jax.random.uniform(keys[0], (batch,), minval=config.min_scale, maxval=1.0)
    stretch = 1 + config.stretch * jax.random.uniform(keys[1], (batch,), minval=-1.0)
    angle = jnp.deg2rad(config.rotate) * jax.random.uniform(keys[2], (batch,), minval=-1.0)
    offset = (1 - scale)[:, None] * jax.random.uniform(keys[3], (batch, 2), minval=-1.0)
    root = jnp.sqrt(stretch)
    width, height = scale * root * jnp.where(flip, -1.0, 1.0), scale / root
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    rows = [[cos * width, -sin * height, offset[:, 0]], [sin * width, cos * height, offset[:, 1]]]
    return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=1)


def warp(image: jax.Array, affine: jax.Array, size: int) -> jax.Array:
    """One image [S, S, C] seen through an affine map [2, 3]: float32 [size, size, C] in 0..255."""
    side = image.shape[0]
    centres = (jnp.arange(size) + 0.5) / size * 2 - 1
    y, x = jnp.meshgrid(centres, centres, indexing="ij")
    u, v = (
        ((row[0] * x + row[1] * y + row[2]) + 1) / 2 * side - 0.5 + _OFF_GRID
        for row in (affine[0], affine[1])
    )
    # Of paper is all from a pixel outside on, so one row of it around the image is enough. Whole
    # pixels are read, three times as fast on CPUs as a colour at a time.
    u, v = jnp.clip(u, -1, side), jnp.clip(v, -1, side)
    left, top = (jnp.minimum(jnp.floor(at), side - 1) for at in (u, v))
    right_share, lower_share = (u - left)[..., None], (v - top)[..., None]
    framed = jnp.pad(image, ((1, 1), (1, 1), (0, 0)), constant_values=_PAPER)
    row, column = top.astype(jnp.int32) + 1, left.astype(jnp.int32) + 1

    def along(row: jax.Array) -> jax.Array:
        first, second = (
            framed.at[row, at].get(mode="promise_in_bounds").astype(jnp.float32)
            for at in (column, column + 1)
        )
        return first * (1 - right_share) + second * right_share

    return along(row) * (1 - lower_share) + along(row + 1) * lower_share


def jitter_color(key: jax.Array, photo: jax.Array, config: AugmentConfig) -> jax.Array:
    """Random brightness, contrast and saturation, and some photos grey: [B, H, W, 3] in -1..1."""
    keys = jax.random.split(key, 4)
    shape = (len(photo), 1, 1, 1)
    brightness, contrast, saturation = (
        config.color * jax.random.uniform(k, shape, minval=-1.0) for k in keys[:3]
    )
    luma = jnp.array([0.299, 0.587, 0.114])  # ITU-R BT.601
    grey = (photo * luma).sum(-1, keepdims=True)  # a product is slow on GPUs
    keep = jnp.where(jax.random.bernoulli(keys[3], config.gray, shape), 0.0, 1 + saturation)
    photo = grey + (photo - grey) * keep
    mean = photo.mean(axis=(1, 2, 3), keepdims=True)
    return jnp.clip(mean + (photo - mean) * (1 + contrast) + brightness, -1.0, 1.0)


def blur(key: jax.Array, images: jax.Array, share: float) -> jax.Array:
    """Some images [B, H, W, C] out of focus: a Gaussian of up to 1.5 % of the side."""
    chosen_key, sigma_key = jax.random.split(key)
    side = max(images.shape[1:3])
    sigma = _MOST_BLUR * side * jax.random.uniform(sigma_key, (len(images),), minval=0.1)
    blurred = gaussian(images, sigma, radius=math.ceil(3 * _MOST_BLUR * side))
    chosen = jax.random.bernoulli(chosen_key, share, (len(images), 1, 1, 1))
    return jnp.where(chosen, blurred, images)


def erase(key: jax.Array, images: jax.Array, share: float) -> jax.Array:
    """A random rectangle of some images, up to half the side, set to paper (Zhong et al., 2020)."""
    batch, height, width = images.shape[:3]
    keys = jax.random.split(key, 3)
    sides = jax.random.uniform(keys[0], (batch, 2), minval=0.1, maxval=0.5)
    corner = jax.random.uniform(keys[1], (batch, 2)) * (1 - sides)
    y, x = (jnp.arange(n)[None] / n for n in (height, width))
    rows = (y >= corner[:, :1]) & (y < corner[:, :1] + sides[:, :1])
    columns = (x >= corner[:, 1:]) & (x < corner[:, 1:] + sides[:, 1:])
    chosen = jax.random.bernoulli(keys[2], share, (batch, 1, 1, 1))
    hole = (rows[:, :, None] & columns[:, None, :])[..., None] & chosen
    return jnp.where(hole, 1.0, images)
