"""The training step: a pure function of arrays, compiled once.

The state is donated. Randomness is `fold_in(seed key, step)`, so resuming needs no random state.
The loss sees the global batch, whatever the number of devices.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from sbir_jax import dispatch, ema, gradient, losses, memory, sharding
from sbir_jax.config import RunConfig
from sbir_jax.data import augment, pseudo
from sbir_jax.data.pipeline import images_of
from sbir_jax.ema import Average
from sbir_jax.loss_config import steps
from sbir_jax.memory import Memory
from sbir_jax.mining import Ids
from sbir_jax.models import dual
from sbir_jax.models.compiling import compiler_options
from sbir_jax.optim import Optimizer, everything, parts
from sbir_jax.paths import pick, replaced


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """All that training changes.

    Attributes:
      step: int32 [].
      params: of the model.
      model_state: BatchNorm's statistics, and what pixels are normalised by.
      loss_params: what the losses learn beside the model, see `losses.init_params`; may be {}.
      opt_state: of the optimiser, over the trained parameters of model and loss.
      memory: embeddings of past batches; None without `config.loss.memory`.
      ema: moving average of the model; None without `config.optim.ema`.
    """

    step: jax.Array
    params: Any
    model_state: Any
    loss_params: Any
    opt_state: Any
    memory: Memory | None
    ema: Average | None

    @property
    def evaluated(self) -> tuple[Any, Any]:
        """Parameters and state of the model that validation scores: the average, if any."""
        return self.ema.model(self.params) if self.ema else (self.params, self.model_state)


def draw(run: RunConfig, *, classes: int) -> tuple[dict, dict, dict]:
    """First parameters and state of the model, and parameters of the loss, from the run's seed.

    Call it, do not jit it (see `models.initial`).
    """
    key = dual.init_key(run.seed)
    _, params, model_state = dual.build(run.model, key, image_size=run.data.image_size)
    loss_params = losses.init_params(
        run.loss, jax.random.fold_in(key, 1), classes=classes, dim=run.model.embed_dim
    )
    return params, model_state, loss_params


def make_init(run: RunConfig, optimizer: Optimizer, *, classes: int) -> Callable[[], TrainState]:
    """A function that draws the first state; call it, do not jit it (see `models.initial`)."""

    def init() -> TrainState:
        params, model_state, loss_params = draw(run, classes=classes)
        moved = pick(everything(params, loss_params), optimizer.trained)
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            model_state=model_state,
            loss_params=loss_params,
            opt_state=optimizer.rule.init(moved),
            memory=memory.init(run.loss.memory, run.model.embed_dim) if run.loss.memory else None,
            ema=_averaged(optimizer, params, model_state) if run.optim.ema else None,
        )

    return init


def keys(seed: int, step: jax.Array | int) -> jax.Array:
    """What a step is random by: the keys [3] of augmentation, dropout and mining."""
    return jax.random.split(jax.random.fold_in(jax.random.key(seed), step), 3)


def seen(
    run: RunConfig, augment_key: jax.Array, resident: dict, batch: dict
) -> tuple[tuple[jax.Array, jax.Array], tuple[Ids, Ids]]:
    """What the encoders and the loss see of a batch, traced in the step.

    Returns:
      Sketches and photos, float32 [B, image_size, image_size, C] in -1..1, and the ids of each.
    """
    sketch, photo = images_of(resident, batch)
    ids = batch["sketch_ids"], batch["photo_ids"]
    if share := run.augment.pseudo:
        drawing_key = jax.random.fold_in(augment_key, 1)
        sketch, own = pseudo.replace_some(drawing_key, sketch, photo, *ids, share=share)
        ids = own, ids[1]
    views = augment.augment_pair(
        augment_key, sketch, photo, size=run.data.image_size, config=run.augment
    )
    return views, ids


def make_train_step(
    run: RunConfig,
    graphdef: nnx.GraphDef,
    optimizer: Optimizer,
    like: TrainState,
    *,
    stacked: bool = False,
) -> Callable:
    """`step(state, resident, batch) -> (state, metrics)`, jitted; `state` is donated.

    With `stacked`, batches and metrics have one more axis in front, and as many steps are taken, in
    turn, on [n, B, ...].

    States come and go placed as `like` is: a state, or its shapes with shardings.

    Only trained parameters have a gradient; the others pass through untouched. Metrics are float32
    scalars of the step that was just taken, on the parameters before it.
    Durations in `run.loss` must be in steps (`loss_config.in_steps`).
    """
    homes = jax.tree.map(lambda x: x.sharding, like)
    mesh = homes.step.mesh
    remembers_from = steps(run.loss.memory_after)
    gradient_of = gradient.one_pass
    if run.train.chunk:
        gradient_of = functools.partial(gradient.two_pass, chunk=run.train.chunk, mesh=mesh)

    def step(state: TrainState, resident: dict, batch: dict) -> tuple[TrainState, dict]:
        augment_key, dropout_key, mining_key = keys(run.seed, state.step)
        (sketch, photo), ids = seen(run, augment_key, resident, batch)

        past = state.memory
        if past is not None:
            usable = jnp.where(state.step < remembers_from, 0, past.filled)
            past = dataclasses.replace(past, filled=usable)

        whole = everything(state.params, state.loss_params)

        def of_both(moved: dict) -> tuple[Any, Any]:
            both = replaced(whole, moved)
            # Left to itself, XLA may split a layer as its kernel is and move activations instead.
            return parts(sharding.gathered(mesh, both) if run.train.fsdp else both)

        def embed(moved: dict, sketch: jax.Array, photo: jax.Array, key: jax.Array) -> tuple:
            params, _ = of_both(moved)
            return dual.apply_train(
                graphdef,
                params,
                state.model_state,
                sketch,
                photo,
                key=key,
                fused=not run.train.deterministic,
            )

        def loss_of(moved: dict, embeddings: gradient.Pair) -> tuple[jax.Array, dict]:
            _, loss_params = of_both(moved)
            return losses.cross_modal(
                run.loss,
                *embeddings,
                *ids,
                key=mining_key,
                step=state.step,
                params=loss_params,
                memory=past,
            )

        moved = pick(whole, optimizer.trained)
        (loss, diagnostics), (embeddings, model_state), grads = gradient_of(
            embed, loss_of, moved, (sketch, photo), dropout_key
        )
        if run.train.fsdp:
            own = pick(everything(homes.params, homes.loss_params), optimizer.trained)
            grads = jax.lax.with_sharding_constraint(grads, own)
        updates, opt_state = optimizer.rule.update(grads, state.opt_state, moved)
        moved = optax.apply_updates(moved, updates)
        metrics = {
            "loss": loss,
            "optim/grad_norm": optax.tree.norm(grads),
            "optim/param_norm": optax.tree.norm(moved),
        } | {f"health/{name}": value for name, value in diagnostics.items()}
        params, loss_params = parts(replaced(whole, moved))
        kept = state.memory
        if kept is not None:
            kept = memory.push(kept, *embeddings, *ids)
        average = state.ema
        if average is not None:
            newest = _averaged(optimizer, params, model_state)
            average = ema.update(average, newest, decay=run.optim.ema, count=state.step)
        after = TrainState(
            step=state.step + 1,
            params=params,
            model_state=model_state,
            loss_params=losses.bounded(loss_params),
            opt_state=opt_state,
            memory=kept,
            ema=average,
        )
        return after, metrics

    def several(state: TrainState, resident: dict, batches: dict) -> tuple[TrainState, dict]:
        if len(batches["sketch"]) == 1:
            # A loop of one step, unrolled too, took two CPU cores 12 times as long (quickstart.py).
            state, metrics = step(state, resident, dispatch.one(batches, 0))
            return state, jax.tree.map(lambda x: x[None], metrics)
        return jax.lax.scan(lambda state, batch: step(state, resident, batch), state, batches)

    return jax.jit(
        several if stacked else step,
        donate_argnames="state",
        out_shardings=(homes, sharding.replicated(mesh)),
        compiler_options=compiler_options(
            dual.model_spec(run.model, run.data.image_size),
            mesh.devices.flat[0].platform,
            deterministic=run.train.deterministic,
        ),
    )


def _averaged(optimizer: Optimizer, params: dict, model_state: dict) -> Average:
    return Average(pick(params, optimizer.trained), model_state)
