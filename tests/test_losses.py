"""What every loss keeps to at any batch, the figures that go with it, and weighted sums."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest
from loss_cases import (
    DIM,
    EVERY,
    MINING,
    PAIRS,
    anchors,
    batch,
    compiled,
    config,
    ids,
    measured,
    parameters,
    unit_rows,
)

from sbir_jax import losses, memory, mining, sharding
from sbir_jax.loss_config import LOSSES, LossConfig
from sbir_jax.loss_groups import MINERS
from sbir_jax.losses.category import category
from sbir_jax.losses.ways import ways

FOUR_CLASSES = [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3]
ON_PAIRS = {"contrastive", "sigmoid"}  # a positive or a negative alone is a valid pair to these
ON_ANCHORS = sorted(EVERY.keys() - ON_PAIRS - {"category"})
ONE_CLASS = ids([1] * PAIRS), ids([1] * PAIRS)
ALL_ALONE = ids(range(PAIRS)), ids(range(20, 20 + PAIRS))


def test_every_loss_and_miner_is_tested():
    """The cases leave out no loss and no miner."""
    assert {loss.name for loss in EVERY.values()} == set(LOSSES)
    assert {loss.triplet.miner for loss in MINING.values()} == set(MINERS) == set(mining.MINERS)


@pytest.mark.parametrize("name", EVERY)
def test_awkward_batches_have_finite_gradients(name):
    """Sketches equal to their photos, a zero vector, a single-member class, all embeddings equal,
    all zero: value, figures and gradients stay finite, and the first batch has a gradient."""
    sketch, _, _, _ = batch(5)
    sketch[1] = 0
    labels = ids([0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 3, 4, 4, 5, 5])
    for x in (np.full_like(sketch, 0.25), np.zeros_like(sketch), sketch):
        found = measured(EVERY[name], x, x.copy(), labels, labels)
        assert np.isfinite([found.value, *found.figures.values()]).all()
        assert all(np.isfinite(g).all() for g in found.gradients)
    assert any(np.any(g) for g in found.gradients)


@pytest.mark.parametrize("name", ON_ANCHORS)
@pytest.mark.parametrize("sides", [ONE_CLASS, ALL_ALONE], ids=["one class", "no positive"])
def test_batches_without_valid_anchor_are_zero(name, sides):
    """Without a negative, or without a positive, loss and gradients are exactly 0."""
    found = measured(EVERY[name], unit_rows(6), unit_rows(7), *sides)
    assert found.value == 0 and found.figures["valid_anchors"] == 0
    assert np.isfinite(list(found.figures.values())).all()
    assert not any(np.any(g) for g in found.gradients)


@pytest.mark.parametrize("name", sorted(ON_PAIRS))
def test_losses_on_pairs_need_pairs_of_one_kind_only(name):
    """One class still has positives and all singletons still have negatives, so gradients; by
    instance and without a link there is no pair, and loss and gradients are exactly 0."""
    sides = unit_rows(6), unit_rows(7)
    for identities in (ONE_CLASS, ALL_ALONE):
        found = measured(EVERY[name], *sides, *identities)
        assert found.value > 0
        assert all(np.any(g) and np.isfinite(g).all() for g in found.gradients)
    found = measured(dataclasses.replace(EVERY[name], match="instance"), *sides, *ONE_CLASS)
    assert found.value == 0 and not any(np.any(g) for g in found.gradients)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_embedding_makes_the_loss_nan(name, bad):
    """Even where the row is in no valid triplet, a NaN or infinity shows in the loss."""
    sketch, photo, _, _ = batch(8)
    others = ids([*FOUR_CLASSES[:12], 4, 4, 4, 4])
    for side, row in ((sketch, 0), (sketch, 15), (photo, 2)):
        kept = side[row].copy()
        side[row, 3] = bad
        assert np.isnan(measured(EVERY[name], sketch, photo, ids(FOUR_CLASSES), others).value)
        side[row] = kept


@pytest.mark.parametrize("name", MINING)
@pytest.mark.parametrize("fill", [0.0, 0.25], ids=["zeros", "identical"])
def test_collapse_shows(name, fill):
    """All embeddings equal: the triplet loss is the margin, the gradient 0, and the figures say
    collapse (mean cosine 1, or 0 for zero vectors; no anchor finds its positive first)."""
    x = np.full((PAIRS, DIM), fill, np.float32)
    found = measured(MINING[name], x, x.copy(), ids(FOUR_CLASSES), ids(FOUR_CLASSES))
    assert found.value == pytest.approx(0.2)
    assert not any(np.any(g) for g in found.gradients)
    assert found.figures["mean_cosine"] == pytest.approx(float(fill > 0))
    assert found.figures["batch_top1"] == 0 and found.figures["active_triplets"] == 1


def test_collapsed_infonce_is_log_of_batch():
    """All embeddings equal: every candidate has probability 1/B."""
    x = np.full((PAIRS, DIM), 0.25, np.float32)
    found = measured(EVERY["infonce"], x, x.copy(), ids(FOUR_CLASSES), ids(FOUR_CLASSES))
    assert found.value == pytest.approx(np.log(PAIRS), abs=1e-5)
    assert found.figures["mean_cosine"] == pytest.approx(1)


@pytest.mark.parametrize(
    "loss",
    [
        MINING["batch_hard-sq_l2"],
        dataclasses.replace(MINING["batch_hard"], match="instance"),
        dataclasses.replace(MINING["batch_hard"], pairs="intra"),
        dataclasses.replace(EVERY["infonce"], pairs="joint"),
    ],
    ids=["cross", "instance", "intra", "joint"],
)
def test_health_is_the_definition(loss):
    """Every common figure is that of a float64 loop over anchors, by the loss's own distance."""
    sketch, photo, *identities = batch(0)
    distance = getattr(getattr(loss, loss.name), "distance", "cosine")
    met = list(anchors(loss, sketch, photo, *identities))
    positives, hardest, top1 = [], [], []
    for anchor in met:
        d = anchor.distance(distance)
        positives += list(d[anchor.positive])
        if anchor.valid:
            hardest.append(d[anchor.negative].min())
            top1.append(d[anchor.positive].min() < d[anchor.negative].min())
    expected = {
        "valid_anchors": len(top1) / len(met),
        "d_positive": np.mean(positives),
        "d_hardest_negative": np.mean(hardest),
        "batch_top1": np.mean(top1),
        "mean_cosine": max(np.sum(x.astype(np.float64).mean(0) ** 2) for x in (sketch, photo)),
    }
    figures = measured(loss, sketch, photo, *identities).figures
    assert {name: figures[name] for name in expected} == pytest.approx(expected, abs=2e-6)


def test_own_figures_are_their_definitions():
    """Shares of what is active, from float64 loops over anchors."""
    data = batch(0)
    met = list(anchors(EVERY["contrastive"], *data))
    negatives = np.concatenate([a.distance("l2")[a.negative] for a in met])
    loss = config("contrastive", margin=1.3)
    share = measured(loss, *data).figures["active_negatives"]
    assert share == pytest.approx(np.mean(negatives < 1.3))
    violations = [
        near - far + 0.2
        for a in met
        for near in a.distance("l2")[a.positive]
        for far in a.distance("l2")[a.negative]
    ]
    share = measured(MINING["all"], *data).figures["active_triplets"]
    assert share == pytest.approx(np.mean(np.array(violations) > 0))
    smooth = measured(EVERY["smooth_ap"], *data)
    assert smooth.figures["smooth_ap"] == pytest.approx(1 - smooth.value)


@pytest.mark.parametrize(
    "name", ["random", "semi_hard", "distance_weighted", "all", "quadruplet", "smooth_ap"]
)
def test_eight_devices_see_the_global_batch(name):
    """Loss, gradients and figures of a batch split over eight devices are those of one device."""
    data = batch(11)
    one = measured(EVERY[name], *data)
    eight = measured(EVERY[name], *sharding.put_rows(sharding.make_mesh(), data))
    assert eight.value == pytest.approx(one.value, rel=2e-5, abs=1e-6)
    assert eight.figures == pytest.approx(one.figures, abs=1e-5)
    for found, expected in zip(eight.gradients, one.gradients, strict=True):
        np.testing.assert_allclose(found, expected, atol=2e-5)


def test_a_sum_adds_up():
    """A weighted sum is that of its terms, in value and gradient, and reports each of them."""
    data = batch(9)
    own = dict(triplet=MINING["batch_hard"].triplet, n_pairs=EVERY["n_pairs"].n_pairs)
    whole = LossConfig(name="triplet + 0.5*n_pairs", **own)
    found = measured(whole, *data)
    parts = [measured(MINING["batch_hard"], *data), measured(EVERY["n_pairs"], *data)]
    assert found.value == pytest.approx(parts[0].value + 0.5 * parts[1].value, rel=1e-6)
    for g, a, b in zip(found.gradients, *(part.gradients for part in parts), strict=True):
        np.testing.assert_allclose(g, a + 0.5 * b, atol=1e-6)
    assert found.figures["loss_triplet"] == pytest.approx(parts[0].value)
    assert found.figures["loss_n_pairs"] == pytest.approx(parts[1].value)


def test_prefixes_are_trained_as_embeddings_of_their_own():
    """Matryoshka is the mean of the losses of the prefixes, each normalised again, and the whole;
    memory and class vectors are cut likewise, and the figures are those of the whole."""
    data = batch(10)
    kept = memory.push(memory.init(9, DIM), *batch(13, pairs=9))
    name = "infonce + category"
    nested = measured(LossConfig(name=name, matryoshka="5"), *data, memory=kept)
    params = parameters(LossConfig(name=name))
    values = []
    for length in (5, DIM):
        cut = [x[:, :length] for x in (data[0], data[1], kept.sketch, kept.photo)]
        cut = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in cut]
        past = dataclasses.replace(kept, sketch=cut[2], photo=cut[3])
        short = {"category": {"weights": params["category"]["weights"][:, :length]}}
        alone = measured(LossConfig(name=name), *cut[:2], *data[2:], params=short, memory=past)
        values.append(alone.value)
    assert nested.value == pytest.approx(np.mean(values), rel=1e-5)
    assert nested.figures == pytest.approx(alone.figures, abs=1e-6)


def test_a_miner_takes_over_at_its_step():
    """Up to the step before 5 the first miner mines, from 5 the second, from 9 the third."""
    data = batch(14)
    staged = config("triplet", miner="random, batch_hard@5 steps, all@9 steps")
    turns = {0: "random", 4: "random", 5: "batch_hard", 8: "batch_hard", 9: "all", 99: "all"}
    for step, name in turns.items():
        found, expected = measured(staged, *data, step=step), measured(MINING[name], *data)
        assert found.value == pytest.approx(expected.value, rel=1e-6)
        for g, wanted in zip(found.gradients, expected.gradients, strict=True):
            np.testing.assert_allclose(g, wanted, atol=1e-6)


@pytest.mark.parametrize(
    "name, learnt", [("infonce", {"learn_temperature": True}), ("sigmoid", {"learn": True})]
)
def test_learnt_scalars_start_at_the_settings_and_have_a_slope(name, learnt):
    """Before any step the loss is that of the settings, and the gradient by each parameter is the
    change of the loss with it."""
    data, loss = batch(15), config(name, **learnt)
    fixed = config(name, **dict.fromkeys(learnt, False))
    params = parameters(loss)[name]
    found = measured(loss, *data)
    assert found.value == pytest.approx(measured(fixed, *data).value, rel=1e-5)
    for each, start in params.items():
        near, far = (
            measured(loss, *data, params={name: params | {each: start + h}}).value
            for h in (0.01, -0.01)
        )
        assert float(found.slopes[name][each]) == pytest.approx((near - far) / 0.02, rel=0.01)


def test_class_vectors_are_learnt():
    """The gradient by the class vectors is the slope of the loss along a random direction."""
    loss, data = config("category", scale=4.0), batch(16)
    weights = np.asarray(parameters(loss)["category"]["weights"])
    way = np.random.default_rng(0).normal(size=weights.shape)
    near, far = (
        measured(loss, *data, params={"category": {"weights": np.float32(weights + h * way)}}).value
        for h in (1e-3, -1e-3)
    )
    slope = np.sum(np.asarray(measured(loss, *data).slopes["category"]["weights"]) * way)
    assert slope == pytest.approx((near - far) / 2e-3, rel=0.02)
    first, other = (losses.init_params(loss, jax.random.key(k), classes=5, dim=8) for k in (0, 1))
    assert first["category"]["weights"].shape == (5, 8)
    assert np.abs(first["category"]["weights"] - other["category"]["weights"]).max() > 0.1


def test_only_what_is_asked_for_is_learnt():
    """Losses without parameters have none, and a learnt temperature stays at 0.01 or above."""
    assert parameters(EVERY["infonce"]) == parameters(MINING["all"]) == {}
    assert parameters(config("sigmoid", learn=False)) == {}
    for log_temperature, kept in ((-9.0, np.log(0.01)), (-2.0, -2.0)):
        params = {"infonce": {"log_temperature": np.float32(log_temperature)}, "category": {}}
        after = losses.bounded(params)
        assert float(after["infonce"]["log_temperature"]) == pytest.approx(kept)
        assert after.keys() == params.keys()


@pytest.mark.parametrize("name", ["all", "quadruplet"])
def test_no_cube_is_built(name):
    """At B = 512 the compiled step needs a few B x B arrays (1 MiB each), far below B x B x B."""
    sketch, photo, *identities = batch(0, pairs=512)
    lowered = compiled(EVERY[name]).lower(sketch, photo, {}, *identities, None, 0)
    assert lowered.compile().memory_analysis().temp_size_in_bytes < 24 * 2**20


def test_bad_input_is_one_line():
    """Shapes that do not agree and unknown names are refused, naming what was given."""
    sketch, photo, sketch_ids, photo_ids = batch(10)
    with pytest.raises(ValueError, match=r"sketch \(16, 16\), photo \(16, 8\): expected .* one D"):
        ways(sketch, photo[:, :8], sketch_ids, photo_ids, match="class")
    with pytest.raises(ValueError, match=r"photo_ids label \(3,\), instance \(3,\): expected \(16"):
        ways(sketch, photo, sketch_ids, ids([0, 1, 2]), match="class")
    with pytest.raises(ValueError, match=r"^pairs='both': valid: cross, intra, joint$"):
        ways(sketch, photo, sketch_ids, photo_ids, match="class", pairs="both")
    with pytest.raises(ValueError, match=r"^margin_form='sphere': valid: none, cosface, arcface$"):
        category(sketch, sketch_ids.label, photo, scale=1.0, margin_form="sphere", margin=0.1)


def test_a_label_beyond_the_classes_makes_the_loss_nan():
    """A category that has no vector shows at once instead of being taken for another."""
    sketch, photo, sketch_ids, photo_ids = batch(17)
    sketch_ids.label[3] = 40
    assert np.isnan(measured(EVERY["category"], sketch, photo, sketch_ids, photo_ids).value)
