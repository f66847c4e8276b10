"""What the tabular learners share: the task as arrays, schedules, and the pieces of their compiled loops."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from impactrl.dynamic_programming import episode_columns
from impactrl.errors import ImpactError
from impactrl.measures.impact import COLUMNS, Impact

__all__ = [
    "Progress",
    "Schedules",
    "Task",
    "chosen",
    "draw",
    "evaluate",
    "finish",
    "greedy_action",
    "keep_greedy",
    "new_progress",
    "record",
    "require_seeds",
    "run_all",
    "task_of",
]


class Task(NamedTuple):
    """What learners walk through: X states, A actions, K outcomes; the learner's tables have Y rows.

    Attributes:
        next_state: [X, A, K] int32.
        probability: [X, A, K].
        cumulative: [X, A, K] of `probability`.
        columns: [X, A, K, 4] reward, performance, side effect and impact of each transition.
        terminal: [X] bool.
        completed: [X] float64, 1 where the task is done.
        start: [X] distribution of first states.
        cumulative_start: [1, 1, X] of `start`, for `draw`.
        row: [X] row of the learner's tables in each state.
        time_limit: steps after which an episode is cut off.
    """

    next_state: NDArray[np.int32]
    probability: NDArray[np.float64]
    cumulative: NDArray[np.float64]
    columns: NDArray[np.float64]
    terminal: NDArray[np.bool_]
    completed: NDArray[np.float64]
    start: NDArray[np.float64]
    cumulative_start: NDArray[np.float64]
    row: NDArray[np.int64]
    time_limit: int


class Schedules(NamedTuple):
    """What changes over training, N episodes.

    Attributes:
        epsilon: [N] share of random actions.
        rate: [N] learning rate.
        power: the rate is divided by the number of visits to this power; 0 for not.
        factor: [N] of the penalty's weight.
        evidence: the weight is divided by 1 + evidence * steps taken before the episode; 0 for not.
        evaluations: [E] episodes after which the greedy policy is evaluated.
    """

    epsilon: NDArray[np.float64]
    rate: NDArray[np.float64]
    power: float
    factor: NDArray[np.float64]
    evidence: float
    evaluations: NDArray[np.int64]


class Progress(NamedTuple):
    """What a run reports, E evaluations; filled in by the kernels.

    Attributes:
        history: [E, 5] expected columns of a greedy episode.
        during: [E, 5] sums of the columns over the training episodes since the last evaluation.
    """

    history: NDArray[np.float64]
    during: NDArray[np.float64]


def task_of(impact: Impact, row: NDArray[np.int64]) -> Task:
    """The task of a fitted penalty, for a learner whose table has a row for each state."""
    mdp = impact.mdp
    return Task(
        next_state=mdp.next_state,
        probability=mdp.probability,
        cumulative=mdp.probability.cumsum(axis=2),
        columns=impact.columns,
        terminal=mdp.terminal,
        completed=mdp.completed.astype(np.float64),
        start=mdp.start,
        cumulative_start=mdp.start.cumsum()[None, None],
        row=row,
        time_limit=mdp.time_limit,
    )


def require_seeds(weights: Sequence[float], seeds: Sequence[object]) -> None:
    """Raises unless there is one weight, a number of at least 0, and one seed per run."""
    if len(weights) != len(seeds):
        raise ImpactError(f"one weight and one seed per run: got {len(weights)} weights, {len(seeds)} seeds")
    wrong = [weight for weight in weights if not 0 <= weight < np.inf]
    if wrong:
        raise ImpactError(f"weights must be numbers of at least 0, not {wrong[0]}")


def new_progress(runs: int, evaluations: NDArray[np.int64]) -> Progress:
    """Zeros for a batch of R runs: [R, E, 5] each."""
    shape = (runs, len(evaluations), len(COLUMNS))
    return Progress(history=np.zeros(shape), during=np.zeros(shape))


def finish(progress: Progress, evaluations: NDArray[np.int64], initial_performance: float) -> None:
    """Makes means of the sums of a batch, and adds the hidden score that episodes begin with."""
    progress.during[:] /= np.diff(evaluations, prepend=0)[:, None]
    for columns in progress:
        columns[:, :, COLUMNS.index("performance")] += initial_performance


def run_all(run: Callable[[int], None], count: int, threads: int) -> None:
    """Calls `run` with 0, 1, ..., on so many threads; the kernels hold no lock."""
    if threads == 1:
        for i in range(count):
            run(i)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(run, range(count)))


# The pieces are inlined, and index whole arrays: a slice, or an array handed to a function, costs more than they do.


@numba.njit(cache=True, nogil=True, inline="always")
def draw(rng: np.random.Generator, cumulative: NDArray[np.float64], x: int, a: int) -> int:
    """An index into the last axis by its cumulative probabilities; no random number where there is one."""
    last = cumulative.shape[2] - 1
    k = 0
    if last > 0:
        u = rng.random() * cumulative[x, a, last]
        while k < last and u >= cumulative[x, a, k]:
            k += 1
    return k


@numba.njit(cache=True, nogil=True, inline="always")
def chosen(u: float, epsilon: float, num_actions: int, greedy: int) -> int:
    """An epsilon-greedy action: below epsilon, the random number `u` is uniform again and says which."""
    return min(int(u / epsilon * num_actions), num_actions - 1) if u < epsilon else greedy


@numba.njit(cache=True, nogil=True, inline="always")
def greedy_action(q: NDArray[np.float64], y: int) -> int:
    """Where row y of q is largest, the lowest index of equals."""
    best = 0
    for a in range(1, q.shape[1]):
        if q[y, a] > q[y, best]:
            best = a
    return best


@numba.njit(cache=True, nogil=True, inline="always")
def keep_greedy(q: NDArray[np.float64], greedy: NDArray[np.int64], y: int, a: int, before: float) -> None:
    """Keeps `greedy[y]` the greedy action after q[y, a] changed from `before`."""
    best = greedy[y]
    if a == best:
        if q[y, a] < before:
            greedy[y] = greedy_action(q, y)
    elif q[y, a] >= q[y, best] and (q[y, a] > q[y, best] or a < best):
        greedy[y] = a


@numba.njit(cache=True, nogil=True)
def evaluate(task: Task, greedy: NDArray[np.int64], columns: NDArray[np.float64]) -> None:
    """Writes the five exact expected columns of an episode of the greedy actions, [Y]."""
    policy = np.empty((1, len(task.row)), dtype=np.int64)
    for x in range(len(task.row)):
        policy[0, x] = greedy[task.row[x]]
    sums, last = episode_columns(
        task.next_state, task.probability, task.columns, task.terminal, task.start, policy, task.time_limit
    )
    columns[0] = sums[0]
    columns[1] = sums[1]
    columns[2] = sums[2]
    columns[3] = (last * task.completed).sum()
    columns[4] = sums[3]


@numba.njit(cache=True, nogil=True, inline="always")
def record(
    during: NDArray[np.float64],
    due: int,
    reward: float,
    performance: float,
    side_effect: float,
    completed: float,
    impact: float,
) -> None:
    """Adds the columns of a training episode."""
    during[due, 0] += reward
    during[due, 1] += performance
    during[due, 2] += side_effect
    during[due, 3] += completed
    during[due, 4] += impact
