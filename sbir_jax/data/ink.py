"""Changes of the strokes of a sketch: thicker or thinner, some left out, only a part drawn.

Images are float32 [B, H, W, C] in -1..1 where 1 is paper, as `augment` makes them; everything is
`jnp`, drawn from a key, and moves no stroke.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

_PAPER = 1.0
_PATCHES = 6  # a side of the grid whose cells are dropped together: about a stroke of a doodle


def darkest(images: jax.Array) -> jax.Array:
    """The darkest of each pixel's 3 x 3 neighbours (erosion of the paper): strokes grow a pixel."""
    return -_largest(-images)


def lightest(images: jax.Array) -> jax.Array:
    """The lightest of each pixel's 3 x 3 neighbours: strokes shrink by a pixel on each side."""
    return _largest(images)


def _largest(images: jax.Array) -> jax.Array:
    """Rows, then columns, by shifts: on CPUs XLA's window reductions are slower."""
    for axis in (1, 2):
        padding = [(1, 1) if i == axis else (0, 0) for i in range(images.ndim)]
        padded = jnp.pad(images, padding, mode="edge")
        size = images.shape[axis]
        slices = [jax.lax.slice_in_dim(padded, k, k + size, axis=axis) for k in range(3)]
        images = jnp.maximum(jnp.maximum(slices[0], slices[1]), slices[2])
    return images


def change_thickness(key: jax.Array, images: jax.Array, most: float) -> jax.Array:
    """Strokes thicker or thinner by up to `most` pixels on each side, from 0 to 1.

    Images [B, H, W, C] on any scale, as long as paper is lighter than ink.
    """
    change = most * jax.random.uniform(key, (len(images), 1, 1, 1), minval=-1.0)
    sign = jnp.where(change > 0, -1.0, 1.0)  # so that one of the two is computed, not both
    other = sign * _largest(sign * images)
    return images + jnp.abs(change) * (other - images)


def drop_strokes(key: jax.Array, images: jax.Array, most: float) -> jax.Array:
    """Ink left out in random patches, up to the share `most` of the area of each sketch.

    A raster knows no strokes; patches of a sixth of the side take away one or a part of one.
    """
    grid_key, share_key = jax.random.split(key)
    batch, height, width = images.shape[:3]
    noise = jax.random.uniform(grid_key, (batch, _PATCHES, _PATCHES))
    share = most * jax.random.uniform(share_key, (batch, 1, 1))
    dropped = jax.image.resize((noise < share).astype(jnp.float32), images.shape[:3], "linear")
    return jnp.where(dropped[..., None] > 0.5, _PAPER, images)


def draw_partly(key: jax.Array, images: jax.Array, share: float) -> jax.Array:
    """Some sketches, as the `share` says, as if still being drawn: one side of a line is empty.

    The line has any direction and passes the centre, or misses it by up to half the side: at least
    about half of the canvas stays.
    """
    chosen_key, angle_key, offset_key = jax.random.split(key, 3)
    batch, height, width = images.shape[:3]
    shape = (batch, 1, 1)
    angle = jax.random.uniform(angle_key, shape, maxval=2 * jnp.pi)
    offset = jax.random.uniform(offset_key, shape)  # 0: through the centre
    y, x = (((jnp.arange(n) + 0.5) / n * 2 - 1) for n in (height, width))
    beyond = jnp.cos(angle) * x[None, None, :] + jnp.sin(angle) * y[None, :, None] > offset
    hidden = beyond & jax.random.bernoulli(chosen_key, share, shape)
    return jnp.where(hidden[..., None], _PAPER, images)
