"""The settings of the loop: how long it runs, how often it looks up, and where it starts."""

from __future__ import annotations

import dataclasses

from sbir_jax.setting import ConfigError, duration_steps, setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How long, and how often the run looks up."""

    duration: str = setting("400 steps", "whole run: steps, epochs (of sketches) or examples")
    log_every: str = setting("20 steps", "between two metric lines")
    eval_every: str = setting("25%", "between two validations; each one also saves a checkpoint")
    chunk: int = setting(
        0,
        "pairs embedded at a time, for batches whose activations do not fit: the gradient stays "
        "that of the whole batch (0: all at once)",
        low=0,
        high=1 << 20,
    )
    steps_per_dispatch: int = setting(
        1,
        "steps sent to the device together, as one program that loops over them: for accelerators, "
        "and models so small that sending takes as long as a step. On CPUs convolutions in a loop "
        "are about 20 times slower",
        low=1,
        high=1 << 10,
    )
    deterministic: bool = setting(
        True,
        "on GPUs, the same numbers from the same seed, run after run: without kernels that add in "
        "any order, cuDNN's attention among them. False is faster, a ViT most; CPUs and TPUs are "
        "deterministic anyway",
    )
    fsdp: bool = setting(
        False,
        "split parameters and optimiser state over the devices instead of a copy on each (FSDP): "
        "memory for traffic",
    )
    wandb: str = setting("", "project of Weights & Biases that also gets the metrics (empty: none)")
    init_from: str = setting("", "workdir whose best parameters start this run (empty: scratch)")


def check(config: TrainConfig, *, batch_size: int) -> None:
    """What can be checked without a dataset.

    Raises:
      ConfigError: a duration that cannot be read, or a chunk that does not divide the batch.
    """
    if config.chunk and batch_size % config.chunk:
        raise ConfigError(
            f"config.train.chunk={config.chunk}: must divide config.data.batch_size={batch_size}"
        )
    duration_steps(config.duration, path="train.duration", batch_size=1, epoch_size=1)
    for name in ("log_every", "eval_every"):
        text = getattr(config, name)
        duration_steps(text, path=f"train.{name}", batch_size=1, epoch_size=1, total=1)
