"""Every setting of a run: its default, meaning and valid values, checked once at the start.

A config file builds an `ml_collections.ConfigDict` with `default_config()` and changes what it
needs; command-line overrides change it further; `resolve()` turns the result into frozen
dataclasses, or raises one `ConfigError` line naming the path, the bad value and the valid ones.
Library functions receive values from these dataclasses, never the ConfigDict itself.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import ml_collections

from sbir_jax import data_config, eval_config, loss_config, model_config, optim_config, train_config
from sbir_jax.data_config import AugmentConfig, DataConfig
from sbir_jax.eval_config import EvalConfig
from sbir_jax.loss_config import LossConfig
from sbir_jax.model_config import ModelConfig
from sbir_jax.optim_config import OptimConfig
from sbir_jax.setting import ConfigError, duration_steps, nearest, setting
from sbir_jax.train_config import TrainConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One run, whole."""

    seed: int = setting(0, "seeds parameters, batches and augmentation", low=0, high=2**31 - 1)
    data: DataConfig = DataConfig()
    augment: AugmentConfig = AugmentConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    optim: OptimConfig = OptimConfig()
    train: TrainConfig = TrainConfig()
    eval: EvalConfig = EvalConfig()


def settings(schema: type = RunConfig, prefix: str = "") -> Iterator[tuple[str, dataclasses.Field]]:
    """Yields (dotted path, field) of every setting, in file order."""
    for field in dataclasses.fields(schema):
        if dataclasses.is_dataclass(field.default):
            yield from settings(type(field.default), f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, field


def default_config() -> ml_collections.ConfigDict:
    """A fresh ConfigDict with every setting at its default: where each config file starts."""
    return ml_collections.ConfigDict(dataclasses.asdict(RunConfig()))


def resolve(config: ml_collections.ConfigDict | dict) -> RunConfig:
    """Checks a whole config and freezes it.

    Raises:
      ConfigError: unknown or missing key, wrong type, value outside its range or choices, or
        settings that contradict each other; the first problem, in one line.
    """
    values = config.to_dict() if isinstance(config, ml_collections.ConfigDict) else config
    run = _build(RunConfig, values, "")
    _check_together(run)
    return run


def _build(schema: type, values: Any, prefix: str) -> Any:
    fields = {f.name: f for f in dataclasses.fields(schema)}
    if not isinstance(values, dict):
        raise ConfigError(
            f"config.{prefix[:-1]}={values!r}: expected a group of {', '.join(fields)}"
        )
    for key in values:
        if key not in fields:
            raise ConfigError(f"config.{prefix}{key}: no such setting; {nearest(key, fields)}")
    built = {}
    for name, field in fields.items():
        path = prefix + name
        if name not in values:
            raise ConfigError(f"config.{path} is missing; start config files from default_config()")
        value = values[name]
        if dataclasses.is_dataclass(field.default):
            built[name] = _build(type(field.default), value, path + ".")
        else:
            built[name] = _checked(path, field, value)
    return schema(**built)


def _checked(path: str, field: dataclasses.Field, value: Any) -> Any:
    wanted: Any = type(field.default)
    if wanted is float and type(value) is int:
        value = float(value) if abs(value) < 1 << 1000 else math.inf
    if type(value) is not wanted:
        raise ConfigError(f"config.{path}={value!r}: expected {wanted.__name__}")
    if wanted is float and not math.isfinite(value):
        raise ConfigError(f"config.{path}={value!r}: must be finite")
    limits = field.metadata
    if limits["choices"] and value not in limits["choices"]:
        raise ConfigError(f"config.{path}={value!r}: {nearest(value, limits['choices'])}")
    for sign, bound in ((1, limits["low"]), (-1, limits["high"])):
        if bound is not None and sign * value < sign * bound:
            raise ConfigError(
                f"config.{path}={value!r}: valid from {limits['low']} to {limits['high']}"
            )
    return value


def _check_together(run: RunConfig) -> None:
    data_config.check(run.data)
    train_config.check(run.train, batch_size=run.data.batch_size)
    by_class = run.data.sampler in data_config.BY_CLASS
    if run.loss.match == "instance" and by_class:
        raise ConfigError(
            f"config.data.sampler={run.data.sampler!r}: config.loss.match='instance' needs "
            "'pairs' or 'instances'"
        )
    duration_steps(run.optim.warmup, path="optim.warmup", batch_size=1, epoch_size=1, total=1)
    starts = bool(run.model.weights or run.train.init_from)
    model_config.check(run.model, image_size=run.data.image_size, from_scratch=not starts)
    loss_config.check(run.loss, dim=run.model.embed_dim)
    optim_config.check(run.optim)
    eval_config.check(run.eval)
