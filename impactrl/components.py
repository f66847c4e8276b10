"""Strongly connected components: what can be undone, and what is lost for good."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.sparse import csgraph

from impactrl.errors import ImpactError, whole_number
from impactrl.graph import Adjacency, adjacency, certain, check_transitions, distinct, edges, node_ids

__all__ = ["Components", "closure_differences", "components", "reachable_sizes"]

WORD = 64
"""Components that the closure is computed for at once: the bits of a word."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Components:
    """The strongly connected components of a graph of N nodes; C of them, numbered so that every edge leads upwards.

    Attributes:
        label: [N] int32, the component of each node.
        size: [C] int64, how many nodes it has.
        layer: [C] int64, edges on the longest way to it between components; labels are by layer, then smallest node.
        after: the components that an edge leads to from each.
    """

    label: NDArray[np.int32]
    size: NDArray[np.int64]
    layer: NDArray[np.int64]
    after: Adjacency


def components(successor: NDArray[np.int32], probability: NDArray[np.float64]) -> Components:
    """Groups the nodes that can be reached from each other under some actions.

    Args:
        successor: [N, A, K].
        probability: [N, A, K], 0 where there is no such outcome. Whatever can happen counts as an edge.

    >>> ring_with_exit = np.array([[[1]], [[2]], [[0]], [[3]]], dtype=np.int32)
    >>> ring_with_exit = np.concatenate([ring_with_exit, [[[0]], [[3]], [[2]], [[3]]]], axis=1)
    >>> found = components(ring_with_exit, np.ones((4, 2, 1)))
    >>> found.label.tolist(), found.size.tolist(), found.layer.tolist()
    ([0, 0, 0, 1], [3, 1], [0, 1])
    """
    check_transitions(successor, probability)
    count = len(successor)
    source, target = edges(successor, probability)
    follows = adjacency(source, target, count)
    matrix = sparse.csr_array((np.ones(len(source)), follows.node, follows.first), shape=(count, count))
    total, found = csgraph.connected_components(matrix, connection="strong")
    smallest = np.full(total, count)
    np.minimum.at(smallest, found, np.arange(count))
    layer = _layers(_between(found, source, target, total))
    order = np.lexsort((smallest, layer))
    rank = np.empty(total, dtype=np.int32)
    rank[order] = np.arange(total, dtype=np.int32)
    label = rank[found]
    return Components(
        label=label,
        size=np.bincount(label, minlength=total),
        layer=layer[order],
        after=_between(label, source, target, total),
    )


def _between(label: NDArray[np.int32], source: NDArray[np.int64], target: NDArray[np.int64], total: int) -> Adjacency:
    """The distinct edges between different components."""
    one, other = label[source].astype(np.int64), label[target]
    keys = distinct((one * total + other)[one != other])
    return adjacency(keys // total, keys % total, total)


def _layers(after: Adjacency) -> NDArray[np.int64]:
    layers: NDArray[np.int64] = _longest_ways(after.first, after.node)
    return layers


def reachable_sizes(found: Components, *, threads: int | None = None) -> NDArray[np.int64]:
    """How many nodes can be reached from each component, its own included: [C]."""
    count = _over_words(partial(_sum_reachable, found.after.first, found.after.node, found.size), found, threads)
    total: NDArray[np.int64] = np.sum(count, axis=0, dtype=np.int64)
    return total


def closure_differences(
    successor: NDArray[np.int32],
    probability: NDArray[np.float64],
    first: ArrayLike,
    second: ArrayLike,
    *,
    threads: int | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How many nodes can be reached from one of two nodes and not from the other, for every pair; exact.

    This is N times relative reachability without a discount (Krakovna et al. 2019, arXiv 1806.01186, section 3;
    `lost` with the summary "decrease", `gained` with "increase"), without a table of all nodes by all nodes:
    the transitive closure of the components is computed for 64 of them at a time.

    Time grows with components x (edges between components + distinct pairs of components) / 64, memory with
    edges + pairs.

    Args:
        successor: [N, A, K].
        probability: [N, A, K]; 1 or 0: every action leads to one node, or nowhere.
        first: [P] nodes.
        second: [P] nodes.
        threads: at most so many at once; default one per core. The result does not depend on it.

    Returns:
        lost [P]: nodes reachable from `second` and not from `first`. gained [P]: the reverse.

    Raises:
        ImpactError: no graph, an action with several outcomes, or an id that is no node.

    >>> chain = np.array([[[1]], [[2]], [[2]]], dtype=np.int32)
    >>> lost, gained = closure_differences(chain, np.ones(chain.shape), [2, 0, 1], [0, 2, 1])
    >>> lost.tolist(), gained.tolist()
    ([2.0, 0.0, 0.0], [0.0, 2.0, 0.0])
    """
    found = components(successor, probability)
    if not certain(probability):
        raise ImpactError(
            "reachability is yes or no only where every action has one outcome; here one has several. Use "
            "reach_columns, whose values are the largest probabilities"
        )
    one = found.label[node_ids("first", first, len(found.label))].astype(np.int64)
    other = found.label[node_ids("second", second, len(found.label))].astype(np.int64)
    if one.shape != other.shape:
        raise ImpactError(f"first and second must be equally long, not {len(one)} and {len(other)}")
    total = len(found.size)
    keys, place = np.unique(one * total + other, return_inverse=True)
    # Where the lower label of a pair is beyond a word, neither side reaches anything in it: by lower label, so that
    # the pairs that matter come first.
    order = np.argsort(np.minimum(keys // total, keys % total), kind="stable")
    pairs = np.stack([keys // total, keys % total], axis=1)[order].astype(np.int32)
    work = partial(_sum_differences, found.after.first, found.after.node, found.size, pairs)
    sums = np.sum(_over_words(work, found, threads), axis=0, dtype=np.int64)
    unsorted = np.empty_like(sums)
    unsorted[order] = sums
    lost, gained = unsorted[place].astype(np.float64).T
    return np.ascontiguousarray(lost), np.ascontiguousarray(gained)


def _over_words(
    work: Callable[[int, int], NDArray[np.int64]], found: Components, threads: int | None
) -> Sequence[NDArray[np.int64]]:
    """Calls `work(start, step)` so that every word is done once; whole numbers, so any split gives the same sum."""
    wanted = (os.cpu_count() or 1) if threads is None else whole_number("threads", threads, at_least=1)
    step = min(wanted, -(-len(found.size) // WORD))
    with ThreadPoolExecutor(step) as pool:
        return list(pool.map(work, range(step), [step] * step))


@numba.njit(cache=True, nogil=True)
def _longest_ways(first: NDArray[np.int64], node: NDArray[np.int32]) -> NDArray[np.int64]:
    """Edges on the longest way to each node of an acyclic graph, nodes being taken once all before them are done."""
    count = len(first) - 1
    waiting = np.zeros(count, dtype=np.int64)
    for x in node:
        waiting[x] += 1
    ready = np.empty(count, dtype=np.int64)
    tail = 0
    for x in range(count):
        if waiting[x] == 0:
            ready[tail] = x
            tail += 1
    longest = np.zeros(count, dtype=np.int64)
    for head in range(count):
        x = ready[head]
        for e in range(first[x], first[x + 1]):
            y = node[e]
            longest[y] = max(longest[y], longest[x] + 1)
            waiting[y] -= 1
            if waiting[y] == 0:
                ready[tail] = y
                tail += 1
    return longest


@numba.njit(cache=True, nogil=True)
def _close(first: NDArray[np.int64], node: NDArray[np.int32], low: int, high: int, reached: NDArray[np.uint64]) -> None:
    """Sets bit i of `reached[c]` where component `low + i` below `high` can be reached from c, for all c below `high`.

    Edges lead upwards, so from `high` on nothing is reached; there `reached` must be 0.
    """
    for c in range(high - 1, -1, -1):
        bits = np.uint64(1) << np.uint64(c - low) if c >= low else np.uint64(0)
        for e in range(first[c], first[c + 1]):
            bits |= reached[node[e]]
        reached[c] = bits


@numba.njit(cache=True, nogil=True)
def _weights(size: NDArray[np.int64], low: int, high: int, table: NDArray[np.int64]) -> None:
    """Fills `table[i, b]` with the size of the components `low + 8 i ...` whose bits are set in the byte b."""
    for i in range(8):
        for b in range(256):
            total = 0
            for k in range(8):
                c = low + 8 * i + k
                if (b >> k) & 1 and c < high:
                    total += size[c]
            table[i, b] = total


@numba.njit(cache=True, nogil=True)
def _weigh(bits: np.uint64, table: NDArray[np.int64]) -> int:
    total = 0
    for i in range(8):
        total += table[i, (bits >> np.uint64(8 * i)) & np.uint64(255)]
    return total


@numba.njit(cache=True, nogil=True)
def _sum_reachable(
    first: NDArray[np.int64], node: NDArray[np.int32], size: NDArray[np.int64], start: int, step: int
) -> NDArray[np.int64]:
    """[C] nodes reachable from each component, of the components in the words start, start + step, ..."""
    count = len(size)
    sums = np.zeros(count, dtype=np.int64)
    reached = np.zeros(count, dtype=np.uint64)
    table = np.empty((8, 256), dtype=np.int64)
    for low in range(start * WORD, count, step * WORD):
        high = min(low + WORD, count)
        _close(first, node, low, high, reached)
        _weights(size, low, high, table)
        for c in range(high):
            if reached[c] != 0:
                sums[c] += _weigh(reached[c], table)
    return sums


@numba.njit(cache=True, nogil=True)
def _sum_differences(
    first: NDArray[np.int64],
    node: NDArray[np.int32],
    size: NDArray[np.int64],
    pairs: NDArray[np.int32],
    start: int,
    step: int,
) -> NDArray[np.int64]:
    """[P, 2] lost and gained nodes, of the components in the words start, start + step, ..."""
    count = len(size)
    sums = np.zeros((len(pairs), 2), dtype=np.int64)
    reached = np.zeros(count, dtype=np.uint64)
    table = np.empty((8, 256), dtype=np.int64)
    for low in range(start * WORD, count, step * WORD):
        high = min(low + WORD, count)
        _close(first, node, low, high, reached)
        _weights(size, low, high, table)
        for p in range(len(pairs)):
            one, other = pairs[p]
            if min(one, other) >= high:
                break
            here, there = reached[one], reached[other]
            if here != there:
                sums[p, 0] += _weigh(there & ~here, table)
                sums[p, 1] += _weigh(here & ~there, table)
    return sums
