"""Reachability of goals, against slower ways to compute it."""

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_graphs import as_networkx, best_policy_values, certain_graph, chance_graph, graphs, value_iteration
from random_mdps import level

from impactrl.errors import ImpactError
from impactrl.measures.state_graph import state_graph
from impactrl.reach import prepare, reach_columns

DISCOUNTS = [0.0, 0.5, 0.9, 1.0]


def by_distance(graph, discount):
    """[N, N] powers of the discount, from all pairs of networkx."""
    count = len(graph[0])
    table = np.zeros((count, count))
    for x, lengths in nx.all_pairs_shortest_path_length(as_networkx(graph)):
        for y, length in lengths.items():
            table[x, y] = discount**length
    return table


def test_a_corridor_with_a_shortcut_and_an_island():
    # 0 > 1 > 2 > 3 with a shortcut 0 > 2; 4 leads to 3, and nothing leads to it.
    successor = np.array([[1, 2], [2, 2], [3, 3], [3, 3], [3, 4]], dtype=np.int32)[:, :, None]
    columns = reach_columns(successor, np.ones(successor.shape), [3, 1, 3], discount=0.5)
    assert columns.T.tolist() == [
        [0.25, 0.25, 0.5, 1.0, 0.5],
        [0.5, 1.0, 0.0, 0.0, 0.0],
        [0.25, 0.25, 0.5, 1.0, 0.5],
    ]


def test_a_gamble_worked_by_hand():
    # From 0 and 1 one can go to and fro. From 1 one can bet: 1/2 goal (2), 1/4 ruin (3), 1/4 back to 0.
    successor = np.array(
        [[[1, 1, 1], [0, 0, 0]], [[0, 0, 0], [2, 3, 0]], [[2, 2, 2]] * 2, [[3, 3, 3]] * 2], dtype=np.int32
    )
    probability = np.zeros(successor.shape)
    probability[:, :, 0] = 1.0
    probability[1, 1] = [0.5, 0.25, 0.25]
    # Ever: R = 1/2 + 1/4 R, so 2/3 from both.
    ever = reach_columns(successor, probability, [2, 3, 0], discount=1.0)
    np.testing.assert_allclose(ever.T, [[2 / 3, 2 / 3, 1, 0], [1 / 3, 1 / 3, 0, 1], [1, 1, 0, 0]], rtol=1e-15)
    # With discount d: R1 = d/2 + d/4 R0 and R0 = d R1, so R1 = (d/2) / (1 - d^2/4).
    d = 0.9
    found = reach_columns(successor, probability, [2], discount=d)[:, 0]
    one = (d / 2) / (1 - d * d / 4)
    np.testing.assert_allclose(found, [d * one, one, 1, 0], rtol=0, atol=1e-10)


def test_what_is_reached_surely_is_1_and_what_cannot_be_reached_is_0_exactly():
    # 0 tries with 1/3 until it succeeds, in a circle 0 > 1 > 0 so that no sweep ends it.
    successor = np.array([[[1, 2]], [[0, 0]], [[2, 2]], [[3, 3]]], dtype=np.int32)
    probability = np.array([[[2 / 3, 1 / 3]], [[1, 0]], [[1, 0]], [[1, 0]]])
    assert reach_columns(successor, probability, [2, 0], discount=1.0).T.tolist() == [[1, 1, 1, 0], [1, 1, 0, 0]]


def test_a_step_that_may_lead_to_a_gamble_is_not_sure():
    # 0 reaches the goal 2, or else 1, with 1/2 each; from 1 it is the goal or ruin.
    successor = np.array([[[2, 1]], [[2, 3]], [[2, 2]], [[3, 3]]], dtype=np.int32)
    found = reach_columns(successor, np.full(successor.shape, 0.5), [2, 3], discount=1.0)
    assert found.T.tolist() == [[0.75, 0.5, 1, 0], [0.25, 0.5, 0, 1]]


@given(graphs(max_outcomes=1), st.sampled_from(DISCOUNTS))
def test_certain_steps_give_powers_of_the_distance(graph, discount):
    found = reach_columns(*graph, np.arange(len(graph[0])), discount=discount)
    np.testing.assert_allclose(found, by_distance(graph, discount), rtol=1e-14)


@given(graphs(max_nodes=4, max_actions=2), st.sampled_from([0.0, 0.9, 1.0, 1.0]))
def test_it_is_what_the_best_of_all_policies_achieves(graph, discount):
    found = reach_columns(*graph, np.arange(len(graph[0])), discount=discount)
    slow = [best_policy_values(graph, goal, discount) for goal in range(len(graph[0]))]
    np.testing.assert_allclose(found.T, slow, rtol=0, atol=1e-10)
    assert (found <= 1).all()


@pytest.mark.parametrize("discount", [0.9, 0.99, 1.0])
def test_the_error_is_at_most_1e_10_on_larger_graphs(discount):
    graph = chance_graph(90, 3)
    found = reach_columns(*graph, np.arange(90), discount=discount)
    slow = np.stack([value_iteration(graph, goal, discount, 20_000 if discount == 1 else 4000) for goal in (0, 40, 89)])
    np.testing.assert_allclose(found[:, [0, 40, 89]].T, slow, rtol=0, atol=1e-10)


@pytest.mark.parametrize("discount", [0.9999, 1.0])
def test_the_error_is_at_most_1e_10_where_sweeps_settle_slowly(discount):
    """To and fro between 0 and 1, with one chance in ten thousand each of the goal and of ruin."""
    chance = 1e-4
    successor = np.array([[[1, 2, 3]], [[0, 0, 0]], [[2, 2, 2]], [[3, 3, 3]]], dtype=np.int32)
    probability = np.array([[[1 - 2 * chance, chance, chance]], *[[[1.0, 0, 0]]] * 3])
    exact = discount * chance / (1 - discount**2 * (1 - 2 * chance))
    found = reach_columns(successor, probability, [2], discount=discount)
    np.testing.assert_allclose(found[:2, 0], [exact, discount * exact], rtol=0, atol=1e-10)


@pytest.mark.parametrize("graph", [certain_graph(300, 0), chance_graph(150, 1)], ids=["certain", "chance"])
@pytest.mark.parametrize("settings", [{"discount": 0.95}, {"discount": 1.0}])
def test_a_column_does_not_depend_on_the_others_or_on_threads(graph, settings):
    count = len(graph[0])
    search = prepare(*graph)
    everything = search.columns(np.arange(count), threads=1, **settings)
    assert (search.columns(np.arange(count), threads=3, **settings) == everything).all()
    some = np.random.default_rng(0).permutation(count)[:70]
    assert (search.columns(some, **settings) == everything[:, some]).all()
    for goal in some[:3]:
        assert (search.columns([goal], **settings) == everything[:, [goal]]).all()


def test_outcomes_that_cannot_happen_change_nothing():
    successor, probability = certain_graph(40, 8)
    wide = np.concatenate([successor[::-1], successor], axis=2), np.concatenate([0 * probability, probability], axis=2)
    goals = np.arange(40)
    expected = reach_columns(successor, probability, goals, discount=0.9)
    assert (reach_columns(*wide, goals, discount=0.9) == expected).all()
    successor, probability = chance_graph(40, 8)
    nowhere = np.full(successor.shape, -9, dtype=np.int32)
    wide = np.concatenate([nowhere, successor], axis=2), np.concatenate([0 * probability, probability], axis=2)
    expected = reach_columns(successor, probability, goals, discount=0.9)
    assert (reach_columns(*wide, goals, discount=0.9) == expected).all()


def test_more_goals_than_a_block_in_a_certain_world():
    graph = certain_graph(200, 5)
    np.testing.assert_allclose(reach_columns(*graph, np.arange(200), discount=0.9), by_distance(graph, 0.9), rtol=1e-14)


@pytest.mark.parametrize("rule", ["previous", "absorbing"])
def test_a_published_level_agrees_with_its_distances(rule):
    graph = state_graph(level("SushiGoal"), rule)
    found = reach_columns(graph.successor, graph.probability, np.arange(graph.size), discount=0.9)
    np.testing.assert_allclose(found, by_distance((graph.successor, graph.probability), 0.9), rtol=1e-14)


def test_a_published_level_of_chance_agrees_with_value_iteration():
    graph = state_graph(level("Apples"), "previous")
    goals = [0, 2000, 4319]
    search = prepare(graph.successor, graph.probability)
    found = search.columns(goals, discount=0.7)
    slow = [value_iteration((graph.successor, graph.probability), g, 0.7, 80) for g in goals]
    np.testing.assert_allclose(found.T, slow, rtol=0, atol=1e-10)


def test_no_goals_and_lonely_nodes():
    alone = np.zeros((1, 1, 1), dtype=np.int32), np.zeros((1, 1, 1))
    assert reach_columns(*alone, [0], discount=0.9).tolist() == [[1.0]]
    assert reach_columns(*alone, [], discount=0.9).shape == (1, 0)
    leak = np.zeros((1, 1, 2), dtype=np.int32), np.array([[[0.25, 0.25]]])
    assert reach_columns(*leak, [0], discount=1.0).tolist() == [[1.0]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"goals": [3]}, "goals must be node ids from 0 to 2, not 3 to 3"),
        ({"goals": [-1]}, "from 0 to 2"),
        ({"goals": [0.5]}, "list of node ids"),
        ({"goals": 1}, "list of node ids"),
        ({"discount": 1.5}, r"discount must be in \[0, 1\]"),
        ({"discount": "much"}, "discount must be a number"),
        ({"threads": 0}, "threads must be at least 1"),
        ({"successor": np.zeros((3, 1), dtype=np.int32)}, "shape"),
        ({"successor": np.full((3, 1, 1), 3, dtype=np.int32)}, "node from 0 to 2"),
        ({"probability": np.full((3, 1, 1), -0.5)}, "negative"),
        ({"probability": np.full((3, 1, 1), 1.5)}, "sum to 1 at most"),
        ({"probability": np.full((3, 1, 1), np.nan)}, "negative"),
    ],
)
def test_what_makes_no_sense_is_refused(change, message):
    given = {"successor": np.zeros((3, 1, 1), dtype=np.int32), "probability": np.ones((3, 1, 1)), "goals": [0]}
    with pytest.raises(ImpactError, match=message):
        reach_columns(**({"discount": 0.9} | given | change))
