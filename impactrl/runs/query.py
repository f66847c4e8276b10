"""Asking a store: some of its runs, and its tables as files for other programs."""

import json
import os
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pandas as pd

from impactrl.errors import ImpactError, require_one_of

__all__ = ["FORMATS", "in_order", "select_runs", "write_table"]

FORMATS = ("csv", "parquet", "json")


def select_runs(
    runs: pd.DataFrame,
    *,
    environment: str | None = None,
    agent: str | None = None,
    penalty: str | None = None,
    weights: Iterable[float] = (),
) -> pd.DataFrame:
    """The rows of some runs.

    Args:
        runs: one row per run, with their labels.
        environment: label of an environment; `*`, `?` and `[...]` stand for other text, as in names of files.
        agent: label of an agent, likewise.
        penalty: label of a penalty, likewise.
        weights: of the penalties; none given: all.

    Returns:
        The rows, in their order. None given: all rows.

    Raises:
        ImpactError: nothing matches; says what there is.

    >>> runs = pd.DataFrame({"penalty": ["none", "RR start", "RR stepwise"], "weight": [0.0, 1.0, 1.0]})
    >>> select_runs(runs, penalty="RR*", weights=[1]).index.tolist()
    [1, 2]
    """
    for column, pattern in (("environment", environment), ("agent", agent), ("penalty", penalty)):
        if pattern is None:
            continue
        there = [str(label) for label in runs[column].unique()]
        matching = [label for label in there if fnmatchcase(label, pattern)]
        if not matching:
            raise ImpactError(f"no runs with {column} {pattern!r}; there are: {', '.join(map(repr, there)) or 'none'}")
        runs = runs[runs[column].isin(matching)]
    if wanted := list(weights):
        near = np.isclose(runs["weight"].to_numpy()[:, None], wanted, rtol=1e-3)
        if missing := [weight for weight, found in zip(wanted, near.any(axis=0), strict=True) if not found]:
            grid = ", ".join(f"{weight:g}" for weight in np.sort(runs["weight"].unique()))
            raise ImpactError(f"no runs with weight {missing[0]:g}; there are: {grid or 'none'}")
        runs = runs[near.any(axis=1)]
    return runs


def in_order(runs: pd.DataFrame) -> pd.DataFrame:
    """The rows by labels, weight and seed, "none" before other penalties; so the order of running is forgotten."""
    bare = runs["penalty"] != "none"
    keys = ["environment", "agent", "bare", "penalty", "weight", "seed"]
    return runs.assign(bare=bare).sort_values(keys, kind="stable", ignore_index=True).drop(columns="bare")


def write_table(table: pd.DataFrame, path: str | Path, *, format: str) -> None:  # noqa: A002
    """Writes a table, whole or not at all.

    Args:
        table: any.
        path: of the file; an old one of that name is replaced.
        format: "csv"; "json", a list of objects; or "parquet", which needs the extra `parquet`.

    Raises:
        ImpactError: another format, pyarrow missing, or a file that cannot be written.
    """
    require_one_of("format", format, FORMATS)
    path = Path(path)
    draft = path.with_name(f".{path.name}-{uuid4().hex}")
    try:
        draft.touch(exist_ok=False)  # so that an impossible path is the system's word, not a library's
        try:
            _WRITERS[format](table, draft)
            os.replace(draft, path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise ImpactError(f"cannot write {path}: {error.strerror or error}") from None


def _write_csv(table: pd.DataFrame, path: Path) -> None:
    table.to_csv(path, index=False)


def _write_json(table: pd.DataFrame, path: Path) -> None:
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def _write_parquet(table: pd.DataFrame, path: Path) -> None:
    try:
        table.to_parquet(path, engine="pyarrow", index=False)
    except ImportError:
        raise ImpactError("writing .parquet needs pyarrow: pip install 'impactrl[parquet]'") from None


_WRITERS: dict[str, Callable[[pd.DataFrame, Path], Any]] = {
    "csv": _write_csv,
    "json": _write_json,
    "parquet": _write_parquet,
}
