"""Exact tests of a share, of a difference of two shares on the same samples, and of a mean.

Every p-value and bound holds for any number of samples; none rests on a normal approximation.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from committee.arrays import Array

# The share of the level that is spent on the interval of the share of discordant samples.
_NUISANCE = 0.05
# Shares of discordant samples that are tried in that interval, and again around the worst.
_TRIED = 12
# A p-value is rounded up by this, for the shares between those that are tried.
_ROUNDING = 1e-3
# Standard deviations beyond which a binomial number is not summed; 1e-15 lies outside.
_REACH = 8.0


def share_lower_bound(correct: int, samples: int, level: float) -> float:
    """Return the lower bound of a share at a level, one-sided (Clopper and Pearson).

    >>> round(share_lower_bound(995, 1000, 0.95), 4)
    0.9895
    """
    from scipy.special import betaincinv

    return float(betaincinv(correct, samples - correct + 1, 1 - level)) if correct else 0.0


def paired_p_value(wins: int, losses: int, samples: int, within: float, level: float) -> float:
    """Return the p-value of the hypothesis that the true difference is less than ``-within``.

    A sample counts 1 if only the first committee is correct (a win), -1 if only the second is
    (a loss), else 0. The test is unconditional and exact. Tables of wins and losses are ordered
    by the score statistic, whose distribution depends little on the share of discordant samples.
    That share is unknown: the p-value is the largest over its confidence interval, plus the chance
    that the interval misses it.

    Args:
        wins: Samples on which only the first committee is correct.
        losses: Samples on which only the second is correct.
        samples: All samples.
        within: How much less accurate the first may be; below 0 it must be more accurate.
        level: The level of the test, which sets the width of that interval.

    References:
        Berger and Boos (1994), P values maximized over a confidence set for the nuisance
        parameter. Tango (1998), Equivalence test and confidence interval for the difference in
        proportions for the paired-sample design.

    >>> round(paired_p_value(20, 25, 5000, within=0.005, level=0.95), 4)
    0.0052
    """
    from scipy.special import betaincinv

    spent = _NUISANCE * (1 - level)
    discordant = wins + losses
    low = float(betaincinv(discordant, samples - discordant + 1, spent / 2)) if discordant else 0.0
    high = 1.0
    if discordant < samples:
        high = float(betaincinv(discordant + 1, samples - discordant, 1 - spent / 2))
    low, high = max(low, abs(within)), max(high, abs(within))
    if high == 0:
        return 1.0  # the difference is 0 for certain, and so is not less than 0
    reached = float(_score_statistic(np.array([wins]), np.array([losses]), samples, within)[0])
    spread = _REACH * math.sqrt(samples * high) + _REACH
    first = max(0, math.floor(samples * low - spread))
    counts = np.arange(first, min(samples, math.ceil(samples * high + spread)) + 1)
    least = _least_wins(counts, reached, samples, within)
    shares = np.linspace(low, high, _TRIED)
    chances = _chances(counts, least, samples, within, shares)
    worst = int(chances.argmax())
    near = shares[max(worst - 1, 0)], shares[min(worst + 1, _TRIED - 1)]
    chances = np.append(chances, _chances(counts, least, samples, within, np.linspace(*near, 8)))
    return min(1.0, float(chances.max()) * (1 + _ROUNDING) + spent)


def _score_statistic(wins: Array, losses: Array, samples: int, within: float) -> Array:
    """Return Tango's score statistic of each table; larger speaks more for the first committee."""
    # The estimate of the share of losses if the difference is exactly -within.
    linear = -(wins + losses) - within * (2 * samples - wins + losses)
    constant = losses * within * (1 + within)
    root = np.sqrt(np.maximum(linear**2 - 8.0 * samples * constant, 0.0))
    lost = (root - linear) / (4.0 * samples)
    spread = np.sqrt(np.maximum(samples * (2 * lost - within * (1 + within)), 0.0))
    above = wins - losses + samples * within
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic: Array = np.where(spread > 0, above / spread, np.sign(above) * np.inf)
    return np.where(above == 0, 0.0, statistic)


def _least_wins(counts: Array, reached: float, samples: int, within: float) -> Array:
    """Return for each number of discordant samples the least wins that reach a statistic."""
    low, high = np.zeros_like(counts), counts + 1
    while (open_ := low < high).any():
        middle = (low + high) // 2
        enough = _score_statistic(middle, counts - middle, samples, within) >= reached - 1e-9
        high = np.where(open_ & enough, middle, high)
        low = np.where(open_ & ~enough, middle + 1, low)
    return low


def _chances(counts: Array, least: Array, samples: int, within: float, shares: Array) -> Array:
    """Return the chance of reaching the statistic for each share of discordant samples."""
    from scipy.special import betainc, gammaln, xlog1py, xlogy

    shares = shares[:, None]
    ways = gammaln(samples + 1) - gammaln(counts + 1) - gammaln(samples - counts + 1)
    drawn = np.exp(ways + xlogy(counts, shares) + xlog1py(samples - counts, -shares))
    # At the edge of the hypothesis the difference is exactly -within.
    won = np.divide(shares - within, 2 * shares, out=np.zeros_like(shares), where=shares > 0)
    inside = (least > 0) & (least <= counts)
    tail = betainc(np.where(inside, least, 1), np.where(inside, counts - least + 1, 1), won)
    tail = np.where(inside, tail, np.where(least <= 0, 1.0, 0.0))
    chances: Array = (drawn * tail).sum(axis=1)
    return chances


def paired_lower_bound(wins: int, losses: int, samples: int, level: float) -> float:
    """Return the lower bound of a paired difference at a level, one-sided and exact.

    It is the least difference that :func:`paired_p_value` does not refuse, to 1e-6.

    >>> round(paired_lower_bound(20, 25, 5000, level=0.95), 4)
    -0.0033
    """

    def refused(bound: float) -> bool:
        return paired_p_value(wins, losses, samples, -bound, level) <= 1 - level

    return _largest(refused, -1.0, 1.0)


def paired_upper_bound(wins: int, losses: int, samples: int, level: float) -> float:
    """Return the upper bound of a paired difference at a level, one-sided and exact."""
    return -paired_lower_bound(losses, wins, samples, level)


def _largest(refused: Callable[[float], bool], low: float, high: float) -> float:
    """Return the largest bound that is refused, to 1e-6; ``low`` if none is."""
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (middle, high) if refused(middle) else (low, middle)
    return low


def mean_upper_bound(values: Array, most: float, level: float) -> float:
    """Return the upper bound of the mean of numbers between 0 and ``most``, one-sided.

    It bets against each mean, sample by sample; a mean is refused when the capital of its bets has
    grown to 1 / (1 - level). The bound is valid for any distribution within these limits. It
    depends on the order of the samples, which must be random.

    Args:
        values: Shape (N,), each between 0 and ``most``.
        most: The largest number that there can be.
        level: The level.

    References:
        Waudby-Smith and Ramdas (2024), Estimating means of bounded random variables by betting.
    """
    if most <= 0 or not len(values):
        return most
    # Bound the mean of the complements from below.
    shares = 1 - np.asarray(values, np.float64) / most
    count = np.arange(1, len(shares) + 1)
    means = (0.5 + np.cumsum(shares)) / (count + 1)
    spreads = (0.25 + np.cumsum((shares - means) ** 2)) / (count + 1)
    before = np.append(0.25, spreads[:-1])
    bets = np.sqrt(2 * math.log(1 / (1 - level)) / (len(shares) * before))

    def refused(mean: float) -> bool:
        capped = np.minimum(bets, 0.75 / max(mean, 1e-12))
        grown = np.cumsum(np.log1p(capped * (shares - mean)))
        return bool(grown.max() >= math.log(1 / (1 - level)))

    return float(most * (1 - _largest(refused, 0.0, 1.0)))
