"""Deviations: how much worse, or how different, a state is than what it is compared with.

Most are differences of values, `D(s; b) = sum_k w_k f(V_k(b) - V_k(s))`: subclass `ValueFamily` and say what the
values are. Others compare two states directly: subclass `PairDeviation`.
"""

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from impactrl.errors import ImpactError
from impactrl.measures.baselines import BaselineChoice, Nodes
from impactrl.measures.comparisons import Comparisons
from impactrl.measures.differences import VALUE_SCALES, Differences, Sums
from impactrl.measures.state_graph import StateGraph
from impactrl.measures.values import rollout_pairs, rollout_values

if TYPE_CHECKING:
    from impactrl.measures.penalty import Penalty

__all__ = ["SCALES", "Comparer", "Deviation", "PairDeviation", "ValueFamily"]

SCALES = (*VALUE_SCALES, "discount", "impact-unit", "gap", "max")
PAIRS_AT_ONCE = 1 << 22
SPECIAL = ("horizon", "utilities", "attainable", "clip", "goals", "features", "allowed", "divergence", "floor")
"""Settings that few deviations read; the others refuse them."""

Floats = NDArray[np.float64]


Comparer = Callable[[Comparisons], Floats]
"""From P comparisons to P deviations."""


class Deviation(ABC):
    """A measure of how far a state is from what it is compared with."""

    label: ClassVar[str]
    """Short name for legends and tables."""
    formula: ClassVar[str] = ""
    """What it is, for people."""
    source: ClassVar[str] = ""
    """Where it was published."""
    summary: ClassVar[str | None] = None
    """The usual summary; None where the deviation is no difference of values."""
    reads: ClassVar[frozenset[str]] = frozenset()
    """Which of the special settings of a penalty it reads."""
    baseline: ClassVar[BaselineChoice | None] = None
    """What it compares with if that is part of its definition; None: what the penalty says."""
    whole: ClassVar[bool] = False
    """Whether it judges all outcomes of a step at once, as a distribution."""

    def check(self, penalty: "Penalty") -> None:
        """Refuses settings that this deviation cannot have.

        Raises:
            ImpactError: says which and why.
        """
        reads = {*self.reads, *(["horizon"] if penalty.rollout == "end" else [])}
        for name in SPECIAL:
            if name not in reads and getattr(penalty, name) != type(penalty).__dataclass_fields__[name].default:
                raise ImpactError(
                    f"{penalty.deviation_name} does not read {name}; leave it out (it was {getattr(penalty, name)!r})"
                    + ("; it is also the length of the plan of rollout='end'" if name == "horizon" else "")
                )
        if self.summary is None:
            self._refuse_value_settings(penalty)

    def _refuse_value_settings(self, penalty: "Penalty") -> None:
        values = {"summary": None, "norm": "L1", "expectation": "outside"}
        for name, usual in values.items():
            if getattr(penalty, name) != usual:
                raise ImpactError(
                    f"{penalty.deviation_name} is no difference of values, so it has no {name}; leave {name} out "
                    f"(it was {getattr(penalty, name)!r}) or use relative_reachability or attainable_utility"
                )
        if penalty.scale in ("per-value", "sum", "discount", "gap"):
            raise ImpactError(
                f"{penalty.deviation_name} is no difference of values, so there is nothing to scale by; leave scale "
                f"out (it was {penalty.scale!r})"
            )

    @abstractmethod
    def fit(self, graph: StateGraph, penalty: "Penalty") -> Comparer:
        """Computes what the comparisons of a task need.

        Args:
            graph: of N nodes.
            penalty: the settings.
        """


class PairDeviation(Deviation):
    """A deviation of one state from another, no matter how they came about. Expectations are taken over pairs.

    How many cells of the board differ, for example:

    >>> class Cells(PairDeviation):
    ...     label = "cells"
    ...     def pairs(self, graph, penalty):
    ...         boards = graph.boards()
    ...         return lambda node, reference: (boards[node] != boards[reference]).sum(axis=1).astype(float)
    """

    @abstractmethod
    def pairs(self, graph: StateGraph, penalty: "Penalty") -> Callable[[Nodes, Nodes], Floats]:
        """A function from nodes [P] of the agent and nodes [P] of the baseline to deviations [P]."""

    def fit(self, graph: StateGraph, penalty: "Penalty") -> Comparer:
        """The pairs, along parallel rollouts of doing nothing if the penalty has rollouts."""
        pairs = self.pairs(graph, penalty)
        if penalty.rollout is False:
            return lambda comparisons: _expected(pairs, comparisons)
        idle = graph.require_idle("a rollout")
        everything = np.arange(graph.size)
        table = pairs(np.repeat(everything, graph.size), np.tile(everything, graph.size))
        table = table.reshape(graph.size, graph.size)
        if penalty.rollout is True:
            averaged = rollout_pairs(idle, table, discount=penalty.rollout_discount)
            return lambda comparisons: _expected(_looked_up(averaged), comparisons)

        def at_the_end(comparisons: Comparisons) -> Floats:
            result, ahead = np.zeros(len(comparisons)), table
            for steps in range(int(comparisons.to_go.max(initial=0)) + 1):
                rows = np.flatnonzero(comparisons.to_go == steps)
                result[rows] = _expected(_looked_up(ahead), comparisons.part(rows))
                ahead = idle @ (ahead if comparisons.reference.still else (idle @ ahead.T).T)
            return result

        return at_the_end


def _looked_up(table: Floats) -> Callable[[Nodes, Nodes], Floats]:
    return lambda node, reference: table[node, reference]


def _expected(pairs: Callable[[Nodes, Nodes], Floats], comparisons: Comparisons) -> Floats:
    """The expectation over both sides, some pairs at a time."""
    reference = comparisons.reference
    flat = reference.node.reshape(len(reference.node), -1)
    mass = (reference.share[:, :, None] * reference.probability).reshape(flat.shape)
    outcomes, cases = comparisons.node.shape[1], flat.shape[1]
    result = np.empty(len(comparisons))
    step = max(1, PAIRS_AT_ONCE // (outcomes * cases))
    for first in range(0, len(comparisons), step):
        rows = slice(first, first + step)
        node, memory = comparisons.node[rows], comparisons.memory[rows]
        shape = (len(memory), outcomes, cases)
        here = np.broadcast_to(node[:, :, None], shape).ravel()
        there = np.broadcast_to(flat[memory][:, None], shape).ravel()
        weight = comparisons.probability[rows][:, :, None] * mass[memory][:, None]
        result[rows] = (weight * pairs(here, there).reshape(shape)).sum(axis=(1, 2))
    return result


class ValueFamily(Deviation):
    """`D(s; b) = sum_k w_k f(V_k(b) - V_k(s))`: what can be had from one state and not from the other.

    The number of apples left, for example, as a family of one value:

    >>> class Apples(ValueFamily):
    ...     label, summary = "apples", "decrease"
    ...     def values(self, graph, penalty):
    ...         return (graph.boards() == ord("A")).sum(axis=1, keepdims=True).astype(float)
    """

    summary: ClassVar[str | None] = "absolute"

    @abstractmethod
    def values(self, graph: StateGraph, penalty: "Penalty") -> Floats:
        """[N, K] V_k of every node."""

    def blocks(self, graph: StateGraph, penalty: "Penalty") -> Iterator[Floats]:
        """The values, some columns [N, B] at a time. Default: all at once."""
        yield self.values(graph, penalty)

    def weights(self, graph: StateGraph, penalty: "Penalty") -> Floats | None:  # noqa: ARG002
        """[K] w_k of a weighted norm; None for the mean over k (and the root mean square)."""
        return None

    def names(self, graph: StateGraph, penalty: "Penalty") -> Sequence[str]:
        """[K] what the values are of, for people."""
        return [f"value {k}" for k in range(self.values(graph, penalty).shape[1])]

    def sides(self, graph: StateGraph, penalty: "Penalty", values: Floats) -> tuple[Floats, Floats]:  # noqa: ARG002
        """The values [N, B] that the agent's state and the baseline's are judged by. Default: `values` both."""
        return values, values

    def code(self, penalty: "Penalty") -> str:
        """What is done with a difference: an entry of `differences.CODES`. Default: the summary."""
        return penalty.effective_summary

    def fit(self, graph: StateGraph, penalty: "Penalty") -> Comparer:
        """The comparison of values by the penalty's summary, norm, scale, expectation and rollout."""
        return lambda comparisons: self.estimate(graph, penalty, comparisons)[:, 0]

    def population(self, graph: StateGraph, penalty: "Penalty") -> int | None:  # noqa: ARG002
        """How many values there are if those of `values` are a random sample of them; None: they are all."""
        return None

    def estimate(self, graph: StateGraph, penalty: "Penalty", comparisons: Comparisons) -> Floats:
        """[P, 2] deviations and, where the values are a sample, the standard errors; else 0."""
        population = self.population(graph, penalty)
        sampled = population is not None and penalty.norm == "L1" and penalty.scale != "sum"
        sums, count = self._sums(graph, penalty, comparisons, squares=sampled)
        mean = self.weights(graph, penalty) is None and penalty.scale != "sum"
        deviations = sums.deviations() * (_per_value(penalty.norm, count) if mean else 1.0)
        errors = sums.errors(count, population) if sampled and population else np.zeros(len(deviations))
        return np.stack([deviations, errors], axis=1) * _factor(penalty)

    def _sums(
        self, graph: StateGraph, penalty: "Penalty", comparisons: Comparisons, *, squares: bool = False
    ) -> tuple[Sums, int]:
        """The sums over all values, and how many values there are."""
        count = 0
        sums = Sums(self.rules(penalty), comparisons, threads=os.cpu_count() or 1, squares=squares)
        for steps, here, there, first, weights in self._judged(graph, penalty, comparisons):
            sums.add(steps, here, there, weights)
            count = first + len(weights)
        return sums, count

    def terms(self, graph: StateGraph, penalty: "Penalty", comparisons: Comparisons) -> Floats:
        """[P, K] what each value adds to the deviations under the norm "L1"; with other norms, the largest matter."""
        sums, _ = self._sums(graph, penalty, comparisons)
        blocks: dict[int, Floats] = {}
        for steps, here, there, first, weights in self._judged(graph, penalty, comparisons):
            terms = sums.terms(steps, here, there) * weights
            blocks[first] = blocks[first] + terms if first in blocks else terms
        table = np.concatenate([blocks[first] for first in sorted(blocks)], axis=1)
        mean = self.weights(graph, penalty) is None and penalty.scale != "sum"
        return table * (1 / table.shape[1] if mean else 1.0) * _factor(penalty)

    def rules(self, penalty: "Penalty") -> Differences:
        """How the penalty compares values."""
        return Differences(
            code=self.code(penalty),
            scale=penalty.scale if penalty.scale in VALUE_SCALES else "none",
            norm=penalty.norm,
            inside=penalty.expectation == "inside",
            epsilon=penalty.epsilon,
        )

    def _judged(
        self, graph: StateGraph, penalty: "Penalty", comparisons: Comparisons
    ) -> Iterator[tuple[int, Floats, Floats, int, Floats]]:
        """Blocks of B values: steps to go, the two sides [N, B], number of the first value, weights [B]."""
        weights, first = self.weights(graph, penalty), 0
        for values in self.blocks(graph, penalty):
            width = values.shape[1]
            block = np.ones(width) if weights is None else weights[first : first + width]
            here, there = self.sides(graph, penalty, values)
            if penalty.rollout is True:
                idle, one = graph.require_idle("a rollout"), here is there
                here = rollout_values(idle, here, discount=penalty.rollout_discount)
                there = here if one else rollout_values(idle, there, discount=penalty.rollout_discount)
            for steps in range(int(comparisons.to_go.max(initial=0)) + 1):
                if steps:
                    idle = graph.require_idle("a rollout")
                    here = idle @ here
                    there = there if comparisons.reference.still else idle @ there
                yield steps, here, there, first, block
            first += width


def _per_value(norm: str, count: int) -> float:
    """What makes a sum over values a mean, and the root of a sum of squares a root mean square."""
    return {"L1": 1 / count, "L2": 1 / math.sqrt(count), "Linf": 1.0}[norm]


def _factor(penalty: "Penalty") -> float:
    return 1 - penalty.discount if penalty.scale == "discount" else 1.0
