"""What a run says while it runs: metrics as JSON lines and TensorBoard events, a live line.

`workdir/metrics.jsonl` is the record: one object a line, `{"step", "kind", name: value, ...}`.
Everything that depends on the clock is under `perf/`, all else is a function of config and data,
so that a resumed run writes the same lines as an uninterrupted one, `perf/` aside. JSON has no
NaN: such a value is null, and `"nonfinite": {name: "nan" | "inf" | "-inf"}` keeps which.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from tqdm import tqdm

from sbir_jax.events import EventFile
from sbir_jax.throughput import Throughput


class MetricWriter:
    """Writes the metrics of one run to its workdir, and a line of them to the console.

    Resumed at step `start`, it first drops what an earlier process wrote of later steps; at 0 a
    new record begins. Write the metrics of a step before saving its checkpoint, or a run killed
    in between resumes without them. A `silent` writer, as of every process but the first, keeps
    the clock and writes nothing. `also` gets the step and the finite numbers of each line.
    """

    def __init__(
        self,
        workdir: Path,
        *,
        total: int,
        start: int = 0,
        images_per_step: int = 0,
        console: TextIO | None = None,
        now: Callable[[], float] = time.perf_counter,
        silent: bool = False,
        also: Callable[[int, dict[str, float]], None] | None = None,
    ) -> None:
        self._also = also
        self._start, self._total, self._silent = start, total, silent
        self._console = sys.stderr if console is None else console
        self._lines = self._events = self._bar = None
        self.clock = Throughput(images_per_step=images_per_step, now=now, on_tick=self._advance)
        if silent:
            return
        workdir = Path(workdir)
        workdir.mkdir(parents=True, exist_ok=True)
        path = workdir / "metrics.jsonl"
        _drop_later(path, start)
        self._lines = path.open("a", encoding="utf-8", buffering=1)
        self._events = EventFile(workdir / "tensorboard", start=start)
        if _has_room(self._console):
            self._bar = tqdm(
                total=total,
                initial=start,
                file=self._console,
                dynamic_ncols=True,
                bar_format="{percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt}{desc}",
            )

    def __enter__(self) -> MetricWriter:
        return self

    def __exit__(self, kind: type | None, *_exc: object) -> None:
        # On a full disk closing fails for the reason that is already being raised.
        with contextlib.suppress(*([OSError] if kind else [])):
            self.close()

    def write(
        self,
        step: int,
        values: Mapping[str, Any],
        kind: str = "train",
        *,
        shown: Collection[str] = ("loss",),
    ) -> None:
        """Records scalars of a step; `kind` "train" adds the clock's lap under `perf/`.

        The console shows those named in `shown`.
        """
        numbers = {name: float(value) for name, value in values.items()}
        if kind == "train":
            numbers |= self.clock.lap()
        if self._lines is None or self._events is None:  # silent
            return
        odd = {name: str(value) for name, value in numbers.items() if not math.isfinite(value)}
        record = {"step": int(step), "kind": kind, **numbers, **dict.fromkeys(odd)}
        if odd:
            record["nonfinite"] = odd
        self._lines.write(json.dumps(record, allow_nan=False) + "\n")
        for name, value in numbers.items():
            if name not in odd:
                self._events.scalar(step, f"{kind}/{name.replace('@', '_at_')}", value)
        if self._also is not None:
            self._also(step, {name: number for name, number in numbers.items() if name not in odd})
        self._say(step, numbers, kind, shown)

    def image(self, step: int, name: str, array: np.ndarray) -> None:
        """Adds a picture, uint8 [H, W] or [H, W, 3], to TensorBoard."""
        if self._events is not None:
            self._events.image(step, name, array)

    def note(self, message: str) -> None:
        """Prints a line, above the progress bar if there is one."""
        if self._silent:
            return
        if self._bar is not None:
            self._bar.write(message, file=self._console)
        else:
            print(message, file=self._console, flush=True)

    def close(self) -> None:
        """Flushes and closes everything; the writer is of no use after."""
        with contextlib.ExitStack() as stack:  # each is closed, whatever the others raise
            for one in (self._events, self._lines, self._bar):
                if one is not None:
                    stack.callback(one.close)

    def _advance(self, steps: int) -> None:
        if self._bar is not None:
            self._bar.update(steps)

    def _say(self, step: int, numbers: dict[str, float], kind: str, names: Collection[str]) -> None:
        shown = [f"{name} {numbers[name]:.4f}" for name in names if name in numbers]
        if "perf/images_per_s" in numbers:
            left = self.clock.eta(self._total - self._start - self.clock.steps)
            shown.append(f"{numbers['perf/images_per_s']:,.0f} images/s")
            if "perf/mfu" in numbers:
                shown.append(f"MFU {numbers['perf/mfu']:.0%}")
            shown.append(f"data wait {numbers['perf/wait_share']:.0%}")
            if (mib := numbers.get("perf/memory_mib")) is not None:
                shown.append(f"{mib / 1024:.1f} GiB" if mib >= 1024 else f"{mib:.0f} MiB")
            shown.append(f"ETA {tqdm.format_interval(left)}")
        if self._bar is not None and kind == "train":
            self._bar.set_description_str("  " + "  ".join(shown), refresh=False)
        else:
            label = "" if kind == "train" else f"{kind}: "
            width = len(str(self._total))
            self.note(f"step {step:>{width}}/{self._total}  {label}{'  '.join(shown)}")


def read_metrics(path: Path) -> tuple[dict[str, Any], ...]:
    """The whole lines of a `metrics.jsonl`: a killed process may leave half a line.

    Raises:
      OSError: it cannot be read.
    """
    found = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and isinstance(line.get("step"), int) and "kind" in line:
            found.append(line)
    return tuple(found)


def _has_room(stream: TextIO) -> bool:
    """Whether a bar can be drawn: some terminals, as of CI machines, say they are 0 x 0."""
    try:
        return min(os.get_terminal_size(stream.fileno())) > 0
    except (OSError, ValueError):  # not a terminal, or not even a file
        return False


def _drop_later(path: Path, start: int) -> None:
    """Keeps the whole lines of steps up to `start`; a killed process may leave half a line."""
    if not path.exists():
        return
    stored = path.read_bytes()
    kept = b"".join(line for line in stored.splitlines(keepends=True) if _is_kept(line, start))
    if kept != stored:
        partial = path.with_suffix(".jsonl.partial")
        partial.write_bytes(kept)
        os.replace(partial, path)


def _is_kept(line: bytes, start: int) -> bool:
    if start == 0 or not line.endswith(b"\n"):
        return False
    try:
        return json.loads(line)["step"] <= start
    except (ValueError, KeyError, TypeError):
        return False
