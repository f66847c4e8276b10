"""Small graphs of transitions for the tests, and the slow and obvious ways to search in them."""

from itertools import product
from typing import Any

import networkx as nx
import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray
from random_mdps import arrays_of

Graph = tuple[NDArray[np.int32], NDArray[np.float64]]


@st.composite
def graphs(draw: st.DrawFn, *, max_nodes: int = 8, max_actions: int = 3, max_outcomes: int = 3) -> Graph:
    """Transitions [N, A, K] with probabilities in quarters that sum to 1 or less: dead ends, traps and ties are common.

    With one outcome, every action leads somewhere surely or nowhere.
    """
    count = draw(st.integers(1, max_nodes))
    outcomes = draw(st.integers(1, max_outcomes))
    shape = (count, draw(st.integers(1, max_actions)), outcomes)
    successor = draw(arrays_of(shape, 0, count - 1)).astype(np.int32)
    quarters = draw(arrays_of(shape, 0, 3))
    if outcomes == 1:
        return successor, np.minimum(quarters, 1).astype(np.float64)
    total = quarters.sum(axis=2, keepdims=True)
    full = draw(arrays_of(shape[:2], 0, 3))[:, :, None] > 0
    scale = np.where(full, np.maximum(total, 1), np.maximum(total, 4))
    return successor, quarters / scale


def chance_graph(count: int, seed: int, *, outcomes: int = 3) -> Graph:
    """A random graph of chance: most steps lead near, upwards more often than back, so that there are components."""
    rng = np.random.default_rng(seed)
    shape = (count, 3, outcomes)
    successor = np.arange(count)[:, None, None] + rng.integers(-2, 4, shape)
    return np.clip(successor, 0, count - 1).astype(np.int32), rng.dirichlet(np.ones(outcomes), shape[:2])


def certain_graph(count: int, seed: int) -> Graph:
    """A random graph of certain steps, as `chance_graph`."""
    successor, _ = chance_graph(count, seed, outcomes=1)
    return successor, np.ones(successor.shape)


def as_networkx(graph: Graph) -> "nx.DiGraph[int]":
    """A node per node, an edge where something can happen."""
    successor, probability = graph
    result: nx.DiGraph[int] = nx.DiGraph()
    result.add_nodes_from(range(len(successor)))
    result.add_edges_from((int(x), int(successor[x, a, k])) for x, a, k in np.argwhere(probability > 0))
    return result


def value_iteration(graph: Graph, goal: int, discount: float, sweeps: int) -> NDArray[Any]:
    """[N] reachability in at most so many steps."""
    successor, probability = graph
    values = np.zeros(len(successor))
    values[goal] = 1.0
    for _ in range(sweeps):
        values = discount * (probability * values[successor]).sum(axis=2).max(axis=1)
        values[goal] = 1.0
    return values


def best_policy_values(graph: Graph, goal: int, discount: float) -> NDArray[Any]:
    """[N] reachability as the best among all deterministic policies, each by solving its linear equations."""
    successor, probability = graph
    count, num_actions, num_outcomes = successor.shape
    best = np.zeros(count)
    for policy in product(range(num_actions), repeat=count):
        matrix = np.zeros((count, count))
        for x, a in enumerate(policy):
            for k in range(num_outcomes):
                matrix[x, successor[x, a, k]] += probability[x, a, k]
        chain = nx.DiGraph((int(x), int(y)) for x, y in np.argwhere(matrix > 0))
        chain.add_node(goal)
        # Where the goal is out of reach the value is 0, also where the equations leave it open.
        others = sorted(nx.ancestors(chain, goal))
        inside = discount * matrix[np.ix_(others, others)]
        values = np.zeros(count)
        values[others] = np.linalg.solve(np.eye(len(others)) - inside, discount * matrix[others, goal])
        values[goal] = 1.0
        best = np.maximum(best, values)
    return best
