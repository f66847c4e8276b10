"""The state graph drawn: components as circles, steps that cannot be undone as arrows."""

from collections import defaultdict
from collections.abc import Hashable, Mapping
from itertools import pairwise
from math import ceil, sqrt
from string import ascii_uppercase
from typing import Any, NamedTuple

import networkx as nx
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, FancyArrowPatch, Rectangle
from matplotlib.path import Path
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from impactrl.analysis.plots import DPI
from impactrl.condensing import PointOfNoReturn, condensation, main_points
from impactrl.errors import ImpactError
from impactrl.mdp import TabularMDP
from impactrl.render import draw_board

__all__ = ["plot_state_graph"]

MAX_COMPONENTS = 400
MAX_POINTS = 6
PAIRS_IN_A_ROW = 3
WIDTH = 8.27  # inches: A4 upright
LARGEST_UNIT = 0.5  # inches: the drawing is in units, and made so large at most
LINE = 0.17  # inches: of text
CELL_PIXELS = 32

# In units.
COLUMN = 2.4  # between layers
RADIUS, LEAST_RADIUS = 0.48, 0.17  # of the largest component, and the least
GAP = 0.22  # between neighbours in a layer
PASSING = 0.3  # what an arrow needs on its way past other components
LEAST_WIDTH = 13.0
SWEEPS = 12  # over the layers, for their order and again for their heights

PLAIN, HARMED = "#d6e6f2", "#f4b183"
BORDER, DONE = "#666666", "#009E73"
AGENT, ANYWAY, POINT = "#444444", "#bbbbbb", "#D55E00"
NAME: dict[str, Any] = {
    "fontsize": 6,
    "fontweight": "bold",
    "color": "white",
    "ha": "center",
    "va": "center",
    "bbox": {"boxstyle": "circle,pad=0.15", "facecolor": POINT, "linewidth": 0},
}


class Layout(NamedTuple):
    """Where things are drawn, in units.

    Attributes:
        place: x and y of each component.
        radius: of each component.
        way: [corners, 2] of each edge, from component to component.
    """

    place: dict[int, tuple[float, float]]
    radius: dict[int, float]
    way: dict[tuple[int, int], NDArray[np.float64]]


def plot_state_graph(mdp: TabularMDP, ax: Axes | None = None, *, title: str = "") -> Figure:
    """What can be undone in a level and what cannot: `impactrl.condensation`, from left to right.

    A circle is a component: situations that can all be reached from each other; its area, and its number, say how
    many. An arrow is a step that cannot be undone. Below stand the main points of no return: the boards before and
    after the step, and the share of all situations that it puts out of reach.

    Args:
        mdp: the compiled level.
        ax: where to draw; None: in a new figure.
        title: of the drawing.

    Returns:
        The figure that was drawn in.

    Raises:
        ImpactError: too many components to tell apart.
    """
    graph = condensation(mdp)
    if len(graph) > MAX_COMPONENTS:
        raise ImpactError(
            f"the state graph has {len(graph)} components; at most {MAX_COMPONENTS} can be told apart in a picture. "
            "impactrl.condensation has them all, as a networkx graph"
        )
    layout = _layout(graph)
    points = main_points(mdp, MAX_POINTS)
    corners = np.concatenate([np.array(list(layout.place.values())), *layout.way.values()])
    (left, low), (right, high) = corners.min(axis=0) - 1.0, corners.max(axis=0) + 1.0
    margin = max(0.0, LEAST_WIDTH - (right - left)) / 2
    left, right = left - margin, right + margin
    unit = min(LARGEST_UNIT, WIDTH / (right - left))
    if ax is not None:
        unit = ax.get_window_extent().width / ax.figure.dpi / (right - left)
    rows, columns = mdp.draw(mdp.states[0]).shape
    cell = (right - left) / PAIRS_IN_A_ROW
    across = 0.4 * cell * min(1.0, 1.2 * columns / rows)
    tall, line = across * rows / columns, LINE / unit
    floor = low - ceil(len(points) / PAIRS_IN_A_ROW) * (tall + 2.5 * line)
    if ax is None:
        figure = Figure(figsize=(unit * (right - left), unit * (high - floor) + 0.7), dpi=DPI, layout="constrained")
        ax = figure.subplots()
    ax.set(xlim=(left, right), ylim=(floor, high), aspect="equal")
    ax.axis("off")
    ax.set_title(title, fontsize=9, fontweight="bold")
    names = {(p.component, p.next_component): name for p, name in zip(points, ascii_uppercase, strict=False)}
    for edge in graph.edges:
        _draw_edge(ax, layout, edge, noop=graph.edges[edge]["noop"], name=names.get(edge, ""))
    for c in graph:
        _draw_component(ax, graph.nodes[c], layout.place[c], layout.radius[c], points_per_unit=72 * unit)
    for i, (point, name) in enumerate(zip(points, ascii_uppercase, strict=False)):
        row, column = divmod(i, PAIRS_IN_A_ROW)
        top = left + column * cell + 0.03 * cell, low - row * (tall + 2.5 * line)
        _draw_point(ax, mdp, point, name, top, (across, tall, line))
    _draw_legend(ax, graph)
    return ax.get_figure(root=True)  # type: ignore[return-value]


def _layout(graph: "nx.DiGraph[int]") -> Layout:
    """Layers from left to right, in each an order with few crossings (Sugiyama et al. 1981), heights near neighbours.

    On its way through a layer an edge keeps a place of its own.
    """
    largest = max(graph.nodes[c]["size"] for c in graph)
    radius = {c: max(LEAST_RADIUS, RADIUS * sqrt(graph.nodes[c]["size"] / largest)) for c in graph}
    layer_of: dict[int, int] = {c: graph.nodes[c]["layer"] for c in graph}
    layers: list[list[Hashable]] = [[] for _ in range(1 + max(layer_of.values()))]
    for c in graph:
        layers[layer_of[c]].append(c)
    before: dict[Hashable, list[Hashable]] = defaultdict(list)
    after: dict[Hashable, list[Hashable]] = defaultdict(list)
    chains: dict[tuple[int, int], list[Hashable]] = {}
    for source, target in graph.edges:
        passing = [(source, target, i) for i in range(layer_of[source] + 1, layer_of[target])]
        chains[source, target] = [source, *passing, target]
        for item in passing:
            layers[item[2]].append(item)
        for one, other in pairwise(chains[source, target]):
            after[one].append(other)
            before[other].append(one)

    _order(layers, before, after)
    y = _heights(layers, before, after, {item: 2 * r + GAP for item, r in radius.items()})
    x = {item: COLUMN * i for i, layer in enumerate(layers) for item in layer}
    return Layout(
        place={c: (x[c], y[c]) for c in graph},
        radius=radius,
        way={edge: np.array([(x[item], y[item]) for item in chain]) for edge, chain in chains.items()},
    )


def _order(
    layers: list[list[Hashable]],
    before: Mapping[Hashable, list[Hashable]],
    after: Mapping[Hashable, list[Hashable]],
) -> None:
    """Sorts every layer by the mean rank of the neighbours, those before and those after in turn."""
    rank = {item: i / len(layer) for layer in layers for i, item in enumerate(layer)}
    for sweep in range(SWEEPS):
        neighbours, direction = (before, 1) if sweep % 2 == 0 else (after, -1)
        for layer in layers[::direction]:
            wanted = {item: np.mean([rank[n] for n in neighbours.get(item, [item])]) for item in layer}
            layer.sort(key=wanted.__getitem__)
            rank.update((item, i / len(layer)) for i, item in enumerate(layer))


def _heights(
    layers: list[list[Hashable]],
    before: Mapping[Hashable, list[Hashable]],
    after: Mapping[Hashable, list[Hashable]],
    height: Mapping[Hashable, float],
) -> dict[Hashable, float]:
    """A height for every item: near its neighbours, in the order of its layer, with room around it."""
    y: dict[Hashable, float] = {}
    offsets = []
    for layer in layers:
        room = np.array([height.get(item, PASSING) for item in layer])
        offsets.append(np.cumsum(room) - room / 2)
        y.update(zip(layer, (offsets[-1] - room.sum() / 2).tolist(), strict=True))
    for sweep in range(SWEEPS):
        for i in range(len(layers))[:: 1 if sweep % 2 == 0 else -1]:
            wanted = [np.mean([y[n] for n in (*before[item], *after[item])] or [y[item]]) for item in layers[i]]
            settled = isotonic_regression(np.array(wanted) - offsets[i]).x + offsets[i]
            y.update(zip(layers[i], settled.tolist(), strict=True))
    return y


def _draw_edge(ax: Axes, layout: Layout, edge: tuple[int, int], *, noop: bool, name: str) -> None:
    source, target = edge
    way = layout.way[edge] + 0.0
    way[0, 0] += layout.radius[source]
    way[-1, 0] -= layout.radius[target]
    points, codes = [way[0]], [Path.MOVETO]
    for one, other in pairwise(way):  # level where it starts, passes a layer and ends
        middle = (one[0] + other[0]) / 2
        points += [np.array([middle, one[1]]), np.array([middle, other[1]]), other]
        codes += [Path.CURVE4] * 3
    colour = POINT if name else ANYWAY if noop else AGENT
    ax.add_patch(
        FancyArrowPatch(
            path=Path(np.array(points), codes),
            arrowstyle="-|>,head_length=2.5,head_width=1.2",
            color=colour,
            linewidth=1.2 if name else 0.7,
            linestyle=(0, (3, 2)) if noop else "-",
            zorder=3 if name else 1 if noop else 2,
        )
    )
    if name:
        one, other = way[0], way[1]
        ax.text((one[0] + other[0]) / 2, (one[1] + other[1]) / 2, name, zorder=6, **NAME)


def _draw_component(
    ax: Axes,
    component: Mapping[str, Any],
    place: tuple[float, float],
    radius: float,
    *,
    points_per_unit: float,
) -> None:
    x, y = place
    look: dict[str, Any] = {
        "facecolor": HARMED if component["side_effect"] > 0 else PLAIN,
        "edgecolor": DONE if component["completed"] else BORDER,
        "linewidth": 1.8 if component["completed"] else 0.8,
        "zorder": 4,
    }
    shape = (
        Rectangle((x - radius, y - radius), 2 * radius, 2 * radius, **look)
        if component["terminal"]
        else Circle(place, radius, **look)
    )
    ax.add_patch(shape)
    digits = str(component["size"])
    size = min(8.0, 2.4 * radius * points_per_unit / max(2, len(digits)))
    if component["size"] > 1 and size > 3:
        ax.text(x, y, digits, fontsize=size, ha="center", va="center", zorder=5)
    if component["start"]:
        ax.text(x, y + radius + 0.12, "start", fontsize=7, ha="center", va="bottom", zorder=5)


def _draw_point(
    ax: Axes,
    mdp: TabularMDP,
    point: PointOfNoReturn,
    name: str,
    corner: tuple[float, float],
    size: tuple[float, float, float],
) -> None:
    """A line of text and the boards before and after the step, under and to the right of `corner`."""
    (x, y), (across, tall, line) = corner, size
    ax.text(x + line / 2, y - line / 2, name, **NAME)
    text = f"{mdp.actions[point.action]}: {100 * point.lost:.0f} % lost"
    ax.text(x + 1.3 * line, y - line / 2, text, fontsize=7, va="center")
    y -= 1.3 * line
    for left, state in ((x, point.state), (x + 1.2 * across, point.next_state)):
        image = draw_board(mdp.draw(mdp.states[state]), mdp.tiles, cell_size=CELL_PIXELS)
        ax.imshow(image, extent=(left, left + across, y - tall, y), interpolation="antialiased", zorder=4)
    ax.text(x + 1.1 * across, y - tall / 2, "→", fontsize=9, ha="center", va="center")


def _draw_legend(ax: Axes, graph: "nx.DiGraph[int]") -> None:
    def marker(**look: Any) -> Line2D:
        plain: dict[str, Any] = {
            "marker": "o",
            "markersize": 7,
            "linestyle": "",
            "markerfacecolor": PLAIN,
            "markeredgecolor": BORDER,
        }
        return Line2D([], [], **(plain | look))

    nodes, edges = [data for _, data in graph.nodes(data=True)], [data for _, _, data in graph.edges(data=True)]
    keys = [
        (True, marker(label="can be undone within it")),
        (any(c["side_effect"] > 0 for c in nodes), marker(markerfacecolor=HARMED, label="after a side effect")),
        (any(c["completed"] for c in nodes), marker(markeredgecolor=DONE, markeredgewidth=1.8, label="task done")),
        (any(c["terminal"] for c in nodes), marker(marker="s", label="episode over")),
        (any(not e["noop"] for e in edges), Line2D([], [], color=AGENT, linewidth=0.9, label="the agent's doing")),
        (
            any(e["noop"] for e in edges),
            Line2D([], [], color=ANYWAY, linewidth=0.9, linestyle=(0, (3, 2)), label="also if it does nothing"),
        ),
        (bool(edges), Line2D([], [], color=POINT, linewidth=1.4, label="main points of no return")),
    ]
    ax.legend(
        handles=[key for shown, key in keys if shown],
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        ncols=4,
        frameon=False,
        fontsize=7,
        handletextpad=0.5,
        columnspacing=1.2,
    )
