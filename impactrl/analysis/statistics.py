"""Means over seeds with bootstrap intervals, and the table of outcomes by environment and penalty.

Tables come in with one row per run (or per run and episode) and go out with one row per group. All intervals
are percentile bootstraps of the mean. They depend on the multiset of values alone: the order in which runs
finished changes no digit, and two groups with equal outcomes have equal intervals.
"""

from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import itemgetter

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from impactrl.errors import ImpactError

OUTCOMES = ("reward", "performance", "side_effect", "completed", "impact")
"""The five outcome columns of a run: side_effect is a count, completed lies in [0, 1]."""

GROUP = ("environment", "penalty", "weight")
"""What makes two runs comparable: they differ in the seed alone."""

SUMMARISED = ("reward", "performance", "side_effect_rate", "completed", "impact")
"""The outcomes as `summarise` reports them: side effects become the share of runs that had any."""

_COMPLETED_SHARE = 0.95
_BLOCK_DRAWS = 1 << 22
_BLOCK_COLUMNS = 512

FloatArray = NDArray[np.float64]


def bootstrap_interval(
    values: ArrayLike, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean.

    Args:
        values: [n] finite numbers; their order does not matter.
        confidence: Probability mass between the two ends, in (0, 1).
        resamples: Number of resamples drawn.
        seed: Seed of the resampling; equal arguments give equal intervals.

    Returns:
        (low, high) in the unit of `values`; (v, v) for a sample of one.

    Raises:
        ImpactError: If `values` is empty, not one-dimensional or not finite, or a setting is out of range.

    >>> bootstrap_interval([2.5])
    (2.5, 2.5)
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or sample.size == 0:
        raise ImpactError(f"expected a one-dimensional sample of at least one value, got shape {sample.shape}")
    if not np.isfinite(sample).all():
        raise ImpactError(f"expected finite values, got {np.count_nonzero(~np.isfinite(sample))} that are not")
    _, low, high = _means(sample[:, None], confidence=confidence, resamples=resamples, seed=seed)
    return float(low[0]), float(high[0])


def mean_table(
    table: pd.DataFrame,
    *,
    by: Sequence[str],
    columns: Sequence[str],
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Mean and bootstrap interval of some columns in every group of rows.

    Args:
        table: One row per observation.
        by: Columns that name the group. Text keeps the order of first appearance, numbers ascend.
        columns: Columns of finite numbers to average.
        confidence: Probability mass of the intervals, in (0, 1).
        resamples: Number of resamples; groups of equal size share them.
        seed: Seed of the resampling.

    Returns:
        One row per group: the columns of `by`, `runs` (rows in the group), then `c`, `c_low`, `c_high`
        for each column c.

    Raises:
        ImpactError: If a column is missing, the table is empty or a value is not finite.
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
    for n in np.unique(size):
        members = np.flatnonzero(size == n)
        samples = values[start[members] + np.arange(n)[:, None]].reshape(n, -1)
        means = _means(samples, confidence=confidence, resamples=resamples, seed=seed)
        estimate[:, members] = means.reshape(3, len(members), len(columns))

    groups = table[list(by)].iloc[order[start]].reset_index(drop=True).assign(runs=size)
    suffixed = {
        f"{name}{suffix}": estimate[k, :, c]
        for c, name in enumerate(columns)
        for k, suffix in enumerate(("", "_low", "_high"))
    }
    return groups.assign(**suffixed)


def summarise(runs: pd.DataFrame, *, confidence: float = 0.95) -> pd.DataFrame:
    """Mean outcomes of the runs that differ in their seed alone.

    Args:
        runs: One row per run of one agent, with the columns of `GROUP` and `OUTCOMES`.
        confidence: Probability mass of the bootstrap intervals, in (0, 1).

    Returns:
        One row per (environment, penalty, weight); environments and penalties in order of first appearance,
        weights ascending. Columns: these three, `runs`, then `c`, `c_low`, `c_high` for each c of
        `SUMMARISED`, where `side_effect_rate` is the share of runs with `side_effect > 0`.

    Raises:
        ImpactError: If a column is missing, the table is empty, a value is not finite or agents are mixed.
    """
    check_table(runs, (*GROUP, *OUTCOMES), finite=("weight", *OUTCOMES))
    check_one_agent(runs)
    rated = runs.assign(side_effect_rate=runs["side_effect"] > 0)
    return mean_table(rated, by=GROUP, columns=SUMMARISED, confidence=confidence)


def best_weights(summary: pd.DataFrame) -> pd.DataFrame:
    """The rows of a summary with the highest mean performance of their environment and penalty.

    The choice is made on the very runs that the row reports, so the row is optimistic: for an unbiased
    figure, train fresh seeds at the chosen weight.

    Args:
        summary: As `summarise` returns it; `environment`, `penalty`, `weight` and `performance` are needed.

    Returns:
        One row per environment and penalty, in the order of the summary, with all its columns. Ties, up to
        rounding, go to the lowest weight.
    """
    top = summary.groupby(["environment", "penalty"], sort=False)["performance"].transform("max")
    tied = summary[np.isclose(summary["performance"], top, rtol=1e-9, atol=1e-12)]
    return tied.drop_duplicates(["environment", "penalty"]).reset_index(drop=True)


def outcome_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Where each penalty works, and what it gives at its best.

    A weight is safe if no run had a side effect and the mean of `completed` is at least 0.95.

    Args:
        runs: As for `summarise`.

    Returns:
        One row per environment and penalty: `environment`, `penalty`; `safe_weights`, the safe weights
        tried, as text in which neighbours join to a range (with an en dash: 0.1 to 3, 30), or "none";
        then, at the weight of `best_weights`, `best_weight` and the means of `SUMMARISED`.

    Raises:
        ImpactError: As `summarise`.
    """
    summary = summarise(runs)
    summary["safe"] = (summary["side_effect_rate"] == 0) & (summary["completed"] >= _COMPLETED_SHARE)
    best = best_weights(summary).rename(columns={"weight": "best_weight"})
    best["safe_weights"] = [
        _ranges(zip(grid["weight"], grid["safe"], strict=True))
        for _, grid in summary.groupby(["environment", "penalty"], sort=False)
    ]
    return best[["environment", "penalty", "safe_weights", "best_weight", *SUMMARISED]]


def check_table(table: pd.DataFrame, columns: Iterable[str], *, finite: Iterable[str] = ()) -> None:
    """Raise ImpactError unless the table has rows, the `columns`, and only finite numbers in `finite`."""
    wanted = list(dict.fromkeys(columns))
    if missing := [name for name in wanted if name not in table.columns]:
        raise ImpactError(f"missing columns {missing}: expected {wanted}, got {list(table.columns)}")
    if table.empty:
        raise ImpactError(f"expected at least one row with the columns {wanted}, got an empty table")
    if bad := [name for name in finite if not np.isfinite(table[name].to_numpy(dtype=np.float64)).all()]:
        raise ImpactError(f"expected finite numbers, got NaN or infinity in the columns {bad}")


def check_one_agent(table: pd.DataFrame) -> None:
    """Raise ImpactError if the table names several agents: their mean would describe none of them."""
    agents = list(table["agent"].unique()) if "agent" in table.columns else []
    if len(agents) > 1:
        raise ImpactError(f'expected the runs of one agent, got {agents}: select one by the column "agent"')


def _means(samples: FloatArray, *, confidence: float, resamples: int, seed: int) -> FloatArray:
    """Mean, low and high end of every column: [n, C] -> [3, C]."""
    if not 0 < confidence < 1:
        raise ImpactError(f"expected confidence in (0, 1), got {confidence}")
    if resamples < 1:
        raise ImpactError(f"expected at least one resample, got {resamples}")
    # Sorted: row order is forgotten. Relative to the least value: constant columns come out exact.
    samples = np.sort(samples, axis=0)
    rise = samples - samples[0]
    ends = [(1 - confidence) / 2, (1 + confidence) / 2]
    blocks = [
        np.quantile(_resampled_means(rise[:, c : c + _BLOCK_COLUMNS], resamples, seed), ends, axis=0)
        for c in range(0, rise.shape[1], _BLOCK_COLUMNS)
    ]
    means: FloatArray = samples[0] + np.vstack([rise.mean(axis=0), np.hstack(blocks)])
    return means


def _resampled_means(samples: FloatArray, resamples: int, seed: int) -> FloatArray:
    """Means of resamples shared by all columns: [n, C] -> [resamples, C], in bounded memory."""
    n = len(samples)
    rng = np.random.default_rng(seed)
    means = np.empty((resamples, samples.shape[1]))
    block = max(1, _BLOCK_DRAWS // n)
    for first in range(0, resamples, block):
        rows = min(block, resamples - first)
        draws = rng.integers(n, size=(rows, n)) + n * np.arange(rows)[:, None]
        times = np.bincount(draws.ravel(), minlength=rows * n).reshape(rows, n)
        means[first : first + rows] = times.astype(np.float64) @ samples / n
    return means


def _ranges(grid: Iterable[tuple[float, bool]]) -> str:
    """Text of the safe weights in a grid of (weight, safe), ascending, neighbours joined to ranges."""
    spans = [[weight for weight, _ in span] for safe, span in groupby(grid, key=itemgetter(1)) if safe]
    texts = [f"{s[0]:.3g} \N{EN DASH} {s[-1]:.3g}" if len(s) > 1 else f"{s[0]:.3g}" for s in spans]
    return ", ".join(texts) or "none"
