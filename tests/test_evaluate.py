"""Evaluation against scikit-learn and embeddings made one by one, on one device and on eight."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from front_door import launch
from PIL import Image
from sklearn.metrics import average_precision_score
from tiny import TINY, metric_lines, small_backbone, stored, tiny_run, tiny_tree

from sbir_jax import evaluator, sharding
from sbir_jax.checkpoint_errors import CheckpointError
from sbir_jax.config import ConfigError
from sbir_jax.data import augment
from sbir_jax.data.source import open_dataset
from sbir_jax.evaluate import evaluate_workdir
from sbir_jax.evaluator import Evaluator
from sbir_jax.models import dual

pytestmark = pytest.mark.usefixtures("small_model")


@pytest.fixture(scope="module")
def parameters(finished):
    """(params, model_state) of the best checkpoint of the finished run, as nested dictionaries."""
    _, workdir = finished
    trees = {"params": {}, "model_state": {}}
    for path, value in stored(workdir, "best").items():
        item, *names, leaf = path.split("/")
        if item in trees:
            node = trees[item]
            for name in names:
                node = node.setdefault(int(name) if name.isdigit() else name, {})
            node[leaf] = value
    return trees["params"], trees["model_state"]


@pytest.fixture
def copy(finished, tmp_path):
    """(run, workdir) of the finished run, to add results to."""
    run, workdir = finished
    return run, Path(shutil.copytree(workdir, tmp_path / "copy"))


@pytest.fixture(scope="module")
def one_by_one(finished, parameters, tiny_data):
    """Embeddings of the test split, made one image at a time: {side: float32 [N, D]}."""
    run, _ = finished
    dataset = open_dataset(TINY, tiny_data)
    with small_backbone():
        graphdef = dual.define(run.model, image_size=32)

    @jax.jit
    def both(sketch, photo):
        views = augment.resize(sketch, 32), augment.resize(photo, 32)
        return [
            dual.apply_embed(graphdef, *parameters, view, side)
            for side, view in zip(dual.MODALITIES, views, strict=True)
        ]

    sides = [
        dataset.images("test", side).load(range(n), size=36, fit="pad")
        for side, n in (("sketch", 20), ("photo", 10))
    ]
    pairs = [both(sides[0][i : i + 1], sides[1][i % 10 : i % 10 + 1]) for i in range(20)]
    sketches = np.concatenate([sketch for sketch, _ in pairs])
    return {"sketch": sketches, "photo": np.concatenate([photo for _, photo in pairs[:10]])}


@pytest.mark.parametrize(("batch", "devices"), [(16, 8), (7, 1), (64, 8)])
def test_the_last_batch_is_padded_and_never_counted(
    finished, parameters, one_by_one, tiny_data, batch, devices
):
    """20 sketches in batches of 16, 7 or 64 give 20 embeddings, those of each sketch alone."""
    run, _ = finished
    run = dataclasses.replace(run, eval=dataclasses.replace(run.eval, batch_size=batch))
    mesh = sharding.make_mesh(jax.devices()[:devices])
    evaluator = Evaluator(
        run, open_dataset(TINY, tiny_data), dual.define(run.model, image_size=32), mesh
    )
    found = evaluator.embed("test", "sketch", *sharding.put_copy(mesh, parameters)).vectors
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, one_by_one["sketch"], atol=2e-6)


def reference(one_by_one, dataset) -> dict[str, float]:
    """The metrics by scikit-learn and by a loop over sorted distances."""
    similarity = one_by_one["sketch"].astype(np.float64) @ one_by_one["photo"].T
    sketch, photo = (dataset.index("test", side) for side in ("sketch", "photo"))
    precisions, first, reciprocal, recall_1, recall_5 = [], [], [], [], []
    for i, row in enumerate(similarity):
        relevant = photo.label == sketch.label[i]
        precisions.append(average_precision_score(relevant, row))
        order = np.argsort(-row)
        first.append(relevant[order[0]])
        position = int(np.flatnonzero(photo.instance[order] == sketch.instance[i])[0])
        reciprocal.append(1 / (position + 1))
        recall_1.append(position < 1)
        recall_5.append(position < 5)
    return {
        "category/mAP@all": np.mean(precisions),
        "category/P@1": np.mean(first),
        "instance/MRR": np.mean(reciprocal),
        "instance/acc@1": np.mean(recall_1),
        "instance/acc@5": np.mean(recall_5),
    }


@pytest.mark.parametrize("devices", [1, 8])
def test_metrics_equal_scikit_learn_on_independent_embeddings(copy, one_by_one, devices):
    """The evaluation of a workdir gives scikit-learn's mAP and a plain loop's recall and MRR."""
    run, workdir = copy
    mesh = sharding.make_mesh(jax.devices()[:devices])
    entry = evaluate_workdir(workdir, checkpoint="best", split="test", run=run, mesh=mesh)
    dataset = open_dataset(TINY, run.data.dir)
    for name, value in reference(one_by_one, dataset).items():
        level, _, metric = name.partition("/")
        assert entry[level][metric]["value"] == pytest.approx(value, abs=1e-6), name
    assert (entry["category"]["queries"], entry["category"]["gallery"]) == (20, 10)
    assert entry["dataset_fingerprint"] == dataset.fingerprint
    assert entry["devices"] == devices
    for name in ("images_per_s", "queries_per_s"):
        assert entry["time"][name] > 0


def test_chance_is_beside_every_value(copy):
    """Two of ten photos are relevant by category and one by instance: P@1 is 0.2, acc@5 0.5."""
    run, workdir = copy
    entry = evaluate_workdir(workdir, checkpoint="best", split="test", run=run)
    assert entry["category"]["P@1"]["chance"] == pytest.approx(0.2)
    assert entry["instance"]["acc@5"]["chance"] == pytest.approx(0.5)
    harmonic = sum(1 / rank for rank in range(1, 11)) / 10
    assert entry["instance"]["MRR"]["chance"] == pytest.approx(harmonic)


def test_validation_while_training_is_the_evaluation_of_that_step(copy):
    """What `train` logged for its last step is what `evaluate --split=val` says, to the bit."""
    run, workdir = copy
    mesh = sharding.make_mesh(jax.devices()[:1])
    entry = evaluate_workdir(workdir, checkpoint="latest", split="val", run=run, mesh=mesh)
    (logged,) = (x for x in metric_lines(workdir) if (x["kind"], x["step"]) == ("val", 6))
    scores = {name: value for name, value in logged.items() if "/" in name}
    assert {"category/mAP@all", "category/P@1", "instance/acc@1", "instance/MRR"} <= scores.keys()
    for name, value in scores.items():
        level, _, metric = name.partition("/")
        assert entry[level][metric]["value"] == value, name


def test_results_of_every_checkpoint_stand_side_by_side(copy, capfd):
    """best, latest, a step number and none each add an entry; the untrained one is the seed's."""
    run, workdir = copy
    entries = {
        checkpoint: evaluate_workdir(workdir, checkpoint=checkpoint, split="test", run=run)
        for checkpoint in ("best", "latest", "6", "none")
    }
    printed = capfd.readouterr().out
    results = json.loads((workdir / "results.json").read_text())
    assert list(results) == ["test/best", "test/latest", "test/6", "test/none"]
    assert results == {f"test/{name}": entry for name, entry in entries.items()}
    assert entries["latest"]["step"] == entries["6"]["step"] == 6
    assert entries["latest"]["category"] == entries["6"]["category"]
    assert entries["none"]["step"] == 0
    assert entries["none"]["category"] != entries["latest"]["category"]
    assert "untrained" in printed
    assert f"{entries['best']['category']['mAP@all']['value']:.4f}" in printed
    again = evaluate_workdir(workdir, checkpoint="best", split="test", run=run)
    assert {**again, "time": 0} == {**entries["best"], "time": 0}


def test_the_untrained_baseline_needs_no_run(tiny_data, tmp_path):
    """checkpoint=none works in a workdir that does not exist yet."""
    run = tiny_run(tiny_data)
    entry = evaluate_workdir(tmp_path / "new", checkpoint="none", split="test", run=run)
    assert entry["category"]["queries"] == 20
    assert (tmp_path / "new/results.json").exists()


def test_the_picture_shows_eight_queries_and_their_photos(copy):
    """retrievals.png has room for 8 rows of a sketch and ten 128-px photos."""
    run, workdir = copy
    evaluate_workdir(workdir, checkpoint="best", split="test", run=run)
    with Image.open(workdir / "evaluation/test_best/retrievals.png") as picture:
        width, height = picture.size
        colours = len(np.unique(np.asarray(picture).reshape(-1, 3), axis=0))
    assert 11 * 128 < width < 2 * 11 * 128
    assert 8 * 128 < height < 2 * 8 * 128
    assert colours > 100


def test_files_of_one_evaluation_stand_in_its_own_folder(copy):
    """evaluation/test_best has tables, curves, scores and a picture; --trec has its own files."""
    run, workdir = copy
    trec = workdir / "trec"
    evaluate_workdir(workdir, checkpoint="best", split="test", run=run, trec=trec, trec_depth=3)
    counts = {path.name: len(path.read_text().splitlines()) for path in trec.iterdir()}
    assert counts == {"run.txt": 20 * 3, "qrels.txt": 20 * 2, "qrels_instance.txt": 20}
    folder = workdir / "evaluation/test_best"
    names = {"per_class.csv", "curves.csv", "scores.npz", "retrieved.npz", "retrievals.png"}
    assert {path.name for path in folder.iterdir()} == names
    with (folder / "per_class.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == ["ant", "bee", "cow", "dog", "elk"]
    assert {(row["category/queries"], row["instance/queries"]) for row in rows} == {("4", "4")}


def test_generalised_retrieval_also_searches_the_training_photos(
    copy, one_by_one, parameters, monkeypatch
):
    """mAP among test and training photos is scikit-learn's, and each image is embedded once."""
    run, workdir = copy
    mesh, embedded = sharding.make_mesh(jax.devices()[:1]), []

    def counting(evaluator, *args, embed=Evaluator.embed):
        embedded.append(args[:2])
        return embed(evaluator, *args)

    monkeypatch.setattr(Evaluator, "embed", counting)
    options = {"checkpoint": "best", "split": "test", "run": run, "mesh": mesh}
    entry = evaluate_workdir(workdir, generalised=True, **options)
    assert sorted(embedded) == [("test", "photo"), ("test", "sketch"), ("train", "photo")]
    dataset = open_dataset(TINY, run.data.dir)
    evaluator = Evaluator(run, dataset, dual.define(run.model, image_size=32), mesh)
    seen = evaluator.embed("train", "photo", *sharding.put_copy(mesh, parameters)).vectors
    photos = np.concatenate([one_by_one["photo"], seen]).astype(np.float64)
    labels = np.concatenate([dataset.index(of, "photo").label for of in ("test", "train")])
    relevant = labels == dataset.index("test", "sketch").label[:, None]
    similarity = one_by_one["sketch"] @ photos.T
    expected = np.mean(list(map(average_precision_score, relevant, similarity)))
    assert entry["generalised"]["mAP@all"]["value"] == pytest.approx(expected, abs=1e-6)
    assert (entry["category"]["gallery"], entry["generalised"]["gallery"]) == (10, 30)
    alone = evaluate_workdir(workdir, **options)
    assert alone["category"] == entry["category"]
    assert alone["instance"] == entry["instance"]


def test_metrics_are_chosen_by_name(copy):
    """config.eval.metrics says what is in the entry, a preset at its own level, each defined."""
    run, workdir = copy
    settings = dataclasses.replace(run.eval, metrics="sake, instance/acc@3, nDCG@5")
    run = dataclasses.replace(run, eval=settings)
    entry = evaluate_workdir(workdir, checkpoint="best", split="test", run=run)
    named = {
        level: {name for name, of in entry[level].items() if isinstance(of, dict)}
        for level in ("category", "instance")
    }
    assert named["instance"] == {"acc@3", "nDCG@5"}
    assert {"mAP-voc@all", "P@100/min-N", "nDCG@5"} <= named["category"]
    assert set(entry["definitions"]) == named["category"] | named["instance"]


def test_metrics_that_cannot_be_measured_are_refused_before_anything_is_embedded(copy, monkeypatch):
    """Expected ties have no closed form of the precision envelope: one line, no image decoded."""
    run, workdir = copy
    monkeypatch.setattr(evaluator, "decoded", lambda *args, **kwargs: pytest.fail("embedded"))
    settings = dataclasses.replace(run.eval, metrics="sake", ties="expected")
    with pytest.raises(ConfigError, match=r"^config.eval.metrics='sake': .*mAP-voc@all"):
        evaluate_workdir(
            workdir, checkpoint="best", split="test", run=dataclasses.replace(run, eval=settings)
        )


def test_evaluations_of_runs_can_be_compared(copy, capsys):
    """The trained run against itself untrained, by the folders of the two evaluations."""
    run, workdir = copy
    entries = [
        evaluate_workdir(workdir, checkpoint=checkpoint, split="test", run=run)["category"]
        for checkpoint in ("none", "best")
    ]
    pair = ",".join(str(workdir / f"evaluation/test_{name}") for name in ("none", "best"))
    assert launch.main(["evaluate", f"--compare={pair}", f"--out={workdir}"]) == 0
    found = json.loads((workdir / "comparison.json").read_text())["category"]["mAP@all"]
    values = [entry["mAP@all"]["value"] for entry in entries]
    assert (found["a"], found["b"]) == pytest.approx(values)
    assert launch.main(["evaluate", f"--compare={workdir},{workdir}"]) == 0
    assert "+0.0000" in capsys.readouterr().out


def test_a_checkpoint_of_another_model_names_the_arrays(copy):
    """Evaluating with another embedding size is one line, not a shape error from inside."""
    run, workdir = copy
    other = dataclasses.replace(run, model=dataclasses.replace(run.model, embed_dim=4))
    with pytest.raises(CheckpointError, match=r"out/kernel is \(8, 8\), expected \(8, 4\)"):
        evaluate_workdir(workdir, checkpoint="best", split="test", run=other)


def test_a_workdir_without_checkpoints_is_one_line(tiny_data, tmp_path):
    """There is nothing to evaluate before a checkpoint exists."""
    with pytest.raises(CheckpointError, match="holds no checkpoints"):
        evaluate_workdir(tmp_path, checkpoint="best", split="test", run=tiny_run(tiny_data))


def test_a_split_without_photos_is_one_line(tmp_path):
    """A split with an empty side is refused by name before anything is embedded."""
    from data_prep.prepare import prepare

    raw = tiny_tree(tmp_path / "raw")
    rows = ["path,modality,label,instance_id,split"]
    for path in sorted(raw.rglob("*.png")):
        modality = "photo" if "photos" in path.parts else "sketch"
        split = {"p0-1": "test", "p1": "val", "p1-1": "val"}.get(path.stem, "train")
        rows.append(f"{path.relative_to(raw)},{modality},{path.parent.name},,{split}")
    (raw / "all.csv").write_text("\n".join(rows) + "\n")
    prepare("folders", raw=raw / "all.csv", data_dir=tmp_path, name=TINY, quiet=True)
    with pytest.raises(ConfigError, match=r"^--split=test: no photo in this split of 'tiny'$"):
        evaluate_workdir(tmp_path, checkpoint="none", split="test", run=tiny_run(tmp_path))
