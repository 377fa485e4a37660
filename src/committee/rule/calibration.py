"""Calibration: outputs of one model to outputs whose confidence is how often they are right.

Averaging lets the loudest model win; a calibration brings each model to the scale of its own
errors before outputs are combined. Two methods, after appendix D.2 of Wang et al. (2022):

``temperature``
    Logits are divided by one number T, probabilities raised to the power 1/T (Guo et al. 2017).
``platt``
    The paper's "Platt scaling via a learned monotonic calibration network". The logarithm of each
    probability goes through one rising function, the same for all classes, made of straight
    pieces; the softmax of what comes out are the new probabilities. One piece is a temperature.
    Rahimi et al. (2020) call such a map diagonal and order-preserving. Of decisions, the
    confidence goes through such a function and then the logistic one, as in Platt (1999), and
    becomes the probability that the decision is right.

Both are fitted by the likelihood of the labels, which is convex in the slopes of the pieces. No
calibration changes what a model predicts by itself.

References:
    Wang et al. (2022), Wisdom of Committees, appendix D.2.
    Guo et al. (2017), On Calibration of Modern Neural Networks.
    Rahimi et al. (2020), Intra Order-Preserving Functions for Calibration of Multi-Class Networks.
    Platt (1999), Probabilistic Outputs for Support Vector Machines.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from committee.arrays import Array
from committee.errors import (
    CalibrationError,
    MisalignedError,
    ShapeError,
    UnknownNameError,
    UnreadableError,
)
from committee.reading import typed
from committee.rule.outputs import Outputs
from committee.rule.scores import max_prob

# From parameters to a sum over samples and its gradient.
_Loss = Callable[[Array], tuple[float, Array]]
_Bounds = Sequence[tuple[float | None, float | None]]

METHODS = ("temperature", "platt")

# Rows that are computed at once.
_ROWS = 4096
# An expected calibration error that is larger by less is chance: of many samples, of few by 1/√N.
_WORSE, _WORSE_OF_FEW = 0.005, 0.5
# Temperatures from 1/64 to 64, and as much around the usual gap between a model's two largest
# logits, which may be cosines or sums of thousands: beyond, the fit follows single samples.
_LEAST, _MOST = 1 / 64, 64.0
# A slope as near to an end of its range as this is at the end.
_AT_END = 1e-4
# Slopes per standard deviation of the confidence, for decisions.
_LEAST_OF_DECISIONS, _MOST_OF_DECISIONS = 1e-3, 1e3
# Pieces of the rising function, and samples without which there is no further piece.
_PIECES, _SAMPLES_A_PIECE = 8, 100
# Slopes of neighbours are expected to differ by this share of the slope of a single piece: what few
# samples say of one piece is weighed against it.
_DIFFERENCE = 0.25
# Logarithm of the least positive number: where a probability is 0, the fit takes this.
_NOTHING = math.log(np.finfo(np.float64).smallest_subnormal)


@dataclass(frozen=True)
class Calibration:
    """A rising function made of straight pieces, fitted to one model, and what it was fitted on.

    Args:
        method: ``temperature`` or ``platt``.
        slopes: Slope of each piece, from the left, above 0; of a temperature T one, 1/T.
        knots: Where one piece ends and the next begins, rising, one less than slopes; logarithms of
            probabilities, or confidences of decisions.
        offset: Value at the first knot; without knots, at 0. Only decisions need one.
        split: Name of the split that it was fitted on.
        samples: Fingerprint of the samples that it was fitted on.

    Raises:
        CalibrationError: If numbers are not finite, slopes not above 0, or knots do not rise.
        UnknownNameError: If there is no such method.

    >>> Calibration.of_temperature(2.0).apply(Outputs("logits", np.array([[4.0, 1.0]]))).values
    array([[2. , 0.5]])
    """

    method: str
    slopes: tuple[float, ...]
    knots: tuple[float, ...] = ()
    offset: float = 0.0
    split: str = ""
    samples: str = ""

    def __post_init__(self) -> None:
        check_method(self.method)
        numbers = (*self.slopes, *self.knots, self.offset)
        if not all(math.isfinite(number) for number in numbers):
            raise CalibrationError("calibration: slopes, knots and offset must be finite")
        if not all(slope > 0 for slope in self.slopes):
            raise CalibrationError("calibration: slopes must be above 0, or order would be lost")
        if len(self.knots) != len(self.slopes) - 1 or not all(
            low < high for low, high in itertools.pairwise(self.knots)
        ):
            raise CalibrationError(
                f"calibration: {len(self.slopes)} slopes need {len(self.slopes) - 1} rising knots"
            )
        if self.method == "temperature" and (self.knots or self.offset):
            raise CalibrationError("calibration: a temperature has one slope and nothing else")

    @classmethod
    def of_temperature(cls, temperature: float) -> Calibration:
        """Divide logits by a temperature; above 1 makes a model less sure.

        Raises:
            CalibrationError: If it is not above 0 and finite.
        """
        if not (temperature > 0 and math.isfinite(temperature)):
            raise CalibrationError(
                f"calibration: a temperature must be above 0 and finite, not {temperature}"
            )
        return cls("temperature", (1 / temperature,))

    @property
    def told(self) -> str:
        """The calibration in a word or two, for tables."""
        if self.method == "temperature":
            temperature = 1 / self.slopes[0]
            return f"T = {temperature:.3f}" if temperature >= 0.1 else f"T = {temperature:.3g}"
        return f"{self.method}, {len(self.slopes)} piece{'s' if len(self.slopes) > 1 else ''}"

    def apply(self, outputs: Outputs) -> Outputs:
        """Calibrate outputs, row by row, in float64; kind, shape and predicted classes stay.

        Raises:
            CalibrationError: If a temperature is to be applied to decisions.
        """
        if outputs.kind == "decisions":
            _check_kind(self.method, outputs)
            confidence = _logistic(self._mapped(np.asarray(outputs.confidence, np.float64)))
            return Outputs(outputs.kind, outputs.values, confidence)
        values = np.empty(outputs.values.shape)
        for rows in _blocks(len(outputs)):
            raw = np.ascontiguousarray(outputs.values[rows], dtype=np.float64)
            # Logits beyond all exponents: what is no number then is refused by its score.
            with np.errstate(over="ignore", invalid="ignore"):
                made = self._calibrated(raw, outputs.kind == "logits")
            values[rows] = _leading(raw, made)
        return Outputs(outputs.kind, values)

    def _calibrated(self, raw: Array, logits: bool) -> Array:
        if self.method == "temperature":
            if logits:
                return raw * self.slopes[0]
            powers = raw ** self.slopes[0]
            # The sum that was, which is 1 but for rounding, so that T = 1 changes nothing.
            scaled: Array = powers * (_sums(raw) / _sums(powers))
            return scaled
        mapped = self._mapped(_log_probabilities(raw, logits))
        if logits:
            return mapped
        exponentials = np.exp(mapped - mapped.max(axis=1, keepdims=True))
        probabilities: Array = exponentials / _sums(exponentials)
        return probabilities

    def _mapped(self, values: Array) -> Array:
        """The rising function; rounding never makes it fall."""
        if not self.knots:
            return values * self.slopes[0] + self.offset
        knots, slopes = np.array(self.knots), np.array(self.slopes)
        at_knots = np.empty(len(knots))
        at_knots[0] = self.offset
        for i in range(1, len(knots)):
            at_knots[i] = at_knots[i - 1] + slopes[i] * (knots[i] - knots[i - 1])
        piece = np.searchsorted(knots, values, side="right")
        begin = np.maximum(piece - 1, 0)
        mapped: Array = at_knots[begin] + slopes[piece] * (values - knots[begin])
        return mapped

    def to_json(self) -> dict[str, Any]:
        """What stores and cascade files hold."""
        return {
            "method": self.method,
            "slopes": list(self.slopes),
            "knots": list(self.knots),
            "offset": self.offset,
            "split": self.split,
            "samples": self.samples,
        }

    @classmethod
    def from_json(cls, data: Any) -> Calibration:
        """Read what :meth:`to_json` wrote.

        Raises:
            CalibrationError: If a field is missing or wrong.
        """
        try:
            return typed("calibration", data, cls, whole=True)
        except (UnreadableError, UnknownNameError) as error:
            raise CalibrationError(str(error)) from None


def check_method(method: str) -> None:
    """Refuse a method that is not there.

    Raises:
        UnknownNameError: If so.
    """
    if method not in METHODS:
        raise UnknownNameError.of("calibration", "method", str(method), METHODS)


def calibrated(
    outputs: Mapping[str, Outputs], calibrations: Mapping[str, Calibration]
) -> dict[str, Outputs]:
    """Outputs by model, those of models that have a calibration calibrated; order stays."""
    return {
        name: calibrations[name].apply(each) if name in calibrations else each
        for name, each in outputs.items()
    }


def fit(
    outputs: Outputs,
    labels: Array | None,
    method: str | None = None,
    *,
    where: str = "calibration",
    split: str = "",
    samples: str = "",
) -> Calibration:
    """Fit a calibration to one model by the likelihood of the labels.

    ``platt`` has up to eight pieces, one for every 100 samples. Its knots part the samples evenly
    by the logarithm of their second largest probability; of decisions, by their confidence. That
    slopes of neighbours differ little is a normal prior, so that few samples make no steps.

    Samples whose own class is ruled out are left out, for no calibration makes them likelier; see
    :func:`ruled_out_note`.

    Args:
        outputs: Of the model, N rows.
        labels: Class index of each sample, shape (N,).
        method: ``temperature`` or ``platt``; if left out, ``platt`` of decisions and else
            ``temperature``.
        where: What the outputs belong to, for errors.
        split: Name of the split, to be recorded.
        samples: Fingerprint of the samples, to be recorded.

    Raises:
        CalibrationError: If there are no labels, or no calibration is better than all others: with
            fewer than two samples or classes, with no sample right or none wrong, with outputs
            that do not tell sure from unsure.
        MisalignedError: If there is not one label for each row.
        UnknownNameError: If there is no such method.
    """
    if method is None:
        method = "platt" if outputs.kind == "decisions" else "temperature"
    check_method(method)
    _check_kind(method, outputs, where)
    right = _check_fittable(outputs, labels, where)
    possible = ~_ruled_out(outputs, np.asarray(labels))
    if not possible.all():
        outputs, labels = outputs.rows(possible), np.asarray(labels)[possible]
        right = _check_fittable(outputs, labels, where)
    pieces = int(np.clip(len(outputs) // _SAMPLES_A_PIECE, 1, _PIECES)) if method == "platt" else 1
    if outputs.kind == "decisions":
        slopes, knots, offset = _fitted_to_decisions(outputs, right, pieces, where)
    else:
        slopes, knots = _fitted_to_classes(outputs, np.asarray(labels), pieces, where)
        offset = 0.0
    return Calibration(
        method, tuple(slopes.tolist()), tuple(knots.tolist()), offset, split, samples
    )


def ruled_out_note(name: str, outputs: Outputs, labels: Array | None) -> str:
    """Return a line on samples that a fit leaves out; nothing if there are none.

    Args:
        name: Name of the model.
        outputs: Of the model, N rows.
        labels: Class index of each sample, shape (N,).
    """
    count = 0 if labels is None else int(_ruled_out(outputs, labels).sum())
    if labels is None or not count:
        return ""
    return (
        f"{name}: the calibration is fitted without {count:,} of {len(labels):,} samples, whose "
        "own class has probability 0: no calibration changes that"
    )


def _ruled_out(outputs: Outputs, labels: Array) -> Array:
    """Whether the class of each sample has probability 0, shape (N,)."""
    if outputs.kind == "decisions":
        return np.zeros(len(labels), bool)
    own = outputs.values[np.arange(len(labels)), labels]
    none: Array = np.isneginf(own) if outputs.kind == "logits" else own == 0
    return none


@dataclass(frozen=True, eq=False)
class Reliability:
    """How often a model is right, by how sure it is.

    Bins are of equal width, and what is certain, 1.0, has one of its own, as torchmetrics has it.

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
    """Accuracy by confidence, which is the largest probability (Wang et al. 2022, figure 6).

    Args:
        outputs: Of one model, or of several combined, N rows.
        labels: Class index of each sample, shape (N,).
        bins: How many bins there are between 0 and 1.

    Raises:
        ShapeError: If there is no bin, or confidences of decisions are no probabilities.
        MisalignedError: If there is no sample, or not one label for each row.
    """
    if bins < 1:
        raise ShapeError(f"reliability: bins must be 1 or more, not {bins}")
    if len(labels) != len(outputs) or not len(outputs):
        raise MisalignedError(
            f"reliability: {len(outputs)} rows of outputs, {len(labels)} labels; give one for each"
        )
    # Single precision, as in torchmetrics: what rounds to 1 there is 1 here.
    confidence = _confidence(outputs).astype(np.float32)
    right = outputs.predicted() == labels
    edges = np.linspace(0, 1, bins + 1, dtype=np.float32)
    place = np.searchsorted(edges, confidence, side="right") - 1
    count = np.bincount(place, minlength=bins + 1)
    some = np.maximum(count, 1)
    return Reliability(
        count,
        np.bincount(place, confidence, bins + 1) / some,
        np.bincount(place, right, bins + 1) / some,
    )


def says_probabilities(outputs: Outputs) -> bool:
    """Whether confidence can be a probability; that of decisions may be any number."""
    if outputs.confidence is None or not len(outputs):
        return True
    return bool(outputs.confidence.min() >= 0 and outputs.confidence.max() <= 1)


def expected_calibration_error(outputs: Outputs, labels: Array, bins: int = 15) -> float:
    """How far confidence is from accuracy, as torchmetrics' ``multiclass_calibration_error``.

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
    """Return a line where a calibration leaves confidence further from accuracy; else nothing.

    Args:
        name: Name of the model.
        before: Expected calibration error without the calibration; None if that is not known.
        after: The same with it.
        split: Name of the split.
        samples: How many samples it has.
        fitted: Whether the calibration was fitted on it: there chance is no excuse.
    """
    chance = _WORSE if fitted else max(_WORSE, _WORSE_OF_FEW / math.sqrt(samples))
    if before is None or after <= before + chance:
        return ""
    return (
        f"{name}: calibration makes its confidence worse on {split}, an expected error of "
        f"{before:.2%} becomes {after:.2%}. Leave it out with committee calibrate --remove, or try "
        "another --method"
    )


def _confidence(outputs: Outputs) -> Array:
    if outputs.kind != "decisions":
        parts = [max_prob(outputs.values[rows], outputs.kind) for rows in _blocks(len(outputs))]
        largest: Array = np.minimum(np.concatenate(parts), 1.0)
        return largest
    confidence = np.asarray(outputs.confidence, np.float64)
    if not says_probabilities(outputs):
        raise ShapeError(
            f"reliability: confidence runs from {confidence.min():.4g} to {confidence.max():.4g}; "
            "only of probabilities, 0 to 1, it can be said how often they are right"
        )
    return confidence


def _blocks(count: int) -> Iterator[slice]:
    return (slice(start, start + _ROWS) for start in range(0, count, _ROWS))


def _sums(values: Array) -> Array:
    sums: Array = values.sum(axis=1, keepdims=True)
    return sums


def _log_probabilities(raw: Array, logits: bool) -> Array:
    if not logits:
        with np.errstate(divide="ignore"):
            logarithms: Array = np.log(raw)
        return logarithms
    below = raw - raw.max(axis=1, keepdims=True)
    difference: Array = below - np.log(_sums(np.exp(below)))
    return difference


def _logistic(values: Array) -> Array:
    with np.errstate(over="ignore"):
        probabilities: Array = 1 / (1 + np.exp(-values))
    return probabilities


def _leading(raw: Array, made: Array) -> Array:
    """What was made, the class that led before a hair ahead where rounding let another overtake."""
    if not raw.shape[1]:
        return made
    before, after = raw.argmax(axis=1), made.argmax(axis=1)
    rows = np.flatnonzero(before != after)
    made[rows, before[rows]] = np.nextafter(made[rows, after[rows]], np.inf)
    return made


def _check_kind(method: str, outputs: Outputs, where: str = "calibration") -> None:
    if method == "temperature" and outputs.kind == "decisions":
        raise CalibrationError(
            f"{where}: a temperature is for logits and probabilities, these are decisions; "
            "use the method platt"
        )


def _check_labels(outputs: Outputs, labels: Array, where: str) -> None:
    if outputs.kind == "decisions" or not len(labels):
        return
    classes = outputs.values.shape[1]
    if labels.min() < 0 or labels.max() >= classes:
        raise MisalignedError(
            f"{where}: labels run from {labels.min()} to {labels.max()}, but outputs have "
            f"{classes} classes, 0 to {classes - 1}"
        )


def _check_fittable(outputs: Outputs, labels: Array | None, where: str) -> Array:
    """Whether each sample is predicted right, shape (N,)."""
    if labels is None:
        raise CalibrationError(f"{where}: there are no labels; a calibration is fitted to them")
    if len(labels) != len(outputs):
        raise MisalignedError(f"{where}: {len(outputs)} rows of outputs, {len(labels)} labels")
    if outputs.kind != "decisions" and outputs.values.shape[1] < 2:
        raise CalibrationError(f"{where}: with one class there is nothing to calibrate")
    _check_labels(outputs, labels, where)
    right: Array = outputs.predicted() == labels
    for what, each, way in (("right", right, "low"), ("wrong", ~right, "high")):
        if each.all():
            raise CalibrationError(
                f"{where}: all {len(right)} samples are predicted {what}, so that no temperature "
                f"is {way} enough. Fit on more samples, or see to the labels"
            )
    return right


def _minimum(loss: _Loss, start: Array, bounds: _Bounds, samples: int, where: str) -> Array:
    """Where a convex function, a sum over samples, is least."""
    from scipy.optimize import minimize

    options = {"maxiter": 1000, "ftol": 1e-12, "gtol": 1e-7}

    def mean(parameters: Array) -> tuple[float, Array]:
        total, gradient = loss(parameters)
        return total / samples, gradient / samples

    found = minimize(mean, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    if not np.isfinite(found.x).all():
        raise CalibrationError(
            f"{where}: no calibration was found; outputs are too large. Look at their values"
        )
    least: Array = found.x
    return least


def _smooth(loss: _Loss, slope: float, first: int = 0) -> _Loss:
    """Add what differences between neighbouring slopes cost; slopes begin at ``first``."""
    scale = _DIFFERENCE * slope

    def smooth(parameters: Array) -> tuple[float, Array]:
        total, gradient = loss(parameters)
        steps = np.diff(parameters[first:]) / scale
        gradient = gradient.copy()
        gradient[first:] -= np.diff(steps, prepend=0, append=0) / scale
        return total + float((steps**2).sum()) / 2, gradient

    return smooth


def _pieces(values: Array, knots: Array) -> list[Array]:
    """What each piece contributes for a slope of 1; their weighted sum is the rising function."""
    if not len(knots):
        return [values]
    inner = [np.clip(values, low, high) - low for low, high in itertools.pairwise(knots)]
    first, last = np.minimum(values, knots[0]) - knots[0], np.maximum(values, knots[-1]) - knots[-1]
    return [first, *inner, last]


def _knots(values: Array, pieces: int) -> Array:
    """Points that part values evenly; fewer where values are equal."""
    shares = np.arange(1, pieces) / pieces
    points = np.unique(np.quantile(values, shares))
    kept: Array = points[(points > values.min()) & (points < values.max())]
    return kept


def _fitted_to_classes(
    outputs: Outputs, labels: Array, pieces: int, where: str
) -> tuple[Array, Array]:
    """Slopes and knots."""

    def block(rows: slice) -> Array:
        raw = np.ascontiguousarray(outputs.values[rows], dtype=np.float64)
        logarithms = _log_probabilities(raw, outputs.kind == "logits")
        # A class that is masked, or of probability 0; other logits may be as low on their scale.
        return np.where(np.isneginf(logarithms), _NOTHING, logarithms)

    blocks = list(_blocks(len(outputs)))
    second, gaps, differ = [], [], False
    for rows in blocks:
        ranked = np.partition(block(rows), -2, axis=1)
        second.append(ranked[:, -2])
        gaps.append(ranked[:, -1] - ranked[:, -2])
        differ = differ or bool((ranked[:, 0] < ranked[:, -1]).any())
    if not differ:
        raise CalibrationError(
            f"{where}: outputs are the same for every class; there is nothing to calibrate"
        )
    knots = _knots(np.concatenate(second), pieces)

    def loss(slopes: Array) -> tuple[float, Array]:
        total, gradient = 0.0, np.zeros(len(slopes))
        for rows in blocks:
            own, added = _loss_of_block(slopes, block(rows), labels[rows], knots)
            total, gradient = total + own, gradient + added
        return total, gradient

    gap = _usual(np.concatenate(gaps))
    # In units of the gap, so that the search takes steps of the right size.
    limit = (min(_LEAST, _LEAST * gap), max(_MOST, _MOST * gap))
    least, most = limit[0] / gap, limit[1] / gap

    def scaled(slopes: Array) -> tuple[float, Array]:
        total, gradient = loss(slopes / gap)
        return total, gradient / gap

    begin = np.clip([gap], _LEAST, _MOST)
    one = _minimum(scaled, begin, [limit], len(labels), where)
    _refuse_end(where, one[0] / gap, least, most)
    if not len(knots):
        return one / gap, knots
    start, limits = np.repeat(one, len(knots) + 1), [limit] * (len(knots) + 1)
    found = _minimum(_smooth(scaled, one[0]), start, limits, len(labels), where)
    return found / gap, knots


def _usual(gaps: Array) -> float:
    """Return the usual gap between a sample's two largest logits."""
    some = gaps[gaps > 0]
    return float(np.clip(np.median(some), 1e-9, 1e9)) if len(some) else 1.0


def _refuse_end(where: str, slope: float, least: float, most: float) -> None:
    """Refuse a slope at an end of its range: likelihood has no maximum there.

    Raises:
        CalibrationError: If it is.
    """
    if slope <= least * (1 + _AT_END):
        raise CalibrationError(
            f"{where}: no temperature up to {1 / least:.4g} is high enough, for outputs tell next "
            "to nothing of these labels. Are labels and classes in the order of the outputs?"
        )
    if slope >= most * (1 - _AT_END):
        raise CalibrationError(
            f"{where}: no temperature down to {1 / most:.4g} is low enough, for hardly a sample is "
            "predicted wrong. Fit on more samples"
        )


def _loss_of_block(
    slopes: Array, values: Array, labels: Array, knots: Array
) -> tuple[float, Array]:
    """Negative log-likelihood of some samples, and its gradient by the slopes."""
    of_labels: tuple[Array, ...] = (np.arange(len(values)), labels)
    parts: list[Array] = []
    if len(slopes) == 1:
        first, above = values, of_labels
    else:
        # Of many classes few are likely: only these are beyond the first knot.
        above = np.nonzero(values > knots[0])
        first, *parts = _pieces(values[above], knots)
        first = np.minimum(values, knots[0]) - knots[0]
    mapped = slopes[0] * first
    if parts:
        mapped[above] += sum(s * part for s, part in zip(slopes[1:], parts, strict=True))
    logarithms = _log_probabilities(mapped, True)
    probabilities = np.exp(logarithms)
    # What a slope does to the logarithm of the label's probability, less what it does on average.
    gradient = [float(np.vdot(probabilities, first)) - first[of_labels].sum()]
    excess = probabilities[above] - (above[1] == labels[above[0]])
    gradient += [(excess * part).sum() for part in parts]
    return -float(logarithms[of_labels].sum()), np.array(gradient)


def _fitted_to_decisions(
    outputs: Outputs, right: Array, pieces: int, where: str
) -> tuple[Array, Array, float]:
    """Slopes, knots and offset."""
    confidence = np.asarray(outputs.confidence, np.float64)
    middle, spread = confidence.mean(), confidence.std()
    if confidence.min() == confidence.max():
        raise CalibrationError(
            f"{where}: confidence is the same for every sample; there is nothing to calibrate"
        )
    knots = _knots(confidence, pieces)
    scaled, points = (confidence - middle) / spread, (knots - middle) / spread
    signs = np.where(right, 1.0, -1.0)

    def loss(parameters: Array) -> tuple[float, Array]:
        offset, slopes = parameters[0], parameters[1:]
        parts = _pieces(scaled, points if len(slopes) > 1 else points[:0])
        mapped = offset + sum(s * part for s, part in zip(slopes, parts, strict=True))
        changes = -signs * _logistic(-signs * mapped)
        gradient = [changes.sum(), *((changes * part).sum() for part in parts)]
        return float(np.logaddexp(0, -signs * mapped).sum()), np.array(gradient)

    share = right.mean()
    limits = [(None, None), *[(_LEAST_OF_DECISIONS, _MOST_OF_DECISIONS)] * (len(knots) + 1)]
    start = np.array([math.log(share / (1 - share)), 1.0])
    found = _minimum(loss, start, limits[:2], len(right), where)
    if len(knots):
        start = np.append(found[0], np.repeat(found[1], len(knots) + 1))
        found = _minimum(_smooth(loss, found[1], 1), start, limits, len(right), where)
    slopes = found[1:] / spread
    # Without knots the offset is the value at 0, which is not the middle.
    offset = found[0] if len(knots) else found[0] - slopes[0] * middle
    return slopes, knots, float(offset)
