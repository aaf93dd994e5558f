"""k-nearest neighbours on features and embeddings, against scikit-learn and by hand."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter

import jax
import numpy as np
import pytest

from sbir_jax import knn, sharding
from sbir_jax.config import ConfigError
from sbir_jax.data.source import SplitIndex, open_dataset
from sbir_jax.models import dual

MESH = sharding.make_mesh(jax.devices()[:1])


def test_the_majority_wins_and_the_nearest_breaks_ties():
    """Hand-worked votes: a plain majority, a tie of two, and a tie where the nearest has one."""
    neighbours = np.array([[7, 2, 2, 9], [5, 4, 4, 5], [1, 3, 3, 6]])
    assert knn.classify(neighbours, 1).tolist() == [7, 5, 1]
    assert knn.classify(neighbours, 2).tolist() == [7, 5, 1]
    assert knn.classify(neighbours, 3).tolist() == [2, 4, 3]
    assert knn.classify(neighbours, 4).tolist() == [2, 5, 3]


@pytest.mark.parametrize("k", [1, 3, 7])
def test_votes_equal_scikit_learns_where_none_tie(k):
    """On random vectors, every query without a tied vote gets sklearn's class."""
    from sklearn.neighbors import KNeighborsClassifier

    rng = np.random.default_rng(0)
    train, labels, queries = (
        rng.normal(size=(60, 5)),
        rng.integers(0, 4, 60),
        rng.normal(size=(40, 5)),
    )
    theirs = KNeighborsClassifier(k, metric="cosine").fit(train, labels)
    neighbours = labels[theirs.kneighbors(queries, return_distance=False)]
    counts = [[n for _, n in Counter(row.tolist()).most_common(2)] for row in neighbours]
    clear = np.array([len(c) == 1 or c[0] > c[1] for c in counts])
    assert clear.sum() >= 15
    found = knn.classify(neighbours, k)
    np.testing.assert_array_equal(found[clear], theirs.predict(queries)[clear])


def test_a_headless_model_stops_before_the_head(finished, small_model):
    """Its features, through the head by hand and divided by their norm, are the embeddings."""
    run, _ = finished
    graphdef, params, state = dual.build(run.model, jax.random.key(0), image_size=32)
    images = np.random.default_rng(0).uniform(-1, 1, (4, 32, 32, 3)).astype(np.float32)
    headless = dual.define(run.model, image_size=32, headless=True)
    features = np.asarray(dual.apply_embed(headless, params, state, images, "photo"))
    head = params["heads"]["photo"]["out"]
    expected = features @ np.asarray(head["kernel"]) + np.asarray(head["bias"])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = dual.apply_embed(graphdef, params, state, images, "photo")
    assert features.shape == (4, 8)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("checkpoint", ["best", "none"])
def test_a_run_is_classified_by_its_training_images(
    finished, small_model, checkpoint, tmp_path, monkeypatch, capsys
):
    """Every two sides have a row; those of embeddings equal sklearn's 1-NN on the same vectors."""
    from sklearn.dummy import DummyClassifier
    from sklearn.neighbors import KNeighborsClassifier

    run, workdir = finished
    seen = {}
    embed = knn.Evaluator.embed

    def spy(self, split, side, *state):
        found = embed(self, split, side, *state)
        seen[split, side] = found.vectors  # of the embeddings, which come last
        return found

    monkeypatch.setattr(knn.Evaluator, "embed", spy)
    if checkpoint == "best":
        (tmp_path / "checkpoints").symlink_to(workdir / "checkpoints")
    rows = knn.knn_workdir(tmp_path, run=run, checkpoint=checkpoint, mesh=MESH)
    sides = ("sketch", "photo")
    what = [(r["features"], r["query"], r["among"]) for r in rows]
    assert what == [(f, q, a) for f in ("backbone", "embedding") for q in sides for a in sides]
    dataset = open_dataset(run.data.name, run.data.dir)
    for row in rows[4:]:
        train = seen["train", row["among"]], dataset.index("train", row["among"]).label
        test = seen["test", row["query"]], dataset.index("test", row["query"]).label
        theirs = KNeighborsClassifier(1, metric="cosine", algorithm="brute").fit(*train)
        assert row["1-NN"] == pytest.approx(theirs.score(*test))
        assert row["largest"] == pytest.approx(DummyClassifier().fit(*train).score(*test))
    stored = json.loads((tmp_path / f"knn_test_{checkpoint}.json").read_text())
    assert stored["rows"] == rows
    out = capsys.readouterr().out
    assert "backbone, sketch to photo" in out and ("untrained" in out) == (checkpoint == "none")


def test_classes_without_training_images_are_refused(finished):
    """Where the test classes are unseen, no neighbour could have the right label."""
    run, _ = finished
    dataset = open_dataset(run.data.name, run.data.dir)
    unseen = {
        key: SplitIndex(of.label + 5, of.instance) if key.startswith("test") else of
        for key, of in dataset._indices.items()
    }
    with pytest.raises(ConfigError, match="--split=test: 5 of its classes are not among"):
        knn._check_classes(dataclasses.replace(dataset, _indices=unseen), "test")
