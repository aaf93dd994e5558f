"""What the machine offers: versions, devices, and whether a program compiles and counts right."""

from __future__ import annotations

import dataclasses
import platform
import time
from collections.abc import Iterator
from importlib import metadata
from typing import Literal

import jax
import numpy as np

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "tensorflow-datasets")
_SIDE = 256


@dataclasses.dataclass(frozen=True)
class Finding:
    """One line of the doctor's: "ok", "note" (worth knowing) or "problem" (to be mended)."""

    kind: Literal["ok", "note", "problem"]
    text: str

    def __str__(self) -> str:
        return f"{self.kind:9}{self.text}"


def machine_findings() -> Iterator[Finding]:
    """Looks at Python, the libraries and every device that JAX sees."""
    yield Finding("ok", f"Python {platform.python_version()} on {platform.platform()}")
    yield Finding("ok", ", ".join(f"{name} {_version(name)}" for name in _PACKAGES))
    try:
        devices = jax.devices()
    except RuntimeError as error:  # no backend could be started
        yield Finding("problem", f"JAX finds no device: {' '.join(str(error).split())}")
        return
    kinds = sorted({device.device_kind for device in devices})
    yield Finding("ok", f"devices of JAX: {len(devices)} x {', '.join(kinds)}")
    for device in devices:
        yield _product_on(device)
    if devices[0].platform == "cpu":
        yield Finding("note", "no accelerator: for one, install the extra `cuda` or `tpu`")


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "missing"


def _product_on(device: jax.Device) -> Finding:
    """Compiles a product of unit vectors there, at the precision that ranks use."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((_SIDE, 64))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    product = jax.jit(lambda x: jax.numpy.matmul(x, x.T, precision=jax.lax.Precision.HIGHEST))
    started = time.monotonic()
    try:
        found = np.asarray(product(jax.device_put(rows.astype(np.float32), device)))
    except Exception as error:  # whatever a driver raises
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return Finding("problem", f"{device}: a test program does not run ({reason[:200]})")
    seconds = time.monotonic() - started
    worst = float(np.abs(found - rows @ rows.T).max())
    if worst > 1e-5:
        return Finding("problem", f"{device}: products are off by {worst:.1e}; ranks would differ")
    memory = (device.memory_stats() or {}).get("bytes_limit")
    room = f", {memory / 1e9:.0f} GB" if memory else ""
    return Finding(
        "ok", f"{device}: compiled and ran in {seconds:.2f} s, exact to {worst:.0e}{room}"
    )
