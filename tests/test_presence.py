"""The chance of being somewhere after so many steps, against a search of all that can be done."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_graphs import chance_graph, graphs

from impactrl.errors import ImpactError
from impactrl.presence import presence_columns


def after_steps(graph, goal, steps):
    """[N] by what is best first."""
    successor, probability = graph

    @cache
    def best(x, to_go):
        if to_go == 0:
            return float(x == goal)
        chances = [list(zip(successor[x, a], probability[x, a], strict=True)) for a in range(successor.shape[1])]
        going = [chance for chance in chances if any(p > 0 for _, p in chance)]
        return max((sum(p * best(y, to_go - 1) for y, p in chance) for chance in going), default=float(x == goal))

    return [best(x, steps) for x in range(len(successor))]


@given(graphs(), st.integers(0, 6))
def test_it_is_the_best_that_can_be_done(graph, steps):
    found = presence_columns(*graph, np.arange(len(graph[0])), steps=steps)
    slow = [after_steps(graph, goal, steps) for goal in range(len(graph[0]))]
    np.testing.assert_allclose(found.T, slow, rtol=1e-13, atol=1e-15)


def test_a_gamble_worked_by_hand():
    # From 0 one can go to 1 or stay; from 1 go back, or bet: 1/2 goal (2), 1/4 ruin (3), 1/4 back to 0.
    successor = np.array(
        [[[1, 1, 1], [0, 0, 0]], [[0, 0, 0], [2, 3, 0]], [[2, 2, 2]] * 2, [[3, 3, 3]] * 2], dtype=np.int32
    )
    probability = np.zeros(successor.shape)
    probability[:, :, 0] = 1.0
    probability[1, 1] = [0.5, 0.25, 0.25]
    goal = [presence_columns(successor, probability, [2], steps=h)[:2, 0].tolist() for h in range(4)]
    assert goal == [[0, 0], [0, 0.5], [0.5, 0.5], [0.5, 0.625]]
    # One cannot stay in 1, only leave and come back.
    assert [presence_columns(successor, probability, [1], steps=h)[1, 0] for h in range(4)] == [1, 0, 1, 1]


def test_where_nothing_follows_one_stays():
    successor = np.array([[[1]], [[1]]], dtype=np.int32)
    probability = np.array([[[1.0]], [[0.0]]])
    assert presence_columns(successor, probability, [1], steps=5).tolist() == [[1.0], [1.0]]


def test_a_column_does_not_depend_on_the_others_or_on_threads():
    graph = chance_graph(150, 1)
    everything = presence_columns(*graph, np.arange(150), steps=7, threads=1)
    assert (presence_columns(*graph, np.arange(150), steps=7, threads=3) == everything).all()
    some = np.random.default_rng(0).permutation(150)[:70]
    assert (presence_columns(*graph, some, steps=7) == everything[:, some]).all()


@pytest.mark.parametrize(("steps", "said"), [(-1, "steps must be at least 0"), (2.5, "steps must be a whole number")])
def test_a_number_of_steps_that_is_none_is_refused(steps, said):
    with pytest.raises(ImpactError, match=said):
        presence_columns(*chance_graph(5, 0), [0], steps=steps)
