"""Photos that search photos: Totally-Looks-Like pairs, and folders with --queries=photo."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path

import jax
import numpy as np
import pytest
from data_prep_trees import photo, save, sketch
from PIL import Image
from tiny import tiny_run

from data_prep.folders import Folders
from data_prep.items import BadArgument, PrepareError
from data_prep.looks_like import LooksLike
from data_prep.looks_like_demo import LooksLikeDemo
from data_prep.prepare import prepare
from sbir_jax import sharding
from sbir_jax.data.augment import augment_pair
from sbir_jax.data.pipeline import images_of, make_feed
from sbir_jax.data.source import open_dataset
from sbir_jax.data_config import DataConfig
from sbir_jax.models import dual
from sbir_jax.setting import ConfigError
from sbir_jax.train import train

TRAIN, TEST = [f"{i:05d}" for i in range(12)], [f"{i:05d}" for i in range(20, 24)]
UNLISTED = "00099"


def pairs_tree(root: Path) -> Path:
    """17 pairs in the archive's layout; 12 codes listed for training, 4 for the test."""
    for code in (*TRAIN, *TEST, UNLISTED):
        save(photo(int(code)), root / f"left/{code}.jpg")
        save(photo(500 + int(code)), root / f"right/{code}.jpg")
    (root / "list_codes_train.txt").write_text("\n".join(TRAIN) + "\n")
    (root / "list_codes_test.txt").write_text("\n".join(TEST) + "\n\n")
    return root


@pytest.fixture
def raw(tmp_path) -> Path:
    return pairs_tree(tmp_path / "raw")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory) -> Path:
    raw, folder = pairs_tree(tmp_path_factory.mktemp("raw")), tmp_path_factory.mktemp("data")
    prepare("looks_like", raw=raw, data_dir=folder, val=0.25, quiet=True)
    (folder / "raw").symlink_to(raw)
    return folder


def test_right_images_are_the_queries_of_the_left_ones(raw):
    """Each listed code is one pair: right/<code> queries, left/<code> is searched, both photos."""
    items = LooksLike.scan(raw, codes="list").items
    sides = {i.file: (i.modality, i.kind, i.instance_id, i.split) for i in items}
    expected = {}
    for code in (*TRAIN, *TEST):
        split = "test" if code in TEST else ""
        expected[f"right/{code}.jpg"] = ("sketch", "photo", f"object/{code}", split)
        expected[f"left/{code}.jpg"] = ("photo", "photo", f"object/{code}", split)
    assert sides == expected


def test_the_test_list_is_the_test_split_and_val_comes_from_the_train_list(data_dir):
    """After preparation, the codes of every split are those of its list, three of twelve in val."""
    dataset = open_dataset("looks_like", data_dir)
    codes = {}
    for split in ("train", "val", "test"):
        sides = [dataset.index(split, side).instance for side in ("photo", "sketch")]
        np.testing.assert_array_equal(*sides)
        codes[split] = [dataset.instance_ids[i].removeprefix("object/") for i in sides[0]]
    assert codes["test"] == TEST
    assert sorted(codes["train"] + codes["val"]) == TRAIN and len(codes["val"]) == 3


def test_what_is_left_out_is_said(raw, data_dir):
    """The pair in neither list is counted in a note, and the report names the query side's kind."""
    notes = LooksLike.scan(raw, codes="list").notes
    assert notes[0] == "1 codes are in neither list and left out"
    report = json.loads((data_dir / "looks_like/prepare_report.json").read_text())
    assert report["queries"] == "photo" and report["linked_sketches"] == 16


def test_without_lists_every_pair_is_drawn(raw, tmp_path):
    """--codes=draw takes all 17 pairs, and no pair is in two splits."""
    for path in raw.glob("*.txt"):
        path.unlink()
    dataset = open_dataset(
        prepare("looks_like", raw=raw, data_dir=tmp_path, codes="draw", quiet=True).name, tmp_path
    )
    splits = [set(dataset.index(s, "sketch").instance) for s in ("train", "val", "test")]
    assert sum(map(len, splits)) == len(set.union(*splits)) == 17


def damage(raw: Path, how: str) -> None:
    train, test = raw / "list_codes_train.txt", raw / "list_codes_test.txt"
    if how == "no right":
        (raw / "right").rename(raw / "other")
    elif how == "no list":
        test.unlink()
    elif how == "empty list":
        train.write_text("\n\n")
    elif how == "both lists":
        test.write_text(f"{TRAIN[3]}\n{TEST[0]}\n")
    elif how == "twice":
        train.write_text(f"{TRAIN[0]}\n{TRAIN[1]}\n{TRAIN[0]}\n")
    elif how == "no image":
        (raw / f"left/{TRAIN[5]}.jpg").unlink()
    elif how == "one code":
        save(photo(1), raw / f"left/{TRAIN[5]}.png")


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("no right", ["expected left/ and right/"]),
        ("no list", ["list_codes_test.txt: no such file", "--codes=draw"]),
        ("empty list", ["list_codes_train.txt: no code in it"]),
        ("both lists", ["list_codes_test.txt: 1 codes are listed twice", TRAIN[3]]),
        ("twice", ["list_codes_train.txt: 1 codes are listed twice", TRAIN[0]]),
        ("no image", ["list_codes_train.txt: 1 codes have no image in left/", TRAIN[5]]),
        ("one code", [f"{TRAIN[5]}.jpg and {TRAIN[5]}.png have one code"]),
    ],
)
def test_a_wrong_layout_or_list_is_one_line(raw, how, words):
    """The message names the file or folder, the codes, and the way out."""
    damage(raw, how)
    with pytest.raises(PrepareError) as caught:
        LooksLike.scan(raw, codes="list")
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_an_image_without_partner_is_refused_when_pairs_are_drawn(raw):
    """No list says what to leave out, so a lone image is an error that names its code."""
    damage(raw, "no image")
    with pytest.raises(PrepareError, match=f"1 images have no partner.*{TRAIN[5]}"):
        LooksLike.scan(raw, codes="draw")


def test_queries_that_are_photos_keep_their_colours(data_dir):
    """The reader gives the query side the RGB pixels of its files, and so do both feeds."""
    dataset = open_dataset("looks_like", data_dir)
    assert dataset.channels == {"sketch": 3, "photo": 3}
    images = dataset.images("train", "sketch")
    files = [data_dir / "raw" / images.file(i) for i in range(len(images))]
    pixels = np.stack([np.asarray(Image.open(f).resize((32, 32))) for f in files])
    loaded = images.load(range(len(images)), 32, "squash")
    np.testing.assert_array_equal(loaded, pixels)
    assert {f.parent.name for f in files} == {"right"}

    mesh = sharding.make_mesh(jax.devices()[:1])
    config = {"batch_size": 4, "image_size": 32, "load_size": 32, "fit": "squash"}
    for kind in ("device", "host", "none"):
        feed = make_feed(dataset, DataConfig(cache=kind, **config), seed=0, mesh=mesh)
        assert feed.cache == kind
        batch = next(feed.batches(0, 1))
        queries, _ = images_of(feed.resident, batch)
        for image, instance in zip(queries, batch["sketch_ids"].instance, strict=True):
            row = list(dataset.index("train", "sketch").instance).index(instance)
            np.testing.assert_array_equal(image, pixels[row])


def test_both_photos_of_a_pair_change_colour_apart():
    """Equal photos on both sides get different colours, where all else is switched off."""
    run = tiny_run(
        Path("unused"),
        {"augment.flip": "none", "augment.min_scale": 1.0, "augment.rotate": 0.0}
        | {"augment.stretch": 0.0, "augment.gray": 0.0, "augment.color": 0.5},
    )
    images = np.random.default_rng(0).integers(50, 200, (4, 16, 16, 3)).astype(np.uint8)
    queries, photos = augment_pair(jax.random.key(0), images, images, size=16, config=run.augment)
    plain = images / 127.5 - 1
    for side in (queries, photos):
        assert np.abs(side - plain).max(axis=(1, 2, 3)).min() > 0.05
    assert np.abs(queries - photos).max(axis=(1, 2, 3)).min() > 0.05


def test_one_encoder_serves_both_sides_and_two_are_refused(small_model):
    """`shared` embeds a photo the same from either side; `dual` and `stems` say what to set."""
    photos = np.random.default_rng(0).uniform(-1, 1, (3, 16, 16, 3)).astype(np.float32)
    config = tiny_run(Path("unused"), {"model.towers": "shared"}).model
    graphdef, *state = dual.build(config, jax.random.key(0), image_size=32)
    sides = [dual.apply_embed(graphdef, *state, photos, side) for side in dual.MODALITIES]
    np.testing.assert_array_equal(*sides)
    for towers in ("dual", "stems"):
        config = tiny_run(Path("unused"), {"model.towers": towers}).model
        graphdef, *state = dual.build(config, jax.random.key(0), image_size=32)
        with pytest.raises(ConfigError, match=f"towers='{towers}'.*valid: shared"):
            dual.apply_embed(graphdef, *state, photos, "sketch")


def test_a_siamese_run_trains_on_pairs_and_scores_instances(data_dir, tmp_path, small_model):
    """The loop, the checkpoint metric and validation work on a dataset of photo pairs."""
    run = tiny_run(
        data_dir,
        {
            "data.name": "looks_like",
            "data.sampler": "instances",
            "model.towers": "shared",
            "loss.match": "instance",
            "eval.metric": "instance/recall@1",
        },
    )
    summary = train(run, tmp_path, mesh=sharding.make_mesh(jax.devices()[:1]))
    assert summary["step"] == 6 and 0 <= summary["validation"]["instance/recall@1"] <= 1


def logos(root: Path, *, below: str = "photos") -> Path:
    for c, label in enumerate(("acme", "bolt", "cola")):
        for i in range(7):
            save(photo(100 * c + i), root / below / label / f"v{i}.png")
    return root


def test_half_of_each_class_searches_the_other_half(tmp_path):
    """With photos/ alone: 4 photos and 3 queries a class, no image twice, none lost, no links."""
    found = Folders.scan(logos(tmp_path), link="name", queries="photo")
    counts = Counter((i.label, i.modality) for i in found.items)
    assert counts == {(c, m): n for c in ("acme", "bolt", "cola") for m, n in SIDES.items()}
    assert len({i.file for i in found.items}) == len(found.items) == 21
    assert {i.kind for i in found.items} == {"photo"}
    assert not any(i.instance_id for i in found.items if i.modality == "sketch")
    assert "every second photo of each class is a query" in found.notes[0]


SIDES = {"photo": 4, "sketch": 3}


def test_the_halves_do_not_depend_on_the_other_files(tmp_path):
    """A new class moves no image of the others to another side."""
    before = Folders.scan(logos(tmp_path), link="name", queries="photo")
    save(photo(900), tmp_path / "photos/zeta/v0.png")
    after = {i.file: i.modality for i in Folders.scan(tmp_path, link="name", queries="photo").items}
    assert all(after[i.file] == i.modality for i in before.items)


def test_queries_of_ones_own_are_linked_by_name(tmp_path):
    """queries/<class>/v1-2.png is a picture of photos/<class>/v1.png, and is kept in colour."""
    logos(tmp_path)
    for name in ("acme/v1-2", "acme/v3", "bolt/other"):
        save(photo(len(name)), tmp_path / f"queries/{name}.png")
    found = Folders.scan(tmp_path, link="name", queries="photo")
    queries = {i.file: (i.instance_id, i.kind) for i in found.items if i.modality == "sketch"}
    assert queries == {
        "queries/acme/v1-2.png": ("acme/v1", "photo"),
        "queries/acme/v3.png": ("acme/v3", "photo"),
        "queries/bolt/other.png": ("", "photo"),
    }
    assert sum(i.modality == "photo" for i in found.items) == 21
    assert "2 of 3 queries linked" in found.notes[-1]


def test_manifest_queries_can_be_photos(tmp_path):
    """The rows of modality sketch are read in colour with --queries=photo, in grey without."""
    save(photo(1), tmp_path / "a.png")
    save(sketch(1), tmp_path / "b.png")
    rows = ["path,modality,label", "a.png,photo,x", "b.png,sketch,x"]
    (tmp_path / "all.csv").write_text("\n".join(rows))
    for queries in ("photo", "sketch"):
        items = Folders.scan(tmp_path / "all.csv", link="name", queries=queries).items
        assert [i.kind for i in items] == ["photo", queries]


def test_photos_that_cannot_be_halved_are_refused(tmp_path):
    """Without classes and without queries/ nothing could be relevant to anything."""
    save(photo(1), tmp_path / "photos/a.png")
    with pytest.raises(PrepareError, match="no class folders, and there is no queries/"):
        Folders.scan(tmp_path, link="name", queries="photo")


def test_photo_queries_are_prepared_and_named_as_such(tmp_path, capsys):
    """The whole way: both sides in colour, the summary speaks of queries, the config is named."""
    raw = logos(tmp_path / "raw")
    prepare("folders", raw=raw, data_dir=tmp_path / "d", name="logos", queries="photo")
    out = capsys.readouterr().out
    assert "queries" in out and "sketches" not in out
    assert "--config=configs/photo_to_photo.py" in out
    dataset = open_dataset("logos", tmp_path / "d")
    assert dataset.channels["sketch"] == 3
    total = defaultdict(int)
    for split in ("train", "val", "test"):
        for side in SIDES:
            total[side] += len(dataset.index(split, side))
            assert len(dataset.index(split, side)) >= 3
    assert total == {"photo": 12, "sketch": 9}


def test_the_stand_in_photographs_each_object_twice(tmp_path):
    """Four pairs of distinct photos in the layout of the real set, the same again for one seed."""
    scans = []
    for name in ("one", "two"):
        scans.append(LooksLikeDemo.scan(tmp_path / name, draw_seed=0, pairs=4))
    assert Counter(i.modality for i in scans[0].items) == {"photo": 4, "sketch": 4}
    assert len({i.path.read_bytes() for i in scans[0].items}) == 8
    for first, second in zip(*(scan.items for scan in scans), strict=True):
        assert first.file == second.file and first.path.read_bytes() == second.path.read_bytes()
    again = LooksLike.scan(tmp_path / "one", codes="draw")
    assert again.items == scans[0].items


def test_the_stand_in_refuses_a_directory_with_files_and_too_few_pairs(tmp_path):
    """It writes to --raw, so that has to be new; three splits need three pairs."""
    save(photo(1), tmp_path / "mine/a.jpg")
    with pytest.raises(BadArgument, match="give a new directory"):
        LooksLikeDemo.scan(tmp_path / "mine", draw_seed=0, pairs=4)
    with pytest.raises(BadArgument, match="--pairs=2"):
        LooksLikeDemo.scan(tmp_path / "new", draw_seed=0, pairs=2)
