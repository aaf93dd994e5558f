"""What is minimised: the loss or the sum that is named, and what is written as text in it."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from sbir_jax.loss_groups import (
    MINERS,
    CategoryConfig,
    CircleConfig,
    ContrastiveConfig,
    InfoNCEConfig,
    MultiSimilarityConfig,
    NPairsConfig,
    QuadrupletConfig,
    RelativeTripletConfig,
    SigmoidConfig,
    SmoothAPConfig,
    TripletConfig,
)
from sbir_jax.setting import ConfigError, duration_steps, nearest, setting, stage_starts, stages


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossConfig:
    """What is minimised, over the global batch, in both directions."""

    name: str = setting("infonce", "a loss, or a weighted sum as in 'triplet + 0.5*category'")
    match: str = setting(
        "class",
        "what counts as a positive: the same class, or the same instance (then the "
        "same-class others are negatives)",
        choices=("class", "instance"),
    )
    pairs: str = setting(
        "cross",
        "cross: sketches with photos; intra: sketches with sketches and photos with photos; "
        "joint: every two images of the batch",
        choices=("cross", "intra", "joint"),
    )
    matryoshka: str = setting(
        "",
        "lengths of prefixes that must serve as embeddings too, as in '8,16,32' (empty: none)",
    )
    memory: int = setting(
        0, "pairs of past batches kept as more candidates (0: none)", low=0, high=1 << 20
    )
    memory_after: str = setting("0 steps", "when the memory begins to count: steps, epochs or %")
    infonce: InfoNCEConfig = InfoNCEConfig()
    triplet: TripletConfig = TripletConfig()
    contrastive: ContrastiveConfig = ContrastiveConfig()
    quadruplet: QuadrupletConfig = QuadrupletConfig()
    relative_triplet: RelativeTripletConfig = RelativeTripletConfig()
    n_pairs: NPairsConfig = NPairsConfig()
    sigmoid: SigmoidConfig = SigmoidConfig()
    multi_similarity: MultiSimilarityConfig = MultiSimilarityConfig()
    circle: CircleConfig = CircleConfig()
    smooth_ap: SmoothAPConfig = SmoothAPConfig()
    category: CategoryConfig = CategoryConfig()


LOSSES = tuple(
    field.name
    for field in dataclasses.fields(LossConfig)
    if dataclasses.is_dataclass(field.default)
)


_WEIGHT = re.compile(r"[0-9]*\.?[0-9]+(e-?[0-9]+)?")


def terms(name: str) -> tuple[tuple[float, str], ...]:
    """(weight, loss) of each term of `config.loss.name`, such as 'triplet + 0.5*category'.

    Raises:
      ConfigError: a term that is no loss, comes twice, or whose weight is not a number above 0.
    """
    found: dict[str, float] = {}
    for term in name.split("+"):
        weight, star, loss = (part.strip() for part in term.rpartition("*"))
        where = f"config.loss.name={name!r}: "
        if loss not in LOSSES:
            which = "" if loss == name else f"{loss!r}: "
            raise ConfigError(f"{where}{which}{nearest(loss, LOSSES)}")
        if loss in found:
            raise ConfigError(f"{where}{loss!r} comes twice")
        if star and not (_WEIGHT.fullmatch(weight) and 0 < float(weight) < 1e9):
            raise ConfigError(f"{where}weight {weight!r}: expected a number above 0, as in 0.5")
        found[loss] = float(weight) if star else 1.0
    return tuple((weight, loss) for loss, weight in found.items())


def prefixes(matryoshka: str, dim: int) -> tuple[int, ...]:
    """Lengths of the embeddings that are trained: the prefixes asked for, and `dim` itself.

    Raises:
      ConfigError: they are not rising whole numbers from 1 to below `dim`.
    """
    parts = [part.strip() for part in matryoshka.split(",")] if matryoshka.strip() else []
    lengths = [int(part) if part.isdecimal() else 0 for part in parts]
    for before, after in zip([0, *lengths], [*lengths, dim], strict=True):
        if not before < after:
            raise ConfigError(
                f"config.loss.matryoshka={matryoshka!r}: expected rising whole numbers below "
                f"config.model.embed_dim={dim}, as in '8,16,32'"
            )
    return (*lengths, dim)


def check(config: LossConfig, *, dim: int) -> None:
    """Checks what is written as text, and what must fit embeddings of `dim` dimensions.

    Raises:
      ConfigError: the first problem.
    """
    terms(config.name)
    prefixes(config.matryoshka, dim)
    duration_steps(
        config.memory_after, path="loss.memory_after", batch_size=1, epoch_size=1, total=1
    )
    for loss in LOSSES:
        group = getattr(config, loss)
        if hasattr(group, "distance"):
            _check_distance(group.distance, f"loss.{loss}.distance")
        if hasattr(group, "miner"):
            found = stages(group.miner, path=f"loss.{loss}.miner", names=_miners(loss))
            on_sphere = group.distance in ("cosine", "l2", "sq_l2")
            if "distance_weighted" in dict(found) and not on_sphere:
                raise ConfigError(
                    f"config.loss.{loss}.distance={group.distance!r}: miner 'distance_weighted' "
                    "needs cosine, l2 or sq_l2"
                )


def in_steps(config: LossConfig, *, batch_size: int, epoch_size: int, total: int) -> LossConfig:
    """`config` with every duration in it counted in steps of a run of `total`.

    'semi_hard, batch_hard@60%' becomes 'semi_hard, batch_hard@240 steps' if `total` is 400.

    Raises:
      ConfigError: a stage without a step, see `setting.stage_starts`.
    """
    sizes = {"batch_size": batch_size, "epoch_size": epoch_size, "total": total}
    after = duration_steps(config.memory_after, path="loss.memory_after", **sizes)
    changes: dict[str, Any] = {"memory_after": f"{after} steps"}
    for loss in LOSSES:
        group = getattr(config, loss)
        if hasattr(group, "miner"):
            path = f"loss.{loss}.miner"
            begins = stage_starts(group.miner, path=path, names=_miners(loss), **sizes)
            text = ", ".join(name + (f"@{step} steps" if step else "") for name, step in begins)
            changes[loss] = dataclasses.replace(group, miner=text)
    return dataclasses.replace(config, **changes)


def steps(text: str) -> int:
    """240 of '240 steps', which is how `in_steps` writes every duration.

    Raises:
      ConfigError: another unit, of which nothing is known any more where this is asked.
    """
    number = text.removesuffix(" steps")
    if not number.isdecimal():
        raise ConfigError(f"{text!r}: expected steps here; see loss_config.in_steps")
    return int(number)


def _miners(loss: str) -> tuple[str, ...]:
    picking = tuple(miner for miner in MINERS if miner != "all")
    return MINERS if loss == "triplet" else picking


def _check_distance(name: str, path: str) -> None:
    power = re.fullmatch(r"l([0-9]+(?:\.[0-9]+)?)", name)
    if not (power and float(power[1]) >= 1 or name in ("cosine", "sq_l2", "linf")):
        valid = nearest(name, ("cosine", "l1", "l2", "sq_l2", "linf"))
        raise ConfigError(f"config.{path}={name!r}: {valid}, or l<p> with p >= 1 such as l3")
