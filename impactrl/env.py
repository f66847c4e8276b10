"""The one Gymnasium adapter: any `World` as an environment."""

from collections.abc import Hashable
from functools import cached_property, lru_cache
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from impactrl.compile import compile_mdp
from impactrl.errors import ImpactError, require_one_of
from impactrl.levels import make_world
from impactrl.mdp import TabularMDP
from impactrl.render import draw_board, draw_text_board
from impactrl.world import AnyWorld, board_text

__all__ = ["OBSERVATIONS", "GridEnv"]

OBSERVATIONS = ("board", "state", "planes")


class GridEnv(gym.Env[Any, np.int64]):
    """A world as a Gymnasium environment.

    Observations:
        `board`: uint8 [rows, columns], the code of the character on each cell.
        `state`: the integer id of the state in `mdp`; Markov also where the board hides something.
        `planes`: float32 [characters, rows, columns], one 0/1 plane per character, in the order of `characters`.

    `info` of every reset and step: `state` (integer id, where the states can be listed), and of the episode so far
    `performance` (hidden score), `side_effect` (count) and `completed` (bool). The agent sees none of it.

    Args:
        world: a `World`, or the import path of one ("package.module:Class").
        observation: "board", "state" or "planes".
        render_mode: None, "rgb_array" (uint8 [height, width, 3]) or "ansi" (the coloured board as text).
        cell_size: pixels of a cell in "rgb_array".
        settings: keyword arguments of the world, where `world` is a path.

    Raises:
        ImpactError: unknown observation, world or setting.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012
        "render_modes": ["rgb_array", "ansi"],
        "render_fps": 4,
    }

    def __init__(
        self,
        world: AnyWorld | str,
        *,
        observation: str = "board",
        render_mode: str | None = None,
        cell_size: int = 48,
        **settings: Any,
    ) -> None:
        require_one_of("observation", observation, OBSERVATIONS)
        require_one_of("render_mode", render_mode, [None, *self.metadata["render_modes"]])
        if settings and not isinstance(world, str):
            raise ImpactError("settings go with a world given by its import path; a made world has its own")
        self.world = make_world(world, settings) if isinstance(world, str) else world
        self.render_mode = render_mode
        self.cell_size = cell_size
        self._observation = observation
        self._starts = self.world.start()
        self.state = self._starts[0][1]
        self._performance, self._side_effect = self.world.initial_performance, 0.0
        self.action_space: spaces.Discrete = spaces.Discrete(len(self.world.actions))
        self.observation_space = self._space()

    @cached_property
    def mdp(self) -> TabularMDP:
        """The compiled arrays, made when first needed and shared by all environments of the same world.

        Raises:
            ImpactError: the world has too many states to be compiled.
        """
        if not self.world.enumerable:
            raise ImpactError(
                f"{type(self.world).__name__} has too many states to list them, so states have no ids; use "
                "observation='board' or 'planes' and a learner that needs no model"
            )
        return _compiled(self.world) if isinstance(self.world, Hashable) else compile_mdp(self.world)

    @cached_property
    def characters(self) -> str:
        """The characters that boards can show, in order of their codes; the planes of `planes`."""
        return "".join(sorted({" ", *self.world.tiles}))

    def _space(self) -> "spaces.Space[Any]":
        shape = self.world.board(self.state).shape
        if self._observation == "board":
            return spaces.Box(0, 255, shape, np.uint8)
        if self._observation == "state":
            return spaces.Discrete(self.mdp.num_states)
        return spaces.Box(0.0, 1.0, (len(self.characters), *shape), np.float32)

    def _observe(self) -> "NDArray[np.uint8] | NDArray[np.float32] | int":
        if self._observation == "state":
            return self.mdp.index(self.state)
        board = self.world.board(self.state)
        if self._observation == "board":
            return board
        codes = np.frombuffer(self.characters.encode("latin-1"), dtype=np.uint8)
        planes: NDArray[np.float32] = (board == codes[:, None, None]).astype(np.float32)
        return planes

    def _info(self) -> dict[str, Any]:
        info = {
            "performance": self._performance,
            "side_effect": self._side_effect,
            "completed": self.world.completed(self.state),
        }
        return {"state": self.mdp.index(self.state)} | info if self.world.enumerable else info

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Starts an episode; see `gymnasium.Env.reset`. There are no options."""
        super().reset(seed=seed, options=options)
        self.state = self._starts[self._draw([p for p, _ in self._starts])][1]
        self._performance, self._side_effect = self.world.initial_performance, 0.0
        return self._observe(), self._info()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Takes an action; see `gymnasium.Env.step`. Time limits are Gymnasium's wrapper's business.

        Raises:
            ImpactError: no such action, or the episode is over.
        """
        if not self.action_space.contains(action):
            raise ImpactError(f"action must be an integer below {self.action_space.n}, not {action!r}")
        if self.world.terminal(self.state):
            raise ImpactError("the episode is over: call reset() before the next step()")
        outcomes = self.world.outcomes(self.state, int(action))
        outcome = outcomes[self._draw([o.probability for o in outcomes])]
        self.state = outcome.state
        self._performance += outcome.performance
        self._side_effect += outcome.side_effect
        return self._observe(), outcome.reward, self.world.terminal(self.state), False, self._info()

    def _draw(self, probabilities: list[float]) -> int:
        if len(probabilities) == 1:
            return 0
        edges = np.cumsum(probabilities)
        return int(np.searchsorted(edges[:-1], self.np_random.random() * edges[-1], side="right"))

    def board_text(self) -> list[str]:
        """The board as a list of strings, in the published characters."""
        return board_text(self.world.board(self.state))

    def render(self) -> Any:
        """The board as an image or as text, by `render_mode`."""
        board = self.world.board(self.state)
        if self.render_mode == "rgb_array":
            return draw_board(board, self.world.tiles, cell_size=self.cell_size)
        if self.render_mode == "ansi":
            return draw_text_board(board, self.world.tiles)
        return None


@lru_cache(maxsize=32)
def _compiled(world: Any) -> TabularMDP:
    return compile_mdp(world)
