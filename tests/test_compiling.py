"""Programs for CPUs are compiled with what makes them fast there, where XLA knows of it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from sbir_jax.backbones import BACKBONES
from sbir_jax.materialise import materialised
from sbir_jax.models import compiling


def of(backbone: str, platform: str, *, deterministic: bool = True) -> dict:
    spec = BACKBONES[backbone].spec
    return compiling.compiler_options(spec, platform, deterministic=deterministic)


def test_convolutions_of_a_resnet_are_not_given_to_ynnpack():
    """And without the options they are: once XLA changes that, they can go."""
    options = of("resnet18", "cpu")
    x, w = jnp.ones((8, 16, 16, 32)), jnp.ones((3, 3, 32, 32))

    def conv(x, w):
        return jax.lax.conv_general_dilated(
            x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    plain, ours = (
        jax.jit(conv, compiler_options=given).lower(x, w).compile().as_text()
        for given in ({}, options)
    )
    assert "__ynn_fusion" in plain and "__ynn_fusion" not in ours


def test_others_keep_what_xla_does_by_itself():
    """Neither on other devices nor for models that YNNPACK is good for is it left out."""
    assert of("resnet18", "tpu") == {}
    assert of("vit_tiny_patch16", "cpu") == compiling._BARRIERS


def test_what_is_to_be_in_memory_is_made_once():
    """What two readers have is added up once and kept from both; without the options XLA takes the
    barrier away first, and may add for each of them (JAX 0.10 does)."""
    x = jnp.arange(64.0)

    def readers(x):
        made = materialised(x + 5, "cpu")
        return made * 2, made.reshape(8, 8).max(0)

    plain, ours = (
        jax.jit(readers, compiler_options=given).lower(x).compile().as_text()
        for given in ({}, of("vit_tiny_patch16", "cpu"))
    )
    assert ours.count(" add(") == 1 and ours.count("opt-barrier(") == 1
    assert "opt-barrier(" not in plain


@pytest.mark.parametrize("kept_on", ("cpu", "cuda"))
def test_a_platform_keeps_what_is_meant_for_it(kept_on):
    """Programs for each, made here: one has the barrier, those for others have none."""
    where = {"cpu": "cpu", "cuda": "gpu"}[kept_on]
    traced = jax.jit(lambda x: materialised((x + 5, x), where)).trace(jnp.arange(4.0))
    for platform in ("cpu", "cuda", "tpu"):
        program = traced.lower(lowering_platforms=(platform,)).as_text()
        assert ("optimization_barrier" in program) == (platform == kept_on)


def test_gpus_are_asked_for_the_same_numbers_again_unless_speed_is_wanted():
    """XLA knows the option, here too; whether GPUs keep to it only a GPU can show."""
    options = of("resnet18", "gpu")
    assert set(options) - set(of("resnet18", "gpu", deterministic=False)) == {
        "xla_gpu_exclude_nondeterministic_ops"
    }
    assert int(jax.jit(lambda: 3, compiler_options=options)()) == 3


def test_an_option_that_xla_does_not_know_is_left_out(monkeypatch):
    """The options are experimental: a version without them still trains."""
    monkeypatch.setattr(compiling, "_RESNETS", {"xla_cpu_experimental_of_another_version": "x"})
    assert of("resnet18", "cpu") == compiling._BARRIERS
