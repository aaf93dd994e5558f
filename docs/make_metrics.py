"""Rewrites the tables of docs/metrics.md from the code: python docs/make_metrics.py

What stands between `<!-- table NAME -->` and `<!-- end -->` is made here, the rest by hand.
"""

from __future__ import annotations

import pathlib
import re

import numpy as np

from sbir_jax.ranking import names, ties
from sbir_jax.ranking.metrics import scores
from sbir_jax.ranking.presets import PRESETS

PAGE = pathlib.Path(__file__).with_name("metrics.md")
CLASSES = PAGE.parent.parent / "benchmarks" / "sketchy_split1.csv"

LECTURE = ("R N R N N N N N R R", "N R N N R R R N N N")
LECTURE_CUT, FULL_CUT = 5, 200

# Every name of the catalogue, in the page's notation.
FORMULAS = {
    "mAP@all": "S(N) / R",
    "mAP-voc@all": "E(N) / R",
    "mAP@K/hits": "S(K) / h(K), 0 if h(K) = 0",
    "mAP@K/min": "S(K) / min(R, K)",
    "mAP@K/K": "S(K) / K",
    "mAP@K/R": "S(K) / R",
    "mAP-voc@K/hits": "E(K) / h(K), 0 if h(K) = 0",
    "mAP-voc@K/min": "E(K) / min(R, K)",
    "mAP-voc@K/K": "E(K) / K",
    "mAP-voc@K/R": "E(K) / R",
    "mAP-first@K": "(p_1 + ... + p_m) / m, m = min(R, K)",
    "mAP-lecture@K": "(S(K) + (R - h(K)) / K) / R",
    "MAP@R": "S(R) / R",
    "11-point": "mean over t = 0, .1, ..., 1 of the largest p_i with i/R >= t",
    "MRR": "1 / r_1",
    "P@K": "h(K) / K",
    "P@K/min-N": "h(K) / min(K, N)",
    "P@K/min-R": "h(K) / min(K, R)",
    "P@K/cut-R": "h(m) / m, m = min(K, R)",
    "R-precision": "h(R) / R",
    "recall@K": "h(K) / R",
    "acc@K": "1 if r_1 <= K, else 0",
    "nDCG@K": "D(K) / (the same sum with r_i = i, up to min(R, K))",
    "nDCG@all": "D(N) / (the same sum with r_i = i, up to R)",
}
AT_200 = (
    *("mAP@200/hits", "mAP-voc@200/min", "mAP@200/min", "mAP@200/K"),
    *("mAP@200/R", "mAP-lecture@200", "mAP@all", "P@200"),
)


def main() -> None:
    PAGE.write_text(render(PAGE.read_text()))


def render(page: str) -> str:
    """The page with every table made anew."""
    rankings = split1_rankings()
    tables = {
        "at 200": at_200(rankings),
        "definitions": definitions(),
        "side by side": side_by_side(rankings),
        "presets": presets(),
        "ties": equal_distances(),
    }
    for name, table in tables.items():
        block = re.compile(f"(<!-- table {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        page, found = block.subn(lambda m, table=table: f"{m[1]}{table}\n{m[2]}", page)
        if found != 1:
            raise ValueError(f"{PAGE.name}: {found} tables {name!r}; expected 1")
    return page


def definitions() -> str:
    """Every name of the catalogue, its formula and its users."""
    rows = []
    for name, formula in FORMULAS.items():
        users = names.define(exact(name, FULL_CUT)).partition("; used by ")[2]
        rows.append([f"`{name}`", formula, users])
    return markdown(["name", "value of one query", "used by"], rows)


def at_200(rankings: tuple[np.ndarray, np.ndarray, int]) -> str:
    """What tables print as mAP@200, beside two numbers that have one meaning."""
    found = means(AT_200, *rankings)
    best = means(AT_200, *perfect(rankings))
    rows = [[f"`{name}`", f"{found[name]:.3f}", f"{best[name]:.3f}"] for name in AT_200]
    return markdown(["name", "made-up system", "perfect system"], rows)


def side_by_side(rankings: tuple[np.ndarray, np.ndarray, int]) -> str:
    """Every name on the lecture's two rankings and on the made-up and the perfect system."""
    lecture = [lecture_ranks(line) for line in LECTURE]
    rows = []
    for name in FORMULAS:
        small, large = exact(name, LECTURE_CUT), exact(name, FULL_CUT)
        values = [means([small], *given)[small] for given in lecture]
        values += [means([large], *given)[large] for given in (rankings, perfect(rankings))]
        rows.append([f"`{name}`", *(f"{value:.3f}" for value in values)])
    small, large = f"K = {LECTURE_CUT}", f"K = {FULL_CUT}"
    titles = [f"1, {small}", f"2, {small}", f"made-up, {large}", f"perfect, {large}"]
    return markdown(["name", *titles], rows)


def presets() -> str:
    """What `--metrics=PRESET` reports, and whose numbers those are."""
    rows = [
        [f"`{name}`", ", ".join(f"`{metric}`" for metric in preset.metrics), preset.source]
        for name, preset in PRESETS.items()
    ]
    return markdown(["preset", "metrics", "source"], rows)


def equal_distances() -> str:
    """One query with four relevant photos, all ten at one distance, under each rule."""
    asked = ("mAP@all", "P@5", "MRR")
    before, upto = np.zeros((1, 4), np.int32), np.full((1, 4), 10, np.int32)
    rows = []
    for rule in ties.RULES:
        metrics = [names.parse(name) for name in asked]
        found = ties.score(rule, metrics, before, upto, np.array([4], np.int32), 10)
        rows.append([f"`{rule}`", *(f"{found[name][0]:.3f}" for name in asked)])
    return markdown(["rule", *(f"`{name}`" for name in asked)], rows)


def lecture_ranks(line: str) -> tuple[np.ndarray, np.ndarray, int]:
    """(ranks [1, R], R [1], N) of a ranking written as marks, R where the item is relevant."""
    marks = np.array(line.split())
    ranks = np.flatnonzero(marks == "R")[None] + 1
    return ranks.astype(np.int32), np.array([ranks.shape[1]], np.int32), len(marks)


def split1_rankings() -> tuple[np.ndarray, np.ndarray, int]:
    """(ranks [Q, M], R [Q], N): 20 queries a class on the gallery of Sketchy-Extended split 1.

    Scores of photos of other classes are normal around 0 and of the query's class around a value
    that differs from query to query. Only the class sizes are real.
    """
    photos = np.loadtxt(CLASSES, int, delimiter=",", skiprows=1, usecols=2)
    relevant, size = np.repeat(photos, 20), photos.sum()
    rng = np.random.default_rng(0)
    ranks = np.full((len(relevant), photos.max()), names.LARGEST_CUT + 1, np.int32)
    for row, count in zip(ranks, relevant, strict=True):
        others = np.sort(-rng.normal(size=size - count))
        own = np.sort(-rng.normal(rng.normal(2.0, 0.7), size=count))
        row[:count] = np.searchsorted(others, own) + np.arange(1, count + 1)
    return ranks, relevant.astype(np.int32), int(size)


def perfect(rankings: tuple[np.ndarray, np.ndarray, int]) -> tuple[np.ndarray, np.ndarray, int]:
    """The same queries with every relevant photo first."""
    ranks, relevant, size = rankings
    first = np.arange(1, ranks.shape[1] + 1, dtype=np.int32)
    return np.where(first <= relevant[:, None], first, names.LARGEST_CUT + 1), relevant, size


def means(asked, ranks: np.ndarray, relevant: np.ndarray, size: int) -> dict[str, float]:
    found = scores([names.parse(name) for name in asked], ranks, relevant, size, np)
    return {name: float(values.mean()) for name, values in found.items()}


def exact(name: str, k: int) -> str:
    """The name with a number for its cut-off."""
    return name.replace("@K", f"@{k}")


def markdown(titles: list[str], rows: list[list[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


if __name__ == "__main__":
    main()
