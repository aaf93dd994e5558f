"""Images of a split decoded ahead of their use, and kept where they are to be kept."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import grain
import numpy as np
from absl import flags
from tqdm import tqdm

from sbir_jax.data import cache
from sbir_jax.data.cache import CachedImages
from sbir_jax.data.images import Modality
from sbir_jax.data.source import Dataset, Images
from sbir_jax.data_config import DataConfig

_DECODE_CHUNK = 512  # images decoded between two moves of the progress bar


def kept(
    dataset: Dataset, split: str, side: Modality, config: DataConfig
) -> tuple[Images | CachedImages, str]:
    """One side of a split, from the cache beside the dataset if there can be one, and how."""
    if config.cache == "none":
        return dataset.images(split, side), ""
    doing = f"decoding {side} images"
    decode = functools.partial(decoded, config=config, rows=_DECODE_CHUNK, doing=doing)
    found, how = cache.open_or_make(
        dataset, split, side, size=config.load_size, fit=config.fit, decode=decode
    )
    if found is None:
        return dataset.images(split, side), f"no cache: {how}"
    return found, f"{how} {'from' if how == 'read' else 'into'} the cache"


def decoded(
    images: Images | CachedImages,
    config: DataConfig,
    *,
    rows: int,
    doing: str,
    among: range | None = None,
    own: slice = slice(None),
) -> Iterator[np.ndarray]:
    """Images in order, uint8 [<= rows, load_size, load_size, C], decoded ahead of their use.

    All of them, or those `among` a range; of every `rows` of them those that are this process's
    `own`, which may be none. A progress bar called `doing` counts what the consumer has taken.
    """
    among = range(len(images)) if among is None else among
    chunks = [among[start : start + rows][own] for start in range(0, len(among), rows)]

    def load(chunk: int) -> np.ndarray:
        return images.load(np.array(chunks[chunk], int), size=config.load_size, fit=config.fit)

    count = sum(map(len, chunks))
    with tqdm(total=count, desc=doing, unit="img", delay=2, leave=False, disable=None) as bar:
        for part in prefetch(load, 0, len(chunks), workers=0) if chunks else ():
            yield part
            bar.update(len(part))


def loaded(
    images: Images | CachedImages, side: str, config: DataConfig, among: range
) -> np.ndarray:
    """Those of the images that are `among` a range: uint8 [n, load_size, load_size, C]."""
    out = np.empty((len(among), config.load_size, config.load_size, images.channels), np.uint8)
    done, doing = 0, f"loading {side} images"
    for part in decoded(images, config, rows=_DECODE_CHUNK, doing=doing, among=among):
        out[done : done + len(part)] = part
        done += len(part)
    return out


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
