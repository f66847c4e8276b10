"""Worlds given as a transition table, as Gymnasium's toy-text environments give theirs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from impactrl.errors import ImpactError
from impactrl.world import Outcome, World

__all__ = ["TableWorld"]


@dataclass(frozen=True, kw_only=True, eq=False)
class TableWorld(World[int]):
    """A world whose states are numbers and whose rules are a table.

    There is no hidden score in such a table: performance is the reward, nothing counts as a side effect, and
    `completed` says no more than that the episode has ended.

    Attributes:
        table: `table[state][action]` lists `(probability, next_state, reward, terminated)`.
        first: probability of each first state.
        actions: names of the actions.
        noop: index of the no-op, or None.
        time_limit: steps after which episodes are cut off.
    """

    table: Mapping[int, Mapping[int, Sequence[tuple[float, int, float, bool]]]]
    first: Sequence[float]
    actions: tuple[str, ...]
    noop: int | None = None
    time_limit: int = 100
    tiles: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_toy_text(cls, env: Any) -> "TableWorld":
        """The world of a toy-text environment (FrozenLake, Taxi, CliffWalking, a user's own).

        Args:
            env: has `P`, `initial_state_distrib` and a Discrete `action_space`.
        """
        count = int(env.action_space.n)
        return cls(
            table=env.P,
            first=tuple(float(p) for p in env.initial_state_distrib),
            actions=tuple(str(a) for a in range(count)),
        )

    def __post_init__(self) -> None:
        goes_on = {successor for _, successor, ended in self._reachable if not ended}
        for state in sorted(self.over & goes_on):
            raise ImpactError(
                f"state {state} ends the episode on some transitions and not on others; number the two apart"
            )

    @cached_property
    def over(self) -> frozenset[int]:
        """The states that end an episode."""
        return frozenset(successor for _, successor, ended in self._reachable if ended)

    @cached_property
    def _reachable(self) -> tuple[tuple[int, int, bool], ...]:
        """State, successor and whether the episode ends, for every transition that an episode can make."""
        found: list[tuple[int, int, bool]] = []
        waiting = [state for _, state in self.start()]
        known = set(waiting)
        while waiting:
            state = waiting.pop()
            row = [
                (state, int(s), bool(ended))
                for outcomes in self.table[state].values()
                for p, s, _, ended in outcomes
                if p > 0
            ]
            found += row
            new = {s for _, s, ended in row if not ended} - known
            known |= new
            waiting += new
        return tuple(found)

    def start(self) -> Sequence[tuple[float, int]]:
        """See `World`."""
        return [(p, s) for s, p in enumerate(self.first) if p > 0]

    def outcomes(self, state: int, action: int) -> Sequence[Outcome[int]]:
        """See `World`."""
        return [
            Outcome(int(s), reward=float(r), performance=float(r), probability=float(p))
            for p, s, r, _ in self.table[state][action]
            if p > 0
        ]

    def terminal(self, state: int) -> bool:
        """See `World`."""
        return state in self.over

    def board(self, state: int) -> NDArray[np.uint8]:
        """The state's number: a table has no picture."""
        return np.frombuffer(f"state {state}".encode(), dtype=np.uint8).reshape(1, -1)
