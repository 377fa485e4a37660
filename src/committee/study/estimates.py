"""Estimates: accuracies, and differences of two committees on the same samples."""

from __future__ import annotations

import numpy as np

from committee.evaluate import CONFIDENCE_LEVEL, Evaluation
from committee.predictions import Array
from committee.study.base import Estimate


def accuracy_of(evaluation: Evaluation) -> Estimate:
    """The accuracy of an evaluation with its 95 % interval."""
    return Estimate(evaluation.accuracy, *evaluation.interval, evaluation.samples)


def paired_difference(right: Array, other: Array) -> Estimate:
    """How much more accurate one committee is than another on the same samples, shares of 1.

    Both mostly fail on the same samples, so the interval is that of the mean difference, Student's,
    and much narrower than two intervals side by side would suggest. Where the two differ on every
    sample alike, and so mostly where they never differ, that interval would have no width: then it
    reaches as far as differences on that many samples may go unseen (Clopper and Pearson).

    Args:
        right: Whether the one is right on each sample, shape (N,), N of 1 or more.
        other: Whether the other is, shape (N,).

    >>> import numpy as np
    >>> found = paired_difference(np.array([1, 1, 1, 0] * 25), np.array([1, 1, 0, 0] * 25))
    >>> found.value, round(found.low, 3), round(found.high, 3), found.samples
    (0.25, 0.164, 0.336, 100)
    """
    from scipy.stats import binomtest, ttest_rel

    # As floats: a difference of truth values or of unsigned integers is none.
    right, other = np.asarray(right, np.float64), np.asarray(other, np.float64)
    difference, samples = float(np.mean(right - other)), len(right)
    if np.ptp(right - other) == 0:
        unseen = float(binomtest(0, samples).proportion_ci(CONFIDENCE_LEVEL).high)
        low, high = max(difference - unseen, -1.0), min(difference + unseen, 1.0)
    else:
        low, high = ttest_rel(right, other).confidence_interval(CONFIDENCE_LEVEL)
    return Estimate(difference, float(low), float(high), samples)
