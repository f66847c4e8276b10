"""Bellman equations on arrays: optimal values, values of a policy, expected columns of an episode.

Index order throughout: state, action, outcome. Where an episode ends, the successor's probability is 0
(`continuing`), so that nothing after it counts.
"""

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from impactrl.errors import ImpactError

__all__ = [
    "Values",
    "action_values",
    "episode_columns",
    "finite_horizon_action_values",
    "greedy",
    "optimal_values",
    "policy_values",
    "stationary",
]

TIE_TOLERANCE = 1e-9
MAX_SWEEPS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Values:
    """A solution of a Bellman equation and how good it is.

    Attributes:
        values: [S] float64.
        residual: largest change in the last sweep; the error is at most `residual * discount / (1 - discount)`.
        sweeps: how many it took.
    """

    values: NDArray[np.float64]
    residual: float
    sweeps: int


def optimal_values(
    next_state: NDArray[np.int32],
    continuing: NDArray[np.float64],
    reward: NDArray[np.float64],
    *,
    discount: float,
    tolerance: float = 1e-10,
) -> Values:
    """Solves `V(s) = max_a reward(s, a) + discount * sum_k continuing(s, a, k) V(next_state(s, a, k))`.

    Gauss-Seidel value iteration from V = 0, until the error is at most `tolerance` or rounding allows no better.

    Args:
        next_state: [S, A, K] int32.
        continuing: [S, A, K] probability of each successor, 0 where the episode ends with it.
        reward: [S, A] expected reward; minus infinity where an action is not available.
        discount: in [0, 1]. With 1, what cannot end must cost nothing or be avoidable.
        tolerance: absolute, on the values.

    Raises:
        ImpactError: a discount outside [0, 1], or undiscounted values that grow without bound.
    """
    if not 0 <= discount <= 1:
        raise ImpactError(f"discount must be in [0, 1], not {discount}")
    threshold = tolerance * (1 - discount) / max(discount, tolerance) if discount < 1 else tolerance * 1e-3
    values, residual, sweeps = _value_iteration(next_state, continuing, reward, discount, threshold, MAX_SWEEPS)
    if sweeps == MAX_SWEEPS or not np.isfinite(residual):
        raise ImpactError(
            f"values with discount {discount} did not settle in {sweeps} sweeps: some state pays or costs for ever. "
            "Use a discount below 1, or a finite horizon"
        )
    return Values(values=values, residual=residual, sweeps=sweeps)


def policy_values(
    next_state: NDArray[np.int32],
    continuing: NDArray[np.float64],
    reward: NDArray[np.float64],
    policy: NDArray[np.int64],
    *,
    discount: float,
    tolerance: float = 1e-10,
) -> Values:
    """The values of a deterministic stationary policy, [S] actions; else as `optimal_values`."""
    rows = np.arange(len(policy))
    return optimal_values(
        np.ascontiguousarray(next_state[rows, policy][:, None]),
        np.ascontiguousarray(continuing[rows, policy][:, None]),
        np.ascontiguousarray(reward[rows, policy][:, None]),
        discount=discount,
        tolerance=tolerance,
    )


def action_values(
    next_state: NDArray[np.int32],
    continuing: NDArray[np.float64],
    reward: NDArray[np.float64],
    values: NDArray[np.float64],
    *,
    discount: float,
) -> NDArray[np.float64]:
    """[S, A] `reward + discount * E[values(successor)]`."""
    expected: NDArray[np.float64] = reward + discount * (continuing * values[next_state]).sum(axis=2)
    return expected


def finite_horizon_action_values(
    next_state: NDArray[np.int32],
    continuing: NDArray[np.float64],
    reward: NDArray[np.float64],
    *,
    discount: float,
    horizon: int,
) -> NDArray[np.float64]:
    """Optimal action values by backward induction.

    Returns:
        [horizon, S, A] float64: entry t is for step t, with `horizon - t` steps to go.
    """
    q = np.empty((horizon, *reward.shape))
    values = np.zeros(len(reward))
    for t in range(horizon - 1, -1, -1):
        q[t] = action_values(next_state, continuing, reward, values, discount=discount)
        values = q[t].max(axis=1)
    return q


def greedy(q: NDArray[np.float64], tolerance: float = TIE_TOLERANCE) -> NDArray[np.int64]:
    """The best actions, [..., A] to [...]; ties, within `tolerance` of the best or of 1, go to the lowest index.

    >>> greedy(np.array([[0.0, 0.3, 0.1 + 0.2], [1.0, 1.0, 1.0]])).tolist()
    [1, 0]
    """
    best = q.max(axis=-1, keepdims=True)
    actions: NDArray[np.int64] = np.argmax(q >= best - tolerance * np.maximum(1.0, np.abs(best)), axis=-1)
    return actions


def stationary(policy: NDArray[np.int64]) -> NDArray[np.int64]:
    """A policy [S] or [T, S] in the form [T, S] that `episode_columns` takes; its last row is repeated."""
    return np.atleast_2d(policy)


@numba.njit(cache=True, nogil=True)
def _value_iteration(
    next_state: NDArray[np.int32],
    continuing: NDArray[np.float64],
    reward: NDArray[np.float64],
    discount: float,
    threshold: float,
    max_sweeps: int,
) -> tuple[NDArray[np.float64], float, int]:
    count, num_actions, num_outcomes = next_state.shape
    values = np.zeros(count)
    residual = np.inf
    for sweep in range(1, max_sweeps + 1):
        residual, largest = 0.0, 0.0
        # States are numbered away from the start, rewards lie ahead: backwards is the fast direction.
        for s in range(count - 1, -1, -1):
            best = -np.inf
            for a in range(num_actions):
                total = 0.0
                for k in range(num_outcomes):
                    total += continuing[s, a, k] * values[next_state[s, a, k]]
                best = max(best, reward[s, a] + discount * total)
            residual = max(residual, abs(best - values[s]))
            values[s] = best
            largest = max(largest, abs(best))
        if residual <= max(threshold, 4e-16 * largest) or not np.isfinite(residual):
            return values, residual, sweep
    return values, residual, max_sweeps


@numba.njit(cache=True, nogil=True)
def episode_columns(
    next_state: NDArray[np.int32],
    probability: NDArray[np.float64],
    columns: NDArray[np.float64],
    terminal: NDArray[np.bool_],
    start: NDArray[np.float64],
    policy: NDArray[np.int64],
    steps: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Exact undiscounted sums over one episode of a policy.

    Args:
        next_state: [S, A, K] int32.
        probability: [S, A, K].
        columns: [S, A, K, C], what each transition adds.
        terminal: [S], where episodes end.
        start: [S] distribution of first states.
        policy: [T, S] actions; after T steps the last row goes on.
        steps: the time limit.

    Returns:
        [C] expected sums, and [S] the distribution of last states.
    """
    count, _, num_outcomes = next_state.shape
    sums = np.zeros(columns.shape[3])
    here, there = start.copy(), np.zeros(count)
    # Only the states that carry mass are visited: one per step where everything is deterministic.
    active, following = np.empty(count, dtype=np.int64), np.empty(count, dtype=np.int64)
    first = np.flatnonzero(start)
    num_active = len(first)
    active[:num_active] = first
    for t in range(steps):
        row = min(t, len(policy) - 1)
        num_following = 0
        moving = False
        for i in range(num_active):
            s = active[i]
            mass = here[s]
            here[s] = 0.0
            if terminal[s]:
                if there[s] == 0.0:
                    following[num_following] = s
                    num_following += 1
                there[s] += mass
                continue
            moving = True
            a = policy[row, s]
            for k in range(num_outcomes):
                share = mass * probability[s, a, k]
                if share > 0.0:
                    for c in range(len(sums)):
                        sums[c] += share * columns[s, a, k, c]
                    successor = next_state[s, a, k]
                    if there[successor] == 0.0:
                        following[num_following] = successor
                        num_following += 1
                    there[successor] += share
        here, there = there, here
        active, following = following, active
        num_active = num_following
        if not moving:
            break
    return sums, here
