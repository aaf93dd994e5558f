"""The settings of the data: which dataset, how batches are drawn, and how images are changed."""

from __future__ import annotations

import dataclasses
from typing import Literal

from sbir_jax.setting import ConfigError, setting

BY_CLASS = ("classes", "confusable")  # samplers that put P classes x K in a batch


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
    fit: Literal["pad", "squash", "crop"] = setting(
        "pad", "how an image becomes square", choices=("pad", "squash", "crop")
    )
    cache: str = setting(
        "auto",
        "where decoded images are kept. device: in its memory; host: in files beside the dataset, "
        "from which batches are streamed; none: each batch is decoded; auto: by size",
        choices=("auto", "none", "host", "device"),
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
    crop: str = setting(
        "independent",
        "crop, rotation and stretch of the two sides of a pair; paired: the same, for sketches "
        "that lie on their photos",
        choices=("independent", "paired"),
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
    blur: float = setting(0.0, "share of photos blurred", low=0.0, high=1.0)
    erase: float = setting(
        0.0, "share of images with one random rectangle erased", low=0.0, high=1.0
    )
    thickness: float = setting(
        0.0,
        "sketches: strokes thicker or thinner by up to this many pixels on each side",
        low=0.0,
        high=1.0,
    )
    stroke_dropout: float = setting(
        0.0, "sketches: largest share of the area whose ink is left out", low=0.0, high=0.9
    )
    partial: float = setting(
        0.0, "share of sketches of which only a part is drawn", low=0.0, high=1.0
    )
    pseudo: float = setting(
        0.0,
        "share of sketches replaced by a drawing of their row's photo, made from its edges",
        low=0.0,
        high=1.0,
    )


def check(config: DataConfig) -> None:
    """What contradicts each other here.

    Raises:
      ConfigError: a stored square smaller than the seen one, or K that does not divide the batch.
    """
    if config.load_size < config.image_size:
        raise ConfigError(
            f"config.data.load_size={config.load_size}: must be at least "
            f"config.data.image_size={config.image_size}"
        )
    if config.sampler in BY_CLASS and config.batch_size % config.per_class:
        raise ConfigError(
            f"config.data.per_class={config.per_class}: must divide "
            f"config.data.batch_size={config.batch_size}"
        )
