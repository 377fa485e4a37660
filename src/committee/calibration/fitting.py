"""Fit a calibration to one model by the likelihood of the labels, which is convex in the slopes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np

from committee.arrays import Array
from committee.calibration.class_fitting import fit_experts, fit_per_class
from committee.errors import CalibrationError, CascadeError, MisalignedError
from committee.pool.comparison import identity_of
from committee.pool.pool import Pool
from committee.rule.calibration import Calibration, check_method, log_probabilities, logistic
from committee.rule.outputs import WITH_CONFIDENCE, Outputs

# From parameters to a sum over samples and its gradient.
_Loss = Callable[[Array], tuple[float, Array]]
_Bounds = Sequence[tuple[float | None, float | None]]

# Rows that are computed at once.
_ROWS = 4096
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
# Methods that see the predicted class.
BY_CLASS = ("per-class", "experts")


def fit(
    outputs: Outputs,
    labels: Array | None,
    method: str | None = None,
    *,
    where: str = "calibration",
    split: str = "",
    samples: str = "",
    classes: int | None = None,
) -> Calibration:
    """Fit a calibration to one model: by the likelihood of the labels, or by counts of each class.

    ``platt`` has up to eight pieces, one for every 100 samples. Its knots part the samples evenly
    by the logarithm of their second largest probability, or by the confidence of decisions. A
    normal prior keeps the slopes of neighbours alike, so that few samples make no steps.

    For ``per-class`` and ``experts`` see :mod:`committee.calibration.class_fitting`. For the others
    samples whose own class has probability 0 are left out, for no calibration makes them likelier;
    see :func:`ruled_out_note`.

    Args:
        outputs: Outputs of the model, N rows.
        labels: Class index of each sample, shape (N,).
        method: ``temperature``, ``platt``, ``per-class`` or ``experts``; if left out, ``platt``
            for decisions and else ``temperature``.
        where: Names the outputs in errors.
        split: Name of the split, to be recorded.
        samples: Fingerprint of the samples, to be recorded.
        classes: How many classes there are, for ``experts`` of decisions; if left out, as many as
            labels and predictions show.
    """
    if outputs.kind == "outcomes":
        raise CalibrationError(
            f"{where}: outcomes are not calibrated; no cascade of them compares confidences of "
            "different models"
        )
    if method is None:
        method = "platt" if outputs.kind == "decisions" else "temperature"
    check_method(method, outputs.kind, where)
    if method in BY_CLASS:
        return _fit_by_class(outputs, labels, method, where, split, samples, classes)
    correct = _check_fittable(outputs, labels, where)
    possible = ~_ruled_out(outputs, np.asarray(labels))
    if not possible.all():
        outputs, labels = outputs.rows(possible), np.asarray(labels)[possible]
        correct = _check_fittable(outputs, labels, where)
    pieces = int(np.clip(len(outputs) // _SAMPLES_A_PIECE, 1, _PIECES)) if method == "platt" else 1
    offset = 0.0
    if outputs.kind == "decisions":
        slopes, knots, offset = _fit_decisions(outputs, correct, pieces, where)
    else:
        slopes, knots = _fit_classes(outputs, np.asarray(labels), pieces, where)
    return Calibration(
        method, tuple(slopes.tolist()), tuple(knots.tolist()), offset, split, samples
    )


def _fit_by_class(
    outputs: Outputs,
    labels: Array | None,
    method: str,
    where: str,
    split: str,
    samples: str,
    classes: int | None,
) -> Calibration:
    if labels is None:
        raise _no_labels(where)
    labels = np.asarray(labels)
    if method == "per-class":
        return fit_per_class(outputs, labels, where, split, samples)
    if outputs.kind != "decisions":
        classes = outputs.values.shape[1]
    seen = max(labels.max(initial=0), outputs.predicted().max(initial=0)) + 1
    return fit_experts(outputs, labels, classes or int(seen), where, split, samples)


def classes_of(pool: Pool) -> int:
    """Return how many classes a pool has: those it names, or as many as it shows."""
    if pool.samples.classes or pool.kind not in WITH_CONFIDENCE:
        return len(pool.samples.classes) or next(iter(pool.outputs.values())).values.shape[1]
    shown = [np.asarray(each.values).max(initial=-1) for each in pool.outputs.values()]
    labels = pool.samples.labels
    return int(max([*shown, -1 if labels is None else labels.max(initial=-1)])) + 1


def fit_calibrations(pool: Pool, method: str | None = None) -> dict[str, Calibration]:
    """Fit a calibration of each model of a pool to the labels of its samples.

    Use samples that neither choose nor evaluate, and :meth:`Pool.with_calibrations` on those that
    do.

    Raises:
        CalibrationError: If there are no labels, or no calibration is best; the model is named.
        MisalignedError: If labels are predictions of a reference.
        CascadeError: If only scores and counts are kept of the outputs.
        UnknownNameError: If there is no such method.
    """
    if not pool.keeps_outputs:
        raise CascadeError(
            f"fit_calibrations: of {pool.task.units} only scores and counts are kept, so there are "
            "no outputs to calibrate"
        )
    samples = pool.samples
    if samples.labelled_by:
        raise MisalignedError(
            f"Pool: labels of {samples.split!r} are predictions of {samples.labelled_by}; "
            "calibrations are fitted to true labels"
        )
    classes = classes_of(pool)
    return {
        name: fit(
            outputs,
            samples.labels,
            method,
            where=f"model {name!r} on {samples.split!r}",
            split=samples.split,
            samples=identity_of(pool, [name]),
            classes=classes,
        )
        for name, outputs in pool.outputs.items()
    }


def ruled_out_note(name: str, outputs: Outputs, labels: Array | None) -> str:
    """Return a line on the samples that a fit of this model leaves out; nothing if it has none."""
    count = 0 if labels is None else int(_ruled_out(outputs, labels).sum())
    if labels is None or not count:
        return ""
    without = f"{name}: the calibration is fitted without {count:,} of {len(labels):,} samples"
    if outputs.confidence is not None:
        return f"{without}, to which it gave no answer"
    return f"{without}, whose own class has probability 0: no calibration changes that"


def _ruled_out(outputs: Outputs, labels: Array) -> Array:
    """Return which samples have a class of probability 0, or no decision, shape (N,)."""
    if outputs.confidence is not None:
        return np.isneginf(outputs.confidence)
    own = outputs.values[np.arange(len(labels)), labels]
    return np.asarray(own == (-np.inf if outputs.kind == "logits" else 0))


def _no_labels(where: str) -> CalibrationError:
    return CalibrationError(f"{where}: there are no labels; a calibration is fitted to them")


def _check_fittable(outputs: Outputs, labels: Array | None, where: str) -> Array:
    """Return which samples are predicted right, shape (N,)."""
    if labels is None:
        raise _no_labels(where)
    if len(labels) != len(outputs):
        raise MisalignedError(f"{where}: {len(outputs)} rows of outputs, {len(labels)} labels")
    classes = outputs.values.shape[1] if outputs.kind != "decisions" else 0
    if classes == 1:
        raise CalibrationError(f"{where}: with one class there is nothing to calibrate")
    if classes and len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        raise MisalignedError(
            f"{where}: labels run from {labels.min()} to {labels.max()}, but outputs have "
            f"{classes} classes, 0 to {classes - 1}"
        )
    correct: Array = outputs.predicted() == labels
    for what, each, way in (("right", correct, "low"), ("wrong", ~correct, "high")):
        if each.all():
            raise CalibrationError(
                f"{where}: all {len(correct)} samples are predicted {what}, so that no temperature "
                f"is {way} enough. Fit on more samples, or see to the labels"
            )
    return correct


def _minimum(loss: _Loss, start: Array, bounds: _Bounds, samples: int, where: str) -> Array:
    """Return where a convex function, a sum over samples, is least."""
    from scipy.optimize import minimize

    options = {"maxiter": 1000, "ftol": 1e-12, "gtol": 1e-7}

    def mean(parameters: Array) -> tuple[float, Array]:
        total, gradient = loss(parameters)
        return total / samples, gradient / samples

    result = minimize(mean, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    least: Array = result.x
    if not np.isfinite(least).all():
        raise CalibrationError(
            f"{where}: no calibration was found; outputs are too large. Look at their values"
        )
    return least


def _smooth(loss: _Loss, slope: float, first: int = 0) -> _Loss:
    """Add the cost of differences between neighbouring slopes, which begin at ``first``."""
    scale = _DIFFERENCE * slope

    def smooth(parameters: Array) -> tuple[float, Array]:
        total, gradient = loss(parameters)
        steps = np.diff(parameters[first:]) / scale
        gradient = gradient.copy()
        gradient[first:] -= np.diff(steps, prepend=0, append=0) / scale
        return total + float((steps**2).sum()) / 2, gradient

    return smooth


def _pieces(values: Array, knots: Array) -> list[Array]:
    """Return what each piece contributes for a slope of 1; weighted, their sum is the function."""
    if not len(knots):
        return [values]
    inner = [np.clip(values, low, high) - low for low, high in itertools.pairwise(knots)]
    first, last = np.minimum(values, knots[0]) - knots[0], np.maximum(values, knots[-1]) - knots[-1]
    return [first, *inner, last]


def _knots(values: Array, pieces: int) -> Array:
    """Return points that part values evenly; fewer where values are equal."""
    shares = np.arange(1, pieces) / pieces
    points = np.unique(np.quantile(values, shares))
    return np.asarray(points[(points > values.min()) & (points < values.max())])


def _fit_classes(outputs: Outputs, labels: Array, pieces: int, where: str) -> tuple[Array, Array]:
    """Return slopes and knots."""

    def block(rows: slice) -> Array:
        raw = np.ascontiguousarray(outputs.values[rows], dtype=np.float64)
        with np.errstate(divide="ignore"):
            logarithms = log_probabilities(raw, outputs.kind)
        # A class that is masked, or of probability 0; other logits may be as low on their scale.
        return np.where(np.isneginf(logarithms), _NOTHING, logarithms)

    count = len(outputs)
    blocks = [slice(start, start + _ROWS) for start in range(0, count, _ROWS)]
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
    slopes = _minimum(_smooth(scaled, one[0]), start, limits, len(labels), where)
    return slopes / gap, knots


def _usual(gaps: Array) -> float:
    """Return the usual gap between a sample's two largest logits."""
    some = gaps[gaps > 0]
    return float(np.clip(np.median(some), 1e-9, 1e9)) if len(some) else 1.0


def _refuse_end(where: str, slope: float, least: float, most: float) -> None:
    """Refuse a slope at an end of its range: likelihood has no maximum there."""
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
    """Return the negative log-likelihood of some samples, and its gradient by the slopes."""
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
    logarithms = log_probabilities(mapped, "logits")
    probabilities = np.exp(logarithms)
    # The change of the label's logarithm, less the change expected over all classes.
    gradient = [float(np.vdot(probabilities, first)) - first[of_labels].sum()]
    excess = probabilities[above] - (above[1] == labels[above[0]])
    gradient += [(excess * part).sum() for part in parts]
    return -float(logarithms[of_labels].sum()), np.array(gradient)


def _fit_decisions(
    outputs: Outputs, correct: Array, pieces: int, where: str
) -> tuple[Array, Array, float]:
    """Return slopes, knots and offset."""
    confidence = np.asarray(outputs.confidence, np.float64)
    middle, spread = confidence.mean(), confidence.std()
    if confidence.min() == confidence.max():
        raise CalibrationError(
            f"{where}: confidence is the same for every sample; there is nothing to calibrate"
        )
    knots = _knots(confidence, pieces)
    scaled, points = (confidence - middle) / spread, (knots - middle) / spread
    signs = np.where(correct, 1.0, -1.0)

    def loss(parameters: Array) -> tuple[float, Array]:
        offset, slopes = parameters[0], parameters[1:]
        parts = _pieces(scaled, points if len(slopes) > 1 else points[:0])
        mapped = offset + sum(s * part for s, part in zip(slopes, parts, strict=True))
        with np.errstate(over="ignore"):
            changes = -signs * logistic(-signs * mapped)
        gradient = [changes.sum(), *((changes * part).sum() for part in parts)]
        return float(np.logaddexp(0, -signs * mapped).sum()), np.array(gradient)

    share = correct.mean()
    limits = [(None, None), *[(_LEAST_OF_DECISIONS, _MOST_OF_DECISIONS)] * (len(knots) + 1)]
    start = np.array([math.log(share / (1 - share)), 1.0])
    least = _minimum(loss, start, limits[:2], len(correct), where)
    if len(knots):
        start = np.append(least[0], np.repeat(least[1], len(knots) + 1))
        least = _minimum(_smooth(loss, least[1], 1), start, limits, len(correct), where)
    slopes = least[1:] / spread
    # Without knots the offset is the value at 0, which is not the middle.
    offset = least[0] if len(knots) else least[0] - slopes[0] * middle
    return slopes, knots, float(offset)
