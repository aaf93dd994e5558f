"""Two real processes with two devices each, on CPU, are one process with four.

The launches are made once, in `runs`: a run whose two processes are both killed, which one process
continues until it is stopped, and which two end.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from test_killed import ROOT, latest
from test_train import Killed, stop_before
from tiny import metric_lines, small_backbone, stored, tiny_run

from sbir_jax import sharding
from sbir_jax.train import train

# All that could differ between processes: the sampler learns from validations, and the batch is
# mined whole. Plain SGD, since AdamW would make whole steps of rounding errors.
CHANGES = {
    "data.sampler": "confusable",
    "data.per_class": 4,
    "loss.name": "triplet",
    "loss.triplet.miner": "batch_hard",
    "optim.name": "sgd",
    "optim.lr": 0.05,
    "optim.ema": 0.5,
    "model.embed_dim": 8192,
    "train.duration": "8 steps",
}

# Of two processes, always: heads of 8 x 8192 are split over all devices, the rest is replicated.
FSDP = "--config.train.fsdp=True"

TRAIN = """
import sys, launch, tiny
with tiny.small_backbone():
    sys.exit(launch.main(["train", *sys.argv[1:]]))
"""


def launch_two(workdir: Path, *overrides: str, slurm: bool = False) -> list[subprocess.Popen]:
    """Both processes of a run in `workdir`, which holds its config.

    With `slurm` they find each other by what Slurm tells its tasks, else by our flags.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    paths = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    processes = []
    for i in range(2):
        meet = [f"--coordinator=127.0.0.1:{port}", "--num_processes=2", f"--process_id={i}"]
        env = os.environ | {"PYTHONPATH": paths, "JAX_NUM_CPU_DEVICES": "2"}
        if slurm:
            meet = ["--distributed=auto"]
            job = port % 4096  # of which JAX makes a port
            env |= {
                "SLURM_JOB_ID": str(job),
                "SLURM_STEP_NODELIST": "localhost",
                "SLURM_STEP_NUM_NODES": "1",
                "SLURM_NTASKS": "2",
                "SLURM_PROCID": str(i),
                "SLURM_LOCALID": str(i),
                "JAX_COORDINATOR_BIND_ADDRESS": f"127.0.0.1:{61440 + job}",
            }
        argv = [f"--workdir={workdir}", *meet, *overrides]
        processes.append(
            subprocess.Popen(
                [sys.executable, "-W", "error", "-c", TRAIN, *argv],
                env=env,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return processes


def ended(processes: list[subprocess.Popen]) -> tuple[list[int], list[str]]:
    """Exit codes, and what each said; whatever still runs is killed."""
    try:
        said = [process.communicate(timeout=240)[1] for process in processes]
        return [process.returncode for process in processes], said
    finally:
        for process in processes:
            process.kill()


def wait_for(processes: list[subprocess.Popen], workdir: Path, step: int) -> None:
    """Until a checkpoint of that step is whole."""
    give_up = time.monotonic() + 240
    while not (workdir / f"checkpoints/{step}").is_dir():
        for process in processes:
            assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < give_up
        time.sleep(0.002)


def configured(run, workdir: Path) -> Path:
    workdir.mkdir()
    (workdir / "config.json").write_text(json.dumps(dataclasses.asdict(run)))
    return workdir


@pytest.fixture(scope="module")
def runs(tiny_data, tmp_path_factory):
    """A run of one process and one that changed hands, the steps it did so at, what was said."""
    root = tmp_path_factory.mktemp("runs")
    run, four = tiny_run(tiny_data, CHANGES), sharding.make_mesh(jax.devices()[:4])
    with small_backbone():
        train(run, root / "one", mesh=four)

    changing = configured(run, root / "changing")
    killed = launch_two(changing, FSDP)
    wait_for(killed, changing, 2)
    for process in killed:
        process.kill()
    assert ended(killed)[0] == [-signal.SIGKILL] * 2
    steps = [latest(changing)]
    with small_backbone(), pytest.MonkeyPatch.context() as patch:
        stop_before(7, patch)
        with pytest.raises(Killed):
            train(run, changing, mesh=four)
    steps.append(latest(changing))
    codes, said = ended(launch_two(changing, FSDP, slurm=True))
    assert codes == [0, 0], said
    return root / "one", changing, steps, said


@pytest.mark.slow
def test_any_topology_trains_the_same(runs):
    """Losses, gradient norms, validation scores, confusions, parameters, statistics and averages
    are those of one process with four devices: of a run that two processes began, both of which
    were killed, that one read and continued, and that two read from it and ended. Two split their
    heads over all devices (FSDP), one copies them."""
    one, changing, steps, _ = runs
    assert steps[0] <= steps[1] == 6
    lines, expected = metric_lines(changing), metric_lines(one)
    assert [line.keys() for line in lines] == [line.keys() for line in expected]
    assert {line["step"] for line in lines} == set(range(1, 9))
    for line, wanted in zip(lines, expected, strict=True):
        for key, value in wanted.items():
            assert line[key] == (value if key == "kind" else pytest.approx(value, rel=1e-4)), key
    arrays, wanted = stored(changing), stored(one)
    assert arrays.keys() == wanted.keys()
    assert wanted["sampler/confusion"].any()
    for path, value in wanted.items():
        np.testing.assert_allclose(arrays[path], value, rtol=1e-4, atol=1e-5, err_msg=path)


@pytest.mark.slow
def test_the_first_process_alone_speaks_and_writes(runs):
    """The second prints none of the run's words; metrics and event files are written once."""
    _, changing, steps, said = runs
    assert f"continuing from step {steps[1]}" in said[0] and "best step" in said[0]
    assert "4 x cpu" in said[0]
    assert not any(word in said[1] for word in ("step 8", "continuing", "best step", "warning"))
    assert len(list((changing / "tensorboard").iterdir())) == 3  # one a start
    assert not list(changing.glob("checkpoints/*.orbax*"))


@pytest.mark.slow
def test_a_preempted_process_stops_all_at_one_step(tiny_data, tmp_path):
    """SIGTERM to the second of two: both end with code 143 after the same step, which is saved
    though no validation was due."""
    changes = {"train.duration": "20000 steps", "train.eval_every": "10000 steps"}
    run = tiny_run(tiny_data, CHANGES | changes | {"train.log_every": "1 steps"})
    processes = launch_two(configured(run, tmp_path / "run"))
    lines, give_up = tmp_path / "run/metrics.jsonl", time.monotonic() + 240
    while not (lines.exists() and lines.stat().st_size):
        assert all(process.poll() is None for process in processes) and time.monotonic() < give_up
        time.sleep(0.02)
    processes[1].send_signal(signal.SIGTERM)
    codes, said = ended(processes)
    assert codes == [143, 143], said
    step = latest(tmp_path / "run")
    assert 0 < step < 10000
    words = f"launch.py: stopped by SIGTERM at step {step}, which is saved"
    assert all(words in text for text in said)
