"""Arrays that are to be read from memory instead of computed once more."""

from __future__ import annotations

from typing import Literal, TypeVar

import jax

_Arrays = TypeVar("_Arrays")

_PLATFORMS = {"cpu": ("cpu",), "gpu": ("cuda", "rocm")}  # as JAX names them


def materialised(x: _Arrays, where: Literal["cpu", "gpu"]) -> _Arrays:
    """`x`, arrays in any nesting; where the program is compiled for that, as arrays in memory.

    XLA joins what makes an array with each of its readers, which then make it anew. On CPUs a view
    of an image was sampled for every reader of its colours, and BatchNorm computed again in the
    order of a transpose, a cache line for each number. On GPUs LayerNorm's statistics were computed
    again for its gradient, in kernels that took three times as long as reading their maps. What is
    worth keeping differs between the two. Elsewhere XLA is left to decide.

    On CPUs `models.compiling.compiler_options` has to be given to `jax.jit`: XLA for CPUs drops
    such barriers by itself.
    """
    barriers = {name: jax.lax.optimization_barrier for name in _PLATFORMS[where]}
    return jax.lax.platform_dependent(x, default=lambda untouched: untouched, **barriers)
