"""Rollouts of doing nothing: the exact operators against sums, and what they are for."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from penalty_cases import noop_matrix
from random_mdps import arrays_of, mdps, steps, utility_tables
from scipy import sparse

from impactrl.compile import compile_mdp
from impactrl.measures.penalty import Penalty
from impactrl.measures.state_graph import state_graph
from impactrl.measures.values import rollout_pairs, rollout_values


@given(mdps(max_states=6, max_outcomes=3, ends=False), st.sampled_from([0.0, 0.5, 0.9, 0.97]), st.data())
def test_a_rollout_of_values_is_the_long_sum(mdp, discount, data):
    assume(mdp.noop is not None)
    values = data.draw(utility_tables(mdp, columns=3))
    matrix, total, factor, later = noop_matrix(mdp), 0.0, 1 - discount, values
    while factor > 1e-17:
        total, later, factor = total + factor * later, matrix @ later, factor * discount
    ours = rollout_values(state_graph(mdp, "previous").idle, values, discount=discount)
    np.testing.assert_allclose(ours, total, rtol=0, atol=1e-13)


@given(mdps(max_states=6, max_outcomes=3, ends=False), st.sampled_from([0.0, 0.5, 0.9, 0.97]), st.data())
def test_a_rollout_of_pairs_is_the_long_sum(mdp, discount, data):
    assume(mdp.noop is not None)
    size = mdp.num_states
    pairs = data.draw(arrays_of((size, size), -8, 8)) / 8.0
    matrix, total, factor, later = noop_matrix(mdp), 0.0, 1 - discount, pairs
    while factor > 1e-17:
        total, later, factor = total + factor * later, matrix @ later @ matrix.T, factor * discount
    ours = rollout_pairs(state_graph(mdp, "previous").idle, pairs, discount=discount)
    np.testing.assert_allclose(ours, total, rtol=0, atol=1e-13)


def test_a_rollout_around_a_cycle_by_hand():
    # No-ops run 0 > 1 > 2 > 0; with discount 1/2 the rounds weigh 1/2, 1/4, 1/8, 1/16, ...: 4/7, 2/7, 1/7.
    cycle = sparse.csr_array(np.roll(np.eye(3), 1, axis=1))
    ours = rollout_values(cycle, np.array([[7.0], [0.0], [0.0]]), discount=0.5)
    np.testing.assert_allclose(ours, [[4.0], [1.0], [2.0]], rtol=0, atol=1e-14)
    pairs = np.zeros((3, 3))
    pairs[0, 1] = 7.0
    ours = rollout_pairs(cycle, pairs, discount=0.5)
    expected = np.zeros((3, 3))
    expected[0, 1], expected[2, 0], expected[1, 2] = 4.0, 2.0, 1.0
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-14)


def test_a_rollout_with_a_discount_near_1_is_the_long_run_average():
    cycle = sparse.csr_array(np.roll(np.eye(3), 1, axis=1))
    ours = rollout_values(cycle, np.array([[9.0], [0.0], [0.0]]), discount=1 - 1e-9)
    np.testing.assert_allclose(ours, 3.0, rtol=0, atol=1e-8)


def test_rollouts_see_delayed_effects_by_hand():
    # 0 lights a fuse (1); doing nothing, the fuse burns down (2).
    mdp = compile_mdp(steps([0, 1], [2, 2], [2, 2]))
    settings = {"discount": 1.0, "rollout_discount": 0.5}
    lit, burnt = (0, 1, 0), (1, 0, 0)
    plain, rolled = Penalty(**settings).fit(mdp), Penalty(rollout=True, **settings).fit(mdp)
    assert (plain.deviation[lit], plain.deviation[burnt]) == (pytest.approx(1 / 3), 0)  # R(1) = 0 1 1
    assert (rolled.deviation[lit], rolled.deviation[burnt]) == (pytest.approx(1.5 / 3), 0)  # W(1) = 0 1/2 1
    unreachable = Penalty(deviation="unreachability", rollout=True, **settings).fit(mdp)
    assert unreachable.deviation[lit] == pytest.approx(1.0)


def test_a_rollout_that_stops_at_the_last_new_state_differs_on_a_cycle_and_only_there():
    # The program of Krakovna et al. repeats the last state before a state comes again. From 0 on the cycle above:
    # 1/2 V(0) + 1/4 V(1) + 1/4 V(2); exact is 4/7 V(0) + 2/7 V(1) + 1/7 V(2).
    values = np.array([[7.0], [14.0], [28.0]])
    cycle = sparse.csr_array(np.roll(np.eye(3), 1, axis=1))
    assert rollout_values(cycle, values, discount=0.5)[0, 0] == pytest.approx(4 + 4 + 4)
    assert 7 / 2 + 14 / 4 + 28 / 4 == 14
    chain = sparse.csr_array(np.array([[0, 1, 0], [0, 0, 1], [0, 0, 1.0]]))  # it ends in a fixed state, as those levels
    assert rollout_values(chain, values, discount=0.5)[0, 0] == pytest.approx(14)


# To the end of a plan


def test_a_plan_compares_where_doing_nothing_leads_in_the_end_by_hand():
    # Doing nothing runs 0 > 1 > 2 > 3 for good; action 1 jumps to 4, from where doing nothing leads to 5 for good.
    mdp = compile_mdp(steps([1, 4], [2, 4], [3, 4], [3, 4], [5, 4], [5, 5]))
    heat = {"features": {"heat": lambda s: [0.0, 1, 2, 4, 8, 16][s]}, "deviation": "features"}

    def charged(horizon, *actions, **settings):
        impact = Penalty(rollout="end", horizon=horizon, **heat, **settings).fit(mdp)
        x, found = impact.start_index(0), []
        for a in actions:
            found.append(float(impact.deviation[x, a, 0]))
            x = impact.mdp.next_state[x, a, 0]
        return found

    # Plans of 3 steps. After the jump in step 1, two no-ops: 5. Stepwise: one no-op from 0, two more: 3.
    assert charged(3, 1) == [16 - 4]
    # Waiting first: 4 and one no-op is 5, against 3; jumping last: 4 itself, against 3.
    assert charged(3, 0, 1) == [0, 12]
    assert charged(3, 0, 0, 1) == [0, 0, 8 - 4]
    # Against inaction from the start: always where three no-ops lead, 3. The start stays as it was.
    assert charged(3, 0, 1, 0, baseline="inaction") == [0, 12, 12]
    assert charged(3, 1, 0, 0, baseline="start") == [16 - 0, 16 - 0, 16 - 0]
    # A plan of one step has no rest.
    assert charged(1, 1) == [8 - 1]


@given(mdps(max_states=5, max_outcomes=3, ends=False), st.integers(1, 4), st.data())
def test_a_plan_compares_powers_of_the_matrix_of_doing_nothing(mdp, horizon, data):
    assume(mdp.noop is not None)
    values = data.draw(utility_tables(mdp, columns=1))
    penalty = Penalty(
        deviation="attainable_utility", discount=0.0, utilities=values, rollout="end", horizon=horizon, baseline="start"
    )
    impact = penalty.fit(mdp)
    ahead = [values[:, 0]]
    for _ in range(horizon):
        ahead.append(noop_matrix(mdp) @ ahead[-1])
    for x, a, k in np.argwhere((impact.mdp.probability > 0) & ~impact.mdp.terminal[:, None, None]):
        y = impact.mdp.next_state[x, a, k]
        to_go = impact.mdp.states[y].to_go
        first = impact.memory[x]
        expected = abs(ahead[to_go][impact.state[y]] - values[first, 0])  # the first state stays as it was
        assert impact.deviation[x, a, k] == pytest.approx(expected, abs=1e-9)


# Deviations of pairs


def test_two_rollouts_run_side_by_side():
    # Doing nothing goes to and fro between 0 and 1, and between 2 and 3. 0 and 1 reach all but each other at once ...
    mdp = compile_mdp(steps([1, 2], [0, 2], [3, 3], [2, 2]))
    impact = Penalty(
        deviation="unreachability", rollout=True, rollout_discount=0.5, discount=1.0, baseline="inaction"
    ).fit(mdp)
    # ... but 2 and 3 never reach 0 or 1 again.
    x = impact.start_index(0)
    assert impact.deviation[x, :, 0].tolist() == [0, pytest.approx(1)]
    half = Penalty(
        deviation="unreachability", rollout=True, rollout_discount=0.5, discount=0.5, baseline="inaction"
    ).fit(compile_mdp(steps([1, 0], [0, 1])))
    # After action 1 the agent is in 0 where inaction is in 1, and so on: always one step away.
    assert half.deviation[half.start_index(0), :, 0].tolist() == [0, pytest.approx(0.5)]
