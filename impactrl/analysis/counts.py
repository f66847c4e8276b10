"""Stacked bars of outcomes over the settings of a sweep, level by level, beside published ones."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from impactrl.analysis.outcomes import COLOURS
from impactrl.analysis.plots import DPI, NORMAL, PAGE_WIDTH, dress, finish, legend_look
from impactrl.analysis.statistics import CLASSES, check_table
from impactrl.errors import ImpactError

__all__ = ["count_panel", "plot_outcome_counts"]

PANEL_HEIGHT = 1.55  # inches
WIDTH = 0.86  # of the bars of one setting together
GAP = 1.2  # between levels, in settings
LABELLED = 3  # every so many settings have their name written, where names are short
SHORT = 5  # letters
COLUMNS = ("panel", "environment", "setting", "source", *CLASSES)


def count_panel(ax: Axes, counts: pd.DataFrame) -> Axes:
    """Draws a stacked bar for every setting and source, the settings of a level side by side.

    Args:
        ax: where to draw.
        counts: one row per bar: `environment`, `setting` (its name), `source`, and how many runs came to each of the
            four classes; in the order wanted. The first source is drawn plain, the others hatched.

    Returns:
        `ax`, with levels named above and settings below, and no legend.

    Raises:
        ImpactError: a missing column, an empty table, or a setting of a level that has not one row from each source.
    """
    check_table(counts, COLUMNS[1:], finite=CLASSES)
    sources, levels = counts["source"].unique(), counts["environment"].unique()
    settings = list(dict.fromkeys(counts["setting"]))
    expected = len(sources) * len(levels) * len(settings)
    if len(counts) != expected or counts.duplicated(["environment", "setting", "source"]).any():
        raise ImpactError(f"expected a row for each of {expected} levels x settings x sources, got {len(counts)}")
    place = {
        (level, setting): i * (len(settings) + GAP) + j
        for i, level in enumerate(levels)
        for j, setting in enumerate(settings)
    }
    width = WIDTH / len(sources)
    for k, source in enumerate(sources):
        rows = counts[counts["source"] == source]
        x = np.array([place[pair] for pair in zip(rows["environment"], rows["setting"], strict=True)])
        x = x + (k - (len(sources) - 1) / 2) * width
        bottom, total = np.zeros(len(rows)), rows[list(CLASSES)].sum(axis=1).to_numpy(dtype=np.float64)
        for name in CLASSES:
            height = rows[name].to_numpy(dtype=np.float64) / total
            ax.bar(
                x,
                height,
                width,
                bottom=bottom,
                color=COLOURS[name],
                hatch="////" if k else None,
                edgecolor="white",
                linewidth=0.0,
                label=name,
            )
            bottom = bottom + height
    dress(ax)
    ax.grid(visible=False, axis="x")
    for level in levels:
        middle = place[level, settings[0]] + (len(settings) - 1) / 2
        ax.annotate(
            str(level), (middle, 1), (0, 2), ("data", "axes fraction"), "offset points", fontsize=NORMAL, ha="center"
        )
    long = max(len(str(setting)) for setting in settings) > SHORT
    shown = {setting: str(setting) if long or i % LABELLED == 0 else "" for i, setting in enumerate(settings)}
    ax.set_xticks(list(place.values()), [shown[setting] for _, setting in place], rotation=90 if long else 0)
    ax.tick_params(axis="x", length=2)
    ax.set(xlim=(-1, max(place.values()) + 1), ylim=(0, 1))
    return ax


def plot_outcome_counts(counts: pd.DataFrame) -> Figure:
    """The share of runs that came to each of the four classes of outcomes, as Turner et al. (2020) show it.

    Args:
        counts: as for `count_panel`, and `panel`: the name of what is varied there.

    Returns:
        A figure of the width of a page, one panel below the other.

    Raises:
        ImpactError: as `count_panel`.
    """
    check_table(counts, COLUMNS, finite=CLASSES)
    panels = list(counts.groupby("panel", sort=False))
    figure = Figure(figsize=(PAGE_WIDTH, 0.7 + PANEL_HEIGHT * len(panels)), dpi=DPI)
    for (title, rows), ax in zip(panels, figure.subplots(len(panels), squeeze=False).flat, strict=True):
        count_panel(ax, rows)
        ax.set_xlabel(str(title), fontsize=NORMAL, labelpad=2)
        ax.set_ylabel("share of runs", fontsize=NORMAL)
    handles = [Patch(facecolor=COLOURS[name], label=name) for name in reversed(CLASSES)]
    sources = list(counts["source"].unique())
    handles += [
        Patch(facecolor="#777777", edgecolor="white", hatch="////" if k else None, linewidth=0.0, label=source)
        for k, source in enumerate(sources)
        if len(sources) > 1
    ]
    figure.legend(
        handles=handles,
        loc="outside upper center",
        ncols=len(CLASSES),
        **(legend_look() | {"handlelength": 1.2}),
    )
    return finish(figure)
