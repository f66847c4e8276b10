"""What the penalty weight does: outcomes against the weight, and task return against impact."""

from collections.abc import Mapping
from dataclasses import replace
from math import ceil
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

from impactrl.analysis.plots import (
    DPI,
    LABELS,
    LARGE,
    LEGEND_LINE,
    NORMAL,
    PAGE_WIDTH,
    REFERENCE,
    RING,
    SHARES,
    SMALL,
    Style,
    bars,
    cases,
    check_choice,
    dress,
    finish,
    interval_note,
    joined,
    legend_look,
    legend_shape,
    name_panel,
    penalties,
    penalty_styles,
    shift,
    style_keys,
    title_height,
)
from impactrl.analysis.statistics import SUMMARISED, check_table, summarise

__all__ = ["plane_figure", "plane_panel", "plot_plane", "plot_tradeoff", "tradeoff_figure", "tradeoff_panel"]

AGAINST_WEIGHT = ("reward", "performance", "side_effect_rate")
PLANES_IN_A_ROW = 3
FRONTIER_COLOUR = "#b0b0b0"

Frontiers = Mapping[tuple[str, str], pd.DataFrame]


def tradeoff_panel(ax: Axes, summary: pd.DataFrame, column: str, *, styles: Mapping[str, Style] | None = None) -> Axes:
    """Draws one outcome against the penalty weight, on a logarithmic axis: means joined, intervals as bars.

    Weight 0 has no place on that axis: it becomes a dashed horizontal line over its interval.

    Args:
        ax: where to draw.
        summary: rows of one environment and agent, as `summarise` returns them.
        column: one of `SUMMARISED`.
        styles: style of each penalty; `penalty_styles` of the table if None.

    Returns:
        `ax`, with labelled axes and no legend.

    Raises:
        ImpactError: an unknown or missing column, or an empty table or one of several environments or agents.
    """
    check_choice(column, SUMMARISED)
    ends = [f"{column}_low", f"{column}_high"]
    for penalty, style, rows in penalties(summary, ["weight", column, *ends], styles):
        numbers = rows[["weight", column, *ends]].to_numpy(dtype=np.float64)
        for _, mean, low, high in numbers[numbers[:, 0] == 0]:
            across = ax.get_yaxis_transform() + shift(ax, style, across=0)
            ax.axhspan(low, high, color=style.colour, alpha=0.12, linewidth=0).set_transform(across)
            line = ax.axhline(mean, color=style.colour, linestyle=REFERENCE.dashes, linewidth=1, label=penalty)
            line.set_transform(across)
        weight, mean, low, high = numbers[numbers[:, 0] > 0].T
        bars(ax, weight, low, high, style)
        joined(ax, weight, mean, style, label=penalty)
        # Artists that are not drawn in plain data coordinates do not count for the limits by themselves.
        ax.update_datalim(np.column_stack([np.tile(weight, 2), np.concatenate([low, high])]))
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(numticks=6))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda weight, _: f"{weight:g}"))
    ax.minorticks_off()
    ax.set_xlabel("penalty weight λ", fontsize=NORMAL)
    ax.set_ylabel(LABELS[column], fontsize=NORMAL)
    dress(ax)
    if column in SHARES:
        ax.set_ylim(-0.09, 1.09)
        ax.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    return ax


def plane_panel(
    ax: Axes,
    summary: pd.DataFrame,
    *,
    styles: Mapping[str, Style] | None = None,
    frontiers: Mapping[str, pd.DataFrame] | None = None,
) -> Axes:
    """Draws mean task return against mean impact, the points of a penalty joined in order of weight.

    A ring marks the largest weight of each line, a star weight 0. Impact is that of each penalty's own measure.

    Args:
        ax: where to draw.
        summary: rows of one environment and agent, as `summarise` returns them.
        styles: style of each penalty; `penalty_styles` of the table if None.
        frontiers: exact optima by penalty, drawn behind the points as a line with small dots: tables with the columns
            `impact` and `reward`, one row for every outcome, in order of weight.

    Returns:
        `ax`, with labelled axes and no legend.

    Raises:
        ImpactError: a missing column, or an empty table or one of several environments or agents.
    """
    for penalty, style, rows in penalties(summary, ["weight", "impact", "reward"], styles):
        exact = (frontiers or {}).get(penalty)
        if exact is not None:
            check_table(exact, ("impact", "reward"), finite=("impact", "reward"))
            ideal = exact[["impact", "reward"]].to_numpy(dtype=np.float64)
            joined(
                ax, ideal[:, 0], ideal[:, 1], style, label=f"{penalty}, exact", zorder=1, **_frontier_look(style.colour)
            )
            ax.update_datalim(ideal)
        points = rows.sort_values("weight")[["weight", "impact", "reward"]].to_numpy(dtype=np.float64)
        for zero in (True, False):
            _, impact, reward = points[(points[:, 0] == 0) == zero].T
            joined(ax, impact, reward, replace(style, marker=REFERENCE.marker) if zero else style, label=penalty)
            if not zero:
                joined(ax, impact[-1:], reward[-1:], style, markeredgecolor=style.colour, **RING)
        ax.update_datalim(points[:, 1:])
    ax.set_xlabel(LABELS["impact"], fontsize=NORMAL)
    ax.set_ylabel(LABELS["reward"], fontsize=NORMAL)
    ax.xaxis.set_major_locator(MaxNLocator(4))
    dress(ax)
    return ax


def plot_tradeoff(runs: pd.DataFrame, *, rng: np.random.Generator | None = None, confidence: float = 0.95) -> Figure:
    """What the penalty weight does to task return, hidden performance and side effects.

    Args:
        runs: one row per run, as for `summarise`.
        rng: draws the resamples; None: always the same ones.
        confidence: probability mass of the bootstrap intervals, in (0, 1).

    Returns:
        A figure of the width of a page, one row per environment and agent, three panels in each.

    Raises:
        ImpactError: as `summarise`.
    """
    return tradeoff_figure(summarise(runs, rng=rng, confidence=confidence), confidence=confidence)


def tradeoff_figure(summary: pd.DataFrame, *, confidence: float = 0.95) -> Figure:
    """`plot_tradeoff` of a summary, whose intervals have that confidence."""
    styles = penalty_styles(summary["penalty"])
    parts = cases(summary)
    keys = style_keys(styles)
    columns, lines = legend_shape(keys)
    names = title_height([title for title, _ in parts])
    figure = Figure(figsize=(PAGE_WIDTH, 0.75 + LEGEND_LINE * lines + (1.6 + names) * len(parts)), dpi=DPI)
    grid = figure.subplots(len(parts), len(AGAINST_WEIGHT), squeeze=False)
    for (title, rows), row in zip(parts, grid, strict=True):
        for ax, column in zip(row, AGAINST_WEIGHT, strict=True):
            tradeoff_panel(ax, rows, column, styles=styles)
        name_panel(row[0], title)
    for ax in grid[:-1].flat:
        ax.set_xlabel("")
    figure.legend(
        handles=keys,
        loc="outside upper center",
        ncols=columns,
        title="Task return, hidden performance and side effects under each penalty",
        title_fontproperties={"size": LARGE, "weight": "bold"},
        **legend_look(),
    )
    figure.supxlabel(interval_note(summary, styles, confidence), fontsize=SMALL)
    return finish(figure)


def plot_plane(
    runs: pd.DataFrame,
    *,
    frontiers: Frontiers | None = None,
    rng: np.random.Generator | None = None,
) -> Figure:
    """Task return against impact, with the exact optimum behind the learned points where it is given.

    Args:
        runs: one row per run, as for `summarise`.
        frontiers: exact optima by environment and penalty, as tables for `plane_panel`.
        rng: draws the resamples; None: always the same ones.

    Returns:
        A figure of the width of a page, one panel per environment and agent.

    Raises:
        ImpactError: as `summarise`.
    """
    return plane_figure(summarise(runs, rng=rng), frontiers=frontiers)


def plane_figure(summary: pd.DataFrame, *, frontiers: Frontiers | None = None) -> Figure:
    """`plot_plane` of a summary."""
    styles = penalty_styles(summary["penalty"])
    parts = cases(summary)
    keys = [*style_keys(styles), Line2D([], [], **RING, color="#444444", label="largest weight")]
    if frontiers:
        keys.append(Line2D([], [], label="exact optimum", **_frontier_look(FRONTIER_COLOUR)))
    columns, lines = legend_shape(keys)
    wide = min(PLANES_IN_A_ROW, len(parts))
    tall = ceil(len(parts) / wide)
    room = 0.8 * PAGE_WIDTH / wide
    names = title_height([title for title, _ in parts], room=room)
    figure = Figure(figsize=(PAGE_WIDTH, 0.75 + LEGEND_LINE * lines + (2.0 + names) * tall), dpi=DPI)
    grid = figure.subplots(tall, wide, squeeze=False)
    for ax in grid.flat[len(parts) :]:
        ax.remove()
    for (title, rows), ax in zip(parts, grid.flat, strict=False):
        environment = rows["environment"].iloc[0]
        known = {penalty: table for (where, penalty), table in (frontiers or {}).items() if where == environment}
        plane_panel(ax, rows, styles=styles, frontiers=known)
        name_panel(ax, title, room=room)
    figure.legend(
        handles=keys,
        loc="outside upper center",
        ncols=columns,
        title="Task return against impact, in order of the penalty weight",
        title_fontproperties={"size": LARGE, "weight": "bold"},
        **legend_look(),
    )
    figure.supxlabel(interval_note(summary, styles, None), fontsize=SMALL)
    return finish(figure)


def _frontier_look(colour: str) -> dict[str, Any]:
    return {
        "color": colour,
        "linestyle": "-",
        "linewidth": 2.5,
        "marker": "o",
        "markersize": 2.5,
        "markeredgecolor": colour,
        "alpha": 0.35,
    }
