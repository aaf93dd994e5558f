"""Checkpoints: latest and best survive, items are separate, and every misfit is one line."""

from __future__ import annotations

import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sbir_jax import sharding
from sbir_jax.checkpoint import Checkpoints
from sbir_jax.checkpoint_errors import CheckpointError

METRIC = "category/mAP@all"


def tree(value: float, mesh=None) -> dict:
    """Two items of small arrays, nested as a model's are; all hold `value`."""
    items = {
        "params": {"head": {"kernel": np.full((8, 2), value, np.float32)}, "blocks": {0: {}}},
        "opt_state": ({"mu": np.full((8, 2), value + 0.5, np.float32)}, np.int32(7), ()),
    }
    return sharding.put_copy(mesh or sharding.make_mesh(jax.devices()[:1]), items)


def shapes(items: dict) -> dict:
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), items
    )


def save_scores(workdir: Path, scores: dict[int, float]) -> None:
    with Checkpoints(workdir, metric=METRIC) as checkpoints:
        for step, score in scores.items():
            checkpoints.save(step, tree(step), {METRIC: score})


def one_line(caught) -> str:
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_latest_and_best_are_kept_and_the_others_deleted(tmp_path):
    """Scores 0.9, 0.1, 0.5 at steps 1, 2, 3 leave steps 1 and 3, each with what was saved."""
    save_scores(tmp_path, {1: 0.9, 2: 0.1, 3: 0.5})
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["1", "3"]
    with Checkpoints(tmp_path, metric=METRIC, read_only=True) as checkpoints:
        assert checkpoints.steps() == {1: {METRIC: 0.9}, 3: {METRIC: 0.5}}
        assert (checkpoints.find("best"), checkpoints.find("latest")) == (1, 3)
        assert checkpoints.find("3") == 3
        for step in (1, 3):
            restored = checkpoints.restore(step, shapes(tree(0)))
            jax.tree.map(np.testing.assert_array_equal, restored, tree(step))
            assert jax.tree.structure(restored) == jax.tree.structure(tree(0))


def test_the_best_stays_the_best_when_a_run_is_resumed(tmp_path):
    """A process that adds a worse step 4 later keeps step 1 as the best and drops step 3."""
    save_scores(tmp_path, {1: 0.9, 3: 0.5})
    save_scores(tmp_path, {4: 0.2})
    with Checkpoints(tmp_path, metric=METRIC) as checkpoints:
        assert list(checkpoints.steps()) == [1, 4]
        assert checkpoints.find("best") == 1


def test_parameters_are_restored_without_the_optimiser(tmp_path):
    """Asking for one item gives that item, even with the other one's files gone."""
    save_scores(tmp_path, {1: 0.5})
    shutil.rmtree(tmp_path / "checkpoints/1/opt_state")
    with Checkpoints(tmp_path, metric=METRIC, read_only=True) as checkpoints:
        restored = checkpoints.restore(1, {"params": shapes(tree(0))["params"]})
    assert list(restored) == ["params"]
    np.testing.assert_array_equal(restored["params"]["head"]["kernel"], np.full((8, 2), 1.0))


@pytest.mark.parametrize(("saved_on", "restored_on"), [(1, 8), (8, 1), (8, 4)])
def test_restored_on_another_number_of_devices(tmp_path, saved_on, restored_on):
    """Values are the same and the arrays live where `like` says, replicated or split."""
    meshes = [sharding.make_mesh(jax.devices()[:n]) for n in (saved_on, restored_on)]
    with Checkpoints(tmp_path, metric=METRIC) as checkpoints:
        checkpoints.save(1, tree(2.0, meshes[0]), {METRIC: 0.5})
    like = shapes(tree(0.0, meshes[1]))
    kernel = jax.ShapeDtypeStruct((8, 2), jnp.float32, sharding=sharding.split(meshes[1]))
    like["params"]["head"]["kernel"] = kernel
    with Checkpoints(tmp_path, metric=METRIC) as checkpoints:
        restored = checkpoints.restore(1, like)
    jax.tree.map(np.testing.assert_array_equal, restored, tree(2.0))
    for found, wanted in zip(jax.tree.leaves(restored), jax.tree.leaves(like), strict=True):
        assert found.sharding.is_equivalent_to(wanted.sharding, found.ndim)


def test_arrays_may_be_donated_while_they_are_being_saved(tmp_path):
    """What is saved is what the arrays held when `save` was called, though a step reuses them."""
    mesh = sharding.make_mesh()
    big = np.random.default_rng(0).normal(size=(512, 2048)).astype(np.float32)
    array = sharding.put_copy(mesh, big)
    overwrite = jax.jit(lambda x: x * 0 - 1, donate_argnums=0)
    with Checkpoints(tmp_path, metric=METRIC) as checkpoints:
        checkpoints.save(1, {"params": {"x": array}}, {METRIC: 0.5})
        for _ in range(20):
            array = overwrite(array)
        array.block_until_ready()
        checkpoints.wait()
        like = {
            "params": {"x": jax.ShapeDtypeStruct(big.shape, big.dtype, sharding=array.sharding)}
        }
        np.testing.assert_array_equal(checkpoints.restore(1, like)["params"]["x"], big)


def test_a_misfit_names_the_arrays_that_differ(tmp_path):
    """Another shape, another dtype, a missing and an extra array are all named, in one line."""
    save_scores(tmp_path, {1: 0.5})
    where = sharding.replicated(sharding.make_mesh())
    make = lambda shape, dtype: jax.ShapeDtypeStruct(shape, dtype, sharding=where)  # noqa: E731
    like = {
        "params": {
            "head": {"kernel": make((8, 3), jnp.float32)},
            "stem": {"bias": make((3,), jnp.float32)},
        },
        "opt_state": {"0": {"mu": make((8, 2), jnp.float16)}},
    }
    with (
        Checkpoints(tmp_path, metric=METRIC) as checkpoints,
        pytest.raises(CheckpointError) as caught,
    ):
        checkpoints.restore(1, like)
    text = one_line(caught)
    assert str(tmp_path / "checkpoints/1") in text
    for part in (
        "params/head/kernel is (8, 2), expected (8, 3)",
        "params/stem/bias is missing",
        "opt_state/0/mu is float32, expected float16",
        "opt_state/1 is not in this model",
    ):
        assert part in text


def test_a_long_misfit_is_cut_short(tmp_path):
    """Of twelve missing arrays the first are named and the others counted."""
    save_scores(tmp_path, {1: 0.5})
    where = sharding.replicated(sharding.make_mesh())
    like = {f"x{i:02d}": jax.ShapeDtypeStruct((1,), jnp.float32, sharding=where) for i in range(12)}
    with (
        Checkpoints(tmp_path, metric=METRIC) as checkpoints,
        pytest.raises(CheckpointError, match="and 5 more$") as caught,
    ):
        checkpoints.restore(1, {"params": like})
    assert "params/x07 is missing" in one_line(caught)


def test_a_step_that_is_not_there_names_those_that_are(tmp_path):
    """Asking for step 2 of steps 1 and 3 lists best, latest, 1 and 3."""
    save_scores(tmp_path, {1: 0.9, 3: 0.5})
    with Checkpoints(tmp_path, metric=METRIC, read_only=True) as checkpoints:
        for which in ("2", "beste"):
            with pytest.raises(CheckpointError, match=f"^checkpoint '{which}'.*latest, 1, 3$"):
                checkpoints.find(which)


def test_a_workdir_without_checkpoints_is_an_error_for_readers_only(tmp_path):
    """A reader is told that there are none, before and after the directory exists; a run is not."""
    with pytest.raises(CheckpointError, match="holds no checkpoints"):
        Checkpoints(tmp_path, metric=METRIC, read_only=True)
    assert not (tmp_path / "checkpoints").exists()
    with Checkpoints(tmp_path, metric=METRIC) as checkpoints:
        assert checkpoints.steps() == {}
        with pytest.raises(CheckpointError, match="no checkpoint has been saved yet"):
            checkpoints.find("best")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGES = {
    "array data emptied": lambda step: [truncate(p) for p in step.rglob("d/*") if p.is_file()],
    "array data deleted": lambda step: [shutil.rmtree(p) for p in list(step.glob("params/*d"))],
    "item deleted": lambda step: shutil.rmtree(step / "params"),
    "item metadata cut": lambda step: truncate(step / "params/_METADATA"),
    "metrics cut": lambda step: truncate(step / "metrics/metrics"),
}


# On a busy machine Orbax's reader may end after the loop that it reports to, and says so.
@pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_named_in_one_line(tmp_path, damage):
    """Truncated or deleted files end in an error that names the checkpoint, never a traceback."""
    save_scores(tmp_path, {1: 0.5})
    DAMAGES[damage](tmp_path / "checkpoints/1")
    with (
        pytest.raises(CheckpointError) as caught,
        Checkpoints(tmp_path, metric=METRIC, read_only=True) as checkpoints,
    ):
        checkpoints.restore(checkpoints.find("best"), {"params": shapes(tree(0))["params"]})
    assert str(tmp_path / "checkpoints") in one_line(caught)


def test_a_save_that_was_killed_is_not_a_checkpoint(tmp_path):
    """An unfinished directory is passed over by readers, and its step can be saved again."""
    save_scores(tmp_path, {1: 0.5})
    folder = tmp_path / "checkpoints"
    shutil.copytree(folder / "1", folder / "2.orbax-checkpoint-tmp")
    with Checkpoints(tmp_path, metric=METRIC, read_only=True) as checkpoints:
        assert list(checkpoints.steps()) == [1]
    assert (folder / "2.orbax-checkpoint-tmp").exists()  # a training process may be writing it
    save_scores(tmp_path, {2: 0.6})
    assert sorted(p.name for p in folder.iterdir()) == ["2"]
