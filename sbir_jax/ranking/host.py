"""The engine for CPUs: NumPy on all cores, a matrix product for a block of queries, then every row
of it by itself while it is in the cache."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np

from sbir_jax import distances
from sbir_jax.ranking.cells import Cells, sorts_faster
from sbir_jax.ranking.job import NORMALISE, Block, Job, padded
from sbir_jax.ranking.metrics import NEVER

_PRODUCTS = ("cosine", "dot", "l2", "sq_l2")  # the distances that one matrix product gives

_ROWS = 2048  # of a block; half of it makes the whole 8 % slower, a quarter 20 %
_BLOCK_MIB = 160  # of a block that may take what it needs
_FEWEST = 64  # rows of such a block, however large the gallery
_PIECE = 32  # rows ranked by one thread at a time

_EDGES = {"before": "left", "upto": "right"}  # for `searchsorted`

Row = Callable[[int], np.ndarray]  # number of a row in a block to its distances, float32 [N]


def blocks(job: Job, progress: Callable[[Iterable], Iterable]) -> Iterator[Block]:
    """Ranks for all queries, a block at a time, in their order.

    Args:
      job: what is asked.
      progress: wraps the sequence of blocks.

    Raises:
      ValueError: a distance that is not finite.
    """
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    rows = min(_block_rows(job, threads), len(job.queries))
    step = min(_PIECE, -(-rows // threads))
    sort = sorts_faster(job.size)
    compare = (_product if job.distance in _PRODUCTS else _pairwise)(job, rows)
    with ThreadPoolExecutor(threads) as pool:
        for start in progress(range(0, len(job.queries), rows)):
            end = min(start + rows, len(job.queries))
            row = compare(slice(start, end))
            cuts = [slice(at, min(at + step, end)) for at in range(start, end, step)]
            parts = [pool.submit(_rank, job, cut, start, row, sort=sort) for cut in cuts]
            yield Block.joined([part.result() for part in parts])


def _block_rows(job: Job, threads: int) -> int:
    row = 4 * len(job.gallery)  # bytes
    if not job.memory_mib:
        return max(min(_BLOCK_MIB * 2**20 // row, _ROWS), _FEWEST)
    scratch = threads * job.size * 30  # bytes that ranking a row takes
    return int(max(min((job.memory_mib * 2**20 - scratch) // row, _ROWS), 1))


def _product(job: Job, rows: int) -> Callable[[slice], Row]:
    """Distances by NumPy, whose matrix product is faster than XLA's on a CPU."""
    normalise = _normaliser(job, rows)
    gallery = normalise(job.gallery)
    squares = np.einsum("nd,nd->n", gallery, gallery)
    products = np.empty((rows, len(gallery)), np.float32)
    euclidean = job.distance in ("l2", "sq_l2")

    @np.errstate(over="ignore", invalid="ignore")  # `_rank` finds it
    def compare(cut: slice) -> Row:
        x = normalise(job.queries[cut])
        own = np.einsum("bd,bd->b", x, x)
        # Powers of two, which round nothing.
        np.matmul(x * np.float32(-2 if euclidean else -1), gallery.T, out=products[: len(x)])

        def row(i: int) -> np.ndarray:
            d = products[i]
            if job.distance == "dot":
                return d
            d += own[i] + squares if euclidean else 1
            np.maximum(d, 0, out=d)
            return np.sqrt(d, out=d) if job.distance == "l2" else d

        return row

    return compare


def _pairwise(job: Job, rows: int) -> Callable[[slice], Row]:
    """Any distance, by XLA on the CPU."""
    normalise = _normaliser(job, rows)
    gallery = jax.device_put(normalise(job.gallery), _cpu())

    def compare(cut: slice) -> Row:
        x = jax.device_put(padded(normalise(job.queries[cut]), rows), _cpu())
        return np.asarray(_compared(x, gallery, distance=job.distance)).__getitem__

    return compare


def _normaliser(job: Job, rows: int) -> Callable[[np.ndarray], np.ndarray]:
    """What happens to embeddings [n, D] before they are compared."""
    names = (job.normalise, "unit" if job.distance == "cosine" else "none")
    if names == ("none", "none"):
        return lambda x: x

    def normalise(x: np.ndarray) -> np.ndarray:
        out = np.empty_like(x)
        for start in range(0, len(x), rows):
            part = x[start : start + rows]
            result = _normalised(jax.device_put(padded(part, rows), _cpu()), names=names)
            out[start : start + rows] = np.asarray(result)[: len(part)]
        return out

    return normalise


@functools.partial(jax.jit, static_argnames="names")
def _normalised(x: jax.Array, *, names: tuple[str, ...]) -> jax.Array:
    for name in names:
        x = NORMALISE[name](x)
    return x


_compared = jax.jit(distances.pairwise, static_argnames="distance")


def _cpu() -> jax.Device:
    return jax.local_devices(backend="cpu")[0]


@np.errstate(over="ignore", invalid="ignore")  # what is not finite is found and named
def _rank(job: Job, cut: slice, start: int, row: Row, *, sort: bool) -> Block:
    """Ranks for some queries of the block that begins with query `start`."""
    rows, lists = cut.stop - cut.start, list(job.ranked.values())
    counts = {
        name: {side: np.full((rows, of.counts[cut].max()), NEVER, np.int32) for side in job.counted}
        for name, of in job.ranked.items()
    }
    nearest, distance = np.empty((rows, job.top), np.int32), np.empty((rows, job.top), np.float32)
    cells = Cells(job.size, sort=sort)
    for i, query in enumerate(range(cut.start, cut.stop)):
        d = row(query - start)
        d = d if job.copies is None else d.take(job.copies)
        if not cells.put(d):
            raise job.not_finite(query)
        if job.prefix:
            columns, near = cells.nearest(job.prefix)
            nearest[i], distance[i] = columns[: job.top], near[: job.top]
        if not lists:
            continue
        items = [of.of(query) for of in lists]
        ends = [0, *itertools.accumulate(map(len, items))]
        values = d.take(items[0] if len(items) == 1 else np.concatenate(items))
        for first, last in itertools.pairwise(ends):
            values[first:last].sort()
        among, passed = cells.find(values) if job.depth is None else (near, 0)
        for side in job.counted:
            found = among.searchsorted(values, _EDGES[side]) + passed
            if job.depth is not None:
                found[values > near[-1]] = NEVER
            for table, (first, last) in zip(counts.values(), itertools.pairwise(ends), strict=True):
                table[side][i, : last - first] = found[first:last]
    return Block.of(job, cut, nearest, distance, counts)
