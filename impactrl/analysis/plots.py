"""Figures of finished runs: outcomes against the penalty weight, and learning curves.

Estimates come from `impactrl.analysis.statistics`. The panel functions take such a table for one
environment and an `ax`, draw, and return the `ax`. Nothing touches pyplot or global settings, so figures
can be drawn without a display and in threads.

Many penalties give precisely the same outcomes. So that no line hides another, each is moved by a few
points on paper, the same in all panels; the data inside the artists stay exact.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator
from matplotlib.transforms import ScaledTranslation, Transform

from impactrl.analysis.statistics import (
    GROUP,
    OUTCOMES,
    SUMMARISED,
    FloatArray,
    best_weights,
    check_one_agent,
    check_table,
    mean_table,
    summarise,
)
from impactrl.errors import ImpactError

LABELS = {
    "reward": "task return",
    "performance": "hidden performance",
    "side_effect": "side effects (count)",
    "side_effect_rate": "share of runs with\nthe side effect",
    "completed": "share of runs that\ncompleted the task",
    "impact": "impact (sum over episode)",
}
"""Axis labels of the outcomes. Return, performance and impact are sums over one episode."""

_FONT = "DejaVu Sans"
_WIDTH, _LINE = 8.27, 0.16  # inches: A4 upright, and one line of a legend
DPI = 150
_SMALL, _NORMAL, _LARGE = 6.5, 7.5, 9.5  # points
_SHARES = ("side_effect_rate", "completed")
_METADATA: dict[str, dict[str, Any]] = {
    ".png": {"Software": None},
    ".pdf": {"CreationDate": None},
    ".svg": {"Date": None},
}


@dataclass(frozen=True)
class Style:
    """How one penalty looks in every panel.

    Attributes:
        colour: From the palette of Okabe and Ito, whose colours colour-blind readers can tell apart.
        marker: Matplotlib marker.
        dashes: Matplotlib line style.
        shift: Displacement to the right and upwards, in points, that keeps equal lines apart.
    """

    colour: str
    marker: str
    dashes: Any
    shift: float = 0.0


_REFERENCE = Style("#000000", "*", (0, (4, 2)))
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_DASHES = ("-", (0, (6, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (7, 1, 1, 1, 1, 1)))
_RING: dict[str, Any] = {
    "marker": "o",
    "markersize": 7.0,
    "fillstyle": "none",
    "markeredgewidth": 0.9,
    "linestyle": "",
}
_GAP, _SPREAD = 1.2, 8.0  # points between neighbouring lines, and between the outermost at most


def penalty_styles(penalties: Iterable[str]) -> dict[str, Style]:
    """One style per distinct label, in order of first appearance; "none" is black, dashed, with a star.

    Colours, markers and dashes repeat after 6, 7 and 5 labels, so no two of 210 penalties look the same.
    """
    labels = list(dict.fromkeys(penalties))
    others = [label for label in labels if label != "none"]
    looks = {
        label: Style(_COLOURS[k % len(_COLOURS)], _MARKERS[k % len(_MARKERS)], _DASHES[k % len(_DASHES)])
        for k, label in enumerate(others)
    } | {"none": _REFERENCE}
    gap = min(_GAP, _SPREAD / max(1, len(labels) - 1))
    middle = (len(labels) - 1) / 2
    return {label: replace(looks[label], shift=gap * (k - middle)) for k, label in enumerate(labels)}


def tradeoff_panel(ax: Axes, summary: pd.DataFrame, column: str, *, styles: Mapping[str, Style] | None = None) -> Axes:
    """Draw one outcome against the penalty weight, on a logarithmic axis: means joined, intervals as bars.

    Weight 0 has no place on that axis: it becomes a dashed horizontal line over its interval.

    Args:
        ax: Where to draw.
        summary: Rows of one environment, as `summarise` returns them.
        column: One of `SUMMARISED`.
        styles: Style of each penalty; `penalty_styles` of the table if None.

    Returns:
        `ax`, with labelled axes and no legend.

    Raises:
        ImpactError: If the column is unknown or missing, or the table is empty or has several environments.
    """
    _check_choice(column, SUMMARISED)
    ends = [f"{column}_low", f"{column}_high"]
    for penalty, style, rows in _penalties(summary, ["weight", column, *ends], styles):
        for mean, low, high in rows.loc[rows["weight"] == 0, [column, *ends]].to_numpy(dtype=np.float64):
            across = ax.get_yaxis_transform() + _shift(ax, style, across=0)
            ax.axhspan(low, high, color=style.colour, alpha=0.12, linewidth=0).set_transform(across)
            line = ax.axhline(mean, color=style.colour, linestyle=_REFERENCE.dashes, linewidth=1, label=penalty)
            line.set_transform(across)
        weight, mean, low, high = rows.loc[rows["weight"] > 0, ["weight", column, *ends]].to_numpy(np.float64).T
        moved = ax.transData + _shift(ax, style)
        ax.vlines(weight, low, high, color=style.colour, linewidth=0.8, transform=moved)
        _joined(ax, weight, mean, style, label=penalty)
        # Artists that are not drawn in plain data coordinates do not count for the limits by themselves.
        ax.update_datalim(np.column_stack([np.tile(weight, 2), np.concatenate([low, high])]))
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(numticks=6))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda weight, _: f"{weight:g}"))
    ax.minorticks_off()
    ax.set_xlabel("penalty weight λ", fontsize=_NORMAL)
    ax.set_ylabel(LABELS[column], fontsize=_NORMAL)
    _dress(ax)
    if column in _SHARES:
        ax.set_ylim(-0.09, 1.09)
        ax.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    return ax


def plane_panel(ax: Axes, summary: pd.DataFrame, *, styles: Mapping[str, Style] | None = None) -> Axes:
    """Draw mean task return against mean impact, the points of a penalty joined in order of weight.

    A ring marks the largest weight of each line, a star weight 0.

    Args:
        ax: Where to draw.
        summary: Rows of one environment, as `summarise` returns them.
        styles: Style of each penalty; `penalty_styles` of the table if None.

    Returns:
        `ax`, with labelled axes and no legend.

    Raises:
        ImpactError: If a column is missing, or the table is empty or has several environments.
    """
    for penalty, style, rows in _penalties(summary, ["weight", "impact", "reward"], styles):
        points = rows.sort_values("weight")[["weight", "impact", "reward"]].to_numpy(dtype=np.float64)
        for zero in (True, False):
            _, impact, reward = points[(points[:, 0] == 0) == zero].T
            _joined(ax, impact, reward, replace(style, marker="*") if zero else style, label=penalty)
            if not zero:
                _joined(ax, impact[-1:], reward[-1:], style, markeredgecolor=style.colour, **_RING)
        ax.update_datalim(points[:, 1:])
    ax.set_xlabel(LABELS["impact"], fontsize=_NORMAL)
    ax.set_ylabel(LABELS["reward"], fontsize=_NORMAL)
    ax.xaxis.set_major_locator(MaxNLocator(4))
    _dress(ax)
    return ax


def curve_panel(ax: Axes, means: pd.DataFrame, column: str, *, styles: Mapping[str, Style] | None = None) -> Axes:
    """Draw one outcome against the training episode: a line and a light band per penalty and weight.

    Args:
        ax: Where to draw.
        means: Rows of one environment: `mean_table` by `GROUP` and `episode`.
        column: One of `OUTCOMES`.
        styles: Style of each penalty; `penalty_styles` of the table if None.

    Returns:
        `ax`, with labelled axes and lines, and no legend.

    Raises:
        ImpactError: If the column is unknown or missing, or the table is empty or has several environments.
    """
    _check_choice(column, OUTCOMES)
    shown = ["episode", column, f"{column}_low", f"{column}_high"]
    for k, (penalty, style, rows) in enumerate(_penalties(means, ["weight", *shown], styles)):
        for weight, line in rows.groupby("weight"):
            episode, mean, low, high = line.sort_values("episode")[shown].to_numpy(dtype=np.float64).T
            every = max(1, len(episode) // 8)
            moved = ax.transData + _shift(ax, style)
            ax.fill_between(episode, low, high, color=style.colour, alpha=0.12, linewidth=0, transform=moved)
            label = penalty if weight == 0 else f"{penalty}, λ = {weight:.3g}"
            _joined(ax, episode, mean, style, label=label, markevery=(k % every, every))
            ax.update_datalim(np.column_stack([np.tile(episode, 2), np.concatenate([low, high])]))
    ax.set_xlabel("training episode", fontsize=_NORMAL)
    ax.set_ylabel(LABELS[column], fontsize=_NORMAL)
    _dress(ax)
    return ax


def plot_tradeoff(runs: pd.DataFrame, *, confidence: float = 0.95) -> Figure:
    """What the penalty weight does to task return, hidden performance and side effects.

    Args:
        runs: One row per run, as for `summarise`.
        confidence: Probability mass of the bootstrap intervals, in (0, 1).

    Returns:
        A figure of A4 width, one row per environment, four panels in each: task return, hidden
        performance and share of runs with the side effect against the weight, and task return against
        impact.

    Raises:
        ImpactError: As `summarise`.
    """
    summary = summarise(runs, confidence=confidence)
    styles = penalty_styles(summary["penalty"])
    environments = summary["environment"].unique()
    keys = [Line2D([], [], **_look(style), label=penalty) for penalty, style in styles.items()]
    keys.append(Line2D([], [], **_RING, color="#444444", label="largest weight"))
    columns, lines = _legend_shape(keys)
    height = 0.8 + _LINE * lines + 1.7 * len(environments)
    figure = Figure(figsize=(_WIDTH, height), dpi=DPI)
    grid = figure.subplots(len(environments), 4, squeeze=False)
    for environment, row in zip(environments, grid, strict=True):
        rows = summary[summary["environment"] == environment]
        for ax, column in zip(row, ("reward", "performance", "side_effect_rate"), strict=False):
            tradeoff_panel(ax, rows, column, styles=styles)
        plane_panel(row[3], rows, styles=styles)
        _name_row(row[0], environment)
    for ax in grid[:-1].flat:
        ax.set_xlabel("")
    figure.legend(
        handles=keys,
        loc="outside upper center",
        ncols=columns,
        title="Task return, hidden performance and side effects under each penalty",
        title_fontproperties={"size": _LARGE, "weight": "bold"},
        **_legend_look(),
    )
    figure.supxlabel(_note(summary, styles, confidence), fontsize=_SMALL)
    return _finish(figure)


def plot_learning_curves(
    curves: pd.DataFrame,
    *,
    column: str = "performance",
    weights: Mapping[str, float] | None = None,
    confidence: float = 0.95,
) -> Figure:
    """How an outcome develops during training, for each penalty at one weight.

    Args:
        curves: One row per run and evaluation, with the columns `run`, `episode` and those of `GROUP`,
            `column` and `performance`; runs of one agent.
        column: One of `OUTCOMES`.
        weights: Weight shown for a penalty, in all environments. Penalties left out are shown, in each
            environment, at the weight with the best mean performance at the end of training, ties to the
            lowest.
        confidence: Probability mass of the bootstrap intervals over runs, in (0, 1).

    Returns:
        A figure of A4 width, one row and one legend per environment.

    Raises:
        ImpactError: If a name or weight is unknown, a column is missing, the table is empty, a value is
            not finite or agents are mixed.
    """
    _check_choice(column, OUTCOMES)
    numbers = dict.fromkeys(("weight", "episode", "performance", column))
    check_table(curves, ("run", *GROUP, *numbers), finite=numbers)
    check_one_agent(curves)
    chosen = _choose_weights(curves, weights or {})
    means = mean_table(
        curves.merge(chosen, on=list(GROUP)), by=(*GROUP, "episode"), columns=(column,), confidence=confidence
    )
    styles = penalty_styles(curves["penalty"])
    environments = means["environment"].unique()
    height = 0.7 + max(1.8, 0.4 + _LINE * len(styles)) * len(environments)
    figure = Figure(figsize=(_WIDTH, height), dpi=DPI)
    grid = figure.subplots(len(environments), 1, squeeze=False, sharex=True)[:, 0]
    for environment, ax in zip(environments, grid, strict=True):
        curve_panel(ax, means[means["environment"] == environment], column, styles=styles)
        ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), **_legend_look())
        _name_row(ax, environment)
    for ax in grid[:-1]:
        ax.set_xlabel("")
    quantity = LABELS[column].replace("\n", " ")
    figure.suptitle(f"Learning curves: {quantity} during training", fontsize=_LARGE, fontweight="bold")
    note = _note(means, styles, confidence)
    if not set(styles) <= {"none", *(weights or {})}:
        rule = "the weight with the best mean performance at the end of training"
        note += f"\nλ: {'unless given, ' if weights else ''}{rule}."
    figure.supxlabel(note, fontsize=_SMALL)
    return _finish(figure)


def save_figure(fig: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure whole or not at all; equal figures give equal PNG and PDF bytes (SVG names are random).

    Args:
        fig: Any figure.
        path: Ends in .png (150 dots per inch), .pdf or .svg. An old file of that name is replaced.

    Raises:
        ImpactError: If the suffix is another.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in _METADATA:
        raise ImpactError(f"expected a path ending in one of {sorted(_METADATA)}, got {path.name!r}")
    draft = path.with_name(f".{path.stem}-{uuid4().hex}{suffix}")
    try:
        fig.savefig(draft, format=suffix[1:], dpi=DPI, metadata=_METADATA[suffix])
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def _choose_weights(curves: pd.DataFrame, weights: Mapping[str, float]) -> pd.DataFrame:
    """One row of `GROUP` per environment and penalty: with the given weight, else the best at the end."""
    last = curves.sort_values("episode", kind="stable").drop_duplicates("run", keep="last")
    final = mean_table(last, by=GROUP, columns=("performance",))
    if unknown := sorted(set(weights) - set(final["penalty"])):
        raise ImpactError(f"unknown penalties {unknown} in weights: expected some of {list(final['penalty'].unique())}")
    for (environment, penalty), tried in final.groupby(["environment", "penalty"], sort=False)["weight"]:
        wanted = weights.get(str(penalty))
        if wanted is not None and not np.isclose(tried, wanted).any():
            grid = ", ".join(f"{weight:g}" for weight in tried)
            came = f"{penalty!r} in {environment!r} at weight {wanted:g}"
            raise ImpactError(f"no runs of {came}: expected one of the weights {grid}")
    given = final["penalty"].map(dict(weights)).astype(float)
    return best_weights(final[given.isna() | np.isclose(final["weight"], given)])[list(GROUP)]


def _penalties(
    table: pd.DataFrame, columns: list[str], styles: Mapping[str, Style] | None
) -> Iterator[tuple[str, Style, pd.DataFrame]]:
    """The penalties of a table of one environment with their style and rows, in order of first appearance."""
    check_table(table, ("environment", "penalty", *columns), finite=columns)
    if len(environments := table["environment"].unique()) > 1:
        raise ImpactError(f"expected the rows of one environment, got {list(environments)}")
    styles = styles or penalty_styles(table["penalty"])
    for penalty, rows in table.groupby("penalty", sort=False):
        yield str(penalty), styles[str(penalty)], rows


def _check_choice(column: str, allowed: tuple[str, ...]) -> None:
    if column not in allowed:
        raise ImpactError(f"unknown column {column!r}: expected one of {', '.join(allowed)}")


def _shift(ax: Axes, style: Style, *, across: float = 1) -> Transform:
    return ScaledTranslation(across * style.shift / 72, style.shift / 72, ax.figure.dpi_scale_trans)


def _joined(ax: Axes, x: FloatArray, y: FloatArray, style: Style, **options: Any) -> None:
    ax.plot(x, y, transform=ax.transData + _shift(ax, style), **(_look(style) | options))


def _look(style: Style) -> dict[str, Any]:
    return {
        "color": style.colour,
        "linestyle": style.dashes,
        "linewidth": 1.0,
        "marker": style.marker,
        "markersize": 8.0 if style.marker == "*" else 3.8,
        "markeredgecolor": "white",
        "markeredgewidth": 0.3,
    }


def _legend_look() -> dict[str, Any]:
    return {"frameon": False, "handlelength": 3.5, "columnspacing": 1.5, "prop": {"size": _NORMAL}}


def _legend_shape(keys: list[Line2D]) -> tuple[int, int]:
    """Columns and lines of a legend across the figure, with letters taken as 0.62 of the font size wide."""
    widest = max(len(str(key.get_label())) for key in keys)
    lines = ceil(len(keys) / max(1, int(72 * _WIDTH / _NORMAL / (0.62 * widest + 6))))
    return ceil(len(keys) / lines), lines


def _name_row(ax: Axes, environment: str) -> None:
    ax.set_title(environment, loc="left", fontsize=_NORMAL + 1, fontweight="bold")


def _dress(ax: Axes) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(color="#e4e4e4", linewidth=0.5)
    ax.set_axisbelow(True)
    ax.tick_params(labelsize=_SMALL, which="both", labelfontfamily=_FONT)
    ax.margins(x=0.06, y=0.09)
    ax.autoscale_view()


def _note(means: pd.DataFrame, styles: Mapping[str, Style], confidence: float) -> str:
    """What a reader must know of the points: how many runs, what the bars are, how far lines are moved."""
    least, most = means["runs"].min(), means["runs"].max()
    count = f"{most}" if least == most else f"{least} to {most}"
    unit = "run" if most == 1 else "runs"
    note = f"{count} {unit} per point, mean with {100 * confidence:g} % bootstrap interval."
    if moved := max(style.shift for style in styles.values()):
        note += f" Lines are moved by up to {moved:.0f} points so that equal ones do not hide each other."
    return note


def _finish(figure: Figure) -> Figure:
    for text in figure.findobj(Text):
        text.set_fontfamily(_FONT)
    # Laid out here rather than at every drawing, which would move the axes a little each time: the second
    # pass is a fixed point.
    layout = ConstrainedLayoutEngine()
    layout.execute(figure)
    layout.execute(figure)
    return figure
