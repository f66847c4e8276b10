"""The chance of being somewhere at a given time, at best."""

import os
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from impactrl.errors import whole_number
from impactrl.graph import check_transitions, node_ids

__all__ = ["presence_columns"]

BLOCK = 32
"""Goals that are worked on at once: two tables of so many columns stay in the cache."""


def presence_columns(
    successor: NDArray[np.int32],
    probability: NDArray[np.float64],
    goals: ArrayLike,
    *,
    steps: int,
    threads: int | None = None,
) -> NDArray[np.float64]:
    """The largest probability of being at each goal after exactly so many steps, from every node.

    What the experiments of Shah et al. (2019, arXiv 1902.04198) call reachability. Where nothing follows one stays.

    Args:
        successor: [N, A, K].
        probability: [N, A, K], 0 where there is no such outcome.
        goals: [G] nodes.
        steps: at least 0.
        threads: at most so many at once; default one per core. The result does not depend on it.

    Returns:
        [N, G] in [0, 1].

    Raises:
        ImpactError: no graph, a goal that is no node, or a setting outside its range.

    In a ring of three nodes one is back after three steps:

    >>> ring = np.array([[[1]], [[2]], [[0]]], dtype=np.int32)
    >>> presence_columns(ring, np.ones(ring.shape), [0], steps=3).tolist()
    [[1.0], [0.0], [0.0]]
    """
    check_transitions(successor, probability)
    wanted = node_ids("goals", goals, len(successor))
    count = whole_number("steps", steps, at_least=0)
    workers = (os.cpu_count() or 1) if threads is None else whole_number("threads", threads, at_least=1)
    out = np.zeros((len(successor), len(wanted)))
    starts = range(0, len(wanted), BLOCK)

    def solve(first: int) -> None:
        block = slice(first, first + BLOCK)
        out[:, block] = _count_down(successor, probability, wanted[block], count)

    with ThreadPoolExecutor(max(1, min(workers, len(starts)))) as pool:
        list(pool.map(solve, starts))
    return out


@numba.njit(cache=True, nogil=True)
def _count_down(
    successor: NDArray[np.int32], probability: NDArray[np.float64], goals: NDArray[np.int64], steps: int
) -> NDArray[np.float64]:
    count, num_actions, num_outcomes = successor.shape
    width = len(goals)
    now, later, total = np.zeros((count, width)), np.zeros((count, width)), np.empty(width)
    for j in range(width):
        later[goals[j], j] = 1.0
    for _ in range(steps):
        for x in range(count):
            here = now[x]
            here[:] = 0.0
            stuck = True
            for a in range(num_actions):
                if probability[x, a, 0] == 1.0:
                    stuck = False
                    row = later[successor[x, a, 0]]
                    for j in range(width):
                        here[j] = max(here[j], row[j])
                    continue
                total[:] = 0.0
                for k in range(num_outcomes):
                    p = probability[x, a, k]
                    if p > 0.0:
                        stuck = False
                        row = later[successor[x, a, k]]
                        for j in range(width):
                            total[j] += p * row[j]
                for j in range(width):
                    here[j] = max(here[j], total[j])
            if stuck:
                here[:] = later[x]
        now, later = later, now
    return later
