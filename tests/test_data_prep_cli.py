"""`python -m data_prep`: teaches, succeeds, and fails in one line with the right exit code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from data_prep_trees import sketchy_tree

from data_prep.__main__ import main
from data_prep.arguments import BUILDERS

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"]])
def test_without_a_dataset_it_teaches(argv, capsys):
    """The overview has every dataset with an example command."""
    assert main(argv) == 0
    out = capsys.readouterr().out
    for name in BUILDERS:
        assert f"python -m data_prep {name} --" in out


@pytest.mark.parametrize("dataset", BUILDERS)
def test_dataset_help_lists_every_option(dataset, capsys):
    """`<dataset> --help` shows the common flags, its own, and an example."""
    with pytest.raises(SystemExit) as done:
        main([dataset, "--help"])
    out = capsys.readouterr().out
    assert done.value.code == 0 and "example: python -m data_prep" in out
    own = [f"--{option.name}" for option in BUILDERS[dataset].OPTIONS]
    for flag in ["--raw", "--data_dir", "--name", "--on_error", "--dry_run", "--seed", *own]:
        assert flag in out


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["sketchi"], ["'sketchi'", "did you mean 'sketchy'", "pacs"]),
        (["pacs"], ["--raw is missing", "--raw=PACS"]),
        (["pacs", "--raw=/nowhere"], ["--raw=/nowhere", "no such file"]),
        (["pacs", "--rwa=x"], ["--rwa=x", "did you mean '--raw'"]),
        (["pacs", "--raw"], ["--raw", "expected one argument"]),
        (["pacs", "--raw=.", "--val=lots"], ["--val", "'lots'"]),
        (["pacs", "--raw=.", "--seed=1.5"], ["--seed", "'1.5'"]),
        (["pacs", "--raw=.", "--on_error=ignore"], ["'ignore'", "fail", "skip"]),
        (["sketchy", "--raw=.", "--split=instances"], ["'instances'", "did you mean 'instance'"]),
    ],
)
def test_a_bad_argument_is_one_line_and_exit_code_2(argv, words, capsys):
    """One line on stderr that names the flag, its value and what is valid."""
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    assert captured.err.startswith("data_prep: ")
    for word in words:
        assert word in captured.err


def test_an_unwritable_data_dir_is_one_line(tmp_path, capsys):
    """A --data_dir below a file cannot be made."""
    sketchy_tree(tmp_path / "raw")
    (tmp_path / "file").write_text("")
    target = tmp_path / "file/data"
    assert main(["pacs", f"--raw={tmp_path / 'raw'}", f"--data_dir={target}"]) == 2
    assert f"--data_dir={target}: cannot write there" in capsys.readouterr().err


def test_a_real_run_prints_the_summary_and_the_next_command(tmp_path):
    """As a user runs it, with `--x y` spelling: exit code 0, counts, and how to train on it."""
    raw = sketchy_tree(tmp_path / "raw")
    command = [sys.executable, "-m", "data_prep", "pacs", "--raw", str(raw)]
    command += ["--data_dir", str(tmp_path / "d"), "--name", "mine"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""
    assert "train             6        12" in done.stdout
    assert "--config.data.name=mine" in done.stdout
    assert (tmp_path / "d/mine/index.npz").is_file()


def test_unusable_data_is_exit_code_1(tmp_path, capsys):
    """Bad images are a list on stderr, without a traceback."""
    raw = sketchy_tree(tmp_path / "raw")
    (raw / "photo/cat/empty.jpg").write_bytes(b"")
    assert main(["pacs", f"--raw={raw}", f"--data_dir={tmp_path / 'd'}"]) == 1
    err = capsys.readouterr().err
    assert "photo/cat/empty.jpg: empty file" in err and "Traceback" not in err
