"""Masks and miners against loops written from their definitions."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from sbir_jax import mining


def ids(label, instance=None) -> mining.Ids:
    instance = [-1] * len(label) if instance is None else instance
    return mining.Ids(np.array(label, np.int32), np.array(instance, np.int32))


def batch(seed: int, anchors: int = 9, candidates: int = 12, classes: int = 3):
    """Random distances (rounded, so that some are equal) and class masks."""
    rng = np.random.default_rng(seed)
    distance = rng.uniform(0.1, 2, (anchors, candidates)).round(1).astype(np.float32)
    labels = rng.integers(classes, size=anchors), rng.integers(classes, size=candidates)
    positive, negative = mining.masks(ids(labels[0]), ids(labels[1]), "class")
    return distance, np.asarray(positive), np.asarray(negative)


def test_class_masks():
    """By class: same label is a positive, any other a negative; instances do not matter."""
    positive, negative = mining.masks(ids([0, 1], [5, 6]), ids([1, 0, 2], [5, 5, 5]), "class")
    np.testing.assert_array_equal(positive, [[0, 1, 0], [1, 0, 0]])
    np.testing.assert_array_equal(negative, [[1, 0, 1], [0, 1, 1]])


def test_instance_masks():
    """By instance: one photo's duplicates are all positives, same-class others and unlinked
    candidates negatives, and an anchor without a link has neither."""
    anchors = ids([0, 0, 1], [5, -1, 7])
    candidates = ids([0, 0, 0, 1], [5, 6, -1, 5])
    positive, negative = mining.masks(anchors, candidates, "instance")
    np.testing.assert_array_equal(positive, [[1, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(negative, [[0, 1, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1]])


@pytest.mark.parametrize("seed", range(5))
def test_batch_hard_is_the_definition(seed):
    """The farthest positive and the nearest negative of each anchor, by a loop."""
    distance, positive, negative = batch(seed)
    picks = mining.mine("batch_hard", distance, positive, negative, key=jax.random.key(0))
    assert picks.positive.shape == (9, 1)
    for a in range(9):
        assert picks.valid[a, 0] == (positive[a].any() and negative[a].any())
        if picks.valid[a, 0]:
            p, n = picks.positive[a, 0], picks.negative[a, 0]
            assert positive[a, p] and distance[a, p] == distance[a, positive[a]].max()
            assert negative[a, n] and distance[a, n] == distance[a, negative[a]].min()


@pytest.mark.parametrize("seed", range(5))
def test_semi_hard_is_the_definition(seed):
    """For each picked positive: the nearest strictly farther negative, else the farthest."""
    distance, positive, negative = batch(seed)
    picks = mining.mine("semi_hard", distance, positive, negative, key=jax.random.key(seed))
    fallbacks = 0
    for a in range(9):
        count = min(positive[a].sum(), mining.SEMI_HARD_POSITIVES) * negative[a].any()
        assert picks.valid[a].sum() == count
        assert len(set(picks.positive[a, picks.valid[a]].tolist())) == count  # no repetition
        for p, n, valid in zip(*(np.asarray(x[a]) for x in picks), strict=True):
            if valid:
                assert positive[a, p] and negative[a, n]
                others = distance[a, negative[a]]
                farther = others[others > distance[a, p]]
                fallbacks += not farther.size
                assert distance[a, n] == (farther.min() if farther.size else others.max())
    assert seed or fallbacks  # the first batch has both cases


@pytest.mark.parametrize("miner", ["random", "semi_hard"])
def test_draws_are_uniform_and_keyed(miner):
    """Over many keys every positive (and for `random` every negative) is drawn equally often, and
    one key always draws the same."""
    positive = np.zeros((1, 16), bool)
    positive[0, :8] = True
    distance = np.linspace(1, 2, 16, dtype=np.float32)[None]
    keys = jax.random.split(jax.random.key(1), 2000)
    draw = jax.jit(jax.vmap(lambda key: mining.mine(miner, distance, positive, ~positive, key=key)))
    picks = draw(keys)
    assert picks.valid.all()
    slots = picks.positive.shape[-1]
    share = np.bincount(np.ravel(picks.positive), minlength=16) / 2000
    assert share[8:].sum() == 0
    assert np.abs(share[:8] - slots / 8).max() < 0.05  # 4.5 standard deviations or more
    if miner == "random":
        share = np.bincount(np.ravel(picks.negative), minlength=16) / 2000
        assert share[:8].sum() == 0
        assert np.abs(share[8:] - 1 / 8).max() < 0.05
    jax.tree.map(np.testing.assert_array_equal, picks, draw(keys))


@pytest.mark.parametrize("miner", mining.MINERS)
@pytest.mark.parametrize(
    "labels", [([0, 0, 0], [0, 0, 0]), ([0, 1, 2], [3, 4, 5])], ids=["one class", "no positive"]
)
def test_batches_without_triplets_are_invalid(miner, labels):
    """Without a negative, or without a positive, no triplet is valid."""
    masks = mining.masks(ids(labels[0]), ids(labels[1]), "class")
    distance = np.ones((3, 3), np.float32)
    picks = mining.mine(miner, distance, *masks, key=jax.random.key(0))
    assert not picks.valid.any()


def test_bad_names_are_one_line():
    """An unknown miner or match is refused with the valid ones."""
    distance, positive, negative = batch(0)
    with pytest.raises(
        ValueError, match=r"^miner='hardest': valid: random, semi_hard, batch_hard$"
    ):
        mining.mine("hardest", distance, positive, negative, key=jax.random.key(0))
    with pytest.raises(ValueError, match=r"^match='photo': valid: class, instance$"):
        mining.masks(ids([0]), ids([0]), "photo")
