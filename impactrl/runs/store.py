"""The results store: one SQLite file, one row per finished run, with its learning curve."""

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pandas as pd

from impactrl.errors import ImpactError
from impactrl.measures.impact import COLUMNS
from impactrl.runs.execution import RunResult
from impactrl.runs.specification import RunSpecification

__all__ = ["SCHEMA_VERSION", "Store"]

SCHEMA_VERSION = 1
APPLICATION_ID = 0x1A9AC7  # marks the file as ours

SCHEMA = f"""
CREATE TABLE runs (
    run TEXT PRIMARY KEY,
    environment TEXT NOT NULL,
    penalty TEXT NOT NULL,
    deviation TEXT NOT NULL,
    baseline TEXT NOT NULL,
    weight REAL NOT NULL,
    seed INTEGER NOT NULL,
    agent TEXT NOT NULL,
    {", ".join(f"{column} REAL NOT NULL" for column in COLUMNS)},
    specification TEXT NOT NULL,
    evaluations BLOB NOT NULL,
    history BLOB NOT NULL,
    steps INTEGER NOT NULL,
    seconds REAL NOT NULL,
    version TEXT NOT NULL
) STRICT;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
"""

LABELS = ("run", "environment", "penalty", "deviation", "baseline", "weight", "seed", "agent")
KEYS = ", ".join(LABELS)


class Store:
    """A file of finished runs.

    A run is committed the moment it is added: whatever happens to the process then, it is kept. Use as a context
    manager.

    Args:
        path: of the file, made if it is not there.
        create: False to insist that it is there.

    Raises:
        ImpactError: no such file or folder, not a results store, or written by another version.
    """

    def __init__(self, path: str | Path, *, create: bool = True) -> None:
        self.path = Path(path)
        if not self.path.exists() and not create:
            raise ImpactError(f"there is no results store {self.path}; `impactrl sweep` makes one")
        if not self.path.parent.is_dir():
            raise ImpactError(f"there is no folder {self.path.parent} for the results store {self.path.name}")
        with self._plainly("open"):
            self._connection = sqlite3.connect(self.path, timeout=60, isolation_level=None)
            try:
                self._prepare()
            except BaseException:
                self._connection.close()
                raise

    def _prepare(self) -> None:
        ask = self._connection.execute
        version = ask("PRAGMA user_version").fetchone()[0]
        empty = ask("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
        if empty and version == 0:
            ask("PRAGMA journal_mode = WAL")
            # One transaction: a process killed here leaves an empty file, not half a schema.
            self._connection.executescript(f"BEGIN; {SCHEMA} COMMIT;")
        elif ask("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            raise ImpactError(f"{self.path} is an SQLite file, but no results store; give another name")
        elif version != SCHEMA_VERSION:
            raise ImpactError(
                f"{self.path} was written by another version of impactrl (store format {version}, this one has "
                f"{SCHEMA_VERSION}); it is left as it is. Give another name, or use that version"
            )
        ask("PRAGMA synchronous = NORMAL")

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

    def finished(self) -> set[str]:
        """The hashes of the stored runs."""
        with self._plainly("read"):
            return {row[0] for row in self._connection.execute("SELECT run FROM runs")}

    def add(self, specification: RunSpecification, result: RunResult) -> None:
        """Commits one finished run; a run that is there already stays as it is.

        Raises:
            ImpactError: the file cannot be written (read-only, disk full).
        """
        penalty = specification.penalty
        row = (
            specification.hash,
            specification.environment.label,
            penalty.label,
            penalty.deviation,
            penalty.baseline,
            penalty.weight,
            specification.seed,
            specification.agent_name,
            *(float(value) for value in result.history[-1]),
            specification.to_json(),
            result.evaluations.astype("<i8").tobytes(),
            result.history.astype("<f8").tobytes(),
            result.steps,
            result.seconds,
            version("impactrl"),
        )
        with self._plainly("write to"):
            marks = ", ".join("?" * len(row))
            self._connection.execute(f"INSERT INTO runs VALUES ({marks}) ON CONFLICT (run) DO NOTHING", row)

    def runs(self, order: Iterable[str] | None = None) -> pd.DataFrame:
        """The stored runs, one row each: the labels, then the five columns of the last evaluation.

        Args:
            order: hashes of the runs wanted, in the order wanted; None: all, in the order of storing.
        """
        return self._table(f"SELECT {KEYS}, {', '.join(COLUMNS)} FROM runs ORDER BY rowid", order, lambda table: table)

    def curves(self, order: Iterable[str] | None = None) -> pd.DataFrame:
        """The learning curves, one row per run and evaluation: the labels, `episode` and the five columns.

        Args:
            order: as in `runs`.
        """
        return self._table(f"SELECT {KEYS}, evaluations, history FROM runs ORDER BY rowid", order, _unpacked)

    def _table(
        self, query: str, order: Iterable[str] | None, shape: Callable[[pd.DataFrame], pd.DataFrame]
    ) -> pd.DataFrame:
        with self._plainly("read"):
            table = pd.read_sql_query(query, self._connection)
        if order is not None:
            wanted = list(order)
            absent = set(wanted).difference(table["run"])
            if absent:
                raise ImpactError(f"{self.path} does not have the runs {', '.join(sorted(absent))}")
            table = table.set_index("run").loc[wanted].reset_index()
        return shape(table)


def _unpacked(table: pd.DataFrame) -> pd.DataFrame:
    episodes = [np.frombuffer(blob, dtype="<i8") for blob in table["evaluations"]]
    histories = [np.frombuffer(blob, dtype="<f8").reshape(-1, len(COLUMNS)) for blob in table["history"]]
    rows = np.repeat(np.arange(len(table)), [len(e) for e in episodes])
    curves = table[list(LABELS)].iloc[rows].reset_index(drop=True)
    curves["episode"] = np.concatenate(episodes) if episodes else np.empty(0, dtype=np.int64)
    values = np.concatenate(histories) if histories else np.empty((0, len(COLUMNS)))
    for i, column in enumerate(COLUMNS):
        curves[column] = values[:, i]
    return curves
