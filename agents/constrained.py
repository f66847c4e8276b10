"""The best policy within a budget of impact: a constrained Markov decision process, solved as a linear program."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import linprog
from scipy.sparse.linalg import spsolve

from impactrl.agents.planner import Planner, plan
from impactrl.dynamic_programming import finite_horizon_action_values, greedy, optimal_values
from impactrl.errors import ImpactError, real_number
from impactrl.mdp import TabularMDP
from impactrl.measures.impact import Impact
from impactrl.measures.penalty import Penalty

__all__ = ["BudgetSolution", "solve_within_budget"]

ZERO = 1e-9  # values behind a penalty are solved to 1e-10: what is smaller is no impact
FEASIBLE = 5e-10  # how far a budget may be below the least possible impact, which is computed to 1e-10
UNVISITED = 1e-12

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class BudgetSolution:
    """An optimal policy within a budget of impact, and what to expect of it.

    The `expected_*` columns are those of `Solution`: undiscounted, over one episode.

    Attributes:
        impact: the fitted penalty; its X states number everything here.
        budget: the largest discounted impact that was allowed.
        policy: [X, A] probabilities of the actions, or [T, X, A] with a horizon. It mixes actions in one state (at one
            step) at most. Where it never comes, it does what is best with the multiplier as a weight. Of policies that
            earn the same it is one with the least impact.
        value: expected discounted return of the task, no penalty taken off.
        discounted_impact: expected discounted sum of penalties at weight 1; at most the budget.
        multiplier: what a unit of budget is worth, the slope of the value: the penalty weight for which this policy is
            optimal, too. Where several weights are (a kink, as at budget 0), one of them; 0 where the budget is not
            used up.
        expected_reward: task return.
        expected_performance: hidden score.
        expected_side_effect: count.
        expected_completed: probability that the task is done in the end.
        expected_impact: summed penalty at weight 1.
        steps: length of the episodes that the expectations are over.
    """

    impact: Impact
    budget: float
    policy: Floats
    value: float
    discounted_impact: float
    multiplier: float
    expected_reward: float
    expected_performance: float
    expected_side_effect: float
    expected_completed: float
    expected_impact: float
    steps: int


def solve_within_budget(
    mdp: TabularMDP, penalty: Penalty, *, budget: float, discount: float = 0.99, horizon: int | None = None
) -> BudgetSolution:
    """The most that a task can pay with at most so much impact: impact as a limit, in place of a price.

    The idea of an influence limiter is that of Armstrong and Levinstein (2017), arXiv 1705.10720. The optimum is that
    of a constrained Markov decision process, found by the linear program over occupancy measures of Altman (1999),
    Constrained Markov Decision Processes, chapter 3: maximise `sum x(s, a) r(s, a)` over the expected discounted
    numbers of times x that a is done in s, with `sum x(s, a) c(s, a) <= budget`, c the penalty at weight 1.

    Args:
        mdp: the task.
        penalty: what counts as impact; its weight is not used.
        budget: of discounted impact from the start; infinity for no limit.
        discount: of reward and impact, in [0, 1); also 1 with a horizon.
        horizon: plan and evaluate over so many steps; None: the discounted endless problem, evaluated over the level's
            time limit.

    Raises:
        ImpactError: settings out of range, a penalty that does not fit the task, or a budget below the least possible
            impact, which the message names.

    >>> from impactrl.compile import compile_mdp
    >>> best = solve_within_budget(compile_mdp("Options"), Penalty(), budget=0.1)
    >>> round(best.discounted_impact, 9), round(best.expected_completed, 3), round(best.multiplier, 3)
    (0.1, 0.535, 4.218)
    """
    if not isinstance(mdp, TabularMDP):
        raise ImpactError(
            f"solve_within_budget needs the arrays of a task, compile_mdp({mdp!r}), not {type(mdp).__name__}"
        )
    budget = real_number("budget", budget)
    if math.isnan(budget):
        raise ImpactError("budget must be a number, or infinity for no limit; not nan")
    settings = Planner(discount=discount, horizon=horizon)
    if settings.horizon is None and settings.discount == 1:
        raise ImpactError("a budget of undiscounted impact needs a horizon, as horizon=100; or give a discount below 1")
    impact = penalty.fit(mdp)
    task = impact.mdp
    reward = (task.probability * task.reward).sum(axis=2)
    cost = (task.probability * np.where(np.abs(impact.unit_penalty) < ZERO, 0.0, impact.unit_penalty)).sum(axis=2)
    least = _least(task, cost, settings)
    if budget < least - FEASIBLE:
        raise ImpactError(
            f"no policy keeps the discounted impact within {budget:g}: the least possible is {least:.9g}; "
            "give a larger budget"
        )
    points = _points(task, settings)
    flow = points.flow(settings.discount)
    x, multiplier = _occupancy(
        flow, points.start, reward[points.state], cost[points.state], budget if budget >= least else least + FEASIBLE
    )
    fallback = np.eye(task.num_actions)[greedy(plan(impact, settings, multiplier).q)]
    policy = points.scattered(x, fallback)
    chosen = policy[points.place]
    visits = spsolve((flow @ _spread(chosen)).tocsc(), points.start)
    last, sums = _episode(impact, policy, settings.horizon or task.time_limit)
    return BudgetSolution(
        impact=impact,
        budget=budget,
        policy=policy,
        value=float(visits @ (chosen * reward[points.state]).sum(axis=1)),
        discounted_impact=float(visits @ (chosen * cost[points.state]).sum(axis=1)),
        multiplier=multiplier,
        expected_reward=float(sums[0]),
        expected_performance=float(sums[1] + task.initial_performance),
        expected_side_effect=float(sums[2]),
        expected_completed=float(last @ task.completed),
        expected_impact=float(sums[3]),
        steps=settings.horizon or task.time_limit,
    )


def _least(task: TabularMDP, cost: Floats, settings: Planner) -> float:
    """The least possible discounted impact."""
    continuing = np.where(task.terminal[task.next_state], 0.0, task.probability)
    if settings.horizon is None:
        values = optimal_values(task.next_state, continuing, -cost, discount=settings.discount).values
    else:
        q = finite_horizon_action_values(
            task.next_state, continuing, -cost, discount=settings.discount, horizon=settings.horizon
        )
        values = q[0].max(axis=1)
    return float(-(task.start @ values)) + 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class _Points:
    """Where decisions are made: N states that are no ends, or pairs of step and state.

    Attributes:
        place: index of each point in a policy: arrays of states, or of steps and states.
        follow: [N, A, K] point after each outcome, -1 where there is none.
        probability: [N, A, K].
        start: [N] distribution of first points.
    """

    place: tuple[Indices, ...]
    follow: Indices
    probability: Floats
    start: Floats

    @property
    def state(self) -> Indices:
        """[N]."""
        return self.place[-1]

    def flow(self, discount: float) -> "sparse.csr_array":
        """[N, N * A] by how much each decision leaves every point less often than it comes there."""
        count, num_actions, _ = self.follow.shape
        decision = np.arange(count * num_actions).reshape(count, num_actions)
        n, a, k = np.nonzero((self.follow >= 0) & (self.probability > 0))
        out = sparse.coo_array(
            (np.ones(decision.size), (np.repeat(np.arange(count), num_actions), decision.ravel())),
            shape=(count, decision.size),
        )
        back = sparse.coo_array(
            (discount * self.probability[n, a, k], (self.follow[n, a, k], decision[n, a])), shape=out.shape
        )
        return (out - back).tocsr()

    def scattered(self, x: Floats, policy: Floats) -> Floats:
        """The policy of occupancies [N, A]; where there are none, the policy that is given."""
        visits = x.sum(axis=1)
        met = visits > UNVISITED
        result = policy.copy()
        result[tuple(index[met] for index in self.place)] = x[met] / visits[met, None]
        return result


def _points(task: TabularMDP, settings: Planner) -> _Points:
    going = ~task.terminal
    if settings.horizon is None:
        state = np.flatnonzero(going)
        number = np.full(task.num_states, -1)
        number[state] = np.arange(len(state))
        return _Points(
            place=(state,),
            follow=number[task.next_state[state]],
            probability=task.probability[state],
            start=task.start[state],
        )
    layers: list[NDArray[Any]] = [np.flatnonzero(going & (task.start > 0))]
    for _ in range(settings.horizon - 1):
        here = layers[-1]
        after = np.unique(task.next_state[here][task.probability[here] > 0])
        layers.append(after[going[after]])
    step = np.repeat(np.arange(settings.horizon), [len(layer) for layer in layers])
    state = np.concatenate(layers).astype(np.int64)
    number = np.full((settings.horizon + 1, task.num_states), -1)
    number[step, state] = np.arange(len(state))
    return _Points(
        place=(step, state),
        follow=number[step[:, None, None] + 1, task.next_state[state]],
        probability=task.probability[state],
        start=np.where(step == 0, task.start[state], 0.0),
    )


def _occupancy(
    flow: "sparse.csr_array", start: Floats, reward: Floats, cost: Floats, budget: float
) -> tuple[Floats, float]:
    """[N, A] the best occupancies within the budget, of those some with the least impact; the price of the budget."""
    limited = math.isfinite(budget)
    best = _program(
        -reward.ravel(),
        flow,
        start,
        A_ub=sparse.csr_array(cost.reshape(1, -1)) if limited else None,
        b_ub=[budget] if limited else None,
    )
    multiplier = max(0.0, -float(best.ineqlin.marginals[0])) if limited else 0.0
    x = best.x
    if multiplier <= ZERO:  # impact costs nothing: without this the solver would take more of it than it needs
        optimal = np.where(best.lower.marginals <= ZERO, np.inf, 0.0)
        x = _program(cost.ravel(), flow, start, bounds=np.stack([np.zeros_like(optimal), optimal], axis=1)).x
    return np.maximum(x, 0.0).reshape(reward.shape), multiplier


def _program(objective: Floats, flow: "sparse.csr_array", start: Floats, **limits: Any) -> Any:
    """The occupancies x >= 0 that minimise `objective @ x` subject to `flow @ x == start`, as scipy returns them."""
    tolerance = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
    solved: Any = linprog(  # type: ignore[call-overload]  # sparse matrices are not in the stubs
        objective, A_eq=flow, b_eq=start, method="highs", options=tolerance, **limits
    )
    if not solved.success:
        raise ImpactError(f"the linear program of the budget was not solved: {solved.message}")
    return solved


def _spread(policy: Floats) -> "sparse.csr_array":
    """[N * A, N] from visits of points to decisions."""
    count, num_actions = policy.shape
    rows = np.arange(count * num_actions)
    return sparse.csr_array((policy.ravel(), (rows, np.repeat(np.arange(count), num_actions))))


def _episode(impact: Impact, policy: Floats, steps: int) -> tuple[Floats, Floats]:
    """[X] the distribution of last states, and [4] expected sums of the columns over an episode of a mixed policy."""
    task = impact.mdp
    columns = (task.probability[..., None] * impact.columns).sum(axis=2)
    mass, sums = np.asarray(task.start), np.zeros(columns.shape[2])
    target = task.next_state.ravel()
    for t in range(steps):
        done = mass[:, None] * (policy if policy.ndim == 2 else policy[t])
        sums += np.einsum("xa,xac->c", done, columns)
        arriving = (done[:, :, None] * task.probability).ravel()
        mass = np.bincount(target, weights=arriving, minlength=task.num_states).astype(np.float64)
    return mass, sums
