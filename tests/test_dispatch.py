"""Several steps in one dispatch train, log, stop and continue as single steps do."""

from __future__ import annotations

import collections
import dataclasses
import json
import os
import re
import signal

import jax
import numpy as np
import pytest
from test_step import draw_batch, optimizer_of
from tiny import assert_same_run, metric_lines, small_backbone, stored, tiny_run

from sbir_jax import sharding
from sbir_jax import train as training
from sbir_jax.config import ConfigError
from sbir_jax.data.pipeline import images_of, make_feed
from sbir_jax.data.source import open_dataset
from sbir_jax.dispatch import Dispatches
from sbir_jax.dry_run import dry_run
from sbir_jax.interrupt import Stopped
from sbir_jax.models import dual
from sbir_jax.plan import compiled_step, make_plan
from sbir_jax.step import make_init, make_train_step
from sbir_jax.train import TrainingDiverged, train

pytestmark = pytest.mark.usefixtures("small_model")


@pytest.fixture(scope="module", autouse=True)
def cheaply():
    """Half the time to compile."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


# Ten steps, validated after 5 and 10, and a sampler that learns from it; all that is kept from step
# to step, and all that depends on the step. SGD, since AdamW would make whole steps of rounding
# errors.
SINGLE = {
    "data.sampler": "confusable",
    "loss.name": "triplet",
    "loss.triplet.miner": "random, batch_hard@40%",
    "loss.memory": 20,
    "loss.memory_after": "2 steps",
    "optim.ema": 0.3,
    "optim.name": "sgd",
    "optim.lr": 0.05,
    "train.duration": "10 steps",
    "train.eval_every": "5 steps",
}
PAIRED = SINGLE | {"train.steps_per_dispatch": 2}
# XLA fuses the body of a loop otherwise than a step alone.
NEAR = {"rtol": 2e-4, "atol": 2e-5}


def watched(patch) -> tuple[list[int], list[str]]:
    """How many steps each dispatch takes from now on, and the line of each compilation."""
    sent, lines = [], []

    def compiled(*arguments, make=training.compiled_step):
        call, s_at_peak, words = make(*arguments)
        lines.append(words)

        def step(state, resident, batches):
            sent.append(len(batches["sketch"]))
            after = call(state, resident, batches)
            if len(sent) == 1:  # a checkpoint that is being saved may still hold later ones
                assert all(x.is_deleted() for x in jax.tree.leaves(state))
            return after

        return step, s_at_peak, words

    patch.setattr(training, "compiled_step", compiled)
    return sent, lines


@pytest.fixture(scope="module")
def paired(tiny_data, tmp_path_factory, mesh):
    """(run, workdir) of `PAIRED` on one device, its dispatches, the line of its compilation, and
    how often each program was compiled; only read it."""
    run, workdir, counts = tiny_run(tiny_data, PAIRED), tmp_path_factory.mktemp("paired"), []

    def listen(event: str, seconds: float, **details):
        if event == "/jax/core/compile/backend_compile_duration":
            counts.append(details["fun_name"])

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        with pytest.MonkeyPatch.context() as patch, small_backbone():
            sent, told = watched(patch)
            train(run, workdir, mesh=mesh)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    return run, workdir, sent, told[0], collections.Counter(counts)


def assert_near_run(one, other) -> None:
    """Metrics of every step and every stored array agree to rounding; what is counted exactly."""
    for found, wanted in zip(metric_lines(one), metric_lines(other), strict=True):
        assert found.keys() == wanted.keys()
        assert (found.pop("step"), found.pop("kind")) == (wanted.pop("step"), wanted.pop("kind"))
        for name, value in found.items():
            np.testing.assert_allclose(value, wanted[name], **NEAR, err_msg=name)
    found, wanted = stored(one), stored(other)
    assert found.keys() == wanted.keys()
    for path, value in found.items():
        np.testing.assert_allclose(value, wanted[path], **NEAR, err_msg=path)


@pytest.mark.parametrize(
    "taken, groups",
    [
        (0, "1-2 3-4 5 6-7 8-9 10 11-12 13"),
        (2, "3-4 5 6-7 8-9 10 11-12 13"),
        (3, "4 5 6-7 8-9 10 11-12 13"),
        (10, "11-12 13"),
        (12, "13"),
        (13, ""),
    ],
)
def test_steps_go_together_up_to_the_next_validation(taken, groups):
    """Thirteen steps in pairs, validated every five, by hand, from wherever a run continues."""
    dispatches = Dispatches(13, 5, 2)
    found = [f"{s[0]}-{s[-1]}" if len(s) > 1 else f"{s[0]}" for s in dispatches.after(taken)]
    assert " ".join(found) == groups


def test_pairs_of_steps_train_as_single_ones(paired, tiny_data, tmp_path, mesh):
    """With memory, average, scheduled miner and rate, and what loss and sampler learn: metrics of
    every step and all that is saved agree with single steps; two programs, each compiled once."""
    _, workdir, sent, words, compilations = paired
    with pytest.MonkeyPatch.context() as patch:
        alone, told = watched(patch)
        train(tiny_run(tiny_data, SINGLE), tmp_path, mesh=mesh)
    assert_near_run(workdir, tmp_path)
    assert (sent, alone) == ([2, 2, 1, 2, 2, 1], [1] * 10)
    assert compilations["jit(several)"] == 2
    # The arithmetic of one step, however many go together.
    [work], [reference] = (re.findall(r"([\d.]+) GFLOP", line) for line in (words, told[0]))
    assert float(work) == pytest.approx(float(reference), abs=0.1)
    assert re.match(r"2 steps: .*; the step: .* GFLOP a step; peak", words)


def test_a_step_that_goes_alone_is_no_loop():
    """Its program has the loops, functions and convolutions of the step by itself: in an
    unrolled loop of one the quickstart took two CPU cores 12 times as long."""
    run, counts = tiny_run("unused"), []
    optimizer, graphdef = optimizer_of(run, run.optim), dual.define(run.model, image_size=32)
    mesh, single = sharding.make_mesh(jax.devices()[:1]), draw_batch()
    state = sharding.put_copy(mesh, make_init(run, optimizer, classes=3)())
    for stacked, batch in ((False, single), (True, jax.tree.map(lambda x: x[None], single))):
        step = make_train_step(run, graphdef, optimizer, state, stacked=stacked)
        words = re.findall(
            r"stablehlo\.\w+|func\.func|call @", step.lower(state, {}, batch).as_text()
        )
        counts.append(collections.Counter(words))
    alone, dispatched = counts
    for word in ("stablehlo.while", "func.func", "call @", "stablehlo.convolution"):
        assert dispatched[word] == alone[word] > 0, word


def test_eight_devices_take_pairs_of_steps_as_one_does(paired, tiny_data):
    """The metrics of the first four steps, in two dispatches."""
    run, workdir, *_ = paired
    mesh = sharding.make_mesh()
    plan = make_plan(run, open_dataset(run.data.name, run.data.dir), mesh)
    plan = dataclasses.replace(plan, dispatches=Dispatches(4, 4, 2))
    feed = plan.feed.batches(0, 4, together=plan.dispatches.together)
    state, call = sharding.put_like(plan.like, plan.init()), None
    lines = [line for line in metric_lines(workdir) if line["kind"] == "train"][:4]
    for batches, wanted in zip(feed, (lines[:2], lines[2:]), strict=True):
        if call is None:
            call, *_ = compiled_step(plan, batches, 0)
        state, metrics = call(state, plan.feed.resident, batches)
        for place, line in enumerate(wanted):
            for name, values in metrics.items():
                assert values[place] == pytest.approx(line[name], rel=1e-3, abs=1e-4), name
    assert int(state.step) == 4


def test_pace_is_of_all_steps_that_went_together(paired):
    """Seconds a step times images a second are the images of a batch, whether it went alone or
    not, and a step that was seen with the one before has no pace of its own."""
    lines = [json.loads(line) for line in (paired[1] / "metrics.jsonl").read_text().splitlines()]
    lines = {line["step"]: line for line in lines if line["kind"] == "train"}
    for step in (1, 3, 5, 6, 8, 10):
        pace = lines[step]["perf/images_per_s"] * lines[step]["perf/s_per_step"]
        assert pace == pytest.approx(16)
    assert not any("perf/images_per_s" in lines[step] for step in (2, 4, 7, 9))


def test_asked_to_stop_it_finishes_the_dispatch_and_continues_bit_equal(
    paired, tmp_path, mesh, monkeypatch, capfd
):
    """SIGTERM while steps 6 and 7 are under way: saved at 7, then equal to the other run. Step 4 of
    a profile is traced with step 3, which went with it."""
    run, workdir, *_ = paired
    with monkeypatch.context() as patch:
        sent, _ = watched(patch)
        stopping = lambda sent=sent: len(sent) == 4 and os.kill(os.getpid(), signal.SIGTERM)  # noqa: E731
        after = training.Profile.after
        patch.setattr(training.Profile, "after", lambda *given: (after(*given), stopping()))
        with pytest.raises(Stopped, match="SIGTERM at step 7, which is saved"):
            train(run, tmp_path, mesh=mesh, profile=(4, 4))
    assert metric_lines(tmp_path)[-1]["step"] == 7
    assert f"steps 3 to 4 are traced in {tmp_path}/profile" in capfd.readouterr().err
    train(run, tmp_path, mesh=mesh)
    assert_same_run(tmp_path, workdir)


def test_the_step_that_diverged_is_named_and_its_batch_kept(paired, tmp_path, mesh, monkeypatch):
    """Step 4 is the second of its dispatch. If its loss is NaN, the error names it, its batch is
    what is kept, and the metrics of the steps before it are written."""
    run, workdir, *_ = paired
    sent = []

    def compiled(*arguments, make=training.compiled_step):
        call, *others = make(*arguments)

        def step(*given):
            sent.append(given)
            state, metrics = call(*given)
            if len(sent) == 2:
                metrics["loss"] = metrics["loss"].at[1].set(np.nan)
            return state, metrics

        return step, *others

    monkeypatch.setattr(training, "compiled_step", compiled)
    with pytest.raises(TrainingDiverged, match=r"^loss is nan at step 4; .*diverged-step-4; "):
        train(run, tmp_path, mesh=mesh)
    assert metric_lines(tmp_path) == metric_lines(workdir)[:3]
    feed = make_feed(open_dataset(run.data.name, run.data.dir), run.data, seed=0, mesh=mesh)
    [batch] = feed.batches(3, 4)  # the fourth
    with np.load(tmp_path / "diverged-step-4/batch.npz", allow_pickle=False) as held:
        for side, images in zip(("sketch", "photo"), images_of(feed.resident, batch), strict=True):
            np.testing.assert_array_equal(held[side], images)
            np.testing.assert_array_equal(held[f"{side}_label"], batch[f"{side}_ids"].label)


@pytest.mark.parametrize("cache", ["device", "none"])
def test_a_feed_stacks_the_batches_of_a_dispatch(tiny_data, cache):
    """Those of steps 3 to 9, in threes and what is left, are the single ones in order; each of
    eight devices has its row of every one."""
    data = dataclasses.replace(tiny_run(tiny_data).data, cache=cache)
    feed = make_feed(open_dataset(data.name, data.dir), data, seed=0, mesh=sharding.make_mesh())
    single = iter(list(feed.batches(3, 10)))
    for count, batches in zip(
        (3, 3, 1), feed.batches(3, 10, together=lambda step: 3 if step < 9 else 1), strict=True
    ):
        for place in range(count):
            jax.tree.map(
                lambda many, one, place=place: np.testing.assert_array_equal(many[place], one),
                batches,
                next(single),
            )
        for leaf in jax.tree.leaves(batches):
            assert {s.data.shape[:2] for s in leaf.addressable_shards} == {(count, 1)}


def test_a_dry_run_takes_what_training_sends(tiny_data, mesh, capsys):
    """Two dispatches of two steps, and the shapes are of one batch."""
    found = dry_run(tiny_run(tiny_data, {"train.steps_per_dispatch": 2}), mesh=mesh)
    assert len(set(found["loss"])) == 4
    out = capsys.readouterr().out
    for words in ("2 batches", "uint8[8, 36, 36, 3]", "2 steps: compiled", "4 steps on these"):
        assert words in out


@pytest.mark.parametrize(
    "changes, words",
    [
        ({}, r"7: at most the 2 steps to the next validation \(config.train.eval_every\)"),
        ({"train.eval_every": "100%"}, r"7: at most the 6 steps"),
    ],
)
def test_a_dispatch_that_could_never_be_whole_is_refused(tiny_data, tmp_path, mesh, changes, words):
    """One line with the setting, its value and the largest, before anything is written."""
    run = tiny_run(tiny_data, changes | {"train.steps_per_dispatch": 7})
    with pytest.raises(ConfigError, match=rf"^config.train.steps_per_dispatch={words}"):
        train(run, tmp_path / "run", mesh=mesh)
    assert not (tmp_path / "run").exists()


def test_no_step_in_a_dispatch_is_refused(tiny_data):
    """The valid values are named."""
    with pytest.raises(ConfigError, match=r"^config.train.steps_per_dispatch=0: valid from 1"):
        tiny_run(tiny_data, {"train.steps_per_dispatch": 0})
