"""Losses on triplets and quadruplets: those that a miner picks, or all of them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from sbir_jax import distances, mining
from sbir_jax.loss_config import steps
from sbir_jax.loss_groups import MINERS
from sbir_jax.losses.all_triplets import all_triplets, loss_of
from sbir_jax.losses.ways import Diagnostics, Way, checked
from sbir_jax.setting import stages

Sums = tuple[jax.Array, jax.Array, jax.Array]


def triplet(
    ways: Sequence[Way],
    *,
    margin: float,
    distance: str,
    miner: str,
    form: str = "hinge",
    average: str = "valid",
    key: jax.Array,
    step: int | jax.Array = 0,
) -> tuple[jax.Array, Diagnostics]:
    """Triplet loss: the mean of max(d(a, +) - d(a, -) + margin, 0) over the mined triplets.

    Parkhi, Vedaldi, Zisserman, Deep Face Recognition, 2015. Triplets are mined on distances
    without gradient; only the picked rows are then compared again, by subtraction. The miner `all`
    takes every triplet, in as many passes over the A x C distances as an anchor has positives.

    Args:
      ways: of one batch.
      margin: in units of `distance`.
      distance: a name of `distances`.
      miner: one of `mining.MINERS`, or several one after the other, as in
        'semi_hard, batch_hard@240 steps'.
      form: "hinge" as above, or "soft": log(1 + e^(d(a, +) - d(a, -) + margin)) (Hermans, Beyer,
        Leibe, In Defense of the Triplet Loss, 2017, who use no margin then).
      average: "valid", the mean over all mined triplets, or "active", over those above 0.
      key: PRNG key of the miner's draws.
      step: int32 [], of the run; says which miner it is the turn of.

    Returns:
      (loss, diagnostics): active_triplets, the share of mined triplets whose loss is above 0.
    """
    mine = _miner(ways, distance, key)

    def sums(name: str) -> Sums:
        parts = []
        for way in ways:
            if name == "all":
                parts.append(_every(way, margin, distance, form))
            else:
                picks = mine(way, name)
                near = _compare(way, distance, picks.positive)
                far = _compare(way, distance, picks.negative)
                parts.append(_counted(loss_of(near - far + margin, form), picks.valid))
        return _added(parts)

    total, active, valid = _at_stage(miner, step, sums)
    counted = valid if average == "valid" else active
    loss = checked(total / jnp.maximum(counted, 1.0), ways)
    return loss, {"active_triplets": active / jnp.maximum(valid, 1.0)}


def quadruplet(
    ways: Sequence[Way],
    *,
    margin: float,
    second_margin: float,
    distance: str,
    miner: str,
    key: jax.Array,
    step: int | jax.Array = 0,
) -> tuple[jax.Array, Diagnostics]:
    """Triplet loss, plus max(d(a, +) - d(b, -) + second_margin, 0) with b of a third identity.

    Chen et al., Beyond Triplet Loss: a Deep Quadruplet Network for Person Re-identification, CVPR
    2017. Triplets are mined as above; b is then the nearest to the negative of the anchors that
    are negatives of both. The two hinges are averaged each over its own valid cases, and added.

    Args:
      ways: of one batch.
      margin: of the triplet, in units of `distance`.
      second_margin: of the second hinge; the weaker of the two in the paper.
      distance: a name of `distances` (the paper squares a learnt one).
      miner: as for `triplet`, without "all".
      key: PRNG key of the miner's draws.
      step: as for `triplet`.

    Returns:
      (loss, diagnostics): active_quadruplets, the share of second hinges above 0.
    """
    mine = _miner(ways, distance, key)

    def sums(name: str) -> tuple[Sums, Sums]:
        first, second = [], []
        for way in ways:
            picks = mine(way, name)
            near = _compare(way, distance, picks.positive)
            far = _compare(way, distance, picks.negative)
            first.append(_counted(loss_of(near - far + margin, "hinge"), picks.valid))
            third, found = _by_slot(functools.partial(_third, way, distance), picks.negative)
            other = _compare(way, distance, picks.negative, third)
            valid = picks.valid & found
            second.append(_counted(loss_of(near - other + second_margin, "hinge"), valid))
        return _added(first), _added(second)

    first, second = _at_stage(miner, step, sums)
    loss = sum(total / jnp.maximum(valid, 1.0) for total, _, valid in (first, second))
    return checked(loss, ways), {"active_quadruplets": second[1] / jnp.maximum(second[2], 1.0)}


def relative_triplet(
    ways: Sequence[Way],
    *,
    margin: float,
    distance: str,
    miner: str,
    key: jax.Array,
    step: int | jax.Array = 0,
) -> tuple[jax.Array, Diagnostics]:
    """Triplet loss with each triplet weighted by how unlike the anchors on its two sides are.

    The idea is that of Seddati, Hubens, Dupont, Dutoit, A Recipe for Efficient SBIR Models, 2023
    (arXiv:2305.18988): a sketch that could as well have been drawn after the negative should not
    push it away. Their abstract says that the loss is weighted by the similarity of the anchors;
    the formula was not at hand, and this one is ours: a weighted mean, the weight being the cosine
    distance, at most 1 and without gradient, from the anchor to the most similar anchor of which
    the negative is a positive (1 if the batch has none). It is a weighted mean and not a mean of
    weighted losses, which collapsed embeddings would bring to 0.

    Args:
      ways: of one batch.
      margin: in units of `distance`.
      distance: a name of `distances`.
      miner: as for `triplet`, without "all".
      key: PRNG key of the miner's draws.
      step: as for `triplet`.

    Returns:
      (loss, diagnostics): mean_weight, of the mined triplets.
    """
    mine = _miner(ways, distance, key)
    unlike = {}
    for way in ways:
        still = jax.lax.stop_gradient(way.anchors)
        unlike[way] = distances.pairwise(still, still, "cosine")

    def sums(name: str) -> Sums:
        parts = []
        for way in ways:
            picks = mine(way, name)
            near = _compare(way, distance, picks.positive)
            far = _compare(way, distance, picks.negative)
            weight = _by_slot(functools.partial(_unlike, way, unlike[way]), picks.negative)
            hinge = weight * loss_of(near - far + margin, "hinge")
            parts.append(_summed(hinge, weight, picks.valid))
        return _added(parts)

    total, weights, valid = _at_stage(miner, step, sums)
    loss = total / jnp.where(weights > 0, weights, 1.0)
    return checked(loss, ways), {"mean_weight": weights / jnp.maximum(valid, 1.0)}


# Mined triplets


def _miner(
    ways: Sequence[Way], distance: str, key: jax.Array
) -> Callable[[Way, str], mining.Picks]:
    """`mine(way, miner)`; the distances are computed here, once for all stages of a schedule."""
    still = {way: jax.lax.stop_gradient(way.distances(distance)) for way in ways}
    keys = dict(zip(ways, jax.random.split(key, len(ways)), strict=True))

    def mine(way: Way, miner: str) -> mining.Picks:
        masks = way.positive, way.negative
        dim = way.anchors.shape[1]
        return mining.mine(miner, still[way], *masks, key=keys[way], metric=distance, dim=dim)

    return mine


def _compare(
    way: Way, distance: str, candidates: jax.Array, anchors: jax.Array | None = None
) -> jax.Array:
    """Distances of the picked candidates to their anchors, or to other anchors: float32 [A, S]."""

    def compare(candidates: jax.Array, *anchors: jax.Array) -> jax.Array:
        z = way.anchors[anchors[0]] if anchors else way.anchors
        return distances.rowwise(z, way.candidates[candidates], distance)

    return _by_slot(compare, candidates, *([] if anchors is None else [anchors]))


def _by_slot(function: Callable[..., Any], *picked: jax.Array) -> Any:
    """`function` of each column of the picks, its results [A] as columns: [A, S].

    One after the other, and once more for the gradient, as the rows of all slots together would
    leave the CPU's cache: semi-hard mining of 1,024 images takes 30 ms of CPU time, and 60 without.
    """
    by_slot = jax.lax.map(lambda rows: jax.checkpoint(function)(*rows), [x.T for x in picked])
    return jax.tree.map(jnp.transpose, by_slot)


def _counted(loss: jax.Array, valid: jax.Array) -> Sums:
    """Sum of the loss, number of triplets above 0, number of valid ones."""
    return _summed(loss, loss > 0, valid)


def _summed(loss: jax.Array, other: jax.Array, valid: jax.Array) -> Sums:
    """Sums over the valid triplets of the loss and of another figure, and their number."""
    total, also, count = (jnp.where(valid, x, 0.0).sum() for x in (loss, other, 1.0))
    return total, also, count


def _added(parts: Sequence[Sums]) -> Sums:
    """Those of all ways together."""
    total, also, count = (sum(column, jnp.zeros(())) for column in zip(*parts, strict=True))
    return total, also, count


def _third(way: Way, distance: str, negative: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The nearest anchor to each anchor's negative that is a negative of both, and if there is."""
    fits = way.negative.T[negative] & way.apart  # [A, A]
    d = jax.lax.stop_gradient(way.distances(distance)).T[negative]
    return jnp.argmin(jnp.where(fits, d, jnp.inf), axis=1), fits.any(axis=1)


def _unlike(way: Way, unlike: jax.Array, negative: jax.Array) -> jax.Array:
    """From each anchor to the most similar one of which its negative is a positive; at most 1."""
    own = way.positive.T[negative]  # [A, A]
    return jnp.where(own, unlike, 1.0).min(axis=1, initial=1.0)


def _at_stage(miner: str, step: int | jax.Array, compute: Callable[[str], Any]) -> Any:
    """`compute` of the miner whose turn it is at this step."""
    found = stages(miner, path="miner", names=MINERS)
    if len(found) == 1:
        return compute(found[0][0])
    turn = sum(jnp.asarray(step >= steps(begin), jnp.int32) for _, begin in found[1:])
    return jax.lax.switch(turn, [functools.partial(compute, name) for name, _ in found])


def _every(way: Way, margin: float, distance: str, form: str) -> Sums:
    total, active = all_triplets(way.distances(distance), way.positive, way.negative, margin, form)
    # In float32: there may be more than an int32 holds, and a relative error of 1e-7 is nothing.
    count = way.positive.sum(axis=1).astype(jnp.float32) * way.negative.sum(axis=1)
    return total.sum(), active.sum(), count.sum()
