"""The mesh and where arrays live on it.

One axis, `data`, of Auto type: batches are split over it, everything else is replicated (or, with
FSDP, `spread`), and the loss is written for the global batch; XLA inserts the collectives. (The
Explicit axes that `jax.make_mesh` gives by default refuse `sketch @ photo.T` with both sides
split.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

_SPREAD_FROM = 1 << 16  # elements; to gather less costs a collective and saves next to nothing


def make_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A one-axis mesh over `devices`, all of every process by default."""
    devices = jax.devices() if devices is None else list(devices)
    return jax.make_mesh((len(devices),), ("data",), (AxisType.Auto,), devices=devices)


def split(mesh: Mesh, *, axis: int = 0) -> NamedSharding:
    """One axis, the first, split over the devices."""
    return NamedSharding(mesh, PartitionSpec(*[None] * axis, "data"))


def replicated(mesh: Mesh) -> NamedSharding:
    """A whole copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def spread(mesh: Mesh, shape: tuple[int, ...]) -> NamedSharding:
    """Where FSDP keeps an array: split along its largest axis that divides over the devices.

    Small arrays, and those without such an axis, are replicated.
    """
    axes = [axis for axis, size in enumerate(shape) if size % mesh.size == 0]
    if math.prod(shape) < _SPREAD_FROM or not axes:
        return replicated(mesh)
    axis = max(axes, key=lambda axis: shape[axis])
    return NamedSharding(mesh, PartitionSpec(*[None] * axis, "data"))


def shapes_of(mesh: Mesh, make: Callable[[], Any], *, fsdp: bool = False) -> Any:
    """What `make()` would return, as shapes with a whole copy on every device; computes nothing.

    With `fsdp`, placed as `spread` says.
    """
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(
            x.shape, x.dtype, sharding=spread(mesh, x.shape) if fsdp else replicated(mesh)
        ),
        jax.eval_shape(make),
    )


def local_rows(mesh: Mesh, rows: int) -> slice:
    """The rows of a global batch that this process provides.

    Raises:
      ValueError: `rows` does not divide over the devices.
    """
    if rows % mesh.size:
        raise ValueError(f"{rows} rows do not divide over {mesh.size} devices")
    per_process = rows // mesh.size * len(mesh.local_devices)
    first = min(list(mesh.devices.flat).index(d) for d in mesh.local_devices)
    start = first * (rows // mesh.size)
    return slice(start, start + per_process)


def put_rows(mesh: Mesh, local: Any, *, axis: int = 0) -> Any:
    """A pytree of this process's rows (`local_rows`), those along `axis`, as global arrays split
    over the mesh."""
    home = split(mesh, axis=axis)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(home, x), local)


def put_copy(mesh: Mesh, value: Any) -> Any:
    """A pytree of host arrays, the same in every process, as one copy a device."""
    return jax.tree.map(
        lambda x: jax.make_array_from_process_local_data(
            replicated(mesh), np.asarray(x), np.shape(x)
        ),
        value,
    )


def put_like(like: Any, value: Any) -> Any:
    """A pytree of host arrays, the same in every process, placed as the leaves of `like` are."""

    def put(like: Any, x: Any) -> jax.Array:
        x = np.asarray(x)
        return jax.make_array_from_callback(x.shape, like.sharding, lambda index: x[index])

    return jax.tree.map(put, like, value)


def gathered(mesh: Mesh, tree: Any) -> Any:
    """The arrays whole on every device; used under `jit`."""
    return jax.lax.with_sharding_constraint(tree, replicated(mesh))


def to_chunks(mesh: Mesh, tree: Any, rows: int) -> Any:
    """Arrays [B, ...], split over the mesh, as chunks [B / rows, rows, ...]; used under `jit`.

    A chunk takes rows of every device, and none of them moves; `rows` divides B and is a multiple
    of the number of devices.
    """

    def cut(x: jax.Array) -> jax.Array:
        x = x.reshape(mesh.size, -1, rows // mesh.size, *x.shape[1:]).swapaxes(0, 1)
        return _split_second(mesh, x.reshape(-1, rows, *x.shape[3:]))

    return jax.tree.map(cut, tree)


def from_chunks(mesh: Mesh, tree: Any) -> Any:
    """Undoes `to_chunks`."""

    def join(x: jax.Array) -> jax.Array:
        chunks, rows, *rest = x.shape
        x = (
            _split_second(mesh, x)
            .reshape(chunks, mesh.size, rows // mesh.size, *rest)
            .swapaxes(0, 1)
        )
        return jax.lax.with_sharding_constraint(x.reshape(-1, *rest), split(mesh))

    return jax.tree.map(join, tree)


def _split_second(mesh: Mesh, x: jax.Array) -> jax.Array:
    return jax.lax.with_sharding_constraint(x, split(mesh, axis=1))
