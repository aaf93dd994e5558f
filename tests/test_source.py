"""The reader gives what was prepared, from any thread or process, and names what is damaged."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from data_prep_trees import sketchy_tree
from PIL import Image

from data_prep.prepare import prepare
from sbir_jax.data.images import read_image, to_square
from sbir_jax.data.source import DatasetError, open_dataset

SPLITS, MODALITIES = ("train", "val", "test"), ("photo", "sketch")


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    return sketchy_tree(tmp_path_factory.mktemp("raw"), instances=8)


@pytest.fixture(scope="module")
def data_dir(raw, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    prepare("pacs", raw=raw, data_dir=folder, quiet=True)
    return folder


@pytest.fixture
def dataset(data_dir):
    return open_dataset("pacs", data_dir)


@pytest.fixture
def damaged(data_dir, tmp_path) -> Path:
    shutil.copytree(data_dir, tmp_path / "copy")
    return tmp_path / "copy"


def test_labels_instances_and_files_agree_with_the_raw_names(dataset):
    """For every record, class and instance of the index spell the name of its raw file."""
    for split in SPLITS:
        for modality in MODALITIES:
            index, images = dataset.index(split, modality), dataset.images(split, modality)
            assert len(index) == len(images) > 0
            for i in range(len(index)):
                folder, label, name = images.file(i).split("/")
                assert folder == modality
                assert label == dataset.classes[index.label[i]]
                stem = Path(name).stem.split("-")[0]
                assert dataset.instance_ids[index.instance[i]] == f"{label}/{stem}"


@pytest.mark.parametrize("fit", ["pad", "squash", "crop"])
@pytest.mark.parametrize("modality", MODALITIES)
def test_images_are_the_raw_pixels_in_the_asked_order(dataset, raw, modality, fit):
    """load() equals decoding each raw file directly, for repeated and unordered indices."""
    images = dataset.images("train", modality)
    indices = np.array([5, 0, 5, 3])
    loaded = images.load(indices, 24, fit)
    assert loaded.dtype == np.uint8
    assert loaded.shape == (4, 24, 24, 3 if modality == "photo" else 1)
    for pixels, i in zip(loaded, indices, strict=True):
        original = np.asarray(
            Image.open(raw / images.file(i)).convert("RGB" if modality == "photo" else "L")
        )
        np.testing.assert_array_equal(pixels, to_square(original, 24, fit))


def test_no_indices_give_no_images(dataset):
    """An empty request has the right empty shape."""
    assert dataset.images("val", "sketch").load([], 8, "pad").shape == (0, 8, 8, 1)


def test_a_position_outside_the_split_is_an_index_error(dataset):
    """Neither past the end nor negative positions wrap around."""
    images = dataset.images("val", "photo")
    for bad in (len(images), -1):
        with pytest.raises(IndexError, match=f"record {bad}: val has {len(images)} records"):
            images.load([0, bad], 8, "pad")


def _checksum(images, size: int) -> int:
    return int(images.load(np.arange(len(images)), size, "pad").astype(np.int64).sum())


def test_threads_and_pickled_copies_read_the_same(dataset):
    """Eight threads at once, a pickle round trip and a spawned process all see equal pixels."""
    images = dataset.images("train", "sketch")
    expected = images.load(np.arange(len(images)), 16, "pad")
    fresh = dataset.images("train", "sketch")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(fresh.load, [i], 16, "pad") for i in range(len(images))]
        parallel = np.concatenate([future.result() for future in futures])
    np.testing.assert_array_equal(parallel, expected)
    copy = pickle.loads(pickle.dumps(images))  # an opened one
    np.testing.assert_array_equal(copy.load(np.arange(len(copy)), 16, "pad"), expected)
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        assert pool.submit(_checksum, images, 16).result(timeout=60) == int(expected.sum())


def test_an_absent_dataset_says_which_exist_and_how_to_make_one(data_dir, tmp_path):
    """One line: the config paths, the datasets there, the command."""
    with pytest.raises(DatasetError) as caught:
        open_dataset("pasc", data_dir)
    message = str(caught.value)
    assert "config.data.name='pasc'" in message and f"config.data.dir='{data_dir}'" in message
    assert "there are pacs" in message and "python -m data_prep" in message
    assert "\n" not in message
    with pytest.raises(DatasetError, match="there is none"):
        open_dataset("pacs", tmp_path / "nowhere")


def test_unknown_split_or_modality_names_the_valid_ones(dataset):
    """Typos get the nearest valid name."""
    with pytest.raises(ValueError, match="split='tset': did you mean 'test'"):
        dataset.index("tset", "photo")
    with pytest.raises(ValueError, match="modality='photos': did you mean 'photo'"):
        dataset.images("test", "photos")


def first_shard(data_dir: Path) -> Path:
    return next((data_dir / "pacs/photo/1.0.0").glob("*train*"))


def test_a_damaged_record_is_named_with_its_file(damaged):
    """Bytes zeroed inside one record: an error naming shard and record; the others still read."""
    shard = first_shard(damaged)
    data = bytearray(shard.read_bytes())
    # Records follow each other in equal parts of the used bytes; the middle one is hit.
    used = len(bytes(data[: 1 << 16]).rstrip(b"\0"))
    data[used // 2 : used // 2 + 20] = bytes(20)
    shard.write_bytes(data)
    images = open_dataset("pacs", damaged).images("train", "photo")
    unreadable = []
    for i in range(len(images)):
        try:
            images.load([i], 8, "pad")
        except DatasetError:
            unreadable.append(i)
    assert len(unreadable) == 1
    with pytest.raises(
        DatasetError, match=f"cannot read record {unreadable[0]} of train"
    ) as caught:
        images.load(np.arange(len(images)), 8, "pad")
    assert str(shard) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated"])
def test_a_damaged_shard_is_one_line(damaged, damage):
    """A shard that is gone, empty or cut is named, not a stack trace from the reader."""
    shard = first_shard(damaged)
    data = shard.read_bytes()
    shard.unlink()
    if damage != "missing":
        shard.write_bytes(data[: len(data) // 3] if damage == "truncated" else b"")
    with pytest.raises(DatasetError, match="record 0 of train") as caught:
        open_dataset("pacs", damaged).images("train", "photo").load([0], 8, "pad")
    assert shard.name in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["index.npz", "prepare_report.json"])
def test_a_damaged_index_or_report_is_one_line(damaged, name):
    """Cut files are reported with the dataset's path."""
    path = damaged / "pacs" / name
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(DatasetError, match="pacs: damaged .*; prepare the dataset again"):
        open_dataset("pacs", damaged)


def test_a_lost_metadata_file_is_one_line(damaged):
    """Without TFDS's own description the directory is named."""
    (damaged / "pacs/photo/1.0.0/dataset_info.json").unlink()
    with pytest.raises(DatasetError, match=r"photo/1.0.0: cannot open"):
        open_dataset("pacs", damaged).images("train", "photo").load([0], 8, "pad")


def test_undecodable_bytes_name_the_raw_file(damaged, monkeypatch):
    """A record whose image no longer decodes names the record and the raw file it came from."""
    images = open_dataset("pacs", damaged).images("train", "photo")
    record = images._records([2])[0]
    monkeypatch.setattr(images, "_records", lambda indices: [{**record, "image": b"junk"}])
    with pytest.raises(DatasetError, match=r"record 2 of train \(photo/.*jpg\) is not an image"):
        images.load([2], 8, "pad")


def test_the_stored_sketch_is_one_channel_and_the_photo_three(dataset):
    """Channel counts are fixed by modality, as the models expect."""
    shapes = {m: dataset.images("test", m).load([0], 8, "pad").shape[-1] for m in MODALITIES}
    assert shapes == {"photo": 3, "sketch": 1}
    assert (
        read_image(dataset.images("test", "sketch")._records([0])[0]["image"], "sketch").ndim == 2
    )
