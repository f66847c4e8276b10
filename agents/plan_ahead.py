"""The planning agents of attainable utility preservation, on auxiliary values that were learned.

Turner et al. (2020), arXiv 1902.09725: AUP, and the variants of its ablation (starting state, inaction, decrease). On
exact values the same plans come from `solve(mdp, preset("turner2019-plan"), horizon=9)`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from impactrl.dynamic_programming import greedy
from impactrl.errors import ImpactError, real_number
from impactrl.mdp import TabularMDP
from impactrl.measures.penalty import Penalty

__all__ = ["Plan", "plan_ahead"]

NEEDED = {
    "deviation": ("attainable_utility",),
    "rollout": ("end",),
    "attainable": ("departure",),
    "terminal": ("absorbing",),
    "baseline": ("stepwise", "inaction", "start"),
    "scale": ("per-value", "sum"),
    "norm": ("L1",),
    "nonterminal_weight": (1.0,),
    "policy": (None,),
}
"""The settings of a penalty that the plans are about; they share the rest, or have no use for it."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A plan, and what comes of following it.

    Attributes:
        actions: at most as many as the plan's horizon; fewer where the episode ends.
        planned_return: discounted penalised return.
        reward: task return.
        performance: hidden score.
        side_effect: count.
        completed: whether the task is done.
        impact: summed penalty at weight 1.
    """

    actions: tuple[int, ...]
    planned_return: float
    reward: float
    performance: float
    side_effect: float
    completed: bool
    impact: float


def plan_ahead(mdp: TabularMDP, values: NDArray[np.float64], penalty: Penalty, *, discount: float = 0.996) -> Plan:
    """The plan of greatest penalised return from the start, among all sequences of so many actions.

    As the t-th of n actions, action a is charged for the difference between two states at the end: where the plan so
    far, a, and no-ops from then on would lead, and the end of the baseline. The first is worth `max_a' Q_u(end, a')`.
    The stepwise baseline is the plan so far and then no-ops, worth `Q_u(end, no-op)`; inaction is no-ops from the first
    state on, start is the first state, both worth `max_a' Q_u(end, a')`.

    Planned by dynamic programming on state and steps left, on which alone the charges depend; ties go to the lowest
    action.

    Args:
        mdp: a deterministic task with a no-op and one first state.
        values: [S, A, U] auxiliary action values, for example learned ones, `training.auxiliary[i][training.row]`; 0 in
            terminal states.
        penalty: one of the presets "turner2019-plan", or others like them in baseline, summary, scale, horizon and
            weight. The utilities, with their discount, clip and seed, are those that `values` are of.
        discount: of the penalised reward, in [0, 1].

    Raises:
        ImpactError: a task or a penalty that this is not about, or `values` of another shape.

    >>> from impactrl.compile import compile_mdp
    >>> from impactrl.measures.presets import preset
    >>> task, anything = compile_mdp("Damage"), np.zeros((56, 5, 1))
    >>> plan_ahead(task, anything, preset("turner2019-plan")).actions  # nothing is worth anything: the fastest way
    (0, 0, 0)
    """
    for name, allowed in NEEDED.items():
        if getattr(penalty, name) not in allowed:
            raise ImpactError(
                f"a plan on given values needs {name}={' or '.join(map(repr, allowed))}, not "
                f"{getattr(penalty, name)!r}; start from preset('turner2019-plan')"
            )
    if not 0 <= real_number("discount", discount) <= 1:
        raise ImpactError(f"discount must be in [0, 1], not {discount}")
    if not mdp.deterministic or np.count_nonzero(mdp.start) != 1:
        raise ImpactError("plan_ahead needs a task where every action has one outcome, and one first state")
    if mdp.noop is None:
        raise ImpactError("plan_ahead compares with doing nothing, and this world has no no-op action")
    expected = mdp.num_states, mdp.num_actions
    if values.ndim != 3 or values.shape[:2] != expected or not values.shape[2]:
        raise ImpactError(
            f"values must be of shape ({expected[0]}, {expected[1]}, U), U at least 1, not {values.shape}"
        )

    assert penalty.horizon is not None  # Penalty insists on it
    horizon, first, following = penalty.horizon, int(mdp.start.argmax()), mdp.next_state[:, :, 0]
    idle = [np.arange(mdp.num_states)]  # where so many no-ops lead
    for _ in range(horizon):
        idle.append(following[idle[-1], mdp.noop])
    best = values.max(axis=1)
    ahead, over = np.zeros(mdp.num_states), mdp.terminal[following]
    policies, units = [], []
    for left in range(1, horizon + 1):
        if penalty.baseline == "stepwise":
            reference = values[idle[left], mdp.noop]
        else:
            reference = best[[first if penalty.baseline == "start" else idle[horizon][first]]]
        unit = _unit_penalty(best[idle[left - 1][following]], reference[:, None], penalty)
        q = mdp.reward[:, :, 0] - penalty.weight * unit + discount * np.where(over, 0.0, ahead[following])
        ahead = q.max(axis=1)
        policies.append(greedy(q))
        units.append(unit)

    s, actions, sums = first, [], np.zeros(4)
    for left in range(horizon - 1, -1, -1):
        if mdp.terminal[s]:
            break
        a = int(policies[left][s])
        actions.append(a)
        sums += mdp.reward[s, a, 0], mdp.performance[s, a, 0], mdp.side_effect[s, a, 0], units[left][s, a]
        s = int(following[s, a])
    return Plan(
        actions=tuple(actions),
        planned_return=float(ahead[first]),
        reward=float(sums[0]),
        performance=float(sums[1] + mdp.initial_performance),
        side_effect=float(sums[2]),
        completed=bool(mdp.completed[s]),
        impact=float(sums[3]),
    )


def _unit_penalty(values: NDArray[np.float64], reference: NDArray[np.float64], penalty: Penalty) -> NDArray[np.float64]:
    """[S, A] from values [S, A, U] at the end of the plan and [S or 1, 1, U] at the end of the baseline."""
    difference = reference - values
    if penalty.effective_summary == "absolute":
        difference = np.abs(difference)
    else:
        difference = np.maximum(difference if penalty.effective_summary == "decrease" else -difference, 0.0)
    size = np.abs(reference)
    unit: NDArray[np.float64]
    if penalty.scale == "sum":
        size = size.sum(axis=2)
        unit = difference.sum(axis=2) / np.where(size == 0, 1.0, size)
    else:
        unit = (difference / np.where(size == 0, 1.0, size)).mean(axis=2)
    return unit
