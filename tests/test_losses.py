"""Losses against float64 loops and torch, and at every awkward batch."""

from __future__ import annotations

import functools

import jax
import numpy as np
import pytest

from sbir_jax import losses, mining
from sbir_jax.config import LossConfig

KEY = jax.random.key(0)
TRIPLET = functools.partial(
    losses.triplet, margin=0.2, distance="l2", miner="batch_hard", match="class", key=KEY
)
INFONCE = functools.partial(losses.infonce, temperature=0.1, match="class")
EVERY = {
    "infonce": INFONCE,
    "random": functools.partial(TRIPLET, miner="random"),
    "semi_hard": functools.partial(TRIPLET, miner="semi_hard"),
    "batch_hard": TRIPLET,
    "batch_hard-sq_l2": functools.partial(TRIPLET, distance="sq_l2"),
    "batch_hard-cosine": functools.partial(TRIPLET, distance="cosine"),
}


@functools.cache
def compiled(name: str):
    """Value, diagnostics and gradients of a loss; tests use one shape, so each compiles once."""
    return jax.jit(jax.value_and_grad(EVERY[name], (0, 1), has_aux=True))


def ids(label, instance=None) -> mining.Ids:
    instance = [-1] * len(label) if instance is None else instance
    return mining.Ids(np.array(label, np.int32), np.array(instance, np.int32))


def unit_rows(seed: int, rows: int, size: int = 16) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(rows, size))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


PAIRS = 12


def batch(seed: int, pairs: int = PAIRS, classes: int = 4):
    labels = np.random.default_rng(seed).integers(classes, size=pairs)
    return unit_rows(seed, pairs), unit_rows(seed + 100, pairs), ids(labels), ids(labels)


def value_and_gradients(loss, *data):
    call = (
        compiled(loss)
        if isinstance(loss, str)
        else jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))
    )
    (value, diagnostics), gradients = call(*data)
    return float(value), {k: float(v) for k, v in diagnostics.items()}, gradients


def both_ways(sketch, photo, sketch_ids, photo_ids, match):
    """Yields (anchor, candidates, positives, negatives) of each anchor, from the definition."""
    for anchors, others, own, their in (
        (sketch, photo, sketch_ids, photo_ids),
        (photo, sketch, photo_ids, sketch_ids),
    ):
        for a in range(len(anchors)):
            positives, negatives = [], []
            for c in range(len(others)):
                if match == "class":
                    same = own.label[a] == their.label[c]
                else:
                    same = own.instance[a] == their.instance[c]
                (positives if same else negatives).append(c)
            if match == "instance" and own.instance[a] < 0:
                positives, negatives = [], []
            yield anchors[a].astype(np.float64), others.astype(np.float64), positives, negatives


def reference_distance(x, y, name):
    square = ((x - y) ** 2).sum(-1)
    return {"l2": np.sqrt(square), "sq_l2": square, "cosine": square / 2}[name]  # unit vectors


def every_image(sketch, photo, sketch_ids, photo_ids):
    """Yields (anchor, its cosines to all others of both sides, which are of its class)."""
    z = np.concatenate([sketch, photo]).astype(np.float64)
    label = np.concatenate([sketch_ids.label, photo_ids.label])
    for a in range(len(z)):
        others = np.arange(len(z)) != a
        yield z[a], z[others], label[others] == label[a]


def test_joint_infonce_is_supervised_contrastive_over_all_images():
    """With pairs="joint" every image meets every other one, itself excluded (Khosla, eq. 2)."""
    data = batch(3)
    terms = []
    for anchor, others, same in every_image(*data):
        logits = others @ anchor / 0.1
        log_share = logits - np.log(np.exp(logits).sum())
        if same.any() and not same.all():
            terms.append(-log_share[same].mean())
    loss = functools.partial(INFONCE, pairs="joint")
    value, diagnostics, gradients = value_and_gradients(loss, *data)
    assert value == pytest.approx(np.mean(terms), abs=1e-5)
    assert diagnostics["valid_anchors"] == pytest.approx(len(terms) / 24)
    assert all(np.isfinite(g).all() for g in gradients)


def test_joint_triplet_mines_within_a_side_too():
    """With pairs="joint" the hardest positive and negative may be of the anchor's own side."""
    data = batch(4)
    hinges = []
    for anchor, others, same in every_image(*data):
        d = np.linalg.norm(others - anchor, axis=1)
        if same.any() and not same.all():
            hinges.append(max(d[same].max() - d[~same].min() + 0.2, 0))
    value, _, gradients = value_and_gradients(functools.partial(TRIPLET, pairs="joint"), *data)
    assert value == pytest.approx(np.mean(hinges), abs=2e-6)
    assert all(np.isfinite(g).all() for g in gradients)


@pytest.mark.parametrize("match", mining.MATCHES)
@pytest.mark.parametrize("distance", ["l2", "sq_l2", "cosine"])
def test_batch_hard_triplet_is_the_definition(distance, match):
    """Loss and every diagnostic are those of a float64 loop over anchors of both directions."""
    sketch, photo, label, _ = batch(0)
    instance = [0, 1, 2, 2, 4, 5, 6, 7, -1, 9, 10, 11]
    data = sketch, photo, ids(label.label, instance), ids(label.label, instance)
    hinges, hardest, top1 = [], [], []
    all_positive = []
    for anchor, others, positives, negatives in both_ways(*data, match):
        if positives and negatives:
            d = reference_distance(anchor, others, distance)
            hinges.append(max(d[positives].max() - d[negatives].min() + 0.5, 0))
            hardest.append(d[negatives].min())
            top1.append(d[positives].min() < d[negatives].min())
            all_positive += list(d[positives])
    loss = functools.partial(TRIPLET, margin=0.5, distance=distance, match=match)
    value, diagnostics, _ = value_and_gradients(loss, *data)
    collapse = max(np.sum(side.astype(np.float64).mean(0) ** 2) for side in (sketch, photo))
    expected = {
        "valid_anchors": len(hinges) / 24,
        "active_triplets": np.mean(np.array(hinges) > 0),
        "d_positive": np.mean(all_positive),
        "d_hardest_negative": np.mean(hardest),
        "batch_top1": np.mean(top1),
        "mean_cosine": collapse,
    }
    assert value == pytest.approx(np.mean(hinges), abs=2e-6)
    assert diagnostics == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize("miner", ["random", "semi_hard"])
def test_triplet_is_the_mean_over_picked_triplets(miner):
    """The loss is the float64 mean hinge of the miner's picks, pooled over both directions."""
    sketch, photo, sketch_ids, photo_ids = data = batch(1)
    matrix = np.linalg.norm(sketch[:, None].astype(np.float64) - photo[None], axis=-1)
    hinges = []
    for d, own, their, key in zip(
        (matrix, matrix.T),
        (sketch_ids, photo_ids),
        (photo_ids, sketch_ids),
        jax.random.split(KEY),
        strict=True,
    ):
        masks = mining.masks(own, their, "class")
        picks = mining.mine(miner, d.astype(np.float32), *masks, key=key)
        for a, s in np.argwhere(np.asarray(picks.valid)):
            positive, negative = picks.positive[a, s], picks.negative[a, s]
            hinges.append(max(d[a, positive] - d[a, negative] + 0.2, 0))
    value, _, _ = value_and_gradients(miner, *data)
    assert value == pytest.approx(np.mean(hinges), abs=2e-6)


@pytest.mark.parametrize("match", mining.MATCHES)
def test_infonce_is_the_definition(match):
    """Supervised contrastive loss of a float64 loop, several positives and duplicates included."""
    sketch, photo, label, _ = batch(2)
    instance = [0, 1, 2, 2, 4, 5, 6, 7, -1, 9, 10, 11]
    data = sketch, photo, ids(label.label, instance), ids(label.label, instance)
    terms = []
    for anchor, others, positives, negatives in both_ways(*data, match):
        if positives and negatives:
            logits = others @ anchor / 0.1
            log_share = logits - np.log(np.exp(logits).sum())
            terms.append(-log_share[positives].mean())
    value, diagnostics, _ = value_and_gradients(functools.partial(INFONCE, match=match), *data)
    assert value == pytest.approx(np.mean(terms), abs=5e-6)
    assert diagnostics["valid_anchors"] == pytest.approx(len(terms) / 24)


def test_infonce_of_distinct_instances_is_clips_with_torch():
    """All instances distinct: torch's symmetric cross-entropy, in value and gradients."""
    torch = pytest.importorskip("torch")
    sketch, photo, label, _ = batch(3)
    linked = ids(label.label, range(12))
    theirs = [torch.tensor(x, requires_grad=True) for x in (sketch, photo)]
    rows = [torch.nn.functional.normalize(x) for x in theirs]
    logits = rows[0] @ rows[1].T / 0.1
    target = torch.arange(12)
    cross_entropy = torch.nn.functional.cross_entropy
    wanted = (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2
    wanted.backward()
    loss = functools.partial(INFONCE, match="instance")
    value, _, gradients = value_and_gradients(loss, sketch, photo, linked, linked)
    assert value == pytest.approx(wanted.item(), abs=5e-6)
    for ours, x in zip(gradients, theirs, strict=True):
        np.testing.assert_allclose(ours, x.grad.numpy(), atol=5e-6)


def test_batch_hard_gradient_is_torchs():
    """Batch-hard triplet by plain torch autograd over the full matrix: value and gradients."""
    torch = pytest.importorskip("torch")
    sketch, photo, sketch_ids, photo_ids = batch(4)
    theirs = [torch.tensor(x, requires_grad=True) for x in (sketch, photo)]
    matrix = (theirs[0][:, None] - theirs[1][None]).norm(dim=-1)
    same = torch.tensor(sketch_ids.label[:, None] == photo_ids.label)
    terms = []
    for d, positive in ((matrix, same), (matrix.T, same.T)):
        hardest = d.masked_fill(~positive, -1).max(1).values
        nearest = d.masked_fill(positive, 9).min(1).values
        terms.append(torch.relu(hardest - nearest + 0.2)[positive.any(1) & (~positive).any(1)])
    wanted = torch.cat(terms).mean()
    wanted.backward()
    value, _, gradients = value_and_gradients("batch_hard", sketch, photo, sketch_ids, photo_ids)
    assert value == pytest.approx(wanted.item(), abs=2e-6)
    for ours, x in zip(gradients, theirs, strict=True):
        np.testing.assert_allclose(ours, x.grad.numpy(), atol=2e-6)


@pytest.mark.parametrize("name", EVERY)
def test_awkward_batches_have_finite_gradients(name):
    """Sketches equal to their photos, a zero vector, a single-member class: all stays finite."""
    sketch, _, _, _ = batch(5)
    sketch[1] = 0
    labels = ids([0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 3])
    value, diagnostics, gradients = value_and_gradients(name, sketch, sketch.copy(), labels, labels)
    assert np.isfinite([value, *diagnostics.values()]).all()
    assert all(np.isfinite(g).all() for g in gradients)
    assert any(np.any(g) for g in gradients)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize(
    "sides",
    [(ids([1] * PAIRS), ids([1] * PAIRS)), (ids(range(PAIRS)), ids(range(20, 20 + PAIRS)))],
    ids=["one class", "no positive"],
)
def test_batches_without_valid_anchor_are_zero(name, sides):
    """Without a negative, or without a positive, loss and gradients are exactly 0."""
    value, diagnostics, gradients = value_and_gradients(
        name, unit_rows(6, PAIRS), unit_rows(7, PAIRS), *sides
    )
    assert value == 0 and diagnostics["valid_anchors"] == 0
    assert np.isfinite(list(diagnostics.values())).all()
    assert not any(np.any(g) for g in gradients)


@pytest.mark.parametrize("name", [n for n in EVERY if n != "infonce"])
@pytest.mark.parametrize("fill", [0.0, 0.25], ids=["zeros", "identical"])
def test_collapse_shows(name, fill):
    """All embeddings equal: the triplet loss is the margin, the gradient 0, and the diagnostics
    say collapse (mean cosine 1, or 0 for zero vectors; no anchor finds its positive first)."""
    x = np.full((PAIRS, 16), fill, np.float32)
    labels = ids([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3])
    value, diagnostics, gradients = value_and_gradients(name, x, x.copy(), labels, labels)
    assert value == pytest.approx(0.2)
    assert not any(np.any(g) for g in gradients)
    assert diagnostics["mean_cosine"] == pytest.approx(float(fill > 0))
    assert diagnostics["batch_top1"] == 0 and diagnostics["active_triplets"] == 1


def test_collapsed_infonce_is_log_of_batch():
    """All embeddings equal: every candidate has probability 1/B."""
    x = np.full((PAIRS, 16), 0.25, np.float32)
    labels = ids([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3])
    value, diagnostics, _ = value_and_gradients("infonce", x, x.copy(), labels, labels)
    assert value == pytest.approx(np.log(PAIRS), abs=1e-5)
    assert diagnostics["mean_cosine"] == pytest.approx(1)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_embedding_makes_the_loss_nan(name, bad):
    """Even where the row is in no valid triplet, a NaN or infinity shows in the loss."""
    sketch, photo, _, _ = batch(8)
    labels = ids([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3])
    others = ids([0, 0, 0, 1, 1, 1, 2, 2, 2, 4, 4, 4])
    for side, row in ((sketch, 0), (sketch, 11), (photo, 2)):
        kept = side[row].copy()
        side[row, 3] = bad
        value, _, _ = value_and_gradients(name, sketch, photo, labels, others)
        assert np.isnan(value)
        side[row] = kept


@pytest.mark.parametrize("name", ["infonce", "triplet"])
def test_config_selects_the_loss(name):
    """`cross_modal` is the named loss with the config's numbers."""
    data = batch(9)
    config = LossConfig(
        name=name, temperature=0.3, margin=0.4, distance="sq_l2", miner="batch_hard"
    )
    value, _ = losses.cross_modal(config, *data, key=KEY)
    expected = {
        "infonce": functools.partial(INFONCE, temperature=0.3),
        "triplet": functools.partial(TRIPLET, margin=0.4, distance="sq_l2"),
    }[name](*data)[0]
    assert value == expected


def test_no_cube_is_built():
    """At B = 512 the compiled step needs a few B x B arrays, far below one B x B x B (512 MiB)."""
    data = batch(0, pairs=512)
    for name in ("infonce", "semi_hard"):
        memory = compiled(name).lower(*data).compile().memory_analysis()
        assert memory.temp_size_in_bytes < 24 * 2**20, name


def test_bad_input_is_one_line():
    """Shapes that do not agree and unknown names are refused, naming what was given."""
    sketch, photo, sketch_ids, photo_ids = batch(10)
    with pytest.raises(ValueError, match=r"sketch \(12, 16\), photo \(12, 8\): expected .* one D"):
        INFONCE(sketch, photo[:, :8], sketch_ids, photo_ids)
    with pytest.raises(ValueError, match=r"photo_ids label \(3,\), instance \(3,\): expected \(12"):
        TRIPLET(sketch, photo, sketch_ids, ids([0, 1, 2]))
    with pytest.raises(ValueError, match=r"^loss name='arcface': valid: infonce, triplet$"):
        losses.cross_modal(
            LossConfig(name="arcface"), sketch, photo, sketch_ids, photo_ids, key=KEY
        )
