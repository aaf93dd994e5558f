"""Evaluating a dataset that follows a protocol: its metrics, its galleries, its row."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from data_prep_trees import photo, save, sketchy_tree
from front_door import ROOT, error_line, launch
from tiny import TINY, tiny_run

from data_prep.__main__ import main as data_prep
from data_prep.protocol import FOLDER, protocol_names
from sbir_jax import evaluator
from sbir_jax.embeddings import Embeddings
from sbir_jax.eval_config import EvalConfig
from sbir_jax.evaluate import evaluate_workdir
from sbir_jax.evaluator import Evaluator
from sbir_jax.measure import rank_all
from sbir_jax.ranking.summary import summarise
from sbir_jax.setting import ConfigError
from sbir_jax.within_class import rank_within

pytestmark = pytest.mark.usefixtures("small_model")

ABOUT = {
    "name": "some_split",
    "title": "Some split",
    "fingerprint": "f" * 64,
    "options": {"gallery": "listed"},
    "level": "category",
    "within_class": False,
    "metrics": "sake,category/mAP@200/hits",
    "unseen_classes": 2,
    "classes_held_out_for_validation": ["cow"],
    "counts_that_differ": [],
}


@pytest.fixture
def following(tiny_data, tmp_path):
    """Makes the tiny dataset remember a protocol; returns the run on it."""

    def make(**changes):
        shutil.copytree(tiny_data / TINY, tmp_path / "data" / TINY, dirs_exist_ok=True)
        path = tmp_path / "data" / TINY / "prepare_report.json"
        report = json.loads(path.read_text())
        path.write_text(json.dumps({**report, "protocol": {**ABOUT, **changes}}))
        return tiny_run(tmp_path / "data")

    return make


def untrained(run, workdir: Path, **options):
    return evaluate_workdir(workdir, checkpoint="none", split="test", run=run, **options)


def test_the_protocol_chooses_the_metrics_and_stays_in_the_results(following, tmp_path, capsys):
    """Its metrics are reported, with those asked for; results.json has the whole of it."""
    run = following(counts_that_differ=["test sketches: 20 here, 21 expected"])
    entry = untrained(run, tmp_path / "w", protocol="some_split")
    named = [name for name, of in entry["category"].items() if isinstance(of, dict)]
    assert named[:2] == ["mAP-voc@all", "mAP-voc@200/min"] and "mAP@200/hits" in named
    assert "instance" not in entry["levels"]
    stored = json.loads((tmp_path / "w/results.json").read_text())["test/none"]
    assert stored["protocol"]["fingerprint"] == "f" * 64
    out = capsys.readouterr().out
    assert "protocol some_split: Some split" in out and "gallery listed" in out
    value = 100 * entry["category"]["mAP-voc@all"]["value"]
    assert f"row: mAP-voc@all {value:.2f}" in out and "pessimistic ties" in out
    assert "1 counts are not the protocol's: test sketches: 20 here, 21 expected" in out


def test_without_the_flag_the_entry_still_names_the_protocol(following, tmp_path):
    """Standard metrics are reported then, and the protocol stands beside them."""
    entry = untrained(following(), tmp_path / "w")
    assert "P@1" in entry["category"] and entry["protocol"]["name"] == "some_split"


@pytest.mark.parametrize("own", ["some_split", "none"])
def test_another_protocol_is_refused_before_anything_is_embedded(
    following, tiny_data, tmp_path, monkeypatch, own
):
    """A dataset prepared for another protocol, or for none, is one line."""
    monkeypatch.setattr(evaluator, "decoded", lambda *args, **kwargs: pytest.fail("embedded"))
    run = following() if own == "some_split" else tiny_run(tiny_data)
    with pytest.raises(ConfigError, match=rf"^--protocol=other: dataset 'tiny' was .* for {own};"):
        untrained(run, tmp_path / "w", protocol="other")


def test_none_is_no_protocol_that_a_dataset_could_follow(tiny_data, tmp_path):
    """`--protocol=none` is refused as any other name is: it does not mean "without one"."""
    with pytest.raises(ConfigError, match=r"^--protocol=none: dataset 'tiny' was .* for none;"):
        untrained(tiny_run(tiny_data), tmp_path / "w", protocol="none")


def test_generalised_adds_all_seen_classes(following, tmp_path, monkeypatch):
    """With classes held out of the seen ones for validation, their photos are seen ones too."""
    embedded, embed = [], Evaluator.embed

    def note(self, split, side, *args):
        embedded.append((split, side))
        return embed(self, split, side, *args)

    monkeypatch.setattr(Evaluator, "embed", note)
    entry = untrained(following(), tmp_path / "w", protocol="some_split", generalised=True)
    assert embedded[2:] == [("train", "photo"), ("val", "photo")]
    assert (entry["category"]["gallery"], entry["generalised"]["gallery"]) == (10, 40)
    assert "mAP-voc@all" in entry["generalised"]
    run = following(classes_held_out_for_validation=[])
    entry = untrained(run, tmp_path / "w", generalised=True)
    assert entry["generalised"]["gallery"] == 30


def test_within_class_ranks_two_photos_for_each_sketch(following, tmp_path, capsys):
    """Two test photos a class: acc@1 has chance 1/2, and is at least that among all ten."""
    metrics = "within_class/acc@1,within_class/P@2,instance/acc@1"
    run = following(within_class=True, level="instance", metrics=metrics)
    entry = untrained(run, tmp_path / "w", protocol="some_split")
    found = entry["within_class"]
    assert (found["queries"], found["gallery"]) == (20, 2)
    assert found["acc@1"]["chance"] == pytest.approx(0.5)
    assert found["P@2"]["value"] == pytest.approx(0.5)  # one of two is always relevant
    assert found["acc@1"]["value"] >= entry["instance"]["acc@1"]["value"]
    assert "row: acc@1" in capsys.readouterr().out
    assert "within_class/acc@1" in (tmp_path / "w/evaluation/test_none/per_class.csv").read_text()


def test_within_class_equals_a_loop_over_sketches():
    """Against sorting each class's photos by hand, with classes of different sizes and none."""
    rng = np.random.default_rng(0)
    photo_label = np.repeat([0, 1, 2], [3, 5, 4])
    photos = Embeddings(rng.standard_normal((12, 4)).astype(np.float32), photo_label,
                        np.arange(12), None)  # fmt: skip
    label = np.array([0, 1, 1, 2, 7])
    sketches = Embeddings(rng.standard_normal((5, 4)).astype(np.float32), label,
                          np.array([1, 4, 7, -1, 3]), None)  # fmt: skip

    def rank(*args):
        return rank_all(*args, EvalConfig())

    scores, largest = rank_within(sketches, photos, ("acc@2", "MRR"), rank)
    unit = [
        x.vectors / np.linalg.norm(x.vectors, axis=1, keepdims=True) for x in (sketches, photos)
    ]
    for i, (own, instance) in enumerate(zip(label, sketches.instances, strict=True)):
        rows = np.flatnonzero(photo_label == own)
        order = rows[np.argsort(-(unit[1][rows] @ unit[0][i]))]
        where = np.flatnonzero(order == instance)
        assert scores.relevant[i] == len(where)
        assert scores.metrics["MRR"][i] == pytest.approx(1 / (where[0] + 1) if len(where) else 0)
        assert scores.metrics["acc@2"][i] == (len(where) > 0 and where[0] < 2)
    assert scores.gallery_size == len(largest.vectors) == 5
    summary = summarise(scores)
    assert summary["queries"] == 3 and summary["queries_without_relevant"] == 2
    assert summary["acc@2"]["chance"] == pytest.approx((2 / 3 + 2 / 5 + 2 / 5) / 3)


def test_the_flag_reaches_the_evaluation_from_the_command_line(
    following, finished, tmp_path, capsys
):
    """`evaluate --protocol` on a finished run prints the row; a wrong one is one line."""
    run = following()
    workdir = shutil.copytree(finished[1], tmp_path / "copy")
    argv = ["evaluate", f"--workdir={workdir}", f"--config.data.dir={run.data.dir}"]
    assert launch.main([*argv, "--protocol=some_split"]) == 0
    out = capsys.readouterr().out
    assert "checkpoint best by category/mAP@all of the val split" in out
    line = error_line(capsys, *argv, "--protocol=other")
    assert "--protocol=other" in line and "some_split" in line


def test_a_run_is_measured_on_another_dataset_beside_its_own(finished, tiny_data, tmp_path, capsys):
    """--dataset reads another prepared dataset; what is written is named after it."""
    shutil.copytree(tiny_data / TINY, tmp_path / "data/other")
    shutil.copytree(tiny_data / TINY, tmp_path / "data" / TINY)
    workdir = Path(shutil.copytree(finished[1], tmp_path / "copy"))
    argv = ["evaluate", f"--workdir={workdir}", f"--config.data.dir={tmp_path / 'data'}"]
    for more in ([], ["--dataset=other"]):
        assert launch.main([*argv, *more]) == 0
    stored = json.loads((workdir / "results.json").read_text())
    assert {name: entry["dataset"] for name, entry in stored.items()} == {
        "test/best": TINY,
        "other_test/best": "other",
    }
    assert stored["test/best"]["category"] == stored["other_test/best"]["category"]
    assert (workdir / "evaluation/other_test_best/scores.npz").exists()
    capsys.readouterr()
    assert launch.main([*argv, "--dataset=othr"]) == 1
    assert "no prepared dataset of that name" in capsys.readouterr().err


def test_from_an_archive_to_the_row(tmp_path, capsys):
    """Prepare, doctor, train and evaluate, as docs/protocols.md says, on a small archive."""
    classes = [f"class_{c}" for c in range(10)]
    render = "tx_000000000000"
    raw = sketchy_tree(tmp_path / "raw", photos=f"photo/{render}", sketches=f"sketch/{render}",
                       classes=classes, instances=4)  # fmt: skip
    for c, label in enumerate(classes):
        for i in range(4):
            save(photo(7000 + 10 * c + i), raw / f"EXTEND_image_sketchy/{label}/ext_{i}.jpg")
    values = json.loads((FOLDER / "sketchy_ext_split2_yelamarthi.json").read_text())
    values |= {"name": "small", "unseen": ["class 8", "class-9"], "seen": classes[:8]}
    values["counts"] |= {"queries": 16, "seen_sketches": 60, "held_back_sketches": 4}
    values["counts"] |= {"gallery": {"listed": 16, "distinct": 16, "extended": 8}, "per_class": {}}
    values["counts"]["seen_photos"]["listed"] = 64
    (tmp_path / "small.json").write_text(json.dumps(values))
    data, workdir = f"--data_dir={tmp_path / 'data'}", f"--workdir={tmp_path / 'run'}"
    assert (
        data_prep(["sketchy_ext", f"--raw={raw}", data, f"--protocol={tmp_path}/small.json"]) == 0
    )
    assert launch.main(["doctor", data]) == 0
    assert "protocols that can run: small (small)" in capsys.readouterr().out
    small = {
        "data.name": "small", "data.dir": tmp_path / "data", "data.image_size": 32,
        "data.load_size": 36, "data.batch_size": 8, "data.per_class": 2, "model.embed_dim": 8,
        "model.dtype": "float32", "train.duration": "2 steps", "train.eval_every": "1 steps",
    }  # fmt: skip
    config = [f"--config={ROOT / 'configs/zero_shot.py'}"]
    config += [f"--config.{name}={value}" for name, value in small.items()]
    assert launch.main(["train", workdir, *config]) == 0
    capsys.readouterr()
    assert launch.main(["evaluate", workdir, "--protocol=small", "--generalised"]) == 0
    out = capsys.readouterr().out
    assert "category: 16 queries, 16 in the gallery" in out
    assert "generalised: 16 queries, 80 in the gallery" in out
    assert "row: mAP-voc@all" in out and "mAP@200/hits" in out
    assert f"gallery listed, photo_render {render}" in out
    assert "checkpoint best by category/mAP@all of the val split" in out


def test_the_page_names_every_protocol():
    """docs/protocols.md has each protocol by its name, and no other with such a name."""
    page = (ROOT / "docs/protocols.md").read_text()
    for name in protocol_names():
        stem = name.removesuffix("_paper")
        assert f"`{stem}`" in page or stem in page, name
    named = set(re.findall(r"`((?:sketchy|tu_berlin|quickdraw|qmul|fs_coco)_\w+)`", page))
    assert named - {"sketchy_ext", "tu_berlin_ext", "quickdraw_ext"} <= set(protocol_names())
