"""Values of metrics against loops, scikit-learn, trec_eval and cases worked by hand."""

from __future__ import annotations

from fractions import Fraction

import jax
import jax.numpy as jnp
import metric_definitions
import numpy as np
import pytest
from sklearn.metrics import average_precision_score, ndcg_score
from test_metric_names import offered

from sbir_jax.ranking import metrics, names

CUTS = (1, 3, 10, 25, 64)  # fewer and more than R, up to more than the gallery


def lines(seed: int, size: int) -> list[list[int]]:
    """Rankings with no, one, few, many and only relevant items, in random places."""
    rng = np.random.default_rng(seed)
    counts = [0, 1, 1, 2, 5, 10, 10, 13, 20, size // 2, size - 1, size]
    return [rng.permutation(np.arange(size) < count).astype(int).tolist() for count in counts]


def as_ranks(rankings: list[list[int]], extra: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Ranks [B, M] of the relevant items with `extra` columns of padding, and R [B]."""
    relevant = np.array([sum(line) for line in rankings], np.int32)
    ranks = np.full((len(rankings), relevant.max() + extra), metrics.NEVER, np.int32)
    for row, line in zip(ranks, rankings, strict=True):
        row[: sum(line)] = np.flatnonzero(line) + 1
    return ranks, relevant


def score(rankings: list[list[int]], *wanted: str) -> dict[str, np.ndarray]:
    ranks, relevant = as_ranks(rankings)
    return metrics.scores([names.parse(w) for w in wanted], ranks, relevant, len(rankings[0]), np)


def one(line: list[int], name: str) -> float:
    return float(score([line], name)[name][0])


def all_names(cuts=CUTS) -> list[str]:
    shapes = offered()
    return [s.replace("@K", f"@{k}", 1) for s in shapes if "@K" in s for k in cuts] + [
        s for s in shapes if "@K" not in s
    ]


def test_every_metric_is_its_definition():
    """Each name there is equals the loop of its definition, on rankings of every kind."""
    for rankings in (lines(0, 40), lines(1, 21)):
        got = score(rankings, *all_names())
        for shape in offered():
            for k in CUTS:
                values = got[shape.replace("@K", f"@{k}", 1)]
                wanted = [metric_definitions.value(shape, line, k) for line in rankings]
                assert values.dtype == np.float64
                np.testing.assert_allclose(values, wanted, rtol=1e-12, err_msg=f"{shape} {k}")


def test_on_the_device_as_on_the_host():
    """Inside jit, in float32, every metric is within 1e-6 of NumPy's float64."""
    rankings = lines(2, 3000)
    ranks, relevant = as_ranks(rankings)
    chosen = [names.parse(name) for name in all_names((1, 10, 200, 5000))]
    on_device = jax.jit(lambda r, n: metrics.scores(chosen, r, n, 3000, jnp))(ranks, relevant)
    on_host = metrics.scores(chosen, ranks, relevant, 3000, np)
    assert on_device.keys() == on_host.keys()
    for name, values in on_host.items():
        assert on_device[name].dtype == np.float32 and on_device[name].shape == values.shape
        np.testing.assert_allclose(on_device[name], values, atol=1e-6, rtol=0, err_msg=name)
    curves = jax.jit(lambda r, n: metrics.interpolated(r, n, 100, jnp))(ranks, relevant)
    wanted = metrics.interpolated(ranks, relevant, 100, np)
    np.testing.assert_allclose(curves, wanted, atol=1e-6, rtol=0)


FIRST = [1, 0, 1, 0, 0, 0, 0, 0, 1, 1]
SECOND = [0, 1, 0, 0, 1, 1, 1, 0, 0, 0]


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("mAP@all", (1 + 2 / 3 + 3 / 9 + 4 / 10) / 4, (1 / 2 + 2 / 5 + 3 / 6 + 4 / 7) / 4),
        ("mAP-first@2", (1 + 2 / 3) / 2, (1 / 2 + 2 / 5) / 2),
        ("MRR", 1, 1 / 2),
        ("P@1", 1, 0),
        ("mAP-lecture@6", (1 + 2 / 3 + 1 / 6 + 1 / 6) / 4, (1 / 2 + 2 / 5 + 3 / 6 + 1 / 6) / 4),
        ("11-point", (3 * 1 + 3 * 2 / 3 + 5 * 0.4) / 11, 4 / 7),
    ],
)
def test_the_lectures_two_rankings(name, first, second):
    """The lecture's worked example and its variants, by hand; mAP is 0.6 and 0.49."""
    values = score([FIRST, SECOND], name)[name]
    np.testing.assert_allclose(values, [first, second], rtol=1e-12)
    if name == "mAP@all":
        assert (round(values[0], 4), round(values[1], 4)) == (0.6, 0.4929)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        # Relevant at ranks 2, 3 and 7 of 8; precisions 1/2, 2/3 and 3/7, the first raised to 2/3.
        ("mAP@4/hits", (1 / 2 + 2 / 3) / 2),
        ("mAP@4/min", (1 / 2 + 2 / 3) / 3),
        ("mAP@4/K", (1 / 2 + 2 / 3) / 4),
        ("mAP@4/R", (1 / 2 + 2 / 3) / 3),
        ("mAP@2/min", (1 / 2) / 2),
        ("mAP@2/R", (1 / 2) / 3),
        ("mAP-voc@all", (2 / 3 + 2 / 3 + 3 / 7) / 3),
        ("mAP-voc@2/min", (1 / 2) / 2),  # cut first: the 2/3 of rank 3 does not raise it
        ("mAP-voc@4/min", (2 / 3 + 2 / 3) / 3),
        ("mAP-lecture@2", (1 / 2 + 1 / 2 + 1 / 2) / 3),
        ("P@4", 2 / 4),
        ("P@4/min-R", 2 / 3),
        ("P@4/cut-R", 2 / 3),
        ("P@7/min-R", 3 / 3),
        ("P@7/cut-R", 2 / 3),
        ("P@16", 3 / 16),
        ("P@16/min-N", 3 / 8),
        ("recall@4", 2 / 3),
        ("acc@1", 0),
        ("acc@2", 1),
        ("R-precision", 2 / 3),
        ("MAP@R", (1 / 2 + 2 / 3) / 3),
    ],
)
def test_one_ranking_by_hand(name, value):
    """The names of one column give different numbers for one ranking, each as worked by hand."""
    assert one([0, 1, 1, 0, 0, 0, 1, 0], name) == pytest.approx(value, rel=1e-12)


def test_recall_three_tenths_is_reached_exactly():
    """Of 10 relevant items the third has recall .3, though 3 * 0.1 > 0.3 in floating point."""
    line = [1, 1, 1] + [0] * 7 + [1] * 7  # from recall .4 the precision is at most 10/17
    assert 3 * 0.1 > 3 / 10  # what thresholds built in floating point would ask
    ranks, relevant = as_ranks([line])
    curve = metrics.interpolated(ranks, relevant, 10, np)[0]
    np.testing.assert_allclose(curve, [1] * 4 + [10 / 17] * 7, rtol=1e-12)


@pytest.mark.parametrize("levels", [1, 10, 100])
def test_interpolated_precision_is_the_largest_at_that_recall_or_more(levels):
    """At every level, with exact fractions, for R that the levels divide or not."""
    rankings = [line for line in lines(3, 30) if sum(line)]
    curves = metrics.interpolated(*as_ranks(rankings), levels, np)
    assert curves.shape == (len(rankings), levels + 1)
    for curve, line in zip(curves, rankings, strict=True):
        steps = [Fraction(i, levels) for i in range(levels + 1)]
        wanted = [metric_definitions.interpolated(line, step) for step in steps]
        np.testing.assert_allclose(curve, wanted, rtol=1e-12)


def test_scikit_learn_agrees():
    """Average precision and nDCG, whole and cut, are scikit-learn's."""
    rankings = [line for line in lines(4, 40) if sum(line)]
    nearness = np.arange(40, 0, -1)
    got = score(rankings, "mAP@all", "nDCG@all", "nDCG@1", "nDCG@7")
    ap = [average_precision_score(line, nearness) for line in rankings]
    np.testing.assert_allclose(got["mAP@all"], ap, rtol=1e-12)
    for k, name in ((None, "nDCG@all"), (1, "nDCG@1"), (7, "nDCG@7")):
        wanted = [ndcg_score([line], [nearness], k=k) for line in rankings]
        np.testing.assert_allclose(got[name], wanted, rtol=1e-12, err_msg=name)


def test_trec_eval_agrees():
    """The names of trec_eval's measures have trec_eval's values."""
    pytrec_eval = pytest.importorskip("pytrec_eval")
    pairs = {
        "map": "mAP@all",
        "map_cut_10": "mAP@10/R",
        "Rprec": "R-precision",
        "recip_rank": "MRR",
        "P_10": "P@10",
        "P_100": "P@100",
        "recall_10": "recall@10",
        "success_5": "acc@5",
        "ndcg": "nDCG@all",
        "ndcg_cut_10": "nDCG@10",
        "11pt_avg": "11-point",  # it finds recall .3 by rounding, right if R is a multiple of 10
    }
    rankings = [line for line in lines(5, 40) if sum(line)]
    qrels = {f"q{q}": {f"d{i}": hit for i, hit in enumerate(x)} for q, x in enumerate(rankings)}
    run = {q: {f"d{i}": float(-i) for i in range(40)} for q in qrels}
    asked = {"map", "map_cut.10", "Rprec", "recip_rank", "P.10,100", "recall.10", "success.5"}
    asked |= {"ndcg", "ndcg_cut.10", "11pt_avg"}
    theirs = pytrec_eval.RelevanceEvaluator(qrels, asked).evaluate(run)
    ours = score(rankings, *pairs.values())
    for measure, name in pairs.items():
        for q, line in enumerate(rankings):
            if measure != "11pt_avg" or sum(line) % 10 == 0:
                assert theirs[f"q{q}"][measure] == pytest.approx(ours[name][q], rel=1e-9), measure


def test_only_the_ranks_to_the_depth_are_needed():
    """Ranks below a metric's depth may be missing, as a top-K engine leaves them."""
    rankings = lines(6, 40)
    ranks, relevant = as_ranks(rankings)
    for name in all_names():
        metric = names.parse(name)
        deepest = metrics.depth([metric])
        wanted = score(rankings, name)[name]
        if deepest is None:
            assert metric.k is None or metric.kind == "AP-first", name
            continue
        assert deepest == metric.k
        shallow = np.where(ranks <= deepest, ranks, metrics.NEVER)[:, :deepest]
        got = metrics.scores([metric], shallow, relevant, 40, np)[name]
        np.testing.assert_array_equal(got, wanted, err_msg=name)


def test_depth_is_that_of_the_deepest():
    """Several metrics need the deepest of their cut-offs, or everything."""
    depth = [names.parse(name) for name in ("P@10", "mAP@200/min", "acc@1")]
    assert metrics.depth(depth) == 200
    assert metrics.depth([*depth, names.parse("MRR")]) is None
    assert metrics.depth([]) == 0


@pytest.mark.parametrize("xp", [np, jnp])
@pytest.mark.parametrize("columns", [0, 3])
def test_without_relevant_items_everything_is_zero(xp, columns):
    """A query without relevant items scores 0, never NaN, with padding or no column at all."""
    ranks = xp.full((2, columns), metrics.NEVER, dtype=np.int32)
    none = xp.zeros(2, np.int32)
    got = metrics.scores([names.parse(name) for name in all_names()], ranks, none, 40, xp)
    for name, values in got.items():
        np.testing.assert_array_equal(values, [0, 0], err_msg=name)


def test_a_relevant_item_that_was_not_found_still_counts():
    """R above the number of ranks given divides all the same."""
    ranks = np.array([[2, metrics.NEVER]], np.int32)
    chosen = [names.parse(name) for name in ("mAP@all", "recall@5", "R-precision", "11-point")]
    got = metrics.scores(chosen, ranks, np.array([4], np.int32), 100, np)
    assert got["mAP@all"] == 0.5 / 4 and got["recall@5"] == 1 / 4 and got["R-precision"] == 1 / 4
    assert got["11-point"] == pytest.approx(3 * 0.5 / 11)  # recall 0, .1 and .2
