"""The exact planner: the best policy under a penalty, and what it does to all five columns."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from impactrl.dynamic_programming import (
    TIE_TOLERANCE,
    action_values,
    episode_columns,
    finite_horizon_action_values,
    greedy,
    optimal_values,
    policy_values,
    stationary,
)
from impactrl.errors import ImpactError, real_number, whole_number
from impactrl.mdp import TabularMDP
from impactrl.measures.impact import Impact
from impactrl.measures.penalty import Penalty

__all__ = ["Planner", "Solution", "plan", "solve"]


@dataclass(frozen=True, kw_only=True)
class Planner:
    """Settings of the exact planner.

    Attributes:
        discount: of the penalised reward, in [0, 1].
        horizon: plan for this many steps and evaluate over them; None: plan for ever, evaluate over the level's
            time limit.
    """

    discount: float = 0.99
    horizon: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "discount", real_number("discount", self.discount))
        if not 0 <= self.discount <= 1:
            raise ImpactError(f"discount must be in [0, 1], not {self.discount}")
        if self.horizon is not None:
            object.__setattr__(self, "horizon", whole_number("horizon", self.horizon, at_least=1))


@dataclass(frozen=True, kw_only=True, eq=False)
class Solution:
    """An optimal policy and what to expect of it.

    The `expected_*` columns are undiscounted expectations over one episode from the start, cut off at the time
    limit (or the horizon): the same quantities as at the end of an episode in the environment.

    Attributes:
        impact: the fitted penalty; its X states number everything here.
        q: [X, A] action values of the penalised task, or [T, X, A] with a horizon.
        policy: [X] or [T, X] optimal actions, ties to the lowest index.
        value: expected discounted penalised return from the start.
        expected_reward: task return.
        expected_performance: hidden score.
        expected_side_effect: count.
        expected_completed: probability that the task is done in the end.
        expected_impact: summed penalty at weight 1.
        steps: length of the episodes that the expectations are over.
    """

    impact: Impact
    q: NDArray[np.float64]
    policy: NDArray[np.int64]
    value: float
    expected_reward: float
    expected_performance: float
    expected_side_effect: float
    expected_completed: float
    expected_impact: float
    steps: int

    def actions(self) -> list[int]:
        """The actions of one episode, following the likeliest outcome; they stop where the state stays for good."""
        mdp = self.impact.mdp
        policy = stationary(self.policy)
        x, taken = int(np.argmax(mdp.start)), []
        for t in range(self.steps):
            if mdp.terminal[x]:
                break
            a = int(policy[min(t, len(policy) - 1), x])
            possible = mdp.next_state[x, a][mdp.probability[x, a] > 0]
            if (possible == x).all() and self.policy.ndim == 1:
                break
            taken.append(a)
            x = int(mdp.next_state[x, a, np.argmax(mdp.probability[x, a])])
        return taken


def solve(
    mdp: TabularMDP, penalty: Penalty | None = None, *, discount: float = 0.99, horizon: int | None = None
) -> Solution:
    """The exact optimum of a task under a penalty.

    Args:
        mdp: the task.
        penalty: None for none.
        discount: of the penalised reward, in [0, 1].
        horizon: plan and evaluate over so many steps, by backward induction; None: the discounted endless problem,
            evaluated over the level's time limit.

    Raises:
        ImpactError: settings out of range, a penalty that does not fit the task, or undiscounted values that
            grow without bound.

    >>> from impactrl.compile import compile_mdp
    >>> best = solve(compile_mdp("Options"), Penalty(weight=1.0), discount=0.99)
    >>> best.expected_performance, best.expected_side_effect, len(best.actions())
    (1.0, 0.0, 7)
    """
    impact = fitted("solve", mdp, penalty or Penalty(deviation="none"))
    return plan(impact, Planner(discount=discount, horizon=horizon), impact.penalty.weight)


def fitted(caller: str, mdp: TabularMDP, penalty: Penalty) -> Impact:
    """A penalty fitted to a task; `caller` is the function named to those who pass something else."""
    if not isinstance(mdp, TabularMDP):
        raise ImpactError(f"{caller} needs the arrays of a task, compile_mdp({mdp!r}), not {type(mdp).__name__}")
    if not isinstance(penalty, Penalty):
        raise ImpactError(f"{caller} needs a Penalty(...), not {penalty!r}")
    return penalty.fit(mdp)


def plan(impact: Impact, settings: Planner, weight: float) -> Solution:
    """The exact optimum of a fitted penalty at any weight; see `solve`."""
    mdp = impact.mdp
    continuing = continuing_probability(mdp)
    reward = (mdp.probability * impact.penalised_reward(weight)).sum(axis=2)
    if settings.horizon is None:
        steps = mdp.time_limit
        values = optimal_values(mdp.next_state, continuing, reward, discount=settings.discount).values
        q, policy = best_actions(mdp, continuing, reward, values, discount=settings.discount)
        first = q
    else:
        steps = settings.horizon
        q = finite_horizon_action_values(mdp.next_state, continuing, reward, discount=settings.discount, horizon=steps)
        policy, first = greedy(q), q[0]
    return Solution(
        impact=impact,
        q=q,
        policy=policy,
        value=float(mdp.start @ first.max(axis=1)),
        **{f"expected_{column}": value for column, value in expected_columns(impact, policy, steps).items()},
        steps=steps,
    )


def continuing_probability(mdp: TabularMDP) -> NDArray[np.float64]:
    """[X, A, K] probability of each successor, 0 where the episode ends with it."""
    return np.where(mdp.terminal[mdp.next_state], 0.0, mdp.probability)


def expected_columns(impact: Impact, policy: NDArray[np.int64], steps: int) -> dict[str, float]:
    """The five columns of a policy, [X] or [T, X], by their names: undiscounted, over one episode of so many steps."""
    mdp = impact.mdp
    sums, last = episode_columns(
        mdp.next_state, mdp.probability, impact.columns, mdp.terminal, mdp.start, stationary(policy), steps
    )
    return {
        "reward": float(sums[0]),
        "performance": float(sums[1] + mdp.initial_performance),
        "side_effect": float(sums[2]),
        "completed": float(last @ mdp.completed),
        "impact": float(sums[3]),
    }


def best_actions(
    mdp: TabularMDP,
    continuing: NDArray[np.float64],
    reward: NDArray[np.float64],
    values: NDArray[np.float64],
    *,
    discount: float,
    tolerance: float = TIE_TOLERANCE,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Action values [X, A] and the policy [X] of an endless plan, given its optimal values; ties to the lowest index.

    Raises:
        ImpactError: no stationary policy reaches the values without a discount.
    """
    q = action_values(mdp.next_state, continuing, reward, values, discount=discount)
    policy = greedy(q, tolerance)
    if discount < 1:
        return q, policy
    # Undiscounted, putting a payment off for ever ties with taking it. Of all optimal actions take those that need the
    # fewest steps until nothing more is to be had.
    optimal = q >= np.take_along_axis(q, policy[:, None], axis=1) - tolerance
    waiting = np.where(np.abs(values) > tolerance, -1.0, 0.0)
    cost = np.where(optimal, waiting[:, None], -np.inf)
    haste = optimal_values(mdp.next_state, continuing, cost, discount=1.0).values
    policy = greedy(action_values(mdp.next_state, continuing, cost, haste, discount=1.0))
    reached = policy_values(mdp.next_state, continuing, reward, policy, discount=1.0).values
    # Every step may have given up a tie's worth.
    if not np.allclose(reached, values, rtol=1e-6, atol=1e-6):
        raise ImpactError("no stationary policy reaches the undiscounted optimum; use a discount below 1")
    return q, policy
