"""How a process runs programs on CPUs."""

from __future__ import annotations

import ctypes

# Parameters of glibc's mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


def run_in_own_thread() -> None:
    """Has JAX run a program for CPUs in the thread that calls it, in memory kept from the last.

    Before JAX knows its devices. By itself it hands the program to a thread of its own, which gains
    nothing where the program takes all cores, and glibc gives large blocks back to the kernel,
    which clears every page anew: the scratch of a step of `configs/pacs_cpu.py` is 27,000 page
    faults. It trains 800 images/s so, and 945 with both settings; either alone gains nothing.

    Blocks of 1 GiB and more, and those of other threads, are still given back. Without glibc
    (macOS, musl) memory is left to what there is.
    """
    import jax

    jax.config.update("jax_cpu_enable_async_dispatch", False)
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # no such function; no such library; Windows
        return
    mallopt(_MMAP_THRESHOLD, 1 << 30)
    mallopt(_TRIM_THRESHOLD, (1 << 31) - 1)
