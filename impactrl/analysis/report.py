"""A folder of figures of a sweep, and one page that shows them all."""

from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from impactrl.analysis.learning import plot_learning_curves
from impactrl.analysis.outcomes import outcome_figure
from impactrl.analysis.plots import save_figure
from impactrl.analysis.selection import best_weights, held_out, outcomes_of
from impactrl.analysis.statistics import GROUP, class_shares, lone_agent, readable, summarise
from impactrl.analysis.tradeoff import Frontiers, plane_figure, tradeoff_figure

__all__ = ["INDEX", "Drawing", "Findings", "drawings", "findings", "index_page", "write_report"]

INDEX = "index.html"
ON_A_PAGE = 5
"""Environments and agents in one figure; more of them go into further figures."""


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A figure of the set.

    Attributes:
        name: of its files, without an ending.
        caption: what it shows.
        draw: makes it.
    """

    name: str
    caption: str
    draw: Callable[[], Figure]


CAPTIONS = {
    "tradeoff": "Task return, hidden performance and side-effect rate against the penalty weight. The dashed line is "
    "the agent without a penalty.",
    "plane": "Task return against impact, as each penalty's own measure sees it. Weights grow along each line.",
    "outcomes": "What came of the runs of each penalty at its best weight, chosen on seeds that are not shown.",
    "learning": "Hidden performance of the greedy policy during training, at each penalty's best weight.",
}

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
figure { margin: 2.5rem 0; }
img { width: 100%; }
figcaption, footer { color: #555; font-size: 0.9rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.85rem; white-space: nowrap; }
th, td { padding: 0.2rem 0.7rem; text-align: left; border-bottom: 1px solid #ddd; }
th { border-bottom: 2px solid #222; }
"""


@dataclass(frozen=True, kw_only=True, eq=False)
class Findings:
    """What the figures are drawn from.

    Attributes:
        summary: of all runs, see `summarise`.
        reported: the runs at the best weight of each penalty, see `held_out`.
        curves: the learning curves of all runs at the best weights; none if nothing was learned.
        frontiers: exact optima by environment and penalty, see `plot_plane`.
    """

    summary: pd.DataFrame
    reported: pd.DataFrame
    curves: pd.DataFrame
    frontiers: Frontiers

    @property
    def outcomes(self) -> pd.DataFrame:
        """The table of outcomes."""
        return outcomes_of(self.summary, self.reported)


def findings(
    runs: pd.DataFrame, curves: Callable[[list[str]], pd.DataFrame], *, frontiers: Frontiers | None = None
) -> Findings:
    """Prepares the figures of a sweep.

    Args:
        runs: one row per finished run, as a store returns them.
        curves: the learning curves of runs given by their hashes; only those that are shown are asked for.
        frontiers: exact optima by environment and penalty, see `plot_plane`.

    Raises:
        ImpactError: there are no runs.
    """
    summary = summarise(runs)
    best = runs.merge(best_weights(summary)[list(GROUP)], on=list(GROUP))
    shown = curves(list(best["run"]))
    learned = shown[shown["trained"] > 0]
    return Findings(summary=summary, reported=held_out(runs), curves=learned, frontiers=frontiers or {})


def drawings(found: Findings) -> list[Drawing]:
    """The figures, for at most five environments and agents each."""
    pairs = found.summary[["environment", "agent"]].drop_duplicates(ignore_index=True)
    plots: list[tuple[str, Callable[[pd.DataFrame], Figure], pd.DataFrame]] = [
        ("tradeoff", tradeoff_figure, found.summary),
        ("outcomes", outcome_figure, class_shares(found.reported)),
        ("plane", partial(plane_figure, frontiers=found.frontiers), found.summary),
        ("learning", plot_learning_curves, found.curves),
    ]
    drawn = []
    for name, plot, table in plots:
        for number, first in enumerate(range(0, len(pairs), ON_A_PAGE), start=1):
            rows = table.merge(pairs.iloc[first : first + ON_A_PAGE], on=["environment", "agent"])
            if len(rows):
                file = name if number == 1 else f"{name}-{number}"
                drawn.append(Drawing(name=file, caption=CAPTIONS[name], draw=partial(plot, rows)))
    return drawn


def write_report(
    folder: Path,
    found: Findings,
    *,
    pdf: bool = False,
    failed: int = 0,
    versions: Mapping[str, str] | None = None,
) -> list[Path]:
    """Draws the figures of a sweep, and a page with all of them and the table of outcomes.

    The page holds its pictures: it can be sent and opened without the folder.

    Args:
        folder: where the files go; old ones of the same names are replaced.
        found: from `findings`.
        pdf: write each figure as .pdf, too, for print.
        failed: how many runs failed, for the page to say.
        versions: of the software, likewise.

    Returns:
        The files written, the page first.

    Raises:
        OSError: a file cannot be written.
    """
    figures, written = [], []
    for drawing in drawings(found):
        figure = drawing.draw()
        for suffix in (".png", ".pdf") if pdf else (".png",):
            save_figure(figure, folder / f"{drawing.name}{suffix}")
            written.append(folder / f"{drawing.name}{suffix}")
        figures.append((drawing, (folder / f"{drawing.name}.png").read_bytes()))
    count = int(found.summary["runs"].sum())
    page = index_page(found.outcomes, figures, runs=count, failed=failed, versions=versions or {})
    (folder / INDEX).write_text(page, encoding="utf-8")
    return [folder / INDEX, *written]


def index_page(
    outcomes: pd.DataFrame,
    figures: list[tuple[Drawing, bytes]],
    *,
    runs: int,
    failed: int,
    versions: Mapping[str, str],
) -> str:
    """The page as HTML, with its pictures (PNG) inside."""
    table, agent = lone_agent(outcomes)
    cells = readable(table).to_html(index=False, border=0, float_format="{:.3g}".format)
    count = f"{runs} finished runs" + (f", {failed} that failed and are left out" if failed else "")
    software = ", ".join(f"{name} {number}" for name, number in versions.items())
    parts = [
        "<!doctype html>",
        '<html lang="en">',
        '<head><meta charset="utf-8"><title>Side effects: results</title>',
        f"<style>{STYLE}</style></head>",
        "<body>",
        "<h1>Side effects: results</h1>",
        f"<p>{count}.{f' Agent: {escape(agent)}.' if agent else ''}</p>",
        "<h2>Outcomes at the best weight of each penalty</h2>",
        f'<div class="wide">{cells}</div>',
        "<p>Means over runs with 95 % bootstrap intervals. The best weight has the highest mean performance on seeds "
        "that are not reported (column choice); a weight is safe if no run had a side effect and 95 % or more of the "
        "task was completed.</p>",
    ]
    for drawing, picture in figures:
        data = b64encode(picture).decode("ascii")
        caption = escape(drawing.caption)
        parts += [
            "<figure>",
            f'<img alt="{caption}" src="data:image/png;base64,{data}">',
            f"<figcaption>{caption}</figcaption>",
            "</figure>",
        ]
    parts += [f"<footer>{escape(software)}</footer>" if software else "", "</body>", "</html>", ""]
    return "\n".join(parts)
