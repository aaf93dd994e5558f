"""Parameters and optimiser state split over the devices: the same run in an eighth of the bytes."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from test_step import draw_batch, host, optimizer_of
from test_train import Killed, stop_before
from tiny import metric_lines, stored, tiny_run

from sbir_jax import sharding
from sbir_jax.backbones import ResNetSpec
from sbir_jax.evaluate import evaluate_workdir
from sbir_jax.models import dual
from sbir_jax.paths import by_path
from sbir_jax.step import make_init, make_train_step
from sbir_jax.train import train

# Everything a state can hold, with most of its bytes in two kernels of 3 x 3 x 96 x 96.
ALL = {
    "model.towers": "stems",
    "optim.freeze": "stems/*",
    "optim.ema": 0.5,
    "loss.memory": 16,
    "train.chunk": 8,
    "loss.name": "infonce + category",
}


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    spec = ResNetSpec(depths=(1,), widths=(96,), patch_stem=True)
    monkeypatch.setattr(dual, "model_spec", lambda config, image_size: spec)


def started(run, mesh):
    """(step function, first state) of a run, placed as it says."""
    optimizer = optimizer_of(run, run.optim)
    init = make_init(run, optimizer, classes=3)
    like = sharding.shapes_of(mesh, init, fsdp=run.train.fsdp)
    step = make_train_step(run, dual.define(run.model, image_size=32), optimizer, like)
    return step, sharding.put_like(like, init())


def bytes_on(device, tree) -> int:
    shards = [s for x in jax.tree.leaves(tree) for s in x.addressable_shards]
    return sum(s.data.nbytes for s in shards if s.device == device)


def test_arrays_are_split_along_the_largest_axis_that_divides():
    """The last of several axes, the first of equal ones; not 7 x 9363, which eight do not divide,
    and nothing under 65,536 elements."""
    mesh = sharding.make_mesh()
    for shape, expected in (
        ((3, 3, 64, 128), (None, None, None, "data")),
        ((512, 512), ("data",)),
        ((4099, 16), (None, "data")),
        ((7, 9363), ()),
        ((255, 256), ()),
        ((), ()),
    ):
        found = sharding.spread(mesh, shape)
        assert tuple(found.spec) == expected, shape
    assert tuple(sharding.spread(sharding.make_mesh(jax.devices()[:7]), (7, 9363)).spec) == (
        "data",
    )


@pytest.mark.parametrize("changes", [{}, ALL], ids=["plain", "all"])
def test_a_split_state_trains_as_a_whole_one_and_takes_an_eighth(changes):
    """Three steps: losses, gradient norms and all of the state are those of replicated ones, to
    rounding; each device holds an eighth of every large array, before and after; and the state's
    buffers are used again, not copied."""
    mesh, batch = sharding.make_mesh(), draw_batch()
    found = []
    for fsdp in (False, True):
        run = tiny_run("unused", changes | {"train.fsdp": fsdp, "optim.name": "sgd"})
        step, state = started(run, mesh)
        arguments = {}, sharding.put_rows(mesh, batch)
        step = step.lower(state, *arguments).compile()
        metrics = []
        for _ in range(3):
            previous = state
            state, of = step(state, *arguments)
            metrics.append(host(of))
        assert all(x.is_deleted() for x in jax.tree.leaves(previous.params))
        found.append((state, metrics))
    (whole, expected), (split, got) = found
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(got), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5)
    flat, large = by_path(host(split)), 0
    for path, value in by_path(host(whole)).items():
        np.testing.assert_allclose(flat[path], value, rtol=1e-4, atol=1e-5, err_msg=path)
        part = by_path(split)[path].addressable_shards[3].data
        assert part.size == (value.size // 8 if value.size >= 1 << 16 else value.size), path
        large += value.nbytes if value.size >= 1 << 16 else 0
    before, after = (bytes_on(mesh.devices.flat[3], of) for of in (whole, split))
    assert before - after == large * 7 // 8
    assert after < before / 5


def test_a_checkpoint_continues_either_way(tiny_data, tmp_path, monkeypatch):
    """A run stopped after steps 3 and 5 goes on from the checkpoints of 2 and 4 with the other
    placement each time, and ends as the run that was left alone; and one device evaluates it with
    the scores of eight."""
    eight = sharding.make_mesh()
    changes = {"optim.name": "sgd", "optim.ema": 0.5}
    whole, split = (tiny_run(tiny_data, changes | {"train.fsdp": of}) for of in (False, True))
    train(whole, tmp_path / "alone", mesh=eight)
    for run, last in ((whole, 3), (split, 5)):
        with monkeypatch.context() as patch:
            stop_before(last, patch)
            with pytest.raises(Killed):
                train(run, tmp_path / "run", mesh=eight)
    train(whole, tmp_path / "run", mesh=eight)
    for line, other in zip(*(metric_lines(tmp_path / n) for n in ("run", "alone")), strict=True):
        assert line.pop("kind") == other.pop("kind")
        assert line == pytest.approx(other, rel=1e-4)
    arrays, expected = stored(tmp_path / "run"), stored(tmp_path / "alone")
    assert any(value.size >= 1 << 16 for value in expected.values())
    for path, value in expected.items():
        np.testing.assert_allclose(arrays[path], value, rtol=1e-4, atol=1e-5, err_msg=path)
    given = {"checkpoint": "latest", "split": "val", "run": split}
    one = evaluate_workdir(tmp_path / "run", mesh=sharding.make_mesh(jax.devices()[:1]), **given)
    scores = metric_lines(tmp_path / "run")[-1]
    assert one["category"]["mAP@all"]["value"] == pytest.approx(scores["category/mAP@all"])
