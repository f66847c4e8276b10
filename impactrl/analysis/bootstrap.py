"""Estimates over seeds and levels with bootstrap intervals: means, interquartile means, comparisons of two samples.

Samples are stratified: a list of levels, each with the scores of its runs. All levels weigh alike, however many runs
they have, and every resample draws the runs of each level with replacement among themselves (Agarwal et al. 2021, "Deep
reinforcement learning at the edge of the statistical precipice", section 4.1). Intervals are percentile bootstraps: the
quantiles (1 - confidence) / 2 and (1 + confidence) / 2 of the statistic over the resamples.

The same scores and an equal generator give the same estimate, whatever the order of the scores in a level.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from impactrl.errors import ImpactError

__all__ = [
    "Estimate",
    "bootstrap_means",
    "interquartile_mean",
    "mean",
    "paired_difference",
    "probability_of_improvement",
]

FloatArray = NDArray[np.float64]

RESAMPLES = 2000
_BLOCK_DRAWS = 1 << 22
_BLOCK_COLUMNS = 512


class Estimate(NamedTuple):
    """A statistic and its interval.

    Attributes:
        value: of the sample.
        low: lower end of the interval.
        high: upper end.
    """

    value: float
    low: float
    high: float


def mean(
    levels: Sequence[ArrayLike], *, rng: np.random.Generator, confidence: float = 0.95, resamples: int = RESAMPLES
) -> Estimate:
    """The mean over levels of the mean over runs: 1/L sum_l 1/n_l sum_i x_li.

    Args:
        levels: the scores of each level, [n_l] finite numbers.
        rng: draws the resamples.
        confidence: probability mass between the ends of the interval, in (0, 1).
        resamples: how many.

    Raises:
        ImpactError: no level, a level without scores or with one that is not finite, or a setting out of range.

    >>> mean([[1.0, 3.0], [5.0]], rng=np.random.default_rng(0)).value
    3.5
    """
    scores = _checked(levels)
    weights = _level_weights(scores)
    return _estimate(lambda draws: draws @ weights, scores, rng, confidence, resamples)


def interquartile_mean(
    levels: Sequence[ArrayLike], *, rng: np.random.Generator, confidence: float = 0.95, resamples: int = RESAMPLES
) -> Estimate:
    """The mean of the middle half of all scores: 2 times the integral of Q(p) from p = 1/4 to 3/4.

    Q is the quantile function of the scores of all levels together, in which every level has the mass 1/L. With equally
    many runs in every level and a number of scores that is a multiple of 4, that is the mean without the lowest and the
    highest quarter, as in Agarwal et al. (2021).

    Args:
        levels: as for `mean`; levels on different scales must be brought to one before.
        rng: draws the resamples.
        confidence: probability mass between the ends of the interval, in (0, 1).
        resamples: how many.

    Raises:
        ImpactError: as `mean`.

    >>> interquartile_mean([[0.0, 1.0], [2.0, 90.0]], rng=np.random.default_rng(0)).value
    1.5
    """
    scores = _checked(levels)
    weights = _level_weights(scores)

    def statistic(draws: FloatArray) -> FloatArray:
        order = np.argsort(draws, axis=1)
        mass = weights[order]
        above = np.cumsum(mass, axis=1)
        middle = np.clip(above, 0.25, 0.75) - np.clip(above - mass, 0.25, 0.75)
        total: FloatArray = (middle * np.take_along_axis(draws, order, axis=1)).sum(axis=1)
        total /= middle.sum(axis=1)  # 1/2, up to rounding
        return total

    return _estimate(statistic, scores, rng, confidence, resamples)


def paired_difference(
    first: Sequence[ArrayLike],
    second: Sequence[ArrayLike],
    *,
    rng: np.random.Generator,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
) -> Estimate:
    """The mean of `first - second` over pairs of runs, as `mean` of the differences; pairs are drawn whole.

    Args:
        first: the scores of each level, [n_l].
        second: those of their partners, of the same shape: the same seed of the same level, under another penalty.
        rng: draws the resamples.
        confidence: probability mass between the ends of the interval, in (0, 1).
        resamples: how many.

    Raises:
        ImpactError: as `mean`, or scores without a partner.
    """
    ones, others = _checked(first), _checked(second)
    if [len(level) for level in ones] != [len(level) for level in others]:
        raise ImpactError("pairs need as many scores in each level of the one sample as of the other")
    differences = [a - b for a, b in zip(ones, others, strict=True)]
    return mean(differences, rng=rng, confidence=confidence, resamples=resamples)


def probability_of_improvement(
    first: Sequence[ArrayLike],
    second: Sequence[ArrayLike],
    *,
    rng: np.random.Generator,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
) -> Estimate:
    """How likely a run of `first` scores higher than a run of `second` on a level taken at random.

    P = 1/L sum_l 1/(n_l m_l) sum_ij S(x_li, y_lj), with S = 1 for x > y, 1/2 for x = y and 0 else: the Mann-Whitney
    statistic of each level (Agarwal et al. 2021, appendix A.3). 1/2 means no difference.

    Args:
        first: the scores of each level, [n_l].
        second: those of the other sample on the same levels, [m_l].
        rng: draws the resamples, of both samples independently.
        confidence: probability mass between the ends of the interval, in (0, 1).
        resamples: how many.

    Raises:
        ImpactError: as `mean`, or different numbers of levels.

    >>> probability_of_improvement([[1.0, 2.0]], [[1.0, 0.0]], rng=np.random.default_rng(0)).value
    0.875
    """
    ones, others = _checked(first), _checked(second)
    if len(ones) != len(others):
        raise ImpactError(f"expected both samples on the same levels, got {len(ones)} and {len(others)} levels")
    _check_settings(confidence, resamples)
    value, drawn = 0.0, np.zeros(resamples)
    for x, y in zip(map(np.sort, ones), map(np.sort, others), strict=True):
        wins = 0.5 * ((x[:, None] > y).astype(np.float64) + (x[:, None] >= y))
        value += wins.mean() / len(ones)
        shares = _shares(rng, len(x), resamples), _shares(rng, len(y), resamples)
        drawn += ((shares[0] @ wins) * shares[1]).sum(axis=1) / len(ones)
    low, high = np.quantile(drawn, _ends(confidence))
    return Estimate(float(value), float(low), float(high))


def bootstrap_means(
    samples: FloatArray, *, rng: np.random.Generator, confidence: float = 0.95, resamples: int = RESAMPLES
) -> FloatArray:
    """Mean, low and high end of many samples of one size at once: [n, C] -> [3, C].

    All columns share the resamples, so that equal columns have equal intervals.

    Raises:
        ImpactError: a setting out of range.
    """
    _check_settings(confidence, resamples)
    # Sorted: row order is forgotten. Relative to the least value: constant columns come out exact.
    samples = np.sort(samples, axis=0)
    # Outcomes are few in deterministic levels, so most columns come several times.
    rise, column = np.unique(samples - samples[0], axis=1, return_inverse=True)
    seed = int(rng.integers(1 << 63))
    blocks = [
        np.quantile(_resampled_means(rise[:, c : c + _BLOCK_COLUMNS], resamples, seed), _ends(confidence), axis=1)
        for c in range(0, rise.shape[1], _BLOCK_COLUMNS)
    ]
    means: FloatArray = samples[0] + np.vstack([rise.mean(axis=0), np.hstack(blocks)])[:, column]
    return means


def _resampled_means(samples: FloatArray, resamples: int, seed: int) -> FloatArray:
    """[n, C] -> [C, resamples], in bounded memory."""
    n = len(samples)
    rng = np.random.default_rng(seed)
    block = max(1, _BLOCK_DRAWS // n)
    rows = [min(block, resamples - first) for first in range(0, resamples, block)]
    return np.hstack([samples.T @ _shares(rng, n, count).T for count in rows])


def _shares(rng: np.random.Generator, n: int, resamples: int) -> FloatArray:
    """[resamples, n] which share of each resample of n values is each of them."""
    draws = rng.integers(n, size=(resamples, n)) + n * np.arange(resamples)[:, None]
    return np.bincount(draws.ravel(), minlength=resamples * n).reshape(resamples, n) / n


def _estimate(
    statistic: Callable[[FloatArray], FloatArray],
    levels: list[FloatArray],
    rng: np.random.Generator,
    confidence: float,
    resamples: int,
) -> Estimate:
    """A statistic of rows [B, N], the levels side by side, and its quantiles over resamples."""
    _check_settings(confidence, resamples)
    # Relative to the least score: constant samples come out exact.
    least = min(level.min() for level in levels)
    levels = [np.sort(level) - least for level in levels]
    (value,) = statistic(np.hstack(levels)[None])
    drawn = [level[rng.integers(len(level), size=(resamples, len(level)))] for level in levels]
    low, high = np.quantile(statistic(np.hstack(drawn)), _ends(confidence))
    return Estimate(float(value + least), float(low + least), float(high + least))


def _level_weights(levels: list[FloatArray]) -> FloatArray:
    return np.concatenate([np.full(len(level), 1 / (len(levels) * len(level))) for level in levels])


def _ends(confidence: float) -> list[float]:
    return [(1 - confidence) / 2, (1 + confidence) / 2]


def _check_settings(confidence: float, resamples: int) -> None:
    if not 0 < confidence < 1:
        raise ImpactError(f"expected confidence in (0, 1), got {confidence}")
    if resamples < 1:
        raise ImpactError(f"expected at least one resample, got {resamples}")


def _checked(levels: Sequence[ArrayLike]) -> list[FloatArray]:
    scores = [np.asarray(level, dtype=np.float64) for level in levels]
    if not scores:
        raise ImpactError("expected the scores of at least one level, got none")
    for level in scores:
        if level.ndim != 1 or not level.size:
            raise ImpactError(f"expected at least one score in every level, [n], got an array of shape {level.shape}")
        if not np.isfinite(level).all():
            raise ImpactError(f"expected finite scores, got {np.count_nonzero(~np.isfinite(level))} that are not")
    return scores
