"""Looking distances up by cells against comparing them with everything, on awkward rows."""

from __future__ import annotations

import numpy as np
import pytest

from sbir_jax.ranking.cells import Cells, rows_together

LARGE = float(np.finfo(np.float32).max)


def rows() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    normal = rng.normal(size=997)
    found = {
        "even": rng.random(997),
        "negative": normal - 7,
        "few values": rng.integers(5, size=997),
        "all equal": np.full(997, 0.3),
        "all zero, of both signs": np.where(normal < 0, -0.0, 0.0),
        "one far off": np.append(normal, 1e30),
        "dense around one value": 1 + rng.integers(50, size=997) * 2**-23,
        "dense far from zero": 2.0**20 + rng.integers(50, size=997) / 8,
        "subnormal": rng.integers(9, size=997) * 1e-45,
        "skewed": np.exp(20 * normal),
        "as wide as can be": np.linspace(-LARGE / 2, LARGE / 2, 997),
        "two": np.array([2.0, 1.0]),
        "one": np.array([4.0]),
    }
    return {name: row.astype(np.float32) for name, row in found.items()}


def together(row: np.ndarray) -> np.ndarray:
    """The row, backwards, and moved and stretched, if so many are taken at once."""
    found = np.stack([row, row[::-1], (row / 2 + 1).astype(np.float32)])
    return found[: rows_together(len(row))]


@pytest.mark.parametrize("sort", [True, False])
@pytest.mark.parametrize("name", rows())
def test_items_are_counted_exactly(name, sort):
    """Items nearer and no farther than any item are those that comparisons count, sorted or not."""
    row = rows()[name]
    found = together(row)
    for picked in (np.arange(len(row)), np.arange(0, len(row), 31), np.array([len(row) - 1])):
        cells = Cells(len(row), sort=sort)
        assert cells.put(found).all()
        values = found[:, picked]
        among, passed = cells.find(values)
        for i, (one, value) in enumerate(zip(found, values, strict=True)):
            rest = passed[i] if np.ndim(passed) else passed
            for side, nearer in (("left", np.less), ("right", np.less_equal)):
                wanted = nearer(one[:, None], value).sum(axis=0)
                np.testing.assert_array_equal(among[i].searchsorted(value, side) + rest, wanted)


@pytest.mark.parametrize("name", rows())
def test_nearest_are_the_first_of_a_stable_sort(name):
    """At least k items come back in the order of a stable sort, and none that is as near as one
    of them is left out; rows can follow others."""
    found = together(rows()[name])
    size = found.shape[1]
    cells = Cells(size, sort=False)
    for k in {1, size // 3 or 1, size}:
        assert cells.put(found).all()
        for row, (columns, distance) in zip(found, cells.nearest(k), strict=True):
            order = np.argsort(row, kind="stable")
            assert len(columns) >= k
            np.testing.assert_array_equal(columns, order[: len(columns)])
            np.testing.assert_array_equal(distance, row[columns])
            assert (row[order[len(columns) :]] > distance[-1]).all()


def test_a_row_longer_than_the_cells():
    """A row of more items than are taken together is taken alone, and counted as exactly."""
    row = np.random.default_rng(1).normal(size=(1, 300_001)).astype(np.float32)
    assert rows_together(row.shape[1]) == 1
    cells = Cells(row.shape[1], sort=False)
    assert cells.put(row).all()
    among, passed = cells.find(row[:, ::1000])
    wanted = np.sort(row[0]).searchsorted(row[0, ::1000], "right")
    np.testing.assert_array_equal(
        among[0].searchsorted(row[0, ::1000], "right") + passed[0], wanted
    )


@pytest.mark.parametrize("values", [[0, np.nan], [np.inf, 1], [-np.inf, 1], [-LARGE, LARGE]])
def test_what_is_not_finite_is_told(values):
    """NaN, infinities and a spread beyond float32 are told, of the row that has them."""
    given = np.array([[1, 2], values], np.float32)
    assert Cells(2, sort=True).put(given).tolist() == [True, False]
