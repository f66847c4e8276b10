"""From a specification to a result. Pure: safe to send to any worker."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from impactrl.agents.aup import AUPTraining, ModelFreeAUP, train_aup
from impactrl.agents.dqn import DEEP_DIAGNOSTICS, DQN, DeepTraining, require_deep
from impactrl.agents.impact_learner import DIAGNOSTICS, ImpactLearner, ImpactTraining, train_impact_learner
from impactrl.agents.planner import Planner, plan
from impactrl.agents.q_learning import Training, train
from impactrl.compile import compile_mdp
from impactrl.errors import ImpactError
from impactrl.mdp import TabularMDP
from impactrl.measures.impact import COLUMNS, Impact
from impactrl.measures.penalty import Penalty
from impactrl.runs.specification import Environment, RunSpecification

__all__ = ["RunResult", "execute", "execute_together", "fitted"]

FITS_KEPT = 32
_one_at_a_time = Lock()


@dataclass(frozen=True, kw_only=True, eq=False)
class RunResult:
    """What came of a run.

    Attributes:
        evaluations: [E] int64, how much training there was before each greedy evaluation: episodes, or steps of a
            `DQN`; [0] for a planner.
        history: [E, 5] float64, the columns of `COLUMNS` at each.
        steps: environment steps taken.
        seconds: wall time, without the fitting that runs share.
        training: [E, 5] float64, means of the columns over the episodes of training since the evaluation before; None
            where they were not recorded.
        diagnostics: [E] float64 by name, how far what was learned of the impact is from the exact one; of agents that
            learn it.
    """

    evaluations: NDArray[np.int64]
    history: NDArray[np.float64]
    steps: int
    seconds: float
    training: NDArray[np.float64] | None = None
    diagnostics: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)


def fitted(environment: Environment, penalty: Penalty) -> Impact:
    """The fitted penalty of a run, shared by all weights and kept for the next runs.

    Raises:
        ImpactError: the penalty does not fit the environment; found out once for all runs that ask.
    """
    with _one_at_a_time:
        impact = _fit(environment, replace(penalty, weight=1.0))
    if isinstance(impact, ImpactError):
        raise ImpactError(str(impact))
    return impact


@lru_cache(maxsize=FITS_KEPT)
def _compile(environment: Environment) -> TabularMDP:
    settings: dict[str, Any] = dict(environment.settings)
    return compile_mdp(environment.name, **settings)


@lru_cache(maxsize=FITS_KEPT)
def _fit(environment: Environment, penalty: Penalty) -> Impact | ImpactError:
    try:
        return penalty.fit(_compile(environment))
    except ImpactError as error:
        return error


def execute(specification: RunSpecification) -> RunResult:
    """Does one run. The same specification gives the same result, bit for bit.

    Raises:
        ImpactError: the penalty does not fit the environment, or what was learned is not finite.
    """
    environment, penalty, agent = specification.environment, specification.penalty, specification.agent
    if isinstance(agent, DQN):
        result = execute_together([specification], progress=False)[0]
        if isinstance(result, ImpactError):
            raise result
        return result
    seeds = [specification.seed_sequence()]
    training: Training | AUPTraining | None = None
    if isinstance(agent, ModelFreeAUP):
        with _one_at_a_time:
            mdp = _compile(environment)
        begin = time.perf_counter()
        training = train_aup(mdp, penalty, agent, weights=[penalty.weight], seeds=seeds)
    else:
        impact = fitted(environment, penalty)
        begin = time.perf_counter()
        if isinstance(agent, Planner):
            best = plan(impact, agent, penalty.weight)
        elif isinstance(agent, ImpactLearner):
            with _one_at_a_time:
                mdp = _compile(environment)
            training = train_impact_learner(mdp, impact, agent, weights=[penalty.weight], seeds=seeds)
        else:
            training = train(impact, agent, weights=[penalty.weight], seeds=seeds)
    seconds = time.perf_counter() - begin
    if training is None:
        history = np.array([[getattr(best, f"expected_{column}") for column in COLUMNS]])
        result = RunResult(evaluations=np.zeros(1, dtype=np.int64), history=history, steps=0, seconds=seconds)
    else:
        result = RunResult(
            evaluations=training.evaluations,
            history=training.history[0],
            steps=int(training.steps[0]),
            seconds=seconds,
            training=training.during[0],
            diagnostics=_named(DIAGNOSTICS, training.diagnostics[0]) if isinstance(training, ImpactTraining) else {},
        )
    if not np.isfinite(result.history).all():
        raise ImpactError("the result is not finite: the values that were learned grew without bound")
    return result


def execute_together(
    specifications: Sequence[RunSpecification],
    *,
    threads: int = 1,
    device: str = "cpu",
    checkpoint: Path | None = None,
    log: Path | None = None,
    progress: bool | None = None,
) -> list[RunResult | ImpactError]:
    """Does runs of a deep Q-agent that differ in weight and seed only; on the CPU with the results of `execute`.

    Args:
        specifications: of the runs.
        threads: runs at once, on the CPU.
        device: "cpu" or "gpu".
        checkpoint: folder that they are kept in after every evaluation; see `train_dqn`.
        log: CSV file of the numbers of every evaluation.
        progress: show a bar; None: if there is a terminal.

    Returns:
        What came of each; of a run that diverged, the error that says so.

    Raises:
        ImpactError: as `train_dqn`; or runs that differ in something else.
    """
    shared = {(s.environment, replace(s.penalty, weight=1.0), s.agent) for s in specifications}
    if len(shared) != 1:
        raise ImpactError(f"runs together share environment, penalty and agent; these have {len(shared)} of them")
    environment, penalty, agent = shared.pop()
    if not isinstance(agent, DQN):
        raise ImpactError(f"only runs of a DQN can be done together, not of {agent!r}")
    require_deep()
    from impactrl.agents.deep.compiled import train_batch

    impact = fitted(environment, penalty)
    begin = time.perf_counter()
    training = train_batch(
        impact,
        agent,
        weights=[s.penalty.weight for s in specifications],
        seeds=[s.seed_sequence() for s in specifications],
        threads=threads,
        device=device,
        checkpoint=checkpoint,
        log=log,
        progress=progress,
    )
    seconds = (time.perf_counter() - begin) * min(threads, len(specifications)) / len(specifications)
    return [_of_deep(training, i, seconds) for i in range(len(specifications))]


def _of_deep(training: DeepTraining, i: int, seconds: float) -> RunResult | ImpactError:
    """What came of the i-th run of a batch."""
    if training.stopped[i] >= 0:
        return ImpactError(
            f"stopped at step {training.stopped[i]}: what was learned is not finite; a smaller learning_rate or a "
            "gradient_clip may help"
        )
    return RunResult(
        evaluations=training.evaluations,
        history=training.history[i],
        steps=int(training.steps[i]),
        seconds=seconds,
        training=training.during[i],
        diagnostics={} if training.diagnostics is None else _named(DEEP_DIAGNOSTICS, training.diagnostics[i]),
    )


def _named(names: Sequence[str], columns: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """The columns [E, D] by their names."""
    return dict(zip(names, columns.T, strict=True))
