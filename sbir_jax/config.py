"""Every setting of a run: its default, meaning and valid values, checked once at the start.

A config file builds an `ml_collections.ConfigDict` with `default_config()` and changes what it
needs; command-line overrides change it further; `resolve()` turns the result into frozen
dataclasses, or raises one `ConfigError` line naming the path, the bad value and the valid ones.
Library functions receive values from these dataclasses, never the ConfigDict itself.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from collections.abc import Iterator
from typing import Any

import ml_collections


class ConfigError(ValueError):
    """A setting that cannot work. Its message is one line: config path, bad value, valid values."""


def setting(default: Any, doc: str, *, choices: tuple = (), low=None, high=None) -> Any:
    """A dataclass field with its one-line meaning and its valid values (bounds inclusive)."""
    metadata = {"doc": doc, "choices": choices, "low": low, "high": high}
    return dataclasses.field(default=default, metadata=metadata)


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
        "instances: linked pairs only, no photo twice; classes: P classes x K of each side",
        choices=("pairs", "instances", "classes"),
    )
    batch_size: int = setting(64, "sketch-photo pairs in the global batch", low=2, high=1 << 20)
    per_class: int = setting(
        4, "K of the `classes` sampler; P = batch_size / K", low=1, high=1 << 16
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
class ModelConfig:
    """The two encoders."""

    backbone: str = setting(
        "patch_resnet",
        "patch_resnet is the small one for CPUs",
        choices=("patch_resnet", "resnet18", "resnet34", "resnet50"),
    )
    width: int = setting(
        64, "channels of the first stage of patch_resnet (the others are fixed)", low=8, high=512
    )
    towers: str = setting(
        "dual",
        "dual: two encoders; shared: one (siamese); stems: own stems, shared trunk",
        choices=("dual", "shared", "stems"),
    )
    head: str = setting("linear", "linear, or dense-norm-relu-dense", choices=("linear", "mlp"))
    embed_dim: int = setting(128, "embedding dimensions", low=2, high=8192)
    normalize: str = setting(
        "unit",
        "unit: divide by the L2 norm; sr: signed square root first (sr_norm)",
        choices=("unit", "sr"),
    )
    dropout: float = setting(0.0, "share of pooled features dropped", low=0.0, high=0.9)
    dtype: str = setting(
        "float32",
        "activations; parameters and embeddings are always float32",
        choices=("float32", "bfloat16"),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossConfig:
    """What is minimised, over the global batch, in both directions."""

    name: str = setting(
        "infonce", "infonce is supervised contrastive", choices=("infonce", "triplet")
    )
    match: str = setting(
        "class",
        "what counts as a positive: the same class, or the same instance (then the "
        "same-class others are negatives)",
        choices=("class", "instance"),
    )
    pairs: str = setting(
        "cross",
        "cross: sketches with photos; joint: every two images of the batch, of one side or two",
        choices=("cross", "joint"),
    )
    temperature: float = setting(0.1, "softmax temperature of infonce", low=1e-4, high=100.0)
    margin: float = setting(0.2, "triplet margin, in units of `distance`", low=0.0, high=100.0)
    distance: str = setting("l2", "triplet distance", choices=("l2", "sq_l2", "cosine"))
    miner: str = setting(
        "semi_hard", "which triplets count", choices=("random", "semi_hard", "batch_hard")
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """The optimiser and its schedule (linear warm-up, then cosine to zero)."""

    name: str = setting("adamw", "optimiser", choices=("adamw", "sgd"))
    lr: float = setting(1e-3, "peak learning rate", low=0.0, high=100.0)
    warmup: str = setting("5%", "warm-up: steps, epochs, examples, or % of the run")
    weight_decay: float = setting(
        0.05,
        "decoupled weight decay of matrices and kernels (not biases or norms)",
        low=0.0,
        high=10.0,
    )
    momentum: float = setting(0.9, "momentum of sgd; beta1 of adamw", low=0.0, high=0.9999)
    clip_norm: float = setting(
        1.0, "largest global gradient norm (0: no clipping)", low=0.0, high=1e6
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How long, and how often the run looks up."""

    duration: str = setting("400 steps", "whole run: steps, epochs (of sketches) or examples")
    log_every: str = setting("20 steps", "between two metric lines")
    eval_every: str = setting("25%", "between two validations; each one also saves a checkpoint")
    init_from: str = setting("", "workdir whose best parameters start this run (empty: scratch)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """Embedding and ranking a whole split."""

    batch_size: int = setting(256, "images embedded at a time", low=1, high=1 << 20)
    metric: str = setting(
        "category/mAP@all",
        "validation metric that decides the best checkpoint (higher is better)",
        choices=(
            "category/mAP@all",
            "category/P@1",
            "category/P@10",
            "instance/recall@1",
            "instance/recall@5",
            "instance/recall@10",
            "instance/MRR",
        ),
    )
    distance: str = setting(
        "cosine", "distance that ranks the gallery", choices=("cosine", "l2", "l1")
    )
    block_mib: int = setting(
        64,
        "largest block of the distance matrix, in MiB; ranking takes about five times it",
        low=1,
        high=1 << 20,
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


def nearest(name: str, valid) -> str:
    """`; did you mean 'x'?` or the list of valid names, to end an error line with."""
    valid = [str(v) for v in valid]
    close = difflib.get_close_matches(str(name), valid, n=1, cutoff=0.6)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}valid: {', '.join(valid)}"


_DURATION = re.compile(r"\s*([0-9]*\.?[0-9]+(?:e[0-9]+)?)\s*(steps?|epochs?|examples?|%)\s*")


def duration_steps(
    text: str, *, path: str, batch_size: int, epoch_size: int, total: int | None = None
) -> int:
    """Steps in a duration such as '400 steps', '30 epochs', '25600 examples' or '5%'.

    An example is one sketch-photo pair, an epoch is `epoch_size` of them; parts of a step are
    rounded up. Percent needs `total` steps.

    Raises:
      ConfigError: `text` does not parse, is percent without a total, or is not above zero
        (a zero is allowed with `total`, where it switches the thing off).
    """
    match = _DURATION.fullmatch(text)
    units = "steps, epochs or examples" + (", or %" if total is not None else "")
    if not match or (match[2] == "%" and total is None):
        raise ConfigError(
            f"config.{path}={text!r}: expected a number of {units}, such as '400 steps'"
        )
    amount, unit = float(match[1]), match[2].rstrip("s")
    if amount > 1e12:
        raise ConfigError(f"config.{path}={text!r}: at most 1e12")
    scale = {
        "step": 1.0,
        "epoch": epoch_size / batch_size,
        "example": 1 / batch_size,
        "%": (total or 0) / 100,
    }
    steps = math.ceil(round(amount * scale[unit], 6))
    if steps < 1 and total is None:
        raise ConfigError(f"config.{path}={text!r}: must be at least one step")
    return steps


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
    if data.sampler == "classes" and data.batch_size % data.per_class:
        raise ConfigError(
            f"config.data.per_class={data.per_class}: must divide "
            f"config.data.batch_size={data.batch_size}"
        )
    if run.loss.match == "instance" and data.sampler == "classes":
        raise ConfigError(
            "config.data.sampler='classes': config.loss.match='instance' needs "
            "'pairs' or 'instances'"
        )
    for path, text in (
        ("train.log_every", run.train.log_every),
        ("train.eval_every", run.train.eval_every),
        ("optim.warmup", run.optim.warmup),
    ):
        duration_steps(text, path=path, batch_size=1, epoch_size=1, total=1)
    duration_steps(run.train.duration, path="train.duration", batch_size=1, epoch_size=1)
