"""What all figures share: sizes, labels, the look of each penalty, layout and saving.

Figures are as wide as they are printed, a page's text (6.9 inches) or one column of two (3.35 inches), with letters of
6.5 points or more there. Functions that end in `_panel` draw into an `ax` and return it; `plot_` functions make whole
figures of them. Nothing touches pyplot or global settings, so figures can be drawn without a display and in threads.

Many penalties give precisely the same outcomes. So that no line hides another, each is moved by a few points on paper,
the same in all panels; the data inside the artists stay exact.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from textwrap import wrap
from typing import Any
from uuid import uuid4

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.transforms import ScaledTranslation, Transform

from impactrl.analysis.statistics import check_table
from impactrl.errors import ImpactError

__all__ = ["COLUMN_WIDTH", "DPI", "LABELS", "PAGE_WIDTH", "Style", "penalty_styles", "save_figure"]

PAGE_WIDTH, COLUMN_WIDTH = 6.9, 3.35  # inches: the text of a page, and one of its two columns
DPI = 150
SMALL, NORMAL, LARGE = 6.5, 7.0, 8.0  # points
_SMALL_LINE = 8.5  # points
LEGEND_LINE = 0.15  # inches
LEAST_RANGE = 0.05

LABELS = {
    "reward": "task return",
    "performance": "hidden performance",
    "side_effect": "side effects (count)",
    "side_effect_rate": "side-effect rate",
    "completed": "share of runs that\ncompleted the task",
    "impact": "impact (sum over episode)",
}
"""Axis labels of the outcomes. Return, performance and impact are sums over one episode."""

SHARES = ("side_effect_rate", "completed")

_FONT = "DejaVu Sans"
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


REFERENCE = Style("#000000", "*", (0, (4, 2)))
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_DASHES = ("-", (0, (6, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (7, 1, 1, 1, 1, 1)))
RING: dict[str, Any] = {
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
    } | {"none": REFERENCE}
    gap = min(_GAP, _SPREAD / max(1, len(labels) - 1))
    middle = (len(labels) - 1) / 2
    return {label: replace(looks[label], shift=gap * (k - middle)) for k, label in enumerate(labels)}


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


def penalties(
    table: pd.DataFrame, columns: list[str], styles: Mapping[str, Style] | None
) -> Iterator[tuple[str, Style, pd.DataFrame]]:
    """The penalties of a table of one environment and agent with their style and rows, in order of first appearance.

    Raises:
        ImpactError: a column is missing, or the table is empty or has several environments or agents.
    """
    check_table(table, ("environment", "agent", "penalty", *columns), finite=columns)
    for name in ("environment", "agent"):
        if len(found := table[name].unique()) > 1:
            raise ImpactError(f"expected the rows of one {name}, got {list(found)}")
    styles = styles or penalty_styles(table["penalty"])
    for penalty, rows in table.groupby("penalty", sort=False):
        yield str(penalty), styles[str(penalty)], rows


def cases(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The parts of a table that get panels of their own, with their titles: one for each environment and agent.

    Where there is one agent, `agent_note` names it instead of every title.
    """
    several = table["agent"].nunique() > 1
    return [
        (f"{environment}\n{agent}" if several else str(environment), rows)
        for (environment, agent), rows in table.groupby(["environment", "agent"], sort=False)
    ]


def check_choice(column: str, allowed: Sequence[str]) -> None:
    """Raises ImpactError unless the column is one of those allowed."""
    if column not in allowed:
        raise ImpactError(f"unknown column {column!r}: expected one of {', '.join(allowed)}")


def shift(ax: Axes, style: Style, *, across: float = 1) -> Transform:
    """The displacement of a style's lines."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    return ScaledTranslation(across * style.shift / 72, style.shift / 72, figure.dpi_scale_trans)


def joined(ax: Axes, x: "np.ndarray[Any, Any]", y: "np.ndarray[Any, Any]", style: Style, **options: Any) -> None:
    """Points joined by lines, displaced."""
    ax.plot(x, y, transform=ax.transData + shift(ax, style), **(look(style) | options))


def bars(
    ax: Axes, x: "np.ndarray[Any, Any]", low: "np.ndarray[Any, Any]", high: "np.ndarray[Any, Any]", style: Style
) -> None:
    """Intervals as vertical bars, displaced: one line with gaps, which is quicker to draw than many."""
    gap = np.full(len(x), np.nan)
    places, ends = np.column_stack([x, x, gap]).ravel(), np.column_stack([low, high, gap]).ravel()
    moved = ax.transData + shift(ax, style)
    ax.plot(places, ends, color=style.colour, linewidth=0.8, solid_capstyle="butt", transform=moved, label="_interval")


def look(style: Style) -> dict[str, Any]:
    """A style as keyword arguments of `Line2D`."""
    return {
        "color": style.colour,
        "linestyle": style.dashes,
        "linewidth": 1.0,
        "marker": style.marker,
        "markersize": 7.0 if style.marker == "*" else 3.4,
        "markeredgecolor": "white",
        "markeredgewidth": 0.3,
    }


def legend_look() -> dict[str, Any]:
    """Keyword arguments of all legends."""
    return {"frameon": False, "handlelength": 3.5, "columnspacing": 1.5, "prop": {"size": NORMAL}}


def legend_shape(keys: Sequence[Artist], *, width: float = PAGE_WIDTH) -> tuple[int, int]:
    """Columns and lines of a legend across the figure, with letters taken as 0.62 of the font size wide."""
    widest = max(len(str(key.get_label())) for key in keys)
    lines = ceil(len(keys) / max(1, int(72 * width / NORMAL / (0.62 * widest + 6))))
    return ceil(len(keys) / lines), lines


def style_keys(styles: Mapping[str, Style]) -> list[Line2D]:
    """Legend entries of penalties."""
    return [Line2D([], [], **look(style), label=penalty) for penalty, style in styles.items()]


def name_panel(ax: Axes, title: str, *, room: float = PAGE_WIDTH) -> None:
    """The title of a panel or row above its left end: its first line bold, the others small.

    Args:
        ax: the panel.
        title: from `cases`.
        room: inches that a line may have.
    """
    name, *more = _title_lines(title, room)
    ax.set_title(name, loc="left", fontsize=LARGE, fontweight="bold", pad=4 + len(more) * _SMALL_LINE)
    if more:
        text = "\n".join(more)
        ax.annotate(text, (0, 1), (0, 3), "axes fraction", "offset points", fontsize=SMALL, va="bottom")


def title_height(titles: Iterable[str], *, room: float = PAGE_WIDTH) -> float:
    """Inches that the small lines of the longest of some titles need."""
    return max(len(_title_lines(title, room)) - 1 for title in titles) * _SMALL_LINE / 72


def _title_lines(title: str, room: float) -> list[str]:
    name, *more = title.splitlines()
    return [name, *(piece for line in more for piece in wrap(line, int(72 * room / (0.62 * SMALL))))]


def dress(ax: Axes) -> None:
    """Grid, ticks and margins that all panels have."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(color="#e4e4e4", linewidth=0.5)
    ax.set_axisbelow(True)
    ax.tick_params(labelsize=SMALL, which="both", labelfontfamily=_FONT)
    ax.margins(x=0.06, y=0.09)
    ax.autoscale_view()
    low, high = ax.get_ylim()
    if abs(high - low) < LEAST_RANGE * 1e-3:  # equal values, up to rounding
        ax.set_ylim((low + high) / 2 - LEAST_RANGE, (low + high) / 2 + LEAST_RANGE)


def agent_note(table: pd.DataFrame) -> str:
    """The agent, where there is one that no title names."""
    agents = table["agent"].unique()
    return f"Agent: {agents[0]}. " if len(agents) == 1 else ""


def count_note(means: pd.DataFrame) -> str:
    """How many runs stand behind a point."""
    least, most = means["runs"].min(), means["runs"].max()
    count = f"{most}" if least == most else f"{least} to {most}"
    return f"{count} {'run' if most == 1 else 'runs'} per point"


def interval_note(means: pd.DataFrame, styles: Mapping[str, Style], confidence: float | None) -> str:
    """What a reader must know of points: how many runs, what the bars are (None: there are none), how far moved."""
    interval = "" if confidence is None else f" with {100 * confidence:g} % bootstrap interval"
    note = f"{agent_note(means)}{count_note(means)}, mean{interval}."
    if moved := max(style.shift for style in styles.values()):
        note += f"\nLines are moved by up to {moved:.1f} points so that equal ones do not hide each other."
    return note


def finish(figure: Figure) -> Figure:
    """Sets the font, and lays the figure out."""
    for text in figure.findobj(Text):
        text.set_fontfamily(_FONT)
    # Laid out here, once, rather than at every drawing, which would take its time and could move the axes a little.
    ConstrainedLayoutEngine().execute(figure)
    return figure
