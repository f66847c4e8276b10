"""From a penalty and a task to the deviation of every transition."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from impactrl.mdp import TabularMDP
from impactrl.measures.baselines import Baseline, Nodes
from impactrl.measures.comparisons import Comparisons
from impactrl.measures.deviations import Deviation, ValueFamily
from impactrl.measures.impact import Contributions, Impact, Place
from impactrl.measures.pairwise import NoDeviation
from impactrl.measures.product import NO_MEMORY, Product, product
from impactrl.measures.scales import scaled
from impactrl.measures.state_graph import StateGraph, state_graph

if TYPE_CHECKING:
    from impactrl.measures.penalty import Penalty

__all__ = ["fit"]

MEANS = ("none", "per-value", "discount")
"""Scales under which a deviation is a mean over values, so that a sample of them has a standard error."""


def fit(penalty: "Penalty", deviation: Deviation, mdp: TabularMDP) -> Impact:
    """The impact of every transition of a task; see `Penalty.fit`."""
    if isinstance(deviation, NoDeviation):
        states = np.arange(mdp.num_states)
        nothing = np.zeros(mdp.next_state.shape)
        return Impact(penalty=penalty, mdp=mdp, state=states, memory=np.full_like(states, NO_MEMORY), deviation=nothing)
    graph = state_graph(mdp, penalty.terminal, penalty.policy)
    baseline = (deviation.baseline or penalty.baseline_choice).fit(graph, penalty)
    plan = penalty.horizon if penalty.rollout == "end" else mdp.time_limit if penalty.time_limit_ends else None
    both = product(mdp, graph, baseline, plan=plan, last_counts=penalty.time_limit_ends)
    judged = _Judged(penalty, deviation, mdp, graph, baseline, both)
    error = None
    if isinstance(deviation, ValueFamily) and deviation.population(graph, penalty) is not None:
        estimate = judged.deviations(lambda comparisons: deviation.estimate(graph, penalty, comparisons), columns=2)
        raw = estimate[..., 0]
        error = estimate[..., 1] if penalty.scale in MEANS and penalty.norm == "L1" else None
    else:
        compare = deviation.fit(graph, penalty)
        raw = judged.deviations(lambda comparisons: compare(comparisons)[:, None])[..., 0]
    return Impact(
        penalty=penalty,
        mdp=both.mdp,
        state=both.state,
        memory=both.memory,
        deviation=scaled(raw, both, penalty, mdp),
        standard_error=error,
        _terms=judged.contributions(deviation) if isinstance(deviation, ValueFamily) else None,
    )


@dataclass(frozen=True, eq=False)
class _Judged:
    """Every transition of a product as a comparison."""

    penalty: "Penalty"
    deviation: Deviation
    mdp: TabularMDP
    graph: StateGraph
    baseline: Baseline
    both: Product

    @property
    def whole(self) -> bool:
        """Whether the outcomes of a step are judged together."""
        return self.deviation.whole or self.penalty.expectation == "inside"

    def transitions(self) -> tuple[NDArray[np.bool_], Nodes, Nodes, Nodes]:
        """Of all transitions [X, A, L]: which there are; node and memory to judge, steps to go.

        The step that leaves the graph is judged by the pair before it, and so is one at the time limit if that counts
        as an end.
        """
        both, node = self.both, self.graph.node.astype(np.int64)
        step = both.moves
        after = node[step.of(self.mdp.next_state[both.state])]
        left = (after < 0) | self.cut_off[:, None, None]
        before = np.broadcast_to(node[both.state][:, None, None], after.shape)
        real = (step.probability > 0) & ~both.mdp.terminal[:, None, None] & (before >= 0)
        memory = np.where(left, both.memory[:, None, None], step.memory)
        ahead = both.to_go if self.penalty.rollout == "end" else np.zeros_like(both.to_go)
        to_go = np.where(left, ahead[:, None, None], np.maximum(ahead - 1, 0)[:, None, None])
        return real, np.where(left, before, after), memory, np.where(real, to_go, 0)

    @property
    def cut_off(self) -> NDArray[np.bool_]:
        """[X] where the next step is the last one before a time limit that counts as an end."""
        return self.both.to_go == 1 if self.penalty.time_limit_ends else np.zeros(len(self.both.state), dtype=np.bool_)

    def deviations(
        self, compare: Callable[[Comparisons], NDArray[np.float64]], columns: int = 1
    ) -> NDArray[np.float64]:
        """[X, A, L, C] the columns of `compare` for every transition; each distinct comparison is made once."""
        real, node, memory, to_go = self.transitions()
        result = np.zeros((*real.shape, columns))
        if self.whole:
            stays = self.graph.node[self.both.moves.of(self.mdp.next_state[self.both.state])] >= 0
            stays &= ~self.cut_off[:, None, None]
            rows = (real & stays).any(axis=2)
            if rows.any():
                result[rows] = compare(self._together(real & stays, node, memory, to_go, rows))[:, None]
            result *= real[..., None]
            single = real & ~stays
        else:
            single = real
        result[single] = self._each(node[single], memory[single], to_go[single], compare)
        return result

    def _each(
        self, node: Nodes, memory: Nodes, to_go: Nodes, compare: Callable[[Comparisons], NDArray[np.float64]]
    ) -> NDArray[np.float64]:
        if not len(node):
            return np.zeros((0, 1))
        base, clock = self.baseline.memories(self.graph), int(to_go.max(initial=0)) + 1
        codes, inverse = np.unique((node * base + memory) * clock + to_go, return_inverse=True)
        pair = codes // clock
        return compare(self._comparisons((pair // base)[:, None], None, pair % base, codes % clock))[inverse]

    def _together(
        self, stays: NDArray[np.bool_], node: Nodes, memory: Nodes, to_go: Nodes, rows: NDArray[np.bool_]
    ) -> Comparisons:
        """One comparison for every action with outcomes in the graph: of their distribution."""
        chance = np.where(stays, self.both.moves.probability, 0.0)[rows]
        chance /= chance.sum(axis=1, keepdims=True)
        first = stays[rows].argmax(axis=1)[:, None]
        one = np.take_along_axis
        return self._comparisons(
            np.where(stays[rows], node[rows], one(node[rows], first, axis=1)),
            chance,
            one(memory[rows], first, axis=1)[:, 0],
            one(to_go[rows], first, axis=1)[:, 0],
        )

    def _comparisons(
        self, node: Nodes, probability: NDArray[np.float64] | None, memory: Nodes, to_go: Nodes
    ) -> Comparisons:
        remembered, which = np.unique(memory, return_inverse=True)
        return Comparisons(
            node=node,
            probability=np.ones(node.shape) if probability is None else probability,
            memory=which,
            reference=self.baseline.reference(self.graph, remembered),
            to_go=to_go,
        )

    def contributions(self, family: ValueFamily) -> Contributions:
        """What each value adds to D, for some transitions at a time."""

        def terms(places: Sequence[Place]) -> tuple[list[str], NDArray[np.float64]]:
            real, node, memory, to_go = self.transitions()
            names = list(family.names(self.graph, self.penalty))
            table = np.zeros((len(places), len(names)))
            stays = self.graph.node[self.both.moves.of(self.mdp.next_state[self.both.state])] >= 0
            stays &= ~self.cut_off[:, None, None]
            at = tuple(np.array(places, dtype=np.int64).T)
            together = real[at] & stays[at] & self.whole
            rows = np.zeros(real.shape[:2], dtype=np.bool_)
            rows[at[0][together], at[1][together]] = True
            if rows.any():
                joint = self._together(real & stays, node, memory, to_go, rows)
                number = np.cumsum(rows.ravel()).reshape(rows.shape) - 1
                table[together] = family.terms(self.graph, self.penalty, joint)[number[at[0], at[1]][together]]
            alone = real[at] & ~together
            if alone.any():
                single = self._comparisons(node[at][alone][:, None], None, memory[at][alone], to_go[at][alone])
                table[alone] = family.terms(self.graph, self.penalty, single)
            return names, table

        return terms
