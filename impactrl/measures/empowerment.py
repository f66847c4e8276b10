"""Empowerment: how much a number of actions can decide about the state that follows them."""

import numba
import numpy as np
from numpy.typing import NDArray

from impactrl.errors import ImpactError
from impactrl.measures.state_graph import StateGraph

__all__ = ["channel_capacity", "empowerment"]

MAX_PLANS = 100_000
GAP = 1e-10
MAX_ROUNDS = 100_000


def empowerment(graph: StateGraph, *, steps: int) -> NDArray[np.float64]:
    """`E_n(x) = max over p(plan) of I(plan; state after it)` for plans of n actions, in bits.

    Salge, Glackin and Polani (2014), arXiv 1310.1863; Amodei et al. (2016), arXiv 1606.06565, section 3.
    In deterministic worlds it is log2 of the number of states that can be reached in exactly n steps. An action that
    would leave the graph, or is taken where nothing follows, stays.

    Args:
        graph: N nodes.
        steps: n.

    Returns:
        [N], in bits.

    Raises:
        ImpactError: more plans than can be listed, in a stochastic world.
    """
    count, num_actions, _ = graph.successor.shape
    if graph.deterministic:
        reached = np.eye(count, dtype=np.bool_)
        for _ in range(steps):
            reached = np.logical_or.reduce([reached[graph.successor[:, a, 0]] for a in range(num_actions)])
        bits: NDArray[np.float64] = np.log2(reached.sum(axis=1))
        return bits
    if num_actions**steps > MAX_PLANS:
        raise ImpactError(
            f"empowerment over {steps} steps needs {num_actions**steps} plans of {num_actions} actions, more than "
            f"{MAX_PLANS}; give a smaller horizon"
        )
    return np.array([channel_capacity(_plans(graph, x, steps)) for x in range(count)])


def _plans(graph: StateGraph, x: int, steps: int) -> NDArray[np.float64]:
    """[plans, states] the distribution after every plan of n actions from a node, over the states that occur."""
    nodes, rows = np.array([x]), np.ones((1, 1))
    for _ in range(steps):
        target = graph.successor[nodes]
        after, place = np.unique(target, return_inverse=True)
        place = place.reshape(target.shape)
        moved = []
        for a in range(target.shape[1]):
            matrix = np.zeros((len(nodes), len(after)))
            chance = graph.mdp.probability[graph.state[nodes], a]
            np.add.at(matrix, (np.arange(len(nodes))[:, None], place[:, a]), chance)
            moved.append(rows @ matrix)
        nodes, rows = after, np.unique(np.concatenate(moved).round(15), axis=0)
    return rows


def channel_capacity(channel: NDArray[np.float64]) -> float:
    """The capacity of a channel [inputs, outputs], in bits, by the algorithm of Blahut and Arimoto (1972).

    Right to 1e-10 bits: the algorithm's lower and upper bound are that close.

    Raises:
        ImpactError: the bounds do not meet.

    >>> round(channel_capacity(np.array([[0.9, 0.1], [0.1, 0.9]])), 6)  # 1 - H(0.1)
    0.531004
    """
    lower, upper = _blahut_arimoto(np.ascontiguousarray(channel))
    if upper - lower > 10 * GAP:
        raise ImpactError(f"the capacity of a channel did not settle: it is between {lower} and {upper} bits")
    return float(max(lower, 0.0))


@numba.njit(cache=True, nogil=True)
def _blahut_arimoto(channel: NDArray[np.float64]) -> tuple[float, float]:
    inputs, outputs = channel.shape
    share = np.full(inputs, 1.0 / inputs)
    lower, upper = 0.0, np.inf
    information = np.empty(inputs)
    for _ in range(MAX_ROUNDS):
        mixture = np.zeros(outputs)
        for i in range(inputs):
            for j in range(outputs):
                mixture[j] += share[i] * channel[i, j]
        for i in range(inputs):
            total = 0.0
            for j in range(outputs):
                if channel[i, j] > 0.0:
                    total += channel[i, j] * np.log2(channel[i, j] / mixture[j])
            information[i] = total
        lower, upper = (share * information).sum(), information.max()
        if upper - lower <= GAP:
            break
        share *= 2.0**information
        share /= share.sum()
    return lower, upper
