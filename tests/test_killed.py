"""Runs in processes of their own: killed, interrupted, continued, and quiet on the console."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tiny import assert_same_run, stored, tiny_run

from sbir_jax.checkpoint import Checkpoints
from sbir_jax.config import RunConfig

ROOT = Path(__file__).resolve().parents[1]

# One run for both tests, which then compile once; long enough to be caught in the middle.
LONG = {
    "train.duration": "400 steps",
    "train.eval_every": "100 steps",
    "train.log_every": "7 steps",
}


def spawn(script: str, *arguments: object, first: tuple[str, ...] = ()) -> subprocess.Popen:
    """Python in a process of its own, with warnings as errors; imports look in `first` first."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", script, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([*first, str(ROOT), str(ROOT / "tests")])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


TRAIN = """
import sys, launch, tiny
with tiny.small_backbone():
    sys.exit(launch.main(["train", "--workdir=" + sys.argv[1]]))
"""
TRAIN_AND_EVALUATE = """
import sys, launch, tiny
workdir = "--workdir=" + sys.argv[1]
with tiny.small_backbone():
    sys.exit(launch.main(["train", workdir]) or launch.main(["evaluate", workdir]))
"""


def start(run: RunConfig, workdir: Path) -> subprocess.Popen:
    """A process that trains in `workdir`."""
    workdir.mkdir(exist_ok=True)
    (workdir / "config.json").write_text(json.dumps(dataclasses.asdict(run)))
    return spawn(TRAIN, workdir)


def wait_for_checkpoint(process: subprocess.Popen, workdir: Path) -> None:
    give_up = time.monotonic() + 120
    while not any(p.name.isdecimal() for p in workdir.glob("checkpoints/*")):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < give_up
        time.sleep(0.002)


def latest(workdir: Path) -> int:
    with Checkpoints(workdir, metric="category/mAP@all", read_only=True) as checkpoints:
        return checkpoints.find("latest")


@pytest.mark.slow
def test_a_killed_process_continues_without_a_trace(tiny_data, tmp_path):
    """SIGKILL in the middle of a run, then the same command: equal to a run that was left alone.

    The whole way through the launcher, where importing TensorFlow is an error and the console
    shows nothing but the run's own words.
    """
    trap = tmp_path / "trap/tensorflow/__init__.py"
    trap.parent.mkdir(parents=True)
    trap.write_text("raise AssertionError('TensorFlow was imported')\n")
    run = tiny_run(tiny_data, LONG)
    workdir, other = tmp_path / "killed", tmp_path / "alone"
    process = start(run, workdir)
    wait_for_checkpoint(process, workdir)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    step = latest(workdir)
    assert 100 <= step < 400
    # Only now: two processes that compile the same step at once race for the compilation cache.
    alone = start(run, other)
    again = spawn(TRAIN_AND_EVALUATE, workdir, first=(str(trap.parents[1]),))
    out, err = again.communicate(timeout=120)
    assert again.returncode == 0, err
    assert "mAP@all" in out
    assert f"continuing from step {step} of {workdir}" in err
    own = ("tiny: 40 sketches", "continuing from", "the step: ", "step ", "best step ")
    own += ("warning: embeddings have collapsed",)  # and they have: the pictures are noise
    assert [line for line in err.splitlines() if not line.startswith(own)] == []
    _, err = alone.communicate(timeout=120)
    assert alone.returncode == 0, err
    assert_same_run(workdir, other)


@pytest.mark.slow
def test_ctrl_c_is_one_line_and_the_run_can_go_on(tiny_data, tmp_path):
    """SIGINT ends in one line that names the saved step and exit code 130."""
    run = tiny_run(tiny_data, LONG)
    process = start(run, tmp_path)
    wait_for_checkpoint(process, tmp_path)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    step = latest(tmp_path)
    assert 100 <= step < 400
    assert err.rstrip().endswith(
        f"launch.py: stopped by SIGINT at step {step}, which is saved; the same command continues "
        "the run"
    )
    assert all(np.isfinite(value).all() for value in stored(tmp_path).values())
