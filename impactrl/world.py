"""What a world is: pure rules, state in, outcomes out.

Everything else (Gymnasium environments, compiled arrays, measures, planners) is built on these few methods.
"""

from abc import abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from functools import cached_property
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["GRID_ACTIONS", "AnyWorld", "GridWorld", "Outcome", "World", "board_text"]

S = TypeVar("S", bound=Hashable)

GRID_ACTIONS = ("up", "down", "left", "right", "noop")


class Outcome(NamedTuple, Generic[S]):
    """One thing that an action can lead to.

    Attributes:
        state: the next state.
        reward: what the agent is paid.
        performance: the change of the hidden score that the designer cares about.
        side_effect: how many side effects happened (negative where one was undone).
        probability: of this outcome; those of all outcomes of an action sum to 1.
    """

    state: S
    reward: float = 0.0
    performance: float = 0.0
    side_effect: float = 0.0
    probability: float = 1.0


class World(Protocol[S]):
    """A task with side effects, as pure functions of hashable states.

    A world holds settings and no state: the same call always answers the same. Subclass it and give the
    first block of methods; the second block has defaults.
    """

    actions: Sequence[str]
    """Names of the actions; the action is the index."""
    noop: int | None
    """Index of the action that does nothing, or None if the world has none."""
    time_limit: int
    """Steps after which an episode is cut off. A limit is no part of the state."""
    tiles: Mapping[str, str]
    """Sprite that draws each board character but the space (names of `impactrl.render.SPRITES`)."""
    initial_performance: float = 0.0
    """Hidden score that an episode begins with."""
    enumerable: bool = True
    """Whether all states can be listed. Environments then say the state's id in `info`."""
    feature_names: Sequence[str] = ()
    """Names of what `features` says of a state, for measures that compare features."""

    @abstractmethod
    def start(self) -> Sequence[tuple[float, S]]:
        """The first states of an episode with their probabilities."""

    @abstractmethod
    def outcomes(self, state: S, action: int) -> Sequence[Outcome[S]]:
        """Everything that `action` can lead to. Never asked of a terminal state."""

    @abstractmethod
    def terminal(self, state: S) -> bool:
        """Whether the episode is over in `state`."""

    @abstractmethod
    def board(self, state: S) -> NDArray[np.uint8]:
        """What one sees of `state`: [rows, columns] codes of the published characters."""

    def completed(self, state: S) -> bool:
        """Whether the task is done in `state`. Default: the episode is over."""
        return self.terminal(state)

    def features(self, state: S) -> Sequence[float]:  # noqa: ARG002
        """One number for each of `feature_names`. Default: none; measures then count the objects on the board."""
        return ()

    def situation(self, state: S) -> Hashable:
        """The part of `state` that an impact measure compares. Default: all of it.

        A state may carry bookkeeping that only the hidden columns need ("the vase was rescued once") and that
        changes no future situation. Measures must not see it: else writing the note would itself be an
        irreversible change. `compile_mdp` checks that what is left out is indeed bookkeeping.
        """
        return state


class GridWorld(World[S]):
    """A world drawn as a text map, with the five actions of the published gridworlds.

    Cells are flat indices `row * columns + column`. Subclasses set `level` to the map: rows of equal length,
    walls as `#`.
    """

    level: str
    actions = GRID_ACTIONS
    noop = 4
    time_limit = 100

    @cached_property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the map."""
        rows = self.level.splitlines()
        return len(rows), len(rows[0])

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """What each action adds to a cell index."""
        columns = self.shape[1]
        return (-columns, columns, -1, 1, 0)

    @cached_property
    def walls(self) -> frozenset[int]:
        """The cells that nothing enters."""
        return frozenset(self.cells("#"))

    def cells(self, character: str) -> tuple[int, ...]:
        """Where `character` stands on the map, in reading order."""
        return tuple(i for i, c in enumerate(self.level.replace("\n", "")) if c == character)

    def paint(self, *layers: tuple[int, str]) -> NDArray[np.uint8]:
        """The walls of the map with (cell, character) layers drawn over them in order."""
        board = self._bare.copy()
        for cell, character in layers:
            board[cell] = ord(character)
        return board.reshape(self.shape)

    @cached_property
    def _bare(self) -> NDArray[np.uint8]:
        text = "".join(c if c == "#" else " " for c in self.level.replace("\n", ""))
        return np.frombuffer(text.encode("latin-1"), dtype=np.uint8)


def board_text(board: NDArray[np.uint8]) -> list[str]:
    """A board as a list of strings, one a row.

    >>> board_text(np.array([[35, 65], [32, 71]], dtype=np.uint8))
    ['#A', ' G']
    """
    return [bytes(row).decode("latin-1") for row in board]


AnyWorld = World[Any]
