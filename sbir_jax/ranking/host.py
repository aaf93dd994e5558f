"""The engine for CPUs: NumPy on all cores. Each thread multiplies a block of queries with the
gallery, then ranks it a few rows at a time, which stay in the core's cache.

A thread's product is its own, without BLAS's threads: those wait for each other by spinning, in the
way of the threads that rank. 2 cores took 1.21 s for what took 1.39 s with a product on both.
"""

from __future__ import annotations

import functools
import itertools
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import jax
import numpy as np
from threadpoolctl import threadpool_limits

from sbir_jax import distances
from sbir_jax.ranking.cells import Cells, rows_together, sorts_faster
from sbir_jax.ranking.job import NORMALISE, Block, Job, padded
from sbir_jax.ranking.metrics import NEVER

_PRODUCTS = ("cosine", "dot", "l2", "sq_l2")  # the distances that one matrix product gives

_ROWS = 1024  # of a block; NumPy's product of more is 2 % faster, of 256 it is 12 % slower
_BLOCKS_MIB = 192  # of the blocks of all threads, where they may take what they need
_FEWEST = 64  # rows of such a block, however large the gallery

_EDGES: dict[str, Literal["left", "right"]] = {
    "before": "left",
    "upto": "right",
}  # for `searchsorted`

Rows = Callable[[slice], np.ndarray]  # some rows of a block to their distances, float32 [B, N]
# Queries, and space that may take their distances, float32 [rows, N], to the rows of their block.
Compare = Callable[[slice, np.ndarray], Rows]


def blocks(job: Job, progress: Callable[[Iterable], Iterable]) -> Iterator[Block]:
    """Ranks for all queries, a block at a time, in their order.

    Args:
      job: what is asked.
      progress: wraps the sequence of blocks.

    Raises:
      ValueError: a distance that is not finite.
    """
    threads = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    queries = len(job.queries)
    turns = -(-queries // (threads * _block_rows(job, threads)))
    rows = -(-queries // (threads * turns))  # so that all threads finish at about the same time
    compare = (_product if job.distance in _PRODUCTS else _pairwise)(job, rows)
    sort = sorts_faster(job.size)
    own = threading.local()  # what a thread uses again and again

    def prepare() -> None:
        own.cells = Cells(job.size, sort=sort)
        own.space = np.empty((rows, len(job.gallery)), np.float32)

    def work(cut: slice) -> Block:
        return _rank(job, cut, compare(cut, own.space), own.cells)

    starts = range(0, queries, rows)
    with (
        threadpool_limits(1, user_api="blas"),
        ThreadPoolExecutor(threads, initializer=prepare) as pool,
    ):
        running = [pool.submit(work, slice(at, min(at + rows, queries))) for at in starts]
        try:
            for _, block in zip(progress(starts), running, strict=True):
                yield block.result()
        finally:  # after an error nobody waits for the others
            pool.shutdown(cancel_futures=True)


def _block_rows(job: Job, threads: int) -> int:
    row = 4 * len(job.gallery) * threads  # bytes
    if not job.memory_mib:
        return max(min(_BLOCKS_MIB * 2**20 // row, _ROWS), _FEWEST)
    scratch = threads * job.size * rows_together(job.size) * 30  # bytes, in `Cells` and by it
    return int(max(min((job.memory_mib * 2**20 - scratch) // row, _ROWS), 1))


def _product(job: Job, rows: int) -> Compare:
    """Distances by NumPy, whose matrix product is faster than XLA's on a CPU."""
    normalise = _normaliser(job, rows)
    gallery = normalise(job.gallery)
    squares = np.einsum("nd,nd->n", gallery, gallery)
    euclidean = job.distance in ("l2", "sq_l2")

    @np.errstate(over="ignore", invalid="ignore")  # `_rank` finds it
    def compare(cut: slice, space: np.ndarray) -> Rows:
        x = normalise(job.queries[cut])
        own = np.einsum("bd,bd->b", x, x)
        products = space[: len(x)]
        # Powers of two, which round nothing.
        np.matmul(x * np.float32(-2 if euclidean else -1), gallery.T, out=products)

        def distances_of(rows: slice) -> np.ndarray:
            d = products[rows]
            if job.distance == "dot":
                return d
            d += own[rows, None] if euclidean else 1
            if euclidean:
                d += squares
            if np.min(d) < 0:  # rounding of what is 0 or nearly
                np.maximum(d, 0, out=d)
            return np.sqrt(d, out=d) if job.distance == "l2" else d

        return distances_of

    return compare


def _pairwise(job: Job, rows: int) -> Compare:
    """Any distance, by XLA on the CPU."""
    normalise = _normaliser(job, rows)
    gallery = jax.device_put(normalise(job.gallery), _cpu())

    def compare(cut: slice, _: np.ndarray) -> Rows:
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
def _rank(job: Job, cut: slice, rows_of: Rows, cells: Cells) -> Block:
    """Ranks for the queries of one block."""
    rows = cut.stop - cut.start
    numbers = [of.counts[cut] for of in job.ranked.values()]
    items = [of.padded(cut, n.max()) for of, n in zip(job.ranked.values(), numbers, strict=True)]
    counts: list[dict[str, np.ndarray]] = [
        {side: np.full(x.shape, NEVER, np.int32) for side in job.counted} for x in items
    ]
    nearest, distance = np.empty((rows, job.top), np.int32), np.empty((rows, job.top), np.float32)
    step = rows_together(job.size)
    for at in range(0, rows, step):
        some = slice(at, min(at + step, rows))
        d = rows_of(some)
        d = d if job.copies is None else d.take(job.copies, axis=1)
        finite = cells.put(d)
        if not finite.all():
            raise job.not_finite(cut.start + at + int(np.argmin(finite)))
        near = cells.nearest(job.prefix) if job.prefix else []
        for i, (columns, found) in enumerate(near, start=at):
            nearest[i], distance[i] = columns[: job.top], found[: job.top]
        if not items:
            continue
        values = [_sorted_values(d, x[some], cells.high) for x in items]
        ends = [0, *itertools.accumulate(x.shape[1] for x in values)]
        values = np.concatenate(values, axis=1)
        if job.depth is None:
            among, passed = cells.find(values)
        else:
            among, passed = [found for _, found in near], 0
        for side in job.counted:
            edge = _EDGES[side]
            found = [a.searchsorted(v, edge) for a, v in zip(among, values, strict=True)]
            found = np.array(found) + passed
            if job.depth is not None:
                found[values > [a[-1:] for a in among]] = NEVER
            for count, (first, last) in zip(counts, itertools.pairwise(ends), strict=True):
                count[side][some] = found[:, first:last]
    for count, n in zip(counts, numbers, strict=True):
        for table in count.values():
            table[np.arange(table.shape[1]) >= n[:, None]] = NEVER
    return Block.of(job, cut, nearest, distance, dict(zip(job.ranked, counts, strict=True)))


def _sorted_values(d: np.ndarray, items: np.ndarray, last: np.ndarray) -> np.ndarray:
    """The distances of items [B, M] in rows [B, G], ascending; `last` [B, 1] where it is -1."""
    first = np.arange(len(d))[:, None] * d.shape[1]
    values = np.where(items < 0, last, d.ravel().take(first + np.maximum(items, 0)))
    values.sort(axis=1)
    return values
