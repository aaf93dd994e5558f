"""The settings of each loss, a group each, and the miners that some of them choose from."""

from __future__ import annotations

import dataclasses

from sbir_jax.setting import setting

MINERS = ("random", "all", "semi_hard", "batch_hard", "distance_weighted")


@dataclasses.dataclass(frozen=True, kw_only=True)
class InfoNCEConfig:
    """Supervised contrastive loss; with one positive for each anchor, CLIP's InfoNCE."""

    temperature: float = setting(0.1, "of the softmax", low=1e-4, high=100.0)
    learn_temperature: bool = setting(
        False, "the temperature is a parameter, starts at `temperature`, and stays above 0.01"
    )
    label_smoothing: float = setting(
        0.0, "share of the target that is spread over all candidates", low=0.0, high=0.99
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TripletConfig:
    """Triplet loss over mined triplets."""

    margin: float = setting(0.2, "in units of `distance`", low=0.0, high=100.0)
    distance: str = setting("l2", "cosine, l1, l2, sq_l2, linf, or l<p> with p >= 1")
    miner: str = setting(
        "semi_hard",
        "which triplets count: random, semi_hard, batch_hard, distance_weighted or all; or one "
        "after the other, as in 'semi_hard, batch_hard@60%'",
    )
    form: str = setting(
        "hinge",
        "hinge: max(d+ - d- + margin, 0); soft: log(1 + exp(d+ - d- + margin))",
        choices=("hinge", "soft"),
    )
    average: str = setting(
        "valid",
        "mean over the valid triplets, or over those among them whose loss is above 0",
        choices=("valid", "active"),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ContrastiveConfig:
    """The pair loss of siamese networks."""

    margin: float = setting(1.0, "in units of `distance`", low=0.0, high=100.0)
    distance: str = setting("l2", "cosine, l1, l2, sq_l2, linf, or l<p> with p >= 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class QuadrupletConfig:
    """Triplet loss, and a second, weaker hinge that keeps any two other classes apart."""

    margin: float = setting(0.2, "of the triplet", low=0.0, high=100.0)
    second_margin: float = setting(0.1, "of the second hinge", low=0.0, high=100.0)
    distance: str = setting("l2", "cosine, l1, l2, sq_l2, linf, or l<p> with p >= 1")
    miner: str = setting("semi_hard", "as for the triplet loss, without all")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RelativeTripletConfig:
    """Triplet loss that counts less where the negative's own anchor is like the anchor."""

    margin: float = setting(0.2, "in units of `distance`", low=0.0, high=100.0)
    distance: str = setting("l2", "cosine, l1, l2, sq_l2, linf, or l<p> with p >= 1")
    miner: str = setting("semi_hard", "as for the triplet loss, without all")


@dataclasses.dataclass(frozen=True, kw_only=True)
class NPairsConfig:
    """N-pair loss: a softmax of each positive against the negatives alone."""

    temperature: float = setting(0.1, "of the softmax", low=1e-4, high=100.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SigmoidConfig:
    """Sigmoid pair loss: every pair is a binary decision (SigLIP)."""

    scale: float = setting(10.0, "of the cosine, at the start", low=1e-2, high=1e4)
    bias: float = setting(-10.0, "added to it, at the start", low=-1e4, high=1e4)
    learn: bool = setting(True, "scale and bias are parameters")


@dataclasses.dataclass(frozen=True, kw_only=True)
class MultiSimilarityConfig:
    """Soft maxima of hard positives and hard negatives, with the paper's own mining."""

    alpha: float = setting(2.0, "steepness for positives", low=1e-2, high=1e4)
    beta: float = setting(50.0, "steepness for negatives", low=1e-2, high=1e4)
    base: float = setting(0.5, "cosine from which pairs weigh", low=-1.0, high=1.0)
    epsilon: float = setting(
        0.1, "a pair counts if it is this near to being in the wrong order", low=0.0, high=4.0
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class CircleConfig:
    """Pairs weighted by how far they are from where they should be."""

    margin: float = setting(0.4, "m: positives aim at 1 - m, negatives at m", low=0.0, high=1.0)
    scale: float = setting(80.0, "of the weighted cosines (gamma)", low=1e-2, high=1e4)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SmoothAPConfig:
    """One minus the average precision of each anchor, its steps made smooth."""

    temperature: float = setting(0.01, "of the sigmoids, in cosine", low=1e-4, high=10.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CategoryConfig:
    """Cross-entropy over the classes of the dataset, with a learnt vector for each."""

    scale: float = setting(30.0, "of the cosine to a class", low=1e-2, high=1e4)
    margin_form: str = setting(
        "none",
        "none; cosface: cosine - margin; arcface: cosine of angle + margin (for the own class)",
        choices=("none", "cosface", "arcface"),
    )
    margin: float = setting(0.35, "cosine of cosface, radians of arcface", low=0.0, high=1.5)
