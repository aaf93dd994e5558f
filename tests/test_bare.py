"""Evaluating embeddings from files, by the command line, against NumPy and scikit-learn."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from front_door import error_line, launch
from scipy.spatial.distance import cdist
from sklearn.metrics import average_precision_score

CLASSES = np.array(["ant", "bee", "cow", "dog"])


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def made(seed: int, rows: int, **more: np.ndarray) -> dict[str, np.ndarray]:
    """Noisy points around one centre a class."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, len(CLASSES), rows)
    centres = np.random.default_rng(0).normal(size=(len(CLASSES), 6))
    vectors = (centres[labels] + rng.normal(size=(rows, 6))).astype(np.float32)
    return {"embeddings": vectors, "labels": CLASSES[labels], **more}


@pytest.fixture
def files(here):
    """Queries and a gallery in the current directory, and their arrays."""
    queries, gallery = made(1, 24), made(2, 40)
    np.savez("q.npz", **queries)
    np.savez("g.npz", **gallery)
    return queries, gallery


def evaluate(*more: str) -> dict:
    assert launch.main(["evaluate", "--queries=q.npz", "--gallery=g.npz", *more]) == 0
    return json.loads(Path("evaluation/results.json").read_text())


def average_precisions(queries: dict, gallery: dict, kind: str) -> list[float]:
    """AP of each query by scikit-learn, over scipy's distances."""
    distance = cdist(queries["embeddings"].astype(np.float64), gallery["embeddings"], kind)
    relevant = queries["labels"][:, None] == gallery["labels"]
    pairs = zip(relevant, -distance, strict=True)
    return [average_precision_score(row, score) for row, score in pairs]


@pytest.mark.parametrize(
    ("flag", "kind"),
    [("cosine", "cosine"), ("l1", "cityblock"), ("linf", "chebyshev"), ("l2", "euclidean")],
)
def test_any_embeddings_are_measured_as_scikit_learn_does(files, flag, kind):
    """mAP@all under four distances is the mean of scikit-learn's AP over scipy's distances."""
    entry = evaluate(f"--distance={flag}", "--metrics=mAP@all")
    expected = np.mean(average_precisions(*files, kind))
    assert entry["category"]["mAP@all"]["value"] == pytest.approx(expected, abs=1e-6)
    assert entry["distance"] == flag


def test_an_entry_says_how_it_was_made(files, capsys):
    """Every metric has its definition; rules, fingerprints, sizes and versions are there."""
    entry = evaluate("--metrics=sake,trec,nDCG@5", "--ties=optimistic", "--no_relevant=zero")
    named = [name for name, of in entry["category"].items() if isinstance(of, dict)]
    assert "mAP-voc@200/min" in named
    assert sorted(entry["definitions"]) == sorted(named)
    assert all(entry["definitions"].values())
    assert (entry["ties"], entry["no_relevant"]) == ("optimistic", "zero")
    assert set(entry["fingerprints"]["embeddings"]) == {"queries", "gallery"}
    assert set(entry["versions"]) == {"sbir_jax", "jax", "numpy", "python"}
    table = capsys.readouterr().out
    assert all(name in table for name in named)
    assert max(map(len, table.splitlines())) < 100


def test_fingerprints_follow_content(files):
    """The same files give the same fingerprints; one changed embedding changes one of them."""
    before, again = evaluate()["fingerprints"], evaluate()["fingerprints"]
    assert again == before
    queries, _ = files
    queries["embeddings"][3, 2] += 1
    np.savez("q.npz", **queries)
    after = evaluate()["fingerprints"]
    assert after["embeddings"]["queries"] != before["embeddings"]["queries"]
    assert after["embeddings"]["gallery"] == before["embeddings"]["gallery"]
    assert after["items"] == before["items"]


def test_per_class_table_is_the_mean_of_each_class(files):
    """A row a class: how many queries, and the mean of scikit-learn's AP over them."""
    evaluate("--metrics=mAP@all,P@1")
    with open("evaluation/per_class.csv", newline="") as file:
        rows = {row["class"]: row for row in csv.DictReader(file)}
    queries, _ = files
    precisions = np.array(average_precisions(*files, "cosine"))
    assert list(rows) == sorted(set(queries["labels"]))
    for name, row in rows.items():
        own = queries["labels"] == name
        assert int(row["category/queries"]) == own.sum()
        assert float(row["category/mAP@all"]) == pytest.approx(precisions[own].mean(), abs=1e-5)


def test_curves_are_precision_at_recall_and_at_rank(files):
    """Against a loop: interpolated precision at recall 0, .3 and 1, and P and recall at rank 7."""
    evaluate()
    with open("evaluation/curves.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    found = {
        (row["kind"], float(row["x"])): (float(row["precision"]), float(row["recall"]))
        for row in rows
    }
    assert len(rows) == len(found) == 101 + 40
    queries, gallery = files
    distance = cdist(queries["embeddings"], gallery["embeddings"], "cosine")
    at_recall, at_rank = {0: [], 3: [], 10: []}, []
    for query, row in enumerate(distance):
        hits = (gallery["labels"] == queries["labels"][query])[np.argsort(row)]
        precision, total = np.cumsum(hits) / np.arange(1, 41), hits.sum()
        for tenth, values in at_recall.items():
            values.append(max(precision[10 * np.cumsum(hits) >= tenth * total]))
        at_rank.append((hits[:7].sum() / 7, hits[:7].sum() / total))
    for tenth, values in at_recall.items():
        assert found["recall", tenth / 10] == pytest.approx((np.mean(values), tenth / 10), abs=1e-5)
    assert found["rank", 7.0] == pytest.approx(np.mean(at_rank, axis=0), abs=1e-5)


def test_scores_of_every_query_are_kept(files):
    """scores.npz has each query's AP, its number of relevant items and its class."""
    evaluate("--metrics=mAP@all")
    queries, gallery = files
    with np.load("evaluation/scores.npz", allow_pickle=False) as stored:
        precisions = average_precisions(queries, gallery, "cosine")
        np.testing.assert_allclose(stored["values/category/mAP@all"], precisions, atol=1e-6)
        relevant = (queries["labels"][:, None] == gallery["labels"]).sum(axis=1)
        np.testing.assert_array_equal(stored["relevant/category"], relevant)
        np.testing.assert_array_equal(stored["classes"], queries["labels"])


def test_seen_items_join_the_gallery_of_generalised_retrieval(files, here):
    """The level `generalised` is the category level of the two galleries put together by hand."""
    seen = made(3, 30)
    np.savez("s.npz", **seen)
    entry = evaluate("--seen_gallery=s.npz", "--metrics=standard,sake")
    _, gallery = files
    np.savez("g.npz", **{key: np.concatenate([gallery[key], seen[key]]) for key in gallery})
    joined = evaluate("--metrics=standard,sake")["category"]
    assert entry["generalised"]["gallery"] == joined["gallery"] == 70
    assert entry["category"]["gallery"] == 40
    for name, of in joined.items():
        if isinstance(of, dict):
            assert entry["generalised"][name]["value"] == pytest.approx(of["value"], abs=1e-9), name


def test_queries_without_relevant_items_are_counted_and_told(files, capsys):
    """Six queries of a class that the gallery lacks: left out, or zeros, and said in the table."""
    queries, _ = files
    queries["labels"] = np.where(np.arange(24) < 6, "yak", queries["labels"])
    np.savez("q.npz", **queries)
    left_out = evaluate("--metrics=P@1")["category"]
    assert "6 queries have no relevant item: left out" in capsys.readouterr().out
    zero = evaluate("--metrics=P@1", "--no_relevant=zero")["category"]
    assert "6 queries have no relevant item: counted as 0" in capsys.readouterr().out
    assert (left_out["queries"], left_out["queries_without_relevant"]) == (18, 6)
    assert (zero["queries"], zero["queries_without_relevant"]) == (24, 6)
    assert zero["P@1"]["value"] == pytest.approx(left_out["P@1"]["value"] * 18 / 24)


def test_a_gallery_that_lists_items_twice_says_so(files, capsys):
    """Listed and distinct embeddings are both in the entry and in the table."""
    _, gallery = files
    np.savez("g.npz", **{key: np.concatenate([of, of[:5]]) for key, of in gallery.items()})
    entry = evaluate()["category"]
    assert (entry["gallery"], entry["gallery_distinct"]) == (45, 40)
    assert "45 in the gallery (40 distinct)" in capsys.readouterr().out


def test_one_query_has_no_interval(files, capsys):
    """A single query says nothing of others: no interval, a dash in the table, no NaN anywhere."""
    queries, _ = files
    np.savez("q.npz", **{key: of[:1] for key, of in queries.items()})
    entry = evaluate("--metrics=P@1")
    assert entry["category"]["P@1"]["interval"] is None
    (line,) = [row for row in capsys.readouterr().out.splitlines() if "P@1" in row]
    assert line.split()[2] == "-"
    assert "NaN" not in Path("evaluation/results.json").read_text()


def test_the_generalised_level_can_be_asked_for_alone(files):
    """`generalised/NAME` gives that level and no other."""
    np.savez("s.npz", **made(3, 30))
    entry = evaluate("--seen_gallery=s.npz", "--metrics=generalised/P@5")
    assert entry["levels"] == ["generalised"]
    assert entry["generalised"]["gallery"] == 70


def test_relevance_of_the_users_own_needs_no_labels(here):
    """With a matrix alone the level is `given`, and there is nothing to say of classes."""
    queries, gallery = made(1, 12), made(2, 20)
    np.save("q.npy", queries["embeddings"])
    np.save("g.npy", gallery["embeddings"])
    np.save("r.npy", queries["labels"][:, None] == gallery["labels"])
    argv = ["--queries=q.npy", "--gallery=g.npy", "--relevance=r.npy", "--metrics=mAP@all"]
    assert launch.main(["evaluate", *argv, "--out=mine"]) == 0
    entry = json.loads(Path("mine/results.json").read_text())
    expected = np.mean(average_precisions(queries, gallery, "cosine"))
    assert entry["given"]["mAP@all"]["value"] == pytest.approx(expected, abs=1e-6)
    assert entry["given"]["mAP@all"]["class_mean"] is None
    assert not Path("mine/per_class.csv").exists()


def test_trec_files_hold_the_ranking_and_what_is_relevant(files):
    """Read back, run.txt is the order of scipy's distances and qrels.txt the equal labels."""
    evaluate("--trec=trec", "--trec_depth=5")
    queries, gallery = files
    order = np.argsort(cdist(queries["embeddings"], gallery["embeddings"], "cosine"), axis=1)
    lines = [line.split() for line in Path("trec/run.txt").read_text().splitlines()]
    expected = [(f"q{q}", f"g{order[q, r]}", str(r + 1)) for q in range(24) for r in range(5)]
    assert [(line[0], line[2], line[3]) for line in lines] == expected
    pairs = {tuple(line.split()[::2]) for line in Path("trec/qrels.txt").read_text().splitlines()}
    equal = np.argwhere(queries["labels"][:, None] == gallery["labels"])
    assert pairs == {(f"q{q}", f"g{g}") for q, g in equal}


def test_the_bare_name_is_refused_with_the_exact_ones(files, capsys):
    """`mAP@200` is no metric: one line lists what it might mean, and nothing is written."""
    argv = ["evaluate", "--queries=q.npz", "--gallery=g.npz", "--metrics=mAP@200"]
    line = error_line(capsys, *argv)
    for name in ("hits", "min", "K", "R"):
        assert f"mAP@200/{name}" in line
    assert "mAP-voc@200/min" in line
    assert not Path("evaluation").exists()


def test_expected_ties_refuse_what_has_no_closed_form(files, capsys):
    """--ties=expected with a precision envelope is one line before anything is ranked."""
    argv = ["evaluate", "--queries=q.npz", "--gallery=g.npz", "--ties=expected"]
    assert "mAP-voc@all" in error_line(capsys, *argv, "--metrics=sake")


def spoil(change):
    """Changes the arrays of a file."""

    def spoiled(file: str) -> None:
        with np.load(file) as stored:
            arrays = {key: stored[key] for key in stored.files}
        change(arrays)
        np.savez(file, **arrays)

    return spoiled


def put(key, value):
    return spoil(lambda arrays: arrays.__setitem__(key, value))


@pytest.mark.parametrize(
    ("file", "change", "parts"),
    [
        ("g.npz", spoil(lambda a: a["embeddings"].__setitem__((3, 1), np.nan)), ["g.npz", "row 3"]),
        (
            "q.npz",
            spoil(lambda a: a["embeddings"].__setitem__(7, 0)),
            ["queries", "zeros", "row 7"],
        ),
        ("q.npz", put("labels", np.array([{}] * 24)), ["q.npz", "labels"]),
        ("q.npz", put("embeddings", np.ones((24, 5), np.float32)), ["(24, 5)", "(40, 6)"]),
        ("g.npz", put("labels", CLASSES), ["g.npz", "labels", "(4,)"]),
        ("g.npz", put("embeddings", np.ones((0, 6), np.float32)), ["g.npz", "(0, 6)"]),
        ("g.npz", put("labels", np.array(["yak"] * 40)), ["label", "yak"]),
        ("g.npz", put("labels", np.arange(40)), ["labels", "integers"]),
        ("g.npz", spoil(lambda a: a.pop("labels")), ["labels"]),
        ("g.npz", lambda file: Path(file).unlink(), ["g.npz"]),
        ("g.npz", lambda file: Path(file).write_bytes(b"PK\3\4 damaged"), ["g.npz"]),
    ],
)
def test_input_that_cannot_be_used_is_one_line(files, capsys, file, change, parts):
    """NaN, zeros, objects, shapes, an empty gallery, unknown labels: one line names the file."""
    change(file)
    line = error_line(capsys, "evaluate", "--queries=q.npz", "--gallery=g.npz", code=1)
    for part in parts:
        assert part in line


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (spoil(lambda a: a.pop("labels")), ["seen", "labels"]),
        (put("labels", np.arange(30)), ["integers", "strings"]),
        (put("embeddings", np.ones((30, 5), np.float32)), ["6 dimensions", "5"]),
    ],
)
def test_a_seen_gallery_that_does_not_fit_is_one_line(files, capsys, change, parts):
    """What joins the gallery needs labels of its kind and as many dimensions."""
    np.savez("s.npz", **made(3, 30))
    change("s.npz")
    argv = ["evaluate", "--queries=q.npz", "--gallery=g.npz", "--seen_gallery=s.npz"]
    line = error_line(capsys, *argv, code=1)
    for part in parts:
        assert part in line
