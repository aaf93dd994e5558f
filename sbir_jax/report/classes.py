"""Classes: how well each is found, and which is taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import patheffects
from PIL import Image

from sbir_jax.report.figures import COLOURS, blank, rendered, short, styled
from sbir_jax.retrieved import Retrieved

BARS, SQUARES = 40, 20  # classes that a figure has room for
_WRITTEN = 10  # up to so many classes the squares of the confusion hold numbers


def shown(values: np.ndarray) -> np.ndarray:
    """Positions of the classes that the bars show: all, or the lowest and the highest ones."""
    order = np.argsort(-np.nan_to_num(values, nan=-1.0), kind="stable")
    if len(order) <= BARS:
        return order
    return np.concatenate([order[: BARS // 2], order[-BARS // 2 :]])


@styled
def bars(
    title: str, names: Sequence[str], values: np.ndarray, *, mean: float, x: str
) -> Image.Image:
    """A bar a class, its number behind it, and a line at the mean; the first class on top."""
    figure = blank(1.1 + 0.24 * len(names))
    axes = figure.subplots()
    axes.set_title(title, loc="left")
    rows = np.arange(len(names))
    axes.barh(rows, np.nan_to_num(values), color=COLOURS[0], height=0.7)
    for row, value in enumerate(values):
        words = "none" if np.isnan(value) else f"{value:.3f}"
        halo = [patheffects.withStroke(linewidth=3, foreground="white")]  # over the mean's line
        axes.text(
            np.nan_to_num(value) + 0.01, row, words, va="center", fontsize=8.5, path_effects=halo
        )
    axes.axvline(mean, color="#1d2430", linewidth=1, linestyle=(0, (2, 2)))
    axes.set_yticks(rows, [short(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(0, 1.12)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
    axes.set_xlabel(f"{x} (dashed: {mean:.3f}, the mean)")
    return rendered(figure)


class Confusion(NamedTuple):
    """Queries by their class and that of their first photo: the pairs of classes that occur, since
    a table of 10,000 classes would have 100 million cells.

    Attributes:
      query, first: classes, int64 [n], in ascending order.
      queries: how many, int64 [n].
    """

    query: np.ndarray
    first: np.ndarray
    queries: np.ndarray

    @property
    def right(self) -> np.ndarray:
        """Which pairs are of one class: bool [n]."""
        return self.query == self.first

    def among(self, chosen: np.ndarray) -> np.ndarray:
        """The table of some classes, which ascend: int64 [c, c]."""
        inside = np.isin(self.query, chosen) & np.isin(self.first, chosen)
        table = np.zeros((len(chosen), len(chosen)), np.int64)
        places = [np.searchsorted(chosen, of[inside]) for of in (self.query, self.first)]
        table[tuple(places)] = self.queries[inside]
        return table


def confusion(found: Retrieved) -> Confusion:
    """Which class the first photo of each query is of."""
    count = len(found.classes)
    first = found.gallery_labels[found.nearest[:, 0]]
    pairs = found.query_labels.astype(np.int64) * count + first
    pairs, queries = np.unique(pairs, return_counts=True)
    return Confusion(*np.divmod(pairs, count), queries)


def most_confused(counts: Confusion, most: int) -> list[tuple[int, int, int, float]]:
    """(class, class of the first photo, queries, share of the class's queries), most first."""
    wrong = np.flatnonzero(~counts.right)
    order = wrong[np.argsort(-counts.queries[wrong], kind="stable")[:most]]
    of_class = np.bincount(counts.query, counts.queries)
    return [
        (int(query), int(first), int(number), number / of_class[query])
        for query, first, number in zip(*(of[order] for of in counts), strict=True)
    ]


def squares_of(counts: Confusion) -> np.ndarray:
    """The classes that the confusion shows, ascending: of many, those that most errors touch."""
    present = np.unique(counts.query)
    if len(present) <= SQUARES:
        return present
    wrong = np.where(counts.right, 0, counts.queries)
    size = 1 + max(counts.query.max(), counts.first.max())
    touched = np.bincount(counts.query, wrong, size) + np.bincount(counts.first, wrong, size)
    touched = touched[present]
    return np.sort(present[np.argsort(-touched, kind="stable")[:SQUARES]])


@styled
def confusion_figure(counts: np.ndarray, names: Sequence[str]) -> Image.Image:
    """Rows: classes of queries; columns: classes of the first photo; shares of each row.

    Args:
      counts: [c, c], of the classes shown.
      names: c of them.
    """
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = blank(4.6)
    axes = figure.subplots()
    axes.set_title("Class of the first photo", loc="left")
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    letters = 14 if len(names) > _WRITTEN else 12
    ticks = range(len(names))
    size = 9 if len(names) <= _WRITTEN else 7
    axes.set_xticks(ticks, [short(name, letters) for name in names], rotation=90, fontsize=size)
    axes.set_yticks(ticks, [short(name, letters) for name in names], fontsize=size)
    axes.set_ylabel("class of the query")
    axes.spines[["left", "bottom"]].set_visible(False)
    if len(names) <= _WRITTEN:
        for row, column in np.argwhere(counts):
            value = share[row, column]
            ink = "white" if value > 0.55 else "#1d2430"
            axes.text(column, row, f"{value:.0%}", ha="center", va="center", fontsize=8, color=ink)
    return rendered(figure)
