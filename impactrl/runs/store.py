"""The results store: one SQLite file, one row per run, with its learning curve or the error that ended it."""

import json
import platform
import sqlite3
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from impactrl.errors import ImpactError
from impactrl.measures.impact import COLUMNS
from impactrl.runs.execution import RunResult
from impactrl.runs.specification import RunSpecification, agent_label

__all__ = ["FAILED", "FINISHED", "LABELS", "SCHEMA_VERSION", "Store"]

SCHEMA_VERSION = 3
APPLICATION_ID = 0x1A9AC7  # marks the file as ours
FINISHED, FAILED = "finished", "failed"
ATTEMPTS, PAUSE = 1000, 0.01  # seconds
LIBRARIES = ("impactrl", "numpy", "numba", "scipy", "gymnasium", "jax")

LABELS = ("run", "environment", "agent", "penalty", "deviation", "baseline", "weight", "seed")
"""What a run is, in columns."""

# Rows of `runs` are short, so that a store of many runs is listed without reading their curves.
SCHEMA = f"""
CREATE TABLE software (id INTEGER PRIMARY KEY, versions TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    run TEXT NOT NULL UNIQUE,
    environment TEXT NOT NULL,
    agent TEXT NOT NULL,
    penalty TEXT NOT NULL,
    deviation TEXT NOT NULL,
    baseline TEXT NOT NULL,
    weight REAL NOT NULL,
    seed INTEGER NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('{FINISHED}', '{FAILED}')),
    {", ".join(f"{column} REAL CHECK ({column} IS NOT NULL OR status = '{FAILED}')" for column in COLUMNS)},
    steps INTEGER,
    seconds REAL,
    stored TEXT NOT NULL,
    software INTEGER NOT NULL REFERENCES software (id)
) STRICT;
CREATE TABLE details (
    id INTEGER PRIMARY KEY REFERENCES runs (id),
    specification TEXT NOT NULL,
    evaluations BLOB,
    history BLOB,
    training BLOB,
    diagnostics TEXT,
    error TEXT
) STRICT;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
"""


class Store:
    """A file of runs.

    A run is committed the moment it is added: whatever happens to the process then, it is kept. Several processes may
    use a file at once. Use as a context manager.

    Args:
        path: of the file, made if it is not there.
        read_only: the file must be there and is only read. It may lie in a folder that cannot be written to.

    Raises:
        ImpactError: no such file or folder, not a results store, or written by another version.
    """

    def __init__(self, path: str | Path, *, read_only: bool = False) -> None:
        self.path = Path(path)
        if read_only and not self.path.exists():
            raise ImpactError(f"there is no results store {self.path}; `impactrl sweep` makes one")
        if not self.path.parent.is_dir():
            raise ImpactError(f"there is no folder {self.path.parent} for the results store {self.path.name}")
        with self._plainly("open"):
            self._connection = self._open_to_read() if read_only else self._connect("mode=rwc")
            try:
                if not read_only:
                    self._make()
                self._check()
            except BaseException:
                self._connection.close()
                raise

    def _connect(self, options: str) -> sqlite3.Connection:
        uri = f"{self.path.absolute().as_uri()}?{options}"
        return sqlite3.connect(uri, uri=True, timeout=60, isolation_level=None)

    def _open_to_read(self) -> sqlite3.Connection:
        connection = self._connect("mode=rw")
        try:
            connection.execute("PRAGMA user_version")
        except sqlite3.OperationalError:
            # Readers of a WAL file write beside it. Where they cannot, the file can be read as it is, provided that
            # no log with newer runs lies beside it.
            connection.close()
            log = self.path.with_name(f"{self.path.name}-wal")
            if log.exists() and log.stat().st_size:
                raise ImpactError(
                    f"{self.path} has runs that are still in {log.name}, and its folder cannot be written to: copy "
                    "both files to another folder and read them there"
                ) from None
            return self._connect("mode=ro&immutable=1")
        return connection

    def _make(self) -> None:
        ask = self._connection.execute
        empty = ask("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
        if empty and ask("PRAGMA user_version").fetchone()[0] == 0:
            self._keep_a_log()
            with self._transaction():
                # Another process may have made it since.
                if ask("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
                    for statement in SCHEMA.split(";")[:-1]:
                        ask(statement)
        ask("PRAGMA synchronous = NORMAL")

    def _keep_a_log(self) -> None:
        """Sets the journal mode, which unlike all else does not wait while another process does the same."""
        for attempt in range(ATTEMPTS):
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or attempt == ATTEMPTS - 1:
                    raise
            time.sleep(PAUSE)

    def _check(self) -> None:
        ask = self._connection.execute
        if ask("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            raise ImpactError(f"{self.path} is an SQLite file, but no results store; give another name")
        found = ask("PRAGMA user_version").fetchone()[0]
        if found != SCHEMA_VERSION:
            raise ImpactError(
                f"{self.path} was written by another version of impactrl (store format {found}, this one has "
                f"{SCHEMA_VERSION}); it is left as it is. Give another name, or use that version"
            )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All or nothing; the right to write is taken at once, so that two processes take turns."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self._connection.in_transaction:  # a full disk has rolled back already
                self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    @contextmanager
    def _plainly(self, what: str) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, pd.errors.DatabaseError) as error:
            raise ImpactError(
                f"cannot {what} the results store {self.path}: {error}. Runs stored before are kept"
            ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def status(self) -> dict[str, str]:
        """The hashes of the stored runs, and whether each is "finished" or "failed"."""
        with self._plainly("read"):
            return dict(self._connection.execute("SELECT run, status FROM runs").fetchall())

    def has_finished(self, run: str) -> bool:
        """Whether a run of that hash is stored with a result."""
        with self._plainly("read"):
            query = f"SELECT 1 FROM runs WHERE run = ? AND status = '{FINISHED}'"
            return self._connection.execute(query, (run,)).fetchone() is not None

    def add(self, specification: RunSpecification, result: RunResult) -> None:
        """Commits one finished run; one that is there already stays as it is, unless it had failed.

        Raises:
            ImpactError: the file cannot be written (read-only, disk full), or the result is no number.
        """
        training = None if result.training is None else result.training.astype("<f8").tobytes()
        self._put(
            specification,
            (FINISHED, *(float(value) for value in result.history[-1]), result.steps, result.seconds),
            (
                result.evaluations.astype("<i8").tobytes(),
                result.history.astype("<f8").tobytes(),
                training,
                json.dumps({name: column.tolist() for name, column in result.diagnostics.items()}),
                None,
            ),
        )

    def add_failure(self, specification: RunSpecification, error: BaseException) -> None:
        """Commits that a run failed; one that is there with a result stays as it is.

        Raises:
            ImpactError: the file cannot be written.
        """
        text = str(error)
        if not isinstance(error, ImpactError):
            text = f"{type(error).__name__}: {text}\n{''.join(traceback.format_exception(error))}"
        nothing = (None,) * len(COLUMNS)
        self._put(specification, (FAILED, *nothing, None, None), (None, None, None, None, text))

    def _put(self, specification: RunSpecification, outcome: tuple[Any, ...], details: tuple[Any, ...]) -> None:
        penalty, text = specification.penalty, specification.to_json()
        labels = (
            specification.hash,
            specification.environment.label,
            agent_label(specification.agent),
            penalty.label,
            penalty.deviation_name,
            penalty.baseline_name,
            penalty.weight,
            specification.seed,
        )
        stored = datetime.now(UTC).isoformat(timespec="seconds")
        ask = self._connection.execute
        with self._plainly("write to"), self._transaction():
            ask(
                f"DELETE FROM details WHERE id IN (SELECT id FROM runs WHERE run = ? AND status = '{FAILED}')",
                labels[:1],
            )
            ask(f"DELETE FROM runs WHERE run = ? AND status = '{FAILED}'", labels[:1])
            row = (None, *labels, *outcome, stored, self._software())
            added = ask(f"INSERT INTO runs VALUES ({_marks(row)}) ON CONFLICT (run) DO NOTHING", row)
            if added.rowcount:
                more = (added.lastrowid, text, *details)
                ask(f"INSERT INTO details VALUES ({_marks(more)})", more)

    def _software(self) -> int:
        """The number of the versions of this process."""
        ask, versions = self._connection.execute, (_versions(),)
        ask("INSERT INTO software (versions) VALUES (?) ON CONFLICT DO NOTHING", versions)
        number: int = ask("SELECT id FROM software WHERE versions = ?", versions).fetchone()[0]
        return number

    def runs(self, order: Iterable[str] | None = None) -> pd.DataFrame:
        """The finished runs, one row each: `LABELS`, then the five columns of the last evaluation.

        Args:
            order: hashes of the runs wanted, in the order wanted; None: all, in the order of storing.

        Raises:
            ImpactError: a run that is wanted is not there, or the file cannot be read.
        """
        return self._table(f"{_of('r', LABELS)}, {_of('r', COLUMNS)}", FINISHED, order)

    def timings(self, order: Iterable[str] | None = None) -> pd.DataFrame:
        """How the finished runs were made, one row each: `LABELS`, `steps`, `seconds`, `stored` and `versions`.

        `steps` are those in the environment; `seconds` are wall time without the fitting that runs share; `stored` is
        the time in UTC; `versions` is JSON.

        Args:
            order: as in `runs`.
        """
        made = "r.steps, r.seconds, r.stored, s.versions"
        return self._table(f"{_of('r', LABELS)}, {made}", FINISHED, order, "JOIN software s ON s.id = r.software")

    def specification(self, run: str) -> RunSpecification:
        """The run of that hash.

        Raises:
            ImpactError: it is not there, or its level is unknown here, or another one of the same name.
        """
        query = "SELECT d.specification FROM details d JOIN runs r USING (id) WHERE r.run = ?"
        with self._plainly("read"):
            found = self._connection.execute(query, (run,)).fetchone()
        if found is None:
            raise ImpactError(f"{self.path} does not have the run {run}")
        return RunSpecification.from_json(found[0])

    def versions(self, run: str) -> dict[str, str]:
        """The versions of Python and of the libraries that made a run."""
        query = "SELECT s.versions FROM software s JOIN runs r ON r.software = s.id WHERE r.run = ?"
        with self._plainly("read"):
            found = self._connection.execute(query, (run,)).fetchone()
        versions: dict[str, str] = json.loads(found[0]) if found else {}
        return versions

    def failures(self, order: Iterable[str] | None = None) -> pd.DataFrame:
        """The failed runs, one row each: `LABELS` and `error` (one line, for a defect followed by its traceback).

        Args:
            order: hashes of runs; those of them that failed come in this order. None: all, in the order of storing.
        """
        failed = self._table(f"{_of('r', LABELS)}, d.error", FAILED, None, "JOIN details d ON d.id = r.id")
        if order is None:
            return failed
        place = {run: i for i, run in enumerate(order)}
        wanted = failed[failed["run"].isin(place)]
        return wanted.sort_values("run", key=lambda runs: runs.map(place), ignore_index=True)

    def curves(self, order: Iterable[str] | None = None, *, training: bool = False) -> pd.DataFrame:
        """The learning curves, one row per finished run and evaluation: `LABELS`, `trained` and the five columns.

        `trained` is how long the run had trained by then, in episodes or steps: see `training_unit`.

        Args:
            order: as in `runs`.
            training: not those of the greedy evaluations, but the means over the episodes of training since the
                evaluation before; only of the runs that recorded them.
        """
        column = "training" if training else "history"
        packed = self._table(
            f"{_of('r', LABELS)}, d.evaluations, d.{column} AS history",
            FINISHED,
            order,
            "JOIN details d ON d.id = r.id",
        )
        return _unpacked(packed[packed["history"].notna()] if training else packed)

    def diagnostics(self, order: Iterable[str] | None = None) -> pd.DataFrame:
        """How far what agents learned of their impact is from the exact one, one row per finished run and evaluation.

        `LABELS`, `trained` as in `curves`, and a column for each diagnostic of any agent, NaN where it is another's.
        Agents that learn no impact have no rows.

        Args:
            order: as in `runs`.
        """
        packed = self._table(
            f"{_of('r', LABELS)}, d.evaluations, d.diagnostics", FINISHED, order, "JOIN details d ON d.id = r.id"
        )
        named = [json.loads(text) for text in packed["diagnostics"]]
        learned = np.array([bool(columns) for columns in named], dtype=np.bool_)
        table, rows = _by_evaluation(packed[learned])
        columns = [pd.DataFrame(each) for each in named if each]
        values = pd.concat(columns, ignore_index=True) if columns else pd.DataFrame(index=range(len(rows)))
        return pd.concat([table, values], axis=1)

    def _table(self, columns: str, status: str, order: Iterable[str] | None, joined: str = "") -> pd.DataFrame:
        query = f"SELECT {columns} FROM runs r {joined} {{}} WHERE r.status = '{status}' ORDER BY {{}}"
        with self._plainly("read"):
            if order is None:
                return pd.read_sql_query(query.format("", "r.id"), self._connection)
            wanted = list(order)
            # The list goes in as one value: a table to hold it could not be made in a file that is only read.
            query = query.format("JOIN json_each(?) j ON j.value = r.run", "j.key")
            table = pd.read_sql_query(query, self._connection, params=(json.dumps(wanted),))
        if absent := set(wanted).difference(table["run"]):
            raise ImpactError(f"{self.path} does not have the runs {', '.join(sorted(absent))}")
        return table


def _of(table: str, columns: Iterable[str]) -> str:
    return ", ".join(f"{table}.{column}" for column in columns)


def _marks(row: tuple[Any, ...]) -> str:
    return ", ".join("?" * len(row))


@cache
def _versions() -> str:
    """What made the runs of this process, as JSON."""
    there = {name: version(name) for name in LIBRARIES if find_spec(name)}
    return json.dumps({"python": platform.python_version(), **there})


def _by_evaluation(table: pd.DataFrame) -> tuple[pd.DataFrame, NDArray[np.int64]]:
    """A row per run and evaluation: `LABELS` and `trained`; and of each the run's place in the table."""
    evaluations = [np.frombuffer(blob, dtype="<i8") for blob in table["evaluations"]]
    rows = np.repeat(np.arange(len(table)), [len(each) for each in evaluations])
    expanded = table[list(LABELS)].iloc[rows].reset_index(drop=True)
    expanded["trained"] = np.concatenate(evaluations) if evaluations else np.empty(0, dtype=np.int64)
    return expanded, rows


def _unpacked(table: pd.DataFrame) -> pd.DataFrame:
    histories = [np.frombuffer(blob, dtype="<f8").reshape(-1, len(COLUMNS)) for blob in table["history"]]
    curves, _ = _by_evaluation(table)
    values: NDArray[np.float64] = np.concatenate(histories) if histories else np.empty((0, len(COLUMNS)))
    for i, column in enumerate(COLUMNS):
        curves[column] = values[:, i]
    return curves
