"""The one Gymnasium adapter: any `World` as an environment."""

import operator
from bisect import bisect_right
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate
from typing import Any, TypeVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from impactrl.compile import compile_mdp
from impactrl.errors import ImpactError, require_one_of
from impactrl.levels import make_world
from impactrl.mdp import TabularMDP
from impactrl.render import draw_board, draw_text_board
from impactrl.world import AnyWorld, Outcome, board_text

__all__ = ["OBSERVATIONS", "GridEnv", "compiled"]

OBSERVATIONS = ("board", "state", "planes")
PLACES_KEPT = 100_000

T = TypeVar("T")


@dataclass(kw_only=True, slots=True)
class _Place:
    """A state as the environment needs it.

    `index` is None where states have no ids; `outcomes` has, for each action taken here before, the outcomes and their
    cumulative probabilities without the last one.
    """

    state: Any
    index: int | None
    board: NDArray[np.uint8]
    terminal: bool
    completed: bool
    outcomes: dict[int, tuple[Sequence[Outcome[Any]], list[float]]]


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
        starts = self.world.start()
        self._starts = [state for _, state in starts], _edges([probability for probability, _ in starts])
        self._places: dict[Any, _Place] = {}
        self._place = self._enter(self._starts[0][0])
        self._performance, self._side_effect = self.world.initial_performance, 0.0
        self._running = False
        self._num_actions = len(self.world.actions)
        self.action_space = spaces.Discrete(self._num_actions)
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
        return compiled(self.world)

    @cached_property
    def characters(self) -> str:
        """The characters that boards can show, in order of their codes; the planes of `planes`."""
        return "".join(sorted({" ", *self.world.tiles}))

    def _space(self) -> "spaces.Space[Any]":
        shape = self._place.board.shape
        if self._observation == "board":
            return spaces.Box(0, 255, shape, np.uint8)
        if self._observation == "state":
            return spaces.Discrete(self.mdp.num_states)
        return spaces.Box(0.0, 1.0, (len(self.characters), *shape), np.float32)

    def _observe(self) -> "NDArray[np.uint8] | NDArray[np.float32] | int":
        if self._observation == "board":
            return self._place.board.copy()
        if self._observation == "state":
            return self.mdp.index(self.state)
        codes = np.frombuffer(self.characters.encode("latin-1"), dtype=np.uint8)
        planes: NDArray[np.float32] = (self._place.board == codes[:, None, None]).astype(np.float32)
        return planes

    def _info(self) -> dict[str, Any]:
        info = {
            "performance": self._performance,
            "side_effect": self._side_effect,
            "completed": self._place.completed,
        }
        return info if self._place.index is None else {"state": self._place.index} | info

    def _enter(self, state: Any) -> "_Place":
        """What is known of a state; found out once, since most steps lead where the environment has been before."""
        place = self._places.get(state)
        if place is None:
            if len(self._places) >= PLACES_KEPT:
                self._places.clear()
            place = self._places[state] = _Place(
                state=state,
                index=self.mdp.index(state) if self.world.enumerable else None,
                board=self.world.board(state),
                terminal=self.world.terminal(state),
                completed=self.world.completed(state),
                outcomes={},
            )
        return place

    @property
    def state(self) -> Any:
        """The current state of the world."""
        return self._place.state

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Starts an episode; see `gymnasium.Env.reset`. There are no options."""
        super().reset(seed=seed, options=options)
        self._place = self._enter(self._draw(*self._starts))
        self._performance, self._side_effect = float(self.world.initial_performance), 0.0
        self._running = True
        return self._observe(), self._info()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Takes an action; see `gymnasium.Env.step`. Time limits are Gymnasium's wrapper's business.

        Raises:
            ImpactError: no such action, no reset yet, or the episode is over.
        """
        place = self._place
        if not self._running:
            raise ImpactError("no episode is running: call reset() before the first step() and after the last")
        index = self._action_index(action)
        possible = place.outcomes.get(index)
        if possible is None:
            outcomes = self.world.outcomes(place.state, index)
            possible = place.outcomes[index] = outcomes, _edges([o.probability for o in outcomes])
        outcome = self._draw(*possible)
        self._place = place = self._places.get(outcome.state) or self._enter(outcome.state)
        self._performance += outcome.performance
        self._side_effect += outcome.side_effect
        self._running = not place.terminal
        return self._observe(), float(outcome.reward), place.terminal, False, self._info()

    def _action_index(self, action: Any) -> int:
        try:
            index = operator.index(action)
        except TypeError:
            index = -1
        if not 0 <= index < self._num_actions:
            raise ImpactError(f"action must be an integer from 0 to {self._num_actions - 1}, not {action!r}")
        return index

    def _draw(self, options: Sequence[T], edges: list[float]) -> T:
        """One of the options; no random number where there is one."""
        return options[bisect_right(edges, self.np_random.random())] if edges else options[0]

    def board_text(self) -> list[str]:
        """The board as a list of strings, in the published characters."""
        return board_text(self._place.board)

    def render(self) -> Any:
        """The board as an image or as text, by `render_mode`."""
        board = self._place.board
        if self.render_mode == "rgb_array":
            return draw_board(board, self.world.tiles, cell_size=self.cell_size)
        if self.render_mode == "ansi":
            return draw_text_board(board, self.world.tiles)
        return None


def _edges(probabilities: list[float]) -> list[float]:
    return list(accumulate(probabilities))[:-1]


def compiled(world: AnyWorld) -> TabularMDP:
    """The arrays of a world, made once for all equal worlds; see `compile_mdp`."""
    return _compiled(world) if isinstance(world, Hashable) else compile_mdp(world)


@lru_cache(maxsize=32)
def _compiled(world: Any) -> TabularMDP:
    return compile_mdp(world)
