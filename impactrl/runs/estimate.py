"""What a sweep will take, before it is run."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from impactrl.agents.dqn import DQN
from impactrl.agents.planner import Planner
from impactrl.errors import ImpactError
from impactrl.runs.execution import FITS_KEPT, execute, fitted
from impactrl.runs.specification import Agent, RunSpecification, agent_label
from impactrl.runs.store import FAILED, FINISHED, Store
from impactrl.runs.sweep import Sweep, missing_runs, number_of_jobs

__all__ = ["Estimate", "Group", "estimate"]

PROBE_SHARE = 20
"""A probe trains for so many times fewer episodes, or steps, than the runs that it stands for."""
PROBE_UPDATES = 250
"""At least so many updates of a deep agent."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """The runs of a plan that share an environment and an agent.

    Attributes:
        environment: label.
        agent: label.
        runs: of the plan.
        done: those that the store has a result of.
        failed: those that the store has an error of.
        missing: those that the sweep would do now.
        fits: penalties that these have to be fitted to the environment, each once for all weights and seeds.
        fit_seconds: of one; measured on the first.
        run_seconds: of one.
        stored: whether `run_seconds` is the median of the store's runs; else it comes from a probe.
        fit_bytes: memory of a fitted penalty.
        run_bytes: memory of a run beside it.
        error: why it could not be measured; the numbers are 0 then.
    """

    environment: str
    agent: str
    runs: int
    done: int
    failed: int
    missing: int
    fits: int = 0
    fit_seconds: float = 0.0
    run_seconds: float = 0.0
    stored: bool = False
    fit_bytes: int = 0
    run_bytes: int = 0
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A plan, and what is left of it.

    Attributes:
        groups: by environment and agent.
        jobs: runs at once.
    """

    groups: tuple[Group, ...]
    jobs: int

    @property
    def missing(self) -> int:
        """Runs to do."""
        return sum(group.missing for group in self.groups)

    @property
    def seconds(self) -> float:
        """Wall time: penalties are fitted one after the other, runs are shared between the jobs."""
        fitting = sum(group.fits * group.fit_seconds for group in self.groups)
        return fitting + sum(group.missing * group.run_seconds for group in self.groups) / self.jobs

    @property
    def source(self) -> str:
        """Where the times come from."""
        stored = {group.stored for group in self.groups if group.fits}
        sources = {True: "the store's runs", False: "short probes"}
        return f"from {' and '.join(sources[each] for each in sorted(stored, reverse=True)) or 'nothing'}"

    @property
    def bytes(self) -> int:
        """Memory of the arrays: of the fitted penalties that are kept, at most 32, and of the runs at once."""
        fits = {group.environment: (group.fits, group.fit_bytes) for group in self.groups if group.fits}
        sizes = sorted((size for count, size in fits.values() for _ in range(count)), reverse=True)
        return sum(sizes[:FITS_KEPT]) + self.jobs * max((group.run_bytes for group in self.groups), default=0)


def estimate(
    plan: Sweep, *, store: str | Path | None = None, jobs: int | None = None, retry_failed: bool = False
) -> Estimate:
    """Counts the runs of a plan and measures what those that are missing will take. Writes nothing.

    For every environment and agent one penalty is fitted, for its time and memory. The time of a run is the median of
    the store's runs of that environment and agent; without any, that of a short probe: a run of a twentieth of the
    episodes, times 20. Levels, penalties and weights with longer or shorter episodes than that take more or less.

    Args:
        plan: what to run.
        store: file of the results store, which need not be there.
        jobs: how many runs at once; None: one per core.
        retry_failed: count the runs that failed before as missing.

    Raises:
        ImpactError: the store cannot be read.
    """
    specifications, jobs = plan.runs(), number_of_jobs(jobs)
    status, timings, missing = {}, {}, specifications
    if store is not None and Path(store).exists():
        with Store(store, read_only=True) as results:
            status, missing = results.status(), missing_runs(specifications, results, retry_failed=retry_failed)
            timings = results.timings().groupby(["environment", "agent"])["seconds"].median().to_dict()
    undone = {s.hash for s in missing}
    groups = []
    for (environment, agent), runs in groupby(
        specifications, key=lambda s: (s.environment.label, agent_label(s.agent))
    ):
        members = list(runs)
        left = [s for s in members if s.hash in undone]
        outcomes = [status.get(s.hash) for s in members]
        groups.append(
            Group(
                environment=environment,
                agent=agent,
                runs=len(members),
                done=outcomes.count(FINISHED),
                failed=outcomes.count(FAILED),
                missing=len(left),
                **(_measured(left, timings.get((environment, agent))) if left else {}),
            )
        )
    return Estimate(groups=tuple(groups), jobs=jobs)


def _measured(runs: Sequence[RunSpecification], stored_seconds: float | None) -> Mapping[str, Any]:
    """Times and sizes of a group, from its first run with a penalty."""
    first = next((run for run in runs if run.penalty.deviation != "none"), runs[0])
    begin = time.perf_counter()
    try:
        impact = fitted(first.environment, first.penalty)
        fit_seconds = time.perf_counter() - begin
        run_seconds = _probe(first) if stored_seconds is None else stored_seconds
    except ImpactError as error:
        return {"error": str(error)}
    return {
        "fits": len({replace(run.penalty, weight=1.0) for run in runs}),
        "fit_seconds": fit_seconds,
        "run_seconds": run_seconds,
        "stored": stored_seconds is not None,
        "fit_bytes": _bytes(impact) + _bytes(impact.mdp),
        # The penalised and the cumulated probabilities; the values of state and action.
        "run_bytes": 2 * impact.deviation.nbytes + 8 * impact.mdp.num_states * impact.mdp.num_actions,
    }


def _probe(run: RunSpecification) -> float:
    """Seconds that a run takes, from a short one."""
    probe, times = _shortened(run.agent)
    execute(replace(run, agent=probe))  # loads the kernels, or compiles the program
    return execute(replace(run, agent=probe)).seconds * times


def _shortened(agent: Agent) -> tuple[Agent, float]:
    """An agent that trains less, and how many times less."""
    if isinstance(agent, Planner):
        return agent, 1.0
    if isinstance(agent, DQN):
        least = agent.learning_starts + PROBE_UPDATES * agent.update_every
        steps = max(agent.steps // PROBE_SHARE, least) // agent.update_every * agent.update_every
        steps = min(steps, agent.steps)
        return replace(agent, steps=steps), agent.steps / steps
    episodes = max(1, agent.episodes // PROBE_SHARE)
    return replace(agent, episodes=episodes), agent.episodes / episodes


def _bytes(holder: object) -> int:
    return sum(value.nbytes for value in vars(holder).values() if isinstance(value, np.ndarray))
