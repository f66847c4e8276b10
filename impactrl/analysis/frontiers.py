"""Figures of exact frontiers: what the optimum does at every weight, and where it is safe."""

from collections.abc import Mapping
from itertools import chain
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator

from impactrl.analysis.plots import (
    DPI,
    LABELS,
    LARGE,
    NORMAL,
    PAGE_WIDTH,
    SMALL,
    Style,
    dress,
    finish,
    penalty_styles,
    shift,
)
from impactrl.analysis.statistics import OUTCOMES
from impactrl.errors import ImpactError, require_known

if TYPE_CHECKING:
    from impactrl.agents.frontier import Frontier

__all__ = ["plot_frontier", "step_panel", "window_panel", "windows_text"]

SHOWN = ("reward", "performance", "side_effect")
COUNTS = ("side_effect", "completed")  # shown from 0 to 1 at least
LABEL_WIDTH = 28  # letters in a line of a row's label
MARGIN = 3.0  # the axis goes on for this factor beyond the outermost critical weights


def step_panel(
    ax: Axes, frontiers: "Mapping[str, Frontier]", column: str, *, styles: Mapping[str, Style] | None = None
) -> Axes:
    """Draw one expected column of the optimum against the penalty weight, on a logarithmic axis.

    Args:
        ax: Where to draw.
        frontiers: By the label of their penalty, all of one task.
        column: One of the five of `impactrl.analysis.statistics.OUTCOMES`.
        styles: Style of each penalty; `penalty_styles` of the labels if None.

    Returns:
        `ax`, with labelled axes and no legend.

    Raises:
        ImpactError: If the column is unknown, or there are no frontiers.
    """
    require_known("column", column, OUTCOMES)
    styles = styles or penalty_styles(frontiers)
    low, high = _limits(frontiers)
    for label, frontier in frontiers.items():
        values = frontier.intervals[column].to_numpy(dtype=np.float64)
        edges = np.array([low, *frontier.weights, high])
        style = styles[label]
        moved = ax.transData + shift(ax, style, across=0)
        steps = np.append(values, values[-1])
        ax.plot(
            edges,
            steps,
            drawstyle="steps-post",
            color=style.colour,
            linestyle=style.dashes,
            linewidth=1.2,
            label=label,
            transform=moved,
        )
        ax.update_datalim(np.column_stack([edges, steps]))
    if column in COUNTS:
        ax.update_datalim([(low, 0), (low, 1)])
    ax.set_ylabel(LABELS[column], fontsize=NORMAL)
    dress(ax)
    _weight_axis(ax, low, high)
    return ax


def window_panel(ax: Axes, frontiers: "Mapping[str, Frontier]", *, styles: Mapping[str, Style] | None = None) -> Axes:
    """Draw the safe windows of each penalty as bars, one row each, with their limits beside them.

    Args:
        ax: Where to draw.
        frontiers: By the label of their penalty, all of one task.
        styles: Style of each penalty; `penalty_styles` of the labels if None. The thin line of a row shows it.

    Returns:
        `ax`, with labelled axes.

    Raises:
        ImpactError: If there are no frontiers.
    """
    styles = styles or penalty_styles(frontiers)
    low, high = _limits(frontiers)
    for row, (label, frontier) in enumerate(frontiers.items()):
        style = styles[label]
        ax.plot([low, high], [row, row], color=style.colour, linestyle=style.dashes, linewidth=1.2, label=label)
        for lower, upper in frontier.safe_windows:
            begin, end = max(lower, low), min(upper, high)
            ax.barh(row, end - begin, left=begin, height=0.62, color=style.colour)
        ax.text(1.01, row, windows_text(frontier), transform=ax.get_yaxis_transform(), va="center", fontsize=SMALL)
    ax.set_yticks(range(len(frontiers)), [fill(label, LABEL_WIDTH) for label in frontiers])
    dress(ax)
    ax.set_ylim(len(frontiers) - 0.4, -0.6)
    _weight_axis(ax, low, high)
    ax.set_xlabel("penalty weight λ", fontsize=NORMAL)
    return ax


def plot_frontier(frontiers: "Mapping[str, Frontier]", *, title: str = "") -> Figure:
    """What the optimum does at every weight of one or several penalties, and the weights at which it is safe.

    Args:
        frontiers: By the label of their penalty, all of one task.
        title: Above the figure, the name of the level for example.

    Returns:
        A figure of the width of a page: task return, hidden performance and side effects against the weight, and below
        them, on the same axis, the safe windows as bars.

    Raises:
        ImpactError: If there are no frontiers.
    """
    styles = penalty_styles(frontiers)
    lines = max((fill(label, LABEL_WIDTH).count("\n") for label in frontiers), default=0)
    rows = 0.4 + (0.21 + 0.11 * lines) * len(frontiers)
    figure = Figure(figsize=(PAGE_WIDTH, 0.75 + 1.35 * len(SHOWN) + rows), dpi=DPI)
    axes = figure.subplots(len(SHOWN) + 1, 1, sharex=True, height_ratios=[1.35] * len(SHOWN) + [rows])
    for ax, column in zip(axes, SHOWN, strict=False):
        step_panel(ax, frontiers, column, styles=styles)
    window_panel(axes[-1], frontiers, styles=styles)
    axes[-1].set_title("Bars: no side effect, and the task is completed", loc="left", fontsize=NORMAL)
    figure.suptitle(title or "The optimum at every weight", fontsize=LARGE, fontweight="bold")
    note = "Exact, no learning. What reaches an edge of the panels goes on to weight 0 or to infinity."
    if moved := max(style.shift for style in styles.values()):
        note += f"\nLines are moved up or down by up to {moved:.0f} points so that equal ones do not hide each other."
    figure.supxlabel(note, fontsize=SMALL)
    return finish(figure)


def windows_text(frontier: "Frontier") -> str:
    """The safe windows as text, with en dashes (3.273 to 193.5, with a dash); "none" if there are none."""
    texts = [f"{lower:.4g} \N{EN DASH} {upper:.4g}" for lower, upper in frontier.safe_windows]
    return ", ".join(texts).replace("inf", "∞") or "none"


def _limits(frontiers: "Mapping[str, Frontier]") -> tuple[float, float]:
    """Ends of an axis with room for all critical weights."""
    if not frontiers:
        raise ImpactError("expected at least one frontier, by the label of its penalty, got none")
    weights = list(chain.from_iterable(frontier.weights for frontier in frontiers.values()))
    return (min(weights) / MARGIN, max(weights) * MARGIN) if weights else (0.1, 10.0)


def _weight_axis(ax: Axes, low: float, high: float) -> None:
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(numticks=12))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda weight, _: f"{weight:g}"))
    ax.minorticks_off()
    ax.set_xlim(low, high)
