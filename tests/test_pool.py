"""Max-pooling by shifted maps is max-pooling."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sbir_jax.models.pool import max_pool


@pytest.mark.parametrize("window", [2, 3])
@pytest.mark.parametrize("size", [(8, 6), (7, 9), (5, 4)])
def test_value_and_gradient_are_those_of_the_windows(window, size):
    """Of even and odd sides and negative numbers, as XLA's own windows have them."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, *size, 3)) - 1, jnp.float32)
    pad = ((1, 1), (1, 1)) if window == 3 else "VALID"

    def reference(x):
        return nnx.max_pool(x, (window, window), strides=(2, 2), padding=pad)

    mine, back = jax.vjp(lambda x: max_pool(x, window=window), x)
    expected, expected_back = jax.vjp(reference, x)
    np.testing.assert_array_equal(mine, expected)
    g = jnp.asarray(rng.normal(size=mine.shape), jnp.float32)
    np.testing.assert_allclose(back(g)[0], expected_back(g)[0], rtol=1e-6, atol=1e-6)


def test_equals_share_the_gradient():
    """A map of one number: whatever window it comes from, a gradient is given on whole."""
    x = jnp.zeros((1, 6, 6, 1))
    (given,) = jax.vjp(lambda x: max_pool(x, window=3), x)[1](jnp.ones((1, 3, 3, 1)))
    assert float(given.sum()) == pytest.approx(9)
    assert float(given.min()) >= 0
