"""State and baseline together: the exact product process that a penalty lives on."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from impactrl.mdp import TabularMDP
from impactrl.measures.baselines import Baseline
from impactrl.measures.state_graph import StateGraph

__all__ = ["PairState", "Product", "product"]

NO_MEMORY = -1


class PairState(NamedTuple):
    """A state of the product.

    Attributes:
        state: the state of the world.
        baseline: the state of the world that the baseline remembers, None where nothing depends on it.
    """

    state: Any
    baseline: Any


@dataclass(frozen=True, kw_only=True, eq=False)
class Product:
    """The MDP of (state, baseline memory) pairs; X of them.

    Attributes:
        mdp: the product; the task's own MDP where no memory is needed to tell states apart.
        state: [X] id of the state in the task's MDP.
        memory: [X] the baseline's memory, `NO_MEMORY` where nothing depends on it.
    """

    mdp: TabularMDP
    state: NDArray[np.int64]
    memory: NDArray[np.int64]


def product(mdp: TabularMDP, graph: StateGraph, baseline: Baseline) -> Product:
    """All pairs of state and memory that can occur, numbered by state, then memory.

    A memory is dropped where no penalty can depend on it: at the end of an episode, and for a forgetful baseline
    wherever the next step cannot end the episode under the rule "previous" (only that step is charged for the
    pair before it).
    """
    leaves = (graph.node[mdp.next_state] < 0) & (mdp.probability > 0)
    drop = graph.node < 0
    if baseline.forgetful:
        drop = drop | ~leaves.any(axis=(1, 2))
    first = np.flatnonzero(mdp.start)
    # Codes are state * base + memory + 1; a memory is below twice the number of nodes.
    base = 2 * graph.size + 1

    def encode(state: NDArray[np.int64], memory: NDArray[np.int64]) -> NDArray[np.int64]:
        return state * base + np.where(drop[state], NO_MEMORY, memory) + 1

    def successors(codes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Codes [F, A, K]; padding and ends lead back to the pair itself."""
        state, memory = codes // base, codes % base - 1
        node = graph.node[state].astype(np.int64)
        ended = node < 0
        after = np.full(len(codes), NO_MEMORY)
        live = np.flatnonzero(~ended)
        after[live] = baseline.advance(graph, memory[live], node[live])
        target = mdp.next_state[state].astype(np.int64)
        coded = encode(target, np.broadcast_to(after[:, None, None], target.shape))
        stays = (mdp.probability[state] == 0) | mdp.terminal[state][:, None, None]
        return np.where(stays, codes[:, None, None], coded)

    start_codes = encode(first, baseline.initial(graph, graph.node[first].astype(np.int64)))
    known = frontier = np.unique(start_codes)
    while len(frontier):
        frontier = np.setdiff1d(successors(frontier), known)
        known = np.union1d(known, frontier)

    state, memory = known // base, known % base - 1
    if np.array_equal(state, np.arange(mdp.num_states)):
        return Product(mdp=mdp, state=state, memory=memory)
    start = np.zeros(len(known))
    start[np.searchsorted(known, start_codes)] = mdp.start[first]
    pair_mdp = replace(
        mdp,
        next_state=np.searchsorted(known, successors(known)).astype(np.int32),
        probability=mdp.probability[state],
        reward=mdp.reward[state],
        performance=mdp.performance[state],
        side_effect=mdp.side_effect[state],
        terminal=mdp.terminal[state],
        completed=mdp.completed[state],
        start=start,
        situation=np.arange(len(known), dtype=np.int32),
        states=_pair_states(mdp, graph, baseline, state, memory),
        draw=partial(_draw_pair, mdp.draw),
    )
    return Product(mdp=pair_mdp, state=state, memory=memory)


def _pair_states(
    mdp: TabularMDP,
    graph: StateGraph,
    baseline: Baseline,
    state: NDArray[np.int64],
    memory: NDArray[np.int64],
) -> tuple[PairState, ...]:
    def remembered(m: int) -> Any:
        node = None if m == NO_MEMORY else baseline.node(graph, m)
        return None if node is None else mdp.states[graph.state[node]]

    return tuple(PairState(mdp.states[s], remembered(int(m))) for s, m in zip(state, memory, strict=True))


def _draw_pair(draw: Callable[[Any], NDArray[np.uint8]], pair: PairState) -> NDArray[np.uint8]:
    return draw(pair.state)
