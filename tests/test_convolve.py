"""What `models.convolve` computes in ways of its own is the convolution of Flax, and its slopes."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sbir_jax.backbones import BACKBONES
from sbir_jax.models.compiling import compiler_options
from sbir_jax.models.convolve import by_patches, by_rows, convolve, halving


def layer(side: int, stride: int, padding, *, dtype=jnp.float32, bias=False) -> nnx.Conv:
    shape = {"kernel_size": (side, side), "strides": (stride, stride), "padding": padding}
    return nnx.Conv(3, 8, **shape, use_bias=bias, dtype=dtype, rngs=nnx.Rngs(0))


def agree(call, conv: nnx.Conv, size: tuple[int, int]) -> None:
    """Values and slopes of `call(conv, x)`, compiled as a train step is, are those of `conv(x)`."""
    options = compiler_options(BACKBONES["resnet18"].spec, "cpu", deterministic=True)
    x = np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32)
    weights = np.random.default_rng(1).normal(size=conv(x).shape).astype(np.float32)
    graphdef, params = nnx.split(conv)

    def loss(call, params, x):
        y = call(nnx.merge(graphdef, params), x)
        return (y * weights).sum(), y

    found, expected = (
        jax.jit(jax.value_and_grad(partial(loss, how), (0, 1), has_aux=True), compiler_options=o)(
            params, x
        )
        for how, o in ((call, options), (lambda conv, x: conv(x), {}))
    )
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-3), found, expected)


@pytest.mark.parametrize("train", (False, True))
@pytest.mark.parametrize("stride", (1, 2))
def test_a_convolution_whose_input_and_slope_are_in_memory(stride, train):
    """In training, with what CPUs are asked to keep, and without."""
    conv = layer(3, stride, ((1, 1), (1, 1)))
    agree(partial(convolve, train=train), conv, (9, 12))


@pytest.mark.parametrize("bias", (False, True))
@pytest.mark.parametrize("stride, size", ((1, (2, 2)), (1, (1, 5)), (2, (4, 4)), (2, (3, 9))))
def test_a_convolution_to_a_map_smaller_than_its_kernel(stride, size, bias):
    """As a product of windows, which is what it is compiled to: there is no convolution left."""
    conv = layer(3, stride, ((1, 1), (1, 1)), bias=bias)
    agree(partial(convolve, train=True), conv, size)
    traced = jax.make_jaxpr(lambda x: convolve(conv, x, train=True))(jnp.zeros((2, *size, 3)))
    assert "conv_general_dilated" not in str(traced)


@pytest.mark.parametrize("size", ((32, 48), (34, 31)))
def test_a_convolution_by_patches(size):
    """As one product; rows and columns that fill no patch are left out, as by the convolution."""
    agree(by_patches, layer(4, 4, "VALID"), size)


@pytest.mark.parametrize("bias", (False, True))
@pytest.mark.parametrize("size", ((32, 48), (34, 31)))
def test_a_convolution_by_rows_of_patches(size, bias):
    """Whose pixels are channels; what fills no patch is left out here too."""
    agree(by_rows, layer(4, 4, "VALID", bias=bias), size)


@pytest.mark.parametrize("train", (False, True))
@pytest.mark.parametrize("size", ((32, 48), (33, 32)))
def test_a_stem_by_two_by_two_pixels(size, train):
    """Or, of odd sides, one at a time."""
    agree(partial(halving, train=train), layer(7, 2, ((3, 3), (3, 3))), size)


def test_bfloat16_stays():
    """A layer in bfloat16 convolves float32 images in bfloat16, in whichever way."""
    images = jnp.linspace(0, 1, 2 * 8 * 8 * 3).reshape(2, 8, 8, 3)
    patches = layer(4, 4, "VALID", dtype=jnp.bfloat16)
    windows = layer(3, 1, ((1, 1), (1, 1)), dtype=jnp.bfloat16)
    for call, conv, x in (
        (by_patches, patches, images),
        (by_rows, patches, images),
        (partial(convolve, train=True), windows, images[:, :2, :2]),
    ):
        found, expected = call(conv, x), conv(x)
        assert found.dtype == expected.dtype == jnp.bfloat16
        wide = (y.astype(jnp.float32) for y in (found, expected))
        np.testing.assert_allclose(*wide, rtol=0.02, atol=0.005)
