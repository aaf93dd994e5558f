"""The machine misbehaves: signals at the wrong moment, a clock set back, a disk that refuses."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from data_prep_trees import photo, save
from front_door import ROOT, launch
from tiny import assert_same_run, metric_lines, small_backbone, tiny_tree

import data_prep.__main__ as preparation
from sbir_jax import Index, cli, load_encoders, sharding
from sbir_jax import train as training
from sbir_jax.checkpoint import Checkpoints
from sbir_jax.evaluate import evaluate_workdir
from sbir_jax.evaluator import Evaluator
from sbir_jax.interrupt import Stopped

# Signals

# Imports once and forks for each command, which stops where it is told to (after so many calls) and
# waits for its end. Devices as in the tests, for whose compiled programs it has the use.
NURSERY = """
import json, os, sys, time
import jax, launch, tiny
import sbir_jax.checkpoint, sbir_jax.evaluate, sbir_jax.retrieval.indexing, sbir_jax.train
from sbir_jax import sharding
jax.config.update("jax_num_cpu_devices", 8)
make_mesh = sharding.make_mesh
sharding.make_mesh = lambda of=None: make_mesh(of or jax.devices()[:1])
for line in sys.stdin:
    words, module, name, left = json.loads(line)
    real = getattr(sys.modules[module], name)
    child = os.fork()
    if child == 0:
        sys.stdin.close()
        told = os.dup(1)
        os.dup2(2, 1)
        def reached(*arguments, **named):
            global left
            left -= 1
            if left >= 0:
                return real(*arguments, **named)
            os.write(told, f"{os.getpid()}\\n".encode())
            time.sleep(600)
        setattr(sys.modules[module], name, reached)
        with tiny.small_backbone():
            os._exit(launch.main(words))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def stopped_at(tmp_path_factory):
    """Runs a command until it calls a function, sends it a signal there and gives its exit code."""
    log = tmp_path_factory.mktemp("log") / "log.txt"
    with log.open("w") as errors, subprocess.Popen(
        [sys.executable, "-c", NURSERY],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
    ) as process:  # fmt: skip

        def stop(number: signal.Signals, at: str, *words: str, after: int = 0) -> int:
            module, _, name = at.rpartition(".")
            print(json.dumps([words, module, name, after]), file=process.stdin, flush=True)
            told = process.stdout.readline()
            assert int(told) > 1, log.read_text()[-2000:]  # an exit code: it never came there
            os.kill(int(told), number)
            return int(process.stdout.readline())

        yield stop
        process.stdin.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_killed_evaluation_leaves_the_one_before_and_is_done_again(copy, mesh, stopped_at):
    """SIGKILL between two of its files, SIGTERM before its entry: `results.json` is as it was, and
    the same command then gives the numbers of an evaluation that was left alone."""
    run, workdir = copy

    def evaluated(checkpoint: str) -> dict:
        of = {"split": "test", "run": run, "mesh": mesh, "quiet": True}
        with small_backbone():
            entry = evaluate_workdir(workdir, checkpoint=checkpoint, **of)
        return {name: value for name, value in entry.items() if name != "time"}

    expected = evaluated("best")
    before = (workdir / "results.json").read_bytes()
    alone = (workdir / "evaluation/test_best/scores.npz").read_bytes()
    shutil.rmtree(workdir / "evaluation")
    command = "evaluate", f"--workdir={workdir}"
    killed = stopped_at(signal.SIGKILL, "sbir_jax.results._write_csv", *command)
    assert killed == -signal.SIGKILL
    assert (workdir / "results.json").read_bytes() == before
    ended = stopped_at(signal.SIGTERM, "sbir_jax.results.write_json", *command)
    assert ended == -signal.SIGTERM
    assert (workdir / "results.json").read_bytes() == before
    assert evaluated("best") == expected
    files = {path.name for path in (workdir / "evaluation/test_best").iterdir()}
    assert (workdir / "evaluation/test_best/scores.npz").read_bytes() == alone
    assert not [name for name in files if "partial" in name]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_indexing_goes_on_and_ends_as_if_it_had_not_been(copy, tmp_path, mesh, stopped_at):
    """SIGKILL when all is embedded and nothing is in its place: the same command embeds no photo
    again, and the index is that of a run that was left alone."""
    workdir, out, photos = copy[1], tmp_path / "index", tmp_path / "photos"
    for i in range(5):
        save(photo(i, size=(36, 36)), photos / f"{i}.png")
    words = "index", f"--workdir={workdir}", f"--photos={photos}", f"--out={out}"
    at = "sbir_jax.retrieval.indexing.write"
    assert stopped_at(signal.SIGKILL, at, *words) == -signal.SIGKILL
    assert not (out / "manifest.json").exists()
    with small_backbone():
        encoders = load_encoders(workdir, mesh=mesh)
        fresh = Index.build(photos, encoders, tmp_path / "fresh")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(encoders, "embed", lambda squares, _: np.zeros((len(squares), 8)))
            index = Index.build(photos, encoders, out)  # would be of zeros where it embeds
    assert index.items == fresh.items
    np.testing.assert_allclose(index.vectors, fresh.vectors, atol=1e-3)
    assert np.abs(index.vectors).sum(axis=1).min() > 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.usefixtures("small_model")
def test_killed_in_a_save_a_run_ends_the_same(finished, tmp_path, mesh, stopped_at):
    """SIGKILL when one item of step 4 is whole and the next is not, and before its checksums: step
    4 is not there, and there; then the end of the other run."""
    run, workdir = finished
    killed = tmp_path / "run"
    killed.mkdir()
    shutil.copy(workdir / "config.json", killed)
    words = "train", "--no_report", f"--workdir={killed}"
    saved = []
    # A save renames the directories of four items and then its own; the first one is of step 2.
    for at, after in (("os.rename", 6), ("sbir_jax.checkpoint.write_seal", 0)):
        assert stopped_at(signal.SIGKILL, at, *words, after=after) == -signal.SIGKILL
        saved.append(sorted(path.name for path in (killed / "checkpoints").iterdir()))
    assert saved == [["2", "4.orbax-checkpoint-tmp"], ["2", "4"]]
    assert not (killed / "checkpoints/4/seal.json").exists()
    training.train(run, killed, mesh=mesh)
    assert_same_run(killed, workdir)


@pytest.mark.usefixtures("small_model")
def test_sigterm_while_validating_stops_after_the_next_step(finished, tmp_path, mesh, monkeypatch):
    """The validation is finished and saved, then one more step, which is the latest."""
    run, _ = finished
    validate = Evaluator.validate

    def asked(self, *state):
        found = validate(self, *state)
        os.kill(os.getpid(), signal.SIGTERM)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Evaluator, "validate", asked)
        with pytest.raises(Stopped, match="SIGTERM at step 3, which is saved"):
            training.train(run, tmp_path / "run", mesh=mesh)
    assert [line["step"] for line in metric_lines(tmp_path / "run") if line["kind"] == "val"] == [2]
    assert metric_lines(tmp_path / "run")[-1]["step"] == 3
    with Checkpoints(tmp_path / "run", metric=run.eval.metric, read_only=True) as checkpoints:
        assert sorted(checkpoints.steps()) == [2, 3] and checkpoints.find("best") == 2


# The clock


@pytest.mark.usefixtures("small_model")
def test_a_clock_that_goes_back_changes_nothing(finished, copy, mesh, monkeypatch, capsys):
    """Set back by years before a run is continued, and by a minute at each look while it runs;
    files of the future and of 1970: the latest checkpoint is by step, pace and ETA are positive,
    and the end is that of the other run."""
    run, workdir = copy
    steps = sorted((workdir / "checkpoints").iterdir(), key=lambda path: int(path.name))
    shutil.rmtree(steps.pop())  # so that there is something to continue
    for number, path in enumerate(sorted(workdir.rglob("*"), reverse=True)):
        os.utime(path, (4e9, 4e9) if number % 2 else (0, 0))
    looks = iter(range(1, 1_000_000))
    monkeypatch.setattr(time, "time", lambda: 1e9 - 60.0 * next(looks))
    training.train(run, workdir, mesh=mesh)
    assert next(looks) > 2, "nothing has looked at the clock"
    err = capsys.readouterr().err
    assert f"continuing from step {steps[-1].name} of {workdir}" in err
    assert "ETA -" not in err
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    paces = [line["perf/s_per_step"] for line in lines if "perf/s_per_step" in line]
    assert paces and min(paces) > 0
    assert_same_run(workdir, finished[1])


# The disk


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own in a directory: (directory, function that mounts it again)."""
    room = tmp_path / "room"
    room.mkdir()

    def mount(*options: str) -> bool:
        words = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(room)]
        return subprocess.run(words, capture_output=True, check=False).returncode == 0

    if shutil.which("mount") is None or not mount("size=4m"):
        pytest.skip("no right to mount a file system")
    yield room, lambda option: mount("remount", option)
    subprocess.run(["umount", str(room)], check=True)


def test_a_read_only_disk_is_one_line_of_every_verb(finished, small_disk, tmp_path, capsys):
    """A file system mounted read-only, which binds root too: nothing is begun that cannot be
    kept, and the line names the flag or the directory."""
    (room, remount), raw = small_disk, tiny_tree(tmp_path / "raw")
    shutil.copytree(finished[1], room / "run")
    assert remount("ro")
    of = f"--workdir={room / 'run'}"
    config = f"--config={ROOT / 'configs/sweep_losses.py'}"
    kept, new = "cannot be written to", "cannot be made: Read-only file system"
    for expected, *words in (
        (f"{of}: {kept}", "train", of),
        (f"--workdir={room / 'a'}: {new}", "train", f"--workdir={room / 'a'}", config),
        (f"{of}: {kept}", "evaluate", of),
        (f"{of}: {kept}", "dimensions", of),
        (f"{room}/run/report: {kept}: Read-only file system", "report", of),
        (f"--workdir={room / 's'}: {new}", "sweep", f"--workdir={room / 's'}", config),
    ):
        assert launch.main(words) in (1, 2)
        assert capsys.readouterr().err == f"launch.py: {expected}\n"
    assert preparation.main(["folders", f"--raw={raw}", f"--data_dir={room}"]) == 2
    expected = f"--data_dir={room}: cannot write there (Read-only file system)"
    assert capsys.readouterr().err == f"data_prep: {expected}\n"


@pytest.mark.usefixtures("small_model")
def test_a_full_disk_stops_evaluation_report_index_and_preparation_in_one_line(
    finished, small_disk, tmp_path, mesh, capsys, monkeypatch
):
    """Not one page is free: each says so in a line and leaves what was there; given room, the same
    commands go through."""
    (room, remount), raw = small_disk, tiny_tree(tmp_path / "raw")
    workdir = Path(shutil.copytree(finished[1], room / "run"))
    monkeypatch.setattr(sharding, "make_mesh", lambda devices=None: mesh)
    of, index = f"--workdir={workdir}", room / "index"
    indexing = ["index", of, f"--photos={raw / 'photos'}", f"--out={index}"]
    commands = ["evaluate", of], ["report", of], indexing
    results = {path: path.read_bytes() for path in workdir.glob("*.json")}
    with pytest.raises(OSError, match="No space left"), (room / "ballast").open("wb") as file:
        while True:
            file.write(bytes(4096))
            file.flush()
    for words in commands:
        assert launch.main(words) == 1, words
        err = capsys.readouterr().err
        assert err.startswith("launch.py: ") and "No space left" in err and err.count("\n") == 1
    prepared = ["folders", f"--raw={raw}", f"--data_dir={room / 'data'}"]
    assert preparation.main(prepared) in (1, 2)
    err = capsys.readouterr().err
    assert err.startswith("data_prep: ") and "disk space" in err and err.count("\n") == 1
    assert {path: path.read_bytes() for path in workdir.glob("*.json")} == results
    assert remount("size=64m")
    for words in commands:
        assert launch.main(words) == 0, capsys.readouterr().err
    assert preparation.main(prepared) == 0


@pytest.mark.parametrize(
    ("number", "words"), [(5, "Input/output error"), (30, "Read-only file system")]
)
def test_a_disk_that_fails_in_a_run_is_one_line(capsys, number, words):
    """What the system says, of which file, and that the same command goes on."""

    def failing(_given, _overrides):
        """Do something."""
        raise OSError(number, os.strerror(number), "runs/a/metrics.jsonl")

    code = cli.run(["do"], {"do": cli.Verb(failing)}, about="", configs=Path("."), run_errors={})
    assert code == 1
    expected = f"launch.py: {words} (runs/a/metrics.jsonl); mend that, and run the same command\n"
    assert capsys.readouterr().err == expected
