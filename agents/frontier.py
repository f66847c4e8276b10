"""The exact frontier: every weight at which the optimum under a penalty changes, and what it does in between.

The penalised return of a policy is a line in the weight, return - weight * impact, and the optimum the upper envelope
of all these lines: convex, with as many pieces as there are trade-offs worth making. Between two lines of the envelope
the optimum at their crossing either is another line of it, or proves that there is none. So every piece is found with
two optima for each, whatever its width. The method is known from parametric programming (Eisner and Severance, 1976,
"Mathematical techniques for efficient record segmentation") and from the convex hulls of several rewards (Barrett and
Narayanan, 2008, "Learning all optimal policies with multiple criteria").
"""

import math
from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from impactrl.agents.lines import Line, LineT, WeightedTask, endless_task, finite_task
from impactrl.agents.planner import Planner, expected_columns, fitted
from impactrl.dynamic_programming import TIE_TOLERANCE
from impactrl.errors import ImpactError, real_number
from impactrl.mdp import TabularMDP
from impactrl.measures.impact import Impact
from impactrl.measures.penalty import Penalty
from impactrl.policy_iteration import ROUNDING

__all__ = ["Frontier", "frontier", "trace"]

INSIDE = (3 - math.sqrt(5)) / 2
"""How far inside an interval its policy is computed: an irrational share, where no accident of whole numbers ties."""

SAME = 0.01
"""Two lines are one if they differ by less than this share of the distance to their neighbours."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Frontier:
    """What the optimal agent does at every weight of a penalty.

    Weights are cut into intervals by the critical ones. Throughout the inside of an interval the same actions are
    optimal wherever an optimal policy comes, so one row says all; ties among them are broken as in `solve`, which
    chooses the same. (It takes for ties what differs by less than 1e-9 of the value, so at weights close to 0 it may
    overlook the penalty.) At a critical weight the policies of both neighbours are optimal.

    Several policies may share a line, that is their discounted return and impact, and still differ in the hidden
    columns: the row is that of the one which the tie rule picks. (With discount 0 only the first step counts, and the
    later ones are those of some weight inside.)

    Attributes:
        impact: the fitted penalty.
        weights: [M] critical weights, ascending; M may be 0.
        intervals: M + 1 rows with the columns `lower`, `upper` (weights, from 0 to infinity); `reward`,
            `performance`, `side_effect`, `completed`, `impact` (undiscounted expectations over one episode, as in
            `Solution`); and `discounted_reward`, `discounted_impact` (the optimal penalised value from the start is
            `discounted_reward - weight * discounted_impact`).
        policies: M + 1 arrays, [X] or [T, X] optimal actions.
        steps: length of the episodes that the expectations are over.
    """

    impact: Impact
    weights: NDArray[np.float64]
    intervals: pd.DataFrame
    policies: tuple[NDArray[np.int64], ...]
    steps: int

    def at(self, weight: float) -> pd.Series:
        """The row of `intervals` that holds at a weight; at a critical weight, that of the interval above it.

        At weight 0 this is the limit from above: of the policies with the greatest return, one with the least impact.

        Raises:
            ImpactError: a negative weight.
        """
        weight = real_number("weight", weight)
        if not weight >= 0:
            raise ImpactError(f"weight must be a number of at least 0, not {weight}")
        return self.intervals.iloc[int(np.searchsorted(self.weights, weight, side="right"))]

    @property
    def safe(self) -> NDArray[np.bool_]:
        """[M + 1] the intervals in which no side effect happens and the task is completed, both with certainty."""
        unharmed = self.intervals["side_effect"].abs() <= TIE_TOLERANCE
        done = self.intervals["completed"] >= 1 - TIE_TOLERANCE
        return np.asarray(unharmed & done)

    @property
    def safe_windows(self) -> tuple[tuple[float, float], ...]:
        """The ranges (lower, upper) of safe weights, ascending; safe intervals that touch are one range."""
        ranges = zip(self.safe, self.intervals["lower"], self.intervals["upper"], strict=True)
        joined = [list(group) for safe, group in groupby(ranges, key=lambda row: row[0]) if safe]
        return tuple((float(group[0][1]), float(group[-1][2])) for group in joined)

    @property
    def safe_window(self) -> tuple[float, float] | None:
        """The widest of `safe_windows` in decades, the lowest of equally wide ones; None if no weight is safe."""
        return max(self.safe_windows, key=_decades, default=None)

    @property
    def safe_decades(self) -> float:
        """Width of `safe_window` on a logarithmic scale: log10(upper / lower); 0 without a window."""
        return 0.0 if self.safe_window is None else _decades(self.safe_window)

    @property
    def price_of_safety(self) -> float | None:
        """Task return that the best of the safe intervals gives up against weight 0; None if no weight is safe."""
        if not self.safe.any():
            return None
        return float(self.intervals["reward"].iloc[0] - self.intervals["reward"][self.safe].max())


def frontier(mdp: TabularMDP, penalty: Penalty, *, discount: float = 0.99, horizon: int | None = None) -> Frontier:
    """Every weight at which the optimal policy of a task under a penalty changes, exactly.

    Args:
        mdp: the task.
        penalty: its own weight does not matter.
        discount: of the penalised reward, in [0, 1].
        horizon: plan and evaluate over so many steps; None: the endless problem, evaluated over the level's time
            limit.

    Returns:
        All intervals of weights from 0 to infinity. Left out is what lies less than a share of 1e-9 of the return and
        the penalty above its neighbours: no planner could tell it from a tie. (Beyond a discount of 0.9999, rounding
        makes that share 1e-13 / (1 - discount).)

    Raises:
        ImpactError: settings out of range, a penalty that does not fit the task, or undiscounted values that grow
            without bound at some weight.

    >>> from impactrl.compile import compile_mdp
    >>> curve = frontier(compile_mdp("Box"), Penalty(discount=1.0), discount=1.0)
    >>> curve.weights.round(4).tolist(), curve.intervals["performance"].tolist()
    ([3.2727, 193.5], [35.0, 43.0, 0.0])
    >>> curve.price_of_safety, round(curve.safe_decades, 2)
    (2.0, 1.77)
    """
    return trace(fitted("frontier", mdp, penalty), Planner(discount=discount, horizon=horizon))


def trace(impact: Impact, settings: Planner) -> Frontier:
    """The frontier of a fitted penalty; see `frontier`."""
    if settings.horizon is None:
        return _trace(impact, endless_task(impact, settings.discount))
    return _trace(impact, finite_task(impact, settings.discount, settings.horizon))


def _trace(impact: Impact, task: WeightedTask[LineT]) -> Frontier:
    lines = _envelope(task)
    weights = [_crossing(left, right) for left, right in pairwise(lines)]
    bounds = list(pairwise([0.0, *weights, math.inf]))
    policies = [_policy(task, lines, i, _inside(*bound)) for i, bound in enumerate(bounds)]
    rows = [
        {
            "lower": lower,
            "upper": upper,
            **expected_columns(impact, policy, task.steps),
            "discounted_reward": line.reward,
            "discounted_impact": line.impact,
        }
        for line, policy, (lower, upper) in zip(lines, policies, bounds, strict=True)
    ]
    return Frontier(
        impact=impact,
        weights=np.array(weights, dtype=np.float64),
        intervals=pd.DataFrame(rows),
        policies=tuple(policies),
        steps=task.steps,
    )


def _envelope(task: WeightedTask[LineT]) -> list[LineT]:
    """The lines of the upper envelope over positive weights, steepest last."""
    first, last = task.ends()
    # Return and impact fall along the envelope: none of its lines has larger ones than its ends.
    reward_size = max(abs(first.reward), abs(last.reward))
    impact_size = max(abs(first.impact), abs(last.impact))

    def matters(left: LineT, middle: LineT, right: LineT, weight: float) -> bool:
        gain = middle.at(weight) - max(left.at(weight), right.at(weight))
        return gain > TIE_TOLERANCE * (reward_size + weight * impact_size)

    found, waiting = [first], [last]
    while waiting:
        left, right = found[-1], waiting[-1]
        weight = _crossing(left, right)
        if 0 < weight < math.inf:
            middle = task.best(left, right, weight)
            if matters(left, middle, right, weight):
                waiting.append(middle)
                continue
        # A line may touch the envelope in one point, where it was found, until its neighbours are known.
        while len(found) > 1 and not matters(found[-2], found[-1], right, _crossing(found[-2], right)):
            found.pop()
        found.append(waiting.pop())
    begin = max(i for i, line in enumerate(found) if first.reward - line.reward <= TIE_TOLERANCE * reward_size)
    end = min(i for i, line in enumerate(found) if line.impact - last.impact <= TIE_TOLERANCE * impact_size)
    return found[min(begin, end) : end + 1]


def _crossing(left: Line, right: Line) -> float:
    fall = left.impact - right.impact
    return (left.reward - right.reward) / fall if fall > 0 else math.inf


def _inside(lower: float, upper: float) -> float:
    if upper < math.inf:
        return lower + INSIDE * (upper - lower)
    return lower / INSIDE if lower > 0 else 1 / INSIDE


def _policy(task: WeightedTask[LineT], lines: list[LineT], i: int, weight: float) -> NDArray[np.int64]:
    """The planner's policy at a weight where line i is optimal, ties included unless they lead to another line."""
    policy = task.policy(lines[i], weight, TIE_TOLERANCE)
    own, line, others = task.line(policy), lines[i], lines[max(i - 1, 0) : i] + lines[i + 1 : i + 2]
    apart = any(
        abs(own.reward - line.reward) > SAME * abs(other.reward - line.reward)
        or abs(own.impact - line.impact) > SAME * abs(other.impact - line.impact)
        for other in others
    )
    return task.policy(line, weight, ROUNDING) if apart else policy


def _decades(window: tuple[float, float]) -> float:
    lower, upper = window
    return math.log10(upper / lower) if lower > 0 else math.inf
