"""Intervals and comparisons against SciPy, against enumeration, and for what they promise."""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest
from scipy import stats

from sbir_jax.ranking import bootstrap
from sbir_jax.ranking.bootstrap import compare, intervals


def skewed(seed: int, metrics: int, queries: int) -> np.ndarray:
    return np.random.default_rng(seed).beta(0.5, 2, size=(metrics, queries))


def uneven_classes() -> np.ndarray:
    """12 classes of 1 to 34 queries, in mixed order, with ids that are not 0, 1, 2 ..."""
    classes = np.repeat(7 * np.arange(12) - 20, 3 * np.arange(12) + 1)
    return np.random.default_rng(0).permutation(classes)


def test_interval_is_scipys():
    """Over queries the interval is scipy.stats.bootstrap's percentile interval of the mean."""
    values = skewed(1, 3, 60)
    for level in (0.8, 0.95):
        low, high = intervals(values, level=level, resamples=20_000)
        for row in range(3):
            wanted = stats.bootstrap(
                (values[row],),
                np.mean,
                method="percentile",
                confidence_level=level,
                n_resamples=20_000,
                rng=np.random.default_rng(1),
            ).confidence_interval
            width = wanted.high - wanted.low  # an end has a standard error below 1 % of it
            assert low[row] == pytest.approx(wanted.low, abs=0.04 * width)
            assert high[row] == pytest.approx(wanted.high, abs=0.04 * width)


def test_interval_over_classes_is_scipys_for_a_ratio():
    """Over classes of different sizes it is SciPy's interval of (sum of the class sums) over (sum
    of the class sizes), drawn together."""
    classes = uneven_classes()
    values = skewed(2, 2, len(classes)) + 0.02 * (classes % 5)
    low, high = intervals(values, groups=classes, resamples=20_000)
    for row in range(2):
        members = [values[row, classes == c] for c in sorted(set(classes.tolist()))]
        wanted = stats.bootstrap(
            ([of.sum() for of in members], [len(of) for of in members]),
            lambda sums, sizes, axis: sums.sum(axis) / sizes.sum(axis),
            paired=True,
            vectorized=True,
            method="percentile",
            n_resamples=20_000,
            rng=np.random.default_rng(2),
        ).confidence_interval
        width = wanted.high - wanted.low
        assert low[row] == pytest.approx(wanted.low, abs=0.04 * width)
        assert high[row] == pytest.approx(wanted.high, abs=0.04 * width)


def test_interval_is_the_quantile_of_all_resamples():
    """For four queries the ends are quantiles of the means of all 256 equally likely resamples,
    of which 12 share the lower end and 12 the upper."""
    values = np.array([[0.0, 0.1, 0.25, 0.7]])
    means = [np.mean(chosen) for chosen in itertools.product(values[0], repeat=4)]
    low, high = intervals(values, resamples=20_000, level=0.8)
    np.testing.assert_allclose([low[0], high[0]], np.quantile(means, [0.1, 0.9]), atol=1e-12)


def test_intervals_cover_as_often_as_they_say():
    """Of 600 samples of 60 from a known distribution, about 95 % of intervals hold its mean."""
    low, high = intervals(np.random.default_rng(3).beta(2, 5, size=(600, 60)))
    assert 0.92 < np.mean((low <= 2 / 7) & (high >= 2 / 7)) < 0.975


def test_classes_cover_new_classes_and_queries_do_not():
    """Where queries of a class are alike, intervals over classes cover the mean of all classes and
    intervals over queries are far too narrow."""
    rng = np.random.default_rng(4)
    classes = np.repeat(np.arange(40), rng.integers(5, 26, size=40))
    truth = 0.3
    values = truth + rng.normal(size=(600, 40))[:, classes] + rng.normal(size=(600, len(classes)))
    coverage = []
    for groups in (classes, None):
        low, high = intervals(values, groups=groups)
        coverage.append(np.mean((low <= truth) & (truth <= high)))
    assert 0.9 < coverage[0] < 0.975
    assert coverage[1] < 0.6


def test_p_value_is_scipys():
    """The p-value is scipy.stats.permutation_test's over all 4,096 sign flips of 12 queries."""
    rng = np.random.default_rng(5)
    a = rng.normal(size=(4, 12))
    b = a + rng.normal(size=(4, 12)) + np.array([[0.0], [0.4], [0.8], [-1.2]])
    got = compare(a, b, resamples=20_000)
    for row in range(4):
        wanted = stats.permutation_test(
            (a[row], b[row]),
            lambda x, y, axis: np.mean(x - y, axis),
            permutation_type="samples",
            vectorized=True,
            n_resamples=np.inf,
        )
        error = np.sqrt(wanted.pvalue * (1 - wanted.pvalue) / 20_000) + 1e-4
        assert got.p_value[row] == pytest.approx(wanted.pvalue, abs=4 * error)
        assert got.difference[row] == pytest.approx(wanted.statistic, abs=1e-12)


@pytest.mark.parametrize("classes", [None, [0, 0, 0, 1, 2, 2, 3, 4, 4, 4]])
def test_p_value_counts_all_sign_flips(classes):
    """The p-value is the share of sign flips (of whole classes, where given) whose sum is at least
    as far from 0; equal sums, of which tenths have many, count."""
    difference = np.array([3, -1, 2, 2, 0, 1, -2, 4, 1, 1]) / 10
    of = list(range(10)) if classes is None else classes
    flips = itertools.product((-1, 1), repeat=max(of) + 1)
    # Tenths as integers: exact.
    sums = [
        abs(sum(s[c] * round(10 * d) for c, d in zip(of, difference, strict=True))) for s in flips
    ]
    wanted = np.mean(np.array(sums) >= abs(round(10 * difference.sum())))
    zero = np.zeros((1, 10))
    groups = None if classes is None else np.array(classes)
    got = compare(difference[None], zero, groups=groups, resamples=20_000).p_value[0]
    assert got == pytest.approx(wanted, abs=4 * np.sqrt(wanted * (1 - wanted) / 20_000))


def test_no_difference_is_found_as_often_as_it_should():
    """Of 1,000 pairs of systems that are equally good, about 5 % have a p-value up to 0.05."""
    rng = np.random.default_rng(6)
    a, b = rng.beta(0.5, 2, size=(2, 1000, 40))
    share = np.mean(compare(a, b, resamples=1000).p_value <= 0.05)
    assert 0.03 < share < 0.07


def test_comparison_is_that_of_the_differences():
    """The interval is that of the differences; exchanging a and b turns signs and keeps p."""
    a, b, classes = skewed(7, 3, 210), skewed(8, 3, 210), uneven_classes()
    for groups in (None, classes):
        one, other = compare(a, b, groups=groups), compare(b, a, groups=groups)
        low, high = intervals(a - b, groups=groups, resamples=10_000)
        np.testing.assert_array_equal([one.low, one.high], [low, high])
        np.testing.assert_allclose(one.difference, a.mean(axis=1) - b.mean(axis=1), atol=1e-15)
        np.testing.assert_allclose(other.difference, -one.difference)
        np.testing.assert_allclose([-other.high, -other.low], [low, high], atol=1e-12)
        np.testing.assert_array_equal(other.p_value, one.p_value)


def test_equal_and_far_apart_systems():
    """Equal systems differ by exactly 0 with p = 1; at 100 queries of 0.5 difference no random
    flip is as extreme, which is p = 1 / (1 + B)."""
    a = skewed(9, 2, 100)
    equal = compare(a, a)
    for field in (equal.difference, equal.low, equal.high):
        np.testing.assert_array_equal(field, 0)
    np.testing.assert_array_equal(equal.p_value, 1)
    apart = compare(a + 0.5, a, resamples=999)
    np.testing.assert_array_equal(apart.p_value, 1 / 1000)
    np.testing.assert_allclose([apart.low, apart.high], 0.5)


def test_one_unit_has_no_interval():
    """A single query, or queries of a single class, leave the interval undefined and p at 1."""
    values = skewed(10, 2, 5)
    for given, groups in ((values[:, :1], None), (values, np.full(5, 3))):
        assert np.isnan(intervals(given, groups=groups)).all()
        got = compare(given, given / 2, groups=groups, resamples=50)
        assert np.isnan([got.low, got.high]).all()
        np.testing.assert_array_equal(got.p_value, 1)


def test_constant_values_have_intervals_of_no_width():
    """Where every query has the same value, every resample has it as its mean."""
    values = np.repeat([[0.0], [0.1], [1.0]], 40, axis=1)
    for groups in (None, np.arange(40) % 7):
        np.testing.assert_allclose(intervals(values, groups=groups), [[0, 0.1, 1]] * 2, rtol=1e-13)


def test_a_seed_decides(monkeypatch):
    """The same seed gives the same bits, whatever other metrics are asked for; another seed does
    not; and the resamples held at a time move at most the last bits of a sum."""
    a, b, classes = skewed(11, 3, 210), skewed(12, 3, 210), uneven_classes()

    def results(seed: int, rows=slice(None)) -> np.ndarray:
        low_high = [intervals(a[rows], groups=g, seed=seed, resamples=100) for g in (None, classes)]
        got = compare(a[rows], b[rows], seed=seed, resamples=100)
        return np.concatenate([*low_high, [got.low, got.high, got.p_value]])

    first = results(0)
    np.testing.assert_array_equal(results(0), first)
    np.testing.assert_allclose(results(0, slice(1, 2)), first[:, 1:2], rtol=1e-13)
    assert (results(1) != first).mean() > 0.9
    for block in (1, 7, 1000):
        monkeypatch.setattr(bootstrap, "_BLOCK", block)
        np.testing.assert_allclose(results(0), first, rtol=1e-13)


def test_memory_is_bounded():
    """Memory does not grow with the number of resamples: far below one number for each resample
    and query."""
    a, b = skewed(13, 2, 20_000), skewed(14, 2, 20_000)
    tracemalloc.start()
    compare(a, b, resamples=400)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 20_000 * 400 / 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": np.zeros(3)}, r"values: shape \(3,\); expected \[M, Q\]"),
        ({"values": np.zeros((3, 0))}, r"values: shape \(3, 0\); expected .* at least one query"),
        ({"values": np.array([[0, np.nan]])}, "values: some are not finite"),
        ({"groups": np.zeros(4)}, r"groups: shape \(4,\); expected \(5,\)"),
        ({"level": 95}, "level=95: expected a probability between 0 and 1"),
        ({"resamples": 0}, "resamples=0: at least 1"),
    ],
)
def test_bad_input_is_one_line(change, message):
    """Shapes, values and options that are not valid are refused in one line that names them."""
    given = {"values": np.zeros((2, 5))} | change
    with pytest.raises(ValueError, match=message) as error:
        intervals(given.pop("values"), **given)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=r"a \(2, 5\) and b \(2, 4\): expected the same queries"):
        compare(np.zeros((2, 5)), np.zeros((2, 4)))
