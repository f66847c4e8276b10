"""The picture of a state graph."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, Rectangle
from random_mdps import level, steps

from impactrl.analysis.graphs import DONE, HARMED, PLAIN, plot_state_graph
from impactrl.analysis.plots import save_figure
from impactrl.compile import compile_mdp
from impactrl.condensing import condensation
from impactrl.errors import ImpactError

LEVELS = ["Options", "Interference", "Offset", "SushiGoal2", "Damage"]


def shapes(ax, kind):
    return [patch for patch in ax.patches if type(patch) is kind]


def colour(patch, face=True):
    rgb = patch.get_facecolor() if face else patch.get_edgecolor()
    return "#" + "".join(f"{round(255 * c):02x}" for c in rgb[:3])


@pytest.mark.parametrize("name", LEVELS)
def test_every_component_and_every_edge_is_drawn(name):
    graph = condensation(level(name))
    (ax,) = plot_state_graph(level(name)).axes
    ends = [c for _, c in graph.nodes(data=True) if c["terminal"]]
    others = [c for _, c in graph.nodes(data=True) if not c["terminal"]]
    assert len(shapes(ax, Rectangle)) == len(ends)
    assert len(shapes(ax, Circle)) == len(others)
    assert len(shapes(ax, FancyArrowPatch)) == graph.number_of_edges()
    drawn = shapes(ax, Circle) + shapes(ax, Rectangle)
    for kind, c in ((HARMED, True), (PLAIN, False)):
        assert sum(colour(p) == kind for p in drawn) == sum((d["side_effect"] > 0) == c for d in ends + others)
    assert sum(colour(p, face=False) == DONE.lower() for p in drawn) == sum(d["completed"] for d in ends + others)


@pytest.mark.parametrize("name", LEVELS)
def test_components_are_in_layers_from_left_to_right_and_apart(name):
    graph = condensation(level(name))
    (ax,) = plot_state_graph(level(name)).axes
    circles = {(c.center, c.radius) for c in shapes(ax, Circle)}
    squares = {
        ((r.get_x() + r.get_width() / 2, r.get_y() + r.get_height() / 2), r.get_width() / 2)
        for r in shapes(ax, Rectangle)
    }
    places = sorted(circles | squares)
    assert len(places) == len(graph)
    assert len({round(x, 6) for (x, _), _ in places}) == 1 + max(c["layer"] for _, c in graph.nodes(data=True))
    for i, ((x, y), radius) in enumerate(places):
        for (other_x, other_y), other_radius in places[i + 1 :]:
            assert max(abs(x - other_x), abs(y - other_y)) > radius + other_radius


def test_areas_are_numbers_of_situations():
    (ax,) = plot_state_graph(level("Options")).axes
    radii = {
        text.get_text(): circle.radius
        for circle in shapes(ax, Circle)
        for text in ax.texts
        if text.get_position() == circle.center
    }
    assert radii["6"] ** 2 / radii["9"] ** 2 == pytest.approx(6 / 9)


def test_boards_of_the_main_points_of_no_return():
    figure = plot_state_graph(level("Options"), title="Options")
    (ax,) = figure.axes
    assert len(ax.images) == 2 * 6
    texts = [text.get_text() for text in ax.texts]
    assert "down: 83 % lost" in texts
    assert [texts.count(letter) for letter in "ABCDEFG"] == [2] * 6 + [0]
    assert ax.get_title() == "Options"
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert "after a side effect" in legend
    assert "also if it does nothing" not in legend  # nothing in Options happens by itself
    assert "also if it does nothing" in [
        t.get_text() for t in plot_state_graph(level("Offset")).axes[0].get_legend().get_texts()
    ]


def test_an_axes_of_the_users_is_drawn_in():
    figure = Figure(figsize=(10, 4))
    left, right = figure.subplots(1, 2)
    assert plot_state_graph(level("Vase"), right) is figure
    assert not left.patches
    assert len(shapes(right, Circle)) == 2


def test_worlds_without_edges_and_with_many_layers():
    (ax,) = plot_state_graph(compile_mdp(steps([0, 0]))).axes
    assert len(ax.patches) == 1
    assert not ax.images
    chain = compile_mdp(steps(*([s, min(s + 1, 39)] for s in range(40))))
    (ax,) = plot_state_graph(chain).axes
    xs = sorted(circle.center[0] for circle in shapes(ax, Circle))
    assert len(xs) == 40
    assert np.allclose(np.diff(xs), xs[1] - xs[0])


def test_too_many_components_are_refused():
    chain = compile_mdp(steps(*([s, min(s + 1, 400)] for s in range(401))))
    with pytest.raises(ImpactError, match="401 components; at most 400"):
        plot_state_graph(chain)


def test_equal_levels_give_equal_pictures(tmp_path):
    for name in ("one.png", "other.png"):
        save_figure(plot_state_graph(level("Interference")), tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "other.png").read_bytes()
