"""`ImpactPenalty` where the baseline meets chance, where the environment says little, and with objects of one's own."""

from dataclasses import dataclass, field
from typing import ClassVar

import gymnasium as gym
import numpy as np
import pytest
from random_mdps import RuleWorld, steps

import impactrl
from impactrl.compile import compile_mdp
from impactrl.vector import GridVectorEnv
from impactrl.world import Outcome

START, RAIN, SUN, AWAY = range(4)
NOOP, GO = 0, 1
WEATHER = RuleWorld(
    rules={
        (START, NOOP): [Outcome(RAIN, probability=0.25), Outcome(SUN, probability=0.75)],
        (START, GO): [Outcome(AWAY)],
        **{(s, a): [Outcome(s)] for s in (RAIN, SUN, AWAY) for a in (NOOP, GO)},
    },
    first=[(1.0, START)],
)
"""Doing nothing ends in rain or sun; going leads away for certain, so what the baseline met is not to be seen."""


def sunny(state):
    return float(state == SUN)


SAMPLED = {
    "deviation": "features",
    "features": {"sunny": sunny},
    "baseline": "inaction",
    "inaction": "sampled",
}


@pytest.mark.parametrize("autoreset", ["NextStep", "SameStep"])
def test_copies_meet_a_sampled_baseline_by_its_chances_and_stay_with_it(autoreset):
    copies = 4000
    env = impactrl.ImpactPenalty(GridVectorEnv(WEATHER, num_envs=copies, autoreset_mode=autoreset), **SAMPLED)

    def deviations(length, seed):
        env.reset(seed=seed)
        return np.array([env.step(np.full(copies, GO))[4]["impact/deviation"] for _ in range(length)])

    found = deviations(3, seed=1)
    assert set(found[0]) == {0.0, 1.0}
    assert found[0].mean() == pytest.approx(0.75, abs=0.03)  # more than four standard deviations
    assert (found == found[0]).all()
    np.testing.assert_array_equal(deviations(3, seed=1), found)


def test_one_copy_meets_a_sampled_baseline_by_its_chances():
    env = impactrl.ImpactPenalty(impactrl.GridEnv(WEATHER), **SAMPLED)
    env.reset(seed=0)
    found = []
    for _ in range(2000):
        found.append(env.step(GO)[4]["impact/deviation"])
        assert env.step(GO)[4]["impact/deviation"] == found[-1]
        env.reset()
    assert np.mean(found) == pytest.approx(0.75, abs=0.04)


def test_a_seed_at_reset_begins_the_sampled_baseline_anew():
    env = impactrl.ImpactPenalty(impactrl.GridEnv(WEATHER), **SAMPLED)

    def episodes():
        found = []
        env.reset(seed=3)
        for _ in range(50):
            found.append(env.step(GO)[4]["impact/deviation"])
            env.reset()
        return found

    first = episodes()
    assert set(first) == {0.0, 1.0}
    assert episodes() == first


def test_where_the_world_shows_what_happened_the_baseline_follows_it():
    """Agent and baseline share the world's chance: who does nothing deviates by nothing."""
    copies = 500
    env = impactrl.ImpactPenalty(GridVectorEnv(WEATHER, num_envs=copies), **SAMPLED)
    env.reset(seed=0)
    _, _, _, _, infos = env.step(np.full(copies, NOOP))
    assert set(infos["state"]) == {RAIN, SUN}
    assert not infos["impact/deviation"].any()


def test_a_step_that_the_rules_do_not_know_is_refused():
    impact = impactrl.Penalty(deviation="unreachability", baseline="start").fit(compile_mdp(WEATHER))
    rng = np.random.default_rng(0)
    said = r"action 'go' cannot lead from state 0 of the task to state 2: the environment does not follow the rules"
    with pytest.raises(impactrl.ImpactError, match=said):
        impact.follow(0, GO, SUN, rng)
    one, away = np.array([0, 0]), int(compile_mdp(WEATHER).index(AWAY))
    with pytest.raises(impactrl.ImpactError, match=said):
        impact.follow_all(one, np.array([GO, GO]), np.array([away, SUN]), rng)
    assert impact.follow_all(one, np.array([GO, NOOP]), np.array([away, SUN]), rng)[1].tolist() == [away, SUN]


# Environments that say little


@pytest.mark.parametrize("name", ["FrozenLake-v1", "CliffWalking-v1"])
def test_toy_text_has_the_columns_of_the_levels(name):
    env = impactrl.ImpactPenalty(gym.make(name), deviation="unreachability", baseline="start", weight=2.0)
    mdp = compile_mdp(name)
    choose = np.random.default_rng(1)
    ended = 0
    for seed in range(6):
        _, info = env.reset(seed=seed)
        keys, total, over = set(info), 0.0, False
        assert keys >= {"performance", "side_effect", "completed", "task_reward", "state", "impact/deviation"}
        assert (info["performance"], info["side_effect"]) == (0.0, 0.0)
        while not over:
            _, _, terminated, truncated, info = env.step(int(choose.integers(env.action_space.n)))
            total += info["task_reward"]
            assert set(info) == keys
            assert info["performance"] == pytest.approx(total)
            assert info["side_effect"] == 0.0
            assert info["completed"] is bool(mdp.completed[info["state"]])
            over = terminated or truncated
        ended += terminated
    assert ended or name != "FrozenLake-v1"


def test_the_hidden_columns_of_the_levels_are_their_own():
    env = impactrl.ImpactPenalty(gym.make("impactrl/Box-v0"))
    bare = gym.make("impactrl/Box-v0")
    env.reset(seed=0)
    bare.reset(seed=0)
    for action in (1, 3, 1, 3, 1):
        info, plain = env.step(action)[4], bare.step(action)[4]
        assert {key: info[key] for key in plain} == plain


def test_copies_of_toy_text_are_wrapped_one_by_one():
    def wrap(env):
        return impactrl.ImpactPenalty(env, deviation="unreachability", baseline="start")

    with pytest.raises(
        impactrl.ImpactError, match="copies of FrozenLakeEnv do not say their states; wrap each of them"
    ):
        wrap(gym.make_vec("FrozenLake-v1", num_envs=2))
    envs = gym.make_vec("FrozenLake-v1", num_envs=2, wrappers=[wrap])
    envs.reset(seed=0)
    *_, infos = envs.step(np.array([1, 2]))
    assert infos["performance"].shape == infos["impact/deviation"].shape == (2,)


# Objects of one's own


class Cells(impactrl.PairDeviation):
    label: ClassVar[str] = "cells"

    def pairs(self, graph, penalty):  # noqa: ARG002
        boards = graph.boards()
        return lambda node, reference: (boards[node] != boards[reference]).sum(axis=1).astype(float)


def test_an_object_is_fitted_once_for_all_copies_and_weights():
    cells = Cells()
    one, other = (
        impactrl.ImpactPenalty(gym.make("impactrl/Box-v0"), deviation=cells, weight=weight) for weight in (1.0, 3.0)
    )
    assert one.impact is other.impact
    one.reset(seed=0)
    assert one.step(1)[4]["impact/deviation"] == 3.0  # the figure left its cell, and pushed the box from the next


@dataclass
class Listed(Cells):
    names: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class FrozenListed(Cells):
    names: list[str] = field(default_factory=list)


@pytest.mark.parametrize("deviation", [Listed(), FrozenListed()])
def test_an_object_that_cannot_be_hashed_is_refused_with_what_to_do(deviation):
    said = f"the deviation {type(deviation).__name__} must be hashable, .*: of a dataclass say @dataclass"
    with pytest.raises(impactrl.ImpactError, match=said):
        impactrl.ImpactPenalty(gym.make("impactrl/Box-v0"), deviation=deviation)


def test_a_deterministic_world_asks_no_generator():
    env = impactrl.ImpactPenalty(GridVectorEnv(steps([0, 1], [1, 0]), num_envs=3), baseline="start")
    env.reset(seed=0)
    before = env._rng.bit_generator.state
    env.step(np.array([0, 1, 1]))
    assert env._rng.bit_generator.state == before
