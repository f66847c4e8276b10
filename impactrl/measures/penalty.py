"""`Penalty`: one row of choices, fitted to a task it becomes the impact of every transition."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from impactrl.errors import ImpactError, real_number, require_known, require_one_of, whole_number
from impactrl.mdp import TabularMDP
from impactrl.measures.baselines import BASELINES, Baseline
from impactrl.measures.deviations import DEVIATIONS, SCALES, SUMMARIES, PairDeviation
from impactrl.measures.product import NO_MEMORY, Product, product
from impactrl.measures.state_graph import TERMINAL_RULES, StateGraph, state_graph

__all__ = ["COLUMNS", "Impact", "Penalty"]

COLUMNS = ("reward", "performance", "side_effect", "completed", "impact")
"""The five columns of every result, in order. Impact is the summed penalty at weight 1."""

Utilities = int | tuple[tuple[float, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Penalty:
    """What the agent pays for its impact: `reward - weight * D(s_{t+1}; b_{t+1})` in every step.

    Attributes:
        deviation: "relative_reachability", "unreachability", "attainable_utility" or "none".
        baseline: what a state is compared with: "start", "inaction" or "stepwise".
        summary: what counts in a difference d = value of the baseline - value of the state: "decrease" max(0, d),
            "increase" max(0, -d), "absolute" |d|. None: the usual one of the deviation (decrease for relative
            reachability, absolute for attainable utility; unreachability has none).
        weight: of the penalty against the reward.
        discount: inside the values (of reachability per step, of utilities), in [0, 1].
        rollout: compare along rollouts of no-ops from both states, not just the states (delayed effects).
        rollout_discount: of those rollouts, in [0, 1).
        scale: "none"; "per-value": each term divided by the size of the baseline's value, 0 counting as 1 (Turner
            et al. 2020); "sum": total difference over the total of the baseline's values; "discount": times
            1 - discount (Krakovna et al. 2019).
        nonterminal_weight: factor on every step that does not end the episode.
        terminal: "previous": terminal states are no states of the measure, and the step that ends the episode is
            charged for the pair before it. "absorbing": they are states that nothing follows.
        utilities: of attainable_utility: how many to draw, uniform in [0, 1) for every state independently; or a
            table with one row per state id of the task and one column per utility.
        seed: of the drawn utilities.

    Raises:
        ImpactError: an unknown name, a value out of range, or an impossible combination; says what and why.

    >>> Penalty(deviation="unreachability").label
    'UR stepwise'
    """

    deviation: str = "relative_reachability"
    baseline: str = "stepwise"
    summary: str | None = None
    weight: float = 1.0
    discount: float = 0.99
    rollout: bool = False
    rollout_discount: float = 0.99
    scale: str = "none"
    nonterminal_weight: float = 1.0
    terminal: str = "previous"
    utilities: Utilities = 10
    seed: int = 0

    def __post_init__(self) -> None:
        require_known("deviation", self.deviation, DEVIATIONS)
        require_known("baseline", self.baseline, BASELINES)
        require_one_of("summary", self.summary, [None, *SUMMARIES])
        require_one_of("scale", self.scale, SCALES)
        require_one_of("terminal", self.terminal, TERMINAL_RULES)
        require_one_of("rollout", self.rollout, [False, True])
        for name in ("weight", "nonterminal_weight"):
            value = real_number(name, getattr(self, name))
            if not (math.isfinite(value) and value >= 0):
                raise ImpactError(f"{name} must be a number of at least 0, not {value}")
            object.__setattr__(self, name, value)
        for name, top in (("discount", "]"), ("rollout_discount", ")")):
            value = real_number(name, getattr(self, name))
            if not (0 <= value < 1 or (value == 1 and top == "]")):
                raise ImpactError(f"{name} must be in [0, 1{top}, not {value}")
            object.__setattr__(self, name, value)
        object.__setattr__(self, "rollout", bool(self.rollout))
        object.__setattr__(self, "seed", whole_number("seed", self.seed, at_least=0))
        object.__setattr__(self, "utilities", _checked_utilities(self.utilities))
        if self.scale == "discount" and self.discount == 1:
            raise ImpactError("scale='discount' multiplies by 1 - discount, which is 0 with discount=1")
        DEVIATIONS[self.deviation].check(self)

    @property
    def effective_summary(self) -> str:
        """The summary, or the deviation's usual one; "" where it has none."""
        return self.summary or DEVIATIONS[self.deviation].summary or ""

    @property
    def label(self) -> str:
        """A short name: deviation, baseline and every setting but the weight that is not the default."""
        if self.deviation == "none":
            return "none"
        parts = [DEVIATIONS[self.deviation].label, self.baseline, *(["rollout"] if self.rollout else [])]
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name not in ("deviation", "baseline", "weight", "rollout") and value != field.default:
                if isinstance(value, tuple):
                    value = f"table-{sha256(repr(value).encode()).hexdigest()[:6]}"
                parts.append(f"{field.name}={value}")
        return " ".join(parts)

    def fit(self, mdp: TabularMDP) -> "Impact":
        """Computes the impact of every transition of a task.

        Raises:
            ImpactError: the baseline or the rollout needs a no-op and the world has none, a table of utilities
                does not fit the task, or a table would not fit in memory.
        """
        if self.deviation == "none":
            states = np.arange(mdp.num_states)
            nothing = np.zeros(mdp.next_state.shape)
            return Impact(
                penalty=self, mdp=mdp, state=states, memory=np.full_like(states, NO_MEMORY), deviation=nothing
            )
        graph = state_graph(mdp, self.terminal)
        baseline = BASELINES[self.baseline]
        if baseline.needs_noop:
            graph.require_noop(f"baseline={self.baseline!r}")
        pairs = DEVIATIONS[self.deviation].fit(graph, self, self._node_utilities(mdp, graph))
        both = product(mdp, graph, baseline)
        return Impact(
            penalty=self,
            mdp=both.mdp,
            state=both.state,
            memory=both.memory,
            deviation=_transition_deviations(mdp, graph, baseline, both, pairs),
        )

    def _node_utilities(self, mdp: TabularMDP, graph: StateGraph) -> NDArray[np.float64]:
        if self.deviation != "attainable_utility":
            return np.empty((graph.size, 0))
        if isinstance(self.utilities, int):
            return np.random.default_rng(self.seed).random((graph.size, self.utilities))
        table = np.array(self.utilities, dtype=np.float64)
        if len(table) != mdp.num_states:
            raise ImpactError(
                f"utilities must have one row for each of the {mdp.num_states} states of the task, not {len(table)}"
            )
        compared = graph.node >= 0
        rows = table[graph.state]
        if (table[compared] != rows[graph.node[compared]]).any():
            raise ImpactError("utilities must agree in states that differ in bookkeeping only (equal `mdp.situation`)")
        return rows


@dataclass(frozen=True, kw_only=True, eq=False)
class Impact:
    """A penalty fitted to a task.

    Attributes:
        penalty: the choices.
        mdp: the task, or its product with the baseline's memory; X states, numbered as everything here.
        state: [X] id of each state in the task's own MDP.
        memory: [X] what the baseline remembers there, -1 for nothing.
        deviation: [X, A, K] float64, D of every transition; 0 on padding and in terminal states.
    """

    penalty: Penalty
    mdp: TabularMDP
    state: NDArray[np.int64]
    memory: NDArray[np.int64]
    deviation: NDArray[np.float64]

    @cached_property
    def unit_penalty(self) -> NDArray[np.float64]:
        """[X, A, K] what each transition is charged at weight 1: D, times `nonterminal_weight` before the end."""
        factor = np.where(self.mdp.terminal[self.mdp.next_state], 1.0, self.penalty.nonterminal_weight)
        return self.deviation * factor

    @cached_property
    def columns(self) -> NDArray[np.float64]:
        """[X, A, K, 4]: reward, performance, side effect and impact of each transition."""
        mdp = self.mdp
        return np.stack([mdp.reward, mdp.performance, mdp.side_effect, self.unit_penalty], axis=3)

    def penalised_reward(self, weight: float) -> NDArray[np.float64]:
        """[X, A, K] what the agent is paid: reward less weight times the unit penalty."""
        return self.mdp.reward - weight * self.unit_penalty

    def start_index(self, state: int) -> int:
        """The index of an episode's first state, given its id in the task's MDP."""
        return int(np.flatnonzero((self.state == state) & (self.mdp.start > 0))[0])

    def follow(self, index: int, action: int, state: int) -> tuple[int, int]:
        """The outcome k and the next index, when `action` led to the task's state `state`."""
        following = self.mdp.next_state[index, action]
        fits = (self.state[following] == state) & (self.mdp.probability[index, action] > 0)
        k = int(np.flatnonzero(fits)[0])
        return k, int(following[k])


def _checked_utilities(utilities: int | Sequence[Sequence[float]] | NDArray[Any]) -> Utilities:
    """A count as it is; a table as tuples, so that a penalty stays hashable and plain."""
    if isinstance(utilities, int | np.integer) and not isinstance(utilities, bool):
        return whole_number("utilities", utilities, at_least=1)
    try:
        table = np.array(utilities, dtype=np.float64)
    except (TypeError, ValueError):
        table = np.empty(0)
    if table.ndim != 2 or table.size == 0 or not np.isfinite(table).all():
        raise ImpactError(
            "utilities must be a number of utilities to draw, or a table of finite numbers with one row per state "
            "and one column per utility"
        )
    return tuple(map(tuple, table.tolist()))


def _transition_deviations(
    mdp: TabularMDP, graph: StateGraph, baseline: Baseline, both: Product, pairs: PairDeviation
) -> NDArray[np.float64]:
    """[X, A, K]; each distinct pair of node and memory is evaluated once."""
    target = mdp.next_state[both.state]
    node_after = graph.node[target].astype(np.int64)
    node_before = graph.node[both.state].astype(np.int64)
    live = np.flatnonzero(~mdp.terminal[both.state])
    memory_after = np.full(len(both.state), -1)
    memory_after[live] = baseline.advance(graph, both.memory[live], node_before[live])

    left = node_after < 0
    node = np.where(left, node_before[:, None, None], node_after)
    memory = np.where(left, both.memory[:, None, None], memory_after[:, None, None])
    real = (mdp.probability[both.state] > 0) & ~mdp.terminal[both.state][:, None, None]

    base = 2 * graph.size
    codes, inverse = np.unique(node[real] * base + memory[real], return_inverse=True)
    references, weights = baseline.reference(graph, codes % base)
    count = references.shape[1]
    values = pairs(np.repeat(codes // base, count), references.ravel()).reshape(references.shape)
    deviation = np.zeros(target.shape)
    deviation[real] = (weights * values).sum(axis=1)[inverse]
    return deviation


def penalty_from_settings(settings: Mapping[str, Any]) -> Penalty:
    """A penalty from plain settings; unknown keys get their near ones."""
    if not isinstance(settings, Mapping):
        raise ImpactError(f"a penalty is a table of its settings, as {{ deviation = ... }}, not {settings!r}")
    known = [field.name for field in fields(Penalty)]
    for name in settings:
        require_known("penalty setting", name, known)
    return Penalty(**settings)
