"""E-processes on counts: evidence against what is expected, valid at every moment.

An e-process is at most 1 on average at any time at which one may stop, if what is expected is true.
So the chance that it ever reaches 1/alpha is at most alpha (Ville), however often one looks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from committee.arrays import Array

# Jeffreys' prior.
_PRIOR = 0.5
# Log of the least e-value: as good as none, and still a number that JSON holds.
_LEAST = -700.0


class Null(Protocol):
    """What is expected of the counts of some categories."""

    def log_e(self, counts: Array) -> Array:
        """Return the log of the e-process of samples counted in categories.

        Args:
            counts: Shape (..., D), since a moment that was fixed before.

        Returns:
            Shape (...).
        """

    def bound(self, counts: Array) -> Array:
        """Return what :meth:`log_e` is at most, which is quicker to compute."""


@dataclass(frozen=True)
class ShareWithin:
    """The chance that a sample is in the first of two categories lies in an interval.

    It may change from sample to sample within the interval. Each end is tested by a beta-binomial
    mixture of likelihood ratios of the shares beyond it; the e-process is the mean of both.

    Args:
        low: The least chance; 0 if there is none.
        high: The largest; 1 if there is none.

    References:
        Robbins (1970), Statistical methods related to the law of the iterated logarithm.
        Ramdas, Grünwald, Vovk, Shafer (2023), Game-theoretic statistics and safe anytime-valid
        inference.
    """

    low: float
    high: float

    def log_e(self, counts: Array) -> Array:
        """See :class:`Null`."""
        from scipy.special import betaincc

        def cut_off(bound: float, yes: Array, no: Array) -> Array:
            with np.errstate(divide="ignore", under="ignore"):
                beyond: Array = np.log(betaincc(yes + _PRIOR, no + _PRIOR, bound))
            return _log_ratio(bound, yes, no) + beyond

        return self._mean(cut_off, counts)

    def bound(self, counts: Array) -> Array:
        """See :class:`Null`."""

        def at_most(bound: float, yes: Array, no: Array) -> Array:
            # A share below the bound speaks for no share beyond it.
            return np.where(yes <= bound * (yes + no), 0.0, _log_ratio(bound, yes, no))

        return self._mean(at_most, counts)

    def _mean(self, side: Callable[[float, Array, Array], Array], counts: Array) -> Array:
        """Return the log of the mean over both sides, of which one may have no room."""
        yes, no = counts[..., 0], counts[..., 1]
        pairs = [(self.high, yes, no), (1 - self.low, no, yes)]
        sides = [side(*each) for each in pairs if each[0] < 1] or [np.zeros(yes.shape)]
        mean = np.logaddexp.reduce(sides, axis=0) - np.log(len(sides))
        least: Array = np.maximum(mean, _LEAST)
        return least


def _log_ratio(bound: float, yes: Array, no: Array) -> Array:
    """Return the log of a mixture of likelihood ratios against a chance of at most ``bound``.

    For every share above the bound the likelihood ratio is a supermartingale, whatever the chances
    up to the bound are. The mixture is over Jeffreys' prior cut off at the bound, but for a factor:
    the part of the posterior beyond the bound.
    """
    from scipy.special import betaincc, betaln, xlogy

    before = np.log(betaincc(_PRIOR, _PRIOR, bound))
    mixture = betaln(yes + _PRIOR, no + _PRIOR) - betaln(_PRIOR, _PRIOR) - before
    ratio: Array = mixture - xlogy(yes, bound) - no * np.log1p(-bound)
    return ratio


@dataclass(frozen=True)
class Uniform:
    """All categories are equally likely, sample by sample: a Dirichlet mixture of alternatives.

    Args:
        categories: How many there are.
    """

    categories: int

    def log_e(self, counts: Array) -> Array:
        """See :class:`Null`."""
        from scipy.special import gammaln

        samples, whole = counts.sum(axis=-1), _PRIOR * self.categories
        each = gammaln(counts + _PRIOR).sum(axis=-1) - self.categories * gammaln(_PRIOR)
        mixture = each + gammaln(whole) - gammaln(samples + whole)
        log_e: Array = mixture + samples * np.log(self.categories)
        return log_e

    def bound(self, counts: Array) -> Array:
        """See :class:`Null`."""
        return self.log_e(counts)


def starts_of(block: Array, levels: int) -> Array:
    """Return the blocks from which windows that end with some blocks begin, -1 for none.

    They are 0 and, for each power of two, its two newest odd multiples. So a window of about every
    length is there, few are kept, and one that is dropped never returns.

    Args:
        block: How many blocks there are at the end, shape (n,), 1 or more.
        levels: How many powers of two.

    Returns:
        Shape (n, 2 * levels + 1).

    >>> starts_of(np.array([7]), 3).tolist()
    [[0, 5, 3, 6, 2, 4, -1]]
    """
    steps = 2 ** np.arange(levels)
    multiple = (block[:, None] - 1) // steps
    newest = (multiple - 1 + multiple % 2) * steps
    both = np.stack([newest, newest - 2 * steps], axis=-1).reshape(len(block), -1)
    return np.hstack([np.zeros((len(block), 1), np.int64), np.maximum(both, -1)])


def log_weight(start: Array) -> Array:
    """Return the log of the share of the capital that is bet from a start on; they sum to 1.

    Without a share for later starts a change after many good samples would be seen late.
    """
    return -np.log((start + 1.0) * (start + 2.0))
