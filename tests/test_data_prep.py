"""The rules of data preparation, on small trees: splits, rejects, report, atomic and repeatable."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from data_prep_trees import encoded, photo, save, sketch, sketchy_tree
from PIL import Image

from data_prep import contact_sheet as contact_sheet_module
from data_prep import store as store_module
from data_prep.checking import Checked
from data_prep.items import BadArgument, Item, PrepareError
from data_prep.prepare import prepare
from data_prep.report import fingerprint
from data_prep.splits import draw_splits
from sbir_jax.data.images import read_image

ROOT = Path(__file__).parents[1]
SPLITS, MODALITIES = ("train", "val", "test"), ("photo", "sketch")


def records(dataset: Path, modality: str, split: str) -> list[dict]:
    """Records read back with TFDS alone, images as bytes."""
    builder = tfds.builder_from_directory(dataset / modality / "1.0.0")
    if split not in builder.info.splits:
        return []
    skip = {"image": tfds.decode.SkipDecoding()}
    return list(builder.as_data_source(split, decoders=skip))


def report_of(dataset: Path) -> dict:
    return json.loads((dataset / "prepare_report.json").read_text())


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    return sketchy_tree(tmp_path_factory.mktemp("raw"), instances=6)


@pytest.fixture(scope="module")
def prepared(raw, tmp_path_factory) -> Path:
    return prepare("pacs", raw=raw, data_dir=tmp_path_factory.mktemp("data"), quiet=True)


def test_every_image_is_stored_once_with_its_names(raw, prepared):
    """The union of all splits is exactly the raw files, with the instance from their names."""
    stored = {}
    for modality in MODALITIES:
        for split in SPLITS:
            for record in records(prepared, modality, split):
                stored[record["file"].decode()] = record["instance_id"].decode()
    expected = {}
    for path in raw.rglob("*.*g"):
        name = path.relative_to(raw).as_posix()
        expected[name] = f"{path.parent.name}/{path.stem.split('-')[0]}"
    assert stored == expected


def test_a_photo_and_its_sketches_share_a_split(prepared):
    """No instance occurs in two splits, so no sketch of a test photo is trained on."""
    where = defaultdict(set)
    for modality in MODALITIES:
        for split in SPLITS:
            for record in records(prepared, modality, split):
                where[record["instance_id"]].add(split)
    assert len(where) == 12
    assert all(len(splits) == 1 for splits in where.values())


def test_the_index_is_in_record_order(prepared):
    """Row i of index.npz holds the label and instance of record i, in every split and modality."""
    with np.load(prepared / "index.npz", allow_pickle=False) as index:
        classes, ids = index["classes"].tolist(), index["instance_ids"].tolist()
        assert classes == ["cat", "dog"] and ids == sorted(ids) and len(ids) == 12
        for modality in MODALITIES:
            for split in SPLITS:
                rows = records(prepared, modality, split)
                label = index[f"{split}/{modality}/label"]
                instance = index[f"{split}/{modality}/instance"]
                assert label.dtype == instance.dtype == np.int32
                assert len(rows) == len(label) == len(instance) > 0
                for record, y, i in zip(rows, label, instance, strict=True):
                    assert record["file"].decode().split("/")[1] == classes[y]
                    assert record["instance_id"].decode() == ids[i]


def test_plain_photos_keep_their_bytes_and_sketches_become_grey_png(raw, prepared):
    """A small RGB JPEG is stored bit for bit; an RGB sketch as 8-bit grey with equal pixels."""
    for record in records(prepared, "photo", "train"):
        assert record["image"] == (raw / record["file"].decode()).read_bytes()
    for record in records(prepared, "sketch", "train"):
        grey = np.asarray(Image.open(raw / record["file"].decode()).convert("L"))
        np.testing.assert_array_equal(read_image(record["image"], "sketch"), grey)
        assert record["image"][:8] == b"\x89PNG\r\n\x1a\n" and record["image"][25] == 0  # grey


def test_odd_files_are_stored_clean(tmp_path):
    """Rotated, transparent, large, CMYK and 16-bit inputs are stored upright, on white, small."""
    raw = sketchy_tree(tmp_path / "raw")
    exif = Image.Exif()
    exif[0x0112] = 6
    rotated = encoded(photo(901, size=(60, 40)), "JPEG", exif=exif)
    (raw / "photo/cat/rotated.jpg").write_bytes(rotated)
    (raw / "photo/cat/cmyk.jpg").write_bytes(encoded(photo(902).convert("CMYK"), "JPEG"))
    (raw / "photo/dog/large.png").write_bytes(encoded(photo(903, size=(300, 200)), "PNG"))
    transparent = Image.new("RGBA", (30, 30), (0, 0, 0, 0))
    transparent.putpixel((3, 3), (0, 0, 0, 255))
    save(transparent, raw / "sketch/cat/transparent.png")
    sixteen = np.full((20, 20), 40_000, np.uint16)
    save(Image.fromarray(sixteen), raw / "sketch/dog/sixteen.png")
    dataset = prepare("pacs", raw=raw, data_dir=tmp_path, max_side=64, quiet=True)
    stored = {
        Path(record["file"].decode()).stem: read_image(record["image"], modality)
        for modality in MODALITIES
        for split in SPLITS
        for record in records(dataset, modality, split)
    }
    assert stored["rotated"].shape == (60, 40, 3)
    assert stored["cmyk"].shape == (32, 40, 3)
    assert stored["large"].shape == (64, 96, 3)
    assert stored["transparent"].mean() > 250 and stored["transparent"][3, 3] == 0
    assert (stored["sixteen"] == round(40_000 / 257)).all()


BAD_FILES = {
    "photo/cat/empty.jpg": b"",
    "photo/dog/page.jpg": b"<html>not found</html>",
    "photo/dog/cut.jpg": encoded(photo(77), "JPEG")[:-150],
    "sketch/cat/notes.txt": b"remember the milk",
}


@pytest.fixture
def raw_with_bad(tmp_path) -> Path:
    raw = sketchy_tree(tmp_path / "raw")
    for name, data in BAD_FILES.items():
        (raw / name).write_bytes(data)
    for clutter in ("photo/cat/.DS_Store", "sketch/dog/Thumbs.db", "photo/._x.jpg"):
        (raw / clutter).write_bytes(b"clutter")
    return raw


def test_bad_files_are_all_listed_and_nothing_is_written(raw_with_bad, tmp_path):
    """`on_error=fail` names each bad file with its reason, ignores clutter, leaves no trace."""
    with pytest.raises(PrepareError) as caught:
        prepare("pacs", raw=raw_with_bad, data_dir=tmp_path / "data", quiet=True)
    message = str(caught.value)
    assert all(name in message for name in BAD_FILES)
    assert message.startswith("4 of the files") and "--on_error=skip" in message
    assert "DS_Store" not in message and "Thumbs" not in message
    assert list((tmp_path / "data").iterdir()) == []


def test_skipping_leaves_bad_files_out_and_reports_them(raw_with_bad, tmp_path):
    """`on_error=skip` stores the rest; the report gives each rejected file its reason."""
    dataset = prepare("pacs", raw=raw_with_bad, data_dir=tmp_path, on_error="skip", quiet=True)
    report = report_of(dataset)
    assert set(report["rejected"]) == set(BAD_FILES)
    assert report["rejected"]["photo/cat/empty.jpg"] == "empty file"
    assert sum(report["totals"]["photo"].values()) == 10


def test_more_than_twenty_bad_files_are_counted(tmp_path):
    """Twenty are printed, the others counted."""
    raw = sketchy_tree(tmp_path / "raw")
    for i in range(25):
        (raw / f"photo/cat/bad{i:02}.jpg").write_bytes(b"")
    with pytest.raises(PrepareError, match="25 of the files") as caught:
        prepare("pacs", raw=raw, data_dir=tmp_path / "data", quiet=True)
    assert str(caught.value).count("empty file") == 20 and "and 5 more" in str(caught.value)


def test_a_repeat_is_a_no_op_and_a_change_is_not(tmp_path, capsys):
    """Unchanged input touches nothing; another option or file is refused without --overwrite."""
    raw = sketchy_tree(tmp_path / "raw")
    dataset = prepare("pacs", raw=raw, data_dir=tmp_path, quiet=True)
    before = {p: p.stat().st_mtime_ns for p in dataset.rglob("*")}
    prepare("pacs", raw=raw, data_dir=tmp_path)
    assert "up to date" in capsys.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in dataset.rglob("*")} == before

    with pytest.raises(PrepareError, match="holds other files or options: use --overwrite"):
        prepare("pacs", raw=raw, data_dir=tmp_path, seed=1, quiet=True)
    save(photo(555), raw / "photo/cat/new.jpg")
    with pytest.raises(PrepareError, match="holds other files"):
        prepare("pacs", raw=raw, data_dir=tmp_path, quiet=True)
    old = report_of(dataset)["fingerprint"]
    prepare("pacs", raw=raw, data_dir=tmp_path, overwrite=True, quiet=True)
    assert report_of(dataset)["fingerprint"] != old
    assert sum(report_of(dataset)["totals"]["photo"].values()) == 11
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


@pytest.fixture
def replace_fails(tmp_path):
    """A prepared dataset; called, asserts that replacing it fails with a reason and keeps it."""
    raw, data = sketchy_tree(tmp_path / "raw"), tmp_path / "data"
    dataset = prepare("pacs", raw=raw, data_dir=data, quiet=True)
    old = report_of(dataset)

    def check(reason: str) -> None:
        with pytest.raises(PrepareError, match=reason):
            prepare("pacs", raw=raw, data_dir=data, seed=1, overwrite=True, quiet=True)
        assert report_of(dataset) == old
        assert [p.name for p in data.iterdir()] == ["pacs"]

    return check


def test_a_failure_while_writing_leaves_the_old_dataset(replace_fails, monkeypatch):
    """If the last step fails, the directory holds exactly what it held before."""

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store_module, "contact_sheet", full)
    replace_fails("No space left on device")


def test_a_failing_last_move_puts_the_old_dataset_back(replace_fails, monkeypatch):
    """Replacing is two renames; if the second fails, the first is undone."""
    rename = Path.rename

    def refuse_the_new_one(self, target):
        if "partial" in self.parent.name and self.name == "pacs":
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse_the_new_one)
    replace_fails("Input/output error")


def test_a_file_that_changes_meanwhile_is_noticed(tmp_path, monkeypatch):
    """Bytes other than the checked ones are never stored."""
    raw = sketchy_tree(tmp_path / "raw")
    check = store_module.progress

    def swap_then_write(*args, **kwargs):
        (raw / "photo/cat/n00000000_0.jpg").write_bytes(encoded(photo(999), "JPEG"))
        return check(*args, **kwargs)

    monkeypatch.setattr(store_module, "progress", swap_then_write)
    with pytest.raises(PrepareError, match="n00000000_0.jpg changed while"):
        prepare("pacs", raw=raw, data_dir=tmp_path / "data", quiet=True)
    assert list((tmp_path / "data").iterdir()) == []


def test_the_report_names_what_is_suspicious(tmp_path):
    """Duplicates, leakage, absent photos, one-sided classes, blank and inverted sketches."""
    raw = sketchy_tree(tmp_path / "raw", instances=10)
    twin = (raw / "photo/cat/n00000000_0.jpg").read_bytes()
    for i in range(12):  # so many copies that some fall into another split
        (raw / f"photo/dog/twin{i}.jpg").write_bytes(twin)
    save(sketch(9000), raw / "sketch/cat/n00000000_77-1.png")
    save(photo(9001), raw / "photo/yak/1.jpg")
    save(Image.new("L", (50, 50), 255), raw / "sketch/cat/100.png")
    save(Image.new("L", (50, 50), 0), raw / "sketch/cat/101.png")
    report = report_of(prepare("pacs", raw=raw, data_dir=tmp_path, seed=7, quiet=True))
    assert report["seed"] == 7
    assert report["sketches_of_absent_photos"] == ["sketch/cat/n00000000_77-1.png"]
    assert report["linked_sketches"] == 40
    assert report["one_modality_classes"] == {"yak": "photo"}
    assert "yak" in report["classes_missing_from_a_split"]
    assert report["blank_sketches"] == ["sketch/cat/100.png"]
    assert report["inverted_sketches"] == ["sketch/cat/101.png"]
    assert [len(group) for group in report["duplicates"]] == [13]
    assert len(set(report["split_leakage"][0].values())) > 1
    counted = sum(
        n
        for by_modality in report["counts"].values()
        for by_split in by_modality.values()
        for n in by_split.values()
    )
    assert counted == len([p for p in raw.rglob("*") if p.is_file()])


@pytest.mark.parametrize(
    "field", ["file", "sha256", "modality", "label", "instance_id", "split", "option", "dataset"]
)
def test_the_fingerprint_sees_every_change(field):
    """Bytes, names, class, link, given split and options each change it; the order does not."""
    item = {"file": "a", "modality": "photo", "label": "cat", "instance_id": "cat/1", "split": ""}

    def mark(**changes) -> str:
        fields = {**item, **{k: v for k, v in changes.items() if k in item}}
        one = Checked(item=Item(path=Path(), **fields), sha256=changes.get("sha256", "0"))
        other = Checked(item=Item(path=Path(), **{**item, "file": "z"}), sha256="1")
        rows = [other, one] if changes.get("reverse") else [one, other]
        return fingerprint(changes.get("dataset", "pacs"), {"seed": "option" in changes}, rows)

    assert mark(reverse=True) == mark()
    assert mark(**{field: "another"}) != mark()


def test_dry_run_prints_the_plan_and_the_problems_and_writes_nothing(
    raw_with_bad, tmp_path, capsys
):
    """--dry_run shows counts a class and every bad file, even with on_error=fail."""
    prepare("pacs", raw=raw_with_bad, data_dir=tmp_path / "data", dry_run=True)
    out = capsys.readouterr().out
    assert "nothing is written" in out and "cat" in out and "notes.txt" in out
    assert not (tmp_path / "data").exists()


def test_the_contact_sheet_shows_the_linked_couples(prepared, raw):
    """The sheet holds each class's photo and sketch pixels side by side, in a joint frame."""
    sheet = Image.open(prepared / "contact_sheet.png")
    m = contact_sheet_module
    left, top = m.MARGIN, m.MARGIN + 24 + m.HEADER
    thumb = np.asarray(sheet.crop((left, top, left + m.THUMB, top + m.THUMB))).astype(int)
    first = np.asarray(Image.open(raw / "photo/cat/n00000000_0.jpg"))
    assert np.abs(np.median(thumb, (0, 1)) - np.median(first, (0, 1))).max() < 12
    assert sheet.getpixel((left - 3, top - 3)) == (0x22, 0x22, 0x22)


def test_no_tensorflow_is_imported(tmp_path):
    """Preparing and reading leave `tensorflow` out of sys.modules, in a process of its own."""
    sketchy_tree(tmp_path / "raw")
    code = (
        "import sys; from data_prep.prepare import prepare; "
        "from sbir_jax.data.source import open_dataset; "
        f"prepare('pacs', raw={str(tmp_path / 'raw')!r}, data_dir={str(tmp_path)!r}, quiet=True); "
        f"d = open_dataset('pacs', {str(tmp_path)!r}); "
        "assert d.images('train', 'photo').load([0, 1], 16, 'pad').shape == (2, 16, 16, 3); "
        "assert 'tensorflow' not in sys.modules and 'jax' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_records_do_not_depend_on_shard_size(raw, prepared, tmp_path, monkeypatch):
    """Split into many small shards, the same records come back in the same order."""
    monkeypatch.setattr("data_prep.builder.SHARD_ITEMS", 3)
    many = prepare("pacs", raw=raw, data_dir=tmp_path, quiet=True)
    assert len(list(many.glob("sketch/1.0.0/*train*"))) > 3
    for modality in MODALITIES:
        for split in SPLITS:
            assert records(many, modality, split) == records(prepared, modality, split)


def units(count: int, label: str = "cat", **fields) -> list[Item]:
    return [
        Item(path=Path(), file=f"{m}/{label}{i}", modality=m, label=label,
             instance_id=f"{label}/{i}", **fields)
        for i in range(count)
        for m in MODALITIES
    ]  # fmt: skip


def split_of(items) -> dict[str, str]:
    return {item.file: item.split for item in items}


def test_the_draw_ignores_file_order_and_follows_the_seed():
    """Shuffled items get the same splits; another seed gives others."""
    items = units(40) + units(40, "dog")
    shuffled = [items[i] for i in np.random.default_rng(0).permutation(len(items))]
    drawn = split_of(draw_splits(items, val=0.1, test=0.2, seed=0))
    assert split_of(draw_splits(shuffled, val=0.1, test=0.2, seed=0)) == drawn
    assert split_of(draw_splits(items, val=0.1, test=0.2, seed=1)) != drawn


@pytest.mark.parametrize(
    ("count", "expected"), [(3, (1, 1, 1)), (10, (7, 1, 2)), (50, (35, 5, 10))]
)
def test_the_draw_is_stratified_by_class(count, expected):
    """Each class of n instances gives round(0.1 n) to val, round(0.2 n) to test, at least one."""
    items = draw_splits(units(count) + units(7, "dog"), val=0.1, test=0.2, seed=3)
    photos = [i.split for i in items if i.label == "cat" and i.modality == "photo"]
    assert tuple(photos.count(split) for split in SPLITS) == expected


def test_unlinked_photos_and_sketches_reach_every_split():
    """A class of photos and sketches without links is stratified on each side."""
    items = [
        Item(path=Path(), file=f"{m}/{i}", modality=m, label="person",
             instance_id=f"person/{i}" if m == "photo" else "")
        for m in MODALITIES
        for i in range(5)
    ]  # fmt: skip
    drawn = draw_splits(items, val=0.1, test=0.2, seed=0)
    assert {(i.modality, i.split) for i in drawn} == {(m, s) for m in MODALITIES for s in SPLITS}


def test_classes_with_one_instance_each_are_drawn_from_together():
    """Twenty classes of one instance still fill three splits."""
    items = [item for c in range(20) for item in units(1, f"c{c}")]
    splits = [i.split for i in draw_splits(items, val=0.1, test=0.2, seed=0)]
    assert [splits.count(s) // 2 for s in SPLITS] == [14, 2, 4]


def test_given_splits_are_kept_and_complete_the_draw():
    """With test given by hand, undrawn instances go to train and val only; members follow."""
    given = [*units(4, split="test"), *units(20, "dog")]
    given[0] = Item(**{**vars(given[0]), "split": ""})  # its sketch still says test
    drawn = draw_splits(given, val=0.1, test=0.2, seed=0)
    assert all(i.split == "test" for i in drawn[:8])
    assert {i.split for i in drawn[8:]} == {"train", "val"}


def test_impossible_draws_are_one_line():
    """Leakage by hand and too few instances say what to change."""
    torn = [*units(1, split="train")[:1], *units(1, split="test")[1:], *units(5, "dog")]
    with pytest.raises(PrepareError, match="instance cat/0 is in two splits, test and train"):
        draw_splits(torn, val=0.1, test=0.2, seed=0)
    with pytest.raises(PrepareError, match="nothing is left for split val or test: 1 photo inst"):
        draw_splits(units(1), val=0.1, test=0.2, seed=0)
    both = [*units(3, split="train"), *units(3, "dog", split="test")]
    with pytest.raises(PrepareError, match="nothing is left for split val"):
        draw_splits(both, val=0.1, test=0.2, seed=0)


def test_a_split_without_sketches_is_readable(tmp_path):
    """Val with photos only: prepared, noted, and an empty side in the index."""
    rows = ["path,modality,label,instance_id,split"]
    for i, split in enumerate(("train", "train", "val", "test")):
        save(photo(i), tmp_path / f"p{i}.jpg")
        rows.append(f"p{i}.jpg,photo,cat,{i},{split}")
        if split != "val":
            save(sketch(i), tmp_path / f"s{i}.png")
            rows.append(f"s{i}.png,sketch,cat,{i},{split}")
    (tmp_path / "m.csv").write_text("\n".join(rows))
    dataset = prepare("folders", raw=tmp_path / "m.csv", data_dir=tmp_path / "data", quiet=True)
    assert report_of(dataset)["notes"] == ["split val has no sketch"]
    with np.load(dataset / "index.npz") as index:
        assert index["val/sketch/label"].shape == (0,) and index["val/photo/label"].shape == (1,)


def test_one_side_without_images_or_common_classes_is_refused(tmp_path):
    """Photos of cats and sketches of dogs cannot train a retrieval."""
    save(photo(1), tmp_path / "photo/cat/a.jpg")
    save(sketch(1), tmp_path / "sketch/dog/a.png")
    with pytest.raises(PrepareError, match="no class has both .* photos of cat; sketches of dog"):
        prepare("pacs", raw=tmp_path, data_dir=tmp_path / "data", quiet=True)
    (tmp_path / "photo/cat/a.jpg").unlink()
    with pytest.raises(PrepareError, match="no photo found"):
        prepare("pacs", raw=tmp_path, data_dir=tmp_path / "data", quiet=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dataset": "sketchi"}, "did you mean 'sketchy'"),
        ({"raw": None}, "--raw is missing"),
        ({"raw": "/nowhere"}, "--raw=/nowhere: no such file"),
        ({"name": "../x"}, "--name='../x'"),
        ({"on_error": "ignore"}, "valid: fail, skip"),
        ({"val": 0.0}, "--val=0.0: valid above 0"),
        ({"val": 0.5, "test": 0.5}, "together valid below 1"),
        ({"max_side": 4}, "--max_side=4: valid from 16"),
        ({"link": "name"}, "--link: no such option of pacs"),
    ],
)
def test_bad_arguments_are_one_line(raw, tmp_path, arguments, message):
    """Each bad argument names itself, its value and what is valid."""
    with pytest.raises(BadArgument, match=message) as caught:
        prepare(**{"dataset": "pacs", "raw": raw, "data_dir": tmp_path, "quiet": True, **arguments})
    assert "\n" not in str(caught.value)
