"""Penalties over several levels: their means and interquartile means, and how they compare with one of them."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from impactrl.analysis.bootstrap import interquartile_mean, mean, paired_difference, probability_of_improvement
from impactrl.analysis.statistics import CASE, check_table, generator
from impactrl.errors import ImpactError, require_known

__all__ = ["aggregate", "compare"]

Scores = dict[str, NDArray[np.float64]]


def aggregate(
    runs: pd.DataFrame,
    *,
    column: str = "performance",
    rng: np.random.Generator | None = None,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Mean and interquartile mean of each penalty over all levels, with intervals stratified over the levels.

    Scores of different levels are averaged, so bring them to one scale before, for example with 0 for no penalty and 1
    for the best that is possible.

    Args:
        runs: one row per run, each penalty at one weight per level (see `held_out`), with the columns `environment`,
            `agent`, `penalty`, `weight` and `column`.
        column: the score.
        rng: draws the resamples; None: always the same ones.
        confidence: probability mass of the bootstrap intervals, in (0, 1).

    Returns:
        One row per agent and penalty: these two, `levels`, `runs`, `mean`, `mean_low`, `mean_high`, `iqm`, `iqm_low`,
        `iqm_high`.

    Raises:
        ImpactError: a column is missing, a value is not finite, a penalty has several weights in a level, or penalties
            were run on different levels.
    """
    rows = []
    rng = generator(rng)
    for (agent, penalty), scores in _scores(runs, column).items():
        levels = list(scores.values())
        average = mean(levels, rng=rng, confidence=confidence)
        middle = interquartile_mean(levels, rng=rng, confidence=confidence)
        rows.append((agent, penalty, len(levels), sum(map(len, levels)), *average, *middle))
    ends = [f"{name}{suffix}" for name in ("mean", "iqm") for suffix in ("", "_low", "_high")]
    return pd.DataFrame(rows, columns=["agent", "penalty", "levels", "runs", *ends])


def compare(
    runs: pd.DataFrame,
    *,
    reference: str,
    column: str = "performance",
    rng: np.random.Generator | None = None,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """How every penalty differs from one of them, seed by seed and level by level.

    Runs of one level, agent and seed are pairs. (The random numbers of a run are keyed by its whole specification, so
    in sweeps the runs of a pair are independent: pairing is right, and as sharp as not pairing.)

    Args:
        runs: as for `aggregate`, with the column `seed`.
        reference: a penalty's label.
        column: the score.
        rng: draws the resamples; None: always the same ones.
        confidence: probability mass of the bootstrap intervals, in (0, 1).

    Returns:
        One row per agent and other penalty: `agent`, `penalty`, `reference`, `levels`, `pairs`; `difference` of the
        mean score, penalty less reference, and `improvement`, the probability that a run of the penalty scores higher
        than one of the reference; both with `_low` and `_high`.

    Raises:
        ImpactError: as `aggregate`, an unknown reference, or a run without a partner of the same seed.
    """
    check_table(runs, ("seed",))
    scores = _scores(runs, column)
    require_known("penalty", reference, {penalty for _, penalty in scores})
    rows = []
    rng = generator(rng)
    for (agent, penalty), own in scores.items():
        if penalty == reference:
            continue
        if (agent, reference) not in scores:
            raise ImpactError(f"{agent} has no runs under {reference!r} to compare with")
        pairs = runs[(runs["agent"] == agent) & runs["penalty"].isin([penalty, reference])]
        both = pairs.pivot_table(index=["environment", "seed"], columns="penalty", values=column, sort=False)
        if both.isna().to_numpy().any():
            environment, seed = both.index[both.isna().any(axis=1)][0]
            raise ImpactError(
                f"expected every seed under both {penalty!r} and {reference!r}; {environment} with {agent} has seed "
                f"{seed} under one of them only"
            )
        halves = [
            [level[name].to_numpy() for _, level in both.groupby(level="environment", sort=False)]
            for name in (penalty, reference)
        ]
        difference = paired_difference(*halves, rng=rng, confidence=confidence)
        better = probability_of_improvement(
            list(own.values()), list(scores[agent, reference].values()), rng=rng, confidence=confidence
        )
        rows.append((agent, penalty, reference, len(own), len(both), *difference, *better))
    ends = [f"{name}{suffix}" for name in ("difference", "improvement") for suffix in ("", "_low", "_high")]
    return pd.DataFrame(rows, columns=["agent", "penalty", "reference", "levels", "pairs", *ends])


def _scores(runs: pd.DataFrame, column: str) -> dict[tuple[str, str], Scores]:
    """Scores of each agent and penalty by level; the levels are the same, and in the same order, for all."""
    check_table(runs, (*CASE, "weight", column), finite=(column,))
    weights = runs.groupby(list(CASE), sort=False)["weight"].nunique()
    if (weights > 1).any():
        environment, _, penalty = weights.index[weights > 1][0]
        raise ImpactError(
            f"expected each penalty at one weight per level; {penalty!r} has several on {environment!r}: choose one "
            "with held_out(runs), or select by the column `weight`"
        )
    levels = list(runs["environment"].unique())
    scores: dict[tuple[str, str], Scores] = {}
    for (agent, penalty), rows in runs.groupby(["agent", "penalty"], sort=False):
        by_level = {
            str(level): own[column].to_numpy(np.float64) for level, own in rows.groupby("environment", sort=False)
        }
        if absent := [level for level in levels if level not in by_level]:
            raise ImpactError(
                f"expected every penalty on the same levels; {penalty!r} with {agent} has no runs on {absent}"
            )
        scores[str(agent), str(penalty)] = {level: by_level[level] for level in levels}
    return scores
