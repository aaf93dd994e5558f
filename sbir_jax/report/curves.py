"""Lines: training curves, recall and precision; of one run or of several."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from sbir_jax.report.figures import COLOURS, DASHES, blank, rendered, short, styled

# (name, x, y) of a line.
Series = tuple[str, Sequence[float], Sequence[float]]


@styled
def lines(
    title: str,
    series: Sequence[Series],
    *,
    x: str,
    y: str,
    unit: bool = False,
    points: bool = False,
) -> Image.Image:
    """A figure of lines; more than one are named below it.

    Args:
      title: above.
      series: the lines; each has at least one point.
      x, y: names of the axes.
      unit: y goes from 0 to 1.
      points: mark each point.
    """
    figure = blank(3.2 + 0.22 * (len(series) if len(series) > 1 else 0))
    axes = figure.subplots()
    axes.set_title(title, loc="left")
    for number, (name, across, up) in enumerate(series):
        axes.plot(
            across,
            up,
            label=short(name, 48),
            color=COLOURS[number % len(COLOURS)],
            linestyle=DASHES[number % len(DASHES)],
            marker="osD^vP"[number % 6] if points or len(across) == 1 else "",
            markersize=4,
        )
    if unit:
        axes.set_ylim(0, 1.02)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.3)
    if len(series) > 1:
        figure.legend(loc="outside lower left", frameon=False, fontsize=9)
    return rendered(figure)


def in_words(name: str, across: Sequence[float], up: Sequence[float]) -> str:
    """A line of steps for those who do not see it: where it starts and ends."""
    low, high = min(up), max(up)
    return (
        f"{name}: {up[0]:.4g} at step {across[0]:,}, {up[-1]:.4g} at step {across[-1]:,}, "
        f"between {low:.4g} and {high:.4g}"
    )


def precision(rows: Sequence[dict[str, str]], level: str, kind: str) -> Series:
    """A level's line of curves.csv: recall against precision; `kind`: "recall" or "rank"."""
    own = [row for row in rows if (row["level"], row["kind"]) == (level, kind)]
    return level, [float(row["recall"]) for row in own], [float(row["precision"]) for row in own]
