"""An agent that learns its own impact while it learns the task, as in Krakovna et al. (2019)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from impactrl.agents.impact_kernels import (
    BASELINES,
    DEVIATIONS,
    Measure,
    Places,
    learn_impact,
    new_model,
)
from impactrl.agents.q_learning import Training
from impactrl.agents.settings import TabularLearner
from impactrl.agents.tabular import Progress, Schedules, finish, new_progress, require_seeds, run_all, task_of
from impactrl.errors import ImpactError, require_one_of
from impactrl.mdp import TabularMDP
from impactrl.measures.differences import SUMMARIES, VALUE_SCALES
from impactrl.measures.families import node_utilities
from impactrl.measures.impact import Impact
from impactrl.measures.penalty import Penalty
from impactrl.measures.state_graph import StateGraph, state_graph
from impactrl.measures.values import attainable_utilities, reachability

__all__ = ["DIAGNOSTICS", "NOOPS", "ImpactLearner", "ImpactTraining", "require_learnable", "train_impact_learner"]

DIAGNOSTICS = ("states", "actions", "mean_error", "max_error", "charge_error")
"""What is reported of a learned measure beside the outcomes, in order; see `ImpactTraining`."""

NOOPS = ("learned", "exact")
MAX_TABLE_BYTES = 4 * 2**30
BYTES_PER_PAIR = 28  # distance, exact value, deviation and when it was computed


@dataclass(frozen=True, kw_only=True)
class ImpactLearner(TabularLearner):
    """Settings of Q-learning by an agent that does not know the world, and so neither what its penalty is.

    It learns action values on the state alone, and beside them, from the transitions that it has seen, what its
    penalty asks for: the reachability of every state from every state, or the values of all utilities. In every step
    it is charged by what it knows then. Penalties are the same as of any agent (`Penalty`), of relative reachability,
    unreachability and attainable utility with the baselines start, inaction and stepwise, in deterministic worlds.

    What it does not know: a state that it has not seen cannot be reached; of the utilities to be had, those behind
    actions never tried are none; and relative reachability is the mean over the states seen so far. Once every action
    has been tried in every state, its charges are exact.

    Krakovna et al. (2019), arXiv 1806.01186; their agent learns for 10 000 episodes.

    Attributes:
        noop: how it knows what doing nothing leads to, for baselines and rollouts: "learned", from having done nothing
            there (until then, it takes nothing to change); or "exact".

    Raises:
        ImpactError: a value out of range; says what was expected.
    """

    noop: str = "learned"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_one_of("noop", self.noop, NOOPS)


@dataclass(frozen=True, kw_only=True, eq=False)
class ImpactTraining(Training):
    """What a batch of R runs learned, of the task and of its impact.

    Attributes:
        diagnostics: [R, E, 5] at every evaluation, in the order of `DIAGNOSTICS`: the share of the measure's states
            that was seen; the share of actions in them that was tried; mean and largest absolute error of the learned
            table of reachabilities or attainable utilities; and the mean absolute error of what the agent was charged
            (at weight 1) in the steps since the evaluation before.
    """

    diagnostics: NDArray[np.float64]


def train_impact_learner(
    mdp: TabularMDP,
    impact: Impact,
    settings: ImpactLearner,
    *,
    weights: Sequence[float],
    seeds: Sequence[int | np.random.SeedSequence],
    threads: int = 1,
) -> ImpactTraining:
    """Trains a batch of runs, each of which learns its penalty anew.

    A run depends on its own weight and seed alone: the same alone, in any batch, on any number of threads.

    Args:
        mdp: the task.
        impact: the penalty, fitted to it: what is learned, and the exact impact in the results. Its own weight is not
            used.
        settings: shared by the batch.
        weights: [R] penalty weights.
        seeds: [R] one per run.
        threads: how many runs to train at once (the kernel holds no lock).

    Raises:
        ImpactError: weights and seeds of different length, a world with chance in it, or a penalty that this agent
            cannot learn.
    """
    require_seeds(weights, seeds)
    require_learnable(impact.penalty)
    if not mdp.deterministic:
        raise ImpactError(
            "the impact learner takes every transition it has seen for one it can choose, so it needs a world without "
            "chance; use QLearning, which knows its penalty"
        )
    graph = state_graph(mdp, impact.penalty.terminal)
    measure = _measure(graph, impact.penalty)
    places = Places(
        node=graph.node[impact.state].astype(np.int64),
        noop=-1 if mdp.noop is None else mdp.noop,
        learns_noop=settings.noop == "learned",
        live=int((~mdp.terminal[graph.state]).sum()),
        exact=_exact_table(graph, impact.penalty),
    )
    task = task_of(impact, impact.state)
    schedules = Schedules(
        epsilon=settings.epsilons(),
        rate=np.full(settings.episodes, settings.learning_rate),
        power=0.0,
        factor=np.ones(settings.episodes),
        evidence=0.0,
        evaluations=settings.evaluations(),
    )
    noop = np.arange(graph.size) if places.learns_noop or graph.idle is None else graph.idle.indices.astype(np.int64)
    q = np.zeros((len(seeds), mdp.num_states, mdp.num_actions))
    progress = new_progress(len(seeds), schedules.evaluations)
    diagnostics = np.zeros((len(seeds), len(schedules.evaluations), len(DIAGNOSTICS)))
    steps = np.zeros(len(seeds), dtype=np.int64)

    def run(i: int) -> None:
        table = np.zeros(q.shape[1:])
        steps[i] = learn_impact(
            np.random.default_rng(seeds[i]),
            task,
            schedules,
            float(weights[i]),
            settings.discount,
            measure,
            places,
            new_model(graph.size, mdp.num_actions, measure, noop),
            table,
            Progress(history=progress.history[i], during=progress.during[i]),
            diagnostics[i],
        )
        q[i] = table

    run_all(run, len(seeds), threads)
    finish(progress, schedules.evaluations, mdp.initial_performance)
    return ImpactTraining(
        impact=impact,
        row=impact.state,
        q=q,
        evaluations=schedules.evaluations,
        history=progress.history,
        during=progress.during,
        steps=steps,
        diagnostics=diagnostics,
    )


def require_learnable(penalty: Penalty) -> None:
    """Raises unless an agent can learn the penalty; says which setting is in the way."""
    if penalty.deviation == "none":
        return
    learnable = {
        "deviation": DEVIATIONS,
        "baseline": BASELINES,
        "rollout": (False, True),
        "scale": (*VALUE_SCALES, "discount"),
        "norm": ("L1",),
        "horizon": (None,),
        "policy": (None,),
        "attainable": ("arrival",),
        "clip": (False,),
        "goals": ("all",),
    }
    for name, known in learnable.items():
        if getattr(penalty, name) not in known:
            raise ImpactError(
                f"the impact learner cannot learn a penalty with {name}={getattr(penalty, name)!r}, only with "
                f"{' or '.join(map(repr, known))}; use QLearning, which knows its penalty"
            )


def _measure(graph: StateGraph, penalty: Penalty) -> Measure:
    nothing, values = penalty.deviation == "none", penalty.deviation == "attainable_utility"
    if not nothing and graph.size**2 * BYTES_PER_PAIR > MAX_TABLE_BYTES:
        raise ImpactError(
            f"learning what {graph.size} states have to do with each other takes "
            f"{graph.size**2 * BYTES_PER_PAIR / 2**30:.0f} GiB per run; {MAX_TABLE_BYTES // 2**30} GiB are allowed"
        )
    return Measure(
        deviation=DEVIATIONS.index(penalty.deviation_name),
        baseline=0 if nothing else BASELINES.index(penalty.baseline_name),
        summary=SUMMARIES.index(penalty.effective_summary or SUMMARIES[0]),
        scale=VALUE_SCALES.index(penalty.scale) if penalty.scale in VALUE_SCALES else 0,
        factor=1 - penalty.discount if penalty.scale == "discount" else 1.0,
        rollout=penalty.rollout_discount if penalty.rollout is True else 0.0,
        nonterminal_weight=penalty.nonterminal_weight,
        time_limit_ends=penalty.time_limit_ends,
        discount=penalty.discount,
        powers=np.append(penalty.discount ** np.arange(graph.size), 0.0),
        utilities=np.ascontiguousarray(node_utilities(graph, penalty).T) if values else np.empty((0, graph.size)),
    )


def _exact_table(graph: StateGraph, penalty: Penalty) -> NDArray[np.float64]:
    if penalty.deviation == "none":
        return np.empty((graph.size, 0))
    if penalty.deviation == "attainable_utility":
        return attainable_utilities(graph, node_utilities(graph, penalty), discount=penalty.discount)
    return reachability(graph, discount=penalty.discount)
