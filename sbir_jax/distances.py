"""Distances between embeddings, and the two ways to normalise them.

Names are the same everywhere, in losses and in the evaluator: `l1`, `l2`, `linf`, any Minkowski
`l<p>` with p >= 1 (such as `l3` or `l1.5`), `sq_l2` (squared Euclidean) and `cosine`
(1 - cosine similarity). Everything is computed in float32, is at least +0, and has a finite
gradient everywhere, also at distance zero and at zero vectors. `dot`, minus the inner product, is
an order to rank by and no distance: it may be negative, so losses that take roots of distances or
count on their sign must not be given it.

There are two forms, because they fail differently. `pairwise` gives the whole matrix, from one
matrix product where algebra allows; its rounding noise makes the l2 distance of an embedding to
itself up to about 1e-3. `rowwise` subtracts, so duplicates are at exactly zero: losses mine with
the first and differentiate the second.
"""

from __future__ import annotations

import math
import re

import jax
import jax.numpy as jnp

# A vector whose largest component is below this has no direction: it normalises to zeros, with
# zero gradient. Above it, gradients are at most 1e12, whose square still fits float32.
NO_DIRECTION = 1e-12

# Candidates compared at a time where no matrix product applies. Of 1, 8 and 32, the fastest on
# a CPU (256 x 4,096 x 512 in l1: 31 ms, 49 ms one at a time).
_COLUMNS = 32


def unit(x: jax.Array) -> jax.Array:
    """Divides each vector by its L2 norm; zero vectors stay zero.

    Args:
      x: [..., D], any float dtype.

    Returns:
      float32 [..., D].
    """
    y, dead = _scaled(x)
    square = jnp.sum(y * y, axis=-1, keepdims=True)
    return y / jnp.sqrt(jnp.where(dead, 1.0, square))


def sr_norm(x: jax.Array) -> jax.Array:
    """Square-root normalisation against bursting: `unit(sign(x) * sqrt(|x|))`.

    The square root's slope at zero is infinite. Here components below 1e-12 of the vector's
    largest are scaled linearly instead, which changes none by more than 2.5e-7 of the largest
    and bounds the slope.

    Args:
      x: [..., D], any float dtype.

    Returns:
      float32 [..., D].
    """
    y, _ = _scaled(x)
    return unit(y / jnp.sqrt(jnp.maximum(jnp.abs(y), 1e-12)))


def cosine_similarity(x: jax.Array, y: jax.Array) -> jax.Array:
    """<x, y> / (|x| |y|) of every pair: [n, D] and [m, D] to float32 [n, m]; 0 for zero vectors."""
    return _products(unit(x), unit(y))


def pairwise(x: jax.Array, y: jax.Array, distance: str) -> jax.Array:
    """Distance of every row of x to every row of y.

    `l2`, `sq_l2`, `cosine` and `dot` come from a float32 matrix product at highest precision (TF32
    and bf16 products change ranks). The others walk over the rows of y, never holding [n, m, D];
    rows of x may then be sharded.

    Args:
      x: [n, D].
      y: [m, D].
      distance: a name as above.

    Returns:
      float32 [n, m], at least +0 except for `dot`. A zero vector has cosine similarity 0 with
      everything.

    Raises:
      ValueError: unknown distance.
    """
    x, y = jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)
    if distance == "cosine":
        return jnp.maximum(1.0 - cosine_similarity(x, y), 0.0)
    if distance == "dot":
        return -_products(x, y)
    if distance in ("l2", "sq_l2"):
        norms = jnp.sum(x * x, axis=-1)[:, None] + jnp.sum(y * y, axis=-1)
        square = jnp.maximum(norms - 2.0 * _products(x, y), 0.0)
        return square if distance == "sq_l2" else _root(square, 2.0)
    p = _exponent(distance)

    # Rematerialised, or the backward pass would keep one [n, D] residual for each row of y.
    @jax.checkpoint
    def to_all(row: jax.Array) -> jax.Array:
        return _minkowski(x - row, p)

    return jax.lax.map(to_all, y, batch_size=_COLUMNS).T


def rowwise(x: jax.Array, y: jax.Array, distance: str) -> jax.Array:
    """Distance of each vector of x to its partner in y, by subtraction: exactly 0 for duplicates,
    except for `dot`.

    Args:
      x: [..., D].
      y: [..., D], broadcast against x.
      distance: a name as above.

    Returns:
      float32 [...].

    Raises:
      ValueError: unknown distance.
    """
    x, y = jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)
    if distance == "cosine":
        # 1 - <u, v> = (|u - v|^2 + (1 - |u|^2) + (1 - |v|^2)) / 2; the brackets are 0 for unit
        # vectors and 1 for zero vectors.
        dead = jnp.sum(_scaled(x)[1], axis=-1) + jnp.sum(_scaled(y)[1], axis=-1)
        return 0.5 * (jnp.sum((unit(x) - unit(y)) ** 2, axis=-1) + dead)
    if distance == "dot":
        return -jnp.sum(x * y, axis=-1)
    if distance == "sq_l2":
        return jnp.sum((x - y) ** 2, axis=-1)
    return _minkowski(x - y, _exponent(distance))


def _exponent(distance: str) -> float:
    if distance == "linf":
        return math.inf
    match = re.fullmatch(r"l([0-9]+(?:\.[0-9]+)?)", distance)
    if not match or float(match[1]) < 1:
        raise ValueError(
            f"distance={distance!r}: valid: cosine, dot, l1, l2, sq_l2, linf, "
            "or l<p> with p >= 1 such as l3"
        )
    return float(match[1])


def _products(x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.matmul(x, y.T, precision=jax.lax.Precision.HIGHEST)  # [n, D] @ [D, m]


def _scaled(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Each vector over its largest component, so that no square over- or underflows.

    The scale is a constant to the gradient: exact for whatever is normalised afterwards.
    """
    x = jnp.asarray(x, jnp.float32)
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(x), axis=-1, keepdims=True))
    dead = largest < NO_DIRECTION  # False for NaN, which must show
    return jnp.where(dead, 0.0, x / jnp.where(dead, 1.0, largest)), dead


def _minkowski(difference: jax.Array, p: float) -> jax.Array:
    size = difference * jnp.sign(difference)  # jnp.abs has slope 1 at 0; this has 0
    if p == 1:
        return jnp.sum(size, axis=-1)
    if p == math.inf:
        return jnp.max(size, axis=-1)
    # In units of the largest difference: 0.04^50 is 0 in float32. A constant to the gradient,
    # which is the same at every scale.
    largest = jax.lax.stop_gradient(jnp.max(size, axis=-1, keepdims=True))
    largest = jnp.where(largest == 0, 1.0, largest)
    return largest[..., 0] * _root(jnp.sum((size / largest) ** p, axis=-1), p)


def _root(x: jax.Array, p: float) -> jax.Array:
    """x^(1/p) for x >= 0, with slope 0 instead of infinity at 0."""
    zero = x == 0
    positive = jnp.where(zero, 1.0, x)
    root = jnp.sqrt(positive) if p == 2 else positive ** (1.0 / p)
    return jnp.where(zero, 0.0, root)
