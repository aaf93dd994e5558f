"""SIGTERM and Ctrl-C: a run is asked to stop, and stops where it can be continued."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

_WORDS = b"\nstopping after this step; once more stops at once, without saving\n"


class Stopped(KeyboardInterrupt):
    """A run that stopped when it was asked to; `code` is the exit code, as shells have it."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class Interrupts:
    """Within the block, the first SIGTERM or SIGINT is remembered and the second raises.

    Signals reach the main thread only; elsewhere the block changes nothing. Processes that train
    together (`agree`) must all stop after the same dispatch: there a SIGTERM to any of them is
    passed on by JAX's preemption service, and Ctrl-C stops at once.
    """

    def __init__(self, *, agree: Callable[[int], bool] | None = None) -> None:
        self.asked: signal.Signals | None = None
        self._agree = agree
        self._enabled = agree is None and threading.current_thread() is threading.main_thread()
        self._before: dict[int, Any] = {}

    def asks(self, number: int) -> bool:
        """Whether to stop here; to be called after every dispatch, with its number.

        Numbers start at 1 and leave none out: processes agree to stop at one to come.
        """
        if self._agree is not None and self._agree(number):
            self.asked = signal.SIGTERM
        return self.asked is not None

    def __enter__(self) -> Interrupts:
        if self._enabled:
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_exc: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def stopped(self, words: str) -> Stopped:
        """What to raise: 130 for Ctrl-C, 143 for SIGTERM."""
        return Stopped(words, 128 + (self.asked or signal.SIGTERM))

    def _ask(self, number: int, _frame: FrameType | None) -> None:
        if self.asked is not None:
            raise Stopped("stopped at once; the same command continues the run", 128 + number)
        self.asked = signal.Signals(number)
        os.write(2, _WORDS)  # a handler may run in the middle of a print
