"""Graphs as arrays, and breadth-first search in them."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from impactrl.errors import ImpactError
from impactrl.mdp import PROBABILITY_TOLERANCE

__all__ = [
    "Adjacency",
    "adjacency",
    "certain",
    "check_transitions",
    "distinct",
    "edges",
    "node_ids",
]


class Adjacency(NamedTuple):
    """The neighbours of every node, one list after the other (compressed sparse rows).

    Attributes:
        first: [N + 1] int64; those of node x are `node[first[x] : first[x + 1]]`.
        node: [E] int32.
    """

    first: NDArray[np.int64]
    node: NDArray[np.int32]


def adjacency(source: NDArray[np.integer], target: NDArray[np.integer], count: int) -> Adjacency:
    """Lists the targets of every source, in the order given.

    >>> lists = adjacency(np.array([1, 0, 1]), np.array([2, 1, 0]), 3)
    >>> lists.first.tolist(), lists.node.tolist()
    ([0, 1, 3, 3], [1, 2, 0])
    """
    first = np.zeros(count + 1, dtype=np.int64)
    np.cumsum(np.bincount(source, minlength=count), out=first[1:])
    order = np.argsort(source, kind="stable")
    return Adjacency(first, target[order].astype(np.int32))


def edges(
    successor: NDArray[np.integer], probability: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The distinct pairs of different nodes of which the second can follow the first under some action.

    Args:
        successor: [N, A, K].
        probability: [N, A, K], 0 where there is no such outcome.

    Returns:
        sources and targets, [E] each, by source, then target.
    """
    count = len(successor)
    source = np.arange(count)[:, None, None]
    pairs = distinct((source * count + successor)[(probability > 0) & (successor != source)])
    return pairs // count, pairs % count


def distinct(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """The different values among whole numbers of at least 0, ascending; `np.unique` takes twenty times as long."""
    ascending = np.sort(keys)
    return ascending[np.diff(ascending, prepend=-1) > 0]


def check_transitions(successor: NDArray[np.int32], probability: NDArray[np.float64]) -> None:
    """Refuses what is no graph of transitions [N, A, K].

    Raises:
        ImpactError: the shapes differ or have no three axes, a successor that can happen is no node, or the
            probabilities of an action are negative, no numbers, or sum to more than 1.
    """
    if successor.ndim != 3 or successor.shape != probability.shape:
        raise ImpactError(
            "successor and probability must both be of shape [nodes, actions, outcomes], not "
            f"{successor.shape} and {probability.shape}"
        )
    happens = probability > 0
    if (happens & ((successor < 0) | (successor >= len(successor)))).any():
        raise ImpactError(f"every successor of probability above 0 must be a node from 0 to {len(successor) - 1}")
    if not (probability >= 0).all() or not (probability.sum(axis=2) <= 1 + PROBABILITY_TOLERANCE).all():
        raise ImpactError("probabilities must not be negative, and those of an action must sum to 1 at most")


def certain(probability: NDArray[np.float64]) -> bool:
    """Whether every action has one outcome, or none."""
    return bool(((probability == 0) | (probability >= 1 - PROBABILITY_TOLERANCE)).all())


def node_ids(field: str, nodes: ArrayLike, count: int) -> NDArray[np.int64]:
    """A list of nodes as an array [G].

    Raises:
        ImpactError: no list of whole numbers, or one is no node.
    """
    ids = np.asarray(nodes)
    if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
        raise ImpactError(f"{field} must be a list of node ids, not {ids.dtype} of shape {ids.shape}")
    if ids.size and (ids.min() < 0 or ids.max() >= count):
        raise ImpactError(f"{field} must be node ids from 0 to {count - 1}, not {ids.min()} to {ids.max()}")
    return ids.astype(np.int64)
