"""Graphs as arrays."""

import numpy as np
from hypothesis import given
from random_mdps import arrays_of

from impactrl.graph import distinct, edges


@given(arrays_of(20, 0, 12))
def test_distinct_is_unique(keys):
    assert distinct(keys).tolist() == np.unique(keys).tolist()


def test_edges_are_distinct_without_loops_and_without_what_cannot_happen():
    successor = np.array([[[1, 2], [1, 0]], [[1, 1], [0, 0]], [[2, 0], [2, 2]]], dtype=np.int32)
    probability = np.array([[[0.5, 0.5], [1, 0]], [[1, 0], [0, 0]], [[1, 0], [1, 0]]])
    assert [part.tolist() for part in edges(successor, probability)] == [[0, 0], [1, 2]]
