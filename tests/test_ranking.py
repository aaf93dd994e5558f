"""Metrics against scikit-learn, loops and hand-worked cases; ties, chance and bad input."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from sklearn.metrics import average_precision_score

from sbir_jax import ranking
from sbir_jax.chance import by_chance


def rank_line(relevant: list[int], **options) -> dict[str, float]:
    """Scores one query whose gallery, at distances 1, 2, 3 ..., has this relevance."""
    gallery = np.arange(1, len(relevant) + 1, dtype=np.float32)[:, None]
    ids = np.ones(1, np.int32), np.array(relevant, np.int32)
    options = {"distance": "l1"} | options
    scores = ranking.rank(np.zeros((1, 1)), gallery, {"x": ids}, **options).scores["x"]
    return {name: float(values[0]) for name, values in scores.metrics.items()}


def reference(distance: np.ndarray, relevant: np.ndarray, ks) -> dict[str, float]:
    """One query from the definitions, in float64; relevant items last among equals."""
    order = sorted(range(len(distance)), key=lambda i: (distance[i], relevant[i]))
    found, precisions, first, in_top = 0, [], 0, dict.fromkeys(ks, 0)
    for position, item in enumerate(order, start=1):
        if relevant[item]:
            found += 1
            precisions.append(found / position)
            first = first or position
            for k in ks:
                in_top[k] += position <= k
    metrics = {"mAP@all": sum(precisions) / max(found, 1), "MRR": 1 / first if first else 0}
    for k in ks:
        metrics |= {f"P@{k}": in_top[k] / k, f"recall@{k}": in_top[k] / max(found, 1)}
    return metrics


def small_integers(seed: int, rows: int) -> np.ndarray:
    """Embeddings in {0, 1, 2}^3: many copies and equal distances, all exact in float32."""
    return np.random.default_rng(seed).integers(3, size=(rows, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("relevant", "expected"),
    [
        ([1, 0, 1, 0, 0, 0, 0, 0, 1, 1], (1 + 2 / 3 + 3 / 9 + 4 / 10) / 4),
        ([0, 1, 0, 0, 1, 1, 1, 0, 0, 0], (1 / 2 + 2 / 5 + 3 / 6 + 4 / 7) / 4),
    ],
)
def test_the_lectures_worked_example(relevant, expected):
    """The lecture's two rankings have AP 0.6 and 0.49."""
    metrics = rank_line(relevant)
    assert metrics["mAP@all"] == pytest.approx(expected, abs=1e-7)
    assert round(expected, 2) in (0.6, 0.49)
    assert metrics["MRR"] == 1 / (1 + relevant.index(1))


def test_average_precision_is_scikit_learns():
    """On tie-free real-valued embeddings every query has scikit-learn's average precision."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(5, 24))
    labels = rng.integers(5, size=40), rng.integers(5, size=300)
    queries, gallery = (centres[label] + rng.normal(size=(len(label), 24)) for label in labels)
    result = ranking.rank(queries, gallery, {"category": labels}, distance="cosine", block_mib=0.02)
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (queries, gallery)]
    wanted = [
        average_precision_score(labels[1] == label, gallery_cosines)
        for label, gallery_cosines in zip(labels[0], unit[0] @ unit[1].T, strict=True)
    ]
    np.testing.assert_allclose(result.scores["category"].metrics["mAP@all"], wanted, atol=1e-6)


@pytest.mark.parametrize("distance", ["l1", "l2", "sq_l2", "cosine"])
def test_every_metric_is_its_definition(distance):
    """All metrics, two relevances at once, equal loops; neighbours are a stable argsort's."""
    rng = np.random.default_rng(1)
    queries, gallery = rng.normal(size=(23, 8)), rng.normal(size=(57, 8))
    relevance = {
        "category": (rng.integers(4, size=23), rng.integers(4, size=57)),
        "instance": (rng.integers(-1, 8, size=23), rng.integers(-1, 50, size=57)),
    }
    for side in relevance["instance"]:
        side[:3] = -1  # no link: never relevant, not even to each other
    result = ranking.rank(
        queries, gallery, relevance, distance=distance, ks=(1, 3, 80), top=7, block_mib=0.001
    )
    difference = queries[:, None] - gallery
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (queries, gallery)]
    d = {
        "l1": np.abs(difference).sum(-1),
        "l2": np.sqrt((difference**2).sum(-1)),
        "sq_l2": (difference**2).sum(-1),
        "cosine": 1 - unit[0] @ unit[1].T,
    }[distance]
    np.testing.assert_array_equal(result.nearest, np.argsort(d, axis=1)[:, :7])
    np.testing.assert_allclose(result.nearest_distance, np.sort(d, axis=1)[:, :7], atol=1e-5)
    for name, (own, others) in relevance.items():
        scores = result.scores[name]
        hits = (own[:, None] == others) & (own[:, None] >= 0)
        np.testing.assert_array_equal(scores.relevant, hits.sum(1))
        for q in range(23):
            wanted = reference(d[q], hits[q], (1, 3, 80))
            got = {metric: values[q] for metric, values in scores.metrics.items()}
            assert got == pytest.approx(wanted, abs=1e-6)


def test_ties_are_pessimistic():
    """Among equal distances relevant items come last, wherever they are in the gallery."""
    queries, gallery = small_integers(2, 12), small_integers(3, 90)
    ids = np.arange(12) % 3, np.arange(90) % 3
    result = ranking.rank(queries, gallery, {"x": ids}, distance="sq_l2")
    d = ((queries[:, None] - gallery) ** 2).sum(-1)
    assert len(np.unique(d)) < 15  # ties everywhere
    for q in range(12):
        wanted = reference(d[q], ids[0][q] == ids[1], (1, 5, 10))
        got = {metric: values[q] for metric, values in result.scores["x"].metrics.items()}
        assert got == pytest.approx(wanted, abs=1e-6)
    np.testing.assert_array_equal(  # neighbours: equal distances by gallery row
        result.nearest, np.argsort(d, axis=1, kind="stable")[:, :10]
    )


@pytest.mark.parametrize("kind", ["quantised", "identical", "copies"])
def test_massive_ties_score_the_same_anyhow(kind):
    """Gallery order, block size and number of devices move no item: scores stay the same up to
    the last bits of a float32 sum (one swap would move AP by 1e-4)."""
    rng = np.random.default_rng(4)
    queries = rng.normal(size=(19, 40)).astype(np.float32)
    gallery = {
        "quantised": np.sign(rng.normal(size=(101, 40))),
        "identical": np.tile(rng.normal(size=40), (101, 1)),
        "copies": rng.normal(size=(10, 40))[rng.integers(10, size=101)],
    }[kind]
    queries = np.sign(queries) if kind == "quantised" else queries
    ids = rng.integers(3, size=19), rng.integers(3, size=101)
    mesh = jax.make_mesh((8,), ("data",), (AxisType.Auto,), devices=jax.devices())
    rows, whole = (NamedSharding(mesh, spec) for spec in (PartitionSpec("data"), PartitionSpec()))
    ways = [
        {},
        {"block_mib": 5 * 4 * 101 / 2**20},
        {
            "row_multiple": 8,
            "block_mib": 0.001,
            "place": lambda x: jax.device_put(x, rows),
            "replicate": lambda x: jax.device_put(x, whole),
        },
    ]
    results = []
    for options, seed in itertools.product(ways, (0, 1)):
        order = np.random.default_rng(seed).permutation(101)
        result = ranking.rank(
            queries, gallery[order], {"x": (ids[0], ids[1][order])}, distance="l2", **options
        )
        results.append(result.scores["x"].metrics)
    assert results[0]["mAP@all"].min() > 0
    for other in results[1:]:
        for name, values in results[0].items():
            np.testing.assert_allclose(other[name], values, rtol=5e-7, err_msg=name)


@pytest.mark.parametrize(("rows", "size", "copies"), [(1, 7, 17), (1, 7, 33), (5, 1000, 4099)])
def test_copies_tie_exactly(rows, size, copies):
    """Copies of one gallery embedding are at one distance, in shapes where the matrix product
    rounds some columns differently (seen with jax 0.10 or 0.12 on a CPU)."""
    rng = np.random.default_rng(0)
    queries = rng.normal(size=(rows, size))
    gallery = np.tile(rng.normal(size=size), (copies, 1))
    for distance in ("sq_l2", "cosine"):
        result = ranking.rank(queries, gallery, {}, distance=distance, top=copies)
        assert not np.ptp(result.nearest_distance, axis=1).any()
        np.testing.assert_array_equal(result.nearest, np.tile(np.arange(copies), (rows, 1)))


def test_collapsed_model_is_not_above_chance():
    """Identical embeddings in class order, which index-order evaluators reward, score below
    chance."""
    labels = np.repeat(np.arange(4), 25)
    scores = ranking.rank(
        np.ones((8, 5)), np.ones((100, 5)), {"x": (labels[:8], labels)}, distance="cosine"
    ).scores["x"]
    summary = ranking.summarise(scores)
    wanted = sum((i + 1) / (76 + i) for i in range(25)) / 25  # the 75 others first
    assert summary["mAP@all"]["value"] == pytest.approx(wanted, abs=1e-6)
    assert wanted < summary["mAP@all"]["chance"]
    assert summary["P@10"]["value"] == 0


def test_queries_without_relevant_are_counted_not_averaged():
    """A query whose class, or instance link, is absent from the gallery is left out and said."""
    gallery = np.arange(1, 5, dtype=np.float32)[:, None]
    own, others = np.array([7, 1, -1]), np.array([0, 1, -1, -1])
    scores = ranking.rank(np.zeros((3, 1)), gallery, {"x": (own, others)}, distance="l1").scores[
        "x"
    ]
    summary = ranking.summarise(scores)
    assert (summary["queries"], summary["queries_without_relevant"]) == (1, 2)
    assert summary["gallery"] == 4
    assert summary["mAP@all"]["value"] == summary["MRR"]["value"] == 0.5
    assert summary["recall@1"]["value"] == 0 and summary["recall@5"]["value"] == 1
    nobody = ranking.Scores({"MRR": np.zeros(2)}, np.zeros(2, np.int32), 4)
    expected = {"queries": 0, "queries_without_relevant": 2, "gallery": 4}
    assert ranking.summarise(nobody) == expected


def test_gallery_smaller_than_k():
    """With G < K precision still divides by K, recall is complete and `nearest` has G columns."""
    metrics = rank_line([0, 1, 1], ks=(1, 10))
    assert metrics["P@10"] == pytest.approx(0.2) and metrics["recall@10"] == 1
    one = np.zeros((1, 1))
    result = ranking.rank(one, np.ones((3, 1)), {}, distance="l1", top=10)
    np.testing.assert_array_equal(result.nearest, [[0, 1, 2]])


@pytest.mark.parametrize("size", [1, 2, 5, 7])
def test_chance_is_the_mean_over_all_orders(size):
    """Chance levels are the mean over every placement of R relevant items, by brute force."""
    ks = (1, 2, 6, 10)
    for relevant in range(1, size + 1):
        placements = [
            reference(np.arange(size), np.isin(np.arange(size), chosen), ks)
            for chosen in itertools.combinations(range(size), relevant)
        ]
        got = by_chance(np.array([relevant, relevant]), size, placements[0])
        for name, values in got.items():
            wanted = np.mean([metrics[name] for metrics in placements])
            np.testing.assert_allclose(values, [wanted] * 2, rtol=1e-12, err_msg=name)


def test_random_embeddings_score_chance():
    """Independent embeddings reach the chance level of every metric, within sampling error."""
    rng = np.random.default_rng(5)
    labels = rng.integers(6, size=600), rng.integers(6, size=200)
    scores = ranking.rank(
        rng.normal(size=(600, 32)), rng.normal(size=(200, 32)), {"x": labels}, distance="l2"
    ).scores["x"]
    summary = ranking.summarise(scores)
    for name, values in scores.metrics.items():
        error = values.std() / np.sqrt(600) + 0.005  # queries share one gallery
        assert abs(summary[name]["value"] - summary[name]["chance"]) < 4 * error, name


def test_blocks_are_bounded_and_seen_by_the_progress():
    """No block of distances is larger than asked, and the progress wrapper walks over them."""
    seen, shapes = [], []

    def place(x):
        shapes.append(x.shape)
        return jnp.asarray(x)

    queries, gallery = small_integers(6, 50), small_integers(7, 64)
    options = {"block_mib": 12 * 64 * 4 / 2**20, "row_multiple": 4, "place": place}
    ids = np.zeros(50, np.int32), np.zeros(64, np.int32)
    ranking.rank(
        queries,
        gallery,
        {"x": ids},
        distance="l2",
        progress=lambda blocks: (seen.append(b) or b for b in blocks),
        **options,
    )
    assert seen == [0, 12, 24, 36, 48]
    assert {shape[0] for shape in shapes} == {12}


def bad(side: str, row: int, value: float) -> dict[str, np.ndarray]:
    given = {"queries": small_integers(8, 4), "gallery": small_integers(9, 6)}
    given[side][row, 1] = value
    return given


IDS = {"x": (np.zeros(4, np.int32), np.zeros(6, np.int32))}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (bad("queries", 2, np.nan), "queries: 1 of 4 embeddings are not finite .* first in row 2"),
        (bad("gallery", 5, np.inf), "gallery: 1 of 6 embeddings are not finite .* first in row 5"),
        (bad("queries", 3, 1e30), "queries: row 3 has a l2 distance that is not finite"),
        ({"gallery": np.ones((0, 3))}, r"gallery: shape \(0, 3\); expected \[n, D\]"),
        ({"queries": np.ones(3)}, r"queries: shape \(3,\); expected \[n, D\]"),
        ({"queries": np.ones((4, 2))}, r"queries \(4, 2\) and gallery \(6, 3\): .* one size"),
        (
            {"relevance": {"x": (np.zeros(4, int), np.zeros(5, int))}},
            r"relevance 'x': gallery ids are int64 \(5,\); expected integers \(6,\)",
        ),
        (
            {"relevance": {"x": (np.zeros(4), np.zeros(6, int))}},
            r"relevance 'x': query ids are float64 \(4,\); expected integers \(4,\)",
        ),
        ({"distance": "dot"}, "distance='dot': valid: cosine, l1"),
        ({"ks": (1, 0)}, "ks: 0 is not valid; at least 1"),
        ({"top": 0}, "top: 0 is not valid; at least 1"),
    ],
)
def test_bad_input_is_one_line(change, message):
    """Wrong shapes, ids, names and values are refused in one line that names them."""
    given = {"queries": small_integers(8, 4), "gallery": small_integers(9, 6)}
    given |= {"relevance": IDS, "distance": "l2"} | change
    with pytest.raises(ValueError, match=message) as error:
        ranking.rank(given.pop("queries"), given.pop("gallery"), given.pop("relevance"), **given)
    assert "\n" not in str(error.value)


def test_large_ids_stay_apart():
    """Ids beyond float32 and int32 are compared exactly."""
    big = np.array([2**40, 2**40 + 1])
    scores = ranking.rank(np.zeros((1, 1)), np.ones((2, 1)), {"x": (big[:1], big)}, distance="l1")
    assert scores.scores["x"].relevant[0] == 1
