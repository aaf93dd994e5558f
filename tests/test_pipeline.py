"""Feeds: streamed and resident give the same batches, from any step, for any number of workers."""

from __future__ import annotations

import dataclasses
import itertools

import jax
import numpy as np
import pytest
from tiny import TINY, tiny_run

from sbir_jax import sharding
from sbir_jax.data import pipeline
from sbir_jax.data.sampling import make_sampler
from sbir_jax.data.source import DatasetError, open_dataset
from sbir_jax.data_config import DataConfig
from sbir_jax.setting import ConfigError

SEED = 3


@pytest.fixture(scope="module")
def dataset(tiny_data):
    return open_dataset(TINY, tiny_data)


@pytest.fixture(scope="module")
def data(tiny_data) -> DataConfig:
    return tiny_run(tiny_data).data


def feed_of(dataset, data: DataConfig, **changes) -> pipeline.Feed:
    changed = dataclasses.replace(data, **changes)
    return pipeline.make_feed(dataset, changed, seed=SEED, mesh=sharding.make_mesh())


def expected(dataset, data: DataConfig, step: int) -> dict[str, np.ndarray]:
    """The batch of a step, decoded straight from the records that its sampler names."""
    index = {side: dataset.index("train", side) for side in ("sketch", "photo")}
    rows = make_sampler(data, index["sketch"], index["photo"], SEED)(step)
    batch = {}
    for side, chosen in zip(("sketch", "photo"), rows, strict=True):
        images = dataset.images("train", side)
        batch[side] = np.stack([images.load([r], size=36, fit="pad")[0] for r in chosen])
        batch[f"{side}_label"] = index[side].label[chosen]
        batch[f"{side}_instance"] = index[side].instance[chosen]
    return batch


def fed(feed: pipeline.Feed, start: int, stop: int) -> list[dict[str, np.ndarray]]:
    """What the step would see of each batch."""
    seen = []
    for batch in feed.batches(start, stop):
        sketch, photo = pipeline.images_of(feed.resident, batch)
        seen.append({"sketch": sketch, "photo": photo})
        for side in ("sketch", "photo"):
            ids = batch[f"{side}_ids"]
            seen[-1] |= {f"{side}_label": ids.label, f"{side}_instance": ids.instance}
    return [{name: np.asarray(value) for name, value in batch.items()} for batch in seen]


@pytest.mark.parametrize(
    ("feed", "workers", "sampler"),
    [
        *itertools.product(["resident", "stream"], [0], ["pairs", "instances", "classes"]),
        ("stream", 2, "pairs"),  # processes take seconds to start
    ],
)
def test_every_feed_gives_the_batches_of_the_sampler(dataset, data, feed, workers, sampler):
    """Images and ids of steps 4 to 10 are those of the records, whoever decoded them and when."""
    changed = dataclasses.replace(data, sampler=sampler, per_class=2, batch_size=8)
    seen = fed(feed_of(dataset, changed, feed=feed, workers=workers), 4, 11)
    assert len(seen) == 7
    for step, batch in zip(range(4, 11), seen, strict=True):
        reference = expected(dataset, changed, step)
        assert batch.keys() == reference.keys()
        for name, value in reference.items():
            np.testing.assert_array_equal(batch[name], value, err_msg=f"{name} of step {step}")


def test_batches_are_split_over_the_devices(dataset, data):
    """Each of eight devices holds one of eight rows; the resident images are whole on each."""
    feed = feed_of(dataset, data, feed="resident")
    batch = next(feed.batches(0, 1))
    for leaf in jax.tree.leaves(batch):
        assert [shard.data.shape[0] for shard in leaf.addressable_shards] == [1] * 8
    for leaf in jax.tree.leaves(feed.resident):
        assert leaf.sharding.is_fully_replicated


def test_auto_is_resident_if_the_data_fits(dataset, data, monkeypatch):
    """`auto` keeps the 40 sketches and 20 photos of 36 x 36 on the device, up to the very byte."""
    nbytes = 36 * 36 * (40 * 1 + 20 * 3)
    for budget, kind in ((nbytes, "resident"), (nbytes - 1, "stream")):
        monkeypatch.setattr(pipeline, "_resident_budget", lambda mesh, budget=budget: budget)
        feed = feed_of(dataset, data, feed="auto")
        assert (feed.kind, feed.nbytes) == (kind, nbytes)


def test_batches_are_made_ahead_but_not_without_end(dataset, data):
    """When one batch has been taken, at most a few more have been asked of the sampler."""
    feed = feed_of(dataset, data, feed="resident")
    asked = []

    def local(step):
        asked.append(step)
        return feed._local(step)

    batches = dataclasses.replace(feed, _local=local).batches(0, 100)
    next(batches)
    assert asked == [0, 1, 2]
    assert len(list(itertools.islice(batches, 5))) == 5
    assert asked == list(range(8))


def test_a_split_is_decoded_whole_and_in_order(dataset, data, monkeypatch):
    """A resident side holds every image of its split, though a few are decoded at a time."""
    monkeypatch.setattr(pipeline, "_DECODE_CHUNK", 7)
    out = feed_of(dataset, data, feed="resident").resident["photo"]
    np.testing.assert_array_equal(
        out, dataset.images("train", "photo").load(range(20), size=36, fit="pad")
    )


def test_a_batch_larger_than_the_split_is_refused(dataset, data):
    """The error names the setting, its value and the largest that works."""
    with pytest.raises(ConfigError, match=r"batch_size=24: .* at most 20 .*'instances'"):
        feed_of(dataset, data, sampler="instances", batch_size=24)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_record_stops_the_stream_with_its_name(dataset, data, workers):
    """What a thread or a worker process meets arrives as the same one-line error."""
    feed = feed_of(dataset, data, feed="stream", workers=workers)
    broken = dataclasses.replace(feed, _local=_Broken())
    with pytest.raises(DatasetError) as caught:
        list(broken.batches(0, 3))
    assert str(caught.value) == "shard 7: cannot read record 5"


class _Broken:
    """A batch maker that fails at step 1; a class, so that worker processes can unpickle it."""

    def __call__(self, step):
        if step == 1:
            raise DatasetError("shard 7: cannot read record 5")
        return {"sketch": np.zeros((8, 1))}
