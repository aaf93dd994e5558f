"""The engine for accelerators: jax.numpy under jit, queries split over a mesh.

Every device ranks its share of a block of queries against the whole gallery, held or streamed
through in parts, and the results are copied to all of them, so that every process can read them.
A row of distances is sorted once and the relevant items are looked up in it.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, PartitionSpec

from sbir_jax import distances, sharding
from sbir_jax.ranking import ties
from sbir_jax.ranking.job import NORMALISE, Block, Job, padded
from sbir_jax.ranking.metrics import NEVER, scores
from sbir_jax.ranking.names import Metric

_ROWS = 4096  # of a block, for each device
_UNKNOWN_MIB = 256  # for a device that does not tell what it has, as CPUs
_BEYOND = np.uint32(2**32 - 1)  # after every finite number in `_ordered`

# What `_finish` returns.
Found = tuple[jax.Array, jax.Array, jax.Array, dict[str, dict[str, jax.Array]]]


def blocks(job: Job, progress: Callable[[Iterable], Iterable], *, mesh: Mesh) -> Iterator[Block]:
    """Ranks for all queries, a block at a time, in their order.

    Args:
      job: what is asked.
      progress: wraps the sequence of blocks.
      mesh: the devices.

    Raises:
      ValueError: a distance that is not finite, or 2^31 relevant pairs or more.
    """
    chunk, rows = _sizes(job, mesh)
    cuts = range(0, len(job.gallery), chunk)
    chunks = [padded(job.gallery[at : at + chunk], chunk) for at in cuts]
    if len(chunks) == 1:
        chunks = sharding.put_copy(mesh, chunks)  # to stay; several are sent for every block
    for name, of in job.ranked.items():
        if of.starts[-1] >= 2**31:
            raise ValueError(
                f"relevance {name!r} has {of.starts[-1]} pairs, too many for int32; use the host "
                "engine"
            )
    lists = {
        name: (of.starts.astype(np.int32), np.append(of.columns, np.int32(0)))
        for name, of in job.ranked.items()
    }
    lists, copies = sharding.put_copy(mesh, (lists, job.copies))
    # Of "expected" and of curves the device counts only; the host has the arithmetic.
    counts_only = job.ties == "expected" or job.curves
    plan = _Plan(
        distinct=len(job.gallery),
        size=job.size,
        relevance=tuple((name, max(of.width, 1)) for name, of in job.ranked.items()),
        metrics=None if counts_only else tuple(job.metrics[name] for name in job.ranked),
        ties=job.ties,
        depth=job.depth,
        top=job.top,
    )

    def launch(start: int) -> Any:
        def place(x: np.ndarray, fill: int) -> jax.Array:
            x = padded(x[start : start + rows], rows, fill)
            return sharding.put_rows(mesh, x[sharding.local_rows(mesh, rows)])

        queries = place(job.queries, 0)
        parts = [
            _compare(
                queries,
                sharding.put_copy(mesh, part) if len(chunks) > 1 else part,
                distance=job.distance,
                normalise=job.normalise,
            )
            for part in chunks
        ]
        own = {name: place(of.row, -1) for name, of in job.ranked.items()}
        return _finish(parts, copies, own, lists, plan=plan, mesh=mesh)

    def collect(start: int, found: Any) -> Block:
        cut = slice(start, min(start + rows, len(job.queries)))
        found = jax.device_get(found)  # all copies start before the first is waited for
        finite, nearest, distance, of = jax.tree.map(lambda x: x[: cut.stop - start], found)
        if not finite.all():
            raise job.not_finite(start + int(np.argmin(finite)))
        if counts_only:
            return Block.of(job, cut, nearest, distance, of)
        return Block(nearest, distance, of, {})

    # One block is collected while the next is computed.
    ahead: list[tuple[int, Any]] = []
    for start in progress(range(0, len(job.queries), rows)):
        ahead.append((start, launch(start)))
        if len(ahead) > 1:
            yield collect(*ahead.pop(0))
    for last in ahead:
        yield collect(*last)


def _sizes(job: Job, mesh: Mesh) -> tuple[int, int]:
    """Rows of a part of the gallery, and of a block of queries."""
    budget = job.memory_mib * 2**20 or _free(mesh)
    dims = job.gallery.shape[1]
    parts = -(-job.gallery.nbytes // max(int(budget / 2), 4 * dims))
    chunk = -(-len(job.gallery) // parts)
    widths = sum(of.width for of in job.ranked.values())
    # Distances, their parts, integers, sorted, and a sort's own copy of both; a dozen arrays of
    # the relevant items.
    row = 4 * (6 * job.size + 12 * widths + dims)
    rows = int((budget - 4 * dims * chunk) / row)
    rows = max(min(rows, _ROWS, -(-len(job.queries) // mesh.size)), 1)
    return chunk, rows * mesh.size


def _free(mesh: Mesh) -> int:
    """Bytes free on the fullest device of the mesh, the same number in every process."""
    stats = [device.memory_stats() for device in mesh.local_devices]
    if not all(stats):
        return _UNKNOWN_MIB * 2**20
    free = min(of["bytes_limit"] - of["bytes_in_use"] for of in stats)
    if mesh.is_multi_process:
        free = int(multihost_utils.process_allgather(np.int64(free)).min())
    return free


@functools.partial(jax.jit, static_argnames=("distance", "normalise"))
def _compare(queries: jax.Array, gallery: jax.Array, *, distance: str, normalise: str) -> jax.Array:
    """float32 [B, part of the gallery]."""
    x, y = (NORMALISE[normalise](side) for side in (queries, gallery))
    return distances.pairwise(x, y, distance)


@dataclasses.dataclass(frozen=True)
class _Plan:
    """What `_finish` is compiled for.

    Attributes:
      distinct: N, the distinct embeddings of the gallery.
      size: G.
      relevance: name and largest R of each.
      metrics: of each relevance; None: it is only counted.
      ties, depth, top: as in `Job`.
    """

    distinct: int
    size: int
    relevance: tuple[tuple[str, int], ...]
    metrics: tuple[tuple[Metric, ...], ...] | None
    ties: str
    depth: int | None
    top: int


@functools.partial(jax.jit, static_argnames=("plan", "mesh"))
def _finish(
    parts: list[jax.Array],
    copies: jax.Array | None,
    own: dict[str, jax.Array],
    lists: dict[str, tuple[jax.Array, jax.Array]],
    *,
    plan: _Plan,
    mesh: Mesh,
) -> Found:
    """Whether the distances are finite [B], neighbours [B, top] and their distances, and of each
    relevance the scores [B] or the counts [B, M]; a copy on every device."""
    # Mapped by hand: XLA would gather all rows on every device to find their neighbours.
    ranked = jax.shard_map(
        functools.partial(_rank, plan=plan),
        mesh=mesh,
        in_specs=(PartitionSpec("data"), PartitionSpec(), PartitionSpec("data"), PartitionSpec()),
        out_specs=PartitionSpec("data"),
    )
    found = ranked(parts, copies, own, lists)
    return jax.lax.with_sharding_constraint(found, sharding.replicated(mesh))


def _rank(
    parts: list[jax.Array],
    copies: jax.Array | None,
    own: dict[str, jax.Array],
    lists: dict[str, tuple[jax.Array, jax.Array]],
    *,
    plan: _Plan,
) -> Found:
    """One device's share of `_finish`."""
    d = jnp.concatenate(parts, axis=1)[:, : plan.distinct]
    d = jnp.where(d == 0, 0.0, d)  # no -0.0, whose bits differ
    if copies is not None:
        d = jnp.take(d, copies, axis=1)  # [B, G]
    finite = jnp.isfinite(jnp.max(d, axis=1) - jnp.min(d, axis=1))
    negated, nearest = jax.lax.top_k(-d, plan.top)  # equal values: lower index first
    found: dict[str, dict[str, jax.Array]] = {}
    if plan.relevance:
        keys = _ordered(d)
        # Integers without payload: on a CPU XLA sorts them 4 times as fast as floats.
        if plan.depth is None:
            line = jnp.sort(keys, axis=1)
        else:
            line = _ordered(-jax.lax.top_k(-d, plan.depth)[0])
    for number, (name, width) in enumerate(plan.relevance):
        items, relevant = _items(own[name], *lists[name], width)
        counts = _count(keys, line, items, ties.RULES[plan.ties], plan.depth)
        if plan.metrics is None:
            found[name] = counts
        else:
            ranks = ties.ranks(plan.ties, counts.get("before"), counts.get("upto"), jnp)
            found[name] = scores(plan.metrics[number], ranks, relevant, plan.size, jnp)
    return finite, nearest, -negated, found


def _ordered(x: jax.Array) -> jax.Array:
    """float32 to uint32 of the same order."""
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
    return jnp.where(bits >> 31 == 1, ~bits, bits | np.uint32(2**31))


def _items(
    row: jax.Array, starts: jax.Array, columns: jax.Array, width: int
) -> tuple[jax.Array, jax.Array]:
    """int32 [B, width], gallery rows of the lists `row`, then -1; and their numbers int32 [B]."""
    start = jnp.where(row < 0, 0, starts[row])
    lengths = jnp.where(row < 0, 0, starts[row + 1] - start)
    step = jnp.arange(width, dtype=np.int32)
    real = step < lengths[:, None]
    return jnp.where(real, columns[jnp.where(real, start[:, None] + step, 0)], -1), lengths


def _count(
    keys: jax.Array, line: jax.Array, items: jax.Array, sides: tuple[str, ...], depth: int | None
) -> dict[str, jax.Array]:
    """What `ties.ranks` reads, of `items` among `keys` [B, G]; `line` is them sorted, or the
    first `depth` of them."""
    own = jnp.where(items < 0, _BEYOND, jnp.take_along_axis(keys, items, axis=1))
    own = jnp.sort(own, axis=1)
    border = line[:, -1:] if depth is not None else _BEYOND - np.uint32(1)
    counts = {}
    for side in sides:
        edge = {"before": "left", "upto": "right"}[side]
        # Unrolled, the steps of a search are one kernel.
        search = functools.partial(jnp.searchsorted, side=edge, method="scan_unrolled")
        count = jax.vmap(search)(line, own)
        if depth is not None and side == "upto":  # equals of the last may lie beyond it
            whole = jnp.sum(keys <= border, axis=1, keepdims=True, dtype=np.int32)
            count = jnp.where(own == border, whole, count)
        counts[side] = jnp.where(own <= border, count.astype(np.int32), NEVER)
    return counts
