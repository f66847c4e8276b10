"""Deviations that compare two states, or two distributions of states, directly."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numba
import numpy as np
from numpy.typing import NDArray

from impactrl.errors import ImpactError
from impactrl.measures.baselines import Baseline, BaselineChoice, Nodes, Reference, certain
from impactrl.measures.comparisons import Comparisons
from impactrl.measures.deviations import Comparer, Deviation, PairDeviation
from impactrl.measures.families import BLOCK_BYTES, Features
from impactrl.measures.state_graph import StateGraph
from impactrl.measures.values import reachability, reachability_columns

if TYPE_CHECKING:
    from impactrl.measures.penalty import Penalty

__all__ = ["DIVERGENCES", "Detectability", "NoDeviation", "StepReversibility", "Unreachability", "Whitelist"]

DIVERGENCES = ("total_variation", "jensen_shannon", "kl")
Floats = NDArray[np.float64]
Pairs = Callable[[Nodes, Nodes], Floats]


@dataclass(frozen=True)
class NoDeviation(PairDeviation):
    """Nothing counts as an impact: the agent without a penalty."""

    label: ClassVar[str] = "none"
    formula: ClassVar[str] = "0"

    def pairs(self, graph: StateGraph, penalty: "Penalty") -> Pairs:  # noqa: ARG002
        """Zero for any pair."""
        return lambda node, _: np.zeros(len(node))


@dataclass(frozen=True)
class Unreachability(PairDeviation):
    """Can the baseline state still be reached? The "reversibility" of earlier work."""

    label: ClassVar[str] = "UR"
    formula: ClassVar[str] = "1 - R(s; b), R = discounted reachability"
    source: ClassVar[str] = "Krakovna et al. 2019, arXiv 1806.01186, section 3"
    reads: ClassVar[frozenset[str]] = frozenset({"horizon"})

    def pairs(self, graph: StateGraph, penalty: "Penalty") -> Pairs:
        """One minus the reachability of one node from the other."""
        horizon = penalty.horizon if penalty.rollout != "end" else None
        if penalty.rollout is not False:  # all pairs will be asked for
            table = reachability(graph, discount=penalty.discount, horizon=horizon)
            return lambda node, reference: 1 - table[node, reference]
        columns_of = reachability_columns(graph, discount=penalty.discount, horizon=horizon)

        def pairs(node: Nodes, reference: Nodes) -> Floats:
            goals, which = np.unique(reference, return_inverse=True)
            order = np.argsort(which, kind="stable")
            result, width = np.empty(len(node)), max(64, BLOCK_BYTES // (8 * graph.size) // 64 * 64)
            for first in range(0, len(goals), width):
                columns = columns_of(goals[first : first + width])
                rows = order[slice(*np.searchsorted(which[order], [first, first + width]))]
                result[rows] = 1 - columns[node[rows], which[rows] - first]
            return result

        return pairs


@dataclass(frozen=True)
class _Left(Baseline):
    """The state just left."""

    formula: ClassVar[str] = "b = s_t"
    forgetful: ClassVar[bool] = True

    def initial(self, graph: StateGraph, node: Nodes) -> Nodes:  # noqa: ARG002
        return node

    def advance(self, graph: StateGraph, memory: Nodes, node: Nodes, action: Nodes) -> Nodes:  # noqa: ARG002
        return node

    def reference(self, graph: StateGraph, memory: Nodes) -> Reference:  # noqa: ARG002
        return certain(memory)


@dataclass(frozen=True)
class StepReversibility(Unreachability):
    """Can the step just taken be undone? Compares with the state just left, whatever the penalty's baseline."""

    label: ClassVar[str] = "step reversibility"
    formula: ClassVar[str] = "1 - R(s_{t+1}; s_t)"
    source: ClassVar[str] = "Krakovna et al. 2019, arXiv 1806.01186; Grinsztajn et al. 2021, arXiv 2106.04480"
    baseline: ClassVar[BaselineChoice | None] = _Left()

    def check(self, penalty: "Penalty") -> None:
        """Refuses rollouts, too: the step itself is judged."""
        super().check(penalty)
        if penalty.rollout is not False:
            raise ImpactError("step_reversibility judges the step itself, so it has no rollout")


@dataclass(frozen=True)
class Whitelist(PairDeviation):
    """How many objects changed class in a way that is not on the list of allowed changes.

    The objects are the cells of the board, their classes the characters. A change that the baseline made as well is no
    difference between the two boards. `allowed` lists changes as "c>c'", where * is any character; by default all that
    the agent's own figure does.
    """

    label: ClassVar[str] = "whitelist"
    formula: ClassVar[str] = "number of cells whose class differs from the baseline's by a change c > c' not allowed"
    source: ClassVar[str] = "Turner 2018, Whitelist learning"
    reads: ClassVar[frozenset[str]] = frozenset({"allowed"})

    def pairs(self, graph: StateGraph, penalty: "Penalty") -> Pairs:
        """The number of changes from the baseline's board to the agent's that are not allowed."""
        boards = graph.boards()
        present = np.unique(boards)
        place = np.zeros(256, dtype=np.int64)
        place[present] = np.arange(len(present))
        charged = np.ones((len(present), len(present)))
        for i, before in enumerate(present):
            for j, after in enumerate(present):
                change = f"{chr(before)}>{chr(after)}"
                if i == j or any(_matches(change, pattern) for pattern in allowed_changes(graph, penalty)):
                    charged[i, j] = 0.0
        classes = place[boards]
        return lambda node, reference: charged[classes[reference], classes[node]].sum(axis=1)


def _matches(change: str, pattern: str) -> bool:
    return all(p in ("*", c) for c, p in zip((change[0], change[2]), (pattern[0], pattern[2]), strict=True))


def allowed_changes(graph: StateGraph, penalty: "Penalty") -> tuple[str, ...]:
    """The changes of class that cost nothing."""
    if penalty.allowed is not None:
        return penalty.allowed
    figures = [c for c, sprite in graph.mdp.tiles.items() if sprite == "agent"]
    return tuple(pattern for c in figures for pattern in (f"{c}>*", f"*>{c}"))


@dataclass(frozen=True)
class Detectability(Deviation):
    """How well an observer could tell the state after the step from the baseline's.

    The divergence between the distribution after the action and the one after the baseline: of states, or of features
    if the penalty names some. Total variation and Jensen-Shannon are in [0, 1]; KL, of the action's distribution from
    the baseline's, is in bits, with probabilities of the baseline no smaller than `floor`. In a deterministic world all
    but KL are 0 or 1.
    """

    label: ClassVar[str] = "detectability"
    formula: ClassVar[str] = "divergence of P(s_{t+1} | s_t, a_t) from P(b_{t+1})"
    source: ClassVar[str] = "Armstrong and Levinstein 2017, arXiv 1705.10720"
    reads: ClassVar[frozenset[str]] = frozenset({"features", "divergence", "floor"})
    whole: ClassVar[bool] = True

    def check(self, penalty: "Penalty") -> None:
        """Refuses rollouts, too."""
        super().check(penalty)
        if penalty.rollout is not False:
            raise ImpactError("detectability compares the distributions after one step, so it has no rollout")

    def fit(self, graph: StateGraph, penalty: "Penalty") -> Comparer:
        """The divergence of the two sides of every comparison."""
        kind = np.arange(graph.size)
        if penalty.features is not None:
            kind = np.unique(Features().values(graph, penalty), axis=0, return_inverse=True)[1].ravel()

        def compare(comparisons: Comparisons) -> Floats:
            reference = comparisons.reference
            mass = reference.share[:, :, None] * reference.probability
            flat = reference.node.reshape(len(mass), -1), mass.reshape(len(mass), -1)
            result: Floats = _divergences(
                kind[comparisons.node],
                comparisons.probability,
                kind[flat[0]],
                flat[1],
                comparisons.memory,
                int(kind.max()) + 1,
                DIVERGENCES.index(penalty.divergence),
                penalty.floor,
            )
            return result

        return compare


@numba.njit(cache=True, nogil=True)
def _divergences(
    here: NDArray[np.int64],
    here_mass: Floats,
    there: NDArray[np.int64],
    there_mass: Floats,
    memory: NDArray[np.int64],
    kinds: int,
    divergence: int,
    floor: float,
) -> Floats:
    """Of distributions over kinds, given as lists of outcomes [P, K] and [M, J]; codes are places in `DIVERGENCES`."""
    result = np.zeros(len(memory))
    p, q = np.zeros(kinds), np.zeros(kinds)
    for i in range(len(memory)):
        m = memory[i]
        for k in range(here.shape[1]):
            p[here[i, k]] += here_mass[i, k]
        for j in range(there.shape[1]):
            q[there[m, j]] += there_mass[m, j]
        total = 0.0
        for side in range(2):
            for k in range(here.shape[1] if side == 0 else there.shape[1]):
                kind = here[i, k] if side == 0 else there[m, k]
                x, y = p[kind], q[kind]
                p[kind] = q[kind] = 0.0  # counted once
                if divergence == 0:
                    total += abs(x - y) / 2
                elif divergence == 1:
                    middle = (x + y) / 2
                    total += x * np.log2(x / middle) / 2 if x > 0 else 0.0
                    total += y * np.log2(y / middle) / 2 if y > 0 else 0.0
                elif x > 0:
                    total += x * np.log2(x / max(y, floor))
        result[i] = max(total, 0.0)
    return result
