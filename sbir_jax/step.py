"""The training step and the embedding step: pure functions of arrays, compiled once.

The state is donated. Randomness is `fold_in(seed key, step)`, so resuming needs no random state.
The loss sees the global batch, whatever the number of devices.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh

from sbir_jax import losses, sharding
from sbir_jax.config import RunConfig
from sbir_jax.data import augment
from sbir_jax.data.pipeline import images_of
from sbir_jax.models import dual


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """All that training changes; `step` is int32 [], `model_state` BatchNorm's statistics."""

    step: jax.Array
    params: Any
    model_state: Any
    opt_state: Any


def make_init(run: RunConfig, optimizer: optax.GradientTransformation) -> Callable[[], TrainState]:
    """A function that draws the first state; call it, do not jit it (see `models.initial`)."""

    def init() -> TrainState:
        _, params, model_state = dual.build(run.model, dual.init_key(run.seed))
        return TrainState(jnp.zeros((), jnp.int32), params, model_state, optimizer.init(params))

    return init


def make_train_step(
    run: RunConfig, graphdef: nnx.GraphDef, optimizer: optax.GradientTransformation, mesh: Mesh
) -> Callable:
    """`step(state, resident, batch) -> (state, metrics)`, jitted; `state` is donated.

    Metrics are float32 scalars of the step that was just taken, on the parameters before it.
    """

    def step(state: TrainState, resident: dict, batch: dict) -> tuple[TrainState, dict]:
        key = jax.random.fold_in(jax.random.key(run.seed), state.step)
        augment_key, dropout_key, mining_key = jax.random.split(key, 3)
        sketch, photo = augment.augment_pair(
            augment_key, *images_of(resident, batch), size=run.data.image_size, config=run.augment
        )

        def objective(params: Any) -> tuple[jax.Array, tuple]:
            embeddings, model_state = dual.apply_train(
                graphdef, params, state.model_state, sketch, photo, key=dropout_key
            )
            loss, diagnostics = losses.cross_modal(
                run.loss, *embeddings, batch["sketch_ids"], batch["photo_ids"], key=mining_key
            )
            return loss, (model_state, diagnostics)

        (loss, (model_state, diagnostics)), grads = jax.value_and_grad(objective, has_aux=True)(
            state.params
        )
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {
            "loss": loss,
            "optim/grad_norm": optax.tree.norm(grads),
            "optim/param_norm": optax.tree.norm(params),
        } | {f"health/{name}": value for name, value in diagnostics.items()}
        return TrainState(state.step + 1, params, model_state, opt_state), metrics

    return jax.jit(step, donate_argnames="state", out_shardings=sharding.replicated(mesh))


def make_embed_step(
    graphdef: nnx.GraphDef, *, image_size: int, mesh: Mesh
) -> Callable[..., jax.Array]:
    """`embed(params, model_state, images, modality) -> float32 [B, D]`, jitted.

    `images` is uint8 [B, S, S, C], split over the mesh; every device gets all embeddings.
    """

    def embed(params: Any, model_state: Any, images: jax.Array, modality: str) -> jax.Array:
        images = augment.resize(images, image_size)
        return dual.apply_embed(graphdef, params, model_state, images, modality)

    return jax.jit(embed, static_argnames="modality", out_shardings=sharding.replicated(mesh))
