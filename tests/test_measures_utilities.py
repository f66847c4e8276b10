"""Attainable utilities, importance and POWER."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from penalty_cases import noop_matrix, penalties_of_any_kind
from random_mdps import all_policies, dense, level, mdps, steps, utility_tables

from impactrl.compile import compile_mdp
from impactrl.errors import ImpactError
from impactrl.measures.penalty import Penalty
from impactrl.measures.state_graph import state_graph
from impactrl.measures.values import attainable_utilities, departure_values, inaction_values, power, reachability

TERMINAL = st.sampled_from(["previous", "absorbing"])


# Attainable utilities


@given(mdps(max_states=4), st.sampled_from([0.0, 0.5, 0.9]), st.data())
def test_attainable_utilities_are_the_best_that_any_policy_can_do(mdp, discount, data):
    table = data.draw(utility_tables(mdp))
    best = np.full(table.shape, -np.inf)
    for policy in all_policies(mdp):
        matrix = dense(mdp, policy) * ~mdp.terminal[:, None]  # an end is worth its own utility
        best = np.maximum(best, np.linalg.solve(np.eye(mdp.num_states) - discount * matrix, table))
    ours = attainable_utilities(state_graph(mdp, "absorbing"), table, discount=discount)
    np.testing.assert_allclose(ours, best, rtol=0, atol=2e-10)


def test_under_the_rule_previous_the_end_is_not_attainable():
    # 0 can wait or end; ending would be worth 100. 1 can only end: nothing of the measure follows it.
    mdp = compile_mdp(steps([0, 1, 2], [2, 2, 2], None))
    utilities = np.array([[1.0, -1.0], [5.0, -5.0], [100.0, 100.0]])
    previous = attainable_utilities(state_graph(mdp, "previous"), utilities[:2], discount=0.5)
    # 0: the best of waiting for ever, 1 / (1 - 1/2) = 2, and going to 1, 1 + 5/2; and for the second utility of
    # waiting for ever, -2, and going to 1, -1 - 5/2.
    np.testing.assert_allclose(previous, [[3.5, -2.0], [5.0, -5.0]], rtol=0, atol=1e-10)
    absorbing = attainable_utilities(state_graph(mdp, "absorbing"), utilities, discount=0.5)
    # Now 0 ends at once for 1 + 100/2 and -1 + 100/2; 1 for 5 + 50 and -5 + 50.
    np.testing.assert_allclose(absorbing, [[51.0, 49.0], [55.0, 45.0], [100.0, 100.0]], rtol=0, atol=1e-10)


@given(mdps(max_states=5, noop="certain", ends=False, max_outcomes=1), st.data())
def test_the_stepwise_penalty_is_the_difference_of_auxiliary_action_values(mdp, data):
    table = data.draw(utility_tables(mdp, columns=3))
    impact = Penalty(deviation="attainable_utility", utilities=table, discount=0.9).fit(mdp)
    values = attainable_utilities(state_graph(mdp, "previous"), table, discount=0.9)
    q = values[mdp.next_state[:, :, 0]]  # [S, A, 3]
    expected = np.abs(q - q[:, mdp.noop, None]).mean(axis=2)
    np.testing.assert_allclose(impact.deviation[:, :, 0], expected, rtol=0, atol=1e-13)


@given(mdps(max_states=5, noop="certain"), st.integers(0, 5), st.integers(1, 4))
def test_drawn_utilities_depend_on_the_seed_alone(mdp, seed, count):
    settings = {"deviation": "attainable_utility", "utilities": count}
    ours = Penalty(seed=seed, **settings).fit(mdp).deviation
    assert (ours == Penalty(seed=seed, **settings).fit(mdp).deviation).all()
    drawn = np.random.default_rng(seed).random((mdp.num_states, count))
    absorbing = Penalty(seed=seed, terminal="absorbing", **settings).fit(mdp).deviation
    by_table = Penalty(**(settings | {"utilities": drawn}), terminal="absorbing").fit(mdp).deviation
    assert (absorbing == by_table).all()


@given(mdps(max_states=5), TERMINAL, st.sampled_from([0.0, 0.5, 0.9]))
def test_clipped_indicators_of_states_are_reachability(mdp, terminal, discount):
    graph = state_graph(mdp, terminal)
    values = attainable_utilities(graph, np.eye(graph.size), discount=discount, clip=True)
    np.testing.assert_allclose(values, reachability(graph, discount=discount), rtol=0, atol=1e-13)


@settings(max_examples=40)
@given(mdps(max_states=4), st.data())
def test_a_penalty_of_clipped_indicators_is_relative_reachability(mdp, data):
    penalty = data.draw(
        penalties_of_any_kind(mdp, deviations=["relative_reachability"], goals="all", horizon=None, rollout=False)
    )
    assume(penalty.discount < 1)
    settings = {f: getattr(penalty, f) for f in vars(penalty) if f not in ("deviation", "summary", "goals")}
    settings |= {"utilities": "states", "clip": True, "summary": penalty.effective_summary}
    indicators = Penalty(deviation="attainable_utility", **settings).fit(mdp)
    np.testing.assert_allclose(indicators.deviation, penalty.fit(mdp).deviation, rtol=1e-9, atol=1e-11)


def test_without_the_clip_an_indicator_counts_every_visit():
    mdp = compile_mdp(steps([0, 1], [1, 1]))  # 0 can be kept for ever: 1 + 1/2 + 1/4 + ...
    graph = state_graph(mdp, "previous")
    for clip, expected in [(False, [[2.0, 1.0], [0.0, 2.0]]), (True, [[1.0, 0.5], [0.0, 1.0]])]:
        values = attainable_utilities(graph, np.eye(2), discount=0.5, clip=clip)
        np.testing.assert_allclose(values, expected, rtol=0, atol=1e-10)


def test_a_clip_holds_in_every_backup_and_not_only_at_the_end():
    # 0 > 1 > 2 for good. u = 0, -2, 1: unclipped V(1) = -2 + 1/2 * 2 = -1 and V(0) = -1/2; clipped V(2) = 1,
    # V(1) = max(0, -3/2) = 0, V(0) = 0. With u(1) = 1/4: V(1) = 3/4, V(0) = 3/8.
    mdp = compile_mdp(steps([1], [2], [2]))
    graph = state_graph(mdp, "previous")
    table = np.array([[0.0, 0.0], [-2.0, 0.25], [1.0, 1.0]])
    clipped = attainable_utilities(graph, table, discount=0.5, clip=True)
    np.testing.assert_allclose(clipped, [[0, 0.375], [0, 0.75], [1, 1]], rtol=0, atol=1e-12)


@given(mdps(max_states=4), TERMINAL, st.data())
def test_departure_is_the_value_on_arrival_less_what_the_state_itself_is_worth(mdp, terminal, data):
    graph = state_graph(mdp, terminal)
    table = data.draw(utility_tables(mdp))[graph.state]
    values = attainable_utilities(graph, table, discount=0.5)
    ahead = departure_values(graph, values)
    np.testing.assert_allclose(table + 0.5 * ahead, values, rtol=0, atol=1e-9)


def test_a_function_of_the_state_is_a_utility_like_a_table():
    mdp = level("Options")

    def agent_at_the_top(state):
        return float(state.agent < 12)

    table = [[agent_at_the_top(s), 1.0] for s in mdp.states]
    settings = {"deviation": "attainable_utility", "discount": 0.9}
    given_table = Penalty(utilities=table, **settings).fit(mdp)
    given_functions = Penalty(utilities=[agent_at_the_top, lambda _: 1.0], **settings).fit(mdp)
    assert (given_table.deviation == given_functions.deviation).all()
    assert given_table.deviation.any()
    assert set(given_functions.contributions(0, 1).index) == {"agent_at_the_top", "<lambda>"}


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize("deviation", ["attainable_utility", "importance", "power"])
def test_a_function_that_is_not_finite_is_refused(deviation, number):
    mdp = compile_mdp(steps([0, 1], [1, 1]))

    def endless(state):
        return number if state == 1 else 0.0

    with pytest.raises(ImpactError, match=f"endless must be a finite number in every state; it is {number} in state 1"):
        Penalty(deviation=deviation, utilities=[endless]).fit(mdp)


# Importance


def test_importance_by_hand():
    # Doing nothing, 0 goes to 1 and 1 to 2, for good; with discount 1/2 that is worth u(0) + u(1)/2 + u(2)/2.
    mdp = compile_mdp(steps([1, 2], [2, 0], [2, 2]))
    table = np.array([[1.0, 0.0], [2.0, 4.0], [4.0, 0.0]])
    values = inaction_values(state_graph(mdp, "previous"), table, discount=0.5)
    expected = [[1 + 1 + 2, 2], [2 + 4, 4], [8, 0]]
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-13)
    # From 0, action 1 leads to 2 in place of 1: |6 - 8| and |4 - 0|.
    for norm, deviation in [("L1", 3.0), ("L2", np.sqrt((4 + 16) / 2)), ("Linf", 4.0)]:
        impact = Penalty(deviation="importance", utilities=table, discount=0.5, norm=norm).fit(mdp)
        assert impact.deviation[0, 1, 0] == pytest.approx(deviation, abs=1e-13)
        assert impact.deviation[:, 0].ravel().tolist() == [0, 0, 0]


def test_the_importance_of_an_end_is_its_own_utility():
    # 0 does nothing for ever; 1 is over by doing nothing, and can also go back. Under "previous" it then stays.
    mdp = compile_mdp(steps([0, 1], [2, 0], None))
    table = np.array([[1.0], [3.0], [5.0]])
    absorbing = inaction_values(state_graph(mdp, "absorbing"), table, discount=0.5)
    np.testing.assert_allclose(absorbing, [[2], [3 + 2.5], [5]], rtol=0, atol=1e-13)
    previous = inaction_values(state_graph(mdp, "previous"), table[:2], discount=0.5)
    np.testing.assert_allclose(previous, [[2], [6]], rtol=0, atol=1e-13)


@given(mdps(max_states=4), TERMINAL, st.data())
def test_importance_is_a_linear_system_of_doing_nothing_whatever_else_could_be_done(mdp, terminal, data):
    assume(mdp.noop is not None)
    graph = state_graph(mdp, terminal)
    table = data.draw(utility_tables(mdp))[graph.state]
    matrix = noop_matrix(mdp)
    stays = matrix[np.ix_(graph.state, graph.state)]
    stays += np.diag(1 - stays.sum(axis=1))  # what would leave the measure
    going = np.diag(~mdp.terminal[graph.state] * 1.0)
    expected = np.linalg.solve(np.eye(graph.size) - 0.9 * going @ stays, table)
    values = inaction_values(graph, table, discount=0.9)
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-12)


@given(mdps(max_states=4), st.data())
def test_best_play_is_worth_at_least_as_much_as_doing_nothing(mdp, data):
    assume(mdp.noop is not None)
    graph = state_graph(mdp, "absorbing")
    table = data.draw(utility_tables(mdp))
    best = attainable_utilities(graph, table, discount=0.9)
    assert (best >= inaction_values(graph, table, discount=0.9) - 1e-9).all()


# POWER


@pytest.mark.parametrize("choices", [1, 2, 3, 5])
@pytest.mark.parametrize("discount", [0.1, 0.5, 0.99])
def test_the_power_of_a_choice_of_n_ends_is_the_mean_of_the_largest_of_n(choices, discount):
    # Turner et al. 2021: with u uniform, the best of n states to stay in is worth n / (n + 1) on average.
    leaves = range(1, choices + 1)
    mdp = compile_mdp(steps(list(leaves), *([leaf] * choices for leaf in leaves)))
    table = np.random.default_rng(0).random((choices + 1, 4000))
    found = power(state_graph(mdp, "absorbing"), table, discount=discount)
    assert found[0] == pytest.approx(table[1:].max(axis=0).mean(), abs=1e-9)
    assert found[0] == pytest.approx(choices / (choices + 1), abs=0.02)
    np.testing.assert_allclose(found[1:], 0.5, rtol=0, atol=0.02)


def test_power_by_hand():
    # 0 can stay or go to 1, for good; discount 1/2, u = 1, 0 and u = 0, 1. V(0) = 2 and 1, V(1) = 0 and 2.
    mdp = compile_mdp(steps([0, 1], [1, 1]))
    table = np.eye(2)
    found = power(state_graph(mdp, "absorbing"), table, discount=0.5)
    np.testing.assert_allclose(found, [(1 + 1) / 2, (0 + 1) / 2], rtol=0, atol=1e-10)
    impact = Penalty(deviation="power", utilities=table, discount=0.5).fit(mdp)
    assert impact.deviation[:, :, 0].tolist() == [[0, pytest.approx(0.5)], [0, 0]]


@given(mdps(max_states=4), TERMINAL, st.data())
def test_power_is_a_share(mdp, terminal, data):
    graph = state_graph(mdp, terminal)
    table = data.draw(utility_tables(mdp, least=0))[graph.state]
    for discount in (0.0, 0.5, 0.99):
        found = power(graph, table, discount=discount)
        assert (found >= -1e-12).all()
        assert (found <= 1 + 1e-9).all()


@given(mdps(max_states=4), st.data())
def test_the_mean_attainable_utility_penalty_bounds_the_change_of_power(mdp, data):
    # Turner et al. 2021, and the AUP penalty as mean |max_a Q_u(b, a) - max_a Q_u(s, a)|.
    table = data.draw(utility_tables(mdp, columns=3))
    settings = {
        "baseline": data.draw(st.sampled_from(["start", "average_other", "random"])),
        "discount": data.draw(st.sampled_from([0.5, 0.9])),
        "terminal": data.draw(TERMINAL),
        "utilities": table,
    }

    def fitted(deviation, summary, **more):
        return Penalty(deviation=deviation, summary=summary, **settings, **more).fit(mdp).deviation

    aup = {"attainable": "departure", "scale": "discount"}
    change, charged = fitted("power", "absolute"), fitted("attainable_utility", "absolute", **aup)
    assert (change <= charged + 1e-9).all()
    # With signs the two are the same thing.
    gained = fitted("power", "increase") - fitted("power", "decrease")
    mean = fitted("attainable_utility", "increase", **aup) - fitted("attainable_utility", "decrease", **aup)
    np.testing.assert_allclose(gained, mean, rtol=0, atol=1e-9)
