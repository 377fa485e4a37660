"""Estimates: accuracies, and differences of two committees on the same samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from committee.evaluate import CONFIDENCE_LEVEL, Evaluation, draws
from committee.predictions import Array
from committee.study.base import Estimate


def accuracy_of(evaluation: Evaluation) -> Estimate:
    """The accuracy of an evaluation with its 95 % interval."""
    return Estimate(evaluation.accuracy, *evaluation.interval, evaluation.samples)


def paired_difference(right: Array, other: Array) -> Estimate:
    """How much more accurate one committee is than another on the same samples, shares of 1.

    Both mostly fail on the same samples, so that this interval is much narrower than two intervals
    side by side would suggest. It is Wald's, with half a sample added to each cell of the table of
    who is right: so it has a width where the two never differ, and holds its level where they
    seldom do.

    Args:
        right: Whether the one is right on each sample, or any number from 0 to 1, such as the
            share of several committees that are, shape (N,), N of 1 or more.
        other: The same of the other, shape (N,).

    References:
        Agresti and Min (2005), Simple improved confidence intervals for comparing matched
        proportions, Statistics in Medicine 24.

    >>> found = paired_difference(np.array([1, 1, 1, 0] * 25), np.array([1, 1, 0, 0] * 25))
    >>> found.value, round(found.low, 3), round(found.high, 3), found.samples
    (0.25, 0.159, 0.331, 100)
    """
    from scipy.special import ndtri

    # As floats: a difference of truth values or of unsigned integers is none.
    differences = np.asarray(right, np.float64) - np.asarray(other, np.float64)
    samples, total = len(differences), float(differences.sum())
    middle = total / (samples + 2)
    # Of truth values the squares count the samples on which the two differ.
    spread = (float((differences**2).sum()) + 1) / (samples + 2) - middle**2
    half = -float(ndtri((1 - CONFIDENCE_LEVEL) / 2)) * math.sqrt(spread / (samples + 2))
    low, high = max(middle - half, -1.0), min(middle + half, 1.0)
    return Estimate(total / samples, low, high, samples)


def paired_figures(
    counts: Sequence[Array], others: Sequence[Array], figure: Callable[[Array], Array]
) -> Estimate:
    """How much higher a figure of sums is for some committees than for others, in the mean of each.

    The interval is the bootstrap's over samples, each draw the same samples for all: by its
    percentiles, as of the figures themselves.

    Args:
        counts: Of each committee the counts of each sample, shape (N, K).
        others: The same of the others.
        figure: From sums (…, K) to figures (…).

    >>> of = [np.array([[3.0, 4.0], [2.0, 4.0]])]
    >>> paired_figures(of, of, lambda sums: sums[..., 0] / sums[..., 1])
    Estimate(value=0.0, low=0.0, high=0.0, samples=2)
    """
    samples = len(counts[0])

    def mean(some: Sequence[Array], drawn: Array) -> Array:
        figures: Array = np.mean([figure(drawn @ each) for each in some], axis=0)
        return figures

    once = np.ones((1, samples))
    value = float((mean(counts, once) - mean(others, once))[0])
    differences = mean(counts, draws(samples)) - mean(others, draws(samples))
    tail = 100 * (1 - CONFIDENCE_LEVEL) / 2
    low, high = np.nanpercentile(differences, [tail, 100 - tail])
    return Estimate(value, float(low), float(high), samples)
