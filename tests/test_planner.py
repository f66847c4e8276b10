from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from random_mdps import all_policies, dense, level, mdps, penalties, steps, tolerance, utility_tables

from impactrl.agents.planner import Planner, plan, solve
from impactrl.compile import compile_mdp
from impactrl.env import GridEnv
from impactrl.errors import ImpactError
from impactrl.levels import world_of
from impactrl.measures.penalty import Penalty
from impactrl.wrappers import ImpactPenalty

UP, DOWN, LEFT, RIGHT, STAY = range(5)
UNSAFE = [DOWN, RIGHT, DOWN, RIGHT, DOWN]  # D R D D R is as short
SAFE = [LEFT, DOWN, RIGHT, DOWN, RIGHT, RIGHT, DOWN]  # so is L D R D R D R


def outcome(solution):
    """Reward, performance, side effect, completed."""
    return (
        solution.expected_reward,
        solution.expected_performance,
        solution.expected_side_effect,
        solution.expected_completed,
    )


# The Box map


def test_without_a_penalty_the_best_plan_for_box_is_unsafe():
    best = solve(level("Box"), discount=1.0)
    assert best.actions()[:3] == UNSAFE[:3]
    assert sorted(best.actions()) == sorted(UNSAFE)
    assert outcome(best) == (45, 35, 1, 1)
    assert (best.value, best.expected_impact) == (45, 0)


@pytest.mark.parametrize("weight", [3.274, 10.0, 193.4])
def test_inside_the_window_relative_reachability_is_safe_and_effective_on_box(weight):
    penalty = Penalty(baseline="stepwise", discount=1.0, terminal="previous", weight=weight)
    best = solve(level("Box"), penalty, discount=1.0)
    assert best.actions()[:5] == SAFE[:5]
    assert sorted(best.actions()) == sorted(SAFE)
    assert outcome(best) == (43, 43, 0, 1)
    assert best.expected_impact == pytest.approx(12 / 54)
    assert best.value == pytest.approx(43 - weight * 12 / 54)


@pytest.mark.parametrize("weight", [0.0, 1.0, 3.272])
def test_below_the_window_the_best_plan_for_box_stays_unsafe(weight):
    penalty = Penalty(baseline="stepwise", discount=1.0, terminal="previous", weight=weight)
    best = solve(level("Box"), penalty, discount=1.0)
    assert outcome(best) == (45, 35, 1, 1)
    assert best.expected_impact == pytest.approx(45 / 54)


@pytest.mark.parametrize("weight", [193.6, 1e4])
def test_above_the_window_the_best_plan_for_box_is_to_do_nothing(weight):
    penalty = Penalty(baseline="stepwise", discount=1.0, terminal="previous", weight=weight)
    best = solve(level("Box"), penalty, discount=1.0)
    assert outcome(best) == (0, 0, 0, 0)
    assert best.actions() == []


def test_the_window_on_box_ends_where_it_was_published():
    def best(weight):
        penalty = Penalty(baseline="stepwise", discount=1.0, terminal="previous", weight=weight)
        return outcome(solve(level("Box"), penalty, discount=1.0))

    low, high = 2 / (45 / 54 - 12 / 54), 43 / (12 / 54)
    assert (round(low, 3), round(high, 1)) == (3.273, 193.5)
    assert best(low - 1e-6) == (45, 35, 1, 1)
    assert best(low + 1e-6) == best(high - 1e-2) == (43, 43, 0, 1)
    assert best(high + 1e-6) == (0, 0, 0, 0)
    assert best(3.27) == (45, 35, 1, 1)
    assert best(3.28) == (43, 43, 0, 1)


def test_just_below_the_upper_end_of_the_window_the_plan_is_still_found():
    penalty = Penalty(baseline="stepwise", discount=1.0, terminal="previous", weight=193.5 - 1e-4)
    assert outcome(solve(level("Box"), penalty, discount=1.0)) == (43, 43, 0, 1)


@pytest.mark.parametrize("baseline", ["stepwise", "start", "inaction"])
def test_no_weight_makes_unreachability_safe_and_effective_on_box(baseline):
    seen = set()
    for weight in np.geomspace(0.01, 1000, 41):
        penalty = Penalty(
            deviation="unreachability", baseline=baseline, discount=1.0, terminal="previous", weight=weight
        )
        best = solve(level("Box"), penalty, discount=1.0)
        seen.add((best.expected_side_effect, best.expected_completed))
    assert seen == {(1, 1), (0, 0)}


# Action values


def value_of(impact, weight, policy, discount):
    """[X] by one dense linear system on the product."""
    mdp, paid = impact.mdp, impact.penalised_reward(weight)
    live = ~mdp.terminal
    reward = (mdp.probability * paid).sum(axis=2)[np.arange(mdp.num_states), policy]
    values = np.zeros(mdp.num_states)
    inner = np.eye(live.sum()) - discount * dense(mdp, policy)[np.ix_(live, live)]
    values[live] = np.linalg.solve(inner, reward[live])
    return values


@settings(max_examples=40)
@given(mdps(max_states=4, max_actions=2), st.sampled_from([0.0, 0.5, 0.9]), st.sampled_from([0.0, 1.0, 7.5]), st.data())
def test_the_optimum_is_the_best_of_all_policies(mdp, discount, weight, data):
    penalty = data.draw(penalties(mdp))
    impact = penalty.fit(mdp)
    assume((~impact.mdp.terminal).sum() <= 8)
    best = plan(impact, Planner(discount=discount), weight)
    policies = np.array(all_policies(impact.mdp))
    values = np.array([value_of(impact, weight, policy, discount) for policy in policies])
    optimum = values.max(axis=0)
    np.testing.assert_allclose(np.where(impact.mdp.terminal, 0, best.q.max(axis=1)), optimum, rtol=0, atol=2e-10)
    assert best.value == pytest.approx(impact.mdp.start @ optimum, abs=2e-10)
    np.testing.assert_allclose(value_of(impact, weight, best.policy, discount), optimum, rtol=0, atol=1e-7)
    # And every single action value: that action once, then the best.
    paid = (impact.mdp.probability * impact.penalised_reward(weight)).sum(axis=2)
    for a in range(mdp.num_actions):
        once = paid[:, a] + discount * dense(impact.mdp, [a] * impact.mdp.num_states) @ optimum
        np.testing.assert_allclose(best.q[:, a], np.where(impact.mdp.terminal, 0, once), rtol=0, atol=2e-10)


@given(mdps(max_states=5, max_outcomes=1, max_starts=1), st.integers(2, 4), st.sampled_from([0.5, 1.0]), st.data())
def test_a_plan_with_a_horizon_is_the_best_of_all_sequences_of_actions(mdp, horizon, discount, data):
    penalty = data.draw(penalties(mdp))
    impact = penalty.fit(mdp)

    def total(actions):
        x, paid, factor = int(np.argmax(impact.mdp.start)), 0.0, 1.0
        for a in actions:
            if impact.mdp.terminal[x]:
                break
            paid += factor * (impact.mdp.reward[x, a, 0] - 2.5 * impact.unit_penalty[x, a, 0])
            x, factor = impact.mdp.next_state[x, a, 0], factor * discount
        return paid

    best = plan(impact, Planner(discount=discount, horizon=horizon), 2.5)
    expected = max(map(total, product(range(mdp.num_actions), repeat=horizon)))
    assert best.value == pytest.approx(expected, abs=1e-12)
    assert total(best.actions()) == pytest.approx(expected, abs=1e-7)
    assert (best.steps, best.q.shape[0], best.policy.shape[0]) == (horizon,) * 3


def test_a_plan_of_one_step_has_one_action():
    mdp = compile_mdp(steps([0, 0], rewards=[[1, 0]]))
    assert solve(mdp, discount=1.0, horizon=2).actions() == [0, 0]
    assert solve(mdp, discount=1.0, horizon=1).actions() == [0]


@given(mdps(max_states=4), st.sampled_from([0.5, 0.8]), st.data())
def test_a_long_horizon_is_as_good_as_none(mdp, discount, data):
    impact = data.draw(penalties(mdp)).fit(mdp)
    endless = plan(impact, Planner(discount=discount), 1.0)
    long = plan(impact, Planner(discount=discount, horizon=150), 1.0)
    np.testing.assert_allclose(long.q[0], endless.q, rtol=0, atol=2e-10)
    assert long.value == pytest.approx(endless.value, abs=2e-10)


@pytest.mark.parametrize(
    ("horizon", "weight", "expected"),
    [(4, 0.0, (0, 0, 0, 0)), (5, 0.0, (45, 35, 1, 1)), (6, 10.0, (45, 35, 1, 1)), (7, 10.0, (43, 43, 0, 1))],
)
def test_a_plan_does_what_can_be_done_in_time(horizon, weight, expected):
    best = solve(level("Box"), Penalty(discount=1.0, weight=weight), discount=1.0, horizon=horizon)
    assert outcome(best) == expected


def test_solve_uses_the_weight_of_the_penalty():
    penalty = Penalty(weight=7.0)
    ours = solve(level("Options"), penalty, discount=0.9)
    assert (ours.q == plan(penalty.fit(level("Options")), Planner(discount=0.9), 7.0).q).all()
    assert (ours.q != plan(penalty.fit(level("Options")), Planner(discount=0.9), 1.0).q).any()


@given(mdps(max_states=4), st.data())
def test_a_larger_weight_never_increases_the_impact_of_the_optimum(mdp, data):
    # With a horizon and no discount, value = reward - weight * impact: a maximum of straight lines in the weight.
    impact = data.draw(penalties(mdp)).fit(mdp)
    bests = [plan(impact, Planner(discount=1.0, horizon=4), weight) for weight in (0.0, 0.5, 2.0, 10.0)]
    for weight, best in zip((0.0, 0.5, 2.0, 10.0), bests, strict=True):
        assert best.value == pytest.approx(best.expected_reward - weight * best.expected_impact, abs=1e-8)
    impacts = [best.expected_impact for best in bests]
    assert all(a >= b - 1e-7 for a, b in pairwise(impacts))


# What to expect


@pytest.mark.parametrize("baseline", ["start", "inaction", "stepwise"])
@pytest.mark.parametrize("deviation", ["none", "unreachability", "relative_reachability", "attainable_utility"])
@pytest.mark.parametrize(
    "name", ["Options", "Box", "Interference", "Offset", "ConveyorVase", "SushiGoal", "Damage", "Correction"]
)
def test_expectations_are_what_happens_in_the_environment(name, deviation, baseline):
    world, time_limit = world_of(name, {})
    settings = {"deviation": deviation, "baseline": baseline, "weight": 0.7}
    if deviation == "attainable_utility":
        settings["utilities"] = 3
    best = solve(level(name), Penalty(**settings), discount=0.97)
    env = ImpactPenalty(GridEnv(world), **settings)
    _, info = env.reset(seed=0)
    x, paid, task, impact = best.impact.start_index(info["state"]), 0.0, 0.0, 0.0
    for _ in range(time_limit):
        a = int(best.policy[x])
        x = int(best.impact.mdp.next_state[x, a, 0])
        _, reward, terminated, _, info = env.step(a)
        paid, task, impact = paid + reward, task + info["task_reward"], impact + info["impact/penalty"] / 0.7
        if terminated:
            break
    assert outcome(best) == pytest.approx(
        (task, info["performance"], info["side_effect"], float(info["completed"])), abs=1e-12
    )
    assert best.expected_impact == pytest.approx(impact, abs=1e-10)
    assert best.expected_reward - 0.7 * best.expected_impact == pytest.approx(paid, abs=1e-10)
    assert best.steps == time_limit


@given(mdps(max_states=5, max_starts=2), st.integers(1, 6), st.data())
def test_expectations_in_a_random_world_are_sums_over_its_paths(mdp, horizon, data):
    impact = data.draw(penalties(mdp)).fit(mdp)
    best = plan(impact, Planner(discount=0.9, horizon=horizon), 1.0)
    sums = np.zeros(5)

    def go(x, t, chance, collected):
        if t == horizon or impact.mdp.terminal[x]:
            sums[:4] += chance * collected
            sums[4] += chance * impact.mdp.completed[x]
            return
        a = best.policy[t, x]
        for k in np.flatnonzero(impact.mdp.probability[x, a]):
            columns = [impact.mdp.reward, impact.mdp.performance, impact.mdp.side_effect, impact.unit_penalty]
            gained = np.array([c[x, a, k] for c in columns])
            go(impact.mdp.next_state[x, a, k], t + 1, chance * impact.mdp.probability[x, a, k], collected + gained)

    for x in np.flatnonzero(impact.mdp.start):
        go(x, 0, impact.mdp.start[x], np.zeros(4))
    ours = [*outcome(best)[:3], best.expected_impact, best.expected_completed]
    np.testing.assert_allclose(ours, sums, **tolerance(impact.penalty) | {"atol": 1e-10})


def test_the_optimum_of_frozen_lake_is_known():
    # The published optimum of the slippery 4x4 lake without a time limit: the goal in 14 of 17 games.
    mdp = level("FrozenLake-v1")
    best = solve(mdp, discount=1.0)
    assert best.value == pytest.approx(14 / 17, abs=1e-9)
    in_time = mdp.start @ np.linalg.matrix_power(dense(mdp, best.policy), 100)
    assert best.expected_completed == pytest.approx(in_time @ mdp.completed, abs=1e-12)
    assert best.expected_reward == pytest.approx(in_time @ (np.array(mdp.states) == 15), abs=1e-12)


def test_the_optimum_of_the_cliff_walk_is_13_steps():
    for discount in (0.9, 1.0):
        best = solve(compile_mdp("CliffWalking-v1"), discount=discount)
        assert (best.expected_reward, best.expected_completed, len(best.actions())) == (-13, 1, 13)


# Undiscounted plans


def test_an_undiscounted_plan_does_not_put_the_goal_off_for_ever():
    best = solve(level("Options"), discount=1.0)
    assert (best.expected_completed, best.expected_reward) == (1, 1)
    assert best.actions()[:3] == UNSAFE[:3]
    assert sorted(best.actions()) == sorted(UNSAFE)


def test_an_undiscounted_plan_takes_the_shortest_of_equal_ways():
    # Waiting, a long way (1, 2) and a short way to the end all promise 1; the short way has the last index.
    mdp = compile_mdp(steps([0, 1, 3], [2, 2, 2], [3, 3, 3], None, rewards=[[0, 0, 1], [0] * 3, [1] * 3]))
    assert solve(mdp, discount=1.0).actions() == [2]
    assert solve(mdp, discount=0.9).actions() == [2]


def test_an_undiscounted_plan_puts_costs_off_for_ever():
    mdp = compile_mdp(steps([1, 0], None, rewards=[[-1, 0]]))
    best = solve(mdp, discount=1.0)
    assert (best.value, best.expected_reward, best.actions()) == (0, 0, [])


@settings(max_examples=100)
@given(mdps(max_states=5, max_starts=1), st.data())
def test_an_undiscounted_plan_earns_the_undiscounted_optimum(mdp, data):
    # What the end is worth is paid on arrival and nothing else: the value of a policy is where it ends up.
    worth = np.where(mdp.terminal, data.draw(utility_tables(mdp, columns=1, least=0))[:, 0], 0)
    task = replace(mdp, reward=worth[mdp.next_state] * ~mdp.terminal[:, None, None])
    best = solve(task, discount=1.0)
    earned = [
        task.start @ np.linalg.matrix_power(dense(task, policy), 2**14) @ worth
        for policy in (*all_policies(task), best.policy)
    ]
    assert earned[-1] == pytest.approx(max(earned), abs=1e-9)
    assert best.value == pytest.approx(max(earned), abs=1e-9)


@pytest.mark.parametrize("weight", [0.00024620924014946254, 0.025587435201685892])
def test_an_undiscounted_plan_may_give_up_a_tie_in_every_step(weight):
    # Two ways whose impact, at these weights, differs by about as much as a tie.
    best = solve(level("Box"), Penalty(weight=weight), discount=1.0)
    assert outcome(best) == (45, 35, 1, 1)
    assert best.value == pytest.approx(45 - weight * best.expected_impact, abs=1e-6)


def test_an_undiscounted_task_that_pays_for_ever_is_refused():
    mdp = compile_mdp(steps([0, 0], rewards=[[1, 0]]))
    with pytest.raises(ImpactError, match=r"pays or costs for ever.*discount below 1, or a finite horizon"):
        solve(mdp, discount=1.0)
    assert solve(mdp, discount=1.0, horizon=5).value == 5


def test_equal_actions_go_to_the_lowest_index_in_plans():
    mdp = compile_mdp(steps([0, 1, 1], [1, 1, 1], rewards=[[0, 1, 1], [0, 0, 0]]))
    assert solve(mdp, discount=0.9).policy.tolist() == [1, 0]
    assert solve(mdp, discount=0.9, horizon=2).policy.tolist() == [[1, 0], [1, 0]]


# Settings


@pytest.mark.parametrize("discount", [-0.1, 1.1, float("nan")])
def test_a_discount_out_of_range_is_refused(discount):
    with pytest.raises(ImpactError, match=r"discount must be in \[0, 1\]"):
        solve(level("Options"), discount=discount)


@pytest.mark.parametrize("horizon", [0, -1])
def test_a_horizon_without_steps_is_refused(horizon):
    with pytest.raises(ImpactError, match="horizon must be at least 1"):
        solve(level("Options"), horizon=horizon)
