"""Tables of outcomes: means over seeds with intervals, side-effect rates, outcome classes.

Tables come in with one row per run (or per run and episode), as sweeps return them, and go out with one row per group.
Intervals are percentile bootstraps of the mean over runs (`impactrl.analysis.bootstrap`). They depend on the multiset
of values and the generator alone: the order in which runs finished changes no digit, and two groups with equal outcomes
have equal intervals.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from impactrl.analysis.bootstrap import RESAMPLES, bootstrap_means
from impactrl.errors import ImpactError

__all__ = [
    "CASE",
    "CLASSES",
    "GROUP",
    "OUTCOMES",
    "SUMMARISED",
    "check_table",
    "class_shares",
    "generator",
    "lone_agent",
    "mean_table",
    "outcome_class",
    "readable",
    "side_effect_rate",
    "summarise",
]

OUTCOMES = ("reward", "performance", "side_effect", "completed", "impact")
"""The five outcomes of a run: expectations over a greedy episode; side_effect of a count, completed of 0 and 1."""

CASE = ("environment", "agent", "penalty")
"""What is compared."""

GROUP = (*CASE, "weight")
"""What makes two runs comparable: they differ in the seed alone."""

SUMMARISED = ("reward", "performance", "side_effect_rate", "completed", "impact")
"""The outcomes as `summarise` reports them: see `side_effect_rate`."""

CLASSES = (
    "side effect, incomplete",
    "side effect, completed",
    "no side effect, incomplete",
    "no side effect, completed",
)
"""The four classes of outcomes, in the order in which Turner et al. (2020) count them."""


def generator(rng: np.random.Generator | None) -> np.random.Generator:
    """The generator given, or one that is the same at every call, so that equal runs give equal tables and figures."""
    return np.random.default_rng(0) if rng is None else rng


def side_effect_rate(side_effect: "pd.Series[float] | NDArray[np.float64]") -> NDArray[np.float64]:
    """The probability that an episode ends with a side effect, run by run: min(1, max(0, E[N])).

    A run's `side_effect` is E[N], the expected number of side effects less those undone. That is the probability itself
    where N is 0 or 1, as in every deterministic level with one thing to break (there it is 0 or 1, too). Where N can be
    larger it is an upper bound of P(N >= 1), by Markov's inequality; in a deterministic level it still is 1 if there
    was any, else 0.

    >>> side_effect_rate(np.array([0.0, 0.25, 2.0, -1.0])).tolist()
    [0.0, 0.25, 1.0, 0.0]
    """
    return np.clip(np.asarray(side_effect, dtype=np.float64), 0.0, 1.0)


def outcome_class(runs: pd.DataFrame) -> "pd.Series[str]":
    """The class of every run, one of `CLASSES`.

    A run has the side effect if its `side_effect_rate` is at least 1/2, and has completed the task if the probability
    of that is. In deterministic levels both are 0 or 1; in others the class is that of the likelier outcomes.

    Args:
        runs: with the columns `side_effect` and `completed`.

    Raises:
        ImpactError: a column is missing, the table is empty or a value is not finite.
    """
    check_table(runs, ("side_effect", "completed"), finite=("side_effect", "completed"))
    harmed = side_effect_rate(runs["side_effect"]) >= 0.5
    done = runs["completed"].to_numpy(dtype=np.float64) >= 0.5
    return pd.Series(np.array(CLASSES)[2 * ~harmed + done], index=runs.index, name="outcome")


def class_shares(runs: pd.DataFrame) -> pd.DataFrame:
    """The share of runs in each of the four classes.

    Args:
        runs: one row per run, with the columns of `GROUP`, `side_effect` and `completed`.

    Returns:
        One row per group, in the order of `summarise`: the columns of `GROUP`, `runs`, and one column per class.

    Raises:
        ImpactError: a column is missing, the table is empty or a value is not finite.
    """
    check_table(runs, (*GROUP, "side_effect", "completed"), finite=("weight",))
    found = outcome_class(runs)
    shares = runs[list(GROUP)].assign(**{name: (found == name).astype(float) for name in CLASSES})
    table = mean_table(shares, by=GROUP, columns=CLASSES, resamples=1)
    return table[[*GROUP, "runs", *CLASSES]]


def mean_table(
    table: pd.DataFrame,
    *,
    by: Sequence[str],
    columns: Sequence[str],
    rng: np.random.Generator | None = None,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
) -> pd.DataFrame:
    """Mean and bootstrap interval of some columns in every group of rows.

    Args:
        table: one row per observation.
        by: columns that name the group. Text keeps the order of first appearance, numbers ascend.
        columns: columns of finite numbers to average.
        rng: draws the resamples, which groups of equal size share; None: always the same ones.
        confidence: probability mass of the intervals, in (0, 1).
        resamples: how many.

    Returns:
        One row per group: the columns of `by`, `runs` (rows in the group), then `c`, `c_low`, `c_high` for each
        column c.

    Raises:
        ImpactError: a column is missing, the table is empty or a value is not finite.
    """
    check_table(table, (*by, *columns), finite=columns)
    ranked = [pd.factorize(table[name], sort=pd.api.types.is_numeric_dtype(table[name])) for name in by]
    if gaps := [name for name, (code, _) in zip(by, ranked, strict=True) if (code < 0).any()]:
        raise ImpactError(f"expected a value in every row of {list(by)}, got gaps in {gaps}")
    key = np.ravel_multi_index([code for code, _ in ranked], [len(labels) for _, labels in ranked])
    order = np.argsort(key, kind="stable")
    _, start, size = np.unique(key[order], return_index=True, return_counts=True)

    values = table[list(columns)].to_numpy(dtype=np.float64)[order]
    estimate = np.empty((3, len(start), len(columns)))
    rng = generator(rng)
    for n in np.unique(size):
        members = np.flatnonzero(size == n)
        samples = values[start[members] + np.arange(n)[:, None]].reshape(n, -1)
        means = bootstrap_means(samples, rng=rng, confidence=confidence, resamples=resamples)
        estimate[:, members] = means.reshape(3, len(members), len(columns))

    groups = table[list(by)].iloc[order[start]].reset_index(drop=True).assign(runs=size)
    suffixed = {
        f"{name}{suffix}": estimate[k, :, c]
        for c, name in enumerate(columns)
        for k, suffix in enumerate(("", "_low", "_high"))
    }
    return groups.assign(**suffixed)


def summarise(runs: pd.DataFrame, *, rng: np.random.Generator | None = None, confidence: float = 0.95) -> pd.DataFrame:
    """Mean outcomes of the runs that differ in their seed alone.

    Args:
        runs: one row per run, with the columns of `GROUP` and `OUTCOMES`.
        rng: draws the resamples; None: always the same ones.
        confidence: probability mass of the bootstrap intervals, in (0, 1).

    Returns:
        One row per group; names in order of first appearance, weights ascending. Columns: those of `GROUP`, `runs`,
        then `c`, `c_low`, `c_high` for each c of `SUMMARISED`.

    Raises:
        ImpactError: a column is missing, the table is empty or a value is not finite.
    """
    check_table(runs, (*GROUP, *OUTCOMES), finite=("weight", *OUTCOMES))
    rated = runs.assign(side_effect_rate=side_effect_rate(runs["side_effect"]))
    return mean_table(rated, by=GROUP, columns=SUMMARISED, rng=rng, confidence=confidence)


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """A table for people: each `c`, `c_low`, `c_high` as one column of text, names without underscores.

    >>> table = pd.DataFrame({"runs": [5], "reward": [0.5], "reward_low": [0.25], "reward_high": [0.75]})
    >>> readable(table).loc[0, "reward"]
    '0.5 [0.25, 0.75]'
    """
    ends = {
        f"{name}{suffix}" for name in table.columns for suffix in ("_low", "_high") if f"{name}_low" in table.columns
    }
    shown = {}
    for name in table.columns:
        if name in ends:
            continue
        column = table[name]
        if f"{name}_low" in table.columns:
            rows = table[[name, f"{name}_low", f"{name}_high"]].itertuples(index=False, name=None)
            column = pd.Series([_interval(*row) for row in rows], index=table.index)
        shown[name.replace("_", " ")] = column
    return pd.DataFrame(shown)


def lone_agent(table: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The table without its column of agents where all rows have the same, and that agent's label; else "" for it."""
    agents = table["agent"].unique()
    return (table.drop(columns="agent"), str(agents[0])) if len(agents) == 1 else (table, "")


def _interval(value: float, low: float, high: float) -> str:
    return f"{value:.3g}" if low == high else f"{value:.3g} [{low:.3g}, {high:.3g}]"


def check_table(table: pd.DataFrame, columns: Iterable[str], *, finite: Iterable[str] = ()) -> None:
    """Raises ImpactError unless the table has rows, the `columns`, and only finite numbers in `finite`."""
    wanted = list(dict.fromkeys(columns))
    if missing := [name for name in wanted if name not in table.columns]:
        raise ImpactError(f"missing columns {missing}: expected {wanted}, got {list(table.columns)}")
    if table.empty:
        raise ImpactError(f"expected at least one row with the columns {wanted}, got an empty table")
    if bad := [name for name in finite if not np.isfinite(table[name].to_numpy(dtype=np.float64)).all()]:
        raise ImpactError(f"expected finite numbers, got NaN or infinity in the columns {bad}")
