"""Every setting of a run: its default, meaning and valid values, checked once at the start.

A config file builds an `ml_collections.ConfigDict` with `default_config()` and changes what it
needs; command-line overrides change it further; `resolve()` turns the result into frozen
dataclasses, or raises one `ConfigError` line naming the path, the bad value and the valid ones.
Library functions receive values from these dataclasses, never the ConfigDict itself.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator
from typing import Any

import ml_collections

from sbir_jax import loss_config, model_config, optim_config
from sbir_jax.loss_config import LossConfig
from sbir_jax.model_config import ModelConfig
from sbir_jax.optim_config import OptimConfig
from sbir_jax.ranking import names
from sbir_jax.setting import ConfigError, duration_steps, nearest, setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which prepared dataset is read, and how batches are drawn from it."""

    name: str = setting("demo", "dataset name, as given to `python -m data_prep ... --name`")
    dir: str = setting("data", "directory that holds prepared datasets (`--data_dir`)")
    image_size: int = setting(64, "side in pixels of the square the encoders see", low=8, high=1024)
    load_size: int = setting(
        72,
        "side in pixels of the stored square that crops are cut from; crops are not antialiased, "
        "so little more than image_size",
        low=8,
        high=1280,
    )
    fit: str = setting("pad", "how an image becomes square", choices=("pad", "squash", "crop"))
    feed: str = setting(
        "auto",
        "resident: dataset in device memory; stream: decoded ahead by workers; auto: by size",
        choices=("auto", "resident", "stream"),
    )
    workers: int = setting(0, "Grain worker processes when streaming (0: threads)", low=0, high=256)
    sampler: str = setting(
        "pairs",
        "pairs: each sketch with its own photo, or one of its class; "
        "instances: linked pairs only, no photo twice; classes: P classes x K of each side; "
        "confusable: the same, with classes that the last validation confused in one batch",
        choices=("pairs", "instances", "classes", "confusable"),
    )
    batch_size: int = setting(64, "sketch-photo pairs in the global batch", low=2, high=1 << 20)
    per_class: int = setting(
        4, "K of `classes` and `confusable`; P = batch_size / K", low=1, high=1 << 16
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Random changes made on the device to each training image, keyed by (seed, step)."""

    flip: str = setting(
        "independent",
        "horizontal flips: paired keeps a sketch and its photo facing the same way",
        choices=("none", "independent", "paired"),
    )
    min_scale: float = setting(0.7, "smallest crop, as a share of the side", low=0.1, high=1.0)
    rotate: float = setting(15.0, "largest rotation in degrees, either way", low=0.0, high=180.0)
    stretch: float = setting(
        0.15, "largest relative change of aspect ratio, either way", low=0.0, high=0.9
    )
    color: float = setting(
        0.3, "photo brightness, contrast and saturation change, relative", low=0.0, high=1.0
    )
    gray: float = setting(0.1, "share of photos turned grey", low=0.0, high=1.0)
    erase: float = setting(
        0.0, "share of images with one random rectangle erased", low=0.0, high=1.0
    )


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
    init_from: str = setting("", "workdir whose best parameters start this run (empty: scratch)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """Embedding and ranking a whole split."""

    batch_size: int = setting(256, "images embedded at a time", low=1, high=1 << 20)
    metric: str = setting(
        "category/mAP@all",
        "validation metric that decides the best checkpoint (higher is better): category/NAME or "
        "instance/NAME",
    )
    metrics: str = setting(
        "standard",
        "what `evaluate` reports: names and presets, separated by commas, such as "
        "'sake, instance/acc@1'",
    )
    distance: str = setting(
        "cosine",
        "distance that ranks the gallery: cosine, dot, l1, l2, sq_l2, linf, or l<p> with p >= 1",
    )
    normalise: str = setting(
        "none",
        "what is done to embeddings before the distance; unit: divide by the L2 norm; sr: signed "
        "square root first",
        choices=("none", "unit", "sr"),
    )
    ties: str = setting(
        "pessimistic",
        "among equal distances relevant items come last, first, or in any order (the expected "
        "value)",
        choices=("pessimistic", "optimistic", "expected"),
    )
    no_relevant: str = setting(
        "exclude",
        "queries without a relevant item in the gallery: left out of the means, or counted as 0",
        choices=("exclude", "zero"),
    )
    memory_mib: int = setting(
        0, "memory that ranking may use, in MiB (0: by what is free)", low=0, high=1 << 24
    )


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


# Every level that an evaluation may have: by class, by photo, by photo among those of the class,
# in a gallery with seen items too, by a relevance of the user's own.
LEVELS = ("category", "instance", "within_class", "generalised", "given")
_DISTANCES = ("cosine", "dot", "sq_l2", "linf")  # and l<p>


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
    wanted = type(field.default)
    if wanted is float and type(value) is int:
        value = float(value)
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
    data = run.data
    if data.load_size < data.image_size:
        raise ConfigError(
            f"config.data.load_size={data.load_size}: must be at least "
            f"config.data.image_size={data.image_size}"
        )
    by_class = data.sampler in ("classes", "confusable")
    if by_class and data.batch_size % data.per_class:
        raise ConfigError(
            f"config.data.per_class={data.per_class}: must divide "
            f"config.data.batch_size={data.batch_size}"
        )
    if run.train.chunk and data.batch_size % run.train.chunk:
        raise ConfigError(
            f"config.train.chunk={run.train.chunk}: must divide "
            f"config.data.batch_size={data.batch_size}"
        )
    if run.loss.match == "instance" and by_class:
        raise ConfigError(
            f"config.data.sampler={data.sampler!r}: config.loss.match='instance' needs "
            "'pairs' or 'instances'"
        )
    for path, text in (
        ("train.log_every", run.train.log_every),
        ("train.eval_every", run.train.eval_every),
        ("optim.warmup", run.optim.warmup),
    ):
        duration_steps(text, path=path, batch_size=1, epoch_size=1, total=1)
    duration_steps(run.train.duration, path="train.duration", batch_size=1, epoch_size=1)
    starts = bool(run.model.weights or run.train.init_from)
    model_config.check(run.model, image_size=data.image_size, from_scratch=not starts)
    loss_config.check(run.loss, dim=run.model.embed_dim)
    optim_config.check(run.optim)
    _check_evaluation(run.eval)


def _check_evaluation(settings: EvalConfig) -> None:
    level, _, name = settings.metric.partition("/")
    if level not in ("category", "instance") or not name:
        raise ConfigError(
            f"config.eval.metric={settings.metric!r}: expected category/NAME or instance/NAME, "
            "such as category/mAP@all"
        )
    try:
        names.parse(name)
    except names.MetricError as error:
        raise ConfigError(f"config.eval.metric={settings.metric!r}: {error}") from None
    try:
        names.select(settings.metrics, LEVELS)
    except names.MetricError as error:
        raise ConfigError(f"config.eval.metrics={settings.metrics!r}: {error}") from None
    power = re.fullmatch(r"l([0-9]+(?:\.[0-9]+)?)", settings.distance)
    if settings.distance not in _DISTANCES and not (power and float(power[1]) >= 1):
        valid = nearest(settings.distance, (*_DISTANCES, "l1", "l2"))
        raise ConfigError(
            f"config.eval.distance={settings.distance!r}: {valid}, or l<p> with p >= 1 such as l3"
        )
