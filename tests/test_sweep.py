"""Sweeps: the plan, the table, resuming, interruptions and parallel work."""

import multiprocessing
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event, Lock, Timer
from typing import Any

import numpy as np
import pandas as pd
import pytest

import impactrl
from impactrl.agents.q_learning import train
from impactrl.runs.execution import RunResult, execute
from impactrl.runs.specification import Environment, RunSpecification
from impactrl.runs.store import Store
from impactrl.runs.sweep import QUEUED_PER_WORKER, FailedRunsWarning

COLUMNS = [
    *["run", "environment", "agent", "penalty", "deviation", "baseline", "weight", "seed"],
    *["reward", "performance", "side_effect", "completed", "impact"],
]
NONE = impactrl.Penalty(deviation="none")
RR = impactrl.Penalty(deviation="relative_reachability", baseline="stepwise")
UR = impactrl.Penalty(deviation="unreachability", baseline="inaction", weight=7.0)
QUICK = impactrl.QLearning(episodes=60, evaluate_every=25)
PLAN = impactrl.Sweep(
    environments=("Options", Environment("Box", {"goal_reward": 7})),
    penalties=(NONE, RR),
    weights=(0.1, 10.0),
    seeds=2,
    agents=(QUICK,),
)
NUMBER_OF_RUNS = 2 * (1 + 2) * 2


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[RunSpecification]:
    """The runs that sweeps have executed."""
    seen: list[RunSpecification] = []
    lock = Lock()

    def noting(specification: RunSpecification) -> RunResult:
        with lock:
            seen.append(specification)
        return execute(specification)

    monkeypatch.setattr("impactrl.runs.sweep.execute", noting)
    return seen


def key(specification: RunSpecification) -> tuple[Any, ...]:
    penalty = specification.penalty
    return specification.environment.label, penalty.deviation, penalty.weight, specification.seed


# The plan


def test_a_plan_is_every_environment_penalty_weight_and_seed_in_this_order() -> None:
    plan = impactrl.Sweep(environments=("Options", "Box"), penalties=(RR, UR), weights=(1, 0.5), seeds=2)
    assert [key(run) for run in plan.runs()] == [
        (environment, deviation, weight, seed)
        for environment in ("Options", "Box")
        for deviation in ("relative_reachability", "unreachability")
        for weight in (1.0, 0.5)
        for seed in (0, 1)
    ]


def test_weights_may_be_an_array() -> None:
    weights: Any = np.geomspace(0.1, 10, 3)
    plan = impactrl.Sweep(environments=("Options",), penalties=(RR,), weights=weights, seeds=1)
    assert [run.penalty.weight for run in plan.runs()] == pytest.approx([0.1, 1, 10])
    assert plan == replace(plan, weights=tuple(weights))


def test_without_weights_every_penalty_has_its_own() -> None:
    plan = impactrl.Sweep(environments=("Options",), penalties=(RR, UR), seeds=1)
    assert [run.penalty for run in plan.runs()] == [RR, UR]


def test_no_penalty_is_run_once_per_seed_at_weight_0() -> None:
    plan = impactrl.Sweep(environments=("Options",), penalties=(NONE, RR), weights=(1, 2, 3), seeds=2)
    assert [key(run)[1:] for run in plan.runs()][:3] == [
        ("none", 0.0, 0),
        ("none", 0.0, 1),
        ("relative_reachability", 1.0, 0),
    ]
    assert len(plan.runs()) == 2 + 3 * 2


def test_a_planner_runs_once_whatever_the_seeds() -> None:
    plan = impactrl.Sweep(
        environments=("Options",), penalties=(NONE, RR), weights=(1, 2), seeds=9, agents=(impactrl.Planner(),)
    )
    assert [key(run)[1:] for run in plan.runs()] == [
        ("none", 0.0, 0),
        ("relative_reachability", 1.0, 0),
        ("relative_reachability", 2.0, 0),
    ]


def test_every_agent_plays_and_planners_once() -> None:
    plan = impactrl.Sweep(
        environments=("Options", "Box"), penalties=(NONE, RR), seeds=2, agents=(QUICK, impactrl.Planner())
    )
    assert [(key(run)[0], type(run.agent).__name__, run.penalty.label, run.seed) for run in plan.runs()] == [
        (environment, agent, penalty, seed)
        for environment in ("Options", "Box")
        for agent, seeds in (("QLearning", 2), ("Planner", 1))
        for penalty in ("none", "RR stepwise")
        for seed in range(seeds)
    ]


def test_what_comes_to_the_same_run_is_run_once() -> None:
    plan = impactrl.Sweep(
        environments=("Options",),
        penalties=(NONE, replace(NONE, weight=5.0), RR, replace(RR, weight=5.0)),
        weights=(1, 1.0, 2),
        seeds=1,
    )
    assert [key(run)[1:3] for run in plan.runs()] == [
        ("none", 0.0),
        ("relative_reachability", 1.0),
        ("relative_reachability", 2.0),
    ]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"environments": ()}, "at least one entry in environments"),
        ({"penalties": ()}, "at least one entry in penalties"),
        ({"penalties": (RR, RR)}, "penalties of a sweep must be different"),
        ({"environments": ("Box", "impactrl/Box-v0")}, "environments of a sweep must be different"),
        ({"environments": ("Bax",)}, "did you mean 'Box'"),
        ({"weights": (1.0, -1.0)}, "a weight must be a number of at least 0, not -1.0"),
        ({"weights": 3.0}, "weights of a sweep must be a list, not 3.0"),
        ({"weights": "critcal"}, "weights of a sweep must be a list, not 'critcal'"),
        ({"agents": ()}, "at least one entry in agents"),
        ({"agents": impactrl.QLearning()}, "agents of a sweep must be a list"),
        ({"agents": ("planner",)}, "an agent is QLearning"),
        ({"agents": (QUICK, QUICK)}, "agents of a sweep must be different"),
        ({"seeds": 0}, "seeds must be at least 1, not 0"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(impactrl.ImpactError, match=message):
        impactrl.Sweep(**{"environments": ("Box",), "penalties": (RR,), **settings})


# The table


def test_the_table_has_a_row_per_run_in_the_order_of_the_plan(tmp_path: Path) -> None:
    table = impactrl.sweep(PLAN, store=tmp_path / "results.db", jobs=2)
    assert list(table.columns) == COLUMNS
    assert len(table) == NUMBER_OF_RUNS
    assert table["run"].tolist() == [run.hash for run in PLAN.runs()]
    rows = table[["environment", "deviation", "weight", "seed"]].itertuples(index=False, name=None)
    assert list(rows) == [key(run) for run in PLAN.runs()]
    assert set(table["agent"]) == {"q_learning episodes=60 evaluate_every=25"}
    assert table[["reward", "performance", "side_effect", "completed", "impact"]].notna().all(axis=None)


def test_a_row_is_what_the_run_alone_gives(tmp_path: Path) -> None:
    table = impactrl.sweep(PLAN, store=tmp_path / "results.db", jobs=2)
    with Store(tmp_path / "results.db") as store:
        curves = store.curves()
    for run in PLAN.runs():
        alone = execute(run)
        row = table[table["run"] == run.hash]
        np.testing.assert_array_equal(row[COLUMNS[-5:]].to_numpy()[0], alone.history[-1])
        curve = curves[curves["run"] == run.hash]
        assert curve["trained"].tolist() == [25, 50, 60]
        np.testing.assert_array_equal(curve[COLUMNS[-5:]].to_numpy(), alone.history)


def test_a_planner_pushes_the_box_into_the_corner_unless_that_is_penalised(tmp_path: Path) -> None:
    plan = impactrl.Sweep(
        environments=("Options",), penalties=(NONE, RR), weights=(1.0,), agents=(impactrl.Planner(),), seeds=1
    )
    table = impactrl.sweep(plan, store=tmp_path / "results.db", jobs=1).set_index("deviation")
    assert table.loc["none", ["reward", "performance", "side_effect", "completed"]].tolist() == [1, -1, 1, 1]
    safe = ["relative_reachability"]
    assert table.loc[safe, ["reward", "performance", "side_effect", "completed"]].to_numpy().tolist() == [[1, 1, 0, 1]]
    assert table["agent"].tolist() == ["planner", "planner"]


def test_the_number_of_jobs_changes_nothing(tmp_path: Path) -> None:
    one, two = (impactrl.sweep(PLAN, store=tmp_path / f"{jobs}.db", jobs=jobs) for jobs in (1, 2))
    pd.testing.assert_frame_equal(one, two, check_exact=True)
    with Store(tmp_path / "1.db") as first, Store(tmp_path / "2.db") as second:
        order = one["run"].tolist()
        pd.testing.assert_frame_equal(first.curves(order), second.curves(order), check_exact=True)


def test_runs_and_results_can_be_sent_between_processes() -> None:
    run = PLAN.runs()[-1]
    here, there = execute(run), pickle.loads(pickle.dumps(execute(pickle.loads(pickle.dumps(run)))))
    np.testing.assert_array_equal(here.history, there.history)
    np.testing.assert_array_equal(here.evaluations, there.evaluations)
    assert here.steps == there.steps > 0


def test_seeds_lead_to_different_training() -> None:
    runs = [execute(run) for run in PLAN.runs() if run.penalty.deviation == "none"]
    assert len({run.steps for run in runs}) == len(runs)


# Resuming


def test_what_is_stored_is_not_run_again(tmp_path: Path, executed: list[RunSpecification]) -> None:
    first = impactrl.sweep(PLAN, store=tmp_path / "results.db", jobs=2)
    assert sorted(map(key, executed)) == sorted(map(key, PLAN.runs()))
    executed.clear()
    pd.testing.assert_frame_equal(impactrl.sweep(PLAN, store=tmp_path / "results.db"), first, check_exact=True)
    assert executed == []


def test_a_larger_plan_runs_only_what_is_new(tmp_path: Path, executed: list[RunSpecification]) -> None:
    first = impactrl.sweep(PLAN, store=tmp_path / "results.db", jobs=1)
    executed.clear()
    larger = replace(PLAN, seeds=3, weights=(0.1, 3.0, 10.0))
    table = impactrl.sweep(larger, store=tmp_path / "results.db", jobs=1)
    assert len(table) == 2 * (1 + 3) * 3
    assert {run.hash for run in executed} == set(table["run"]) - set(first["run"])
    assert len(executed) == len(table) - len(first)
    kept = table[table["run"].isin(first["run"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, first, check_exact=True)


def test_a_smaller_plan_gets_only_its_own_rows(tmp_path: Path, executed: list[RunSpecification]) -> None:
    first = impactrl.sweep(PLAN, store=tmp_path / "results.db", jobs=1)
    executed.clear()
    table = impactrl.sweep(replace(PLAN, environments=PLAN.environments[1:], seeds=1), store=tmp_path / "results.db")
    assert executed == []
    expected = first[(first["environment"] == "Box goal_reward=7") & (first["seed"] == 0)].reset_index(drop=True)
    pd.testing.assert_frame_equal(table, expected, check_exact=True)


# Interruptions


class AtOnce(Executor):
    """Does everything the moment it is submitted: all of a queue is finished when a sweep looks."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future


def failing_after(count: int, error: BaseException) -> Callable[[RunSpecification], RunResult]:
    """`execute`, until it has succeeded so many times."""
    done: list[RunSpecification] = []

    def execute_or_fail(specification: RunSpecification) -> RunResult:
        if len(done) == count:
            raise error
        done.append(specification)
        return execute(specification)

    return execute_or_fail


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1)])
def test_an_interrupted_sweep_keeps_what_is_finished_and_goes_on_there(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, executed: list[RunSpecification]
) -> None:
    noting = sys.modules["impactrl.runs.sweep"].execute
    undisturbed = impactrl.sweep(PLAN, store=tmp_path / "undisturbed.db", jobs=1)
    executed.clear()

    monkeypatch.setattr("impactrl.runs.sweep.QUEUED_PER_WORKER", 1)  # the run that fails is alone in the queue
    monkeypatch.setattr("impactrl.runs.sweep.execute", failing_after(5, error))
    with pytest.raises(type(error)):
        impactrl.sweep(PLAN, store=tmp_path / "results.db", jobs=1)
    with Store(tmp_path / "results.db") as store:
        assert store.runs()["run"].tolist() == [run.hash for run in PLAN.runs()[:5]]

    monkeypatch.setattr("impactrl.runs.sweep.execute", noting)
    resumed = impactrl.sweep(PLAN, store=tmp_path / "results.db", jobs=1)
    assert [run.hash for run in executed] == [run.hash for run in PLAN.runs()[5:]]
    pd.testing.assert_frame_equal(resumed, undisturbed, check_exact=True)


def test_what_still_runs_at_an_interruption_is_waited_for_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = PLAN.runs()
    slow = Event()

    def interrupted_beside_another(specification: RunSpecification) -> RunResult:
        if specification == plan[0]:
            slow.wait(60)
            return execute(specification)
        Timer(0.2, slow.set).start()
        raise KeyboardInterrupt

    monkeypatch.setattr("impactrl.runs.sweep.execute", interrupted_beside_another)
    monkeypatch.setattr("impactrl.runs.sweep.QUEUED_PER_WORKER", 1)
    with pytest.raises(KeyboardInterrupt):
        impactrl.sweep(PLAN, store=tmp_path / "results.db", jobs=2)
    with Store(tmp_path / "results.db") as store:
        assert store.status() == {plan[0].hash: "finished"}


def test_runs_that_are_queued_when_a_sweep_stops_are_not_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[RunSpecification] = []

    def stop_at_first(specification: RunSpecification) -> RunResult:
        started.append(specification)
        if len(started) == 1:
            raise KeyboardInterrupt
        time.sleep(0.02)
        return execute(specification)

    monkeypatch.setattr("impactrl.runs.sweep.execute", stop_at_first)
    plan = replace(PLAN, seeds=20)
    with pytest.raises(KeyboardInterrupt):
        impactrl.sweep(plan, store=tmp_path / "results.db", jobs=2)
    assert len(started) <= 2 * QUEUED_PER_WORKER


def test_broken_workers_stop_the_sweep_and_what_they_finished_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("impactrl.runs.sweep.execute", failing_after(5, BrokenExecutor("a process died")))
    path = tmp_path / "results.db"
    with pytest.raises(impactrl.ImpactError, match=r"workers have stopped \(a process died\).*the same call goes on"):
        impactrl.sweep(PLAN, store=path, jobs=NUMBER_OF_RUNS, executor=AtOnce())
    with Store(path) as store:
        assert store.status() == {run.hash: "finished" for run in PLAN.runs()[:5]}


# Failed runs


def failing_on(unlucky: set[RunSpecification], error: Exception) -> Callable[[RunSpecification], RunResult]:
    def execute_or_fail(specification: RunSpecification) -> RunResult:
        if specification in unlucky:
            raise error
        return execute(specification)

    return execute_or_fail


@pytest.mark.parametrize("error", [impactrl.ImpactError("that cannot be"), MemoryError("that cannot be")])
def test_a_run_that_fails_is_recorded_and_the_others_are_done(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = PLAN.runs()
    unlucky = set(plan[1::5])
    monkeypatch.setattr("impactrl.runs.sweep.execute", failing_on(unlucky, error))
    with pytest.warns(
        FailedRunsWarning, match=f"3 of {NUMBER_OF_RUNS} runs failed .*seed 1: .*that cannot be"
    ) as warned:
        table = impactrl.sweep(PLAN, store=tmp_path / "results.db", jobs=2)
    assert "Options with none, q_learning episodes=60 evaluate_every=25, weight 0, seed 1" in str(warned[0].message)
    assert table["run"].tolist() == [run.hash for run in plan if run not in unlucky]
    with Store(tmp_path / "results.db") as store:
        assert store.failures([run.hash for run in plan])["run"].tolist() == [run.hash for run in plan[1::5]]


def test_failed_runs_are_tried_again_only_if_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, executed: list[RunSpecification]
) -> None:
    noting = sys.modules["impactrl.runs.sweep"].execute
    path, unlucky = tmp_path / "results.db", PLAN.runs()[3]
    monkeypatch.setattr("impactrl.runs.sweep.execute", failing_on({unlucky}, impactrl.ImpactError("bad luck")))
    with pytest.warns(FailedRunsWarning):
        first = impactrl.sweep(PLAN, store=path)
    monkeypatch.setattr("impactrl.runs.sweep.execute", noting)
    with pytest.warns(FailedRunsWarning, match="1 of .* bad luck"):
        pd.testing.assert_frame_equal(impactrl.sweep(PLAN, store=path), first)
    assert executed == []
    table = impactrl.sweep(PLAN, store=path, retry_failed=True)
    assert executed == [unlucky]
    assert table["run"].tolist() == [run.hash for run in PLAN.runs()]


def test_a_sweep_without_any_result_is_an_error(tmp_path: Path) -> None:
    plan = impactrl.Sweep(environments=("FrozenLake-v1",), penalties=(RR,), seeds=2, agents=(QUICK,))
    with pytest.raises(impactrl.ImpactError, match=r"2 of 2 runs failed.*FrozenLake-v1 with RR stepwise.*no no-op"):
        impactrl.sweep(plan, store=tmp_path / "results.db", jobs=1)


def test_a_penalty_that_does_not_fit_is_found_out_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fits = []
    monkeypatch.setattr(impactrl.Penalty, "fit", lambda self, _: fits.append(self) or _refuse())
    plan = impactrl.Sweep(environments=("Damage",), penalties=(RR,), weights=(1, 2, 3), seeds=3, agents=(QUICK,))
    with pytest.raises(impactrl.ImpactError, match=r"9 of 9 runs failed.*does not fit"):
        impactrl.sweep(plan, store=tmp_path / "results.db", jobs=2)
    assert len(fits) == 1


def _refuse() -> Any:
    raise impactrl.ImpactError("does not fit")


def test_what_was_learned_must_be_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    def diverging(*arguments: Any, **settings: Any) -> Any:
        training = train(*arguments, **settings)
        training.history[0, -1, 0] = np.inf
        return training

    monkeypatch.setattr("impactrl.runs.execution.train", diverging)
    with pytest.raises(impactrl.ImpactError, match="not finite"):
        execute(PLAN.runs()[0])


def test_a_store_that_cannot_be_used_is_found_out_before_anything_is_run(
    tmp_path: Path, executed: list[RunSpecification]
) -> None:
    with pytest.raises(impactrl.ImpactError, match="there is no folder"):
        impactrl.sweep(PLAN, store=tmp_path / "nowhere" / "results.db")
    assert executed == []


# Parallel work


def test_an_executor_of_the_users_own_is_used_and_left_open(tmp_path: Path) -> None:
    class Counting(ThreadPoolExecutor):
        submitted = 0

        def submit(self, *arguments: Any, **settings: Any) -> Future[Any]:
            self.submitted += 1
            return super().submit(*arguments, **settings)

    with Counting(2) as pool:
        table = impactrl.sweep(PLAN, store=tmp_path / "results.db", executor=pool, jobs=2)
        assert pool.submitted == NUMBER_OF_RUNS
        assert pool.submit(len, "ab").result() == 2
    pd.testing.assert_frame_equal(table, impactrl.sweep(PLAN, store=tmp_path / "own.db", jobs=1), check_exact=True)


def test_processes_know_levels_of_the_users_own(tmp_path: Path) -> None:
    hall = impactrl.make_level("#####\n#AVG#\n#   #\n#####", name="hall-of-processes")
    plan = replace(PLAN, environments=(Environment(hall),), weights=(1.0,))
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        there = impactrl.sweep(plan, store=tmp_path / "there.db", executor=pool, jobs=2)
    here = impactrl.sweep(plan, store=tmp_path / "here.db", jobs=1)
    pd.testing.assert_frame_equal(there, here, check_exact=True)
    assert len(here) == 4


def test_what_another_process_has_done_meanwhile_is_not_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, plan = tmp_path / "results.db", PLAN.runs()
    done: list[RunSpecification] = []

    def execute_while_another_works(specification: RunSpecification) -> RunResult:
        if not done:
            with Store(path) as other:
                for run in plan[6:]:
                    other.add(run, execute(run))
        done.append(specification)
        return execute(specification)

    monkeypatch.setattr("impactrl.runs.sweep.execute", execute_while_another_works)
    monkeypatch.setattr("impactrl.runs.sweep.QUEUED_PER_WORKER", 1)
    table = impactrl.sweep(PLAN, store=path, jobs=1)
    assert done == plan[:6]
    assert table["run"].tolist() == [run.hash for run in plan]


def test_two_sweeps_may_fill_a_store_at_the_same_time(tmp_path: Path) -> None:
    alone = impactrl.sweep(PLAN, store=tmp_path / "alone.db", jobs=1)
    with ThreadPoolExecutor(2) as pool:
        sweeps = [pool.submit(impactrl.sweep, PLAN, store=tmp_path / "both.db", jobs=1) for _ in range(2)]
    for each in sweeps:
        pd.testing.assert_frame_equal(each.result(), alone, check_exact=True)


def test_no_more_is_queued_than_the_jobs_ask_for(tmp_path: Path) -> None:
    lock = Lock()

    class Watched(ThreadPoolExecutor):
        most = 0
        pending = 0

        def submit(self, *arguments: Any, **settings: Any) -> Future[Any]:
            self.count(1)
            future = super().submit(*arguments, **settings)
            future.add_done_callback(lambda _: self.count(-1))
            return future

        def count(self, change: int) -> None:
            with lock:
                self.pending += change
                self.most = max(self.most, self.pending)

    with Watched(1) as pool:
        impactrl.sweep(PLAN, store=tmp_path / "results.db", executor=pool, jobs=1)
    assert 1 <= pool.most <= QUEUED_PER_WORKER < NUMBER_OF_RUNS


def test_at_least_one_job_is_needed(tmp_path: Path) -> None:
    with pytest.raises(impactrl.ImpactError, match="jobs must be at least 1, not 0"):
        impactrl.sweep(PLAN, store=tmp_path / "results.db", jobs=0)


@pytest.mark.parametrize(("progress", "shown"), [(None, False), (True, True)])
def test_the_bar_is_shown_on_a_terminal_or_when_asked_for(progress: bool | None, shown: bool, tmp_path: Path) -> None:
    code = (
        "import impactrl\n"
        "planner = impactrl.Planner()\n"
        "plan = impactrl.Sweep(environments=('Options',), penalties=(impactrl.Penalty(),), agents=(planner,))\n"
        f"impactrl.sweep(plan, store='results.db', progress={progress})\n"
    )
    quiet = ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
    environment = {name: value for name, value in os.environ.items() if name not in quiet}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert ("1/1" in done.stderr) == shown
    assert bool(done.stderr) == shown
