"""Policies as lines in the penalty weight, return - weight * impact, and the optimal one at a weight or at either end.

A task is either endless or has a horizon. For both, the line of a policy is its discounted return and impact, expected
from the start.
"""

from dataclasses import dataclass
from typing import Protocol, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

from impactrl.agents.planner import best_actions, continuing_probability
from impactrl.dynamic_programming import finite_horizon_action_values, greedy
from impactrl.mdp import TabularMDP
from impactrl.measures.impact import Impact
from impactrl.policy_iteration import (
    ROUNDING,
    Dynamics,
    dynamics,
    optimum,
    stationary_values,
    without_waiting,
)

__all__ = ["Line", "LineT", "WeightedTask", "endless_task", "finite_task"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Line:
    """What a policy is worth at every weight.

    Attributes:
        reward: discounted task return.
        impact: discounted sum of penalties at weight 1.
    """

    reward: float
    impact: float

    def at(self, weight: float) -> float:
        """Penalised return."""
        return self.reward - weight * self.impact


@dataclass(frozen=True, kw_only=True, eq=False)
class StationaryLine(Line):
    """The line of a stationary policy.

    Attributes:
        policy: [X] actions or `STOP`.
        values: [X, 2] return and impact from every state.
    """

    policy: NDArray[np.int64]
    values: NDArray[np.float64]


LineT = TypeVar("LineT", bound=Line)


class WeightedTask(Protocol[LineT]):
    """A task whose optimum depends on the weight of a penalty."""

    @property
    def steps(self) -> int:
        """Length of the episodes that columns are expected over."""

    def ends(self) -> tuple[LineT, LineT]:
        """The lines that are optimal just above weight 0 and above all critical weights."""

    def best(self, left: LineT, right: LineT, weight: float) -> LineT:
        """The line of an optimal policy at a weight between those where two others are optimal."""

    def policy(self, line: LineT, weight: float, tolerance: float) -> NDArray[np.int64]:
        """The policy that `plan` would choose at a weight where `line` is optimal; [X], or [T, X] with a horizon."""

    def line(self, policy: NDArray[np.int64]) -> Line:
        """The line of such a policy."""


def endless_task(impact: Impact, discount: float) -> WeightedTask[StationaryLine]:
    """The endless task under a fitted penalty.

    Raises:
        ImpactError: without a discount, values grow without bound.
    """
    mdp = impact.mdp
    continuing, payments = continuing_probability(mdp), _payments(impact)
    ends = np.any(mdp.terminal[mdp.next_state] & (mdp.probability > 0), axis=2)
    moves = dynamics(mdp.next_state, continuing, ends, payments, discount=discount)
    return _Endless(mdp=mdp, continuing=continuing, payments=payments, discount=discount, moves=moves)


def finite_task(impact: Impact, discount: float, steps: int) -> WeightedTask[Line]:
    """The task of so many steps under a fitted penalty."""
    continuing = continuing_probability(impact.mdp)
    return _Finite(mdp=impact.mdp, continuing=continuing, payments=_payments(impact), discount=discount, steps=steps)


def _payments(impact: Impact) -> NDArray[np.float64]:
    """[X, A, 2] expected reward and unit penalty."""
    columns = (impact.mdp.reward, impact.unit_penalty)
    return np.stack([(impact.mdp.probability * column).sum(axis=2) for column in columns], axis=2)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Endless:
    mdp: TabularMDP
    continuing: NDArray[np.float64]
    payments: NDArray[np.float64]
    discount: float
    moves: Dynamics

    @property
    def steps(self) -> int:
        return self.mdp.time_limit

    def ends(self) -> tuple[StationaryLine, StationaryLine]:
        reward, saved = np.ascontiguousarray(self.payments[:, :, 0]), -self.payments[:, :, 1]
        left = self._lexicographic(reward, saved, self.moves.first)
        return left, self._lexicographic(saved, reward, left.policy)

    def best(self, left: StationaryLine, right: StationaryLine, weight: float) -> StationaryLine:
        # Whichever of the two policies is better in each state is at least as good as both in all states.
        worth = [line.values @ (1.0, -weight) for line in (left, right)]
        begin = np.where(worth[0] >= worth[1], left.policy, right.policy)
        return self._stationary(optimum(self.moves, self._paid(weight), begin)[0])

    def policy(self, line: StationaryLine, weight: float, tolerance: float) -> NDArray[np.int64]:
        paid = self._paid(weight)
        _, values = optimum(self.moves, paid, line.policy)
        _, policy = best_actions(self.mdp, self.continuing, paid, values, discount=self.discount, tolerance=tolerance)
        return policy

    def line(self, policy: NDArray[np.int64]) -> StationaryLine:
        return self._stationary(without_waiting(self.moves, policy) if self.moves.undiscounted else policy)

    def _lexicographic(
        self, primary: NDArray[np.float64], secondary: NDArray[np.float64], begin: NDArray[np.int64]
    ) -> StationaryLine:
        """The policy that earns the most of one payment, and among those of the other."""
        policy, values = optimum(self.moves, primary, begin)
        slack = ROUNDING * np.abs(values).max()
        q = primary + (self.moves.factor * values[self.mdp.next_state]).sum(axis=2)
        within, stop = q >= values[:, None] - slack, self.moves.stop & (values <= slack)
        return self._stationary(optimum(self.moves, secondary, policy, within=within, stop=stop)[0])

    def _stationary(self, policy: NDArray[np.int64]) -> StationaryLine:
        values = stationary_values(self.moves, self.payments, policy)
        reward, impact = self.mdp.start @ values
        return StationaryLine(reward=float(reward), impact=float(impact), policy=policy, values=values)

    def _paid(self, weight: float) -> NDArray[np.float64]:
        paid: NDArray[np.float64] = self.payments[:, :, 0] - weight * self.payments[:, :, 1]
        return paid


@dataclass(frozen=True, kw_only=True, eq=False)
class _Finite:
    mdp: TabularMDP
    continuing: NDArray[np.float64]
    payments: NDArray[np.float64]
    discount: float
    steps: int

    def ends(self) -> tuple[Line, Line]:
        return self._best((1.0, 0.0), (0.0, -1.0)), self._best((0.0, -1.0), (1.0, 0.0))

    def best(self, left: Line, right: Line, weight: float) -> Line:  # noqa: ARG002
        return self._best((1.0, -weight), (0.0, -1.0))

    def policy(self, line: Line, weight: float, tolerance: float) -> NDArray[np.int64]:  # noqa: ARG002
        paid = self.payments[:, :, 0] - weight * self.payments[:, :, 1]
        q = finite_horizon_action_values(
            self.mdp.next_state, self.continuing, paid, discount=self.discount, horizon=self.steps
        )
        return greedy(q, tolerance)

    def line(self, policy: NDArray[np.int64]) -> Line:
        rows = np.arange(self.mdp.num_states)
        values = np.zeros((self.mdp.num_states, 2))
        for actions in policy[::-1]:
            share = self.discount * self.continuing[rows, actions]
            following = values[self.mdp.next_state[rows, actions]]
            values = self.payments[rows, actions] + (share[:, :, None] * following).sum(axis=1)
        return self._from_start(values)

    def _best(self, first: tuple[float, float], then: tuple[float, float]) -> Line:
        return self._from_start(
            _backward(self.mdp.next_state, self.discount * self.continuing, self.payments, self.steps, first, then)
        )

    def _from_start(self, values: NDArray[np.float64]) -> Line:
        reward, impact = self.mdp.start @ values
        return Line(reward=float(reward), impact=float(impact))


@numba.njit(cache=True, nogil=True)
def _backward(
    next_state: NDArray[np.int32],
    factor: NDArray[np.float64],
    payments: NDArray[np.float64],
    steps: int,
    first: tuple[float, float],
    then: tuple[float, float],
) -> NDArray[np.float64]:
    """[X, 2]: return and impact of the plan that earns most by the weights `first`, and among those by `then`."""
    count, num_actions, num_outcomes = next_state.shape
    values, following = np.zeros((count, 2)), np.zeros((count, 2))
    reward, impact = np.empty(num_actions), np.empty(num_actions)
    for _ in range(steps):
        largest = 0.0
        for x in range(count):
            largest = max(largest, abs(first[0] * following[x, 0] + first[1] * following[x, 1]))
        for x in range(count):
            best = -np.inf
            for a in range(num_actions):
                r, i = payments[x, a, 0], payments[x, a, 1]
                for k in range(num_outcomes):
                    y = next_state[x, a, k]
                    r += factor[x, a, k] * following[y, 0]
                    i += factor[x, a, k] * following[y, 1]
                reward[a], impact[a] = r, i
                best = max(best, first[0] * r + first[1] * i)
            least, second = best - ROUNDING * max(largest, abs(best)), -np.inf
            for a in range(num_actions):
                if first[0] * reward[a] + first[1] * impact[a] >= least:
                    score = then[0] * reward[a] + then[1] * impact[a]
                    if score > second:
                        second = score
                        values[x, 0], values[x, 1] = reward[a], impact[a]
        values, following = following, values
    return following
