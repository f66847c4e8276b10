"""Baselines: "compared with what?", as pure processes beside the agent's.

A baseline carries a memory, an integer, from step to step. `reference` turns memories into the states that the
agent's state is compared with.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from impactrl.errors import ImpactError
from impactrl.measures.state_graph import StateGraph

if TYPE_CHECKING:
    from impactrl.measures.penalty import Penalty

__all__ = ["BASELINES", "Baseline", "BaselineChoice", "Nodes", "Reference", "certain"]

Nodes = NDArray[np.int64]
DIGITS = 12
"""Of probabilities: distributions of inaction that agree in so many are the same."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """What M memories stand for: G cases each, every case a distribution over J nodes.

    Attributes:
        node: [M, G, J].
        probability: [M, G, J]; sums to 1 over J, or to 0 for a case that there is not.
        share: [M, G] of each case; sums to 1.
        combine: how several cases make one comparison: "each" is compared for itself and the deviations are averaged;
            "mean": their values are averaged first (deviations of pairs have none, and are averaged themselves);
            "greedy": the value of the best case, and with probability epsilon their mean.
        still: whether it stays as it is while the agent's side does nothing until the end of a plan (rollout "end").
    """

    node: Nodes
    probability: NDArray[np.float64]
    share: NDArray[np.float64]
    combine: str = "each"
    still: bool = False


class BaselineChoice(Protocol):
    """What a penalty's `baseline` stands for: something that becomes a process when fitted to a task."""

    formula: ClassVar[str]
    """The state that is compared with, for people."""
    source: ClassVar[str]
    """Where it was published."""

    def fit(self, graph: StateGraph, penalty: "Penalty") -> "Baseline":
        """The process.

        Raises:
            ImpactError: the task has no such baseline; says why and what to do.
        """


class Baseline(ABC):
    """What states are compared with, as a process. Subclass it for your own.

    All methods work on arrays of any number P of situations at once, as pure functions. A baseline that needs tables
    of a task prepares them in `fit`.

    The state just left, for example, in place of the one that doing nothing would have led to:

    >>> class Previous(Baseline):
    ...     forgetful = True
    ...     def initial(self, graph, node):
    ...         return node
    ...     def advance(self, graph, memory, node, action):
    ...         return node
    ...     def reference(self, graph, memory):
    ...         return certain(memory)
    """

    formula: ClassVar[str] = ""
    """The state that is compared with, for people."""
    source: ClassVar[str] = ""
    """Where it was published."""
    forgetful: ClassVar[bool] = False
    """Whether the next memory depends on the agent's step alone, not on the memory before."""

    def fit(self, graph: StateGraph, penalty: "Penalty") -> "Baseline":  # noqa: ARG002
        """The baseline with what it needs to know of a task; itself where that is nothing."""
        return self

    @abstractmethod
    def initial(self, graph: StateGraph, node: Nodes) -> Nodes:
        """[P] memory at the start of an episode in `node`, such that the reference is `node` itself."""

    @abstractmethod
    def advance(self, graph: StateGraph, memory: Nodes, node: Nodes, action: Nodes) -> Nodes:
        """[P] memory after `action` was taken in `node`, below `memories`."""

    @abstractmethod
    def reference(self, graph: StateGraph, memory: Nodes) -> Reference:
        """What memories stand for."""

    def memories(self, graph: StateGraph) -> int:
        """How many memories there are; they are numbered from 0. Default: one per node."""
        return graph.size

    def chances(self, graph: StateGraph, memory: Nodes) -> tuple[Nodes, NDArray[np.float64]] | None:  # noqa: ARG002
        """Of a baseline that meets chance of its own: [P, J] next memories and their probabilities; else None.

        The world's chance is the same for both: agent and baseline share one random number per step (common random
        numbers), which picks from either's outcomes in their order. `advance` is then not asked.
        """
        return None

    def node(self, graph: StateGraph, memory: int) -> int | None:
        """The node that a memory stands for, where people look at it; None where it is not one."""
        reference = self.reference(graph, np.array([memory]))
        possible = reference.node[0][reference.probability[0] > 0]
        return int(possible[0]) if len(possible) == 1 else None


def certain(node: Nodes) -> Reference:
    """One case, one node each."""
    ones = np.ones((len(node), 1))
    return Reference(node=node[:, None, None], probability=ones[:, :, None], share=ones)


def _rows(matrix: "sparse.csr_array", row: Nodes) -> tuple[Nodes, NDArray[np.float64]]:
    """[P, J] columns and values of some rows of a sparse matrix, padded with 0."""
    degree = np.diff(matrix.indptr)[row]
    slot = np.arange(max(1, int(degree.max(initial=1))))
    entry = np.minimum(matrix.indptr[row][:, None] + slot, len(matrix.indices) - 1)
    return matrix.indices[entry].astype(np.int64), np.where(slot < degree[:, None], matrix.data[entry], 0.0)


@dataclass(frozen=True)
class Nothing(Baseline):
    """Nothing is compared with: for measures of a single state."""

    formula: ClassVar[str] = "none"

    def initial(self, graph: StateGraph, node: Nodes) -> Nodes:  # noqa: ARG002
        """Nothing to remember."""
        return np.zeros_like(node)

    def advance(self, graph: StateGraph, memory: Nodes, node: Nodes, action: Nodes) -> Nodes:  # noqa: ARG002
        """Nothing to remember."""
        return memory

    def reference(self, graph: StateGraph, memory: Nodes) -> Reference:  # noqa: ARG002
        """Any node will do."""
        return certain(memory)

    def node(self, graph: StateGraph, memory: int) -> None:  # noqa: ARG002
        """None."""
        return


class _OneNode(Baseline):
    """A baseline whose memory is the node that it has reached."""

    def initial(self, graph: StateGraph, node: Nodes) -> Nodes:  # noqa: ARG002
        """The first node."""
        return node

    def advance(self, graph: StateGraph, memory: Nodes, node: Nodes, action: Nodes) -> Nodes:  # noqa: ARG002
        """It stays."""
        return memory

    def reference(self, graph: StateGraph, memory: Nodes) -> Reference:  # noqa: ARG002
        """The node itself."""
        return certain(memory)


@dataclass(frozen=True)
class Start(_OneNode):
    """The first state of the episode. Known bad incentive: stops every other change in the world."""

    formula: ClassVar[str] = "b = s_0"
    source: ClassVar[str] = "Eysenbach et al. 2017, arXiv 1711.06782; Krakovna et al. 2019, arXiv 1806.01186"

    def reference(self, graph: StateGraph, memory: Nodes) -> Reference:  # noqa: ARG002
        """The first node, as it was."""
        return replace(certain(memory), still=True)


@dataclass(frozen=True)
class Inaction:
    """The state after as many no-ops from the first state. Known bad incentive: offsetting.

    Where doing nothing is random, the penalty says by `inaction` what is meant: the exact distribution, or a sampled
    course that shares the world's random numbers.
    """

    formula: ClassVar[str] = "b = the state after t + 1 no-ops from s_0"
    source: ClassVar[str] = "Armstrong and Levinstein 2017, arXiv 1705.10720; Krakovna et al. 2019, arXiv 1806.01186"

    def fit(self, graph: StateGraph, penalty: "Penalty") -> Baseline:
        """One course, a distribution over courses, or a sampled one.

        Raises:
            ImpactError: the world has no no-op, or doing nothing is random and `inaction` does not say which.
        """
        idle = graph.require_idle(f"baseline={penalty.baseline!r}")
        if penalty.inaction == "sampled":
            return _SampledCourse(*_listed(graph))
        if penalty.inaction == "exact":
            return _course(idle, graph)
        reached = _closure(idle, np.unique(graph.node[np.flatnonzero(graph.mdp.start)]))
        if (np.diff(idle.indptr)[reached] > 1).any():
            raise ImpactError(
                f"the course of baseline={penalty.baseline!r} is random in this world: say inaction='exact' (compare "
                "with the distribution over all courses) or inaction='sampled' (with one course that shares the "
                "world's random numbers), or use baseline='stepwise'"
            )
        return _OneCourse(_rows(idle, np.arange(graph.size))[0][:, 0])


@dataclass(frozen=True)
class Policy(Inaction):
    """The state that a default policy would have reached from the first state, in place of no-ops."""

    formula: ClassVar[str] = "b = the state after t + 1 steps of the default policy from s_0"
    source: ClassVar[str] = "Krakovna et al. 2019, arXiv 1806.01186"


def _closure(idle: "sparse.csr_array", first: Nodes) -> Nodes:
    """The nodes that doing nothing can lead to."""
    known = np.zeros(idle.shape[0], dtype=np.bool_)
    known[first[first >= 0]] = True
    while True:
        after = known | (idle.T @ known.astype(np.float64) > 0)
        if (after == known).all():
            return np.flatnonzero(known)
        known = after


@dataclass(frozen=True, eq=False)
class _OneCourse(_OneNode):
    """A certain course of inaction: the memory is the node that it has reached."""

    following: Nodes

    def advance(self, graph: StateGraph, memory: Nodes, node: Nodes, action: Nodes) -> Nodes:  # noqa: ARG002
        return self.following[memory]


@dataclass(frozen=True, eq=False)
class _SampledCourse(_OneNode):
    """A random course of inaction that shares the world's random numbers: the memory is the node it has reached."""

    outcome: Nodes  # [N, J]
    probability: NDArray[np.float64]  # [N, J]

    def chances(self, graph: StateGraph, memory: Nodes) -> tuple[Nodes, NDArray[np.float64]]:  # noqa: ARG002
        return self.outcome[memory], self.probability[memory]


def _listed(graph: StateGraph) -> tuple[Nodes, NDArray[np.float64]]:
    """[N, J] where doing nothing leads, and with what probability, in the order in which the world lists its outcomes.

    The agent's outcomes are in that order, too: with the same random number both get the same one.
    """
    assert graph.choice is not None
    chance = (graph.mdp.probability[graph.state] * graph.choice[:, :, None]).reshape(graph.size, -1)
    possible = np.argsort(chance == 0, axis=1, kind="stable")[:, : int((chance > 0).sum(axis=1).max(initial=1))]
    outcome = np.take_along_axis(graph.successor.reshape(chance.shape), possible, axis=1)
    return outcome.astype(np.int64), np.take_along_axis(chance, possible, axis=1)


@dataclass(frozen=True, eq=False)
class _Distributions(Baseline):
    """The exact distribution of inaction: the memory numbers the distributions that occur."""

    first: Nodes  # [N] memory of an episode that starts in a node
    following: Nodes  # [M]
    distribution: "sparse.csr_array"  # [M, N]

    def memories(self, graph: StateGraph) -> int:  # noqa: ARG002
        return len(self.following)

    def initial(self, graph: StateGraph, node: Nodes) -> Nodes:  # noqa: ARG002
        return self.first[node]

    def advance(self, graph: StateGraph, memory: Nodes, node: Nodes, action: Nodes) -> Nodes:  # noqa: ARG002
        return self.following[memory]

    def reference(self, graph: StateGraph, memory: Nodes) -> Reference:  # noqa: ARG002
        node, probability = _rows(self.distribution, memory)
        return Reference(node=node[:, None], probability=probability[:, None], share=np.ones((len(memory), 1)))


def _course(idle: "sparse.csr_array", graph: StateGraph) -> _Distributions:
    """The distributions after 0, 1, 2, ... no-ops from every start, up to the time limit."""
    known: dict[bytes, int] = {}
    rows: list[NDArray[np.float64]] = []
    following: list[int] = []

    def numbered(mass: NDArray[np.float64]) -> int:
        number = known.setdefault(mass.round(DIGITS).tobytes(), len(rows))  # else rounding would make two of one
        if number == len(rows):
            rows.append(mass)
            following.append(number)  # it stays, unless a later step is asked for
        return number

    first = np.zeros(graph.size, dtype=np.int64)
    for node in np.unique(graph.node[np.flatnonzero(graph.mdp.start)]):
        if node < 0:
            continue
        number = first[node] = numbered(np.eye(1, graph.size, node)[0])
        for _ in range(graph.mdp.time_limit):
            if following[number] == number:
                following[number] = numbered(np.asarray(idle.T @ rows[number]))
            number = following[number]
    table = sparse.csr_array(np.array(rows).reshape(-1, graph.size))
    return _Distributions(first=first, following=np.array(following, dtype=np.int64), distribution=table)


@dataclass(frozen=True)
class Stepwise(Baseline):
    """One no-op from the state just left. Known bad incentive: blind to delayed effects, without a rollout.

    The memory is the node just left, or N more than the first node before any step.
    """

    formula: ClassVar[str] = "b = the state after one no-op from s_t"
    source: ClassVar[str] = "Turner et al. 2020, arXiv 1902.09725; Krakovna et al. 2019, arXiv 1806.01186"
    forgetful: ClassVar[bool] = True

    def fit(self, graph: StateGraph, penalty: "Penalty") -> Baseline:
        """Itself.

        Raises:
            ImpactError: the world has no no-op.
        """
        graph.require_idle(f"baseline={penalty.baseline!r}")
        return self

    def memories(self, graph: StateGraph) -> int:
        """A node just left, or a first node."""
        return 2 * graph.size

    def initial(self, graph: StateGraph, node: Nodes) -> Nodes:
        """No step yet: the node itself."""
        return node + graph.size

    def advance(self, graph: StateGraph, memory: Nodes, node: Nodes, action: Nodes) -> Nodes:  # noqa: ARG002
        """The node just left."""
        return node

    def reference(self, graph: StateGraph, memory: Nodes) -> Reference:
        """Where a no-op would have led; the exact distribution where it is random."""
        node, probability = _rows(graph.require_idle("the stepwise baseline"), memory % graph.size)
        first = memory >= graph.size
        node[first, 0] = memory[first] - graph.size
        probability[first] = np.eye(1, probability.shape[1])
        return Reference(node=node[:, None], probability=probability[:, None], share=np.ones((len(memory), 1)))

    def node(self, graph: StateGraph, memory: int) -> int | None:
        """The node just left."""
        return memory if memory < graph.size else None


@dataclass(frozen=True)
class _Actions(Baseline):
    """What the actions in the state just left would have led to, for worlds without a no-op.

    The memory is the node just left and the action taken there, or a first node.
    """

    source: ClassVar[str] = "Eresheim et al. 2023, Standing still is not an option"
    forgetful: ClassVar[bool] = True
    combine: ClassVar[str] = "each"
    """See `Reference`."""
    others: ClassVar[bool] = False
    """Whether the action that was taken is left out."""

    def memories(self, graph: StateGraph) -> int:
        """A node and an action, or a first node."""
        return graph.size * (graph.num_actions + 1)

    def initial(self, graph: StateGraph, node: Nodes) -> Nodes:
        """No step yet: the node itself."""
        return node + graph.size * graph.num_actions

    def advance(self, graph: StateGraph, memory: Nodes, node: Nodes, action: Nodes) -> Nodes:  # noqa: ARG002
        """The node just left and the action; where the action makes no difference, the first one stands for all."""
        return node * graph.num_actions + (action if self.others else 0)

    def reference(self, graph: StateGraph, memory: Nodes) -> Reference:
        """A case for each action. An action that leaves the graph stays where it is."""
        num_actions = graph.num_actions
        first = memory >= graph.size * num_actions
        left, taken = memory // num_actions, memory % num_actions
        left = np.where(first, memory - graph.size * num_actions, left)
        node = graph.successor[left].astype(np.int64)
        probability = graph.mdp.probability[graph.state[left]].copy()
        share = np.full(node.shape[:2], 1 / num_actions)
        if self.others and num_actions > 1:
            share = np.where(np.arange(num_actions) == taken[:, None], 0.0, 1 / (num_actions - 1))
        node[first] = left[first][:, None, None]
        return Reference(node=node, probability=probability, share=share, combine=self.combine)

    def node(self, graph: StateGraph, memory: int) -> int | None:
        """The node just left."""
        left = memory // graph.num_actions
        return left if left < graph.size else None


class Average(_Actions):
    """The mean value over all actions in the state just left, in place of the no-op's."""

    formula: ClassVar[str] = "Q(s, no-op) replaced by the mean of Q(s, a) over all actions a"
    combine: ClassVar[str] = "mean"


class AverageOther(_Actions):
    """The mean value over the actions that were not taken, in place of the no-op's."""

    formula: ClassVar[str] = "Q(s, no-op) replaced by the mean of Q(s, a) over the other actions"
    combine: ClassVar[str] = "mean"
    others: ClassVar[bool] = True


class Random(_Actions):
    """One of the actions that were not taken, at random, in place of the no-op: the expected deviation."""

    formula: ClassVar[str] = "Q(s, no-op) replaced by Q(s, a), a one random other action"
    others: ClassVar[bool] = True


class Adversarial(_Actions):
    """The value under the epsilon-greedy auxiliary policy, in place of the no-op's."""

    formula: ClassVar[str] = "Q(s, no-op) replaced by (1 - eps) max_a Q(s, a) + eps mean_a Q(s, a)"
    combine: ClassVar[str] = "greedy"


BASELINES: dict[str, BaselineChoice] = {
    "none": Nothing(),
    "start": Start(),
    "inaction": Inaction(),
    "stepwise": Stepwise(),
    "policy": Policy(),
    "average": Average(),
    "average_other": AverageOther(),
    "random": Random(),
    "adversarial": Adversarial(),
}
"""The baselines that come with the library, by name."""
