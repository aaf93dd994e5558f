"""Damage at every place of a file, and in every file in turn: named, or without effect."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from data_prep_trees import sketchy_tree

from data_prep.items import PrepareError
from data_prep.prepare import prepare
from sbir_jax.data.source import SPLITS, DatasetError, open_dataset

SIDES = ("photo", "sketch")


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """10 photos and 20 sketches of them, of two classes; only read it."""
    return sketchy_tree(tmp_path_factory.mktemp("raw"))


@pytest.fixture(scope="module")
def data(raw, tmp_path_factory):
    """Directory of the dataset `pacs`; only read it."""
    folder = tmp_path_factory.mktemp("data")
    prepare("pacs", raw=raw, data_dir=folder, quiet=True)
    return folder


def damaged(whole: bytes, number: int) -> bytes:
    """One of: cut in the middle, nothing, a web page, the first bytes gone."""
    return (whole[: len(whole) // 2], b"", b"<!doctype html>", whole[9:])[number % 4]


def test_a_corrupt_image_is_named_wherever_it_is(raw, tmp_path):
    """Each of the thirty files in turn, photo or sketch, first or last of its class: preparation
    names it and no other, and writes nothing."""
    copy = shutil.copytree(raw, tmp_path / "raw")
    files = sorted(path for path in copy.rglob("*") if path.is_file())
    assert len(files) == 30
    for number, path in enumerate(files):
        whole = path.read_bytes()
        path.write_bytes(damaged(whole, number))
        with pytest.raises(PrepareError) as caught:
            prepare("pacs", raw=copy, data_dir=tmp_path / "data", quiet=True)
        path.write_bytes(whole)
        title, bad, advice, *_ = str(caught.value).splitlines()
        assert title == "1 of the files cannot be used:"
        assert bad.strip().startswith(f"{path.relative_to(copy).as_posix()}: ")
        assert advice.startswith("nothing was written")
        assert list((tmp_path / "data").iterdir()) == []


def test_a_record_that_is_no_image_is_named_at_every_place_of_a_batch(data, monkeypatch):
    """Whichever row of a batch it is, the error has its number and the raw file."""
    images = open_dataset("pacs", data).images("train", "sketch")
    whole, rows = images._records(range(len(images))), list(range(len(images)))
    for place in rows:
        records = [{**of, "image": b"junk"} if i == place else of for i, of in enumerate(whole)]
        monkeypatch.setattr(images, "_records", lambda _, records=records: records)
        with pytest.raises(DatasetError, match=rf": record {place} of train \(sketch/\S+\) is not"):
            images.load(rows, 8, "pad")


def test_a_flipped_bit_of_a_record_file_is_named_or_does_nothing(data, tmp_path):
    """One bit at places all over a shard: its name in one line, or the very pixels as before."""
    shutil.copytree(data / "pacs", tmp_path / "pacs")
    [shard] = (tmp_path / "pacs/sketch/1.0.0").glob("*train*")
    whole = shard.read_bytes()
    dataset = open_dataset("pacs", tmp_path)

    def read():
        images = dataset.images("train", "sketch")  # opens the file anew
        return images.load(range(len(images)), 16, "pad")

    before, named = read(), 0
    used = np.flatnonzero(np.frombuffer(whole, np.uint8))  # the rest is padding to 64 KiB
    places = used[:: max(1, len(used) // 150)]
    for place in places:
        data = bytearray(whole)
        data[place] ^= 1 << place % 8
        shard.write_bytes(data)
        try:
            np.testing.assert_array_equal(read(), before)
        except DatasetError as error:
            named += 1
            assert shard.name in str(error) and "\n" not in str(error)
    assert named > len(places) // 2


def test_a_flipped_bit_of_the_labels_is_named_or_does_nothing(data, tmp_path):
    """One bit at places all over `index.npz`: one line, or the same labels."""
    shutil.copytree(data / "pacs", tmp_path / "pacs")
    path = tmp_path / "pacs/index.npz"
    whole, before = path.read_bytes(), open_dataset("pacs", tmp_path)
    named, places = 0, range(0, len(whole), 7)
    for place in places:
        data = bytearray(whole)
        data[place] ^= 1 << place % 8
        path.write_bytes(data)
        try:
            after = open_dataset("pacs", tmp_path)
        except DatasetError as error:
            named += 1
            assert "pacs: damaged (" in str(error) and "\n" not in str(error)
            continue
        assert after.classes == before.classes and after.instance_ids == before.instance_ids
        for split in SPLITS:
            for side in SIDES:
                one, other = before.index(split, side), after.index(split, side)
                np.testing.assert_array_equal(one.label, other.label)
                np.testing.assert_array_equal(one.instance, other.instance)
    assert named > len(places) // 4
