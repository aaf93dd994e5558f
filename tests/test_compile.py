"""Compiling ahead: what a step needs is told before it runs, and what cannot run says why."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache
from tiny import metric_lines, tiny_run

from sbir_jax import compile_cache, device_memory
from sbir_jax import train as train_module
from sbir_jax.compile import (
    DoesNotFit,
    Need,
    advice,
    check_fits,
    compile_ahead,
    explained,
)

GIB = 1 << 30


# Does it fit?


def test_what_does_not_fit_is_one_line_with_both_sizes():
    """60 GiB of arguments are on the device, 19.6 are left, 32 more are needed: 92 of 79.6."""
    need = Need(arguments=60 * GIB, more=32 * GIB)
    with pytest.raises(DoesNotFit) as caught:
        check_fits(need, int(19.6 * GIB), advice="config.train.chunk=32, less")
    assert str(caught.value) == (
        "does not fit: needs 92.0 GiB of 79.6 GiB a device; try config.train.chunk=32, less"
    )


@pytest.mark.parametrize(
    "need, room", [(Need(60, 32), 32), (Need(60, 0), 0), (None, 0), (Need(1, 1), None)]
)
def test_what_fits_or_is_not_known_passes(need, room):
    """A need of exactly the room passes; nothing is refused on a guess."""
    check_fits(need, room, advice="")


def test_need_counts_arguments_scratch_and_results_once():
    """[n] -> [n, n] product and its row sums: n arguments, n x n scratch, n results; donated, the
    results take the arguments' place."""
    n = 512

    def far(x):
        return jnp.sort(x[:, None] * x[None, :], axis=0).sum(axis=0)

    x = jax.ShapeDtypeStruct((n,), jnp.float32)
    kept = compile_ahead(jax.jit(far), x).need
    given = compile_ahead(jax.jit(far, donate_argnums=0), x).need
    assert kept.arguments == given.arguments == 4 * n
    assert kept.more - given.more == 4 * n
    assert 4 * n * n <= given.more < 3 * 4 * n * n
    assert kept.total == kept.arguments + kept.more


def test_a_run_that_does_not_fit_stops_before_its_first_step(
    tiny_data, tmp_path, mesh, small_model, monkeypatch
):
    """With room for 16 KiB the run ends in one line that names settings, and trains nothing."""
    monkeypatch.setattr(device_memory, "room", lambda device: 1 << 14)
    with pytest.raises(DoesNotFit) as caught:
        train_module.train(tiny_run(tiny_data), tmp_path, mesh=mesh)
    words = str(caught.value)
    assert words.startswith("does not fit: needs 0.0 GiB of 0.0 GiB a device; try ")
    assert "\n" not in words and "config.train.chunk=2" in words
    assert metric_lines(tmp_path) == []


@pytest.mark.parametrize(
    "told, shown",
    [
        (
            "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 98784247808 bytes.",
            "XLA could not allocate 92.0 GiB",
        ),
        ("RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory", "XLA says so"),
    ],
)
def test_exhausted_memory_in_a_run_gives_the_same_advice(
    told, shown, tiny_data, tmp_path, mesh, small_model, monkeypatch
):
    """Whether XLA gives up while compiling or in a step, the run ends with settings to try."""

    def gives_up(*_):
        raise jax.errors.JaxRuntimeError(told)

    monkeypatch.setattr("sbir_jax.plan.compile_ahead", gives_up)
    with pytest.raises(DoesNotFit) as caught:
        train_module.train(tiny_run(tiny_data), tmp_path, mesh=mesh)
    assert str(caught.value).startswith(
        f"does not fit: out of device memory ({shown}); try config.train.chunk=2, "
    )


def test_a_real_allocation_that_fails_is_explained_and_other_errors_are_not():
    """64 TiB of random numbers: XLA's own message is understood; a bug keeps its traceback."""
    with pytest.raises(DoesNotFit, match=r"could not allocate 65536.0 GiB\); try less"):  # noqa: SIM117
        with explained("less"):
            jax.block_until_ready(
                jax.jit(lambda key: jax.random.normal(key, (1 << 44,)))(jax.random.key(0))
            )
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"), explained("less"):
        raise jax.errors.JaxRuntimeError("INTERNAL: a bug")


def test_advice_names_only_what_the_run_can_still_do(tmp_path):
    """A chunk must divide the batch and the devices; what is done already is not advised."""
    run = tiny_run(tmp_path, {"data.batch_size": 64})
    words = (
        "config.train.chunk=16, config.data.batch_size below 64, config.model.remat=blocks, "
        "config.model.dtype=bfloat16"
    )
    assert advice(run, devices=1).startswith(words)
    assert "config.train.fsdp" not in advice(run, devices=1)
    assert "config.train.fsdp=True" in advice(run, devices=8)
    assert "config.data.cache=host" in advice(run, devices=1)
    run = tiny_run(
        tmp_path,
        {
            "data.batch_size": 24,
            "train.chunk": 8,
            "train.fsdp": True,
            "model.dtype": "bfloat16",
            "model.remat": "blocks",
            "data.cache": "host",
        },
    )
    assert advice(run, devices=8) == "config.data.batch_size below 24"
    assert advice(run, devices=2) == "config.train.chunk=2, config.data.batch_size below 24"


def test_room_on_cpus_is_what_the_kernel_calls_available():
    """The eight simulated devices share it; the kernel's text is read in KiB."""
    text = "MemTotal:  100 kB\nMemFree:  1 kB\nMemAvailable:   24576 kB\nCached: 3 kB\n"
    assert device_memory.available(text) == 24 << 20
    room = device_memory.room(jax.devices()[0])
    free = device_memory.available(Path("/proc/meminfo").read_text())
    assert 0 < room <= 1.5 * free / 8


def test_an_accelerator_has_the_room_that_its_allocator_has_left():
    """bytes_limit - bytes_in_use, and the fullest device counts for what is logged."""

    @dataclasses.dataclass
    class Device:
        used: int
        platform: str = "gpu"

        def memory_stats(self):
            return {
                "bytes_limit": 80 << 20,
                "bytes_in_use": self.used << 20,
                "peak_bytes_in_use": 2 * self.used << 20,
            }

    devices = [Device(10), Device(30)]
    assert device_memory.room(devices[0]) == 70 << 20
    assert device_memory.usage(devices) == {"perf/memory_mib": 30, "perf/memory_peak_mib": 60}


def test_memory_in_use_on_cpus_is_that_of_the_process():
    """Touching 64 MiB more shows in both figures."""
    before = device_memory.usage(jax.devices())
    held = np.ones(64 << 20, np.uint8)
    after = device_memory.usage(jax.devices())
    assert after["perf/memory_mib"] - before["perf/memory_mib"] > 48 * held[0]
    assert after["perf/memory_peak_mib"] >= after["perf/memory_mib"] - 1


# The compilation cache


@pytest.fixture
def fresh_cache(monkeypatch, tmp_path):
    """The user's cache directory, empty; the tests' own cache is back afterwards."""
    names = ("jax_compilation_cache_dir", "jax_enable_compilation_cache")
    before = {name: getattr(jax.config, name) for name in names}
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.reset_cache()
    yield tmp_path / "cache"
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def test_a_program_compiled_ahead_is_loaded_the_next_time_and_is_the_same(fresh_cache):
    """The second process's compile (here: after jax's caches are cleared) comes from the user's
    cache directory, and its results are equal to the bit."""

    def function(x):
        return jnp.tanh(x @ x.T).sum(axis=0) / jnp.linalg.norm(x)

    x = jax.random.normal(jax.random.key(0), (96, 96))
    assert compile_cache.use_compile_cache() == ""
    first = compile_ahead(jax.jit(function), x)
    jax.clear_caches()
    second = compile_ahead(jax.jit(function), x)
    assert (first.cached, second.cached) == (False, True)
    assert str(second).startswith("loaded from the compilation cache in ")
    entries = list((fresh_cache / "sbir_jax/compiled" / f"{os.cpu_count()}-cores").glob("*-cache"))
    assert entries
    np.testing.assert_array_equal(first.call(x), second.call(x))


def test_the_cache_can_be_elsewhere_or_off(fresh_cache, tmp_path, monkeypatch):
    """--compile_cache=DIR, --compile_cache=off, and JAX's own variable, which wins over ours."""
    assert compile_cache.use_compile_cache(str(tmp_path / "mine")) == ""
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "mine")
    assert compile_cache.use_compile_cache() == ""  # as if the variable had said so
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "mine")
    assert compile_cache.use_compile_cache("off") == ""
    compilation_cache.reset_cache()
    jax.clear_caches()
    x = jnp.ones(7)
    for _ in range(2):
        assert not compile_ahead(jax.jit(lambda x: jnp.cos(x) + 3), x).cached
        jax.clear_caches()


def test_a_cache_that_cannot_be_written_is_told_and_done_without(fresh_cache):
    """A file where the directory should be: a reason in words, no cache, no error."""
    fresh_cache.write_text("")
    why = compile_cache.use_compile_cache()
    assert "sbir_jax/compiled" in why and why.endswith("Not a directory")
    assert jax.config.jax_compilation_cache_dir is None


def test_entries_older_than_a_month_are_dropped(fresh_cache):
    """Only entries, and only old ones."""
    folder = compile_cache.default_folder()
    folder.mkdir(parents=True)
    for name in ("old-cache", "new-cache", "old.txt"):
        (folder / name).write_text("")
        if name.startswith("old"):
            os.utime(folder / name, (0, 0))
    assert compile_cache.use_compile_cache() == ""
    assert sorted(p.name for p in folder.iterdir()) == ["new-cache", "old.txt"]
