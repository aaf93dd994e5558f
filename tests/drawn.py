"""Weights and images drawn from names and a seed: the same wherever they are drawn.

A reference computed elsewhere from these needs no file of weights beside it.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np


def weights(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Values for tensors by their timm names: float32, counters int64.

    Everything that is one-dimensional is random too (scales, biases, BatchNorm's statistics,
    LayerScale), so that none of it can be swapped or left out unseen.
    """
    return {name: _draw(name, tuple(shape)) for name, shape in shapes.items()}


def images(size: int, channels: int) -> np.ndarray:
    """Two smooth images and noise on them, float32 [2, size, size, channels] in 0..1."""
    rng = np.random.default_rng(size * 10 + channels)
    steps = np.linspace(0, 6, size)
    waves = np.sin(steps[:, None] * rng.uniform(0.5, 2, (2, 1, 1))) * np.cos(steps)
    noise = rng.uniform(-0.2, 0.2, (2, size, size, channels))
    return np.clip(0.5 + 0.3 * waves[..., None] + noise, 0, 1).astype(np.float32)


def _draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if not shape:
        return np.array(7, np.int64)
    noise = rng.standard_normal(shape, np.float32)
    if name.endswith("running_var"):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    if name.endswith("gamma"):
        return 0.5 + 0.1 * noise
    if len(shape) == 1:
        return 0.2 * noise + (1 if name.endswith("weight") else 0)
    if len(shape) == 3:
        return 0.5 * noise  # tokens and positions
    return noise / np.float32(np.sqrt(np.prod(shape[1:])))
