"""What every level must do."""

import copy
import math
import pickle
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env

from impactrl.compile import compile_mdp
from impactrl.env import OBSERVATIONS, GridEnv
from impactrl.levels import environment_id
from impactrl.render import SPRITES

__all__ = ["CHECKS", "check_level"]

STEPS = 300
Env = gym.Env[Any, Any]


def check_level(name: str, **settings: Any) -> None:
    """Runs every check of `CHECKS` on a registered level.

    Args:
        name: level or environment id.
        settings: of the level.

    Raises:
        AssertionError: a check failed; says which and what differed.

    >>> check_level("Options")
    """
    for check in CHECKS:
        try:
            check(name, **settings)
        except AssertionError as error:
            raise AssertionError(f"{check.__name__} failed for {name}: {error}") from error


def check_gymnasium(name: str, **settings: Any) -> None:
    """Gymnasium's own checker has nothing to say, for every observation."""
    for observation in _observations(name, settings):
        env = _make(name, settings, observation=observation, render_mode="rgb_array")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            check_env(env.unwrapped)


def check_seeding(name: str, **settings: Any) -> None:
    """The same seed and actions give the same episode."""
    first, second = (list(_episode(_make(name, settings), seed=7)) for _ in range(2))
    _same(first, second, "two environments with the same seed")


def check_copies(name: str, **settings: Any) -> None:
    """A pickled and a deep-copied environment go on as the original does."""
    env = _make(name, settings)
    list(_episode(env, seed=3, steps=5))
    for what, twin in (("pickled", pickle.loads(pickle.dumps(env))), ("deep-copied", copy.deepcopy(env))):
        original = list(_episode(copy.deepcopy(env), seed=None))
        _same(original, list(_episode(twin, seed=None)), f"the original and its {what} twin")


def check_spec(name: str, **settings: Any) -> None:
    """An environment made again from the JSON of its specification is the same."""
    env = _make(name, settings)
    assert env.spec is not None, "the environment has no spec"
    again = gym.make(EnvSpec.from_json(env.spec.to_json()))
    _same(list(_episode(env, seed=1)), list(_episode(again, seed=1)), "the environment and the one made from its JSON")


def check_rendering(name: str, **settings: Any) -> None:
    """Every render mode draws every board, and every character has a sprite."""
    grid = _grid(_make(name, settings))
    unknown = {sprite for sprite in grid.world.tiles.values() if sprite not in SPRITES}
    assert not unknown, f"tiles name sprites that do not exist: {sorted(unknown)}"
    for mode in ("rgb_array", "ansi"):
        env = _make(name, settings, render_mode=mode, cell_size=16)
        for _ in _episode(env, seed=0, steps=20):
            picture, board = env.render(), _grid(env).board_text()
            if mode == "ansi":
                assert isinstance(picture, str), f"ansi gave {type(picture).__name__}, not text"
            else:
                shape = (16 * len(board), 16 * len(board[0]), 3)
                drawn = np.asarray(picture).shape
                assert drawn == shape, f"rgb_array of shape {drawn}, not {shape}"
            shown = set("".join(board))
            undrawn = shown - set(grid.world.tiles) - {" "}
            assert not undrawn, f"characters without a sprite in `tiles`: {sorted(undrawn)}"


def check_observations(name: str, **settings: Any) -> None:
    """Board, planes and state ids of the same episode agree with each other."""
    makers = {
        observation: _make(name, settings, observation=observation) for observation in _observations(name, settings)
    }
    episodes = {observation: list(_episode(env, seed=5)) for observation, env in makers.items()}
    characters = np.frombuffer(_grid(makers["planes"]).characters.encode("latin-1"), dtype=np.uint8)
    for board, planes in zip(episodes["board"], episodes["planes"], strict=True):
        assert (planes[0].sum(axis=0) == 1).all(), "planes are not one-hot"
        assert (characters[planes[0].argmax(axis=0)] == board[0]).all(), "planes and board differ"
    for step in episodes.get("state", []):
        assert step[0] == step[4]["state"], f"state {step[0]} observed, {step[4]['state']} in info"


def check_columns(name: str, **settings: Any) -> None:
    """`info` has the same keys and plain types at every step, and its sums start anew with every episode."""
    env = _make(name, settings)
    kinds: dict[str, type] = {"performance": float, "side_effect": float, "completed": bool}
    if _grid(env).world.enumerable:
        kinds["state"] = int
    for _, reward, terminated, truncated, info, _ in _episode(env, seed=2):
        assert {key: type(value) for key, value in info.items()} == kinds, f"info is {info}, expected {kinds}"
        assert type(reward) is float, f"reward is a {type(reward).__name__}, not a float"
        assert type(terminated) is type(truncated) is bool, "terminated and truncated must be plain bools"
        assert math.isfinite(reward + info["performance"] + info["side_effect"]), "a column is not finite"
    _, info = env.reset()
    begun = info["performance"], info["side_effect"]
    assert begun == (_grid(env).world.initial_performance, 0.0), f"an episode begins with {begun}"


def check_arrays(name: str, **settings: Any) -> None:
    """The compiled arrays say what the environment does, step by step."""
    env = _make(name, settings)
    if not _grid(env).world.enumerable:
        return
    mdp = compile_mdp(env)
    state, performance, side_effect = -1, 0.0, 0.0
    for _, reward, terminated, _, info, action in _episode(env, seed=4):
        if action is not None:
            outcomes = [
                k
                for k in np.flatnonzero(mdp.probability[state, action])
                if mdp.next_state[state, action, k] == info["state"]
                and mdp.reward[state, action, k] == reward
                and math.isclose(performance + mdp.performance[state, action, k], info["performance"], abs_tol=1e-9)
                and math.isclose(side_effect + mdp.side_effect[state, action, k], info["side_effect"], abs_tol=1e-9)
            ]
            assert outcomes, f"no outcome of {mdp.actions[action]!r} in {mdp.states[state]!r} is what happened: {info}"
        else:
            assert mdp.start[info["state"]] > 0, f"an episode began in {mdp.states[info['state']]!r}, which is no start"
        state, performance, side_effect = info["state"], info["performance"], info["side_effect"]
        assert terminated == mdp.terminal[state], f"the arrays and the environment disagree whether {state} is an end"
        assert info["completed"] == mdp.completed[state], f"completed differs in state {state}"


def check_vector(name: str, **settings: Any) -> None:
    """The vector environment does what single ones do, in both autoreset modes (deterministic levels)."""
    single = _grid(_make(name, settings))
    if not single.world.enumerable or not single.mdp.deterministic or np.count_nonzero(single.mdp.start) > 1:
        return
    rng = np.random.default_rng(0)
    for mode in (gym.vector.AutoresetMode.NEXT_STEP, gym.vector.AutoresetMode.SAME_STEP):
        ours = gym.make_vec(environment_id(name), num_envs=3, autoreset_mode=mode.value, **settings)
        theirs = gym.make_vec(
            environment_id(name),
            num_envs=3,
            vectorization_mode="sync",
            vector_kwargs={"autoreset_mode": mode},
            **settings,
        )
        _same(ours.reset(seed=0), theirs.reset(seed=0), f"vector and single environments after reset ({mode.value})")
        for t in range(STEPS):
            actions = rng.integers(0, single.mdp.num_actions, 3)
            _same(
                ours.step(actions), theirs.step(actions), f"vector and single environments at step {t} ({mode.value})"
            )


CHECKS: tuple[Callable[..., None], ...] = (
    check_gymnasium,
    check_seeding,
    check_copies,
    check_spec,
    check_rendering,
    check_observations,
    check_columns,
    check_arrays,
    check_vector,
)
"""All checks; each takes a level's name and its settings, and raises AssertionError."""


def _make(name: str, settings: dict[str, Any], **options: Any) -> Env:
    return gym.make(environment_id(name), **options, **settings)


def _grid(env: Env) -> GridEnv:
    assert isinstance(env.unwrapped, GridEnv), f"{env} is not based on impactrl.GridEnv"
    return env.unwrapped


def _observations(name: str, settings: dict[str, Any]) -> list[str]:
    enumerable = _grid(_make(name, settings)).world.enumerable
    return [observation for observation in OBSERVATIONS if enumerable or observation != "state"]


def _episode(env: Env, *, seed: int | None, steps: int = STEPS) -> Iterator[tuple[Any, ...]]:
    """Random actions, with resets between episodes: observation, reward, terminated, truncated, info, action.

    The action of a reset is None.
    """
    rng = np.random.default_rng(0)
    count = len(_grid(env).world.actions)
    observation, info = env.reset(seed=seed)
    yield observation, 0.0, False, False, info, None
    for _ in range(steps):
        action = int(rng.integers(count))
        observation, reward, terminated, truncated, info = env.step(action)
        yield observation, reward, terminated, truncated, info, action
        if terminated or truncated:
            observation, info = env.reset()
            yield observation, 0.0, False, False, info, None


def _same(a: Any, b: Any, what: str) -> None:
    """Asserts that two nested structures are equal, arrays bit for bit."""
    if isinstance(a, dict):
        assert set(a) == set(b), f"{what} have different keys: {sorted(set(a) ^ set(b))}"
        for key in a:
            _same(a[key], b[key], f"{what}, {key}")
    elif isinstance(a, tuple | list) or (isinstance(a, np.ndarray) and a.dtype == object):
        assert len(a) == len(b), f"{what} differ in length: {len(a)} and {len(b)}"
        for x, y in zip(a, b, strict=True):
            _same(x, y, what)
    else:
        assert np.array_equal(a, b), f"{what} differ: {a} and {b}"
