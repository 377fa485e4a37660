"""Calibration by predicted class: a confidence of 0.6 says more of one class than of another.

``per-class``
    The output becomes a decision: the class that the model predicts, and as confidence the
    probability that it is right, P(right | predicted class, confidence). Each class has an
    isotonic map, mixed with the map of all classes, the more so the fewer samples it was fitted to.
``experts``
    The output becomes logits: log P(truth | predicted class, confidence), from counts in bins of
    confidence. Decisions can then be averaged, and the mean may name another class than any model.

Both see the predicted class and its confidence alone; of logits and probabilities that is the
largest probability. :mod:`committee.calibration.class_fitting` fits them.

References:
    Zadrozny and Elkan (2002), Transforming Classifier Scores into Accurate Multiclass Probability
    Estimates.
    Dawid and Skene (1979), Maximum Likelihood Estimation of Observer Error-Rates.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from committee.arrays import Array
from committee.errors import CalibrationError
from committee.rule.calibration import Calibration, check_method
from committee.rule.combinations import if_answered
from committee.rule.namespace import NUMPY, Namespace
from committee.rule.outputs import Kind, Outputs
from committee.rule.scores import max_prob

# How far the probabilities of a row of experts may be from summing to 1: their logarithms are
# rounded in files.
_SUM_TOLERANCE = 1e-2
# Stands for the confidence minus infinity of a decision without an answer.
_LEAST = -1e300


@dataclass(frozen=True)
class PerClass(Calibration):
    """From predicted class and confidence to the probability that the model is right.

    Slopes, knots and offset are the map of all classes. That of a class is mixed with it by the
    weight of the class; a class without a map of its own has weight 0.

    Args:
        classes: Classes that have a map of their own, rising.
        weights: Weight of each of these maps, from 0 up to but not 1.
        class_knots: For each, confidences at which its map is known, rising.
        class_heights: For each, the share that is right there; straight lines between them.
    """

    classes: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()
    class_knots: tuple[tuple[float, ...], ...] = ()
    class_heights: tuple[tuple[float, ...], ...] = ()

    def __post_init__(self) -> None:
        _require_method(self, "per-class")
        lists = (self.slopes, self.knots, (self.offset,), self.weights)
        _require_finite(*lists, *self.class_knots, *self.class_heights)
        if not self.knots or len(self.slopes) != len(self.knots) + 1 or min(self.slopes) < 0:
            raise CalibrationError(
                "calibration: the map of all classes needs knots, and one slope more, none below 0"
            )
        counts = {len(self.classes), len(self.weights)}
        if counts != {len(self.class_knots)} or counts != {len(self.class_heights)}:
            raise CalibrationError("calibration: classes, weights and maps must be equally many")
        if not all(each >= 0 for each in self.classes) or not _rising(self.classes):
            raise CalibrationError("calibration: classes must be rising and not below 0")
        if not all(0 <= each < 1 for each in self.weights):
            raise CalibrationError("calibration: weights of classes must be at least 0 and below 1")
        if not _rising(self.knots) or not all(map(_rising, self.class_knots)):
            raise CalibrationError("calibration: knots must be rising")
        for knots, heights in zip(self.class_knots, self.class_heights, strict=True):
            falls = any(low > high for low, high in itertools.pairwise(heights))
            if not knots or len(knots) != len(heights) or falls or not _in_unit(heights):
                raise CalibrationError(
                    "calibration: the map of a class needs one height a knot, from 0 to 1, not "
                    "falling"
                )

    @property
    def text(self) -> str:
        """See :class:`Calibration`."""
        count = len(self.classes)
        return f"{self.method}, {count} class{'es' if count != 1 else ''}"

    def made(self, kind: Kind) -> Kind:
        """See :class:`Calibration`."""
        return "decisions"

    def apply(self, outputs: Outputs, xp: Namespace = NUMPY) -> Outputs:
        """Return decisions: the predicted class, and how probable it is that it is right.

        Without an answer the confidence stays minus infinity.
        """
        predicted, confidence = _answer(outputs, xp)
        own = xp.lookup(self._places, predicted)
        low, width, slope, base, others = (xp.lookup(table, own) for table in self._tables)
        if outputs.confidence is not None:
            confidence = xp.maximum(confidence, _LEAST)
        beyond = xp.column(confidence) - low
        inside = xp.maximum(xp.where(beyond > width, width, beyond), 0)
        right = xp.sum(inside * slope) + base + others * self._mapped(confidence, xp)
        return Outputs("decisions", predicted, if_answered(outputs, right, -math.inf, xp))

    @cached_property
    def _places(self) -> Array:
        """Row of each class in the tables; the last row is of all without a map of their own."""
        places = np.full(max(self.classes, default=-1) + 2, len(self.classes), np.int64)
        places[list(self.classes)] = np.arange(len(self.classes))
        return places

    @cached_property
    def _tables(self) -> tuple[Array, ...]:
        """For each row: where pieces begin, their widths and slopes; the start; the rest's weight.

        Slopes and starts are already multiplied by the weight of the class.
        """
        lengths = np.array([len(knots) for knots in self.class_knots], np.int64)
        weights, ends = np.array(self.weights), np.cumsum(lengths)
        low, width, slope = np.zeros((3, len(lengths) + 1, max(lengths.max(initial=1) - 1, 1)))
        base, others = np.zeros(len(lengths) + 1), np.append(1 - weights, 1.0)
        if len(lengths):
            knots, heights = (
                np.array(list(itertools.chain.from_iterable(each)))
                for each in (self.class_knots, self.class_heights)
            )
            row = np.repeat(np.arange(len(lengths)), lengths)
            column = np.arange(len(row)) - np.repeat(ends - lengths, lengths)
            inner = np.flatnonzero(column < lengths[row] - 1)
            where = row[inner], column[inner]
            low[where], width[where] = knots[inner], knots[inner + 1] - knots[inner]
            rise = heights[inner + 1] - heights[inner]
            slope[where] = weights[row[inner]] * rise / width[where]
            base[:-1] = weights * heights[ends - lengths]
        return low, width, slope, base, others

    def __hash__(self) -> int:
        return hash((self.method, self.samples, self.offset, self.classes))


@dataclass(frozen=True)
class Experts(Calibration):
    """From predicted class and confidence to the logarithms of the probabilities of all classes.

    Knots are the edges between bins of confidence; there are no slopes and no offset.

    Args:
        logs: For each bin and each predicted class, log P(truth) of each class.
    """

    logs: tuple[tuple[tuple[float, ...], ...], ...] = ()

    def __post_init__(self) -> None:
        _require_method(self, "experts")
        _require_finite(self.knots)
        if self.slopes or self.offset or not _rising(self.knots):
            raise CalibrationError("calibration: experts have rising knots, no slopes, no offset")
        rows = list(itertools.chain.from_iterable(self.logs))
        _require_finite(*rows)
        wide = {len(each) for each in (*rows, *self.logs)}
        if len(self.logs) != len(self.knots) + 1 or len(wide) != 1 or wide <= {0, 1}:
            raise CalibrationError(
                "calibration: experts need a square table of two classes or more for each bin, one "
                "bin more than knots"
            )
        with np.errstate(over="ignore"):
            sums = np.exp(self._table).sum(axis=-1)
        if abs(sums - 1).max() > _SUM_TOLERANCE:
            raise CalibrationError("calibration: probabilities of experts must sum to 1")

    @property
    def text(self) -> str:
        """See :class:`Calibration`."""
        count = len(self.logs)
        return f"{self.method}, {count} bin{'s' if count != 1 else ''}"

    @property
    def width(self) -> int:
        """See :class:`Calibration`."""
        return len(self.logs[0])

    def made(self, kind: Kind) -> Kind:
        """See :class:`Calibration`."""
        return "logits"

    def apply(self, outputs: Outputs, xp: Namespace = NUMPY) -> Outputs:
        """Return as logits how probable each class is; 0 of each without an answer."""
        predicted, confidence = _answer(outputs, xp)
        if outputs.confidence is not None and len(predicted) and predicted.max() >= self.width:
            raise CalibrationError(
                f"experts: a model predicts class {predicted.max()}, but its table was fitted to "
                f"{self.width} classes. Fit again with every class: name the classes on import"
            )
        logs = xp.lookup(self._table, xp.reached(confidence, self.knots), predicted)
        if outputs.confidence is None:
            # Not a number where the confidence is none.
            return Outputs("logits", logs + xp.column(confidence - confidence))
        return Outputs("logits", xp.where(xp.column(confidence > -math.inf), logs, 0.0))

    @cached_property
    def _table(self) -> Array:
        return np.array(self.logs)

    def __hash__(self) -> int:
        return hash((self.method, self.samples, self.knots))


# The class of each method's calibrations.
CLASSES: dict[str, type[Calibration]] = {
    "temperature": Calibration,
    "platt": Calibration,
    "per-class": PerClass,
    "experts": Experts,
}


def calibration_of(data: dict[str, Any]) -> Calibration:
    """Return a calibration from the fields of :meth:`Calibration.to_json`, trusting their types."""
    check_method(data["method"])
    return CLASSES[data["method"]](**{key: _tuples(value) for key, value in data.items()})


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _answer(outputs: Outputs, xp: Namespace) -> tuple[Array, Array]:
    """Return the class that a model predicts, and its confidence, (N,) each."""
    if outputs.confidence is not None:
        return outputs.values, xp.floats(outputs.confidence)
    scores = xp.checked_scores(max_prob(outputs.values, outputs.kind, xp), "max_prob")
    return outputs.predicted(), scores


def _require_method(calibration: Calibration, method: str) -> None:
    if calibration.method != method:
        raise CalibrationError(f"calibration: method must be {method}, not {calibration.method}")


def _require_finite(*lists: Sequence[float]) -> None:
    if not all(map(math.isfinite, itertools.chain.from_iterable(lists))):
        raise CalibrationError("calibration: its numbers must be finite")


def _rising(numbers: Sequence[float]) -> bool:
    return all(low < high for low, high in itertools.pairwise(numbers))


def _in_unit(numbers: Sequence[float]) -> bool:
    return all(0 <= each <= 1 for each in numbers)
