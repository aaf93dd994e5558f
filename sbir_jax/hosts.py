"""The processes that train together: how they find each other, wait, and agree.

Usually one a host, with all of its devices. Every process runs the same program on its own rows of
each batch; the first one alone writes files and speaks.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils

from sbir_jax.meeting import Meeting
from sbir_jax.setting import ConfigError

_JOIN_S = 300  # until the others are given up
_LEAVE_S = 15  # a process that failed waits so long for the others, which then end too
_FOUND_BY = "a TPU pod, Slurm, Open MPI or Kubernetes job"


@contextlib.contextmanager
def together(where: Meeting | None, *, wait_s: float = _JOIN_S) -> Iterator[None]:
    """Joins the other processes for the block, before JAX has looked for devices.

    When they are not there in time the process ends with one line and code 1: JAX's client would
    end it anyway, with a stack trace in place of an exception.

    Raises:
      ConfigError: nothing says where to meet.
    """
    if where is None:
        yield
        return
    late = threading.Timer(wait_s, _give_up, (where, wait_s))
    late.daemon = True
    late.start()
    try:
        jax.distributed.initialize(
            where.coordinator or None,
            where.processes,
            where.process,
            initialization_timeout=int(wait_s) + 60,  # the timer is first
            shutdown_timeout_seconds=_LEAVE_S,
            # Else process 0 listens on every address of its host.
            coordinator_bind_address=where.coordinator if _is_loopback(where) else None,
            # Given coordinates are all there is: no cluster is looked for.
            cluster_detection_method="deactivate" if where.coordinator else None,
        )
    except (ValueError, RuntimeError) as error:
        found = str(error).splitlines()[0]
        why = f"this is not {_FOUND_BY}" if "should be defined" in found else found
        advice = "give --coordinator, --num_processes and --process_id"
        raise ConfigError(f"{where}: {why}; {advice}") from error
    finally:
        late.cancel()
    yield
    wait("the run is over")  # so that no one leaves long before the last


def _is_loopback(where: Meeting) -> bool:
    return where.coordinator.startswith(("127.", "localhost:", "[::1]:"))


def _give_up(where: Meeting, wait_s: float) -> None:
    if where.process:
        why = f"process 0 was not reached there within {wait_s:.0f} s"
    elif where.processes:
        why = f"not all of {where.processes} processes came within {wait_s:.0f} s"
    else:
        why = f"not all processes came within {wait_s:.0f} s"
    print(f"launch.py: {where}: {why}; is every one started?", file=sys.stderr, flush=True)
    os._exit(1)


def is_first() -> bool:
    """Whether this process is the one that writes files and speaks."""
    return jax.process_index() == 0


def wait(what: str) -> None:
    """Returns when every process is here; all must give the same `what`."""
    multihost_utils.sync_global_devices(what)  # one process alone does not wait


def as_first_has_it(value: np.ndarray) -> np.ndarray:
    """The array as process 0 has it, to the bit, of a shape and dtype that all have.

    What decides how training goes on must not differ between processes by a rounding.
    """
    if jax.process_count() == 1:
        return value
    value = np.ascontiguousarray(value)
    sent = multihost_utils.broadcast_one_to_all(value.reshape(-1).view(np.uint8))
    return np.asarray(sent, np.uint8).view(value.dtype).reshape(value.shape)
