"""Scales, by hand."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from penalty_cases import penalties_of_any_kind
from random_mdps import RuleWorld, level, mdps, steps, utility_tables

from impactrl.compile import compile_mdp
from impactrl.measures.penalty import Penalty
from impactrl.world import Outcome

# Of values


SCALED = {
    # V(0) = 2, 1/2, 0 and V(1) = 1/2, 1, -2: differences 3/2, -1/2, 2.
    ("none", "decrease"): 3.5 / 3,
    ("none", "increase"): 0.5 / 3,
    ("none", "absolute"): 4 / 3,
    ("per-value", "decrease"): (0.75 + 0 + 2) / 3,
    ("per-value", "increase"): (0 + 1 + 0) / 3,
    ("per-value", "absolute"): (0.75 + 1 + 2) / 3,
    ("sum", "decrease"): 3.5 / 2.5,
    ("sum", "increase"): 0.5 / 2.5,
    ("sum", "absolute"): 4 / 2.5,
    ("discount", "decrease"): 3.5 / 6,
    ("discount", "increase"): 0.5 / 6,
    ("discount", "absolute"): 4 / 6,
}


@pytest.mark.parametrize(("scale", "summary"), SCALED)
def test_scales_by_hand(scale, summary):
    # 0 can wait or go to 1 for good; discount 1/2. V(1) is twice its utility; V(0) the better of waiting for ever,
    # twice its utility, and going at once, its utility and half V(1): 2 or 5/4; 0 or 1/2; 0 or -1.
    mdp = compile_mdp(steps([0, 1], [1, 1]))
    penalty = Penalty(
        deviation="attainable_utility",
        utilities=[[1, 0, 0], [0.25, 0.5, -1]],
        discount=0.5,
        scale=scale,
        summary=summary,
    )
    impact = penalty.fit(mdp)
    assert impact.deviation[0, 1, 0] == pytest.approx(SCALED[scale, summary], abs=1e-9)
    assert not impact.deviation[[0, 1, 1], [0, 0, 1]].any()


@pytest.mark.parametrize("scale", ["per-value", "sum"])
def test_a_baseline_value_of_0_scales_by_1(scale):
    mdp = compile_mdp(steps([0, 1], [1, 1]))
    impact = Penalty(
        deviation="attainable_utility", utilities=[[0, 0], [-1, -2]], discount=0.5, scale=scale, summary="decrease"
    ).fit(mdp)
    expected = {"per-value": (2 + 4) / 2, "sum": 2 + 4}[scale]
    assert impact.deviation[0, 1, 0] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("scale", ["per-value", "sum"])
def test_a_baseline_value_whose_utilities_cancel_scales_by_1(scale):
    # 2 is for ever: V = 1/8 / (1 - 1/2) = 1/4; 1 goes there, or waits: V = -1/8 + 1/8 = 0.
    mdp = compile_mdp(steps([0, 1], [1, 2], [2, 2]))
    impact = Penalty(
        deviation="attainable_utility", utilities=[[0.125], [-0.125], [0.125]], discount=0.5, scale=scale
    ).fit(mdp)
    assert impact.deviation[1, 1, 0] == pytest.approx(0.25, abs=1e-9)


@given(mdps(max_states=4, max_outcomes=1), st.sampled_from(["stepwise", "average", "random", "start"]), st.data())
def test_the_unit_of_utilities_matters_without_a_scale_only(mdp, baseline, data):
    table = data.draw(utility_tables(mdp, least=1))  # a value of 0 would count as 1

    def fitted(scale, factor):
        policy = "random" if mdp.noop is None else None
        return (
            Penalty(
                deviation="attainable_utility",
                baseline=baseline,
                utilities=factor * table,
                discount=0.5,
                scale=scale,
                policy=policy,
            )
            .fit(mdp)
            .deviation
        )

    np.testing.assert_allclose(fitted("none", 8), 8 * fitted("none", 1), rtol=0, atol=1e-8)
    np.testing.assert_allclose(fitted("discount", 1), 0.5 * fitted("none", 1), rtol=0, atol=1e-12)
    for scale in ("per-value", "sum"):
        np.testing.assert_allclose(fitted(scale, 8), fitted(scale, 1), rtol=1e-7, atol=1e-8)


# The impact unit: Turner 2018, Towards a new impact measure


def paint_world():
    """A room with a wall to paint (which pays 1) and a closet to enter; what can be had later is 1, 3/4 and 1/2."""
    names = ("wait", "paint", "enter closet", "crumple paper")
    return steps([0, 1, 2, 3], [1] * 4, [2] * 4, [3] * 4, rewards=[[0, 1, 0, 0], *[[0] * 4] * 3], actions=names)


def test_painting_and_entering_the_closet_cost_what_the_author_says():
    penalty = Penalty(
        deviation="attainable_utility",
        utilities=[[1.0], [0.75], [0.5], [0.5]],  # N = 1
        discount=0.0,
        scale="impact-unit",
        unit_action="crumple paper",
    )
    mdp = compile_mdp(paint_world())
    plain = replace(penalty, scale="none", unit_action=None).fit(mdp)
    assert plain.deviation[0, :, 0].tolist() == [0, 1 / 4, 1 / 2, 1 / 2]  # the impact unit is 1/2
    impact = penalty.fit(mdp)
    assert impact.deviation[0, :, 0].tolist() == [0, 1 / 2, 1, 1]
    assert impact.penalised_reward(1.0)[0, :3, 0].tolist() == [0, 1 / 2, -1]


def test_disabling_an_off_switch_and_switching_oneself_off_cost_what_the_author_says():
    names = ("wait", "disable the switch", "shut down", "mild")

    def onwards(p):
        return [Outcome("on", probability=p), Outcome("off", probability=1 - p)]

    rules = {("start", a): onwards(p) for a, p in enumerate([0.05, 1.0, 0.0, 0.55])}
    rules |= {(s, a): [Outcome(s)] for s in ("on", "off") for a in range(4)}
    rules = {place: [o for o in outcomes if o.probability > 0] for place, outcomes in rules.items()}
    mdp = compile_mdp(RuleWorld(rules=rules, first=[(1.0, "start")], actions=names))
    penalty = Penalty(
        deviation="attainable_utility",
        utilities=[lambda state: float(state == "on")],
        discount=0.0,
        expectation="inside",
        scale="impact-unit",
        unit_action="mild",
    )
    impact = penalty.fit(mdp)
    charged = [impact.deviation[0, a, 0] for a in range(4)]
    np.testing.assert_allclose(charged, [0, 1.9, 0.1, 1], rtol=0, atol=1e-12)


def test_what_raises_the_unit_costs_1_01_and_so_does_anything_but_the_no_op_where_there_is_none():
    # Heat: 0 1 3 0 9. In 0 the mild action (1) costs |1 - 0| = 1; action 2 leads to 1, where it costs |3 - 1| = 2.
    # In 3 it costs nothing; in 2 as much as in 0.
    mdp = compile_mdp(steps([0, 1, 3], [1, 2, 0], [2, 4, 2], [3, 3, 4], [4, 4, 4]))
    heat = [0.0, 1.0, 3.0, 0.0, 9.0]
    mild = {
        "deviation": "features",
        "features": {"heat": lambda s: heat[s]},
        "scale": "impact-unit",
        "unit_action": "a1",
    }
    impact = Penalty(**mild).fit(mdp)
    expected = [
        [0, 1.01, 0],  # to 1, whose unit is larger: 1.01 in place of 1; to 3, whose unit is 0: |0 - 0| / 1
        [0, 1.01, 1 / 2],  # to 2, whose unit is |9 - 3| = 6; back to 0: |0 - 1| / 2
        [0, 1, 0],  # to 4: |9 - 3| / 6; staying
        [0, 1.01, 1.01],  # the unit is 0
        [0, 1.01, 1.01],
    ]
    order = [mdp.index(s) for s in range(5)]
    np.testing.assert_allclose(impact.deviation[order, :, 0], expected, rtol=0, atol=1e-12)


def test_doing_nothing_that_raises_the_unit_costs_1_01_too():
    mdp = compile_mdp(steps([1, 0], [1, 2], [2, 2]))  # action 1 costs |0 - 1| in 0, |5 - 1| in 1
    heat = [0.0, 1.0, 5.0]
    impact = Penalty(
        deviation="features", features={"heat": lambda s: heat[s]}, scale="impact-unit", unit_action="a1"
    ).fit(mdp)
    assert impact.deviation[0, :, 0].tolist() == [1.01, 1]


def test_in_a_world_without_a_no_op_every_action_costs_1_01_where_the_unit_is_0():
    mdp = compile_mdp(steps([0, 1], [0, 1], noop=None))
    impact = Penalty(
        deviation="features", features={"dull": lambda _: 1.0}, scale="impact-unit", unit_action="a0", baseline="start"
    ).fit(mdp)
    assert (impact.deviation == 1.01).all()


def test_the_unit_is_an_expectation_over_what_the_mild_action_leads_to():
    # The mild action stays or leads to heat 4, evenly: the unit is 2. Action 2 leads to heat 3 for good.
    rules = {
        (0, 0): [Outcome(0)],
        (0, 1): [Outcome(0, probability=0.5), Outcome(1, probability=0.5)],
        (0, 2): [Outcome(2)],
    } | {(s, a): [Outcome(s)] for s in (1, 2) for a in range(3)}
    mdp = compile_mdp(RuleWorld(rules=rules, first=[(1.0, 0)], actions=("noop", "mild", "hot")))
    impact = Penalty(
        deviation="features",
        features={"heat": lambda s: [0.0, 4.0, 3.0][s]},
        scale="impact-unit",
        unit_action="mild",
    ).fit(mdp)
    assert impact.deviation[0].tolist() == [[0, 0], [0, 2], [1.5, 0]]


# The gap: Turner et al. 2020, arXiv 2006.06547


def test_the_gap_by_hand():
    # Discount 1/2. 0: waiting pays 0, going to 1 pays 1, going to 2 pays 4; 1 and 2 are for good and pay nothing.
    # V(0) = 4 and Q(0, wait) = 2: the gap is 2. In 1 it is 0, which counts as 1.
    mdp = compile_mdp(steps([0, 1, 2], [1, 1, 2], [2, 2, 2], rewards=[[0, 1, 4], [0, 0, 0], [0, 0, 0]]))
    heat = {"deviation": "features", "features": {"heat": lambda s: [2.0, 1.0, 5.0][s]}, "discount": 0.5}
    impact = Penalty(scale="gap", **heat).fit(mdp)
    assert impact.penalty.effective_summary == "increase"
    expected = [[0, 0, 3 / 2], [0, 0, 4], [0, 0, 0]]  # less heat than after waiting costs nothing
    np.testing.assert_allclose(impact.deviation[:, :, 0], expected, rtol=0, atol=1e-9)


def test_the_gap_is_of_the_task_and_its_end():
    # From 0 the episode ends with 3, at once; what would come after it does not count. V = 3, Q(wait) = 3/2.
    mdp = compile_mdp(steps([0, 1], None, rewards=[[0, 3]]))
    heat = {"deviation": "features", "features": {"heat": float}, "discount": 0.5, "terminal": "absorbing"}
    assert Penalty(scale="gap", **heat).fit(mdp).deviation[0, 1, 0] == pytest.approx(1 / 1.5)


# The largest: Shah et al. 2019


@settings(max_examples=40)
@given(mdps(max_states=4), st.data())
def test_divided_by_the_largest_deviations_are_the_same_up_to_a_factor_and_reach_1(mdp, data):
    penalty = data.draw(penalties_of_any_kind(mdp, scales=["none"]))
    plain, scaled = penalty.fit(mdp).deviation, replace(penalty, scale="max").fit(mdp).deviation
    largest = np.abs(plain).max()
    if largest < 1e-8:
        assert (scaled == plain).all()
    else:
        assert np.abs(scaled).max() == 1
        np.testing.assert_allclose(scaled * largest, plain, rtol=1e-12, atol=0)


def test_the_largest_is_that_of_all_that_can_happen_in_the_task():
    mdp = level("Options")
    scaled = Penalty(discount=1.0, scale="max").fit(mdp).deviation
    plain = Penalty(discount=1.0).fit(mdp).deviation
    assert scaled.max() == 1
    np.testing.assert_allclose(scaled, plain / plain.max(), rtol=1e-14)
