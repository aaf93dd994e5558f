"""The arithmetic a device could do at most, for the share of it that a run uses.

Model FLOP utilisation (Chowdhery et al., PaLM, 2022, appendix B): operations that the model needs
in the time of a step, over those that the devices could have done in it.
"""

from __future__ import annotations

import functools
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh


class Peak(NamedTuple):
    """Dense operations a second of one device, a multiply-add counted as two.

    Attributes:
      flops: by the second.
      source: "published" or "measured".
    """

    flops: float
    source: str


# 1e12 a second, dense (half of what NVIDIA prints with sparsity), by what JAX calls the device:
# bfloat16 products with float32 sums, and float32 ones as XLA multiplies by default, which is
# TF32 from Ampere on and bfloat16 on TPUs. V100 and T4 have no bfloat16 units. Sources: NVIDIA's
# data sheets of V100, T4, A100, L4, H100 and H200, and the Ada whitepaper (RTX 4090); Google
# Cloud's pages of TPU versions, by chip, halved for v2 and v3, whose chips are two devices.
_TERAFLOPS: dict[str, dict[str, float]] = {
    "Tesla V100-SXM2": {"float32": 15.7},
    "Tesla V100-PCIE": {"float32": 14.0},
    "Tesla T4": {"float32": 8.1},
    "NVIDIA A100": {"bfloat16": 312, "float32": 156},
    "NVIDIA L4": {"bfloat16": 121, "float32": 60},
    "NVIDIA H100 80GB HBM3": {"bfloat16": 989.4, "float32": 494.7},  # SXM
    "NVIDIA H100 PCIe": {"bfloat16": 756, "float32": 378},
    "NVIDIA H100 NVL": {"bfloat16": 835.5, "float32": 417.5},
    "NVIDIA H200": {"bfloat16": 989.4, "float32": 494.7},
    "NVIDIA GeForce RTX 4090": {"bfloat16": 165.2, "float32": 82.6},
    "TPU v2": {"bfloat16": 22.5, "float32": 22.5},
    "TPU v3": {"bfloat16": 61.5, "float32": 61.5},
    "TPU v4": {"bfloat16": 275, "float32": 275},
    "TPU v5 lite": {"bfloat16": 197, "float32": 197},
    "TPU v5e": {"bfloat16": 197, "float32": 197},
    "TPU v5": {"bfloat16": 459, "float32": 459},
    "TPU v5p": {"bfloat16": 459, "float32": 459},
    "TPU v6 lite": {"bfloat16": 918, "float32": 918},
    "TPU v6e": {"bfloat16": 918, "float32": 918},
}
# NVIDIA's names go on with the memory's size, as in "NVIDIA A100-SXM4-80GB".
_FAMILIES = ("Tesla V100-SXM2", "Tesla V100-PCIE", "NVIDIA A100")


def published(kind: str, dtype: str) -> float | None:
    """Operations a second by the maker's data sheet; None for a device or type not listed."""
    family = next((name for name in _FAMILIES if kind.startswith(name)), kind)
    teraflops = _TERAFLOPS.get(family, {}).get(dtype)
    return None if teraflops is None else 1e12 * teraflops


def peak(device: jax.Device, dtype: str) -> Peak:
    """The most that a device can do in `dtype`, "bfloat16" or "float32".

    Of devices without a listed number, CPUs among them, the best of a few matrix products.
    """
    known = published(device.device_kind, dtype)
    if known is not None:
        return Peak(known, "published")
    return Peak(measured(device, dtype), "measured")


@functools.cache
def measured(device: jax.Device, dtype: str) -> float:
    """Operations a second of the best of a few matrix products: 10 ms on two CPU cores."""
    # Several wait for each other on the device, so that it never waits for the host. Numbers like
    # those of a network, as GPUs may do more of equal ones.
    side, together = (1024, 1) if device.platform == "cpu" else (8192, 5)
    x = jax.device_put(jax.random.normal(jax.random.key(0), (side, side), dtype), device)
    product = jax.jit(jnp.matmul)
    jax.block_until_ready(product(x, x))
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        jax.block_until_ready([product(x, x) for _ in range(together)])
        seconds.append((time.perf_counter() - started) / together)
    return 2 * side**3 / min(seconds)


def seconds_at_peak(flops: float, mesh: Mesh, dtype: str) -> tuple[float, str]:
    """How long the devices of a mesh would take for so many operations, and a word on the peak.

    JAX's CPU devices share the cores of their machine, so they count as one a process.
    """
    device = mesh.local_devices[0]
    most = peak(device, dtype)
    units = mesh.size
    if device.platform == "cpu":
        units = len({d.process_index for d in mesh.devices.flat})
    words = f"{units} x {most.flops / 1e12:,.3g} TFLOP/s ({most.source}, {dtype})"
    return flops / (units * most.flops), words
