"""Value families: what can be had from each state, one column per thing."""

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from impactrl.dynamic_programming import optimal_values
from impactrl.errors import ImpactError
from impactrl.graph import shortest_distances
from impactrl.measures.state_graph import StateGraph

__all__ = ["attainable_utilities", "reachability", "rollout_pairs", "rollout_values"]

MAX_TABLE_BYTES = 4 * 2**30  # the work on a table needs up to five times its size


def reachability(graph: StateGraph, *, discount: float) -> NDArray[np.float64]:
    """`R(x; y) = max_policy E[discount^N]`, N the steps from x until y is first reached.

    Krakovna et al. (2019), arXiv 1806.01186, section 3. With discount 1: the largest probability of ever
    reaching y.

    Returns:
        [N, N] in [0, 1], `R[x, y]`; `R[x, x] = 1`, 0 where y cannot be reached.

    Raises:
        ImpactError: the table would not fit in memory.
    """
    size = graph.size
    if size * size * 8 > MAX_TABLE_BYTES:
        raise ImpactError(
            f"reachability of {size} states from {size} states needs {size * size * 8 / 2**30:.0f} GiB; "
            f"{MAX_TABLE_BYTES // 2**30} GiB are allowed. Use attainable_utility, or a smaller level"
        )
    if not graph.deterministic:
        table: NDArray[np.float64] = _reach_stochastic(graph.successor, graph.probability, discount)
        return table
    distance = shortest_distances(np.where(graph.available, graph.successor[:, :, 0], -1))
    powers = np.append(float(discount) ** np.arange(distance.max(initial=0) + 1), 0.0)
    reach: NDArray[np.float64] = powers[distance]  # UNREACHABLE is -1, the last entry
    return reach


def attainable_utilities(graph: StateGraph, utilities: NDArray[np.float64], *, discount: float) -> NDArray[np.float64]:
    """`V_u(x) = u(x) + discount * max_a E[V_u(x')]`, the utility of x itself included.

    Krakovna et al. (2019), arXiv 1806.01186, section 4 (value differences); `Q_u(s, a) = E[V_u(s')]` of Turner
    et al. (2020), arXiv 1902.09725. A state that nothing follows is worth its own utility.

    Args:
        graph: N nodes.
        utilities: [N, U], one column per utility.
        discount: below 1.

    Returns:
        [N, U].
    """
    values = np.empty_like(utilities)
    for u in range(utilities.shape[1]):
        reward = np.where(graph.available, utilities[:, u, None], -np.inf)
        reward[~graph.available.any(axis=1), 0] = utilities[~graph.available.any(axis=1), u]
        values[:, u] = optimal_values(graph.successor, graph.probability, reward, discount=discount).values
    return values


def rollout_values(noop: "sparse.csr_array", values: NDArray[np.float64], *, discount: float) -> NDArray[np.float64]:
    """`W = (1 - discount) sum_j discount^j P^j V`: the values along a rollout of no-ops, in discounted mean.

    Krakovna et al. (2019), arXiv 1806.01186, section 2 (inaction rollouts), for separable deviations. Exact, also
    where the no-ops run in a cycle.

    Args:
        noop: [N, N] transition matrix P of the no-op.
        values: [N, U] the value family V.
        discount: of the rollout, in [0, 1).

    Returns:
        [N, U].
    """
    total, power, factor = (1 - discount) * values, noop, discount
    while factor > np.finfo(np.float64).eps / 16:
        total = total + factor * (power @ total)
        power, factor = power @ power, factor * factor
    return total


def rollout_pairs(noop: "sparse.csr_array", deviation: NDArray[np.float64], *, discount: float) -> NDArray[np.float64]:
    """`(1 - discount) sum_j discount^j E[D(S_j; B_j)]` for two parallel rollouts of no-ops.

    For deviations of pairs that are no value differences. In a stochastic world the two roll out independently.

    Args:
        noop: [N, N] transition matrix of the no-op.
        deviation: [N, N] `D[s, b]`.
        discount: of the rollout, in [0, 1).

    Returns:
        [N, N].
    """
    total, power, factor = (1 - discount) * deviation, noop, discount
    while factor > np.finfo(np.float64).eps / 16:
        total = total + factor * (power @ (power @ total.T).T)
        power, factor = power @ power, factor * factor
    return total


@numba.njit(cache=True, nogil=True)
def _reach_stochastic(
    successor: NDArray[np.int32], probability: NDArray[np.float64], discount: float
) -> NDArray[np.float64]:
    """Value iteration from 0 for every goal: increases to the least fixed point, which is the reachability."""
    count, num_actions, num_outcomes = successor.shape
    table = np.zeros((count, count))
    values = np.empty(count)
    for goal in range(count):
        values[:] = 0.0
        values[goal] = 1.0
        residual = 1.0
        while residual > 1e-15:
            residual = 0.0
            for x in range(count - 1, -1, -1):
                if x == goal:
                    continue
                best = 0.0
                for a in range(num_actions):
                    total = 0.0
                    for k in range(num_outcomes):
                        total += probability[x, a, k] * values[successor[x, a, k]]
                    best = max(best, discount * total)
                residual = max(residual, best - values[x])
                values[x] = best
        table[:, goal] = values
    return table
