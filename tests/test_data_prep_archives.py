"""Each published archive is read in its own layout, with its naming traps."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from data_prep_trees import photo, save, sketch, sketchy_tree

from data_prep.arguments import BUILDERS, completed
from data_prep.checking import check_images
from data_prep.items import BadArgument, PrepareError
from data_prep.prepare import prepare


def scan(dataset: str, raw: Path, **options):
    builder = BUILDERS[dataset]
    return builder.scan(raw, **completed(builder, options, {}))


def labels(found, modality: str) -> Counter:
    return Counter(item.label for item in found.items if item.modality == modality)


def links(found) -> dict[str, str]:
    return {i.file: i.instance_id for i in found.items if i.modality == "sketch"}


# Sketchy-Extended: two classes of two photos; EXTEND has three of the four originals, and more.


@pytest.fixture
def extended(tmp_path) -> Path:
    rendered = tmp_path / "rendered_256x256/256x256"
    sketchy_tree(
        rendered,
        photos="photo/tx_000000000000",
        sketches="sketch/tx_000000000000",
        classes=("cat", "hot-air_balloon"),
        instances=2,
        per_photo=2,
    )
    extend = tmp_path / "EXTEND_image_sketchy"
    for folder, names in (
        ("cat", ["n00000000_0", "n00000000_1", "ext_1", "ext_2"]),
        ("hot_air_balloon", ["n00000001_0", "ext_3"]),  # as repackaged
    ):
        for name in names:
            save(photo(len(name) + ord(name[-1])), extend / folder / f"{name}.jpg")
    return tmp_path


@pytest.mark.parametrize(("gallery", "photos"), [("listed", 10), ("distinct", 7), ("extended", 6)])
def test_sketchy_extended_galleries_count_duplicates_as_they_say(extended, gallery, photos):
    """Listed: 4 originals and 6 of EXTEND; distinct: EXTEND and the one original it lacks."""
    found = scan("sketchy_ext", extended, gallery=gallery)
    assert labels(found, "photo").total() == photos
    names = Counter(i.instance_id for i in found.items if i.modality == "photo")
    assert (max(names.values()) == 2) == (gallery == "listed")
    assert ("hot-air_balloon/n00000001_1" in names) == (gallery != "extended")
    assert found.details["originals_in_extend"] == 3
    assert set(names) >= {"cat/ext_1", "hot-air_balloon/ext_3"}


def test_sketchy_extended_keeps_links_and_holds_classes_out(extended):
    """A sketch still names its original; unseen classes take EXTEND's photos with them."""
    found = scan("sketchy_ext", extended, gallery="extended", unseen="hot air balloon")
    assert links(found)["sketch/tx_000000000000/cat/n00000000_1-2.png"] == "cat/n00000000_1"
    assert {i.split for i in found.items if i.label == "hot-air_balloon"} == {"test"}
    assert {i.split for i in found.items if i.label == "cat"} == {""}
    assert found.split_by == "category"


def test_sketchy_extended_reads_the_repackaged_bundle(extended):
    """Folders called ..._ready, as SAKE and ZSE-SBIR pack them, give the same items."""
    plain = {(i.instance_id, i.modality) for i in scan("sketchy_ext", extended).items}
    rendered = extended / "rendered_256x256/256x256"
    for side in ("photo", "sketch"):
        tx = rendered / side / "tx_000000000000"
        tx.rename(tx.with_name("tx_000000000000_ready"))
    (extended / "Sketchy").mkdir()
    rendered.rename(extended / "Sketchy/256x256")
    extend = extended / "EXTEND_image_sketchy"
    extend.rename(extended / "Sketchy/EXTEND_image_sketchy_ready")
    for raw in (extended, extended / "Sketchy"):
        ready = {(i.instance_id, i.modality) for i in scan("sketchy_ext", raw).items}
        assert ready == plain


def test_sketchy_extended_without_the_extension_says_so(extended):
    """Sketchy alone is refused with the folder that is missing."""
    (extended / "EXTEND_image_sketchy").rename(extended / "elsewhere")
    with pytest.raises(PrepareError, match="no EXTEND_image_sketchy/"):
        scan("sketchy_ext", extended)


SVG = '<svg viewBox="0 0 640 480"><g><path d="M 64 48 L 576 432" stroke="black"/>'


def test_sketchy_vectors_are_drawn_even_without_closing_tags(extended):
    """--sketches=svg draws sketches-06-04/, skips its text files, and keeps names and links."""
    folder = extended / "sketches-06-04/sketches/cat"
    folder.mkdir(parents=True)
    for name, end in (("n00000000_0-1", "</g></svg>"), ("n00000000_1-1", "")):
        (folder / f"{name}.svg").write_text(SVG + end)
    (folder / "checked.txt").write_text("n00000000_0-1")
    (folder / "invalid.txt").write_text("Invalid/Error\n")
    found = scan("sketchy", extended, sketches="svg")
    assert links(found) == {
        "sketches/cat/n00000000_0-1.svg": "cat/n00000000_0",
        "sketches/cat/n00000000_1-1.svg": "cat/n00000000_1",
    }
    one, other = (i.pixels(i.read()) for i in found.items if i.modality == "sketch")
    assert one.shape == (256, 256) and (one == other).all()
    assert one[128, 128] == 0 and one[230, 25] == 255  # the canvas is squashed to the square
    with pytest.raises(BadArgument, match="SVG drawings are rendered as tx_000000000000"):
        scan("sketchy", extended, sketches="svg", sketch_render="tx_000100000000")


# TU-Berlin

SPELLINGS = {
    "hot air balloon": "hotairballoon",
    "t-shirt": "tshirt",
    "car (sedan)": "carsedan",
    "mouse (animal)": "mouse",
    "pipe (for smoking)": "pipe",
    "wrist-watch": "wristwatching",
    "space shuttle": "spacesshuttle",
    "trombone": "tromobone",
    "giraffe": "griaffe",
    "spider": "spidar",
    "chandelier": "chandeler",
    "diamond": "diamod",
    "banana": "banana",
}


@pytest.mark.parametrize(
    ("sketches", "photos", "renamed"),
    [
        ("png", "ImageResized", False),
        ("TUBerlin/png_ready", "TUBerlin/ImageResized_ready", False),
        ("sketches", "images", True),
    ],
)
def test_tu_berlin_matches_misspelt_photo_folders(tmp_path, sketches, photos, renamed):
    """Every photo folder joins its sketch class, as published, bundled, or renamed by a script."""
    for number, (label, folder) in enumerate(SPELLINGS.items()):
        folder = label.replace(" ", "_") if renamed else folder
        save(sketch(number), tmp_path / sketches / label / f"{number}.png")
        save(photo(number), tmp_path / photos / folder / f"n0_{number}.JPEG")
    (tmp_path / sketches / "filelist.txt").write_text("banana/1.png\n")
    found = scan("tu_berlin_ext", tmp_path)
    assert labels(found, "photo") == labels(found, "sketch") == Counter(SPELLINGS.keys())
    assert set(links(found).values()) == {""}


def test_tu_berlin_says_which_folder_is_missing(tmp_path):
    """Sketches alone are refused, naming the photo folders it knows."""
    save(sketch(1), tmp_path / "png/ant/1.png")
    with pytest.raises(PrepareError, match="no ImageResized/ or .* which holds the photos"):
        scan("tu_berlin_ext", tmp_path)


# QuickDraw


def test_quickdraw_extended_joins_spellings(tmp_path):
    """`palm tree` of one side and `palm_tree` of the other are one class."""
    save(sketch(1), tmp_path / "QuickDraw_sketches_final/palm_tree/1.png")
    save(photo(1), tmp_path / "QuickDraw_images_final/palm tree/1.jpg")
    found = scan("quickdraw_ext", tmp_path)
    assert labels(found, "photo") == labels(found, "sketch") == {"palm tree": 1}


def drawing(key: int, *, recognized: bool = True, raw: bool = False) -> str:
    stroke = [[10, 200 + key % 50], [20, 220]]
    stroke += [[0.0, 130.5]] if raw else []
    return json.dumps(
        {
            "word": "any",
            "countrycode": "AE",
            "timestamp": "2017-03-01 20:41:36.70725 UTC",
            "recognized": recognized,
            "key_id": str(key),
            "drawing": [stroke, [[100], [100], *([[140.0]] if raw else [])]],
        }
    )


@pytest.mark.parametrize("raw", [False, True], ids=["simplified", "raw"])
def test_quickdraw_draws_its_stroke_files(tmp_path, raw):
    """Each recognised line is a sketch named by its key; both formats give the same pixels."""
    folder = tmp_path / ("raw" if raw else "simplified")
    folder.mkdir()
    lines = [drawing(k, recognized=k != 2, raw=raw) for k in range(1, 6)]
    (folder / "The Eiffel Tower.ndjson").write_text("\n".join(lines) + "\n")
    (folder / "full_simplified_hot air balloon.ndjson").write_text(lines[0])
    (folder / "yoga.ndjson").write_text(lines[0])
    for label in ("eiffel tower", "hot-air_balloon"):
        save(photo(len(label)), tmp_path / f"QuickDraw_images_final/{label}/1.jpg")
    found = scan("quickdraw", tmp_path, per_class=3)
    assert labels(found, "sketch") == {"eiffel tower": 3, "hot-air_balloon": 1}
    files = [item for item in found.items if item.label == "eiffel tower"][1:]
    assert [item.file.rpartition("#")[2] for item in files] == ["1", "3", "4"]
    assert "1 stroke files have no photos" in found.notes[-1]
    first, second = (item.pixels(item.read()) for item in files[:2])
    assert first.shape == (256, 256) and (first != second).any()
    lone = tmp_path / "lone.json"
    lone.write_text(drawing(1))
    from sbir_jax.data.strokes import read_quickdraw

    np.testing.assert_array_equal(first, read_quickdraw(lone.read_bytes()))
    assert labels(scan("quickdraw", tmp_path, per_class=0, recognized="all"), "sketch")[
        "eiffel tower"
    ] == 5  # fmt: skip


def test_quickdraw_is_prepared_and_read_back(tmp_path):
    """Drawings of one file become records of their own, grey and 256 pixels wide."""
    from sbir_jax.data.source import open_dataset

    for label in ("ant", "bee"):
        (tmp_path / f"{label}.ndjson").write_text("\n".join(map(drawing, range(6))))
        for i in range(6):
            save(photo(i + 10 * len(label)), tmp_path / f"photos/{label}/{i}.jpg")
    prepare("quickdraw", raw=tmp_path, data_dir=tmp_path / "d", quiet=True)
    images = open_dataset("quickdraw", tmp_path / "d").images("train", "sketch")
    assert images.load([0], 256, "pad").shape == (1, 256, 256, 1)
    report = json.loads((tmp_path / "d/quickdraw/prepare_report.json").read_text())
    assert sum(report["totals"]["sketch"].values()) == 12
    assert report["blank_sketches"] == report["inverted_sketches"] == []


def test_quickdraw_problems_name_the_line_or_the_drawing(tmp_path):
    """A line that is no drawing stops; a drawing without strokes is a rejected file."""
    save(photo(1), tmp_path / "photos/ant/1.jpg")
    (tmp_path / "ant.ndjson").write_text(drawing(1) + "\n{}\n")
    with pytest.raises(PrepareError, match="ant.ndjson: line 2 is not a drawing"):
        scan("quickdraw", tmp_path)
    empty = json.dumps({"key_id": "7", "recognized": True, "drawing": []})
    (tmp_path / "ant.ndjson").write_text(empty)
    found = scan("quickdraw", tmp_path)
    problems = [c.problem for c in check_images(found.items, quiet=True)]
    assert problems == ["", "a drawing without strokes"]
    with pytest.raises(BadArgument, match="--per_class=-1"):
        scan("quickdraw", tmp_path, per_class=-1)


# QMUL


def test_qmul_with_lists_takes_what_they_name(tmp_path):
    """Lists decide train and test; their .svg names mean the .png files; others are left out."""
    for i in range(5):
        save(photo(i), tmp_path / f"ShoeV2_photo/{i}00.png")
        for k in (1, 2):
            save(sketch(10 * i + k), tmp_path / f"ShoeV2_sketch_png/{i}00_{k}.png")
    for part, ids in (("train", range(3)), ("test", [3])):
        (tmp_path / f"photo_{part}.txt").write_text("\n".join(f"{i}00.png" for i in ids))
        (tmp_path / f"sketch_{part}.txt").write_text("\n".join(f"{i}00_1.svg" for i in ids) + "\n")
    found = scan("qmul", tmp_path)
    assert len(found.items) == 8 and labels(found, "photo") == {"object": 4}
    assert links(found)["ShoeV2_sketch_png/300_1.png"] == "object/300"
    assert [i.file for i in found.items if i.split == "test"] == [
        "ShoeV2_photo/300.png",
        "ShoeV2_sketch_png/300_1.png",
    ]
    assert found.notes == ("to train on: 3 photos, 3 sketches; to test: 1 photos, 1 sketches",)
    (tmp_path / "sketch_test.txt").write_text("999_1.svg")
    with pytest.raises(PrepareError, match="sketch_test.txt: 999_1 is not in ShoeV2_sketch_png/"):
        scan("qmul", tmp_path)


def test_qmul_in_four_folders(tmp_path):
    """trainA and testA are sketches, trainB and testB photos; an id may hold underscores."""
    for part, ids in (("train", ("a_1", "b")), ("test", ("c",))):
        for name in ids:
            save(photo(len(name)), tmp_path / f"{part}B/{name}.png")
            save(sketch(len(name)), tmp_path / f"{part}A/{name}_2.png")
    found = scan("qmul", tmp_path)
    assert links(found) == {
        "trainA/a_1_2.png": "object/a_1",
        "trainA/b_2.png": "object/b",
        "testA/c_2.png": "object/c",
    }
    assert {i.file: i.split for i in found.items if i.split} == {
        "testA/c_2.png": "test",
        "testB/c.png": "test",
    }
    (tmp_path / "testA").rename(tmp_path / "tests")
    with pytest.raises(PrepareError, match="neither trainA/.* pickles, which are not read"):
        scan("qmul", tmp_path)


# FS-COCO


@pytest.fixture
def scenes(tmp_path) -> Path:
    """Two users with three pairs each; the lists leave out leading zeros."""
    for user in (1, 2):
        for i in range(3):
            name = f"{user}/{10 * user + i:012d}"
            save(photo(10 * user + i), tmp_path / f"images/{name}.jpg")
            save(sketch(10 * user + i), tmp_path / f"raster_sketches/{name}.jpg")
    (tmp_path / "val_normal.txt").write_text("10\n20\n")
    (tmp_path / "val_unseen_user.txt").write_text("000000000020\n000000000021\n000000000022\n")
    return tmp_path


def test_fs_coco_pairs_by_id_and_follows_its_lists(scenes):
    """The id links a pair; the list of --users is the test set, zeros or not."""
    found = scan("fs_coco", scenes)
    assert links(found)["raster_sketches/2/000000000021.jpg"] == "object/000000000021"
    tested = {i.instance_id for i in found.items if i.split == "test"}
    assert tested == {"object/000000000010", "object/000000000020"}
    unseen = scan("fs_coco", scenes, users="unseen")
    assert sum(i.split == "test" for i in unseen.items) == 6
    (scenes / "val_normal.txt").write_text("5\n")
    with pytest.raises(PrepareError, match="val_normal.txt: none of its ids names a sketch"):
        scan("fs_coco", scenes)
    (scenes / "val_normal.txt").unlink()
    with pytest.raises(PrepareError, match="val_normal.txt: no such file"):
        scan("fs_coco", scenes)


def test_fs_coco_strokes_are_drawn_where_there_are_no_pictures(scenes):
    """raw_data/ holds points from 0 to 1; a lifted pen starts another line."""
    (scenes / "raster_sketches").rename(scenes / "elsewhere")
    points = [(0.1, 0.5, 0), (0.4, 0.5, 1), (0.6, 0.5, 0), (0.9, 0.5, 1)]
    strokes = [
        {"coordinates": [str(x), str(y)], "pen_state": [up, 1 - up, 0], "timestamp": 0}
        for x, y, up in points
    ]
    path = scenes / "raw_data/1/000000000010.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(strokes))
    (item,) = (i for i in scan("fs_coco", scenes).items if i.modality == "sketch")
    ink = item.pixels(item.read())[128] < 128
    assert ink[64] and ink[192] and not ink[128] and item.split == "test"
    path.write_text('{"x": 1}')
    (checked,) = (c for c in check_images([item], quiet=True))
    assert checked.problem.startswith("not strokes of FS-COCO")


# Flickr15K


@pytest.mark.parametrize("packed", ["330sketches/{}/{}.png", "queries/{}{:03d}.png"])
def test_flickr15k_reads_the_class_from_either_naming(tmp_path, packed):
    """Person 10's sketch of class 9 is 10/9.png or 10009.png; all of it is the test split."""
    for person, label in ((1, 9), (10, 9), (10, 33)):
        save(sketch(person + label), tmp_path / packed.format(person, label))
    for label in (9, 33):
        save(photo(label), tmp_path / f"images/{label}/123{label}.jpg")
    found = scan("flickr15k", tmp_path)
    assert labels(found, "sketch") == {"9": 2, "33": 1}
    assert {i.split for i in found.items} == {"test"} and found.test_only
    dataset = prepare("flickr15k", raw=tmp_path, data_dir=tmp_path / "d", quiet=True)
    totals = json.loads((dataset / "prepare_report.json").read_text())["totals"]
    assert totals["sketch"] == {"train": 0, "val": 0, "test": 3}


def test_flickr15k_other_names_are_refused(tmp_path):
    """A sketch whose class cannot be read stops, with both namings."""
    save(sketch(1), tmp_path / "queries/cat.png")
    save(photo(1), tmp_path / "images/1/1.jpg")
    with pytest.raises(PrepareError, match="cat.png: expected <person>/<class>.png"):
        scan("flickr15k", tmp_path)


# DomainNet


def test_domainnet_follows_its_lists_and_leaves_out_unlisted_files(tmp_path):
    """Official test files are tested, files of neither list (cleaned away) are not used."""
    for domain, end in (("real", "jpg"), ("sketch", "jpg"), ("quickdraw", "png")):
        for i in range(4):
            picture = photo(i) if domain == "real" else sketch(i)
            save(picture, tmp_path / f"{domain}/alarm_clock/{domain}_{i}.{end}")
    for domain in ("real", "sketch"):
        for part, ids in (("train", (0, 1)), ("test", (2,))):
            lines = [f"{domain}/alarm_clock/{domain}_{i}.jpg 2" for i in ids]
            (tmp_path / f"{domain}_{part}.txt").write_text("\n".join(lines) + "\n")
    found = scan("domainnet", tmp_path)
    assert Counter((i.modality, i.split) for i in found.items) == {
        ("photo", ""): 2,
        ("photo", "test"): 1,
        ("sketch", ""): 2,
        ("sketch", "test"): 1,
    }
    assert "1 files of real/ are in neither list and left out" in found.notes
    drawn = scan("domainnet", tmp_path, queries="quickdraw")
    assert labels(drawn, "sketch") == {"alarm_clock": 4}
    assert "no quickdraw_train.txt and quickdraw_test.txt" in drawn.notes[-1]
