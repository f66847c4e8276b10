"""Learning curves: how an outcome develops during training."""

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from impactrl.analysis.plots import (
    DPI,
    LABELS,
    LARGE,
    LEGEND_LINE,
    NORMAL,
    PAGE_WIDTH,
    SMALL,
    Style,
    cases,
    check_choice,
    dress,
    finish,
    interval_note,
    joined,
    legend_look,
    name_panel,
    penalties,
    penalty_styles,
    shift,
    title_height,
)
from impactrl.analysis.selection import best_weights
from impactrl.analysis.statistics import GROUP, OUTCOMES, check_table, mean_table
from impactrl.errors import ImpactError
from impactrl.runs.specification import training_unit

__all__ = ["curve_panel", "plot_learning_curves"]


def curve_panel(ax: Axes, means: pd.DataFrame, column: str, *, styles: Mapping[str, Style] | None = None) -> Axes:
    """Draws one outcome against how long was trained: a line and a light band per penalty and weight.

    Args:
        ax: where to draw.
        means: rows of one environment and agent: `mean_table` by `GROUP` and `trained`.
        column: one of `OUTCOMES`.
        styles: style of each penalty; `penalty_styles` of the table if None.

    Returns:
        `ax`, with labelled axes and lines, and no legend.

    Raises:
        ImpactError: an unknown or missing column, or an empty table or one of several environments or agents.
    """
    check_choice(column, OUTCOMES)
    shown = ["trained", column, f"{column}_low", f"{column}_high"]
    for k, (penalty, style, rows) in enumerate(penalties(means, ["weight", *shown], styles)):
        for weight, line in rows.groupby("weight"):
            trained, mean, low, high = line.sort_values("trained")[shown].to_numpy(dtype=np.float64).T
            every = max(1, len(trained) // 8)
            moved = ax.transData + shift(ax, style)
            ax.fill_between(trained, low, high, color=style.colour, alpha=0.12, linewidth=0, transform=moved)
            label = penalty if weight == 0 else f"{penalty}, λ = {weight:.3g}"
            joined(ax, trained, mean, style, label=label, markevery=(k % every, every))
            ax.update_datalim(np.column_stack([np.tile(trained, 2), np.concatenate([low, high])]))
    ax.set_xlabel(f"training {training_unit(str(means['agent'].iloc[0]))}", fontsize=NORMAL)
    ax.set_ylabel(LABELS[column], fontsize=NORMAL)
    dress(ax)
    return ax


def plot_learning_curves(
    curves: pd.DataFrame,
    *,
    column: str = "performance",
    weights: Mapping[str, float] | None = None,
    rng: np.random.Generator | None = None,
    confidence: float = 0.95,
) -> Figure:
    """How an outcome develops during training, for each penalty at one weight.

    Args:
        curves: one row per run and evaluation, with the columns `run`, `trained` and those of `GROUP`, `column` and
            `performance`.
        column: one of `OUTCOMES`.
        weights: weight shown for a penalty, in all environments. Penalties left out are shown, in each environment and
            for each agent, at the weight with the best mean performance at the end of training, ties to the lowest.
        rng: draws the resamples; None: always the same ones.
        confidence: probability mass of the bootstrap intervals over runs, in (0, 1).

    Returns:
        A figure of the width of a page, one row and one legend per environment and agent.

    Raises:
        ImpactError: an unknown name or weight, a missing column, an empty table, or a value that is not finite.
    """
    check_choice(column, OUTCOMES)
    numbers = dict.fromkeys(("weight", "trained", "performance", column))
    check_table(curves, ("run", *GROUP, *numbers), finite=numbers)
    chosen = _choose_weights(curves, weights or {})
    means = mean_table(
        curves.merge(chosen, on=list(GROUP)),
        by=(*GROUP, "trained"),
        columns=(column,),
        rng=rng,
        confidence=confidence,
    )
    styles = penalty_styles(curves["penalty"])
    parts = cases(means)
    panel = max(1.7, 0.4 + LEGEND_LINE * len(styles)) + title_height([title for title, _ in parts])
    figure = Figure(figsize=(PAGE_WIDTH, 0.7 + panel * len(parts)), dpi=DPI)
    grid = figure.subplots(len(parts), 1, squeeze=False)[:, 0]
    for (title, rows), ax in zip(parts, grid, strict=True):
        curve_panel(ax, rows, column, styles=styles)
        ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), **legend_look())
        name_panel(ax, title)
    for ax, below in pairwise(grid):  # panels count in episodes or in steps
        if ax.get_xlabel() == below.get_xlabel():
            ax.set_xlabel("")
    quantity = LABELS[column].replace("\n", " ")
    figure.suptitle(f"Learning curves: {quantity} during training", fontsize=LARGE, fontweight="bold")
    note = interval_note(means, styles, confidence)
    if not set(styles) <= {"none", *(weights or {})}:
        rule = "the weight with the best mean performance at the end of training"
        note += f"\nλ: {'unless given, ' if weights else ''}{rule}."
    figure.supxlabel(note, fontsize=SMALL)
    return finish(figure)


def _choose_weights(curves: pd.DataFrame, weights: Mapping[str, float]) -> pd.DataFrame:
    """One row of `GROUP` per environment, agent and penalty: with the given weight, else the best at the end."""
    last = curves.loc[curves.groupby("run", sort=False)["trained"].idxmax()]
    final = last.groupby(list(GROUP), sort=False, as_index=False)["performance"].mean()
    if unknown := sorted(set(weights) - set(final["penalty"])):
        raise ImpactError(f"unknown penalties {unknown} in weights: expected some of {list(final['penalty'].unique())}")
    for (environment, penalty), tried in final.groupby(["environment", "penalty"], sort=False)["weight"]:
        wanted = weights.get(str(penalty))
        if wanted is not None and not np.isclose(tried, wanted).any():
            grid = ", ".join(f"{weight:g}" for weight in sorted(tried))
            came = f"{penalty!r} in {environment!r} at weight {wanted:g}"
            raise ImpactError(f"no runs of {came}: expected one of the weights {grid}")
    given = final["penalty"].map(dict(weights)).astype(float)
    return best_weights(final[given.isna() | np.isclose(final["weight"], given)])[list(GROUP)]
