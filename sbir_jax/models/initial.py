"""First values of kernels, drawn on the host.

XLA would compile a generator for every kernel's shape: 5 s for a small pair of encoders on two
cores. NumPy needs no compiling, and its numbers are the same on every device and JAX version.
Call models eagerly, or under `jax.eval_shape` for shapes alone.
"""

from __future__ import annotations

import jax
import numpy as np
from jax.typing import DTypeLike


def he_normal(key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike) -> jax.Array:
    """Convolution kernels [h, w, in, out]: normal, variance 2 / fan-out (He et al., ICCV 2015)."""
    return _normal(key, shape, dtype, variance=2 / (np.prod(shape[:-2]) * shape[-1]))


def lecun_normal(key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike) -> jax.Array:
    """Kernels [..., in, out]: normal, variance 1 / fan-in (LeCun et al., 1998)."""
    return _normal(key, shape, dtype, variance=1 / np.prod(shape[:-1]))


def small_normal(key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike) -> jax.Array:
    """Tokens and positions [n, width]: normal, standard deviation 0.02, as in ViT and BERT."""
    return _normal(key, shape, dtype, variance=0.02**2)


def _normal(
    key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike, *, variance: float
) -> jax.Array:
    def draw(seed: np.ndarray) -> np.ndarray:
        rng = np.random.Generator(
            np.random.Philox(np.random.SeedSequence(np.asarray(seed).tolist()))
        )
        values = rng.standard_normal(shape, np.float32) * np.float32(np.sqrt(variance))
        return values.astype(dtype)

    return jax.pure_callback(draw, jax.ShapeDtypeStruct(shape, dtype), jax.random.key_data(key))
