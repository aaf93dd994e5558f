"""What an evaluation leaves on disk is read back as it was, or refused in one line."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from sbir_jax import results
from sbir_jax.ranking.rank import Curve, Scores


def made() -> results.Evaluation:
    """Three queries of two classes; the last has nothing to find at the level `instance`."""
    curve = Curve(np.linspace(1, 0.5, 101), np.array([1.0, 0.5]), np.array([0.5, 1.0]))
    levels = {"category": (2, 1, 1), "instance": (1, 1, 0)}
    scores = {
        level: Scores(
            {"mAP@all": np.array([1.0, 0.5, 0.0]), "mAP@2/min": np.array([0.25, 0.5, 0.0])},
            np.array(relevant, np.int32),
            2,
            curve,
        )
        for level, relevant in levels.items()
    }
    items = {name: name[::-1] for name in ("queries", "gallery", *levels)}
    entry = {"ties": "pessimistic", "no_relevant": "exclude", "fingerprints": {"items": items}}
    return results.Evaluation(entry, scores, np.array(["bee", "ant", "bee"]))


def test_scores_are_read_back_as_they_were(tmp_path):
    """Values by level and metric (names with slashes too), relevant items, classes and rules."""
    evaluation = made()
    results.write_files(tmp_path, evaluation)
    stored = results.read_scores(tmp_path / "scores.npz")
    assert stored.values.keys() == evaluation.scores.keys()
    for level, scores in evaluation.scores.items():
        assert stored.values[level].keys() == scores.metrics.keys()
        for name, values in scores.metrics.items():
            np.testing.assert_array_equal(stored.values[level][name], values)
        np.testing.assert_array_equal(stored.relevant[level], scores.relevant)
    np.testing.assert_array_equal(stored.classes, ["bee", "ant", "bee"])
    assert stored.rules == {"ties": "pessimistic", "no_relevant": "exclude"}
    assert stored.items == evaluation.entry["fingerprints"]["items"]


def test_evaluations_without_classes_have_no_class_table(tmp_path):
    """Without classes nothing is per class, and reading says None."""
    evaluation = made()
    results.write_files(tmp_path, results.Evaluation(evaluation.entry, evaluation.scores, None))
    assert not (tmp_path / "per_class.csv").exists()
    assert results.read_scores(tmp_path / "scores.npz").classes is None


def test_a_class_has_one_row_with_all_levels(tmp_path):
    """Hand-worked: `bee` has two queries by category, and one by instance."""
    results.write_files(tmp_path, made())
    with (tmp_path / "per_class.csv").open(newline="") as file:
        ant, bee = csv.DictReader(file)
    assert (ant["class"], bee["class"]) == ("ant", "bee")
    assert (bee["category/queries"], bee["category/mAP@all"]) == ("2", "0.5")
    assert (bee["instance/queries"], bee["instance/mAP@all"]) == ("1", "1")
    assert bee["instance/queries_without_relevant"] == "1"
    assert ant["instance/mAP@2/min"] == "0.5"


def test_curves_are_long_and_name_their_level(tmp_path):
    """A row for each recall 0, .01, ..., 1 and each rank, at both levels."""
    results.write_files(tmp_path, made())
    with (tmp_path / "curves.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["level", "kind", "x", "precision", "recall"]
    assert len(rows) == 2 * (101 + 2)
    assert list(rows[30].values()) == ["category", "recall", "0.3", "0.85", "0.3"]
    assert list(rows[-1].values()) == ["instance", "rank", "2", "0.5", "1"]


def test_entries_of_other_evaluations_stay(tmp_path):
    """An entry replaces the one of its name and leaves the others."""
    for split, checkpoint, value in (("test", "none", 1), ("test", "best", 2), ("test", "best", 3)):
        path = results.add_entry(tmp_path, {"value": value}, name=f"{split}/{checkpoint}")
    stored = json.loads(path.read_text())
    assert {name: entry["value"] for name, entry in stored.items()} == {
        "test/none": 1,
        "test/best": 3,
    }


def test_results_edited_into_something_else_are_one_line(tmp_path):
    """A results.json that is no dictionary is named, and left as it is."""
    (tmp_path / "results.json").write_text("[1,")
    with pytest.raises(results.ResultsError, match=r"results.json: .*line 1"):
        results.add_entry(tmp_path, {}, name="test/best")
    assert (tmp_path / "results.json").read_text() == "[1,"


@pytest.mark.parametrize("content", [b"", b"PK\3\4 damaged", b"text"])
def test_a_file_that_is_no_scores_is_one_line(tmp_path, content):
    """An empty, damaged or foreign scores.npz is named, with what to do."""
    path = tmp_path / "scores.npz"
    path.write_bytes(content)
    with pytest.raises(results.ResultsError, match=r"scores.npz: damaged .*evaluate again$"):
        results.read_scores(path)


def test_fingerprints_are_of_values_not_of_storage():
    """int32 and int64, or strings of two widths, agree; other values, shapes or orders do not."""
    whole = np.array([1, 2, 3])
    assert results.fingerprint(whole) == results.fingerprint(whole.astype(np.int32))
    assert results.fingerprint(np.array(["a"])) == results.fingerprint(np.array(["a"], "<U9"))
    others = [
        (whole[::-1],),
        (whole, None),
        (whole.reshape(3, 1),),
        (whole.astype(np.float32),),
        (np.array(["1", "2", "3"]),),
        (np.array([1, 2]), np.array([3])),
    ]
    found = {results.fingerprint(*parts) for parts in [(whole,), *others]}
    assert len(found) == 1 + len(others)
