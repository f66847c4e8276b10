"""Reachability of some goals from every node, a block of goals at a time.

`R(x; g) = max_policy E[discount^N]`, N the steps from x until g is first reached; 1 at g, 0 where it cannot be reached
(Krakovna et al. 2019, arXiv 1806.01186, section 3).

Where every action has one outcome, R is a power of the discount, and 64 goals are searched for at once, backwards and
breadth-first, a bit of a word for each (Then et al. 2014, "The More the Merrier: Efficient Multi-Source Graph
Traversal"). Elsewhere it is the least fixed point of a Bellman equation, found by value iteration from 0, 64 goals side
by side, component by component from the goals upwards.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from impactrl.components import components
from impactrl.errors import ImpactError, real_number, whole_number
from impactrl.graph import (
    Adjacency,
    adjacency,
    certain,
    check_transitions,
    edges,
    node_ids,
)
from impactrl.mdp import PROBABILITY_TOLERANCE

__all__ = ["BLOCK", "Search", "prepare", "reach_columns"]

BLOCK = 64
"""Goals that are worked on at once: the bits of a word."""
TOLERANCE = 1e-12
"""Absolute, on reachabilities in a world of chance."""


class Chances(NamedTuple):
    """A world of chance, its nodes numbered anew: by component, the last first, so that what follows comes before.

    R actions do more than stay in their node and have E outcomes that do so; C components.

    Attributes:
        node: [N] int64, what each node is called outside.
        before: the nodes that some action can lead from to each.
        component: [C + 1] int64; the nodes of component c are `component[c] : component[c + 1]`.
        action: [N + 1] int64; those of node x are `action[x] : action[x + 1]`.
        outcome: [R + 1] int64; those of action r are `outcome[r] : outcome[r + 1]`.
        target: [E] int32.
        weight: [E] float64, probability of the outcome.
        stay: [R] float64, probability to stay in the node.
        leaves: [R] bool, whether it can happen that nothing of the graph follows.
    """

    node: NDArray[np.int64]
    before: Adjacency
    component: NDArray[np.int64]
    action: NDArray[np.int64]
    outcome: NDArray[np.int64]
    target: NDArray[np.int32]
    weight: NDArray[np.float64]
    stay: NDArray[np.float64]
    leaves: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class Search:
    """A graph of N nodes made ready for `columns`; by `prepare`.

    Attributes:
        world: the nodes that some action can lead from to each, if every action has one outcome; else all there is.
        rank: [N] int64, what each node is called in `world`.
        place: [N] int64, where each comes when goals are put into blocks; no number depends on it.
    """

    world: Adjacency | Chances
    rank: NDArray[np.int64]
    place: NDArray[np.int64]

    def columns(self, goals: ArrayLike, *, discount: float, threads: int | None = None) -> NDArray[np.float64]:
        """Reachability of each goal from every node.

        Exact up to rounding where every action has one outcome. Otherwise values increase from 0
        towards R. With a discount below 1 they stop when no value of a component changed by more than
        `1e-12 (1 - discount) / discount` in a sweep, so that the error is at most 1e-12, or when rounding allows no
        better. With discount 1, what is reached surely (R = 1) and what is not reached (R = 0) is found by search and
        exact; the other values stop when nothing changes any more. Their error is that of rounding in one sweep
        (about 1e-16) times the expected number of steps that the best policy makes among them: below 1e-10 unless
        these are more than a hundred thousand or so.

        A column does not depend, in any bit, on what else is asked for or on the number of threads. Blocks of 64
        goals run in parallel; each takes up to `512 N` bytes beside the result.

        Args:
            goals: [G] nodes.
            discount: in [0, 1].
            threads: at most so many at once; default one per core.

        Returns:
            [N, G] in [0, 1].

        Raises:
            ImpactError: a goal that is no node, or a setting outside its range.
        """
        size = len(self.rank)
        wanted = node_ids("goals", goals, size)
        if not 0 <= real_number("discount", discount) <= 1:
            raise ImpactError(f"discount must be in [0, 1], not {discount}")
        workers = (os.cpu_count() or 1) if threads is None else whole_number("threads", threads, at_least=1)

        order = np.argsort(self.place[wanted], kind="stable")
        ranks = self.rank[wanted[order]]
        starts = range(0, len(ranks), BLOCK)
        out = np.zeros((size, len(ranks)))
        solve = self._solver(float(discount))
        with ThreadPoolExecutor(max(1, min(workers, len(starts)))) as pool:
            list(pool.map(lambda i: solve(ranks[i : i + BLOCK], i, out), starts))
        _move_columns(out, order)
        return out

    def _solver(self, discount: float) -> Callable[..., None]:
        """What writes the columns of some goals, given as ranks, into a table of zeros, from some column on."""
        if not isinstance(self.world, Chances):
            return partial(_search_backwards, self.world, np.power(discount, np.arange(len(self.rank) + 1.0)))
        threshold = TOLERANCE * (1 - discount) / discount if discount > 0 else np.inf
        return partial(_iterate, _without_staying(self.world, discount), discount == 1, threshold)


def prepare(successor: NDArray[np.int32], probability: NDArray[np.float64]) -> Search:
    """Makes a graph ready for any number of blocks of goals.

    Args:
        successor: [N, A, K].
        probability: [N, A, K], 0 where there is no such outcome. Those of an action may sum to less than 1: with the
            rest nothing of the graph follows.

    Raises:
        ImpactError: shapes that differ, a successor that is no node, probabilities that are none.

    >>> corridor = prepare(np.array([[[1]], [[2]], [[2]]], dtype=np.int32), np.ones((3, 1, 1)))
    >>> corridor.columns([2], discount=0.5).tolist()
    [[0.25], [0.5], [1.0]]
    """
    check_transitions(successor, probability)
    count = len(successor)
    if certain(probability):
        source, target = edges(successor, probability)
        return Search(world=adjacency(target, source, count), rank=np.arange(count), place=np.arange(count))
    found = components(successor, probability)
    # Later nodes are further from the start and, mostly, closer to what the others have to reach.
    node = np.lexsort((-np.arange(count), -found.label.astype(np.int64)))
    rank = np.empty(count, dtype=np.int64)
    rank[node] = np.arange(count)
    follows = rank[np.where(probability > 0, successor, 0)]
    world = _chances(follows[node], probability[node], node, found.size[::-1])
    # A block takes as many sweeps as its slowest goal, and goals that are hard to hit are slow: those together.
    entry = np.zeros(count)
    np.maximum.at(entry, world.target, world.weight)
    place = np.empty(count, dtype=np.int64)
    place[np.lexsort((entry[rank], found.label))] = np.arange(count)
    return Search(world=world, rank=rank, place=place)


def reach_columns(
    successor: NDArray[np.int32],
    probability: NDArray[np.float64],
    goals: ArrayLike,
    *,
    discount: float,
    threads: int | None = None,
) -> NDArray[np.float64]:
    """Reachability of each goal from every node: `prepare`, then `Search.columns`, which say more.

    Args:
        successor: [N, A, K].
        probability: [N, A, K], 0 where there is no such outcome.
        goals: [G] nodes.
        discount: in [0, 1].
        threads: at most so many at once; default one per core.

    Returns:
        [N, G] in [0, 1].

    Raises:
        ImpactError: as `prepare` and `Search.columns`.

    A gamble that succeeds with probability 1/4, fails for good with 1/4 and can be repeated otherwise:

    >>> successor = np.array([[[0, 1, 2]], [[1, 1, 1]], [[2, 2, 2]]], dtype=np.int32)
    >>> probability = np.array([[[0.5, 0.25, 0.25]], [[1, 0, 0]], [[1, 0, 0]]])
    >>> reach_columns(successor, probability, [1], discount=1.0).tolist()
    [[0.5], [1.0], [0.0]]
    """
    search = prepare(successor, probability)
    return search.columns(goals, discount=discount, threads=threads)


def _chances(
    successor: NDArray[np.int64], probability: NDArray[np.float64], node: NDArray[np.int64], sizes: NDArray[np.int64]
) -> Chances:
    """Transitions [N, A, K] in the new numbering, without what only stays."""
    count = len(successor)
    stays = successor == np.arange(count)[:, None, None]
    moves = (probability > 0) & ~stays
    useful = moves.any(axis=2)
    moves = moves[useful]
    source, target = edges(successor, probability)
    return Chances(
        node=node,
        before=adjacency(target, source, count),
        component=np.concatenate([[0], np.cumsum(sizes)]),
        action=np.concatenate([[0], np.cumsum(useful.sum(axis=1))]),
        outcome=np.concatenate([[0], np.cumsum(moves.sum(axis=1))]),
        target=successor[useful][moves].astype(np.int32),
        weight=probability[useful][moves],
        stay=np.where(stays, probability, 0.0).sum(axis=2)[useful],
        leaves=probability[useful].sum(axis=1) < 1 - PROBABILITY_TOLERANCE,
    )


def _without_staying(world: Chances, discount: float) -> Chances:
    """The same values from actions that are repeated until they lead on.

    `V = max_r discount (stay_r V + rest_r)` and `V = max_r discount rest_r / (1 - discount stay_r)` have the same
    least solution. The second converges faster: an error shrinks by the discount at least.
    """
    moving = np.add.reduceat(world.weight, world.outcome[:-1]) if len(world.stay) else np.empty(0)
    # 1 - discount * stay, without the cancellation where staying is almost sure.
    leaving = np.where(world.leaves, 1 - world.stay - moving, 0.0)
    otherwise = moving + leaving + (1 - discount) * world.stay
    factor = np.repeat(discount / otherwise, np.diff(world.outcome))
    return world._replace(weight=factor * world.weight, stay=np.zeros_like(world.stay))


def _bit_numbers() -> NDArray[np.int64]:
    """Position of the one bit of a word, at the upper six bits of its product with `DE_BRUIJN`."""
    numbers = np.empty(64, dtype=np.int64)
    for i in range(64):
        numbers[(int(DE_BRUIJN) << i) % 2**64 >> 58] = i
    return numbers


DE_BRUIJN = np.uint64(0x03F79D71B4CB0A89)
BIT_NUMBERS = _bit_numbers()


@numba.njit(cache=True, nogil=True)
def _lowest(bits: np.uint64) -> tuple[int, np.uint64]:
    """The position of the lowest bit, and the bits without it."""
    one = bits & (~bits + np.uint64(1))
    return BIT_NUMBERS[(one * DE_BRUIJN) >> np.uint64(58)], bits ^ one


@numba.njit(cache=True, nogil=True)
def _search_backwards(
    before: Adjacency,
    powers: NDArray[np.float64],
    goals: NDArray[np.int64],
    start: int,
    out: NDArray[np.float64],
) -> None:
    """Writes `powers[d]` for every node at a distance d < len(powers) from a goal into the goal's column of zeros."""
    count = len(before.first) - 1
    seen, front, found = np.zeros(count, np.uint64), np.zeros(count, np.uint64), np.zeros(count, np.uint64)
    here, there = np.empty(count, np.int32), np.empty(count, np.int32)
    num_here = 0
    for j in range(len(goals)):
        g = goals[j]
        if front[g] == 0:
            here[num_here] = g
            num_here += 1
        front[g] |= np.uint64(1) << np.uint64(j)
        out[g, start + j] = powers[0]
        seen[g] = front[g]
    for distance in range(1, len(powers)):
        num_there = 0
        for i in range(num_here):
            y = here[i]
            bits = front[y]
            front[y] = 0
            for e in range(before.first[y], before.first[y + 1]):
                x = before.node[e]
                new = bits & ~seen[x]
                if new != 0:
                    if found[x] == 0:
                        there[num_there] = x
                        num_there += 1
                    found[x] |= new
        if num_there == 0:
            break
        value = powers[distance]
        for i in range(num_there):
            x = there[i]
            bits = found[x]
            found[x] = 0
            front[x] = bits
            seen[x] |= bits
            while bits != 0:
                j, bits = _lowest(bits)
                out[x, start + j] = value
        here, there = there, here
        num_here = num_there


@numba.njit(cache=True, nogil=True)
def _move_columns(table: NDArray[np.float64], order: NDArray[np.int64]) -> None:
    """Column i goes to column `order[i]`, row by row: a row stays in the cache, a column does not."""
    row = np.empty(len(order))
    for x in range(len(table)):
        row[:] = table[x]
        for i in range(len(order)):
            table[x, order[i]] = row[i]


@numba.njit(cache=True, nogil=True)
def _goal_bits(count: int, goals: NDArray[np.int64]) -> NDArray[np.uint64]:
    bits = np.zeros(count, dtype=np.uint64)
    for j in range(len(goals)):
        bits[goals[j]] |= np.uint64(1) << np.uint64(j)
    return bits


@numba.njit(cache=True, nogil=True)
def _reached(before: Adjacency, goals: NDArray[np.int64]) -> NDArray[np.uint64]:
    """[N] the goals that can be reached from each node, as bits."""
    count = len(before.first) - 1
    reached = _goal_bits(count, goals)
    waiting = reached != 0
    queue = np.empty(count, dtype=np.int32)  # in a circle: no node is in it twice
    tail = 0
    for x in range(count):
        if waiting[x]:
            queue[tail] = x
            tail += 1
    head, length = 0, tail
    tail %= count
    while length > 0:
        y = queue[head]
        head = (head + 1) % count
        length -= 1
        waiting[y] = False
        for e in range(before.first[y], before.first[y + 1]):
            x = before.node[e]
            if reached[y] & ~reached[x] != 0:
                reached[x] |= reached[y]
                if not waiting[x]:
                    waiting[x] = True
                    queue[tail] = x
                    tail = (tail + 1) % count
                    length += 1
    return reached


@numba.njit(cache=True, nogil=True)
def _surely_reached(world: Chances, goals: NDArray[np.int64], possible: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """[N] the goals that some policy reaches with probability 1, as bits.

    The largest set from which the goal can be reached by actions that never leave the set: de Alfaro (1997), "Formal
    Verification of Probabilistic Systems"; Baier and Katoen (2008), "Principles of Model Checking", section 10.6.1.
    """
    sure = possible.copy()
    start = _goal_bits(len(sure), goals)
    while True:
        reached = start.copy()
        changed = True
        while changed:
            changed = False
            for x in range(len(sure)):
                open_bits = sure[x] & ~reached[x]
                if open_bits == 0:
                    continue
                gain = np.uint64(0)
                for r in range(world.action[x], world.action[x + 1]):
                    if world.leaves[r]:
                        continue
                    inside, closer = open_bits, np.uint64(0)
                    for e in range(world.outcome[r], world.outcome[r + 1]):
                        inside &= sure[world.target[e]]
                        closer |= reached[world.target[e]]
                    gain |= inside & closer
                if gain != 0:
                    reached[x] |= gain
                    changed = True
        if (reached == sure).all():
            return sure
        sure = reached


@numba.njit(cache=True, nogil=True)
def _back_up(
    world: Chances,
    x: int,
    fixed: np.uint64,
    values: NDArray[np.float64],
    best: NDArray[np.float64],
    total: NDArray[np.float64],
) -> None:
    """`best[j] = max_r sum_e weight_e values[target_e, j]`, at most 1, and 1 for the goals whose bits are `fixed`."""
    width = len(best)
    for j in range(width):
        best[j] = 0.0
    for r in range(world.action[x], world.action[x + 1]):
        e, last, stay = world.outcome[r], world.outcome[r + 1] - 1, world.stay[r]
        if last - e > 1:
            for j in range(width):
                total[j] = stay * values[x, j]
            while last - e > 1:
                p, q = world.weight[e], world.weight[e + 1]
                y, z = world.target[e], world.target[e + 1]
                for j in range(width):
                    total[j] += p * values[y, j] + q * values[z, j]
                e += 2
            p, q = world.weight[e], world.weight[last] if last > e else 0.0
            y, z = world.target[e], world.target[last]
            for j in range(width):
                value, most = total[j] + (p * values[y, j] + q * values[z, j]), best[j]
                best[j] = value if value > most else most
        else:
            p, q = world.weight[e], world.weight[last] if last > e else 0.0
            y, z = world.target[e], world.target[last]
            for j in range(width):
                value, most = stay * values[x, j] + (p * values[y, j] + q * values[z, j]), best[j]
                best[j] = value if value > most else most
    for j in range(width):
        value = best[j]
        best[j] = value if value < 1.0 else 1.0
    while fixed != 0:
        k, fixed = _lowest(fixed)
        best[k] = 1.0


@numba.njit(cache=True, nogil=True)
def _indicator(fixed: NDArray[np.uint64], width: int) -> NDArray[np.float64]:
    """[N, width], 1 where a bit is set."""
    values = np.zeros((len(fixed), width))
    for x in range(len(fixed)):
        bits = fixed[x]
        while bits != 0:
            j, bits = _lowest(bits)
            values[x, j] = 1.0
    return values


@numba.njit(cache=True, nogil=True)
def _write(values: NDArray[np.float64], node: NDArray[np.int64], start: int, out: NDArray[np.float64]) -> None:
    for x in range(len(out)):
        for j in range(values.shape[1]):
            out[node[x], start + j] = values[x, j]


@numba.njit(cache=True, nogil=True)
def _iterate(
    world: Chances,
    undiscounted: bool,
    threshold: float,
    goals: NDArray[np.int64],
    start: int,
    out: NDArray[np.float64],
) -> None:
    """The reachability of the goals, into their columns: Gauss-Seidel value iteration from 0.

    A goal whose values have settled in a component is left alone there, so that its column is what it would be
    alone. Rounding keeps order, so values never decrease, and no goal goes on for ever.
    """
    possible = _reached(world.before, goals)
    fixed = _surely_reached(world, goals, possible) if undiscounted else _goal_bits(len(out), goals)
    width = len(goals)
    values = _indicator(fixed, width)
    # Three arrays and not one of three rows: those the compiler cannot tell apart, and the loops take twice as long.
    best, total, change = np.empty(width), np.empty(width), np.empty(width)
    live = np.empty(width, dtype=np.int64)
    for c in range(len(world.component) - 1):
        nodes = range(world.component[c], world.component[c + 1])
        todo = np.uint64(0)
        for x in nodes:
            todo |= possible[x] & ~fixed[x]
        if todo == 0:
            continue
        for j in range(width):
            live[j] = (todo >> np.uint64(j)) & np.uint64(1)
        while live.any():
            change[:] = 0.0
            for x in nodes:
                if possible[x] & ~fixed[x] == 0:
                    continue
                _back_up(world, x, fixed[x], values, best, total)
                for j in range(width):
                    old, new = values[x, j], best[j]
                    new = new if live[j] != 0 else old
                    rise, most = new - old, change[j]
                    change[j] = rise if rise > most else most
                    values[x, j] = new
            if len(nodes) == 1:
                break
            for j in range(width):
                if change[j] <= threshold:
                    live[j] = 0
    _write(values, world.node, start, out)
