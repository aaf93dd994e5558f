"""Each loss against its definition in float64: the value, and the slope in random directions."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest
from loss_cases import DIM, KEY, MINING, Anchor, anchors, batch, config, measured, parameters
from numpy.linalg import norm

from sbir_jax import memory, mining
from sbir_jax.loss_config import LossConfig


def hinge(x: float) -> float:
    return max(x, 0.0)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def valid(found: list[Anchor]) -> list[Anchor]:
    return [anchor for anchor in found if anchor.valid]


def triplet(own, found) -> float:
    terms = []
    for anchor in valid(found):
        d = anchor.distance(own.distance)
        near, far = d[anchor.positive], d[anchor.negative]
        if own.miner == "batch_hard":
            near, far = [near.max()], [far.min()]
        for violation in (p - n + own.margin for p in near for n in far):
            terms.append(hinge(violation) if own.form == "hinge" else np.log1p(np.exp(violation)))
    return np.mean([x for x in terms if x > 0 or own.average == "valid"])


def quadruplet(own, found) -> float:
    first, second = [], []
    for a in valid(found):
        d = a.distance(own.distance)
        n = np.where(a.negative, d, np.inf).argmin()
        first.append(hinge(d[a.positive].max() - d[n] + own.margin))
        thirds = [b for b in found if b.way == a.way and b.identity != a.identity and b.negative[n]]
        if thirds:
            nearest = min(b.distance(own.distance)[n] for b in thirds)
            second.append(hinge(d[a.positive].max() - nearest + own.second_margin))
    return np.mean(first) + np.mean(second)


def relative_triplet(weights: list[float], own, found) -> float:
    terms = []
    for a, weight in zip(valid(found), weights, strict=True):
        d = a.distance(own.distance)
        terms.append(weight * hinge(d[a.positive].max() - d[a.negative].min() + own.margin))
    return np.sum(terms) / np.sum(weights)


def relative_weights(own, found) -> list[float]:
    weights = []
    for a in valid(found):
        n = np.where(a.negative, a.distance(own.distance), np.inf).argmin()
        owners = [b.vector for b in found if b.way == a.way and b.positive[n]]
        cosines = [b @ a.vector / norm(b) / norm(a.vector) for b in owners]
        weights.append(min([1.0, *(1 - cosine for cosine in cosines)]))
    return weights


def contrastive(own, found) -> float:
    pull = [d**2 for a in found for d in a.distance(own.distance)[a.positive]]
    push = [hinge(own.margin - d) ** 2 for a in found for d in a.distance(own.distance)[a.negative]]
    return (np.mean(pull) + np.mean(push)) / 2


def infonce(own, found) -> float:
    terms = []
    for anchor in valid(found):
        counts = anchor.positive | anchor.negative
        share = np.exp(anchor.cosine / own.temperature) * counts
        share /= share.sum()
        e = own.label_smoothing
        target = (1 - e) * anchor.positive / anchor.positive.sum() + e * counts / counts.sum()
        terms.append(-(target[counts] * np.log(share[counts])).sum())
    return np.mean(terms)


def n_pairs(own, found) -> float:
    terms = []
    for anchor in valid(found):
        s = anchor.cosine / own.temperature
        against = [np.log(1 + np.exp(s[anchor.negative] - p).sum()) for p in s[anchor.positive]]
        terms.append(np.mean(against))
    return np.mean(terms)


def sigmoid_pairs(own, found) -> float:
    terms = []
    for anchor in found:
        logits = own.scale * anchor.cosine + own.bias
        total = -np.log(sigmoid(logits[anchor.positive])).sum()
        total -= np.log(sigmoid(-logits[anchor.negative])).sum()
        if anchor.positive.any() or anchor.negative.any():
            terms.append(total)
    return np.mean(terms)


def multi_similarity(own, found) -> float:
    terms = []
    for anchor in valid(found):
        s = anchor.cosine
        pulled = [p for p in s[anchor.positive] if p - own.epsilon < s[anchor.negative].max()]
        pushed = [n for n in s[anchor.negative] if n + own.epsilon > s[anchor.positive].min()]
        pull = np.log(1 + sum(np.exp(-own.alpha * (p - own.base)) for p in pulled)) / own.alpha
        push = np.log(1 + sum(np.exp(own.beta * (n - own.base)) for n in pushed)) / own.beta
        terms.append(pull + push)
    return np.mean(terms)


def circle(weights: list[tuple], own, found) -> float:
    terms = []
    for anchor, (pull, push) in zip(valid(found), weights, strict=True):
        s, m = anchor.cosine, own.margin
        positives = np.exp(-own.scale * pull * (s - (1 - m)))[anchor.positive].sum()
        negatives = np.exp(own.scale * push * (s - m))[anchor.negative].sum()
        terms.append(np.log(1 + positives * negatives))
    return np.mean(terms)


def circle_weights(own, found) -> list[tuple]:
    m = own.margin
    return [
        (np.maximum(1 + m - anchor.cosine, 0), np.maximum(anchor.cosine + m, 0))
        for anchor in valid(found)
    ]


def smooth_ap(own, found) -> float:
    terms = []
    for anchor in valid(found):
        s, precisions = anchor.cosine, []
        for i in np.flatnonzero(anchor.positive):
            above = sigmoid((s - s[i]) / own.temperature)
            above[i] = 0
            among, beyond = above[anchor.positive].sum(), above[anchor.negative].sum()
            precisions.append((1 + among) / (1 + among + beyond))
        terms.append(1 - np.mean(precisions))
    return np.mean(terms)


REFERENCES = {
    "triplet": triplet,
    "quadruplet": quadruplet,
    "relative_triplet": relative_triplet,
    "contrastive": contrastive,
    "infonce": infonce,
    "n_pairs": n_pairs,
    "sigmoid": sigmoid_pairs,
    "multi_similarity": multi_similarity,
    "circle": circle,
    "smooth_ap": smooth_ap,
}
# What a loss weighs by without a gradient, from the batch itself.
WEIGHTS = {"relative_triplet": relative_weights, "circle": circle_weights}
CASES = {
    "triplet": config("triplet", miner="batch_hard", margin=0.5),
    "triplet-soft": config("triplet", miner="batch_hard", form="soft", distance="sq_l2"),
    "triplet-active": config("triplet", miner="batch_hard", average="active", margin=0.0),
    "triplet-l3": config("triplet", miner="batch_hard", distance="l3"),
    "triplet-all": config("triplet", miner="all", average="active"),
    "triplet-all-soft": config("triplet", miner="all", form="soft", distance="cosine"),
    "quadruplet": config("quadruplet", miner="batch_hard"),
    "relative_triplet": config("relative_triplet", miner="batch_hard"),
    "contrastive": config("contrastive", margin=1.3),
    "contrastive-l1": config("contrastive", distance="l1", margin=4.0),
    "infonce": config("infonce"),
    "infonce-smoothed": config("infonce", label_smoothing=0.2, temperature=0.07),
    "n_pairs": config("n_pairs"),
    "sigmoid": config("sigmoid", bias=-3.0),
    "multi_similarity": config("multi_similarity"),
    "circle": config("circle", scale=20.0),
    "smooth_ap": config("smooth_ap", temperature=0.05),
}


def cases():
    """Every case by class across the sides; some also by instance, within sides and jointly."""
    for name, loss in CASES.items():
        yield pytest.param(loss, id=name)
        if name in ("triplet", "quadruplet", "relative_triplet", "infonce", "smooth_ap"):
            intra = [{"pairs": "intra"}] if name == "infonce" else []
            for change in ({"match": "instance"}, {"pairs": "joint"}, *intra):
                changed = dataclasses.replace(loss, **change)
                yield pytest.param(changed, id=f"{name}-{next(iter(change.values()))}")


@pytest.mark.parametrize("loss", list(cases()))
def test_a_loss_is_its_definition(loss):
    """The value is that of a float64 loop over anchors, and in each of ten random directions the
    gradient is the slope of that loop by central differences."""
    sketch, photo, *identities = batch(0)
    own = getattr(loss, loss.name)
    fixed = []
    if loss.name in WEIGHTS:
        fixed = [WEIGHTS[loss.name](own, list(anchors(loss, sketch, photo, *identities)))]

    def reference(sketch, photo) -> float:
        found = list(anchors(loss, sketch, photo, *identities))
        return REFERENCES[loss.name](*fixed, own, found)

    compare(loss, reference, sketch, photo, *identities)


def compare(loss: LossConfig, reference, sketch, photo, *identities, memory=None) -> None:
    found = measured(loss, sketch, photo, *identities, memory=memory)
    assert found.value == pytest.approx(reference(sketch, photo), rel=2e-5, abs=2e-6)
    rng = np.random.default_rng(1)
    scale = np.sqrt(sum((g**2).sum() for g in found.gradients))
    assert scale > 1e-3
    for _ in range(10):
        ways = rng.normal(size=(2, *sketch.shape))
        near, far = (reference(sketch + h * ways[0], photo + h * ways[1]) for h in (1e-6, -1e-6))
        slope = sum((g * way).sum() for g, way in zip(found.gradients, ways, strict=True))
        assert slope == pytest.approx((near - far) / 2e-6, abs=1e-4 * scale)


MEMORY_CASES = {
    "infonce": config("infonce"),
    "infonce-joint": config("infonce", pairs="joint"),
    "contrastive-intra": config("contrastive", pairs="intra"),
    "batch_hard": config("triplet", miner="batch_hard", match="instance"),
    "all": config("triplet", miner="all"),
}


@pytest.mark.parametrize("name", MEMORY_CASES)
def test_a_memory_is_more_candidates(name):
    """With 20 of 24 rows filled the loss is that of the definition with those 20 as candidates,
    never anchors, and its gradient that of the batch alone. Rows that are not filled do not count,
    whatever they hold."""
    loss = MEMORY_CASES[name]
    own, data, past = getattr(loss, loss.name), batch(0), batch(7, pairs=20)
    kept = memory.push(memory.init(24, DIM), *past)
    junk = [np.array(x) for x in (kept.sketch, kept.photo)]
    for side in junk:
        side[20:] = data[0][:4]
    kept = dataclasses.replace(kept, sketch=junk[0], photo=junk[1])

    def reference(sketch, photo) -> float:
        return REFERENCES[loss.name](own, list(anchors(loss, sketch, photo, *data[2:], past=past)))

    compare(loss, reference, *data, memory=kept)


@pytest.mark.parametrize("form", ["none", "cosface", "arcface"])
def test_category_is_its_definition(form):
    """Cross-entropy of a float64 loop over all images and classes, with the angle itself for
    arcface, one image beyond pi - margin included."""
    loss = config("category", margin_form=form, margin=0.5, scale=8.0)
    weights = np.float64(parameters(loss)["category"]["weights"])
    sketch, photo, sketch_ids, photo_ids = batch(2)
    sketch[0] = 0.1 * photo[0] - weights[sketch_ids.label[0]]  # an angle of nearly pi

    def reference(sketch, photo) -> float:
        terms = []
        for z, own in zip([*sketch, *photo], [*sketch_ids.label, *photo_ids.label], strict=True):
            cosines = weights @ z / norm(weights, axis=1) / norm(z)
            angle = np.arccos(cosines[own])
            if form == "cosface":
                cosines[own] -= 0.5
            elif form == "arcface" and angle <= np.pi - 0.5:
                cosines[own] = np.cos(angle + 0.5)
            elif form == "arcface":
                cosines[own] -= 0.5 * np.sin(0.5)
            terms.append(np.log(np.exp(8 * cosines).sum()) - 8 * cosines[own])
        return np.mean(terms)

    compare(loss, reference, sketch, photo, sketch_ids, photo_ids)


@pytest.mark.parametrize("name", ["random", "semi_hard"])
def test_triplet_is_the_mean_over_picked_triplets(name):
    """The loss is the float64 mean hinge of the miner's picks, pooled over both directions."""
    sketch, photo, sketch_ids, photo_ids = data = batch(1)
    matrix = norm(sketch[:, None].astype(np.float64) - photo[None], axis=-1)
    hinges = []
    for d, own, their, key in zip(
        (matrix, matrix.T),
        (sketch_ids, photo_ids),
        (photo_ids, sketch_ids),
        jax.random.split(KEY),
        strict=True,
    ):
        masks = mining.masks(own, their, "class")
        picks = mining.mine(name, d.astype(np.float32), *masks, key=key)
        for a, s in np.argwhere(np.asarray(picks.valid)):
            positive, negative = picks.positive[a, s], picks.negative[a, s]
            hinges.append(hinge(d[a, positive] - d[a, negative] + 0.2))
    value = measured(MINING[name], *data).value
    assert value == pytest.approx(np.mean(hinges), abs=2e-6)
