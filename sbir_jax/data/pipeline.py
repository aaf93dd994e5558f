"""Feeds: the training batches of a run, gathered on the device or streamed ahead of the step.

`config.data.cache` says where decoded images are kept: in device memory, whence a step gathers its
own batch by row numbers; on the host's disk, from where uint8 batches are streamed; or nowhere, and
each batch is decoded. All give the same batches, since a batch is what its sampler says for its
step. Streamed batches are made ahead by Grain threads or worker processes.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from sbir_jax import sharding
from sbir_jax.data import resident
from sbir_jax.data.cache import CachedImages
from sbir_jax.data.decoding import kept, loaded, prefetch
from sbir_jax.data.images import MODALITIES, Modality
from sbir_jax.data.resident import Split
from sbir_jax.data.sampling import ClassSampler, Sampler, make_sampler
from sbir_jax.data.source import Dataset, Images, SplitIndex
from sbir_jax.data_config import DataConfig
from sbir_jax.mining import Ids
from sbir_jax.setting import ConfigError

_SIDES: tuple[Modality, ...] = ("sketch", "photo")
_IN_FLIGHT = 2  # batches on their way to the device while one is used


@dataclasses.dataclass(frozen=True)
class Feed:
    """Where batches come from: what stays on the device, and what arrives at each step.

    `resident` is {} or {"sketch": uint8 [N, S, S, C], "photo": uint8 [M, S, S, 3]}, each as
    `resident.put` gives it. `words` says for the run's opening line where images are, and why.
    A batch is {"sketch", "photo", "sketch_ids", "photo_ids"}, split over the mesh; its sides are
    row numbers, int32 [B], when resident, and uint8 images [B, S, S, C] when streamed.
    """

    cache: str
    words: str
    resident: dict[str, jax.Array | Split]
    epoch_size: int
    _local: _LocalBatch
    _mesh: Mesh
    _workers: int

    @property
    def learnt(self) -> dict[str, np.ndarray]:
        """What the sampler has from the last validation: {} or {"confusion": int32 [C, C]}.

        A feed that learns must be told of each validation before it is asked for a later batch.
        """
        confusion = getattr(self._local.sampler, "confusion", None)
        return {} if confusion is None else {"confusion": confusion}

    def taught(self, confusion: np.ndarray) -> Feed:
        """The same feed, after a validation that counted `sampling.class_confusion`."""
        sampler = self._local.sampler
        if isinstance(sampler, ClassSampler):
            sampler = dataclasses.replace(sampler, confusion=confusion)
        return dataclasses.replace(self, _local=dataclasses.replace(self._local, sampler=sampler))

    def batches(
        self, start: int, stop: int, *, together: Callable[[int], int] | None = None
    ) -> Iterator[dict[str, Any]]:
        """The batches of steps `start` to `stop - 1`, on the device, a few ahead of their use.

        With `together`, those of `together(step)` steps from `step` on come as one, [n, B, ...].
        """
        if self.resident:
            local = map(self._local, range(start, stop))
        else:
            local = prefetch(self._local, start, stop, workers=self._workers)
        if together:
            local = _stacked(iter(local), start, stop, together)
        put = functools.partial(sharding.put_rows, self._mesh, axis=1 if together else 0)
        return _ahead(map(put, local))


def images_of(
    held: dict[str, jax.Array | Split], batch: dict[str, Any]
) -> tuple[jax.Array, jax.Array]:
    """The uint8 sketches and photos of a batch, whichever feed it came from; traced in the step."""
    if not held:
        return batch["sketch"], batch["photo"]
    sketch, photo = (resident.take(held[side], batch[side]) for side in _SIDES)
    return sketch, photo


def make_feed(dataset: Dataset, config: DataConfig, *, seed: int, mesh: Mesh) -> Feed:
    """The training feed of a dataset.

    Raises:
      ConfigError: the batch cannot be filled from the training split, or the sampler learns from
        validations that tell nothing of its classes.
    """
    index = {side: dataset.index("train", side) for side in _SIDES}
    sampler = make_sampler(config, index["sketch"], index["photo"], seed)
    if config.sampler == "confusable" and isinstance(sampler, ClassSampler):
        _require_shared_classes(dataset)
        unknown = np.zeros((len(dataset.classes),) * 2, np.int32)
        sampler = dataclasses.replace(sampler, confusion=unknown)
    images: dict[str, Images | CachedImages] = {
        side: dataset.images("train", side) for side in _SIDES
    }
    shapes = {
        side: (len(of), config.load_size, config.load_size, of.channels)
        for side, of in images.items()
    }
    kind, split, why = _chosen(config, sum(map(math.prod, shapes.values())), mesh)
    if kind != "none":
        images, how = {}, {}
        for side in _SIDES:
            images[side], how[side] = kept(dataset, "train", side, config)
        if kind == "host" and not all(isinstance(of, CachedImages) for of in images.values()):
            kind = "none"
        why = ", ".join([why, *dict.fromkeys(how.values())])  # once where both sides say the same
    held = {}
    if kind == "device":
        for side, of in images.items():
            load = functools.partial(loaded, of, side, config)
            held[side] = resident.put(mesh, load, shapes[side], split=split)
    rows = sharding.local_rows(mesh, config.batch_size)
    local = _LocalBatch(images, config, sampler, index, rows, decode=kind != "device")
    return Feed(
        kind, f"data.cache={kind}: {why}", held, sampler.epoch_size, local, mesh, config.workers
    )


def _chosen(config: DataConfig, nbytes: int, mesh: Mesh) -> tuple[str, bool, str]:
    """Where decoded images are to be kept, whether split over the devices, and why in words."""
    limit = resident.budget(mesh)
    size = f"{nbytes / 2**20:,.0f} MiB decoded"
    fits = "fit in" if nbytes <= limit else "do not fit in"
    room = f"{size} {fits} the {limit / 2**20:,.0f} MiB that a device may give"
    shared = nbytes <= limit * mesh.size and mesh.size > 1
    if config.cache in ("none", "host"):
        return config.cache, False, size
    if nbytes <= limit:
        return "device", False, f"{room}, a copy on each"
    if shared or (config.cache == "device" and mesh.size > 1):
        return "device", True, f"{room}, so they are split over {mesh.size} devices"
    return ("device" if config.cache == "device" else "host"), False, room


def _require_shared_classes(dataset: Dataset) -> None:
    labels = [dataset.index(split, side).label for split in ("train", "val") for side in MODALITIES]
    if len(functools.reduce(np.intersect1d, labels)) < 2:
        raise ConfigError(
            "config.data.sampler='confusable': the training and validation splits of "
            f"{dataset.name!r} share fewer than two classes, so no validation can say which are "
            "confused; use 'classes'"
        )


@dataclasses.dataclass(frozen=True)
class _LocalBatch:
    """This process's rows of the batch of a step; picklable, for Grain's worker processes."""

    # Opened once: each opens its files on first use.
    images: dict[str, Images | CachedImages]
    config: DataConfig
    sampler: Sampler
    index: dict[Modality, SplitIndex]
    rows: slice
    decode: bool

    def __call__(self, step: int) -> dict[str, Any]:
        # The whole batch is drawn everywhere and each process keeps its part: the global batch
        # is then the same on any topology.
        picked = dict(zip(_SIDES, self.sampler(int(step)), strict=True))
        picked = {side: rows[self.rows] for side, rows in picked.items()}
        ids = {
            f"{side}_ids": Ids(self.index[side].label[rows], self.index[side].instance[rows])
            for side, rows in picked.items()
        }
        batch = {side: rows.astype(np.int32) for side, rows in picked.items()}
        if self.decode:
            batch = {
                side: self.images[side].load(rows, size=self.config.load_size, fit=self.config.fit)
                for side, rows in picked.items()
            }
        return batch | ids


def _stacked(
    batches: Iterator[Any], start: int, stop: int, together: Callable[[int], int]
) -> Iterator[Any]:
    while start < stop:
        count = together(start)
        parts = list(itertools.islice(batches, count))
        yield jax.tree.map(lambda *rows: np.stack(rows), *parts)
        start += count


def _ahead(batches: Iterator[Any]) -> Iterator[Any]:
    queue: collections.deque = collections.deque()
    for batch in batches:
        queue.append(batch)
        if len(queue) > _IN_FLIGHT:
            yield queue.popleft()
    yield from queue
