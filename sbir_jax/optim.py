"""The optimiser: schedule, clipping, which parameters move, how fast, and which of them decay."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any

import optax

from sbir_jax.optim_config import OptimConfig
from sbir_jax.paths import by_path
from sbir_jax.patterns import matches, named, patterns, rates
from sbir_jax.setting import ConfigError

_LOSS = "loss"  # where the parameters of the loss stand among those of the model

# Never shrunk: biases and norms of any shape, and what is added to tokens or is one.
_NO_DECAY = ("*/bias", "*/scale", "prompts", "*/positions", "*/class_token", "*/registers")
_BEFORE_BLOCKS = ("stems", "trunks/*/norm_pre")  # the rest that is in no block comes after them


@dataclasses.dataclass(frozen=True)
class Groups:
    """How training treats each trained parameter of model and loss, by its path.

    Attributes:
      rates: what its learning rate is multiplied by.
      decays: whether weight decay shrinks it.
    """

    rates: Mapping[str, float]
    decays: Mapping[str, bool]


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """What moves the trained parameters, and which those are.

    Attributes:
      rule: over {path: array} of the trained parameters alone.
      trained: their paths in `everything`.
    """

    rule: optax.GradientTransformation
    trained: frozenset[str]


def everything(params: Any, loss_params: Any) -> dict[str, Any]:
    """The parameters of model and loss in one tree, the latter below 'loss'."""
    return {**params, _LOSS: loss_params}


def parts(whole: dict[str, Any]) -> tuple[Any, Any]:
    """Undoes `everything`: the parameters of the model, and those of the loss."""
    return {name: of for name, of in whole.items() if name != _LOSS}, whole[_LOSS]


def trained_paths(config: OptimConfig, paths: Iterable[str]) -> list[str]:
    """The paths that `train` and `freeze` leave to be trained; those of the loss always are.

    Raises:
      ConfigError: a pattern matches no parameter of the model, or nothing of it is trained.
    """
    paths = list(paths)
    own = [path for path in paths if not matches(_LOSS, path)]
    moved, kept = (
        {
            path
            for pattern in patterns(text)
            for path in named(pattern, own, setting=f"optim.{name}={text!r}")
        }
        for name, text in (("train", config.train), ("freeze", config.freeze))
    )
    kept |= set(own) - moved if moved else set()
    if kept >= set(own):
        given = [
            f"config.optim.{n}={t!r}" for n in ("train", "freeze") if (t := getattr(config, n))
        ]
        raise ConfigError(f"{' with '.join(given)}: every parameter of the model would be frozen")
    return [path for path in paths if path not in kept]


def groups(config: OptimConfig, params: Any) -> Groups:
    """Who is trained, and how.

    Args:
      config: of the optimiser.
      params: those of model and loss by path: arrays or their shapes.

    Raises:
      ConfigError: as `trained_paths`; or a pattern of `lr_scale` matches nothing that is trained,
        or `layer_decay` finds no blocks.
    """
    moved = trained_paths(config, params)
    scales = dict.fromkeys(moved, 1.0)
    if config.layer_decay < 1:
        depths = block_depths(params)
        top = max(depths.values(), default=0)
        if not any(0 < depth < top for depth in depths.values()):
            raise ConfigError(
                f"config.optim.layer_decay={config.layer_decay}: this model has no blocks"
            )
        scales = {path: config.layer_decay ** (top - depths[path]) for path in moved}
    own: dict[str, float] = {}
    for pattern, rate in rates(config.lr_scale, setting="optim.lr_scale"):
        setting = f"optim.lr_scale={config.lr_scale!r}"
        found = named(pattern, params, setting=setting) & set(moved)
        if not found:
            raise ConfigError(f"config.{setting}: {pattern!r} matches only frozen parameters")
        own |= dict.fromkeys(found, rate)
    return Groups(
        rates={path: scale * own.get(path, 1.0) for path, scale in scales.items()},
        decays={path: decays(path, params[path]) for path in moved},
    )


def decays(path: str, x: Any) -> bool:
    """Whether weight decay shrinks a parameter: a kernel or matrix, but see `_NO_DECAY`."""
    return x.ndim > 1 and not any(matches(pattern, path) for pattern in _NO_DECAY)


def block_depths(paths: Iterable[str]) -> dict[str, int]:
    """How many blocks from the image each parameter is: 0 to the number of blocks L, plus 1.

    The rule of BEiT (Bao et al., ICLR 2022), read from paths: 0 what comes before the blocks (stems
    with their positions and class tokens), i + 1 block i of `blocks/<i>` or, counted through all
    stages, of `stages/<s>/blocks/<i>`; what else a stage holds goes with its first block, and a
    stage without blocks is one; L + 1 the rest: last norms, heads, prompts, losses.
    """
    places = {path: _place(path) for path in paths}
    towers: dict[str, set] = {}
    for tower, *block in filter(None, places.values()):
        towers.setdefault(tower, set()).add(tuple(block))
    order = {tower: sorted(blocks) for tower, blocks in towers.items()}
    top = 1 + max(map(len, order.values()), default=0)

    def depth(path: str) -> int:
        if place := places[path]:
            tower, *block = place
            return 1 + order[tower].index(tuple(block))
        return 0 if any(matches(pattern, path) for pattern in _BEFORE_BLOCKS) else top

    return {path: depth(path) for path in places}


def _place(path: str) -> tuple[str, int, int] | None:
    """(what holds the blocks, stage, block) of a parameter in a block or a stage."""
    match = re.search(r"(?:^|/)(blocks|stages)/(\d+)/(?:blocks/(\d+)/)?", path)
    if not match:
        return None
    tower, number, inner = path[: match.start()], int(match[2]), int(match[3] or 0)
    return (tower, number, inner) if match[1] == "stages" else (tower, 0, number)


def make_schedule(config: OptimConfig, *, warmup_steps: int, total_steps: int) -> optax.Schedule:
    """Learning rate at a step: linear from 0 to `lr` over the warm-up, then `config.schedule`."""
    rest = total_steps - warmup_steps
    after = {
        "cosine": lambda: optax.schedules.cosine_decay_schedule(config.lr, rest),
        "linear": lambda: optax.schedules.linear_schedule(config.lr, 0.0, rest),
        "constant": lambda: optax.schedules.constant_schedule(config.lr),
    }[config.schedule]()
    warmup = optax.schedules.linear_schedule(0.0, config.lr, warmup_steps)
    return optax.schedules.join_schedules([warmup, after], [warmup_steps])


def make_optimizer(config: OptimConfig, schedule: optax.Schedule, params: Any) -> Optimizer:
    """AdamW (Loshchilov, Hutter, ICLR 2019) or SGD with momentum, decay decoupled in both.

    Args:
      config: of the optimiser.
      schedule: learning rate at a step.
      params: those of model and loss, see `everything`: arrays or their shapes.

    Raises:
      ConfigError: as `groups`.
    """
    own = groups(config, by_path(params))
    clip = [optax.clip_by_global_norm(config.clip_norm)] if config.clip_norm else []
    direction = {
        "adamw": lambda: optax.scale_by_adam(b1=config.momentum, b2=config.beta2),
        "sgd": lambda: optax.trace(config.momentum),
    }[config.name]()
    decay = optax.add_decayed_weights(config.weight_decay, mask=dict(own.decays))
    # A parameter's rate scales its decay too, as in a parameter group of torch.
    scale = optax.stateless(
        lambda updates, _: {path: u * own.rates[path] for path, u in updates.items()}
    )
    rule = optax.chain(*clip, direction, decay, optax.scale_by_learning_rate(schedule), scale)
    return Optimizer(rule, frozenset(own.rates))
