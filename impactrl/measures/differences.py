"""Differences of values: `D(s; b) = sum_k w_k f(V_k(b) - V_k(s))` for many comparisons at once."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from impactrl.measures.comparisons import Comparisons

__all__ = ["CODES", "NORMS", "SUMMARIES", "VALUE_SCALES", "Differences", "Sums"]

SUMMARIES = ("decrease", "increase", "absolute")
CODES = (*SUMMARIES, "least", "own")
"""What can be done with a difference. The last two are for bonuses: minus the smaller of the two values, and minus the
value of the state itself."""
VALUE_SCALES = ("none", "per-value", "sum")
NORMS = ("L1", "L2", "Linf")
CHUNK = 1 << 14
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


class Sums:
    """The deviations of P comparisons, summed up over blocks of values. Each distinct pair of sides is taken once.

    Args:
        rules: how values are compared.
        comparisons: all of them.
        threads: how many at once; the results do not depend on it.
        squares: sum up the squares of the terms, too, for `errors`.
    """

    def __init__(
        self, rules: Differences, comparisons: Comparisons, *, threads: int = 1, squares: bool = False
    ) -> None:
        self.rules, self.comparisons, self.threads = rules, comparisons, threads
        reference = comparisons.reference
        self.combined = reference.combine != "each" or (rules.inside and reference.node.shape[2] > 1)
        if reference.combine != "each":
            case, share = np.arange(len(reference.node))[:, None], np.ones((len(reference.node), 1))
        elif self.combined:
            case, share = np.arange(reference.share.size).reshape(reference.share.shape), reference.share
        else:
            case = reference.node.reshape(len(reference.node), -1)
            share = (reference.share[:, :, None] * reference.probability).reshape(case.shape)
        self.mixed = comparisons.node.shape[1] > 1
        node = np.arange(len(comparisons)) if self.mixed else comparisons.node[:, 0]

        self.share = share[comparisons.memory]  # [P, G]
        real = self.share > 0
        cases, clock = int(case.max(initial=0)) + 1, int(comparisons.to_go.max(initial=0)) + 1
        codes = (node[:, None] * cases + case[comparisons.memory]) * clock + comparisons.to_go[:, None]
        distinct, inverse = np.unique(codes[real], return_inverse=True)
        self.pair = np.zeros(real.shape, dtype=np.int64)  # [P, G] number of each pair
        self.pair[real] = inverse
        self.node, self.case, self.to_go = distinct // clock // cases, distinct // clock % cases, distinct % clock
        self.total, self.size = np.zeros(len(distinct)), np.zeros(len(distinct))
        self.squares = np.zeros(len(distinct) if squares else 0)

    def add(self, steps: int, here: Floats, there: Floats, weights: Floats) -> None:
        """Adds a block of values [N, B] of weights [B], for the comparisons that have so many steps to go."""
        here, there = self._sides(here, there)
        pairs = np.flatnonzero(self.to_go == steps)
        total, size = self.total[pairs], self.size[pairs]
        squares = self.squares[pairs] if len(self.squares) else np.zeros((0,))
        rules = self.rules
        codes = CODES.index(rules.code), VALUE_SCALES.index(rules.scale), NORMS.index(rules.norm)

        def part(rows: slice) -> None:
            chosen = pairs[rows]
            sums = total[rows], size[rows], squares[rows]
            _accumulate(here, self.node[chosen], there, self.case[chosen], weights, *codes, *sums)

        chunks = [slice(first, first + CHUNK) for first in range(0, len(pairs), CHUNK)]
        with ThreadPoolExecutor(self.threads) as pool:
            list(pool.map(part, chunks))
        self.total[pairs], self.size[pairs] = total, size
        if len(self.squares):
            self.squares[pairs] = squares

    def errors(self, count: int, population: int) -> Floats:
        """[P] standard error of the mean over `count` values as an estimate of that over the whole population.

        Of a sample without repetition; where a reference has several cases, the mean of their errors, which is an upper
        bound.
        """
        variance = np.maximum(self.squares / count - (self.total / count) ** 2, 0.0) * count / max(count - 1, 1)
        each = np.sqrt(variance / count * (1 - count / population))
        mean: Floats = (each[self.pair] * self.share).sum(axis=1)
        return mean

    def units(self) -> Floats:
        """[Q] what the sums are divided by: under the scale "sum", the total of the baseline's values."""
        return np.where((self.rules.scale == "sum") & (self.size > ZERO), self.size, 1.0)

    def deviations(self) -> Floats:
        """[P]."""
        each = np.sqrt(self.total) if self.rules.norm == "L2" else self.total
        mean: Floats = ((each / self.units())[self.pair] * self.share).sum(axis=1)
        return mean

    def terms(self, steps: int, here: Floats, there: Floats) -> Floats:
        """[P, B] what each value adds to the deviations, before weights and norm; 0 where other steps are to go.

        Under the scale "sum" only once all blocks are added.
        """
        here, there = self._sides(here, there)
        each = _terms(
            here, self.node, there, self.case, CODES.index(self.rules.code), VALUE_SCALES.index(self.rules.scale)
        )
        each[self.to_go != steps] = 0.0
        each /= self.units()[:, None]
        mean: Floats = np.einsum("pgk,pg->pk", each[self.pair], self.share)
        return mean

    def _sides(self, here: Floats, there: Floats) -> tuple[Floats, Floats]:
        """The rows that pairs are of: `node` of the first, `case` of the second."""
        comparisons, reference = self.comparisons, self.comparisons.reference
        if self.combined:
            values = _mixed(there, reference.node, reference.probability)
            if reference.combine != "each":
                mean = (reference.share[:, :, None] * values).sum(axis=1)
                greedy = (1 - self.rules.epsilon) * values.max(axis=1) + self.rules.epsilon * mean
                values = mean if reference.combine == "mean" else greedy
            there = values.reshape(-1, there.shape[1])
        if self.mixed:
            here = _mixed(here, comparisons.node[:, None], comparisons.probability[:, None])[:, 0]
        return np.ascontiguousarray(here), np.ascontiguousarray(there)


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
    weights: Floats,
    code: int,
    scale: int,
    norm: int,
    total: Floats,
    size: Floats,
    squares: Floats,
) -> None:
    """Adds to [Q] `total` the sum, sum of squares or maximum of the terms, to `size` that of the baseline's values."""
    for q in range(len(node)):
        mine, other = here[node[q]], there[case[q]]
        sums, most, units = 0.0, total[q], 0.0
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
        total[q] = most if norm == 2 else total[q] + sums
        size[q] += units
        if len(squares):
            for k in range(len(weights)):
                squares[q] += _term(mine[k], other[k], code, scale) ** 2


@numba.njit(cache=True, nogil=True)
def _terms(
    here: Floats, node: NDArray[np.int64], there: Floats, case: NDArray[np.int64], code: int, scale: int
) -> Floats:
    """[Q, B] the terms themselves."""
    result = np.empty((len(node), here.shape[1]))
    for q in range(len(node)):
        for k in range(here.shape[1]):
            result[q, k] = _term(here[node[q], k], there[case[q], k], code, scale)
    return result
