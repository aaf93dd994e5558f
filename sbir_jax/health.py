"""What the logged figures of a run say in words: collapse, dead triplets, a loss that is 0.

A run that learns nothing looks like one that learns slowly: its loss is finite and barely moves.
The figures tell them apart, but only to those who know which to look at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sbir_jax.config import RunConfig
from sbir_jax.loss_config import terms

# A trouble must show in every logged step of this many, and in this many logged steps: encoders
# pass through near-collapse in their first steps. With configs/quickstart.py, cut to 300 steps,
# InfoNCE is at a mean cosine of 0.966 to 0.986 in steps 20 to 80, and at 0.84 in the end.
_STEPS, _LINES = 100, 4

# The same with batch-hard mining, which collapses, is above 0.99 from step 30 on and above 0.998
# from step 70; the losses that learn there (InfoNCE, semi-hard, random) never pass 0.986.
_COLLAPSED = 0.99
# Share of anchors whose nearest candidate is a positive. Retrieval that good is no collapse, even
# in a narrow cone. Collapsed runs had 0.06 to 0.35 of few classes, by chance.
_RETRIEVES = 0.5

# How near the loss is to the margin, relative. Random triplets, which learn slowly there, are
# around it for 100 steps, but of 26 logged steps no three running are within 2 %.
_AT_MARGIN = 0.02


class Watch:
    """Reads the metrics of a run as they are logged, and says each thing once."""

    def __init__(self, run: RunConfig):
        self._run = run
        self._lines: list[dict[str, Any]] = []
        self._said: set[str] = set()

    def __call__(self, step: int, metrics: Mapping[str, float]) -> list[str]:
        """What is new to say after the metrics of a step, as `writer.write` gets them."""
        # All lines that `warnings` could look at, and no more of a long run.
        self._lines = [*self._lines[-_STEPS:], {"step": step, **metrics}]
        found = warnings(self._lines, self._run)
        new = [words for name, words in found.items() if name not in self._said]
        self._said |= found.keys()
        return new


def warnings(lines: Sequence[Mapping[str, Any]], run: RunConfig) -> dict[str, str]:
    """What is wrong with a run, by its latest metrics.

    Args:
      lines: of `metrics.jsonl`, of kind "train", in order: {"step", "loss", "health/...": ...}.
      run: its settings, which the advice names.

    Returns:
      One line each, by name: "no_anchors", "collapse", "margin", "dead_triplets", "zero_loss".
      Empty where nothing is wrong or too few steps were logged to say.
    """
    if len(lines) >= 2 and _all(lines[-_LINES:], "health/valid_anchors", 0.0, 0.0):
        return {"no_anchors": f"no image of a batch has a positive and a negative; {_mates(run)}"}
    lines = [line for line in lines if line["step"] > 1]
    last = lines[-1]["step"] if lines else 0
    if last < _STEPS or len(lines) < _LINES:
        return {}
    first = min(len(lines) - _LINES, sum(line["step"] <= last - _STEPS for line in lines))
    lines = lines[first:]
    since = f"since step {lines[0]['step']}"

    found = {}
    top1 = sum(line["health/batch_top1"] for line in lines) / len(lines)
    cosine = lines[-1]["health/mean_cosine"]
    margin = _margin(run)
    if _all(lines, "health/mean_cosine", _COLLAPSED, 1.01) and top1 < _RETRIEVES:
        found["collapse"] = (
            f"embeddings have collapsed: mean cosine {cosine:.3f}, above {_COLLAPSED} {since}; "
            f"try {_gentler(run)}"
        )
    elif margin and _all(lines, "loss", margin * (1 - _AT_MARGIN), margin * (1 + _AT_MARGIN)):
        found["margin"] = (
            f"the loss has stayed at its margin, {margin:g}, {since}: positives are as far as "
            f"negatives; try {_gentler(run)}"
        )
    if _all(lines, "health/active_triplets", 0.0, 0.0):
        found["dead_triplets"] = (
            f"no triplet has had a loss above 0 {since}, so nothing is learnt from them; try a "
            f"larger {_path(run, 'margin')}, or {_path(run, 'miner')}='batch_hard'"
        )
    elif _all(lines, "loss", 0.0, 0.0):
        found["zero_loss"] = (
            f"the loss has been exactly 0 {since}: nothing is learnt; look at the settings of "
            f"config.loss.name={run.loss.name!r}"
        )
    return found


def _all(lines: Sequence[Mapping[str, Any]], name: str, low: float, high: float) -> bool:
    """Whether a figure lies within bounds in every line. One that is absent or None does not."""
    values = [line.get(name) for line in lines]
    return all(value is not None and low <= value <= high for value in values)


def _mined(run: RunConfig) -> str | None:
    """The first loss of the run that mines triplets."""
    names = [name for _, name in terms(run.loss.name)]
    return next((name for name in names if hasattr(getattr(run.loss, name), "miner")), None)


def _path(run: RunConfig, name: str) -> str:
    return f"config.loss.{_mined(run)}.{name}"


def _margin(run: RunConfig) -> float | None:
    """What the whole loss is when all distances are equal, where that is the triplet's margin."""
    mined = _mined(run)
    alone = terms(run.loss.name) == ((1.0, mined),)
    if not alone or mined not in ("triplet", "relative_triplet"):
        return None
    group = getattr(run.loss, mined)
    return group.margin if getattr(group, "form", "hinge") == "hinge" else None


def _gentler(run: RunConfig) -> str:
    """Settings that are less likely to collapse."""
    mined = _mined(run)
    advice = []
    if mined and getattr(run.loss, mined).miner != "semi_hard":
        advice.append(f"config.loss.{mined}.miner='semi_hard'")
    if "infonce" not in [name for _, name in terms(run.loss.name)]:
        advice.append("config.loss.name='infonce'")
    return " or ".join(advice) or "a lower config.optim.lr or a longer config.optim.warmup"


def _mates(run: RunConfig) -> str:
    """Why a batch could lack positives or negatives, and what to change."""
    data, loss = run.data, run.loss
    if loss.match == "instance" and loss.pairs == "intra":
        return "config.loss.pairs='intra' never brings a sketch and its photo together: use 'cross'"
    if loss.match == "instance":
        return (
            "config.loss.match='instance' takes sketches whose photo is known: use "
            "config.data.sampler='instances', or config.loss.match='class'"
        )
    if data.sampler != "pairs" and data.batch_size == data.per_class:
        return (
            f"config.data.batch_size={data.batch_size} holds one class of config.data.per_class="
            f"{data.per_class}: raise the one or lower the other"
        )
    return (
        f"config.data.sampler={data.sampler!r} gives no class twice, or one class alone: use "
        "config.data.sampler='classes' with config.data.per_class below config.data.batch_size"
    )
