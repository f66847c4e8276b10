from functools import cache
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_mdps import all_policies, arrays_of, dense, level, mdps, steps
from scipy import optimize

from impactrl.compile import compile_mdp
from impactrl.dynamic_programming import (
    action_values,
    episode_columns,
    finite_horizon_action_values,
    greedy,
    optimal_values,
    policy_values,
    stationary,
)
from impactrl.errors import ImpactError

DISCOUNTS = st.sampled_from([0.0, 0.3, 0.9, 0.99])
ENDLESS = np.array([[[0]]], dtype=np.int32), np.array([[[1.0]]])


def problem(mdp):
    """What the solvers take: successors, probabilities to go on, expected rewards."""
    continuing = np.where(mdp.terminal[mdp.next_state], 0.0, mdp.probability)
    return mdp.next_state, continuing, (mdp.probability * mdp.reward).sum(axis=2)


def value_of(mdp, policy, discount):
    """By one dense linear system; terminal states are worth 0."""
    live = ~mdp.terminal
    matrix = dense(mdp, policy)[np.ix_(live, live)]
    reward = problem(mdp)[2][np.arange(mdp.num_states), policy][live]
    values = np.zeros(mdp.num_states)
    values[live] = np.linalg.solve(np.eye(live.sum()) - discount * matrix, reward)
    return values


def best_of_all(mdp, discount):
    """[S] by trying every policy."""
    return np.max([value_of(mdp, policy, discount) for policy in all_policies(mdp)], axis=0)


def plan_columns(mdp, policy, num_steps, columns):
    """Sums and last distribution by dense matrices, state by state."""
    mass, sums = mdp.start.copy(), np.zeros(columns.shape[3])
    for t in range(num_steps):
        row = policy[min(t, len(policy) - 1)]
        for s in np.flatnonzero(~mdp.terminal):
            sums += mass[s] * (mdp.probability[s, row[s], :, None] * columns[s, row[s]]).sum(axis=0)
        mass = mass @ dense(mdp, row)
    return sums, mass


def columns_of(mdp):
    completed = mdp.completed[mdp.next_state].astype(float)
    return np.stack([mdp.reward, mdp.performance, mdp.side_effect, completed], axis=3)


# Optimal values


@given(mdps(max_states=4), DISCOUNTS)
def test_optimal_values_are_the_best_of_all_policies(mdp, discount):
    ours = optimal_values(*problem(mdp), discount=discount)
    np.testing.assert_allclose(ours.values, best_of_all(mdp, discount), rtol=0, atol=2e-10)


@given(mdps(max_states=8, max_actions=4, max_outcomes=3), st.sampled_from([0.3, 0.9]))
def test_optimal_values_solve_the_linear_programme(mdp, discount):
    # The least V with V(s) >= r(s, a) + discount * E[V(s')] for every s and a.
    _, _, reward = problem(mdp)
    count, num_actions = reward.shape
    matrices = [dense(mdp, [a] * count) * ~mdp.terminal for a in range(num_actions)]
    rows = np.concatenate([discount * m - np.eye(count) for m in matrices])
    result = optimize.linprog(np.ones(count), A_ub=rows, b_ub=-reward.T.ravel(), bounds=(None, None))
    ours = optimal_values(*problem(mdp), discount=discount)
    np.testing.assert_allclose(ours.values, result.x, rtol=0, atol=1e-7)


@given(mdps(max_states=4), st.sampled_from([0.5, 0.9, 0.99]), st.sampled_from([1e-1, 1e-3, 1e-6]))
def test_the_error_is_within_the_tolerance_and_within_what_the_residual_says(mdp, discount, tolerance):
    ours = optimal_values(*problem(mdp), discount=discount, tolerance=tolerance)
    error = np.abs(ours.values - best_of_all(mdp, discount)).max()
    assert error <= tolerance + 1e-11  # the rounding of values up to 200
    assert error <= ours.residual * discount / (1 - discount) + 1e-11


@given(mdps(max_states=4), st.sampled_from([0.25, 0.75]))
def test_a_discount_is_a_chance_to_end_in_every_step(mdp, discount):
    successor, continuing, reward = problem(mdp)
    ours = optimal_values(successor, discount * continuing, reward, discount=1.0)
    np.testing.assert_allclose(ours.values, best_of_all(mdp, discount), rtol=0, atol=1e-11)


def test_undiscounted_values_of_a_corridor_are_sums_along_it():
    # 0 > 1 > 2 > 3 (the end), one step costs 1, the last pays 10; or wait for nothing.
    mdp = compile_mdp(steps([0, 1], [1, 2], [2, 3], None, rewards=[[0, -1], [0, -1], [0, 10]]))
    assert optimal_values(*problem(mdp), discount=1.0).values.tolist() == [8, 9, 10, 0]


def test_undiscounted_costs_that_can_be_avoided_are_avoided():
    mdp = compile_mdp(steps([0, 1], [1, 2], None, rewards=[[0, -1], [-1, -5]]))
    assert optimal_values(*problem(mdp), discount=1.0).values.tolist() == [0, -5, 0]


def test_an_action_with_reward_minus_infinity_is_not_available():
    successor = np.array([[[1], [0]], [[1], [1]]], dtype=np.int32)
    reward = np.array([[1.0, -np.inf], [-np.inf, 0.5]])
    ours = optimal_values(successor, np.ones((2, 2, 1)), reward, discount=0.5)
    np.testing.assert_allclose(ours.values, [1.5, 1.0], rtol=0, atol=1e-10)


@pytest.mark.parametrize("reward", [1.0, -1.0, 1e-9])
def test_undiscounted_values_that_grow_for_ever_are_refused(reward):
    with pytest.raises(ImpactError, match=r"did not settle.*Use a discount below 1"):
        optimal_values(*ENDLESS, np.array([[reward]]), discount=1.0)


@pytest.mark.parametrize("discount", [-0.1, 1.1, np.nan])
def test_a_discount_out_of_range_is_refused(discount):
    with pytest.raises(ImpactError, match=r"discount must be in \[0, 1\]"):
        optimal_values(*ENDLESS, np.zeros((1, 1)), discount=discount)


# Values of a policy and of actions


@given(mdps(), DISCOUNTS, st.data())
def test_policy_values_solve_the_linear_system(mdp, discount, data):
    policy = data.draw(arrays_of(mdp.num_states, 0, mdp.num_actions - 1))
    ours = policy_values(*problem(mdp), policy, discount=discount)
    np.testing.assert_allclose(ours.values, value_of(mdp, policy, discount), rtol=0, atol=2e-10)


def test_a_policy_that_pays_for_ever_has_no_undiscounted_value():
    mdp = compile_mdp(steps([0, 1], None, rewards=[[-1, 0]]))
    assert optimal_values(*problem(mdp), discount=1.0).values.tolist() == [0, 0]
    with pytest.raises(ImpactError, match="did not settle"):
        policy_values(*problem(mdp), np.array([0, 0]), discount=1.0)


@given(mdps(), DISCOUNTS, st.data())
def test_action_values_look_one_step_ahead(mdp, discount, data):
    values = data.draw(arrays_of(mdp.num_states, -4, 4))
    q = action_values(*problem(mdp), values, discount=discount)
    for s, a in product(range(mdp.num_states), range(mdp.num_actions)):
        expected = 0.0
        for following, p, r in zip(mdp.next_state[s, a], mdp.probability[s, a], mdp.reward[s, a], strict=True):
            expected += p * (r + (0 if mdp.terminal[following] else discount * values[following]))
        assert q[s, a] == pytest.approx(expected, abs=1e-14)


# Finite horizon


@given(mdps(), st.sampled_from([0.0, 0.5, 1.0]), st.integers(1, 5))
def test_finite_horizon_values_are_those_of_the_recursion(mdp, discount, horizon):
    @cache
    def q(s, a, left):
        if left == 0:
            return 0.0
        outcomes = zip(mdp.next_state[s, a], mdp.probability[s, a], mdp.reward[s, a], strict=True)
        return sum(p * (r + discount * best(int(z), left - 1)) for z, p, r in outcomes)

    def best(s, left):
        return 0.0 if mdp.terminal[s] else max(q(s, a, left) for a in range(mdp.num_actions))

    ours = finite_horizon_action_values(*problem(mdp), discount=discount, horizon=horizon)
    assert ours.shape == (horizon, mdp.num_states, mdp.num_actions)
    expected = [
        [[q(s, a, horizon - t) for a in range(mdp.num_actions)] for s in range(mdp.num_states)] for t in range(horizon)
    ]
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-12)


@given(mdps(max_outcomes=1, max_starts=1, max_actions=2), st.integers(1, 4))
def test_finite_horizon_values_are_the_best_of_all_plans(mdp, horizon):
    def total(plan):
        s, paid = int(np.argmax(mdp.start)), 0.0
        for a in plan:
            if mdp.terminal[s]:
                break
            paid += mdp.reward[s, a, 0]
            s = mdp.next_state[s, a, 0]
        return paid

    ours = finite_horizon_action_values(*problem(mdp), discount=1.0, horizon=horizon)
    assert mdp.start @ ours[0].max(axis=1) == max(map(total, product(range(mdp.num_actions), repeat=horizon)))


# Columns of an episode


@given(mdps(max_states=6, max_outcomes=3, max_starts=3), st.integers(0, 9), st.data())
def test_episode_columns_are_sums_over_powers_of_the_transition_matrix(mdp, num_steps, data):
    rows = data.draw(st.integers(1, 4))
    policy = data.draw(arrays_of((rows, mdp.num_states), 0, mdp.num_actions - 1))
    columns = columns_of(mdp)
    sums, last = episode_columns(mdp.next_state, mdp.probability, columns, mdp.terminal, mdp.start, policy, num_steps)
    expected_sums, expected_last = plan_columns(mdp, policy, num_steps, columns)
    np.testing.assert_allclose(sums, expected_sums, rtol=0, atol=1e-13)
    np.testing.assert_allclose(last, expected_last, rtol=0, atol=1e-13)


def test_episode_columns_of_a_coin_thrown_until_heads():
    # Stay with 1/2, paid 1 each time; end with 1/2. After n throws: 1 - 2^-n is over, 1 - 2^-n was paid.
    successor = np.array([[[0, 1]], [[1, 1]]], dtype=np.int32)
    probability = np.array([[[0.5, 0.5]], [[1.0, 0.0]]])
    columns = np.array([[[[1.0], [0.0]]], [[[9.0], [9.0]]]])
    start, ends, policy = np.array([1.0, 0.0]), np.array([False, True]), np.zeros((1, 2), dtype=np.int64)
    for throws in range(6):
        sums, last = episode_columns(successor, probability, columns, ends, start, policy, throws)
        assert sums.tolist() == [1 - 2.0**-throws]
        assert last.tolist() == [2.0**-throws, 1 - 2.0**-throws]


def test_an_episode_that_starts_at_its_end_adds_nothing():
    mdp = compile_mdp(steps([1, 1], None, rewards=[[5, 5]], first=[(0.25, 0), (0.75, 1)]))
    sums, last = episode_columns(
        mdp.next_state, mdp.probability, columns_of(mdp), mdp.terminal, mdp.start, np.zeros((1, 2), np.int64), 10
    )
    assert sums[0] == 0.25 * 5
    assert last.tolist() == [0, 1]


def test_episode_columns_of_a_stochastic_game_are_sums_over_powers_of_the_transition_matrix():
    mdp = level("FrozenLake-v1")
    policy = np.random.default_rng(4).integers(4, size=(1, mdp.num_states))
    columns = columns_of(mdp)
    sums, last = episode_columns(mdp.next_state, mdp.probability, columns, mdp.terminal, mdp.start, policy, 100)
    powers = [np.linalg.matrix_power(dense(mdp, policy[0]), t) for t in range(101)]
    paid = (mdp.probability[:, :, :, None] * columns).sum(axis=2)[np.arange(mdp.num_states), policy[0]]
    paid[mdp.terminal] = 0
    np.testing.assert_allclose(sums, mdp.start @ sum(powers[:100]) @ paid, rtol=0, atol=1e-12)
    np.testing.assert_allclose(last, mdp.start @ powers[100], rtol=0, atol=1e-13)


# Policies


@given(arrays_of((3, 4), -2, 2))
def test_equal_actions_go_to_the_lowest_index(q):
    expected = [min(a for a in range(4) if row[a] == max(row)) for row in q.tolist()]
    assert greedy(q.astype(float)).tolist() == expected


@pytest.mark.parametrize(
    ("values", "chosen"),
    [
        ([0.3, 0.1 + 0.2], 0),  # equal but for rounding
        ([0.0, 1e-8], 1),  # not equal
        ([1e6, 1e6 + 1e-5], 0),  # equal but for rounding, at this size
        ([1e6, 1e6 + 1e-2], 1),
        ([-np.inf, -5.0], 1),
        ([-1e6 - 1e-5, -1e6], 0),
    ],
)
def test_rounding_does_not_break_ties(values, chosen):
    assert greedy(np.array([values])).tolist() == [chosen]


def test_a_policy_for_every_step_keeps_its_rows_and_a_stationary_one_becomes_a_row():
    assert stationary(np.array([1, 0])).tolist() == [[1, 0]]
    assert stationary(np.array([[1, 0], [0, 1]])).tolist() == [[1, 0], [0, 1]]
