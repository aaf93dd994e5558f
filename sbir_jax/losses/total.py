"""What a run minimises: the weighted sum that its config names, its parameters, its figures."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from sbir_jax import distances
from sbir_jax.loss_config import LossConfig, prefixes, terms
from sbir_jax.losses import pairs, softmax, triplets
from sbir_jax.losses.category import category
from sbir_jax.losses.smooth_ap import smooth_ap
from sbir_jax.losses.ways import Diagnostics, Way, health, ways
from sbir_jax.memory import Memory
from sbir_jax.mining import Ids

COLDEST = 0.01  # of a learnt temperature, as in CLIP

Params = dict[str, dict[str, jax.Array]]

_MINED: dict[str, Callable[..., tuple[jax.Array, Diagnostics]]] = {
    "triplet": triplets.triplet,
    "quadruplet": triplets.quadruplet,
    "relative_triplet": triplets.relative_triplet,
}
_WHOLE: dict[str, Callable[..., tuple[jax.Array, Diagnostics]]] = {
    "contrastive": pairs.contrastive,
    "n_pairs": softmax.n_pairs,
    "multi_similarity": pairs.multi_similarity,
    "circle": pairs.circle,
    "smooth_ap": smooth_ap,
}


def init_params(config: LossConfig, key: jax.Array, *, classes: int, dim: int) -> Params:
    """The parameters that the configured losses train beside the model, by loss; {} if none.

    Args:
      config: of the losses.
      key: PRNG key of what is drawn.
      classes: of the dataset.
      dim: of the embeddings.
    """
    params: Params = {}
    for _, name in terms(config.name):
        own = getattr(config, name)
        if name == "infonce" and own.learn_temperature:
            params[name] = {"log_temperature": jnp.float32(math.log(own.temperature))}
        if name == "sigmoid" and own.learn:
            params[name] = {
                "log_scale": jnp.float32(math.log(own.scale)),
                "bias": jnp.float32(own.bias),
            }
        if name == "category":
            weights = jax.random.normal(key, (classes, dim)) / math.sqrt(dim)
            params[name] = {"weights": weights}
    return params


def bounded(params: Params) -> Params:
    """`params` with a learnt temperature of at least `COLDEST`; to apply after every update."""
    if "infonce" not in params:
        return params
    log_temperature = jnp.maximum(params["infonce"]["log_temperature"], math.log(COLDEST))
    return params | {"infonce": {"log_temperature": log_temperature}}


def cross_modal(
    config: LossConfig,
    sketch: jax.Array,
    photo: jax.Array,
    sketch_ids: Ids,
    photo_ids: Ids,
    *,
    key: jax.Array,
    step: int | jax.Array = 0,
    params: Params | None = None,
    memory: Memory | None = None,
) -> tuple[jax.Array, Diagnostics]:
    """The configured loss of a batch.

    With `config.matryoshka` it is the mean over the prefixes of the embeddings, each normalised
    again, and the whole (Kusupati et al., Matryoshka Representation Learning, NeurIPS 2022).

    Args:
      config: its durations counted in steps, see `loss_config.in_steps`.
      sketch: float32 [B, D].
      photo: float32 [C, D].
      sketch_ids: identities of the B sketches.
      photo_ids: identities of the C photos.
      key: PRNG key of the miners' draws.
      step: int32 [], of the run.
      params: of the losses, from `init_params`; may be left out where that is {}.
      memory: past batches.

    Returns:
      (loss, diagnostics), all float32 []: of the whole embeddings the figures of `ways.health`,
      those of each loss, loss_NAME of each term of a sum, and mean_cosine, the mean cosine over
      all pairs of one side's embeddings, each with itself included; the larger of the two sides.
      1: all embeddings have collapsed to one direction.
    """
    lengths = prefixes(config.matryoshka, sketch.shape[1])
    losses: list[jax.Array] = []
    for length in lengths:
        cut = (lambda x: x) if length == lengths[-1] else (lambda x, n=length: _prefix(x, n))
        past = memory
        if memory is not None:
            past = dataclasses.replace(memory, sketch=cut(memory.sketch), photo=cut(memory.photo))
        sides = cut(sketch), cut(photo), sketch_ids, photo_ids
        met = ways(*sides, match=config.match, pairs=config.pairs, memory=past)
        loss, diagnostics = _sum(config, met, sides, key=key, step=step, params=params or {})
        losses.append(loss)
    # By the first loss's own distance, whose matrix is there already.
    first = getattr(config, terms(config.name)[0][1])
    diagnostics |= health(met, getattr(first, "distance", "cosine"))
    diagnostics["mean_cosine"] = jnp.maximum(_mean_cosine(sketch), _mean_cosine(photo))
    return sum(losses, jnp.zeros(())) / len(losses), diagnostics


def _sum(
    config: LossConfig,
    met: tuple[Way, ...],
    sides: tuple,
    *,
    key: jax.Array,
    step: int | jax.Array,
    params: Params,
) -> tuple[jax.Array, Diagnostics]:
    loss, diagnostics = jnp.zeros(()), Diagnostics()
    named = terms(config.name)
    for weight, name in named:
        own = params.get(name, {})
        value, figures = _term(config, name, met, sides, key=key, step=step, params=own)
        loss += weight * value
        diagnostics |= figures
        if len(named) > 1:
            diagnostics[f"loss_{name}"] = value
    return loss, diagnostics


def _term(
    config: LossConfig,
    name: str,
    met: tuple[Way, ...],
    sides: tuple,
    *,
    key: jax.Array,
    step: int | jax.Array,
    params: dict[str, jax.Array],
) -> tuple[jax.Array, Diagnostics]:
    """One loss by its name: its settings are the arguments of its function, unless it learns."""
    settings = dataclasses.asdict(getattr(config, name))
    if name in _MINED:
        return _MINED[name](met, key=key, step=step, **settings)
    if name in _WHOLE:
        return _WHOLE[name](met, **settings)
    if name == "infonce":
        temperature, figures = settings["temperature"], {}
        if params:
            temperature = jnp.exp(params["log_temperature"])
            figures = {"temperature": temperature}
        smoothing = settings["label_smoothing"]
        return softmax.infonce(met, temperature=temperature, label_smoothing=smoothing)[0], figures
    if name == "sigmoid":
        scale, bias, figures = settings["scale"], settings["bias"], {}
        if params:
            scale, bias = jnp.exp(params["log_scale"]), params["bias"]
            figures = {"sigmoid_scale": scale, "sigmoid_bias": bias}
        return pairs.sigmoid(met, scale=scale, bias=bias)[0], figures
    sketch, photo, sketch_ids, photo_ids = sides
    return category(
        jnp.concatenate([sketch, photo]),
        jnp.concatenate([sketch_ids.label, photo_ids.label]),
        params["weights"][:, : sketch.shape[1]],
        **settings,
    )


def _prefix(x: jax.Array, length: int) -> jax.Array:
    return distances.unit(x[:, :length])


def _mean_cosine(side: jax.Array) -> jax.Array:
    return jnp.sum(jnp.mean(distances.unit(jax.lax.stop_gradient(side)), axis=0) ** 2)
