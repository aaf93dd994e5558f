"""A decoded split in device memory: a copy on every device, or one part on each."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, PartitionSpec

from sbir_jax import sharding

_SHARE = 0.4  # of free device memory that the dataset may take
_CPU_BYTES = 2 << 30  # the same on CPUs together, whose memory JAX does not report


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Split:
    """Rows split over the devices of a mesh, padded with zeros to a multiple of them."""

    rows: jax.Array
    mesh: Mesh = dataclasses.field(metadata={"static": True})


def budget(mesh: Mesh) -> int:
    """Bytes of decoded images that each device may hold: the least of all processes.

    Where images go decides what is compiled, so that no process may choose for itself.
    """
    stats = mesh.local_devices[0].memory_stats()
    if stats:
        free = int(_SHARE * (stats["bytes_limit"] - stats["bytes_in_use"]))
    else:
        free = _CPU_BYTES // len(mesh.local_devices)
    if jax.process_count() == 1:
        return free
    mib = multihost_utils.process_allgather(np.int32(free >> 20))  # int64 would lose its top half
    return int(mib.min()) << 20


def put(
    mesh: Mesh, load: Callable[[range], np.ndarray], shape: tuple[int, ...], *, split: bool
) -> jax.Array | Split:
    """Rows of `shape` [N, ...], uint8, on the devices of the mesh.

    `load(range)` gives rows. When they are split, each process loads only its devices' own.
    """
    if not split:
        return sharding.put_copy(mesh, load(range(shape[0])))
    per_device = -(-shape[0] // mesh.size)

    def part(index: Any) -> np.ndarray:  # a slice of each axis
        start, stop, _ = index[0].indices(per_device * mesh.size)
        rows = load(range(min(start, shape[0]), min(stop, shape[0])))
        return np.pad(rows, [(0, stop - start - len(rows))] + [(0, 0)] * (rows.ndim - 1))

    padded = (per_device * mesh.size, *shape[1:])
    return Split(jax.make_array_from_callback(padded, sharding.split(mesh), part), mesh)


def take(held: jax.Array | Split, rows: jax.Array) -> jax.Array:
    """The rows [B] of what `put` gave; traced in the step.

    From split rows every device takes what it has of the whole batch, and a reduce-scatter hands
    each its own part: a device sends about the batch's uint8 bytes a step, whatever the number of
    devices.
    """
    if not isinstance(held, Split):
        return held[rows]

    def own(part: jax.Array, rows: jax.Array) -> jax.Array:
        wanted = jax.lax.all_gather(rows, "data", tiled=True)
        wanted = wanted - jax.lax.axis_index("data") * len(part)
        here = (wanted >= 0) & (wanted < len(part))
        found = part[jnp.clip(wanted, 0, len(part) - 1)]
        # One device has each row and the others add zeros, so that uint8 cannot overflow.
        found = jnp.where(here.reshape(-1, *[1] * (part.ndim - 1)), found, 0)
        return jax.lax.psum_scatter(found, "data", scatter_dimension=0, tiled=True)

    spec = PartitionSpec("data")
    return jax.shard_map(own, mesh=held.mesh, in_specs=(spec, spec), out_specs=spec)(
        held.rows, rows
    )
