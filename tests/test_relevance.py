"""Relevance: every way to give it against loops, and bad input."""

from __future__ import annotations

import numpy as np
import pytest

from sbir_jax.ranking import relevance


def as_sets(of: relevance.Relevance) -> list[set[int]]:
    """The gallery rows relevant to each query; lists must be ascending and without doubles."""
    lists = [of.of(query).tolist() for query in range(len(of.row))]
    assert all(found == sorted(set(found)) for found in lists)
    np.testing.assert_array_equal(of.counts, [len(found) for found in lists])
    assert of.width == max(map(len, lists))
    padded = [found + [-1] * (of.width - len(found)) for found in lists]
    np.testing.assert_array_equal(of.padded(slice(1, None), of.width), padded[1:])
    assert of.columns.dtype == of.row.dtype == of.counts.dtype == np.int32
    return [set(found) for found in lists]


@pytest.mark.parametrize("kind", ["integers", "strings", "narrow"])
def test_ids_are_compared_one_by_one(kind):
    """An item is relevant if the ids are equal and neither negative nor empty."""
    rng = np.random.default_rng(0)
    sides = [rng.integers(-2, 6, size=n) for n in (17, 40)]
    sides[0][0] = 77  # in no gallery
    nothing = {-1, -2}
    if kind == "strings":
        sides = [np.array([f"id {i}" if i >= 0 else "" for i in side]) for side in sides]
        nothing = {""}
    if kind == "narrow":
        sides = [sides[0].astype(np.int8), sides[1].astype(np.int16)]
    found = relevance.by_ids(*sides)
    own, others = (side.tolist() for side in sides)
    assert found.size == 40
    assert as_sets(found) == [
        {row for row, other in enumerate(others) if other == one and one not in nothing}
        for one in own
    ]


def test_large_ids_stay_apart():
    """Ids beyond float64 and int32 are compared exactly."""
    big = np.array([2**60, 2**60 + 1])
    assert as_sets(relevance.by_ids(big, big)) == [{0}, {1}]


def test_matrix_and_pairs_say_the_same():
    """A table of bool or of integers and its pairs, in any order, have the table's items."""
    matrix = np.random.default_rng(1).random((9, 21)) < 0.2
    matrix[4] = False
    wanted = [set(np.flatnonzero(line).tolist()) for line in matrix]
    rows, columns = (side[::-1] for side in np.nonzero(matrix))
    for found in (
        relevance.by_matrix(matrix),
        relevance.by_matrix(matrix.astype(np.uint8)),
        relevance.by_pairs(rows, columns, queries=9, size=21),
    ):
        assert as_sets(found) == wanted and found.size == 21


def test_nothing_relevant_at_all():
    """Ids that never meet, and no pairs, give counts of zero."""
    nobody = np.array([], np.int64)
    for found in (
        relevance.by_ids(np.array([1, -1]), np.array([2, -1, 3])),
        relevance.by_pairs(nobody, nobody, queries=2, size=3),
    ):
        assert as_sets(found) == [set(), set()] and found.width == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: relevance.by_ids(np.zeros(2), np.zeros(3, int)), r"query ids are float64 \(2,\)"),
        (lambda: relevance.by_ids([1, 2], np.zeros((3, 1), int)), r"gallery ids are int64 \(3, 1"),
        (lambda: relevance.by_ids([1], np.array([1], np.uint64)), "gallery ids are uint64"),
        (lambda: relevance.by_ids([True], [1]), "query ids are bool"),
        (lambda: relevance.by_ids(["a"], [1]), "query ids are <U1, gallery ids int64"),
        (lambda: relevance.by_matrix(np.zeros((2, 3))), r"matrix is float64 \(2, 3\)"),
        (lambda: relevance.by_matrix([1, 0]), r"matrix is int64 \(2,\)"),
        (lambda: relevance.by_matrix([[0, 2]]), "integers from 0 to 2"),
        (lambda: relevance.by_matrix([[0, -1]]), "integers from -1 to 0"),
        (lambda: relevance.by_pairs([0, 2], [0, 1], queries=2, size=3), "query row 2 .* are 2"),
        (lambda: relevance.by_pairs([0, 1], [0, -1], queries=2, size=3), "gallery row -1 "),
        (lambda: relevance.by_pairs([0, 1], [0], queries=2, size=3), r"gallery rows are int64 \(1"),
        (lambda: relevance.by_pairs([0.0], [0], queries=2, size=3), "query rows are float64"),
        (
            lambda: relevance.by_pairs([1, 0, 1], [2, 2, 2], queries=2, size=3),
            "query row 1 and gallery row 2 is there twice",
        ),
    ],
)
def test_bad_input_is_one_line(call, message):
    """Wrong types, shapes, rows and doubled pairs are refused in one line that names them."""
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
