"""Batches are pure functions of (seed, step) and hold what their sampler promises."""

import collections
import dataclasses
import pickle

import numpy as np
import pytest
import scipy.stats

from sbir_jax.data.sampling import class_confusion, make_sampler
from sbir_jax.data.source import SplitIndex
from sbir_jax.data_config import DataConfig
from sbir_jax.setting import ConfigError

CLASSES, PHOTOS, SKETCHES = 6, 5, 3  # photos a class, sketches a photo


def split(*, unlinked: int = 0) -> tuple[SplitIndex, SplitIndex]:
    """30 photos of six classes, three sketches each; the last `unlinked` ones have no link."""
    instance = np.arange(CLASSES * PHOTOS, dtype=np.int32)
    photo = SplitIndex((instance // PHOTOS).astype(np.int32), instance)
    drawn = np.repeat(instance, SKETCHES)
    linked = np.where(np.arange(len(drawn)) < len(drawn) - unlinked, drawn, -1).astype(np.int32)
    order = np.random.default_rng(0).permutation(len(drawn))
    return SplitIndex((drawn // PHOTOS).astype(np.int32)[order], linked[order]), photo


def sampler_of(
    kind: str,
    *,
    batch: int | None = None,
    seed: int = 0,
    per_class: int = 2,
    unlinked: int = 0,
    confusion: np.ndarray | None = None,
):
    batch = batch or {"confusable": 6}.get(kind, 12)
    config = DataConfig(sampler=kind, batch_size=batch, per_class=per_class)
    sampler = make_sampler(config, *split(unlinked=unlinked), seed)
    return sampler if confusion is None else dataclasses.replace(sampler, confusion=confusion)


@pytest.mark.parametrize("kind", ["pairs", "instances", "classes", "confusable"])
def test_batch_depends_on_seed_and_step_alone(kind):
    """A fresh or unpickled sampler, asked for steps in any order, gives the same batches."""
    first = sampler_of(kind)
    batches = [first(step) for step in range(20)]
    again = pickle.loads(pickle.dumps(sampler_of(kind)))
    for step in reversed(range(20)):
        np.testing.assert_array_equal(again(step), batches[step])
    other = [sampler_of(kind, seed=1)(step) for step in range(20)]
    assert not all(np.array_equal(a, b) for a, b in zip(batches, other, strict=True))


@pytest.mark.parametrize("kind", ["pairs", "instances", "classes", "confusable"])
def test_pairs_share_their_class(kind):
    """Row i of both sides is of one class, for every sampler."""
    sketch, photo = split()
    sampler = sampler_of(kind)
    for step in range(10):
        sketches, photos = sampler(step)
        assert len(sketches) == len(photos) == sampler.batch_size
        np.testing.assert_array_equal(sketch.label[sketches], photo.label[photos])


def test_pairs_draw_every_sketch_once_an_epoch_with_its_own_photo():
    """Over one epoch each sketch comes once; a linked one with the photo it was drawn for."""
    sketch, photo = split(unlinked=18)
    sampler = sampler_of("pairs", batch=10, unlinked=18)
    assert sampler.epoch_size == 90
    drawn = [sampler(step) for step in range(9)]
    rows = np.concatenate([sketches for sketches, _ in drawn])
    assert sorted(rows) == list(range(90))
    partners = np.concatenate([photos for _, photos in drawn])
    linked = sketch.instance[rows] >= 0
    assert linked.sum() == 72
    np.testing.assert_array_equal(photo.instance[partners[linked]], sketch.instance[rows[linked]])
    assert len(set(partners[~linked])) > 3, "unlinked sketches meet more than one photo"


def test_pairs_leave_out_sketches_of_classes_without_photos():
    """A sketch whose class has no photo is never drawn, for it cannot have a positive."""
    sketch, photo = split()
    kept = photo.label != 2
    photo = SplitIndex(photo.label[kept], photo.instance[kept])
    sampler = make_sampler(DataConfig(batch_size=15), sketch, photo, 0)
    labels = np.concatenate([sketch.label[sampler(step)[0]] for step in range(5)])
    assert collections.Counter(labels.tolist()) == {c: 15 for c in (0, 1, 3, 4, 5)}


def test_instances_never_repeat_a_photo_in_a_batch():
    """Each photo at most once a batch, at most once an epoch, always with a sketch of itself."""
    sketch, photo = split()
    sampler = sampler_of("instances", batch=7)
    for epoch in range(3):
        batches = [sampler(epoch * 4 + step) for step in range(4)]
        photos = np.concatenate([p for _, p in batches])
        assert len(set(photos)) == 28
        for sketches, rows in batches:
            np.testing.assert_array_equal(sketch.instance[sketches], photo.instance[rows])


def test_classes_give_p_classes_of_k_each_side():
    """P classes with K distinct sketches and photos each; every class once a round of batches."""
    sketch, photo = split()
    sampler = sampler_of("classes", batch=12, per_class=4)
    for turn in range(4):
        seen = []
        for batch in (0, 1):
            sketches, photos = sampler(2 * turn + batch)
            assert len(set(sketches)) == len(set(photos)) == 12
            counts = collections.Counter(sketch.label[sketches].tolist())
            assert set(counts.values()) == {4}
            assert counts == collections.Counter(photo.label[photos].tolist())
            seen += counts
        assert sorted(seen) == list(range(CLASSES))


def test_small_classes_are_drawn_with_repetition():
    """K above a class's photos repeats some of them instead of failing."""
    sampler = sampler_of("classes", batch=16, per_class=8)
    _, photos = sampler(0)
    assert len(photos) == 16 and len(set(photos)) <= 2 * PHOTOS


def classes_of(sampler, step: int) -> list[int]:
    """The distinct classes of a batch, ascending."""
    return sorted(set(split()[0].label[sampler(step)[0]].tolist()))


def test_confusable_without_a_validation_is_classes():
    """Until something is known of confusion, both draw the same batches."""
    plain = sampler_of("classes", batch=6)
    for confusion in (None, np.zeros((CLASSES, CLASSES), np.int32)):
        sampler = sampler_of("confusable", confusion=confusion)
        for step in range(12):
            np.testing.assert_array_equal(sampler(step), plain(step))


def test_confusable_brings_confused_classes_together():
    """Where only 0-3, 1-4 and 2-5 are confused, in either direction, these pairs are the batches;
    every class still comes once a round, and the pairs in a random order."""
    confusion = np.zeros((CLASSES, CLASSES), np.int32)
    confusion[0, 3] = confusion[4, 1] = confusion[2, 5] = 7
    sampler = sampler_of("confusable", batch=4, confusion=confusion)
    orders = set()
    for turn in range(8):
        found = [tuple(classes_of(sampler, 3 * turn + batch)) for batch in range(3)]
        assert sorted(found) == [(0, 3), (1, 4), (2, 5)]
        orders.add(tuple(found))
    assert len(orders) > 2


def test_confusable_draws_in_proportion_to_confusion():
    """The partner of class 0, where it opens a round of pairs, follows the counts of both
    directions: chi-square over 3,000 rounds."""
    confusion = np.zeros((CLASSES, CLASSES), np.int32)
    confusion[0] = 0, 1, 2, 3, 4, 5
    confusion[3:, 0] = 10
    sampler = sampler_of("confusable", batch=4, confusion=confusion)
    plain = sampler_of("classes", batch=4)
    label, partners = split()[0].label, []
    for turn in range(3000):
        if label[plain(3 * turn)[0][0]] == 0:
            partners.append(classes_of(sampler, 3 * turn)[1])
    expected = np.array([1, 2, 13, 14, 15]) / 45 * len(partners)
    assert expected.min() > 5
    assert scipy.stats.chisquare(np.bincount(partners)[1:], expected).pvalue > 1e-3


def test_confusable_keeps_a_round_whole():
    """Whatever the counts, every class comes once a round."""
    confusion = np.random.default_rng(0).integers(0, 9, (CLASSES, CLASSES))
    sampler = sampler_of("confusable", confusion=confusion)
    for turn in range(6):
        seen = classes_of(sampler, 2 * turn) + classes_of(sampler, 2 * turn + 1)
        assert sorted(seen) == list(range(CLASSES))


def test_class_confusion_is_the_definition():
    """Counts of a loop: the class of the first neighbour that is not of the query's own."""
    rng = np.random.default_rng(2)
    query, gallery = rng.integers(4, size=30), rng.integers(4, size=25)
    nearest = np.stack([rng.permutation(25)[:3] for _ in range(30)])
    nearest[0] = np.flatnonzero(gallery == query[0])[:3]  # not confused
    wanted = np.zeros((5, 5), int)
    for q, rows in zip(query, nearest, strict=True):
        others = [gallery[row] for row in rows if gallery[row] != q]
        if others:
            wanted[q, others[0]] += 1
    got = class_confusion(nearest, query, gallery, classes=5)
    np.testing.assert_array_equal(got, wanted)
    assert got.dtype == np.int32 and 0 < got.sum() < 30 and not got.diagonal().any()


@pytest.mark.parametrize(
    ("kind", "batch", "most"),
    [("classes", 14, 12), ("instances", 31, 30), ("pairs", 4, None), ("confusable", 8, 6)],
)
def test_batch_that_cannot_be_filled_is_refused(kind, batch, most):
    """One line names the batch size and the largest that this split allows."""
    if kind == "pairs":
        empty = SplitIndex(np.zeros(0, np.int32), np.zeros(0, np.int32))
        with pytest.raises(ConfigError, match="at most 0"):
            make_sampler(DataConfig(batch_size=batch), split()[0], empty, 0)
        return
    with pytest.raises(ConfigError, match=f"config.data.batch_size={batch}: .* at most {most} "):
        sampler_of(kind, batch=batch)
