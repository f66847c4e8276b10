"""The state graph that a measure compares states in."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from impactrl.errors import ImpactError, require_known, require_one_of
from impactrl.mdp import TabularMDP

__all__ = ["RANDOM", "TERMINAL_RULES", "StateGraph", "state_graph"]

TERMINAL_RULES = ("previous", "absorbing")
RANDOM = "random"


@dataclass(frozen=True, kw_only=True, eq=False)
class StateGraph:
    """The situations of a task as nodes; N of them, A actions, K outcomes.

    Attributes:
        node: [S] int32, node of each state of the MDP; -1 for terminal states that are no states of the measure.
        state: [N] int32, one state of the MDP per node.
        successor: [N, A, K] int32.
        probability: [N, A, K]; 0 where nothing of the measure follows.
        available: [N, A] bool, whether anything of the measure can follow.
        choice: [N, A] the share of each action in what stands for doing nothing; None if nothing does.
        idle: [N, N] sparse transition matrix of what stands for doing nothing: the no-op, or a policy given in its
            place; None if the world has neither. What would leave the graph stays where it is.
        mdp: the task, whose states and boards the nodes stand for.
    """

    node: NDArray[np.int32]
    state: NDArray[np.int32]
    successor: NDArray[np.int32]
    probability: NDArray[np.float64]
    available: NDArray[np.bool_]
    choice: NDArray[np.float64] | None
    idle: "sparse.csr_array | None"
    mdp: TabularMDP

    @property
    def size(self) -> int:
        """N."""
        return len(self.state)

    @property
    def num_actions(self) -> int:
        """A."""
        return int(self.successor.shape[1])

    @property
    def deterministic(self) -> bool:
        """Whether every action has one outcome."""
        return bool(self.successor.shape[2] == 1)

    def require_idle(self, what: str) -> "sparse.csr_array":
        """The transition matrix of doing nothing.

        Raises:
            ImpactError: the world has no no-op, and no policy was given in its place.
        """
        if self.idle is None:
            raise ImpactError(
                f"{what} needs to know what happens when the agent does nothing, but this world has no no-op action; "
                "give a policy that stands for it, or use a baseline without one: start, average, average_other, "
                "random or adversarial"
            )
        return self.idle

    def boards(self) -> NDArray[np.uint8]:
        """[N, cells] character codes of the board of every node.

        Raises:
            ImpactError: the world has no boards of one size (a table of states).
        """
        boards = [self.mdp.draw(self.mdp.states[s]) for s in self.state]
        if len({board.shape for board in boards}) > 1:
            raise ImpactError(
                "the boards of this world are not all of one size, so their cells cannot be compared; use a measure "
                "that does not look at boards"
            )
        return np.array([board.ravel() for board in boards], dtype=np.uint8)


def state_graph(mdp: TabularMDP, terminal: str, policy: "str | tuple[int, ...] | None" = None) -> StateGraph:
    """The graph of all situations that the task can reach under any actions.

    Args:
        mdp: the task.
        terminal: "previous": terminal states are no states of the measure, neither compared nor followed.
            "absorbing": they are states that nothing follows.
        policy: what stands for doing nothing; None: the no-op. See `Penalty`.

    Raises:
        ImpactError: an unknown rule, or a policy that does not fit the task.
    """
    require_one_of("terminal", terminal, TERMINAL_RULES)
    first = np.unique(mdp.situation, return_index=True)[1].astype(np.int32)
    kept = first[~mdp.terminal[first]] if terminal == "previous" else first
    numbers = np.full(len(first), -1, dtype=np.int32)
    numbers[mdp.situation[kept]] = np.arange(len(kept), dtype=np.int32)
    node = numbers[mdp.situation]

    choice = _choice(mdp, policy)
    compared = node >= 0
    if choice is not None and (choice[compared] != choice[kept[node[compared]]]).any():
        raise ImpactError("a policy must agree in states that differ in bookkeeping only (equal `mdp.situation`)")
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
        choice=None if choice is None else choice[kept],
        idle=None if choice is None else _mixed(successor, mdp.probability[kept] * choice[kept, :, None]),
        mdp=mdp,
    )


def _choice(mdp: TabularMDP, policy: "str | tuple[int, ...] | None") -> NDArray[np.float64] | None:
    """[S, A] the share of each action in what stands for doing nothing."""
    shape = (mdp.num_states, mdp.num_actions)
    if policy is None:
        return None if mdp.noop is None else np.broadcast_to(np.eye(mdp.num_actions)[mdp.noop], shape)
    if policy == RANDOM:
        return np.full(shape, 1 / mdp.num_actions)
    if isinstance(policy, str):
        require_known("policy", policy, (RANDOM, *mdp.actions))
        return np.broadcast_to(np.eye(mdp.num_actions)[mdp.actions.index(policy)], shape)
    if len(policy) != mdp.num_states or not all(0 <= a < mdp.num_actions for a in policy):
        raise ImpactError(
            f"a policy as a table has one action index from 0 to {mdp.num_actions - 1} for each of the "
            f"{mdp.num_states} states of the task; this one has {len(policy)} entries up to "
            f"{max(policy, default='none')}"
        )
    return np.eye(mdp.num_actions)[list(policy)]


def _mixed(successor: NDArray[np.int32], probability: NDArray[np.float64]) -> "sparse.csr_array":
    """[N, N] from [N, A, K] successors and their probabilities, those of all actions summing to 1."""
    count, num_actions, outcomes = successor.shape
    rows = np.repeat(np.arange(count), num_actions * outcomes)
    matrix = sparse.csr_array((probability.ravel(), (rows, successor.ravel())), shape=(count, count))
    matrix.eliminate_zeros()
    return matrix
