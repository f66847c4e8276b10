"""The commands that run sweeps and read their results: train, sweep, results, export, plot."""

import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from impactrl.agents.dqn import DQN
from impactrl.errors import ImpactError, require_known, whole_number
from impactrl.measures.penalty import Penalty
from impactrl.terminal import known_level, make_folder, print_table, read_settings

if TYPE_CHECKING:
    import pandas as pd

    from impactrl.analysis.report import Findings
    from impactrl.analysis.tradeoff import Frontiers
    from impactrl.runs.estimate import Estimate
    from impactrl.runs.store import Store
    from impactrl.runs.sweep import Sweep

__all__ = ["export", "plot", "results", "sweep", "train_command"]

STORE_NAME = "results.db"
SOME_FAILED = 1
"""Exit status of a sweep with failed runs."""

Positional = Annotated[Path, tyro.conf.Positional]


def train_command(name: str) -> Callable[..., None]:
    """The command `train` for an agent by name, whose settings are then its flags.

    Raises:
        ImpactError: there is no such agent.
    """
    from impactrl.runs.specification import AGENTS

    settings_of_agent: Any = AGENTS[require_known("agent", name, AGENTS)]

    def train(
        env: Annotated[str, tyro.conf.Positional],
        /,
        penalty: Annotated[Penalty, tyro.conf.arg(name="")] = Penalty(),  # noqa: B008  (tyro reads frozen defaults)
        agent_name: Annotated[str, tyro.conf.arg(name="agent", metavar="NAME")] = name,  # noqa: ARG001  (read before)
        agent: settings_of_agent = settings_of_agent(),  # noqa: B008
        seeds: int = 10,
        settings: tuple[str, ...] = (),
        store: Path | None = None,
        jobs: int | None = None,
        device: Literal["cpu", "gpu"] = "cpu",
        checkpoint: Path | None = None,
        log: Path | None = None,
    ) -> None:
        """Train an agent under a penalty, a run per seed, and show what came of it.

        Args:
            env: level, environment id, or path of a level file (.txt).
            penalty: what the agent pays for its impact.
            agent_name: q_learning, model_free_aup, impact_learner, dqn or planner; the flags below are its settings.
            agent: of the agent.
            seeds: how many runs.
            settings: of the level, as name=value.
            store: keep the runs in this results store.
            jobs: runs at once; default one per core.
            device: of a dqn: with "gpu" all runs are one program.
            checkpoint: of a dqn: folder that the runs are kept in on the way; the same command goes on from there.
            log: of a dqn: write the numbers of every evaluation to this CSV file.
        """
        from impactrl.analysis.statistics import summarise
        from impactrl.runs.specification import Environment
        from impactrl.runs.sweep import Sweep
        from impactrl.runs.sweep import sweep as run_sweep

        environment = Environment(known_level(env), tuple(read_settings(settings).items()))
        plan = Sweep(environments=(environment,), penalties=(penalty,), seeds=seeds, agents=(agent,))
        with TemporaryDirectory() as folder:
            path = store or Path(folder) / STORE_NAME
            if isinstance(agent, DQN):
                _train_together(plan, path, jobs, device=device, checkpoint=checkpoint, log=log)
            elif device != "cpu" or checkpoint or log:
                raise ImpactError("--device, --checkpoint and --log are of deep agents: add --agent dqn")
            runs = run_sweep(plan, store=path, jobs=jobs)
        _print_means(summarise(runs), "After training: means over runs with 95 % bootstrap intervals")

    return train


def _train_together(
    plan: "Sweep", path: Path, jobs: int | None, *, device: str, checkpoint: Path | None, log: Path | None
) -> None:
    """Stores what came of the runs of one deep agent, done as a batch; those that the store has are left out."""
    from impactrl.runs.execution import execute_together
    from impactrl.runs.store import Store
    from impactrl.runs.sweep import missing_runs, number_of_jobs

    with Store(path) as results:
        missing = missing_runs(plan.runs(), results, retry_failed=False)
        if not missing:
            return
        done = execute_together(missing, threads=number_of_jobs(jobs), device=device, checkpoint=checkpoint, log=log)
        for specification, result in zip(missing, done, strict=True):
            if isinstance(result, ImpactError):
                results.add_failure(specification, result)
            else:
                results.add(specification, result)


def sweep(
    file: Positional,
    /,
    out: Path,
    jobs: int | None = None,
    dry_run: bool = False,
    retry_failed: bool = False,
) -> None:
    """Do all runs of a sweep file, or go on where an earlier call stopped, and draw the results.

    Args:
        file: the plan, TOML; see docs/sweeps.md.
        out: folder for the results store and the figures.
        jobs: runs at once; default one per core.
        dry_run: only say how many runs there are, how many of them are done, and what the others will take.
        retry_failed: also do the runs again that failed in an earlier call.
    """
    from impactrl.runs.estimate import estimate
    from impactrl.runs.files import read_sweep
    from impactrl.runs.store import Store
    from impactrl.runs.sweep import FailedRunsWarning, failure_note
    from impactrl.runs.sweep import sweep as run_sweep

    plan, path = read_sweep(file), out / STORE_NAME
    if dry_run:
        _print_plan(estimate(plan, store=path, jobs=jobs, retry_failed=retry_failed))
        return
    make_folder(out)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FailedRunsWarning)  # said at the end
        run_sweep(plan, store=path, jobs=jobs, retry_failed=retry_failed)
    hashes = [run.hash for run in plan.runs()]
    found = _draw(out, hashes)
    _print_means(found.outcomes, "Outcomes at the best weight of each penalty, on seeds that did not choose it")
    with Store(path, read_only=True) as store:
        failures = store.failures(hashes)
    if len(failures):
        note = failure_note(failures, len(hashes)).replace("retry_failed", "--retry-failed")
        print(f"impactrl: {note}", file=sys.stderr)
        sys.exit(SOME_FAILED)


def plot(folder: Positional, /, pdf: bool = False, exact: bool = False) -> None:
    """Draw the figures of a sweep's folder, and a page with all of them: index.html.

    Args:
        folder: as given to `impactrl sweep --out`.
        pdf: write each figure as .pdf, too, for print.
        exact: draw the exact optimum at every weight behind the runs, in the plane of return and impact.
    """
    _draw(folder, pdf=pdf, exact=exact)


def results(
    folder: Positional,
    /,
    environment: str | None = None,
    agent: str | None = None,
    penalty: str | None = None,
    weight: tuple[float, ...] = (),
    best: bool = False,
    failed: bool = False,
    rows: int = 40,
) -> None:
    """Show what is in a sweep's folder: means over seeds with intervals, or the runs that failed.

    Args:
        folder: as given to `impactrl sweep --out`.
        environment: only this one; `*` stands for any text.
        agent: only this one; `*` stands for any text.
        penalty: only this one; `*` stands for any text.
        weight: only these weights.
        best: a row per penalty, at its best weight, instead of one per weight.
        failed: the failed runs with their errors instead.
        rows: most rows shown.
    """
    from impactrl.analysis.selection import outcome_table
    from impactrl.analysis.statistics import summarise
    from impactrl.runs.query import in_order, select_runs
    from impactrl.runs.store import Store

    whole_number("rows", rows, at_least=1)
    with Store(folder / STORE_NAME, read_only=True) as store:
        everything, failures = in_order(store.runs()), in_order(store.failures())
    table = select_runs(
        failures if failed else everything, environment=environment, agent=agent, penalty=penalty, weights=weight
    )
    if failed:
        errors = [error.partition("\n")[0] for error in table["error"]]
        shown = table[["environment", "agent", "penalty", "weight", "seed"]].assign(error=errors)
        print_table(shown.head(rows), f"{len(table)} failed runs")
    else:
        shown = (outcome_table if best else summarise)(table)
        _print_means(shown.head(rows), f"{len(table)} finished runs: means over runs with 95 % bootstrap intervals")
    if len(shown) > rows:
        print(f"{len(shown) - rows} more rows: choose some of them, raise --rows, or see `impactrl export`")
    if len(failures) and not failed:
        print(f"{len(failures)} runs failed: see them with --failed")


def export(
    folder: Positional,
    /,
    out: Path,
    format: Literal["csv", "parquet", "json"] = "csv",  # noqa: A002
    curves: bool = False,
    diagnostics: bool = False,
) -> None:
    """Write the finished runs of a sweep's folder as a table for other programs.

    Args:
        folder: as given to `impactrl sweep --out`.
        out: the file.
        format: csv, parquet (needs the extra `parquet`) or json.
        curves: a row per run and evaluation, rather than per run.
        diagnostics: how far what agents learned of their impact is from the exact one, a row per run and evaluation.
    """
    from impactrl.runs.query import write_table
    from impactrl.runs.store import LABELS, Store

    if curves and diagnostics:
        raise ImpactError("a table has either the curves or the diagnostics: give one of both flags")
    with Store(folder / STORE_NAME, read_only=True) as store:
        if diagnostics:
            table = store.diagnostics()
        elif curves:
            table = store.curves()
        else:
            made = store.timings().drop(columns=[name for name in LABELS if name != "run"])
            table = store.runs().merge(made, on="run")
    write_table(table, out, format=format)
    print(f"wrote {out}: {len(table)} rows")


def _draw(folder: Path, order: Sequence[str] | None = None, *, pdf: bool = False, exact: bool = False) -> "Findings":
    """Figures of the given runs of a store; None: of all."""
    from impactrl.analysis.report import findings, write_report
    from impactrl.runs.query import in_order
    from impactrl.runs.store import Store

    with Store(folder / STORE_NAME, read_only=True) as store:
        failed = set(store.failures(order)["run"])
        runs = in_order(store.runs(None if order is None else [run for run in order if run not in failed]))
        found = findings(runs, store.curves, frontiers=_frontiers(store, runs) if exact else None)
        versions = store.versions(runs["run"].iloc[-1])
    try:
        written = write_report(folder, found, pdf=pdf, failed=len(failed), versions=versions)
    except OSError as error:
        raise ImpactError(f"cannot write figures to {folder}: {error.strerror}") from None
    print(f"wrote {written[0]}, and its {len(written) - 1} figures beside it")
    return found


def _frontiers(store: "Store", runs: "pd.DataFrame") -> "Frontiers":
    """The exact optima of each environment and penalty of some runs, for the discount of the first agent."""
    from impactrl.agents.frontier import trace
    from impactrl.agents.planner import Planner
    from impactrl.runs.execution import fitted

    frontiers = {}
    for (environment, penalty), rows in runs[runs["penalty"] != "none"].groupby(["environment", "penalty"], sort=False):
        first = store.specification(rows["run"].iloc[0])
        plan = first.agent if isinstance(first.agent, Planner) else Planner(discount=first.agent.discount)
        frontiers[str(environment), str(penalty)] = trace(fitted(first.environment, first.penalty), plan).intervals
    return frontiers


def _print_means(table: "pd.DataFrame", title: str) -> None:
    """Means with their intervals; an agent that all rows share is named above them."""
    from impactrl.analysis.statistics import lone_agent, readable

    table, agent = lone_agent(table)
    print_table(readable(table), f"{title}; agent: {agent}" if agent else title)


def _print_plan(plan: "Estimate") -> None:
    import pandas as pd

    rows = [(g.environment, g.agent, g.runs, g.done, g.failed, g.missing) for g in plan.groups]
    print_table(pd.DataFrame(rows, columns=["environment", "agent", "runs", "done", "failed", "to do"]), "The plan")
    for group in plan.groups:
        if group.error:
            print(f"would fail: {group.environment} with {group.agent}: {group.error}")
    if not plan.missing:
        print("nothing to do")
        return
    print(f"{plan.missing} runs to do, {plan.jobs} at once: about {_duration(plan.seconds)} ({plan.source})")
    print(f"memory: about {_size(plan.bytes)} for fitted penalties and runs, beside the program itself (measured)")


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(1, round(seconds))} s"


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{max(1, round(count / 2**20))} MiB"
