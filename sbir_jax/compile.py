"""Compiling the step before the first one: how long it took, what it costs, whether it fits."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax

from sbir_jax import flops
from sbir_jax.config import RunConfig


class DoesNotFit(RuntimeError):
    """The run needs more memory than the devices have; the message says what would need less."""


@dataclasses.dataclass(frozen=True)
class Need:
    """Bytes that a compiled program needs on each device.

    Attributes:
      arguments: what it is called with, which is there already.
      more: on top of these while it runs: scratch, and results that take no argument's place.
    """

    arguments: int
    more: int

    @property
    def total(self) -> int:
        return self.arguments + self.more


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A compiled function: call it with arguments like those it was compiled for.

    Attributes:
      call: the executable.
      seconds: that compiling took, tracing included.
      cached: whether it came from the compilation cache.
      flops: floating-point operations of a call, over all devices (`flops.of_program`).
      need: memory; None where the compiler does not say.
    """

    call: Callable
    seconds: float
    cached: bool
    flops: float
    need: Need | None

    def __str__(self) -> str:
        how = "loaded from the compilation cache" if self.cached else "compiled"
        used = f", {self.need.total / 2**20:,.0f} MiB a device" if self.need else ""
        return f"{how} in {self.seconds:.1f} s{used}"


def compile_ahead(function: Any, *arguments: Any) -> Compiled:
    """Compiles a jitted function for such arguments (arrays, or shapes with shardings)."""
    started, before = time.perf_counter(), _events["hits"]
    traced = function.trace(*arguments)
    executable = traced.lower().compile()
    seconds = time.perf_counter() - started
    need, memory = None, executable.memory_analysis()
    if memory is not None:
        more = memory.temp_size_in_bytes + memory.generated_code_size_in_bytes
        more += memory.output_size_in_bytes - memory.alias_size_in_bytes
        need = Need(memory.argument_size_in_bytes, more)
    cached = _events["hits"] > before
    return Compiled(executable, seconds, cached, flops.of_program(traced.jaxpr), need)


def check_fits(need: Need | None, room: int | None, *, advice: str) -> None:
    """Compares a program's need with the `room` left on its device, in bytes.

    Nothing is checked where one of them is not known.

    Raises:
      DoesNotFit: it needs more than there is.
    """
    if need is None or room is None or need.more <= room:
        return
    has = need.arguments + room  # the arguments are there already
    raise DoesNotFit(
        f"does not fit: needs {need.total / 2**30:.1f} GiB of {has / 2**30:.1f} GiB a device; "
        f"try {advice}"
    )


@contextlib.contextmanager
def explained(advice: str) -> Iterator[None]:
    """Turns the allocator's or compiler's word of exhausted memory into `DoesNotFit`."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        asked = re.search(r"allocat\w* (\d+) bytes", str(error))
        what = f"XLA could not allocate {int(asked[1]) / 2**30:.1f} GiB" if asked else "XLA says so"
        raise DoesNotFit(f"does not fit: out of device memory ({what}); try {advice}") from error


def advice(run: RunConfig, *, devices: int) -> str:
    """Settings that would need less memory than those of `run`, the most useful first."""
    batch = run.data.batch_size
    now = run.train.chunk or batch
    smaller = [rows for rows in range(devices, now // 2 + 1, devices) if batch % rows == 0]
    tries = []
    if smaller:  # a quarter of the activations, or near it
        tries.append(f"config.train.chunk={min(smaller, key=lambda rows: abs(rows - now / 4))}")
    tries.append(f"config.data.batch_size below {batch}")
    if run.model.remat != "blocks":
        tries.append("config.model.remat=blocks")
    if run.model.dtype == "float32":
        tries.append("config.model.dtype=bfloat16")
    if devices > 1 and not run.train.fsdp:
        tries.append("config.train.fsdp=True")
    if run.data.cache in ("auto", "device"):
        tries.append("config.data.cache=host")
    return ", ".join(tries)


_events = {"hits": 0}


def _on_event(event: str, **_details: Any) -> None:
    if event == "/jax/compilation_cache/cache_hits":
        _events["hits"] += 1


jax.monitoring.register_event_listener(_on_event)
