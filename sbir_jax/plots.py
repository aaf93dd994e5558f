"""The figure of `launch.py dimensions`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

_BLUE, _ORANGE, _GREEN, _RED, _PURPLE = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7"
_METHODS = {  # label, colour, marker: told apart without seeing colour
    "prefix": ("prefix", _BLUE, "o"),
    "pca": ("PCA", _ORANGE, "s"),
    "pca-whitened": ("PCA, whitened", _GREEN, "^"),
}
_CODES = {"float32": "-", "int8": "--", "binary": ":"}


def dimensions(
    rows: Sequence[Mapping[str, Any]], by_chance: Mapping[str, float], title: str
) -> Any:
    """The study of `dimensions_workdir` as a matplotlib figure; `.savefig("x.png")` stores it.

    A row of panels for each score: on the left against dimensions, uncompressed, by method and,
    where there are other runs, by head size and by Matryoshka training; on the right the first
    run's prefixes and PCA against bytes per photo, by code.

    Args:
      rows: of `dimensions_workdir`; the first run's come first.
      by_chance: score to chance level.
      title: a line above.
    """
    figure = Figure(figsize=(11, 0.9 + 3.7 * len(by_chance)), layout="constrained")
    figure.suptitle(title, fontsize=12)
    panels = figure.subplots(len(by_chance), 2, sharey="row", squeeze=False)
    for (left, right), (name, level) in zip(panels, by_chance.items(), strict=True):
        _lines_by_method(left, rows, name)
        _lines_by_code(right, rows, name)
        for axes in (left, right):
            axes.axhline(level, color="#555555", linewidth=1, linestyle=(0, (1, 2)))
            axes.annotate(
                f"chance {level:.3f}",
                (0, level),
                xycoords=axes.get_yaxis_transform(),
                xytext=(4, 3),
                textcoords="offset points",
                fontsize=8,
                color="#555555",
            )
            axes.set_ylim(bottom=0)
            axes.grid(alpha=0.3)
            axes.spines[["top", "right"]].set_visible(False)
        left.set_ylabel(name)
        left.set_xlabel("dimensions (float32)")
        right.set_xlabel("bytes per photo")
        right.tick_params(labelleft=True)
    for axes in (panels[0][0], panels[0][1]):
        axes.legend(
            fontsize=8, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False
        )
    return figure


def _lines_by_method(axes: Any, rows: Sequence[Mapping[str, Any]], name: str) -> None:
    first = rows[0]["run"]
    plain = [row for row in rows if row["code"] == "float32"]
    for method, (label, colour, marker) in _METHODS.items():
        of = [row for row in plain if row["run"] == first and row["method"] == method]
        if method == "prefix" and of[0]["trained"] == "matryoshka":
            label = "prefix, Matryoshka training"
        _line(axes, of, "dim", name, label=label, color=colour, marker=marker)
    heads = {}
    for run in dict.fromkeys(row["run"] for row in plain):
        prefixes = [row for row in plain if row["run"] == run and row["method"] == "prefix"]
        if prefixes[0]["trained"] == "plain":
            heads[run] = prefixes[-1]  # its own head, whole
        elif run != first:
            label = f"prefix, Matryoshka training ({run})"
            _line(axes, prefixes, "dim", name, label=label, color=_PURPLE, marker="D")
    if len(heads) > 1:
        heads = sorted(heads.values(), key=lambda row: row["dim"])
        _line(axes, heads, "dim", name, label="head of that size", color=_RED, marker="v")


def _lines_by_code(axes: Any, rows: Sequence[Mapping[str, Any]], name: str) -> None:
    own = [row for row in rows if row["run"] == rows[0]["run"]]
    for method in ("prefix", "pca"):
        label, colour, marker = _METHODS[method]
        for code, style in _CODES.items():
            of = [row for row in own if (row["method"], row["code"]) == (method, code)]
            look = {"color": colour, "marker": marker, "linestyle": style}
            _line(axes, of, "bytes", name, label=f"{label}, {code}", **look)


def _line(axes: Any, rows: Sequence[Mapping[str, Any]], x: str, y: str, **style: Any) -> None:
    axes.plot([row[x] for row in rows], [row[y] for row in rows], markersize=5, **style)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
