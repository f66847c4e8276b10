"""Reachability: against linear systems, searches and sums over policies; unreachability; the box map of the papers."""

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from penalty_cases import pairs_of
from random_mdps import RuleWorld, all_policies, dense, level, mdps, padded

from impactrl.compile import compile_mdp
from impactrl.measures.penalty import Penalty
from impactrl.measures.state_graph import state_graph
from impactrl.measures.values import reachability
from impactrl.world import Outcome

TERMINAL = st.sampled_from(["previous", "absorbing"])
DISCOUNTS = st.sampled_from([0.0, 0.5, 0.9, 1.0])


def fundamental_reach(mdp, goal, discount):
    """[S] best of all policies, each by a dense linear system: `E[discount^N]` to reach the goal."""
    best = np.zeros(mdp.num_states)
    for policy in all_policies(mdp):
        matrix = dense(mdp, policy)
        # With discount 1 the system is singular where the goal is out of reach: there the answer is 0.
        graph = nx.DiGraph((int(y), int(x)) for x, y in np.argwhere(matrix > 0) if x != goal)
        graph.add_node(goal)
        able = sorted(nx.descendants(graph, goal))
        value = np.zeros(mdp.num_states)
        value[goal] = 1
        if able:
            inner = np.eye(len(able)) - discount * matrix[np.ix_(able, able)]
            value[able] = np.linalg.solve(inner, discount * matrix[able, goal])
        best = np.maximum(best, value)
    return best


@given(mdps(max_states=4), DISCOUNTS)
def test_reachability_is_the_best_that_any_policy_can_do(mdp, discount):
    table = reachability(state_graph(mdp, "absorbing"), discount=discount)
    for goal in range(mdp.num_states):
        np.testing.assert_allclose(table[:, goal], fundamental_reach(mdp, goal, discount), rtol=0, atol=1e-11)


@given(mdps(max_states=8, max_outcomes=3), DISCOUNTS, TERMINAL)
def test_reachability_satisfies_its_bellman_equation(mdp, discount, terminal):
    live = [s for s in range(mdp.num_states) if terminal == "absorbing" or not mdp.terminal[s]]
    table = reachability(state_graph(mdp, terminal), discount=discount)
    assert table.shape == (len(live), len(live))
    transitions = np.stack([dense(mdp, [a] * mdp.num_states)[np.ix_(live, live)] for a in range(mdp.num_actions)])
    expected = discount * (transitions @ table).max(axis=0, initial=0.0)
    np.fill_diagonal(expected, 1.0)
    np.testing.assert_allclose(table, expected, rtol=0, atol=2e-12)  # of two values, each right to 1e-12


@given(mdps(max_states=8, max_outcomes=1), DISCOUNTS, TERMINAL)
def test_deterministic_reachability_is_a_power_of_the_shortest_distance(mdp, discount, terminal):
    graph = nx.DiGraph(mdp.to_networkx())
    if terminal == "previous":
        graph.remove_nodes_from(np.flatnonzero(mdp.terminal).tolist())
    nodes = sorted(graph)
    lengths = dict(nx.all_pairs_shortest_path_length(graph))
    expected = [[discount ** lengths[x][y] if y in lengths[x] else 0.0 for y in nodes] for x in nodes]
    for task in (mdp, padded(mdp)):  # by search, and by the stochastic kernel
        table = reachability(state_graph(task, terminal), discount=discount)
        np.testing.assert_allclose(table, np.reshape(expected, table.shape), rtol=0, atol=1e-15)


@given(mdps(max_states=6, max_outcomes=3), DISCOUNTS)
def test_a_detour_does_not_make_a_state_more_reachable(mdp, discount):
    table = reachability(state_graph(mdp, "absorbing"), discount=discount)
    through = (table[:, :, None] * table[None, :, :]).max(axis=1)  # x to y, then y to z
    assert (table >= through - 3e-12).all()  # each is right to 1e-12


def test_reachability_by_hand():
    # 0 tries: with 1/2 it gets to 1, with 1/2 it stays. 1 goes back to 0 with 1/4 and falls to 2 with 3/4.
    rules = {
        (0, 0): [Outcome(1, probability=0.5), Outcome(0, probability=0.5)],
        (1, 0): [Outcome(0, probability=0.25), Outcome(2, probability=0.75)],
        (2, 0): [Outcome(2)],
    }
    mdp = compile_mdp(RuleWorld(rules=rules, first=[(1.0, 0)], actions=("try",), noop=None))
    graph = state_graph(mdp, "previous")
    undiscounted = [[1, 1, 1], [0.25, 1, 1], [0, 0, 1]]
    np.testing.assert_allclose(reachability(graph, discount=1.0), undiscounted, rtol=0, atol=1e-14)
    # With discount 1/2: R(0;1) = (1/4) + (1/4) R(0;1) = 1/3; R(1;0) = 1/8; R(1;2) = 3/8 + (1/8) R(0;2) and
    # R(0;2) = (1/3) R(1;2), so R(1;2) = (3/8) / (1 - 1/24) = 9/23.
    halved = [[1, 1 / 3, 3 / 23], [1 / 8, 1, 9 / 23], [0, 0, 1]]
    np.testing.assert_allclose(reachability(graph, discount=0.5), halved, rtol=0, atol=1e-12)


@given(mdps(max_states=6), DISCOUNTS, TERMINAL)
def test_unreachability_is_one_minus_reachability(mdp, discount, terminal):
    penalty = Penalty(deviation="unreachability", discount=discount, terminal=terminal)
    table = reachability(state_graph(mdp, terminal), discount=discount)
    assert (pairs_of(mdp, penalty) == 1 - table).all()


# Being there after exactly so many steps


@given(mdps(max_states=4), st.integers(1, 3), st.sampled_from([0.5, 1.0]))
def test_reachability_with_a_horizon_is_the_best_of_all_sequences_of_policies(mdp, horizon, discount):
    best = np.eye(mdp.num_states)
    for _ in range(horizon):  # the best first policy, then the best of the rest, goal by goal
        best = np.max([dense(mdp, policy) @ best for policy in all_policies(mdp)], axis=0)
    table = reachability(state_graph(mdp, "absorbing"), discount=discount, horizon=horizon)
    np.testing.assert_allclose(table, discount**horizon * best, rtol=0, atol=1e-13)


@given(mdps(max_states=6, max_outcomes=1), st.integers(1, 6))
def test_deterministic_reachability_with_a_horizon_says_where_walks_of_that_length_end(mdp, horizon):
    matrix = np.zeros((mdp.num_states, mdp.num_states), dtype=int)
    for s, a in np.ndindex(mdp.num_states, mdp.num_actions):
        matrix[s, mdp.next_state[s, a, 0]] = 1
    walks = np.linalg.matrix_power(matrix, horizon) > 0
    table = reachability(state_graph(mdp, "absorbing"), discount=1.0, horizon=horizon)
    assert (table == walks).all()


def test_what_leaves_the_measure_is_nowhere_after_a_horizon_and_who_cannot_move_stays():
    # 0: the first action ends the episode (2) with 1/2 and stays with 1/2; the second goes to 1. 1 can only end it.
    rules = {
        (0, 0): [Outcome(2, probability=0.5), Outcome(0, probability=0.5)],
        (0, 1): [Outcome(1)],
        (1, 0): [Outcome(2)],
        (1, 1): [Outcome(2)],
    }
    mdp = compile_mdp(RuleWorld(rules=rules, first=[(1.0, 0)], ends=frozenset([2])))
    assert [mdp.states[s] for s in state_graph(mdp, "previous").state] == [0, 1]
    for horizon, expected in [(1, [[0.5, 1], [0, 1]]), (2, [[0.25, 1], [0, 1]]), (3, [[0.125, 1], [0, 1]])]:
        table = reachability(state_graph(mdp, "previous"), discount=1.0, horizon=horizon)
        np.testing.assert_allclose(table, expected, rtol=0, atol=1e-15)


# Sampled goals


@given(mdps(max_states=6), st.integers(1, 7), st.integers(0, 5), TERMINAL)
def test_sampled_goals_are_so_many_different_states_that_depend_on_the_seed_alone(mdp, count, seed, terminal):
    penalty = Penalty(goals=count, seed=seed, baseline="start", terminal=terminal, discount=1.0)
    impact = penalty.fit(mdp)
    names = impact.contributions(0, 0).index
    nodes = {f"state {s}" for s in state_graph(mdp, terminal).state}
    assert len(set(names)) == len(names) == min(count, len(nodes))
    assert set(names) <= nodes
    assert (penalty.fit(mdp).deviation == impact.deviation).all()


@given(mdps(max_states=6), TERMINAL)
def test_as_many_goals_as_states_are_all_of_them(mdp, terminal):
    for goals in (6, 100):
        sampled = Penalty(goals=goals, baseline="start", terminal=terminal).fit(mdp).deviation
        assert (sampled == Penalty(baseline="start", terminal=terminal).fit(mdp).deviation).all()


def test_sampled_goals_estimate_the_mean_over_all():
    mdp = level("Options")
    exact = Penalty(discount=1.0).fit(mdp).deviation
    some = [Penalty(discount=1.0, goals=20, seed=seed).fit(mdp).deviation for seed in range(60)]
    error = np.mean(some, axis=0) - exact
    assert np.abs(error).max() < 0.05  # 60 draws of 20 out of 54: four standard errors are 0.045 at most
    assert np.std(some, axis=0).max() > 0.05


# The box map


UP, DOWN, LEFT, RIGHT = range(4)


def walked(mdp, actions):
    s = 0
    for a in actions:
        s = int(mdp.next_state[s, a, 0])
    return s


def reachable_by_networkx(mdp, s, terminal):
    graph = nx.DiGraph(mdp.to_networkx())
    if terminal == "previous":
        graph.remove_nodes_from(np.flatnonzero(mdp.terminal).tolist())
    return len(nx.descendants(graph, s) | {s}), len(graph)


@pytest.mark.parametrize(
    ("terminal", "states", "after_corner", "after_sideways"), [("absorbing", 60, 10, 47), ("previous", 54, 9, 42)]
)
def test_so_many_states_of_the_box_map_stay_reachable(terminal, states, after_corner, after_sideways):
    mdp = level("Box")
    graph = state_graph(mdp, terminal)
    assert graph.size == states
    table = reachability(graph, discount=1.0)
    for actions, count in [([DOWN], after_corner), ([LEFT, DOWN, RIGHT], after_sideways)]:
        s = walked(mdp, actions)
        assert reachable_by_networkx(mdp, s, terminal) == (count, states)
        assert table[graph.node[s]].sum() == count


@pytest.mark.parametrize(
    ("terminal", "discount", "corner", "sideways"),
    [
        ("absorbing", 1.0, 0.8333, 0.2167),
        ("absorbing", 0.99, 0.7669, 0.2082),
        ("previous", 1.0, 0.8333, 0.2222),
        ("previous", 0.99, 0.7688, 0.2140),
    ],
)
def test_stepwise_relative_reachability_of_the_two_pushes(terminal, discount, corner, sideways):
    mdp = level("Box")
    impact = Penalty(terminal=terminal, discount=discount).fit(mdp)
    assert impact.deviation[0, DOWN, 0] == pytest.approx(corner, abs=5e-5)
    assert impact.deviation[walked(mdp, [LEFT, DOWN]), RIGHT, 0] == pytest.approx(sideways, abs=5e-5)


@pytest.mark.parametrize("terminal", ["absorbing", "previous"])
@pytest.mark.parametrize("discount", [0.99, 1.0])
def test_unreachability_cannot_tell_the_two_pushes_apart(terminal, discount):
    mdp = level("Box")
    impact = Penalty(deviation="unreachability", terminal=terminal, discount=discount).fit(mdp)
    assert impact.deviation[0, DOWN, 0] == 1
    assert impact.deviation[walked(mdp, [LEFT, DOWN]), RIGHT, 0] == 1


def test_with_an_absorbing_goal_arriving_at_it_costs_nearly_everything():
    mdp = level("Box")
    s = walked(mdp, [LEFT, DOWN, RIGHT, DOWN, RIGHT, RIGHT])
    assert mdp.terminal[mdp.next_state[s, DOWN, 0]]
    assert Penalty(terminal="absorbing", discount=1.0).fit(mdp).deviation[s, DOWN, 0] == pytest.approx(46 / 60)
    assert Penalty(terminal="previous", discount=1.0).fit(mdp).deviation[s].max() == 0
