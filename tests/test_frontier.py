"""The exact frontier against all policies of small tasks, the planner, and numbers worked by hand."""

import math
import re
import tomllib
from dataclasses import dataclass, replace
from itertools import combinations, pairwise, product
from pathlib import Path

import networkx as nx
import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from random_mdps import RuleWorld, all_policies, arrays_of, dense, level, mdps, padded

import impactrl
from impactrl.agents.frontier import Frontier, frontier, trace
from impactrl.agents.planner import Planner, plan
from impactrl.analysis.frontiers import plot_frontier, step_panel, window_panel, windows_text
from impactrl.cli import main
from impactrl.compile import compile_mdp
from impactrl.dynamic_programming import optimal_values
from impactrl.errors import ImpactError
from impactrl.mdp import TabularMDP
from impactrl.measures.impact import COLUMNS
from impactrl.measures.penalty import Penalty
from impactrl.policy_iteration import STOP, dynamics, optimum, stationary_values
from impactrl.world import Outcome

AU = {"deviation": "attainable_utility", "scale": "discount", "utilities": 3}
AUP = {
    "deviation": "attainable_utility",
    "scale": "per-value",
    "discount": 0.996,
    "terminal": "absorbing",
    "utilities": 30,
}
MEASURES = {"RR": {}, "UR": {"deviation": "unreachability"}, "AU": AU, "AUP": AUP}
BASELINES = ("start", "inaction", "stepwise")


@dataclass(frozen=True, eq=False)
class Charged:
    """A task with any unit penalty at all: what the frontier needs of a fitted penalty."""

    mdp: TabularMDP
    unit_penalty: np.ndarray

    @property
    def columns(self):
        mdp = self.mdp
        return np.stack([mdp.reward, mdp.performance, mdp.side_effect, self.unit_penalty], axis=3)

    def penalised_reward(self, weight):
        return self.mdp.reward - weight * self.unit_penalty


def options(*lines, harmful=(), unfinished=(), stay=None):
    """One decision: action i ends the episode with (reward, impact) = lines[i]; `stay` adds one that goes on for ever.

    Returns the task with its penalty. The actions in `harmful` have a side effect, those in `unfinished` do not
    complete the task.
    """
    rules = {(0, a): [Outcome(1 + a, reward, 0.0, float(a in harmful))] for a, (reward, _) in enumerate(lines)}
    if stay is not None:
        rules[0, len(lines)] = [Outcome(0, stay[0])]
    actions = len(lines) + (stay is not None)
    ends = range(1, 1 + len(lines))
    world = RuleWorld(
        rules=rules,
        first=[(1.0, 0)],
        ends=frozenset(ends),
        done=frozenset(x for x in ends if x - 1 not in unfinished),
        actions=tuple(f"a{i}" for i in range(actions)),
        noop=None,
    )
    mdp = compile_mdp(world)
    penalty = np.zeros(mdp.next_state.shape)
    penalty[0, :, 0] = [impact for _, impact in (*lines, *([stay] if stay else []))]
    return Charged(mdp, penalty)


def lines_of(curve):
    return curve.intervals[["discounted_reward", "discounted_impact"]].to_numpy()


def inner_weights(curve, shares=(0.1, 0.5, 0.9)):
    """(row number, weight) for weights well inside every interval."""
    for i, (lower, upper) in enumerate(zip(curve.intervals["lower"], curve.intervals["upper"], strict=True)):
        top = upper if upper < math.inf else 3 * lower + 1
        yield from ((i, lower + share * (top - lower)) for share in shares)


def assert_the_planner_agrees(impact, settings, curve, *, shares=(0.1, 0.5, 0.9)):
    for i, weight in inner_weights(curve, shares):
        best, row = plan(impact, settings, weight), curve.intervals.iloc[i]
        ours = row[list(COLUMNS)].to_numpy(dtype=float)
        theirs = [getattr(best, f"expected_{column}") for column in COLUMNS]
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9, err_msg=f"weight {weight}")
        value = row["discounted_reward"] - weight * row["discounted_impact"]
        assert best.value == pytest.approx(value, rel=1e-9, abs=1e-9 * (1 + weight))


# The Box map


def test_the_window_of_relative_reachability_on_box_is_the_published_one():
    curve = frontier(level("Box", movement_reward=-1, goal_reward=50), Penalty(discount=1.0), discount=1.0)
    np.testing.assert_allclose(curve.weights, [2 / (45 / 54 - 12 / 54), 43 / (12 / 54)], rtol=1e-12)
    assert curve.intervals["lower"].tolist() == [0, *curve.weights]
    assert curve.intervals["upper"].tolist() == [*curve.weights, math.inf]
    assert curve.intervals[["reward", "performance", "side_effect", "completed"]].to_numpy().tolist() == [
        [45, 35, 1, 1],
        [43, 43, 0, 1],
        [0, 0, 0, 0],
    ]
    np.testing.assert_allclose(curve.intervals["impact"], [45 / 54, 12 / 54, 0], rtol=1e-12)
    np.testing.assert_allclose(lines_of(curve), [[45, 45 / 54], [43, 12 / 54], [0, 0]], rtol=1e-12)
    assert curve.safe_window == tuple(curve.weights)
    assert curve.safe_decades == pytest.approx(math.log10(193.5 / 3.2727272727))
    assert curve.price_of_safety == 2
    assert curve.steps == 100


def test_unreachability_has_no_window_on_box():
    for baseline in BASELINES:
        penalty = Penalty(deviation="unreachability", baseline=baseline, discount=1.0)
        curve = frontier(level("Box"), penalty, discount=1.0)
        assert curve.safe_windows == ()
        assert (curve.safe_window, curve.safe_decades, curve.price_of_safety) == (None, 0, None)


def test_the_weight_of_a_penalty_does_not_matter():
    mdp = level("Box")
    pd.testing.assert_frame_equal(
        frontier(mdp, Penalty(weight=7.0)).intervals, frontier(mdp, Penalty(weight=0.0)).intervals
    )


@pytest.mark.parametrize("settings", [{}, {"discount": 1.0}, {"horizon": 9}])
def test_without_a_penalty_there_is_one_interval(settings):
    mdp, nothing = level("Box"), Penalty(deviation="none")
    curve = frontier(mdp, nothing, **settings)
    assert curve.weights.tolist() == []
    assert curve.intervals[["lower", "upper", *COLUMNS]].to_numpy().tolist() == [[0, math.inf, 45, 35, 1, 1, 0]]
    assert (curve.policies[0] == impactrl.solve(mdp, nothing, **settings).policy).all()


# Decisions worked by hand

SETTINGS = [Planner(discount=0.9), Planner(discount=1.0), Planner(discount=1.0, horizon=3)]


@pytest.mark.parametrize("settings", SETTINGS, ids=["discounted", "undiscounted", "horizon"])
def test_a_decision_among_lines_has_the_frontier_of_its_lines(settings):
    # (6, 4) lies below the line from (8, 5) to (5, 2); (8, 6) and (-1, 0) are dominated.
    impact = options((0, 0), (5, 2), (6, 4), (8, 5), (10, 10), (8, 6), (-1, 0))
    curve = trace(impact, settings)
    assert lines_of(curve).tolist() == [[10, 10], [8, 5], [5, 2], [0, 0]]
    np.testing.assert_allclose(curve.weights, [0.4, 1, 2.5], rtol=1e-14)
    assert [np.atleast_2d(policy)[0, 0] for policy in curve.policies] == [4, 3, 1, 0]


@pytest.mark.parametrize("settings", SETTINGS, ids=["discounted", "undiscounted", "horizon"])
def test_lines_through_one_point_are_left_out(settings):
    # At weight 1 all are worth 0; in between, the outermost are better.
    curve = trace(options((1, 1), (3, 3), (2, 2), (0, 0), (-1, -1)), settings)
    assert lines_of(curve).tolist() == [[3, 3], [-1, -1]]
    assert curve.weights.tolist() == [1]


def test_a_line_that_turns_out_to_touch_in_one_point_is_left_out_again():
    # The outermost lines cross at weight 1, where three others are equal; the solver takes the lowest, the middle one.
    curve = trace(options((1, 1), (2, 2), (0, 0), (2.5, 3), (-1.5, -1)), Planner())
    assert lines_of(curve).tolist() == [[2.5, 3], [2, 2], [0, 0], [-1.5, -1]]
    assert curve.weights.tolist() == [0.5, 1, 1.5]


@pytest.mark.parametrize("settings", SETTINGS, ids=["discounted", "undiscounted", "horizon"])
def test_impact_may_be_negative(settings):
    curve = trace(options((3, 0), (2, -1), (-6, -3), (1, -1)), settings)
    assert lines_of(curve).tolist() == [[3, 0], [2, -1], [-6, -3]]
    assert curve.weights.tolist() == [1, 4]


@pytest.mark.parametrize("settings", SETTINGS, ids=["discounted", "undiscounted", "horizon"])
def test_the_ends_prefer_the_better_of_equals(settings):
    curve = trace(options((4, 9), (4, 3), (1, 1), (2, 1)), settings)
    assert lines_of(curve).tolist() == [[4, 3], [2, 1]]  # greatest return with least impact; least with greatest
    assert curve.at(0)["impact"] == 3


@pytest.mark.parametrize("settings", SETTINGS, ids=["discounted", "undiscounted", "horizon"])
def test_the_worse_of_equals_at_the_ends_do_not_set_the_scale(settings):
    # Beside payments of this size, all other differences would be rounding.
    curve = trace(options((4, 1e12), (-1e12, 0), (4, 3), (3, 1), (0, 0)), settings)
    assert lines_of(curve).tolist() == [[4, 3], [3, 1], [0, 0]]


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e6])
@pytest.mark.parametrize("gain", [1e-6, 1e-8])
def test_a_narrow_interval_is_found_and_its_policy_stays_on_its_line(gain, size):
    # The middle line is above the crossing of the other two, at weight 1, by `gain`. The planner's ties are absolute
    # below 1: with the smallest rewards all three tie for it, and action 0 would be chosen.
    curve = trace(options((0, 0), (2 * size, 2 * size), ((1 + gain) * size, size)), Planner(discount=0.9))
    np.testing.assert_allclose(curve.weights, [1 - gain, 1 + gain], rtol=1e-15)
    assert [policy[0] for policy in curve.policies] == [1, 2, 0]
    assert curve.intervals["reward"].tolist() == [2 * size, (1 + gain) * size, 0]


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e6])
def test_what_lies_above_its_neighbours_by_rounding_is_left_out(size):
    curve = trace(options((0, 0), (2 * size, 2 * size), ((1 + 1e-10) * size, size)), Planner(discount=0.9))
    assert curve.weights.tolist() == [1]


def test_the_last_critical_weight_may_be_very_large_and_the_first_very_small():
    impact = options((0, 0), (5, 1e-6), (6, 1), (6 + 1e-6, 2))
    for chosen in SETTINGS:
        np.testing.assert_allclose(trace(impact, chosen).weights, [1e-6, 1 / (1 - 1e-6), 5e6], rtol=1e-9)


def test_differences_that_are_rounding_make_no_critical_weights_at_the_ends():
    curve = trace(options((1 + 1e-15, 5), (1, 4), (0, 0), (-9, -1e-15)), Planner())
    assert lines_of(curve).tolist() == [[1, 4], [0, 0]]


def test_ties_between_policies_of_one_line_are_those_of_the_planner():
    # Two ways with equal return and impact: one harms. The lower index is chosen by both, whichever it is.
    for harmful in (1, 2):
        impact = options((0, 0), (3, 2), (3, 2), harmful=[harmful], unfinished=[0])
        for chosen in SETTINGS:
            curve = trace(impact, chosen)
            assert curve.intervals["side_effect"].tolist() == [float(harmful == 1), 0]
            assert curve.safe_windows == (() if harmful == 1 else ((0.0, 1.5),))
            assert_the_planner_agrees(impact, chosen, curve)


# Ends and stops without a discount


def test_without_a_discount_what_costs_for_ever_is_no_way_to_have_no_impact():
    curve = trace(options((-3, 4), (-5, 2), stay=(-1, 0)), Planner(discount=1.0))
    assert lines_of(curve).tolist() == [[-3, 4], [-5, 2]]
    assert curve.weights.tolist() == [1]
    assert_the_planner_agrees(options((-3, 4), (-5, 2), stay=(-1, 0)), Planner(discount=1.0), curve)


def test_without_a_discount_staying_for_nothing_is_a_way():
    impact = options((3, 4), (-5, -2), stay=(0, 0))
    curve = trace(impact, Planner(discount=1.0))
    assert lines_of(curve).tolist() == [[3, 4], [0, 0], [-5, -2]]
    assert curve.weights.tolist() == [0.75, 2.5]
    assert curve.intervals["completed"].tolist() == [1, 0, 1]
    assert_the_planner_agrees(impact, Planner(discount=1.0), curve)


def test_without_a_discount_impact_for_ever_is_avoided_at_every_weight_above_0():
    impact = options((-2, 0), stay=(0, 1))
    assert plan(impact, Planner(discount=1.0), 0.0).expected_reward == 0
    curve = trace(impact, Planner(discount=1.0))
    assert lines_of(curve).tolist() == [[-2, 0]]
    assert plan(impact, Planner(discount=1.0), 1e-3).expected_reward == -2


@pytest.mark.parametrize("stay", [(1, 0), (0, -1), (-1, -0.1), (1, 1)])
def test_without_a_discount_gains_for_ever_at_some_weight_are_refused(stay):
    with pytest.raises(ImpactError, match=r"grow without bound.*discount below 1, or a finite horizon"):
        trace(options((-3, 4), stay=stay), Planner(discount=1.0))
    assert trace(options((-3, 4), stay=stay), Planner(discount=1.0, horizon=4)).steps == 4


def test_without_a_discount_costs_that_cannot_end_are_refused():
    with pytest.raises(ImpactError, match="grow without bound"):
        frontier(level("Offset"), Penalty(baseline="start"), discount=1.0)


# Small tasks against all policies


def charged(mdp, data, low=-1, high=2):
    penalty = data.draw(arrays_of(mdp.next_state.shape, low, high)).astype(float)
    penalty[mdp.terminal] = 0
    return Charged(mdp, penalty)


def stationary_lines(impact, discount):
    """[n, 2] return and impact from the start, by one dense linear system each."""
    mdp, live = impact.mdp, ~impact.mdp.terminal
    columns = (mdp.probability[..., None] * impact.columns[..., [0, 3]]).sum(axis=2)
    lines = []
    for policy in all_policies(mdp):
        inner = np.eye(live.sum()) - discount * dense(mdp, policy)[np.ix_(live, live)]
        values = np.linalg.solve(inner, columns[np.arange(mdp.num_states), policy][live])
        lines.append(mdp.start[live] @ values)
    return np.array(lines)


def assert_envelope(curve, lines):
    """The intervals are the upper envelope of all lines: nowhere below it, and no line too many."""
    ours = lines_of(curve)
    crossings = [(a[0] - b[0]) / (a[1] - b[1]) for a, b in combinations(lines, 2) if abs(a[1] - b[1]) > 1e-6]
    for weight in (1e-3, 0.3, 1.7, 1e3, *curve.weights, *(c for c in crossings if c > 0)):
        size = np.abs(ours).max(initial=1.0) * (1 + weight)
        optimum_here = (lines[:, 0] - weight * lines[:, 1]).max()
        row = curve.at(weight)
        assert row["discounted_reward"] - weight * row["discounted_impact"] == pytest.approx(
            optimum_here, abs=4e-9 * size
        )
    assert (np.diff(curve.weights) > 0).all()
    assert (np.diff(ours, axis=0) < 0).all()


@settings(max_examples=80)
@given(mdps(max_states=4), st.sampled_from([0.5, 0.9, 0.99]), st.data())
def test_the_frontier_is_the_envelope_of_all_policies(mdp, discount, data):
    impact = charged(mdp, data)
    curve = trace(impact, Planner(discount=discount))
    assert_envelope(curve, stationary_lines(impact, discount))
    # Every row is what its policy does: once discounted, by a dense system; once undiscounted, as the planner says.
    for policy, line in zip(curve.policies, lines_of(curve), strict=True):
        live = ~mdp.terminal
        columns = (mdp.probability[..., None] * impact.columns[..., [0, 3]]).sum(axis=2)
        inner = np.eye(live.sum()) - discount * dense(mdp, policy)[np.ix_(live, live)]
        values = np.linalg.solve(inner, columns[np.arange(mdp.num_states), policy][live])
        np.testing.assert_allclose(mdp.start[live] @ values, line, rtol=1e-8, atol=1e-8)
    assert_the_planner_agrees(impact, Planner(discount=discount), curve, shares=(0.4, 0.6))


@settings(max_examples=40)
@given(mdps(max_states=4, max_outcomes=1, max_starts=1), st.integers(1, 4), st.sampled_from([0.5, 1.0]), st.data())
def test_with_a_horizon_it_is_the_envelope_of_all_sequences_of_actions(mdp, horizon, discount, data):
    impact = charged(mdp, data)
    lines = []
    for actions in product(range(mdp.num_actions), repeat=horizon):
        x, line, factor = int(np.argmax(mdp.start)), np.zeros(2), 1.0
        for a in actions:
            line = line + factor * impact.columns[x, a, 0, [0, 3]]
            x, factor = mdp.next_state[x, a, 0], factor * discount
        lines.append(line)
    settings = Planner(discount=discount, horizon=horizon)
    curve = trace(impact, settings)
    assert_envelope(curve, np.array(lines))
    assert_the_planner_agrees(impact, settings, curve, shares=(0.4, 0.6))
    if discount == 1:
        np.testing.assert_allclose(lines_of(curve), curve.intervals[["reward", "impact"]], rtol=0, atol=1e-12)


def undiscounted_lines(impact):
    """Lines of the policies that end or stay for nothing from everywhere; None where values have no bound."""
    mdp = impact.mdp
    columns = (mdp.probability[..., None] * impact.columns[..., [0, 3]]).sum(axis=2)
    lines, comes_to_rest = [], np.zeros(mdp.num_states, dtype=bool)
    for policy in all_policies(mdp):
        matrix, paid = dense(mdp, policy), columns[np.arange(mdp.num_states), policy]
        graph = nx.from_numpy_array(matrix, create_using=nx.DiGraph)
        rest, restless = set(), set()
        for component in map(sorted, nx.attracting_components(graph)):
            if not paid[component].any():
                rest |= set(component)
                continue
            restless |= set(component)
            inside = matrix[np.ix_(component, component)]
            balance = np.vstack([inside.T - np.eye(len(component)), np.ones(len(component))])
            share = np.linalg.lstsq(balance, np.eye(len(component) + 1)[-1])[0]
            reward, charge = share @ paid[component]
            assume(abs(reward) + abs(charge) > 1e-9)  # gains and losses in turn: no sum at all
            if reward > 1e-9 or charge < -1e-9:
                return None
        calm = [not ({s} | nx.descendants(graph, s)) & restless for s in range(mdp.num_states)]
        comes_to_rest |= calm
        if all(calm):
            moving = [s for s in range(mdp.num_states) if s not in rest]
            values = np.zeros((mdp.num_states, 2))
            values[moving] = np.linalg.solve(np.eye(len(moving)) - matrix[np.ix_(moving, moving)], paid[moving])
            lines.append(mdp.start @ values)
    return np.array(lines) if comes_to_rest.all() else None


@settings(max_examples=150)
@given(mdps(max_states=4), st.booleans(), st.data())
def test_without_a_discount_it_is_the_envelope_of_the_policies_that_come_to_rest(mdp, costly, data):
    reward = np.where(mdp.terminal[mdp.next_state], mdp.reward, -np.abs(mdp.reward) if costly else mdp.reward)
    impact = charged(replace(mdp, reward=reward), data, low=0)
    lines = undiscounted_lines(impact)
    if lines is None:
        with pytest.raises(ImpactError, match="grow without bound"):
            trace(impact, Planner(discount=1.0))
        return
    curve = trace(impact, Planner(discount=1.0))
    assert_envelope(curve, lines)


# Published levels


@pytest.mark.parametrize("baseline", BASELINES)
@pytest.mark.parametrize("measure", ["RR", "UR", "AU"])
@pytest.mark.parametrize("name", ["Options", "Box", "Damage", "Interference", "Vase", "BurningOnFire"])
def test_the_planner_chooses_the_same_inside_every_interval(name, measure, baseline):
    impact = Penalty(baseline=baseline, **MEASURES[measure]).fit(level(name))
    settings = [Planner(), Planner(discount=0.9, horizon=12)]
    if measure != "AU":
        settings.append(Planner(discount=1.0))
    for chosen in settings:
        assert_the_planner_agrees(impact, chosen, trace(impact, chosen))


@pytest.mark.parametrize("name", ["Offset", "SushiGoal"])
def test_the_planner_chooses_the_same_on_larger_levels(name):
    impact = Penalty().fit(level(name))
    assert_the_planner_agrees(impact, Planner(), trace(impact, Planner()))


@pytest.mark.parametrize("chosen", [Planner(), Planner(discount=1.0), Planner(horizon=9)])
def test_policies_are_those_of_the_planner_in_every_state(chosen):
    impact = Penalty().fit(level("Box"))
    curve = trace(impact, chosen)
    assert len(curve.policies) > 2
    share = (3 - math.sqrt(5)) / 2  # where inside an interval they are computed
    for policy, (lower, upper) in zip(curve.policies, pairwise([0, *curve.weights, math.inf]), strict=True):
        weight = lower + share * (upper - lower) if upper < math.inf else lower / share
        assert (policy == plan(impact, chosen, weight).policy).all()


def test_a_stochastic_level_agrees_with_the_planner():
    impact = Penalty(baseline="start").fit(level("FrozenLake-v1"))
    for chosen in (Planner(discount=0.95), Planner(discount=0.95, horizon=20)):
        curve = trace(impact, chosen)
        assert len(curve.weights) > 0
        assert_the_planner_agrees(impact, chosen, curve)


@pytest.mark.slow
@pytest.mark.parametrize("baseline", BASELINES)
@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("name", ["Options", "Box", "Interference", "Correction"])
def test_a_dense_scan_of_weights_agrees(name, measure, baseline):
    impact = Penalty(baseline=baseline, **MEASURES[measure]).fit(level(name))
    curve = trace(impact, Planner())
    for weight in np.geomspace(1e-3, 1e4, 1000):
        if (np.abs(curve.weights / weight - 1) < 1e-6).any():
            continue
        best, row = plan(impact, Planner(), weight), curve.at(weight)
        ours = row[list(COLUMNS)].to_numpy(dtype=float)
        theirs = [getattr(best, f"expected_{column}") for column in COLUMNS]
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9, err_msg=f"weight {weight}")


def test_the_same_twice_and_with_outcomes_that_never_happen():
    # A second outcome of probability 0 takes the task from paths and cycles to linear systems.
    mdp = level("Box")
    first = frontier(mdp, Penalty())
    pd.testing.assert_frame_equal(first.intervals, frontier(mdp, Penalty()).intervals, check_exact=True)
    for discount in (0.99, 1.0):
        a, b = (frontier(task, Penalty(), discount=discount).intervals for task in (mdp, padded(mdp)))
        pd.testing.assert_frame_equal(a, b, rtol=1e-12, atol=1e-12)


# Policy iteration


def prepared(mdp, payments, discount):
    continuing = np.where(mdp.terminal[mdp.next_state], 0.0, mdp.probability)
    ends = (mdp.terminal[mdp.next_state] & (mdp.probability > 0)).any(axis=2)
    return continuing, dynamics(mdp.next_state, continuing, ends, payments, discount=discount)


@given(mdps(max_states=6), st.sampled_from([0.0, 0.5, 0.99]), st.data())
def test_policy_iteration_finds_the_values_of_value_iteration(mdp, discount, data):
    paid = (mdp.probability * mdp.reward).sum(axis=2)
    continuing, task = prepared(mdp, paid[:, :, None], discount)
    begin = data.draw(arrays_of(mdp.num_states, 0, mdp.num_actions - 1))
    policy, values = optimum(task, paid, begin)
    expected = optimal_values(mdp.next_state, continuing, paid, discount=discount).values
    np.testing.assert_allclose(values, expected, rtol=0, atol=2e-10)
    np.testing.assert_array_equal(stationary_values(task, paid[:, :, None], policy)[:, 0], values)


def test_a_cycle_is_worth_its_payments_for_ever_however_close_the_discount_is_to_1():
    world = RuleWorld(
        rules={(0, 0): [Outcome(1, 1.0)], (1, 0): [Outcome(2, 2.0)], (2, 0): [Outcome(1, 4.0)]},
        first=[(1.0, 0)],
        actions=("go",),
    )
    mdp = compile_mdp(world)
    policy = np.zeros(3, dtype=np.int64)
    for gap in (0.5, 1e-3, 1e-9):
        discount = 1 - gap
        gap = 1 - discount  # of the number that there is
        _, task = prepared(mdp, mdp.reward, discount)
        # 1 - discount^2, without the cancellation
        cycle = (2 + 4 * discount) / (gap * (1 + discount))
        expected = [1 + discount * cycle, cycle, (4 + 2 * discount) / (gap * (1 + discount))]
        np.testing.assert_allclose(stationary_values(task, mdp.reward, policy)[:, 0], expected, rtol=1e-15)


def test_stopping_is_offered_where_nothing_is_paid_for_ever():
    impact = options((-1, 0), stay=(0, 0))
    payments = impact.columns[:, :, 0, [0, 3]]
    _, task = prepared(impact.mdp, payments, 1.0)
    assert task.stop[0]
    policy, values = optimum(task, np.ascontiguousarray(payments[:, :, 0]), np.zeros(2, dtype=np.int64))
    assert (policy[0], values[0]) == (STOP, 0)
    assert not prepared(impact.mdp, payments, 0.9)[1].stop.any()


# What a frontier says


def decision(harmful=(), unfinished=(3,)):
    return trace(options((10, 10), (8, 5), (5, 2), (0, 0), harmful=harmful, unfinished=unfinished), Planner())


@pytest.mark.parametrize(
    ("harmful", "windows", "widest", "decades", "price"),
    [
        ([0], ((0.4, 2.5),), (0.4, 2.5), math.log10(6.25), 2),
        ([0, 2], ((0.4, 1.0),), (0.4, 1.0), math.log10(2.5), 2),
        ([1], ((0.0, 0.4), (1.0, 2.5)), (0.0, 0.4), math.inf, 0),
        ([], ((0.0, 2.5),), (0.0, 2.5), math.inf, 0),
        ([0, 1, 2], (), None, 0, None),
    ],
)
def test_safe_windows_are_joined_and_the_widest_is_chosen(harmful, windows, widest, decades, price):
    curve = decision(harmful)
    assert [pytest.approx(window) for window in windows] == list(curve.safe_windows)
    assert curve.safe_window == (None if widest is None else pytest.approx(widest))
    assert curve.safe_decades == pytest.approx(decades)
    assert curve.price_of_safety == price


def test_a_window_may_go_on_for_ever():
    curve = decision(harmful=[0, 1, 2], unfinished=[])
    assert curve.safe_window == (2.5, math.inf)
    assert curve.safe_decades == math.inf
    assert curve.price_of_safety == 10


def test_the_row_at_a_weight():
    curve = decision()
    rewards = [curve.at(weight)["reward"] for weight in (0, 0.3, 0.4, 0.9, 1.1, 2.4, 2.6, 1e9, math.inf)]
    assert rewards == [10, 10, 8, 8, 5, 5, 0, 0, 0]


@pytest.mark.parametrize("weight", [-1, math.nan, "1", None])
def test_a_weight_below_0_has_no_row(weight):
    with pytest.raises(ImpactError, match="weight must be a number"):
        decision().at(weight)


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("Box", Penalty()), r"frontier needs the arrays of a task, compile_mdp\('Box'\), not str"),
        ((None, "RR"), r"frontier needs a Penalty\(\.\.\.\), not 'RR'"),
    ],
)
def test_what_is_no_task_or_penalty_is_refused(arguments, message):
    mdp, penalty = arguments
    with pytest.raises(ImpactError, match=message):
        frontier(level("Box") if mdp is None else mdp, penalty)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"discount": 1.5}, r"discount must be in \[0, 1\]"),
        ({"discount": "much"}, "discount must be a number"),
        ({"horizon": 0}, "horizon must be at least 1"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ImpactError, match=message):
        frontier(level("Box"), Penalty(), **settings)


# The figure


@pytest.fixture(scope="module")
def curves():
    mdp = level("Box")
    penalties = (
        Penalty(deviation="none"),
        Penalty(deviation="unreachability"),
        Penalty(baseline="inaction"),
        Penalty(),
    )
    return {penalty.label: frontier(mdp, penalty) for penalty in penalties}


def test_the_steps_of_a_panel_are_the_intervals(curves):
    ax = Figure().subplots()
    assert step_panel(ax, curves, "performance") is ax
    assert [line.get_label() for line in ax.lines] == list(curves)
    for line, curve in zip(ax.lines, curves.values(), strict=True):
        assert line.get_drawstyle() == "steps-post"
        assert line.get_xdata()[1:-1].tolist() == curve.weights.tolist()
        assert line.get_ydata()[:-1].tolist() == curve.intervals["performance"].tolist()
    weights = np.concatenate([curve.weights for curve in curves.values()])
    assert ax.get_xlim()[0] < weights.min() < weights.max() < ax.get_xlim()[1]
    assert ax.get_xscale() == "log"


def test_the_bars_are_the_safe_windows_and_end_at_the_edges(curves):
    ax = Figure().subplots()
    always: dict[str, Frontier] = {"always": decision()}
    window_panel(ax, curves | always)
    assert [tick.get_text() for tick in ax.get_yticklabels()] == [*curves, "always"]
    bars = [(bar.get_y() + bar.get_height() / 2, bar.get_x(), bar.get_x() + bar.get_width()) for bar in ax.patches]
    expected = [(i, *curves[label].safe_window) for i, label in enumerate(curves) if curves[label].safe_window]
    np.testing.assert_allclose(bars[:-1], expected)
    np.testing.assert_allclose(bars[-1], (4, ax.get_xlim()[0], 2.5))
    shown = [text.get_text() for text in ax.texts]
    assert shown[:2] == ["none", "none"]
    assert shown[-1] == "0 \N{EN DASH} 2.5"


def test_the_figure_has_three_columns_and_the_windows_on_one_axis(curves):
    figure = plot_frontier(curves, title="Box")
    assert [ax.get_ylabel() for ax in figure.axes] == [
        "task return",
        "hidden performance",
        "side effects (count)",
        "",
    ]
    assert len({ax.get_xlim() for ax in figure.axes}) == 1
    assert figure.get_suptitle() == "Box"


def test_one_frontier_without_critical_weights_can_be_drawn(curves):
    figure = plot_frontier({"none": curves["none"]})
    assert figure.axes[0].get_xlim() == (0.1, 10)


def test_figures_say_what_they_need(curves):
    with pytest.raises(ImpactError, match="at least one frontier"):
        plot_frontier({})
    with pytest.raises(ImpactError, match="did you mean 'reward'"):
        step_panel(Figure().subplots(), curves, "rewards")


def test_windows_as_text():
    assert windows_text(decision([1])) == "0 \N{EN DASH} 0.4, 1 \N{EN DASH} 2.5"
    assert windows_text(decision([0, 1, 2], unfinished=[])) == "2.5 \N{EN DASH} ∞"
    assert windows_text(decision([0, 1, 2])) == "none"


# The command


def test_the_command_prints_intervals_and_windows(capsys, tmp_path):
    main(["frontier", "Box", "--discount", "1", "--plan.discount", "1", "--png", str(tmp_path / "box.png")])
    out = capsys.readouterr().out
    assert re.search(r"0\W+3\.273\W+45\W+35\W+1\W+1\W+0\.8333", out)
    assert re.search(r"3\.273\W+193\.5\W+43\W+43\W+0\W+1\W+0\.2222", out)
    assert re.search(r"RR stepwise discount=1\.0\W+2\W+3\.273 – 193\.5\W+1\.772\W+2\W", out)
    assert (tmp_path / "box.png").read_bytes().startswith(b"\x89PNG")


PENALTIES = """
[[penalties]]
deviation = "none"

[[penalties]]
baseline = "inaction"
"""


def test_the_command_compares_the_penalties_of_a_file(capsys, tmp_path):
    file = tmp_path / "penalties.toml"
    for text in (PENALTIES, 'environments = ["Options"]\nseeds = 3\n' + PENALTIES):
        file.write_text(text)
        main(["frontier", "Box", "--penalties", str(file)])
        assert re.search(
            r"none\W+0\W+none\W+0\W.*\n.*RR inaction\W+2\W+1\.046 – 38\.4\W+1\.565\W+2\W", capsys.readouterr().out
        )


@pytest.mark.parametrize(
    ("text", "flags", "message"),
    [
        ("[[penalties]]\nbasline = 'start'", [], "did you mean 'baseline'"),
        ("penalty = 3", [], "did you mean 'penalties'"),
        ("seeds = 3", [], "expected a list of penalties"),
        (PENALTIES, ["--baseline", "start"], "either described by flags or read with --penalties"),
        (None, [], "cannot read the penalties file"),
    ],
)
def test_a_mistake_in_a_file_of_penalties_is_one_line(text, flags, message, capsys, tmp_path):
    file = tmp_path / "penalties.toml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(SystemExit) as stop:
        main(["frontier", "Box", "--penalties", str(file), *flags])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_the_penalties_of_the_documented_figure_are_what_its_page_names():
    content = tomllib.loads((Path(__file__).parents[1] / "docs" / "penalties.toml").read_text())
    assert [Penalty(**entry).label for entry in content["penalties"]][:2] == ["none", "UR stepwise"]
