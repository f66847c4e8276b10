"""Baselines: "compared with what?", as pure processes beside the agent's.

A baseline carries a memory, an integer, from step to step. `reference` turns it into the state that the agent's
state is compared with, or into a distribution over states where the no-op is stochastic.
"""

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from impactrl.errors import ImpactError
from impactrl.measures.state_graph import StateGraph

__all__ = ["BASELINES", "Baseline", "Inaction", "Start", "Stepwise"]

Nodes = NDArray[np.int64]
Distribution = tuple[Nodes, NDArray[np.float64]]


class Baseline(Protocol):
    """What states are compared with. All methods work on arrays of any number P of situations at once."""

    forgetful: ClassVar[bool]
    """Whether the next memory depends on the agent's state alone, not on the memory before."""
    needs_noop: ClassVar[bool]
    """Whether it asks what happens when the agent does nothing."""

    def initial(self, graph: StateGraph, node: Nodes) -> Nodes:
        """Memory at the start of an episode in `node`, such that the reference is `node` itself."""

    def advance(self, graph: StateGraph, memory: Nodes, node: Nodes) -> Nodes:
        """Memory after a step that was taken in `node`."""

    def reference(self, graph: StateGraph, memory: Nodes) -> Distribution:
        """Nodes to compare with and their probabilities, both [P, J]."""

    def node(self, graph: StateGraph, memory: int) -> int | None:
        """The node that a memory stands for, where people look at it; None before the first step."""


def _certain(nodes: Nodes) -> Distribution:
    return nodes[:, None], np.ones((len(nodes), 1))


def _noop_distribution(graph: StateGraph, nodes: Nodes) -> Distribution:
    """Where a no-op leads from each node, padded with probability 0."""
    noop = graph.require_noop("the baseline")
    degree = np.diff(noop.indptr)[nodes]
    slot = np.arange(max(1, int(degree.max(initial=1))))
    entry = np.minimum(noop.indptr[nodes][:, None] + slot, len(noop.indices) - 1)
    return noop.indices[entry].astype(np.int64), np.where(slot < degree[:, None], noop.data[entry], 0.0)


@dataclass(frozen=True)
class Start:
    """The first state of the episode. Known bad incentive: stops every other change in the world."""

    forgetful: ClassVar[bool] = False
    needs_noop: ClassVar[bool] = False

    def initial(self, graph: StateGraph, node: Nodes) -> Nodes:  # noqa: ARG002
        """The first node."""
        return node

    def advance(self, graph: StateGraph, memory: Nodes, node: Nodes) -> Nodes:  # noqa: ARG002
        """It stays."""
        return memory

    def reference(self, graph: StateGraph, memory: Nodes) -> Distribution:  # noqa: ARG002
        """The first node."""
        return _certain(memory)

    def node(self, graph: StateGraph, memory: int) -> int:  # noqa: ARG002
        """The first node."""
        return memory


@dataclass(frozen=True)
class Inaction:
    """The state after as many no-ops from the first state. Known bad incentive: offsetting."""

    forgetful: ClassVar[bool] = False
    needs_noop: ClassVar[bool] = True

    def initial(self, graph: StateGraph, node: Nodes) -> Nodes:  # noqa: ARG002
        """The first node."""
        return node

    def advance(self, graph: StateGraph, memory: Nodes, node: Nodes) -> Nodes:  # noqa: ARG002
        """One more no-op.

        Raises:
            ImpactError: the no-op is stochastic there, so that the baseline would be a distribution.
        """
        nodes, probability = _noop_distribution(graph, memory)
        if (np.count_nonzero(probability, axis=1) > 1).any():
            raise ImpactError(
                "the inaction baseline needs a world where doing nothing has one outcome, and here it is random; "
                "use baseline='stepwise' (its exact expectation is taken) or 'start'"
            )
        following: Nodes = nodes[np.arange(len(memory)), probability.argmax(axis=1)]
        return following

    def reference(self, graph: StateGraph, memory: Nodes) -> Distribution:  # noqa: ARG002
        """The node that inaction has reached."""
        return _certain(memory)

    def node(self, graph: StateGraph, memory: int) -> int:  # noqa: ARG002
        """The node that inaction has reached."""
        return memory


@dataclass(frozen=True)
class Stepwise:
    """One no-op from the state just left. Known bad incentive: blind to delayed effects, without a rollout.

    The memory is the node just left, or N more than the first node before any step.
    """

    forgetful: ClassVar[bool] = True
    needs_noop: ClassVar[bool] = True

    def initial(self, graph: StateGraph, node: Nodes) -> Nodes:
        """No step yet: the node itself."""
        return node + graph.size

    def advance(self, graph: StateGraph, memory: Nodes, node: Nodes) -> Nodes:  # noqa: ARG002
        """The node just left."""
        return node

    def reference(self, graph: StateGraph, memory: Nodes) -> Distribution:
        """Where a no-op would have led; the exact distribution where it is random."""
        nodes, probability = _noop_distribution(graph, memory % graph.size)
        first = memory >= graph.size
        nodes[first, 0] = memory[first] - graph.size
        probability[first] = np.eye(1, probability.shape[1])
        return nodes, probability

    def node(self, graph: StateGraph, memory: int) -> int | None:
        """The node just left."""
        return memory if memory < graph.size else None


BASELINES: dict[str, Baseline] = {"start": Start(), "inaction": Inaction(), "stepwise": Stepwise()}
"""Baselines by name."""
