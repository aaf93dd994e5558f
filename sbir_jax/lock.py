"""Locks of the operating system, which die with the process that holds them; one run a workdir.

On NFS the lock is as good as the mount: with `local_lock` or `nolock`, or on a server without a
lock service, it keeps out processes of the same host only. Where the system has no `flock`
(Windows) nothing is locked.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from sbir_jax.setting import ConfigError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EINVAL)  # of file systems that have none


class WorkdirInUse(RuntimeError):
    """Another process trains in this workdir; the message names it."""


@contextlib.contextmanager
def only_run_in(workdir: Path) -> Iterator[None]:
    """Makes the workdir and holds it for the duration of the block.

    The file `lock` stays behind, unlocked: to delete it would let two later runs lock two files.

    Raises:
      WorkdirInUse: another process holds it.
      ConfigError: the workdir cannot be made or written to.
    """
    path = Path(workdir) / "lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--workdir={workdir}: {error.strerror}") from error
    with file:
        if not take(file):
            raise WorkdirInUse(
                f"{workdir} is in use by {_holder(file)}; wait for it or choose another --workdir"
            )
        file.truncate(0)
        file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
        file.flush()
        yield


def take(file: IO, *, wait: bool = False) -> bool:
    """Takes the lock of an open file, which the system lets go of when the process dies.

    Returns:
      Whether it was taken: False if another process holds it and this one shall not `wait`. Where
      nothing can be locked everyone takes it.
    """
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return True


def _holder(file: IO) -> str:
    file.seek(0)
    try:
        held = json.loads(file.read())
        return f"process {held['pid']} on {held['host']}"
    except (ValueError, KeyError, TypeError):
        return "another process"
