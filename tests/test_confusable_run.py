"""A run whose sampler learns from its validations: what it draws, saves and continues with."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from tiny import TINY, assert_same_run, stored, tiny_run

from sbir_jax.config import ConfigError
from sbir_jax.data import pipeline
from sbir_jax.data.sampling import ClassSampler
from sbir_jax.data.source import SplitIndex, open_dataset
from sbir_jax.train import train

pytestmark = pytest.mark.usefixtures("small_model")

CONFUSABLE = {
    "data.sampler": "confusable",
    "data.batch_size": 4,
    "data.per_class": 2,
    "train.duration": "8 steps",
    "train.eval_every": "3 steps",
}


@pytest.fixture
def drawn(monkeypatch):
    """(step, confusion) of every batch that a sampler makes."""
    calls = []

    def call(sampler, step, draw=ClassSampler.__call__):
        calls.append((step, sampler.confusion))
        return draw(sampler, step)

    monkeypatch.setattr(ClassSampler, "__call__", call)
    return calls


@pytest.mark.parametrize("cache", ["device", "none"])
def test_each_batch_is_drawn_once_by_the_confusion_of_the_last_validation(
    tiny_data, tmp_path, mesh, drawn, cache
):
    """No batch beyond a validation is made before it; the counts of the last one are saved."""
    train(tiny_run(tiny_data, CONFUSABLE | {"data.cache": cache}), tmp_path, mesh=mesh)
    assert sorted(step for step, _ in drawn) == list(range(8))
    used = [{id(c): c for step, c in drawn if step // 3 == part} for part in range(3)]
    assert [len(of) for of in used] == [1, 1, 1]
    first, second, third = (confusion for of in used for confusion in of.values())
    assert not first.any() and second.any() and third.any()
    # Each of the 20 validation sketches has photos of other classes among its ten nearest.
    assert second.sum() == 20 and not second.diagonal().any()
    assert stored(tmp_path)["sampler/confusion"].shape == (5, 5)


def test_stopped_and_continued_equals_uninterrupted(tiny_data, tmp_path, mesh, monkeypatch):
    """Stopped after step 7, continued from the checkpoint of 6 with its confusion: bit-equal."""
    run = tiny_run(tiny_data, CONFUSABLE)
    train(run, tmp_path / "alone", mesh=mesh)

    def failing(feed, start, stop, batches=pipeline.Feed.batches, **kw):
        for number, batch in zip(range(start, stop), batches(feed, start, stop, **kw), strict=True):
            if number == 7:
                raise KeyboardInterrupt
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(pipeline.Feed, "batches", failing)
        with pytest.raises(KeyboardInterrupt):
            train(run, tmp_path / "stopped", mesh=mesh)
    confusion = stored(tmp_path / "stopped")["sampler/confusion"]
    assert confusion.any()
    train(run, tmp_path / "stopped", mesh=mesh)
    assert_same_run(tmp_path / "stopped", tmp_path / "alone")


def test_its_validations_cannot_be_moved_by_a_resumed_run(tiny_data, tmp_path, mesh):
    """`train.eval_every` changes what this sampler draws, so it may not change on the way."""
    short = CONFUSABLE | {"train.duration": "3 steps"}
    train(tiny_run(tiny_data, short), tmp_path, mesh=mesh)
    moved = tiny_run(tiny_data, short | {"train.eval_every": "50%"})
    with pytest.raises(ConfigError, match=r"config\.train\.eval_every='50%' \(was '3 steps'\)"):
        train(moved, tmp_path, mesh=mesh)


def test_a_feed_that_is_taught_draws_what_its_sampler_says(tiny_data, mesh):
    """The batches are the sampler's with that confusion, and the untaught feed stays as it was."""
    dataset = open_dataset(TINY, tiny_data)
    data = tiny_run(tiny_data, CONFUSABLE).data
    confusion = np.zeros((5, 5), np.int32)
    confusion[0, 4] = confusion[1, 2] = 3
    feed = pipeline.make_feed(dataset, data, seed=1, mesh=mesh)
    index = [dataset.index("train", side) for side in ("sketch", "photo")]
    for of, counts in ((feed.taught(confusion), confusion), (feed, None)):
        sampler = ClassSampler(*index, 4, 1, 2, counts)
        for step, batch in zip(range(6), of.batches(0, 6), strict=True):
            np.testing.assert_array_equal(batch["sketch"], sampler(step)[0])
            np.testing.assert_array_equal(batch["photo"], sampler(step)[1])


def test_splits_without_shared_classes_are_refused(tiny_data, mesh):
    """Where validation holds out whole classes, there is nothing to learn from: one line."""
    dataset = open_dataset(TINY, tiny_data)
    apart = {
        key: SplitIndex(index.label % 2 + 2 * key.startswith("val"), index.instance)
        for key, index in dataset._indices.items()
    }
    dataset = dataclasses.replace(dataset, _indices=apart)
    data = dataclasses.replace(tiny_run(tiny_data, CONFUSABLE).data, batch_size=2)
    with pytest.raises(ConfigError, match=r"^config.data.sampler='confusable': .* share fewer"):
        pipeline.make_feed(dataset, data, seed=1, mesh=mesh)
