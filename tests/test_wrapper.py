"""`ImpactPenalty`: what it adds, and that it changes nothing else."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import RecordEpisodeStatistics, TimeLimit

import impactrl

CASES = [
    ("impactrl/Box-v0", {"deviation": "relative_reachability", "baseline": "stepwise", "weight": 3.0}),
    ("impactrl/Box-v0", {"deviation": "unreachability", "baseline": "inaction", "discount": 1.0, "weight": 0.5}),
    ("impactrl/Options-v0", {"deviation": "attainable_utility", "scale": "per-value", "terminal": "absorbing"}),
    ("impactrl/Offset-v0", {"baseline": "inaction", "rollout": True, "weight": 10}),
    ("impactrl/Interference-v0", {"baseline": "start", "summary": "absolute"}),
    ("impactrl/ConveyorVase-v0", {"baseline": "stepwise", "rollout": True, "discount": 1.0}),
    ("FrozenLake-v1", {"baseline": "start", "weight": 2.0}),
    ("FrozenLake-v1", {"deviation": "attainable_utility", "baseline": "start", "utilities": 4, "seed": 9}),
    ("CliffWalking-v1", {"deviation": "unreachability", "baseline": "start"}),
]
ADDED = {"task_reward", "impact/deviation", "impact/penalty", "state"}


def play(env: gym.Env[Any, Any], steps: int, seed: int = 11) -> list[tuple[Any, ...]]:
    """(observation, info) of every reset, (observation, reward, terminated, truncated, info) of every step."""
    choose = np.random.default_rng(7)
    seen: list[tuple[Any, ...]] = [env.reset(seed=seed)]
    for _ in range(steps):
        seen.append(env.step(int(choose.integers(env.action_space.n))))
        if seen[-1][2] or seen[-1][3]:
            seen.append(env.reset())
    return [(np.asarray(entry[0]).tolist(), *entry[1:]) for entry in seen]


def steps_of(seen: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [entry for entry in seen if len(entry) == 5]


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_the_trajectory_is_that_of_the_bare_environment(name: str, settings: dict[str, Any]) -> None:
    bare = gym.make(name, max_episode_steps=60)
    wrapped = impactrl.ImpactPenalty(gym.make(name, max_episode_steps=60), **settings)
    plain, penalised = play(bare, 400), play(wrapped, 400)
    assert len(plain) == len(penalised) > 401  # episodes ended on the way
    for one, other in zip(plain, penalised, strict=True):
        assert one[0] == other[0]
        assert one[2:-1] == other[2:-1]
        assert one[-1] == {key: other[-1][key] for key in one[-1]}
        if len(one) == 5:
            assert one[1] == other[-1]["task_reward"]
    assert bare.unwrapped.np_random.bit_generator.state == wrapped.unwrapped.np_random.bit_generator.state


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_the_reward_is_the_task_reward_less_weight_times_deviation(name: str, settings: dict[str, Any]) -> None:
    weight = settings.get("weight", 1.0)
    steps = steps_of(play(impactrl.ImpactPenalty(gym.make(name), **settings), 400))
    assert any(info["impact/deviation"] > 0 for *_, info in steps)
    for _, reward, _, _, info in steps:
        assert info["impact/deviation"] >= 0
        assert info["impact/penalty"] == weight * info["impact/deviation"]
        assert reward == info["task_reward"] - info["impact/penalty"]


@pytest.mark.parametrize("factor", [0.0, 0.01])
def test_the_nonterminal_weight_spares_all_but_the_step_that_ends_the_episode(factor: float) -> None:
    env = impactrl.ImpactPenalty(gym.make("impactrl/Box-v0"), weight=4.0, nonterminal_weight=factor, baseline="start")
    env.reset(seed=0)
    for action in (1, 3, 1, 3, 1):
        _, reward, terminated, _, info = env.step(action)
        assert info["impact/deviation"] > 0
        expected = 4.0 * info["impact/deviation"] * (1.0 if terminated else factor)
        assert info["impact/penalty"] == pytest.approx(expected, rel=1e-12)
        assert reward == info["task_reward"] - info["impact/penalty"]
    assert terminated


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_info_has_the_same_plain_keys_at_every_reset_and_step(name: str, settings: dict[str, Any]) -> None:
    seen = play(impactrl.ImpactPenalty(gym.make(name), **settings), 300)
    for kind in (2, 5):
        keys = {frozenset(entry[-1]) for entry in seen if len(entry) == kind}
        assert len(keys) == 1
        assert keys.pop() >= ADDED
    for *_, info in seen:
        kinds = {key: type(info[key]) for key in ADDED}
        assert kinds == {"task_reward": float, "impact/deviation": float, "impact/penalty": float, "state": int}
    assert {type(entry[1]) for entry in steps_of(seen)} == {float}


def test_our_levels_say_the_same_at_reset_as_at_steps() -> None:
    env = impactrl.ImpactPenalty(gym.make("impactrl/Box-v0"))
    _, at_reset = env.reset(seed=0)
    assert set(at_reset) == set(env.step(0)[4]) == ADDED | {"performance", "side_effect", "completed"}
    assert (at_reset["task_reward"], at_reset["impact/deviation"], at_reset["impact/penalty"]) == (0, 0, 0)


def test_the_state_is_the_id_in_the_compiled_task() -> None:
    lake = gym.make("FrozenLake-v1")
    mdp = impactrl.compile_mdp(lake)
    for observation, *_, info in play(impactrl.ImpactPenalty(lake, baseline="start"), 200):
        assert info["state"] == mdp.index(observation)


@pytest.mark.parametrize("baseline", ["start", "inaction", "stepwise"])
def test_the_baseline_starts_afresh_with_every_episode(baseline: str) -> None:
    env = impactrl.ImpactPenalty(gym.make("impactrl/Offset-v0"), baseline=baseline, rollout=True)

    def deviations() -> list[float]:
        env.reset(seed=0)
        return [env.step(a)[4]["impact/deviation"] for a in (1, 1, 4, 4, 4)]

    first = deviations()
    assert any(first)
    assert deviations() == first


@pytest.mark.filterwarnings("ignore:.*is different from the unwrapped version:UserWarning")
@pytest.mark.parametrize("name", ["impactrl/Box-v0", "impactrl/Offset-v0", "FrozenLake-v1"])
def test_the_checker_of_gymnasium_has_nothing_else_to_say(name: str) -> None:
    env = impactrl.ImpactPenalty(gym.make(name), baseline="start")
    check_env(env, skip_render_check=True)  # drawing is the bare environment's business, and FrozenLake's needs pygame


TABLE = [[float(i), float(i % 7)] for i in range(60)]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"deviation": "attainable_utility", "baseline": "inaction", "weight": 2, "scale": "sum", "rollout": True},
        {"deviation": "attainable_utility", "terminal": "absorbing", "utilities": TABLE},
        {"deviation": "unreachability", "discount": 1.0, "nonterminal_weight": 0.01, "weight": 30.0},
    ],
)
def test_the_wrapper_travels_as_json(settings: dict[str, Any]) -> None:
    env = impactrl.ImpactPenalty(gym.make("impactrl/Box-v0", goal_reward=7), **settings)
    assert env.spec is not None
    twin = gym.make(EnvSpec.from_json(env.spec.to_json()))
    assert isinstance(twin, impactrl.ImpactPenalty)
    assert twin.penalty == env.penalty
    assert str(twin) == str(env)
    assert play(twin, 100) == play(env, 100)


def test_statistics_inside_are_of_the_task_and_outside_of_what_is_paid() -> None:
    inner = RecordEpisodeStatistics(gym.make("impactrl/Box-v0"), stats_key="task")
    env = RecordEpisodeStatistics(impactrl.ImpactPenalty(inner, weight=3.0))
    env.reset(seed=0)
    penalties = []
    for action in (1, 3, 1, 3, 1):
        *_, info = env.step(action)
        penalties.append(info["impact/penalty"])
    assert info["task"]["r"] == 45.0
    assert info["task"]["l"] == info["episode"]["l"] == 5
    assert sum(penalties) > 1
    assert info["episode"]["r"] == pytest.approx(45.0 - sum(penalties))


def test_a_shorter_time_limit_inside_still_cuts_off() -> None:
    env = impactrl.ImpactPenalty(TimeLimit(gym.make("impactrl/Box-v0"), 3))
    env.reset(seed=0)
    assert [env.step(4)[3] for _ in range(3)] == [False, False, True]


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("CartPole-v1", {}, r"CartPoleEnv has no known rules: expected an impactrl environment"),
        ("impactrl/Box-v0", {"wieght": 1.0}, r"unknown penalty setting 'wieght': did you mean 'weight'"),
        ("impactrl/Box-v0", {"deviation": "relative_reachabilty"}, r"did you mean 'relative_reachability'"),
        ("impactrl/Box-v0", {"baseline": "step-wise"}, r"unknown baseline 'step-wise': did you mean 'stepwise'"),
        ("impactrl/Box-v0", {"weight": -1.0}, r"weight must be a number of at least 0, not -1\.0"),
        ("FrozenLake-v1", {"baseline": "stepwise"}, r"baseline='stepwise' .* no no-op action; .* start"),
        ("FrozenLake-v1", {"baseline": "start", "rollout": True}, r"a rollout .* no no-op action"),
    ],
)
def test_what_cannot_be_penalised_is_refused_with_the_reason(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(impactrl.ImpactError, match=message):
        impactrl.ImpactPenalty(gym.make(name), **settings)


def test_an_environment_with_rules_that_hides_its_state_is_refused() -> None:
    class Shy(gym.Env[int, int]):
        observation_space = gym.spaces.Discrete(2)
        action_space = gym.spaces.Discrete(1)
        P = {0: {0: [(1.0, 1, 1.0, True)]}, 1: {0: [(1.0, 1, 0.0, True)]}}  # noqa: RUF012
        initial_state_distrib = (1.0, 0.0)

        def reset(
            self, *, seed: int | None = None, options: dict[str, Any] | None = None
        ) -> tuple[int, dict[str, Any]]:
            super().reset(seed=seed, options=options)
            return 0, {}

    with pytest.raises(impactrl.ImpactError, match="Shy does not say its state: expected an attribute `state` or `s`"):
        impactrl.ImpactPenalty(Shy(), baseline="start").reset(seed=0)
