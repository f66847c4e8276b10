from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_mdps import level, mdps, penalties, steps
from slow_learners import assert_learned, slow_learner

from impactrl.agents.planner import Planner, plan
from impactrl.agents.q_learning import QLearning, train
from impactrl.compile import compile_mdp
from impactrl.env import GridEnv
from impactrl.errors import ImpactError
from impactrl.levels import world_of
from impactrl.measures.impact import COLUMNS
from impactrl.measures.penalty import Penalty
from impactrl.wrappers import ImpactPenalty

SMALL = QLearning(episodes=60, learning_rate=0.3, evaluate_every=25)
CASES = {
    "Options without": ("Options", {"deviation": "none"}, 1.0),
    "Options UR stepwise": ("Options", {"deviation": "unreachability"}, 0.3),
    "Options AUP": (
        "Options",
        {"deviation": "attainable_utility", "scale": "per-value", "terminal": "absorbing"},
        0.67,
    ),
    "Box RR inaction": ("Box", {"baseline": "inaction", "discount": 1.0}, 10.0),
    "Interference RR stepwise rollout": ("Interference", {"rollout": True}, 2.0),
    "Offset AU inaction": ("Offset", {"deviation": "attainable_utility", "baseline": "inaction"}, 0.1),
    "FrozenLake RR start": ("FrozenLake-v1", {"baseline": "start"}, 0.01),
}


def fitted(case):
    name, settings, weight = CASES[case]
    return Penalty(**settings).fit(level(name)), weight


def assert_same(ours, theirs, rows=slice(None)):
    for name in ("q", "history", "during", "steps"):
        assert (getattr(ours, name) == getattr(theirs, name)[rows]).all(), name


# The kernel against the twin


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    "schedule",
    [
        {},
        {"epsilon_start": 0.8, "epsilon_end": 0.1, "epsilon_schedule": "step", "learning_rate": 1.0, "discount": 0.996},
    ],
    ids=["linear", "step"],
)
def test_learning_is_that_of_the_slow_learner_bit_for_bit(case, schedule):
    impact, weight = fitted(case)
    settings = replace(SMALL, **schedule)
    ours = train(impact, settings, weights=[weight], seeds=[11])
    assert_learned(ours, slow_learner(impact, settings, weight, 11))
    assert ours.q.any()
    assert ours.evaluations.tolist() == [25, 50, 60]


@given(
    mdps(max_states=5, max_outcomes=3, max_starts=3),
    st.sampled_from([0.1, 1.0]),
    st.sampled_from([0.0, 0.9, 1.0]),
    st.integers(0, 99),
    st.data(),
)
def test_learning_in_a_random_world_is_that_of_the_slow_learner_bit_for_bit(mdp, rate, discount, seed, data):
    impact = data.draw(penalties(mdp)).fit(mdp)
    settings = QLearning(episodes=20, learning_rate=rate, discount=discount, evaluate_every=6)
    ours = train(impact, settings, weights=[1.5], seeds=[seed])
    assert_learned(ours, slow_learner(impact, settings, 1.5, seed))
    assert ours.evaluations.tolist() == [6, 12, 18, 20]


# By hand


@pytest.mark.parametrize(
    ("world", "values"),
    [
        (steps([0], rewards=[[1]]), [0.5, 0.875, 1.15625]),  # q + (1 + q/2 - q) / 2: the time limit is no end
        (steps([1], None, rewards=[[1]]), [0.5, 0.75, 0.875]),  # q + (1 - q) / 2: the end is
    ],
    ids=["cut off", "ended"],
)
def test_updates_by_hand(world, values):
    impact = Penalty(deviation="none").fit(compile_mdp(replace(world, time_limit=1)))
    for episodes, value in enumerate(values, start=1):
        settings = QLearning(episodes=episodes, learning_rate=0.5, discount=0.5)
        assert train(impact, settings, weights=[0.0], seeds=[0]).q[0, 0].tolist() == [value]


def test_the_agent_is_paid_less_the_weighted_penalty():
    # One step leads to where nothing returns from: relative reachability 1/2.
    impact = Penalty(discount=1.0, baseline="start").fit(compile_mdp(steps([1], [1], rewards=[[3], [0]])))
    settings = QLearning(episodes=1, learning_rate=1.0, discount=0.0)
    ours = train(impact, settings, weights=[0.0, 1.0, 4.0], seeds=[0, 0, 0])
    assert ours.q[:, 0, 0].tolist() == [3.0, 2.5, 1.0]
    assert ours.history[:, -1, 0].tolist() == [3.0, 3.0, 3.0]  # the reward column is the task's


def test_a_greedy_learner_takes_the_first_of_equal_actions():
    impact = Penalty(deviation="none").fit(compile_mdp(steps([0, 0, 0], rewards=[[0, 0, 5]])))
    settings = QLearning(episodes=5, epsilon_start=0.0)
    ours = train(impact, settings, weights=[0.0], seeds=[0])
    assert ours.q[0].tolist() == [[0, 0, 0]]  # never tried the others
    assert ours.history[0, -1].tolist() == [0] * 5


def test_exploration_is_uniform():
    # With learning rate 1 and discount 0 in a world of one state, q remembers which of 4 actions was ever tried.
    mdp = compile_mdp(replace(steps([0] * 4, rewards=[[1, 2, 3, 4]]), time_limit=1))
    impact = Penalty(deviation="none").fit(mdp)
    settings = QLearning(episodes=1, epsilon_start=1.0, learning_rate=1.0)
    ours = train(impact, settings, weights=[0.0] * 4000, seeds=range(4000))
    tried = (ours.q[:, 0] > 0).sum(axis=0)
    assert tried.sum() == 4000
    assert np.abs(tried - 1000).max() < 4 * np.sqrt(4000 * 3 / 16)


# Reproducibility


@pytest.mark.parametrize("case", ["Box RR inaction", "FrozenLake RR start"])
def test_a_run_is_the_same_alone_in_a_batch_and_on_two_threads(case):
    impact, weight = fitted(case)
    weights = [weight * (1 + i % 5) for i in range(64)]
    seeds = [1000 + i // 2 for i in range(64)]
    batch = train(impact, SMALL, weights=weights, seeds=seeds)
    assert_same(train(impact, SMALL, weights=weights, seeds=seeds, threads=2), batch)
    for i in (0, 37, 63):
        alone = train(impact, SMALL, weights=[weights[i]], seeds=[seeds[i]])
        assert_same(alone, batch, slice(i, i + 1))
    backwards = train(impact, SMALL, weights=weights[::-1], seeds=seeds[::-1], threads=2)
    assert_same(backwards, batch, slice(None, None, -1))


def test_another_seed_is_another_run():
    impact, weight = fitted("FrozenLake RR start")
    ours = train(impact, SMALL, weights=[weight, weight], seeds=[1, 2])
    assert (ours.q[0] != ours.q[1]).any()


def test_a_seed_sequence_is_a_seed_and_is_not_used_up():
    impact, weight = fitted("Options UR stepwise")
    sequence = np.random.SeedSequence(5, spawn_key=(1, 2))
    first, second = (train(impact, SMALL, weights=[weight], seeds=[sequence]) for _ in range(2))
    assert_same(first, second)
    assert_same(
        train(impact, SMALL, weights=[weight], seeds=[5]),
        train(impact, SMALL, weights=[weight], seeds=[np.random.SeedSequence(5)]),
    )


def test_evaluations_do_not_disturb_learning():
    impact, weight = fitted("FrozenLake RR start")
    often, seldom = (train(impact, replace(SMALL, evaluate_every=n), weights=[weight], seeds=[3]) for n in (1, 1000))
    assert (often.q == seldom.q).all()
    assert often.history.shape == (1, 60, 5)
    assert (often.history[:, -1:] == seldom.history).all()


# What is learned


@pytest.mark.parametrize(
    ("settings", "weight"),
    [
        ({"deviation": "none"}, 0.0),
        ({"discount": 1.0}, 1.0),
        ({"deviation": "unreachability", "baseline": "start"}, 0.5),
    ],
    ids=["none", "RR stepwise", "UR start"],
)
def test_learning_converges_to_the_exact_action_values(settings, weight):
    # A deterministic world, learning rate 1, every action tried again and again: value iteration in random order.
    impact = Penalty(**settings).fit(level("Options"))
    ours = train(
        impact,
        QLearning(episodes=200_000, learning_rate=1.0, discount=0.8, epsilon_end=1.0, evaluate_every=200_000),
        weights=[weight],
        seeds=[0],
    )
    best = plan(impact, Planner(discount=0.8), weight)
    np.testing.assert_allclose(ours.q[0], best.q, rtol=0, atol=1e-9)
    expected = [best.expected_reward, best.expected_performance, best.expected_side_effect]
    np.testing.assert_allclose(ours.history[0, -1, :3], expected, rtol=0, atol=1e-12)


def test_a_penalty_makes_the_learner_take_the_long_way_round():
    impact = Penalty(discount=1.0).fit(level("Options"))
    settings = QLearning(episodes=3000, learning_rate=1.0)
    ours = train(impact, settings, weights=[0.0, 1.0], seeds=[0, 0])
    np.testing.assert_allclose(ours.history[0, -1, :4], [1, -1, 1, 1])
    np.testing.assert_allclose(ours.history[1, -1], [1, 1, 0, 1, 12 / 54])


@pytest.mark.parametrize("name", ["Options", "Box", "Interference", "Offset", "SushiGoal", "Damage"])
@pytest.mark.parametrize("baseline", ["stepwise", "inaction"])
def test_an_evaluation_is_what_the_greedy_policy_does_in_the_environment(name, baseline):
    world, time_limit = world_of(name, {})
    impact = Penalty(baseline=baseline).fit(level(name))
    ours = train(impact, replace(SMALL, episodes=400), weights=[0.5], seeds=[2])
    env = ImpactPenalty(GridEnv(world), baseline=baseline)
    _, info = env.reset(seed=0)
    x, task, total = impact.start_index(info["state"]), 0.0, 0.0
    for _ in range(time_limit):
        a = int(ours.q[0, x].argmax())
        x = int(impact.mdp.next_state[x, a, 0])
        _, _, terminated, _, info = env.step(a)
        task, total = task + info["task_reward"], total + info["impact/penalty"]
        assert info["state"] == impact.state[x]
        if terminated:
            break
    played = [task, info["performance"], info["side_effect"], float(info["completed"]), total]
    np.testing.assert_allclose(ours.history[0, -1], played, rtol=0, atol=1e-10)
    assert COLUMNS == ("reward", "performance", "side_effect", "completed", "impact")


# Settings


def test_schedules_by_hand():
    def epsilons(**settings):
        return QLearning(**settings).epsilons().tolist()

    assert epsilons(episodes=5, epsilon_start=0.8, epsilon_end=0.4) == pytest.approx([0.8, 0.7, 0.6, 0.5, 0.4])
    assert epsilons(episodes=4, epsilon_start=0.8, epsilon_end=0.1, epsilon_schedule="exponential") == pytest.approx(
        [0.8, 0.4, 0.2, 0.1]
    )
    assert epsilons(episodes=6, epsilon_start=0.8, epsilon_end=0.1, epsilon_schedule="step") == [0.8] * 4 + [0.1] * 2
    assert epsilons(episodes=7, epsilon_start=0.8, epsilon_end=0.1, epsilon_schedule="step") == [0.8] * 5 + [0.1] * 2
    turner = epsilons(episodes=6000, epsilon_start=0.8, epsilon_end=0.1, epsilon_schedule="step")
    assert turner == [0.8] * 4000 + [0.1] * 2000


@given(
    st.integers(1, 50),
    st.floats(0.01, 1),
    st.floats(0.01, 1),
    st.sampled_from(["linear", "exponential", "step"]),
)
def test_schedules_start_at_the_start_and_end_at_the_end(episodes, start, end, schedule):
    epsilons = QLearning(episodes=episodes, epsilon_start=start, epsilon_end=end, epsilon_schedule=schedule).epsilons()
    assert len(epsilons) == episodes
    assert epsilons[0] == start
    if episodes > 2:
        assert epsilons[-1] == end
    assert (np.diff(epsilons) * np.sign(end - start) >= -1e-15).all()


@pytest.mark.parametrize(
    ("episodes", "every", "after"),
    [(250, 100, [100, 200, 250]), (200, 100, [100, 200]), (50, 100, [50]), (3, 1, [1, 2, 3]), (1, 1, [1])],
)
def test_the_last_episode_is_always_evaluated(episodes, every, after):
    assert QLearning(episodes=episodes, evaluate_every=every).evaluations().tolist() == after


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"episodes": 0}, "episodes must be at least 1, not 0"),
        ({"evaluate_every": 0}, "evaluate_every must be at least 1, not 0"),
        ({"learning_rate": 0.0}, r"learning_rate must be in \(0, 1\], not 0.0"),
        ({"learning_rate": 1.5}, r"learning_rate must be in \(0, 1\], not 1.5"),
        ({"learning_rate": float("nan")}, r"learning_rate must be in \(0, 1\], not nan"),
        ({"discount": -0.1}, r"discount must be in \[0, 1\], not -0.1"),
        ({"discount": float("nan")}, r"discount must be in \[0, 1\], not nan"),
        ({"epsilon_start": 1.1}, r"epsilon_start must be in \[0, 1\], not 1.1"),
        ({"epsilon_end": -0.1}, r"epsilon_end must be in \[0, 1\], not -0.1"),
        (
            {"epsilon_schedule": "cosine"},
            "epsilon_schedule must be one of 'linear', 'exponential', 'step', not 'cosine'",
        ),
        ({"epsilon_schedule": "exponential"}, "exponential schedule never reaches 0; give an epsilon_end above 0"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_bad_settings_are_refused(settings, said):
    with pytest.raises(ImpactError, match=said):
        QLearning(**settings)


def test_one_weight_and_one_seed_per_run():
    with pytest.raises(ImpactError, match="one weight and one seed per run: got 2 weights, 1 seeds"):
        train(fitted("Options without")[0], SMALL, weights=[1.0, 2.0], seeds=[0])


def test_settings_cannot_be_changed():
    for field in fields(QLearning):
        with pytest.raises(AttributeError):
            setattr(SMALL, field.name, 1)
