"""The settings of an evaluation: its metrics, its distance and its rules."""

from __future__ import annotations

import dataclasses
import re
from typing import Literal

from sbir_jax.ranking import names
from sbir_jax.setting import ConfigError, nearest, setting

# Every level that an evaluation may have: by class, by photo, by photo among those of the class,
# in a gallery with seen items too, by a relevance of the user's own.
LEVELS = ("category", "instance", "within_class", "generalised", "given")
_DISTANCES = ("cosine", "dot", "sq_l2", "linf")  # and l<p>


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
    no_relevant: Literal["exclude", "zero"] = setting(
        "exclude",
        "queries without a relevant item in the gallery: left out of the means, or counted as 0",
        choices=("exclude", "zero"),
    )
    memory_mib: int = setting(
        0, "memory that ranking may use, in MiB (0: by what is free)", low=0, high=1 << 24
    )


def check(settings: EvalConfig) -> None:
    """Reads every name of a metric or distance.

    Raises:
      ConfigError: one of them is unknown or has no one meaning.
    """
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
