"""The cross-batch memory against a Python deque."""

from __future__ import annotations

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sbir_jax import memory, sharding
from sbir_jax.mining import Ids

DIM = 3


def batch(rng: np.random.Generator, pairs: int) -> tuple:
    """Embeddings and identities of some pairs."""
    ids = [Ids(*(rng.integers(-1, 99, pairs).astype(np.int32) for _ in range(2))) for _ in range(2)]
    sides = [rng.standard_normal((pairs, DIM)).astype(np.float32) for _ in range(2)]
    return *sides, *ids


def rows_of(pairs: tuple) -> list[tuple]:
    """One tuple of numbers for each pair of a batch or memory."""
    leaves = [np.asarray(leaf).tolist() for leaf in jax.tree.leaves(pairs)]
    return [tuple(map(str, row)) for row in zip(*leaves, strict=True)]


def held_rows(state: memory.Memory) -> list[tuple]:
    held = np.asarray(state.held)
    sides = (state.sketch, state.photo, state.sketch_ids, state.photo_ids)
    return rows_of(jax.tree.map(lambda x: np.asarray(x)[held], sides))


@pytest.mark.parametrize(
    ("rows", "sizes"),
    [(12, [4] * 9), (7, [3] * 12), (5, [5, 5, 2, 5]), (4, [9, 1, 6, 4]), (1, [1, 2, 1])],
    ids=["divides", "wraps", "exact", "batch above memory", "one row"],
)
def test_it_holds_what_a_deque_holds(rows, sizes):
    """After every batch the held rows are `collections.deque(maxlen=M)`, the newest first."""
    rng = np.random.default_rng(0)
    reference = collections.deque(maxlen=rows)
    state, push = memory.init(rows, DIM), jax.jit(memory.push)
    assert not np.asarray(state.held).any()
    for pairs in sizes:
        new = batch(rng, pairs)
        reference.extend(rows_of(new))
        state = push(state, *new)
        assert held_rows(state) == list(reference)[::-1]
        assert state.filled == len(reference)


def test_it_stops_gradients():
    """What is stored is a constant to the loss that stores it."""
    sketch, photo, *ids = batch(np.random.default_rng(1), 4)

    def total(x, y):
        state = memory.push(memory.init(8, DIM), x, y, *ids)
        return jnp.sum(state.sketch**2) + jnp.sum(state.photo**2)

    value, gradients = jax.value_and_grad(total, argnums=(0, 1))(sketch, photo)
    assert value == pytest.approx(np.sum(sketch**2) + np.sum(photo**2), rel=1e-6)
    assert not any(np.any(g) for g in gradients)


def test_a_batch_split_over_devices_is_stored_whole():
    """Eight devices with a row each leave the same memory on every one as a single device."""
    mesh = sharding.make_mesh()
    new = batch(np.random.default_rng(2), 8)
    push = jax.jit(memory.push, out_shardings=sharding.replicated(mesh))
    split = push(sharding.put_copy(mesh, memory.init(11, DIM)), *sharding.put_rows(mesh, new))
    alone = memory.push(memory.init(11, DIM), *new)
    for leaf, wanted in zip(jax.tree.leaves(split), jax.tree.leaves(alone), strict=True):
        assert leaf.sharding.is_fully_replicated
        np.testing.assert_array_equal(leaf, wanted)


def test_bad_shapes_are_one_line():
    """No rows, another dimension, sides of two lengths and missing ids are refused."""
    sketch, photo, *ids = batch(np.random.default_rng(3), 4)
    state = memory.init(8, DIM)
    with pytest.raises(ValueError, match=r"^rows=0: a memory has at least 1$"):
        memory.init(0, DIM)
    bad = [
        (sketch[:, :2], photo[:, :2], *ids),
        (sketch, photo[:3], *ids),
        (sketch, photo, ids[0], Ids(ids[1].label, ids[1].instance[:2])),
    ]
    for given in bad:
        with pytest.raises(ValueError, match=r"^sketch \(4, .*expected \[B, 3\] embeddings"):
            memory.push(state, *given)
