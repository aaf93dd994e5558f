"""Embeddings files of every documented kind, damaged and wrong ones, and relevance among them."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest

from sbir_jax.embeddings import Embeddings, EmbeddingsError, load
from sbir_jax.relevant import relevance_of

VECTORS = np.random.default_rng(0).normal(size=(4, 3))


def saved(path, **arrays):
    np.savez(path, **({"embeddings": VECTORS} | arrays))
    return path


def of(labels=None, instances=None, names=None, rows: int | None = None) -> Embeddings:
    """Embeddings of `rows` rows, as loaded from arrays."""
    rows = rows or next(len(x) for x in (labels, instances, names) if x is not None)
    given = [x if x is None else np.array(x) for x in (labels, instances, names)]
    return Embeddings(np.ones((rows, 2), np.float32), *given)


def relevant(relevance) -> list[list[int]]:
    """The relevant gallery rows of each query."""
    return [relevance.of(query).tolist() for query in range(len(relevance.row))]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_every_key_is_read(tmp_path, dtype, save):
    """All four arrays come back in row order; vectors of any float width or byte order as float32,
    integers as int64."""
    path = tmp_path / "e.npz"
    save(
        path,
        embeddings=VECTORS.astype(dtype),
        labels=np.array([3, -1, 0, 3], ">i2"),
        instances=["a", "", "b", "a"],
        names=["w", "x", "y", "z é"],
    )
    got = load(path)
    assert got.vectors.dtype == np.float32 and got.vectors.dtype.isnative
    np.testing.assert_array_equal(got.vectors, VECTORS.astype(dtype).astype(np.float32))
    assert got.labels.dtype == np.int64
    assert got.labels.tolist() == [3, -1, 0, 3]
    assert got.instances.tolist() == ["a", "", "b", "a"]
    assert got.names.tolist() == ["w", "x", "y", "z é"]


def test_all_but_the_embeddings_may_be_absent(tmp_path):
    """A file of embeddings alone, .npz or .npy, has no labels, instances or names; ids that are all
    -1 or "" are none either."""
    np.save(tmp_path / "e.npy", VECTORS)
    none = {"labels": [-1, -7, -1, -1], "instances": [""] * 4}
    for path in (tmp_path / "e.npy", saved(tmp_path / "a.npz"), saved(tmp_path / "b.npz", **none)):
        got = load(path)
        np.testing.assert_array_equal(got.vectors, VECTORS.astype(np.float32))
        assert got.labels is got.instances is got.names is None


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("cat\ndog\ncat\nold cow\n", ["cat", "dog", "cat", "old cow"]),
        ("\ufeff3\r\n-1\r\n10\r\n3", [3, -1, 10, 3]),
        ("007\n7\n8\n9\n", ["007", "7", "8", "9"]),
        ("1\n2\n3\nfour", ["1", "2", "3", "four"]),
    ],
)
def test_labels_of_a_text_file(tmp_path, text, wanted):
    """One label a line: integers if every line is one as Python writes it, else strings."""
    (tmp_path / "l.txt").write_bytes(text.encode())
    np.save(tmp_path / "e.npy", VECTORS)
    assert load(tmp_path / "e.npy", tmp_path / "l.txt").labels.tolist() == wanted


@pytest.mark.parametrize("wanted", [[1, 0, -1, 1], ["b", "", "a", "b"]])
def test_labels_of_an_npy_file(tmp_path, wanted):
    """Labels may lie in an .npy beside an .npy or an .npz without labels."""
    np.save(tmp_path / "l.npy", wanted)
    np.save(tmp_path / "e.npy", VECTORS)
    for path in (tmp_path / "e.npy", saved(tmp_path / "e.npz", names=["a", "b", "c", "d"])):
        assert load(path, tmp_path / "l.npy").labels.tolist() == wanted


NAN, HUGE, HALF = VECTORS.copy(), VECTORS.copy(), VECTORS.astype(np.float16)
NAN[[1, 3], 2] = np.nan, -np.inf
HUGE[2, 0] = 1e39
HALF[3, 1] = np.inf


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"embeddings": NAN}, r"2 of 4 embeddings are not finite .*, the first in row 1"),
        ({"embeddings": HUGE}, r"1 of 4 .* not finite in float32 .* beyond 3.4e38\), .* row 2"),
        ({"embeddings": HALF}, r"1 of 4 embeddings are not finite .* row 3"),
        ({"embeddings": np.ones((4, 3), int)}, "embeddings are int64; expected float16, float32"),
        ({"embeddings": np.ones((4, 3), complex)}, "embeddings are complex128; expected float16"),
        ({"embeddings": np.ones((4, 3), "V2")}, r"embeddings are \|V2; expected float16"),
        ({"embeddings": np.ones(4)}, r"embeddings of shape \(4,\); expected \[n, D\]"),
        ({"embeddings": np.ones((0, 3))}, r"embeddings of shape \(0, 3\); .* neither of them 0"),
        ({"embeddings": np.ones((4, 0))}, r"embeddings of shape \(4, 0\)"),
        ({"labels": [1, 2, 3]}, r"labels of shape \(3,\); expected \(4,\), as embeddings"),
        ({"instances": [[1], [2], [3], [4]]}, r"instances of shape \(4, 1\); expected \(4,\)"),
        ({"labels": [0.0, 1.0, 2.0, 1.0]}, "labels are float64; expected integers .* or strings"),
        ({"labels": [True, False, True, True]}, "labels are bool; expected integers"),
        ({"labels": [b"a", b"b", b"c", b"d"]}, r"labels are \|S1; expected integers"),
        ({"instances": np.full(4, 2**63, np.uint64)}, "instances are uint64; expected integers"),
        ({"names": ["a", "b", "c"]}, r"names are <U1 \(3,\); expected strings \(4,\)"),
        ({"names": [1, 2, 3, 4]}, r"names are int64 \(4,\); expected strings \(4,\)"),
        ({"names": ["b", "a", "c", "b"]}, "names are not distinct: 'b' stands 2 times"),
        ({"label": [1, 2, 3, 4]}, "unknown key 'label'; keys found: embeddings, label; valid: .*"),
    ],
)
def test_wrong_arrays_are_one_line(tmp_path, arrays, message):
    """What does not fit is refused in one line with the file, the key, what it is and what is
    expected."""
    path = saved(tmp_path / "e.npz", **arrays)
    with pytest.raises(EmbeddingsError, match=rf"e\.npz: {message}") as error:
        load(path)
    assert "\n" not in str(error.value)


class Trap:
    """Leaves a file behind when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_objects_are_refused_and_not_unpickled(tmp_path):
    """An object array is refused by its key, and the code in it never runs."""
    sprung = tmp_path / "sprung"
    trap = np.array([Trap(sprung)] * 4, object)
    np.save(tmp_path / "e.npy", trap, allow_pickle=True)
    np.save(tmp_path / "l.npy", trap, allow_pickle=True)
    np.save(tmp_path / "fine.npy", VECTORS)
    hint = r"Python objects \(dtype object\), which are never unpickled"
    for call, where in (
        (lambda: load(saved(tmp_path / "e.npz", labels=trap)), r"e\.npz: labels: "),
        (lambda: load(tmp_path / "e.npy"), r"e\.npy: "),
        (lambda: load(tmp_path / "fine.npy", tmp_path / "l.npy"), r"l\.npy: "),
    ):
        with pytest.raises(EmbeddingsError, match=where + hint):
            call()
    assert not sprung.exists()


def test_files_that_are_not_embeddings(tmp_path):
    """Missing files, folders, other formats, pickles, empty files and archives each get a line."""
    text, empty, archive, bare = (tmp_path / name for name in ("t.npy", "e.npz", "a.npz", "b.npz"))
    text.write_text("0.1 0.2")
    empty.write_bytes(b"")
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("embeddings.npy", "not an array")
    zipfile.ZipFile(bare, "w").close()
    for path, message in (
        (tmp_path / "absent.npz", r"absent\.npz: No such file or directory"),
        (tmp_path, "Is a directory"),
        (text, r"t\.npy: is neither an \.npz nor an \.npy file"),
        (empty, r"e\.npz: is neither"),
        (archive, r"a\.npz: embeddings"),
        (bare, r"b\.npz: no key 'embeddings'; keys found: none"),
    ):
        with pytest.raises(EmbeddingsError, match=message) as error:
            load(path)
        assert "\n" not in str(error.value)


def test_wrong_label_files(tmp_path):
    """Labels given twice, as an .npz, of another number, with an empty line or not text."""
    vectors, labelled = tmp_path / "e.npy", saved(tmp_path / "e.npz", labels=[1, 2, 3, 4])
    np.save(vectors, VECTORS)
    short, gap, binary = (tmp_path / name for name in ("short.txt", "gap.txt", "binary.txt"))
    short.write_text("1\n2\n3\n")
    gap.write_text("1\n\n3\n4\n")
    binary.write_bytes(b"\xff\xfe")
    np.savez(tmp_path / "labels.npz", labels=[1, 2, 3, 4])
    for path, labels, message in (
        (labelled, short, r"e\.npz: holds labels already; leave out .*short\.txt"),
        (vectors, short, r"short\.txt: labels of shape \(3,\); expected \(4,\)"),
        (vectors, gap, r"gap\.txt, line 2: empty; expected one label a line"),
        (vectors, binary, r"binary\.txt: is neither \.npy nor UTF-8 text"),
        (vectors, tmp_path / "labels.npz", r"labels\.npz: expected labels as \.npy or as text"),
        (vectors, tmp_path / "absent.txt", r"absent\.txt: No such file or directory"),
    ):
        with pytest.raises(EmbeddingsError, match=message):
            load(path, labels)


@pytest.mark.parametrize("kind", ["npy", "npz", "compressed"])
def test_damage_is_one_line(tmp_path, kind):
    """Cut at any byte the file is refused in one line; with any one byte changed it is refused so
    or still read, and nothing else happens."""
    whole = io.BytesIO()
    if kind == "npy":
        np.save(whole, VECTORS.astype(np.float32))
    else:
        save = np.savez if kind == "npz" else np.savez_compressed
        save(whole, embeddings=VECTORS.astype(np.float32), labels=np.array(["a", "b", "c", "d"]))
    whole, path = whole.getvalue(), tmp_path / "e.npz"
    for at in range(len(whole)):
        path.write_bytes(whole[:at])
        with pytest.raises(EmbeddingsError) as error:
            load(path)
        assert "\n" not in str(error.value) and "e.npz" in str(error.value)
        path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :])
        try:
            load(path)
        except EmbeddingsError as error:
            assert "\n" not in str(error)


def test_relevance_by_labels_and_instances():
    """Equal labels are relevant by category and equal instances by instance, integers or strings;
    -1 and "" are equal to nothing, and what the gallery lacks is relevant to nothing."""
    queries = of([2, 5, -1, 1], ["", "p", "q", "r"])
    gallery = of([1, 2, -1, 2, 3], ["q", "", "s", "p", ""])
    found = relevance_of(queries, gallery)
    assert set(found) == {"category", "instance"}
    assert relevant(found["category"]) == [[1, 3], [], [], [0]]
    assert relevant(found["instance"]) == [[], [3], [0], []]
    assert {level: of.size for level, of in found.items()} == {"category": 5, "instance": 5}


def test_a_level_needs_both_sides():
    """A level exists where queries and gallery both have its ids; without any, one line says what
    is needed."""
    queries = of([0, 1], [0, 1])
    assert set(relevance_of(queries, of([1, 1]))) == {"category"}
    with pytest.raises(EmbeddingsError, match="nothing says what is relevant: labels in both"):
        relevance_of(of([0, 1]), of(instances=[1, 1]))


MATRIX = np.array([[1, 0, 1], [0, 0, 0]])


@pytest.mark.parametrize("dtype", ["bool", "int64", "uint8"])
def test_relevance_of_a_matrix(tmp_path, dtype):
    """A dense matrix, as .npy or in an .npz, is the level "given" beside those of the ids; labels
    of one side alone are fine then."""
    np.save(tmp_path / "r.npy", MATRIX.astype(dtype))
    np.savez(tmp_path / "r.npz", relevance=MATRIX.astype(dtype))
    for name in ("r.npy", "r.npz"):
        found = relevance_of(of([0, 1]), of(rows=3), tmp_path / name)
        assert set(found) == {"given"}
        assert relevant(found["given"]) == [[0, 2], []]
    both = relevance_of(of([0, 1]), of([1, 1, 1]), tmp_path / "r.npy")
    assert set(both) == {"category", "given"}


def test_relevance_of_qrels(tmp_path):
    """TREC qrels are the level "given", by the names of both sides."""
    path = tmp_path / "r.qrels"
    path.write_text("b 0 z 1\nb 0 x 2\na 0 x 0\n")
    found = relevance_of(of(names=["a", "b"]), of(names=["x", "y", "z"]), path)
    assert relevant(found["given"]) == [[], [0, 2]]


@pytest.mark.parametrize(
    ("queries", "gallery", "message"),
    [
        (
            of([0, 1]),
            of(["0", "1"]),
            r"labels of the queries \(0, 1\) and .* \('0', '1'\) are of two",
        ),
        (of(["cat"] * 2), of(["Cat"]), "no query has its label in the gallery: .* 'cat', .* 'Cat'"),
        (of(instances=[7, -1]), of(instances=[8]), "no query has its instance in the gallery: .*7"),
    ],
)
def test_ids_that_never_meet_are_one_line(queries, gallery, message):
    """Ids of two types, or of which the gallery has none, are refused with examples of both."""
    with pytest.raises(EmbeddingsError, match=message) as error:
        relevance_of(queries, gallery)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (MATRIX.T, r"a matrix of shape \(3, 2\); expected \(2, 3\), queries by gallery"),
        (MATRIX * 2, "integers from 0 to 2; expected 0 and 1"),
        (-MATRIX, "integers from -1 to 0; expected 0 and 1"),
        (MATRIX * 1.0, "is float64 .*; expected bool or integers"),
        (MATRIX * 0, "no query has a relevant item"),
        ({"labels": MATRIX}, "unknown key 'labels'; .* valid: relevance"),
        ({}, "no key 'relevance'; the file is empty"),
        ("a 0 x 1\na 0 nobody 1", "line 2: 'nobody' is not the name of a gallery item"),
        ("a 0 x 0", "no query has a relevant item"),
    ],
)
def test_bad_relevance_files_are_one_line(tmp_path, content, message):
    """A matrix of another shape or of other numbers, an unknown key, unknown names, and a relevance
    without a relevant pair are refused in one line with the file."""
    path = tmp_path / "r.any"
    with path.open("wb") as file:
        if isinstance(content, str):
            file.write(content.encode())
        elif isinstance(content, dict):
            np.savez(file, **content)
        else:
            np.save(file, content)
    with pytest.raises(EmbeddingsError, match=rf"r\.any.*{message}") as error:
        relevance_of(of(names=["a", "b"]), of(names=["x", "y", "z"]), path)
    assert "\n" not in str(error.value)


def test_qrels_need_names(tmp_path):
    """Qrels for embeddings without names are refused in one line."""
    (tmp_path / "r.qrels").write_text("a 0 x 1\n")
    with pytest.raises(EmbeddingsError, match="qrels need the key 'names' in queries and gallery"):
        relevance_of(of(names=["a", "b"]), of([1, 2]), tmp_path / "r.qrels")
