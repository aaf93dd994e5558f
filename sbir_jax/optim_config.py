"""The settings of the optimiser: its rule and schedule, which parameters move, and how fast."""

from __future__ import annotations

import dataclasses

from sbir_jax.patterns import rates
from sbir_jax.setting import setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """The optimiser, its schedule after a linear warm-up, and which parameters it moves."""

    name: str = setting("adamw", "optimiser", choices=("adamw", "sgd"))
    lr: float = setting(1e-3, "peak learning rate", low=0.0, high=100.0)
    warmup: str = setting("5%", "warm-up: steps, epochs, examples, or % of the run")
    schedule: str = setting(
        "cosine",
        "learning rate after the warm-up: half a cosine or a line down to 0, or constant",
        choices=("cosine", "linear", "constant"),
    )
    weight_decay: float = setting(
        0.05,
        "decoupled weight decay of matrices and kernels (not biases, norms, prompts, positions or "
        "class tokens)",
        low=0.0,
        high=10.0,
    )
    momentum: float = setting(0.9, "momentum of sgd; beta1 of adamw", low=0.0, high=0.9999)
    beta2: float = setting(0.999, "beta2 of adamw", low=0.0, high=0.99999)
    clip_norm: float = setting(
        1.0, "largest global gradient norm (0: no clipping)", low=0.0, high=1e6
    )
    train: str = setting(
        "",
        "patterns of the model's parameters that are trained (empty: all), such as "
        "'*norm*, heads/*'",
    )
    freeze: str = setting("", "patterns of those that are not, such as 'stems/*, trunks/*'")
    lr_scale: str = setting(
        "",
        "learning rate of some parameters, times lr: 'prompts*: 100, heads/*: 10' (the last "
        "pattern that matches counts)",
    )
    layer_decay: float = setting(
        1.0,
        "learning rate of each block, times that of the next; 1 for the head, lowest in the stem",
        low=0.01,
        high=1.0,
    )
    ema: float = setting(
        0.0,
        "decay of an exponential moving average of the parameters, which is then what validation "
        "and evaluation use (0: none)",
        low=0.0,
        high=0.999999,
    )


def check(config: OptimConfig) -> None:
    """What can be checked without a model.

    Raises:
      ConfigError: `lr_scale` cannot be read.
    """
    rates(config.lr_scale, setting="optim.lr_scale")
