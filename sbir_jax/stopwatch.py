"""Times that do not count compiling, which is spent once."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import jax

_compiling = {"seconds": 0.0}


def _on_duration(event: str, duration_secs: float, **_details: Any) -> None:
    if event.startswith("/jax/core/compile/"):
        _compiling["seconds"] += duration_secs


jax.monitoring.register_event_duration_secs_listener(_on_duration)


@contextlib.contextmanager
def stopwatch() -> Iterator[dict[str, float]]:
    """Fills in `seconds` without compiling, and `compile_seconds`."""
    spent: dict[str, float] = {}
    started, compiled = time.perf_counter(), _compiling["seconds"]
    yield spent
    spent["compile_seconds"] = _compiling["seconds"] - compiled
    whole = time.perf_counter() - started
    spent["seconds"] = max(whole - spent["compile_seconds"], 1e-9)
