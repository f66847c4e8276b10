"""Sweeps: environments x agents x penalties x weights x seeds, on all cores, resumable at any moment."""

import math
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Literal

import pandas as pd

from impactrl.agents.dqn import DQN, require_deep
from impactrl.agents.planner import Planner
from impactrl.agents.q_learning import QLearning
from impactrl.errors import ImpactError, real_number, whole_number
from impactrl.measures.penalty import Penalty
from impactrl.progress import progress_bar
from impactrl.runs.critical import critical_weights
from impactrl.runs.execution import RunResult, execute
from impactrl.runs.specification import Agent, Environment, RunSpecification, agent_name
from impactrl.runs.store import FAILED, Store

__all__ = [
    "FailedRunsWarning",
    "Sweep",
    "failure_note",
    "missing_runs",
    "number_of_jobs",
    "sweep",
    "weight_of",
]

QUEUED_PER_WORKER = 4

RunFuture = Future[RunResult]


class FailedRunsWarning(UserWarning):
    """Some runs of a sweep failed."""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A plan of runs: every environment with every agent, under every penalty, at every weight, for every seed.

    A penalty that charges nothing ("none") is run once per seed, at weight 0; a planner, once per weight.

    Attributes:
        environments: names, or `Environment`s with settings.
        penalties: their own weights are replaced by `weights`, unless that is empty.
        weights: the penalty weights; "critical" for the `critical_weights` of each penalty, environment and agent.
        seeds: how many; they are 0, 1, 2, ...
        agents: who plays.

    Raises:
        ImpactError: nothing to do, a name nobody knows, the same entry twice, or a penalty that cannot be written down.
    """

    environments: tuple[Environment, ...]
    penalties: tuple[Penalty, ...]
    weights: tuple[float, ...] | Literal["critical"] = ()
    seeds: int = 10
    agents: tuple[Agent, ...] = (QLearning(),)

    def __post_init__(self) -> None:
        for name in ("environments", "penalties", "weights", "agents"):
            entries = getattr(self, name)
            critical = name == "weights" and isinstance(entries, str) and entries == "critical"
            if not critical and (isinstance(entries, str) or not isinstance(entries, Iterable)):
                raise ImpactError(f"{name} of a sweep must be a list, not {entries!r}")
        environments = tuple(Environment(e) if isinstance(e, str) else e for e in self.environments)
        object.__setattr__(self, "environments", environments)
        object.__setattr__(self, "penalties", tuple(self.penalties))
        object.__setattr__(self, "agents", tuple(self.agents))
        if not isinstance(self.weights, str):
            object.__setattr__(self, "weights", tuple(weight_of(w) for w in self.weights))
        for agent in self.agents:
            agent_name(agent)
        for penalty in self.penalties:
            penalty.settings()  # raises now, not when the first run is stored, if it cannot be written down
        for name in ("environments", "penalties", "agents"):
            entries = getattr(self, name)
            if not entries:
                raise ImpactError(f"a sweep needs at least one entry in {name}")
            if len(set(entries)) < len(entries):
                raise ImpactError(f"{name} of a sweep must be different from each other")
        object.__setattr__(self, "seeds", whole_number("seeds", self.seeds, at_least=1))

    def runs(self) -> list[RunSpecification]:
        """All runs of the plan, each once, in order.

        Raises:
            ImpactError: the weights are critical ones, and a penalty has none in an environment that it does not fit.
        """
        plan = {
            RunSpecification(environment=environment, penalty=penalty, agent=agent, seed=seed): None
            for environment in self.environments
            for agent in self.agents
            for given in self.penalties
            for penalty in self._weighted(environment, agent, given)
            for seed in range(1 if isinstance(agent, Planner) else self.seeds)
        }
        return list(plan)

    def _weighted(self, environment: Environment, agent: Agent, penalty: Penalty) -> Iterator[Penalty]:
        if penalty.deviation == "none":
            weights: Iterable[float] = (0.0,)
        elif self.weights == "critical":
            weights = critical_weights(environment, penalty, agent)
        else:
            weights = self.weights or (penalty.weight,)
        yield from (replace(penalty, weight=weight) for weight in weights)


def sweep(
    plan: Sweep,
    *,
    store: str | Path,
    jobs: int | None = None,
    executor: Executor | None = None,
    progress: bool | None = None,
    retry_failed: bool = False,
) -> pd.DataFrame:
    """Does all runs of a plan that the store does not have yet.

    Every finished run is stored at once. Killed at any moment, the same call goes on where it stopped. A run that fails
    is stored with its error, and the sweep goes on with the others.

    Args:
        plan: what to run.
        store: file of the results store; made if it is not there.
        jobs: how many runs at once; None: one per core. The results do not depend on it.
        executor: runs the runs elsewhere, in processes or on a cluster for example; `jobs` then says how many at once.
        progress: show a bar; None: if there is a terminal.
        retry_failed: also do the runs again that failed in an earlier call.

    Returns:
        One row per finished run of the plan, in its order: `run` (hash), `environment`, `agent`, `penalty`,
        `deviation`, `baseline`, `weight`, `seed`, and of the last greedy evaluation `reward`, `performance`,
        `side_effect`, `completed`, `impact`.

    Raises:
        ImpactError: the store cannot be used or written, the plan has deep agents and the extra `deep` is not there, or
            no run of the plan has finished. Finished runs are kept.

    Warns:
        FailedRunsWarning: some runs of the plan failed; how many, and the error of the first. `Store.failures` has all.
    """
    jobs = number_of_jobs(jobs)
    specifications = plan.runs()
    hashes = [s.hash for s in specifications]
    with Store(store) as results:
        missing = missing_runs(specifications, results, retry_failed=retry_failed)
        if any(isinstance(specification.agent, DQN) for specification in missing):
            require_deep()
        with progress_bar(progress) as bar:
            task = bar.add_task("runs", total=len(specifications), completed=len(specifications) - len(missing))

            def keep(specification: RunSpecification, future: RunFuture) -> None:
                _keep(results, specification, future)
                bar.advance(task)

            # Another process may have done a run meanwhile.
            wanted = (s for s in missing if not results.has_finished(s.hash))
            pool = nullcontext(executor) if executor is not None else ThreadPoolExecutor(jobs)
            with pool as workers:
                _do(workers, wanted, jobs * QUEUED_PER_WORKER, keep)
        failures = results.failures(hashes)
        if len(failures) == len(hashes):
            raise ImpactError(failure_note(failures, len(hashes)))
        if len(failures):
            warnings.warn(failure_note(failures, len(hashes)), FailedRunsWarning, stacklevel=2)
        failed = set(failures["run"])
        return results.runs(run for run in hashes if run not in failed)


def weight_of(value: object) -> float:
    """A penalty weight.

    Raises:
        ImpactError: it is no number of at least 0.
    """
    weight = real_number("a weight", value)
    if not 0 <= weight < math.inf:
        raise ImpactError(f"a weight must be a number of at least 0, not {weight}")
    return weight


def number_of_jobs(jobs: int | None) -> int:
    """How many runs at once; None: one per core."""
    return whole_number("jobs", (os.cpu_count() or 1) if jobs is None else jobs, at_least=1)


def missing_runs(
    specifications: Iterable[RunSpecification], store: Store, *, retry_failed: bool
) -> list[RunSpecification]:
    """Those that a store does not have yet."""
    status = store.status()
    undone = (None, FAILED) if retry_failed else (None,)
    return [s for s in specifications if status.get(s.hash) in undone]


def _do(
    workers: Executor,
    specifications: Iterator[RunSpecification],
    queued: int,
    keep: Callable[[RunSpecification, RunFuture], None],
) -> None:
    """Hands every run to the workers, and to `keep` when it is done."""
    pending: dict[RunFuture, RunSpecification] = {}
    try:
        while True:
            for specification in islice(specifications, queued - len(pending)):
                pending[workers.submit(execute, specification)] = specification
            if not pending:
                return
            # What finished well is kept before anything stops the sweep.
            for future in sorted(wait(pending, return_when=FIRST_COMPLETED).done, key=_stops):
                keep(pending[future], future)
                del pending[future]
    except KeyboardInterrupt:
        # What runs cannot be stopped. So it is waited for, and kept where it ends well.
        running = [future for future in pending if not future.cancel()]
        for future in wait(running).done:
            if not future.cancelled() and future.exception() is None:
                keep(pending[future], future)
        raise
    finally:
        for future in pending:
            future.cancel()


def _stops(future: RunFuture) -> bool:
    """Whether a run ended in a way that is no fault of its own."""
    error = future.exception()
    return error is not None and (isinstance(error, BrokenExecutor) or not isinstance(error, Exception))


def _keep(store: Store, specification: RunSpecification, future: RunFuture) -> None:
    """Stores what came of a run; raises what is no fault of the run's own."""
    error = future.exception()
    if error is None:
        store.add(specification, future.result())
    elif not _stops(future):
        store.add_failure(specification, error)
    elif isinstance(error, BrokenExecutor):
        raise ImpactError(
            f"the workers have stopped ({error}); finished runs are kept, the same call goes on"
        ) from None
    else:
        raise error


def failure_note(failures: pd.DataFrame, count: int) -> str:
    """One line on the failed runs of a plan of so many."""
    first = failures.iloc[0]
    where = f"{first['environment']} with {first['penalty']}, {first['agent']}, weight {first['weight']:g}"
    error = str(first["error"]).partition("\n")[0]
    return (
        f"{len(failures)} of {count} runs failed and are left out (retry_failed tries them again). "
        f"The first, {where}, seed {first['seed']}: {error}"
    )
