"""Which pairs and triplets of a batch count.

Mining is cross-modal: anchors are one side of the batch (say the sketches), candidates the other
(the photos). It reads distances and identities and returns indices; it has no gradient. Nothing
is larger than anchors x candidates.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

MATCHES = ("class", "instance")
MINERS = ("random", "semi_hard", "batch_hard")

# Positives that semi-hard mining draws for each anchor. All of them where a class has this many
# in the batch or fewer; a fresh random choice each step otherwise, which keeps the rows gathered
# by the loss at 4 B instead of B^2.
SEMI_HARD_POSITIVES = 4


class Ids(NamedTuple):
    """What one side of a batch shows.

    Attributes:
      label: int32 [B], category.
      instance: int32 [B], the photo that was drawn, unique over the dataset; -1: no known link.
    """

    label: jax.Array
    instance: jax.Array


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
) -> Picks:
    """Picks triplets.

    random: one positive and one negative, each drawn uniformly (S = 1).
    semi_hard: up to `SEMI_HARD_POSITIVES` positives drawn uniformly without repetition; for each
      the nearest negative that is farther than it or, where there is none, the farthest negative
      (FaceNet, Schroff et al. 2015). It never starts from the hardest negatives, whose
      gradient from scratch pulls all embeddings to one point.
    batch_hard: the farthest positive and the nearest negative (Hermans et al. 2017) (S = 1).

    Args:
      miner: one of `MINERS`.
      distance: float32 [A, C], anchors to candidates.
      positive: bool [A, C].
      negative: bool [A, C].
      key: PRNG key of the draws.

    Returns:
      A `Picks`.

    Raises:
      ValueError: unknown miner.
    """
    if miner not in MINERS:
        raise ValueError(f"miner={miner!r}: valid: {', '.join(MINERS)}")
    distance = jax.lax.stop_gradient(distance)
    if miner == "batch_hard":
        chosen = _farthest(distance, positive)[:, None]
        opposed = _nearest(distance, negative)[:, None]
    else:
        positive_key, negative_key = jax.random.split(key)
        count = 1 if miner == "random" else min(SEMI_HARD_POSITIVES, distance.shape[1])
        chosen = _draw(positive_key, positive, count)
        if miner == "random":
            opposed = _draw(negative_key, negative, 1)
        else:
            opposed = _semi_hard(distance, negative, chosen)
    usable = jnp.take_along_axis(positive, chosen, axis=1)
    return Picks(chosen, opposed, usable & negative.any(axis=1, keepdims=True))


def _nearest(distance: jax.Array, mask: jax.Array) -> jax.Array:
    return jnp.argmin(jnp.where(mask, distance, jnp.inf), axis=-1).astype(jnp.int32)


def _farthest(distance: jax.Array, mask: jax.Array) -> jax.Array:
    return jnp.argmax(jnp.where(mask, distance, -jnp.inf), axis=-1).astype(jnp.int32)


def _draw(key: jax.Array, mask: jax.Array, count: int) -> jax.Array:
    """int32 [A, count]: distinct columns, the masked ones first, in random order."""
    score = jnp.where(mask, jax.random.uniform(key, mask.shape), -1.0)
    return jax.lax.top_k(score, count)[1].astype(jnp.int32)


def _semi_hard(distance: jax.Array, negative: jax.Array, chosen: jax.Array) -> jax.Array:
    fallback = _farthest(distance, negative)  # [A]
    columns = []
    for slot in range(chosen.shape[1]):  # one [A, C] mask at a time, not [A, S, C]
        limit = jnp.take_along_axis(distance, chosen[:, slot, None], axis=1)  # [A, 1]
        farther = negative & (distance > limit)
        columns.append(jnp.where(farther.any(axis=1), _nearest(distance, farther), fallback))
    return jnp.stack(columns, axis=1)
