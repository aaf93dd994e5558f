"""Masks and miners against loops written from their definitions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from sbir_jax import distance_weighted, mining, sharding
from sbir_jax.setting import ConfigError, stage_starts, stages


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


PICKING = [miner for miner in mining.MINERS if miner != "all"]


compiled = jax.jit(mining.mine, static_argnames=("miner", "metric", "dim"))


def mine(miner: str, distance, positive, negative, seed: int = 0, run=compiled) -> mining.Picks:
    """The picks as NumPy arrays; embeddings have eight dimensions."""
    picks = run(miner, distance, positive, negative, key=jax.random.key(seed), dim=8)
    return jax.tree.map(np.asarray, picks)


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
    picks = mine("batch_hard", distance, positive, negative)
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
    picks = mine("semi_hard", distance, positive, negative, seed)
    fallbacks = 0
    for a in range(9):
        count = min(positive[a].sum(), mining.POSITIVES) * negative[a].any()
        assert picks.valid[a].sum() == count
        assert len(set(picks.positive[a, picks.valid[a]].tolist())) == count  # no repetition
        for p, n, valid in zip(*(x[a] for x in picks), strict=True):
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


def sphere(seed: int, dim: int, rows: int) -> np.ndarray:
    x = np.random.default_rng(seed).standard_normal((rows, dim))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.mark.parametrize("dim", [2, 3, 8, 512])
def test_log_density_is_that_of_the_sphere(dim):
    """Up to its constant, the density that scipy's Beta law of d^2 / 4 gives to a distance d."""
    d = np.linspace(0.3, 1.7, 15)
    half = (dim - 1) / 2
    wanted = scipy.stats.beta.logpdf(d**2 / 4, half, half) + np.log(d / 2)
    got = np.asarray(distance_weighted.log_density(jnp.asarray(d, jnp.float32), dim))
    np.testing.assert_allclose(got - got[7], wanted - wanted[7], rtol=2e-5, atol=1e-5)


def weights_of(distance: np.ndarray, negative: np.ndarray, dim: int) -> np.ndarray:
    """Probabilities of Wu et al. for one anchor, in float64, from the formula."""
    d = np.maximum(distance.astype(np.float64), 0.5)
    q = d ** (dim - 2) * (1 - d**2 / 4) ** ((dim - 3) / 2)
    weight = np.where(negative & (distance < 1.4), 1 / q, 0)
    weight = weight if weight.any() else negative.astype(float)
    return weight / weight.sum()


@pytest.mark.parametrize("metric", distance_weighted.ON_SPHERE)
def test_distance_weighted_draws_with_the_published_probabilities(metric):
    """Chi-square of 40,000 negatives of each of four anchors against the exact probabilities: one
    whose nearest negative is under 0.5, one with every negative past 1.4, and two ordinary."""
    dim, draws = 8, 10_000
    rng = np.random.default_rng(4)
    distance = rng.uniform(0.55, 1.35, (4, 24))
    distance[0, 20:] = (0.1, 0.3, 0.45, 1.39)
    distance[1] = rng.uniform(1.41, 1.9, 24)
    distance[2, 20:] = 1.6
    negative = np.broadcast_to(np.arange(24) >= 5, distance.shape)
    given = {"l2": distance, "sq_l2": distance**2, "cosine": distance**2 / 2}[metric]

    @jax.jit
    @jax.vmap
    def draw(key):
        return mining.mine(
            "distance_weighted",
            given.astype(np.float32),
            ~negative,
            negative,
            key=key,
            metric=metric,
            dim=dim,
        )

    picks = draw(jax.random.split(jax.random.key(7), draws))
    assert picks.valid.all()
    for a in range(4):
        wanted = weights_of(distance[a], negative[a], dim)
        counts = np.bincount(np.ravel(picks.negative[:, a]), minlength=24)
        assert not counts[wanted == 0].any()
        expected = wanted[wanted > 0] * counts.sum()
        assert expected.min() > 5
        assert scipy.stats.chisquare(counts[wanted > 0], expected).pvalue > 1e-3


def test_weights_do_not_overflow_in_many_dimensions():
    """With 2,048 dimensions 1 / q spans hundreds of decades: weights stay finite and ordered, and
    nearer negatives than 0.5 weigh like 0.5."""
    distance = np.array([[0.2, 0.5, 0.6, 1.0, 1.39]], np.float32)
    weights = distance_weighted.sampling_weights(distance, np.ones_like(distance, bool), 2048)
    assert np.isfinite(weights).all() and weights[0, 0] == weights[0, 1] == 1
    assert np.all(np.diff(weights[0, 1:]) <= 0)


def test_distance_weighted_needs_the_sphere():
    """Another distance, or no dimension, is refused in one line."""
    arguments = batch(0)
    for wrong in ({"metric": "l1", "dim": 8}, {"metric": "l2"}):
        with pytest.raises(ValueError, match=r"^miner='distance_weighted', metric=.*l2, sq_l2, c"):
            mining.mine("distance_weighted", *arguments, key=jax.random.key(0), **wrong)


@pytest.mark.parametrize("miner", PICKING)
@pytest.mark.parametrize(
    "labels", [([0, 0, 0], [0, 0, 0]), ([0, 1, 2], [3, 4, 5])], ids=["one class", "no positive"]
)
def test_batches_without_triplets_are_invalid(miner, labels):
    """Without a negative, or without a positive, no triplet is valid; indices stay in range."""
    masks = mining.masks(ids(labels[0]), ids(labels[1]), "class")
    picks = mine(miner, np.ones((3, 3), np.float32), *masks)
    assert not picks.valid.any()
    for index in (picks.positive, picks.negative):
        assert ((index >= 0) & (index < 3)).all()


@pytest.mark.parametrize("miner", PICKING)
def test_blocks_of_rows_change_nothing(miner, monkeypatch):
    """Mined 6 of 48 rows at a time, split over eight devices or not, the picks are the same."""
    distance, positive, negative = batch(3, anchors=48)
    whole = mine(miner, distance, positive, negative, 5)
    assert whole.valid.any()
    monkeypatch.setattr(mining, "_BLOCK", 6 * 12)
    arrays = sharding.put_rows(sharding.make_mesh(), (distance, positive, negative))
    for given in (arrays, (distance, positive, negative)):
        picks = mine(miner, *given, 5, run=mining.mine)
        jax.tree.map(np.testing.assert_array_equal, picks, whole)


@pytest.mark.parametrize("miner", PICKING)
def test_mining_takes_less_memory_than_the_matrix(miner):
    """Mining 2,048 x 2,048 distances (16 MiB) allocates no second matrix, let alone a cube."""
    distance, positive, negative = batch(0, anchors=2048, candidates=2048, classes=512)

    @jax.jit
    def run(*arrays):
        return mining.mine(miner, *arrays, key=jax.random.key(0), dim=8)

    memory = run.lower(distance, positive, negative).compile().memory_analysis()
    assert memory.temp_size_in_bytes < distance.nbytes


def test_bad_names_are_one_line():
    """An unknown miner or match is refused with the valid ones."""
    distance, positive, negative = batch(0)
    with pytest.raises(ValueError, match=r"^miner='hardest': valid: random, all, semi_hard, bat"):
        mine("hardest", distance, positive, negative)
    with pytest.raises(ValueError, match=r"^miner='all': every triplet counts, so"):
        mine("all", distance, positive, negative)
    with pytest.raises(ValueError, match=r"^match='photo': valid: class, instance$"):
        mining.masks(ids([0]), ids([0]), "photo")


AT = {"path": "loss.triplet.miner", "names": mining.MINERS}
RUN = {"batch_size": 8, "epoch_size": 40, "total": 400}


@pytest.mark.parametrize(
    ("text", "starts"),
    [
        ("semi_hard", (("semi_hard", 0),)),
        ("semi_hard, batch_hard@60%", (("semi_hard", 0), ("batch_hard", 240))),
        (
            "random ,all@2 epochs,semi_hard @ 0.9e2 steps, random@2400 examples",
            (("random", 0), ("all", 10), ("semi_hard", 90), ("random", 300)),
        ),
    ],
)
def test_a_schedule_of_miners_is_read_in_steps(text, starts):
    """Durations of every unit become steps of the run: 400 of them, 5 an epoch."""
    assert stage_starts(text, **AT, **RUN) == starts
    assert [name for name, _ in stages(text, **AT)] == [name for name, _ in starts]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("semi", "'semi': did you mean 'semi_hard'"),
        ("", "'': valid: random, all"),
        ("semi_hard,", "'': valid: random, all"),
        ("semi_hard, batch_hard", "'batch_hard' does not say when it begins; write NAME@DURATION"),
        ("semi_hard, batch_hard@60", "'batch_hard@60' does not say when"),
        ("semi_hard@5%", "'semi_hard' begins with the run; leave out @5%"),
    ],
)
def test_a_schedule_that_cannot_be_read_is_one_line(text, reason):
    """The line names the setting, what was written and what is wrong with it."""
    with pytest.raises(ConfigError) as caught:
        stages(text, **AT)
    assert str(caught.value).startswith(f"config.loss.triplet.miner={text!r}: {reason}")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("semi_hard, batch_hard@400 steps", "batch_hard"),
        ("semi_hard, all@60%, random@50%", "all"),
        ("semi_hard, all@0%", "semi_hard"),
    ],
)
def test_a_stage_without_a_step_is_refused(text, name):
    """A stage that begins after the end of the run, or no earlier than the next, is an error."""
    with pytest.raises(ConfigError, match=f"'{name}' would have no step: .* in this run of 400$"):
        stage_starts(text, **AT, **RUN)
