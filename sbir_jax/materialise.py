"""Arrays that CPUs are to read from memory instead of computing them once more."""

from __future__ import annotations

import jax


def materialised(x: jax.Array) -> jax.Array:
    """`x`; on CPUs as an array in memory, where the program is compiled for it.

    XLA for CPUs joins what makes an array with each of its readers, which then make it anew: a view
    of an image was sampled for every reader of its colours, and BatchNorm computed again in the
    order of a transpose, a cache line for each number. Elsewhere XLA is left to decide.

    `models.compiling.compiler_options` has to be given to `jax.jit`: XLA for CPUs drops such
    barriers by itself.
    """
    return jax.lax.platform_dependent(
        x, cpu=jax.lax.optimization_barrier, default=lambda untouched: untouched
    )
