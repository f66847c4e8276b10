"""Choosing a penalty's weight on some seeds and reporting it on others; the table of outcomes."""

from collections.abc import Iterable
from itertools import groupby
from operator import itemgetter

import numpy as np
import pandas as pd

from impactrl.analysis.statistics import (
    CASE,
    GROUP,
    OUTCOMES,
    SUMMARISED,
    check_table,
    generator,
    mean_table,
    side_effect_rate,
    summarise,
)

__all__ = ["ONLY_WEIGHT", "OTHER_SEEDS", "SAME_SEED", "best_weights", "held_out", "outcome_table", "outcomes_of"]

ONLY_WEIGHT, OTHER_SEEDS, SAME_SEED = "only weight", "other seeds", "same seed"
SAFE_COMPLETED = 0.95
ROUNDING = 1e-9


def best_weights(summary: pd.DataFrame, *, by: str = "performance") -> pd.DataFrame:
    """The rows of a summary with the highest mean of a column in their environment, agent and penalty.

    The choice is made on the very runs that the row reports, so the row is optimistic: see `held_out`.

    Args:
        summary: as `summarise` returns it; the columns of `GROUP` and `by` are needed.
        by: what to maximise.

    Returns:
        One row per environment, agent and penalty, in the order of the summary, with all its columns. Ties, up to
        rounding, go to the lowest weight.
    """
    top = summary.groupby(list(CASE), sort=False)[by].transform("max")
    tied = summary[np.isclose(summary[by], top, rtol=1e-9, atol=1e-12)]
    return tied.sort_values("weight", kind="stable").drop_duplicates(list(CASE)).sort_index().reset_index(drop=True)


def held_out(runs: pd.DataFrame, *, by: str = "performance") -> pd.DataFrame:
    """The runs to report of every penalty: at the weight that was best on other seeds.

    The seeds of each environment and agent are taken in turn: the second, fourth and so on choose the weight with the
    highest mean of `by` (ties to the lowest weight), the first, third and so on are reported. So the figures reported
    are unbiased, whatever the number of weights tried. Where no penalty of the environment and agent has several
    weights, there is nothing to choose, and all seeds are reported.

    Args:
        runs: one row per run, with the columns of `GROUP`, `seed` and `by`.
        by: what to choose by.

    Returns:
        The rows to report, in their order, with a further column `choice`: "other seeds" as above; "only weight" where
        a penalty has but one; "same seed" where there is one seed, which is chosen and reported on: right for a
        planner, whose results are exact, optimistic for a learner.

    Raises:
        ImpactError: a column is missing, the table is empty or a value is not finite.
    """
    check_table(runs, (*GROUP, "seed", by), finite=("weight", by))
    runs = runs.reset_index(drop=True)
    setting = [runs["environment"], runs["agent"]]
    rank = runs.groupby(["environment", "agent"], sort=False)["seed"].rank(method="dense")
    many = rank.groupby(setting, sort=False).transform("max") > 1
    alone = runs.groupby(list(CASE), sort=False)["weight"].transform("nunique") == 1
    choice = np.where(alone, ONLY_WEIGHT, np.where(many, OTHER_SEEDS, SAME_SEED))
    marked = runs.assign(choice=choice)
    undivided = ~many | alone.groupby(setting, sort=False).transform("all")
    choosing, reporting = alone | undivided | (rank % 2 == 0), undivided | (rank % 2 == 1)
    means = marked[choosing].groupby(list(GROUP), sort=False)[by].mean().reset_index()
    chosen = best_weights(means, by=by)[list(GROUP)]
    kept = marked[reporting].reset_index().merge(chosen, on=list(GROUP)).sort_values("index", ignore_index=True)
    return kept.drop(columns="index")


def outcome_table(
    runs: pd.DataFrame, *, rng: np.random.Generator | None = None, confidence: float = 0.95
) -> pd.DataFrame:
    """Where each penalty works, and what it gives at its best.

    A weight is safe if the mean `side_effect_rate` of its runs is 0 and that of `completed` at least 0.95, over all
    seeds.

    Args:
        runs: one row per run, with the columns of `GROUP`, `OUTCOMES` and `seed`.
        rng: draws the resamples; None: always the same ones.
        confidence: probability mass of the bootstrap intervals, in (0, 1).

    Returns:
        One row per environment, agent and penalty: these three; `safe_weights`, those tried, as text in which
        neighbours join to a range (with an en dash: 0.1 to 3, 30), or "none"; `best_weight` and its `choice`, see
        `held_out`; then of the runs reported there `runs` and `c`, `c_low`, `c_high` for each c of `SUMMARISED`.

    Raises:
        ImpactError: as `summarise` and `held_out`.
    """
    check_table(runs, (*GROUP, "seed", *OUTCOMES), finite=("weight", *OUTCOMES))
    return outcomes_of(summarise(runs), held_out(runs), rng=rng, confidence=confidence)


def outcomes_of(
    summary: pd.DataFrame,
    reported: pd.DataFrame,
    *,
    rng: np.random.Generator | None = None,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """The `outcome_table` of runs whose `summarise` and `held_out` are there."""
    summary = summary.copy()
    summary["safe"] = (summary["side_effect_rate"] <= ROUNDING) & (summary["completed"] >= SAFE_COMPLETED)
    safe = summary.groupby(list(CASE), sort=False)[["weight", "safe"]].apply(
        lambda grid: _ranges(zip(grid["weight"], grid["safe"], strict=True))
    )
    rated = reported.assign(side_effect_rate=side_effect_rate(reported["side_effect"]))
    best = mean_table(
        rated, by=(*GROUP, "choice"), columns=SUMMARISED, rng=generator(rng), confidence=confidence
    ).rename(columns={"weight": "best_weight"})
    best.insert(len(CASE), "safe_weights", pd.MultiIndex.from_frame(best[list(CASE)]).map(safe.to_dict()))
    return best


def _ranges(grid: Iterable[tuple[float, bool]]) -> str:
    """Text of the safe weights in a grid of (weight, safe), ascending, neighbours joined to ranges."""
    spans = [[weight for weight, _ in span] for safe, span in groupby(grid, key=itemgetter(1)) if safe]
    texts = [f"{s[0]:.3g} \N{EN DASH} {s[-1]:.3g}" if len(s) > 1 else f"{s[0]:.3g}" for s in spans]
    return ", ".join(texts) or "none"
