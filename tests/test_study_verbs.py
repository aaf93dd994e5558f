"""`launch.py knn` and `launch.py dimensions`: flags, one-line errors, and what they leave."""

from __future__ import annotations

import shutil

import pytest
from front_door import error_line, launch


@pytest.fixture
def workdir(finished, tmp_path):
    """A copy of a finished run."""
    shutil.copytree(finished[1], tmp_path / "run")
    return tmp_path / "run"


def test_both_verbs_leave_their_files_beside_the_run(workdir, small_model, capsys):
    """Exit code 0, a table on the console, and the files that it names."""
    assert launch.main(["knn", f"--workdir={workdir}", "--split=val"]) == 0
    other = shutil.copytree(workdir, workdir.parent / "other")
    assert launch.main(["dimensions", f"--workdir={workdir}", f"--also={other}"]) == 0
    out = capsys.readouterr().out
    assert "10-NN" in out and "binary" in out and "other, prefix" in out
    for name in ("knn_val_best.json", *(f"dimensions_test_best.{x}" for x in ("csv", "png"))):
        assert (workdir / name).stat().st_size > 0


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["knn"], ["missing --workdir"]),
        (["knn", "--workdir={run}", "--split=train"], ["--split=train", "test, val"]),
        (["knn", "--workdir={run}", "--checkpoint=bset"], ["did you mean 'best'"]),
        (["dimensions", "--workdir=/nowhere"], ["no run there (no config.json)"]),
        (["dimensions", "--workdir={run}", "--also=a,b"], ["--also=a,b", "no run in a"]),
        (
            ["dimensions", "--workdir={run}", "--config.model.width=16"],
            ["--config.model.width=16", "config.data.dir"],
        ),
    ],
)
def test_a_wrong_command_is_one_line(workdir, argv, words, capsys):
    """Exit code 2, and one line that names the flag and what is valid."""
    line = error_line(capsys, *(word.format(run=workdir) for word in argv))
    assert all(word in line for word in words)


def test_runs_of_one_name_are_refused(workdir, capsys):
    """The table and the figure call runs by their directory's name."""
    line = error_line(capsys, "dimensions", f"--workdir={workdir}", f"--also={workdir}", code=1)
    assert "two runs are called 'run'" in line
