"""The gradient of a loss over the whole batch: in one pass, or a chunk of the batch at a time.

Such a loss needs all embeddings at once, but not all activations. `two_pass` embeds chunk by chunk
without keeping any, takes the gradient of the loss by the embeddings, and embeds each chunk again
to carry it to the parameters: activations of one chunk in memory, for one more forward pass (Gao,
Zhang, Han, Callan, Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup,
RepL4NLP 2021). Accumulating the gradients of small batches is not the same: each would see its own
negatives only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from sbir_jax import sharding

Pair = tuple[jax.Array, jax.Array]  # of sketches and of photos
# (params, sketches [B, ...], photos [B, ...], key) -> ((sketch, photo) [B, D], model state)
Embed = Callable[[Any, jax.Array, jax.Array, jax.Array], tuple[Pair, Any]]
# (params, (sketch, photo) [B, D]) -> (loss [], figures)
Loss = Callable[[Any, Pair], tuple[jax.Array, Any]]
# ((loss, figures), (embeddings, model state), gradient by params)
Found = tuple[tuple[jax.Array, Any], tuple[Pair, Any], Any]


def one_pass(embed: Embed, loss: Loss, params: Any, images: Pair, key: jax.Array) -> Found:
    """The whole batch at once: fastest where its activations fit."""

    def objective(params: Any) -> tuple[jax.Array, tuple]:
        embeddings, state = embed(params, *images, key)
        value, figures = loss(params, embeddings)
        return value, (figures, (embeddings, state))

    (value, (figures, embedded)), grads = jax.value_and_grad(objective, has_aux=True)(params)
    return (value, figures), embedded, grads


def two_pass(
    embed: Embed,
    loss: Loss,
    params: Any,
    images: Pair,
    key: jax.Array,
    *,
    chunk: int,
    mesh: Mesh,
) -> Found:
    """`chunk` pairs at a time; the same gradient where no pair changes another's embedding.

    BatchNorm takes its statistics from each chunk alone (ghost batches: Hoffer, Hubara, Soudry,
    NeurIPS 2017), and its running ones move once a step, by the mean over the chunks. The key of
    chunk i is `fold_in(key, i)` in both passes. Every device works on its own rows of the batch,
    so which pairs form a chunk depends on the number of devices.
    """
    chunks = sharding.to_chunks(mesh, images, chunk)
    numbers = jnp.arange(len(jax.tree.leaves(chunks)[0]))

    def embed_chunk(params: Any, number: jax.Array, images: Pair) -> tuple[Any, Any]:
        return embed(params, *images, jax.random.fold_in(key, number))

    embeddings, states = jax.lax.map(lambda x: embed_chunk(params, *x), (numbers, chunks))
    embeddings = sharding.from_chunks(mesh, embeddings)
    by_both = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
    found, (grads, by_embeddings) = by_both(params, embeddings)

    def add(grads: Any, x: tuple) -> tuple[Any, None]:
        number, images, cotangents = x
        back = jax.vjp(lambda p: embed_chunk(p, number, images)[0], params)[1]
        return jax.tree.map(jnp.add, grads, back(cotangents)[0]), None

    cotangents = sharding.to_chunks(mesh, by_embeddings, chunk)
    grads, _ = jax.lax.scan(add, grads, (numbers, chunks, cotangents))
    # Written so that statistics which no chunk changes stay as they are, to the bit.
    state = jax.tree.map(lambda x: x[0] + jnp.mean(x - x[0], axis=0), states)
    return found, (embeddings, state), grads
