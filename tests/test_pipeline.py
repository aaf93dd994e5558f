"""Feeds: the same batches wherever images are kept, from any step, for any number of workers."""

from __future__ import annotations

import dataclasses
import itertools

import jax
import numpy as np
import pytest
from tiny import TINY, tiny_run

from sbir_jax import sharding
from sbir_jax.data import decoding, pipeline, resident
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
    ("cache", "workers", "sampler"),
    [
        *itertools.product(["device", "host", "none"], [0], ["pairs", "instances", "classes"]),
        ("host", 2, "pairs"),  # processes take seconds to start
        ("none", 2, "pairs"),
    ],
)
def test_every_feed_gives_the_batches_of_the_sampler(dataset, data, cache, workers, sampler):
    """Images and ids of steps 4 to 10 are those of the records, whoever decoded them and when."""
    changed = dataclasses.replace(data, sampler=sampler, per_class=2, batch_size=8)
    feed = feed_of(dataset, changed, cache=cache, workers=workers)
    assert feed.cache == cache
    seen = fed(feed, 4, 11)
    assert len(seen) == 7
    for step, batch in zip(range(4, 11), seen, strict=True):
        reference = expected(dataset, changed, step)
        assert batch.keys() == reference.keys()
        for name, value in reference.items():
            np.testing.assert_array_equal(batch[name], value, err_msg=f"{name} of step {step}")


def test_batches_are_split_over_the_devices(dataset, data):
    """Each of eight devices holds one of eight rows; the resident images are whole on each."""
    feed = feed_of(dataset, data, cache="device")
    batch = next(feed.batches(0, 1))
    for leaf in jax.tree.leaves(batch):
        assert [shard.data.shape[0] for shard in leaf.addressable_shards] == [1] * 8
    for leaf in jax.tree.leaves(feed.resident):
        assert leaf.sharding.is_fully_replicated


@pytest.mark.parametrize("odd", [20, 17])
def test_rows_split_over_the_devices_are_taken_as_from_a_copy(odd):
    """Of images that do not divide over eight devices, a jitted gather gives rows in any order."""
    mesh = sharding.make_mesh()
    images = np.random.default_rng(0).integers(0, 256, (odd, 4, 4, 3), np.uint8)
    held = resident.put(mesh, lambda rows: images[rows], images.shape, split=True)
    assert {s.data.shape[0] for s in held.rows.addressable_shards} == {3}
    rows = np.array([odd - 1, 0, 0, 5, 11, 12, 2, 3, 9, 8, 7, 16, 16, 1, 4, 6], np.int32)
    taken = jax.jit(resident.take)(held, sharding.put_rows(mesh, rows))
    np.testing.assert_array_equal(taken, images[rows])
    assert [s.data.shape[0] for s in taken.addressable_shards] == [2] * 8


def test_split_images_give_the_batches_of_copies(dataset, data, monkeypatch):
    """When a copy does not fit but a part does, each device holds an eighth, and batches agree."""
    copies = fed(feed_of(dataset, data, cache="device"), 2, 6)
    monkeypatch.setattr(resident, "budget", lambda mesh: 36 * 36 * 100 - 1)
    feed = feed_of(dataset, data)
    assert feed.cache == "device"
    assert "do not fit in" in feed.words
    assert "split over 8 devices" in feed.words
    for copy, parts in zip(copies, fed(feed, 2, 6), strict=True):
        jax.tree.map(np.testing.assert_array_equal, parts, copy)


def test_auto_goes_by_size(dataset, data, monkeypatch):
    """40 sketches and 20 photos of 36 x 36: copies up to the byte, then parts, then the host."""
    nbytes = 36 * 36 * (40 * 1 + 20 * 3)
    for limit, cache, words in (
        (nbytes, "device", "a copy on each"),
        (nbytes - 1, "device", "split over 8 devices"),
        (nbytes // 8, "device", "split over 8 devices"),
        (nbytes // 8 - 1, "host", "do not fit in"),
    ):
        monkeypatch.setattr(resident, "budget", lambda mesh, limit=limit: limit)
        feed = feed_of(dataset, data, cache="auto")
        assert feed.cache == cache
        assert feed.words.startswith(f"data.cache={cache}: ")
        assert words in feed.words


def test_batches_are_made_ahead_but_not_without_end(dataset, data):
    """When one batch has been taken, at most a few more have been asked of the sampler."""
    feed = feed_of(dataset, data, cache="device")
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
    monkeypatch.setattr(decoding, "_DECODE_CHUNK", 7)
    out = feed_of(dataset, data, cache="device").resident["photo"]
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
    feed = feed_of(dataset, data, cache="none", workers=workers)
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
