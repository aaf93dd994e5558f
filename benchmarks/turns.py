"""Processes that warm up side by side and are then timed in turn, each alone on the machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence

_READY = "@ready"


def wait_for_turn() -> None:
    """Called by a process that has warmed up: returns when it may start its clock."""
    print(_READY, flush=True)
    sys.stdin.readline()


def in_turn(commands: Sequence[list[str]], *, side_by_side: int) -> Iterator[dict]:
    """What each command prints last, a JSON object, in their order; {"missing": why} if it fails.

    So many are started together. None is timed before all of them are ready.
    """
    # JAX would take most of an accelerator's memory for each of them.
    surroundings = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    for first in range(0, len(commands), side_by_side):
        group = [_Process(command, surroundings) for command in commands[first:][:side_by_side]]
        for process in group:
            process.warm_up()
        for process in group:
            yield process.take_turn()


class _Process:
    def __init__(self, command: list[str], surroundings: dict[str, str]) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 # as long as this
        self._running = subprocess.Popen(
            command,
            env=surroundings,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    def warm_up(self) -> None:
        """Returns when the process is ready, or has failed."""
        assert self._running.stdout is not None
        while (line := self._running.stdout.readline()) and line.strip() != _READY:
            pass

    def take_turn(self) -> dict:
        try:
            printed, _ = self._running.communicate("\n")
        except BrokenPipeError:  # it has failed before
            printed, _ = self._running.communicate()
        if self._running.returncode:
            self._errors.seek(0)
            lines = self._errors.read().strip().splitlines()
            why = next((line for line in reversed(lines) if "Error" in line), (lines or [""])[-1])
            return {"missing": why[:160] or f"exit status {self._running.returncode}"}
        return json.loads(printed.splitlines()[-1])
