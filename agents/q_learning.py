"""Tabular Q-learning and its variants under a penalty; runs of a batch share the fitted arrays."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from impactrl.agents.budget import with_budget
from impactrl.agents.q_kernels import ALGORITHMS, learn, learn_variant
from impactrl.agents.settings import TabularLearner
from impactrl.agents.tabular import Progress, Schedules, finish, new_progress, require_seeds, run_all, task_of
from impactrl.errors import ImpactError, real_number, require_one_of, whole_number
from impactrl.measures.impact import Impact

__all__ = ["LEARNING_RATE_SCHEDULES", "MEMORIES", "WEIGHT_SCHEDULES", "QLearning", "Training", "train"]

LEARNING_RATE_SCHEDULES = ("constant", "linear", "exponential", "visits")
WEIGHT_SCHEDULES = ("constant", "linear", "annealed")
MEMORIES = ("product", "state")


@dataclass(frozen=True, kw_only=True)
class QLearning(TabularLearner):
    """Settings of tabular Q-learning, its variants, and what the penalty does over training.

    Attributes:
        algorithm: "q_learning" (Watkins 1989); "sarsa" (Rummery & Niranjan 1994); "expected_sarsa" (van Seijen et al.
            2009); or "double_q" (van Hasselt 2010), whose action values are the mean of its two tables.
        trace_decay: lambda in [0, 1]: every step also corrects the pairs before it, each lambda * discount times as
            much as the one after it (replacing traces, Singh & Sutton 1996). With "q_learning" this is Watkins's
            Q(lambda), which cuts the traces at every exploring step and so learns the same values as without; not
            with "double_q".
        initial_value: of all action values. Larger than anything to be had, it makes the agent try everything.
        memory: "product": learn on the state together with what the baseline remembers, which is Markov; "state": on
            the state alone, as in the published programs, so that one value stands for penalties that differ.
        learning_rate_schedule: "constant"; "linear" or "exponential" to `learning_rate_end`; or "visits": at the n-th
            update of an action in a state, the learning rate over n^p (Even-Dar & Mansour 2003: converges for
            p > 1/2).
        learning_rate_end: of the last episode, in (0, 1]; with the "linear" and the "exponential" schedule.
        learning_rate_power: p in (0, 1]; with the schedule "visits".
        weight_schedule: of the penalty: "constant"; "linear": from `weight_start` times the weight in the first episode
            to the weight in the last (Turner et al. 2020, arXiv 2006.06547: 0.001 to 0.1); or "annealed": the weight
            times h / (h + n) after n steps, which fades as evidence about the task grows (impact as a regulariser;
            steady within an episode).
        weight_start: with the schedule "linear"; at least 0.
        weight_half_life: h in steps, above 0; with the schedule "annealed".
        budget: most impact (at weight 1) that an episode may have, in training and after; None: any. Actions that
            could exceed it are replaced by harmless ones, and the agent knows how much is left; see
            `impactrl.agents.budget.with_budget`.
        budget_units: how finely the budget is measured; impacts are rounded up to whole units.

    Raises:
        ImpactError: a value out of range, or a setting without the schedule that it belongs to.
    """

    algorithm: str = "q_learning"
    trace_decay: float = 0.0
    initial_value: float = 0.0
    memory: str = "product"
    learning_rate_schedule: str = "constant"
    learning_rate_end: float | None = None
    learning_rate_power: float | None = None
    weight_schedule: str = "constant"
    weight_start: float | None = None
    weight_half_life: float | None = None
    budget: float | None = None
    budget_units: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        require_one_of("algorithm", self.algorithm, ALGORITHMS)
        require_one_of("memory", self.memory, MEMORIES)
        require_one_of("learning_rate_schedule", self.learning_rate_schedule, LEARNING_RATE_SCHEDULES)
        require_one_of("weight_schedule", self.weight_schedule, WEIGHT_SCHEDULES)
        self._goes_with("learning_rate_end", "learning_rate_schedule", "linear", "exponential")
        self._goes_with("learning_rate_power", "learning_rate_schedule", "visits")
        self._goes_with("weight_start", "weight_schedule", "linear")
        self._goes_with("weight_half_life", "weight_schedule", "annealed")
        self._check("trace_decay", "in [0, 1]", lambda value: 0 <= value <= 1)
        self._check("initial_value", "finite", math.isfinite)
        self._check("learning_rate_end", "in (0, 1]", lambda value: 0 < value <= 1)
        self._check("learning_rate_power", "in (0, 1]", lambda value: 0 < value <= 1)
        self._check("weight_start", "finite and at least 0", lambda value: 0 <= value < math.inf)
        self._check("weight_half_life", "finite and above 0", lambda value: 0 < value < math.inf)
        self._check("budget", "finite and at least 0", lambda value: 0 <= value < math.inf)
        object.__setattr__(self, "budget_units", whole_number("budget_units", self.budget_units, at_least=1))
        if self.trace_decay > 0 and self.algorithm == "double_q":
            raise ImpactError("double_q has two tables and no traces: leave trace_decay at 0, or use 'q_learning'")

    def _goes_with(self, field: str, schedule: str, *kinds: str) -> None:
        given, wanted = getattr(self, field) is not None, getattr(self, schedule) in kinds
        if given != wanted:
            said = f"{schedule}={' or '.join(map(repr, kinds))}"
            raise ImpactError(f"{said} needs a {field}" if wanted else f"{field} has no effect without {said}")

    def _check(self, field: str, expected: str, holds: Callable[[float], bool]) -> None:
        if getattr(self, field) is None:
            return
        value = real_number(field, getattr(self, field))
        if not holds(value):
            raise ImpactError(f"{field} must be {expected}, not {value}")
        object.__setattr__(self, field, value)

    def learning_rates(self) -> NDArray[np.float64]:
        """[episodes] the learning rate in each, before it is divided by visits.

        >>> QLearning(
        ...     episodes=3, learning_rate=1.0, learning_rate_schedule="exponential", learning_rate_end=0.01
        ... ).learning_rates().round(9).tolist()
        [1.0, 0.1, 0.01]
        """
        end = self.learning_rate if self.learning_rate_end is None else self.learning_rate_end
        between = np.geomspace if self.learning_rate_schedule == "exponential" else np.linspace
        return between(self.learning_rate, end, self.episodes)

    def weight_factors(self) -> NDArray[np.float64]:
        """[episodes] the share of the penalty's weight in each, before it is annealed.

        >>> QLearning(episodes=3, weight_schedule="linear", weight_start=0.0).weight_factors().tolist()
        [0.0, 0.5, 1.0]
        """
        return np.linspace(1.0 if self.weight_start is None else self.weight_start, 1.0, self.episodes)

    def schedules(self) -> Schedules:
        """All that changes over training."""
        return Schedules(
            epsilon=self.epsilons(),
            rate=self.learning_rates(),
            power=self.learning_rate_power or 0.0,
            factor=self.weight_factors(),
            evidence=0.0 if self.weight_half_life is None else 1 / self.weight_half_life,
            evaluations=self.evaluations(),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Training:
    """What a batch of R runs learned.

    Attributes:
        impact: what was played: the fitted penalty, with the budget's memory if there is one. It has X states.
        row: [X] row of `q` that belongs to each state.
        q: [R, Y, A] final action values.
        evaluations: [E] episodes after which the greedy policy was evaluated.
        history: [R, E, 5] exact expected columns of a greedy episode, in the order of `COLUMNS`.
        during: [R, E, 5] the same columns as they came while learning: the mean over the training episodes since the
            evaluation before. What the agent does to the world until it knows better.
        steps: [R] environment steps taken.
    """

    impact: Impact
    row: NDArray[np.int64]
    q: NDArray[np.float64]
    evaluations: NDArray[np.int64]
    history: NDArray[np.float64]
    during: NDArray[np.float64]
    steps: NDArray[np.int64]


def train(
    impact: Impact,
    settings: QLearning,
    *,
    weights: Sequence[float],
    seeds: Sequence[int | np.random.SeedSequence],
    threads: int = 1,
) -> Training:
    """Trains a batch of runs on one fitted penalty.

    A run depends on its own weight and seed alone: the same alone, in any batch, on any number of threads.

    Args:
        impact: the fitted penalty; its own weight is not used.
        settings: shared by the batch.
        weights: [R] penalty weights.
        seeds: [R] one per run.
        threads: how many runs to train at once (the kernel holds no lock).

    Raises:
        ImpactError: weights and seeds of different length.
    """
    require_seeds(weights, seeds)
    if settings.budget is not None:
        impact = with_budget(impact, settings.budget, settings.budget_units)
    row = impact.state if settings.memory == "state" else np.arange(impact.mdp.num_states)
    task, schedules = task_of(impact, row), settings.schedules()
    evaluations = schedules.evaluations
    shape = (int(row.max()) + 1, impact.mdp.num_actions)
    double = settings.algorithm == "double_q"
    plain = settings.algorithm == "q_learning" and settings.trace_decay == 0 and settings.learning_rate_power is None
    q = np.empty((len(seeds), *shape))
    progress = new_progress(len(seeds), evaluations)
    steps = np.zeros(len(seeds), dtype=np.int64)

    def run(i: int) -> None:
        rng, weight = np.random.default_rng(seeds[i]), float(weights[i])
        own = Progress(history=progress.history[i], during=progress.during[i])
        # Tables of the run's own, no views of q: neighbouring runs would share cache lines between threads.
        tables = np.full((3 if double else 1, *shape), settings.initial_value)
        if plain:
            steps[i] = learn(rng, task, schedules, weight, settings.discount, tables[0], own)
        else:
            tables[0] *= 2 if double else 1
            algorithm = ALGORITHMS.index(settings.algorithm)
            steps[i] = learn_variant(
                rng, task, schedules, weight, settings.discount, algorithm, settings.trace_decay, tables, own
            )
        q[i] = tables[0] / (2 if double else 1)

    run_all(run, len(seeds), threads)
    finish(progress, evaluations, impact.mdp.initial_performance)
    return Training(
        impact=impact,
        row=row,
        q=q,
        evaluations=evaluations,
        history=progress.history,
        during=progress.during,
        steps=steps,
    )
