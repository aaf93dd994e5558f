"""Which pairs and triplets of a batch count.

Anchors are compared with candidates: the sketches of a batch with its photos, say, or every image
with every other. Mining reads distances and masks and returns indices; it has no gradient. Nothing
is larger than anchors x candidates.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sbir_jax import distance_weighted
from sbir_jax.distance_weighted import ON_SPHERE

MATCHES = ("class", "instance")
MINERS = ("random", "all", "semi_hard", "batch_hard", "distance_weighted")

# Positives that semi-hard and distance-weighted mining draw for each anchor. All of them where a
# class has this many in the batch or fewer; a fresh random choice each step otherwise, which keeps
# the rows gathered by the loss at 4 B instead of B^2.
POSITIVES = 4

# Distances mined at a time: 2 MiB of them. Of 2^18 to 2^22 the fastest on two CPU cores, where
# batch-hard mining of 4,096 x 4,096 takes 20 ms, and 113 ms with all rows at once.
_BLOCK = 1 << 19


Column = Any  # jax.Array in the step, np.ndarray in what feeds it


class Ids(NamedTuple):
    """What one side of a batch shows.

    Attributes:
      label: int32 [B], category.
      instance: int32 [B], the photo that was drawn, unique over the dataset; -1: no known link.
    """

    label: Column
    instance: Column


class Picks(NamedTuple):
    """S triplets for each of A anchors.

    Attributes:
      positive: int32 [A, S], index into the candidates.
      negative: int32 [A, S], index into the candidates.
      valid: bool [A, S]; False where the anchor lacks a positive or a negative, and the indices
        mean nothing.
    """

    positive: jax.Array
    negative: jax.Array
    valid: jax.Array


def masks(anchors: Ids, candidates: Ids, match: str) -> tuple[jax.Array, jax.Array]:
    """Which candidates are positives and which are negatives of each anchor.

    match="class": the same class, against any other class.
    match="instance": the same instance, against every other candidate, those of the same class
    and those without a link included. An anchor without a link has neither.

    Args:
      anchors: A identities.
      candidates: C identities.
      match: one of `MATCHES`.

    Returns:
      (positive, negative): bool [A, C] each, never both True.

    Raises:
      ValueError: unknown `match`.
    """
    if match == "class":
        positive = anchors.label[:, None] == candidates.label
        return positive, ~positive
    if match == "instance":
        linked = anchors.instance[:, None] >= 0
        same = anchors.instance[:, None] == candidates.instance
        return linked & same, linked & ~same
    raise ValueError(f"match={match!r}: valid: {', '.join(MATCHES)}")


def mine(
    miner: str,
    distance: jax.Array,
    positive: jax.Array,
    negative: jax.Array,
    *,
    key: jax.Array,
    metric: str = "l2",
    dim: int = 0,
) -> Picks:
    """Picks triplets.

    random: one positive and one negative, each drawn uniformly (S = 1).
    semi_hard: up to `POSITIVES` positives drawn uniformly without repetition; for each the nearest
      negative that is farther than it or, where there is none, the farthest negative (FaceNet,
      Schroff et al. 2015). It never starts from the hardest negatives, whose gradient from
      scratch pulls all embeddings to one point.
    batch_hard: the farthest positive and the nearest negative (Hermans et al. 2017) (S = 1).
    distance_weighted: positives as semi_hard; for each a negative drawn with the probabilities of
      `distance_weighted.sampling_weights` (Wu et al. 2017), independently.

    Draws are uniform for each anchor, but those of two anchors are not independent.

    Args:
      miner: one of `MINERS` except "all", which picks nothing: every triplet counts.
      distance: float32 [A, C], anchors to candidates.
      positive: bool [A, C].
      negative: bool [A, C].
      key: PRNG key of the draws.
      metric: (distance_weighted) what `distance` is, between unit vectors: one of
        `distance_weighted.ON_SPHERE`.
      dim: (distance_weighted) D of the embeddings, at least 2.

    Returns:
      A `Picks`.

    Raises:
      ValueError: unknown miner or "all"; for distance_weighted, another metric or no dimension.
    """
    if miner not in MINERS:
        raise ValueError(f"miner={miner!r}: valid: {', '.join(MINERS)}")
    if miner == "all":
        raise ValueError("miner='all': every triplet counts, so there is nothing to pick")
    if miner == "distance_weighted" and (metric not in ON_SPHERE or dim < 2):
        raise ValueError(
            f"miner='distance_weighted', metric={metric!r}, dim={dim}: needs at least 2 dimensions "
            f"and one of {', '.join(ON_SPHERE)} between unit vectors"
        )
    anchors, candidates = distance.shape
    slots = min(POSITIVES, candidates)
    order_keys, shift_key, uniform_key = jax.random.split(key, 3)
    orders = [jax.random.permutation(k, candidates) for k in jax.random.split(order_keys)]
    shift = jax.random.randint(shift_key, (anchors, 2), 0, candidates)
    uniform = jax.random.uniform(uniform_key, (anchors, slots))

    def pick(
        distance: jax.Array,
        positive: jax.Array,
        negative: jax.Array,
        shift: jax.Array,
        uniform: jax.Array,
    ) -> Picks:
        if miner == "batch_hard":
            chosen, opposed = _farthest(distance, positive), _nearest(distance, negative)
            valid = positive.any(axis=1) & negative.any(axis=1)
            return Picks(chosen[:, None], opposed[:, None], valid[:, None])
        if miner == "random":
            chosen, found = _draw(positive, orders[0], shift[:, :1], 1)
            opposed, _ = _draw(negative, orders[1], shift[:, 1:], 1)
        else:
            chosen, found = _draw(positive, orders[0], shift[:, :1], slots)
            if miner == "semi_hard":
                opposed = _semi_hard(distance, negative, chosen)
            else:
                on_sphere = ON_SPHERE[metric](distance)
                weights = distance_weighted.sampling_weights(on_sphere, negative, dim)
                opposed = distance_weighted.draw(weights, uniform)
        return Picks(chosen, opposed, found & negative.any(axis=1, keepdims=True))

    distance = jax.lax.stop_gradient(distance)
    return _in_blocks(pick, distance, positive, negative, shift, uniform)


def _in_blocks(pick: Callable[..., Picks], *arrays: jax.Array) -> Picks:
    """`pick` over some rows of the arrays at a time, so that its matrices stay in the CPU's cache.

    A block takes every n-th row: its rows are then on all the devices that the batch is split over.
    """
    rows, columns = arrays[0].shape
    wanted = 2 ** max(0, math.ceil(math.log2(rows * columns / _BLOCK)))
    blocks = math.gcd(rows, wanted)
    parts = [jnp.asarray(x).reshape(rows // blocks, blocks, -1) for x in arrays]
    picks = jax.lax.map(lambda i: pick(*(x[:, i] for x in parts)), jnp.arange(blocks))
    return jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(rows, -1), picks)


def _column(distance: jax.Array, mask: jax.Array, value: jax.Array) -> jax.Array:
    """int32 [A]: the first masked column whose distance is `value`; the last one if there is none.

    With a minimum before it, this is `argmin` in two passes that XLA vectorises on CPUs: 0.7 ms
    against 2.6 ms for 1,024 x 1,024.
    """
    columns = jax.lax.broadcasted_iota(jnp.int32, distance.shape, 1)
    last = distance.shape[1] - 1
    return jnp.min(jnp.where(mask & (distance == value[:, None]), columns, last), axis=1)


def _nearest(distance: jax.Array, mask: jax.Array) -> jax.Array:
    return _column(distance, mask, jnp.min(jnp.where(mask, distance, jnp.inf), axis=1))


def _farthest(distance: jax.Array, mask: jax.Array) -> jax.Array:
    return _column(distance, mask, jnp.max(jnp.where(mask, distance, -jnp.inf), axis=1))


def _draw(
    mask: jax.Array, order: jax.Array, shift: jax.Array, count: int
) -> tuple[jax.Array, jax.Array]:
    """The first `count` masked columns of each row, in a random order: int32 and bool [A, count].

    Row a has the random `order` [C], begun `shift[a]` places later. That takes C + A random
    numbers; A x C of them take longer than the distances (4,096 x 4,096: 196 ms against 141 ms).
    """
    size = mask.shape[1]
    place = order + shift  # [A, C]
    place = jnp.where(place < size, place, place - size)
    taken, last = [], jnp.full_like(shift, -1)
    for _ in range(count):
        last = jnp.where(mask & (place > last), place, size).min(axis=1, keepdims=True)
        taken.append(last)
    taken = jnp.concatenate(taken, axis=1)
    return jnp.argsort(order)[(taken - shift) % size].astype(jnp.int32), taken < size


def _semi_hard(distance: jax.Array, negative: jax.Array, chosen: jax.Array) -> jax.Array:
    limits = jnp.take_along_axis(distance, chosen, axis=1)  # [A, S]
    farthest = jnp.max(jnp.where(negative, distance, -jnp.inf), axis=1)
    columns = []
    for slot in range(chosen.shape[1]):  # one [A, C] mask at a time, not [A, S, C]
        farther = negative & (distance > limits[:, slot, None])
        nearest = jnp.min(jnp.where(farther, distance, jnp.inf), axis=1)
        value = jnp.where(nearest < jnp.inf, nearest, farthest)
        columns.append(_column(distance, negative, value))
    return jnp.stack(columns, axis=1)
