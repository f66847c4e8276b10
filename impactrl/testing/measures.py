"""What every deviation and every baseline must do."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from impactrl.compile import compile_mdp
from impactrl.errors import ImpactError
from impactrl.mdp import TabularMDP
from impactrl.measures.baselines import Baseline, BaselineChoice, certain
from impactrl.measures.comparisons import Comparisons
from impactrl.measures.deviations import Deviation, PairDeviation, ValueFamily
from impactrl.measures.differences import SUMMARIES
from impactrl.measures.families import node_utilities
from impactrl.measures.impact import Impact
from impactrl.measures.penalty import Penalty
from impactrl.measures.product import NO_MEMORY
from impactrl.measures.state_graph import StateGraph, state_graph

__all__ = ["BASELINE_CHECKS", "DEVIATION_CHECKS", "Case", "check_baseline", "check_deviation"]

LEVELS = ("Options", "Interference")
MAX_PAIRS = 4000
ZERO = 1e-9  # values are solved to 1e-10

Floats = NDArray[np.float64]
Nodes = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """A penalty on a task, as the checks look at it.

    Attributes:
        penalty: with the deviation or baseline that is checked.
        mdp: the task.
        bonus: whether the deviation is a bonus for the state itself, which is not 0 for a state against itself.
    """

    penalty: Penalty
    mdp: TabularMDP
    bonus: bool = False

    @cached_property
    def graph(self) -> StateGraph:
        """The states that are compared; N nodes."""
        return state_graph(self.mdp, self.penalty.terminal, self.penalty.policy)

    @cached_property
    def impact(self) -> Impact:
        """The penalty fitted to the task."""
        return self.penalty.fit(self.mdp)

    @cached_property
    def baseline(self) -> Baseline:
        """The baseline fitted to the task."""
        return self.penalty.baseline_choice.fit(self.graph, self.penalty)

    def shown(self, node: int) -> str:
        """A state as the messages call it."""
        return f"state {self.graph.state[node]}"

    def deviations(self, node: Nodes, reference: Nodes) -> Floats:
        """[P] the deviations of nodes [P] from nodes [P]."""
        remembered, which = np.unique(reference, return_inverse=True)
        comparisons = Comparisons(
            node=node[:, None],
            probability=np.ones((len(node), 1)),
            memory=which,
            reference=certain(remembered),
            to_go=np.zeros_like(node),
        )
        return np.asarray(self.penalty.deviation_choice.fit(self.graph, self.penalty)(comparisons))

    def pairs(self) -> tuple[Nodes, Nodes]:
        """All pairs of nodes, or some of them where there are many."""
        count = self.graph.size
        chosen = np.arange(count * count)
        if len(chosen) > MAX_PAIRS:
            chosen = np.random.default_rng(0).choice(chosen, MAX_PAIRS, replace=False)
        return chosen // count, chosen % count


def check_deviation(
    deviation: str | Deviation, levels: Sequence[Any] = LEVELS, *, bonus: bool = False, **settings: Any
) -> None:
    """Runs every check of `DEVIATION_CHECKS` on a deviation.

    Args:
        deviation: an object, or a registered name.
        levels: what to try it on: anything that `compile_mdp` takes.
        bonus: whether it is a bonus for the state itself (as `future_tasks`), which need not be 0 for a state against
            itself.
        settings: others of `Penalty`.

    Raises:
        AssertionError: a check failed, or it cannot be fitted to a level; says which, where, and what was expected.
        ImpactError: an unknown name or setting, or settings that do not go together.

    >>> check_deviation("relative_reachability", rollout=True)
    """
    _run(DEVIATION_CHECKS, levels, Penalty(deviation=deviation, **settings), bonus)


def check_baseline(baseline: str | BaselineChoice, levels: Sequence[Any] = LEVELS, **settings: Any) -> None:
    """Runs every check of `BASELINE_CHECKS` on a baseline.

    Args:
        baseline: an object, or a registered name.
        levels: what to try it on: anything that `compile_mdp` takes.
        settings: others of `Penalty`.

    Raises:
        AssertionError: a check failed, or it cannot be fitted to a level; says which, where, and what was expected.
        ImpactError: an unknown name or setting, or settings that do not go together.

    >>> check_baseline("inaction")
    """
    _run(BASELINE_CHECKS, levels, Penalty(baseline=baseline, **settings))


def _run(
    checks: Sequence[Callable[[Case], None]], levels: Sequence[Any], penalty: Penalty, bonus: bool = False
) -> None:
    for level in levels:
        case = Case(penalty=penalty, mdp=compile_mdp(level), bonus=bonus)
        for check in checks:
            try:
                check(case)
            except (AssertionError, ImpactError) as error:
                raise AssertionError(f"{check.__name__} failed for {penalty.label} on {level}: {error}") from error


# ------------------------------------------------------------------------------------------------------- deviations


def check_described(case: Case) -> None:
    """It has a label and a formula, for legends and for `impactrl measures`; its usual summary is one."""
    deviation = case.penalty.deviation_choice
    for name in ("label", "formula"):
        given = getattr(deviation, name, "")
        assert isinstance(given, str), f"{name} must be text, not {given!r}"
        assert given, f"it has no {name}: set the class attribute `{name}`"
    allowed = (*SUMMARIES, None)
    assert deviation.summary in allowed, f"summary must be one of {', '.join(map(repr, allowed))}"


def check_shapes(case: Case) -> None:
    """Pairs of states have one number each; values are a table with one row per node, and what goes with them fits."""
    family, count = case.penalty.deviation_choice, case.graph.size
    if isinstance(family, PairDeviation):
        everything = np.arange(count)
        given = np.shape(family.pairs(case.graph, case.penalty)(everything, everything))
        assert given == (count,), f"`pairs` gave an array of shape {given} for {count} pairs, not ({count},)"
    if not isinstance(family, ValueFamily):
        return
    blocks = [np.asarray(block) for block in family.blocks(case.graph, case.penalty)]
    for block in blocks:
        assert block.ndim == 2, f"values must be a table [N, K], not an array of shape {block.shape}"
        assert len(block) == count, f"values must have one row for each of the {count} nodes, not {len(block)}"
        assert block.dtype == np.float64, f"values must be float64, not {block.dtype}: .astype(float) makes them so"
    table = np.concatenate(blocks, axis=1)
    wrong = np.argwhere(~np.isfinite(table))
    assert not len(wrong), f"value {wrong[0][1]} of {case.shown(wrong[0][0])} is {table[tuple(wrong[0])]}"
    width = table.shape[1]
    names = list(family.names(case.graph, case.penalty))
    assert len(names) == width, f"there are {width} values, but {len(names)} names"
    weights = family.weights(case.graph, case.penalty)
    if weights is not None:
        assert np.shape(weights) == (width,), f"there are {width} values, but weights of shape {np.shape(weights)}"


def check_finite(case: Case) -> None:
    """It can be fitted, and the deviation of every transition is a finite number."""
    deviation = case.impact.deviation
    wrong = np.argwhere(~np.isfinite(deviation))
    if len(wrong):
        x, a, _ = wrong[0]
        raise AssertionError(
            f"{case.mdp.actions[a]!r} in state {case.impact.state[x]} deviates by {deviation[tuple(wrong[0])]}, "
            "which is no finite number"
        )


def check_zero_for_itself(case: Case) -> None:
    """A state does not deviate from itself (unless the deviation is a bonus)."""
    if case.bonus:
        return
    everything = np.arange(case.graph.size)
    own = case.deviations(everything, everything)
    assert own.shape == everything.shape, f"{len(everything)} pairs gave deviations of shape {own.shape}"
    worst = int(np.abs(own).argmax())
    assert abs(own[worst]) <= ZERO, (
        f"{case.shown(worst)} deviates from itself by {own[worst]:.6g}; it must be 0 (of a bonus say bonus=True)"
    )


def check_noop(case: Case) -> None:
    """Doing nothing costs nothing under the stepwise baseline, where it leads to one state."""
    mdp, penalty = case.mdp, case.penalty
    if case.bonus or mdp.noop is None or penalty.policy is not None or penalty.deviation_choice.baseline is not None:
        return
    impact = replace(penalty, baseline="stepwise", inaction=None, time_limit_ends=False).fit(mdp)
    stays = (case.graph.node[mdp.next_state[impact.state, mdp.noop]] >= 0).all(axis=1)
    sure = mdp.probability[impact.state, mdp.noop].max(axis=1) == 1
    cost = np.abs(impact.deviation[:, mdp.noop]).max(axis=1) * (stays & sure)
    worst = int(cost.argmax())
    assert cost[worst] <= ZERO, (
        f"{mdp.actions[mdp.noop]!r} in state {impact.state[worst]} costs {cost[worst]:.6g} under the stepwise "
        "baseline, although it leads to the very state that it is compared with; it must be 0"
    )


def check_deterministic(case: Case) -> None:
    """Fitting it twice gives the same numbers, bit for bit."""
    again = case.penalty.fit(case.mdp).deviation
    assert np.array_equal(case.impact.deviation, again), (
        f"two fits differ by up to {np.abs(case.impact.deviation - again).max():.6g}: draw random numbers from "
        "np.random.default_rng(penalty.seed)"
    )


def check_numbering(case: Case) -> None:
    """It does not matter how the states are numbered."""
    order = np.random.default_rng(0).permutation(case.mdp.num_states)
    ours = replace(case.penalty, **_settings_by_state(case))
    first = replace(case, penalty=ours)
    second = Case(penalty=replace(ours, **_reordered(ours, order)), mdp=_renumbered(case.mdp, order))
    rank = np.argsort(order)
    same = second.graph.node[rank[case.graph.state]].astype(np.int64)
    node, reference = case.pairs()
    one, other = first.deviations(node, reference), second.deviations(same[node], same[reference])
    worst = int(np.abs(one - other).argmax())
    assert np.allclose(one, other, rtol=1e-9, atol=10 * ZERO), (
        f"with the states numbered otherwise, {case.shown(node[worst])} deviates from {case.shown(reference[worst])} "
        f"by {other[worst]:.6g} and not by {one[worst]:.6g}: it must depend on the states, not on their numbers"
    )


def _settings_by_state(case: Case) -> dict[str, Any]:
    """What is drawn for every state by its number, written out or taken for all."""
    reads, penalty = case.penalty.deviation_choice.reads, case.penalty
    settings: dict[str, Any] = {"goals": "all"}
    if "utilities" in reads and isinstance(penalty.utilities, int):
        node = case.graph.node
        drawn = node_utilities(case.graph, penalty)
        settings["utilities"] = np.where(node[:, None] >= 0, drawn[node], 0.0)
    return settings


def _reordered(penalty: Penalty, order: Nodes) -> dict[str, Any]:
    """The settings that are tables over states, in another order of the states."""
    tables = {"utilities": penalty.utilities, "policy": penalty.policy}
    return {
        name: tuple(table[s] for s in order)
        for name, table in tables.items()
        if isinstance(table, tuple) and not callable(table[0])
    }


def _renumbered(mdp: TabularMDP, order: Nodes) -> TabularMDP:
    """The same task, its states numbered in another order."""
    rank = np.argsort(order).astype(np.int32)
    by_state = ("probability", "reward", "performance", "side_effect", "terminal", "completed", "start")
    _, first, kind = np.unique(mdp.situation[order], return_index=True, return_inverse=True)
    return replace(
        mdp,
        next_state=rank[mdp.next_state[order]],
        situation=np.argsort(np.argsort(first)).astype(np.int32)[kind],
        states=[mdp.states[s] for s in order],
        **{name: getattr(mdp, name)[order] for name in by_state},
    )


DEVIATION_CHECKS: tuple[Callable[[Case], None], ...] = (
    check_described,
    check_shapes,
    check_finite,
    check_zero_for_itself,
    check_noop,
    check_deterministic,
    check_numbering,
)
"""All checks of deviations; each takes a `Case` and raises AssertionError."""


# -------------------------------------------------------------------------------------------------------- baselines


def check_formula(case: Case) -> None:
    """It says what it compares with, for `impactrl measures`."""
    formula = getattr(case.penalty.baseline_choice, "formula", "")
    assert isinstance(formula, str), f"formula must be text, not {formula!r}"
    assert formula, "it has no formula: set the class attribute `formula`"


def check_start(case: Case) -> None:
    """At the start of an episode, the state is compared with itself."""
    node = _first(case)
    reference = case.baseline.reference(case.graph, _numbers(case, case.baseline.initial(case.graph, node), "initial"))
    mass = reference.share[:, :, None] * reference.probability
    elsewhere = (mass * (reference.node != node[:, None, None])).sum(axis=(1, 2))
    worst = int(elsewhere.argmax())
    assert elsewhere[worst] <= ZERO, (
        f"an episode that starts in {case.shown(node[worst])} is compared with other states from the first, with "
        f"probability {elsewhere[worst]:.6g}; `reference` of `initial` must be the state itself"
    )


def check_memories(case: Case) -> None:
    """Memories are numbers below `memories`, whatever is done."""
    _situations(case)


def check_references(case: Case) -> None:
    """What memories stand for are nodes, with probabilities that sum to 1."""
    memory = np.unique(_situations(case)[1])
    reference = case.baseline.reference(case.graph, memory)
    shape = reference.node.shape
    assert len(shape) == 3, f"`node` of a reference must be [M, G, J], not of shape {shape}: see `certain`"
    assert shape[0] == len(memory), f"{len(memory)} memories gave {shape[0]} references"
    assert reference.probability.shape == shape, f"probabilities of shape {reference.probability.shape}, not {shape}"
    assert reference.share.shape == shape[:2], f"shares of shape {reference.share.shape}, not {shape[:2]}"
    count = case.graph.size
    outside = reference.node[(reference.node < 0) | (reference.node >= count)]
    assert not len(outside), f"a reference is node {outside[0]}; nodes are numbered from 0 to {count - 1}"
    combine = reference.combine
    assert combine in ("each", "mean", "greedy"), f"combine must be 'each', 'mean' or 'greedy', not {combine!r}"
    total = (reference.share[:, :, None] * reference.probability).sum(axis=(1, 2))
    worst = int(np.abs(total - 1).argmax())
    assert abs(total[worst] - 1) <= ZERO, (
        f"shares times probabilities must sum to 1; for memory {memory[worst]} they sum to {total[worst]:.6g}"
    )


def check_forgetful(case: Case) -> None:
    """A baseline that calls itself forgetful needs no memory to find the next one."""
    if not case.baseline.forgetful:
        return
    node, memory = _situations(case)
    for a, name in enumerate(case.mdp.actions):
        action = np.full(len(node), a)
        after = case.baseline.advance(case.graph, memory, node, action)
        without = case.baseline.advance(case.graph, np.full(len(node), NO_MEMORY), node, action)
        wrong = np.flatnonzero(after != without)
        assert not len(wrong), (
            f"it calls itself forgetful, yet what it remembers after {name!r} in {case.shown(node[wrong[0]])} depends "
            "on the memory before: leave `forgetful` out"
        )


def _situations(case: Case) -> tuple[Nodes, Nodes]:
    """Nodes and memories that an episode can lead to, or the first of them where there are very many."""
    graph, baseline = case.graph, case.baseline
    node = _first(case)
    memory = _numbers(case, baseline.initial(graph, node), "initial")
    count = baseline.memories(graph)
    known = frontier = np.unique(node * count + memory)
    while len(frontier) and len(known) < MAX_PAIRS:
        node, memory = frontier // count, frontier % count
        found = [known]
        for a in range(graph.num_actions):
            own = baseline.chances(graph, memory)
            if own is None:
                after = _numbers(case, baseline.advance(graph, memory, node, np.full(len(node), a)), "advance")[:, None]
                likely = np.ones(after.shape, dtype=np.bool_)
            else:
                after, likely = _numbers(case, own[0], "chances"), own[1] > 0
                assert np.allclose(own[1].sum(axis=1), 1), "the probabilities of `chances` must sum to 1 in every row"
            codes = graph.successor[node, a].astype(np.int64)[:, :, None] * count + after[:, None, :]
            met = (graph.probability[node, a] > 0)[:, :, None] & likely[:, None, :]
            found.append(codes[met])
        frontier = np.setdiff1d(np.concatenate(found), known)
        known = np.union1d(known, frontier)
    return known // count, known % count


def _first(case: Case) -> Nodes:
    """The nodes that episodes start in."""
    node = np.unique(case.graph.node[case.mdp.start > 0]).astype(np.int64)
    return node[node >= 0]


def _numbers(case: Case, memory: Any, method: str) -> Nodes:
    given = np.asarray(memory)
    count = case.baseline.memories(case.graph)
    assert given.dtype.kind == "i", f"`{method}` must give whole numbers, not {given.dtype}"
    outside = given[(given < 0) | (given >= count)]
    assert not len(outside), f"`{method}` gave memory {outside[0]}; `memories` says there are {count}, from 0"
    return given.astype(np.int64)


BASELINE_CHECKS: tuple[Callable[[Case], None], ...] = (
    check_formula,
    check_start,
    check_memories,
    check_references,
    check_forgetful,
    check_finite,
    check_deterministic,
)
"""All checks of baselines; each takes a `Case` and raises AssertionError."""
