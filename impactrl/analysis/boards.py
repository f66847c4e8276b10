"""Episodes as pictures: one board after the other, with what each step did."""

from collections.abc import Mapping
from math import ceil
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from impactrl.analysis.plots import DPI, save_figure
from impactrl.mdp import TabularMDP
from impactrl.render import draw_board

__all__ = ["plot_boards", "plot_episode", "save_image"]

COLUMNS = 8
CELL_PIXELS = 64
WARNING_COLOUR = "#D55E00"
A4_WIDTH = 8.27  # inches


def plot_episode(mdp: TabularMDP, steps: pd.DataFrame, *, title: str = "") -> Figure:
    """The boards of an episode, in reading order.

    Above each board stands the step and its action; below, the hidden performance so far and the deviation that a
    penalty saw in this step. A step that changed the count of side effects is marked.

    Args:
        mdp: the compiled level.
        steps: as `impactrl.explain` returns it.
        title: of the figure.

    Returns:
        A figure with `1 + len(steps)` boards, at most 8 in a row.
    """
    first = int(mdp.start.argmax())
    boards = [first, *steps["state"]]
    columns = min(COLUMNS, len(boards))
    rows = ceil(len(boards) / columns)
    height, width = mdp.draw(mdp.states[first]).shape
    cell = 1.6 / max(height, width)
    figure = Figure(
        figsize=(max(3.0, columns * (width * cell + 0.15)), rows * (height * cell + 0.6) + 0.45), layout="constrained"
    )
    grid = figure.subplots(rows, columns, squeeze=False)
    for ax in grid.flat:
        ax.axis("off")
    count = 0.0
    for t, (state, ax) in enumerate(zip(boards, grid.flat, strict=False)):
        ax.imshow(
            draw_board(mdp.draw(mdp.states[state]), mdp.tiles, cell_size=CELL_PIXELS), interpolation="antialiased"
        )
        if t == 0:
            ax.set_title("start", fontsize=8)
            continue
        step = steps.iloc[t - 1]
        changed = step["side_effect"] - count
        count = step["side_effect"]
        note = f"performance {step['performance']:g}\nimpact {step['deviation']:.3g}"
        if changed:
            note += "\nside effect!" if changed > 0 else "\nside effect undone"
        colour = WARNING_COLOUR if changed > 0 else "black"
        ax.set_title(f"{t}: {step['action']}", fontsize=8)
        ax.text(0.5, -0.03, note, transform=ax.transAxes, ha="center", va="top", fontsize=7, color=colour)
    if title:
        figure.suptitle(title, fontsize=9, fontweight="bold")
    return figure


def plot_boards(boards: Mapping[str, NDArray[np.uint8]]) -> Figure:
    """Named pictures side by side, each under its name, at one scale.

    Args:
        boards: RGB images [height, width, 3] by name, as `draw_board` makes them with one cell size.

    Returns:
        A figure of A4 width, as many rows as needed.
    """
    columns = 5
    rows = ceil(len(boards) / columns)
    tallest = [
        max(image.shape[0] for image in list(boards.values())[row * columns : (row + 1) * columns])
        for row in range(rows)
    ]
    widest = max(image.shape[1] for image in boards.values())
    inch = widest * columns / (A4_WIDTH - 0.2)
    figure = Figure(figsize=(A4_WIDTH, sum(tallest) / inch + 0.3 * rows), dpi=DPI, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, height_ratios=tallest)
    for ax in grid.flat:
        ax.axis("off")
    for (name, image), ax in zip(boards.items(), grid.flat, strict=False):
        ax.imshow(image, interpolation="antialiased")
        ax.set(xlim=(0, widest), anchor="N")
        ax.set_title(name, fontsize=8, loc="left")
    return figure


def save_image(image: NDArray[np.uint8], path: Path) -> None:
    """Writes an RGB image [height, width, 3], pixel for pixel; otherwise as `save_figure`."""
    height, width, _ = image.shape
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    figure.figimage(image)
    save_figure(figure, path)
