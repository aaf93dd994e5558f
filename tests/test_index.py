"""An index holds the vectors of the encoders, keeps up with the directory, and is plain files."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from data_prep_trees import encoded, photo, save
from PIL import Image
from tiny import small_backbone

from sbir_jax import Index, load_encoders, sharding
from sbir_jax.data.source import open_dataset
from sbir_jax.evaluator import Evaluator
from sbir_jax.retrieval import RetrievalError, indexing
from sbir_jax.retrieval.folder import alone
from sbir_jax.retrieval.index import NEXT
from sbir_jax.retrieval.indexing import remove, update


@pytest.fixture(scope="module")
def encoders(finished):
    with small_backbone():
        return load_encoders(finished[1], mesh=sharding.make_mesh(jax.devices()[:2]))


@pytest.fixture
def photos(tmp_path):
    """Eight photos in two directories."""
    for i in range(8):
        save(photo(i, size=(36, 30)), tmp_path / f"photos/{'ab'[i % 2]}/{i}.png")
    return tmp_path / "photos"


@pytest.fixture
def embedded(encoders, monkeypatch):
    """Counts of the images of each call that embeds some."""
    counts, embed = [], encoders.embed

    def counted(squares, side):
        counts.append(len(squares))
        return embed(squares, side)

    monkeypatch.setattr(encoders, "embed", counted)
    return counts


def names(index: Index) -> list[str]:
    return [item.path for item in index.items]


def assert_same(one: Index, other: Index, *, rounding: float = 0.0) -> None:
    """`rounding`: how far vectors may be apart, relative; by default not at all."""
    assert names(one) == names(other)
    atol = 1e-6 if rounding else 0.0  # of the float32 they were
    np.testing.assert_allclose(one.vectors, other.vectors, rtol=rounding, atol=atol)
    assert one.manifest["content"] == other.manifest["content"]


def assert_as_if_built(index: Index, photos: Path, encoders, out: Path) -> None:
    """What an index has become is what a new one of these photos is.

    Few photos are embedded in a smaller batch, by another program: a vector may round the other
    way, by a unit of float16.
    """
    assert_same(index, Index.build(photos, encoders, out), rounding=2**-10)


def test_vectors_are_those_that_evaluation_ranks(finished, encoders, tmp_path):
    """Indexing the photos of a test split as files gives the evaluator's embeddings, to float16."""
    run, _ = finished
    dataset = open_dataset(run.data.name, run.data.dir)
    evaluator = Evaluator(run, dataset, encoders.graphdef, encoders.mesh)
    expected = evaluator.embed("test", "photo", *encoders.state).vectors
    records = dataset.images("test", "photo")._records(range(len(expected)))
    (tmp_path / "photos").mkdir()
    for number, record in enumerate(records):
        (tmp_path / f"photos/{number:02}.jpg").write_bytes(record["image"])
    index = Index.build(tmp_path / "photos", encoders, tmp_path / "index")
    np.testing.assert_allclose(index.vectors, expected, atol=1e-3)
    assert index.vectors.dtype == np.float16
    np.testing.assert_allclose(np.linalg.norm(index.vectors.astype(float), axis=1), 1, atol=2e-3)


def test_the_files_can_be_read_by_anything(encoders, photos, tmp_path):
    """JSON, JSON lines, .npy without pickle and JPEG, as the format says; rows agree."""
    out = tmp_path / "index"
    Index.build(photos, encoders, out)
    manifest = json.loads((out / "manifest.json").read_text())
    vectors = np.load(out / "vectors.npy", allow_pickle=False)
    lines = [json.loads(line) for line in (out / "items.jsonl").read_text().splitlines()]
    assert manifest["format"] == 1 and manifest["photos"] == len(lines) == len(vectors) == 8
    for line, vector in zip(lines, vectors, strict=True):
        file = photos / line["path"]
        assert line["size"] == file.stat().st_size
        np.testing.assert_allclose(vector, encoders.photos([file])[0], atol=1e-3)
        with Image.open(out / f"thumbnails/{line['id'][:2]}/{line['id']}.jpg") as thumbnail:
            assert thumbnail.format == "JPEG" and thumbnail.size == (36, 30)
    assert not list(out.glob("*.partial")) and not (out / "partial").exists()


def test_an_update_embeds_only_what_is_new_and_equals_a_fresh_index(
    encoders, photos, tmp_path, embedded
):
    """After additions, changes, renames and removals: the index of the directory as it is."""
    index = Index.build(photos, encoders, tmp_path / "index")
    assert sum(embedded) == 8
    save(photo(20), photos / "c/new.png")
    save(photo(21), photos / "a/0.png")  # changed
    (photos / "a/2.png").rename(photos / "renamed.png")
    (photos / "b/1.png").unlink()
    embedded.clear()
    report = update(photos, encoders, index.folder)
    assert sum(embedded) == 2
    assert (report.photos, report.embedded, report.removed) == (8, 2, 2)
    updated = Index.open(index.folder)
    assert_as_if_built(updated, photos, encoders, tmp_path / "fresh")
    thumbnails = {path.stem for path in (index.folder / "thumbnails").glob("*/*")}
    assert thumbnails == {item.id for item in updated.items}
    embedded.clear()
    update(photos, encoders, index.folder)
    assert sum(embedded) == 0


def test_directories_are_added_and_removed(encoders, photos, tmp_path):
    """A second directory joins, an update of one leaves the other, and either can be taken out."""
    save(photo(50), tmp_path / "more/x.png")
    out = tmp_path / "index"
    Index.build(photos / "a", encoders, out)
    (tmp_path / "more/bad.png").write_bytes(b"")
    both = Index.build(tmp_path / "more", encoders, out)
    assert len(both) == 5
    (photos / "a/0.png").unlink()
    both = Index.build(photos / "b/../a", encoders, out)
    assert "more/bad.png" in (out / "bad.jsonl").read_text()
    assert sorted(names(both)) == ["2.png", "4.png", "6.png", "x.png"]
    assert remove(both, photos / "a") == 3
    left = Index.open(out)
    assert names(left) == ["x.png"]
    np.testing.assert_allclose(left.vectors, encoders.photos([tmp_path / "more/x.png"]), atol=1e-3)
    assert len(list((out / "thumbnails").glob("*/*"))) == 1
    with pytest.raises(RetrievalError, match="no photo of .*index is there"):
        remove(left, photos)
    with pytest.raises(RetrievalError, match="has all photos"):
        remove(left, tmp_path / "more")


def test_interrupted_indexing_goes_on_where_it_stopped(
    encoders, photos, tmp_path, embedded, monkeypatch
):
    """Stopped in its third part, the second run embeds what the first two do not hold."""
    monkeypatch.setattr(indexing, "_PART", 2)
    monkeypatch.setattr(indexing, "_CHUNK", 1)
    counted = encoders.embed

    def stop(squares, side):
        if len(embedded) == 2:
            raise KeyboardInterrupt
        return counted(squares, side)

    out = tmp_path / "index"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(encoders, "embed", stop)
        update(photos, encoders, out)
    assert sum(embedded) == 4
    with pytest.raises(RetrievalError, match="no index there"):
        Index.open(out)
    report = update(photos, encoders, out)
    assert sum(embedded) == 8 and report.photos == 8
    assert_as_if_built(Index.open(out), photos, encoders, tmp_path / "fresh")


@pytest.mark.parametrize("at", ["first.partial", "vectors.npy", "items.jsonl", "manifest.json"])
def test_killed_while_its_files_are_exchanged_an_index_is_finished(
    encoders, photos, tmp_path, embedded, monkeypatch, at
):
    """Before each of its four moves, of a new index and of an update: the same command ends as
    without, no photo is embedded twice, and a reader meets an index or one line."""
    out, fresh = tmp_path / "index", Index.build(photos, encoders, tmp_path / "fresh")
    embedded.clear()
    replace = indexing.Path.replace

    def stop(path, target):
        if target.name == ("next.json" if at == "first.partial" else at):
            raise KeyboardInterrupt
        return replace(path, target)

    def interrupted():
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(indexing.Path, "replace", stop)
            update(photos, encoders, out)

    interrupted()
    assert_same(Index.build(photos, encoders, out), fresh)
    save(photo(20), photos / "c/new.png")
    interrupted()
    try:
        assert len(Index.open(out)) == 8  # nothing had been moved yet
    except RetrievalError as error:
        assert str(error) == f"{out}: an update of it was interrupted; the same command finishes it"
    assert len(Index.build(photos, encoders, out)) == 9
    assert sum(embedded) == 9 and not list(out.glob("*.partial")) and not (out / NEXT).exists()


def test_one_process_at_a_time_changes_an_index(encoders, photos, tmp_path):
    """While another is at it, updates and removals are refused and change nothing; readers and
    later updates are not."""
    out = tmp_path / "index"
    index = Index.build(photos, encoders, out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    words = rf"^{out}: another process is changing this index; wait for it$"
    with alone(out):
        for change in (lambda: update(photos, encoders, out), lambda: remove(index, photos / "a")):
            with pytest.raises(RetrievalError, match=words):
                change()
        assert_same(Index.open(out), index)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert update(photos, encoders, out).photos == 8


def test_photos_from_before_the_present_are_updated_too(encoders, photos, tmp_path, embedded):
    """A clock that was set back: a file is new because its time is another, not a later one, and
    is embedded because its content is."""
    out = tmp_path / "index"
    Index.build(photos, encoders, out)
    save(photo(30), photos / "a/0.png")
    for name in ("a/0.png", "b/1.png"):
        os.utime(photos / name, (1, 1))  # 1970
    embedded.clear()
    assert update(photos, encoders, out).embedded == sum(embedded) == 1
    assert_as_if_built(Index.open(out), photos, encoders, tmp_path / "fresh")


def test_parts_of_other_encoders_are_not_used(encoders, photos, tmp_path, embedded):
    """What another model left unfinished in the directory is embedded again."""
    out = tmp_path / "index"
    parts = indexing.Parts.open(out / "partial", encoders.identity)
    (out / "partial/encoders.json").write_text('{"weights": "another"}')
    parts.add([], np.zeros((0, encoders.dim), np.float16))
    assert update(photos, encoders, out).embedded == 8


def test_bad_files_are_listed_and_the_rest_is_indexed(encoders, photos, tmp_path):
    """Truncated, empty and mislabelled files are named with reasons; others are left alone."""
    good = encoded(photo(1), "JPEG")
    (photos / "cut.jpg").write_bytes(good[: len(good) // 2])
    (photos / "empty.png").write_bytes(b"")
    (photos / "page.jpeg").write_bytes(b"<!doctype html>")
    (photos / "notes.txt").write_text("not an image, and not said to be one")
    (photos / ".hidden.png").write_bytes(good)
    save(photo(60), photos / "index/inside.png")  # the index itself lies among the photos
    out = photos / "index/out"
    report = update(photos, encoders, out)
    assert update(photos, encoders, out).photos == report.photos == 9  # no thumbnail among them
    bad = [json.loads(line) for line in (out / "bad.jsonl").read_text().splitlines()]
    reasons = {os.path.basename(line["path"]): line["reason"] for line in bad}
    assert reasons.keys() == {"cut.jpg", "empty.png", "page.jpeg"}
    assert "truncated" in reasons["cut.jpg"] and "web page" in reasons["page.jpeg"]
    assert reasons["empty.png"] == "empty file"


def test_an_index_of_other_weights_or_preprocessing_is_refused(
    finished, encoders, photos, tmp_path, monkeypatch
):
    """The error names both checkpoints and what differs; nothing is changed."""
    out = tmp_path / "index"
    index = Index.build(photos, encoders, out)
    with small_backbone():
        untrained = load_encoders(finished[1], checkpoint="none", mesh=encoders.mesh)
    with pytest.raises(RetrievalError) as caught:
        update(photos, untrained, out)
    message = str(caught.value)
    assert f"step {encoders.source['step']} of {finished[1]}" in message
    assert f"untrained of {finished[1]}" in message
    own, other = encoders.identity.weights[:8], untrained.identity.weights[:8]
    assert f"weights {other}, not {own}" in message
    assert_same(Index.open(out), index)
    resized = json.loads((out / "manifest.json").read_text())
    resized["encoders"]["preprocessing"]["load_size"] = 64
    (out / "manifest.json").write_text(json.dumps(resized))
    with pytest.raises(RetrievalError, match="load_size=36, not 64"):
        Index.open(out).check(encoders)


def test_damage_is_one_line(encoders, photos, tmp_path):
    """Missing, foreign, cut and future files are told apart from a sound index."""
    sound = tmp_path / "sound"
    Index.build(photos, encoders, sound)

    def damaged(name: str, data: bytes) -> str:
        folder = shutil.copytree(sound, tmp_path / "copy", dirs_exist_ok=True)
        (folder / name).write_bytes(data)
        with pytest.raises(RetrievalError) as caught:
            Index.open(folder)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    manifest = json.loads((sound / "manifest.json").read_text())
    assert "format 9" in damaged("manifest.json", json.dumps(manifest | {"format": 9}).encode())
    assert "index again" in damaged("manifest.json", b"{")
    assert "index again" in damaged("manifest.json", (sound / "manifest.json").read_bytes()[:-9])
    lines = (sound / "items.jsonl").read_bytes().splitlines(keepends=True)
    assert "not that of the manifest" in damaged("items.jsonl", b"".join(lines[::-1]))
    shutil.copy(sound / "items.jsonl", tmp_path / "copy")
    assert "index again" in damaged("vectors.npy", b"\x93NUMPY")
    for name in ("vectors.npy", "items.jsonl"):
        flipped = bytearray((sound / name).read_bytes())
        flipped[-5] ^= 1  # a coordinate, a digit of a time: nothing else would show it
        assert f"{name} is not what was written (checksum)" in damaged(name, flipped)
        shutil.copy(sound / name, tmp_path / "copy")
    (sound / "bad.jsonl").write_text('{"path": "half a li')
    assert update(photos, encoders, sound).photos == 8  # it is a list to read, no more


def test_what_cannot_be_indexed_is_said(encoders, photos, tmp_path):
    """No directory, no images, only bad images, and a directory of other files as --out."""
    empty = tmp_path / "empty"
    empty.mkdir()
    for folder, out, words in (
        (tmp_path / "none", "index", "not there"),
        (empty, "index", "no images in it"),
        (photos, "photos", "holds other files"),
    ):
        with pytest.raises(RetrievalError, match=words):
            update(folder, encoders, tmp_path / out)
    (empty / "a.png").write_bytes(b"nothing")
    with pytest.raises(RetrievalError, match="none of 1 can be read"):
        update(empty, encoders, tmp_path / "index")
