"""Every loss as a config, small batches, and references that the tests of the losses share."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator

import jax
import numpy as np

from sbir_jax import losses, mining
from sbir_jax.loss_config import LOSSES, LossConfig

KEY = jax.random.key(0)
PAIRS, DIM = 16, 16  # of every batch: each loss then compiles once


def config(name: str, *, match: str = "class", pairs: str = "cross", **settings) -> LossConfig:
    """A loss with some of its own settings changed."""
    group = dataclasses.replace(getattr(LossConfig(), name), **settings)
    return LossConfig(name=name, match=match, pairs=pairs, **{name: group})


MINING = {
    "random": config("triplet", miner="random"),
    "semi_hard": config("triplet", miner="semi_hard"),
    "batch_hard": config("triplet", miner="batch_hard"),
    "distance_weighted": config("triplet", miner="distance_weighted"),
    "all": config("triplet", miner="all"),
    "batch_hard-sq_l2": config("triplet", miner="batch_hard", distance="sq_l2"),
    "batch_hard-cosine": config("triplet", miner="batch_hard", distance="cosine"),
}
EVERY = MINING | {name: config(name) for name in LOSSES if name != "triplet"}
CLASSES = 40  # of the category loss


@functools.cache
def compiled(loss: LossConfig):
    """Value, diagnostics and gradients of a loss on a batch, jitted."""

    def function(sketch, photo, params, sketch_ids, photo_ids, memory, step):
        return losses.cross_modal(
            loss,
            sketch,
            photo,
            sketch_ids,
            photo_ids,
            key=KEY,
            step=step,
            params=params,
            memory=memory,
        )

    return jax.jit(
        jax.value_and_grad(function, (0, 1, 2), has_aux=True),
        compiler_options={"xla_backend_optimization_level": "0"},  # half the time to compile
    )


@functools.cache
def parameters(loss: LossConfig) -> losses.total.Params:
    """What a loss learns, as it begins."""
    return losses.init_params(loss, KEY, classes=CLASSES, dim=DIM)


@dataclasses.dataclass(frozen=True)
class Measured:
    """Of one loss on one batch: gradients are those of both sides, `slopes` of its parameters."""

    value: float
    figures: dict[str, float]
    gradients: list[np.ndarray]
    slopes: dict


def measured(
    loss: LossConfig, sketch, photo, sketch_ids, photo_ids, *, params=None, memory=None, step=0
) -> Measured:
    """A loss and its gradients on a batch."""
    params = parameters(loss) if params is None else params
    (value, figures), (*gradients, slopes) = compiled(loss)(
        sketch, photo, params, sketch_ids, photo_ids, memory, np.int32(step)
    )
    figures = {name: float(figure) for name, figure in figures.items()}
    return Measured(float(value), figures, [np.asarray(g, np.float64) for g in gradients], slopes)


def ids(label, instance=None) -> mining.Ids:
    instance = [-1] * len(label) if instance is None else instance
    return mining.Ids(np.array(label, np.int32), np.array(instance, np.int32))


def joined(one: mining.Ids, other: mining.Ids) -> mining.Ids:
    return mining.Ids(*(np.concatenate(parts) for parts in zip(one, other, strict=True)))


def unit_rows(seed: int, rows: int = PAIRS, size: int = DIM) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(rows, size))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def batch(seed: int, pairs: int = PAIRS, classes: int = 4):
    """Random directions of a few classes; two instances are there twice, one pair has none."""
    labels = np.random.default_rng(seed).integers(classes, size=pairs)
    linked = np.arange(pairs)
    linked[[3, 5]], linked[8] = [2, 4], -1
    both = ids(labels, linked)
    return unit_rows(seed, pairs), unit_rows(seed + 100, pairs), both, both


@dataclasses.dataclass(frozen=True)
class Anchor:
    """One anchor of a batch, from the definition: float64 vectors, boolean masks over them.

    `identity` is its class or instance, `way` the number of the way it is an anchor of.
    """

    way: int
    identity: int
    vector: np.ndarray
    others: np.ndarray
    positive: np.ndarray
    negative: np.ndarray

    @property
    def valid(self) -> bool:
        return self.positive.any() and self.negative.any()

    @property
    def cosine(self) -> np.ndarray:
        return self.others @ self.vector / np.linalg.norm(self.others, axis=1) / np.linalg.norm(
            self.vector
        )  # fmt: skip

    def distance(self, name: str) -> np.ndarray:
        difference = np.abs(self.others - self.vector)
        if name == "cosine":
            return 1 - self.cosine
        if name == "linf":
            return difference.max(axis=1)
        if name == "sq_l2":
            return (difference**2).sum(axis=1)
        p = float(name.removeprefix("l"))
        return (difference**p).sum(axis=1) ** (1 / p)


def anchors(loss: LossConfig, sketch, photo, sketch_ids, photo_ids, past=None) -> Iterator[Anchor]:
    """Every anchor of a batch, one way after the other; `past` is another batch, as candidates."""
    sides = [(np.asarray(x, np.float64), i) for x, i in ((sketch, sketch_ids), (photo, photo_ids))]
    if loss.pairs == "joint":
        together = joined(sketch_ids, photo_ids)
        sides = [(np.concatenate([x for x, _ in sides]), together)]
        past = past and [(np.concatenate(past[:2]), joined(*past[2:]))]
    elif past:
        past = [(past[0], past[2]), (past[1], past[3])]
    for one, (vectors, own) in enumerate(sides):
        other = 1 - one if loss.pairs == "cross" else one
        candidates, their = sides[other]
        if past:
            candidates = np.concatenate([candidates, np.float64(past[other][0])])
            their = joined(their, past[other][1])
        for a, vector in enumerate(vectors):
            if loss.match == "class":
                same = their.label == own.label[a]
                negative = ~same
            else:
                same = (their.instance == own.instance[a]) & (own.instance[a] >= 0)
                negative = ~same & (own.instance[a] >= 0)
            itself = (np.arange(len(candidates)) == a) & (one == other)
            identity = (own.label if loss.match == "class" else own.instance)[a]
            yield Anchor(one, identity, vector, candidates, same & ~itself, negative & ~itself)
