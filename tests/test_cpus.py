"""What a command does with its memory on CPUs."""

from __future__ import annotations

import platform
import resource
import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
from sbir_jax.verbs import runs
if sys.argv[1] == "as a verb":
    runs.ready_libraries("off")
import jax, jax.numpy as jnp
program, x = jax.jit(lambda x: (jnp.sin(x @ x.T) @ x).sum()), jnp.ones((4096, 64))
counts = [0]
for _ in range(7):
    program(x).block_until_ready()
    counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print(min(after - before for before, after in zip(counts[2:], counts[3:])))
"""
SCRATCH = 4096 * 4096 * 4  # bytes of that program


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told to keep memory")
def test_a_program_has_its_scratch_again():
    """Called again, it finds pages that it had before; elsewhere the kernel clears all anew."""
    faults = {
        how: int(subprocess.check_output([sys.executable, "-c", SCRIPT, how], text=True))
        for how in ("as a verb", "plain")
    }
    assert faults["as a verb"] < 1000
    assert faults["plain"] >= SCRATCH / resource.getpagesize()
