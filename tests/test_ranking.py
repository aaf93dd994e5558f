"""Both engines against definitions, scikit-learn and SciPy; ties, memory and bad input."""

from __future__ import annotations

import itertools

import jax
import numpy as np
import pytest
from metric_definitions import value
from scipy.spatial.distance import cdist
from sklearn.metrics import average_precision_score

from sbir_jax import distances, sharding
from sbir_jax.ranking import device, expected, relevance
from sbir_jax.ranking.names import MetricError
from sbir_jax.ranking.rank import Ranking, rank

# Ways to compute one ranking: the host engine in one block, in blocks of one row; the device
# engine on one device, split over eight, and with the gallery streamed in parts.
WAYS = {
    "host": {"engine": "host"},
    "host, one row": {"engine": "host", "memory_mib": 1e-4},
    "device": {"engine": "device"},
    "eight devices": {"engine": "device", "mesh": 8},
    "device, gallery in parts": {"engine": "device", "memory_mib": 8e-3},
}
SHAPES = (  # of every metric there is, K for the cut-off
    *("mAP@all", "mAP@K/hits", "mAP@K/min", "mAP@K/K", "mAP@K/R", "mAP-voc@all", "mAP-voc@K/min"),
    *("mAP-first@K", "mAP-lecture@K", "MRR", "P@K", "P@K/min-N", "P@K/min-R", "P@K/cut-R"),
    *("recall@K", "acc@K", "R-precision", "MAP@R", "nDCG@K", "nDCG@all", "11-point"),
)


def run(way: str, *args, **options) -> Ranking:
    options = WAYS[way] | options
    if "mesh" in options:
        options["mesh"] = sharding.make_mesh(jax.devices()[: options["mesh"]])
    return rank(*args, **options)


def integers(seed: int, rows: int, size: int = 3) -> np.ndarray:
    """Embeddings in {0, 1, 2}^size: copies and equal distances everywhere, exact in float32."""
    return np.random.default_rng(seed).integers(3, size=(rows, size)).astype(np.float32)


def table(of: relevance.Relevance) -> np.ndarray:
    """bool [Q, G]."""
    found = np.zeros((len(of.row), of.size), bool)
    for query, line in enumerate(found):
        line[of.of(query)] = True
    return found


def line(distance: np.ndarray, hits: np.ndarray, ties: str) -> list[int]:
    """The ranking of one query as 0 and 1, relevant items last or first among equals."""
    order = np.lexsort((hits if ties == "pessimistic" else ~hits, distance))
    return hits[order].astype(int).tolist()


def rank_line(hits: list[int], *metrics: str, **options) -> dict[str, float]:
    """Scores of one query whose gallery, at distances 1, 2, 3, ..., is relevant as said."""
    gallery = np.arange(1, len(hits) + 1, dtype=np.float32)[:, None]
    of = {"x": relevance.by_matrix([hits])}
    options = {"distance": "l1"} | options
    found = rank(np.zeros((1, 1)), gallery, of, {"x": metrics}, **options).scores["x"].metrics
    return {name: float(values[0]) for name, values in found.items()}


@pytest.mark.parametrize(
    ("hits", "average"),
    [
        ([1, 0, 1, 0, 0, 0, 0, 0, 1, 1], (1 + 2 / 3 + 3 / 9 + 4 / 10) / 4),
        ([0, 1, 0, 0, 1, 1, 1, 0, 0, 0], (1 / 2 + 2 / 5 + 3 / 6 + 4 / 7) / 4),
    ],
)
def test_the_lectures_worked_example(hits, average):
    """The lecture's two rankings have AP 0.6 and 0.49."""
    metrics = rank_line(hits, "mAP@all", "MRR")
    assert metrics["mAP@all"] == pytest.approx(average, abs=1e-7)
    assert round(average, 2) in (0.6, 0.49)
    assert metrics["MRR"] == 1 / (1 + hits.index(1))


@pytest.mark.parametrize("way", ["host", "device"])
def test_average_precision_is_scikit_learns(way):
    """On tie-free real-valued embeddings every query has scikit-learn's average precision,
    whatever float they are given in."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(5, 24))
    labels = rng.integers(5, size=40), rng.integers(5, size=300)
    sides = [centres[label] + rng.normal(size=(len(label), 24)) for label in labels]
    for dtype in (np.float16, np.float32, np.float64):
        queries, gallery = given = [side.astype(dtype) for side in sides]
        of = {"x": relevance.by_ids(*labels)}
        got = run(way, *given, of, {"x": ["mAP@all"]}).scores["x"]
        unit = [x / np.linalg.norm(x.astype(float), axis=1, keepdims=True) for x in given]
        wanted = [
            average_precision_score(labels[1] == label, cosines)
            for label, cosines in zip(labels[0], unit[0] @ unit[1].T, strict=True)
        ]
        np.testing.assert_allclose(got.metrics["mAP@all"], wanted, atol=1e-6)


@pytest.mark.parametrize("ties", ["pessimistic", "optimistic"])
@pytest.mark.parametrize("way", ["host", "device"])
def test_every_metric_is_its_definition(way, ties):
    """All metrics of a ranking full of ties, of two relevances at once, equal slow loops."""
    queries, gallery = integers(1, 14), integers(2, 60)
    rng = np.random.default_rng(3)
    relevances = {
        "ids": relevance.by_ids(rng.integers(-1, 4, size=14), rng.integers(-1, 4, size=60)),
        "table": relevance.by_matrix(rng.random((14, 60)) < 0.03),
    }
    names = {shape.replace("@K", f"@{k}"): (shape, k) for shape in SHAPES for k in (1, 6, 70)}
    asked = dict.fromkeys(relevances, tuple(names))
    found = run(way, queries, gallery, relevances, asked, distance="sq_l2", ties=ties)
    distance = cdist(queries, gallery, "sqeuclidean")
    assert len(np.unique(distance)) < 14
    for level, of in relevances.items():
        hits, scores = table(of), found.scores[level]
        np.testing.assert_array_equal(scores.relevant, hits.sum(axis=1))
        assert (hits.sum(axis=1) == 0).any() and (hits.sum(axis=1) > 0).any()
        for name, (shape, k) in names.items():
            assert scores.metrics[name].dtype == np.float64
            wanted = [
                value(shape, line(d, h, ties), k) for d, h in zip(distance, hits, strict=True)
            ]
            np.testing.assert_allclose(scores.metrics[name], wanted, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("way", ["host", "device"])
def test_expected_is_the_mean_over_gallery_orders(way):
    """Expected scores and curves are the means, over all orders of the gallery, of ranking equal
    distances in gallery order."""
    queries, gallery = np.array([[0.0], [1.0]]), np.array([[0], [1], [1], [2], [2], [2]])
    hits = np.array([[1, 0, 1, 1, 0, 0], [0, 1, 0, 0, 1, 0]])
    names = ("mAP@all", "mAP@2/min", "P@3", "recall@4", "MRR", "nDCG@all")
    found = run(
        way,
        *(queries, gallery, {"x": relevance.by_matrix(hits)}, {"x": names}),
        **{"distance": "l1", "ties": "expected", "curves": True},
    ).scores["x"]
    lines = [[], []]
    for order in map(list, itertools.permutations(range(6))):
        for q in (0, 1):
            ranking = np.argsort(np.abs(gallery[order, 0] - queries[q]), kind="stable")
            lines[q].append(hits[q][order][ranking].tolist())
    for name in names:
        shape, _, k = name.partition("@")
        k, _, over = k.partition("/")
        shape, k = (
            (f"{shape}@K" + ("/" + over if over else ""), int(k)) if k.isdigit() else (name, 0)
        )
        wanted = [np.mean([value(shape, one, k) for one in of]) for of in lines]
        np.testing.assert_allclose(found.metrics[name], wanted, rtol=1e-12, err_msg=name)
    up_to = np.cumsum(lines, axis=2).mean(axis=1)  # [2, 6]
    np.testing.assert_allclose(found.curve.precision, (up_to / np.arange(1, 7)).mean(axis=0))
    np.testing.assert_allclose(found.curve.recall, (up_to / hits.sum(axis=1)[:, None]).mean(axis=0))


@pytest.mark.parametrize(
    ("kind", "ties"),
    [
        ("quantised", "pessimistic"),
        ("identical", "pessimistic"),
        *(("copies", ties) for ties in ("pessimistic", "optimistic", "expected")),
    ],
)
def test_massive_ties_score_the_same_anyhow(kind, ties):
    """Gallery order, block size, engine and number of devices move no item: scores stay the same
    up to the last bits of a float32 sum (one swap would move AP by 1e-4)."""
    rng = np.random.default_rng(4)
    queries = rng.normal(size=(19, 40)).astype(np.float32)
    gallery = {
        "quantised": np.sign(rng.normal(size=(101, 40))),
        "identical": np.tile(rng.normal(size=40), (101, 1)),
        "copies": rng.normal(size=(10, 40))[rng.integers(10, size=101)],
    }[kind]
    queries = np.sign(queries) if kind == "quantised" else queries
    ids = rng.integers(3, size=19), rng.integers(3, size=101)
    asked = {"x": ["mAP@all", "P@10"]}
    results = []
    for way, seed in itertools.product(WAYS, (0, 1)):
        order = np.random.default_rng(seed).permutation(101)
        of = {"x": relevance.by_ids(ids[0], ids[1][order])}
        found = run(way, queries, gallery[order], of, asked, distance="l2", ties=ties)
        results.append(found.scores["x"].metrics)
    assert results[0]["mAP@all"].min() > 0
    for other in results[1:]:
        for name, values in results[0].items():
            np.testing.assert_allclose(other[name], values, rtol=5e-7, err_msg=name)


@pytest.mark.parametrize(("rows", "size", "copies"), [(1, 7, 17), (1, 7, 33), (5, 1000, 4099)])
def test_copies_tie_exactly(rows, size, copies):
    """Copies of one gallery embedding, with zeros of either sign, are at one distance, in shapes
    where the matrix product rounds some columns differently (seen on CPUs)."""
    rng = np.random.default_rng(0)
    queries = rng.normal(size=(rows, size))
    gallery = np.tile(rng.normal(size=size), (copies, 1))
    gallery[:, 0] = np.where(np.arange(copies) % 2, 0.0, -0.0)
    for way, distance in (("host", "sq_l2"), ("host", "cosine"), ("device", "sq_l2")):
        result = run(way, queries, gallery, {}, {}, distance=distance, top=copies)
        assert not np.ptp(result.nearest_distance, axis=1).any()
        np.testing.assert_array_equal(result.nearest, np.tile(np.arange(copies), (rows, 1)))


def test_collapsed_model_is_not_above_chance():
    """Identical embeddings in class order, which index-order evaluators reward, score below
    chance by the default rule and at chance in expectation."""
    labels = np.repeat(np.arange(4), 25)
    of = relevance.by_ids(labels[::25], labels)
    for ties in ("pessimistic", "expected"):
        found = rank(np.ones((4, 5)), np.ones((100, 5)), {"x": of}, {"x": ["mAP@all"]}, ties=ties)
        chance = expected.by_chance(of.counts, 100, ["mAP@all"])["mAP@all"]
        wanted = sum((i + 1) / (76 + i) for i in range(25)) / 25  # the 75 others first
        wanted = {"pessimistic": np.full(4, wanted), "expected": chance}[ties]
        np.testing.assert_allclose(found.scores["x"].metrics["mAP@all"], wanted, rtol=1e-9)
        assert (wanted <= chance).all()


REFERENCES = {
    "l1": {"metric": "cityblock"},
    "l2": {"metric": "euclidean"},
    "sq_l2": {"metric": "sqeuclidean"},
    "linf": {"metric": "chebyshev"},
    "l3": {"metric": "minkowski", "p": 3},
    "cosine": {"metric": "cosine"},
    "dot": {"metric": lambda x, y: -x @ y},
}


@pytest.mark.parametrize("distance", REFERENCES)
def test_neighbours_are_scipys(distance):
    """Each distance, after each normalisation, orders the gallery as SciPy's in float64, on the
    host at the values of `distances.pairwise`."""
    rng = np.random.default_rng(5)
    queries, gallery = rng.normal(size=(9, 12)), rng.normal(size=(57, 12))
    roots = [np.sign(x) * np.sqrt(np.abs(x)) for x in (queries, gallery)]
    sides = {
        "none": (queries, gallery),
        "unit": [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (queries, gallery)],
        "sr": [x / np.linalg.norm(x, axis=1, keepdims=True) for x in roots],
    }
    for normalise, way in itertools.product(sides, ("host", "device")):
        if way == "device" and (distance, normalise) not in {("dot", "none"), ("l1", "sr")}:
            continue  # both engines take them from `distances`, which has its own tests
        options = {"distance": distance, "normalise": normalise, "top": 57}
        got = run(way, queries, gallery, {}, {}, **options)
        reference = cdist(*sides[normalise], **REFERENCES[distance])
        np.testing.assert_array_equal(got.nearest, np.argsort(reference, axis=1))
        ours = np.asarray(distances.pairwise(*sides[normalise], distance))
        ours = np.take_along_axis(ours, got.nearest, axis=1)
        np.testing.assert_allclose(got.nearest_distance, ours, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("way", WAYS)
def test_equal_neighbours_come_by_row(way):
    """Among ties, also across the last neighbour asked for, the order is a stable argsort's, with
    and without metrics that need the whole row."""
    queries, gallery = integers(6, 11, size=6), integers(7, 190, size=6)
    reference = cdist(queries, gallery, "sqeuclidean")
    wanted = np.argsort(reference, axis=1, kind="stable")[:, :13]
    of = {"x": relevance.by_ids(np.arange(11) % 3, np.arange(190) % 3)}
    for names in ((), ("P@4",), ("mAP@all",)):
        result = run(way, queries, gallery, of, {"x": names}, distance="sq_l2", top=13)
        assert result.nearest.dtype == np.int32
        np.testing.assert_array_equal(result.nearest, wanted)
        wanted_distance = np.take_along_axis(reference, wanted, axis=1)
        np.testing.assert_array_equal(result.nearest_distance, wanted_distance)


@pytest.mark.parametrize("way", ["host", "device"])
def test_relevances_share_a_pass_without_touching(way):
    """Several relevances in one pass, one of them without metrics, score as each alone."""
    queries, gallery = integers(8, 20), integers(9, 70)
    relevances = {
        "category": relevance.by_ids(np.arange(20) % 4, np.arange(70) % 4),
        "instance": relevance.by_pairs(np.arange(20), 3 * np.arange(20), queries=20, size=70),
        "none": relevance.by_matrix(np.zeros((20, 70), bool)),
    }
    asked = {"category": ["mAP@all", "P@5"], "instance": ["MRR", "acc@3"]}
    together = run(way, queries, gallery, relevances, asked, distance="l2").scores
    assert together["none"].metrics == {} and not together["none"].relevant.any()
    for name, metrics in asked.items():
        of = {name: relevances[name]}
        alone = run(way, queries, gallery, of, {name: metrics}, distance="l2").scores[name]
        np.testing.assert_array_equal(together[name].relevant, alone.relevant)
        for metric in metrics:
            np.testing.assert_allclose(
                together[name].metrics[metric], alone.metrics[metric], rtol=1e-6
            )


@pytest.mark.parametrize("ties", ["pessimistic", "optimistic", "expected"])
def test_a_shallow_ranking_scores_as_the_whole(ties):
    """Metrics that look at the top only do not need the rest, also where ties cross the border."""
    queries, gallery = integers(10, 25), integers(11, 80)
    of = {"x": relevance.by_ids(np.arange(25) % 3, np.arange(80) % 3)}
    shallow = ("mAP@7/min", "P@12", "recall@3", "acc@1", "nDCG@12")
    for way in ("host", "device"):
        options = {"distance": "sq_l2", "ties": ties}
        alone = run(way, queries, gallery, of, {"x": shallow}, **options).scores["x"]
        whole = run("host", queries, gallery, of, {"x": [*shallow, "mAP@all"]}, **options)
        for name in shallow:
            np.testing.assert_allclose(
                alone.metrics[name], whole.scores["x"].metrics[name], rtol=1e-6, err_msg=name
            )


@pytest.mark.parametrize("ties", ["pessimistic", "optimistic"])
@pytest.mark.parametrize("way", ["host, one row", "device"])
def test_curves_are_means_of_definitions(way, ties):
    """Over the queries with a relevant item: precision and recall at every depth, and the largest
    precision at each hundredth of recall or more."""
    queries, gallery = integers(12, 9), integers(13, 40)
    of = relevance.by_ids(np.arange(9) % 4 - 1, np.arange(40) % 5)
    asked = {"distance": "sq_l2", "ties": ties, "curves": True}
    curve = run(way, queries, gallery, {"x": of}, {}, **asked).scores["x"].curve
    found = []
    for d, hits in zip(cdist(queries, gallery, "sqeuclidean"), table(of), strict=True):
        if hits.any():
            up_to = np.cumsum(line(d, hits, ties))
            precision = up_to / np.arange(1, 41)
            levels = [precision[100 * up_to >= level * up_to[-1]].max() for level in range(101)]
            found.append((levels, precision, up_to / up_to[-1]))
    wanted = [np.mean(of, axis=0) for of in zip(*found, strict=True)]
    for got, want in zip((curve.interpolated, curve.precision, curve.recall), wanted, strict=True):
        assert got.dtype == np.float64
        np.testing.assert_allclose(got, want, atol=1e-12)


def test_curves_without_any_relevant_item_are_zero():
    """There is no query to average over: zeros, not NaN."""
    of = relevance.by_matrix(np.zeros((2, 3), bool))
    curve = rank(integers(0, 2), integers(1, 3), {"x": of}, {}, distance="l2", curves=True)
    curve = curve.scores["x"].curve
    assert not curve.interpolated.any() and not curve.precision.any() and not curve.recall.any()
    assert len(curve.interpolated) == 101 and len(curve.precision) == len(curve.recall) == 3


def test_gallery_smaller_than_k():
    """With G < K precision still divides by K, recall is complete and `nearest` has G columns."""
    for engine in ("host", "device"):
        metrics = rank_line([0, 1, 1], "P@10", "recall@10", engine=engine)
        assert metrics == pytest.approx({"P@10": 0.2, "recall@10": 1})
        options = {"distance": "l1", "top": 10, "engine": engine}
        result = rank(np.zeros((1, 1)), np.ones((3, 1)), {}, {}, **options)
        np.testing.assert_array_equal(result.nearest, [[0, 1, 2]])


@pytest.mark.parametrize(("engine", "memory"), [("host", 0.01), ("host", 0.001), ("device", 0.03)])
def test_blocks_are_bounded_and_seen_by_the_progress(engine, memory):
    """No block of distances is larger than the memory asked for, unless it is one row, and the
    progress wrapper walks over the blocks."""
    seen = []
    rank(
        *(integers(14, 50, size=9), integers(15, 64, size=9), {}, {}),
        **{"distance": "l2", "engine": engine, "memory_mib": memory},
        progress=lambda blocks: (seen.append(block) or block for block in blocks),
    )
    rows = seen[1]
    assert seen == list(range(0, 50, rows))
    assert rows == 1 or rows * 64 * 4 <= memory * 2**20


def test_rows_stay_on_their_device():
    """No device gathers the distances of the others: only results are copied between them."""
    mesh, gathered = sharding.make_mesh(), []
    finish = device._finish

    def compiled(*args, **options):
        gathered.append(finish.lower(*args, **options).compile().as_text())
        return finish(*args, **options)

    of = {"x": relevance.by_ids(np.arange(32) % 3, np.arange(211) % 3)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device, "_finish", compiled)
        options = {"distance": "l2", "top": 4, "mesh": mesh, "engine": "device"}
        rank(integers(16, 32, 9), integers(17, 211, 9), of, {"x": ["mAP@all"]}, **options)
    moved = [text for text in gathered[0].splitlines() if " all-gather(" in text]
    assert moved and not [text for text in moved if "[32,211]" in text]
    for word in ("all-to-all(", "collective-permute("):
        assert word not in gathered[0]


def test_auto_is_the_host_on_a_cpu(monkeypatch):
    """Without a word about engines, a CPU, or a mesh of CPUs, ranks with NumPy."""

    def refuse(*_args, **_options):
        raise AssertionError("the device engine ran")

    monkeypatch.setattr(device, "blocks", refuse)
    for mesh in (None, sharding.make_mesh()):
        rank(integers(0, 2), integers(1, 3), {}, {}, distance="l2", mesh=mesh)
    with pytest.raises(AssertionError):
        rank(integers(0, 2), integers(1, 3), {}, {}, distance="l2", engine="device")


@pytest.mark.parametrize("way", WAYS)
def test_distances_that_are_not_finite_name_the_query(way):
    """Embeddings that float32 holds but whose distances it does not are refused by row."""
    queries = integers(18, 23)
    queries[17] = 1e30
    wanted = "queries: row 17 has a l2 distance that is not finite; embeddings are too large"
    with pytest.raises(ValueError, match=wanted):
        run(way, queries, integers(19, 30), {}, {}, distance="l2")


def bad(side: str, row: int, content: float) -> dict[str, np.ndarray]:
    given = {"queries": integers(20, 4) + 1, "gallery": integers(21, 6) + 1}
    given[side][row, 1:] = content
    if content == 0:
        given[side][row] = 0
    return given


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (bad("queries", 2, np.nan), "queries: 1 of 4 embeddings are not finite .* first in row 2"),
        (bad("gallery", 5, np.inf), "gallery: 1 of 6 embeddings are not finite .* first in row 5"),
        ({"queries": np.full((4, 3), 1e300)}, "queries: 4 of 4 embeddings are not finite"),
        (
            bad("queries", 3, 0) | {"distance": "cosine"},
            "queries: row 3 is all zeros, it has no direction for cosine",
        ),
        (
            bad("gallery", 1, 0) | {"normalise": "sr"},
            "gallery: row 1 is all zeros, it has no direction for normalise='sr'",
        ),
        ({"gallery": np.ones((0, 3))}, r"gallery: shape \(0, 3\); expected \[n, D\]"),
        ({"queries": np.ones(3)}, r"queries: shape \(3,\); expected \[n, D\]"),
        ({"queries": np.ones((4, 2))}, r"queries \(4, 2\) and gallery \(6, 3\): .* one size"),
        (
            {"relevance": {"x": relevance.by_ids(np.zeros(4, int), np.zeros(5, int))}},
            "relevance 'x' is of 4 queries and 5 items; there are 4 and 6",
        ),
        ({"metrics": {"y": ["MRR"]}}, "metrics are asked of 'y'; relevances: x"),
        ({"metrics": {"x": ["mAP@200"]}}, "mAP@200 has no one meaning"),
        ({"metrics": {"x": ["11-point"]}, "ties": "expected"}, "no closed form for 11-point"),
        ({"distance": "euclidean"}, "distance='euclidean': valid: cosine, dot, l1"),
        ({"normalise": "l2"}, "normalise='l2': valid: none, unit, sr"),
        ({"ties": "random"}, "ties='random': valid: pessimistic, optimistic, expected"),
        ({"engine": "gpu"}, "engine='gpu': valid: auto, host, device"),
        ({"top": -1}, "top=-1: must be at least 0"),
        ({"memory_mib": -1}, "memory_mib=-1: must be at least 0"),
    ],
)
def test_bad_input_is_one_line(change, message):
    """Wrong shapes, names and values are refused in one line that names them."""
    of = {"x": relevance.by_ids(np.zeros(4, int), np.zeros(6, int))}
    given = {"queries": integers(20, 4), "gallery": integers(21, 6), "relevance": of}
    given |= {"metrics": {"x": ["mAP@all"]}, "distance": "l2"} | change
    with pytest.raises(ValueError, match=message) as error:
        rank(**given)
    assert "\n" not in str(error.value)
    if "metrics" in change and "y" not in change["metrics"]:
        assert isinstance(error.value, MetricError)
