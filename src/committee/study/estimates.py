"""Estimates: accuracies, and differences of two committees on the same samples."""

from __future__ import annotations

import math

import numpy as np

from committee.evaluate import CONFIDENCE_LEVEL, Evaluation
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
        right: Whether the one is right on each sample, shape (N,), N of 1 or more.
        other: Whether the other is, shape (N,).

    References:
        Agresti and Min (2005), Simple improved confidence intervals for comparing matched
        proportions, Statistics in Medicine 24.

    >>> found = paired_difference(np.array([1, 1, 1, 0] * 25), np.array([1, 1, 0, 0] * 25))
    >>> found.value, round(found.low, 3), round(found.high, 3), found.samples
    (0.25, 0.16, 0.33, 100)
    """
    from scipy.special import ndtri

    right, other = np.asarray(right, bool), np.asarray(other, bool)
    samples, wins = len(right), int((right & ~other).sum())
    losses = int((other & ~right).sum())
    middle = (wins - losses) / (samples + 2)
    spread = (wins + losses + 1) / (samples + 2) - middle**2
    half = -float(ndtri((1 - CONFIDENCE_LEVEL) / 2)) * math.sqrt(spread / (samples + 2))
    low, high = max(middle - half, -1.0), min(middle + half, 1.0)
    return Estimate((wins - losses) / samples, low, high, samples)
