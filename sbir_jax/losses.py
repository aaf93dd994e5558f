"""Cross-modal losses over the global batch, in both directions, each with its health figures.

Every loss takes sketch float32 [B, D] and photo float32 [C, D] with the identities of both sides
and returns `(loss, diagnostics)`, all float32 scalars. With pairs="cross", sketches are anchors
against photos, then photos against sketches; with pairs="joint", every image is an anchor against
all others of both sides. The mean is over the valid anchors (or triplets) of all directions. A
batch without any has loss 0 and gradient 0. A NaN or infinite embedding anywhere makes the loss
NaN, so that a run stops instead of training on.

Diagnostics, over all directions:
  valid_anchors: share of anchors with at least one positive and one negative.
  d_positive: mean distance of all positive pairs (0 if none).
  d_hardest_negative: mean over valid anchors of the distance of their nearest negative.
  batch_top1: share of valid anchors with a positive strictly nearer than every negative.
  mean_cosine: mean cosine over all pairs of one side's embeddings, each with itself included; the
    larger of the two sides. 1: all embeddings have collapsed to one direction.
  active_triplets: (triplet only) share of valid triplets whose loss is above 0.
Distances are the loss's own: cosine distance for infonce.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from sbir_jax import distances, mining
from sbir_jax.config import LossConfig
from sbir_jax.mining import Ids

Diagnostics = dict[str, jax.Array]


def cross_modal(
    config: LossConfig,
    sketch: jax.Array,
    photo: jax.Array,
    sketch_ids: Ids,
    photo_ids: Ids,
    *,
    key: jax.Array,
) -> tuple[jax.Array, Diagnostics]:
    """The configured loss of a batch; `key` is the miner's. See `infonce` and `triplet`."""
    if config.name == "infonce":
        return infonce(
            sketch,
            photo,
            sketch_ids,
            photo_ids,
            temperature=config.temperature,
            match=config.match,
            pairs=config.pairs,
        )
    if config.name == "triplet":
        return triplet(
            sketch,
            photo,
            sketch_ids,
            photo_ids,
            margin=config.margin,
            distance=config.distance,
            miner=config.miner,
            match=config.match,
            pairs=config.pairs,
            key=key,
        )
    raise ValueError(f"loss name={config.name!r}: valid: infonce, triplet")


def triplet(
    sketch: jax.Array,
    photo: jax.Array,
    sketch_ids: Ids,
    photo_ids: Ids,
    *,
    margin: float,
    distance: str,
    miner: str,
    match: str,
    pairs: str = "cross",
    key: jax.Array,
) -> tuple[jax.Array, Diagnostics]:
    """Triplet loss: the mean of max(d(a, +) - d(a, -) + margin, 0) over the mined triplets.

    Parkhi, Vedaldi, Zisserman, Deep Face Recognition, 2015. Triplets are mined on distances
    without gradient; only the picked rows are then compared again, by subtraction.

    Args:
      sketch: float32 [B, D].
      photo: float32 [C, D].
      sketch_ids: identities of the B sketches.
      photo_ids: identities of the C photos.
      margin: in units of `distance`.
      distance: a name of `distances`.
      miner: one of `mining.MINERS`.
      match: one of `mining.MATCHES`.
      pairs: "cross" or "joint", as above.
      key: PRNG key of the miner's draws.

    Returns:
      (loss, diagnostics).

    Raises:
      ValueError: shapes that do not agree, or an unknown name.
    """
    _check_shapes(sketch, photo, sketch_ids, photo_ids)

    def compare(x: jax.Array, y: jax.Array) -> jax.Array:
        return jax.lax.stop_gradient(distances.pairwise(x, y, distance))

    directions = _ways(sketch, photo, sketch_ids, photo_ids, compare, match, pairs)
    hinges, counted = [], []
    for way, way_key in zip(directions, jax.random.split(key, len(directions)), strict=True):
        picks = mining.mine(miner, way.matrix, way.positive, way.negative, key=way_key)
        anchor = way.anchors[:, None]
        near = distances.rowwise(anchor, way.candidates[picks.positive], distance)  # [A, S]
        far = distances.rowwise(anchor, way.candidates[picks.negative], distance)
        hinges.append(jnp.maximum(near - far + margin, 0.0).ravel())
        counted.append(picks.valid.ravel())
    hinge, valid = jnp.concatenate(hinges), jnp.concatenate(counted)
    diagnostics = _diagnostics(directions, sketch, photo)
    diagnostics["active_triplets"] = _mean(hinge > 0, valid)
    return _checked(_mean(hinge, valid), sketch, photo), diagnostics


def infonce(
    sketch: jax.Array,
    photo: jax.Array,
    sketch_ids: Ids,
    photo_ids: Ids,
    *,
    temperature: float,
    match: str,
    pairs: str = "cross",
) -> tuple[jax.Array, Diagnostics]:
    """Supervised contrastive loss: minus the mean log-probability of an anchor's positives.

    Probabilities are a softmax of cosine / temperature over all candidates, and the mean over
    positives is outside the logarithm (Khosla et al., Supervised Contrastive Learning, 2020,
    eq. 2, across modalities). With a single positive per anchor it is CLIP's InfoNCE.

    Args:
      sketch: float32 [B, D].
      photo: float32 [C, D].
      sketch_ids: identities of the B sketches.
      photo_ids: identities of the C photos.
      temperature: of the softmax, above 0.
      match: one of `mining.MATCHES`.
      pairs: "cross" or "joint", as above.

    Returns:
      (loss, diagnostics).

    Raises:
      ValueError: shapes that do not agree, or unknown `match`.
    """
    _check_shapes(sketch, photo, sketch_ids, photo_ids)
    directions = _ways(
        sketch, photo, sketch_ids, photo_ids, distances.cosine_similarity, match, pairs
    )
    terms, counted = [], []
    for way in directions:
        logits = jnp.where(way.positive | way.negative, way.matrix / temperature, -1e9)
        log_share = jax.nn.log_softmax(logits, axis=1)
        total = jnp.sum(jnp.where(way.positive, log_share, 0.0), axis=1)
        terms.append(-total / jnp.maximum(way.positive.sum(axis=1), 1))
        counted.append(way.valid)
    loss = _mean(jnp.concatenate(terms), jnp.concatenate(counted))
    as_distance = [
        way._replace(matrix=jnp.maximum(1.0 - jax.lax.stop_gradient(way.matrix), 0.0))
        for way in directions
    ]
    return _checked(loss, sketch, photo), _diagnostics(as_distance, sketch, photo)


class _Way(NamedTuple):
    """One direction: A anchors against C candidates."""

    anchors: jax.Array  # [A, D]
    candidates: jax.Array  # [C, D]
    matrix: jax.Array  # [A, C]
    positive: jax.Array  # bool [A, C]
    negative: jax.Array  # bool [A, C]

    @property
    def valid(self) -> jax.Array:
        return self.positive.any(axis=1) & self.negative.any(axis=1)


def _ways(sketch, photo, sketch_ids, photo_ids, compare, match, pairs) -> tuple[_Way, ...]:
    if pairs == "joint":
        z = jnp.concatenate([sketch, photo])
        ids = Ids(*(jnp.concatenate(side) for side in zip(sketch_ids, photo_ids, strict=True)))
        positive, negative = mining.masks(ids, ids, match)
        other = ~jnp.eye(len(z), dtype=bool)
        return (_Way(z, z, compare(z, z), positive & other, negative & other),)
    matrix = compare(sketch, photo)  # [B, C]
    return (
        _Way(sketch, photo, matrix, *mining.masks(sketch_ids, photo_ids, match)),
        _Way(photo, sketch, matrix.T, *mining.masks(photo_ids, sketch_ids, match)),
    )


def _check_shapes(sketch: jax.Array, photo: jax.Array, sketch_ids: Ids, photo_ids: Ids) -> None:
    if sketch.ndim != 2 or photo.ndim != 2 or sketch.shape[1] != photo.shape[1]:
        raise ValueError(
            f"sketch {sketch.shape}, photo {photo.shape}: expected [B, D] and [C, D] of one D"
        )
    for name, side, ids in (("sketch", sketch, sketch_ids), ("photo", photo, photo_ids)):
        if ids.label.shape != side.shape[:1] or ids.instance.shape != side.shape[:1]:
            raise ValueError(
                f"{name}_ids label {ids.label.shape}, instance {ids.instance.shape}: "
                f"expected {side.shape[:1]} each, one for each {name}"
            )


def _mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean of the values where mask is True; 0, with zero gradient, where none is."""
    return jnp.sum(jnp.where(mask, values, 0.0)) / jnp.maximum(mask.sum(), 1)


def _checked(loss: jax.Array, sketch: jax.Array, photo: jax.Array) -> jax.Array:
    """NaN where an embedding is not finite: masks could hide it from the loss, not the gradient."""
    finite = jnp.isfinite(sketch).all() & jnp.isfinite(photo).all()
    return jnp.where(finite, loss, jnp.nan)


def _nearest(matrix: jax.Array, mask: jax.Array) -> jax.Array:
    return jnp.where(mask, matrix, jnp.inf).min(axis=1)


def _diagnostics(directions: Sequence[_Way], sketch: jax.Array, photo: jax.Array) -> Diagnostics:
    valid = jnp.concatenate([way.valid for way in directions])
    positive = jnp.concatenate([_nearest(way.matrix, way.positive) for way in directions])
    negative = jnp.concatenate([_nearest(way.matrix, way.negative) for way in directions])
    forth = directions[0]  # positive pairs are the same both ways
    sides = jax.lax.stop_gradient((sketch, photo))
    return {
        "valid_anchors": _mean(valid, jnp.ones_like(valid)),
        "d_positive": _mean(forth.matrix, forth.positive),
        "d_hardest_negative": _mean(negative, valid),
        "batch_top1": _mean(positive < negative, valid),
        "mean_cosine": jnp.maximum(
            *(jnp.sum(jnp.mean(distances.unit(side), axis=0) ** 2) for side in sides)
        ),
    }
