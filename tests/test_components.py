"""Components and the closure, against networkx."""

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from random_graphs import as_networkx, certain_graph, chance_graph, graphs
from random_mdps import level

from impactrl.components import closure_differences, components, reachable_sizes
from impactrl.errors import ImpactError
from impactrl.measures.state_graph import state_graph
from impactrl.reach import reach_columns

# A ring 0 > 1 > 0 that leads to two dead ends: 2 directly, 3 over 4.
FORK = np.array([[1, 2, 0], [0, 4, 1], [2, 2, 2], [3, 3, 3], [3, 4, 4]], dtype=np.int32)[:, :, None]
ALWAYS = np.ones(FORK.shape)


def differences_by_networkx(graph, pairs):
    """Nodes reachable from the second and not from the first, and the reverse."""
    drawn = as_networkx(graph)
    reached = {int(x): {int(x)} | nx.descendants(drawn, int(x)) for x in np.unique(pairs)}
    return np.array([(len(reached[b] - reached[a]), len(reached[a] - reached[b])) for a, b in pairs.tolist()])


def test_components_of_a_fork():
    found = components(FORK, ALWAYS)
    # In the first layer the ring; in the second 2 and 4, by smallest node; then 3.
    assert found.label.tolist() == [0, 0, 1, 3, 2]
    assert found.size.tolist() == [2, 1, 1, 1]
    assert found.layer.tolist() == [0, 1, 1, 2]
    assert found.after.first.tolist() == [0, 2, 2, 3, 3]
    assert found.after.node.tolist() == [1, 2, 3]
    assert reachable_sizes(found).tolist() == [5, 1, 2, 1]


def test_differences_of_a_fork():
    lost, gained = closure_differences(FORK, ALWAYS, [2, 0, 4, 3, 1], [0, 2, 2, 4, 0])
    assert lost.tolist() == [4, 0, 1, 1, 0]
    assert gained.tolist() == [0, 4, 2, 0, 0]
    assert lost.dtype == gained.dtype == np.float64


@given(graphs())
def test_components_are_those_of_networkx(graph):
    found, drawn = components(*graph), as_networkx(graph)
    groups = [frozenset(np.flatnonzero(found.label == c).tolist()) for c in range(len(found.size))]
    assert set(groups) == set(map(frozenset, nx.strongly_connected_components(drawn)))
    assert [len(group) for group in groups] == found.size.tolist()
    edges = [
        (c, d) for c in range(len(groups)) for d in found.after.node[found.after.first[c] : found.after.first[c + 1]]
    ]
    label = found.label.tolist()
    assert sorted(edges) == sorted({(label[x], label[y]) for x, y in drawn.edges if label[x] != label[y]})
    assert all(found.layer[c] < found.layer[d] for c, d in edges)
    for d in range(len(groups)):
        assert found.layer[d] == max([found.layer[c] + 1 for c, e in edges if e == d], default=0)
    assert sorted(zip(found.layer, map(min, groups), strict=True)) == list(
        zip(found.layer, map(min, groups), strict=True)
    )


@given(graphs())
def test_reachable_sizes_are_those_of_networkx(graph):
    found, drawn = components(*graph), as_networkx(graph)
    sizes = reachable_sizes(found)
    assert [sizes[found.label[x]] for x in drawn] == [1 + len(nx.descendants(drawn, x)) for x in drawn]


@given(graphs(max_outcomes=1))
def test_differences_are_those_of_networkx(graph):
    pairs = np.argwhere(np.ones((len(graph[0]),) * 2))
    found = closure_differences(*graph, pairs[:, 0], pairs[:, 1])
    assert np.stack(found, axis=1).tolist() == differences_by_networkx(graph, pairs).tolist()


def test_many_components_and_threads():
    graph = certain_graph(700, 2)
    assert len(components(*graph).size) > 130  # more than two words
    pairs = np.random.default_rng(0).integers(0, 700, (400, 2))
    found = closure_differences(*graph, pairs[:, 0], pairs[:, 1], threads=1)
    assert np.stack(found, axis=1).tolist() == differences_by_networkx(graph, pairs).tolist()
    for threads in (2, 5):
        again = closure_differences(*graph, pairs[:, 0], pairs[:, 1], threads=threads)
        assert np.array_equal(found, again)
    large = components(*graph)
    assert (reachable_sizes(large, threads=1) == reachable_sizes(large, threads=3)).all()


@pytest.mark.parametrize("name", ["Options", "Offset", "SushiGoal2"])
def test_differences_are_undiscounted_relative_reachability(name):
    graph = state_graph(level(name), "absorbing")
    everything = np.arange(graph.size)
    table = reach_columns(graph.successor, graph.probability, everything, discount=1.0)
    after = graph.successor[:, :, 0].ravel()
    idle = np.repeat(graph.successor[:, -1, 0], graph.successor.shape[1])
    lost, gained = closure_differences(graph.successor, graph.probability, after, idle)
    assert lost.tolist() == np.maximum(table[idle] - table[after], 0).sum(axis=1).tolist()
    assert gained.tolist() == np.maximum(table[after] - table[idle], 0).sum(axis=1).tolist()
    assert lost.max() > 0


def test_no_pairs():
    assert [part.tolist() for part in closure_differences(FORK, ALWAYS, [], [])] == [[], []]


@pytest.mark.parametrize(
    ("graph", "pairs", "message"),
    [
        (chance_graph(5, 0), ([0], [1]), "one outcome"),
        ((FORK, ALWAYS), ([0], [1, 2]), "equally long, not 1 and 2"),
        ((FORK, ALWAYS), ([5], [0]), "first must be node ids from 0 to 4"),
        ((FORK, ALWAYS), ([0], [-1]), "second must be node ids from 0 to 4"),
        ((FORK, ALWAYS[:, :, 0]), ([0], [0]), "shape"),
    ],
)
def test_what_makes_no_sense_is_refused(graph, pairs, message):
    with pytest.raises(ImpactError, match=message):
        closure_differences(*graph, *pairs)
