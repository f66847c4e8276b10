"""Estimates and intervals against hand-worked values, slow obvious versions, scipy, and simulated coverage."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from impactrl.analysis.bootstrap import (
    bootstrap_means,
    interquartile_mean,
    mean,
    paired_difference,
    probability_of_improvement,
)

ONE_SAMPLE = [mean, interquartile_mean]
TWO_SAMPLES = [paired_difference, probability_of_improvement]


def rng(seed=0):
    return np.random.default_rng(seed)


def slow_iqm(levels):
    """The mean of the quantile function between 1/4 and 3/4, on a fine grid of midpoints."""
    scores = sorted((x, 1 / len(levels) / len(level)) for level in levels for x in level)
    values, mass = np.array(scores).T
    grid = 0.25 + (np.arange(20_000) + 0.5) / 40_000
    return values[np.searchsorted(np.cumsum(mass), grid - 1e-12)].mean()


# Values


def test_the_mean_weighs_levels_alike():
    assert mean([[1, 2, 6], [10]], rng=rng()).value == 0.5 * 3 + 0.5 * 10


def test_the_interquartile_mean_leaves_out_the_outer_quarters():
    assert interquartile_mean([[-100, 1, 2, 900]], rng=rng()).value == pytest.approx(1.5)
    # Five scores of mass 1/5: the second and fourth count with 0.15, the third with 0.2.
    assert interquartile_mean([[0, 1, 2, 3, 4]], rng=rng()).value == pytest.approx(2 * (0.15 * 1 + 0.2 * 2 + 0.15 * 3))
    # Two levels, masses 1/2 for the 8 and 1/4 for the others: half of the middle half is of each.
    assert interquartile_mean([[8.0], [0.0, 4.0]], rng=rng()).value == pytest.approx((4 + 8) / 2)


@given(st.lists(st.lists(st.floats(-100, 100), min_size=1, max_size=6), min_size=1, max_size=4))
def test_the_interquartile_mean_is_that_of_the_quantile_function(levels):
    span = max(map(max, levels)) - min(map(min, levels))
    assert interquartile_mean(levels, rng=rng(), resamples=1).value == pytest.approx(
        slow_iqm(levels), abs=1e-3 * span + 1e-9
    )


def test_the_interquartile_mean_is_scipys_trimmed_mean_where_that_is_defined_alike():
    levels = rng(1).normal(size=(4, 6))
    expected = stats.trim_mean(levels.ravel(), 0.25)
    assert interquartile_mean(levels, rng=rng(), resamples=1).value == pytest.approx(expected)


def test_the_probability_of_improvement_counts_pairs_level_by_level():
    first, second = [[3, 1], [0, 0, 5]], [[1, 2], [0]]
    by_hand = ((1 + 1 + 0.5 + 0) / 4 + (0.5 + 0.5 + 1) / 3) / 2
    assert probability_of_improvement(first, second, rng=rng()).value == pytest.approx(by_hand)


@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(0, 3), min_size=1, max_size=5), st.lists(st.integers(0, 3), min_size=1, max_size=5)
        ),
        min_size=1,
        max_size=3,
    )
)
def test_the_probability_of_improvement_is_that_of_mann_and_whitney(pairs):
    first, second = zip(*pairs, strict=True)
    expected = np.mean([stats.mannwhitneyu(x, y).statistic / (len(x) * len(y)) for x, y in pairs])
    forward = probability_of_improvement(first, second, rng=rng(), resamples=1).value
    assert forward == pytest.approx(expected)
    assert probability_of_improvement(second, first, rng=rng(), resamples=1).value == pytest.approx(1 - forward)


def test_a_paired_difference_is_the_mean_of_the_differences():
    estimate = paired_difference([[5, 7], [1]], [[4, 4], [3]], rng=rng())
    assert estimate.value == pytest.approx(((1 + 3) / 2 - 2) / 2)
    # Pairs are drawn whole: equal differences leave nothing to chance, however the scores scatter.
    scattered = rng(2).normal(size=30)
    assert paired_difference([scattered + 1], [scattered], rng=rng()) == pytest.approx((1, 1, 1))


# Intervals


def test_the_interval_agrees_with_scipy():
    sample = rng(3).gamma(2.0, 5.0, size=40)
    ours = mean([sample], rng=rng(1), confidence=0.9, resamples=20_000)
    theirs = stats.bootstrap(
        (sample,), np.mean, confidence_level=0.9, n_resamples=20_000, method="percentile", rng=rng()
    )
    assert ours[1:] == pytest.approx(tuple(theirs.confidence_interval), abs=0.03 * sample.std())


def test_the_interval_is_the_quantile_over_all_resamples_of_a_small_sample():
    """Every resample of each level is equally likely; there are 2^2 times 3^3 of them."""
    levels = [[0.0, 1.0], [0.0, 2.0, 10.0]]
    drawn = [(sum(a) / 2 + sum(b) / 3) / 2 for a in product(levels[0], repeat=2) for b in product(levels[1], repeat=3)]
    exact = np.quantile(drawn, [0.1, 0.9], method="inverted_cdf")
    estimate = mean(levels, rng=rng(), confidence=0.8, resamples=50_000)
    assert estimate[1:] == pytest.approx(tuple(exact), abs=1e-9)


def test_the_interval_of_two_values_is_the_whole_range():
    # Of the four equally likely resamples one is (0, 0) and one (1, 1): each end holds a quarter of the mass.
    assert mean([[0, 1]], rng=rng()) == (0.5, 0.0, 1.0)
    assert mean([[0, 1]], rng=rng(), confidence=0.4) == (0.5, 0.5, 0.5)


def test_levels_are_resampled_by_themselves():
    """One level is high and one low: stratified, the mean of both is certain."""
    levels = [[10.0] * 5, [0.0] * 5]
    assert mean(levels, rng=rng()) == (5, 5, 5)
    pooled = mean([[10.0] * 5 + [0.0] * 5], rng=rng())
    assert pooled.low < 4
    assert pooled.high > 6


TRIALS = 400


@pytest.mark.parametrize(
    ("estimate", "truth"),
    [
        (lambda x, _, g: mean(x, rng=g, confidence=0.8, resamples=300), 0.5),
        (lambda x, _, g: interquartile_mean(x, rng=g, confidence=0.8, resamples=300), 0.5),
        (lambda x, y, g: paired_difference(x, y, rng=g, confidence=0.8, resamples=300), 0.5),
        (
            lambda x, y, g: probability_of_improvement(x, y, rng=g, confidence=0.8, resamples=300),
            stats.norm.cdf(0.5 / np.sqrt(2)),
        ),
    ],
    ids=["mean", "interquartile mean", "paired difference", "probability of improvement"],
)
def test_the_interval_covers_the_truth_as_often_as_it_claims(estimate, truth):
    """Scores of two levels of 30 runs, normal around 1/2 for the one sample and around 0 for the other."""
    simulated, covered = rng(7), 0
    for _ in range(TRIALS):
        x, y = simulated.normal(0.5, 1, (2, 30)), simulated.normal(0, 1, (2, 30))
        _, low, high = estimate(x, y, simulated)
        covered += low <= truth <= high
    assert covered / TRIALS == pytest.approx(0.8, abs=0.06)  # three standard errors


@pytest.mark.parametrize("estimate", ONE_SAMPLE)
@given(st.lists(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8), min_size=1, max_size=3), st.randoms())
def test_an_interval_lies_within_the_scores_and_forgets_their_order(estimate, levels, random):
    value, low, high = estimate(levels, rng=rng(), resamples=30)
    every = [x for level in levels for x in level]
    slack = 1e-9 * max(map(abs, every)) + 1e-300
    assert min(every) - slack <= low <= high <= max(every) + slack
    assert min(every) - slack <= value <= max(every) + slack
    for level in levels:
        random.shuffle(level)
    assert estimate(levels, rng=rng(), resamples=30) == (value, low, high)


@pytest.mark.parametrize("estimate", ONE_SAMPLE)
@given(st.floats(-1e6, 1e6), st.integers(1, 20))
def test_equal_scores_leave_no_doubt(estimate, value, n):
    assert estimate([[value] * n, [value]], rng=rng(), resamples=20) == (value, value, value)


@pytest.mark.parametrize("estimate", [*ONE_SAMPLE, *[lambda x, rng, e=e: e(x, x[::-1], rng=rng) for e in TWO_SAMPLES]])
def test_an_estimate_depends_on_the_generator_alone(estimate):
    levels = rng().normal(size=(2, 10))
    assert estimate(levels, rng=rng(4)) == estimate(levels, rng=rng(4))
    assert estimate(levels, rng=rng(4)) != estimate(levels, rng=rng(5))


def test_many_means_at_once_are_those_of_each_column():
    samples = rng(1).normal(size=(7, 5))
    samples[:, 4] = samples[::-1, 0]  # the same sample in another order
    value, low, high = bootstrap_means(samples, rng=rng(), resamples=20_000)
    for c in range(5):
        alone = mean([samples[:, c]], rng=rng(9), resamples=20_000)
        assert (value[c], low[c], high[c]) == pytest.approx(alone, abs=0.05 * samples[:, c].std())
    assert (low[4], high[4]) == (low[0], high[0])
    assert bootstrap_means(np.full((3, 2), 0.1), rng=rng()).tolist() == [[0.1, 0.1]] * 3


@pytest.mark.parametrize(
    ("levels", "settings", "message"),
    [
        ([], {}, "at least one level"),
        ([[1.0], []], {}, r"at least one score in every level.*\(0,\)"),
        ([[[1.0, 2.0]]], {}, r"\(1, 2\)"),
        ([[1.0, np.nan]], {}, "got 1 that are not"),
        ([[1.0, 2.0]], {"confidence": 95}, r"\(0, 1\), got 95"),
        ([[1.0, 2.0]], {"resamples": 0}, "at least one resample, got 0"),
    ],
)
def test_what_cannot_be_estimated_is_refused(levels, settings, message):
    estimates = [*ONE_SAMPLE, *[lambda x, e=e, **s: e(x, x, **s) for e in TWO_SAMPLES]]
    for estimate in estimates:
        with pytest.raises(ValueError, match=message):
            estimate(levels, rng=rng(), **settings)


def test_samples_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match="as many scores in each level"):
        paired_difference([[1, 2]], [[1]], rng=rng())
    with pytest.raises(ValueError, match="same levels, got 1 and 2 levels"):
        probability_of_improvement([[1, 2]], [[1], [2]], rng=rng())
