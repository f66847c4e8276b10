"""Sweeps: environments x penalties x weights x seeds, on all cores, resumable at any moment."""

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from impactrl.agents.planner import Planner
from impactrl.agents.q_learning import QLearning
from impactrl.errors import ImpactError, real_number, whole_number
from impactrl.measures.penalty import Penalty
from impactrl.runs.execution import RunResult, execute
from impactrl.runs.specification import Environment, RunSpecification
from impactrl.runs.store import Store

__all__ = ["Sweep", "sweep"]

QUEUED_PER_WORKER = 4


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A plan of runs: every environment under every penalty, at every weight, for every seed.

    A penalty that charges nothing ("none") is run once per seed, at weight 0; a planner, once per weight.

    Attributes:
        environments: names, or `Environment`s with settings.
        penalties: their own weights are replaced by `weights`, unless that is empty.
        weights: the penalty weights.
        seeds: how many; they are 0, 1, 2, ...
        agent: who plays.

    Raises:
        ImpactError: nothing to do, a name nobody knows, or the same penalty twice.
    """

    environments: tuple[Environment, ...]
    penalties: tuple[Penalty, ...]
    weights: tuple[float, ...] = ()
    seeds: int = 10
    agent: QLearning | Planner = field(default_factory=QLearning)

    def __post_init__(self) -> None:
        for name in ("environments", "penalties", "weights"):
            if isinstance(getattr(self, name), str | Penalty | Environment):
                raise ImpactError(f"{name} of a sweep must be a list, not {getattr(self, name)!r}")
            if not isinstance(getattr(self, name), Iterable):
                raise ImpactError(f"{name} of a sweep must be a list, not {getattr(self, name)!r}")
        if not isinstance(self.agent, QLearning | Planner):
            raise ImpactError(f"the agent of a sweep must be QLearning(...) or Planner(...), not {self.agent!r}")
        environments = tuple(Environment(e) if isinstance(e, str) else e for e in self.environments)
        object.__setattr__(self, "environments", environments)
        object.__setattr__(self, "penalties", tuple(self.penalties))
        object.__setattr__(self, "weights", tuple(real_number("a weight", w) for w in self.weights))
        for name in ("environments", "penalties"):
            entries = getattr(self, name)
            if not entries:
                raise ImpactError(f"a sweep needs at least one entry in {name}")
            if len(set(entries)) < len(entries):
                raise ImpactError(f"{name} of a sweep must be different from each other")
        object.__setattr__(self, "seeds", whole_number("seeds", self.seeds, at_least=1))
        for penalty in self.penalties:
            list(self._weighted(penalty))  # raises now rather than in the middle of the plan

    def runs(self) -> list[RunSpecification]:
        """All runs of the plan, each once, in order."""
        seeds = range(self.seeds if isinstance(self.agent, QLearning) else 1)
        plan = {
            RunSpecification(environment=environment, penalty=penalty, agent=self.agent, seed=seed): None
            for environment in self.environments
            for given in self.penalties
            for penalty in self._weighted(given)
            for seed in seeds
        }
        return list(plan)

    def _weighted(self, penalty: Penalty) -> Iterator[Penalty]:
        if penalty.deviation == "none":
            yield replace(penalty, weight=0.0)
        else:
            yield from (replace(penalty, weight=weight) for weight in self.weights or (penalty.weight,))


def sweep(
    plan: Sweep,
    *,
    store: str | Path,
    jobs: int | None = None,
    executor: Executor | None = None,
    progress: bool | None = None,
) -> pd.DataFrame:
    """Does all runs of a plan that the store does not have yet.

    Every finished run is stored at once. Killed at any moment, the same call goes on where it stopped.

    Args:
        plan: what to run.
        store: file of the results store; made if it is not there.
        jobs: how many runs at once; None: one per core. The results do not depend on it.
        executor: runs the runs elsewhere, on a cluster for example; `jobs` then says how many at once.
        progress: show a bar; None: if there is a terminal.

    Returns:
        One row per run of the plan, in its order: `run` (hash), `environment`, `penalty`, `deviation`,
        `baseline`, `weight`, `seed`, `agent`, and of the last greedy evaluation `reward`, `performance`,
        `side_effect`, `completed`, `impact`.

    Raises:
        ImpactError: the store cannot be used or written, or a penalty does not fit an environment. Finished runs
            are kept.
    """
    jobs = (os.cpu_count() or 1) if jobs is None else jobs
    jobs = whole_number("jobs", jobs, at_least=1)
    specifications = plan.runs()
    with Store(store) as results:
        done = results.finished()
        missing = [s for s in specifications if s.hash not in done]
        with _bar(progress) as bar:
            task = bar.add_task("runs", total=len(specifications), completed=len(specifications) - len(missing))
            pool = nullcontext(executor) if executor is not None else ThreadPoolExecutor(jobs)
            with pool as workers:
                for specification, result in _finished(workers, missing, jobs * QUEUED_PER_WORKER):
                    results.add(specification, result)
                    bar.advance(task)
        return results.runs(s.hash for s in specifications)


def _finished(
    workers: Executor, specifications: list[RunSpecification], queued: int
) -> Iterator[tuple[RunSpecification, RunResult]]:
    """Runs and their results as they finish; what is queued is dropped if the caller stops."""
    waiting = iter(specifications)
    pending: dict[Future[RunResult], RunSpecification] = {}
    try:
        while True:
            for specification in islice(waiting, queued - len(pending)):
                pending[workers.submit(execute, specification)] = specification
            if not pending:
                return
            done = wait(pending, return_when=FIRST_COMPLETED).done
            # What finished beside a failure is handed on before the failure stops everything.
            for future in sorted(done, key=lambda future: future.exception() is not None):
                specification = pending.pop(future)
                try:
                    result = future.result()
                except ImpactError as error:
                    where = f"{specification.environment.label} with {specification.penalty.label}"
                    raise ImpactError(f"{where}: {error}") from None
                yield specification, result
    finally:
        for future in pending:
            future.cancel()


def _bar(progress: bool | None) -> Progress:
    console = Console(stderr=True)
    shown = console.is_terminal if progress is None else progress
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not shown,
    )
