"""Which sketches and photos make the batch of a step: pure functions of (seed, step).

A sampler is called with a step and returns two row-number arrays, int64 [batch_size] each, into
the sketches and the photos of the training split; row i of one is paired with row i of the other.
Resume therefore needs the step and nothing else, and any worker can make any batch. The one
exception is `confusable`, which also needs the confusion of the last validation.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from sbir_jax.data.source import SplitIndex
from sbir_jax.data_config import DataConfig
from sbir_jax.setting import ConfigError

Rows = tuple[np.ndarray, np.ndarray]
# Classes of the confusable sampler: its table is in every checkpoint, 61 MiB of 4,000 classes, and
# dealing out a round of them takes 0.6 s (one core of an AMD EPYC), both in the square.
_MOST_CONFUSABLE = 4000
# Streams of one seed that must not repeat each other's numbers.
_ORDER, _PARTNER, _CLASSES, _GROUPS = 0, 1, 2, 3


def _rng(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


@functools.lru_cache(maxsize=4)
def _epoch_order(seed: int, epoch: int, size: int) -> np.ndarray:
    return _rng(seed, _ORDER, epoch).permutation(size)


def _epoch_rows(seed: int, step: int, batch_size: int, size: int) -> np.ndarray:
    """Rows `step * batch_size ...` of endless epochs, each a new permutation of `size` items."""
    positions = np.arange(step * batch_size, (step + 1) * batch_size)
    epochs, offsets = np.divmod(positions, size)
    orders = {epoch: _epoch_order(seed, int(epoch), size) for epoch in np.unique(epochs)}
    return np.array([orders[e][o] for e, o in zip(epochs, offsets, strict=True)])


def own_photo(sketch: SplitIndex, photo: SplitIndex) -> np.ndarray:
    """The photo row each sketch was drawn for: int64 [sketches], -1 where there is none."""
    row_of = {int(instance): row for row, instance in enumerate(photo.instance) if instance >= 0}
    return np.array([row_of.get(int(i), -1) for i in sketch.instance], np.int64)


def rows_by_class(label: np.ndarray, classes: int) -> list[np.ndarray]:
    """Row numbers of each class, ascending."""
    order = np.argsort(label, kind="stable")
    return np.split(order, np.searchsorted(label[order], np.arange(1, classes)))


@dataclasses.dataclass(frozen=True)
class PairSampler:
    """Every sketch once an epoch, with its own photo, or with a random one of its class."""

    sketch: SplitIndex
    photo: SplitIndex
    batch_size: int
    seed: int

    @functools.cached_property
    def _tables(self) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
        classes = 1 + max(side.label.max(initial=-1) for side in (self.sketch, self.photo))
        own, photos = own_photo(self.sketch, self.photo), rows_by_class(self.photo.label, classes)
        has_photo = np.array([len(rows) > 0 for rows in photos])
        # A sketch whose class has no photo cannot be a positive pair; it is never drawn.
        return own, np.flatnonzero(has_photo[self.sketch.label]), photos

    @property
    def epoch_size(self) -> int:
        """Sketches drawn in one epoch."""
        return len(self._tables[1])

    def __call__(self, step: int) -> Rows:
        own, usable, photos = self._tables
        sketch = usable[_epoch_rows(self.seed, step, self.batch_size, len(usable))]
        draws = _rng(self.seed, _PARTNER, step).random(self.batch_size)
        photo = own[sketch]
        for i in np.flatnonzero(photo < 0):
            rows = photos[self.sketch.label[sketch[i]]]
            photo[i] = rows[int(draws[i] * len(rows))]
        return sketch, photo


@dataclasses.dataclass(frozen=True)
class InstanceSampler:
    """Photos that have sketches, none twice in a batch, each with one of its own sketches."""

    sketch: SplitIndex
    photo: SplitIndex
    batch_size: int
    seed: int

    @functools.cached_property
    def _tables(self) -> tuple[np.ndarray, list[np.ndarray]]:
        own = own_photo(self.sketch, self.photo)
        linked = np.unique(own[own >= 0])
        sketches = rows_by_class(
            np.where(own < 0, len(self.photo.label), own), len(self.photo.label) + 1
        )
        return linked, [sketches[row] for row in linked]

    @property
    def epoch_size(self) -> int:
        """Photos drawn in one epoch."""
        return len(self._tables[0])

    def __call__(self, step: int) -> Rows:
        linked, sketches = self._tables
        # Whole batches only, so that no photo meets itself where two epochs join.
        per_epoch = len(linked) // self.batch_size
        epoch, batch = divmod(step, per_epoch)
        order = _epoch_order(self.seed, epoch, len(linked))
        picks = order[batch * self.batch_size : (batch + 1) * self.batch_size]
        draws = _rng(self.seed, _PARTNER, step).random(self.batch_size)
        sketch = [sketches[p][int(u * len(sketches[p]))] for p, u in zip(picks, draws, strict=True)]
        return np.array(sketch), linked[picks]


@dataclasses.dataclass(frozen=True, eq=False)  # hashed by identity, for the cache
class ClassSampler:
    """P classes, and of each K sketches and K photos; every class comes once a round.

    With a `confusion`, int [classes, classes] as `class_confusion` counts it, the classes of a
    round are dealt out so that those that are mistaken for each other meet in one batch.
    """

    sketch: SplitIndex
    photo: SplitIndex
    batch_size: int
    seed: int
    per_class: int
    confusion: np.ndarray | None = None

    @functools.cached_property
    def _tables(self) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
        classes = 1 + max(side.label.max(initial=-1) for side in (self.sketch, self.photo))
        sketches = rows_by_class(self.sketch.label, classes)
        photos = rows_by_class(self.photo.label, classes)
        both = [c for c in range(classes) if len(sketches[c]) and len(photos[c])]
        return np.array(both, np.int64), sketches, photos

    @property
    def classes(self) -> np.ndarray:
        """The classes that have both sketches and photos: int64, ascending."""
        return self._tables[0]

    @property
    def epoch_size(self) -> int:
        """Sketches in the split: one epoch draws as many as there are."""
        return len(self.sketch.label)

    def __call__(self, step: int) -> Rows:
        _, sketches, photos = self._tables
        turn, batch = divmod(step, len(self.classes) // (self.batch_size // self.per_class))
        rng = _rng(self.seed, _PARTNER, step)
        chosen = _round(self, turn)[batch]
        rows = [(self._some(rng, sketches[c]), self._some(rng, photos[c])) for c in chosen]
        sketch, photo = (np.concatenate(side) for side in zip(*rows, strict=True))
        return sketch, photo

    def _some(self, rng: np.random.Generator, rows: np.ndarray) -> np.ndarray:
        return rng.choice(rows, self.per_class, replace=len(rows) < self.per_class)


@functools.lru_cache(maxsize=4)
def _round(sampler: ClassSampler, turn: int) -> np.ndarray:
    """The classes of each batch of one round: int64 [batches, P]."""
    size = sampler.batch_size // sampler.per_class
    order = _rng(sampler.seed, _CLASSES, turn).permutation(sampler.classes)
    order = order[: len(order) // size * size]
    if sampler.confusion is not None:
        order = _by_confusion(
            order, sampler.confusion, size=size, rng=_rng(sampler.seed, _GROUPS, turn)
        )
    return order.reshape(-1, size)


def _by_confusion(
    order: np.ndarray, confusion: np.ndarray, *, size: int, rng: np.random.Generator
) -> np.ndarray:
    """Classes in groups of `size`: the first in `order`, then those that are confused with it.

    Each further member is drawn in proportion to how often it and those already in the group were
    mistaken for each other; where they never were, the next in `order`.
    """
    mistaken = confusion.astype(np.int64) + confusion.T
    left = order.tolist()
    grouped: list[int] = []
    for number in range(len(order)):
        group = grouped[number - number % size :]
        weight = mistaken[np.ix_(group, left)].sum(axis=0)
        total, pick = weight.sum(), 0
        if total:
            pick = np.searchsorted(np.cumsum(weight), rng.integers(total), side="right")
        grouped.append(left.pop(pick))
    return np.array(grouped)


def class_confusion(
    nearest: np.ndarray, query_label: np.ndarray, gallery_label: np.ndarray, *, classes: int
) -> np.ndarray:
    """How often the nearest photo of another class is of which class.

    Args:
      nearest: int [Q, N], gallery rows of each query, nearest first. A query whose N nearest are
        all of its own class is not counted: it is not confused.
      query_label: int [Q].
      gallery_label: int [G].
      classes: how many there are.

    Returns:
      int32 [classes, classes]: counts by class of the query and of that photo; diagonal 0.
    """
    labels = gallery_label[nearest]  # [Q, N]
    other = labels != query_label[:, None]
    first = np.argmax(other, axis=1)
    confused = np.flatnonzero(other.any(axis=1))
    counts = np.zeros((classes, classes), np.int32)
    np.add.at(counts, (query_label[confused], labels[confused, first[confused]]), 1)
    return counts


Sampler = PairSampler | InstanceSampler | ClassSampler


def make_sampler(config: DataConfig, sketch: SplitIndex, photo: SplitIndex, seed: int) -> Sampler:
    """The sampler that `config.data.sampler` names.

    Raises:
      ConfigError: the split cannot fill such a batch; names the setting and the largest that can.
    """
    common = (sketch, photo, config.batch_size, seed)
    by_class = config.sampler in ("classes", "confusable")
    if by_class:
        sampler = ClassSampler(*common, config.per_class)
        if config.sampler == "confusable" and len(sampler.classes) > _MOST_CONFUSABLE:
            raise ConfigError(
                f"config.data.sampler='confusable': keeps a table of all pairs of classes, valid "
                f"up to {_MOST_CONFUSABLE:,} of them; the training split has "
                f"{len(sampler.classes):,}: use 'classes'"
            )
        # With more than half of the classes in a batch, confusion has no choice left.
        most = len(sampler.classes) // (1 + (config.sampler == "confusable")) * config.per_class
    elif config.sampler == "instances":
        sampler = InstanceSampler(*common)
        most = sampler.epoch_size
    else:
        sampler = PairSampler(*common)
        most = config.batch_size if sampler.epoch_size else 0
    if config.batch_size > most:
        raise ConfigError(
            f"config.data.batch_size={config.batch_size}: the training split allows at most {most} "
            f"with config.data.sampler={config.sampler!r}"
            + (f" and config.data.per_class={config.per_class}" if by_class else "")
        )
    return sampler
