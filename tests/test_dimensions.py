"""The dimension study, against a permutation of every tie, scikit-learn and a plain evaluation."""

from __future__ import annotations

import csv
import itertools
import json
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from sbir_jax import plots, sharding, sizes
from sbir_jax.config import resolve
from sbir_jax.dimensions import DimensionsError, dimensions_workdir
from sbir_jax.evaluator import Evaluator
from sbir_jax.overrides import stored_config
from sbir_jax.ranking.relevance import by_ids
from sbir_jax.sizes import study

MESH = sharding.make_mesh(jax.devices()[:1])
QUERIES, PHOTOS = [0, 1, 0], [0, 1, 0, 1, 1]


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def average_precision(relevant: np.ndarray) -> float:
    hits = np.flatnonzero(relevant)
    return float(np.mean([(i + 1) / (rank + 1) for i, rank in enumerate(hits)]))


def expected_map(distance: np.ndarray, relevant: np.ndarray) -> float:
    """mAP@all over every order of the gallery, so over every order of its ties."""
    found = []
    for order in itertools.permutations(range(distance.shape[1])):
        for d, r in zip(distance, relevant, strict=True):
            ranks = np.array(order)[np.argsort(d[list(order)], kind="stable")]
            found.append(average_precision(r[ranks]))
    return float(np.mean(found))


@pytest.fixture(scope="module")
def small():
    """Three queries, five photos of two classes in ten dimensions, and what PCA is fitted on."""
    rng = np.random.default_rng(0)
    labels = np.array(QUERIES), np.array(PHOTOS)
    spread = rng.standard_normal((10, 10)) * np.geomspace(1, 0.2, 10)
    centres = 0.6 * rng.standard_normal((2, 10))

    def draw(y):
        return unit(rng.standard_normal((len(y), 10)) @ spread + centres[y])

    train = draw(rng.integers(0, 2, 40))
    sides = [draw(y).astype(np.float32) for y in labels]
    return train.astype(np.float32), *sides, {"category": by_ids(*labels)}


def reduced(train, side, method: str, dim: int) -> np.ndarray:
    """A side cut to `dim` dimensions, by scikit-learn where it is PCA."""
    from sklearn.decomposition import PCA

    if method == "prefix":
        return unit(side[:, :dim])
    pca = PCA(dim, whiten=method == "pca-whitened", svd_solver="full")
    return unit(pca.fit(train.astype(np.float64)).transform(side))


def coded(side: np.ndarray, code: str) -> np.ndarray:
    if code == "int8":
        return np.round(side / np.abs(side).max(axis=1, keepdims=True) * 127)
    return np.where(side > 0, 1.0, -1.0) if code == "binary" else side


def test_every_row_is_the_definition(small):
    """Each method, dimension and code scores as cosine of the cut, rounded vectors by hand."""
    train, queries, gallery, relevance = small
    rows = study(*small, mesh=MESH)
    found = {(r["method"], r["dim"], r["code"]): r for r in rows}
    assert len(rows) == len(found) == 3 * 2 * 3
    relevant = np.equal.outer(QUERIES, PHOTOS)
    for (method, dim, code), row in found.items():
        sides = [coded(reduced(train, s, method, dim), code) for s in (queries, gallery)]
        distance = np.round(1 - unit(sides[0]) @ unit(sides[1]).T, 9)  # equal codes tie exactly
        expected = expected_map(distance, relevant)
        assert row["category/mAP@all"] == pytest.approx(expected, abs=1e-5), (method, dim, code)
        size = {"float32": 4 * dim, "int8": dim, "binary": (dim + 7) // 8}[code]
        assert row["bytes"] == size


def test_chance_is_the_mean_over_all_orders(small):
    """Where every photo is at one distance, the expected mAP is what the table calls chance."""
    relevance = small[3]
    expected = expected_map(np.zeros((3, 5)), np.equal.outer(QUERIES, PHOTOS))
    assert sizes.chance(relevance)["category/mAP@all"] == pytest.approx(expected, abs=1e-9)


def test_dimensions_end_at_the_embedding_and_at_what_the_data_span(small):
    """Powers of two below D and D itself; PCA of five rows has no more than four directions."""
    assert sizes.dims_up_to(8) == (8,)
    assert sizes.dims_up_to(20) == (8, 16, 20)
    assert sizes.dims_up_to(1500)[-3:] == (512, 1024, 1500)
    _, queries, gallery, relevance = small
    few = np.eye(10, dtype=np.float32)[:5]
    rows = study(few, queries, gallery, relevance, codes=("float32",), mesh=MESH)
    assert {row["method"] for row in rows} == {"prefix"}


@pytest.fixture
def studied(finished, tmp_path):
    """A copy of a finished run, its config, and its study."""
    _, workdir = finished
    shutil.copytree(workdir, tmp_path / "run")
    return tmp_path / "run", resolve(stored_config(workdir))


def run_study(workdir, run, *, others=None, checkpoint="best"):
    options = {"others": others or {}, "checkpoint": checkpoint, "split": "test", "mesh": MESH}
    return dimensions_workdir(workdir, run=run, **options)


def test_a_run_is_studied_once_and_its_files_hold_the_rows(
    studied, small_model, monkeypatch, capsys
):
    """CSV, JSON and figure agree with the rows; a second study embeds nothing, a new model does."""
    workdir, run = studied
    rows = run_study(workdir, run)
    stem = workdir / "dimensions_test_best"
    with stem.with_suffix(".csv").open() as file:
        stored = list(csv.DictReader(file))
    assert [float(r["category/mAP@all"]) for r in stored] == [r["category/mAP@all"] for r in rows]
    assert json.loads(stem.with_suffix(".json").read_text())["rows"] == rows
    with Image.open(stem.with_suffix(".png")) as picture:
        assert picture.width > 1000
    out = capsys.readouterr().out
    assert all(f"{row['category/mAP@all']:.4f}" in out for row in rows)
    assert "category/mAP@all (chance 0." in out and "instance/acc@10" in out

    def never(*args, **kwargs):
        raise AssertionError("embedded again")

    monkeypatch.setattr(Evaluator, "embed", never)
    assert run_study(workdir, run) == rows
    with pytest.raises(AssertionError, match="embedded again"):
        run_study(workdir, run, checkpoint="none")


def test_whole_float32_embeddings_score_as_the_evaluation_does(studied, small_model):
    """The row of the full prefix is the mAP@all that `evaluate` reports for the run."""
    from sbir_jax.evaluate import evaluate_workdir

    workdir, run = studied
    full = [
        r for r in run_study(workdir, run) if r["method"] == "prefix" and r["code"] == "float32"
    ]
    entry = evaluate_workdir(workdir, checkpoint="best", split="test", run=run, mesh=MESH)
    expected = entry["category"]["mAP@all"]["value"]
    assert full[-1]["category/mAP@all"] == pytest.approx(expected, abs=1e-6)


def test_other_runs_add_their_prefixes_and_must_be_of_the_same_images(
    studied, small_model, tmp_path
):
    """A second run adds float32 prefix rows under its name; one of other images is refused."""
    workdir, run = studied
    shutil.copytree(workdir, tmp_path / "second")
    rows = run_study(workdir, run, others={tmp_path / "second": run})
    second = [r for r in rows if r["run"] == "second"]
    assert {(r["method"], r["code"]) for r in second} == {("prefix", "float32")}
    own = [
        r for r in rows if r["run"] == "run" and (r["method"], r["code"]) == ("prefix", "float32")
    ]
    assert [r["category/mAP@all"] for r in second] == [r["category/mAP@all"] for r in own]

    from data_prep_trees import sketchy_tree

    from data_prep.prepare import prepare

    raw = sketchy_tree(tmp_path / "raw", instances=6)
    prepare("pacs", raw=raw, data_dir=tmp_path / "data", name=run.data.name, quiet=True)
    config = stored_config(workdir)
    config.data.dir = str(tmp_path / "data")
    with pytest.raises(DimensionsError, match="second: a run on 'tiny', not on the images of"):
        run_study(workdir, run, others={tmp_path / "second": resolve(config)})


def rows_of(run: str, trained: str, methods, dims=(8, 16)) -> list[dict]:
    return [
        {"run": run, "trained": trained, "method": method, "dim": dim, "code": code}
        | {"bytes": dim * 4, "category/mAP@all": 0.5 + dim / 100}
        for method in methods
        for dim in dims
        for code in (sizes.CODES if len(methods) > 1 else ("float32",))
    ]


def test_the_figure_shows_every_run(tmp_path):
    """Heads of other sizes are one line through their own dimensions; Matryoshka runs are lines."""
    rows = rows_of("first", "plain", sizes.METHODS)
    rows += rows_of("small", "plain", ("prefix",), dims=(8,))
    rows += rows_of("nested", "matryoshka", ("prefix",))
    figure = plots.dimensions(rows, {"category/mAP@all": 0.2}, "title")
    left, right = figure.axes
    lines = {line.get_label(): line.get_xdata() for line in left.get_lines()}
    assert list(lines["head of that size"]) == [8, 16]
    assert list(lines["prefix, Matryoshka training (nested)"]) == [8, 16]
    assert {"prefix", "PCA", "PCA, whitened"} <= set(lines)
    assert left.get_xlabel() and left.get_ylabel() and right.get_xlabel()
    codes = {line.get_label() for line in right.get_lines()}
    assert {f"{m}, {c}" for m in ("prefix", "PCA") for c in sizes.CODES} <= codes
