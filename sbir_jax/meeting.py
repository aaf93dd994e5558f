"""Where processes that train together meet, as the command line says it. No JAX here."""

from __future__ import annotations

import dataclasses
import re

from sbir_jax.setting import ConfigError


@dataclasses.dataclass(frozen=True)
class Meeting:
    """Where processes meet, as the command line says it.

    Attributes:
      coordinator: host:port of process 0; empty: the cluster says it.
      processes: how many there are; None: the cluster says it.
      process: number of this one, from 0; None: likewise.
    """

    coordinator: str = ""
    processes: int | None = None
    process: int | None = None

    def __str__(self) -> str:
        if not self.coordinator:
            return "--distributed=auto"
        return f"--coordinator={self.coordinator}"


def meeting(
    distributed: str, coordinator: str, num_processes: str, process_id: str
) -> Meeting | None:
    """Reads the four flags; None where a process trains alone.

    Raises:
      ConfigError: flags that do not go together, or are none.
    """
    own = {"coordinator": coordinator, "num_processes": num_processes, "process_id": process_id}
    given = [f"--{name}" for name, value in own.items() if value]
    if distributed and distributed != "auto":
        raise ConfigError(f"--distributed={distributed}: valid: auto")
    if distributed and given:
        raise ConfigError(f"--distributed=auto finds everything itself; leave out {given[0]}")
    if distributed:
        return Meeting()
    if not given:
        return None
    if missing := [f"--{name}" for name, value in own.items() if not value]:
        raise ConfigError(f"{given[0]}: {missing[0]} is missing; all three go together")
    if not re.fullmatch(r"[^\s:]+:\d+|\[[0-9A-Fa-f:]+\]:\d+", coordinator):
        raise ConfigError(f"--coordinator={coordinator}: write HOST:PORT, as in 10.0.0.1:8476")
    for name in ("num_processes", "process_id"):
        if not own[name].isdecimal():
            raise ConfigError(f"--{name}={own[name]}: expected a whole number")
    count, number = int(num_processes), int(process_id)
    if count < 1:
        raise ConfigError(f"--num_processes={count}: at least 1")
    if number >= count:
        raise ConfigError(f"--process_id={number}: valid from 0 to {count - 1}")
    return Meeting(coordinator, count, number)
