"""`launch.py doctor` finds what was broken, and nothing else; its exit code tells."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from data_prep_trees import photo, save, sketch, sketchy_tree
from front_door import launch
from PIL import Image

from data_prep.doctor import data_findings
from data_prep.prepare import prepare


@pytest.fixture(scope="module")
def healthy(tmp_path_factory) -> Path:
    data = tmp_path_factory.mktemp("healthy")
    prepare("pacs", raw=sketchy_tree(data / "raw"), data_dir=data / "data", quiet=True)
    return data / "data"


@pytest.fixture
def data(healthy, tmp_path) -> Path:
    return Path(shutil.copytree(healthy, tmp_path / "data"))


def problems(data_dir: Path, protocol: str = "") -> list[str]:
    return [f.text for f in data_findings(data_dir, protocol) if f.kind == "problem"]


def notes(data_dir: Path) -> str:
    return "\n".join(f.text for f in data_findings(data_dir) if f.kind == "note")


def test_a_healthy_dataset_has_no_problem(data):
    """Counts, sizes and memory are told: 10 photos and 20 sketches of 256 x 256 are 3.3 MB."""
    text = "\n".join(map(str, data_findings(data)))
    assert problems(data) == [] and notes(data) == ""
    assert "2 classes; 6/2/2 photo images, 12/4/4 sketch images" in text
    expected = (10 * 3 + 20) * 256 * 256 / 1e9
    assert f"{expected:.2f} GB in memory" in text and "GB free" in text


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda d: (d / "pacs/index.npz").write_bytes(b"x"), ["pacs: damaged"]),
        (lambda d: (d / "pacs/prepare_report.json").write_text("{"), ["pacs: damaged"]),
        (
            lambda d: (d / "pacs/prepare_report.json").write_text('{"fingerprint": "1"}'),
            ["prepare_report.json: has no 'totals'"],
        ),
        (lambda d: shutil.rmtree(d / "pacs/photo/1.0.0"), ["pacs"]),
        (lambda d: [p.write_bytes(b"") for p in d.glob("pacs/sketch/1.0.0/*test*")], ["sketch"]),
        (lambda d: shutil.rmtree(d / "pacs"), ["no prepared dataset"]),
        (lambda d: shutil.rmtree(d), ["no such directory"]),
    ],
    ids=["index", "report", "old report", "side", "shard", "dataset", "directory"],
)
def test_damage_is_a_problem(data, damage, words):
    """A broken or absent index, report, side, shard, dataset or directory is named."""
    damage(data)
    (found,) = problems(data)
    assert all(word in found for word in words)


def test_an_index_of_another_length_is_a_problem(data):
    """Index, records and report have to hold equally many images."""
    path = data / "pacs/index.npz"
    with np.load(path) as arrays:
        arrays = dict(arrays)
    for key in ("label", "instance"):
        arrays[f"val/photo/{key}"] = arrays[f"val/photo/{key}"][:1]
    np.savez(path, **arrays)
    assert problems(data) == [
        f"{data}/pacs: val has 2 photo records, 1 in the index, 2 in the report; prepare it again"
    ]


def test_what_preparation_noted_is_told(tmp_path):
    """Duplicates, blanks, one-sided classes are notes; leakage and inverted sketches problems."""
    raw = sketchy_tree(tmp_path / "raw", instances=4)
    twin = (raw / "photo/cat/n00000000_0.jpg").read_bytes()
    for i in range(12):
        (raw / f"photo/dog/twin{i}.jpg").write_bytes(twin)
    save(photo(9001), raw / "photo/yak/1.jpg")
    save(Image.new("L", (50, 50), 255), raw / "sketch/cat/100.png")
    prepare("pacs", raw=raw, data_dir=tmp_path / "d", quiet=True)
    told = notes(tmp_path / "d")
    for words in ("1 groups of identical files", "1 blank sketches", "1 classes with photos or"):
        assert words in told
    (found,) = problems(tmp_path / "d")
    assert "1 images are in two splits: " in found

    inverted = tmp_path / "inverted"
    for i in range(6):
        save(photo(i), inverted / f"photo/cat/{i}.jpg")
        white = np.asarray(sketch(i).convert("L"))
        save(Image.fromarray(255 - white), inverted / f"sketch/cat/{i}.png")
    prepare("pacs", raw=inverted, data_dir=tmp_path / "e", quiet=True)
    assert any("most sketches are white on black" in text for text in problems(tmp_path / "e"))


def test_a_preparation_that_was_killed_is_noted(data):
    """What it left is named, and is no problem."""
    (data / ".pacs.partial-123").mkdir()
    assert "left by a preparation that was killed" in notes(data) and problems(data) == []


def followed(data: Path, **changes) -> None:
    """Lets the dataset remember split 2, with changes."""
    from data_prep.protocol import load_protocol

    protocol = load_protocol("sketchy_ext_split2_yelamarthi")
    options = dict(protocol.options)
    about = {
        "name": protocol.name,
        "fingerprint": protocol.fingerprint(options),
        "options": options,
        "counts_that_differ": [],
        "classes_held_out_for_validation": ["ant"],
    }
    path = data / "pacs/prepare_report.json"
    report = json.loads(path.read_text())
    path.write_text(json.dumps({**report, "protocol": {**about, **changes}}))


def test_protocols_that_can_run_are_told_and_absent_ones_are_a_problem(data):
    """A dataset prepared for a protocol makes it run; another one asked for is missing."""
    split2 = "sketchy_ext_split2_yelamarthi"
    (found,) = problems(data, split2)
    assert f"data_prep sketchy_ext --protocol={split2}" in found
    followed(data)
    text = "\n".join(map(str, data_findings(data, split2)))
    assert problems(data, split2) == []
    assert f"protocols that can run: {split2} (pacs)" in text
    assert "1 seen classes are held out" in text
    followed(data, counts_that_differ=["test photos (listed): 1 here, 2 expected"])
    (found,) = problems(data)
    assert "test photos (listed): 1 here, 2 expected" in found
    followed(data, fingerprint="0" * 64)
    (found,) = problems(data)
    assert "has changed since it was prepared" in found


def test_the_verb_looks_at_data_and_machine_and_its_exit_code_tells(data, capsys):
    """Healthy data is 0, with devices and versions; a problem is 1; a wrong protocol is 2."""
    assert launch.main(["doctor", f"--data_dir={data}"]) == 0
    out = capsys.readouterr().out
    for words in (
        "Python 3.",
        "jax ",
        "devices of JAX: 8 x cpu",
        "compiled and ran in",
        "data/pacs: 2 classes",
    ):
        assert words in out
    (data / "pacs/index.npz").unlink()
    assert launch.main(["doctor", f"--data_dir={data}"]) == 1
    captured = capsys.readouterr()
    assert captured.err == "launch.py: 1 problem found\n" and "problem  " in captured.out
    assert launch.main(["doctor", f"--data_dir={data}", "--protocol=sketchi"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
