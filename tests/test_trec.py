"""TREC files: read by trec_eval and ranx, scored as our ranks are; malformed ones refused."""

from __future__ import annotations

import numpy as np
import pytest

from sbir_jax.ranking.relevance import by_ids, by_pairs
from sbir_jax.ranking.trec import TrecError, read_qrels, write_qrels, write_run

LABELS = np.array([0, 1, 2, 0, 1, 9]), np.arange(40) % 3
QUERIES = [f"sketch/{i}" for i in range(6)]
GALLERY = [f"photo-{7 * i % 40:02d}.jpg" for i in range(40)]  # not in order of row


def ranked(distance: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
    """Nearest items, equal distances by gallery row, and each query's AP from the definition."""
    nearest = np.argsort(distance, axis=1, kind="stable")
    precisions = {}
    for name, label, row in zip(QUERIES, LABELS[0], nearest, strict=True):
        hits = [LABELS[1][item] == label for item in row]
        at_hits = [sum(hits[:i]) / i for i in range(1, 41) if hits[i - 1]]
        if at_hits:
            precisions[name] = sum(at_hits) / len(at_hits)
    return nearest, precisions


def written(folder, nearest: np.ndarray) -> tuple[str, str]:
    qrels, run = str(folder / "test.qrels"), str(folder / "test.run")
    write_qrels(qrels, QUERIES, GALLERY, by_ids(*LABELS))
    write_run(run, QUERIES, GALLERY, nearest)
    return qrels, run


def some_distances(kind: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    distance = rng.random((6, 40))
    return {
        "distinct": distance,
        "tied": np.round(2 * distance),
        # In float32, as trec_eval keeps scores, all of these are equal.
        "close": 1 + 1e-9 * distance,
    }[kind]


@pytest.mark.parametrize("kind", ["distinct", "tied", "close"])
def test_trec_eval_scores_the_same(tmp_path, kind):
    """trec_eval reads the files and finds the AP of the order as written, whatever the names of
    tied items; a query without relevant items is not among its queries."""
    pytrec_eval = pytest.importorskip("pytrec_eval")
    nearest, wanted = ranked(some_distances(kind))
    paths = written(tmp_path, nearest)
    with open(paths[0]) as qrels, open(paths[1]) as run:
        judged, retrieved = pytrec_eval.parse_qrel(qrels), pytrec_eval.parse_run(run)
    scores = pytrec_eval.RelevanceEvaluator(judged, {"map"}).evaluate(retrieved)
    assert len(wanted) == 5
    assert {name: of["map"] for name, of in scores.items()} == pytest.approx(wanted, abs=1e-12)


@pytest.mark.slow  # 26 s when ranx first compiles
@pytest.mark.filterwarnings("ignore::Warning")  # of Numba, on ranx's own code
def test_ranx_scores_the_same(tmp_path):
    """ranx reads the files and finds the same AP."""
    ranx = pytest.importorskip("ranx")
    nearest, wanted = ranked(some_distances("tied"))
    paths = written(tmp_path, nearest)
    qrels = ranx.Qrels.from_file(paths[0], kind="trec")
    run = ranx.Run.from_file(paths[1], kind="trec")
    ranx.evaluate(qrels, run, "map", make_comparable=True)
    assert dict(run.scores["map"]) == pytest.approx(wanted, abs=1e-12)


def test_lines_are_the_formats(tmp_path):
    """A hand-worked pair of files: ranks from 1, scores falling to 1, relevant pairs only."""
    names = ["s1", "s2"], np.array(["p1", "p2", "p3"])
    write_run(tmp_path / "run", *names, np.array([[2, 0], [1, 2]]), tag="mine")
    assert (tmp_path / "run").read_text().splitlines() == [
        "s1 Q0 p3 1 2 mine",
        "s1 Q0 p1 2 1 mine",
        "s2 Q0 p2 1 2 mine",
        "s2 Q0 p3 2 1 mine",
    ]
    pairs = np.array([1, 1]), np.array([0, 2])
    write_qrels(tmp_path / "qrels", *names, by_pairs(*pairs, queries=2, size=3))
    assert (tmp_path / "qrels").read_text().splitlines() == ["s2 0 p1 1", "s2 0 p3 1"]


def test_qrels_come_back(tmp_path):
    """Relevant pairs that are written are read again, query by query."""
    relevance = by_ids(*LABELS)
    write_qrels(tmp_path / "q", QUERIES, GALLERY, relevance)
    rows, columns = read_qrels(tmp_path / "q", QUERIES, GALLERY)
    pairs = set(zip(rows.tolist(), columns.tolist(), strict=True))
    assert len(rows) == len(pairs)
    assert pairs == {(q, g) for q in range(6) for g in range(40) if LABELS[0][q] == LABELS[1][g]}


def test_grades_of_one_or_more_are_relevant(tmp_path):
    """Grades 1 and 3 are relevant, 0 and -1 are not; any whitespace separates, the second field is
    ignored, and the order of the lines is kept."""
    path = tmp_path / "graded.qrels"
    path.write_text("b Q0 y 3\na 0\tx 1\r\na 1  y 0\nb 0 x -1", encoding="utf-8")
    rows, columns = read_qrels(path, ["a", "b"], ["x", "y", "z"])
    assert (rows.tolist(), columns.tolist()) == ([1, 0], [1, 0])
    path.write_text("", encoding="utf-8")
    assert [len(of) for of in read_qrels(path, ["a", "b"], ["x", "y", "z"])] == [0, 0]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("a 0 x 1\na 0 y", "line 2: 'a 0 y'; expected QUERY 0 ITEM GRADE, the grade an integer"),
        ("a 0 x y 1", "line 1: 'a 0 x y 1'; expected QUERY 0 ITEM GRADE"),
        ("a 0 x 1\n\na 0 y 1", "line 2: ''; expected QUERY 0 ITEM GRADE"),
        ("a 0 x 0.5", "line 1: 'a 0 x 0.5'; expected .* integer"),
        ("a 0 x 1\nc 0 x 1", "line 2: 'c' is not the name of a query"),
        ("a 0 w 0", "line 1: 'w' is not the name of a gallery item"),
        ("a 0 x 1\nb 0 x 1\na 0 y 0\nb 1 x 0", "line 4: 'b' and 'x' were judged before, in line 2"),
        (b"a 0 \xff 1", "is not UTF-8 text"),
    ],
)
def test_bad_qrels_are_one_line(tmp_path, lines, message):
    """A malformed line, an unknown name and a doubled pair are named with file and line."""
    path = tmp_path / "bad.qrels"
    path.write_bytes(lines if isinstance(lines, bytes) else lines.encode())
    with pytest.raises(TrecError, match=rf"bad\.qrels.*{message}") as error:
        read_qrels(path, ["a", "b"], ["x", "y"])
    assert "\n" not in str(error.value)


def test_files_that_cannot_be_read(tmp_path):
    """A missing file and a directory are refused by name."""
    with pytest.raises(TrecError, match="absent: No such file or directory"):
        read_qrels(tmp_path / "absent", ["a"], ["x"])
    with pytest.raises(TrecError, match="Is a directory"):
        read_qrels(tmp_path, ["a"], ["x"])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a", "old cat"], r"name 'old cat' \(row 1\): TREC files separate fields by whitespace"),
        (["a", "b\n"], r"name 'b\\n' \(row 1\)"),
        (["", "b"], r"name '' \(row 0\): .* a name must be there"),
        (["b", "b"], "name 'b': rows 0 and 1 share it"),
    ],
)
@pytest.mark.parametrize("side", ["query", "gallery"])
def test_names_that_do_not_fit(tmp_path, side, names, message):
    """Names with whitespace, empty or doubled are refused on either side, before any file is
    written."""
    sides = (names, ["x", "y"]) if side == "query" else (["a", "b"], names)
    path = tmp_path / "never"
    for call in (
        lambda: write_run(path, *sides, np.array([[0, 1], [1, 0]])),
        lambda: write_qrels(
            path, *sides, by_pairs(np.array([0]), np.array([1]), queries=2, size=2)
        ),
        lambda: read_qrels(path, *sides),
    ):
        with pytest.raises(TrecError, match=f"^{side} {message}") as error:
            call()
        assert "\n" not in str(error.value)
    assert not path.exists()


def test_scores_stay_exact(tmp_path):
    """A ranking so deep that its scores are no longer distinct in float32 is refused."""
    deep = np.broadcast_to(np.int32(0), (1, 2**24))
    with pytest.raises(TrecError, match="16777216 items a query; scores are exact below 16777216"):
        write_run(tmp_path / "deep", ["a"], ["x"], deep)
