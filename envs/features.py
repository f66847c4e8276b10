"""The base of the levels of Shah et al. (2019): states are worth weights times features."""

from abc import abstractmethod
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from typing import Literal, TypeVar

from impactrl.errors import ImpactError, require_one_of
from impactrl.world import GridWorld, Outcome

__all__ = ["FeatureWorld"]

S = TypeVar("S", bound=Hashable)


@dataclass(frozen=True)
class FeatureWorld(GridWorld[S]):
    """What the levels of Shah et al. share: a human has been acting, then the agent takes over.

    A state s is worth w · f(s) to the agent, with the weights `specified` for w, and to the designer with the weights
    `true`. The program pays 20 visited states, the first one included. So here a step pays for the state that it
    leaves, and episodes have 20 steps; nobody pays for the state after the last step. A plan for exactly 20 steps
    therefore does not care about its last action, and as ties go to the lowest index it takes a step north. It is that
    last state that `side_effect` and `completed` of a whole episode are about.

    The grid has no frame: a move that would leave it is blocked, as is one into `walls`. On the map `.` is floor and
    `A` is where the human started. Nothing ends an episode but its length.

    Attributes:
        specified: weights of the features that the agent is told.
        true: weights of the features that the designer means.
        start_from: "current", the state that the human left behind, or "human", the one that the human found.

    Raises:
        ImpactError: the wrong number of weights, a weight that is no finite number, or another `start_from`.
    """

    specified: tuple[float, ...] = ()
    true: tuple[float, ...] = ()
    start_from: Literal["current", "human"] = "current"

    actions = ("north", "south", "east", "west", "stay")
    noop = 4
    time_limit = 20

    def __post_init__(self) -> None:
        require_one_of("start_from", self.start_from, ("current", "human"))
        for name in ("specified", "true"):  # a list, as it comes out of JSON, could not be hashed
            object.__setattr__(self, name, self._weights(name, getattr(self, name)))

    def _weights(self, name: str, given: Iterable[float]) -> tuple[float, ...]:
        try:
            weights = () if isinstance(given, str) else tuple(float(weight) for weight in given)
        except (TypeError, ValueError):
            weights = ()
        if len(weights) != len(self.feature_names) or not all(map(isfinite, weights)):
            raise ImpactError(
                f"{name} must be {len(self.feature_names)} finite numbers, the weights of "
                f"{', '.join(self.feature_names)}; not {given!r}"
            )
        return weights

    @abstractmethod
    def human_start(self) -> S:
        """The state that the human found."""

    @abstractmethod
    def current(self) -> S:
        """The state that the human left behind."""

    @abstractmethod
    def features(self, state: S) -> tuple[float, ...]:
        """f(s), one number for each of `feature_names`."""

    @abstractmethod
    def effects(self, state: S) -> float:
        """How many side effects there are in `state`."""

    @abstractmethod
    def successors(self, state: S, action: int) -> Sequence[tuple[float, S]]:
        """Where `action` can lead to, with probabilities."""

    @cached_property
    def ahead(self) -> tuple[tuple[int, ...], ...]:
        """For every cell the one that each of the first five actions leads towards: itself at the edge."""
        rows, columns = self.shape
        return tuple(
            (
                cell - columns if cell >= columns else cell,
                cell + columns if cell < (rows - 1) * columns else cell,
                cell + 1 if (cell + 1) % columns else cell,
                cell - 1 if cell % columns else cell,
                cell,
            )
            for cell in range(rows * columns)
        )

    @cached_property
    def moves(self) -> tuple[tuple[int, ...], ...]:
        """As `ahead`, but the cell itself where the way is blocked."""
        return tuple(
            tuple(cell if target in self.walls else target for target in targets)
            for cell, targets in enumerate(self.ahead)
        )

    def by_column(self, characters: str) -> tuple[int, ...]:
        """Where any of `characters` is on the map, ordered by column, then row, as the published features are."""
        columns = self.shape[1]
        cells = (cell for character in characters for cell in self.cells(character))
        return tuple(sorted(cells, key=lambda cell: (cell % columns, cell // columns)))

    @cached_property
    def goals(self) -> tuple[int, ...]:
        """The cells that the last features are about."""
        return self.by_column("G")

    @cached_property
    def targets(self) -> frozenset[int]:
        """The goals that the agent is sent to: those with a positive weight in `specified`."""
        weights = self.specified[len(self.specified) - len(self.goals) :]
        return frozenset(goal for goal, weight in zip(self.goals, weights, strict=True) if weight > 0)

    def start(self) -> Sequence[tuple[float, S]]:
        """See `World`."""
        return [(1.0, self.current() if self.start_from == "current" else self.human_start())]

    def outcomes(self, state: S, action: int) -> Sequence[Outcome[S]]:
        """See `World`."""
        features, effects = self.features(state), self.effects(state)
        reward, performance = _dot(self.specified, features), _dot(self.true, features)
        return [
            Outcome(after, reward, performance, self.effects(after) - effects, probability)
            for probability, after in self.successors(state, action)
        ]

    def terminal(self, state: S) -> bool:  # noqa: ARG002
        """Never: episodes run to the time limit."""
        return False


def _dot(weights: tuple[float, ...], features: tuple[float, ...]) -> float:
    return sum((w * f for w, f in zip(weights, features, strict=True)), 0.0)
