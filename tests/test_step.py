"""The compiled step: one device equals eight, donated state, one compilation."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import tiny_run

from sbir_jax import optim, sharding
from sbir_jax.config import OptimConfig
from sbir_jax.embed_step import make_embed_step
from sbir_jax.mining import Ids
from sbir_jax.models import dual
from sbir_jax.step import TrainState, draw, make_init, make_train_step

pytestmark = pytest.mark.usefixtures("small_model")

LOSSES = {
    "infonce": {"loss.name": "infonce"},
    "batch_hard": {
        "loss.name": "triplet",
        "loss.triplet.miner": "batch_hard",
        "model.towers": "stems",
    },
    "sum": {
        "loss.name": "triplet + 0.5*category + sigmoid",
        "loss.pairs": "joint",
        "loss.matryoshka": "4",
        "loss.memory": 24,
        "model.towers": "shared",
    },
}
# With plain SGD at rate 1 the change of the parameters is minus the gradient.
PLAIN = OptimConfig(name="sgd", lr=1.0, momentum=0.0, weight_decay=0.0, clip_norm=0.0)


def draw_batch(size: int = 16, side: int = 36) -> dict:
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, size).astype(np.int32)
    ids = Ids(label, np.arange(size, dtype=np.int32))
    return {
        "sketch": rng.integers(0, 256, (size, side, side, 1)).astype(np.uint8),
        "photo": rng.integers(0, 256, (size, side, side, 3)).astype(np.uint8),
        "sketch_ids": ids,
        "photo_ids": ids,
    }


def optimizer_of(run, config: OptimConfig) -> optim.Optimizer:
    """At a constant learning rate."""
    params, _, loss_params = jax.eval_shape(lambda: draw(run, classes=3))
    whole = optim.everything(params, loss_params)
    return optim.make_optimizer(config, lambda count: config.lr, whole)


def prepared(run, devices: int, config: OptimConfig = PLAIN):
    """(step function, first state, batch) on that many devices; no parameter is zero."""
    mesh = sharding.make_mesh(jax.devices()[:devices])
    optimizer = optimizer_of(run, config)
    state = make_init(run, optimizer, classes=3)()
    rng = np.random.default_rng(1)
    # The last scale of a block starts at zero, which would leave its kernels without gradient.
    noisy = jax.tree.map(lambda x: x + rng.normal(0, 0.1, x.shape).astype(x.dtype), state.params)
    state = sharding.put_copy(mesh, dataclasses.replace(state, params=noisy))
    step = make_train_step(run, dual.define(run.model, image_size=32), optimizer, state)
    return step, state, sharding.put_rows(mesh, draw_batch())


def host(tree):
    return jax.tree.map(lambda x: np.array(x), tree)


@pytest.mark.parametrize("name", LOSSES)
def test_one_device_equals_eight(name):
    """Loss, figures, gradients of model and loss, BatchNorm statistics and memory do not depend on
    the devices."""
    run = tiny_run("unused", LOSSES[name])
    results = []
    for devices in (1, 8):
        step, state, batch = prepared(run, devices)
        before, loss_params = host(state.params), host(state.loss_params)
        after, metrics = step(state, {}, batch)
        gradients = jax.tree.map(lambda old, new: old - new, before, host(after.params))
        learnt = jax.tree.map(lambda old, new: old - new, loss_params, host(after.loss_params))
        results.append((gradients, learnt, host((after.model_state, after.memory, metrics))))
    one, eight = (jax.tree_util.tree_leaves_with_path(result) for result in results)
    for (path, expected), (_, found) in zip(one, eight, strict=True):
        scale = np.abs(expected).max()
        np.testing.assert_allclose(
            found, expected, rtol=0, atol=2e-5 * scale + 1e-7, err_msg=jax.tree_util.keystr(path)
        )
    gradients, learnt, (model_state, _, _) = results[0]
    assert all(np.abs(g).max() > 0 for g in jax.tree.leaves((gradients, learnt)))
    fresh = host(dual.build(run.model, dual.init_key(run.seed), image_size=32)[2])
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max() > 0, fresh, model_state)
    assert not any(jax.tree.leaves(moved.pop("pixels")))  # what images are normalised by
    assert all(jax.tree.leaves(moved))


def test_the_gradient_is_the_slope_of_the_loss():
    """A small step along the gradient lowers the loss by rate x |gradient|^2, as a slope must."""
    config = dataclasses.replace(PLAIN, lr=0.03)
    still = {f"augment.{name}": 0.0 for name in ("rotate", "stretch", "color", "gray")}
    run = tiny_run(
        "unused",
        {"model.towers": "shared", "augment.flip": "none", "augment.min_scale": 1.0} | still,
    )
    step, state, batch = prepared(run, 1, config)
    state, first = step(state, {}, batch)
    _, second = step(state, {}, batch)
    fallen = float(first["loss"] - second["loss"])
    assert fallen == pytest.approx(0.03 * float(first["optim/grad_norm"]) ** 2, rel=0.1)


def test_state_is_donated_compiled_once_and_nothing_moves_by_itself():
    """Five steps with the transfer guard up: old buffers are gone, one trace, rising step count."""
    compiled = []
    record = lambda event, seconds, **kw: compiled.append(event)  # noqa: E731
    run = tiny_run("unused", LOSSES["infonce"])
    step, state, batch = prepared(run, 8)
    jax.block_until_ready((state, batch))
    first = state
    jax.monitoring.register_event_duration_secs_listener(record)
    try:
        with jax.transfer_guard("disallow"):
            state, metrics = step(state, {}, batch)
            assert any("compile" in event for event in compiled)
            compiled.clear()
            for _ in range(4):
                state, metrics = step(state, {}, batch)
    finally:
        jax.monitoring.unregister_event_duration_listener(record)
    assert compiled == []
    assert int(state.step) == 5
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(first))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves((state, metrics, batch)))


def test_randomness_depends_on_seed_and_step_alone():
    """Equal (seed, step) gives equal losses from fresh states, another step gives another."""
    run = tiny_run("unused", LOSSES["infonce"])

    def loss_at(number: int) -> float:
        step, state, batch = prepared(run, 8)
        moved = jax.device_put(np.int32(number), state.step.sharding)
        return float(step(dataclasses.replace(state, step=moved), {}, batch)[1]["loss"])

    assert loss_at(3) == loss_at(3) != loss_at(4)


def test_a_memory_counts_from_its_step_on():
    """Before `loss.memory_after` the loss is that of a run without a memory, then it is not."""
    losses = {}
    for changes in ({}, {"loss.memory": 32, "loss.memory_after": "2 steps"}):
        step, state, batch = prepared(tiny_run("unused", changes), 1)
        losses[len(changes)] = []
        for _ in range(3):
            state, metrics = step(state, {}, batch)
            losses[len(changes)].append(float(metrics["loss"]))
    assert losses[2][:2] == pytest.approx(losses[0][:2], rel=1e-5)
    assert losses[2][2] > losses[0][2] + 0.1  # more candidates to be told from
    assert int(state.memory.filled) == 32


def test_bfloat16_activations_keep_float32_parameters_and_embeddings():
    """With model.dtype=bfloat16 a step is finite and leaves float32; its loss differs a little."""
    found = {}
    for dtype in ("float32", "bfloat16"):
        run = tiny_run("unused", LOSSES["infonce"] | {"model.dtype": dtype})
        step, state, batch = prepared(run, 1)
        state, metrics = step(state, {}, batch)
        found[dtype] = float(metrics["loss"])
        floats = [x for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.floating)]
        assert {x.dtype for x in floats} == {jnp.dtype("float32")}
        assert all(np.isfinite(x).all() for x in floats)
        mesh = sharding.make_mesh(jax.devices()[:1])
        embed = make_embed_step(run, dual.define(run.model, image_size=32), mesh=mesh)
        vectors = embed(state.params, state.model_state, batch["photo"], "photo")
        assert vectors.dtype == jnp.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)
    assert 0 < abs(found["bfloat16"] - found["float32"]) < 0.1 * found["float32"]


def test_the_first_state_is_drawn_from_the_seed():
    """One seed gives one state, bit for bit, at step 0; another seed gives other parameters."""
    runs = [tiny_run("unused", {"seed": seed}) for seed in (1, 1, 2)]
    one, again, other = (
        host(make_init(run, optimizer_of(run, PLAIN), classes=3)()) for run in runs
    )
    assert isinstance(one, TrainState)
    assert one.step == 0
    jax.tree.map(np.testing.assert_array_equal, one, again)
    kernel = lambda state: state.params["heads"]["sketch"]["out"]["kernel"]  # noqa: E731
    assert np.abs(kernel(one) - kernel(other)).max() > 0.01
