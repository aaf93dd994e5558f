"""Sums over (anchor, positive, candidate) without an array of that size."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

# Elements at a time. On two CPU cores 2^17 to 2^19 are as fast; all rows of 4,096 x 4,096 at once
# take 10 to 15 % longer, and 130 to 180 MiB more.
_BLOCK = 1 << 18


def in_blocks(compute: Callable[..., Any], *matrices: jax.Array) -> Any:
    """`compute` over some rows of the matrices at a time, so that its arrays stay in the CPU cache.

    A block takes every n-th row: its rows are then on all the devices that the batch is split over.

    Args:
      compute: of [R, C] matrices, to a pytree of arrays [R, ...].
      matrices: [A, C] each.

    Returns:
      What `compute` gives for all rows, [A, ...].
    """
    rows, columns = matrices[0].shape
    wanted = 2 ** max(0, math.ceil(math.log2(rows * columns / _BLOCK)))
    blocks = math.gcd(rows, wanted)
    parts = [x.reshape(rows // blocks, blocks, -1) for x in matrices]
    shapes = jax.eval_shape(compute, *(x[:, 0] for x in parts))
    empty = jax.tree.map(lambda x: jnp.zeros((len(x), blocks, *x.shape[1:]), x.dtype), shapes)

    def turn(i: jax.Array, found: Any) -> Any:
        here = compute(*(x[:, i] for x in parts))
        return jax.tree.map(lambda all_, x: all_.at[:, i].set(x), found, here)

    found = jax.lax.fori_loop(0, blocks, turn, empty)
    return jax.tree.map(lambda x: x.reshape(rows, *x.shape[2:]), found)


def over_positives(
    positive: jax.Array, body: Callable[[jax.Array, jax.Array, Any], Any], init: Any
) -> Any:
    """Gives `body` the first positive of every anchor, then the second, until none has any left.

    That is as many turns as the anchor with the most positives has.

    Args:
      positive: bool [A, C].
      body: (here, column, state) -> state. `here` is bool [A, C], True at the anchor's positive of
        this turn, and False throughout the row of an anchor that has none left; `column` is int32
        [A], its index, and C where there is none left.
      init: the first state.

    Returns:
      The last state.
    """
    end = positive.shape[1]
    columns = jnp.arange(end, dtype=jnp.int32)

    def turn(_: jax.Array, carry: tuple[jax.Array, Any]) -> tuple[jax.Array, Any]:
        column, state = carry
        left = positive & (columns > column[:, None])
        column = jnp.where(left, columns, end).min(axis=1)
        return column, body(columns == column[:, None], column, state)

    before = jnp.full(positive.shape[0], -1, jnp.int32)
    turns = positive.sum(axis=1).max()
    return jax.lax.fori_loop(0, turns, turn, (before, init))[1]
