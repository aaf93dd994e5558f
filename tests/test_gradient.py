"""Two passes, chunk by chunk, give the gradient of one pass over the whole batch."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_step import PLAIN, draw_batch, host, prepared
from tiny import metric_lines, tiny_run

from sbir_jax import losses, memory, sharding
from sbir_jax.backbones import ViTSpec
from sbir_jax.config import ConfigError
from sbir_jax.data import augment
from sbir_jax.distances import unit
from sbir_jax.gradient import one_pass, two_pass
from sbir_jax.loss_config import LossConfig
from sbir_jax.mining import Ids
from sbir_jax.models import dual
from sbir_jax.train import train

PAIRS, FEATURES, DIM = 32, 12, 8


def embed(params, sketch, photo, key):
    """A network without BatchNorm, with some shared weights; nothing is drawn from the key."""
    sides = [
        unit(jnp.tanh(x @ params["own"][side]) @ params["both"])
        for side, x in (("sketch", sketch), ("photo", photo))
    ]
    return tuple(sides), {}


def problem(config: LossConfig):
    """(parameters, images, loss) of a batch of five classes, with a filled memory."""
    rng = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)  # noqa: E731
    params = {
        "own": {side: draw(FEATURES, 6) for side in ("sketch", "photo")},
        "both": draw(6, DIM),
        "loss": losses.init_params(config, jax.random.key(0), classes=5, dim=DIM),
    }
    images = draw(PAIRS, FEATURES), draw(PAIRS, FEATURES)
    label = jnp.asarray(rng.integers(0, 5, PAIRS), jnp.int32)
    ids = Ids(label, jnp.arange(PAIRS, dtype=jnp.int32))
    past = memory.push(memory.init(PAIRS, DIM), *(unit(draw(PAIRS, DIM)) for _ in "ab"), ids, ids)

    def loss(params, embeddings):
        return losses.cross_modal(
            config, *embeddings, ids, ids, key=jax.random.key(1), params=params["loss"], memory=past
        )

    return params, images, loss


CONFIGS = {
    "infonce": {"name": "infonce", "infonce.learn_temperature": True},
    "mined": {"name": "triplet + 0.5*category", "pairs": "joint"},
}


def loss_config(changes: dict) -> LossConfig:
    return tiny_run("unused", {f"loss.{name}": value for name, value in changes.items()}).loss


@pytest.mark.parametrize(
    ("name", "devices", "chunk"),
    [("infonce", 1, 8), ("infonce", 8, 16), ("mined", 1, 16), ("mined", 8, 8)],
)
def test_two_passes_equal_one(name, devices, chunk):
    """Loss, figures, embeddings in their order, and gradients of network and loss, to float32
    rounding, whatever the size of the chunks and the number of devices."""
    params, images, loss = problem(loss_config(CONFIGS[name]))
    key = jax.random.key(2)
    expected = host(jax.jit(functools.partial(one_pass, embed, loss))(params, images, key))
    assert all(np.abs(g).max() > 1e-4 for g in jax.tree.leaves(expected[2]))
    mesh = sharding.make_mesh(jax.devices()[:devices])
    images = sharding.put_rows(mesh, host(images))
    chunked = functools.partial(two_pass, embed, loss, chunk=chunk, mesh=mesh)
    found = host(jax.jit(chunked)(params, images, key))
    for (path, one), two in zip(
        jax.tree_util.tree_leaves_with_path(expected), jax.tree.leaves(found), strict=True
    ):
        tolerance = 2e-6 * np.abs(one).max() + 1e-7
        np.testing.assert_allclose(two, one, rtol=0, atol=tolerance, err_msg=str(path))


def test_chunks_take_rows_of_every_device_and_come_back():
    """Eight devices with four rows each, chunks of 16: the first is the first two rows of each."""
    mesh = sharding.make_mesh()
    rows = sharding.put_rows(mesh, np.arange(32))
    chunks = jax.jit(lambda x: sharding.to_chunks(mesh, x, 16))(rows)
    first = [4 * device + i for device in range(8) for i in range(2)]
    np.testing.assert_array_equal(chunks, [first, [row + 2 for row in first]])
    assert {shard.data.shape for shard in chunks.addressable_shards} == {(2, 2)}
    back = jax.jit(lambda x: sharding.from_chunks(mesh, sharding.to_chunks(mesh, x, 16)))(rows)
    np.testing.assert_array_equal(back, np.arange(32))


CHUNKED = {
    "train.chunk": 8,
    "model.dropout": 0.5,
    "model.towers": "stems",
    "loss.name": "triplet + 0.5*category",
    "loss.triplet.miner": "batch_hard",
    "loss.memory": 24,
}


def reference(run, state, batch):
    """((loss, figures), gradient, statistics) of two chunks of 8, by plain differentiation of the
    embeddings of both, with BatchNorm and dropout for each of its own."""
    graphdef = dual.define(run.model, image_size=run.data.image_size)
    key = jax.random.fold_in(jax.random.key(run.seed), state.step)
    augment_key, dropout_key, mining_key = jax.random.split(key, 3)
    images = augment.augment_pair(
        augment_key, batch["sketch"], batch["photo"], size=run.data.image_size, config=run.augment
    )

    def objective(params):
        parts = [
            dual.apply_train(
                graphdef,
                params["model"],
                state.model_state,
                *(side[8 * i : 8 * i + 8] for side in images),
                key=jax.random.fold_in(dropout_key, i),
            )
            for i in range(2)
        ]
        sides = [jnp.concatenate(side) for side in zip(*(part[0] for part in parts), strict=True)]
        found = losses.cross_modal(
            run.loss, *sides, batch["sketch_ids"], batch["photo_ids"], key=mining_key,
            step=state.step, params=params["loss"], memory=state.memory,
        )  # fmt: skip
        return found[0], (found[1], [part[1] for part in parts])

    params = {"model": state.params, "loss": state.loss_params}
    (loss, (figures, states)), grads = jax.value_and_grad(objective, has_aux=True)(params)
    return loss, figures, grads, jax.tree.map(lambda *x: sum(x) / len(x), *states)


@pytest.mark.usefixtures("small_model")
def test_a_step_in_chunks_is_the_step_with_statistics_and_dropout_by_chunk():
    """Loss, figures, gradients (by a plain step at rate 1) and BatchNorm's statistics are those of
    differentiating through both chunks at once: same images, same dropout in both passes."""
    run = tiny_run("unused", CHUNKED)
    step, state, batch = prepared(run, 1, PLAIN)
    before = host(state)
    wanted = host(jax.jit(functools.partial(reference, run))(before, draw_batch()))
    after, metrics = step(state, {}, batch)
    loss, figures, grads, statistics = wanted
    assert float(metrics["loss"]) == pytest.approx(float(loss), rel=1e-5)
    for name, value in figures.items():
        assert float(metrics[f"health/{name}"]) == pytest.approx(float(value), rel=1e-4, abs=1e-6)
    found = {
        "model": jax.tree.map(np.subtract, before.params, host(after.params)),
        "loss": jax.tree.map(np.subtract, before.loss_params, host(after.loss_params)),
    }
    for (path, one), two in zip(
        jax.tree_util.tree_leaves_with_path((grads, statistics)),
        jax.tree.leaves((found, host(after.model_state))),
        strict=True,
    ):
        tolerance = 2e-5 * np.abs(one).max() + 1e-6
        np.testing.assert_allclose(two, one, rtol=0, atol=tolerance, err_msg=str(path))
    assert all(np.abs(g).max() > 0 for g in jax.tree.leaves(grads))


def test_a_step_of_a_vit_in_chunks_is_the_whole_step(monkeypatch):
    """Without BatchNorm, chunks change nothing: metrics, parameters and pixel statistics after a
    step are those of one pass, on eight devices."""
    spec = ViTSpec(patch=8, width=16, depth=1, heads=2, image_size=32)
    monkeypatch.setattr(dual, "model_spec", lambda config, image_size: spec)
    found = []
    for chunk in (0, 8):
        changes = {"model.towers": "shared", "train.chunk": chunk}
        step, state, batch = prepared(tiny_run("unused", changes), 8)
        found.append(host(step(state, {}, batch)))
    for (path, one), two in zip(
        jax.tree_util.tree_leaves_with_path(found[0]), jax.tree.leaves(found[1]), strict=True
    ):
        tolerance = 1e-5 * np.abs(one).max() + 1e-6
        np.testing.assert_allclose(two, one, rtol=0, atol=tolerance, err_msg=str(path))


def test_chunks_need_less_memory():
    """Of a network with wide layers, chunks of a quarter of the batch take under half of the
    scratch memory of one pass."""
    params, images, loss = problem(loss_config(CONFIGS["infonce"]))
    params |= {"wide": jnp.linspace(0.5, 2.0, 2048)}

    def wide(params, sketch, photo, key):
        deep = lambda x: jnp.sin(jnp.cos(x[..., None] * params["wide"]) * params["wide"])  # noqa: E731
        return embed(params, deep(sketch).mean(-1), deep(photo).mean(-1), key)

    mesh, key, scratch = sharding.make_mesh(jax.devices()[:1]), jax.random.key(0), {}
    for name, gradient in (
        ("one", one_pass),
        ("two", functools.partial(two_pass, chunk=8, mesh=mesh)),
    ):
        compiled = jax.jit(functools.partial(gradient, wide, loss)).lower(params, images, key)
        scratch[name] = compiled.compile().memory_analysis().temp_size_in_bytes
    assert scratch["two"] < 0.5 * scratch["one"]


@pytest.mark.usefixtures("small_model")
def test_a_run_in_chunks_on_eight_devices(tiny_data, tmp_path, capfd):
    """A whole run in chunks of a pair a device logs finite losses and says what BatchNorm sees."""
    run = tiny_run(
        tiny_data, {"train.chunk": 8, "data.batch_size": 16, "train.duration": "2 steps"}
    )
    train(run, tmp_path)
    lines = [line["loss"] for line in metric_lines(tmp_path) if line["kind"] == "train"]
    assert len(lines) == 2
    assert np.isfinite(lines).all()
    assert "BatchNorm's statistics are of 8 pairs (train.chunk)" in capfd.readouterr().err


def test_chunks_that_do_not_fit_are_refused(tiny_data, tmp_path):
    """A chunk must divide the batch, and divide over the devices: one line with both settings."""
    with pytest.raises(ConfigError, match=r"^config.train.chunk=3: must divide .*batch_size=8$"):
        tiny_run("unused", {"train.chunk": 3})
    run = tiny_run(tiny_data, {"train.chunk": 4})
    with pytest.raises(ConfigError, match=r"^config.train.chunk=4: must divide over 8 devices$"):
        train(run, tmp_path / "run")
    assert not (tmp_path / "run").exists()
