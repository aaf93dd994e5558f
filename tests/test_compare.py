"""Two evaluations of the same queries, compared: against scipy, and what cannot be compared."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from front_door import error_line, launch
from scipy import stats


def evaluate(out: str, queries: dict, gallery: dict, *more: str) -> np.ndarray:
    """Evaluates arrays into a directory; returns the AP of each query that was stored."""
    np.savez("q.npz", **queries)
    np.savez("g.npz", **gallery)
    argv = ["--queries=q.npz", "--gallery=g.npz", f"--out={out}", *more]
    assert launch.main(["evaluate", *argv]) == 0
    with np.load(f"{out}/scores.npz", allow_pickle=False) as stored:
        return stored["values/category/mAP@all"]


def made(seed: int, noise: float) -> tuple[dict, dict]:
    """48 queries and 36 gallery items of six classes; labels do not depend on the seed."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(6, 5))
    sides = []
    for rows in (48, 36):
        labels = np.arange(rows) % 6
        vectors = centres[labels] + noise * rng.normal(size=(rows, 5))
        sides.append({"embeddings": vectors.astype(np.float32), "labels": labels})
    return sides[0], sides[1]


@pytest.fixture
def pair(tmp_path, monkeypatch):
    """Evaluations a and b, b the better one: the AP of each query of both."""
    monkeypatch.chdir(tmp_path)
    return evaluate("a", *made(1, 1.0)), evaluate("b", *made(2, 0.8))


def compare(*more: str, pair: str = "a,b") -> dict:
    assert launch.main(["evaluate", f"--compare={pair}", "--out=c", *more]) == 0
    return json.loads(Path("c/comparison.json").read_text())


def test_difference_interval_and_p_value_agree_with_scipy(pair):
    """mAP@all of b - a: scipy's percentile bootstrap and its paired permutation test agree."""
    a, b = pair
    found = compare()["category"]["mAP@all"]
    assert (found["a"], found["b"]) == pytest.approx((a.mean(), b.mean()))
    assert found["difference"] == pytest.approx((b - a).mean())
    wanted = stats.bootstrap((b - a,), np.mean, method="percentile", random_state=0)
    np.testing.assert_allclose(
        found["interval"], wanted.confidence_interval, atol=0.2 * wanted.standard_error
    )
    test = stats.permutation_test(
        (b, a), lambda x, y: (x - y).mean(), permutation_type="samples", random_state=0
    )
    spread = np.sqrt(test.pvalue * (1 - test.pvalue) * 2 / 9_999)
    assert 0.001 < test.pvalue < 0.9
    assert found["p_value"] == pytest.approx(test.pvalue, abs=5 * spread)


def test_whole_classes_are_resampled_too(pair):
    """Over classes: scipy's bootstrap of the six class means, as the classes are of one size."""
    a, b = pair
    means = (b - a).reshape(-1, 6).mean(axis=0)
    found = compare()["category"]["mAP@all"]
    wanted = stats.bootstrap((means,), np.mean, method="percentile", random_state=0)
    np.testing.assert_allclose(
        found["class_interval"], wanted.confidence_interval, atol=0.2 * wanted.standard_error
    )
    exact = stats.permutation_test(
        (means, 0 * means), lambda x, y: (x - y).mean(), permutation_type="samples"
    )
    assert found["class_p_value"] == pytest.approx(exact.pvalue, abs=0.03)


def test_the_table_shows_both_values_and_fits(pair, capsys):
    """One line a metric: a, b, their signed difference, both intervals and the p-value."""
    capsys.readouterr()
    of = compare()["category"]["mAP@all"]
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if line.split()[:1] == ["mAP@all"]]
    assert line.split()[1:4] == [f"{of['a']:.4f}", f"{of['b']:.4f}", f"{of['difference']:+.4f}"]
    assert line.split()[-1] == f"{of['p_value']:.4f}"
    assert max(map(len, lines)) < 100


def test_an_evaluation_does_not_differ_from_itself(pair):
    """The difference is 0, its interval [0, 0] and p is 1, for every metric."""
    found = compare(pair="a,a")["category"]
    metrics = [of for of in found.values() if isinstance(of, dict)]
    assert len(metrics) > 3
    for of in metrics:
        assert (of["difference"], of["interval"], of["p_value"]) == (0, [0, 0], 1)


def test_only_what_both_measured_is_compared(pair, capsys):
    """Metrics of one side alone are left out; with none in common it is one line."""
    evaluate("c1", *made(1, 1.0), "--metrics=mAP@all,P@3")
    names = [name for name, of in compare(pair="a,c1")["category"].items() if isinstance(of, dict)]
    assert names == ["mAP@all"]
    np.savez("q.npz", **made(1, 1.0)[0])
    argv = ["--queries=q.npz", "--gallery=g.npz", "--metrics=P@3", "--out=c2"]
    assert launch.main(["evaluate", *argv]) == 0
    capsys.readouterr()
    assert "no metric in common" in error_line(capsys, "evaluate", "--compare=a,c2", code=1)


def test_without_out_nothing_is_written(pair):
    """A comparison is printed; only --out stores it."""
    before = sorted(Path().rglob("*"))
    assert launch.main(["evaluate", "--compare=a,b"]) == 0
    assert sorted(Path().rglob("*")) == before


def test_queries_without_relevant_items_follow_the_rule_of_the_evaluations(tmp_path, monkeypatch):
    """Left out they are not compared; as zeros they are queries like the others."""
    monkeypatch.chdir(tmp_path)
    for seed, name in ((1, "a"), (2, "b")):
        queries, gallery = made(seed, 1.0)
        queries["labels"] = np.where(np.arange(48) < 8, 99, queries["labels"])
        evaluate(name, queries, gallery)
        evaluate(f"{name}0", queries, gallery, "--no_relevant=zero")
    left_out, zero = compare()["category"], compare(pair="a0,b0")["category"]
    assert (left_out["queries"], zero["queries"]) == (40, 48)
    difference = left_out["mAP@all"]["difference"] * 40 / 48
    assert zero["mAP@all"]["difference"] == pytest.approx(difference)


@pytest.mark.parametrize(
    ("side", "parts"),
    [("queries", ["other queries"]), ("gallery", ["other gallery"])],
)
def test_other_items_are_not_comparable(pair, capsys, side, parts):
    """Evaluations of other queries, or of another gallery, are refused in one line."""
    queries, gallery = made(1, 1.0)
    changed = queries if side == "queries" else gallery
    changed["labels"] = changed["labels"][::-1].copy()
    evaluate("d", queries, gallery)
    capsys.readouterr()
    line = error_line(capsys, "evaluate", "--compare=a,d", code=1)
    for part in ["a and d", *parts]:
        assert part in line


@pytest.mark.parametrize("rule", ["ties=optimistic", "no_relevant=zero"])
def test_other_rules_are_not_comparable(pair, capsys, rule):
    """Another tie rule, or another rule for queries without relevant items, is named."""
    evaluate("d", *made(1, 1.0), f"--{rule}")
    capsys.readouterr()
    assert rule in error_line(capsys, "evaluate", "--compare=a,d", code=1)


def test_a_missing_evaluation_names_the_command_that_makes_it(pair, capsys):
    """A workdir that was not evaluated: the line can be typed as it stands."""
    Path("run").mkdir()
    capsys.readouterr()
    line = error_line(capsys, "evaluate", "--compare=a,run", "--split=val", code=1)
    assert "python launch.py evaluate --workdir=run --split=val --checkpoint=best" in line
    assert "nowhere" in error_line(capsys, "evaluate", "--compare=nowhere,a", code=1)


def test_damaged_scores_are_one_line(pair, capsys):
    """A scores.npz cut short is named, with what to do."""
    path = Path("b/scores.npz")
    path.write_bytes(path.read_bytes()[:200])
    capsys.readouterr()
    line = error_line(capsys, "evaluate", "--compare=a,b", code=1)
    assert "b/scores.npz: damaged" in line
    assert "evaluate again" in line
