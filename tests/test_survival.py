"""Killed again and again at random moments, and finished: equal to a run that was left alone.

`SBIR_JAX_KILLS=50 python -m pytest tests/test_survival.py -s` is the long form.
"""

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
from test_killed import LONG, ROOT
from tiny import assert_same_run, tiny_run

KILLS = int(os.environ.get("SBIR_JAX_KILLS", "4"))

# Imports once and forks for each run, since the imports take longer than the run.
NURSERY = """
import os, sys
import launch, tiny
import sbir_jax.train, sbir_jax.evaluate, sbir_jax.step
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        sys.stdin.close()
        with tiny.small_backbone():
            code = launch.main(["train", "--no_report", "--workdir=" + line.strip()])
        sys.stderr.flush()
        os._exit(code)
    print(child, flush=True)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


class Nursery:
    """Starts training processes, and says how they ended."""

    def __init__(self, log: Path):
        self._log = log.open("w")
        self._process = subprocess.Popen(
            [sys.executable, "-c", NURSERY],
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def train(self, workdir: Path, *, kill_after: float | None = None) -> int:
        """Exit code of a run, which is killed after so many seconds if it still runs then."""
        print(workdir, file=self._process.stdin, flush=True)
        child = int(self._process.stdout.readline())
        if kill_after is not None:
            time.sleep(kill_after)
            os.kill(child, signal.SIGKILL)  # a child that has ended waits to be waited for
        return int(self._process.stdout.readline())

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._process.stdout.close()
        self._log.close()


def prepared(run, workdir: Path) -> Path:
    workdir.mkdir()
    (workdir / "config.json").write_text(json.dumps(dataclasses.asdict(run)))
    return workdir


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_run_killed_at_random_moments_loses_nothing(tiny_data, tmp_path, request):
    """SIGKILL at moments drawn from the whole length of a start: while it opens files, compiles,
    steps, validates or saves. Parameters, optimiser and metrics end equal to the bit."""
    run = tiny_run(tiny_data, LONG | {"train.eval_every": "20 steps"})
    nursery = Nursery(tmp_path / "log.txt")
    request.addfinalizer(nursery.close)
    alone, killed = prepared(run, tmp_path / "alone"), prepared(run, tmp_path / "killed")
    assert nursery.train(alone) == 0, (tmp_path / "log.txt").read_text()[-2000:]
    started = time.monotonic()
    assert nursery.train(alone) == 0  # nothing is left to do: how long a start takes
    start = time.monotonic() - started
    rng, codes, saving = np.random.default_rng(0), [], 0
    while sum(code == -signal.SIGKILL for code in codes) < KILLS:
        codes.append(nursery.train(killed, kill_after=rng.uniform(0, 2.0 * start)))
        assert codes[-1] in (0, -signal.SIGKILL), (tmp_path / "log.txt").read_text()[-2000:]
        saving += any(killed.glob("checkpoints/*tmp*"))
        if codes[-1] == 0:
            break  # it was fast: nothing is left to kill
    assert nursery.train(killed) == 0, (tmp_path / "log.txt").read_text()[-2000:]
    print(f"{codes.count(-signal.SIGKILL)} kills, {saving} of them while a checkpoint was written")
    assert codes.count(-signal.SIGKILL) >= 3
    assert_same_run(killed, alone)
