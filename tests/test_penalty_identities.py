"""What must hold of every penalty, whatever the task."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from penalty_cases import (
    EVERY_DEVIATION,
    carried_over,
    looked_up,
    pairs_of,
    penalties_of_any_kind,
    precision,
    tasks_with_penalties,
)
from random_mdps import has_certain_noop, level, mdps, padded, random_walk, steps, worlds

from impactrl.compile import compile_mdp
from impactrl.measures.penalty import Penalty

VALUES = ("relative_reachability", "attainable_utility", "importance", "power", "empowerment", "features")
MEANS = tuple(name for name in VALUES if name != "features")
VALUE_SCALES = ("none", "per-value", "sum", "discount")
TERMINAL = st.sampled_from(["previous", "absorbing"])


@st.composite
def tasks(draw, *, world=None, **settings):
    """A random task and a penalty of any kind."""
    mdp = draw(mdps(**({"max_states": 4} | (world or {}))))
    return mdp, draw(penalties_of_any_kind(mdp, **settings))


def walks(mdp, penalty, number=3, length=8):
    rng = np.random.default_rng(1)
    return [random_walk(mdp, rng, penalty.horizon if penalty.rollout == "end" else length) for _ in range(number)]


# A state and itself


@pytest.mark.parametrize("deviation", [name for name in EVERY_DEVIATION if name != "future_tasks"])
@settings(max_examples=25)
@given(st.data())
def test_a_state_does_not_deviate_from_itself(deviation, data):
    mdp, penalty = data.draw(tasks(deviations=[deviation], scales=VALUE_SCALES))
    pairs_part = deviation in ("unreachability", "whitelist") and penalty.rollout  # on random courses, by definition
    assume(not pairs_part or (penalty.policy is None and has_certain_noop(mdp)))
    if deviation in ("unreachability", "step_reversibility"):
        penalty = replace(penalty, horizon=penalty.horizon if penalty.rollout == "end" else None)
    if penalty.attainable == "departure" and penalty.rollout == "end" and penalty.baseline == "stepwise":
        penalty = replace(penalty, attainable="arrival")  # there the baseline's side is another value
    np.testing.assert_allclose(pairs_of(mdp, penalty).diagonal(), 0, rtol=0, atol=1e-10)


def test_the_exceptions_that_a_state_deviates_from_itself():
    mdp = compile_mdp(steps([1, 0], [0, 1]))  # doing nothing goes to and fro, 1 stays
    # After one step of doing nothing one is elsewhere, and in 0 one can stay: being there after one step is certain.
    one_step = Penalty(deviation="unreachability", horizon=1, discount=1.0)
    assert pairs_of(mdp, one_step).diagonal().tolist() == [0, 0]
    fork = compile_mdp(steps([1, 1], [0, 0]))  # here one has to leave
    assert pairs_of(fork, one_step).diagonal().tolist() == [1, 1]
    # A plan-ahead agent's own best action against a baseline that does nothing, from the same state.
    departing = Penalty(
        deviation="attainable_utility", attainable="departure", rollout="end", horizon=1, utilities="states"
    )
    assert pairs_of(mdp, departing).diagonal().max() > 0.1
    # A bonus is no difference.
    bonus = Penalty(deviation="future_tasks", discount=0.5, baseline="inaction")
    np.testing.assert_allclose(pairs_of(mdp, bonus).diagonal(), -0.75, rtol=0, atol=1e-14)


# Ranges and summaries


@given(tasks_with_penalties(deviations=["unreachability", "relative_reachability"]))
def test_reachability_deviations_are_shares(task):
    mdp, penalty = task
    penalty = replace(penalty, scale="none") if penalty.deviation == "relative_reachability" else penalty
    pairs = pairs_of(mdp, penalty)
    assert (pairs >= -1e-13).all()
    assert (pairs <= 1 + 1e-13).all()
    assert (penalty.fit(mdp).deviation <= 1 + 1e-13).all()


@given(tasks())
def test_nothing_but_a_bonus_is_below_0(task):
    mdp, penalty = task
    deviation = penalty.fit(mdp).deviation
    bonus = penalty.deviation == "future_tasks"
    assert ((deviation <= 1e-13) & (deviation >= -1 - 1e-13) if bonus else deviation >= 0).all()


@settings(max_examples=100)
@given(tasks(deviations=VALUES, scales=(*VALUE_SCALES,), norm="L1"))
def test_decrease_and_increase_add_up_to_the_absolute_deviation(task):
    mdp, penalty = task
    decrease, increase, absolute = (
        replace(penalty, summary=summary).fit(mdp).deviation for summary in ("decrease", "increase", "absolute")
    )
    np.testing.assert_allclose(decrease + increase, absolute, rtol=1e-12, atol=1e-12)


@given(tasks(deviations=VALUES, scales=("none", "per-value"), rollouts=(False, True)))
def test_decrease_and_increase_make_the_absolute_deviation_of_other_norms(task):
    mdp, penalty = task

    def three(norm):
        return (pairs_of(mdp, replace(penalty, norm=norm, summary=s)) for s in ("decrease", "increase", "absolute"))

    decrease, increase, absolute = three("L2")
    np.testing.assert_allclose(np.hypot(decrease, increase), absolute, rtol=1e-12, atol=1e-12)
    decrease, increase, absolute = three("Linf")
    np.testing.assert_allclose(np.maximum(decrease, increase), absolute, rtol=1e-12, atol=1e-12)


@given(tasks(deviations=MEANS, scales=("none",), rollouts=(False, True)))
def test_the_mean_is_at_most_the_root_mean_square_and_that_the_maximum(task):
    mdp, penalty = task
    mean, root, most = (pairs_of(mdp, replace(penalty, norm=norm)) for norm in ("L1", "L2", "Linf"))
    assert (mean <= root + 1e-12).all()
    assert (root <= most + 1e-12).all()


@given(tasks(deviations=VALUES, scales=("none", "discount"), rollouts=(False, True)))
def test_a_decrease_seen_from_the_other_side_is_an_increase(task):
    mdp, penalty = task
    decrease, increase = (pairs_of(mdp, replace(penalty, summary=s)) for s in ("decrease", "increase"))
    np.testing.assert_allclose(decrease, increase.T, rtol=0, atol=1e-12)


@given(tasks(scales=("none",)))
def test_an_expected_deviation_is_at_least_the_deviation_of_expected_values(task):
    mdp, penalty = task  # Jensen: every norm of every summary is convex
    assume(penalty.deviation in VALUES)
    outside = replace(penalty, expectation="outside").fit(mdp)
    inside = replace(penalty, expectation="inside").fit(mdp)
    real = inside.mdp.probability * ~inside.mdp.terminal[inside.mdp.next_state]
    assume(penalty.terminal == "absorbing" or (real == inside.mdp.probability).all())  # all outcomes are judged alike
    expected = [(i.mdp.probability * i.deviation).sum(axis=2) for i in (inside, outside)]
    assert (expected[0] <= expected[1] + 1e-9).all()


@given(mdps(max_states=5), st.data())
def test_without_a_deviation_nothing_is_charged(mdp, data):
    terminal = data.draw(TERMINAL)
    impact = Penalty(deviation="none", terminal=terminal, discount=1.0).fit(mdp)
    assert not impact.deviation.any()
    assert (impact.penalised_reward(5.0) == impact.mdp.reward).all()


# Doing nothing

NOT_FREE = ("future_tasks", "step_reversibility")  # a bonus; and a no-op that moves the world can be hard to undo


@pytest.mark.parametrize("deviation", [name for name in EVERY_DEVIATION if name not in NOT_FREE])
@settings(max_examples=25)
@given(st.data())
def test_doing_nothing_costs_nothing_against_the_stepwise_baseline(deviation, data):
    mdp = data.draw(mdps(max_states=4, noop="certain", ends=False))
    scales = ("none", "per-value", "sum", "discount", "gap")
    penalty = data.draw(
        penalties_of_any_kind(mdp, deviations=[deviation], baselines=["stepwise"], scales=scales, policy=None)
    )
    assume(not (penalty.rollout == "end" and penalty.attainable == "departure"))
    if deviation == "unreachability" and penalty.rollout != "end":
        penalty = replace(penalty, horizon=None)  # else being there after so many steps
    impact = penalty.fit(mdp)
    np.testing.assert_allclose(impact.deviation[:, mdp.noop], 0, rtol=0, atol=1e-10)


@settings(max_examples=40)
@given(st.data())
def test_doing_nothing_costs_nothing_where_it_is_random_if_distributions_or_expectations_are_compared(data):
    mdp = data.draw(mdps(max_states=4, ends=False))
    assume(mdp.noop is not None)
    penalty = data.draw(
        penalties_of_any_kind(
            mdp, deviations=[*VALUES, "detectability"], baselines=["stepwise"], scales=VALUE_SCALES, policy=None
        )
    )
    assume(not (penalty.rollout == "end" and penalty.attainable == "departure"))
    if penalty.deviation != "detectability":
        penalty = replace(penalty, expectation="inside")
    impact = penalty.fit(mdp)
    np.testing.assert_allclose(impact.deviation[:, mdp.noop], 0, rtol=0, atol=1e-10)


def test_the_exceptions_where_doing_nothing_costs_something():
    # The fuse of 0 burns down by itself, to 1 for good; action 1 keeps it.
    mdp = compile_mdp(steps([1, 0], [1, 1]))
    undo = Penalty(deviation="step_reversibility", discount=1.0).fit(mdp)
    assert undo.deviation[:, :, 0].tolist() == [[1, 0], [0, 0]]
    bonus = Penalty(deviation="future_tasks", discount=1.0).fit(mdp)
    assert bonus.deviation[:, :, 0].tolist() == [[-0.5, -0.5], [-0.5, -0.5]]
    # Doing nothing leads where keeping costs more than here: it raises the unit.
    mdp = compile_mdp(steps([1, 0], [2, 0], [2, 2]))
    table = [[0.0], [0.5], [2.0]]
    unit = Penalty(deviation="attainable_utility", discount=0.0, utilities=table, scale="impact-unit", unit_action="a1")
    assert unit.fit(mdp).deviation[0].ravel().tolist() == [1.01, 1.0]
    # A plan-ahead agent compares its best action at the end with doing nothing there.
    plan = Penalty(
        deviation="attainable_utility", discount=0.0, utilities=table, rollout="end", horizon=1, attainable="departure"
    ).fit(mdp)
    # After a no-op it is in 1, and there u = 0 and 2 can be had; a no-op has the 2.
    assert plan.deviation[plan.start_index(0), 0, 0] == 0
    lazy = replace(plan.penalty, utilities=[[0.0], [2.0], [0.5]]).fit(mdp)
    # From 1 action 1 leads back to 0 (worth 0), a no-op to 2 (worth 1/2): the no-op is best. From 0 after action 1:
    # the best is 2, of the no-op.
    assert lazy.deviation[lazy.start_index(0), :, 0].tolist() == [0, 1.5]


@settings(max_examples=80)
@given(mdps(max_states=4, noop="certain"), st.data())
def test_doing_nothing_from_the_start_on_costs_nothing_against_the_inaction_baseline(mdp, data):
    deviations = [name for name in EVERY_DEVIATION if name not in NOT_FREE]
    scales = ("none", "per-value", "sum", "discount", "gap")
    penalty = data.draw(penalties_of_any_kind(mdp, deviations=deviations, baselines=["inaction"], scales=scales))
    if penalty.deviation == "unreachability" and penalty.rollout != "end":
        penalty = replace(penalty, horizon=None)
    impact = penalty.fit(mdp)
    for x in np.flatnonzero(impact.mdp.start):
        for _ in range(mdp.time_limit):
            np.testing.assert_allclose(impact.deviation[x, mdp.noop, 0], 0, rtol=0, atol=1e-10)
            x = impact.mdp.next_state[x, mdp.noop, 0]


# Names and notation


@settings(max_examples=150)
@given(worlds(max_states=4), st.data())
def test_other_names_for_states_and_actions_change_nothing(world, data):
    mdp = compile_mdp(world)
    penalty = data.draw(penalties_of_any_kind(mdp, goals="all"))
    states = data.draw(st.permutations(range(4)))
    actions = data.draw(st.permutations(range(mdp.num_actions)))  # the new number of each action
    other = compile_mdp(
        replace(
            world,
            rules={
                (states[s], actions[a]): [o._replace(state=states[o.state]) for o in reversed(outcomes)]
                for (s, a), outcomes in world.rules.items()
            },
            first=[(p, states[s]) for p, s in reversed(world.first)],
            ends=frozenset(states[s] for s in world.ends),
            noop=None if world.noop is None else actions[world.noop],
            actions=tuple(world.actions[actions.index(a)] for a in range(mdp.num_actions)),
            boards={states[s]: board for s, board in world.boards.items()},
            features_of={states[s]: features for s, features in world.features_of.items()},
        )
    )
    origin = [mdp.index(states.index(s)) for s in other.states]
    renamed = carried_over(penalty, mdp, other, origin)
    if isinstance(renamed.policy, tuple):
        renamed = replace(renamed, policy=[actions[a] for a in renamed.policy])
    impact, impact_of_other = penalty.fit(mdp), renamed.fit(other)
    for path in walks(mdp, penalty):
        names = [(origin.index(s), actions[a], origin.index(z)) for s, a, z in path]
        np.testing.assert_allclose(looked_up(impact, path), looked_up(impact_of_other, names), **precision(penalty))


@given(tasks(world={"max_outcomes": 1}, goals="all"))
def test_a_stochastic_world_that_leaves_nothing_to_chance_is_a_deterministic_one(task):
    mdp, penalty = task
    narrow, wide = penalty.fit(mdp), penalty.fit(padded(mdp))
    assert mdp.deterministic
    assert not wide.mdp.deterministic
    for path in walks(mdp, penalty):
        np.testing.assert_allclose(looked_up(narrow, path), looked_up(wide, path), **precision(penalty))


@given(tasks(world={"max_outcomes": 1}, deviations=VALUES, scales=VALUE_SCALES))
def test_in_a_deterministic_world_it_does_not_matter_where_an_expectation_is_taken(task):
    mdp, penalty = task
    assume(penalty.policy != "random")
    inside, outside = (replace(penalty, expectation=e).fit(mdp).deviation for e in ("inside", "outside"))
    np.testing.assert_allclose(inside, outside, rtol=1e-13, atol=1e-13)


@given(tasks(deviations=["attainable_utility", "relative_reachability", "power"], scales=("none",)), st.integers(1, 9))
def test_the_weight_and_the_weight_of_steps_are_factors(task, weight):
    mdp, penalty = task
    impact = replace(penalty, nonterminal_weight=0.25, weight=weight).fit(mdp)
    plain = replace(penalty, nonterminal_weight=1.0).fit(mdp)
    assert (impact.deviation == plain.deviation).all()
    ends = impact.mdp.terminal[impact.mdp.next_state]
    assert (impact.unit_penalty == np.where(ends, 1.0, 0.25) * plain.unit_penalty).all()
    paid = impact.mdp.reward - weight * impact.unit_penalty
    np.testing.assert_allclose(impact.penalised_reward(weight), paid, rtol=1e-14, atol=1e-14)
    assert (impact.columns[..., 3] == impact.unit_penalty).all()
    assert (impact.columns[..., 0] == impact.mdp.reward).all()


# Contributions


@settings(max_examples=100)
@given(tasks(deviations=VALUES, scales=VALUE_SCALES, norm="L1"), st.integers(0, 999))
def test_what_values_contribute_adds_up_to_the_deviation(task, number):
    mdp, penalty = task
    impact = penalty.fit(mdp)
    places = np.argwhere(impact.mdp.probability > 0)
    x, a, k = places[number % len(places)]
    terms = impact.contributions(int(x), int(a), int(k))
    assert terms.sum() == pytest.approx(impact.deviation[x, a, k], rel=1e-9, abs=1e-12)
    assert (np.diff(terms.abs()) <= 0).all()
    assert len(set(terms.index)) == len(terms)


def test_contributions_name_what_was_lost():
    mdp = level("Options")
    impact = Penalty(discount=1.0, terminal="absorbing").fit(mdp)
    terms = impact.contributions(0, 1)  # the box into the corner
    lost = terms[terms > 0]
    assert len(lost) == round(impact.deviation[0, 1, 0] * 60)
    assert set(lost) == {1 / 60}
    for name in lost.index:  # everything with the box elsewhere
        assert mdp.board_text(int(name.removeprefix("state ")))[3][2] != "X"


# Limits


@pytest.mark.parametrize("deviation", ["relative_reachability", "unreachability"])
@settings(max_examples=60)
@given(st.data())
def test_reachability_deviations_tend_to_their_undiscounted_values(deviation, data):
    mdp = data.draw(mdps(max_states=5))
    penalty = data.draw(penalties_of_any_kind(mdp, deviations=[deviation], scales=["none"]))
    limit = replace(penalty, discount=1.0).fit(mdp).deviation
    nearly = replace(penalty, discount=1 - 1e-9).fit(mdp).deviation
    # Every step costs 1e-9 at most, and whatever can be reached takes far fewer than 1000 steps on average.
    np.testing.assert_allclose(nearly, limit, rtol=0, atol=1e-6)
