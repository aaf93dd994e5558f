"""Every metric as a slow loop over one ranking, written from its public definition.

A ranking is a list of 0 and 1, nearest first, of the whole gallery.
"""

from __future__ import annotations

import math
from fractions import Fraction


def precision(line: list[int], rank: int) -> float:
    return sum(line[:rank]) / rank


def found(line: list[int], cut: int) -> list[int]:
    """Ranks of the relevant items in the top `cut`."""
    return [rank for rank, hit in enumerate(line, start=1) if hit and rank <= cut]


def precisions(line: list[int], cut: int) -> float:
    return sum(precision(line, rank) for rank in found(line, cut))


def voc_area(line: list[int], cut: int) -> float:
    """SAKE and ZSE-SBIR: cut the list, then the area under the recall-precision curve whose
    precision is made monotone from the right; recall is of min(R, K)."""
    cut = min(cut, len(line))
    points = [(sum(line[:i]) / min(cut, sum(line)), precision(line, i)) for i in range(1, cut + 1)]
    area = before = 0.0
    for i, (recall, _) in enumerate(points):
        area += (recall - before) * max(height for _, height in points[i:])
        before = recall
    return area


def interpolated(line: list[int], recall: Fraction) -> float:
    """Largest precision at a rank whose recall is at least `recall`."""
    ranks = range(1, len(line) + 1)
    total = sum(line)
    return max(precision(line, i) for i in ranks if Fraction(sum(line[:i]), total) >= recall)


def gain(line: list[int], cut: int) -> float:
    return sum(1 / math.log2(1 + rank) for rank in found(line, cut))


def value(shape: str, line: list[int], k: int) -> float:
    """The metric whose name has K for its cut-off, `shape`, with the cut-off k."""
    size, relevant = len(line), sum(line)
    if not relevant:
        return 0.0
    hits, total = len(found(line, k)), precisions(line, k)
    divisors = {"hits": hits, "min": min(relevant, k), "K": k, "R": relevant}
    start, _, over = shape.partition("@K/")
    if start == "mAP":
        return total / divisors[over] if hits else 0.0
    if start == "mAP-voc":
        within = min(relevant, k, size)
        return voc_area(line, k) * within / divisors[over] if hits else 0.0
    everything = found(line, size)
    return {
        "mAP@all": lambda: precisions(line, size) / relevant,
        "mAP-voc@all": lambda: voc_area(line, size),
        "mAP-first@K": lambda: (
            sum(precision(line, rank) for rank in everything[:k]) / min(k, relevant)
        ),
        "mAP-lecture@K": lambda: (total + sum(1 / k for r in everything if r > k)) / relevant,
        "MRR": lambda: 1 / everything[0],
        "P@K": lambda: hits / k,
        "P@K/min-N": lambda: sum(line[:k]) / len(line[:k]),  # SAKE
        "P@K/min-R": lambda: hits / min(k, relevant),
        "P@K/cut-R": lambda: precision(line, min(k, relevant)),  # ZSE-SBIR
        "recall@K": lambda: hits / relevant,
        "acc@K": lambda: float(hits > 0),
        "R-precision": lambda: precision(line, relevant),
        "MAP@R": lambda: precisions(line, relevant) / relevant,
        "nDCG@K": lambda: gain(line, k) / gain(sorted(line, reverse=True), k),
        "nDCG@all": lambda: gain(line, size) / gain(sorted(line, reverse=True), size),
        "11-point": lambda: sum(interpolated(line, Fraction(i, 10)) for i in range(11)) / 11,
    }[shape]()
