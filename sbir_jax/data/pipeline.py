"""Feeds: the training batches of a run, resident in device memory or streamed ahead of the step.

Both give the same batches, since a batch is what its sampler says for its step. A `resident`
feed puts the decoded uint8 split on every device once and then sends row numbers only; a
`stream` feed sends decoded uint8 images, made ahead by Grain threads or worker processes.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import grain
import jax
import numpy as np
from absl import flags
from jax.sharding import Mesh
from tqdm import tqdm

from sbir_jax import sharding
from sbir_jax.data.images import MODALITIES
from sbir_jax.data.sampling import make_sampler
from sbir_jax.data.source import Dataset, Images
from sbir_jax.data_config import DataConfig
from sbir_jax.mining import Ids
from sbir_jax.setting import ConfigError

_IN_FLIGHT = 2  # batches on their way to the device while one is used
_RESIDENT_SHARE = 0.4  # of free device memory that `auto` lets the dataset take
_RESIDENT_CPU_BYTES = 2 << 30  # the same on CPUs, whose memory JAX does not report
_DECODE_CHUNK = 512  # images decoded between two moves of the progress bar


@dataclasses.dataclass(frozen=True)
class Feed:
    """Where batches come from: what stays on the device, and what arrives at each step.

    `resident` is {} or {"sketch": uint8 [N, S, S, C], "photo": uint8 [M, S, S, 3]}, replicated.
    A batch is {"sketch", "photo", "sketch_ids", "photo_ids"}, split over the mesh; its sides are
    row numbers, int32 [B], when resident, and uint8 images [B, S, S, C] when streamed.
    """

    kind: str
    resident: dict[str, jax.Array]
    epoch_size: int
    nbytes: int
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
        sampler = dataclasses.replace(self._local.sampler, confusion=confusion)
        return dataclasses.replace(self, _local=dataclasses.replace(self._local, sampler=sampler))

    def batches(self, start: int, stop: int) -> Iterator[dict[str, Any]]:
        """The batches of steps `start` to `stop - 1`, on the device, a few ahead of their use."""
        if self.kind == "resident":
            local = map(self._local, range(start, stop))
        else:
            local = prefetch(self._local, start, stop, workers=self._workers)
        return _ahead(sharding.put_rows(self._mesh, batch) for batch in local)


def images_of(resident: dict[str, jax.Array], batch: dict[str, Any]) -> tuple[jax.Array, jax.Array]:
    """The uint8 sketches and photos of a batch, whichever feed it came from; traced in the step."""
    if not resident:
        return batch["sketch"], batch["photo"]
    return resident["sketch"][batch["sketch"]], resident["photo"][batch["photo"]]


def make_feed(dataset: Dataset, config: DataConfig, *, seed: int, mesh: Mesh) -> Feed:
    """The training feed of a dataset.

    Raises:
      ConfigError: the batch cannot be filled from the training split, or the sampler learns from
        validations that tell nothing of its classes.
    """
    index = {side: dataset.index("train", side) for side in ("sketch", "photo")}
    sampler = make_sampler(config, index["sketch"], index["photo"], seed)
    if config.sampler == "confusable":
        _require_shared_classes(dataset)
        unknown = np.zeros((len(dataset.classes),) * 2, np.int32)
        sampler = dataclasses.replace(sampler, confusion=unknown)
    images = {side: dataset.images("train", side) for side in ("sketch", "photo")}
    nbytes = config.load_size**2 * sum(len(i) * i.channels for i in images.values())
    kind = config.feed
    if kind == "auto":
        kind = "resident" if nbytes <= _resident_budget(mesh) else "stream"
    rows = sharding.local_rows(mesh, config.batch_size)
    local = _LocalBatch(images, config, sampler, index, rows, decode=kind == "stream")
    resident = {}
    if kind == "resident":
        resident = {
            side: sharding.put_copy(mesh, _decode_all(images[side], side, config))
            for side in ("sketch", "photo")
        }
    return Feed(kind, resident, sampler.epoch_size, nbytes, local, mesh, config.workers)


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

    images: dict[str, Images]  # opened once: each opens its record files on first use
    config: DataConfig
    sampler: Callable[[int], tuple[np.ndarray, np.ndarray]]
    index: dict[str, Any]
    rows: slice
    decode: bool

    def __call__(self, step: int) -> dict[str, Any]:
        # The whole batch is drawn everywhere and each process keeps its part: the global batch
        # is then the same on any topology.
        picked = dict(zip(("sketch", "photo"), self.sampler(int(step)), strict=True))
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


def prefetch(make: Callable[[int], Any], start: int, stop: int, *, workers: int) -> Iterator[Any]:
    """`make(start) ... make(stop - 1)` in order, made ahead by threads or `workers` processes."""
    flags.FLAGS.mark_as_parsed()  # Grain reads absl flags, also outside an absl program
    data = grain.MapDataset.range(start, stop).map(make)
    if workers:
        options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)
        return iter(
            data.to_iter_dataset(options).mp_prefetch(grain.MultiprocessingOptions(workers))
        )
    return iter(data.to_iter_dataset(grain.ReadOptions(num_threads=4, prefetch_buffer_size=8)))


def decoded(images: Images, config: DataConfig, *, rows: int, doing: str) -> Iterator[np.ndarray]:
    """All images in order, uint8 [<= rows, load_size, load_size, C], decoded ahead of their use.

    A progress bar called `doing` counts what the consumer has taken.
    """
    starts = range(0, len(images), rows)

    def load(chunk: int) -> np.ndarray:
        chosen = np.arange(starts[chunk], min(starts[chunk] + rows, len(images)))
        return images.load(chosen, size=config.load_size, fit=config.fit)

    with tqdm(total=len(images), desc=doing, unit="img", delay=2, leave=False, disable=None) as bar:
        for part in prefetch(load, 0, len(starts), workers=0):
            yield part
            bar.update(len(part))


def _decode_all(images: Images, side: str, config: DataConfig) -> np.ndarray:
    out = np.empty((len(images), config.load_size, config.load_size, images.channels), np.uint8)
    done = 0
    for part in decoded(images, config, rows=_DECODE_CHUNK, doing=f"decoding {side} images"):
        out[done : done + len(part)] = part
        done += len(part)
    return out


def _resident_budget(mesh: Mesh) -> int:
    stats = mesh.local_devices[0].memory_stats()
    if not stats:
        return _RESIDENT_CPU_BYTES // len(mesh.local_devices)
    return int(_RESIDENT_SHARE * (stats["bytes_limit"] - stats["bytes_in_use"]))


def _ahead(batches: Iterator[Any]) -> Iterator[Any]:
    queue: collections.deque = collections.deque()
    for batch in batches:
        queue.append(batch)
        if len(queue) > _IN_FLIGHT:
            yield queue.popleft()
    yield from queue
