"""What `models.norms` and `models.acts` compute in ways of their own."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sbir_jax.models import acts, norms


@pytest.fixture
def maps():
    """Float32 [6, 4, 5, 7], far from zero on average, and weights of a loss of the same shape."""
    rng = np.random.default_rng(0)
    x = rng.normal(3.0, 2.0, (6, 4, 5, 7)).astype(np.float32)
    return x, rng.normal(size=x.shape).astype(np.float32)


def learned(layer: nnx.Module) -> nnx.Module:
    """The layer with a scale and bias that are not 1 and 0."""
    rng = np.random.default_rng(1)
    layer.scale[...] = rng.normal(size=7).astype(np.float32)
    layer.bias[...] = rng.normal(size=7).astype(np.float32)
    return layer


def slopes(layer: nnx.Module, call, x, weights) -> tuple:
    """Loss, gradients of the layer's parameters and of x, by `call(layer, x)`."""
    graphdef, *states = nnx.split(layer, nnx.Param, ...)
    params, rest = map(nnx.to_pure_dict, states)

    def loss(params, x):
        return (call(nnx.merge(graphdef, params, rest), x) * weights).sum()

    value, (of_params, of_x) = jax.value_and_grad(loss, (0, 1))(params, x)
    return value, of_params, of_x


@pytest.mark.parametrize("relu", (False, True))
def test_batch_norm_has_the_gradient_of_flax(maps, relu):
    """Values and gradients are those that JAX derives of Flax's BatchNorm, ReLU after it or not."""
    x, weights = maps

    def theirs(layer, x):
        y = layer(x, use_running_average=False)
        return nnx.relu(y) if relu else y

    own = learned(norms.batch_norm(7, dtype=jnp.float32, rngs=nnx.Rngs(0)))
    flax = learned(nnx.BatchNorm(7, momentum=0.9, epsilon=1e-5, rngs=nnx.Rngs(0)))
    found = slopes(own, lambda layer, x: layer(x, train=True, relu=relu), x, weights)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4), found,
                 slopes(flax, theirs, x, weights))  # fmt: skip


def test_layer_norm_has_the_gradient_of_flax(maps):
    """Values and gradients are those that JAX derives of Flax's LayerNorm."""
    x, weights = maps
    own = learned(norms.layer_norm(7, dtype=jnp.float32, rngs=nnx.Rngs(0)))
    flax = learned(nnx.LayerNorm(7, use_fast_variance=False, rngs=nnx.Rngs(0)))
    found = slopes(own, lambda layer, x: layer(x), x, weights)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), found,
                 slopes(flax, lambda layer, x: layer(x), x, weights))  # fmt: skip


def test_batch_norm_keeps_averages(maps):
    """A training call moves the averages by a tenth; another uses them, and moves nothing."""
    x, _ = maps
    layer = learned(norms.batch_norm(7, dtype=jnp.float32, rngs=nnx.Rngs(0)))
    layer(x, train=True)
    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
    np.testing.assert_allclose(layer.mean[...], 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(layer.var[...], 0.9 + 0.1 * var, rtol=1e-5)
    y = layer(x, train=False)
    unit = (x - 0.1 * mean) / np.sqrt(0.9 + 0.1 * var + 1e-5)
    expected = unit * layer.scale[...] + layer.bias[...]
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(layer.mean[...], 0.1 * mean, rtol=1e-5)


@pytest.mark.parametrize("train", (False, True))
def test_bfloat16_is_rounded_once(maps, train):
    """A layer in bfloat16 gives what the float32 layer gives for its input, rounded at the end."""
    x = jnp.asarray(maps[0], jnp.bfloat16)
    half, single = (
        learned(norms.batch_norm(7, dtype=dtype, rngs=nnx.Rngs(0)))
        for dtype in (jnp.bfloat16, jnp.float32)
    )
    for layer in (half, single):
        layer.mean[...] = jnp.linspace(2.9, 3.1, 7)  # not numbers that bfloat16 has
    found, exact = half(x, train=train), single(x.astype(jnp.float32), train=train)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_array_equal(found, exact.astype(jnp.bfloat16))


@pytest.mark.parametrize(
    "own, plain",
    (
        (acts.gelu, lambda x: nnx.gelu(x, approximate=False)),
        (acts.gelu_tanh, lambda x: nnx.gelu(x, approximate=True)),
        (acts.quick_gelu, lambda x: x / (1 + jnp.exp(-1.702 * x))),
    ),
)
def test_activations_keep_their_input_alone(own, plain):
    """The same values and slopes as without, and nothing but the input is kept for them."""
    x = jnp.linspace(-4.0, 4.0, 101)
    np.testing.assert_allclose(own(x), plain(x), rtol=1e-6, atol=1e-6)
    both = (jax.grad(lambda x, act=act: (act(x) ** 2).sum())(x) for act in (own, plain))
    np.testing.assert_allclose(*both, rtol=1e-5, atol=1e-6)
    (kept,) = jax.tree.leaves(jax.vjp(own, x)[1])
    np.testing.assert_array_equal(kept, x)


def test_relu_keeps_what_it_returns_alone():
    """Values and slopes are those of Flax's, where the input is zero too."""
    x = jnp.asarray([-2.0, -0.0, 0.0, 1e-30, 3.0])
    np.testing.assert_array_equal(acts.relu(x), nnx.relu(x))
    own, plain = (
        jax.grad(lambda x, act=act: (act(x) * 3).sum())(x) for act in (acts.relu, nnx.relu)
    )
    np.testing.assert_array_equal(own, plain)
    (kept,) = jax.tree.leaves(jax.vjp(acts.relu, x)[1])
    np.testing.assert_array_equal(kept, acts.relu(x))
