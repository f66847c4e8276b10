"""`ImpactPenalty`: the penalty on a Gymnasium environment, single or vector, in one line."""

from dataclasses import replace
from functools import lru_cache
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from numpy.typing import NDArray

from impactrl.compile import compile_mdp
from impactrl.env import GridEnv
from impactrl.errors import ImpactError
from impactrl.mdp import TabularMDP
from impactrl.measures.impact import Impact
from impactrl.measures.penalty import Penalty
from impactrl.measures.presets import penalty_from_settings

__all__ = ["ImpactPenalty", "VectorImpactPenalty", "fitted"]


class ImpactPenalty(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Pays `reward - weight * impact` and reports both.

    The task is compiled once, and its exact impact looked up in every step. Trajectories are those of the
    environment itself: nothing is drawn from its random generator.

    `info` of every step gains `task_reward`, `impact/deviation` (D of this step), `impact/penalty` (what was taken
    off the reward), all 0 at reset, and `state` (the integer id). Where the environment does not say them (toy-text),
    it gains `performance`, `side_effect` and `completed` of the episode so far, too.

    Given a vector environment, it makes a `VectorImpactPenalty`.

    Args:
        env: an impactrl environment, or a toy-text one (with a table `P` and its current state `s`), wrapped or
            not.
        settings: those of `Penalty`, as plain values (`deviation="relative_reachability"`, `weight=3.0`).

    Raises:
        ImpactError: an unknown or impossible setting, or an environment whose rules are not known.

    >>> env = ImpactPenalty(gym.make("impactrl/Box-v0"), deviation="unreachability", discount=1.0, weight=3.0)
    >>> _ = env.reset(seed=0)
    >>> _, reward, _, _, info = env.step(1)
    >>> reward, info["task_reward"], info["impact/deviation"], info["impact/penalty"]
    (-4.0, -1.0, 1.0, 3.0)
    """

    def __new__(cls, env: "gym.Env[Any, Any] | VectorEnv[Any, Any, Any] | None" = None, **settings: Any) -> Any:
        """Single or vector, by the environment (none: a copy is being made)."""
        return VectorImpactPenalty(env, **settings) if isinstance(env, VectorEnv) else super().__new__(cls)

    def __init__(self, env: "gym.Env[Any, Any]", **settings: Any) -> None:
        RecordConstructorArgs.__init__(self, **settings)
        super().__init__(env)
        self.penalty = penalty_from_settings(settings)
        self._task = _task(env)
        self.impact = fitted(self._task, replace(self.penalty, weight=1.0))
        self._index = 0
        self._performance = self._side_effect = 0.0
        self._rng = np.random.default_rng(self.penalty.seed)

    def _state(self) -> int:
        base = self.env.unwrapped
        for attribute in ("state", "s"):
            if hasattr(base, attribute):
                return self._task.index(getattr(base, attribute))
        raise ImpactError(f"{type(base).__name__} does not say its state: expected an attribute `state` or `s`")

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Starts an episode; see `gymnasium.Env.reset`."""
        observation, info = self.env.reset(seed=seed, options=options)
        if seed is not None:
            self._rng = np.random.default_rng(self.penalty.seed)
        state = self._state()
        self._index = self.impact.start_index(state)
        self._performance, self._side_effect = self._task.initial_performance, 0.0
        return observation, self._episode(state) | info | _columns(0.0, 0.0, 0.0, state)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Takes an action; see `gymnasium.Env.step`."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        state = self._state()
        k, following = self.impact.follow(self._index, int(action), state, self._rng)
        place = self._index, int(action), k
        penalty = self.penalty.weight * float(self.impact.unit_penalty[place])
        columns = _columns(float(reward), float(self.impact.deviation[place]), penalty, state)
        self._performance += float(self.impact.mdp.performance[place])
        self._side_effect += float(self.impact.mdp.side_effect[place])
        self._index = following
        return observation, float(reward) - penalty, terminated, truncated, self._episode(state) | info | columns

    def _episode(self, state: int) -> dict[str, Any]:
        """The hidden columns of the episode so far, by the compiled task."""
        return {
            "performance": self._performance,
            "side_effect": self._side_effect,
            "completed": bool(self._task.completed[state]),
        }


def _task(env: "gym.Env[Any, Any]") -> TabularMDP:
    """The task of an environment; one for all environments of the same world."""
    base = env.unwrapped
    limit = env.spec.max_episode_steps if env.spec is not None else None
    if isinstance(base, GridEnv) and base.world.enumerable and limit in (None, base.mdp.time_limit):
        return base.mdp
    return compile_mdp(env)


@lru_cache(maxsize=8)
def fitted(task: TabularMDP, penalty: Penalty) -> Impact:
    """Fitted once for all copies of an environment, and for all weights."""
    return penalty.fit(task)


def _columns(task_reward: float, deviation: float, penalty: float, state: int) -> dict[str, Any]:
    return {
        "task_reward": task_reward,
        "impact/deviation": deviation,
        "impact/penalty": penalty,
        "state": state,
    }


class VectorImpactPenalty(VectorWrapper[Any, Any, Any]):
    """`ImpactPenalty` for vector environments: pays and reports the same, copy by copy.

    Args:
        env: from `gym.make_vec` of an impactrl level, with any vectorization mode that keeps the environments in this
            process. (Of another environment, wrap each copy: `gym.make_vec(name, wrappers=[...])`.)
        settings: those of `Penalty`, as plain values.

    Raises:
        ImpactError: an unknown or impossible setting, or an environment whose rules are not known.
    """

    def __init__(self, env: "VectorEnv[Any, Any, Any]", **settings: Any) -> None:
        super().__init__(env)
        self.penalty = penalty_from_settings(settings)
        self._task = _vector_task(env)
        self.impact = fitted(self._task, replace(self.penalty, weight=1.0))
        self._same_step = env.metadata.get("autoreset_mode") is AutoresetMode.SAME_STEP
        first = np.flatnonzero(self.impact.mdp.start)
        self._first = np.zeros(self._task.num_states, dtype=np.int64)
        self._first[self.impact.state[first]] = first
        self._index = np.zeros(self.num_envs, dtype=np.int64)
        self._over = np.zeros(self.num_envs, dtype=np.bool_)
        self._rng = np.random.default_rng(self.penalty.seed)

    def reset(
        self, *, seed: int | list[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Starts an episode in every copy; see `gymnasium.vector.VectorEnv.reset`."""
        observations, infos = self.env.reset(seed=seed, options=options)  # type: ignore[arg-type]  # lists are allowed
        if seed is not None:
            self._rng = np.random.default_rng(self.penalty.seed)
        begun = np.asarray((options or {}).get("reset_mask", np.ones(self.num_envs, dtype=np.bool_)))
        self._index = np.where(begun, self._first[infos["state"]], self._index)
        self._over &= ~begun
        zeros = np.zeros(self.num_envs)
        return observations, infos | _vector_columns(zeros, zeros, zeros)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Takes an action in every copy; see `gymnasium.vector.VectorEnv.step`."""
        observations, rewards, terminated, truncated, infos = self.env.step(actions)
        over = terminated | truncated
        begun = over if self._same_step else self._over
        stepped = np.ones(self.num_envs, dtype=np.bool_) if self._same_step else ~self._over
        state = infos["state"]
        if self._same_step and over.any():
            state = np.where(over, infos["final_info"]["state"], state)
        k, after = np.zeros(self.num_envs, dtype=np.int64), self._index.copy()
        k[stepped], after[stepped] = self.impact.follow_all(
            self._index[stepped], np.asarray(actions)[stepped], state[stepped], self._rng
        )
        place = self._index, actions, k
        deviation = np.where(stepped, self.impact.deviation[place], 0.0)
        penalty = np.where(stepped, self.penalty.weight * self.impact.unit_penalty[place], 0.0)
        self._index = np.where(begun, self._first[infos["state"]], after)
        self._over = over
        if self._same_step and over.any():
            final = _vector_columns(rewards * over, deviation * over, penalty * over, over)
            infos = infos | {"final_info": infos["final_info"] | final}
        going = ~over if self._same_step else np.ones_like(over)
        columns = _vector_columns(rewards * going, deviation * going, penalty * going)
        return observations, rewards - penalty, terminated, truncated, infos | columns


def _vector_task(env: "VectorEnv[Any, Any, Any]") -> TabularMDP:
    base: Any = env.unwrapped
    task = getattr(base, "mdp", None)
    if isinstance(task, TabularMDP):
        return task
    if hasattr(base, "envs"):
        if not isinstance(base.envs[0].unwrapped, GridEnv):
            raise ImpactError(
                f"copies of {type(base.envs[0].unwrapped).__name__} do not say their states; wrap each of them: "
                "gym.make_vec(name, wrappers=[lambda env: impactrl.ImpactPenalty(env, ...)])"
            )
        return _task(base.envs[0])
    raise ImpactError(
        f"{type(base).__name__} does not show its rules: expected gym.make_vec of an impactrl level, not asynchronous"
    )


def _vector_columns(
    task_reward: NDArray[np.float64],
    deviation: NDArray[np.float64],
    penalty: NDArray[np.float64],
    shown: NDArray[np.bool_] | None = None,
) -> dict[str, Any]:
    columns = {"task_reward": task_reward, "impact/deviation": deviation, "impact/penalty": penalty}
    mask = np.ones(len(penalty), dtype=np.bool_) if shown is None else shown
    return columns | {f"_{key}": mask for key in columns}
