"""Gymnasium's environments, single or vector, in any mode of starting anew, as N copies that are stepped alike."""

from typing import Any, NamedTuple, Protocol

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray

from impactrl.errors import ImpactError

__all__ = ["TOLD", "Host", "Stepped", "host_of"]

TOLD = ("task_reward", "impact/deviation", "impact/penalty", "performance", "side_effect", "completed")
"""What `info` may say of a step and is listened to."""


class Stepped(NamedTuple):
    """What came of a step in N copies.

    Attributes:
        arrived: [N, ...] observations after the step, also where the episode is over.
        reward: [N] float64.
        terminal: [N] bool, whether the step ended the episode.
        over: [N] bool, whether the episode ended or was cut off.
        kept: [N] bool, false where nothing happened but the beginning of an episode.
        begun: [N] bool, whether an episode begins with `observation`.
        observation: [N, ...] to go on from.
        told: of `TOLD`, what the copies' `info` said: [N] float64, NaN where it did not.
    """

    arrived: Any
    reward: NDArray[np.float64]
    terminal: NDArray[np.bool_]
    over: NDArray[np.bool_]
    kept: NDArray[np.bool_]
    begun: NDArray[np.bool_]
    observation: Any
    told: dict[str, NDArray[np.float64]]


class Host(Protocol):
    """N copies of an environment."""

    num_envs: int
    observation_space: "gym.Space[Any]"
    action_space: "gym.Space[Any]"

    def reset(self, seed: int) -> Any:
        """[N, ...] first observations."""

    def step(self, actions: NDArray[np.int64]) -> Stepped:
        """A step in every copy; where an episode is over, the next one begins now or with the next step."""


def host_of(env: "gym.Env[Any, Any] | VectorEnv[Any, Any, Any]") -> Host:
    """The environment as N copies.

    Raises:
        ImpactError: it is none of Gymnasium's, or a vector environment that does not say when episodes begin.
    """
    if isinstance(env, VectorEnv):
        return _Vector(env)
    if isinstance(env, gym.Env):
        return _Single(env)
    raise ImpactError(f"expected a Gymnasium environment or vector environment, not {type(env).__name__}")


class _Single:
    """One environment."""

    def __init__(self, env: "gym.Env[Any, Any]") -> None:
        self.num_envs = 1
        self.observation_space, self.action_space = env.observation_space, env.action_space
        self._env = env

    def reset(self, seed: int) -> Any:
        observation, _ = self._env.reset(seed=seed)
        return [observation]

    def step(self, actions: NDArray[np.int64]) -> Stepped:
        arrived, reward, terminated, truncated, info = self._env.step(int(actions[0]))
        over = np.array([bool(terminated or truncated)])
        observation = self._env.reset()[0] if over[0] else arrived
        return Stepped(
            arrived=[arrived],
            reward=np.array([float(reward)]),
            terminal=np.array([bool(terminated)]),
            over=over,
            kept=np.ones(1, dtype=np.bool_),
            begun=over,
            observation=[observation],
            told={name: np.array([float(info[name])]) for name in TOLD if name in info},
        )


class _Vector:
    """Copies in a vector environment."""

    def __init__(self, env: "VectorEnv[Any, Any, Any]") -> None:
        mode = (env.metadata or {}).get("autoreset_mode")
        if not isinstance(mode, AutoresetMode):
            raise ImpactError(
                f"{type(env.unwrapped).__name__} does not say when an episode begins after another: set "
                "metadata['autoreset_mode'] to a gymnasium.vector.AutoresetMode"
            )
        self.num_envs = env.num_envs
        self.observation_space, self.action_space = env.single_observation_space, env.single_action_space
        self._env, self._mode = env, mode
        self._over = np.zeros(env.num_envs, dtype=np.bool_)

    def reset(self, seed: int) -> Any:
        observations, _ = self._env.reset(seed=seed)
        self._over[:] = False
        return observations

    def step(self, actions: NDArray[np.int64]) -> Stepped:
        observations, reward, terminated, truncated, info = self._env.step(actions)
        terminal, over = np.array(terminated, dtype=np.bool_), np.asarray(terminated) | np.asarray(truncated)
        kept, begun, arrived = np.ones_like(over), over, observations
        told = _told(info, self.num_envs)
        if self._mode is AutoresetMode.NEXT_STEP:
            kept, begun = ~self._over, self._over
        elif self._mode is AutoresetMode.SAME_STEP and over.any():
            arrived = np.array(observations)
            arrived[over] = np.stack(list(np.asarray(info["final_obs"], dtype=object)[over]))
            final = _told(info.get("final_info", {}), self.num_envs)
            told |= {name: np.where(over, values, told.get(name, np.nan)) for name, values in final.items()}
        elif self._mode is AutoresetMode.DISABLED and over.any():
            arrived = np.array(observations)
            observations, _ = self._env.reset(options={"reset_mask": over})
        self._over = over
        return Stepped(
            arrived=arrived,
            reward=np.array(reward, dtype=np.float64),
            terminal=terminal,
            over=over,
            kept=kept,
            begun=begun,
            observation=observations,
            told=told,
        )


def _told(info: dict[str, Any], count: int) -> dict[str, NDArray[np.float64]]:
    """What a vector environment's `info` says; NaN for copies that it says nothing of."""
    return {
        name: np.where(info.get(f"_{name}", np.ones(count, dtype=np.bool_)), info[name], np.nan).astype(np.float64)
        for name in TOLD
        if name in info
    }
