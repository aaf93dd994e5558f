"""Smaller embeddings: fewer dimensions (a prefix, or PCA), then fewer bits of each (int8, signs).

NumPy only: it runs once, over embeddings that are at hand. Dimensions are cut first; what is left
is divided by its L2 norm, so that cosine and L2 rank alike; codes are made of that.
"""

from __future__ import annotations

import dataclasses

import numpy as np

# Directions whose variance is below this share of the largest are rounding noise of float32.
_NO_VARIANCE = 1e-10


@dataclasses.dataclass(frozen=True, eq=False)
class PCA:
    """The principal directions of some embeddings, from `fit_pca`.

    Attributes:
      mean: float64 [D].
      directions: float64 [R, D], orthonormal, by falling variance; the largest component of each
        is positive.
      variance: float64 [R], along each direction, divided by n - 1; all above 0.
    """

    mean: np.ndarray
    directions: np.ndarray
    variance: np.ndarray


def fit_pca(x: np.ndarray) -> PCA:
    """Principal directions of the rows of x, by an eigendecomposition of their covariance.

    Args:
      x: [n, D], any float dtype; the covariance is in float64.

    Returns:
      The R <= min(n - 1, D) directions in which the rows differ.

    Raises:
      ValueError: fewer than two different rows, or a value that is not finite.
    """
    x = np.asarray(x, np.float64)
    if x.ndim != 2 or len(x) < 2 or not np.isfinite(x).all():
        raise ValueError(f"x of shape {x.shape}: expected [n >= 2, D], all finite")
    mean = x.mean(axis=0)
    centred = x - mean
    variance, directions = np.linalg.eigh(centred.T @ centred / (len(x) - 1))
    variance, directions = variance[::-1], directions.T[::-1]
    kept = variance > _NO_VARIANCE * variance[0]
    if variance[0] <= 0 or not kept.any():
        raise ValueError(f"x of shape {x.shape}: its rows are all equal")
    variance, directions = variance[kept], directions[kept]
    largest = np.take_along_axis(
        directions, np.abs(directions).argmax(axis=1, keepdims=True), axis=1
    )
    return PCA(mean, directions * np.sign(largest), variance)


def project(pca: PCA, x: np.ndarray, dim: int, *, whiten: bool = False) -> np.ndarray:
    """The first `dim` principal components of each row, divided by their L2 norm.

    Args:
      x: [n, D], centred here by the mean of the rows that `pca` was fitted on.
      dim: from 1 to R.
      whiten: divide each component by its standard deviation first, so that all count alike.

    Returns:
      float32 [n, dim].

    Raises:
      ValueError: `dim` out of range.
    """
    _check_dim(dim, len(pca.variance))
    components = (np.asarray(x, np.float64) - pca.mean) @ pca.directions[:dim].T  # [n, dim]
    return _unit(components / np.sqrt(pca.variance[:dim]) if whiten else components)


def prefix(x: np.ndarray, dim: int) -> np.ndarray:
    """The first `dim` components of each row, divided by their L2 norm: float32 [n, dim].

    Raises:
      ValueError: `dim` is not from 1 to D.
    """
    _check_dim(dim, x.shape[1])
    return _unit(np.asarray(x[:, :dim], np.float64))


def int8(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each row in 255 steps between minus and plus its largest component.

    Args:
      x: [n, D], finite.

    Returns:
      (codes int8 [n, D], scale float32 [n]): x is about codes * scale, each component within half
      a scale. Cosine needs no scale: one photo is D bytes.
    """
    x = np.asarray(x, np.float32)
    scale = np.abs(x).max(axis=1) / np.float32(127)
    steps = np.where(scale > 0, scale, 1)[:, None]
    return np.rint(x / steps).astype(np.int8), scale


def binary(x: np.ndarray) -> np.ndarray:
    """The sign of each component in one bit (1: above 0): [n, D] to uint8 [n, ceil(D / 8)]."""
    return np.packbits(np.asarray(x) > 0, axis=1)


def signs(codes: np.ndarray, dim: int) -> np.ndarray:
    """Binary codes as float32 [n, dim] of -1 and 1; their sq_l2 is 4 times the Hamming distance."""
    return np.unpackbits(codes, axis=1, count=dim).astype(np.float32) * 2 - 1


def hamming(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Differing bits of every two codes: uint8 [n, B] and [m, B] to int32 [n, m]."""
    total = np.zeros((len(x), len(y)), np.int32)
    for a, b in zip(x.T, y.T, strict=True):  # a byte at a time: no [n, m, B]
        total += np.bitwise_count(a[:, None] ^ b)
    return total


def bytes_per_photo(dim: int, code: str) -> int:
    """Bytes that one photo's code takes; `code` is float32, int8 or binary."""
    return {"float32": 4 * dim, "int8": dim, "binary": -(-dim // 8)}[code]


def _check_dim(dim: int, most: int) -> None:
    if not 1 <= dim <= most:
        raise ValueError(f"dim={dim}: valid from 1 to {most}")


def _unit(x: np.ndarray) -> np.ndarray:
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    return (x / np.where(norm > 0, norm, 1)).astype(np.float32)
