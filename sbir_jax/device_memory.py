"""How much memory a device has left: its own, or on CPUs the machine's."""

from __future__ import annotations

import resource
import sys
from collections.abc import Sequence
from pathlib import Path

import jax

_MEMINFO = Path("/proc/meminfo")
_STATM = Path("/proc/self/statm")
_CGROUP = Path("/sys/fs/cgroup/memory.max")


def room(device: jax.Device) -> int | None:
    """Bytes that can still be allocated on a device; None where nobody says.

    On CPUs: what the kernel calls available, at most what the container may take, in equal shares
    of JAX's CPU devices.
    """
    stats = device.memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats["bytes_in_use"]
    if device.platform != "cpu" or not _MEMINFO.exists():
        return None
    free = available(_MEMINFO.read_text())
    limit = _CGROUP.read_text().strip() if _CGROUP.exists() else "max"
    if limit != "max":
        free = min(free, max(int(limit) - _resident(), 0))
    return free // jax.local_device_count("cpu")


def usage(devices: Sequence[jax.Device]) -> dict[str, float]:
    """MiB in use now and at most so far, of the fullest device; on CPUs of this process."""
    stats = [device.memory_stats() for device in devices]
    if all(stat and "peak_bytes_in_use" in stat for stat in stats):
        used, peak = (max(s[name] for s in stats) for name in ("bytes_in_use", "peak_bytes_in_use"))
    elif devices[0].platform == "cpu":
        unit = 1 if sys.platform == "darwin" else 1024
        peak = unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        used = _resident() if _STATM.exists() else peak
        peak = max(used, peak)  # the kernel's two counters lag each other
    else:
        return {}
    return {"perf/memory_mib": used / 2**20, "perf/memory_peak_mib": peak / 2**20}


def available(meminfo: str) -> int:
    """Bytes that a text like that of /proc/meminfo calls available."""
    (line,) = (line for line in meminfo.splitlines() if line.startswith("MemAvailable:"))
    return 1024 * int(line.split()[1])


def _resident() -> int:
    return int(_STATM.read_text().split()[1]) * resource.getpagesize()
