"""The optimiser: schedule, gradient clipping, and which parameters decay."""

from __future__ import annotations

from typing import Any

import jax
import optax

from sbir_jax.config import OptimConfig


def make_schedule(config: OptimConfig, *, warmup_steps: int, total_steps: int) -> optax.Schedule:
    """Learning rate at a step: linear from 0 to `lr` over the warm-up, then a cosine to 0."""
    return optax.schedules.warmup_cosine_decay_schedule(
        0.0 if warmup_steps else config.lr, config.lr, warmup_steps, total_steps
    )


def decays(params: Any) -> Any:
    """Which parameters weight decay shrinks: kernels and matrices, not biases or norm scales."""
    return jax.tree.map(lambda x: x.ndim > 1, params)


def make_optimizer(config: OptimConfig, schedule: optax.Schedule) -> optax.GradientTransformation:
    """AdamW (Loshchilov, Hutter, ICLR 2019) or SGD with momentum, decay decoupled in both."""
    clip = [optax.clip_by_global_norm(config.clip_norm)] if config.clip_norm else []
    direction = {
        "adamw": lambda: optax.scale_by_adam(b1=config.momentum),
        "sgd": lambda: optax.trace(config.momentum),
    }[config.name]()
    decay = optax.add_decayed_weights(config.weight_decay, mask=decays)
    return optax.chain(*clip, direction, decay, optax.scale_by_learning_rate(schedule))
