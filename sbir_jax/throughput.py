"""The clock of a training loop: what was training, what was waiting, and how fast it went."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator


class Throughput:
    """Splits the wall-clock of a loop into training, waiting for data, and pauses.

    Nothing counts before `start()`, so compiling does not; nor does what runs under `paused()`
    (validation, checkpoints). `tick()` counts steps.
    """

    def __init__(
        self,
        *,
        images_per_step: int,
        now: Callable[[], float] = time.perf_counter,
        on_tick: Callable[[int], None] = lambda steps: None,
    ) -> None:
        self.steps = 0
        self.paused_seconds = 0.0
        self._images_per_step = images_per_step
        self._now, self._on_tick = now, on_tick
        self._started: float | None = None
        self._waited = 0.0
        self._s_at_peak: float | None = None
        self._depth, self._pause_begun = 0, 0.0
        self._lap = (0, 0.0, 0.0)  # steps, seconds and waited seconds when the last lap ended

    def start(self, *, s_at_peak: float | None = None) -> None:
        """Starts the clock; a second call changes nothing.

        `s_at_peak`: seconds a step would take if the devices did nothing but its arithmetic, as
        fast as they can; laps then have the model FLOP utilisation.
        """
        if self._started is None:
            self._started, self._s_at_peak = self._now(), s_at_peak

    def tick(self, steps: int = 1) -> None:
        """Counts steps: one, or those that were done together."""
        self.start()
        self.steps += steps
        self._on_tick(steps)

    @contextlib.contextmanager
    def waiting(self, idle: Callable[[], bool] = lambda: True) -> Iterator[None]:
        """Counts its block as waiting for data, if the devices have become idle at its end.

        While they have steps to do, data that takes its time costs none. Of a block in which they
        became idle all counts, so waiting is at most what is said.
        """
        self.start()
        begun = self._now()
        try:
            yield
        finally:
            if idle():
                self._waited += self._now() - begun

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Keeps its block out of the training time; may be nested."""
        if self._depth == 0:
            self._pause_begun = self._now()
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            if self._depth == 0 and self._started is not None:
                self.paused_seconds += self._now() - max(self._pause_begun, self._started)

    @property
    def seconds(self) -> float:
        """Seconds spent in training steps and waiting for their data."""
        if self._started is None:
            return 0.0
        until = max(self._pause_begun, self._started) if self._depth else self._now()
        return until - self._started - self.paused_seconds

    @property
    def images_per_s(self) -> float:
        """Images a second of training, over all steps so far."""
        return self._rate(self.steps * self._images_per_step, self.seconds)

    def lap(self) -> dict[str, float]:
        """Images a second, share of time waited for data, seconds a step, since the last lap.

        And the model FLOP utilisation, if it is known what the devices could do. Empty if no step
        was counted since, as in two laps in a row.
        """
        here = (self.steps, self.seconds, self._waited)
        steps, seconds, waited = (new - old for new, old in zip(here, self._lap, strict=True))
        if not steps:
            return {}
        self._lap = here
        found = {
            "perf/images_per_s": self._rate(steps * self._images_per_step, seconds),
            "perf/wait_share": self._rate(waited, seconds),
            "perf/s_per_step": seconds / steps,
        }
        if self._s_at_peak is not None:
            found["perf/mfu"] = self._rate(steps * self._s_at_peak, seconds)
        return found

    def eta(self, steps_left: int) -> float:
        """Seconds that `steps_left` more steps take, pauses included at their rate so far."""
        if not self.steps:
            return math.nan
        return (self.seconds + self.paused_seconds) / self.steps * steps_left

    @staticmethod
    def _rate(amount: float, seconds: float) -> float:
        return amount / seconds if seconds > 0 else 0.0
