"""Losses on pairs: each pulls positives together and pushes negatives apart, no triplet formed."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from sbir_jax.losses.ways import LEFT_OUT, Diagnostics, Way, checked, mean


def contrastive(
    ways: Sequence[Way], *, margin: float, distance: str
) -> tuple[jax.Array, Diagnostics]:
    """The siamese network's pair loss: d^2 of a positive pair, max(0, margin - d)^2 of a negative.

    Hadsell, Chopra, LeCun, Dimensionality Reduction by Learning an Invariant Mapping, CVPR 2006.
    There pairs are drawn, as many positive as negative; here all pairs of the batch count, and the
    loss is half the mean over the positives plus half the mean over the negatives. Every pair is
    valid, so a batch of one class still has the first half.

    Args:
      ways: of one batch.
      margin: in units of `distance`.
      distance: a name of `distances`.

    Returns:
      (loss, diagnostics): active_negatives, the share of negatives nearer than the margin.
    """
    d = [way.distances(distance) for way in ways]
    positive, negative = [way.positive for way in ways], [way.negative for way in ways]
    pull = mean([x**2 for x in d], positive)
    push = mean([jnp.maximum(margin - x, 0.0) ** 2 for x in d], negative)
    active = mean([x < margin for x in d], negative)
    return checked(0.5 * (pull + push), ways), {"active_negatives": active}


def sigmoid(
    ways: Sequence[Way], *, scale: float | jax.Array, bias: float | jax.Array
) -> tuple[jax.Array, Diagnostics]:
    """Each pair is a binary decision: the sum of -log sigmoid(+-(scale cosine + bias)).

    The sign is + for positive pairs. The sum over an anchor's pairs is averaged over the anchors
    that have any (Zhai et al., Sigmoid Loss for Language Image Pre-Training, ICCV 2023, eq. 1).

    Args:
      ways: of one batch.
      scale: of the cosine; may be a parameter, float32 [].
      bias: likewise. Far below 0 at the start, since nearly all pairs are negative.

    Returns:
      (loss, {}).
    """
    terms, paired = [], []
    for way in ways:
        logits = scale * way.cosines() + bias
        each = jax.nn.softplus(jnp.where(way.positive, -logits, logits))
        counts = way.positive | way.negative
        terms.append(jnp.sum(jnp.where(counts, each, 0.0), axis=1))
        paired.append(counts.any(axis=1))
    return checked(mean(terms, paired), ways), {}


def multi_similarity(
    ways: Sequence[Way], *, alpha: float, beta: float, base: float, epsilon: float
) -> tuple[jax.Array, Diagnostics]:
    """Soft maxima over the hard pairs of each anchor, with cosine s:

    log(1 + sum over + of e^(-alpha (s - base))) / alpha
      + log(1 + sum over - of e^(beta (s - base))) / beta.

    Wang et al., Multi-Similarity Loss with General Pair Weighting, CVPR 2019, eq. 7, 8 and 13. Only
    pairs near to the wrong order count: positives less than epsilon above the anchor's most similar
    negative, negatives less than epsilon below its least similar positive.

    Args:
      ways: of one batch.
      alpha: steepness for positives.
      beta: steepness for negatives.
      base: lambda in the paper.
      epsilon: as above.

    Returns:
      (loss, diagnostics): active_pairs, the share of the valid anchors' pairs that count.
    """
    terms, kept, known = [], [], []
    for way in ways:
        s = way.cosines()
        nearest = jnp.where(way.negative, s, -jnp.inf).max(axis=1, keepdims=True)
        farthest = jnp.where(way.positive, s, jnp.inf).min(axis=1, keepdims=True)
        positive = way.positive & (s < nearest + epsilon)
        negative = way.negative & (s > farthest - epsilon)
        pull = _soft_or(jnp.where(positive, -alpha * (s - base), LEFT_OUT)) / alpha
        push = _soft_or(jnp.where(negative, beta * (s - base), LEFT_OUT)) / beta
        terms.append(pull + push)
        kept.append(positive | negative)
        known.append((way.positive | way.negative) & way.valid[:, None])
    loss = checked(mean(terms, [way.valid for way in ways]), ways)
    return loss, {"active_pairs": mean(kept, known)}


def circle(ways: Sequence[Way], *, margin: float, scale: float) -> tuple[jax.Array, Diagnostics]:
    """log(1 + sum over - of e^(scale a_n (s - margin)) x sum over + of e^(-scale a_p (s - 1 +
    margin))), with cosine s and the weights a_n = max(s + margin, 0), a_p = max(1 + margin - s, 0),
    which have no gradient: a pair counts the more, the farther it is from where it should be.

    Sun et al., Circle Loss: A Unified Perspective of Pair Similarity Optimization, CVPR 2020, eq. 6
    with O_p = 1 + m, O_n = -m, Delta_p = 1 - m, Delta_n = m. Averaged over valid anchors.

    Args:
      ways: of one batch.
      margin: m.
      scale: gamma.

    Returns:
      (loss, {}).
    """
    terms = []
    for way in ways:
        s = way.cosines()
        now = jax.lax.stop_gradient(s)
        pull = -scale * jnp.maximum(1.0 + margin - now, 0.0) * (s - 1.0 + margin)
        push = scale * jnp.maximum(now + margin, 0.0) * (s - margin)
        near = jax.nn.logsumexp(jnp.where(way.positive, pull, LEFT_OUT), axis=1)
        far = jax.nn.logsumexp(jnp.where(way.negative, push, LEFT_OUT), axis=1)
        terms.append(jax.nn.softplus(near + far))
    return checked(mean(terms, [way.valid for way in ways]), ways), {}


def _soft_or(exponents: jax.Array) -> jax.Array:
    """log(1 + sum of e^x) along each row."""
    return jax.nn.softplus(jax.nn.logsumexp(exponents, axis=1))
