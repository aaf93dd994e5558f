"""The mesh and where arrays live on it.

One axis, `data`, of Auto type: batches are split over it, everything else is replicated, and the
loss is written for the global batch; XLA inserts the collectives. (The Explicit axes that
`jax.make_mesh` gives by default refuse `sketch @ photo.T` with both sides split.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec


def make_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A one-axis mesh over `devices`, all of every process by default."""
    devices = jax.devices() if devices is None else list(devices)
    return jax.make_mesh((len(devices),), ("data",), (AxisType.Auto,), devices=devices)


def split(mesh: Mesh) -> NamedSharding:
    """First axis split over the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def replicated(mesh: Mesh) -> NamedSharding:
    """A whole copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def shapes_of(mesh: Mesh, make: Callable[[], Any]) -> Any:
    """What `make()` would return, as shapes with a whole copy on every device; computes nothing."""
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=replicated(mesh)),
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


def put_rows(mesh: Mesh, local: Any) -> Any:
    """A pytree of this process's rows (`local_rows`) as global arrays split over the mesh."""
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(split(mesh), x), local)


def put_copy(mesh: Mesh, value: Any) -> Any:
    """A pytree of host arrays, the same in every process, as one copy a device."""
    return jax.tree.map(
        lambda x: jax.make_array_from_process_local_data(
            replicated(mesh), np.asarray(x), np.shape(x)
        ),
        value,
    )
