"""Each raw layout is understood as documented: Sketchy, users' folders, CSV, PACS, demo."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
from data_prep_trees import photo, save, sketch, sketchy_tree

from data_prep.folders import Folders
from data_prep.items import BadArgument, PrepareError
from data_prep.pacs import Pacs
from data_prep.prepare import prepare
from data_prep.sketchy import Sketchy

PACS = Path(__file__).parents[2] / "shared/data/pacs"
CATEGORIES = ("hot-air_balloon", "airplane", "cat", "dog", "yurt")


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    """Five categories x 5 photos x 2 sketches, two renderings a side, with the info files."""
    root = tmp_path_factory.mktemp("sketchy")
    rendered = root / "rendered_256x256/256x256"
    for render in ("tx_000000000000", "tx_000100000000"):
        sketchy_tree(
            rendered, photos=f"photo/{render}", sketches=f"sketch/{render}", classes=CATEGORIES
        )
    (rendered / "sketch/tx_000000001110/cat").mkdir(parents=True)
    info = root / "info-06-04/info"
    info.mkdir(parents=True)
    lines = [f"{label}/n{c:08d}_3.jpg" for c, label in enumerate(CATEGORIES)]
    lines[0] = lines[0].replace("hot-air_balloon", "hot_air_balloon")  # the releases differ
    (info / "testset.txt").write_text("\n".join(lines) + "\n")
    (info / "invalid-error.txt").write_text("airplane/n00000001_0-1\nn00000002_4-2.png\n")
    (info / "invalid-pose.txt").write_text("airplane/n00000001_0-1.svg\n\n")
    return root


def scan(raw: Path, **options):
    defaults = {option.name: option.default for option in Sketchy.OPTIONS}
    return Sketchy.scan(raw, **{**defaults, **options})


@pytest.mark.parametrize(
    "below", ["", "rendered_256x256", "rendered_256x256/256x256"], ids=["root", "outer", "inner"]
)
def test_sketchy_is_found_from_any_of_its_folders(archive, below):
    """The archive's root and both rendered folders give the same items and the same test set."""
    assert scan(archive / below) == scan(archive)


def test_sketchy_links_by_name_and_honours_testset(archive):
    """Sketch <photo>-<k> joins its photo; test is exactly the listed photos and their sketches."""
    found = scan(archive)
    assert len(found.items) == 5 * 5 * 3
    test = {(i.label, i.instance_id, i.modality) for i in found.items if i.split == "test"}
    expected = {
        (label, f"{label}/n{c:08d}_3", m)
        for c, label in enumerate(CATEGORIES)
        for m in ("photo", "sketch")
    }
    assert test == expected
    assert {i.split for i in found.items} == {"test", ""}
    assert found.details["testset_photos"] == 5


def test_sketchy_testset_survives_preparation(archive, tmp_path):
    """After preparation, test holds 5 photos and 10 sketches; val is drawn from the rest."""
    dataset = prepare("sketchy", raw=archive, data_dir=tmp_path, quiet=True)
    report = json.loads((dataset / "prepare_report.json").read_text())
    assert report["totals"]["photo"] == {"train": 15, "val": 5, "test": 5}
    assert report["totals"]["sketch"] == {"train": 30, "val": 10, "test": 10}
    assert report["invalid_sketches"] == {"error": 2, "pose": 1}


def test_sketchy_testset_lines_without_category_or_suffix_count_too(archive, tmp_path):
    """Bare photo ids select the same photos."""
    shutil.copytree(archive, tmp_path / "s")
    path = tmp_path / "s/info-06-04/info/testset.txt"
    path.write_text("\n".join(f"n{c:08d}_3" for c in range(5)))
    assert [i.split for i in scan(tmp_path / "s").items] == [i.split for i in scan(archive).items]
    path.write_text("cat/n99999999_1.jpg\n")
    with pytest.raises(PrepareError, match=r"testset.txt: none of its lines names a photo here"):
        scan(tmp_path / "s")


def test_sketchy_without_info_draws_the_test_set(archive, tmp_path):
    """Rendered folders alone are enough; the note says that test is drawn."""
    shutil.copytree(archive / "rendered_256x256/256x256", tmp_path / "r")
    found = scan(tmp_path / "r")
    assert {i.split for i in found.items} == {""} and "no testset.txt" in found.notes[-1]
    with pytest.raises(BadArgument, match="no invalid-"):
        scan(tmp_path / "r", invalid="drop")


def test_sketchy_invalid_sketches_are_kept_or_dropped(archive):
    """Two flagged sketches (one listed twice, one with suffix) leave with --invalid=drop."""
    kept = {i.file for i in scan(archive).items}
    dropped = kept - {i.file for i in scan(archive, invalid="drop").items}
    names = {Path(f).name for f in dropped}
    assert names == {"n00000001_0-1.png", "n00000002_4-2.png"}
    assert all(f.startswith("sketch/") for f in dropped)


def test_sketchy_renderings_are_selected_and_unknown_ones_refused(archive):
    """Each side reads the rendering asked for; an unknown one lists those on disk."""
    files = {i.file.split("/")[1] for i in scan(archive, photo_render="tx_000100000000").items}
    assert files == {"tx_000100000000", "tx_000000000000"}
    with pytest.raises(BadArgument, match=r"--sketch_render='tx_1'.*tx_000000001110"):
        scan(archive, sketch_render="tx_1")


def test_sketchy_category_split_keeps_classes_apart(archive, tmp_path):
    """With unseen classes given, test is exactly those; val is whole seen classes; all disjoint."""
    (tmp_path / "unseen.txt").write_text("yurt\nhot-air_balloon\n")
    options = {"split": "category", "unseen": str(tmp_path / "unseen.txt"), "val": 0.3}
    dataset = prepare("sketchy", raw=archive, data_dir=tmp_path, quiet=True, **options)
    counts = json.loads((dataset / "prepare_report.json").read_text())["counts"]
    splits = {label: {s for s, n in c["photo"].items() if n} for label, c in counts.items()}
    assert splits["yurt"] == splits["hot-air_balloon"] == {"test"}
    seen = [splits[label] for label in ("airplane", "cat", "dog")]
    assert Counter(s for (s,) in seen) == {"train": 2, "val": 1}
    assert scan(archive, split="category", unseen="yurt,hot-air_balloon").items == (
        scan(archive, split="category", unseen=str(tmp_path / "unseen.txt")).items
    )


def test_sketchy_bad_unseen_classes_are_one_line(archive):
    """An unknown class names its nearest; unseen classes need the category split."""
    with pytest.raises(BadArgument, match="no class 'yrt'; did you mean 'yurt'"):
        scan(archive, split="category", unseen="cat,yrt")
    with pytest.raises(BadArgument, match="only with --split=category"):
        scan(archive, unseen="cat")


def test_sketchy_elsewhere_says_what_is_expected(tmp_path):
    """A directory without the archive's folders is refused with the expected ones."""
    with pytest.raises(PrepareError, match="expected rendered_256x256/256x256/"):
        scan(tmp_path)


def linked(found) -> dict[str, str]:
    return {i.file: i.instance_id for i in found.items if i.modality == "sketch"}


@pytest.mark.parametrize(
    "names", [("photos", "sketches"), ("photo", "sketch"), ("Photos", "sketch")]
)
def test_folders_by_class_link_equal_and_numbered_names(tmp_path, names):
    """Sketch `a`, `a-2` and `a_3` belong to photo `a` of the same class; others to none."""
    save(photo(1), tmp_path / names[0] / "cat/a.jpg")
    save(photo(2), tmp_path / names[0] / "cat/b_7.jpg")
    for name in ("cat/a", "cat/a-2", "cat/a_3", "cat/b_7", "cat/z-1", "dog/a"):
        save(sketch(len(name)), tmp_path / names[1] / f"{name}.png")
    found = Folders.scan(tmp_path, link="name")
    by_stem = {f.split("/", 1)[1]: i for f, i in linked(found).items()}
    assert by_stem == {
        "cat/a.png": "cat/a",
        "cat/a-2.png": "cat/a",
        "cat/a_3.png": "cat/a",
        "cat/b_7.png": "cat/b_7",
        "cat/z-1.png": "",
        "dog/a.png": "",
    }
    assert "4 of 6 sketches linked" in found.notes[-1]
    assert set(linked(Folders.scan(tmp_path, link="none")).values()) == {""}


def test_folders_of_pairs_become_one_class(tmp_path):
    """Without class folders the class is `object` and names carry the instances."""
    for i in range(6):
        save(photo(i), tmp_path / f"photos/shoe{i}.jpg")
        save(sketch(i), tmp_path / f"sketches/shoe{i}_1.png")
    dataset = prepare("folders", raw=tmp_path, data_dir=tmp_path / "d", name="shoes", quiet=True)
    report = json.loads((dataset / "prepare_report.json").read_text())
    assert dataset.name == "shoes" and report["classes"] == ["object"]
    assert report["linked_sketches"] == 6 and "one class 'object'" in report["notes"][0]
    shutil.rmtree(tmp_path / "sketches")
    save(sketch(1), tmp_path / "sketches/other.png")
    with pytest.raises(PrepareError, match="no sketch is named after a photo"):
        Folders.scan(tmp_path, link="name")


def test_folders_of_another_layout_are_refused_with_the_three_layouts(tmp_path):
    """The message shows what was found and the layouts that are understood."""
    save(photo(1), tmp_path / "pictures/cat/a.jpg")
    with pytest.raises(PrepareError, match=r"found: pictures/\)[\s\S]*1\. class[\s\S]*3\. a CSV"):
        Folders.scan(tmp_path, link="name")
    (tmp_path / "pictures").rename(tmp_path / "photos")
    save(sketch(1), tmp_path / "sketches/a.png")
    with pytest.raises(PrepareError, match="photos has class folders but .*sketches has none"):
        Folders.scan(tmp_path, link="name")
    save(photo(2), tmp_path / "photos/loose.jpg")
    with pytest.raises(PrepareError, match="1 loose files, such as loose.jpg"):
        Folders.scan(tmp_path, link="name")


def manifest(root: Path, *rows: str, header="path,modality,label,instance_id,split") -> Path:
    (root / "data.csv").write_text("\ufeff" + "\n".join([header, *rows]), encoding="utf-8")
    return root / "data.csv"


def test_manifest_rows_become_items(tmp_path):
    """Paths are relative to the CSV; instances are per class; splits stay; a BOM is harmless."""
    save(photo(1), tmp_path / "a/x.jpg")
    save(sketch(1), tmp_path / "a/x.png")
    found = Folders.scan(
        manifest(tmp_path, "a/x.jpg,photo,cat,17,train", 'a/x.png, sketch ,"cat",,'), link="name"
    )
    assert [(i.file, i.modality, i.label, i.instance_id, i.split) for i in found.items] == [
        ("a/x.jpg", "photo", "cat", "cat/17", "train"),
        ("a/x.png", "sketch", "cat", "", ""),
    ]
    assert found.items[0].path == tmp_path / "a/x.jpg"


def test_manifest_problems_are_listed_at_once_with_line_numbers(tmp_path):
    """Every wrong row is named: modality, split, label, missing file, repetition, leakage."""
    for name in "abcde":
        save(photo(ord(name)), tmp_path / f"{name}.jpg")
    path = manifest(
        tmp_path,
        "a.jpg,foto,cat,1,train",
        "b.jpg,photo,cat,2,training",
        "c.jpg,photo,,3,test",
        "gone.jpg,photo,cat,4,test",
        "d.jpg,photo,cat,5,train",
        "d.jpg,photo,cat,,train",
        "e.jpg,sketch,cat,5,test",
    )
    with pytest.raises(PrepareError) as caught:
        Folders.scan(path, link="name")
    message = str(caught.value)
    for expected in (
        f"{path}: 6 problems",
        "line 2: modality 'foto': did you mean 'photo'",
        "line 3: split 'training': did you mean 'train'",
        "line 4: label is empty",
        "line 5: no such file: gone.jpg",
        "line 7: d.jpg is already on line 6",
        "line 8: instance cat/5 is in test here and in train on line 6",
    ):
        assert expected in message


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("path,modality,instance_id", "missing column label"),
        ("path,modality,label,instance", "unknown column 'instance'; did you mean 'instance_id'"),
        ("path;modality;label", "separated by ';'"),
    ],
)
def test_manifest_header_problems_are_one_line(tmp_path, header, reason):
    """A wrong header names the column and the valid ones."""
    with pytest.raises(PrepareError, match=reason) as caught:
        Folders.scan(manifest(tmp_path, "a,b,c", header=header), link="name")
    assert "\n" not in str(caught.value)


def test_manifest_of_no_rows_or_no_text_is_refused(tmp_path):
    """An empty table and a binary file are named as such."""
    with pytest.raises(PrepareError, match="no rows"):
        Folders.scan(manifest(tmp_path), link="name")
    save(photo(1), tmp_path / "x.jpg")
    with pytest.raises(PrepareError, match="not a UTF-8 CSV file"):
        Folders.scan(tmp_path / "x.jpg", link="name")


@pytest.fixture
def real_pacs() -> Path:
    if not PACS.is_dir():
        pytest.skip(f"real PACS images are not at {PACS}")
    return PACS


def test_pacs_links_only_sketchy_names(real_pacs):
    """On the real files: 2,426 sketches and 961 photos; exactly the n*-k names carry a link."""
    items = Pacs.scan(real_pacs).items
    assert Counter(i.modality for i in items) == {"photo": 961, "sketch": 2426}
    for item in items:
        stem = Path(item.file).stem
        if item.modality == "photo":
            assert item.instance_id == f"{item.label}/{stem}"
        else:
            photo_name = stem.rsplit("-", 1)[0] if stem.startswith("n") else ""
            assert item.instance_id == (f"{item.label}/{photo_name}" if photo_name else "")


def test_pacs_prepares_a_real_subset(real_pacs, tmp_path):
    """Twelve real files a class and side go through to a report without rejects or leakage."""
    for folder in sorted(real_pacs.glob("*/*/")):
        target = tmp_path / "raw" / folder.relative_to(real_pacs)
        target.mkdir(parents=True)
        for path in sorted(folder.iterdir())[-12:]:
            (target / path.name).symlink_to(path)
    dataset = prepare("pacs", raw=tmp_path / "raw", data_dir=tmp_path, quiet=True)
    report = json.loads((dataset / "prepare_report.json").read_text())
    assert report["rejected"] == {} and report["split_leakage"] == []
    assert report["classes"] == ["dog", "elephant", "guitar", "horse", "person"]
    assert all(n > 0 for side in report["totals"].values() for n in side.values())


def test_pacs_elsewhere_says_what_is_expected(tmp_path):
    """A directory of another layout is refused with the expected one."""
    with pytest.raises(PrepareError, match="expected photo/<class>/ and sketch/<class>/"):
        Pacs.scan(tmp_path)


def test_demo_is_drawn_prepared_and_not_drawn_again(tmp_path, monkeypatch):
    """Three objects a class: linked throughout, in three splits; a repeat does not draw at all."""
    options = {"instances": 3, "sketches": 1, "data_dir": tmp_path, "quiet": True}
    dataset = prepare("demo", raw=tmp_path / "kept", **options)
    report = json.loads((dataset / "prepare_report.json").read_text())
    photos = list((tmp_path / "kept").glob("photo/*/*.jpg"))
    classes = {path.parent.name for path in photos}
    assert len(classes) >= 10 and len(photos) == 3 * len(classes) == report["linked_sketches"]
    assert report["totals"]["photo"] == dict.fromkeys(("train", "val", "test"), len(classes))
    assert report["duplicates"] == report["blank_sketches"] == report["inverted_sketches"] == []

    def never(*args, **kwargs):
        raise AssertionError("drawn again")

    monkeypatch.setattr("data_prep.demo.draw", never)
    assert prepare("demo", **options) == dataset
    with pytest.raises(PrepareError, match="holds other files or options"):
        prepare("demo", draw_seed=1, **options)


def test_demo_refuses_a_directory_with_other_files(tmp_path):
    """--raw of demo is written to, so it has to be new; a bad count is one line."""
    save(photo(1), tmp_path / "mine/a.jpg")
    with pytest.raises(BadArgument, match="give a new directory"):
        prepare("demo", raw=tmp_path / "mine", data_dir=tmp_path / "d", quiet=True)
    with pytest.raises(BadArgument, match="instances=0"):
        prepare("demo", instances=0, data_dir=tmp_path / "d", quiet=True)
