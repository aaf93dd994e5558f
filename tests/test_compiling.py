"""A train step on CPUs is compiled with what makes it fast there, where XLA knows of it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from sbir_jax.backbones import BACKBONES
from sbir_jax.models import compiling


def of(backbone: str, platform: str, *, deterministic: bool = True) -> dict:
    spec = BACKBONES[backbone].spec
    return compiling.compiler_options(spec, platform, remat="none", deterministic=deterministic)


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


@pytest.mark.parametrize(
    ("backbone", "platform"), [("resnet18", "tpu"), ("vit_tiny_patch16", "cpu")]
)
def test_others_have_no_options(backbone, platform):
    """Neither on other devices nor for models that YNNPACK is good for."""
    assert of(backbone, platform) == {}


def test_gpus_are_asked_for_the_same_numbers_again_unless_speed_is_wanted():
    """XLA knows the option, here too; whether GPUs keep to it only a GPU can show."""
    options = of("resnet18", "gpu")
    assert options and of("resnet18", "gpu", deterministic=False) == {}
    assert int(jax.jit(lambda: 3, compiler_options=options)()) == 3


def test_an_option_that_xla_does_not_know_is_left_out(monkeypatch):
    """The options are experimental: a version without them still trains."""
    monkeypatch.setattr(compiling, "_RESNETS", {"xla_cpu_experimental_of_another_version": "x"})
    assert of("resnet18", "cpu") == {}
