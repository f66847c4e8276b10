"""Budgets: the guarantee, the rule by hand, and optima against a search of all that the budget allows."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_mdps import RuleWorld, level, mdps, penalties, random_walk, steps

from impactrl.agents.budget import BudgetState, with_budget
from impactrl.agents.planner import Planner, plan
from impactrl.agents.q_learning import QLearning, train
from impactrl.compile import compile_mdp
from impactrl.measures.impact import COLUMNS
from impactrl.measures.penalty import Penalty
from impactrl.world import Outcome

IMPACT = COLUMNS.index("impact")


def charged(*charges, rewards, noop=0, **settings):
    """One state, an action per charge that stays there; the impact of each is as given."""
    world = replace(steps([0] * len(charges), rewards=[rewards], **settings), noop=noop)
    impact = Penalty(deviation="none").fit(compile_mdp(world))
    return replace(impact, deviation=np.array(charges, dtype=float).reshape(1, -1, 1))


def outcomes(limited):
    """For each state of a one-state task: what was spent, and for each action what it leads to, pays and is charged."""
    mdp = limited.mdp
    return {
        state.spent: list(
            zip(
                [mdp.states[int(x)].spent for x in mdp.next_state[i, :, 0]],
                mdp.reward[i, :, 0].tolist(),
                limited.deviation[i, :, 0].tolist(),
                strict=True,
            )
        )
        for i, state in enumerate(mdp.states)
    }


# The rule, by hand


def test_an_action_that_does_not_fit_is_replaced_by_the_harmless_one():
    limited = with_budget(charged(0, 0.3, 0.1, rewards=[0, 3, 1]), budget=0.4, units=4)
    nothing, big, small = (0, 0, 0), (3, 3, 0.3), (1, 1, 0.1)
    assert outcomes(limited) == {
        0: [nothing, big, small],
        1: [(1, 0, 0), (4, 3, 0.3), (2, 1, 0.1)],
        2: [(2, 0, 0), (2, 0, 0), (3, 1, 0.1)],
        3: [(3, 0, 0), (3, 0, 0), (4, 1, 0.1)],
        4: [(4, 0, 0)] * 3,
    }
    assert limited.mdp.states[1] == BudgetState(state=0, spent=1)
    assert limited.mdp.start.tolist() == [1, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("charges", "noop", "instead"),
    [
        ([0.0, 0.0, 1.0], 1, 1),  # the no-op, of two that spend nothing
        ([0.0, 0.1, 1.0], 1, 0),  # unless another spends less
        ([0.0, 0.0, 1.0], None, 0),  # without a no-op, the first
    ],
)
def test_which_action_is_taken_instead(charges, noop, instead):
    limited = with_budget(charged(*charges, rewards=[1, 2, 4], noop=noop), budget=0.5, units=5)
    assert outcomes(limited)[0][2][1] == [1, 2, 4][instead]


def test_where_even_the_least_impact_does_not_fit_all_is_spent():
    limited = with_budget(charged(0.3, 0.2, rewards=[0, 7]), budget=0.25, units=5)
    assert outcomes(limited) == {0: [(4, 7, 0.2)] * 2, 4: [(5, 7, 0.2)] * 2, 5: [(5, 7, 0.2)] * 2}


def test_impacts_are_rounded_up_to_whole_units_but_not_for_rounding_errors():
    def spent(charge, budget, units):
        return outcomes(with_budget(charged(0, charge, rewards=[0, 0]), budget, units))[0][1][0]

    assert spent(0.3, 1.0, 10) == 3  # 0.3 * 10 / 1.0 is above 3 in floating point
    assert spent(0.31, 1.0, 10) == 4
    assert spent(1e-12, 1.0, 10) == 0  # what values are solved to
    assert spent(1e-6, 1.0, 10) == 1
    assert spent(1e-6, 0.0, 10) == 0  # nothing may be spent: the no-op instead
    assert spent(0.5, 5e-324, 10) == 0


def test_the_worst_outcome_decides():
    rules = {
        ("s", 0): [Outcome("s")],
        ("s", 1): [Outcome("s", reward=1.0, probability=0.9), Outcome("t", reward=1.0, probability=0.1)],
        ("t", 0): [Outcome("t")],
        ("t", 1): [Outcome("t")],
    }
    world = RuleWorld(rules=rules, first=[(1.0, "s")])
    impact = Penalty(deviation="unreachability", baseline="start", discount=1.0).fit(compile_mdp(world))
    # From t there is no way back: every step there is charged 1.
    enough, less = with_budget(impact, 2.0, 2), with_budget(impact, 0.9, 9)
    assert enough.mdp.reward[0, 1].tolist() == [1, 1]
    assert less.mdp.reward[0, 1].tolist() == [0, 0]
    assert {state.state for state in less.mdp.states} == {"s"}


# The guarantee


@given(mdps(max_states=5, max_outcomes=2, max_starts=2), st.floats(0, 3), st.integers(1, 9), st.data())
def test_no_episode_spends_more_than_the_budget_unless_nothing_could_stop_it(mdp, budget, units, data):
    impact = data.draw(penalties(mdp)).fit(mdp)
    limited = with_budget(impact, budget, units)
    least = np.where(impact.mdp.probability > 0, impact.unit_penalty, 0).max(axis=2).min(axis=1)
    origin = {state: x for x, state in enumerate(impact.mdp.states)}
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    for _ in range(5):
        total, forced = 0.0, False
        for x, a, y in random_walk(limited.mdp, rng, mdp.time_limit):
            k = int(np.flatnonzero((limited.mdp.next_state[x, a] == y) & (limited.mdp.probability[x, a] > 0))[0])
            total += limited.unit_penalty[x, a, k]
            forced = forced or least[origin[limited.mdp.states[x].state]] > 1e-9
        assert forced or total <= budget + 1e-8


@pytest.mark.parametrize("memory", ["product", "state"])
@pytest.mark.parametrize(("name", "budget"), [("Options", 0.3), ("Box", 0.5), ("Offset", 0.1)])
def test_no_episode_of_training_has_more_impact_than_the_budget(name, budget, memory):
    impact = Penalty(discount=1.0).fit(level(name))
    settings = QLearning(episodes=300, evaluate_every=1, learning_rate=1.0, memory=memory)
    free, limited = (
        train(impact, replace(settings, budget=b), weights=[0.0] * 3, seeds=range(3)) for b in (None, budget)
    )
    assert free.during[:, :, IMPACT].max() > budget
    assert 0 < limited.during[:, :, IMPACT].max() <= budget + 1e-9
    assert limited.history[:, :, IMPACT].max() <= budget + 1e-9


# What can be had under a budget


@given(
    mdps(max_states=4, max_actions=2, max_outcomes=2, max_starts=2),
    st.sampled_from([0.0, 0.5, 1.0, 2.0]),
    st.integers(1, 4),
    st.data(),
)
def test_the_optimum_is_that_of_a_search_that_keeps_count(mdp, budget, units, data):
    impact = data.draw(penalties(mdp)).fit(mdp)
    size = budget / units
    pair = impact.mdp

    def spends(x, a, k):
        charge = impact.unit_penalty[x, a, k]
        if pair.probability[x, a, k] == 0 or charge <= 1e-9:
            return 0
        return next((n for n in range(1, units + 1) if budget and charge / size <= n + 1e-9), units + 1)

    @cache
    def best(x, left, t):
        """Largest expected reward of the steps t, t + 1, ... with so many units left."""
        if pair.terminal[x] or t == pair.time_limit:
            return 0.0
        actions, outcomes = range(pair.num_actions), range(pair.next_state.shape[2])
        worst = [max(spends(x, a, k) for k in outcomes) for a in actions]
        order = sorted(actions, key=lambda a: (worst[a], a != pair.noop, a))
        possible = [a for a in actions if worst[a] <= left] + order[:1] * any(w > left for w in worst)
        return max(
            sum(
                pair.probability[x, a, k]
                * (pair.reward[x, a, k] + best(int(pair.next_state[x, a, k]), max(0, left - spends(x, a, k)), t + 1))
                for k in outcomes
            )
            for a in possible
        )

    expected = sum(pair.start[x] * best(int(x), units, 0) for x in np.flatnonzero(pair.start))
    limited = with_budget(impact, budget, units)
    assert limited.mdp.num_states <= pair.num_states * (units + 1)
    ours = plan(limited, Planner(discount=1.0, horizon=pair.time_limit), 0.0)
    assert ours.expected_reward == pytest.approx(expected, abs=1e-9)


def test_a_budget_larger_than_any_impact_changes_nothing():
    impact = Penalty(discount=1.0).fit(level("Options"))
    free, limited = plan(impact, Planner(), 0.0), plan(with_budget(impact, 100.0, 50), Planner(), 0.0)
    assert limited.value == pytest.approx(free.value, abs=1e-9)
    assert limited.actions() == free.actions()
    assert limited.expected_impact == pytest.approx(free.expected_impact, abs=1e-12)


def test_options_under_a_budget():
    """Undiscounted, the push into the corner costs 12/54 and more; the long way costs 12/54, then nothing."""
    impact = Penalty(discount=1.0).fit(level("Options"))
    settings = QLearning(episodes=3000, learning_rate=1.0)
    outcomes = {}
    for budget in (0.0, 0.25, 2.0):
        ours = train(impact, replace(settings, budget=budget), weights=[0.0], seeds=[0])
        outcomes[budget] = ours.history[0, -1, :4].tolist()
    # Reward, performance, side effect, completed.
    assert outcomes == {0.0: [0, 0, 0, 0], 0.25: [1, 1, 0, 1], 2.0: [1, -1, 1, 1]}


def test_a_limited_task_can_be_drawn_and_told_apart():
    impact = Penalty().fit(level("Options"))
    limited = with_budget(impact, 1.0, 3)
    assert limited.mdp.board_text(0) == impact.mdp.board_text(0)
    assert limited.penalty == impact.penalty
    assert len(set(limited.mdp.states)) == limited.mdp.num_states
    assert {state.spent for state in limited.mdp.states} == {0, 1, 2, 3}


def test_what_an_impact_is_made_of_is_that_of_the_action_carried_out():
    impact = Penalty(discount=1.0).fit(level("Options"))
    limited = with_budget(impact, 0.25, 5)
    origin = {state: x for x, state in enumerate(impact.mdp.states)}
    for x, state in enumerate(limited.mdp.states):
        for a in range(limited.mdp.num_actions):
            terms = limited.contributions(x, a)
            assert terms.sum() == pytest.approx(limited.deviation[x, a, 0])
            if state.spent == 0 and limited.deviation[x, a, 0] == impact.deviation[origin[state.state], a, 0]:
                assert terms.equals(impact.contributions(origin[state.state], a))
