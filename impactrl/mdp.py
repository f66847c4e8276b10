"""`TabularMDP`: a finite task as a handful of arrays."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from impactrl.errors import ImpactError
from impactrl.world import board_text

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["TabularMDP"]

PROBABILITY_TOLERANCE = 1e-9


@dataclass(frozen=True, kw_only=True, eq=False)
class TabularMDP:
    """A finite Markov decision process with its hidden columns.

    S states, A actions, K outcomes at most per state and action. Arrays are validated and read-only. Shorter
    lists of outcomes are padded with probability 0 and the state itself. Terminal states absorb: self-loop,
    nothing paid.

    Attributes:
        next_state: [S, A, K] int32, successors.
        probability: [S, A, K] float64, of each successor.
        reward: [S, A, K] float64, what the agent is paid.
        performance: [S, A, K] float64, change of the hidden score.
        side_effect: [S, A, K] float64, side effects that happened less those undone.
        terminal: [S] bool, the episode is over.
        completed: [S] bool, the task is done.
        start: [S] float64, distribution of first states.
        initial_performance: hidden score that an episode begins with.
        situation: [S] int32, what an impact measure sees of each state (`World.situation`), numbered by first
            appearance. The identity where states carry no bookkeeping.
        actions: names of the actions.
        noop: index of the no-op, or None.
        time_limit: steps after which episodes are cut off.
        states: the state of each id.
        draw: the board of a state, uint8 [rows, columns] character codes.
        tiles: sprite that draws each board character.
        feature_names: named features of the states, for measures of features.
        features: of a state, one number for each name.

    Raises:
        ImpactError: an array has the wrong shape, a row of probabilities does not sum to 1, a successor is no
            state, or a terminal state does not absorb.
    """

    next_state: NDArray[np.int32]
    probability: NDArray[np.float64]
    reward: NDArray[np.float64]
    performance: NDArray[np.float64]
    side_effect: NDArray[np.float64]
    terminal: NDArray[np.bool_]
    completed: NDArray[np.bool_]
    start: NDArray[np.float64]
    initial_performance: float
    situation: NDArray[np.int32]
    actions: tuple[str, ...]
    noop: int | None
    time_limit: int
    states: Sequence[Any]
    draw: Callable[[Any], NDArray[np.uint8]]
    tiles: Mapping[str, str]
    feature_names: tuple[str, ...] = ()
    features: Callable[[Any], Sequence[float]] = lambda _: ()

    def __post_init__(self) -> None:
        if self.next_state.ndim != 3:
            raise ImpactError(f"next_state must be [S, A, K], not of shape {self.next_state.shape}")
        shape = self.next_state.shape
        expected: dict[str, tuple[tuple[int, ...], type]] = {
            "next_state": (shape, np.int32),
            **dict.fromkeys(("probability", "reward", "performance", "side_effect"), (shape, np.float64)),
            **dict.fromkeys(("terminal", "completed"), (shape[:1], np.bool_)),
            "start": (shape[:1], np.float64),
            "situation": (shape[:1], np.int32),
        }
        for name, (want, dtype) in expected.items():
            array = getattr(self, name)
            if array.shape != want or array.dtype != dtype:
                raise ImpactError(
                    f"{name} must be {np.dtype(dtype)} of shape {want}, not {array.dtype} of {array.shape}"
                )
        self._check_values()
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                value.flags.writeable = False

    def _check_values(self) -> None:
        count, num_actions, _ = self.next_state.shape
        if len(self.states) != count or len(self.actions) != num_actions:
            raise ImpactError(
                f"{count} states and {num_actions} actions in the arrays, but {len(self.states)} states and "
                f"{len(self.actions)} action names"
            )
        if self.noop is not None and not 0 <= self.noop < num_actions:
            raise ImpactError(f"noop must be None or an action index below {num_actions}, not {self.noop}")
        if self.time_limit < 1:
            raise ImpactError(f"time_limit must be at least 1 step, not {self.time_limit}")
        if count == 0 or self.next_state.min() < 0 or self.next_state.max() >= count:
            raise ImpactError(f"every successor must be a state id from 0 to {count - 1}")
        if (self.probability < 0).any():
            raise ImpactError("probabilities must not be negative")
        wrong = np.argwhere(~(np.abs(self.probability.sum(axis=2) - 1) <= PROBABILITY_TOLERANCE))
        if len(wrong):
            s, a = wrong[0]
            raise ImpactError(
                f"outcome probabilities must sum to 1; they sum to {self.probability[s, a].sum():.12g} for "
                f"action {self.actions[a]!r} in state {self.states[s]!r}"
            )
        if (self.start < 0).any() or not abs(self.start.sum() - 1) <= PROBABILITY_TOLERANCE:
            raise ImpactError(f"start probabilities must sum to 1, not {self.start.sum():.12g}")
        for name in ("reward", "performance", "side_effect"):
            if not np.isfinite(getattr(self, name)).all():
                raise ImpactError(f"{name} must be finite everywhere")
        ends = np.flatnonzero(self.terminal)
        paid = self.reward[ends], self.performance[ends], self.side_effect[ends]
        if (self.next_state[ends] != ends[:, None, None]).any() or any(p.any() for p in paid):
            raise ImpactError("terminal states must absorb: self-loop, reward 0, no hidden change")

    @property
    def num_states(self) -> int:
        """S."""
        return len(self.terminal)

    @property
    def num_actions(self) -> int:
        """A."""
        return len(self.actions)

    @property
    def deterministic(self) -> bool:
        """Whether every action has one outcome."""
        return bool(self.next_state.shape[2] == 1)

    @cached_property
    def _ids(self) -> dict[Hashable, int]:
        return {state: i for i, state in enumerate(self.states)}

    def index(self, state: Hashable) -> int:
        """The id of a world state.

        Raises:
            ImpactError: the state cannot be reached from the start.
        """
        try:
            return self._ids[state]
        except KeyError:
            raise ImpactError(f"{state!r} is none of the {self.num_states} states reachable from the start") from None

    def board_text(self, i: int) -> list[str]:
        """The board of state `i` as a list of strings, in the published characters."""
        return board_text(self.draw(self.states[i]))

    def to_networkx(self) -> "nx.MultiDiGraph[int]":
        """The state graph, for looking at: a node per state, an edge per possible outcome.

        Nodes carry `state`, `terminal`, `completed`; edges `action`, `probability`, `reward`, `performance` and
        `side_effect`.
        """
        import networkx as nx

        graph: nx.MultiDiGraph[int] = nx.MultiDiGraph()
        for i, state in enumerate(self.states):
            graph.add_node(i, state=state, terminal=bool(self.terminal[i]), completed=bool(self.completed[i]))
        for s, a, k in np.argwhere(self.probability > 0):
            graph.add_edge(
                int(s),
                int(self.next_state[s, a, k]),
                action=self.actions[a],
                probability=float(self.probability[s, a, k]),
                reward=float(self.reward[s, a, k]),
                performance=float(self.performance[s, a, k]),
                side_effect=float(self.side_effect[s, a, k]),
            )
        return graph
