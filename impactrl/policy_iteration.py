"""Policy iteration: optima that are solved for and checked, not approached.

Howard (1960), "Dynamic Programming and Markov Processes". Without a discount it is that of stochastic shortest paths
(Bertsekas and Tsitsiklis, 1991): only policies that come to an end, or to a place where they can stay for nothing, have
a value.
"""

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import splu

from impactrl.errors import ImpactError

__all__ = ["ROUNDING", "STOP", "Dynamics", "dynamics", "optimum", "stationary_values", "without_waiting"]

STOP = -1
"""In place of an action: stay for nothing, for ever."""

ROUNDING = 1e-13
"""Differences below this share of the largest value are rounding."""

MAX_IMPROVEMENTS = 10_000
UNBOUNDED = (
    "values with discount 1 grow without bound: some state pays or costs for ever. "
    "Use a discount below 1, or a finite horizon"
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Dynamics:
    """How a task goes on.

    Attributes:
        next_state: [X, A, K] int32.
        factor: [X, A, K] discount times the probability of each successor, 0 where the episode ends with it.
        ends: [X, A] whether the action may end the episode.
        free: [X, A] whether the action is paid nothing; nowhere if there is a discount.
        stop: [X] where the agent can stay for ever at no charge, by free actions alone.
        undiscounted: whether the discount is 1.
        first: [X] a policy that comes to an end or a stop for certain; any policy if there is a discount.
    """

    next_state: NDArray[np.int32]
    factor: NDArray[np.float64]
    ends: NDArray[np.bool_]
    free: NDArray[np.bool_]
    stop: NDArray[np.bool_]
    undiscounted: bool
    first: NDArray[np.int64]


def dynamics(
    next_state: NDArray[np.int32],
    continuing: NDArray[np.float64],
    ends: NDArray[np.bool_],
    payments: NDArray[np.float64],
    *,
    discount: float,
) -> Dynamics:
    """Prepares a task for policy iteration.

    Args:
        next_state: [X, A, K] int32.
        continuing: [X, A, K] probability of each successor, 0 where the episode ends with it.
        ends: [X, A] whether the action may end the episode.
        payments: [X, A, C] expected payments of each kind; what is free pays nothing of any kind.
        discount: in [0, 1].

    Raises:
        ImpactError: without a discount, from some state every policy goes on paying for ever.
    """
    undiscounted = discount == 1
    free = np.zeros(ends.shape, dtype=np.bool_)
    stop = np.zeros(len(ends), dtype=np.bool_)
    first = np.zeros(len(ends), dtype=np.int64)
    if undiscounted:
        size = np.abs(payments).max(axis=(0, 1))
        free = (np.abs(payments) <= ROUNDING * size).all(axis=2)
        stop = _stays(next_state, continuing, free)
        first, certain = _towards_an_end(next_state, continuing, ends, stop, np.ones_like(free))
        if not certain:
            raise ImpactError(UNBOUNDED)
    return Dynamics(
        next_state=next_state,
        factor=discount * continuing,
        ends=ends,
        free=free,
        stop=stop,
        undiscounted=undiscounted,
        first=first,
    )


def stationary_values(task: Dynamics, payments: NDArray[np.float64], policy: NDArray[np.int64]) -> NDArray[np.float64]:
    """[X, C]: the values of a policy, of every kind of payment at once, by solving its linear system.

    Where every action has one outcome, the policy's path is followed to its end or round its cycle; else a sparse LU
    decomposition.

    Args:
        task: how it goes on.
        payments: [X, A, C] expected payments.
        policy: [X] actions or `STOP`.

    Raises:
        ImpactError: without a discount, the policy comes to no end.
    """
    if task.next_state.shape[2] == 1:
        values, bounded = _followed(task.next_state, task.factor, payments, policy)
    else:
        values, bounded = _solved(task, payments, policy)
    if not bounded:
        raise ImpactError(UNBOUNDED)
    return values


def optimum(
    task: Dynamics,
    paid: NDArray[np.float64],
    policy: NDArray[np.int64],
    *,
    within: NDArray[np.bool_] | None = None,
    stop: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The best policy: no action anywhere is better than the one it takes, by more than rounding.

    Args:
        task: how it goes on.
        paid: [X, A] expected payment.
        policy: [X] where to start; without a discount, one that comes to an end.
        within: [X, A] the actions allowed, None for all.
        stop: [X] where stopping is allowed, None for all stops of the task.

    Returns:
        [X] actions or `STOP`, and [X] its values.

    Raises:
        ImpactError: values without bound.
    """
    within = np.ones(paid.shape, dtype=np.bool_) if within is None else within
    stop = task.stop if stop is None else stop
    column = paid[:, :, None]
    for _ in range(MAX_IMPROVEMENTS):
        values = stationary_values(task, column, policy)[:, 0]
        policy, changed = _improved(task.next_state, task.factor, paid, values, policy, within, stop, ROUNDING)
        if not changed:
            return policy, values
    raise ImpactError(f"policy iteration did not settle in {MAX_IMPROVEMENTS} improvements; use a smaller discount")


def without_waiting(task: Dynamics, policy: NDArray[np.int64]) -> NDArray[np.int64]:
    """A policy of actions alone with `STOP` wherever, from then on, all it does is free; as evaluation takes it."""
    taken = np.zeros(task.free.shape, dtype=np.bool_)
    taken[np.arange(len(policy)), policy] = True
    return np.where(_stays(task.next_state, task.factor, task.free & taken), STOP, policy)


def _solved(
    task: Dynamics, payments: NDArray[np.float64], policy: NDArray[np.int64]
) -> tuple[NDArray[np.float64], bool]:
    count, _, num_outcomes = task.next_state.shape
    rows = np.arange(count)
    going = policy != STOP
    taken = np.where(going, policy, 0)
    if task.undiscounted:
        only = np.zeros(task.free.shape, dtype=np.bool_)
        only[rows, taken] = going
        if not _towards_an_end(task.next_state, task.factor, task.ends, ~going, only)[1]:
            return np.zeros((count, payments.shape[2])), False
    factor = np.where(going[:, None], task.factor[rows, taken], 0.0)
    moves = sparse.csc_array(
        (factor.ravel(), (np.repeat(rows, num_outcomes), task.next_state[rows, taken].ravel())), shape=(count, count)
    )
    paid = np.where(going[:, None], payments[rows, taken], 0.0)
    solution: NDArray[np.float64] = splu(sparse.eye_array(count, format="csc") - moves).solve(paid)
    return solution, True


@numba.njit(cache=True, nogil=True)
def _followed(
    next_state: NDArray[np.int32],
    factor: NDArray[np.float64],
    payments: NDArray[np.float64],
    policy: NDArray[np.int64],
) -> tuple[NDArray[np.float64], bool]:
    unseen, known = -1, -2
    count, columns = len(policy), payments.shape[2]
    values = np.zeros((count, columns))
    place = np.full(count, unseen)
    path = np.empty(count, dtype=np.int64)
    for begin in range(count):
        x, length, over = begin, 0, False
        while place[x] == unseen and not over:
            place[x] = length
            path[length] = x
            length += 1
            a = policy[x]
            over = a == STOP or factor[x, a, 0] == 0
            if not over:
                x = next_state[x, a, 0]
        if not over and place[x] != known:
            # The path has come back to x. Once round the cycle, V(x) = total + (1 - missing) V(x); `missing` is
            # summed from positive terms, so that it is exact however close to 1 the discount is.
            weight, missing = 1.0, 0.0
            for i in range(place[x], length):
                y = path[i]
                a = policy[y]
                for c in range(columns):
                    values[x, c] += weight * payments[y, a, c]
                missing += weight * (1 - factor[y, a, 0])
                weight *= factor[y, a, 0]
            if missing <= 0:
                return values, False
            for c in range(columns):
                values[x, c] /= missing
            place[x] = known
        for i in range(length - 1, -1, -1):
            y = path[i]
            if place[y] != known:
                place[y] = known
                a = policy[y]
                if a != STOP:
                    z, f = next_state[y, a, 0], factor[y, a, 0]
                    for c in range(columns):
                        values[y, c] = payments[y, a, c] + f * values[z, c]
    return values, True


@numba.njit(cache=True, nogil=True)
def _improved(
    next_state: NDArray[np.int32],
    factor: NDArray[np.float64],
    paid: NDArray[np.float64],
    values: NDArray[np.float64],
    policy: NDArray[np.int64],
    within: NDArray[np.bool_],
    stop: NDArray[np.bool_],
    rounding: float,
) -> tuple[NDArray[np.int64], bool]:
    count, num_actions, num_outcomes = next_state.shape
    better = policy.copy()
    changed = False
    largest = 0.0
    for x in range(count):
        largest = max(largest, abs(values[x]))
    for x in range(count):
        best = values[x] + rounding * largest
        if stop[x] and best < 0:
            best = 0.0
            better[x] = STOP
            changed = True
        for a in range(num_actions):
            if within[x, a]:
                q = paid[x, a]
                for k in range(num_outcomes):
                    q += factor[x, a, k] * values[next_state[x, a, k]]
                if q > best:
                    best = q
                    better[x] = a
                    changed = True
    return better, changed


@numba.njit(cache=True, nogil=True)
def _stays(next_state: NDArray[np.int32], factor: NDArray[np.float64], free: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """[X] where free actions alone can go on for ever: the largest set with a free action into itself everywhere."""
    count, num_actions, num_outcomes = next_state.shape
    stays = np.ones(count, dtype=np.bool_)
    changed = True
    while changed:
        changed = False
        for x in range(count):
            if not stays[x]:
                continue
            possible = False
            for a in range(num_actions):
                inside = free[x, a]
                for k in range(num_outcomes):
                    inside = inside and (factor[x, a, k] == 0 or stays[next_state[x, a, k]])
                possible = possible or inside
            if not possible:
                stays[x] = False
                changed = True
    return stays


@numba.njit(cache=True, nogil=True)
def _towards_an_end(
    next_state: NDArray[np.int32],
    factor: NDArray[np.float64],
    ends: NDArray[np.bool_],
    stop: NDArray[np.bool_],
    within: NDArray[np.bool_],
) -> tuple[NDArray[np.int64], bool]:
    """[X] a policy that ends or stops with certainty from everywhere, and whether there is one."""
    count, num_actions, num_outcomes = next_state.shape
    alive = np.ones(count, dtype=np.bool_)
    while True:
        policy = np.full(count, STOP)
        reached = stop & alive
        growing = True
        while growing:
            growing = False
            for x in range(count - 1, -1, -1):
                if reached[x] or not alive[x]:
                    continue
                for a in range(num_actions):
                    safe, nearer = within[x, a], ends[x, a]
                    for k in range(num_outcomes):
                        if factor[x, a, k] > 0:
                            safe = safe and alive[next_state[x, a, k]]
                            nearer = nearer or reached[next_state[x, a, k]]
                    if safe and nearer:
                        policy[x] = a
                        reached[x] = True
                        growing = True
                        break
        if (reached == alive).all():
            return policy, bool(alive.all())
        alive = reached
