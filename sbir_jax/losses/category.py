"""Cross-entropy over the classes of the dataset, usually added to a loss on pairs or triplets."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from sbir_jax import distances
from sbir_jax.losses.ways import Diagnostics

MARGIN_FORMS = ("none", "cosface", "arcface")


def category(
    embeddings: jax.Array,
    labels: jax.Array,
    weights: jax.Array,
    *,
    scale: float,
    margin_form: str,
    margin: float,
) -> tuple[jax.Array, Diagnostics]:
    """Mean cross-entropy of softmax(scale x cosine to each class vector).

    margin_form="none": as it stands (normalised softmax).
    margin_form="cosface": the cosine to the own class less the margin (Wang et al., CosFace, 2018).
    margin_form="arcface": the cosine of the angle to the own class plus the margin (Deng et al.,
    ArcFace, 2019); beyond an angle of pi - margin, where that would rise again, the cosine less
    margin x sin(margin).

    Args:
      embeddings: float32 [N, D], of both sides.
      labels: int32 [N], from 0 to below the number of classes; another makes the loss NaN.
      weights: float32 [classes, D], parameters.
      scale: of the cosines.
      margin_form: as above.
      margin: a difference of cosines, or radians.

    Returns:
      (loss, diagnostics): category_top1, the share whose own class is nearest.

    Raises:
      ValueError: unknown `margin_form`.
    """
    if margin_form not in MARGIN_FORMS:
        raise ValueError(f"margin_form={margin_form!r}: valid: {', '.join(MARGIN_FORMS)}")
    cosines = distances.cosine_similarity(embeddings, weights)  # [N, classes]
    is_own = labels[:, None] == jnp.arange(len(weights))
    own = jnp.sum(jnp.where(is_own, cosines, 0.0), axis=1)
    if margin_form == "cosface":
        target = own - margin
    elif margin_form == "arcface":
        sine = _root(1.0 - own**2)
        turned = own * math.cos(margin) - sine * math.sin(margin)
        beyond = own < -math.cos(margin)
        target = jnp.where(beyond, own - margin * math.sin(margin), turned)
    else:
        target = own
    logits = scale * jnp.where(is_own, target[:, None], cosines)
    loss = jnp.mean(jax.nn.logsumexp(logits, axis=1) - scale * target)
    sound = jnp.isfinite(embeddings).all() & is_own.any(axis=1).all()
    top1 = jnp.mean(own >= cosines.max(axis=1))
    return jnp.where(sound, loss, jnp.nan), {"category_top1": top1}


def _root(square: jax.Array) -> jax.Array:
    """Square root, 0 with slope 0 where there is none or the slope would be infinite."""
    positive = square > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1.0)), 0.0)
