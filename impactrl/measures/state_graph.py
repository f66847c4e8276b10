"""The state graph that a measure compares states in."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from impactrl.errors import ImpactError, require_one_of
from impactrl.mdp import TabularMDP

__all__ = ["TERMINAL_RULES", "StateGraph", "state_graph"]

TERMINAL_RULES = ("previous", "absorbing")


@dataclass(frozen=True, kw_only=True, eq=False)
class StateGraph:
    """The situations of a task as nodes; N of them, A actions, K outcomes.

    Attributes:
        node: [S] int32, node of each state of the MDP; -1 for terminal states that are no states of the measure.
        state: [N] int32, one state of the MDP per node.
        successor: [N, A, K] int32.
        probability: [N, A, K]; 0 where nothing of the measure follows.
        available: [N, A] bool, whether anything of the measure can follow.
        noop: [N, N] sparse transition matrix of the no-op, or None if the world has none. A no-op that would leave
            the graph stays where it is.
    """

    node: NDArray[np.int32]
    state: NDArray[np.int32]
    successor: NDArray[np.int32]
    probability: NDArray[np.float64]
    available: NDArray[np.bool_]
    noop: "sparse.csr_array | None"

    @property
    def size(self) -> int:
        """N."""
        return len(self.state)

    @property
    def deterministic(self) -> bool:
        """Whether every action has one outcome."""
        return bool(self.successor.shape[2] == 1)

    def require_noop(self, what: str) -> "sparse.csr_array":
        """The transition matrix of the no-op.

        Raises:
            ImpactError: the world has no no-op.
        """
        if self.noop is None:
            raise ImpactError(
                f"{what} needs to know what happens when the agent does nothing, but this world has no no-op action; "
                "use baseline='start' without a rollout"
            )
        return self.noop


def state_graph(mdp: TabularMDP, terminal: str) -> StateGraph:
    """The graph of all situations that the task can reach under any actions.

    Args:
        mdp: the task.
        terminal: "previous": terminal states are no states of the measure, neither compared nor followed.
            "absorbing": they are states that nothing follows.
    """
    require_one_of("terminal", terminal, TERMINAL_RULES)
    first = np.unique(mdp.situation, return_index=True)[1].astype(np.int32)
    kept = first[~mdp.terminal[first]] if terminal == "previous" else first
    numbers = np.full(len(first), -1, dtype=np.int32)
    numbers[mdp.situation[kept]] = np.arange(len(kept), dtype=np.int32)
    node = numbers[mdp.situation]

    target = node[mdp.next_state[kept]]
    follows = (target >= 0) & ~mdp.terminal[kept, None, None]
    stay = np.arange(len(kept), dtype=np.int32)[:, None, None]
    successor = np.where(target >= 0, target, stay)
    probability = np.where(follows, mdp.probability[kept], 0.0)
    return StateGraph(
        node=node,
        state=kept,
        successor=np.ascontiguousarray(successor),
        probability=probability,
        available=np.asarray((probability > 0).any(axis=2)),
        noop=None if mdp.noop is None else _noop_matrix(successor[:, mdp.noop], mdp.probability[kept, mdp.noop]),
    )


def _noop_matrix(successor: NDArray[np.int32], probability: NDArray[np.float64]) -> "sparse.csr_array":
    count, outcomes = successor.shape
    rows = np.repeat(np.arange(count), outcomes)
    matrix = sparse.csr_array((probability.ravel(), (rows, successor.ravel())), shape=(count, count))
    matrix.eliminate_zeros()
    return matrix
