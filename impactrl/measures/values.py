"""Value families: what can be had from each state, one column per thing."""

from collections.abc import Callable

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from impactrl.errors import ImpactError
from impactrl.measures.state_graph import StateGraph
from impactrl.policy_iteration import dynamics, optimum
from impactrl.presence import presence_columns
from impactrl.reach import prepare

__all__ = [
    "attainable_utilities",
    "departure_values",
    "inaction_values",
    "power",
    "reachability",
    "reachability_columns",
    "rollout_pairs",
    "rollout_values",
]

MAX_TABLE_BYTES = 4 * 2**30  # the work on a table needs up to five times its size


def reachability_columns(
    graph: StateGraph, *, discount: float, horizon: int | None = None
) -> Callable[[NDArray[np.int64]], NDArray[np.float64]]:
    """A function from nodes [G] to their reachability from every node, [N, G]; in [0, 1].

    `R(x; y) = max_policy E[discount^N]`, N the steps from x until y is first reached; Krakovna et al. (2019),
    arXiv 1806.01186, section 3. With a horizon h: `discount^h` times the largest probability of being in y after
    exactly h steps, as in the experiments of Shah et al. (2019), arXiv 1902.04198.
    """
    if horizon is not None:
        return lambda goals: (
            discount**horizon * presence_columns(graph.successor, graph.probability, goals, steps=horizon)
        )
    search = prepare(graph.successor, graph.probability)
    return lambda goals: search.columns(goals, discount=discount)


def reachability(graph: StateGraph, *, discount: float, horizon: int | None = None) -> NDArray[np.float64]:
    """`R(x; y)`, the reachability of every node from every node; see `reachability_columns`.

    Returns:
        [N, N] in [0, 1], `R[x, y]`.

    Raises:
        ImpactError: the table would not fit in memory.
    """
    size = graph.size
    if size * size * 8 > MAX_TABLE_BYTES:
        raise ImpactError(
            f"the reachability of {size} states from {size} states needs {size * size * 8 / 2**30:.0f} GiB; "
            f"{MAX_TABLE_BYTES // 2**30} GiB are allowed. Leave rollouts out, use another deviation or a smaller level"
        )
    return reachability_columns(graph, discount=discount, horizon=horizon)(np.arange(size))


def attainable_utilities(
    graph: StateGraph, utilities: NDArray[np.float64], *, discount: float, clip: bool = False
) -> NDArray[np.float64]:
    """`V_u(x) = u(x) + discount * max_a E[V_u(x')]`, the utility of x itself included.

    Krakovna et al. (2019), arXiv 1806.01186, section 4 (value differences); `Q_u(s, a) = E[V_u(s')]` of Turner
    et al. (2020), arXiv 1902.09725. A state that nothing follows is worth its own utility.

    Args:
        graph: N nodes.
        utilities: [N, U], one column per utility.
        discount: below 1.
        clip: keep the values in [0, 1] in every backup, as the program of Turner et al. does for the indicators of
            states: with them, the value is the discounted reachability.

    Returns:
        [N, U].
    """
    if clip:
        clipped: NDArray[np.float64] = _clipped_values(
            graph.successor, graph.probability, graph.available, utilities, discount
        )
        return clipped
    values = np.empty_like(utilities)
    stuck = ~np.asarray(graph.available.any(axis=1))
    within = graph.available | stuck[:, None]
    ends = np.zeros_like(within)
    task = dynamics(graph.successor, graph.probability, ends, utilities[:, None], discount=discount)
    policy = within.argmax(axis=1)
    for u in range(utilities.shape[1]):
        paid = np.broadcast_to(utilities[:, u, None], within.shape)
        policy, values[:, u] = optimum(task, np.ascontiguousarray(paid), policy, within=within)
    return values


def departure_values(graph: StateGraph, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """`max_a E[V(x')]`: the best value among the states that can follow; 0 where nothing follows.

    The `max_a Q(x, a)` of Turner et al. (2020), for V that includes the utility of the state itself.

    Args:
        graph: N nodes.
        values: [N, U].

    Returns:
        [N, U].
    """
    best = np.full_like(values, -np.inf)
    for a in range(graph.successor.shape[1]):
        expected = np.zeros_like(values)
        for k in range(graph.successor.shape[2]):
            expected += graph.probability[:, a, k, None] * values[graph.successor[:, a, k]]
        best = np.where(graph.available[:, a, None], np.maximum(best, expected), best)
    follows = np.asarray(graph.available.any(axis=1))
    return np.where(follows[:, None], best, 0.0)


def inaction_values(graph: StateGraph, utilities: NDArray[np.float64], *, discount: float) -> NDArray[np.float64]:
    """`V(x) = u(x) + discount * E[V(x')]` where nothing is done in x: the value of a utility under inaction.

    Armstrong and Levinstein (2017), arXiv 1705.10720. A terminal state is worth its own utility.

    Args:
        graph: N nodes.
        utilities: [N, U].
        discount: below 1.

    Returns:
        [N, U].

    Raises:
        ImpactError: the world has no no-op.
    """
    going = sparse.diags_array(np.asarray(~graph.mdp.terminal[graph.state], dtype=np.float64))
    idle = (going @ graph.require_idle("importance")).tocsr()
    return rollout_values(idle, utilities, discount=discount) / (1 - discount)


def power(graph: StateGraph, utilities: NDArray[np.float64], *, discount: float) -> NDArray[np.float64]:
    """`(1 - discount) / discount * mean_u(V_u(x) - u(x))`: the average ability to achieve goals.

    Turner et al. (2021), Optimal policies tend to seek power, arXiv 1912.01683; the expectation over
    utilities is the mean over those given.

    Args:
        graph: N nodes.
        utilities: [N, U], drawn uniformly in [0, 1).
        discount: in (0, 1).

    Returns:
        [N], in [0, 1].
    """
    ahead = departure_values(graph, attainable_utilities(graph, utilities, discount=discount))
    mean: NDArray[np.float64] = (1 - discount) * ahead.mean(axis=1)
    return mean


def rollout_values(idle: "sparse.csr_array", values: NDArray[np.float64], *, discount: float) -> NDArray[np.float64]:
    """`W = (1 - discount) sum_j discount^j P^j V`: the values along a rollout of no-ops, in discounted mean.

    Krakovna et al. (2019), arXiv 1806.01186, section 2 (inaction rollouts), for separable deviations. Exact, also
    where the no-ops run in a cycle.

    Args:
        idle: [N, N] transition matrix P of doing nothing.
        values: [N, U] the value family V.
        discount: of the rollout, in [0, 1).

    Returns:
        [N, U].
    """
    total, power, factor = (1 - discount) * values, idle, discount
    while factor > np.finfo(np.float64).eps / 16:
        total = total + factor * (power @ total)
        power, factor = power @ power, factor * factor
    return total


def rollout_pairs(idle: "sparse.csr_array", deviation: NDArray[np.float64], *, discount: float) -> NDArray[np.float64]:
    """`(1 - discount) sum_j discount^j E[D(S_j; B_j)]` for two parallel rollouts of no-ops.

    For deviations of pairs that are no value differences. In a stochastic world the two roll out independently.

    Args:
        idle: [N, N] transition matrix of doing nothing.
        deviation: [N, N] `D[s, b]`.
        discount: of the rollout, in [0, 1).

    Returns:
        [N, N].
    """
    total, power, factor = (1 - discount) * deviation, idle, discount
    while factor > np.finfo(np.float64).eps / 16:
        total = total + factor * (power @ (power @ total.T).T)
        power, factor = power @ power, factor * factor
    return total


@numba.njit(cache=True, nogil=True)
def _clipped_values(
    successor: NDArray[np.int32],
    probability: NDArray[np.float64],
    available: NDArray[np.bool_],
    utilities: NDArray[np.float64],
    discount: float,
) -> NDArray[np.float64]:
    """Gauss-Seidel value iteration with every value kept in [0, 1], from 0."""
    count, num_actions, num_outcomes = successor.shape
    values = np.zeros(utilities.shape)
    for u in range(utilities.shape[1]):
        change = 1.0
        while change > 1e-15:
            change = 0.0
            for x in range(count - 1, -1, -1):
                best = -np.inf
                for a in range(num_actions):
                    if available[x, a]:
                        total = 0.0
                        for k in range(num_outcomes):
                            total += probability[x, a, k] * values[successor[x, a, k], u]
                        best = max(best, total)
                value = utilities[x, u] + (discount * best if best > -np.inf else 0.0)
                value = min(max(value, 0.0), 1.0)
                change = max(change, abs(value - values[x, u]))
                values[x, u] = value
    return values
