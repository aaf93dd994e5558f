"""Losses that are a softmax over candidates: InfoNCE (supervised contrastive) and N-pairs."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from sbir_jax.losses.ways import LEFT_OUT, Diagnostics, Way, checked, mean


def infonce(
    ways: Sequence[Way], *, temperature: float | jax.Array, label_smoothing: float = 0.0
) -> tuple[jax.Array, Diagnostics]:
    """Supervised contrastive loss: minus the mean log-probability of an anchor's positives.

    Probabilities are a softmax of cosine / temperature over all candidates, and the mean over
    positives is outside the logarithm (Khosla et al., Supervised Contrastive Learning, 2020,
    eq. 2, across modalities). With a single positive per anchor it is CLIP's InfoNCE. With label
    smoothing e the target is 1 - e shared by the positives and e shared by all candidates.

    Args:
      ways: of one batch.
      temperature: of the softmax, above 0; may be a parameter, float32 [].
      label_smoothing: e, from 0 to below 1.

    Returns:
      (loss, {}).
    """
    terms = []
    for way in ways:
        counts = way.positive | way.negative
        logits = jnp.where(counts, way.cosines() / temperature, LEFT_OUT)
        total = _mean_logit(logits, way.positive)
        if label_smoothing:
            everywhere = _mean_logit(logits, counts)
            total = (1.0 - label_smoothing) * total + label_smoothing * everywhere
        terms.append(jax.nn.logsumexp(logits, axis=1) - total)
    return checked(mean(terms, [way.valid for way in ways]), ways), {}


def n_pairs(ways: Sequence[Way], *, temperature: float) -> tuple[jax.Array, Diagnostics]:
    """N-pair loss: the mean over positives p of log(1 + sum over negatives n of e^(s_n - s_p)).

    Sohn, Improved Deep Metric Learning with Multi-class N-pair Loss Objective, NIPS 2016, eq. 7.
    There s is the inner product of embeddings with a penalty on their length; here, where
    embeddings have none, s is cosine / temperature. Unlike InfoNCE, the positives of an anchor do
    not compete. An anchor's loss is the mean over its positives.

    Args:
      ways: of one batch.
      temperature: as above, above 0.

    Returns:
      (loss, {}).
    """
    terms = []
    for way in ways:
        s = way.cosines() / temperature
        opposed = jax.nn.logsumexp(jnp.where(way.negative, s, LEFT_OUT), axis=1, keepdims=True)
        each = jnp.where(way.positive, jax.nn.softplus(opposed - s), 0.0)
        terms.append(each.sum(axis=1) / jnp.maximum(way.positive.sum(axis=1), 1))
    return checked(mean(terms, [way.valid for way in ways]), ways), {}


def _mean_logit(logits: jax.Array, mask: jax.Array) -> jax.Array:
    return jnp.sum(jnp.where(mask, logits, 0.0), axis=1) / jnp.maximum(mask.sum(axis=1), 1)
