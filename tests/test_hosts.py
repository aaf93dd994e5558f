"""How processes find each other: flags that do not fit, nobody there, and what they agree on."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from test_killed import ROOT

import launch
from sbir_jax import hosts
from sbir_jax.interrupt import Interrupts
from sbir_jax.meeting import Meeting, meeting


def test_flags_say_where_to_meet():
    """None alone; auto leaves all to the cluster; the three flags are read as they are."""
    assert meeting("", "", "", "") is None
    assert meeting("auto", "", "", "") == Meeting()
    assert meeting("", "10.0.0.1:8476", "4", "3") == Meeting("10.0.0.1:8476", 4, 3)
    assert meeting("", "[fd00::1]:8476", "1", "0") == Meeting("[fd00::1]:8476", 1, 0)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--distributed=yes"], "--distributed=yes: valid: auto"),
        (
            ["--distributed=auto", "--process_id=0"],
            "--distributed=auto finds everything itself; leave out --process_id",
        ),
        (
            ["--coordinator=a:1", "--process_id=0"],
            "--coordinator: --num_processes is missing; all three go together",
        ),
        (["--process_id=0"], "--process_id: --coordinator is missing; all three go together"),
        (
            ["--coordinator=a", "--num_processes=2", "--process_id=0"],
            "--coordinator=a: write HOST:PORT, as in 10.0.0.1:8476",
        ),
        (
            ["--coordinator=a:1", "--num_processes=two", "--process_id=0"],
            "--num_processes=two: expected a whole number",
        ),
        (
            ["--coordinator=a:1", "--num_processes=0", "--process_id=0"],
            "--num_processes=0: at least 1",
        ),
        (
            ["--coordinator=a:1", "--num_processes=2", "--process_id=2"],
            "--process_id=2: valid from 0 to 1",
        ),
    ],
)
def test_flags_that_do_not_fit_are_one_line(flags, message, tmp_path, capsys):
    """Code 2 and a line with the flag, its value and the valid ones; nothing is made."""
    argv = ["train", "--config=configs/quickstart.py", f"--workdir={tmp_path / 'run'}", *flags]
    assert launch.main(argv) == 2
    assert capsys.readouterr().err == f"launch.py: {message}\n"
    assert not (tmp_path / "run").exists()


JOIN = """
import sys
from sbir_jax import hosts
from sbir_jax.meeting import Meeting
where = Meeting(sys.argv[1], 2, int(sys.argv[2])) if sys.argv[1:] else Meeting()
try:
    with hosts.together(where, wait_s=1):
        print("together")
except hosts.ConfigError as error:
    print(error)
"""


def joining(*arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", JOIN, *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_nobody_there_is_one_line_after_the_time_to_wait():
    """Process 1 does not reach process 0, process 0 waits for 1 in vain, and a lone host is no
    cluster: each says so in one line, without a stack trace, and the first two end with code 1."""
    with socket.socket() as free, socket.socket() as other:
        for one in (free, other):
            one.bind(("127.0.0.1", 0))
        ports = [one.getsockname()[1] for one in (free, other)]
    started = time.monotonic()
    processes = [joining(f"127.0.0.1:{port}", str(i)) for i, port in enumerate(ports)]
    lone = joining()
    said = [process.communicate(timeout=120) for process in processes]
    assert time.monotonic() - started < 110
    words = ("not all of 2 processes came", "process 0 was not reached there")
    for process, port, why, (out, err) in zip(processes, ports, words, said, strict=True):
        assert (process.returncode, out) == (1, "")
        line = f"launch.py: --coordinator=127.0.0.1:{port}: {why} within 1 s; is every one started?"
        assert err == line + "\n"
    assert lone.communicate(timeout=120)[0] == (
        "--distributed=auto: this is not a TPU pod, Slurm, Open MPI or Kubernetes job; give "
        "--coordinator, --num_processes and --process_id\n"
    )


def test_one_process_alone_agrees_with_itself_to_the_bit():
    """Neither waiting nor agreeing changes anything where there is nobody else."""
    value = np.array([0.1, np.pi, -0.0])
    assert hosts.as_first_has_it(value).tobytes() == value.tobytes()
    hosts.wait("nobody")
    assert hosts.is_first()


def test_processes_that_train_together_stop_where_they_agree_to():
    """The step is the one that all are told, and the reason is SIGTERM."""
    with Interrupts(agree=lambda step: step == 3) as interrupts:
        assert [interrupts.asks(step) for step in (1, 2, 3)] == [False, False, True]
    assert interrupts.asked.name == "SIGTERM"
