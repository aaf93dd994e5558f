"""A trace of a few training steps: what the devices and the host did, and when."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from sbir_jax.config import ConfigError

Span = tuple[int, int]  # first and last step, both traced


def check_span(span: Span | None, *, start: int, total: int) -> None:
    """Checks that a run which has taken `start` of `total` steps still takes those of `span`.

    Raises:
      ConfigError: it does not.
    """
    if span is not None and not start < span[0] <= span[1] <= total:
        raise ConfigError(
            f"--profile={span[0]}:{span[1]}: this run takes steps {start + 1:,} to {total:,}"
        )


class Profile:
    """Traces the steps of `span` into `workdir/profile`; without a span it does nothing.

    Call `before` and `after` around each dispatch. The devices are waited for at both ends, so that
    the trace holds these steps whole, and no others than are sent together with them.
    """

    def __init__(self, span: Span | None, workdir: Path, *, note: Callable[[str], None]) -> None:
        self._first, self._last = span or (0, 0)
        self._folder, self._note = workdir / "profile", note
        self._running, self._begun = False, 0
        self._mark: Any = None

    def __enter__(self) -> Profile:
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._running:  # a step raised
            self._mark.__exit__(None, None, None)
            self._stop()

    def before(self, steps: range, state: Any) -> None:
        """These steps are about to be sent to the devices together, on `state`."""
        if steps[-1] < self._first or self._last < steps[0]:
            return
        if not self._running:
            jax.block_until_ready(state)
            jax.profiler.start_trace(self._folder)
            self._running, self._begun = True, steps[0]
        self._mark = jax.profiler.StepTraceAnnotation("train", step_num=steps[0])
        self._mark.__enter__()

    def after(self, steps: range, state: Any) -> None:
        """These steps were sent, and give `state`."""
        if not self._running:
            return
        over = self._last <= steps[-1]
        if over:
            jax.block_until_ready(state)
        self._mark.__exit__(None, None, None)
        if over:
            self._stop()
            self._note(
                f"steps {self._begun} to {steps[-1]} are traced in {self._folder}; to look: "
                f"pip install xprof && xprof --logdir={self._folder} --port=8791"
            )

    def _stop(self) -> None:
        self._running = False
        jax.profiler.stop_trace()
