"""What XLA is told beside a program: to be fast and small on CPUs, and to give the same numbers
again on GPUs."""

from __future__ import annotations

import functools
from typing import Any

import jax

from sbir_jax.backbones import ResNetSpec, Spec, VGGSpec

# XLA for CPUs takes away barriers between operations before it joins them. With them, arrays that
# were to be in memory are (`materialise`), and an activation and its recomputation stay two: a ViT
# of six blocks with remat needs 16 MiB for its gradient, and 71 without.
_BARRIERS = {"xla_disable_hlo_passes": "cse_barrier_expander"}

# XLA for CPUs (JAX 0.10 to 0.12) gives convolutions to YNNPACK, slower at those of a ResNet than
# what it had before: of 65 x 16 x 16 x 32, 3 x 3, the weights' gradient takes two cores 4.9 ms, and
# 3.2 without. Products and sums stay there. So do the convolutions of a ViT, which hardly has any,
# and of a ConvNeXt, one for each channel: its step takes 1.4 times as long without.
_RESNETS = {
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_DOT,LIBRARY_FUSION_TYPE_REDUCE"
}


# Products by cuBLAS alone, which adds a bias or a residual path on its way out. With Triton's to
# choose from XLA tries each, takes cuBLAS's for nearly all of a ViT, and leaves these sums to
# kernels of their own: the step of a ViT-B/16 takes an H200 2 % longer, and compiling 45 s
# instead of 36.
_GPUS = {"xla_gpu_enable_triton_gemm": False}

# No kernels that add in any order. On an H200 two runs of quickstart.py parted before step 50
# without it; with it their losses were equal, also when each compiled its own programs. The step of
# a ResNet-50 takes 4 % longer, and compiles in 49 s instead of 86.
_DETERMINISTIC = {"xla_gpu_exclude_nondeterministic_ops": True}


def compiler_options(spec: Spec, platform: str, *, deterministic: bool) -> dict[str, Any]:
    """For `jax.jit` of what trains a backbone or embeds by it, on a platform ("cpu", "gpu", "tpu").

    `deterministic` is the setting of the config.
    """
    if platform == "gpu":
        return _GPUS | (_DETERMINISTIC if deterministic else {})
    if platform != "cpu":
        return {}
    dense = isinstance(spec, ResNetSpec | VGGSpec)
    return _BARRIERS | (_RESNETS if dense and _known(*_RESNETS.items()) else {})


@functools.cache
def _known(*options: tuple[str, str]) -> bool:
    """Whether this XLA has these options, which are experimental and may go."""
    try:
        jax.jit(lambda: 0, compiler_options=dict(options)).lower().compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True
