"""A hard budget of impact per episode, as a task of its own: what is left of the budget becomes part of the state."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from impactrl.mdp import TabularMDP
from impactrl.measures.impact import Contributions, Impact, Place

__all__ = ["BudgetState", "with_budget"]

ROUNDING = 1e-9  # what is smaller is no impact, and no part of a unit: 0.3 is 3 units of 0.1, not 4


class BudgetState(NamedTuple):
    """A state under a budget.

    Attributes:
        state: of the task, or of its product with a baseline's memory.
        spent: units of the budget spent so far.
    """

    state: Any
    spent: int


def with_budget(impact: Impact, budget: float, units: int) -> Impact:
    """The same task for an agent that is kept from spending more than a budget of impact in one episode.

    The budget is cut into units, and each transition spends its impact (the unit penalty), rounded up to whole units;
    a bonus spends nothing.
    An action is carried out only if every outcome it may have fits in what is left. Otherwise the agent is made to take
    the action whose worst outcome spends least: the no-op where it is one of several, else the first. If even that does
    not fit (a baseline such as "start" charges for standing still), all is spent, and from there on the same rule goes
    on. So no episode exceeds the budget unless nothing the agent could do would have stopped it.

    This is a shield (Alshiekh et al. 2018, arXiv 1708.08611) whose specification is the impact of the episode: impact
    as a limiter of influence (Armstrong & Levinstein 2017, arXiv 1705.10720), not as a price. With what is spent as
    part of the state, the result is again a Markov decision process: planners and learners need not know of it, and
    what they learn is optimal among what the budget allows, but for the rounding.

    Args:
        impact: the fitted penalty, X states.
        budget: at least 0.
        units: how finely it is measured; there are at most X times `units + 1` states.

    Returns:
        The impact on the states that can be reached, numbered by state, then spent units.
    """
    mdp = impact.mdp
    cost = _cost(impact.unit_penalty, budget, units)
    executed = _executed(mdp, np.where(mdp.probability > 0, cost, 0).max(axis=2), units)
    base = units + 1  # codes are x * base + spent; what was spent does not matter once the episode is over

    def successors(codes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Codes [F, A, K]; padding and ends lead back to the code itself."""
        x, spent = codes // base, codes % base
        place = x[:, None], executed(x, spent)
        target = mdp.next_state[place].astype(np.int64)
        after = np.minimum(spent[:, None, None] + cost[place], units)
        stays = (mdp.probability[place] == 0) | mdp.terminal[x][:, None, None]
        return np.where(stays, codes[:, None, None], target * base + np.where(mdp.terminal[target], 0, after))

    first = np.flatnonzero(mdp.start)
    known = frontier = first * base
    while len(frontier):
        frontier = np.setdiff1d(successors(frontier), known)
        known = np.union1d(known, frontier)

    x, spent = known // base, known % base
    place = x[:, None], executed(x, spent)  # [X', 1] and [X', A]
    start = np.zeros(len(known))
    start[np.searchsorted(known, first * base)] = mdp.start[first]
    limited = replace(
        mdp,
        next_state=np.searchsorted(known, successors(known)).astype(np.int32),
        probability=mdp.probability[place],
        reward=mdp.reward[place],
        performance=mdp.performance[place],
        side_effect=mdp.side_effect[place],
        terminal=mdp.terminal[x],
        completed=mdp.completed[x],
        start=start,
        situation=np.arange(len(known), dtype=np.int32),
        states=tuple(BudgetState(mdp.states[int(i)], int(s)) for i, s in zip(x, spent, strict=True)),
        draw=partial(_draw, mdp.draw),
        feature_names=(),
    )
    return replace(
        impact,
        mdp=limited,
        state=impact.state[x],
        memory=impact.memory[x],
        deviation=impact.deviation[place],
        _terms=None if impact._terms is None else partial(_terms, impact._terms, x, place[1]),
    )


def _cost(unit_penalty: NDArray[np.float64], budget: float, units: int) -> NDArray[np.int64]:
    """[X, A, K] units that each transition spends; `units + 1` is more than anybody has."""
    size = np.where(unit_penalty > ROUNDING, unit_penalty, 0.0)
    with np.errstate(over="ignore"):  # of a budget that is hardly one
        share = size * units / budget if budget > 0 else np.where(size > 0, np.inf, 0.0)
    cost: NDArray[np.int64] = np.minimum(np.ceil(share - ROUNDING), units + 1).astype(np.int64)
    return cost


def _executed(
    mdp: TabularMDP, worst: NDArray[np.int64], units: int
) -> Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.int64]]:
    """From states [F] and what was spent [F] to the action [F, A] carried out for each chosen one."""
    order = np.arange(mdp.num_actions)
    if mdp.noop is not None:
        order = np.append(mdp.noop, np.delete(order, mdp.noop))
    instead = order[worst[:, order].argmin(axis=1)]

    def executed(x: NDArray[np.int64], spent: NDArray[np.int64]) -> NDArray[np.int64]:
        fits = spent[:, None] + worst[x] <= units
        return np.where(fits, np.arange(mdp.num_actions), instead[x, None])

    return executed


def _draw(draw: Callable[[Any], NDArray[np.uint8]], limited: BudgetState) -> NDArray[np.uint8]:
    return draw(limited.state)


def _terms(
    terms: Contributions, x: NDArray[np.int64], executed: NDArray[np.int64], places: Sequence[Place]
) -> tuple[list[str], NDArray[np.float64]]:
    return terms([(int(x[index]), int(executed[index, action]), k) for index, action, k in places])
