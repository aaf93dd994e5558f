"""What a metric is worth by chance: its exact expectation over all orders of the gallery."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


def by_chance(relevant: np.ndarray, size: int, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Exact expectation of each metric when the gallery is in uniformly random order.

    With H_G = 1 + 1/2 + ... + 1/G: E[AP] = (H_G + (R-1)/(G-1) (G - H_G)) / G, E[P@K] =
    R/G min(K, G)/K, E[recall@K] = min(K, G)/G, and E[1/rank of the first] from the hypergeometric
    probability that the first relevant item is at each rank.

    Args:
      relevant: int [Q], R of each query, from 1 to G.
      size: G.
      names: metric names as in `Scores.metrics`.

    Returns:
      name to float64 [Q].
    """
    # R takes few distinct values, and E[1/rank] takes O(G) for each.
    distinct, inverse = np.unique(relevant, return_inverse=True)
    steps = np.arange(1, size + 1)
    harmonic = np.sum(1 / steps)
    expected = {}
    for name in names:
        kind, _, k = name.partition("@")
        if name == "mAP@all":
            slope = (distinct - 1) / max(size - 1, 1)
            values = (harmonic + slope * (size - harmonic)) / size
        elif name == "MRR":
            values = np.array([_reciprocal_rank_chance(r, size) for r in distinct])
        elif kind == "P":
            values = distinct / size * min(int(k), size) / int(k)
        else:
            values = np.full(len(distinct), min(int(k), size) / size)
        expected[name] = values[inverse]
    return expected


def _reciprocal_rank_chance(relevant: int, size: int) -> float:
    """Sum over k of P(first relevant at rank k) / k."""
    k = np.arange(1, size - relevant + 2)
    # P(k + 1) = P(k) (G - k - R + 1) / (G - k), from P(1) = R / G.
    ratios = (size - k[:-1] - relevant + 1) / (size - k[:-1])
    return float(np.sum(relevant / size * np.cumprod(np.r_[1.0, ratios]) / k))
