"""TensorBoard's event file of a run, written in the calling thread.

tensorboardX's own `SummaryWriter` writes in a thread that dies of a full disk, and the eleventh
event after that waits for it forever (tensorboardX 2.6.5). Here the call raises.
"""

from __future__ import annotations

import socket
import time
from pathlib import Path

import numpy as np
from tensorboardX import summary
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import RecordWriter

_PREFIX = "events.out.tfevents."  # then a time in seconds, by which TensorBoard knows the order
_FLUSH_SECONDS = 30.0  # the longest that TensorBoard lags behind


class EventFile:
    """One file in `folder` for each start of a run.

    Raises:
      OSError: from every method, if the file cannot be written.
    """

    def __init__(self, folder: Path, *, start: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{_PREFIX}{_after_earlier(folder)}.{socket.gethostname()}.{start}"
        self._file, self._flushed = RecordWriter(str(folder / name)), time.monotonic()
        self._add(Event(file_version="brain.Event:2"))
        if start:  # hides the events that an earlier process wrote of later steps
            self._add(Event(step=start + 1, session_log=SessionLog(status=SessionLog.START)))

    def scalar(self, step: int, name: str, value: float) -> None:
        """Adds a number, which is finite."""
        self._add(Event(step=step, summary=summary.scalar(name, value)))

    def image(self, step: int, name: str, array: np.ndarray) -> None:
        """Adds a picture, uint8 [H, W] or [H, W, 3]."""
        layout = "HW" if array.ndim == 2 else "HWC"
        self._add(Event(step=step, summary=summary.image(name, array, dataformats=layout)))

    def close(self) -> None:
        """Writes what is buffered and closes the file."""
        self._file.close()

    def _add(self, event: Event) -> None:
        event.wall_time = time.time()
        self._file.write(event.SerializeToString())
        if time.monotonic() - self._flushed > _FLUSH_SECONDS:
            self._file.flush()
            self._flushed = time.monotonic()


def _after_earlier(folder: Path) -> int:
    """The time, or where the clock was set back since, the second after the latest file.

    TensorBoard reads files in the order of their names: one that came before its predecessor could
    not hide that one's later steps.
    """
    found = (path.name.removeprefix(_PREFIX) for path in folder.glob(f"{_PREFIX}*"))
    times = (name.partition(".")[0] for name in found)
    return max([int(time.time()), *(int(earlier) + 1 for earlier in times if earlier.isdecimal())])
