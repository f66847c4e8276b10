"""`ImpactPenalty`: the penalty on a Gymnasium environment, in one line."""

from typing import Any

import gymnasium as gym
from gymnasium.utils import RecordConstructorArgs

from impactrl.compile import compile_mdp
from impactrl.errors import ImpactError
from impactrl.mdp import TabularMDP
from impactrl.measures.penalty import Impact, penalty_from_json

__all__ = ["ImpactPenalty"]


class ImpactPenalty(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Pays `reward - weight * impact` and reports both.

    The task is compiled once, and its exact impact looked up in every step. Trajectories are those of the
    environment itself: nothing is drawn from its random generator.

    `info` of every step gains `task_reward`, `impact/deviation` (D of this step), `impact/penalty` (what was taken
    off the reward) and `state` (the integer id, where the environment does not say it); all 0 at reset.

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

    def __init__(self, env: "gym.Env[Any, Any]", **settings: Any) -> None:
        RecordConstructorArgs.__init__(self, **settings)
        super().__init__(env)
        self.penalty = penalty_from_json(settings)
        self._task: TabularMDP = compile_mdp(env)
        self.impact: Impact = self.penalty.fit(self._task)
        self._index = 0

    def _state(self) -> int:
        base = self.env.unwrapped
        for attribute in ("state", "s"):
            if hasattr(base, attribute):
                return self._task.index(getattr(base, attribute))
        raise ImpactError(f"{type(base).__name__} does not say its state: expected an attribute `state` or `s`")

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Starts an episode; see `gymnasium.Env.reset`."""
        observation, info = self.env.reset(seed=seed, options=options)
        state = self._state()
        self._index = self.impact.start_index(state)
        return observation, info | _columns(0.0, 0.0, 0.0, state)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Takes an action; see `gymnasium.Env.step`."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        state = self._state()
        k, following = self.impact.follow(self._index, int(action), state)
        place = self._index, int(action), k
        penalty = self.penalty.weight * float(self.impact.unit_penalty[place])
        columns = _columns(float(reward), float(self.impact.deviation[place]), penalty, state)
        self._index = following
        return observation, float(reward) - penalty, terminated, truncated, info | columns


def _columns(task_reward: float, deviation: float, penalty: float, state: int) -> dict[str, Any]:
    return {
        "task_reward": task_reward,
        "impact/deviation": deviation,
        "impact/penalty": penalty,
        "state": state,
    }
