"""Deviations: how much worse, or how different, a state is than the state it is compared with."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numba
import numpy as np
from numpy.typing import NDArray

from impactrl.errors import ImpactError
from impactrl.measures.state_graph import StateGraph
from impactrl.measures.values import attainable_utilities, reachability, rollout_pairs, rollout_values

__all__ = ["DEVIATIONS", "SCALES", "SUMMARIES", "Deviation", "PairDeviation", "Settings"]

SUMMARIES = ("decrease", "increase", "absolute")
SCALES = ("none", "per-value", "sum", "discount")
ZERO = 1e-9  # values are solved to 1e-10: what is smaller counts as 0, and scales by 1

PairDeviation = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float64]]
"""From nodes [P] of the agent and nodes [P] of the baseline to deviations [P]."""


class Settings(Protocol):
    """What a deviation reads of a `Penalty`, whose fields these are."""

    @property
    def summary(self) -> str | None: ...  # noqa: D102
    @property
    def effective_summary(self) -> str: ...  # noqa: D102
    @property
    def scale(self) -> str: ...  # noqa: D102
    @property
    def discount(self) -> float: ...  # noqa: D102
    @property
    def rollout(self) -> bool: ...  # noqa: D102
    @property
    def rollout_discount(self) -> float: ...  # noqa: D102


class Deviation(Protocol):
    """A measure of how far apart two states are."""

    label: ClassVar[str]
    """Short name for legends and tables."""
    summary: ClassVar[str | None]
    """The usual summary; None where the deviation is no difference of values."""

    def check(self, penalty: Settings) -> None:
        """Refuses settings that this deviation cannot have.

        Raises:
            ImpactError: says which and why.
        """

    def fit(self, graph: StateGraph, penalty: Settings, utilities: NDArray[np.float64]) -> PairDeviation:
        """Computes what the deviation of any two nodes needs.

        Args:
            graph: of N nodes.
            penalty: the settings.
            utilities: [N, U], of the nodes; without columns where the deviation has no utilities.
        """


@dataclass(frozen=True)
class NoDeviation:
    """Nothing counts as an impact: the agent without a penalty."""

    label: ClassVar[str] = "none"
    summary: ClassVar[str | None] = None

    def check(self, penalty: Settings) -> None:
        """Refuses what could not have any effect."""
        _refuse_value_settings(penalty, "'none'")

    def fit(self, graph: StateGraph, penalty: Settings, utilities: NDArray[np.float64]) -> PairDeviation:  # noqa: ARG002
        """Zero for any pair."""
        return lambda node, _: np.zeros(len(node))


@dataclass(frozen=True)
class Unreachability:
    """`D(s; b) = 1 - R(s; b)`: can the baseline state still be reached?

    Krakovna et al. (2019), arXiv 1806.01186, section 3; the "reversibility" of earlier work.
    """

    label: ClassVar[str] = "UR"
    summary: ClassVar[str | None] = None

    def check(self, penalty: Settings) -> None:
        """Refuses a summary or a scale: this deviation is no difference of values."""
        _refuse_value_settings(penalty, "unreachability")

    def fit(self, graph: StateGraph, penalty: Settings, utilities: NDArray[np.float64]) -> PairDeviation:  # noqa: ARG002
        """The table of all pairs."""
        table = 1 - reachability(graph, discount=penalty.discount)
        if penalty.rollout:
            noop = graph.require_noop("a rollout")
            table = rollout_pairs(noop, table, discount=penalty.rollout_discount)
        return lambda node, reference: table[node, reference]


@dataclass(frozen=True)
class RelativeReachability:
    """The share of states that became less reachable: the value family is the reachability of every state.

    Krakovna et al. (2019), arXiv 1806.01186, section 3.
    """

    label: ClassVar[str] = "RR"
    summary: ClassVar[str | None] = "decrease"

    def check(self, penalty: Settings) -> None:
        """Any settings will do."""

    def fit(self, graph: StateGraph, penalty: Settings, utilities: NDArray[np.float64]) -> PairDeviation:  # noqa: ARG002
        """The reachability of every node from every node."""
        return _value_difference(graph, penalty, reachability(graph, discount=penalty.discount))


@dataclass(frozen=True)
class AttainableUtility:
    """The change in how well other goals could be pursued: the value family is the best value of utilities.

    Krakovna et al. (2019), arXiv 1806.01186, section 4; with the stepwise baseline it is, in
    deterministic worlds, attainable utility preservation, Turner et al. (2020), arXiv 1902.09725.
    """

    label: ClassVar[str] = "AU"
    summary: ClassVar[str | None] = "absolute"

    def check(self, penalty: Settings) -> None:
        """Refuses discount 1: attainable utilities would be infinite."""
        if penalty.discount == 1:
            raise ImpactError(
                "attainable_utility needs a discount below 1: undiscounted utilities of an endless future are "
                "infinite; try discount=0.99"
            )

    def fit(self, graph: StateGraph, penalty: Settings, utilities: NDArray[np.float64]) -> PairDeviation:
        """The optimal values of all utilities."""
        values = attainable_utilities(graph, utilities, discount=penalty.discount)
        return _value_difference(graph, penalty, values)


DEVIATIONS: dict[str, Deviation] = {
    "none": NoDeviation(),
    "unreachability": Unreachability(),
    "relative_reachability": RelativeReachability(),
    "attainable_utility": AttainableUtility(),
}
"""Deviations by name."""


def _refuse_value_settings(penalty: Settings, name: str) -> None:
    if penalty.summary is not None:
        raise ImpactError(
            f"{name} is no difference of values, so it has no summary; leave summary out "
            f"(it was {penalty.summary!r}) or use relative_reachability or attainable_utility"
        )
    if penalty.scale != "none":
        raise ImpactError(
            f"{name} is no difference of values, so there is nothing to scale; leave scale out "
            f"(it was {penalty.scale!r})"
        )


def _value_difference(graph: StateGraph, penalty: Settings, values: NDArray[np.float64]) -> PairDeviation:
    """`D(s; b) = mean_k f(V_k(b) - V_k(s))`, by the penalty's summary f, rollout and scale."""
    if penalty.rollout:
        noop = graph.require_noop("a rollout")
        values = rollout_values(noop, values, discount=penalty.rollout_discount)
    values = np.ascontiguousarray(values)
    summary = SUMMARIES.index(penalty.effective_summary)
    scale = SCALES.index(penalty.scale)
    factor = 1 - penalty.discount if penalty.scale == "discount" else 1.0

    def pairs(node: NDArray[np.int64], reference: NDArray[np.int64]) -> NDArray[np.float64]:
        result: NDArray[np.float64] = factor * _summarise(values, node, reference, summary, scale)
        return result

    return pairs


@numba.njit(cache=True, nogil=True)
def _summarise(
    values: NDArray[np.float64],
    node: NDArray[np.int64],
    reference: NDArray[np.int64],
    summary: int,
    scale: int,
) -> NDArray[np.float64]:
    """Mean over k of the summarised differences; codes are places in `SUMMARIES` and `SCALES`."""
    result = np.empty(len(node))
    family = values.shape[1]
    for p in range(len(node)):
        here, there = values[node[p]], values[reference[p]]
        total, size = 0.0, 0.0
        for k in range(family):
            d = there[k] - here[k]
            if summary == 0:
                d = max(d, 0.0)
            elif summary == 1:
                d = max(-d, 0.0)
            else:
                d = abs(d)
            unit = abs(there[k])
            if scale == 1 and unit > ZERO:
                d /= unit
            total += d
            size += unit
        if scale == 2:
            result[p] = total / (size if size > ZERO else 1.0)
        else:
            result[p] = total / family
    return result
