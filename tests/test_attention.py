"""cuDNN's attention: where it is used, and what is done around it; the kernel needs a GPU."""

from __future__ import annotations

import dataclasses
import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sbir_jax.backbones import spec_of
from sbir_jax.config import default_config, resolve
from sbir_jax.models import attention, dual, vit


@pytest.mark.parametrize(
    "capability, heads, width, dtype, fits",
    (
        ("9.0", 12, 768, jnp.bfloat16, True),
        ("8.6", 16, 1152, jnp.float16, True),  # 72 channels a head
        ("9.0", 12, 768, jnp.float32, False),
        ("7.5", 12, 768, jnp.bfloat16, False),
        ("gfx942", 12, 768, jnp.bfloat16, False),  # as AMD's name theirs
        ("9.0", 3, 180, jnp.bfloat16, False),  # 60 channels are not a multiple of 8
        ("9.0", 2, 512, jnp.bfloat16, False),  # 256 are too many
        (None, 12, 768, jnp.bfloat16, False),  # a CPU or TPU
    ),
)
def test_the_kernel_is_for_half_precision_on_nvidias_gpus(
    monkeypatch, capability, heads, width, dtype, fits
):
    """From compute capability 8 on, heads of at most 128 channels, a multiple of 8."""
    device = SimpleNamespace() if capability is None else SimpleNamespace(
        compute_capability=capability
    )  # fmt: skip
    monkeypatch.setattr(jax, "local_devices", lambda: [device])
    assert attention.fits_one_kernel(heads, width, dtype) == fits


@pytest.fixture
def stand_in(monkeypatch):
    """In place of the kernel: JAX's own attention, masked as the kernel would be, which also takes
    an even number of tokens only. The calls it had."""
    calls, plain = [], jax.nn.dot_product_attention

    def kernel(q, k, v, *, implementation=None, **masked):
        if implementation == "cudnn":
            assert q.shape[1] % 2 == 0
            calls.append(masked.keys())
        return plain(q, k, v, **masked)

    monkeypatch.setattr(jax.nn, "dot_product_attention", kernel)
    return calls


@pytest.mark.parametrize("backbone", ("vit_tiny_patch16", "vit_base_patch16_siglip"))
def test_a_padded_token_changes_nothing(stand_in, backbone):
    """A trunk of an odd number of tokens gives the same features and gradients either way, and one
    of an even number is not padded."""
    spec = dataclasses.replace(
        spec_of(backbone, image_size=48, width=32, lora_rank=0), width=32, heads=4, depth=2
    )
    tokens = 9 + (spec.pool == "token")
    trunk = vit.Trunk(spec, dtype=jnp.float32, rngs=nnx.Rngs(0))
    graphdef, params = nnx.split(trunk)
    x = np.random.default_rng(0).normal(size=(2, tokens, 32)).astype(np.float32)

    @functools.partial(jax.value_and_grad, argnums=(0, 1))
    def loss(params, x, fused):
        trunk = nnx.merge(graphdef, params)
        trunk.fused = fused
        return (trunk(x, train=True) ** 2).sum()

    found = loss(params, x, True)
    assert stand_in and all(bool(masked) == bool(tokens % 2) for masked in stand_in)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=2e-4, atol=2e-5),
        found,
        loss(params, x, False),
    )


@pytest.mark.parametrize("fused", (True, False))
def test_the_kernel_can_be_declined(monkeypatch, stand_in, fused):
    """A training pass and an embedding take it where it fits, unless told not to."""
    monkeypatch.setattr(vit, "fits_one_kernel", lambda *_: True)
    config = default_config()
    config.model.backbone = "vit_tiny_patch16"
    model = dual.build(resolve(config).model, jax.random.key(0), image_size=32)
    sketch, photo = (jax.ShapeDtypeStruct((2, 32, 32, c), jnp.float32) for c in (1, 3))
    train = functools.partial(dual.apply_train, *model, key=jax.random.key(0), fused=fused)
    embed = functools.partial(dual.apply_embed, *model, modality="photo", fused=fused)
    for trace in (
        lambda: jax.eval_shape(train, sketch, photo),
        lambda: jax.eval_shape(embed, photo),
    ):
        trace()
        assert bool(stand_in) == fused
        stand_in.clear()
