"""Boards as pictures: episodes step by step, paths of the agent and of the baseline, sheets of levels."""

from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from impactrl.analysis.plots import COLUMN_WIDTH, DPI, LARGE, NORMAL, PAGE_WIDTH, name_panel, save_figure
from impactrl.errors import ImpactError, require_known
from impactrl.mdp import TabularMDP
from impactrl.render import draw_board, draw_path

__all__ = ["agent_cell", "draw_state", "path_panel", "plot_boards", "plot_episode", "plot_paths", "save_image"]

COLUMNS = 8
CELL_PIXELS = 64
WARNING_COLOUR = "#D55E00"
PATH_COLOUR = "#D55E00"
BASELINES = ("start", "inaction", "stepwise")


def draw_state(mdp: TabularMDP, state: int) -> NDArray[np.uint8]:
    """The picture of a state's board, RGB [height, width, 3]."""
    return draw_board(mdp.draw(mdp.states[state]), mdp.tiles, cell_size=CELL_PIXELS)


def agent_cell(mdp: TabularMDP, state: int) -> tuple[int, int] | None:
    """Row and column of the agent on a state's board; None where the board shows none."""
    board = mdp.draw(mdp.states[state])
    shown = np.isin(board, [ord(character) for character, sprite in mdp.tiles.items() if sprite == "agent"])
    places = np.argwhere(shown)
    return (int(places[0][0]), int(places[0][1])) if len(places) else None


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

    Raises:
        ImpactError: the task has several first states, and the table does not say which it was.
    """
    first = _first_state(mdp, steps)
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
        ax.imshow(draw_state(mdp, state), interpolation="antialiased")
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


def path_panel(ax: Axes, mdp: TabularMDP, states: Sequence[int]) -> Axes:
    """Draws the board of the last of some states, and on it the agent's path through all of them.

    The path starts at the dot and ends at the arrow head.

    Args:
        ax: where to draw.
        mdp: the compiled level.
        states: ids, in the order of time.

    Returns:
        `ax`, without ticks.
    """
    cells = [cell for state in states if (cell := agent_cell(mdp, state)) is not None]
    image = draw_path(draw_state(mdp, states[-1]), cells, cell_size=CELL_PIXELS, colour=PATH_COLOUR)
    ax.imshow(image, interpolation="antialiased")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)
    return ax


def plot_paths(mdp: TabularMDP, steps: pd.DataFrame, *, baseline: str = "inaction", title: str = "") -> Figure:
    """The agent's path on the level, and beside it that of the baseline which its states are compared with.

    Boards show the last state of each, so that what the agent changed can be seen beside what happens without it.
    Where chance decides, the baseline takes the likeliest outcome.

    Args:
        mdp: the compiled level.
        steps: as `impactrl.explain` returns it.
        baseline: "start": the first state; "inaction": the states after as many no-ops from the first; "stepwise": in
            each step the state after a no-op instead of it.
        title: of the figure.

    Returns:
        A figure of the width of a column.

    Raises:
        ImpactError: another baseline, a task without a no-op, or as `plot_episode`.
    """
    require_known("baseline with a path", baseline, BASELINES)
    path = [_first_state(mdp, steps), *(int(state) for state in steps["state"])]
    compared = _baseline_states(mdp, path, baseline)
    height, width = mdp.draw(mdp.states[path[0]]).shape
    figure = Figure(figsize=(COLUMN_WIDTH, 0.75 + 1.6 * height / width), dpi=DPI, layout="constrained")
    left, right = figure.subplots(1, 2)
    for ax, name, states in ((left, "the agent", path), (right, f"baseline: {baseline}", compared)):
        path_panel(ax, mdp, states)
        name_panel(ax, name)
        ax.set_xlabel(f"after {len(steps)} steps", fontsize=NORMAL)
    if title:
        figure.suptitle(title, fontsize=LARGE, fontweight="bold")
    return figure


def _baseline_states(mdp: TabularMDP, path: Sequence[int], baseline: str) -> list[int]:
    if baseline == "start":
        return [path[0]] * len(path)
    if mdp.noop is None:
        raise ImpactError(f"the baseline {baseline!r} needs a no-op, and this task has none")
    idle = mdp.next_state[np.arange(mdp.num_states), mdp.noop, mdp.probability[:, mdp.noop].argmax(axis=1)]
    states = [path[0]]
    for state in path[:-1]:
        states.append(int(idle[states[-1] if baseline == "inaction" else state]))
    return states


def _first_state(mdp: TabularMDP, steps: pd.DataFrame) -> int:
    """The state that an episode began with."""
    if "start" in steps.attrs:
        return int(steps.attrs["start"])
    starts = np.flatnonzero(mdp.start)
    if len(starts) > 1:
        raise ImpactError(
            f'the task has {len(starts)} first states; the steps must say which it was, in steps.attrs["start"], as '
            "those of impactrl.explain do"
        )
    return int(starts[0])


def plot_boards(boards: Mapping[str, NDArray[np.uint8]]) -> Figure:
    """Named pictures side by side, each under its name, at one scale.

    Args:
        boards: RGB images [height, width, 3] by name, as `draw_board` makes them with one cell size.

    Returns:
        A figure of the width of a page, as many rows as needed.
    """
    columns = 5
    rows = ceil(len(boards) / columns)
    tallest = [
        max(image.shape[0] for image in list(boards.values())[row * columns : (row + 1) * columns])
        for row in range(rows)
    ]
    widest = max(image.shape[1] for image in boards.values())
    inch = widest * columns / (PAGE_WIDTH - 0.2)
    figure = Figure(figsize=(PAGE_WIDTH, sum(tallest) / inch + 0.3 * rows), dpi=DPI, layout="constrained")
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
