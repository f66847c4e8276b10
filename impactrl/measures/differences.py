"""Differences of values: `D(s; b) = sum_k w_k f(V_k(b) - V_k(s))` for many comparisons at once."""

from dataclasses import dataclass
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from impactrl.measures.baselines import Reference
from impactrl.measures.comparisons import Comparisons

__all__ = ["CODES", "NORMS", "SUMMARIES", "VALUE_SCALES", "Differences", "Sides", "Sums"]

SUMMARIES = ("decrease", "increase", "absolute")
CODES = (*SUMMARIES, "least", "own")
"""What can be done with a difference. The last two are for bonuses: minus the smaller of the two values, and minus the
value of the state itself."""
VALUE_SCALES = ("none", "per-value", "sum")
NORMS = ("L1", "L2", "Linf")
ZERO = 1e-9  # values are solved to 1e-10: what is smaller counts as 0, and scales by 1

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Differences:
    """How values are compared.

    Attributes:
        code: entry of `CODES`.
        scale: entry of `VALUE_SCALES`.
        norm: entry of `NORMS`.
        inside: whether expectations over the outcomes of the baseline are taken of the values, not of the deviations.
        epsilon: of the reference "greedy".
    """

    code: str
    scale: str
    norm: str
    inside: bool
    epsilon: float

    def shares(self, reference: Reference) -> Floats:
        """[M, G] how much each case of a reference counts in the end."""
        if reference.combine != "each":
            return np.ones((len(reference.share), 1))
        if self.inside:
            return reference.share
        return (reference.share[:, :, None] * reference.probability).reshape(len(reference.share), -1)

    def sides(self, comparisons: Comparisons, here: Floats, there: Floats) -> "Sides":
        """The two sides of comparisons, given the values [N, B] that each is judged by."""
        reference = comparisons.reference
        case: NDArray[np.int64] = reference.node.reshape(len(reference.node), -1)
        if reference.combine != "each" or (self.inside and reference.node.shape[2] > 1):
            values = _mixed(there, reference.node, reference.probability)
            if reference.combine != "each":
                mean = (reference.share[:, :, None] * values).sum(axis=1)
                greedy = (1 - self.epsilon) * values.max(axis=1) + self.epsilon * mean
                values = (mean if reference.combine == "mean" else greedy)[:, None]
            there = values.reshape(-1, there.shape[1])
            case = np.arange(len(there)).reshape(values.shape[:2])
        node = comparisons.node[:, 0]
        if comparisons.node.shape[1] > 1:
            here = _mixed(here, comparisons.node[:, None], comparisons.probability[:, None])[:, 0]
            node = np.arange(len(here))
        return Sides(np.ascontiguousarray(here), node, np.ascontiguousarray(there), case, comparisons.memory)

    def terms(self, comparisons: Comparisons, here: Floats, there: Floats, unit: Floats) -> Floats:
        """[P, B] what each value adds to the deviations, before weights and norm; `unit` [P, G] divides."""
        sides = self.sides(comparisons, here, there)
        each = _terms(*sides, CODES.index(self.code), VALUE_SCALES.index(self.scale))
        mean: Floats = np.einsum("pgk,pg->pk", each, self.shares(comparisons.reference)[comparisons.memory] / unit)
        return mean


class Sides(NamedTuple):
    """Rows of two tables, pair by pair.

    Attributes:
        here: the values of the agent's side, [., B].
        node: [P] row of `here` of each comparison.
        there: the values of the baseline's side, [., B].
        case: [M, G] rows of `there`, of each case of a reference.
        memory: [P] row of `case` of each comparison.
    """

    here: Floats
    node: NDArray[np.int64]
    there: Floats
    case: NDArray[np.int64]
    memory: NDArray[np.int64]


class Sums:
    """The deviations of P comparisons, summed up over blocks of values.

    Args:
        rules: how values are compared.
        comparisons: all of them.
    """

    def __init__(self, rules: Differences, comparisons: Comparisons) -> None:
        self.rules, self.comparisons = rules, comparisons
        self.share = rules.shares(comparisons.reference)[comparisons.memory]
        self.total, self.size = np.zeros_like(self.share), np.zeros_like(self.share)

    def add(self, rows: NDArray[np.int64], here: Floats, there: Floats, weights: Floats) -> None:
        """Adds a block of values [N, B] of weights [B], for some of the comparisons."""
        total, size = self.total[rows], self.size[rows]
        _accumulate(
            *self.rules.sides(self.comparisons.part(rows), here, there),
            weights,
            CODES.index(self.rules.code),
            VALUE_SCALES.index(self.rules.scale),
            NORMS.index(self.rules.norm),
            total,
            size,
        )
        self.total[rows], self.size[rows] = total, size

    def units(self) -> Floats:
        """[P, G] what the sums are divided by: under the scale "sum", the total of the baseline's values."""
        return np.where((self.rules.scale == "sum") & (self.size > ZERO), self.size, 1.0)

    def deviations(self) -> Floats:
        """[P]."""
        each = np.sqrt(self.total) if self.rules.norm == "L2" else self.total
        mean: Floats = (each / self.units() * self.share).sum(axis=1)
        return mean


def _mixed(values: Floats, node: NDArray[np.int64], probability: Floats) -> Floats:
    """[M, G, B] expected values of distributions [M, G, J] over nodes."""
    expected = np.zeros((*node.shape[:2], values.shape[1]))
    for j in range(node.shape[2]):
        expected += probability[:, :, j, None] * values[node[:, :, j]]
    return expected


@numba.njit(cache=True, nogil=True, inline="always")
def _term(here: float, there: float, code: int, scale: int) -> float:
    d = there - here
    if code == 0:
        d = max(d, 0.0)
    elif code == 1:
        d = max(-d, 0.0)
    elif code == 2:
        d = abs(d)
    elif code == 3:
        d = -min(here, there)
    else:
        d = -here
    if scale == 1 and abs(there) > ZERO:
        d /= abs(there)
    return d


@numba.njit(cache=True, nogil=True)
def _accumulate(
    here: Floats,
    node: NDArray[np.int64],
    there: Floats,
    case: NDArray[np.int64],
    memory: NDArray[np.int64],
    weights: Floats,
    code: int,
    scale: int,
    norm: int,
    total: Floats,
    size: Floats,
) -> None:
    """Adds to `total` and `size` [P, G]: sum, sum of squares or maximum of the terms, and of the baseline's values."""
    for p in range(len(node)):
        mine = here[node[p]]
        for g in range(case.shape[1]):
            other = there[case[memory[p], g]]
            sums, most, units = 0.0, total[p, g], 0.0
            for k in range(len(weights)):
                term = _term(mine[k], other[k], code, scale)
                if norm == 0:
                    sums += weights[k] * term
                elif norm == 1:
                    sums += weights[k] * term * term
                else:
                    most = max(most, weights[k] * term)
                if scale == 2:
                    units += weights[k] * abs(other[k])
            total[p, g] = most if norm == 2 else total[p, g] + sums
            size[p, g] += units


@numba.njit(cache=True, nogil=True)
def _terms(
    here: Floats,
    node: NDArray[np.int64],
    there: Floats,
    case: NDArray[np.int64],
    memory: NDArray[np.int64],
    code: int,
    scale: int,
) -> Floats:
    """[P, G, B] the terms themselves."""
    result = np.empty((len(node), case.shape[1], here.shape[1]))
    for p in range(len(node)):
        for g in range(case.shape[1]):
            for k in range(here.shape[1]):
                result[p, g, k] = _term(here[node[p], k], there[case[memory[p], g], k], code, scale)
    return result
