"""Datasets and paths that are not the usual ones: names of any script, one class, ten thousand."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import time
import tracemalloc
import unicodedata
from pathlib import Path

import jax
import numpy as np
import pytest
from data_prep_trees import photo, save, sketch
from doc_reader import cheaply
from front_door import launch
from tiny import small_backbone, tiny_run, tiny_tree

import data_prep.__main__ as preparation
from data_prep.prepare import prepare
from sbir_jax import results, sharding
from sbir_jax.config import ConfigError
from sbir_jax.data.sampling import make_sampler
from sbir_jax.data.source import SplitIndex, open_dataset
from sbir_jax.embeddings import Embeddings
from sbir_jax.evaluate import evaluate_workdir
from sbir_jax.measure import measure
from sbir_jax.ranking.relevance import by_ids
from sbir_jax.report import classes
from sbir_jax.retrieved import DEPTH, read_retrieved, retrieved, write_retrieved
from sbir_jax.train import train

BRIEF = {
    "image_size": 32, "load_size": 36, "batch_size": 8,
}  # fmt: skip


@contextlib.contextmanager
def one_device():
    """The small backbone on one device, as the other tests compile it."""
    make = sharding.make_mesh
    with pytest.MonkeyPatch.context() as patch, small_backbone():
        patch.setattr(sharding, "make_mesh", lambda of=None: make(of or jax.devices()[:1]))
        yield


# Paths


def test_names_of_any_script_with_spaces_go_the_whole_way(tmp_path, capsys, monkeypatch):
    """Folders to dataset to run to report to index to search, where every path and class has
    spaces, letters beyond ASCII, quotes and an emoji; a name stays as it is to the last line."""
    here = tmp_path / 'Müller\'s photos – été 照片 "x" 🐈'
    raw, data, run = here / "roh daten", here / "prepared data", here / "runs/lauf 1 ü"
    classes = ("chat roux", "Hündin & co", "鳥 <b>", "d%20e", "#1 $HOME")
    for c, label in enumerate(classes):
        for i in range(8):
            save(photo(100 * c + i, size=(36, 36)), raw / f"photos/{label}/bild {i} é.png")
            for k in (1, 2):
                picture = sketch(1000 * c + 10 * i + k, size=(36, 36))
                save(picture, raw / f"sketches/{label}/bild {i} é-{k}.png")
    # The same letters, composed on one side and decomposed on the other, as macOS hands them out.
    sides = [raw / f"sketches/{unicodedata.normalize(form, classes[1])}" for form in ("NFC", "NFD")]
    sides[0].rename(sides[1])
    arguments = [f"--raw={raw}", f"--data_dir={data}", "--name=été", "--val=0.25", "--test=0.25"]
    assert preparation.main(["folders", *arguments]) == 0
    assert set(open_dataset("été", data).classes) == set(classes)
    settings = {f"data.{name}": value for name, value in BRIEF.items()} | {
        "data.name": "été", "data.dir": data, "model.width": 8, "model.embed_dim": 8,
        "optim.warmup": "2 steps", "train.duration": "6 steps", "train.log_every": "1 steps",
        "train.eval_every": "6 steps", "eval.batch_size": 16,
    }  # fmt: skip
    overrides = [f"--config.{name}={value}" for name, value in settings.items()]
    config = here / "mein config.py"
    config.write_text("from sbir_jax.config import default_config as get_config\n")
    workdir, index, grid = f"--workdir={run}", here / "der index", here / "ergebnis é.png"
    query = raw / f"sketches/{classes[2]}/bild 0 é-1.png"
    with one_device():
        for words in (
            ["train", f"--config={config}", workdir, "--no_report", *overrides],
            ["evaluate", workdir, f"--trec={here / 'trec é'}"],
            ["report", workdir],
            ["index", workdir, f"--photos={raw / 'photos'}", f"--out={index}"],
        ):
            assert launch.main(words) == 0, capsys.readouterr().err
        capsys.readouterr()
        search = ["search", f"--index={index}", "--json", f"--out={grid}", str(query)]
        assert launch.main(search) == 0
    [found] = json.loads(capsys.readouterr().out)
    assert {row["file"] for row in found["results"]} <= {str(p) for p in raw.rglob("*.png")}
    assert len(found["results"]) == 20 and grid.stat().st_size > 0
    page = (run / "report/index.html").read_text(encoding="utf-8")
    assert "鳥 &lt;b&gt;" in page and "Hündin &amp; co" in page and "鳥 <b>" not in page
    rows = (run / "evaluation/test_best/per_class.csv").read_text(encoding="utf-8").splitlines()
    assert {row.partition(",")[0] for row in rows[1:]} == set(classes)


@pytest.mark.skipif(os.name != "posix", reason="names are text there")
def test_a_name_that_is_no_text_is_one_line(tmp_path, finished, capsys):
    """Bytes that are not UTF-8: preparation names the file, indexing lists it and goes on."""
    raw = tiny_tree(tmp_path / "raw")
    photos = raw / "photos/ant"
    os.rename(photos / "p0.png", os.fsencode(photos) + b"/caf\xe9.png")
    arguments = ["folders", f"--raw={raw}", f"--data_dir={tmp_path / 'data'}", "--name=x"]
    assert preparation.main(arguments) == 1
    told = capsys.readouterr().err
    assert told == f"data_prep: {photos}/caf\\xe9.png: its name is not UTF-8; give it another\n"
    with one_device():
        code = launch.main(
            ["index", f"--workdir={finished[1]}", f"--photos={photos}", f"--out={tmp_path / 'i'}"]
        )
    assert code == 0
    shown = capsys.readouterr().out
    assert f"not indexed: {photos}/caf\\xe9.png: its name is not UTF-8\n" in shown
    assert "7 photos (7 embedded now, 0 removed), 1 files left out" in shown


# Classes and splits


@pytest.fixture(scope="module")
def one_class(tmp_path_factory):
    """Directory with the dataset `tiny` of one class: 16 photos and 32 sketches, linked by name."""
    raw, data = tmp_path_factory.mktemp("raw"), tmp_path_factory.mktemp("one")
    for i in range(32):
        save(photo(i, size=(36, 36)), raw / f"photos/{i}.png")
        for k in (1, 2):
            save(sketch(10 * i + k, size=(36, 36)), raw / f"sketches/{i}-{k}.png")
    prepare("folders", raw=raw, data_dir=data, name="tiny", val=0.25, test=0.25, quiet=True)
    return data


def test_one_class_is_refused_where_nothing_is_a_negative(one_class, tmp_path, mesh):
    """The line names the setting, the class and the way out; nothing is written."""
    words = (
        "config.loss.match='class': the training split of 'tiny' has one class with sketches and "
        "photos, 'object', so nothing is a negative; use 'instance' (32 of its 32 sketches name "
        "their photo)"
    )
    with small_backbone(), pytest.raises(ConfigError) as caught:
        train(tiny_run(one_class), tmp_path / "run", mesh=mesh)
    assert str(caught.value) == words
    assert not (tmp_path / "run").exists()


def test_one_class_is_trained_and_measured_by_instance(one_class, tmp_path, mesh):
    """By hand: every photo is of a sketch's class, so mAP and its chance are 1 by category; by
    instance 8 photos stand against each other, and chance of the first is 1/8."""
    run = tiny_run(
        one_class,
        {
            "loss.match": "instance", "data.sampler": "instances", "train.duration": "2 steps",
            "eval.metric": "instance/acc@1",
        },
    )  # fmt: skip
    with cheaply():
        train(run, tmp_path, mesh=mesh)
        entry = evaluate_workdir(
            tmp_path, checkpoint="best", split="test", run=run, mesh=mesh, quiet=True
        )
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert all(line["health/valid_anchors"] == 1 for line in lines if "loss" in line)
    assert entry["category"]["mAP@all"]["value"] == entry["category"]["mAP@all"]["chance"] == 1
    assert entry["instance"]["acc@1"]["chance"] == pytest.approx(1 / 8)


@pytest.mark.parametrize("empty", ["val", "test", "train"])
def test_an_empty_split_is_one_line(tmp_path, mesh, capsys, empty):
    """Splits given by hand: what stays empty is drawn, and what cannot be is named."""
    raw = tiny_tree(tmp_path / "raw")
    rows = ["path,modality,label,instance_id,split"]
    for path in sorted(raw.rglob("*.png")):
        modality = "photo" if "photos" in path.parts else "sketch"
        number = int(path.stem[1])
        split = [s for s in ("train", "val", "test") if s != empty][number % 2]
        rows.append(f"{path.relative_to(raw)},{modality},{path.parent.name},{number},{split}")
    (raw / "all.csv").write_text("\n".join(rows) + "\n")
    arguments = [f"--raw={raw / 'all.csv'}", f"--data_dir={tmp_path}", "--name=tiny"]
    assert preparation.main(["folders", *arguments]) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"data_prep: nothing is left for split {empty}: 40 photo instances")
    assert told.count("\n") == 1


def test_a_split_with_one_side_only_is_one_line(tmp_path, mesh, capsys):
    """No sketches to validate with: training says so before it begins, evaluation too."""
    raw = tiny_tree(tmp_path / "raw")
    rows = ["path,modality,label,instance_id,split"]
    for path in sorted(raw.rglob("*.png")):
        modality = "photo" if "photos" in path.parts else "sketch"
        split = {"p0": "val", "p1": "test", "p1-1": "test"}.get(path.stem, "train")
        rows.append(f"{path.relative_to(raw)},{modality},{path.parent.name},,{split}")
    (raw / "all.csv").write_text("\n".join(rows) + "\n")
    prepare("folders", raw=raw / "all.csv", data_dir=tmp_path, name="tiny", quiet=True)
    run = tiny_run(tmp_path)
    with small_backbone(), pytest.raises(ConfigError) as caught:
        train(run, tmp_path / "run", mesh=mesh)
    assert str(caught.value) == (
        "config.eval.metric='category/mAP@all': no sketch of the val split of 'tiny' has a "
        "relevant photo by category"
    )
    with pytest.raises(ConfigError, match=r"^--split=val: no sketch in this split of 'tiny'$"):
        evaluate_workdir(tmp_path, checkpoint="none", split="val", run=run)


NONE = SplitIndex(np.zeros(0, np.int64), np.zeros(0, np.int64))


@pytest.mark.parametrize("sampler", ["pairs", "instances", "classes", "confusable"])
def test_nothing_to_train_on_is_one_line(sampler):
    """A training split without images, as of a dataset that is for tests alone."""
    settings = dataclasses.replace(tiny_run(Path()).data, sampler=sampler)
    with pytest.raises(ConfigError, match=r"^config\.data\.batch_size=8: .* allows at most 0 "):
        make_sampler(settings, NONE, NONE, seed=0)


MANY = 10_000


def test_ten_thousand_classes_are_sampled_at_once():
    """Batches of as many classes as asked for, within a second; the sampler that would keep a
    table of 100 million cells says so."""
    side = SplitIndex(np.repeat(np.arange(MANY), 2), np.arange(2 * MANY))
    data = dataclasses.replace(tiny_run(Path()).data, batch_size=64, per_class=2)
    for sampler in ("pairs", "instances", "classes"):
        started = time.process_time()
        draw = make_sampler(dataclasses.replace(data, sampler=sampler), side, side, seed=0)
        rows = [draw(step) for step in range(20)]
        assert time.process_time() - started < 1
        for sketches, photos in rows:
            assert (side.label[sketches] == side.label[photos]).all()
    assert len(np.unique(side.label[rows[0][0]])) == 32
    with pytest.raises(ConfigError, match=r"valid up to 4,000 .* has 10,000: use 'classes'$"):
        make_sampler(dataclasses.replace(data, sampler="confusable"), side, side, seed=0)


def test_ten_thousand_classes_are_measured_and_reported_in_bounded_memory(copy, mesh, capsys):
    """1,000 queries of as many classes among 10,000 photos: the right one is first for 750 of
    them, by construction, and the report of it stays small, as does what it counts."""
    run, workdir = copy
    rng = np.random.default_rng(0)
    photos = rng.normal(size=(MANY, 16)).astype(np.float32)
    photos /= np.linalg.norm(photos, axis=1, keepdims=True)
    queries = photos[:1000].copy()
    queries[750:] *= -1  # the right photo is the farthest
    sides = [
        Embeddings(of, np.arange(len(of)), np.full(len(of), -1), None) for of in (queries, photos)
    ]
    names = np.array([f"class {c}" for c in range(MANY)])
    evaluation, nearest = measure(
        *sides,
        {"category": by_ids(*(side.labels for side in sides))},
        {"category": ("mAP@all", "P@1")},
        run.eval,
        classes=names[:1000],
        source="made",
        top=DEPTH,
        mesh=mesh,
    )
    assert evaluation.entry["category"]["P@1"]["value"] == 0.75
    expected = (750 + 250 / MANY) / 1000
    assert evaluation.entry["category"]["mAP@all"]["value"] == pytest.approx(expected, abs=1e-6)
    folder = results.folder_of(workdir, "test", "best")
    results.write_files(folder, evaluation)
    write_retrieved(folder / "retrieved.npz", retrieved(*sides, nearest, names))
    circumstances = {"dataset": "tiny", "dataset_fingerprint": "", "split": "test", "step": 6}
    entry = {**circumstances, "checkpoint": "best", **evaluation.entry}
    results.add_entry(workdir, entry, name="test/best")
    assert launch.main(["report", f"--workdir={workdir}"]) == 0, capsys.readouterr().err
    tracemalloc.start()
    try:
        confused = classes.confusion(read_retrieved(folder / "retrieved.npz"))
        table = confused.among(classes.squares_of(confused))
        errors = classes.most_confused(confused, MANY)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert table.shape == (20, 20) and sum(count for *_, count, _ in errors) == 250
    assert peak < 20 << 20  # a table of all pairs of classes would be 763 MiB
    page = (workdir / "report/index.html").read_text()
    assert len(page) < 3 << 20
    assert "The first 300 of 1,000 classes; all are in per_class.csv." in page
