"""The published value families: what can be had from a state."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from impactrl.components import closure_differences
from impactrl.errors import ImpactError, require_known
from impactrl.graph import certain as certain_outcomes
from impactrl.measures.comparisons import Comparisons
from impactrl.measures.deviations import Comparer, ValueFamily
from impactrl.measures.differences import SUMMARIES, Sums
from impactrl.measures.empowerment import empowerment
from impactrl.measures.state_graph import StateGraph
from impactrl.measures.values import (
    attainable_utilities,
    departure_values,
    inaction_values,
    power,
    reachability_columns,
)

if TYPE_CHECKING:
    from impactrl.measures.penalty import Penalty

__all__ = [
    "STATES",
    "AttainableUtility",
    "Empowerment",
    "Features",
    "FutureTasks",
    "Importance",
    "Power",
    "RelativeReachability",
    "node_utilities",
]

STATES = "states"
BLOCK_BYTES = 1 << 28
NO_OBJECTS = frozenset({"agent", "wall"})
Floats = NDArray[np.float64]


def goal_nodes(graph: StateGraph, penalty: "Penalty") -> NDArray[np.int64]:
    """[K] the nodes whose reachability counts: all, or as many as the penalty samples, without repetition."""
    if penalty.goals == "all" or int(penalty.goals) >= graph.size:
        return np.arange(graph.size)
    drawn = np.random.default_rng(penalty.seed).choice(graph.size, int(penalty.goals), replace=False)
    return np.sort(drawn)


def node_utilities(graph: StateGraph, penalty: "Penalty") -> Floats:
    """[N, U] the utilities of a penalty, as values of the nodes."""
    given = penalty.utilities
    if given == STATES:
        return np.eye(graph.size)
    if isinstance(given, int):
        return np.random.default_rng(penalty.seed).random((graph.size, given))
    assert isinstance(given, tuple)
    if callable(given[0]):
        table = np.stack(
            [_of_every_state(graph, name, u) for name, u in zip(utility_names(given), given, strict=True)], 1
        )
    else:
        table = np.array(given, dtype=np.float64)
    if len(table) != graph.mdp.num_states:
        raise ImpactError(
            f"utilities must have one row for each of the {graph.mdp.num_states} states of the task, not {len(table)}"
        )
    return _node_rows(graph, table, "utilities")


def _of_every_state(graph: StateGraph, name: str, function: Callable[[Any], float]) -> Floats:
    """[S] what a function given by the user says of every state."""
    numbers = np.array([float(function(s)) for s in graph.mdp.states])
    wrong = np.flatnonzero(~np.isfinite(numbers))
    if len(wrong):
        raise ImpactError(
            f"{name} must be a finite number in every state; it is {numbers[wrong[0]]} in state "
            f"{graph.mdp.states[wrong[0]]!r}"
        )
    return numbers


def _node_rows(graph: StateGraph, table: Floats, what: str) -> Floats:
    """The rows of the nodes of a table [S, K] over states."""
    compared = graph.node >= 0
    rows: Floats = table[graph.state]
    if (table[compared] != rows[graph.node[compared]]).any():
        raise ImpactError(f"{what} must agree in states that differ in bookkeeping only (equal `mdp.situation`)")
    return rows


def state_names(graph: StateGraph, nodes: NDArray[np.int64]) -> list[str]:
    """What people call nodes: the number of the state in the task."""
    return [f"state {s}" for s in graph.state[nodes]]


@dataclass(frozen=True)
class RelativeReachability(ValueFamily):
    """The share of states that became less reachable: the value family is the reachability of every state."""

    label: ClassVar[str] = "RR"
    formula: ClassVar[str] = "mean over states x of max(0, R(b; x) - R(s; x)), R = discounted reachability"
    source: ClassVar[str] = "Krakovna et al. 2019, arXiv 1806.01186, section 3"
    summary: ClassVar[str | None] = "decrease"
    reads: ClassVar[frozenset[str]] = frozenset({"goals", "horizon"})

    def values(self, graph: StateGraph, penalty: "Penalty") -> Floats:
        """The reachability of every goal from every node."""
        return np.concatenate(list(self.blocks(graph, penalty)), axis=1)

    def blocks(self, graph: StateGraph, penalty: "Penalty") -> Iterator[Floats]:
        """As `values`, for so many goals at a time that a block takes at most 256 MiB."""
        # With rollouts to the end of a plan, the horizon is the length of that plan.
        horizon = penalty.horizon if penalty.rollout != "end" else None
        columns = reachability_columns(graph, discount=penalty.discount, horizon=horizon)
        goals = goal_nodes(graph, penalty)
        width = max(64, BLOCK_BYTES // (8 * graph.size) // 64 * 64)
        for first in range(0, len(goals), width):
            yield columns(goals[first : first + width])

    def population(self, graph: StateGraph, penalty: "Penalty") -> int | None:
        """Of how many states the goals are a sample."""
        return None if len(goal_nodes(graph, penalty)) == graph.size else graph.size

    def fit(self, graph: StateGraph, penalty: "Penalty") -> Comparer:
        """The comparison of values; without a discount by counting, where every action has one outcome."""
        plain = penalty.rollout is False and penalty.horizon is None and penalty.norm == "L1"
        plain = plain and penalty.scale not in ("per-value", "sum") and penalty.effective_summary in SUMMARIES
        if plain and penalty.discount == 1 and penalty.goals == "all" and certain_outcomes(graph.probability):
            return lambda comparisons: self._counted(graph, penalty, comparisons)
        return super().fit(graph, penalty)

    def _counted(self, graph: StateGraph, penalty: "Penalty", comparisons: Comparisons) -> Floats:
        """The share of states that can be reached from one side only; the same numbers without a table."""
        sums = Sums(self.rules(penalty), comparisons)
        if sums.mixed or sums.combined:
            return super().fit(graph, penalty)(comparisons)
        lost, gained = closure_differences(graph.successor, graph.probability, sums.node, sums.case)
        sums.total[:] = {"decrease": lost, "increase": gained, "absolute": lost + gained}[penalty.effective_summary]
        return sums.deviations() / graph.size

    def names(self, graph: StateGraph, penalty: "Penalty") -> Sequence[str]:
        """The goals."""
        return state_names(graph, goal_nodes(graph, penalty))


@dataclass(frozen=True)
class FutureTasks(RelativeReachability):
    """A bonus for what can still be reached, as a negative deviation.

    With a baseline, what could not have been reached from there either counts for nothing. In deterministic worlds
    `discount^max(d(s, x), d(b, x))` is the smaller of the two reachabilities, which is what is computed; in stochastic
    ones the smaller of the two expectations.
    """

    label: ClassVar[str] = "FT"
    formula: ClassVar[str] = "- mean over states x of min(R(s; x), R(b; x)); without a baseline - mean of R(s; x)"
    source: ClassVar[str] = "Krakovna et al. 2020, arXiv 2010.07877"
    summary: ClassVar[str | None] = None

    def check(self, penalty: "Penalty") -> None:
        """Refuses rollouts, too: the bonus has none. Nor has a bonus a unit of impact."""
        super().check(penalty)
        if penalty.rollout is not False:
            raise ImpactError(
                "future_tasks is a bonus for what can be reached from the state itself: it has no rollout"
            )
        if penalty.scale == "impact-unit":
            raise ImpactError("future_tasks is a bonus: there is no unit of impact to divide it by; leave scale out")

    def code(self, penalty: "Penalty") -> str:
        """The smaller of two values; without a baseline the state's own."""
        return "own" if penalty.baseline == "none" else "least"


@dataclass(frozen=True)
class AttainableUtility(ValueFamily):
    """The change in how well other goals could be pursued: the value family is the best value of utilities.

    With the stepwise baseline this is attainable utility preservation (AUP).
    """

    label: ClassVar[str] = "AU"
    formula: ClassVar[str] = "mean over utilities u of |V_u(b) - V_u(s)|, V_u(s) = u(s) + discount max_a E[V_u(s')]"
    source: ClassVar[str] = "Turner et al. 2020, arXiv 1902.09725; Krakovna et al. 2019, arXiv 1806.01186, section 4"
    reads: ClassVar[frozenset[str]] = frozenset({"utilities", "attainable", "clip"})

    def check(self, penalty: "Penalty") -> None:
        """Refuses discount 1 as well: attainable utilities would be infinite."""
        super().check(penalty)
        _require_discount_below_1(penalty)

    def values(self, graph: StateGraph, penalty: "Penalty") -> Floats:
        """The optimal values of all utilities."""
        utilities = node_utilities(graph, penalty)
        return attainable_utilities(graph, utilities, discount=penalty.discount, clip=penalty.clip)

    def sides(self, graph: StateGraph, penalty: "Penalty", values: Floats) -> tuple[Floats, Floats]:
        """Values on arrival, or on departure: there the stepwise baseline does nothing at the end of a plan, too."""
        if penalty.attainable == "arrival":
            return values, values
        best = departure_values(graph, values)
        if penalty.rollout != "end" or penalty.baseline != "stepwise":
            return best, best
        going = np.asarray(graph.available.any(axis=1))
        return best, np.where(going[:, None], graph.require_idle("a rollout") @ values, 0.0)

    def names(self, graph: StateGraph, penalty: "Penalty") -> Sequence[str]:
        """The utilities, by number or name."""
        if penalty.utilities == STATES:
            return state_names(graph, np.arange(graph.size))
        return utility_names(penalty.utilities)


def utility_names(utilities: Any) -> list[str]:
    """What people call utilities: a function's own name, or a number."""
    if isinstance(utilities, tuple) and callable(utilities[0]):
        return [getattr(u, "__name__", f"utility {k}") for k, u in enumerate(utilities)]
    count = utilities if isinstance(utilities, int) else len(utilities[0])
    return [f"utility {k}" for k in range(count)]


def _require_discount_below_1(penalty: "Penalty") -> None:
    if penalty.discount == 1:
        raise ImpactError(
            f"{penalty.deviation_name} needs a discount below 1: undiscounted utilities of an endless future are "
            "infinite; try discount=0.99"
        )


@dataclass(frozen=True)
class Importance(ValueFamily):
    """How much a state matters to many utilities if nothing is done: their values under inaction."""

    label: ClassVar[str] = "importance"
    formula: ClassVar[str] = "mean (norm Linf: maximum) over u of |V_u(b) - V_u(s)|, V_u the value of doing nothing"
    source: ClassVar[str] = "Armstrong and Levinstein 2017, arXiv 1705.10720"
    reads: ClassVar[frozenset[str]] = frozenset({"utilities"})

    def check(self, penalty: "Penalty") -> None:
        """Refuses discount 1 as well."""
        super().check(penalty)
        _require_discount_below_1(penalty)

    def values(self, graph: StateGraph, penalty: "Penalty") -> Floats:
        """The values of all utilities under inaction."""
        return inaction_values(graph, node_utilities(graph, penalty), discount=penalty.discount)

    def names(self, graph: StateGraph, penalty: "Penalty") -> Sequence[str]:
        """The utilities, by number or name."""
        return AttainableUtility().names(graph, penalty)


@dataclass(frozen=True)
class Power(ValueFamily):
    """The change of POWER, the average ability to achieve goals."""

    label: ClassVar[str] = "POWER"
    formula: ClassVar[str] = "|P(b) - P(s)|, P(s) = (1 - discount) / discount * mean over u of V_u(s) - u(s)"
    source: ClassVar[str] = "Turner et al. 2021, arXiv 1912.01683"
    reads: ClassVar[frozenset[str]] = frozenset({"utilities"})

    def check(self, penalty: "Penalty") -> None:
        """Refuses discount 1 as well."""
        super().check(penalty)
        _require_discount_below_1(penalty)

    def values(self, graph: StateGraph, penalty: "Penalty") -> Floats:
        """POWER, as the mean over the penalty's utilities."""
        return power(graph, node_utilities(graph, penalty), discount=penalty.discount)[:, None]

    def names(self, graph: StateGraph, penalty: "Penalty") -> Sequence[str]:  # noqa: ARG002
        """POWER alone."""
        return ["POWER"]


@dataclass(frozen=True)
class Empowerment(ValueFamily):
    """The change of how much n actions can decide about the state that follows them, in bits."""

    label: ClassVar[str] = "empowerment"
    formula: ClassVar[str] = "|E_n(b) - E_n(s)|, E_n the channel capacity from n actions to the state after them"
    source: ClassVar[str] = "Amodei et al. 2016, arXiv 1606.06565, section 3; Salge et al. 2014, arXiv 1310.1863"
    reads: ClassVar[frozenset[str]] = frozenset({"horizon"})

    def values(self, graph: StateGraph, penalty: "Penalty") -> Floats:
        """n-step empowerment; n is the penalty's horizon."""
        return empowerment(graph, steps=penalty.horizon or DEFAULT_STEPS)[:, None]

    def check(self, penalty: "Penalty") -> None:
        """Refuses rollouts to the end of a plan: the horizon is the number of actions."""
        super().check(penalty)
        if penalty.rollout == "end":
            raise ImpactError("empowerment uses the horizon for its number of actions, so it has no rollout='end'")

    def names(self, graph: StateGraph, penalty: "Penalty") -> Sequence[str]:  # noqa: ARG002
        """Empowerment alone."""
        return ["empowerment"]


DEFAULT_STEPS = 3
Feature = Callable[[Any], float]


@dataclass(frozen=True)
class Features(ValueFamily):
    """Coarse features of the state, weighted: "twenty million questions" about the world."""

    label: ClassVar[str] = "features"
    formula: ClassVar[str] = "norm over features k of w_k |phi_k(b) - phi_k(s)|"
    source: ClassVar[str] = "Armstrong 2012; Armstrong and Levinstein 2017, arXiv 1705.10720; Shah et al. 2019"
    reads: ClassVar[frozenset[str]] = frozenset({"features"})

    def values(self, graph: StateGraph, penalty: "Penalty") -> Floats:
        """The features that the penalty names, or all."""
        return _node_rows(graph, state_features(graph, penalty)[0], "features")

    def weights(self, graph: StateGraph, penalty: "Penalty") -> Floats:
        """As the penalty gives them, or 1."""
        return state_features(graph, penalty)[1]

    def names(self, graph: StateGraph, penalty: "Penalty") -> Sequence[str]:
        """As the world or the penalty calls them."""
        return state_features(graph, penalty)[2]


def state_features(graph: StateGraph, penalty: "Penalty") -> tuple[Floats, Floats, list[str]]:
    """[S, K] features of every state of the task, [K] their weights, [K] their names."""
    known: dict[str, Floats] = {}
    if penalty.features is None or not all(callable(value) for _, value in penalty.features):
        known = _world_features(graph)
    columns, weights = {}, []
    for name, value in penalty.features or dict.fromkeys(known, 1.0).items():
        if callable(value):
            columns[name] = _of_every_state(graph, f"feature {name!r}", value)
            weights.append(1.0)
        else:
            columns[name] = known[require_known("feature", name, known)]
            weights.append(float(value))
    return np.stack(list(columns.values()), axis=1), np.array(weights), list(columns)


def _world_features(graph: StateGraph) -> dict[str, Floats]:
    """[S] of each feature that the world names; else how often each of its objects stands on the board."""
    mdp = graph.mdp
    if mdp.feature_names:
        table = np.array([mdp.features(s) for s in mdp.states], dtype=np.float64)
        return dict(zip(mdp.feature_names, table.T, strict=True))
    characters: dict[str, list[int]] = {}
    for c, sprite in mdp.tiles.items():
        if sprite not in NO_OBJECTS:
            characters.setdefault(sprite, []).append(ord(c))
    if not characters:
        raise ImpactError(
            "this world names no features and no tiles to count; give features = {name: function of the state}"
        )
    boards = np.array([mdp.draw(s) for s in mdp.states])
    return {sprite: np.isin(boards, own).sum(axis=(1, 2)).astype(np.float64) for sprite, own in characters.items()}
