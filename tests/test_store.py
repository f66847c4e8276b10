"""The results store: what is kept, in what order, and what goes wrong how."""

import os
import platform
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import impactrl
from impactrl.runs.execution import RunResult
from impactrl.runs.specification import Environment, RunSpecification
from impactrl.runs.store import Store

LABELS = ["run", "environment", "agent", "penalty", "deviation", "baseline", "weight", "seed"]
OUTCOMES = ["reward", "performance", "side_effect", "completed", "impact"]
BASIC = RunSpecification(
    environment=Environment("Box", {"goal_reward": 7}),
    penalty=impactrl.Penalty(deviation="unreachability", baseline="start", weight=0.1, rollout=True),
    agent=impactrl.QLearning(episodes=40),
)
NOBODY = 65534


def specification(seed: int) -> RunSpecification:
    return replace(BASIC, seed=seed)


def result(*last: float, before: int = 0) -> RunResult:
    """`before` evaluations of noise, then the last one."""
    noise = np.random.default_rng(before).normal(size=(before, 5))
    return RunResult(
        evaluations=np.arange(1, before + 2, dtype=np.int64) * 10,
        history=np.vstack([noise, [last]]),
        steps=123,
        seconds=0.25,
    )


def filled(path: Path) -> pd.DataFrame:
    """Makes a store of two runs; what it contains."""
    with Store(path) as store:
        store.add(specification(1), result(1, 2, 0, 1, 0.5, before=2))
        store.add(specification(0), result(3, 4, 1, 0, 0.25))
        return store.curves()


def assert_intact(path: Path, curves: pd.DataFrame) -> None:
    with Store(path, read_only=True) as store:
        pd.testing.assert_frame_equal(store.curves(), curves, check_exact=True)
        assert store.status() == dict.fromkeys(curves["run"], "finished")


def assert_plain(caught: pytest.ExceptionInfo[impactrl.ImpactError], path: Path) -> None:
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message
    assert str(path.parent) in message
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def unlock(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(statement)


@contextmanager
def as_nobody() -> Iterator[None]:
    """Root ignores permissions: give that right up for a while."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """A folder that any user may enter and write to (pytest's own is private)."""
    folder = Path(tempfile.mkdtemp(prefix="impactrl-store-"))
    folder.chmod(0o777)
    yield folder
    folder.chmod(0o700)
    shutil.rmtree(folder)


# What is kept


def test_a_new_store_is_a_file_without_runs(tmp_path: Path) -> None:
    with Store(tmp_path / "new.db") as store:
        assert (tmp_path / "new.db").is_file()
        assert store.status() == {}
        assert list(store.runs().columns) == LABELS + OUTCOMES
        assert list(store.curves().columns) == [*LABELS, "trained", *OUTCOMES]
        assert len(store.runs()) == len(store.curves()) == 0


def test_a_run_is_a_row_with_its_labels_and_its_last_evaluation(tmp_path: Path) -> None:
    with Store(tmp_path / "results.db") as store:
        store.add(specification(6), result(1, -2, 0.5, 1, 0.25, before=3))
        table = store.runs()
    assert table.to_dict("records") == [
        {
            "run": specification(6).hash,
            "environment": "Box goal_reward=7",
            "agent": "q_learning episodes=40",
            "penalty": "UR start rollout",
            "deviation": "unreachability",
            "baseline": "start",
            "weight": 0.1,
            "seed": 6,
            "reward": 1.0,
            "performance": -2.0,
            "side_effect": 0.5,
            "completed": 1.0,
            "impact": 0.25,
        }
    ]


def test_a_curve_has_a_row_for_every_evaluation_of_every_run(tmp_path: Path) -> None:
    long, short = result(1, 2, 3, 4, 5, before=2), result(6, 7, 8, 9, 10)
    with Store(tmp_path / "results.db") as store:
        store.add(specification(1), long)
        store.add(specification(0), short)
        curves = store.curves()
    assert curves["seed"].tolist() == [1, 1, 1, 0]
    assert curves["trained"].tolist() == [10, 20, 30, 10]
    np.testing.assert_array_equal(curves[OUTCOMES], np.vstack([long.history, short.history]))


def test_diagnostics_have_a_row_for_every_evaluation_of_the_runs_that_have_some(tmp_path: Path) -> None:
    nothing, error = result(1, 2, 3, 4, 5), {"mean_error": np.array([0.5, 0.25])}
    twice, once = result(1, 2, 3, 4, 5, before=1), result(1, 2, 3, 4, 5)
    with Store(tmp_path / "results.db") as store:
        assert list(store.diagnostics().columns) == [*LABELS, "trained"]
        store.add(specification(3), nothing)
        assert store.diagnostics().empty
        store.add(specification(1), replace(twice, diagnostics=error))
        store.add(specification(0), replace(once, diagnostics={"states": np.array([np.nan])}))
        table = store.diagnostics()
        turned = store.diagnostics([specification(0).hash, specification(1).hash])
    assert table["seed"].tolist() == [1, 1, 0]
    assert table["trained"].tolist() == [10, 20, 10]
    np.testing.assert_array_equal(table["mean_error"], [0.5, 0.25, np.nan])
    np.testing.assert_array_equal(table["states"], [np.nan] * 3)
    np.testing.assert_array_equal(turned["mean_error"], [np.nan, 0.5, 0.25])


def test_rows_come_in_the_order_of_storing_or_in_the_order_asked_for(tmp_path: Path) -> None:
    runs = {seed: specification(seed).hash for seed in (5, 2, 9, 4)}
    with Store(tmp_path / "results.db") as store:
        for seed in runs:
            store.add(specification(seed), result(seed, 0, 0, 0, 0, before=1))
        assert store.runs()["seed"].tolist() == [5, 2, 9, 4]
        wanted = [4, 5, 9]
        assert store.runs(runs[seed] for seed in wanted)["seed"].tolist() == wanted
        assert store.curves([runs[seed] for seed in wanted])["seed"].tolist() == [4, 4, 5, 5, 9, 9]
        assert store.runs([]).shape == (0, len(LABELS + OUTCOMES))


def test_numbers_come_back_bit_for_bit(tmp_path: Path) -> None:
    awkward = np.array([0.1 + 0.2, 1 / 3, 5e-324, 1.7976931348623157e308, -1e-17])
    stored = RunResult(
        evaluations=np.array([1, 2**40], dtype=np.int64),
        history=np.vstack([[-0.0, *awkward[1:]], awkward]),
        steps=2**40,
        seconds=1e-9,
    )
    with Store(tmp_path / "results.db") as store:
        store.add(specification(0), stored)
    with Store(tmp_path / "results.db") as store:
        assert store.runs()[OUTCOMES].to_numpy().tobytes() == awkward.tobytes()
        assert store.curves()[OUTCOMES].to_numpy().tobytes() == stored.history.tobytes()
        assert store.curves()["trained"].tolist() == [1, 2**40]


def test_the_specification_is_kept_whole(tmp_path: Path) -> None:
    filled(tmp_path / "results.db")
    with closing(sqlite3.connect(tmp_path / "results.db")) as connection:
        rows = connection.execute("SELECT run, specification FROM runs JOIN details USING (id)").fetchall()
    assert {RunSpecification.from_json(text).hash for _, text in rows} == {run for run, _ in rows}


def test_how_a_run_was_made_is_kept(tmp_path: Path) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    filled(tmp_path / "results.db")
    with Store(tmp_path / "results.db", read_only=True) as store:
        timings = store.timings()
        versions = store.versions(specification(1).hash)
    assert timings[["seed", "steps", "seconds"]].to_numpy().tolist() == [[1, 123, 0.25], [0, 123, 0.25]]
    assert all(before <= datetime.fromisoformat(stored) <= datetime.now(UTC) for stored in timings["stored"])
    assert versions["impactrl"] == impactrl.__version__
    assert versions["numpy"] == np.__version__
    assert versions["python"] == platform.python_version()


def test_a_curve_of_training_is_kept_where_it_was_recorded(tmp_path: Path) -> None:
    plain, recorded = result(1, 2, 3, 4, 5, before=1), result(6, 7, 8, 9, 10, before=1)
    training = np.arange(10.0).reshape(2, 5)
    with Store(tmp_path / "results.db") as store:
        store.add(specification(0), plain)
        store.add(specification(1), replace(recorded, training=training))
        curves = store.curves(training=True)
        assert store.curves()["seed"].tolist() == [0, 0, 1, 1]
    assert curves["seed"].tolist() == [1, 1]
    assert curves["trained"].tolist() == [10, 20]
    np.testing.assert_array_equal(curves[OUTCOMES], training)


# Failed runs


def test_a_failed_run_is_kept_with_its_error_and_has_no_result(tmp_path: Path) -> None:
    with Store(tmp_path / "results.db") as store:
        store.add_failure(specification(0), impactrl.ImpactError("does not fit"))
        store.add(specification(1), result(1, 1, 1, 1, 1))
        assert store.status() == {specification(0).hash: "failed", specification(1).hash: "finished"}
        assert store.runs()["seed"].tolist() == store.curves()["seed"].tolist() == [1]
        failures = store.failures()
        assert failures[["seed", "error"]].to_numpy().tolist() == [[0, "does not fit"]]
        assert failures.columns.tolist() == [*LABELS, "error"]
        assert store.has_finished(specification(1).hash)
        assert not store.has_finished(specification(0).hash)
        with pytest.raises(impactrl.ImpactError, match=specification(0).hash):
            store.runs([specification(0).hash])


def test_a_defect_is_kept_with_its_traceback(tmp_path: Path) -> None:
    def defective() -> None:
        raise ZeroDivisionError("by zero")

    with pytest.raises(ZeroDivisionError) as caught:
        defective()
    with Store(tmp_path / "results.db") as store:
        store.add_failure(specification(0), caught.value)
        first, *more = store.failures()["error"][0].splitlines()
    assert first == "ZeroDivisionError: by zero"
    assert any("in defective" in line for line in more)


def test_a_failure_gives_way_to_a_result_and_not_the_other_way_round(tmp_path: Path) -> None:
    run = specification(0)
    with Store(tmp_path / "results.db") as store:
        store.add_failure(run, impactrl.ImpactError("first"))
        store.add_failure(run, impactrl.ImpactError("second"))
        assert store.failures()["error"].tolist() == ["second"]
        store.add(run, result(1, 2, 0, 1, 0.5))
        assert store.status() == {run.hash: "finished"}
        store.add_failure(run, impactrl.ImpactError("third"))
        assert store.status() == {run.hash: "finished"}
        assert len(store.failures()) == 0
        assert store.runs()["reward"].tolist() == [1.0]


def test_failures_come_in_the_order_asked_for(tmp_path: Path) -> None:
    with Store(tmp_path / "results.db") as store:
        for seed in (3, 1, 2):
            store.add_failure(specification(seed), impactrl.ImpactError("no"))
        assert store.failures()["seed"].tolist() == [3, 1, 2]
        order = [specification(seed).hash for seed in (9, 2, 3)]
        assert store.failures(order)["seed"].tolist() == [2, 3]


def test_the_first_result_of_a_run_stays(tmp_path: Path) -> None:
    with Store(tmp_path / "results.db") as store:
        store.add(specification(0), result(1, 1, 1, 1, 1))
        store.add(specification(0), result(2, 2, 2, 2, 2))
        assert store.runs()["reward"].tolist() == [1.0]


def test_two_processes_may_use_a_store_at_once(tmp_path: Path) -> None:
    with Store(tmp_path / "results.db") as one, Store(tmp_path / "results.db") as other:
        one.add(specification(0), result(0, 0, 0, 0, 0))
        other.add(specification(1), result(1, 0, 0, 0, 0))
        one.add(specification(2), result(2, 0, 0, 0, 0))
        assert one.runs()["seed"].tolist() == other.runs()["seed"].tolist() == [0, 1, 2]


FILL = """
import sys
import numpy as np
from impactrl.runs.execution import RunResult
from impactrl.runs.specification import RunSpecification
from impactrl.runs.store import Store
from dataclasses import replace

basic, first = RunSpecification.from_json(sys.argv[1]), int(sys.argv[2])
result = RunResult(evaluations=np.zeros(1, dtype=int), history=np.ones((1, 5)), steps=1, seconds=1.0)
input()  # both begin at once
with Store("results.db") as store:
    for seed in range(first, first + 300, 2):
        store.add(replace(basic, seed=seed), result)
        store.add(replace(basic, seed=1000), result)
"""


def test_two_processes_fill_a_store_at_the_same_time(tmp_path: Path) -> None:
    """Also the file itself is made by both."""
    pair = [
        subprocess.Popen(
            [sys.executable, "-c", FILL, BASIC.to_json(), str(first)],
            cwd=tmp_path,
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for first in (0, 1)
    ]
    for process in pair:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in pair:
        _, error = process.communicate(timeout=120)
        assert process.returncode == 0, error
    with Store(tmp_path / "results.db", read_only=True) as store:
        assert sorted(store.runs()["seed"]) == [*range(300), 1000]
        assert len(store.curves()) == 301


def test_what_was_added_is_there_without_closing(tmp_path: Path) -> None:
    code = (
        "import os, sys\n"
        "import numpy as np\n"
        "from impactrl.runs.execution import RunResult\n"
        "from impactrl.runs.specification import RunSpecification\n"
        "from impactrl.runs.store import Store\n"
        "result = RunResult(evaluations=np.zeros(1, dtype=int), history=np.ones((1, 5)), steps=1, seconds=1.0)\n"
        "store = Store('results.db')\n"
        "store.add(RunSpecification.from_json(sys.argv[1]), result)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, BASIC.to_json()], cwd=tmp_path, timeout=120)
    assert done.returncode == -9
    with Store(tmp_path / "results.db", read_only=True) as store:
        assert store.status() == {BASIC.hash: "finished"}
        assert store.runs()[OUTCOMES].to_numpy().tolist() == [[1.0] * 5]


# Killed while the file is made


KILLED_WHILE_MAKING = """
import os, sqlite3, sys
from impactrl.runs import store

connect = sqlite3.connect

def connect_and_die(*arguments, **settings):
    connection = connect(*arguments, **settings)
    def maybe_die(statement):
        if statement.strip().startswith(fatal):
            os.kill(os.getpid(), 9)
    connection.set_trace_callback(maybe_die)
    return connection

for i, fatal in enumerate(sys.argv[1:]):
    child = os.fork()
    if child == 0:
        sqlite3.connect = connect_and_die
        store.Store(f"killed{i}.db")
        os._exit(0)
    _, status = os.waitpid(child, 0)
    print(os.WTERMSIG(status) if os.WIFSIGNALED(status) else "finished", flush=True)
"""


def test_a_process_killed_while_it_makes_the_file_leaves_a_usable_one(tmp_path: Path) -> None:
    moments = [
        "PRAGMA user_version",
        "PRAGMA journal_mode",
        "BEGIN",
        "CREATE TABLE",
        "PRAGMA application_id",
        "PRAGMA user_version =",
        "COMMIT",
        "PRAGMA synchronous",
    ]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KILLED_WHILE_MAKING, *moments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout.split() == ["9"] * len(moments)
    for i in range(len(moments)):
        with Store(tmp_path / f"killed{i}.db") as store:
            assert store.status() == {}
            store.add(specification(0), result(1, 2, 3, 4, 5))
            assert store.status() == {specification(0).hash: "finished"}


# What goes wrong


def test_a_missing_file_is_only_made_if_wanted(tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    with pytest.raises(impactrl.ImpactError, match="there is no results store") as caught:
        Store(path, read_only=True)
    assert_plain(caught, path)
    assert not path.exists()


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "results.db"
    with pytest.raises(impactrl.ImpactError, match="there is no folder") as caught:
        Store(path)
    assert_plain(caught, path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_no_store(tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    path.mkdir()
    with pytest.raises(impactrl.ImpactError, match="cannot open the results store") as caught:
        Store(path)
    assert_plain(caught, path)


@pytest.mark.parametrize("content", [b"notes", b"run,reward\n" * 500, bytes(range(256)) * 40])
def test_another_kind_of_file_is_left_as_it_is(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    path.write_bytes(content)
    with pytest.raises(impactrl.ImpactError, match="file is not a database") as caught:
        Store(path)
    assert_plain(caught, path)
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("version", [0, 1, 7])
def test_a_database_of_another_program_is_left_as_it_is(version: int, tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    unlock(path, "CREATE TABLE runs (run TEXT)")
    unlock(path, f"PRAGMA user_version = {version}")
    content = path.read_bytes()
    with pytest.raises(impactrl.ImpactError, match="is an SQLite file, but no results store") as caught:
        Store(path)
    assert_plain(caught, path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("version", [0, 2, 4])
def test_a_store_of_another_version_is_left_as_it_is(version: int, tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    curves = filled(path)
    unlock(path, f"PRAGMA user_version = {version}")
    content = path.read_bytes()
    with pytest.raises(
        impactrl.ImpactError, match=f"another version .*store format {version}, this one has 3"
    ) as caught:
        Store(path)
    assert_plain(caught, path)
    assert path.read_bytes() == content
    unlock(path, "PRAGMA user_version = 3")
    assert_intact(path, curves)


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs POSIX permissions")
def test_a_file_that_may_not_be_written_is_refused_and_kept(shared_folder: Path) -> None:
    path = shared_folder / "results.db"
    curves = filled(path)
    path.chmod(0o444)
    with (
        as_nobody(),
        pytest.raises(impactrl.ImpactError, match="readonly") as caught,
        Store(path) as store,
    ):
        store.add(specification(7), result(1, 1, 1, 1, 1))
    assert_plain(caught, path)
    path.chmod(0o644)
    assert_intact(path, curves)


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs POSIX permissions")
@pytest.mark.parametrize("there", [False, True])
def test_a_folder_that_may_not_be_written_is_refused_and_kept(there: bool, shared_folder: Path) -> None:
    path = shared_folder / "results.db"
    curves = filled(path) if there else None
    shared_folder.chmod(0o555)
    with (
        as_nobody(),
        pytest.raises(impactrl.ImpactError, match="results store") as caught,
        Store(path) as store,
    ):
        store.add(specification(7), result(1, 1, 1, 1, 1))
    assert_plain(caught, path)
    shared_folder.chmod(0o777)
    assert [entry.name for entry in shared_folder.iterdir()] == (["results.db"] if there else [])
    if curves is not None:
        assert_intact(path, curves)


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs POSIX permissions")
def test_a_store_is_read_from_a_folder_that_may_not_be_written(shared_folder: Path) -> None:
    path = shared_folder / "results.db"
    curves = filled(path)
    path.chmod(0o444)
    shared_folder.chmod(0o555)
    with as_nobody():
        assert_intact(path, curves)
    assert [entry.name for entry in shared_folder.iterdir()] == ["results.db"]


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs POSIX permissions")
def test_runs_that_lie_in_the_log_of_a_folder_that_may_not_be_written_are_not_passed_over(shared_folder: Path) -> None:
    (shared_folder / "sweep").mkdir()
    original, path = shared_folder / "sweep" / "results.db", shared_folder / "results.db"
    filled(original)
    with Store(original) as store:
        store.add(specification(7), result(1, 1, 1, 1, 1))
        for name in ("results.db", "results.db-wal"):  # what a killed process leaves
            shutil.copy(original.with_name(name), shared_folder)
    path.chmod(0o444)
    shared_folder.chmod(0o555)
    with as_nobody(), pytest.raises(impactrl.ImpactError, match=r"still in results\.db-wal") as caught:
        Store(path, read_only=True)
    assert_plain(caught, path)
    shared_folder.chmod(0o777)
    path.chmod(0o644)
    with Store(path, read_only=True) as store:
        assert store.runs()["seed"].tolist() == [1, 0, 7]


def test_a_full_disk_loses_nothing_that_was_stored(tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    curves = filled(path)
    with Store(path) as store:
        pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
        store._connection.execute(f"PRAGMA max_page_count = {pages}")  # from here on the disk is full
        big = result(1, 1, 1, 1, 1, before=20_000)
        with pytest.raises(impactrl.ImpactError, match="full") as caught:
            store.add(specification(7), big)
        assert_plain(caught, path)
        pd.testing.assert_frame_equal(store.curves(), curves, check_exact=True)
    assert_intact(path, curves)
    with Store(path) as store:
        store.add(specification(7), big)
        assert store.runs()["seed"].tolist() == [1, 0, 7]


@pytest.mark.parametrize("what", ["status", "runs", "curves", "timings", "failures"])
def test_a_damaged_file_is_named_when_it_is_read(what: str, tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    filled(path)
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))  # the first page, which opening reads, is whole
    with Store(path) as store, pytest.raises(impactrl.ImpactError, match="malformed") as caught:
        getattr(store, what)()
    assert_plain(caught, path)


def test_a_result_that_is_no_number_is_refused(tmp_path: Path) -> None:
    with Store(tmp_path / "results.db") as store:
        with pytest.raises(impactrl.ImpactError, match="constraint"):
            store.add(specification(0), result(1, float("nan"), 1, 1, 1))
        assert store.status() == {}
        store.add(specification(0), result(1, 1, 1, 1, 1))
        assert store.status() == {specification(0).hash: "finished"}
