"""Runs survive what happens to processes and disks, and say it in one line."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from tiny import assert_same_run, metric_lines, tiny_run

from sbir_jax import cli, environment
from sbir_jax import train as training
from sbir_jax.checkpoint import Checkpoints, restore_from
from sbir_jax.checkpoint_errors import CheckpointError
from sbir_jax.config import ConfigError
from sbir_jax.data.pipeline import make_feed
from sbir_jax.data.source import open_dataset
from sbir_jax.interrupt import Interrupts, Stopped
from sbir_jax.lock import WorkdirInUse, only_run_in
from sbir_jax.seal import broken
from sbir_jax.step import keys, seen
from sbir_jax.train import TrainingDiverged, train

pytestmark = pytest.mark.usefixtures("small_model")
METRIC = "category/mAP@all"

HOLD = """
import sys
from pathlib import Path
from sbir_jax.lock import only_run_in
with only_run_in(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_workdir_takes_one_run_until_its_process_dies(tmp_path):
    """A second process is refused with the first one's number; killed, it leaves the lock free."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1])},
    )  # fmt: skip
    try:
        assert holder.stdout.readline() == "held\n"
        words = rf"^{tmp_path} is in use by process {holder.pid} on \S+; "
        with pytest.raises(WorkdirInUse, match=words), only_run_in(tmp_path):
            pass
    finally:
        holder.kill()
        holder.communicate()
    with only_run_in(tmp_path):
        assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getpid()


def test_train_itself_holds_the_lock(finished, mesh):
    """While another holds the workdir, `train` refuses before it touches it."""
    run, workdir = finished
    with only_run_in(workdir), pytest.raises(WorkdirInUse, match="in use by process"):
        train(run, workdir, mesh=mesh)


def test_a_workdir_that_cannot_be_written_is_one_line(tmp_path):
    """A path through a file, which nobody can write below, root neither."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"^--workdir=.*file/run: Not a directory$"):  # noqa: SIM117
        with only_run_in(tmp_path / "file/run"):
            pass


def test_a_diverged_run_leaves_the_batch(tiny_data, tmp_path, mesh):
    """The images in the file are those of the ids, the views those of the step; the error says
    where."""
    wild = {
        "optim.name": "sgd", "optim.lr": 100.0, "optim.weight_decay": 10.0,
        "optim.warmup": "0 steps", "train.duration": "100 steps", "train.eval_every": "50 steps",
    }  # fmt: skip
    run = tiny_run(tiny_data, wild)
    with pytest.raises(TrainingDiverged) as caught:
        train(run, tmp_path, mesh=mesh)
    [folder] = tmp_path.glob("diverged-step-*")
    step = int(folder.name.rpartition("-")[2])
    assert f"at step {step}; its batch is in {folder}" in str(caught.value)
    assert (folder / "batch.png").stat().st_size > 0
    dataset = open_dataset(run.data.name, run.data.dir)
    feed = make_feed(dataset, run.data, seed=run.seed, mesh=mesh)
    [batch] = feed.batches(step - 1, step)
    key, _, _ = keys(run.seed, step - 1)
    shown, ids = jax.jit(lambda b: seen(run, key, feed.resident, b))(batch)
    with np.load(folder / "batch.npz", allow_pickle=False) as stored:
        for side, rows, view, of in zip(
            ("sketch", "photo"), feed._local.sampler(step - 1), shown, ids, strict=True
        ):
            read = dataset.images("train", side).load(rows, size=36, fit=run.data.fit)
            np.testing.assert_array_equal(stored[side], read)
            np.testing.assert_allclose(stored[f"{side}_view"], view, atol=1e-5)
            np.testing.assert_array_equal(stored[f"{side}_instance"], of.instance)
            np.testing.assert_array_equal(
                stored[f"{side}_label"], dataset.index("train", side).label[rows]
            )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_it_saves_and_continues_bit_equal(
    finished, tmp_path, mesh, monkeypatch, number
):
    """A signal during step 3, between two validations: saved at 3, then equal to the other run."""
    run, workdir = finished
    calls = []

    def compiled(*arguments, make=training.compiled_step):
        step_fn, *others = make(*arguments)

        def step(*inputs):
            calls.append(1)
            if len(calls) == 3:
                os.kill(os.getpid(), number)
            return step_fn(*inputs)

        return step, *others

    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        patch.setattr(training, "compiled_step", compiled)
        with pytest.raises(Stopped, match=rf"{number.name} at step 3, which is saved") as caught:
            train(run, tmp_path / "run", mesh=mesh)
    assert caught.value.code == 128 + number
    assert signal.getsignal(number) is before
    assert metric_lines(tmp_path / "run")[-1]["step"] == 3
    train(run, tmp_path / "run", mesh=mesh)
    assert_same_run(tmp_path / "run", workdir)
    started = environment.starts(tmp_path / "run")
    assert [entry["step"] for entry in started] == [0, 3]


def test_a_second_signal_stops_at_once():
    """Whoever cannot wait for the step asks twice."""
    with Interrupts() as interrupts:
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupts.asked == signal.SIGINT
        with pytest.raises(Stopped, match="at once"):
            os.kill(os.getpid(), signal.SIGINT)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def largest(folder: Path) -> Path:
    return max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


@pytest.mark.parametrize("damage", ["bit of the arrays", "cut", "metrics cut"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(
    finished, copy, mesh, capsys, damage
):
    """Training resumes from the good one and ends the same; the damaged one is kept aside."""
    run, workdir = copy
    saved = workdir / "checkpoints"
    steps = sorted(int(p.name) for p in saved.iterdir() if p.name.isdecimal())
    assert len(steps) == 2  # the best of the tiny run is not its latest
    latest = saved / str(steps[-1])
    if damage == "bit of the arrays":
        flip(largest(latest / "params"))
    elif damage == "cut":
        os.truncate(largest(latest / "params"), 10)
    else:
        os.truncate(latest / "metrics/metrics", 1)
    train(run, workdir, mesh=mesh)
    err = capsys.readouterr().err
    assert f"warning: {latest} cannot be read: " in err
    assert f"continuing from step {steps[0]} of {workdir}" in err
    assert (workdir / f"damaged/{steps[-1]}").is_dir()
    assert_same_run(workdir, finished[1])


def test_evaluation_refuses_a_flipped_bit(copy):
    """One bit of one array: named with its file, though every array can still be read."""
    _, workdir = copy
    with Checkpoints(workdir, metric=METRIC, read_only=True) as checkpoints:
        step = checkpoints.find("latest")
    where = workdir / f"checkpoints/{step}"
    assert broken(where) == ""
    changed = largest(where / "params")
    flip(changed)
    inside = changed.relative_to(where).as_posix()
    assert broken(where, ["params"]) == f"{inside} is not what was saved (checksum)"
    assert broken(where, ["opt_state"]) == ""
    with pytest.raises(CheckpointError, match=rf"{step} cannot be read: {inside} is not what"):
        restore_from(workdir, "latest", {"params": {"x": np.zeros(1)}}, metric=METRIC)


def test_versions_that_changed_are_told(copy, mesh, capsys):
    """A run that was started under another JAX says so, in one line, when it is continued."""
    run, workdir = copy
    [entry] = environment.starts(workdir)
    assert entry["packages"]["jax"] == jax.__version__
    entry["packages"]["jax"] = "0.9.0"
    (workdir / "environment.json").write_text(json.dumps([entry]))
    last = max((workdir / "checkpoints").iterdir(), key=lambda p: int(p.name))
    shutil.rmtree(last)  # so that there is something to continue
    train(run, workdir, mesh=mesh)
    told = [line for line in capsys.readouterr().err.splitlines() if "not as it was" in line]
    assert told == [f"warning: not as it was started: jax 0.9.0 -> {jax.__version__}"]


@pytest.fixture
def small_disk(tmp_path):
    """(directory, resize): a file system of its own, of 64 MiB until `resize` says otherwise."""
    room = tmp_path / "room"
    room.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(room)], capture_output=True
    ).returncode:
        pytest.skip("no right to mount a small file system")

    def resize(size: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", str(room)], check=True)

    yield room, resize
    subprocess.run(["umount", str(room)], check=True)


def used(folder: Path) -> int:
    return shutil.disk_usage(folder).used


def test_a_full_disk_is_one_line_and_the_last_checkpoint_is_used(
    finished, small_disk, mesh, capfd, monkeypatch
):
    """A disk that fills after the first checkpoint ends the run; given room, it ends like another.

    Nothing is printed but the run's own lines, by no thread of any library.
    """
    run, workdir = finished
    room, resize = small_disk
    save = Checkpoints.save

    def fill_after_first(self, step, *rest):
        save(self, step, *rest)
        self.wait()
        resize(used(room) + (512 << 10))

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", fill_after_first)
        words = (
            r"/4 cannot be saved: no space left on the disk \(it takes 1\.\d MiB and 0\.\d MiB are"
        )
        with pytest.raises(CheckpointError, match=words) as caught:
            train(run, room / "run", mesh=mesh)
    assert "\n" not in str(caught.value)
    out, err = capfd.readouterr()
    assert "Traceback" not in out + err
    assert [p.name for p in (room / "run/checkpoints").iterdir()] == ["2"]
    resize(64 << 20)
    train(run, room / "run", mesh=mesh)
    assert_same_run(room / "run", workdir)


def test_a_disk_that_fills_during_a_save_is_one_line(small_disk):
    """Room for the bytes and none for the files: refused by the disk in the middle of a save."""
    room, _ = small_disk
    subprocess.run(["mount", "-o", "remount,nr_inodes=60", str(room)], check=True)
    items = {"params": {"kernel": jax.numpy.arange(4.0)}, "opt_state": {"mu": jax.numpy.ones(3)}}
    words = r"cannot be saved: no space left on the disk; what was saved before is whole"
    with Checkpoints(room, metric=METRIC) as checkpoints:
        checkpoints.save(1, items, {METRIC: 0.5})
    left = 20  # enough for the folders of a checkpoint
    for k in range(60 - left - sum(1 for _ in room.rglob("*"))):
        (room / f"file{k}").touch()
    with (
        pytest.raises(CheckpointError, match=words),
        Checkpoints(room, metric=METRIC) as checkpoints,
    ):
        checkpoints.save(2, items, {METRIC: 0.6})
    step, stored = restore_from(room, "latest", items, metric=METRIC)
    assert step == 1
    np.testing.assert_array_equal(stored["params"]["kernel"], items["params"]["kernel"])


def test_a_full_disk_while_logging_is_one_line(monkeypatch, capsys):
    """ENOSPC from anywhere in a verb ends in one line that names the file."""

    def full(_given, _overrides):
        """Do something."""
        raise OSError(28, "No space left on device", "runs/a/metrics.jsonl")

    verbs = {"do": cli.Verb(full)}
    code = cli.run(["do"], verbs, about="", configs=Path("."), run_errors={})
    assert code == 1
    err = capsys.readouterr().err
    assert err.startswith("launch.py: No space left on device (runs/a/metrics.jsonl); free")
    assert err.count("\n") == 1
