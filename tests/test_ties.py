"""Tie rules against every order of a small gallery."""

from __future__ import annotations

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from sbir_jax.ranking import names, ties
from sbir_jax.ranking.metrics import NEVER

METRICS = ("mAP@all", "P@2", "MRR", "nDCG@all", "acc@1")


def galleries() -> tuple[np.ndarray, np.ndarray]:
    """Ten times six items: distances in {0, 1, 2}, and which are relevant."""
    rng = np.random.default_rng(0)
    hits = rng.random((10, 6)) < 0.5
    hits[0], hits[1] = True, False
    return rng.integers(3, size=(10, 6)), hits


def orders(distance: np.ndarray, hits: np.ndarray) -> np.ndarray:
    """Ranks of the relevant items [720, R] when equals are in the order of each permutation."""
    found = []
    for order in map(list, itertools.permutations(range(len(distance)))):
        ranking = np.array(order)[np.argsort(distance[order], kind="stable")]
        found.append(np.flatnonzero(hits[ranking]) + 1)
    return np.array(found)


def counts() -> dict[str, np.ndarray]:
    """What an engine counts, by comparing everything with everything; padded to 8 columns."""
    found = {"before": np.full((10, 8), NEVER, np.int32), "upto": np.full((10, 8), NEVER, np.int32)}
    for row, (distance, hit) in enumerate(zip(*galleries(), strict=True)):
        for column, value in enumerate(sorted(distance[hit])):
            found["before"][row, column] = np.sum(distance < value)
            found["upto"][row, column] = np.sum(distance <= value)
    return found


@pytest.mark.parametrize("xp", [np, jnp])
def test_rules_are_the_extremes_over_all_orders(xp):
    """Pessimistic ranks are the largest, optimistic the smallest that any order of equals gives."""
    for rule, extreme in (("pessimistic", np.max), ("optimistic", np.min)):
        given = {side: xp.asarray(counts()[side]) for side in ties.RULES[rule]}
        given = {"before": None, "upto": None} | given
        ranks = np.asarray(ties.ranks(rule, xp=xp, **given))
        assert ranks.dtype == np.int32
        for row, (distance, hit) in enumerate(zip(*galleries(), strict=True)):
            wanted = extreme(orders(distance, hit), axis=0)
            np.testing.assert_array_equal(ranks[row, : hit.sum()], wanted)
            assert (ranks[row, hit.sum() :] == NEVER).all()


def test_expected_is_the_mean_over_all_orders():
    """The third rule gives each metric's mean over all orders of equals."""
    metrics = [names.parse(name) for name in METRICS]
    distance, hits = galleries()
    got = ties.score("expected", metrics, *counts().values(), hits.sum(axis=1), 6)
    for row in np.flatnonzero(hits.any(axis=1)):
        every = orders(distance[row], hits[row])
        found = np.arange(1, every.shape[1] + 1)
        ideal = np.sum(1 / np.log2(1 + found))
        wanted = {
            "mAP@all": np.mean(found / every),
            "P@2": np.mean(np.sum(every <= 2, axis=1) / 2),
            "MRR": np.mean(1 / every[:, 0]),
            "nDCG@all": np.mean(np.sum(1 / np.log2(1 + every), axis=1)) / ideal,
            "acc@1": np.mean(every[:, 0] == 1),
        }
        assert {name: values[row] for name, values in got.items()} == pytest.approx(wanted)
    assert all(values[1] == 0 for values in got.values())  # a query without relevant items


def test_without_ties_the_rules_agree():
    """If no two distances are equal, a rank is the number of items no farther, by any rule."""
    upto = np.array([[1, 4, 9, NEVER], [2, 3, NEVER, NEVER]], np.int32)
    before = np.where(upto < NEVER, upto - 1, NEVER)
    for rule in ("pessimistic", "optimistic"):
        np.testing.assert_array_equal(ties.ranks(rule, before, upto, np), upto)
    relevant, metrics = np.array([3, 2]), [names.parse("mAP@all")]
    scores = [
        ties.score(rule, metrics, before, upto, relevant, 9)["mAP@all"] for rule in ties.RULES
    ]
    wanted = [(1 + 2 / 4 + 3 / 9) / 3, (1 / 2 + 2 / 3) / 2]
    np.testing.assert_allclose(scores, [wanted] * 3, rtol=1e-12)
