"""The state graph for people, on levels that were worked out by hand."""

from dataclasses import replace

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from random_mdps import level, mdps, padded, steps

from impactrl.compile import compile_mdp
from impactrl.condensing import condensation, main_points, points_of_no_return


def test_a_small_world_by_hand():
    # 0 and 1 lead to each other; from 1 one can fall to 2, and go on from there to the end 3. The no-op stays.
    mdp = compile_mdp(steps([0, 1, 1], [1, 0, 2], [2, 2, 3], None))
    graph = condensation(mdp)
    assert graph.nodes[0] == {
        "states": (0, 1),
        "size": 2,
        "layer": 0,
        "start": True,
        "terminal": False,
        "completed": False,
        "side_effect": 0.0,
        "reachable": 1.0,
    }
    assert [graph.nodes[c]["reachable"] for c in graph] == [1.0, 0.5, 0.25]
    assert [graph.nodes[c]["terminal"] for c in graph] == [False, False, True]
    assert [graph.nodes[c]["layer"] for c in graph] == [0, 1, 2]
    assert list(graph.edges(data=True)) == [
        (0, 1, {"transitions": 1, "actions": ("a2",), "noop": False}),
        (1, 2, {"transitions": 1, "actions": ("a2",), "noop": False}),
    ]
    (fall,) = points_of_no_return(mdp)  # the end of the episode is none
    assert fall == (1, 2, 2, 0, 1, 0.5, False)


def test_what_happens_anyway_comes_last():
    # Doing nothing in 0 leads to 1, from where nothing else follows; so does action 1. Action 2 leads to 2 and 3.
    mdp = compile_mdp(steps([1, 1, 2], [1, 1, 1], [3, 3, 3], [3, 3, 3]))
    points = points_of_no_return(mdp)
    assert [(p.state, p.action, p.next_state, p.lost, p.anyway) for p in points] == [
        (0, 2, 2, 0.5, False),
        (0, 0, 1, 0.75, True),
        (0, 1, 1, 0.75, True),
        (2, 0, 3, 0.25, True),
        (2, 1, 3, 0.25, True),
        (2, 2, 3, 0.25, True),
    ]
    assert [(p.state, p.action) for p in main_points(mdp, 2)] == [(0, 2), (0, 0)]
    edges = condensation(mdp).edges
    assert {edge: (edges[edge]["transitions"], edges[edge]["noop"]) for edge in edges} == {
        (0, 1): (2, True),
        (0, 2): (1, False),
        (2, 3): (3, True),
    }


def test_options_as_on_its_boards():
    """Six places of the box off which it can be pushed for good or not, each with an end of its own but the first."""
    mdp = level("Options")
    graph = condensation(mdp)
    assert sorted(c["size"] for _, c in graph.nodes(data=True) if not c["terminal"]) == [3, 6, 9, 9, 9, 9, 9]
    assert sum(c["terminal"] for _, c in graph.nodes(data=True)) == 6
    assert sum(c["side_effect"] for _, c in graph.nodes(data=True) if not c["terminal"]) == 4
    first = points_of_no_return(mdp)[0]
    assert mdp.board_text(first.state) == ["######", "# A###", "# X  #", "##   #", "### G#", "######"]
    assert mdp.board_text(first.next_state) == ["######", "#  ###", "# A  #", "##X  #", "### G#", "######"]
    assert (mdp.actions[first.action], first.anyway) == ("down", False)
    assert first.lost == pytest.approx(50 / 60)  # the deviation of that step under undiscounted relative reachability


def test_situations_are_grouped_and_not_states():
    """In the conveyor levels a note of a rescue is no change of the situation."""
    mdp = level("Offset")
    graph = condensation(mdp)
    assert (mdp.num_states, sum(c["size"] for _, c in graph.nodes(data=True))) == (398, 370)
    assert sorted(s for _, c in graph.nodes(data=True) for s in c["states"]) == list(range(398))
    assert all(len({mdp.situation[s] for s in c["states"]}) == c["size"] for _, c in graph.nodes(data=True))


@given(mdps(max_states=6, max_starts=3))
def test_components_edges_and_shares_are_those_of_networkx(mdp):
    graph, drawn = condensation(mdp), nx.DiGraph(mdp.to_networkx())
    groups = {frozenset(c["states"]) for _, c in graph.nodes(data=True)}
    assert groups == set(map(frozenset, nx.strongly_connected_components(drawn)))
    home = {s: c for c, data in graph.nodes(data=True) for s in data["states"]}
    assert set(graph.edges) == {(home[x], home[y]) for x, y in drawn.edges if home[x] != home[y]}
    for _, data in graph.nodes(data=True):
        reached = {data["states"][0]} | nx.descendants(drawn, data["states"][0])
        assert data["reachable"] == len(reached) / mdp.num_states
        assert data["start"] == any(mdp.start[s] > 0 for s in data["states"])
        assert data["completed"] == all(mdp.completed[s] for s in data["states"])
        assert data["terminal"] == any(mdp.terminal[s] for s in data["states"])
    expected = {
        (int(s), int(a), int(mdp.next_state[s, a, k]))
        for s, a, k in np.argwhere(mdp.probability > 0)
        if home[int(s)] != home[int(mdp.next_state[s, a, k])] and not mdp.terminal[mdp.next_state[s, a, k]]
    }
    points = points_of_no_return(mdp)
    assert {(p.state, p.action, p.next_state) for p in points} == expected
    assert all(p.lost > 0 for p in points)


def test_side_effects_are_counted_along_a_shortest_path():
    found = {c["side_effect"] for _, c in condensation(level("ConveyorSushi")).nodes(data=True)}
    assert found == {0.0, 1.0}
    graph = condensation(level("Damage"))
    assert [(c["size"], c["side_effect"]) for _, c in graph.nodes(data=True) if not c["terminal"]] == [(40, 0), (11, 1)]


def test_padding_changes_nothing():
    mdp = level("Interference")
    wide = padded(mdp)
    next_state = wide.next_state.copy()  # what cannot happen may be anything: here, what the action before it does
    next_state[~mdp.terminal, 1:, 1] = next_state[~mdp.terminal, :-1, 0]
    for other in (wide, replace(wide, next_state=next_state)):
        assert nx.utils.graphs_equal(condensation(mdp), condensation(other))
        assert points_of_no_return(mdp) == points_of_no_return(other)


def test_a_world_without_a_noop_and_without_returns():
    mdp = compile_mdp(steps([1, 2], [1, 1], [2, 2], noop=None))
    assert [p.anyway for p in points_of_no_return(mdp)] == [False, False]
    assert not any(noop for _, _, noop in condensation(mdp).edges(data="noop"))
