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

from sbir_jax import losses, memory, sharding
from sbir_jax.config import RunConfig
from sbir_jax.data import augment
from sbir_jax.data.pipeline import images_of
from sbir_jax.loss_config import steps
from sbir_jax.memory import Memory
from sbir_jax.models import dual


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """All that training changes.

    Attributes:
      step: int32 [].
      params: of the model.
      model_state: BatchNorm's statistics, and what pixels are normalised by.
      loss_params: what the losses learn beside the model, see `losses.init_params`; may be {}.
      opt_state: of the optimiser, over `trained(params, loss_params)`.
      memory: embeddings of past batches; None without `config.loss.memory`.
    """

    step: jax.Array
    params: Any
    model_state: Any
    loss_params: Any
    opt_state: Any
    memory: Memory | None


def trained(params: Any, loss_params: Any) -> dict[str, Any]:
    """What the optimiser sees."""
    return {"model": params, "loss": loss_params}


def make_init(
    run: RunConfig, optimizer: optax.GradientTransformation, *, classes: int
) -> Callable[[], TrainState]:
    """A function that draws the first state; call it, do not jit it (see `models.initial`)."""

    def init() -> TrainState:
        key = dual.init_key(run.seed)
        _, params, model_state = dual.build(run.model, key, image_size=run.data.image_size)
        loss_params = losses.init_params(
            run.loss, jax.random.fold_in(key, 1), classes=classes, dim=run.model.embed_dim
        )
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            model_state=model_state,
            loss_params=loss_params,
            opt_state=optimizer.init(trained(params, loss_params)),
            memory=memory.init(run.loss.memory, run.model.embed_dim) if run.loss.memory else None,
        )

    return init


def make_train_step(
    run: RunConfig, graphdef: nnx.GraphDef, optimizer: optax.GradientTransformation, mesh: Mesh
) -> Callable:
    """`step(state, resident, batch) -> (state, metrics)`, jitted; `state` is donated.

    Metrics are float32 scalars of the step that was just taken, on the parameters before it.
    Durations in `run.loss` must be in steps (`loss_config.in_steps`).
    """
    remembers_from = steps(run.loss.memory_after)

    def step(state: TrainState, resident: dict, batch: dict) -> tuple[TrainState, dict]:
        key = jax.random.fold_in(jax.random.key(run.seed), state.step)
        augment_key, dropout_key, mining_key = jax.random.split(key, 3)
        sketch, photo = augment.augment_pair(
            augment_key, *images_of(resident, batch), size=run.data.image_size, config=run.augment
        )

        past = state.memory
        if past is not None:
            usable = jnp.where(state.step < remembers_from, 0, past.filled)
            past = dataclasses.replace(past, filled=usable)
        ids = batch["sketch_ids"], batch["photo_ids"]

        def objective(params: dict[str, Any]) -> tuple[jax.Array, tuple]:
            embeddings, model_state = dual.apply_train(
                graphdef, params["model"], state.model_state, sketch, photo, key=dropout_key
            )
            loss, diagnostics = losses.cross_modal(
                run.loss,
                *embeddings,
                *ids,
                key=mining_key,
                step=state.step,
                params=params["loss"],
                memory=past,
            )
            return loss, (embeddings, model_state, diagnostics)

        params = trained(state.params, state.loss_params)
        gradient = jax.value_and_grad(objective, has_aux=True)
        (loss, (embeddings, model_state, diagnostics)), grads = gradient(params)
        updates, opt_state = optimizer.update(grads, state.opt_state, params)
        params = optax.apply_updates(params, updates)
        metrics = {
            "loss": loss,
            "optim/grad_norm": optax.tree.norm(grads),
            "optim/param_norm": optax.tree.norm(params),
        } | {f"health/{name}": value for name, value in diagnostics.items()}
        kept = state.memory
        if kept is not None:
            kept = memory.push(kept, *embeddings, *ids)
        after = TrainState(
            step=state.step + 1,
            params=params["model"],
            model_state=model_state,
            loss_params=losses.bounded(params["loss"]),
            opt_state=opt_state,
            memory=kept,
        )
        return after, metrics

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
