"""Where an impact measure sees impact: every state and action as a matrix, and chosen states on the board."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from impactrl.analysis.boards import agent_cell, draw_state
from impactrl.analysis.plots import DPI, LARGE, NORMAL, PAGE_WIDTH, SMALL, dress, finish, name_panel
from impactrl.errors import ImpactError

if TYPE_CHECKING:
    from impactrl.measures.impact import Impact

__all__ = ["impact_board_panel", "impact_matrix_panel", "impact_table", "plot_impact"]

COLOURS = colormaps["YlOrBr"]  # of ColorBrewer: safe for colour-blind readers, and in grey print
OVER = "#dddddd"
COLUMNS_AT_MOST = 1000
BOARDS_IN_A_ROW, BOARDS = 3, 3
MARKS = {"up": ("^", (0, -0.42)), "down": ("v", (0, 0.42)), "left": ("<", (-0.42, 0)), "right": (">", (0.42, 0))}


def impact_table(impact: "Impact") -> pd.DataFrame:
    """What each action is charged at weight 1, in expectation over its outcomes.

    Args:
        impact: a fitted penalty.

    Returns:
        One row per state of `impact.mdp`, one column per action; NaN where the episode is over.
    """
    expected = (impact.mdp.probability * impact.unit_penalty).sum(axis=2)
    expected[impact.mdp.terminal] = np.nan
    return pd.DataFrame(expected, columns=list(impact.mdp.actions))


def impact_matrix_panel(ax: Axes, impact: "Impact", *, norm: Normalize | None = None) -> Axes:
    """Draws the unit penalty of every state and action: states from left to right, actions from top to bottom.

    Args:
        ax: where to draw.
        impact: a fitted penalty. Its states, of which there may be several for a state of the task, are numbered in
            the order of discovery. Of more than 1000, neighbours share a column, which shows their largest value.
        norm: from unit penalties to colours; from 0 to the largest if None.

    Returns:
        `ax`, with labelled axes. States in which the episode is over are grey.
    """
    values = impact_table(impact).to_numpy().T
    each = -(-values.shape[1] // COLUMNS_AT_MOST)
    starts = np.arange(0, values.shape[1], each)
    shown = np.fmax.reduceat(values, starts, axis=1)
    edges = np.append(starts, values.shape[1]) - 0.5
    colours = COLOURS.with_extremes(bad=OVER)
    rows = np.arange(len(values) + 1) - 0.5
    ax.pcolormesh(edges, rows, np.ma.masked_invalid(shown), cmap=colours, norm=norm or _norm(impact), rasterized=True)
    ax.set_facecolor(OVER)
    dress(ax)
    ax.grid(visible=False)
    ax.set(xlim=(edges[0], edges[-1]), ylim=(rows[-1], rows[0]))
    ax.set_yticks(range(len(values)), impact.mdp.actions)
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel("state" if each == 1 else f"state (largest of {each} neighbours)", fontsize=NORMAL)
    return ax


def impact_board_panel(ax: Axes, impact: "Impact", state: int, *, norm: Normalize | None = None) -> Axes:
    """Draws a state's board, with the unit penalty of every action at the agent's cell and below the board.

    A triangle points where an action goes, a dot is the no-op; its colour is the unit penalty.

    Args:
        ax: where to draw.
        impact: a fitted penalty.
        state: of `impact.mdp`.
        norm: from unit penalties to colours; from 0 to the largest if None.

    Returns:
        `ax`, without ticks.

    Raises:
        ImpactError: there is no such state.
    """
    mdp = impact.mdp
    if not 0 <= state < mdp.num_states:
        raise ImpactError(f"state must be from 0 to {mdp.num_states - 1}, not {state}")
    norm = norm or _norm(impact)
    values = impact_table(impact).to_numpy()[state]
    board = mdp.draw(mdp.states[state])
    height, width = board.shape
    ax.imshow(draw_state(mdp, state), interpolation="antialiased", extent=(-0.5, width - 0.5, height - 0.5, -0.5))
    cell = agent_cell(mdp, state)
    if cell is not None and not mdp.terminal[state]:
        for action, (name, value) in enumerate(zip(mdp.actions, values, strict=True)):
            mark, (right, down) = ("o", (0, 0)) if action == mdp.noop else MARKS.get(name, ("", (0, 0)))
            if mark:
                place = ([cell[1] + right], [cell[0] + down])
                look: dict[str, Any] = {
                    "markeredgecolor": "black",
                    "markeredgewidth": 0.5,
                    "linestyle": "",
                    "clip_on": False,
                }
                ax.plot(*place, marker=mark, markersize=6.5, color=COLOURS(norm(value)), **look)
    entries = [f"{name} {value:.3g}" for name, value in zip(mdp.actions, values, strict=True)]
    half = -(-len(entries) // 2)
    note = "\n".join("   ".join(row) for row in (entries[:half], entries[half:]))
    ax.set_xlabel("the episode is over" if mdp.terminal[state] else note, fontsize=SMALL)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)
    return ax


def plot_impact(impact: "Impact", *, states: Sequence[int] | None = None, title: str = "") -> Figure:
    """What a fitted penalty charges: all states and actions as a matrix, and some states on the board.

    Args:
        impact: a fitted penalty.
        states: of `impact.mdp`, whose boards are drawn; None: the likeliest start, and the states where the
            actions differ most.
        title: of the figure; the penalty's label if empty.

    Returns:
        A figure of the width of a page.

    Raises:
        ImpactError: there is no such state.
    """
    mdp = impact.mdp
    chosen = list(_telling(impact) if states is None else states)
    norm = _norm(impact)
    rows = -(-len(chosen) // BOARDS_IN_A_ROW)
    shapes = [mdp.draw(mdp.states[state]).shape for state in chosen if 0 <= state < mdp.num_states]
    tallest = max((height / width for height, width in shapes), default=0.0)
    board = min(2.4, 0.55 + 2.1 * tallest)
    matrix = 0.55 + 0.17 * mdp.num_actions
    figure = Figure(figsize=(PAGE_WIDTH, 0.35 + matrix + rows * board), dpi=DPI)
    grid = figure.add_gridspec(1 + rows, BOARDS_IN_A_ROW, height_ratios=[matrix, *[board] * rows])
    ax = impact_matrix_panel(figure.add_subplot(grid[0, :]), impact, norm=norm)
    bar = figure.colorbar(ScalarMappable(norm, COLOURS), ax=ax, pad=0.01, fraction=0.03, use_gridspec=False)
    bar.ax.tick_params(labelsize=SMALL)
    bar.set_label("penalty at\nweight 1", fontsize=NORMAL)
    for place, state in enumerate(chosen):
        ax = figure.add_subplot(grid[1 + place // BOARDS_IN_A_ROW, place % BOARDS_IN_A_ROW])
        impact_board_panel(ax, impact, state, norm=norm)
        name_panel(ax, f"state {state}")
    figure.suptitle(title or impact.penalty.label, fontsize=LARGE, fontweight="bold")
    return finish(figure)


def _norm(impact: "Impact") -> Normalize:
    return Normalize(0, max(1e-12, float(np.nanmax(impact_table(impact).to_numpy(), initial=0.0))))


def _telling(impact: "Impact") -> NDArray[np.intp]:
    """The likeliest start, then the states where the actions differ most, ties to the first; at most three."""
    difference = np.nan_to_num(np.ptp(impact_table(impact).to_numpy(), axis=1), nan=0.0)
    difference[int(impact.mdp.start.argmax())] = np.inf
    order: NDArray[np.intp] = np.argsort(-difference, kind="stable")[:BOARDS]
    telling: NDArray[np.intp] = order[difference[order] > 0]
    return telling
