"""Checks of embeddings, which look at squared lengths first, against looking at every number."""

from __future__ import annotations

import numpy as np
import pytest

from sbir_jax.distances import NO_DIRECTION
from sbir_jax.ranking import vectors

LARGE = float(np.finfo(np.float32).max)
BELOW = np.nextafter(np.float32(NO_DIRECTION), np.float32(0))


def sides(size: int) -> np.ndarray:
    """Rows that are finite, some of them without a direction, some with squares beyond float32."""
    rng = np.random.default_rng(size)
    x = rng.normal(size=(12, size)).astype(np.float32)
    x[1], x[2], x[3], x[4] = LARGE, -LARGE, 1e30, 1e-30
    x[5], x[6], x[7] = BELOW, -BELOW, NO_DIRECTION
    x[8], x[9], x[10] = 0.0, -0.0, 1e-45
    return x


@pytest.mark.parametrize("size", [1, 2, 3, 64, 511, 4096])
def test_large_and_small_numbers_are_finite(size):
    """Squares that overflow or vanish refuse nothing, and what is finite comes back as it was."""
    x = sides(size)
    np.testing.assert_array_equal(vectors.checked("queries", x)[0], x)


@pytest.mark.parametrize("size", [1, 2, 3, 64, 511, 4096])
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_one_number_that_is_not_finite_is_found(size, wrong):
    """Of rows with one wrong number each, beside large ones, all are counted, the first named."""
    x = sides(size)
    x[4, size // 2] = x[11, -1] = wrong
    with pytest.raises(ValueError, match=r"queries: 2 of 12 embeddings .*, the first in row 4$"):
        vectors.checked("queries", x)


@pytest.mark.parametrize("size", [1, 2, 3, 64, 511, 4096])
def test_directions_end_at_the_same_number_in_every_size(size):
    """A row is refused if its largest component is below `NO_DIRECTION`, whatever their number."""
    x = sides(size)
    dead = np.abs(x).max(axis=1) < NO_DIRECTION
    assert dead.tolist() == [row in (4, 5, 6, 8, 9, 10) for row in range(12)]
    for row, refused in enumerate(dead):
        one, squares = vectors.checked("gallery", x[[0, row, 7]])
        if refused:
            with pytest.raises(ValueError, match=r"gallery: row 1 is all zeros, .* for cosine$"):
                vectors.check_directions("gallery", one, squares, "cosine")
        else:
            vectors.check_directions("gallery", one, squares, "cosine")


@pytest.mark.parametrize("size", [1, 2, 3, 64, 511])
def test_equal_rows_are_found_among_rows_with_equal_sums(size):
    """Copies, also with zeros of the other sign, become one row; permuted components, whose bits
    add up to the same, do not."""
    rng = np.random.default_rng(size)
    x = rng.integers(-2, 3, size=(300, size)).astype(np.float32)
    x[100:200] = np.where(x[:100] == 0, -0.0, x[:100])
    x[200:] = x[:100, ::-1]
    leaders, copies = vectors.distinct(x)
    wanted, first, inverse = np.unique(x + 0.0, axis=0, return_index=True, return_inverse=True)
    assert len(leaders) == len(wanted) < 300
    np.testing.assert_array_equal(leaders, x[np.sort(first)])
    np.testing.assert_array_equal(np.argsort(np.argsort(first))[inverse.ravel()], copies)


def test_without_copies_the_gallery_is_itself():
    """No row is copied where all are distinct, also where the bits of two add up to the same."""
    x = np.array([[1, 2, 3, 4], [4, 3, 2, 1], [0, 0, 0, 1]], np.float32)
    leaders, copies = vectors.distinct(x)
    assert leaders is x and copies is None
