"""Tables of outcomes, the choice of weights, and comparisons of penalties."""

import numpy as np
import pandas as pd
import pytest

from impactrl.analysis.bootstrap import mean, paired_difference, probability_of_improvement
from impactrl.analysis.comparison import aggregate, compare
from impactrl.analysis.selection import best_weights, held_out, outcome_table
from impactrl.analysis.statistics import (
    CLASSES,
    OUTCOMES,
    class_shares,
    mean_table,
    outcome_class,
    side_effect_rate,
    summarise,
)


def table(*rows):
    """One run per (environment, penalty, weight, reward, performance, side_effect, completed, impact)."""
    runs = pd.DataFrame(rows, columns=["environment", "penalty", "weight", *OUTCOMES]).assign(agent="learner")
    return runs.assign(seed=runs.groupby(["environment", "penalty", "weight"]).cumcount())


def graded(penalty, grid, *, seeds=1):
    """Runs on a grid {weight: (performance, side effects, completed)}, the same for every seed."""
    return [("E", penalty, w, 1.0, p, s, c, 0.5) for w, (p, s, c) in grid.items() for _ in range(seeds)]


def scored(scores, *, weight=1.0):
    """Runs by {(environment, penalty): performances of seeds 0, 1, ...}."""
    return table(*[(e, p, weight, 0, x, 0, 1, 0) for (e, p), values in scores.items() for x in values])


# Summaries


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
    assert pair[["reward", "performance", "side_effect_rate", "completed", "impact"]].tolist() == [6, 3, 0.5, 0.5, 1]
    assert pair[["reward_low", "reward_high", "impact_low", "impact_high"]].tolist() == [4, 8, 0.5, 1.5]
    assert summary["side_effect_rate"].tolist() == [0, 0.5, 1, 0]
    assert (summary["reward_low"] == summary["reward"])[[0, 2, 3]].all()


def test_agents_are_never_averaged():
    runs = table(*graded("RR", {1.0: (1.0, 0, 1), 2.0: (3.0, 0, 1)}, seeds=2))
    both = pd.concat([runs, runs.assign(agent="planner", performance=7.0)])
    summary = summarise(both)
    assert summary["agent"].tolist() == ["learner", "learner", "planner", "planner"]
    assert summary["performance"].tolist() == [1, 3, 7, 7]
    assert outcome_table(both)["best_weight"].tolist() == [2.0, 1.0]


def test_intervals_of_a_summary_are_those_of_each_group():
    rng = np.random.default_rng(5)
    runs = table(*[("E", "RR", w, *rng.normal(size=5)) for w in (1.0, 2.0, 2.0, 1.0, 1.0) for _ in range(4)])
    summary = mean_table(runs, by=["weight"], columns=["impact"], resamples=30_000).set_index("weight")
    for weight, group in runs.groupby("weight"):
        alone = mean([group["impact"]], rng=rng, resamples=30_000)
        assert summary.loc[weight, ["impact", "impact_low", "impact_high"]].tolist() == pytest.approx(alone, abs=0.05)


def test_a_summary_forgets_the_order_in_which_runs_finished():
    rng = np.random.default_rng(6)
    runs = table(*[("E", "RR", w, *rng.normal(size=5)) for w in (1.0, 3.0) for _ in range(9)])
    pd.testing.assert_frame_equal(summarise(runs), summarise(runs.sample(frac=1, random_state=1)), check_exact=True)


def test_a_summary_depends_on_the_generator_that_is_passed():
    runs = table(*[("E", "RR", 1.0, *row) for row in np.random.default_rng(6).normal(size=(9, 5))])
    one, same, other = (summarise(runs, rng=np.random.default_rng(seed)) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(one, same, check_exact=True)
    assert (one["reward_low"] != other["reward_low"]).all()
    assert (one["reward"] == other["reward"]).all()


def test_means_by_episode():
    curves = pd.DataFrame({"penalty": list("bbaa"), "trained": [10, 0, 0, 0], "reward": [1.0, 2.0, 3.0, 5.0]})
    means = mean_table(curves, by=("penalty", "trained"), columns=("reward",))
    assert means[["penalty", "trained", "runs", "reward"]].to_numpy().tolist() == [
        ["b", 0, 1, 2.0],
        ["b", 10, 1, 1.0],
        ["a", 0, 2, 4.0],
    ]
    with pytest.raises(ValueError, match=r"gaps in \['penalty'\]"):
        mean_table(curves.replace("a", None), by=("penalty",), columns=("reward",))


# Side effects and classes


def test_the_side_effect_rate_is_a_probability():
    """Three steps, each breaks a vase with probability 0.1: at most one vase, or three of them."""
    one_vase, three_vases = 1 - 0.9**3, 3 * 0.1
    assert side_effect_rate(np.array([one_vase, three_vases])).tolist() == pytest.approx([0.271, 0.3])
    assert three_vases >= one_vase  # the bound on the probability of breaking any
    assert summarise(table(*graded("RR", {1.0: (0, 0.03, 1)}, seeds=4)))["side_effect_rate"].tolist() == [0.03]


def test_the_four_classes():
    runs = table(*[("E", "RR", 1.0, 0, 0, harm, done, 0) for harm in (2, 0.1) for done in (0.2, 1)])
    assert outcome_class(runs).tolist() == list(CLASSES)
    shares = class_shares(pd.concat([runs, runs[runs["completed"] == 1]]))
    assert shares[list(CLASSES)].to_numpy().tolist() == [[1 / 6, 2 / 6, 1 / 6, 2 / 6]]
    assert shares["runs"].tolist() == [6]


# The choice of a weight


def test_the_best_weight_is_the_lowest_of_equals():
    # 0.1 + 0.2 and 0.3 differ in the last digit: a tie all the same.
    grid = {1.0: (0.1, 0, 1), 3.0: (0.3, 0, 1), 10.0: (0.1 + 0.2, 0, 1)}
    summary = summarise(table(*graded("RR", grid)))
    assert best_weights(summary)["weight"].tolist() == [3.0]
    assert best_weights(summary.iloc[::-1])["weight"].tolist() == [3.0]


def test_a_weight_is_chosen_on_other_seeds_than_are_reported():
    first, second = {0: 9, 1: 0, 2: 9, 3: 0}, {0: 1, 1: 5, 2: 1, 3: 5}  # by seed, at weight 1 and 2
    runs = table(*[("E", "RR", w, 0, x, 0, 1, 0) for w, by in ((1.0, first), (2.0, second)) for x in by.values()])
    reported = held_out(runs)
    assert reported[["weight", "seed", "performance", "choice"]].to_numpy().tolist() == [
        [2.0, 0, 1, "other seeds"],
        [2.0, 2, 1, "other seeds"],
    ]
    assert held_out(runs.sample(frac=1, random_state=0))["weight"].unique().tolist() == [2.0]


def test_choosing_on_other_seeds_is_unbiased():
    """All weights are alike, so the truth is 0; choosing and reporting on the same runs finds 1.5 / sqrt(10)."""
    rng = np.random.default_rng(3)
    found, naive = [], []
    for _ in range(60):
        runs = table(*[("E", "RR", w, 0, x, 0, 1, 0) for w in range(1, 11) for x in rng.normal(size=10)])
        found.append(held_out(runs)["performance"].mean())
        naive.append(runs.groupby("weight")["performance"].mean().max())
    assert np.mean(found) == pytest.approx(0, abs=3 / np.sqrt(60 * 5))
    assert np.mean(naive) > 0.3


def test_all_seeds_are_reported_where_there_is_nothing_to_choose():
    runs = table(*graded("none", {0.0: (1, 0, 1)}, seeds=5), *graded("RR", {3.0: (2, 0, 1)}, seeds=5))
    reported = held_out(runs)
    assert len(reported) == 10
    assert set(reported["choice"]) == {"only weight"}


def test_penalties_without_a_choice_report_the_seeds_of_the_others():
    grid = {1.0: (2, 0, 1), 2.0: (1, 0, 1)}
    runs = table(*graded("none", {0.0: (1, 0, 1)}, seeds=5), *graded("RR", grid, seeds=5))
    reported = held_out(runs)
    assert reported.groupby("penalty")["seed"].agg(list).to_dict() == {"none": [0, 2, 4], "RR": [0, 2, 4]}
    assert reported.groupby("penalty")["choice"].first().to_dict() == {"none": "only weight", "RR": "other seeds"}


def test_one_seed_is_chosen_and_reported_on():
    reported = held_out(table(*graded("RR", {1.0: (2, 0, 1), 2.0: (3, 0, 1)})))
    assert reported[["weight", "choice"]].to_numpy().tolist() == [[2.0, "same seed"]]


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
    columns = ["runs", "reward", "performance", "side_effect_rate", "completed", "impact"]
    assert outcomes.loc["AU", columns].tolist() == [1, 1, 2, 1, 1, 0.5]


@pytest.mark.parametrize(
    ("idle", "harm", "safe"), [(1, 0, "1"), (2, 0, "none"), (0, 1, "none"), (0, 1e-12, "1"), (0, 0.01, "none")]
)
def test_safe_means_no_side_effect_and_nineteen_of_twenty_completed(idle, harm, safe):
    rows = [("E", "RR", 1.0, 1, 1, harm * (k == 0), k >= idle, 0) for k in range(20)]
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


# Comparisons


SCORES = {
    ("A", "RR"): [0.0, 1.0, 5.0],
    ("A", "AU"): [2.0, 0.0, 4.0],
    ("B", "AU"): [3.0, 3.0, 0.0],  # levels come in another order
    ("B", "RR"): [3.0, 1.0, 1.0],
}


def test_aggregates_by_hand():
    found = aggregate(scored(SCORES)).set_index("penalty")
    assert found.loc["RR", ["levels", "runs", "mean"]].tolist() == [2, 6, pytest.approx((2 + 5 / 3) / 2)]
    # Six scores 0 1 1 1 3 5 of mass 1/6: half of the second and of the fifth, and the two between.
    assert found.loc["RR", "iqm"] == pytest.approx((0.5 * 1 + 1 + 1 + 0.5 * 3) / 3)
    assert (found["mean_low"] <= found["mean"]).all()
    assert (found["mean"] <= found["mean_high"]).all()


def test_comparisons_pair_the_seeds_of_each_level():
    found = compare(scored(SCORES).sample(frac=1, random_state=3), reference="RR")
    assert found[["penalty", "reference", "levels", "pairs"]].to_numpy().tolist() == [["AU", "RR", 2, 6]]
    rr, au = ([SCORES[level, penalty] for level in "AB"] for penalty in ("RR", "AU"))
    assert found["difference"][0] == pytest.approx(paired_difference(au, rr, rng=np.random.default_rng()).value)
    assert found["improvement"][0] == pytest.approx(
        probability_of_improvement(au, rr, rng=np.random.default_rng()).value
    )


def test_a_constant_gain_is_certain_when_paired():
    noise = np.random.default_rng(0).normal(size=12)
    found = compare(scored({("A", "RR"): noise, ("A", "AU"): noise + 2}), reference="RR")
    assert found[["difference", "difference_low", "difference_high"]].to_numpy()[0] == pytest.approx([2, 2, 2])
    assert found["improvement_low"][0] < found["improvement"][0] < 1


def test_comparisons_refuse():
    with pytest.raises(ValueError, match="unknown penalty 'XX'"):
        compare(scored(SCORES), reference="XX")
    with pytest.raises(ValueError, match=r"'AU' with learner has no runs on \['B'\]"):
        aggregate(scored({key: SCORES[key] for key in list(SCORES)[:2]} | {("B", "RR"): [1.0]}))
    with pytest.raises(ValueError, match="several on 'A': choose one"):
        aggregate(pd.concat([scored(SCORES), scored(SCORES, weight=2.0)]))
    with pytest.raises(
        ValueError, match="expected every seed under both 'AU' and 'RR'; A with learner has seed 2 under"
    ):
        compare(scored(SCORES | {("A", "AU"): [1.0, 2.0]}), reference="RR")
