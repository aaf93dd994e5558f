"""Looking distances up by cells against comparing them with everything, on awkward rows."""

from __future__ import annotations

import numpy as np
import pytest

from sbir_jax.ranking.cells import Cells

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


@pytest.mark.parametrize("sort", [True, False])
@pytest.mark.parametrize("name", rows())
def test_cells_count_exactly(name, sort):
    """Items nearer and no farther than any item are those that comparisons count, sorted or not."""
    row = rows()[name]
    for picked in (np.arange(len(row)), np.arange(0, len(row), 31), np.array([len(row) - 1])):
        cells = Cells(len(row), sort=sort)
        assert cells.put(row)
        among, passed = cells.find(row[picked])
        compared = row[:, None], row[picked]
        for side, nearer in (("left", np.less), ("right", np.less_equal)):
            wanted = nearer(*compared).sum(axis=0)
            np.testing.assert_array_equal(among.searchsorted(row[picked], side) + passed, wanted)


@pytest.mark.parametrize("name", rows())
def test_nearest_are_the_first_of_a_stable_sort(name):
    """At least k items come back in the order of a stable sort, and none that is as near as one
    of them is left out; a row can follow another."""
    row = rows()[name]
    order = np.argsort(row, kind="stable")
    cells = Cells(len(row), sort=False)
    for k in {1, len(row) // 3 or 1, len(row)}:
        assert cells.put(row)
        columns, distance = cells.nearest(k)
        assert len(columns) >= k
        np.testing.assert_array_equal(columns, order[: len(columns)])
        np.testing.assert_array_equal(distance, row[columns])
        assert (row[order[len(columns) :]] > distance[-1]).all()


@pytest.mark.parametrize("values", [[0, np.nan], [np.inf, 1], [-np.inf, 1], [-LARGE, LARGE]])
def test_what_is_not_finite_is_refused(values):
    """NaN, infinities and a spread beyond float32 are told."""
    assert not Cells(2, sort=True).put(np.array(values, np.float32))
