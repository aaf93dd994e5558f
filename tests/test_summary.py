"""Means over queries and classes against loops; queries without relevant items; intervals."""

from __future__ import annotations

import json
import statistics

import numpy as np
import pytest

from sbir_jax.ranking.bootstrap import intervals
from sbir_jax.ranking.rank import Scores
from sbir_jax.ranking.summary import per_class, summarise

GALLERY = 50


def scored(seed: int, queries: int) -> tuple[Scores, np.ndarray]:
    """Scores of queries of 6 uneven classes, a fifth of the queries without relevant items."""
    rng = np.random.default_rng(seed)
    relevant = rng.integers(1, 9, size=queries) * (rng.random(queries) > 0.2)
    metrics = {name: rng.random(queries) * (relevant > 0) for name in ("P@1", "recall@5")}
    classes = np.array(list("aabbbcdeeeef"))[rng.integers(12, size=queries)]
    return Scores(metrics, relevant.astype(np.int32), GALLERY), classes


@pytest.mark.parametrize("no_relevant", ["exclude", "zero"])
def test_means_are_their_definition(no_relevant):
    """Value and chance are means over the queries that count, class_mean the mean over classes of
    the mean over their queries that count; a query without relevant items is left out of all of
    them or is a 0 in all of them."""
    scores, classes = scored(0, 200)
    got = summarise(scores, classes=classes, no_relevant=no_relevant)
    kept = [q for q in range(200) if scores.relevant[q] > 0 or no_relevant == "zero"]
    missing = int((scores.relevant == 0).sum())
    assert missing > 20
    assert (got["queries"], got["queries_without_relevant"], got["gallery"]) == (
        len(kept),
        missing,
        GALLERY,
    )
    # A random gallery has R/G relevant items at its first place, and 5/G of them in the top 5.
    chance = {"P@1": lambda r: r / GALLERY, "recall@5": lambda r: 5 / GALLERY * (r > 0)}
    for name, values in scores.metrics.items():
        by_class: dict[str, list[float]] = {}
        for q in kept:
            by_class.setdefault(classes[q], []).append(values[q])
        wanted = {
            "value": statistics.fmean(values[q] for q in kept),
            "chance": statistics.fmean(chance[name](scores.relevant[q]) for q in kept),
            "class_mean": statistics.fmean(statistics.fmean(of) for of in by_class.values()),
        }
        assert {key: got[name][key] for key in wanted} == pytest.approx(wanted, rel=1e-12)
        assert abs(wanted["class_mean"] - wanted["value"]) > 1e-3


def test_intervals_resample_queries_and_classes():
    """`interval` is the bootstrap over the queries that count; `class_interval` is that over the
    class means, which are then the values resampled."""
    scores, classes = scored(1, 150)
    got = summarise(scores, classes=classes, resamples=300)
    for name, values in scores.metrics.items():
        kept = scores.relevant > 0
        low, high = intervals(values[None, kept], resamples=300)
        assert got[name]["interval"] == pytest.approx([low[0], high[0]], rel=1e-12)
        means = [values[kept & (classes == c)].mean() for c in sorted(set(classes))]
        low, high = intervals(np.array([means]), resamples=300)
        assert got[name]["class_interval"] == pytest.approx([low[0], high[0]], rel=1e-12)
        for mean, spread in (("value", "interval"), ("class_mean", "class_interval")):
            assert got[name][spread][0] < got[name][mean] < got[name][spread][1]


def test_undefined_is_none_and_json_takes_it():
    """Without classes there is no class mean, with one class or one query no interval, without
    closed form no chance, without resamples no interval: each is None, and nothing is NaN."""
    one = Scores({"P@1": np.array([0.5]), "mAP-voc@all": np.ones(1)}, np.array([2]), 4)
    several = Scores({"P@1": np.array([0.5, 0.7])}, np.array([2, 1]), 4)
    got = summarise(one)
    undefined = {"interval": None, "class_mean": None, "class_interval": None}
    assert got["P@1"] == {"value": 0.5, "chance": 0.5, **undefined}
    assert got["mAP-voc@all"]["chance"] is None
    same_class = summarise(several, classes=np.array([3, 3]))["P@1"]
    assert same_class["class_mean"] == pytest.approx(0.6)
    assert same_class["interval"] is not None and same_class["class_interval"] is None
    quick = summarise(several, classes=np.array([3, 4]), resamples=0)["P@1"]
    assert quick["interval"] is None and quick["class_interval"] is None
    for summary in (got, same_class, quick):
        json.dumps(summary, allow_nan=False)


def test_nothing_to_average_over():
    """If no query has a relevant item there are counts only, or zeros, chance included; and with
    no query at all counts only."""
    nobody = Scores({"P@1": np.zeros(3)}, np.zeros(3, np.int32), 4)
    counts = {"queries": 0, "queries_without_relevant": 3, "gallery": 4}
    classes = np.array(["a", "b", "b"])
    assert summarise(nobody, classes=classes) == counts
    zero = summarise(nobody, classes=classes, no_relevant="zero")
    assert zero["queries"] == zero["queries_without_relevant"] == 3
    assert zero["P@1"] == {
        "value": 0,
        "chance": 0,
        "interval": [0, 0],
        "class_mean": 0,
        "class_interval": [0, 0],
    }
    empty = Scores({"P@1": np.zeros(0)}, np.zeros(0, np.int32), 4)
    assert summarise(empty, no_relevant="zero") == counts | {"queries_without_relevant": 0}


@pytest.mark.parametrize("no_relevant", ["exclude", "zero"])
def test_table_of_classes(no_relevant):
    """Each class has a row with its counts and means, a class without a query to average over too,
    without means; weighted by their counts the means give the mean over queries."""
    scores, classes = scored(2, 120)
    scores.relevant[classes == "d"] = 0
    for values in scores.metrics.values():
        values[classes == "d"] = 0
    table = per_class(scores, classes, no_relevant=no_relevant)
    assert table["class"] == ["a", "b", "c", "d", "e", "f"]
    for name, values in scores.metrics.items():
        for row, c in enumerate(table["class"]):
            own = [q for q in range(120) if classes[q] == c]
            missing = sum(scores.relevant[q] == 0 for q in own)
            kept = [q for q in own if scores.relevant[q] > 0 or no_relevant == "zero"]
            assert table["queries"][row] == len(kept)
            assert table["queries_without_relevant"][row] == missing
            mean = statistics.fmean(values[q] for q in kept) if kept else None
            assert table[name][row] == pytest.approx(mean)
        weighted = sum(
            count * (mean or 0) for count, mean in zip(table["queries"], table[name], strict=True)
        )
        value = summarise(scores, no_relevant=no_relevant)[name]["value"]
        assert weighted / sum(table["queries"]) == pytest.approx(value)
    assert (table["P@1"][3] is None) == (no_relevant == "exclude")


def test_without_metrics_there_are_counts():
    """Scores without a metric give the counts."""
    scores = Scores({}, np.array([1, 0, 2]), 4)
    classes = np.array([5, 5, -1])
    counts = {"queries": 2, "queries_without_relevant": 1, "gallery": 4}
    assert summarise(scores, classes=classes) == counts
    table = {"class": [-1, 5], "queries": [1, 1], "queries_without_relevant": [0, 1]}
    assert per_class(scores, classes) == table


def test_bad_input_is_one_line():
    """Classes of another length and an unknown rule are refused in one line that names them."""
    scores, classes = scored(3, 20)
    for call in (summarise, per_class):
        with pytest.raises(ValueError, match=r"^classes: shape \(19,\); expected \(20,\)$"):
            call(scores, classes=classes[1:])
        with pytest.raises(ValueError, match="^no_relevant='drop': valid: exclude, zero$"):
            call(scores, classes=classes, no_relevant="drop")
