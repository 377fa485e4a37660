"""95 % intervals of proportions, of means, and of paired differences."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from committee.arrays import Array

CONFIDENCE_LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """An estimate with its 95 % interval.

    Args:
        value: The estimate.
        low: Lower end of the interval.
        high: Upper end of the interval.
        samples: Number of samples.
    """

    value: float
    low: float
    high: float
    samples: int

    def to_json(self) -> dict[str, float | int]:
        """Return the four figures by name."""
        return vars(self)


def wilson_interval(correct: int, samples: int) -> tuple[float, float]:
    """Return Wilson's interval of a proportion, equal to that of ``scipy.stats.binomtest``.

    >>> [round(end, 4) for end in wilson_interval(90, 100)]
    [0.8256, 0.9448]
    """
    z = NormalDist().inv_cdf((1 + CONFIDENCE_LEVEL) / 2)
    share, wide = correct / samples, 2 * (samples + z**2)
    middle = (2 * correct + z**2) / wide
    half = z / wide * math.sqrt(4 * correct * (1 - share) + z**2)
    return middle - half if correct else 0.0, middle + half if correct < samples else 1.0


def counted_estimate(correct: int, samples: int) -> Estimate:
    """Return the share of samples that are correct, with Wilson's interval."""
    return Estimate(correct / samples, *wilson_interval(correct, samples), samples)


def mean_interval(values: Array) -> Estimate:
    """Return the mean of some numbers with Student's interval; infinite for a single number."""
    from scipy.special import stdtrit

    count, value = len(values), math.fsum(values) / len(values)
    if count < 2:
        return Estimate(value, -math.inf, math.inf, count)
    reach = -float(stdtrit(count - 1, (1 - CONFIDENCE_LEVEL) / 2))
    half = reach * float(values.std(ddof=1)) / math.sqrt(count)
    return Estimate(value, value - half, value + half, count)


def paired_difference(correct: Array, other: Array) -> Estimate:
    """Return how much more accurate one committee is than another on the same samples.

    Both mostly fail on the same samples, so this interval is much narrower than the intervals of
    the two accuracies suggest. It is Wald's, with half a sample added to each cell of the 2 x 2
    table. The interval therefore has a width even if the two never differ, and keeps its level if
    they seldom do.

    Args:
        correct: 1 where the first is correct, else 0; or a number between, such as the share of
            several committees that are correct; shape (N,), N of 1 or more.
        other: The same for the second, shape (N,).

    References:
        Agresti and Min (2005), Simple improved confidence intervals for comparing matched
        proportions, Statistics in Medicine 24.

    >>> gain = paired_difference(np.array([1, 1, 1, 0] * 25), np.array([1, 1, 0, 0] * 25))
    >>> gain.value, round(gain.low, 3), round(gain.high, 3), gain.samples
    (0.25, 0.159, 0.331, 100)
    """
    # Booleans and unsigned integers cannot be subtracted.
    differences = np.asarray(correct, np.float64) - np.asarray(other, np.float64)
    # For values of 1 and 0 the squares count the samples on which the two differ.
    squares = float((differences**2).sum())
    return difference_of_sums(float(differences.sum()), squares, len(differences))


def difference_of_sums(total: float, squares: float, samples: int) -> Estimate:
    """Return the same as :func:`paired_difference` from sums over samples.

    Args:
        total: Sum of the differences.
        squares: Sum of their squares.
        samples: How many there are.
    """
    from scipy.special import ndtri

    middle = total / (samples + 2)
    spread = (squares + 1) / (samples + 2) - middle**2
    half = -float(ndtri((1 - CONFIDENCE_LEVEL) / 2)) * math.sqrt(spread / (samples + 2))
    low, high = max(middle - half, -1.0), min(middle + half, 1.0)
    return Estimate(total / samples, low, high, samples)


def weighted_mean(values: Array, weights: Array, least: float = 0.0) -> Estimate:
    """Return the weighted mean of shares, or of paired differences of shares, with its interval.

    The interval is that of a ratio, with one more sample of the largest weight that deviates in
    full. A class of few samples has a large weight, and often none of its few samples shows what
    the others would: Student's interval then misses the truth far more often than its level says.

    Args:
        values: Each sample's weight times its share, -1 to 1, shape (N,).
        weights: Each sample's weight, shape (N,), not all 0.
        least: The least that the mean can be: 0 for shares, -1 for differences.

    References:
        Cochran (1977), Sampling Techniques, section 6.3, for the variance of a ratio.

    >>> share = weighted_mean(np.array([1.0, 1, 1, 0] * 25), np.ones(100))
    >>> share.value, round(share.low, 3), round(share.high, 3)
    (0.75, 0.665, 0.835)
    """
    from scipy.special import ndtri

    samples, total = len(values), math.fsum(weights)
    value = math.fsum(values) / total
    squares = float(((values - weights * value) ** 2).sum()) + float(weights.max()) ** 2
    mean = total / samples
    half = -float(ndtri((1 - CONFIDENCE_LEVEL) / 2)) * math.sqrt(squares) / (samples + 2) / mean
    return Estimate(value, max(value - half, least), min(value + half, 1.0), samples)


def chance_of(gained: int, lost: int, samples: int) -> tuple[float, float] | None:
    """Return a difference of shares and its spread if chance alone may explain it, else None.

    Args:
        gained: Samples that only the first has correct.
        lost: Samples that only the second has.
        samples: How many there are in all.
    """
    if by_chance(gained, lost) <= 0.05:
        return None
    return (gained - lost) / samples, 2 * math.sqrt(gained + lost) / samples


def by_chance(gained: int, lost: int) -> float:
    """Return the two-sided p-value of McNemar's exact test."""
    from scipy.special import bdtr

    total = gained + lost
    return min(1.0, 2 * float(bdtr(min(gained, lost), total, 0.5))) if total else 1.0
