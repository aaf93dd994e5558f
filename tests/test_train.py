"""Runs: stopped and continued they end where an uninterrupted one ends; and every way to start."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from tiny import TINY, assert_same_run, metric_lines, stored, tiny_run, tiny_tree

from sbir_jax import sharding
from sbir_jax.checkpoint import Checkpoints
from sbir_jax.checkpoint_errors import CheckpointError
from sbir_jax.config import ConfigError
from sbir_jax.data import pipeline, resident
from sbir_jax.models import dual
from sbir_jax.train import TrainingDiverged, train

pytestmark = pytest.mark.usefixtures("small_model")


class Killed(Exception):
    """Stands for whatever stops a process between two steps."""


def stop_before(step: int, monkeypatch) -> None:
    """Makes every feed fail when it is asked for batch number `step`, counted from 0."""

    def failing(feed, start, stop, batches=pipeline.Feed.batches, **kw):
        for number, batch in zip(range(start, stop), batches(feed, start, stop, **kw), strict=True):
            if number == step:
                raise Killed
            yield batch

    monkeypatch.setattr(pipeline.Feed, "batches", failing)


@pytest.mark.parametrize("cache", ["device", "host", "none"])
def test_stopped_and_continued_equals_uninterrupted(finished, tmp_path, mesh, monkeypatch, cache):
    """Stopped after step 5, continued from the checkpoint of 4: arrays and metrics bit-equal."""
    run, workdir = finished
    run = dataclasses.replace(run, data=dataclasses.replace(run.data, cache=cache))
    with monkeypatch.context() as patch:
        stop_before(5, patch)
        with pytest.raises(Killed):
            train(run, tmp_path / "run", mesh=mesh)
    before = metric_lines(tmp_path / "run")
    assert (before[-1]["step"], before[-1]["kind"]) == (4, "val")
    train(run, tmp_path / "run", mesh=mesh)
    assert_same_run(tmp_path / "run", workdir)


def test_images_split_over_devices_train_as_copies(tiny_data, tmp_path, monkeypatch):
    """Six steps on two devices with half of the images on each: the losses of whole copies."""
    mesh = sharding.make_mesh(jax.devices()[:2])
    losses = {}
    for words, limit in (("a copy on each", 1 << 20), ("split over 2 devices", 36 * 36 * 50)):
        monkeypatch.setattr(resident, "budget", lambda mesh, limit=limit: limit)
        workdir = tmp_path / words
        train(tiny_run(tiny_data), workdir, mesh=mesh)
        losses[words] = [line["loss"] for line in metric_lines(workdir) if "loss" in line]
    copies, parts = losses.values()
    assert len(copies) == 6
    np.testing.assert_allclose(parts, copies, rtol=1e-5)


# Everything that is kept from step to step, and all that depends on the step.
KEEPING = {
    "optim.freeze": "stems/*",
    "optim.ema": 0.3,
    "loss.name": "infonce + 0.5*category + triplet",
    "loss.infonce.learn_temperature": True,
    "loss.triplet.miner": "semi_hard, batch_hard@50%",
    "loss.matryoshka": "4",
    "loss.memory": 20,
    "loss.memory_after": "2 steps",
}


def test_what_is_learnt_and_remembered_continues_too(tiny_data, tmp_path, mesh, monkeypatch):
    """With learnt temperature and class vectors, a memory, a moving average beside frozen
    stems, and a miner that takes over in the middle: stopped after step 5 and continued, the run is
    bit-equal to one left alone."""
    run = tiny_run(tiny_data, KEEPING)
    train(run, tmp_path / "alone", mesh=mesh)
    with monkeypatch.context() as patch:
        stop_before(5, patch)
        with pytest.raises(Killed):
            train(run, tmp_path / "run", mesh=mesh)
    train(run, tmp_path / "run", mesh=mesh)
    assert_same_run(tmp_path / "run", tmp_path / "alone")
    kept = stored(tmp_path / "run")
    assert any(path.startswith("ema/params/trunks") for path in kept)
    assert kept["loss_params/infonce/log_temperature"] != np.float32(np.log(0.1))
    assert kept["loss_params/category/weights"].shape == (5, 8)
    assert kept["memory/filled"] == 20
    assert np.all(kept["memory/sketch_ids/label"] >= 0)
    np.testing.assert_allclose(np.linalg.norm(kept["memory/sketch"], axis=1), 1, atol=1e-5)


def test_stopped_before_the_first_checkpoint_starts_again(finished, tmp_path, mesh, monkeypatch):
    """Without a checkpoint the run begins anew, its first metrics are not kept twice."""
    run, workdir = finished
    with monkeypatch.context() as patch:
        stop_before(1, patch)
        with pytest.raises(Killed):
            train(run, tmp_path / "run", mesh=mesh)
    train(run, tmp_path / "run", mesh=mesh)
    assert_same_run(tmp_path / "run", workdir)


def contents(workdir: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(workdir)): p.read_bytes()
        for p in sorted(workdir.rglob("*"))
        if p.is_file() and "tensorboard" not in p.parts
    }


def test_a_finished_run_started_again_does_nothing(copy, mesh, capfd):
    """Metrics, config and checkpoints stay as they are, byte for byte."""
    run, workdir = copy
    before = contents(workdir)
    summary = train(run, workdir, mesh=mesh)
    assert contents(workdir) == before
    assert "this run is finished; nothing to do" in capfd.readouterr().err
    scores = [line for line in metric_lines(workdir) if line["kind"] == "val"]
    assert summary["step"] == 6
    best = max(line["category/mAP@all"] for line in scores)
    assert summary["validation"]["category/mAP@all"] == best


def test_other_settings_are_refused_by_name(copy, mesh):
    """Each changed setting is named with its new and old value, in one line; nothing is written."""
    run, workdir = copy
    before = contents(workdir)
    changed = tiny_run(run.data.dir, {"optim.lr": 0.5, "data.batch_size": 16})
    with pytest.raises(ConfigError) as caught:
        train(changed, workdir, mesh=mesh)
    assert str(caught.value) == (
        f"{workdir} holds a run with other settings: config.data.batch_size=16 (was 8), "
        "config.optim.lr=0.5 (was 0.001); choose another --workdir"
    )
    assert contents(workdir) == before


def test_settings_that_change_no_number_are_free(copy, mesh, tmp_path):
    """A run may go on with another cache, log interval, evaluation batch and data directory."""
    run, workdir = copy
    moved = shutil.copytree(run.data.dir, tmp_path / "moved")
    free = {
        "data.cache": "none",
        "train.log_every": "5 steps",
        "train.eval_every": "50%",
        "eval.batch_size": 3,
        "eval.metrics": "sake",
        "eval.memory_mib": 64,
    }
    assert train(tiny_run(moved, free), workdir, mesh=mesh)["step"] == 6


def test_a_run_does_not_go_on_with_other_images(copy, mesh, tmp_path):
    """A dataset prepared again from other files since the run began is refused, in one line."""
    from data_prep.prepare import prepare

    run, workdir = copy
    raw = tiny_tree(tmp_path / "raw")
    (raw / "sketches/ant/p0-1.png").unlink()
    prepare("folders", raw=raw, data_dir=tmp_path, name=TINY, val=0.25, test=0.25, quiet=True)
    with pytest.raises(ConfigError, match=r"^\S+ holds a run on other images: .*choose another"):
        train(tiny_run(tmp_path), workdir, mesh=mesh)


def test_a_failed_start_does_not_claim_the_workdir(tiny_data, tmp_path, mesh, monkeypatch):
    """Settings that could not work, or stopped before a checkpoint, do not bind the next start."""
    wrong = tiny_run(tiny_data, {"data.sampler": "instances", "data.batch_size": 24})
    with pytest.raises(ConfigError, match="at most 20"):
        train(wrong, tmp_path, mesh=mesh)
    assert not (tmp_path / "config.json").exists()
    stop_before(0, monkeypatch)
    for seed in (1, 2):
        with pytest.raises(Killed):
            train(tiny_run(tiny_data, {"seed": seed}), tmp_path, mesh=mesh)
    assert json.loads((tmp_path / "config.json").read_text())["seed"] == 2


def test_a_run_can_start_from_the_best_of_another(finished, tiny_data, tmp_path, mesh, capfd):
    """With init_from and rate 0 the parameters stay those of the other run's best checkpoint."""
    _, source = finished
    changes = {"train.init_from": str(source), "optim.lr": 0.0, "train.duration": "1 steps"}
    changes |= {"loss.name": "infonce + category", "loss.memory": 8}  # not of the other run
    train(tiny_run(tiny_data, changes), tmp_path, mesh=mesh)
    assert f"of {source}" in capfd.readouterr().err
    found, wanted = stored(tmp_path), stored(source, "best")
    for path, value in wanted.items():
        if path.startswith("params"):
            np.testing.assert_array_equal(found[path], value, err_msg=path)


def test_a_run_from_scratch_starts_from_its_seed(tiny_data, tmp_path, mesh, capfd):
    """At rate 0 the parameters stay those that the seed draws."""
    run = tiny_run(tiny_data, {"optim.lr": 0.0, "train.duration": "1 steps", "seed": 5})
    train(run, tmp_path, mesh=mesh)
    assert "starting from scratch, seed 5" in capfd.readouterr().err
    params = dual.build(run.model, dual.init_key(5), image_size=32)[1]
    found = stored(tmp_path)
    for path, value in jax.tree_util.tree_leaves_with_path(params):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        np.testing.assert_array_equal(found[f"params/{name}"], value)


def test_starting_from_no_run_or_another_model_is_one_line(finished, tiny_data, tmp_path, mesh):
    """init_from names the setting if there is no run, and the arrays if the model is another."""
    missing = {"train.init_from": str(tmp_path / "nowhere")}
    with pytest.raises(ConfigError, match=r"^config.train.init_from='.*nowhere': no run there"):
        train(tiny_run(tiny_data, missing), tmp_path / "a", mesh=mesh)
    other = {"train.init_from": str(finished[1]), "model.embed_dim": 4}
    with pytest.raises(CheckpointError, match=r"kernel is \(8, 8\), expected \(8, 4\)"):
        train(tiny_run(tiny_data, other), tmp_path / "b", mesh=mesh)


def test_durations_are_counted_in_sketches(tiny_data, tmp_path, mesh):
    """40 sketches by 8: an epoch is 5 steps; 16 examples are 2, 0.4 epochs are 2."""
    durations = {
        "train.duration": "1 epochs",
        "train.log_every": "16 examples",
        "train.eval_every": "0.4 epochs",
        "optim.warmup": "20%",
    }
    assert train(tiny_run(tiny_data, durations), tmp_path, mesh=mesh)["step"] == 5
    lines = metric_lines(tmp_path)
    assert [line["step"] for line in lines if line["kind"] == "train"] == [1, 2, 4, 5]
    assert [line["step"] for line in lines if line["kind"] == "val"] == [2, 4, 5]
    rates = [line["optim/lr"] for line in lines if line["kind"] == "train"]
    # One step of warm-up from 0; then half a cosine over the other four.
    cosine = [0.0005 * (1 + np.cos(np.pi * u / 4)) for u in (0, 2, 3)]
    np.testing.assert_allclose(rates, [0.0, *cosine], rtol=1e-5)


def test_a_loss_that_is_not_finite_stops_the_run(tiny_data, tmp_path, mesh):
    """A rate that blows the parameters up ends in one line with the step; finite saves are kept."""
    wild = {
        "optim.name": "sgd",
        "optim.lr": 100.0,
        "optim.weight_decay": 10.0,  # kernels grow a thousandfold a step
        "optim.warmup": "0 steps",
        "train.duration": "100 steps",
        "train.eval_every": "1 steps",
    }
    with pytest.raises(TrainingDiverged, match=r"^(loss|norm of the parameters) is (nan|inf)"):
        train(tiny_run(tiny_data, wild), tmp_path, mesh=mesh)
    steps = [line["step"] for line in metric_lines(tmp_path) if line["kind"] == "val"]
    with Checkpoints(tmp_path, metric="category/mAP@all", read_only=True) as checkpoints:
        assert max(checkpoints.steps()) == steps[-1] > 1
    assert all(np.isfinite(value).all() for value in stored(tmp_path).values())


def test_a_batch_that_does_not_divide_over_the_devices_is_refused(tiny_data, tmp_path):
    """Twelve pairs on eight devices: one line with the setting, before anything is written."""
    with pytest.raises(ConfigError, match=r"^config.data.batch_size=12: .* 8 devices"):
        train(tiny_run(tiny_data, {"data.batch_size": 12}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_metric_that_cannot_be_measured_is_refused_at_the_start(tmp_path, mesh):
    """Choosing the best by instance retrieval needs links in the validation split."""
    from data_prep.prepare import prepare

    raw = tiny_tree(tmp_path / "raw")
    prepare(
        "folders", raw=raw, data_dir=tmp_path, name=TINY, val=0.25, test=0.25, link="none",
        quiet=True,
    )  # fmt: skip
    run = tiny_run(tmp_path, {"eval.metric": "instance/MRR"})
    with pytest.raises(ConfigError, match=r"^config.eval.metric='instance/MRR': no sketch of"):
        train(run, tmp_path / "run", mesh=mesh)


def test_a_metric_without_an_expected_value_is_refused_at_the_start(tiny_data, tmp_path, mesh):
    """With expected ties nothing can be chosen by a precision envelope: one line, nothing kept."""
    run = tiny_run(tiny_data, {"eval.metric": "category/mAP-voc@all", "eval.ties": "expected"})
    with pytest.raises(ConfigError, match=r"^config.eval.metric='category/mAP-voc@all': no closed"):
        train(run, tmp_path / "run", mesh=mesh)
    assert not (tmp_path / "run").exists()


def test_any_metric_can_choose_the_best(tiny_data, tmp_path, mesh):
    """A metric outside the standard ones is validated too, and ranks the checkpoints."""
    changes = {"eval.metric": "category/mAP-voc@5/min", "train.duration": "2 steps"}
    summary = train(tiny_run(tiny_data, changes), tmp_path, mesh=mesh)
    (logged,) = (line for line in metric_lines(tmp_path) if line["kind"] == "val")
    assert 0 < logged["category/mAP-voc@5/min"] <= 1
    assert summary["validation"]["category/mAP-voc@5/min"] == logged["category/mAP-voc@5/min"]


def test_eight_devices_train_to_the_same_scores(finished, tmp_path):
    """The whole run on eight devices logs what one device logs, to rounding."""
    run, workdir = finished
    train(run, tmp_path)
    for one, eight in zip(metric_lines(workdir), metric_lines(tmp_path), strict=True):
        assert one.keys() == eight.keys()
        if one["kind"] == "train":
            assert eight["loss"] == pytest.approx(one["loss"], rel=1e-3)
