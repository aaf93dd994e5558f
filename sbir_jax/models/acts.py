"""Activations that keep little for their gradient.

Derived by rule, the gradient of the exact GELU keeps two more arrays of the input's size; on a GPU
to write and read them takes longer than to compute them again. The curved ones keep their input.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from sbir_jax.materialise import materialised


@jax.custom_vjp
def relu(x: jax.Array) -> jax.Array:
    """ReLU whose gradient is told by what it returned, which the next layer keeps anyway.

    By its input, here a sum, XLA reads both terms again.
    """
    return nnx.relu(x)


def _relu_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    y = materialised(nnx.relu(x), "gpu")
    return y, y


relu.defvjp(_relu_forward, lambda y, slope: (jnp.where(y > 0, slope, 0),))


def _of_input(act: Callable[[jax.Array], jax.Array]) -> Callable[[jax.Array], jax.Array]:
    """`act` in float32, rounded once; its gradient computes it again."""

    @jax.checkpoint
    def wide(x: jax.Array) -> jax.Array:
        return act(x.astype(jnp.float32)).astype(x.dtype)

    return wide


# By erf, as torch has it: by erfc, as Flax has it, a GPU evaluates three polynomials a number.
gelu = _of_input(lambda x: 0.5 * x * (1 + jax.lax.erf(x * math.sqrt(0.5))))
gelu_tanh = _of_input(functools.partial(nnx.gelu, approximate=True))
quick_gelu = _of_input(lambda x: x * nnx.sigmoid(1.702 * x))
