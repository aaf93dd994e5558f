"""Arrays land where the mesh says, and every process gets its own rows of a batch."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sbir_jax import losses, sharding
from sbir_jax.loss_config import LossConfig
from sbir_jax.loss_groups import TripletConfig
from sbir_jax.mining import Ids


@pytest.fixture(scope="module")
def mesh():
    return sharding.make_mesh()


def test_the_mesh_has_every_device_on_one_axis(mesh):
    """By default all eight devices are in the mesh, on the axis `data`; fewer if told."""
    assert mesh.shape == {"data": 8}
    assert set(mesh.devices.flat) == set(jax.devices())
    assert sharding.make_mesh(jax.devices()[:3]).shape == {"data": 3}


def test_rows_are_split_and_copies_are_whole(mesh):
    """`put_rows` leaves two of 16 rows on each device, in order; `put_copy` leaves all of them."""
    value = np.arange(48.0, dtype=np.float32).reshape(16, 3)
    rows = sharding.put_rows(mesh, {"x": value})["x"]
    copy = sharding.put_copy(mesh, {"x": value})["x"]
    for i, device in enumerate(mesh.devices.flat):
        own = {shard.device: shard.data for shard in rows.addressable_shards}[device]
        whole = {shard.device: shard.data for shard in copy.addressable_shards}[device]
        np.testing.assert_array_equal(own, value[2 * i : 2 * i + 2])
        np.testing.assert_array_equal(whole, value)


def test_one_process_provides_every_row(mesh):
    """With all devices in one process, its part of a batch is the batch."""
    assert sharding.local_rows(mesh, 16) == slice(0, 16)


def test_a_batch_that_does_not_divide_is_refused(mesh):
    """The error names the rows and the devices."""
    with pytest.raises(ValueError, match=r"^12 rows do not divide over 8 devices$"):
        sharding.local_rows(mesh, 12)


def hardest(matrix: np.ndarray, label: np.ndarray, other: np.ndarray, block: int) -> float:
    """Mean batch-hard hinge, margin 0.2, both ways, mined within blocks of rows: a plain loop."""
    terms = []
    for d, own, others in ((matrix, label, other), (matrix.T, other, label)):
        for i in range(len(d)):
            first = i // block * block
            seen = range(first, first + block)
            far = max(d[i, j] for j in seen if others[j] == own[i])
            near = min(d[i, j] for j in seen if others[j] != own[i])
            terms.append(max(far - near + 0.2, 0.0))
    return float(np.mean(terms))


def test_negatives_of_other_devices_are_mined(mesh):
    """The batch-hard loss of a split batch is that of the global batch, not of its eight parts."""
    rng = np.random.default_rng(0)
    sketch, photo = (rng.normal(size=(16, 4)).astype(np.float32) for _ in range(2))
    sketch, photo = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (sketch, photo))
    label = np.tile(np.arange(2, dtype=np.int32), 8)  # both classes on every device
    # The hardest negative of every sketch of device 0 sits on device 7: it is the sketch itself.
    photo[15], photo[14] = sketch[0], sketch[1]
    matrix = np.linalg.norm(sketch[:, None].astype(np.float64) - photo[None], axis=-1)
    assert matrix[0].argmin() == 15
    ids = Ids(label, np.full(16, -1, np.int32))
    own = TripletConfig(miner="batch_hard", distance="l2", margin=0.2)
    config = LossConfig(name="triplet", triplet=own)
    arguments = sharding.put_rows(mesh, (sketch, photo, ids, ids))
    loss = jax.jit(lambda *batch: losses.cross_modal(config, *batch, key=jax.random.key(0))[0])(
        *arguments
    )
    alone = hardest(matrix, label, label, block=2)
    together = hardest(matrix, label, label, block=16)
    assert abs(alone - together) > 0.1
    assert float(loss) == pytest.approx(together, rel=1e-5)


def test_a_split_product_needs_no_annotation(mesh):
    """`sketch @ photo.T` of two split sides compiles and is right: the axis is of Auto type."""
    rng = np.random.default_rng(1)
    sketch, photo = (rng.normal(size=(8, 3)).astype(np.float32) for _ in range(2))
    rows = sharding.put_rows(mesh, (sketch, photo))
    product = jax.jit(lambda a, b: jnp.matmul(a, b.T, precision="highest"))(*rows)
    np.testing.assert_allclose(product, sketch @ photo.T, rtol=1e-5, atol=1e-6)
