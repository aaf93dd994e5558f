"""Expectations over random tie orders and chance levels, against all orders by brute force."""

from __future__ import annotations

import itertools

import metric_definitions
import numpy as np
import pytest
from test_metric_names import offered

from sbir_jax.ranking import expected, metrics, names

CUTS = (1, 2, 3, 5, 9)
REFUSED = {"mAP@K/hits", "mAP-voc@all", "mAP-first@K", "11-point"} | {
    f"mAP-voc@K/{over}" for over in ("min", "hits", "K", "R")
}
CLOSED = [shape for shape in offered() if shape not in REFUSED]

# Tie groups, nearest first, as (items, relevant items among them).
GROUPS = [
    [(3, 1), (2, 1)],
    [(1, 1), (4, 2), (2, 0), (1, 1)],
    [(4, 4), (3, 2)],
    [(2, 0), (5, 3)],
    [(1, 0), (1, 1), (1, 0), (1, 1)],
    [(7, 1)],
    [(6, 6)],
    [(1, 1)],
    [(5, 0)],
]


def orders(groups: list[tuple[int, int]]) -> list[list[int]]:
    """Every placement of the relevant items inside their groups; all are equally likely."""
    places = [
        [[int(i in chosen) for i in range(n)] for chosen in itertools.combinations(range(n), r)]
        for n, r in groups
    ]
    return [sum(parts, []) for parts in itertools.product(*places)]


def as_ties(groups: list[tuple[int, int]], width: int) -> tuple[list[int], list[int]]:
    """`before` and `tied` of the relevant items, padded to `width`."""
    before, tied, start = [], [], 0
    for n, r in groups:
        before += [start] * r
        tied += [n] * r
        start += n
    padding = width - len(before)
    return before + [metrics.NEVER] * padding, tied + [0] * padding


def expect(many: list[list[tuple[int, int]]], wanted: list[str], size: int):
    relevant = np.array([sum(r for _, r in groups) for groups in many], np.int32)
    before, tied = zip(*(as_ties(groups, relevant.max() + 1) for groups in many), strict=True)
    chosen = [names.parse(name) for name in wanted]
    before, tied = np.array(before, np.int32), np.array(tied, np.int32)
    return expected.expected(chosen, before, tied, relevant, size)


@pytest.mark.parametrize("shape", CLOSED)
def test_it_is_the_mean_over_all_orders(shape):
    """Every metric with a closed form is its mean over all orders of the tied items."""
    for groups in GROUPS:
        size = sum(n for n, _ in groups)
        for k in CUTS:
            name = shape.replace("@K", f"@{k}", 1)
            wanted = np.mean([metric_definitions.value(shape, line, k) for line in orders(groups)])
            got = expect([groups], [name], size)[name]
            assert got == pytest.approx([wanted], rel=1e-12, abs=1e-15), (groups, name)


def test_queries_of_one_block_do_not_mix():
    """A block of queries, of different ties and numbers of relevant items, is each query alone."""
    many = [groups + [(20 - sum(n for n, _ in groups), 0)] for groups in GROUPS]
    wanted = [shape.replace("@K", "@4", 1) for shape in CLOSED]
    together = expect(many, wanted, 20)
    for name in wanted:
        alone = [expect([groups], [name], 20)[name][0] for groups in many]
        np.testing.assert_allclose(together[name], alone, rtol=1e-13, err_msg=name)


def test_without_ties_it_is_the_value():
    """Where no two distances are equal the expectation is the metric, also far down a gallery."""
    rng = np.random.default_rng(0)
    relevant = np.array([0, 1, 7, 300], np.int32)
    ranks = np.full((4, 300), metrics.NEVER, np.int32)
    for row, count in zip(ranks, relevant, strict=True):
        row[:count] = np.sort(rng.choice(20000, count, replace=False)) + 1
    before = np.where(ranks < metrics.NEVER, ranks - 1, metrics.NEVER)
    chosen = [names.parse(s.replace("@K", "@200", 1)) for s in CLOSED]
    got = expected.expected(chosen, before, np.ones_like(before), relevant, 20000)
    wanted = metrics.scores(chosen, ranks, relevant, 20000, np)
    for name, values in wanted.items():
        np.testing.assert_allclose(got[name], values, rtol=1e-10, atol=1e-13, err_msg=name)


def test_large_groups_against_shuffles():
    """In groups too large for brute force the expectation is the mean of shuffles, within error."""
    groups = [(40, 9), (300, 25), (7, 0), (60, 1)]
    rng = np.random.default_rng(1)
    parts = [np.arange(n) < r for n, r in groups]
    drawn = [np.concatenate([rng.permutation(part) for part in parts]) for _ in range(4000)]
    ranks = np.array([np.flatnonzero(line) + 1 for line in drawn], np.int32)
    wanted = [shape.replace("@K", "@50", 1) for shape in CLOSED]
    chosen = [names.parse(name) for name in wanted]
    samples = metrics.scores(chosen, ranks, np.full(4000, 35, np.int32), 407, np)
    for name, values in expect([groups], wanted, 407).items():
        error = samples[name].std() / np.sqrt(4000)
        assert abs(values[0] - samples[name].mean()) < 4.5 * error + 1e-12, name


@pytest.mark.parametrize("shape", sorted(REFUSED))
def test_metrics_without_closed_form_are_refused(shape):
    """They are named in one line; by chance they are None."""
    name = shape.replace("@K", "@5", 1)
    with pytest.raises(names.MetricError, match="no closed form") as error:
        expect([[(3, 1)]], ["P@1", name], 3)
    assert name in str(error.value) and "P@1" not in str(error.value)
    assert "\n" not in str(error.value)
    assert not expected.has_expectation(names.parse(name))
    chance = expected.by_chance(np.array([1, 2]), 5, ["P@1", name])
    assert chance[name] is None and chance["P@1"] is not None


@pytest.mark.parametrize("size", [1, 2, 5, 7])
def test_chance_is_the_mean_over_all_placements(size):
    """Chance levels are the mean over every placement of R relevant items in the gallery."""
    relevant = np.arange(size, -1, -1)
    for shape in CLOSED:
        for k in CUTS:
            name = shape.replace("@K", f"@{k}", 1)
            wanted = [
                np.mean([metric_definitions.value(shape, x, k) for x in orders([(size, r)])])
                for r in relevant
            ]
            got = expected.by_chance(relevant, size, [name])[name]
            np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-15, err_msg=name)


def test_chance_of_the_first_rank_in_closed_form():
    """In a gallery of 17,101 the chance of MRR is R/(G-R+1) (H_G - H_(R-1)), of acc@K
    1 - (1-R/G) (1-R/(G-1)) ... (K factors)."""
    size, relevant = 17101, np.array([1, 684, 684, 17101])
    chance = expected.by_chance(relevant, size, ["MRR", "acc@10"])
    harmonic = np.cumsum(np.r_[0.0, 1 / np.arange(1, size + 1)])
    wanted = relevant / (size - relevant + 1) * (harmonic[size] - harmonic[relevant - 1])
    np.testing.assert_allclose(chance["MRR"], wanted, rtol=1e-10)
    missed = np.prod(1 - relevant / (size - np.arange(10)[:, None]), axis=0)
    np.testing.assert_allclose(chance["acc@10"], 1 - missed, rtol=1e-10)
