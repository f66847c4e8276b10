"""State and baseline together: the exact product process that a penalty lives on."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from impactrl.mdp import TabularMDP
from impactrl.measures.baselines import Baseline, Nodes
from impactrl.measures.state_graph import StateGraph

__all__ = ["NO_MEMORY", "Moves", "PairState", "Product", "product"]

NO_MEMORY = -1
SLIVER = 1e-12


class PairState(NamedTuple):
    """A state of the product.

    Attributes:
        state: the state of the world.
        baseline: the state of the world that the baseline remembers, None where nothing depends on it.
        to_go: steps that are left of the plan, where penalties ask.
    """

    state: Any
    baseline: Any
    to_go: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Product:
    """The MDP of (state, baseline memory) pairs; X of them.

    Attributes:
        mdp: the product; the task's own MDP where no memory is needed to tell states apart.
        state: [X] id of the state in the task's MDP.
        memory: [X] the baseline's memory, `NO_MEMORY` where nothing depends on it.
        to_go: [X] steps that are left of the plan; 0 where penalties do not ask.
        moves: what the steps of every pair lead to.
    """

    mdp: TabularMDP
    state: Nodes
    memory: Nodes
    to_go: Nodes
    moves: "Moves"


@dataclass(frozen=True, kw_only=True, eq=False)
class Moves:
    """The joint outcomes of the steps of F pairs.

    Attributes:
        outcome: [F, A, L] which outcome of the task each is.
        probability: [F, A, L].
        memory: [F, A, L] the baseline's memory after it; -1 where the episode is over.
    """

    outcome: Nodes
    probability: NDArray[np.float64]
    memory: Nodes

    def of(self, task: NDArray[Any]) -> NDArray[Any]:
        """[F, A, L] from an array [F, A, K] of the task's outcomes."""
        return np.take_along_axis(task, self.outcome, axis=2)


def moves(mdp: TabularMDP, graph: StateGraph, baseline: Baseline, state: Nodes, memory: Nodes) -> Moves:
    """What each action leads to in pairs [F] of state and memory."""
    node = graph.node[state].astype(np.int64)
    live = np.flatnonzero((node >= 0) & ~mdp.terminal[state])
    probability = mdp.probability[state]
    count, num_actions, num_outcomes = probability.shape
    own = baseline.chances(graph, memory[live])
    if own is None:
        after = np.full((count, num_actions), NO_MEMORY)
        for a in range(num_actions):
            after[live, a] = baseline.advance(graph, memory[live], node[live], np.full(len(live), a))
        outcome = np.broadcast_to(np.arange(num_outcomes), probability.shape)
        return Moves(
            outcome=outcome, probability=probability, memory=np.broadcast_to(after[:, :, None], probability.shape)
        )
    # One random number in [0, 1) decides both: its unit interval is cut where either side's outcome changes.
    width = own[0].shape[1]
    theirs = np.zeros((count, width), dtype=np.int64)
    chance = np.zeros((count, width))
    theirs[:, :], chance[:, 0] = NO_MEMORY, 1.0
    theirs[live], chance[live] = own
    mine, other = (
        probability.cumsum(axis=2),
        np.broadcast_to(chance.cumsum(axis=1)[:, None], (count, num_actions, width)),
    )
    edges = np.sort(np.concatenate([mine, other], axis=2).clip(0.0, 1.0), axis=2)
    edges = np.concatenate([np.zeros((count, num_actions, 1)), edges], axis=2)
    joint, middle = np.diff(edges, axis=2), (edges[:, :, 1:] + edges[:, :, :-1]) / 2
    joint[joint < SLIVER] = 0.0  # of cuts that rounding made two
    joint /= joint.sum(axis=2, keepdims=True)
    outcome = (mine[:, :, None] <= middle[..., None]).sum(axis=3).clip(max=num_outcomes - 1)
    case = (other[:, :, None] <= middle[..., None]).sum(axis=3).clip(max=width - 1)
    after = np.take_along_axis(np.broadcast_to(theirs[:, None], other.shape), case, axis=2)
    return Moves(outcome=outcome, probability=joint, memory=after)


def product(
    mdp: TabularMDP, graph: StateGraph, baseline: Baseline, *, plan: int | None, last_counts: bool = False
) -> Product:
    """All pairs of state and memory that can occur, numbered by state, then memory.

    A memory is dropped where no penalty can depend on it: at the end of an episode, and for a forgetful baseline
    wherever the next step cannot end the episode under the rule "previous" (only that step is charged for the
    pair before it, as is the last step of a plan if `last_counts`).

    Args:
        mdp: the task.
        graph: its state graph.
        baseline: fitted to it.
        plan: where penalties depend on the steps that are left of a plan, the length of plans: pairs then know how many
            are left, and episodes end with the plan. None: they do not.
        last_counts: whether the last step of a plan is charged like one that ends the episode.
    """
    leaves = (graph.node[mdp.next_state] < 0) & (mdp.probability > 0)
    drop = graph.node < 0
    if baseline.forgetful and not last_counts:
        drop = drop | ~leaves.any(axis=(1, 2))
    first = np.flatnonzero(mdp.start)
    # Codes are (state * base + memory + 1) * clock + steps to go.
    base, clock = baseline.memories(graph) + 1, (plan or 0) + 1

    def encode(state: Nodes, memory: Nodes, to_go: Nodes) -> Nodes:
        return (state * base + np.where(drop[state], NO_MEMORY, memory) + 1) * clock + to_go

    def decode(codes: Nodes) -> tuple[Nodes, Nodes, Nodes]:
        pair, to_go = codes // clock, codes % clock
        return pair // base, pair % base - 1, to_go

    def successors(codes: Nodes) -> tuple[Nodes, Moves]:
        """Codes [F, A, L]; padding and ends lead back to the pair itself."""
        state, memory, to_go = decode(codes)
        step = moves(mdp, graph, baseline, state, memory)
        target = step.of(mdp.next_state[state].astype(np.int64))
        over = mdp.terminal[state] | (to_go == 0 if plan else False)
        coded = encode(target, step.memory, np.maximum(to_go - 1, 0)[:, None, None])
        stays = (step.probability == 0) | over[:, None, None]
        return np.where(stays, codes[:, None, None], coded), step

    start_codes = encode(first, _initial(graph, baseline, first), np.full(len(first), plan or 0))
    if baseline.forgetful and not plan:
        # Every state of the task is reached, and what is remembered after a step depends on the step alone.
        nothing = np.zeros(mdp.num_states, dtype=np.int64)
        following, step = successors(encode(np.arange(mdp.num_states), nothing, nothing))
        known = np.union1d(start_codes, following[(step.probability > 0) & ~mdp.terminal[:, None, None]])
    else:
        known = frontier = np.unique(start_codes)
        while len(frontier):
            frontier = np.setdiff1d(successors(frontier)[0], known)
            known = np.union1d(known, frontier)

    state, memory, to_go = decode(known)
    following, step = successors(known)
    if not plan and step.outcome.strides[0] == 0 and np.array_equal(state, np.arange(mdp.num_states)):
        return Product(mdp=mdp, state=state, memory=memory, to_go=to_go, moves=step)
    start = np.zeros(len(known))
    start[np.searchsorted(known, start_codes)] = mdp.start[first]
    terminal = mdp.terminal[state] | (to_go == 0 if plan else False)
    paid = ~terminal[:, None, None]
    pair_mdp = replace(
        mdp,
        next_state=np.searchsorted(known, following).astype(np.int32),
        probability=step.probability,
        reward=step.of(mdp.reward[state]) * paid,
        performance=step.of(mdp.performance[state]) * paid,
        side_effect=step.of(mdp.side_effect[state]) * paid,
        terminal=terminal,
        completed=mdp.completed[state],
        start=start,
        situation=np.arange(len(known), dtype=np.int32),
        time_limit=min(plan or mdp.time_limit, mdp.time_limit),
        states=_pair_states(mdp, graph, baseline, state, memory, to_go),
        draw=partial(_draw_pair, mdp.draw),
        feature_names=(),
    )
    return Product(mdp=pair_mdp, state=state, memory=memory, to_go=to_go, moves=step)


def _initial(graph: StateGraph, baseline: Baseline, first: Nodes) -> Nodes:
    memory = np.full(len(first), NO_MEMORY)
    live = np.flatnonzero(graph.node[first] >= 0)
    memory[live] = baseline.initial(graph, graph.node[first[live]].astype(np.int64))
    return memory


def _pair_states(
    mdp: TabularMDP, graph: StateGraph, baseline: Baseline, state: Nodes, memory: Nodes, to_go: Nodes
) -> tuple[PairState, ...]:
    remembered: dict[int, Any] = {NO_MEMORY: None}
    for m in np.unique(memory[memory != NO_MEMORY]).tolist():
        node = baseline.node(graph, m)
        remembered[m] = None if node is None else mdp.states[graph.state[node]]
    rows = zip(state.tolist(), memory.tolist(), to_go.tolist(), strict=True)
    return tuple(PairState(mdp.states[s], remembered[m], t) for s, m, t in rows)


def _draw_pair(draw: Callable[[Any], NDArray[np.uint8]], pair: PairState) -> NDArray[np.uint8]:
    return draw(pair.state)
