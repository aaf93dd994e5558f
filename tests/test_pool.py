"""Max-pooling is XLA's, value and gradient."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sbir_jax.models.pool import max_pool


def agree(x: jax.Array, window: int) -> None:
    """Values and gradients, of any slope, are those of XLA's own windows."""
    pad = ((1, 1), (1, 1)) if window == 3 else "VALID"

    def reference(x):
        return nnx.max_pool(x, (window, window), strides=(2, 2), padding=pad)

    found, back = jax.vjp(lambda x: max_pool(x, window=window), x)
    expected, expected_back = jax.vjp(reference, x)
    np.testing.assert_array_equal(found, expected)
    g = jnp.asarray(np.random.default_rng(1).normal(size=found.shape), x.dtype)
    np.testing.assert_allclose(back(g)[0], expected_back(g)[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("window", [2, 3])
@pytest.mark.parametrize("size", [(8, 6), (7, 9), (5, 4), (2, 3)])
def test_value_and_gradient_are_those_of_the_windows(window, size):
    """Of even and odd sides and negative numbers."""
    x = np.random.default_rng(0).normal(size=(2, *size, 3)) - 1
    agree(jnp.asarray(x, jnp.float32), window)


@pytest.mark.parametrize("window", [2, 3])
def test_of_equals_the_first_has_the_gradient(window):
    """Row by row, in a map of one number and in one of few."""
    agree(jnp.zeros((1, 6, 6, 1)), window)
    few = np.random.default_rng(0).integers(0, 2, (4, 9, 8, 2))
    agree(jnp.asarray(few, jnp.float32), window)


def test_what_is_not_a_number_stays():
    """A run that has gone wrong is not hidden by the largest of the other three."""
    x = jnp.asarray([[1.0, jnp.nan], [3.0, 2.0]]).reshape(1, 2, 2, 1)
    trained, _ = jax.vjp(lambda x: max_pool(x, window=2), x)
    assert jnp.isnan(trained).all() and jnp.isnan(max_pool(x, window=2)).all()
