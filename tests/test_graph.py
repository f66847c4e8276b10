import networkx as nx
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from random_mdps import arrays_of, level

from impactrl.graph import UNREACHABLE, distinct, edges, shortest_distances


@st.composite
def successor_tables(draw):
    """[N, A] successors, a third of them missing."""
    count, degree = draw(st.integers(1, 12)), draw(st.integers(1, 3))
    return draw(arrays_of((count, degree), -(count // 2) - 1, count - 1).map(np.int32))


def by_networkx(successors):
    graph = nx.DiGraph()
    graph.add_nodes_from(range(len(successors)))
    graph.add_edges_from((x, int(y)) for x, row in enumerate(successors) for y in row if y >= 0)
    distances = np.full((len(successors), len(successors)), UNREACHABLE)
    for x, lengths in nx.all_pairs_shortest_path_length(graph):
        for y, length in lengths.items():
            distances[x, y] = length
    return distances


def test_distances_of_a_hand_drawn_graph():
    # A ring 0 > 1 > 2 > 3 > 0 with a way in from 4, a shortcut 0 > 2, and an island 5.
    successors = np.array([[1, 2], [2, -1], [3, -1], [0, -1], [3, 4], [5, 5]], dtype=np.int32)
    assert shortest_distances(successors).tolist() == [
        [0, 1, 1, 2, -1, -1],
        [3, 0, 1, 2, -1, -1],
        [2, 3, 0, 1, -1, -1],
        [1, 2, 2, 0, -1, -1],
        [2, 3, 3, 1, 0, -1],
        [-1, -1, -1, -1, -1, 0],
    ]


def test_a_node_without_successors_reaches_only_itself():
    assert shortest_distances(np.full((2, 1), -1, dtype=np.int32)).tolist() == [[0, -1], [-1, 0]]


@given(successor_tables())
def test_distances_are_those_of_networkx(successors):
    assert (shortest_distances(successors) == by_networkx(successors)).all()


@given(successor_tables())
def test_distances_do_not_depend_on_the_layout_of_the_input(successors):
    wide = np.asfortranarray(successors.astype(np.int64))
    assert (shortest_distances(wide) == shortest_distances(successors)).all()


def test_distances_in_a_published_level_are_those_of_networkx():
    mdp = level("Interference")
    assert (shortest_distances(mdp.next_state[:, :, 0]) == by_networkx(mdp.next_state[:, :, 0])).all()


@given(arrays_of(20, 0, 12))
def test_distinct_is_unique(keys):
    assert distinct(keys).tolist() == np.unique(keys).tolist()


def test_edges_are_distinct_without_loops_and_without_what_cannot_happen():
    successor = np.array([[[1, 2], [1, 0]], [[1, 1], [0, 0]], [[2, 0], [2, 2]]], dtype=np.int32)
    probability = np.array([[[0.5, 0.5], [1, 0]], [[1, 0], [0, 0]], [[1, 0], [1, 0]]])
    assert [part.tolist() for part in edges(successor, probability)] == [[0, 0], [1, 2]]
