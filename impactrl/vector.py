"""The vector environment: many copies of a level, stepped at once on its compiled arrays."""

from functools import cached_property
from typing import Any

import numba
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from impactrl.env import GridEnv
from impactrl.errors import ImpactError, require_one_of
from impactrl.render import draw_board, draw_text_board

__all__ = ["GridVectorEnv"]

Arrays = dict[str, Any]


class GridVectorEnv(VectorEnv[Any, Any, Any]):
    """`num_envs` copies of a level.

    Observations, rewards, ends and `info` are those of as many `GridEnv`s under Gymnasium's `TimeLimit` in a
    `SyncVectorEnv`, copy by copy; in stochastic levels the random numbers are others, all from one generator.

    Args:
        world: as `GridEnv`.
        num_envs: how many copies.
        max_episode_steps: time limit; None: the level's own.
        autoreset_mode: "NextStep" (the step after an end ignores the action, pays 0 and begins an episode) or
            "SameStep" (the step that ends an episode returns the next one's beginning, and the end as `final_obs` and
            `final_info`).
        observation: as `GridEnv`.
        render_mode: as `GridEnv`; `render` returns one entry per copy.
        cell_size: as `GridEnv`.
        settings: as `GridEnv`.

    Raises:
        ImpactError: as `GridEnv`; or a level with too many states to be compiled.
    """

    def __init__(
        self,
        world: Any,
        *,
        num_envs: int = 1,
        max_episode_steps: int | None = None,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        observation: str = "board",
        render_mode: str | None = None,
        cell_size: int = 48,
        **settings: Any,
    ) -> None:
        if num_envs < 1:
            raise ImpactError(f"num_envs must be at least 1, not {num_envs}")
        name = autoreset_mode.value if isinstance(autoreset_mode, AutoresetMode) else autoreset_mode
        require_one_of("autoreset_mode", name, ["NextStep", "SameStep"])
        mode = AutoresetMode(name)
        single = GridEnv(world, observation=observation, render_mode=render_mode, cell_size=cell_size, **settings)
        self.metadata = single.metadata | {"autoreset_mode": mode}
        self.render_mode = render_mode
        self.num_envs = num_envs
        self.mdp = single.mdp
        self.world = single.world
        self.single_observation_space = single.observation_space
        self.single_action_space = single.action_space
        self.observation_space = batch_space(single.observation_space, num_envs)
        self.action_space: spaces.MultiDiscrete = batch_space(single.action_space, num_envs)  # type: ignore[assignment]
        self._observation = observation
        self._cell_size = cell_size
        self._codes = np.frombuffer(single.characters.encode("latin-1"), dtype=np.uint8)
        self._same_step = mode is AutoresetMode.SAME_STEP
        self._time_limit = self.mdp.time_limit if max_episode_steps is None else max_episode_steps
        self._cumulative = self.mdp.probability.cumsum(axis=2)
        self._starts = np.flatnonzero(self.mdp.start)
        self._columns = np.stack([self.mdp.reward, self.mdp.performance, self.mdp.side_effect], axis=3)
        self._everywhere = np.ones(num_envs, dtype=np.bool_)
        self._everywhere.flags.writeable = False
        self.state = np.full(num_envs, self._starts[0], dtype=np.int64)
        self._elapsed = np.zeros(num_envs, dtype=np.int64)
        self._sums = np.zeros((num_envs, 2))
        self._over = np.zeros(num_envs, dtype=np.bool_)
        self._begun = False

    @cached_property
    def _boards(self) -> NDArray[np.uint8]:
        """[S, rows, columns], the board of every state."""
        return np.stack([self.mdp.draw(state) for state in self.mdp.states])

    def _observe(self, state: NDArray[np.int64]) -> NDArray[Any]:
        if self._observation == "state":
            return state.copy()
        boards = self._boards[state]
        if self._observation == "board":
            return boards
        planes: NDArray[np.float32] = (boards[:, None] == self._codes[:, None, None]).astype(np.float32)
        return planes

    def _info(self) -> Arrays:
        info = {
            "state": self.state.copy(),
            "performance": self._sums[:, 0].copy(),
            "side_effect": self._sums[:, 1].copy(),
            "completed": self.mdp.completed[self.state],
        }
        return info | {f"_{key}": self._everywhere for key in info}

    def _begin(self, which: NDArray[np.bool_]) -> None:
        """Puts the chosen copies at the start of an episode."""
        count = int(np.count_nonzero(which))
        if len(self._starts) == 1:
            self.state[which] = self._starts[0]
        else:
            self.state[which] = self.np_random.choice(self._starts, size=count, p=self.mdp.start[self._starts])
        self._elapsed[which] = 0
        self._sums[which] = self.mdp.initial_performance, 0.0
        self._over[which] = False

    def reset(
        self, *, seed: int | list[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Starts an episode in every copy, or where `options["reset_mask"]` says; see `gymnasium.vector.VectorEnv`."""
        super().reset(seed=seed[0] if isinstance(seed, list) else seed)
        self._begun = True
        mask = (options or {}).get("reset_mask", self._everywhere)
        self._begin(np.asarray(mask, dtype=np.bool_))
        return self._observe(self.state), self._info()

    def step(
        self, actions: Any
    ) -> tuple[Any, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Takes an action in every copy; see `gymnasium.vector.VectorEnv`.

        Raises:
            ImpactError: not one action per copy, or one that the level does not have.
        """
        if not self._begun:
            raise ImpactError("no episode is running: call reset() before the first step()")
        chosen = np.asarray(actions)
        if chosen.shape != (self.num_envs,) or chosen.dtype.kind not in "iu":
            raise ImpactError(f"expected {self.num_envs} integer actions, got {chosen.dtype} of shape {chosen.shape}")
        if chosen.min() < 0 or chosen.max() >= self.mdp.num_actions:
            raise ImpactError(
                f"actions must be from 0 to {self.mdp.num_actions - 1}, got {chosen.min()} to {chosen.max()}"
            )
        chosen = chosen.astype(np.int64, copy=False)
        reset = self._over.copy()  # only NEXT_STEP leaves copies that are over
        draws = np.empty(0) if self.mdp.deterministic else self.np_random.random(self.num_envs)
        rewards = np.zeros(self.num_envs)
        terminated = np.zeros(self.num_envs, dtype=np.bool_)
        truncated = np.zeros(self.num_envs, dtype=np.bool_)
        any_over = _advance(
            chosen,
            draws,
            self.mdp.next_state,
            self._cumulative,
            self._columns,
            self.mdp.terminal,
            self._time_limit,
            self.state,
            self._elapsed,
            self._sums,
            self._over,
            rewards,
            terminated,
            truncated,
        )
        if reset.any():
            self._begin(reset)
        final: Arrays = self._finish() if any_over and self._same_step else {}
        return self._observe(self.state), rewards, terminated, truncated, self._info() | final

    def _finish(self) -> Arrays:
        """Ends of episodes as `final_obs` and `final_info`, and the next episodes begun in their place."""
        over = self._over.copy()
        observations = np.full(self.num_envs, None, dtype=object)
        ends = np.flatnonzero(over)
        for i, observation in zip(ends, self._observe(self.state[ends]), strict=True):
            observations[i] = observation
        info = self._info()
        final = {key: np.where(over, info[key], np.zeros((), info[key].dtype)) for key in info if key[0] != "_"}
        self._begin(over)
        return {
            "final_obs": observations,
            "_final_obs": over,
            "final_info": final | {f"_{key}": over.copy() for key in final},
            "_final_info": over.copy(),
        }

    def render(self) -> Any:
        """The boards of all copies, by `render_mode`."""
        boards = [self.mdp.draw(self.mdp.states[int(s)]) for s in self.state]
        if self.render_mode == "rgb_array":
            return tuple(draw_board(board, self.mdp.tiles, cell_size=self._cell_size) for board in boards)
        if self.render_mode == "ansi":
            return tuple(draw_text_board(board, self.mdp.tiles) for board in boards)
        return None


@numba.njit(cache=True, nogil=True)
def _advance(
    actions: NDArray[np.int64],
    draws: NDArray[np.float64],
    next_state: NDArray[np.int32],
    cumulative: NDArray[np.float64],
    columns: NDArray[np.float64],
    terminal: NDArray[np.bool_],
    time_limit: int,
    state: NDArray[np.int64],
    elapsed: NDArray[np.int64],
    sums: NDArray[np.float64],
    over: NDArray[np.bool_],
    rewards: NDArray[np.float64],
    terminated: NDArray[np.bool_],
    truncated: NDArray[np.bool_],
) -> bool:
    """One step of every copy that is not over, in place; says whether any is over now."""
    any_over = False
    last = next_state.shape[2] - 1
    for i in range(len(state)):
        if over[i]:
            continue
        s, a, k = state[i], actions[i], 0
        if last > 0:
            u = draws[i] * cumulative[s, a, last]
            while k < last and u >= cumulative[s, a, k]:
                k += 1
        rewards[i] = columns[s, a, k, 0]
        sums[i, 0] += columns[s, a, k, 1]
        sums[i, 1] += columns[s, a, k, 2]
        state[i] = next_state[s, a, k]
        elapsed[i] += 1
        terminated[i] = terminal[state[i]]
        truncated[i] = elapsed[i] >= time_limit
        over[i] = terminated[i] or truncated[i]
        any_over = any_over or over[i]
    return any_over
