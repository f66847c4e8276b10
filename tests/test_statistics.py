import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from impactrl.analysis.statistics import (
    OUTCOMES,
    best_weights,
    bootstrap_interval,
    mean_table,
    outcome_table,
    summarise,
)


def table(*rows):
    """One run per (environment, penalty, weight, reward, performance, side_effect, completed, impact)."""
    return pd.DataFrame(rows, columns=["environment", "penalty", "weight", *OUTCOMES])


def graded(penalty, grid, *, seeds=1):
    """Runs on a grid {weight: (performance, side effects, completed)}, the same for every seed."""
    return [("E", penalty, w, 1.0, p, s, c, 0.5) for w, (p, s, c) in grid.items() for _ in range(seeds)]


def test_interval_agrees_with_scipy():
    sample = np.random.default_rng(3).gamma(2.0, 5.0, size=40)
    ours = bootstrap_interval(sample, confidence=0.9, resamples=40_000, seed=1)
    theirs = stats.bootstrap(
        (sample,),
        np.mean,
        confidence_level=0.9,
        n_resamples=40_000,
        method="percentile",
        rng=np.random.default_rng(2),
    ).confidence_interval
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.02 * sample.std())


def test_interval_covers_the_mean_as_often_as_it_claims():
    rng = np.random.default_rng(0)
    ends = np.array([bootstrap_interval(rng.normal(5, 2, 60), confidence=0.8, resamples=400) for _ in range(400)])
    covered = np.mean((ends[:, 0] <= 5) & (ends[:, 1] >= 5))
    assert covered == pytest.approx(0.8, abs=0.06)  # three standard errors of 400 trials


def test_interval_of_two_values_is_the_whole_range():
    # Of the four equally likely resamples one is (0, 0) and one (1, 1): each end holds a quarter of the mass.
    assert bootstrap_interval([0, 1], confidence=0.95) == (0.0, 1.0)
    assert bootstrap_interval([0, 1], confidence=0.4) == (0.5, 0.5)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=12), st.randoms())
def test_interval_lies_within_the_sample_and_forgets_its_order(values, random):
    low, high = bootstrap_interval(values, resamples=50)
    slack = 1e-9 * max(map(abs, values))
    assert min(values) - slack <= low <= high <= max(values) + slack
    random.shuffle(values)
    assert bootstrap_interval(values, resamples=50) == (low, high)


@given(st.floats(-1e6, 1e6), st.integers(1, 30))
def test_interval_of_a_constant_is_exact(value, n):
    assert bootstrap_interval([value] * n, resamples=20) == (value, value)


def test_interval_depends_on_the_seed_alone():
    sample = np.random.default_rng(0).normal(size=10)
    assert bootstrap_interval(sample, seed=4) == bootstrap_interval(sample, seed=4)
    assert bootstrap_interval(sample, seed=4) != bootstrap_interval(sample, seed=5)


@pytest.mark.parametrize(
    ("values", "settings", "message"),
    [
        ([], {}, "at least one value"),
        ([[1.0, 2.0]], {}, r"one-dimensional.*\(1, 2\)"),
        ([1.0, np.nan], {}, "got 1 that are not"),
        ([1.0, 2.0], {"confidence": 95}, r"\(0, 1\), got 95"),
        ([1.0, 2.0], {"resamples": 0}, "at least one resample, got 0"),
    ],
)
def test_interval_refuses(values, settings, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(values, **settings)


def test_summary_by_hand():
    summary = summarise(
        table(
            ("B", "RR", 10.0, 4, 2, 2, 1, 0.5),
            ("B", "RR", 1.0, 6, 6, 0, 1, 0.25),
            ("B", "RR", 10.0, 8, 4, 0, 0, 1.5),
            ("B", "none", 0.0, 5, 5, 3, 1, 0),
            ("A", "none", 0.0, 7, 7, 0, 1, 0),
        )
    )
    keys = list(summary[["environment", "penalty", "weight", "runs"]].itertuples(index=False, name=None))
    assert keys == [("B", "RR", 1, 1), ("B", "RR", 10, 2), ("B", "none", 0, 1), ("A", "none", 0, 1)]
    pair = summary.iloc[1]
    assert pair[["reward", "performance", "side_effect_rate", "completed", "impact"]].tolist() == [
        6,
        3,
        0.5,
        0.5,
        1,
    ]
    assert pair[["reward_low", "reward_high", "impact_low", "impact_high"]].tolist() == [4, 8, 0.5, 1.5]
    assert summary["side_effect_rate"].tolist() == [0, 0.5, 1, 0]
    assert (summary["reward_low"] == summary["reward"])[[0, 2, 3]].all()


def test_summary_matches_the_interval_of_each_group():
    rng = np.random.default_rng(5)
    runs = table(*[("E", "RR", w, *rng.normal(size=5)) for w in (1.0, 2.0, 2.0, 1.0, 1.0) for _ in range(4)])
    summary = summarise(runs, confidence=0.8).set_index("weight")
    for weight, group in runs.groupby("weight"):
        ends = tuple(summary.loc[weight, ["impact_low", "impact_high"]])
        assert ends == pytest.approx(bootstrap_interval(group["impact"], confidence=0.8), rel=1e-12)
        assert summary.loc[weight, "impact"] == pytest.approx(group["impact"].mean())


def test_summary_forgets_the_order_in_which_runs_finished():
    rng = np.random.default_rng(6)
    runs = table(*[("E", "RR", w, *rng.normal(size=5)) for w in (1.0, 3.0) for _ in range(9)])
    pd.testing.assert_frame_equal(summarise(runs), summarise(runs.sample(frac=1, random_state=1)), check_exact=True)


def test_summary_of_a_large_table_is_quick():
    rows = 20_000
    runs = pd.DataFrame({name: np.random.default_rng(0).random(rows) for name in OUTCOMES})
    runs = runs.assign(environment="E", penalty="RR", weight=np.arange(rows) // 20)
    start = time.perf_counter()
    assert len(summarise(runs)) == rows / 20
    assert time.perf_counter() - start < 3  # takes about 0.2 seconds


def test_means_by_episode():
    curves = pd.DataFrame({"penalty": list("bbaa"), "episode": [10, 0, 0, 0], "reward": [1.0, 2.0, 3.0, 5.0]})
    means = mean_table(curves, by=("penalty", "episode"), columns=("reward",))
    assert means[["penalty", "episode", "runs", "reward"]].to_numpy().tolist() == [
        ["b", 0, 1, 2.0],
        ["b", 10, 1, 1.0],
        ["a", 0, 2, 4.0],
    ]
    with pytest.raises(ValueError, match=r"gaps in \['penalty'\]"):
        mean_table(curves.replace("a", None), by=("penalty",), columns=("reward",))


def test_best_weight_is_the_lowest_of_equals():
    # 0.1 + 0.2 and 0.3 differ in the last digit: a tie all the same.
    summary = summarise(table(*graded("RR", {1.0: (0.1, 0, 1), 3.0: (0.3, 0, 1), 10.0: (0.1 + 0.2, 0, 1)})))
    assert best_weights(summary)["weight"].tolist() == [3.0]


def test_outcomes_by_hand():
    good, harm, idle = (8.0, 0, 1.0), (2.0, 1, 1.0), (0.0, 0, 0.0)
    runs = table(
        *graded("none", {0.0: harm}),
        *graded("RR", {0.03: harm, 0.1: good, 0.3: good, 1.0: (9.0, 0, 1.0), 3.0: idle, 10.0: good, 30.0: idle}),
        *graded("AU", {0.1: harm, 1.0: idle}),
    )
    outcomes = outcome_table(runs).set_index("penalty")
    assert outcomes["safe_weights"].to_dict() == {
        "none": "none",
        "RR": "0.1 \N{EN DASH} 1, 10",
        "AU": "none",
    }
    assert outcomes["best_weight"].to_dict() == {"none": 0.0, "RR": 1.0, "AU": 0.1}
    assert outcomes.loc["AU", ["reward", "performance", "side_effect_rate", "completed", "impact"]].tolist() == [
        1,
        2,
        1,
        1,
        0.5,
    ]


@pytest.mark.parametrize(("idle", "harmful", "safe"), [(1, 0, "1"), (2, 0, "none"), (0, 1, "none")])
def test_safe_means_no_side_effect_and_nineteen_of_twenty_completed(idle, harmful, safe):
    rows = [("E", "RR", 1.0, 1, 1, k < harmful, k >= idle, 0) for k in range(20)]
    assert outcome_table(table(*rows))["safe_weights"].tolist() == [safe]


@pytest.mark.parametrize("function", [summarise, outcome_table])
def test_tables_refuse_what_they_cannot_use(function):
    runs = table(*graded("RR", {1.0: (1.0, 0, 1)}, seeds=2))
    with pytest.raises(ValueError, match=r"missing columns \['weight'\]: expected .*'impact'.*, got \['environment'"):
        function(runs.drop(columns="weight"))
    with pytest.raises(ValueError, match="empty table"):
        function(runs.iloc[:0])
    with pytest.raises(ValueError, match=r"NaN or infinity in the columns \['side_effect'\]"):
        function(runs.assign(side_effect=np.nan))
    with pytest.raises(ValueError, match=r"one agent, got \['q_learning', 'planner'\]"):
        function(runs.assign(agent=["q_learning", "planner"]))
