"""Search finds what a NumPy loop over all photos finds, by every method, from every front door."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest
from data_prep_trees import photo, save, sketch
from front_door import error_line, launch
from PIL import Image
from tiny import small_backbone

from sbir_jax import Index, compress, load_encoders, sharding
from sbir_jax.data.strokes import rasterise
from sbir_jax.report.grids import retrieval_grid
from sbir_jax.retrieval import RetrievalError, search
from sbir_jax.retrieval.approximate import Approximate
from sbir_jax.retrieval.search import Searcher, recall, similarities


def units(n: int, dim: int = 16, seed: int = 0) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(n, dim))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def by_hand(vectors: np.ndarray, queries: np.ndarray, top: int) -> np.ndarray:
    """All similarities in float64, sorted; of equals the lower row first."""
    similarity = queries.astype(np.float64) @ vectors.astype(np.float64).T
    return np.argsort(-similarity, axis=1, kind="stable")[:, :top]


@pytest.mark.parametrize(("photos", "queries", "top"), [(50, 1, 5), (50, 70, 50), (33, 3, 40)])
def test_exact_search_is_a_sort_of_all_similarities(photos, queries, top, monkeypatch):
    """Also with blocks that do not divide the photos, and more asked for than there are."""
    monkeypatch.setattr(search, "_BLOCK", 16)
    vectors, asked = units(photos).astype(np.float16), units(queries, seed=1)
    rows, similarity = Searcher(vectors, "exact").nearest(asked, top)
    np.testing.assert_array_equal(rows, by_hand(vectors, asked, top))
    expected = np.take_along_axis(asked @ vectors.astype(np.float32).T, rows, 1)
    np.testing.assert_allclose(similarity, expected, atol=1e-6)


@pytest.mark.parametrize("dim", (7, 64, 130))
def test_equal_vectors_are_equally_similar(dim):
    """However many there are, to the last bit; and as similar as in float64."""
    (vector,), (query,) = units(1, dim), units(1, dim, seed=1)
    expected = float(vector.astype(np.float64) @ query.astype(np.float64))
    for n in range(1, 40):
        found = similarities(np.repeat(vector[None], n, axis=0), query)
        assert len(set(found.tolist())) == 1
        assert found[0] == pytest.approx(expected, abs=1e-6)


def test_equal_photos_come_in_row_order(monkeypatch):
    """Copies of one vector, across blocks, are ranked by row."""
    monkeypatch.setattr(search, "_BLOCK", 4)
    vectors = np.tile(units(1), (11, 1)).astype(np.float16)
    for method in ("exact", "int8", "binary"):
        rows, _ = Searcher(vectors, method).nearest(units(2, seed=3), 7)
        np.testing.assert_array_equal(rows, [range(7)] * 2)


@pytest.mark.parametrize("method", ["int8", "binary"])
def test_codes_choose_candidates_and_whole_vectors_rank_them(method, monkeypatch):
    """The candidates are those of the codes, by NumPy; their order and scores are exact."""
    monkeypatch.setattr(search, "_BLOCK", 64)
    monkeypatch.setattr(search, "_LEAST", 30)
    vectors, asked = units(300).astype(np.float16), units(5, seed=1)
    whole = vectors.astype(np.float32)
    if method == "int8":
        codes, scale = compress.int8(whole)
        coarse = asked @ (codes * scale[:, None]).T
    else:
        coarse = -compress.hamming(compress.binary(asked), compress.binary(whole))
    candidates = np.argsort(-coarse, axis=1, kind="stable")[:, :30]
    rows, similarity = Searcher(vectors, method).nearest(asked, 3)
    for own, chosen, query, scores in zip(rows, candidates, asked, similarity, strict=True):
        best = chosen[np.argsort(-(whole[chosen] @ query), kind="stable")[:3]]
        np.testing.assert_array_equal(own, best)
        np.testing.assert_allclose(scores, whole[best] @ query, atol=1e-6)


def test_recall_counts_shared_neighbours():
    """Two of three, then none of three, in any order: a third."""
    assert recall(np.array([[1, 2, 3], [4, 5, 6]]), np.array([[3, 9, 1], [7, 8, 9]])) == 1 / 3


def test_queries_that_cannot_be_compared_are_refused():
    """Another dimension, NaN, and nothing asked for, each in one line."""
    searcher = Searcher(units(5), "exact")
    for queries, top, words in (
        (units(2, 8), 3, r"shape \(2, 8\): expected \[q, 16\]"),
        (np.full((1, 16), np.nan), 3, "not finite"),
        (units(1), 0, "top=0"),
    ):
        with pytest.raises(RetrievalError, match=words):
            searcher.nearest(queries, top)


# From files


@pytest.fixture(scope="module")
def indexed(finished, tmp_path_factory):
    """(index, encoders, directory of twelve photos)."""
    folder = tmp_path_factory.mktemp("search")
    for i in range(12):
        save(photo(i, size=(36, 36)), folder / f"photos/{i:02}.png")
    with small_backbone():
        encoders = load_encoders(finished[1], mesh=sharding.make_mesh(jax.devices()[:1]))
        index = Index.build(folder / "photos", encoders, folder / "index")
    return index, encoders, folder


def test_a_photo_finds_itself_and_a_sketch_what_its_vector_finds(indexed):
    """Photo queries have similarity 1 with their own photo; sketches are ranked by dot product."""
    index, encoders, folder = indexed
    files = [folder / f"photos/{i:02}.png" for i in (3, 7)]
    found = index.search(encoders.photos(files), top=2)
    assert [matches[0].item.file for matches in found] == files
    assert all(matches[0].similarity == pytest.approx(1, abs=2e-3) for matches in found)
    (matches,) = index.search(encoders.sketches([np.array(sketch(1).convert("L"))]), top=12)
    vector = encoders.sketches([np.array(sketch(1).convert("L"))])[0]
    expected = index.vectors.astype(np.float32) @ vector
    assert [match.row for match in matches] == np.argsort(-expected, kind="stable").tolist()


def test_faiss_finds_most_of_it_and_is_made_again_when_photos_change(indexed, tmp_path):
    """Over all cells its recall is 1 here; a stale or damaged file is replaced."""
    pytest.importorskip("faiss")
    index, encoders, folder = indexed
    vectors, asked = units(2000), units(20, seed=1)
    index = Index(tmp_path, index.manifest | {"content": "a"}, [], vectors.astype(np.float16))
    exact = by_hand(index.vectors, asked, 10)
    rows, similarity = Approximate.of(index).nearest(asked, 10)
    assert recall(rows, exact) > 0.9  # 32 of 52 cells
    np.testing.assert_allclose(
        similarity,
        np.take_along_axis(asked @ index.vectors.astype(np.float32).T, rows, 1),
        atol=1e-6,
    )
    made = (tmp_path / "ann.faiss").stat().st_mtime_ns
    Approximate.of(index)
    assert (tmp_path / "ann.faiss").stat().st_mtime_ns == made
    rows, _ = Approximate.of(index).nearest(asked, 2000)  # more than 32 cells hold
    np.testing.assert_array_equal(np.sort(rows), [range(2000)] * 20)
    fewer = Index(tmp_path, index.manifest | {"content": "b"}, [], index.vectors[:90])
    rows, _ = Approximate.of(fewer).nearest(asked, 10)
    assert rows.max() < 90
    (tmp_path / "ann.faiss").write_bytes(b"damaged")
    assert Approximate.of(fewer).nearest(asked, 10)[0].max() < 90


def test_images_of_the_wrong_kind_are_refused(indexed, tmp_path):
    """A grey photo array, a colour sketch array, floats, and files that are no images."""
    _, encoders, _ = indexed
    grey, colour = np.zeros((9, 9), np.uint8), np.zeros((9, 9, 3), np.uint8)
    (tmp_path / "x.png").write_bytes(b"nothing")
    for make, image, words in (
        (encoders.photos, grey, r"expected uint8 \[H, W, 3\]"),
        (encoders.sketches, colour, r"expected uint8 \[H, W\]"),
        (encoders.sketches, grey.astype(float), "dtype float64"),
        (encoders.sketches, b"nothing", "sketch: not an image"),
        (encoders.sketches, tmp_path / "x.png", "x.png: not an image"),
        (encoders.photos, tmp_path / "none.png", "No such file"),
    ):
        with pytest.raises(RetrievalError, match=words):
            make([image])


# From the command line


@pytest.fixture
def command(indexed, small_model):
    """Runs `launch.py search` on the index and returns what it prints."""

    def run(capsys, *argv: str) -> str:
        assert launch.main(["search", f"--index={indexed[2] / 'index'}", *argv]) == 0
        return capsys.readouterr().out

    return run


def test_many_queries_give_json_and_a_picture(indexed, command, tmp_path, capsys):
    """Image, SVG and two Quick, Draw! lines: what the Python API finds for each."""
    index, encoders, _ = indexed
    strokes = [[[0, 90, 200], [0, 200, 10]], [[50], [60]]]
    save(sketch(5), tmp_path / "a.png")
    (tmp_path / "b.svg").write_text('<svg><path d="M0 0L50 90L90 5"/></svg>')
    (tmp_path / "c.ndjson").write_text(
        json.dumps({"drawing": strokes}) + "\n" + json.dumps({"drawing": strokes[:1]})
    )
    files = [str(tmp_path / name) for name in ("a.png", "b.svg", "c.ndjson")]
    out = tmp_path / "grid.png"
    printed = command(capsys, "--json", "--top=4", f"--out={out}", *files)
    rows = json.loads(printed)
    assert [row["query"] for row in rows] == [*files[:2], f"{files[2]}:1", f"{files[2]}:2"]
    drawings = [[np.array(stroke, float).T for stroke in part] for part in (strokes, strokes[:1])]
    vectors = encoders.sketches([*files[:2], *map(rasterise, drawings)])
    for row, matches in zip(rows, index.search(vectors, 4), strict=True):
        assert [found["file"] for found in row["results"]] == [str(m.item.file) for m in matches]
        assert [found["rank"] for found in row["results"]] == [1, 2, 3, 4]
    with Image.open(out) as grid:
        assert grid.width > 5 * 128 and grid.height > 4 * 128


def test_photos_are_queries_too_and_methods_say_their_recall(indexed, command, capsys):
    """--as=photo puts the photo itself first; of a method that is not exact recall is printed."""
    file = indexed[2] / "photos/04.png"
    lines = command(capsys, "--as=photo", "--top=3", "--method=int8", str(file)).splitlines()
    assert lines[0] == str(file) and lines[1].split()[::2] == ["1", str(file)]
    assert lines[-1] == "recall@3 of int8 against exact search: 1.0000"


def test_index_verb_adds_updates_and_removes(finished, small_model, tmp_path, capsys):
    """The verb prints what it did and which files were left out; --remove takes a photo out."""
    for i in range(3):
        save(photo(i), tmp_path / f"photos/{i}.png")
    (tmp_path / "photos/bad.jpg").write_bytes(b"")
    out = tmp_path / "index"
    argv = [f"--workdir={finished[1]}", f"--photos={tmp_path / 'photos'}", f"--out={out}"]
    assert launch.main(["index", *argv]) == 0
    printed = capsys.readouterr().out
    assert f"not indexed: {tmp_path / 'photos/bad.jpg'}: empty file" in printed
    assert "3 photos (3 embedded now, 0 removed), 1 files left out" in printed
    assert launch.main(["index", f"--remove={tmp_path / 'photos/1.png'}", f"--out={out}"]) == 0
    assert "1 photos removed" in capsys.readouterr().out
    assert [item.path for item in Index.open(out).items] == ["0.png", "2.png"]


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["search", "a.png"], 2, "missing --index=DIR"),
        (["search", "--index=x"], 2, "no queries"),
        (["search", "--index=x", "none.png"], 2, "none.png: no such file"),
        (["search", "--index=x", "--as=phto", "a.png"], 2, "did you mean 'photo'"),
        (["search", "--index=x", "--top=0", "a.png"], 2, "--top=0: expected a whole number"),
        (["search", "--index=x", "--method=exat", "a.png"], 2, "did you mean 'exact'"),
        (["search", "--index=x", "--tpo=3", "a.png"], 2, "--top"),
        (["search", "--index=x", "launch.py"], 1, "no index there (no manifest.json)"),
        (["index", "--out=x"], 2, "--out: goes with --photos or --remove"),
        (["index", "--photos=x"], 2, "missing --out=DIR"),
        (["index", "--photos=x", "--out=y"], 2, "missing --workdir=DIR"),
        (["index", "--photos=x", "--out=y", "--workdir=none"], 1, "no run there"),
        (["index", "--remove=x", "--out=none"], 1, "no index there"),
    ],
)
def test_a_wrong_command_is_one_line(argv, code, words, capsys):
    """One line that names the flag, the bad value and what is valid."""
    assert words in error_line(capsys, *argv, code=code)


def test_a_run_that_was_moved_or_lost_is_named(indexed, tmp_path, capsys, monkeypatch):
    """The error says where the run was, and --workdir, which names where it is."""
    index, _, folder = indexed
    other = tmp_path / "index"
    other.mkdir()
    for name in ("items.jsonl", "vectors.npy"):
        (other / name).write_bytes((index.folder / name).read_bytes())
    source = index.manifest["source"] | {"workdir": "/gone/run"}
    (other / "manifest.json").write_text(json.dumps(index.manifest | {"source": source}))
    file = str(folder / "photos/00.png")
    line = error_line(capsys, "search", f"--index={other}", "--as=photo", file, code=1)
    assert "/gone/run is not there" in line and "--workdir=DIR" in line


def test_a_grid_without_right_and_wrong_has_no_frames():
    """Where nobody knows what is right, tiles are the photos themselves and no legend follows."""
    query, results = np.full((64, 64), 255, np.uint8), np.full((1, 2, 64, 64, 3), 90, np.uint8)
    bare = np.array(retrieval_grid([query], results, None))
    marked = np.array(retrieval_grid([query], results, np.ones((1, 2), bool)))
    assert (bare == 90).all(axis=-1).sum() == 2 * 64 * 64
    assert len(bare) < len(marked)
