"""Reliability: how often a model is right, by how sure it is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from committee.arrays import Array
from committee.errors import MisalignedError, ShapeError
from committee.rule.outputs import Outputs
from committee.rule.scores import max_prob

# Rows that are computed at once.
_ROWS = 4096
# A rise of the expected calibration error by less than this is chance; on few samples, by 0.5/√N.
_WORSE, _WORSE_OF_FEW = 0.005, 0.5


@dataclass(frozen=True, eq=False)
class Reliability:
    """Accuracy of a model by its confidence.

    Bins are of equal width, and certainty, 1.0, has one of its own, as in torchmetrics.

    Args:
        count: Samples in each bin, shape (bins + 1,).
        confidence: Mean confidence in each bin; 0 where there is none.
        accuracy: Share of samples predicted right in each bin; 0 where there is none.
    """

    count: Array
    confidence: Array
    accuracy: Array

    @property
    def error(self) -> float:
        """Expected calibration error: mean over samples of their bin's |accuracy - confidence|."""
        gaps = np.abs(self.accuracy - self.confidence)
        return float((self.count * gaps).sum() / self.count.sum())


def reliability(outputs: Outputs, labels: Array, bins: int = 15) -> Reliability:
    """Return accuracy by confidence, the largest probability (Wang et al. 2022, figure 6).

    Samples without an answer, whose confidence is minus infinity, do not count.

    Args:
        outputs: Outputs of one model, or of several combined, N rows.
        labels: Class index of each sample, shape (N,).
        bins: How many bins there are between 0 and 1.

    Raises:
        ShapeError: If there is no bin, or confidences of decisions are no probabilities.
        MisalignedError: If there is no sample, or not one label for each row.
    """
    if bins < 1:
        raise ShapeError(f"reliability: bins must be 1 or more, not {bins}")
    rows = len(outputs)
    if len(labels) == rows:
        outputs, labels = _answered(outputs, labels)
    if len(labels) != len(outputs) or not len(outputs):
        raise MisalignedError(
            f"reliability: {rows} rows of outputs, {len(labels)} labels; give an answer and a "
            "label for each"
        )
    # Single precision, as in torchmetrics: a value that rounds to 1 there is 1 here.
    confidence = _confidence(outputs).astype(np.float32)
    correct = outputs.predicted() == labels
    edges = np.linspace(0, 1, bins + 1, dtype=np.float32)
    place = np.searchsorted(edges, confidence, side="right") - 1
    count = np.bincount(place, minlength=bins + 1)
    some = np.maximum(count, 1)
    return Reliability(
        count,
        np.bincount(place, confidence, bins + 1) / some,
        np.bincount(place, correct, bins + 1) / some,
    )


def says_probabilities(outputs: Outputs) -> bool:
    """Return True if confidence can be a probability; that of decisions may be any number.

    Minus infinity stands for no answer and says nothing.
    """
    if outputs.confidence is None:
        return True
    known = outputs.confidence[~np.isneginf(outputs.confidence)]
    return bool(((known >= 0) & (known <= 1)).all())


def expected_calibration_error(outputs: Outputs, labels: Array, bins: int = 15) -> float:
    """Return how far confidence is from accuracy: torchmetrics' ``multiclass_calibration_error``.

    Arguments and errors as of :func:`reliability`.

    References:
        Guo et al. (2017), section 2.

    >>> sure = Outputs("probabilities", np.array([[1.0, 0.0], [1.0, 0.0]]))
    >>> expected_calibration_error(sure, np.array([0, 1]))
    0.5
    """
    return reliability(outputs, labels, bins).error


def worse_note(
    name: str, before: float | None, after: float, split: str, samples: int, fitted: bool = False
) -> str:
    """Return a line if a calibration leaves confidence further from accuracy; else nothing.

    ``before`` is None if it is not known. If the split is the one that it was ``fitted`` on, chance
    is no excuse.
    """
    chance = _WORSE if fitted else max(_WORSE, _WORSE_OF_FEW / math.sqrt(samples))
    if before is None or after <= before + chance:
        return ""
    return (
        f"{name}: calibration makes its confidence worse on {split}, an expected error of "
        f"{before:.2%} becomes {after:.2%}. Leave it out with committee calibrate --remove, or try "
        "another --method"
    )


def _answered(outputs: Outputs, labels: Array) -> tuple[Outputs, Array]:
    """Return the samples that have an answer."""
    if outputs.confidence is None:
        return outputs, labels
    answered = ~np.isneginf(outputs.confidence)
    return outputs.rows(answered), labels[answered]


def _confidence(outputs: Outputs) -> Array:
    if outputs.kind != "decisions":
        starts = range(0, len(outputs), _ROWS)
        parts = [max_prob(outputs.values[i : i + _ROWS], outputs.kind) for i in starts]
        return np.asarray(np.minimum(np.concatenate(parts), 1.0))
    confidence = np.asarray(outputs.confidence, np.float64)
    if not says_probabilities(outputs):
        raise ShapeError(
            f"reliability: confidence runs from {confidence.min():.4g} to {confidence.max():.4g}; "
            "only of probabilities, 0 to 1, it can be said how often they are right"
        )
    return confidence
