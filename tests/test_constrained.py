"""Hard budgets of impact: worked by hand, against duality, and against slow obvious versions."""

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_mdps import level, mdps, penalties, steps

import impactrl
from impactrl.agents.constrained import BudgetSolution
from impactrl.agents.planner import Planner, plan
from impactrl.compile import compile_mdp
from impactrl.dynamic_programming import episode_columns, optimal_values, stationary
from impactrl.errors import ImpactError
from impactrl.measures.penalty import Penalty

TOLERANCE = {"rel": 1e-7, "abs": 1e-7}  # of the linear programs; what they promise about the budget is held to 1e-9
JUMP = steps([0, 1], None, rewards=[[0, 1]])
"""One may stay, or be paid 1 for going where there is no way back."""
LOST = Penalty(deviation="unreachability", baseline="start", terminal="absorbing", weight=7.0)


@st.composite
def problems(draw):
    """A random task, penalty and discount, with a horizon or without."""
    mdp = draw(mdps(max_states=4))
    penalty = draw(penalties(mdp, baselines=("start", "stepwise")))
    horizon = draw(st.sampled_from([None, None, 1, 3, 6]))
    discount = draw(st.sampled_from([0.0, 0.5, 0.9] if horizon is None else [0.5, 1.0]))
    return mdp, penalty, {"discount": discount, "horizon": horizon}


def extremes(mdp, penalty, planning):
    """The least and the largest possible discounted impact."""
    impact = penalty.fit(mdp)
    found = []
    for sign in (-1.0, 1.0):
        reward = sign * (impact.mdp.probability * impact.unit_penalty).sum(axis=2)
        values = best_of(impact.mdp, reward, **planning)
        found.append(sign * float(impact.mdp.start @ values))
    return found


def best_of(mdp, reward, *, discount, horizon):
    """[X] optimal values of another reward, by value iteration for as long as it takes."""
    values = np.zeros(mdp.num_states)
    for _ in range(horizon or 1000):
        going = np.where(mdp.terminal[mdp.next_state], 0.0, values[mdp.next_state])
        values = (reward + discount * (mdp.probability * going).sum(axis=2)).max(axis=1)
        values[mdp.terminal] = 0.0
    return values


def budgets(least, most):
    return [least, *(least + share * (most - least) for share in (0.1, 0.35, 0.6, 0.9)), most, math.inf]


# By hand


@pytest.mark.parametrize("budget", [0.0, 0.25, 0.5, 1.0])
def test_one_step_takes_the_chance_that_the_budget_allows(budget):
    best = impactrl.solve_within_budget(compile_mdp(JUMP), LOST, budget=budget, discount=1.0, horizon=1)
    assert best.policy.shape == (1, 2, 2)
    assert best.policy[0, 0].tolist() == pytest.approx([1 - budget, budget])
    assert best.value == best.expected_reward == best.expected_impact == pytest.approx(budget)
    assert best.expected_completed == pytest.approx(budget)
    if 0 < budget < 1:
        assert best.multiplier == pytest.approx(1.0)  # a unit of impact buys a unit of reward


def test_over_and_over_the_chance_is_that_whose_discounted_sum_is_the_budget():
    best = impactrl.solve_within_budget(compile_mdp(JUMP), LOST, budget=0.25, discount=0.9)
    chance = 0.25 * (1 - 0.9) / (1 - 0.9 * 0.25)  # p + 0.9 (1 - p) p + ... = p / (1 - 0.9 (1 - p))
    assert best.policy[0].tolist() == pytest.approx([1 - chance, chance])
    assert (best.value, best.discounted_impact, best.multiplier) == pytest.approx((0.25, 0.25, 1.0))
    assert best.steps == 20
    assert best.expected_reward == pytest.approx(1 - (1 - chance) ** 20)


def test_the_weight_of_the_penalty_plays_no_part():
    one, other = (
        impactrl.solve_within_budget(level("Box"), Penalty(weight=weight), budget=0.3) for weight in (0.0, 100.0)
    )
    np.testing.assert_array_equal(one.policy, other.policy)
    assert one.multiplier == other.multiplier


def test_on_options_the_budget_buys_the_safe_way_before_the_short_one():
    mdp, penalty = level("Options"), Penalty(baseline="stepwise")
    safe = impactrl.solve(mdp, Penalty(weight=1.0))
    assert (safe.expected_side_effect, safe.expected_completed) == (0, 1)
    tight, loose = (impactrl.solve_within_budget(mdp, penalty, budget=b) for b in (0.2, math.inf))
    assert tight.expected_side_effect == pytest.approx(0, abs=1e-9)
    assert 0 < tight.expected_completed < 1
    assert (loose.expected_side_effect, loose.expected_completed) == (1, 1)
    assert loose.discounted_impact > 0.7


# What holds for every budget


@settings(max_examples=25)
@given(problems())
def test_budgets_on_random_tasks(problem):
    mdp, penalty, planning = problem
    least, most = extremes(mdp, penalty, planning)
    found = [impactrl.solve_within_budget(mdp, penalty, budget=b, **planning) for b in budgets(least, most)]
    for best in found:
        assert_sound(best)
        assert_dual(best, planning)
    values = [best.value for best in found]
    assert (np.diff(values) >= -1e-7).all()  # more budget is never worse
    amounts = np.array(budgets(least, most)[:-1])
    for i in range(1, len(amounts) - 1):  # and every unit is worth less than the one before
        if amounts[i + 1] - amounts[i - 1] > 1e-6:
            share = (amounts[i] - amounts[i - 1]) / (amounts[i + 1] - amounts[i - 1])
            assert values[i] >= (1 - share) * values[i - 1] + share * values[i + 1] - 1e-7
    free = plan(found[-1].impact, Planner(**planning), 0.0)
    assert found[-1].value == pytest.approx(free.value, **TOLERANCE)
    assert found[-1].multiplier == 0


def assert_sound(best):
    """The budget is kept, the policy is one, it leaves one choice to chance at most, and the columns are its own."""
    assert best.discounted_impact <= best.budget + 1e-9
    assert best.multiplier >= 0
    assert (best.policy >= 0).all()
    np.testing.assert_allclose(best.policy.sum(axis=-1), 1, rtol=0, atol=1e-12)
    assert ((best.policy > 1e-9).sum(axis=-1) > 1).sum() <= 1
    if best.multiplier > 1e-6:
        assert best.discounted_impact == pytest.approx(best.budget, abs=1e-7)  # it has a price, so all of it is used
    np.testing.assert_allclose(columns_of(best), walked(best), rtol=1e-9, atol=1e-9)


def assert_dual(best, planning):
    """No weight can promise less than the budget buys, and the multiplier promises exactly that."""
    for weight in (0.0, 0.3, 2.0, 50.0, best.multiplier):
        priced = plan(best.impact, Planner(**planning), weight).value
        bound = priced + (weight * best.budget if weight else 0.0)
        assert best.value <= bound + 1e-6 * max(1.0, abs(priced))
    if best.multiplier < 1e5:  # at the least budget any large weight will do, and rounding takes over
        assert best.value == pytest.approx(bound, rel=1e-6, abs=1e-6 * max(1.0, abs(priced)))


def columns_of(best):
    return [
        best.expected_reward,
        best.expected_performance,
        best.expected_side_effect,
        best.expected_impact,
        best.expected_completed,
    ]


def walked(best):
    """The columns by following every branch of an episode, state by state."""
    mdp, sums = best.impact.mdp, np.zeros(4)
    mass = {x: float(p) for x, p in enumerate(mdp.start) if p}
    for t in range(best.steps):
        policy = best.policy if best.policy.ndim == 2 else best.policy[t]
        after: dict[int, float] = {}
        for x, p in mass.items():
            if mdp.terminal[x]:
                after[x] = after.get(x, 0.0) + p
                continue
            for a, chance in enumerate(policy[x]):
                for k, outcome in enumerate(mdp.probability[x, a]):
                    share = p * chance * outcome
                    if share:
                        sums += share * best.impact.columns[x, a, k]
                        target = int(mdp.next_state[x, a, k])
                        after[target] = after.get(target, 0.0) + share
        mass = after
    done = float(sum(p for x, p in mass.items() if mdp.completed[x]))
    return [sums[0], sums[1] + mdp.initial_performance, sums[2], sums[3], done]


@settings(max_examples=40)
@given(problems())
def test_without_any_budget_only_what_has_no_impact_is_done(problem):
    mdp, penalty, _ = problem
    planning = {"discount": 0.9, "horizon": None}
    impact = penalty.fit(mdp)
    task = impact.mdp
    free = (task.probability * (np.abs(impact.unit_penalty) > 1e-9)).sum(axis=2) == 0
    safe = np.ones(task.num_states, dtype=bool)
    while True:  # the states from which one can go on for ever without impact
        stays = ((task.probability == 0) | safe[task.next_state] | task.terminal[task.next_state]).all(axis=2)
        fewer = safe & (task.terminal | (free & stays).any(axis=1))
        if (fewer == safe).all():
            break
        safe = fewer
    if not safe[task.start > 0].all():
        with pytest.raises(ImpactError, match="no policy keeps the discounted impact within 0: the least possible is"):
            impactrl.solve_within_budget(mdp, penalty, budget=0.0, **planning)
        return
    reward = np.where(free & stays, (task.probability * task.reward).sum(axis=2), -np.inf)
    reward[~safe | task.terminal] = 0.0
    continuing = np.where(task.terminal[task.next_state] | ~safe[:, None, None], 0.0, task.probability)
    values = optimal_values(task.next_state, continuing, reward, discount=planning["discount"]).values
    best = impactrl.solve_within_budget(mdp, penalty, budget=0.0, **planning)
    assert best.value == pytest.approx(float(task.start @ values), **TOLERANCE)


@pytest.mark.parametrize("name", ["Options", "Interference"])
def test_a_deterministic_policy_is_worth_what_the_planner_says_of_it(name):
    best = impactrl.solve_within_budget(level(name), Penalty(baseline="inaction"), budget=math.inf)
    mdp, policy = best.impact.mdp, best.policy.argmax(axis=1)
    assert (best.policy.max(axis=1) == 1).all()
    sums, last = episode_columns(
        mdp.next_state, mdp.probability, best.impact.columns, mdp.terminal, mdp.start, stationary(policy), best.steps
    )
    expected = [sums[0], sums[1] + mdp.initial_performance, sums[2], sums[3], last @ mdp.completed]
    assert columns_of(best) == pytest.approx(expected, abs=1e-9)


def test_of_equally_good_policies_the_one_with_the_least_impact_is_taken():
    # Both actions pay the same and lead to the end, one of them by way of a state that cannot be undone.
    world = steps([0, 1, 2], [1, 3, 3], [0, 3, 3], None, rewards=[[0, 0, 0], [0, 1, 1], [0, 1, 1]])
    mdp, penalty = compile_mdp(world), Penalty(deviation="unreachability", baseline="start", terminal="previous")
    best = impactrl.solve_within_budget(mdp, penalty, budget=100.0, discount=0.9)
    assert best.value == pytest.approx(0.9)
    assert best.policy[0].tolist() == [0, 0, 1]
    assert best.multiplier == 0


def test_a_bonus_is_a_budget_below_zero():
    mdp = level("Options")
    bonus = Penalty(deviation="future_tasks", baseline="none")
    least, most = extremes(mdp, bonus, {"discount": 0.9, "horizon": None})
    assert least < most < 0
    best = impactrl.solve_within_budget(mdp, bonus, budget=(least + most) / 2, discount=0.9)
    assert best.discounted_impact <= (least + most) / 2 + 1e-9


@pytest.mark.parametrize("name", ["Options", "Box", "Interference"])
def test_the_worth_of_a_budget_is_a_weight_at_which_the_optimum_changes(name):
    mdp, penalty = level(name), Penalty(baseline="stepwise")
    critical = impactrl.frontier(mdp, penalty).weights
    priced = 0
    for budget in (0.02, 0.07, 0.13, 0.3, 0.6):
        worth = impactrl.solve_within_budget(mdp, penalty, budget=budget).multiplier
        assert worth == 0 or np.abs(critical / worth - 1).min() < 1e-6
        priced += worth > 0
    assert priced


# What is refused


def test_a_budget_that_cannot_be_kept_names_the_least_that_can():
    # Whatever is done, the state is left for good: the impact cannot be avoided.
    mdp = compile_mdp(steps([1, 1], [1, 1]))
    penalty = Penalty(deviation="unreachability", baseline="start", terminal="absorbing", discount=0.5)
    with pytest.raises(ImpactError) as refused:
        impactrl.solve_within_budget(mdp, penalty, budget=1.0, discount=0.5)
    least = float(re.search(r"the least possible is (\S+);", str(refused.value))[1])
    assert least == pytest.approx(2.0)  # 1 in every step
    assert impactrl.solve_within_budget(mdp, penalty, budget=least, discount=0.5).discounted_impact == pytest.approx(2)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"budget": math.nan}, "budget must be a number, or infinity for no limit; not nan"),
        ({"budget": "much"}, "budget must be a number, not 'much'"),
        ({"budget": 1, "discount": 1.0}, "a budget of undiscounted impact needs a horizon"),
        ({"budget": 1, "discount": 1.5}, r"discount must be in \[0, 1\], not 1.5"),
        ({"budget": 1, "horizon": 0}, "horizon must be at least 1, not 0"),
        ({"budget": -math.inf}, "no policy keeps the discounted impact within -inf: the least possible is 0"),
    ],
)
def test_what_cannot_be_solved_is_refused_with_the_reason(settings, said):
    with pytest.raises(ImpactError, match=said):
        impactrl.solve_within_budget(compile_mdp(JUMP), LOST, **settings)


def test_a_level_by_name_is_refused_with_what_to_write():
    with pytest.raises(ImpactError, match=r"needs the arrays of a task, compile_mdp\('Box'\)"):
        impactrl.solve_within_budget("Box", LOST, budget=1.0)


def test_a_solution_cannot_be_changed():
    best = impactrl.solve_within_budget(compile_mdp(JUMP), LOST, budget=0.5)
    assert isinstance(best, BudgetSolution)
    with pytest.raises(AttributeError):
        best.budget = 1.0
