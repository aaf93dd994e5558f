"""A directory of photos alone becomes a dataset, and a run, with drawings made from them."""

from __future__ import annotations

import io

import numpy as np
import pytest
from data_prep_trees import photo, save
from tiny import small_backbone, tiny_run

from data_prep.items import PrepareError
from data_prep.photos import drawn
from data_prep.prepare import prepare
from sbir_jax.data.source import open_dataset
from sbir_jax.train import train


def tree(root, classes=("bird", "fish"), each=8):
    for label in classes:
        for i in range(each):
            save(photo(len(label) * 100 + i, size=(40, 30)), root / label / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos_alone")
    prepare(
        "photos",
        raw=tree(folder / "raw"),
        data_dir=folder,
        name="tiny",
        val=0.25,
        test=0.25,
        quiet=True,
    )
    return folder


def test_each_photo_has_its_drawings_beside_it(data):
    """Two sketches of each photo, of its class, instance and split; drawn on white, alike twice."""
    dataset = open_dataset("tiny", data)
    assert dataset.classes == ("bird", "fish")
    for split, photos in (("train", 8), ("val", 4), ("test", 4)):
        own, drawings = (dataset.index(split, side) for side in ("photo", "sketch"))
        assert len(own) == photos
        np.testing.assert_array_equal(
            np.sort(np.repeat(own.instance, 2)), np.sort(drawings.instance)
        )
    names = [dataset.images("test", "sketch").file(i) for i in range(8)]
    assert sorted(name.split(" drawing ")[1] for name in names) == ["1"] * 4 + ["2"] * 4
    stored = dataset.images("test", "sketch").load(range(8), size=64, fit="pad")
    raw = (data / "raw" / names[0].split(" drawing ")[0]).read_bytes()
    again = drawn(raw, name=f"0 {names[0]}")
    assert again.shape == (192, 256) or again.shape == (256, 192)
    assert (stored == 255).mean() > 0.5 and stored.min() < 128
    other = drawn(raw, name=f"1 {names[0]}")
    assert (again != other).any()
    np.testing.assert_array_equal(again, drawn(raw, name=f"0 {names[0]}"))


def test_a_drawing_keeps_the_photos_shape():
    """The longer side is 256 pixels and the ratio of the sides that of the photo."""
    file = io.BytesIO()
    photo(3, size=(90, 30)).save(file, "PNG")
    height, width = drawn(file.getvalue(), name="x").shape
    assert max(height, width) == 256 and sorted((height, width))[0] == 85


def test_a_run_needs_no_sketch(data, tmp_path):
    """Trained with every sketch drawn in the step; the stored drawings validate it."""
    run = tiny_run(
        data,
        {
            "augment.pseudo": 1.0,
            "loss.match": "instance",
            "data.sampler": "instances",
            "eval.metric": "instance/mAP@all",
        },
    )
    with small_backbone():
        summary = train(run, tmp_path)
    assert summary["step"] == 6 and "instance/mAP@all" in summary["validation"]


def test_photos_without_classes_are_one_class(tmp_path):
    """All in one place: one class, each photo its own instance."""
    for i in range(8):
        save(photo(i, size=(30, 30)), tmp_path / f"raw/{i}.png")
    prepare("photos", raw=tmp_path / "raw", data_dir=tmp_path, quiet=True, sketches=1)
    dataset = open_dataset("photos", tmp_path)
    assert dataset.classes == ("object",)
    assert len(dataset.instance_ids) == 8


def test_a_wrong_directory_is_one_line(tmp_path):
    """Nothing in it, or folders and loose files at once."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(PrepareError, match="no photo in it"):
        prepare("photos", raw=tmp_path / "empty", data_dir=tmp_path, quiet=True)
    save(photo(1), tree(tmp_path / "raw", each=2) / "loose.png")
    with pytest.raises(PrepareError, match=r"1 loose files, such as loose\.png"):
        prepare("photos", raw=tmp_path / "raw", data_dir=tmp_path, quiet=True)
    with pytest.raises(PrepareError, match="--sketches=0: valid from 1"):
        prepare("photos", raw=tmp_path / "raw", data_dir=tmp_path, quiet=True, sketches=0)
