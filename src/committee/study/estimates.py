"""Estimates: accuracies, and differences of two committees on the same samples."""

from __future__ import annotations

from committee.pool.evaluate import Evaluation
from committee.selection.paired import Estimate, paired_difference, paired_figures

__all__ = ["accuracy_of", "paired_difference", "paired_figures"]


def accuracy_of(evaluation: Evaluation) -> Estimate:
    """The accuracy of an evaluation with its 95 % interval.

    >>> accuracy_of(Evaluation("test", 50, 45, 1.0, 1.0, "macs", (1.0,))).value
    0.9
    """
    return Estimate(evaluation.accuracy, *evaluation.interval, evaluation.samples)
