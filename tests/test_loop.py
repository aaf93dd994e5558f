"""The training loop leaves the device nothing to wait for, and can be traced."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import gzip
import json

import jax
import pytest
from front_door import error_line
from tiny import metric_lines, stored, tiny_run

from sbir_jax import loss_config, optim, sharding
from sbir_jax.compile import compile_ahead
from sbir_jax.config import ConfigError
from sbir_jax.data.pipeline import make_feed
from sbir_jax.data.source import open_dataset
from sbir_jax.models import dual
from sbir_jax.optim import everything
from sbir_jax.step import draw, make_init, make_train_step
from sbir_jax.throughput import Throughput
from sbir_jax.train import train
from sbir_jax.writer import MetricWriter

pytestmark = pytest.mark.usefixtures("small_model")


@pytest.mark.parametrize("cache, together", [("device", 1), ("device", 2), ("host", 1)])
def test_the_loop_moves_nothing_to_the_device_unasked(
    cache, together, tiny_data, tmp_path, mesh, monkeypatch
):
    """From the first step on, validations aside, every transfer to the device is one that the
    code asks for: with implicit ones forbidden the run goes through."""
    allowed = "allow"

    def start(self, really=Throughput.start, **settings):
        nonlocal allowed
        really(self, **settings)
        allowed = "disallow"
        jax.config.update("jax_transfer_guard_host_to_device", allowed)

    @contextlib.contextmanager
    def paused(self, really=Throughput.paused):
        with really(self), jax.transfer_guard_host_to_device("allow"):
            yield

    monkeypatch.setattr(Throughput, "start", start)
    monkeypatch.setattr(Throughput, "paused", paused)
    try:
        changes = {"data.cache": cache, "train.steps_per_dispatch": together}
        train(tiny_run(tiny_data, changes), tmp_path, mesh=mesh)
    finally:
        jax.config.update("jax_transfer_guard_host_to_device", "allow")
    assert allowed == "disallow"
    assert len(metric_lines(tmp_path)) == 9


def test_the_step_is_compiled_once_and_a_validation_once(tiny_data, tmp_path, mesh):
    """Six steps and three validations: one program for the step, one for each side's embeddings
    and batch shape, and after the first validation none at all."""
    compiled, at_write = collections.Counter(), {}

    def listen(event: str, seconds: float, **details):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled[details["fun_name"]] += 1

    def write(self, step, values, kind="train", really=MetricWriter.write, **how):
        at_write[(kind, step)] = compiled.copy()
        return really(self, step, values, kind, **how)

    jax.clear_caches()
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(MetricWriter, "write", write)
            train(tiny_run(tiny_data), tmp_path, mesh=mesh)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert compiled["jit(several)"] == 1
    assert compiled["jit(embed)"] == 2
    assert at_write[("val", 2)] == at_write[("val", 6)]


def test_the_state_is_really_donated(tiny_data, mesh):
    """The compiled step reuses every byte of the state, and the old one is gone after a step."""
    run = tiny_run(tiny_data, {"loss.memory": 16, "optim.ema": 0.9})
    run = dataclasses.replace(
        run, loss=loss_config.in_steps(run.loss, total=6, batch_size=8, epoch_size=40)
    )
    dataset = open_dataset(run.data.name, run.data.dir)
    feed = make_feed(dataset, run.data, seed=0, mesh=mesh)
    params, _, loss_params = jax.eval_shape(lambda: draw(run, classes=5))
    optimizer = optim.make_optimizer(run.optim, lambda step: 1e-3, everything(params, loss_params))
    graphdef = dual.define(run.model, image_size=run.data.image_size)
    state = sharding.put_copy(mesh, make_init(run, optimizer, classes=5)())
    step, batch = make_train_step(run, graphdef, optimizer, state), next(feed.batches(0, 1))
    compiled = compile_ahead(step, state, feed.resident, batch).call
    arrays = jax.tree.leaves(state)
    reused = compiled.memory_analysis().alias_size_in_bytes
    assert reused >= sum(x.nbytes for x in arrays)
    jax.block_until_ready(compiled(state, feed.resident, batch))
    assert all(x.is_deleted() for x in arrays)
    assert not any(x.is_deleted() for x in jax.tree.leaves((feed.resident, batch)))


def test_pace_and_memory_are_in_the_record(finished):
    """Each lap says images/s, MFU, waiting and memory under perf/, and nothing else does."""
    _, workdir = finished
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    names = {"images_per_s", "mfu", "wait_share", "s_per_step", "memory_mib", "memory_peak_mib"}
    first = {name: value for name, value in lines[0].items() if name.startswith("perf/")}
    assert set(first) == {f"perf/{name}" for name in names}
    assert first["perf/images_per_s"] == pytest.approx(16 / first["perf/s_per_step"])
    assert 0 < first["perf/mfu"] < 1
    assert 50 < first["perf/memory_mib"] <= first["perf/memory_peak_mib"] < 1 << 20


# Traces


def test_a_profile_holds_the_steps_asked_for(finished, tiny_data, tmp_path, mesh, capfd):
    """--profile=3:4: steps 3 and 4 are in the trace and no others; what is trained is the same."""
    train(tiny_run(tiny_data), tmp_path, mesh=mesh, profile=(3, 4))
    (path,) = (tmp_path / "profile").rglob("*.trace.json.gz")
    assert list(path.parent.glob("*.xplane.pb"))
    events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    steps = {e["args"]["step_num"] for e in events if e.get("name") == "train" and "args" in e}
    assert steps == {"3", "4"}
    said = capfd.readouterr().err
    assert f"steps 3 to 4 are traced in {tmp_path}/profile; to look: pip install xprof" in said
    _, workdir = finished
    for name, value in stored(workdir).items():
        assert (stored(tmp_path)[name] == value).all()


def test_a_profile_outside_the_run_is_one_line(tiny_data, tmp_path, mesh):
    """Steps beyond the end are refused before the first step."""
    with pytest.raises(ConfigError, match=r"^--profile=5:7: this run takes steps 1 to 6$"):
        train(tiny_run(tiny_data), tmp_path, mesh=mesh, profile=(5, 7))
    assert metric_lines(tmp_path) == []


@pytest.mark.parametrize("text", ["10", "15:10", "0:3", "a:b", "1:2:3", "-1:3"])
def test_a_profile_that_is_no_range_is_one_line(text, tmp_path, capsys):
    """The flag, the value and how it is written."""
    line = error_line(
        capsys,
        "train",
        "--config=configs/quickstart.py",
        f"--workdir={tmp_path / 'run'}",
        f"--profile={text}",
    )
    assert line.endswith(f"--profile={text}: write the first and the last step, as in 10:15")
    assert not (tmp_path / "run").exists()
