"""Bars of the four classes of outcomes: side effect or none, task completed or not."""

from math import ceil

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from impactrl.analysis.plots import (
    DPI,
    LARGE,
    NORMAL,
    PAGE_WIDTH,
    SMALL,
    agent_note,
    cases,
    count_note,
    dress,
    finish,
    legend_look,
    name_panel,
    title_height,
)
from impactrl.analysis.selection import held_out
from impactrl.analysis.statistics import CLASSES, check_table, class_shares
from impactrl.errors import ImpactError

__all__ = ["outcome_figure", "outcome_panel", "plot_outcomes"]

# Told apart by lightness, too: good is light blue, harm is dark.
COLOURS = dict(zip(CLASSES, ("#7A3B00", "#D55E00", "#BBBBBB", "#56B4E9"), strict=True))
BESIDE = 2


def outcome_panel(ax: Axes, shares: pd.DataFrame) -> Axes:
    """Draws a stacked bar for every row: the share of runs in each of the four classes.

    Args:
        ax: where to draw.
        shares: rows of one environment and agent, as `class_shares` returns them; the first comes on top.

    Returns:
        `ax`, with a bar per row, named by penalty and weight, and no legend.

    Raises:
        ImpactError: a missing column, or an empty table or one of several environments or agents.
    """
    check_table(shares, ("environment", "agent", "penalty", "weight", *CLASSES), finite=("weight", *CLASSES))
    if len(found := shares[["environment", "agent"]].drop_duplicates()) > 1:
        raise ImpactError(f"expected the rows of one environment and agent, got {found.to_numpy().tolist()}")
    place = np.arange(len(shares))[::-1]
    left = np.zeros(len(shares))
    for name in reversed(CLASSES):
        width = shares[name].to_numpy(dtype=np.float64)
        ax.barh(place, width, left=left, height=0.72, color=COLOURS[name], edgecolor="white", linewidth=0.5, label=name)
        left = left + width
    names = zip(shares["penalty"], shares["weight"], strict=True)
    labels = [str(penalty) if weight == 0 else f"{penalty}, λ = {weight:.3g}" for penalty, weight in names]
    ax.set_yticks(place, labels)
    dress(ax)
    ax.grid(visible=False, axis="y")
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    ax.set(xlim=(0, 1), ylim=(-0.6, len(shares) - 0.4))
    ax.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    ax.set_xlabel("share of runs", fontsize=NORMAL)
    return ax


def plot_outcomes(runs: pd.DataFrame) -> Figure:
    """What came of the runs of every penalty, at the weight that was best on other seeds.

    Args:
        runs: one row per run, with the columns of `GROUP` and `OUTCOMES` and `seed`.

    Returns:
        A figure of the width of a page, one panel per environment and agent, two in a row.

    Raises:
        ImpactError: as `held_out` and `class_shares`.
    """
    return outcome_figure(class_shares(held_out(runs)))


def outcome_figure(shares: pd.DataFrame) -> Figure:
    """`plot_outcomes` of the shares of its classes."""
    parts = cases(shares)
    wide = min(BESIDE, len(parts))
    tall = ceil(len(parts) / wide)
    bars = max(len(rows) for _, rows in parts)
    room = 0.6 * PAGE_WIDTH / wide
    names = title_height([title for title, _ in parts], room=room)
    figure = Figure(figsize=(PAGE_WIDTH, 0.8 + tall * (0.55 + names + 0.17 * bars)), dpi=DPI)
    grid = figure.subplots(tall, wide, squeeze=False)
    for ax in grid.flat[len(parts) :]:
        ax.remove()
    for (title, rows), ax in zip(parts, grid.flat, strict=False):
        outcome_panel(ax, rows)
        name_panel(ax, title, room=room)
    figure.legend(
        handles=[Patch(facecolor=COLOURS[name], label=name) for name in reversed(CLASSES)],
        loc="outside upper center",
        ncols=len(CLASSES),
        title="Outcomes under each penalty",
        title_fontproperties={"size": LARGE, "weight": "bold"},
        **(legend_look() | {"handlelength": 1.2}),
    )
    rule = "λ: the weight with the best mean performance on the other seeds."
    count = count_note(shares).replace("point", "bar")
    figure.supxlabel(f"{agent_note(shares)}{count}. {rule}", fontsize=SMALL)
    return finish(figure)
