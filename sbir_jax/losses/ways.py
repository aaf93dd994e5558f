"""Who is compared with whom: the ways of a batch, each of A anchors against C candidates.

What every loss of this package keeps to:
  - The mean is over the valid anchors (or triplets, or pairs) of all ways together. A batch
    without any has loss 0 and gradient 0.
  - A NaN or infinite embedding anywhere makes the loss NaN, so that a run stops instead of
    training on. Finite embeddings have finite gradients, duplicates and zero vectors included.
  - Nothing is larger than A x C.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from sbir_jax import distances, mining
from sbir_jax.losses.transpose import transposed
from sbir_jax.memory import Memory
from sbir_jax.mining import Ids

PAIRS = ("cross", "intra", "joint")
# An exponent that counts for nothing. Minus infinity would make gradients NaN where all are.
LEFT_OUT = -1e9

Diagnostics = dict[str, jax.Array]
Side = tuple[jax.Array, Ids]
Compare = Callable[[jax.Array, jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True, eq=False)
class Way:
    """A anchors against C candidates.

    Attributes:
      anchors: float32 [A, D].
      candidates: float32 [C, D].
      positive: bool [A, C].
      negative: bool [A, C], never where `positive` is.
      apart: bool [A, A], the anchors that are negatives of each other.
      fresh: the candidates of this batch come first, this many; those after it are of past
        batches and have no gradient.
      itself: the fresh candidates are the anchors, in their order.
      mirror: the way from these candidates to these anchors, if the batch has it. Matrices are
        computed once for both.
    """

    anchors: jax.Array
    candidates: jax.Array
    positive: jax.Array
    negative: jax.Array
    apart: jax.Array
    fresh: int
    itself: bool = False
    mirror: Way | None = None
    _known: dict[str, jax.Array] = dataclasses.field(default_factory=dict, repr=False)

    @property
    def valid(self) -> jax.Array:
        """bool [A]: the anchors with at least one positive and one negative."""
        return self.positive.any(axis=1) & self.negative.any(axis=1)

    def cosines(self) -> jax.Array:
        """Cosine similarity of every anchor to every candidate: float32 [A, C]."""
        return self._matrix("similarity")

    def distances(self, distance: str) -> jax.Array:
        """Distance (a name of `distances`) of every anchor to every candidate: float32 [A, C]."""
        if distance == "cosine":
            return jnp.maximum(1.0 - self.cosines(), 0.0)
        return self._matrix(distance)

    def _matrix(self, name: str) -> jax.Array:
        if name not in self._known:
            if self.mirror is not None:
                self._known[name] = transposed(self.mirror._matrix(name))
            else:
                compare = functools.partial(distances.pairwise, distance=name)
                if name == "similarity":
                    compare = distances.cosine_similarity
                fresh = self.candidates[: self.fresh]
                parts = [
                    _with_itself(fresh, compare) if self.itself else compare(self.anchors, fresh)
                ]
                if self.fresh < len(self.candidates):
                    parts.append(compare(self.anchors, self.candidates[self.fresh :]))
                self._known[name] = jnp.concatenate(parts, axis=1) if parts[1:] else parts[0]
        return self._known[name]


def ways(
    sketch: jax.Array,
    photo: jax.Array,
    sketch_ids: Ids,
    photo_ids: Ids,
    *,
    match: str,
    pairs: str = "cross",
    memory: Memory | None = None,
) -> tuple[Way, ...]:
    """The ways of a batch.

    pairs="cross": sketches against photos, then photos against sketches.
    pairs="intra": sketches against the other sketches, then photos against the other photos.
    pairs="joint": one way, every image against all others of both sides.

    Args:
      sketch: float32 [B, D].
      photo: float32 [C, D].
      sketch_ids: identities of the B sketches.
      photo_ids: identities of the C photos.
      match: what is a positive, one of `mining.MATCHES`.
      pairs: as above.
      memory: past batches; the side that an anchor meets is met there too.

    Returns:
      One `Way` or two.

    Raises:
      ValueError: shapes that do not agree, or an unknown name.
    """
    _check_shapes(sketch, photo, sketch_ids, photo_ids)
    if pairs not in PAIRS:
        raise ValueError(f"pairs={pairs!r}: valid: {', '.join(PAIRS)}")
    sketches, photos = (sketch, sketch_ids), (photo, photo_ids)
    past: dict[str, list[Side]] = {"sketch": [], "photo": []}
    if memory is not None:
        past["sketch"] = [(memory.sketch, memory.sketch_ids)]
        past["photo"] = [(memory.photo, memory.photo_ids)]
    held = None if memory is None else memory.held
    way = functools.partial(_way, match=match, held=held)
    if pairs == "cross":
        forth = way([sketches], [photos], past["photo"])
        if memory is not None:
            return forth, way([photos], [sketches], past["sketch"])
        return forth, way([photos], [sketches], [], mirror=forth)
    if pairs == "intra":
        return (
            way([sketches], [sketches], past["sketch"], itself=True),
            way([photos], [photos], past["photo"], itself=True),
        )
    both = [sketches, photos]
    return (way(both, both, past["sketch"] + past["photo"], itself=True),)


def mean(values: Sequence[jax.Array], masks: Sequence[jax.Array]) -> jax.Array:
    """Mean of the values where their masks are True; 0, with zero gradient, where none is."""
    total = sum(jnp.sum(jnp.where(m, v, 0.0)) for v, m in zip(values, masks, strict=True))
    return total / jnp.maximum(sum(m.sum() for m in masks), 1)


def checked(loss: jax.Array, ways: Sequence[Way]) -> jax.Array:
    """NaN where an embedding is not finite: masks could hide it from the loss, not the gradient."""
    for way in ways:
        for side in (way.anchors, way.candidates):
            loss = jnp.where(jnp.isfinite(side).all(), loss, jnp.nan)
    return loss


def health(ways: Sequence[Way], distance: str) -> Diagnostics:
    """How the ways of a batch stand, whatever the loss; no gradient.

    Args:
      ways: of one batch.
      distance: what it is measured by, a name of `distances`.

    Returns:
      float32 [] each:
      valid_anchors: share of anchors with at least one positive and one negative.
      d_positive: mean distance of all positive pairs (0 if none).
      d_hardest_negative: mean over valid anchors of the distance of their nearest negative.
      batch_top1: share of valid anchors with a positive strictly nearer than every negative.
    """
    matrices = [jax.lax.stop_gradient(way.distances(distance)) for way in ways]
    valid = [way.valid for way in ways]
    nearest = [
        [jnp.where(mask, d, jnp.inf).min(axis=1) for mask in (way.positive, way.negative)]
        for way, d in zip(ways, matrices, strict=True)
    ]
    once = [i for i, way in enumerate(ways) if way.mirror is None]  # the others hold equal pairs
    return {
        "valid_anchors": mean(valid, [jnp.ones_like(v) for v in valid]),
        "d_positive": mean([matrices[i] for i in once], [ways[i].positive for i in once]),
        "d_hardest_negative": mean([negative for _, negative in nearest], valid),
        "batch_top1": mean([positive < negative for positive, negative in nearest], valid),
    }


def _way(
    anchors: list[Side],
    fresh: list[Side],
    past: list[Side],
    *,
    match: str,
    held: jax.Array | None,
    itself: bool = False,
    mirror: Way | None = None,
) -> Way:
    z, ids = _joined(anchors)
    candidates, candidate_ids = _joined(fresh + jax.lax.stop_gradient(past))
    positive, negative = mining.masks(ids, candidate_ids, match)
    count = sum(len(side) for side, _ in fresh)
    counts = jnp.concatenate([jnp.ones(count, bool), *([] if held is None else [held] * len(past))])
    if itself:
        counts = counts & ~jnp.eye(len(z), len(candidates), dtype=bool)
    if itself or past:
        positive, negative = positive & counts, negative & counts
    apart = mining.masks(ids, ids, match)[1]
    return Way(z, candidates, positive, negative, apart, count, itself, mirror)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _with_itself(z: jax.Array, compare: Compare) -> jax.Array:
    """`compare(z, z)` of a symmetric comparison. Its gradient takes one matrix product, not two."""
    return compare(z, z)


def _forward(z: jax.Array, compare: Compare) -> tuple[jax.Array, Callable]:
    return jax.vjp(lambda x: compare(x, jax.lax.stop_gradient(z)), z)


def _backward(compare: Compare, pull: Callable, by_matrix: jax.Array) -> tuple[jax.Array]:
    return pull(by_matrix + transposed(by_matrix))


_with_itself.defvjp(_forward, _backward)


def _joined(sides: list[Side]) -> Side:
    if len(sides) == 1:
        return sides[0]
    ids = Ids(*(jnp.concatenate(parts) for parts in zip(*(ids for _, ids in sides), strict=True)))
    return jnp.concatenate([side for side, _ in sides]), ids


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
