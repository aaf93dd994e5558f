"""Preparing for a protocol fixes classes, gallery and counts, and the dataset remembers it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from data_prep_trees import photo, save, sketchy_tree

from data_prep.__main__ import main
from data_prep.items import BadArgument, PrepareError
from data_prep.prepare import prepare
from data_prep.protocol import FOLDER, load_protocol
from sbir_jax.data.source import open_dataset

CLASSES = ("ant", "bee", "cow", "hot-air_balloon", "tree_(old)")


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    """Five classes of two photos and four sketches; EXTEND has one of each two, and two more."""
    root = tmp_path_factory.mktemp("raw")
    sketchy_tree(
        root,
        photos="photo/tx_000000000000",
        sketches="sketch/tx_000000000000",
        classes=CLASSES,
        instances=2,
    )
    for c, label in enumerate(CLASSES):
        for i, name in enumerate((f"n{c:08d}_0", "ext_1", "ext_2")):
            save(photo(5000 + 10 * c + i), root / f"EXTEND_image_sketchy/{label}/{name}.jpg")
    return root


@pytest.fixture
def mine(tmp_path):
    """Writes a protocol of those classes: two unseen, spelled otherwise, and right counts."""

    def write(**changes) -> str:
        values = json.loads((FOLDER / "sketchy_ext_split2_yelamarthi.json").read_text())
        values |= {"name": "mine", "seen": ["ant", "bee", "cow"], "published": []}
        values["unseen"] = ["hot air balloon", "Tree (old)"]
        values["counts"] = {
            "queries": 8,
            "gallery": {"listed": 10, "distinct": 8, "extended": 6},
            "seen_sketches": 9,
            "held_back_sketches": 3,
            "seen_photos": {"listed": 15, "distinct": 12, "extended": None},
            "per_class": {
                name: {"queries": 4, "listed": 5, "distinct": 4} for name in values["unseen"]
            },
        }
        (tmp_path / "mine.json").write_text(json.dumps(values | changes))
        return str(tmp_path / "mine.json")

    return write


def ready(raw: Path, tmp_path: Path, protocol: str, **options):
    options = {"data_dir": tmp_path / "d", "val": 0.3, "quiet": True, **options}
    path = prepare("sketchy_ext", raw=raw, protocol=protocol, **options)
    return path, json.loads((path / "prepare_report.json").read_text())


@pytest.mark.parametrize(
    ("gallery", "tested", "seen"), [("listed", 10, 15), ("distinct", 8, 12), ("extended", 6, 9)]
)
def test_unseen_classes_are_the_test_and_counts_are_right(
    raw, mine, tmp_path, gallery, tested, seen
):
    """Classes found under other spellings are tested; whole seen classes validate; counts match."""
    _, report = ready(raw, tmp_path, mine(), gallery=gallery)
    where = {
        label: {split for split, n in sides["photo"].items() if n}
        for label, sides in report["counts"].items()
    }
    assert where["hot-air_balloon"] == where["tree_(old)"] == {"test"}
    assert sorted(map(tuple, (where["ant"], where["bee"], where["cow"]))) == [
        ("train",),
        ("train",),
        ("val",),
    ]
    photos = report["totals"]["photo"]
    assert (photos["test"], photos["train"] + photos["val"]) == (tested, seen)
    about = report["protocol"]
    assert about["name"] == "mine" and about["options"]["gallery"] == gallery
    assert about["counts_that_differ"] == []
    (held_out,) = about["classes_held_out_for_validation"]
    assert where[held_out] == {"val"}


def test_the_dataset_remembers_its_protocol_and_is_called_after_it(raw, mine, tmp_path):
    """Opened again, it says which protocol, with the fingerprint of the options used."""
    path, report = ready(raw, tmp_path, mine())
    assert path.name == "mine"
    dataset = open_dataset("mine", tmp_path / "d")
    assert dataset.protocol == report["protocol"]
    protocol = load_protocol(mine())
    assert dataset.protocol["fingerprint"] == protocol.fingerprint(dict(protocol.options))
    again, _ = ready(raw, tmp_path, mine())
    assert again == path
    with pytest.raises(PrepareError, match="holds other files or options"):
        ready(raw, tmp_path, mine(), gallery="distinct")


def test_other_counts_stop_and_are_listed(raw, mine, tmp_path):
    """Each number that differs is a line; nothing is written; noted, they stay with the dataset."""
    counts = json.loads(Path(mine()).read_text())["counts"]
    counts |= {"queries": 9, "seen_sketches": 8, "per_class": {}}
    with pytest.raises(PrepareError) as caught:
        ready(raw, tmp_path, mine(counts=counts))
    message = str(caught.value)
    assert "test sketches: 8 here, 9 expected" in message
    assert "sketches to train and validate on: 12 here, 11 expected" in message
    assert "2 counts differ" in message and not (tmp_path / "d/mine").exists()
    _, report = ready(raw, tmp_path, mine(counts=counts), on_counts="note")
    assert len(report["protocol"]["counts_that_differ"]) == 2
    assert report["notes"][-3:] == [
        "2 counts are not the protocol's:",
        "  test sketches: 8 here, 9 expected",
        "  sketches to train and validate on: 12 here, 11 expected",
    ]


def test_counts_of_single_classes_are_compared(raw, mine, tmp_path):
    """Two classes that swap a photo keep the totals, yet are noticed."""
    counts = json.loads(Path(mine()).read_text())["counts"]
    counts["per_class"]["hot air balloon"]["listed"] = 6
    counts["per_class"]["Tree (old)"]["listed"] = 4
    with pytest.raises(PrepareError, match=r"Tree \(old\), test photos \(listed\): 5 here, 4 exp"):
        ready(raw, tmp_path, mine(counts=counts))


def test_classes_that_are_missing_stop_and_others_are_left_out(raw, mine, tmp_path):
    """A class without images stops; a class that the protocol does not know is not used."""
    with pytest.raises(PrepareError, match="1 of its classes have no images: zebra"):
        ready(raw, tmp_path, mine(seen=["ant", "bee", "cow", "zebra"]))
    counts = json.loads(Path(mine()).read_text())["counts"]
    counts |= {"seen_sketches": 5, "seen_photos": {"listed": 10, "distinct": 8, "extended": None}}
    _, report = ready(raw, tmp_path, mine(seen=["ant", "bee"], counts=counts))
    assert "1 classes are not of it and left out: cow" in report["notes"]
    assert "cow" not in report["classes"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"protocol": "sketchy_original"}, "is of dataset sketchy, not sketchy_ext"),
        ({"protocol": "tu_berlin_doodle2search"}, "the list cannot be recovered"),
        ({"protocol": "clothes_v1"}, "not described in public"),
        ({"protocol": "nothing"}, "--protocol=nothing: valid"),
        ({"invalid": "drop"}, "--invalid=drop: --protocol=.* says keep"),
        ({"unseen": "ant"}, "names the unseen classes"),
        ({"on_counts": "ignore"}, "--on_counts='ignore': valid: fail, note"),
    ],
)
def test_what_does_not_go_with_the_protocol_is_one_line(raw, tmp_path, arguments, message):
    """Another dataset, a fixed option, and protocols that nobody can run are refused."""
    protocol = arguments.pop("protocol", "sketchy_ext_split2_yelamarthi")
    with pytest.raises(BadArgument, match=message) as caught:
        ready(raw, tmp_path, protocol, **arguments)
    assert "\n" not in str(caught.value)


def test_a_shipped_protocol_runs_on_a_tree_of_its_classes(tmp_path, capsys):
    """All 125 classes with an image each: split 1 tests its 25, and says that counts differ."""
    protocol = load_protocol("sketchy_ext_split1_shen")
    classes = (*protocol.seen, *protocol.unseen)
    options = {"instances": 1, "per_photo": 1, "classes": classes}
    sketchy_tree(tmp_path / "raw/256x256", photos="photo/tx_000000000000",
                 sketches="sketch/tx_000000000000", **options)  # fmt: skip
    for c, label in enumerate(classes):
        save(photo(c), tmp_path / f"raw/EXTEND_image_sketchy/{label}/n{c:08d}_0.jpg")
    argv = ["sketchy_ext", f"--raw={tmp_path / 'raw'}", f"--data_dir={tmp_path / 'd'}"]
    argv += ["--protocol=sketchy_ext_split1_shen"]
    assert main(argv) == 1
    assert "test sketches: 25 here, 15,229 expected" in capsys.readouterr().err
    assert main([*argv, "--on_counts=note"]) == 0
    dataset = open_dataset("sketchy_ext_split1_shen", tmp_path / "d")
    tested = {dataset.classes[label] for label in dataset.index("test", "photo").label}
    assert tested == set(protocol.unseen)
    assert len(dataset.index("test", "photo")) == 50 and len(dataset.index("test", "sketch")) == 25
    validated = {dataset.classes[label] for label in dataset.index("val", "sketch").label}
    assert len(validated) == 10 and validated < set(protocol.seen)


def test_the_instance_protocol_takes_the_test_list(tmp_path):
    """sketchy_original drops flagged sketches by name and tests the listed photos: 2 and 3 here."""
    values = json.loads((FOLDER / "sketchy_original.json").read_text())
    values |= {"name": "mine", "seen": ["cat", "dog"], "published": []}
    values["counts"] |= {"queries": 3, "gallery": {"listed": 2, "distinct": None, "extended": None}}
    values["counts"]["seen_photos"]["listed"] = 8
    (tmp_path / "mine.json").write_text(json.dumps(values))
    raw = sketchy_tree(tmp_path / "raw", photos="photo/tx_000000000000",
                       sketches="sketch/tx_000000000000")  # fmt: skip
    (raw / "testset.txt").write_text("cat/n00000000_3.jpg\ndog/n00000001_4.jpg\n")
    (raw / "invalid-pose.txt").write_text("dog/n00000001_4-1\n")
    path = prepare("sketchy", raw=raw, data_dir=tmp_path / "d", quiet=True,
                   protocol=str(tmp_path / "mine.json"))  # fmt: skip
    report = json.loads((path / "prepare_report.json").read_text())
    assert report["protocol"]["counts_that_differ"] == []
    assert report["protocol"]["classes_held_out_for_validation"] == []
    assert report["options"]["invalid"] == "drop"
    with pytest.raises(PrepareError, match="test sketches: 4 here, 3 expected"):
        (raw / "invalid-pose.txt").write_text("dog/n00000001_2-1\n")
        prepare("sketchy", raw=raw, data_dir=tmp_path / "e", quiet=True,
                protocol=str(tmp_path / "mine.json"))  # fmt: skip


def test_protocols_are_listed_and_told_about(capsys):
    """`data_prep protocols` has each with its title; with a name, its counts and published rows."""
    assert main(["protocols"]) == 0
    out = capsys.readouterr().out
    assert "sketchy_ext_split1_shen" in out and "cannot be run" in out
    assert main(["protocols", "quickdraw_ext"]) == 0
    out = capsys.readouterr().out
    assert "92,291 query sketches, 54,151 photos (listed)" in out and "SpLIP" in out
    assert main(["protocols", "quickdraw_extended"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
