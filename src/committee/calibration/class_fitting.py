"""Fit what a model's answer is worth by the class that it names: per class, and experts."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from committee.arrays import Array
from committee.errors import CalibrationError, MisalignedError
from committee.rule.class_calibration import Experts, PerClass
from committee.rule.outputs import Outputs
from committee.rule.scores import max_prob

# Fewer samples fit nothing that holds on others.
LEAST_SAMPLES = 10
# Samples of a class at which its own map counts as much as that of all classes.
HALF_WEIGHT = 20.0
# Bins of confidence of experts, and samples without which there is no further bin.
_BINS, _SAMPLES_A_BIN = 8, 50
# What the pattern of all classes weighs against the counts of one class and bin, in samples, and
# what the frequency of classes weighs against the errors of one predicted class.
_PRIOR, _PRIOR_OF_ERRORS = 5.0, 5.0
# Numbers that the table of a model may have: what a file of megabytes holds.
_MOST_NUMBERS = 250_000
# Knots nearer than this share of the span of confidences are one.
_NEAREST = 1e-12
# Larger confidences, of which differences could overflow, are refused.
_LARGEST = 1e100
# Decimals of what files hold.
_HEIGHTS, _LOGS = 9, 5
# Rows whose confidence is computed at once.
_ROWS = 4096


def fit_per_class(
    outputs: Outputs, labels: Array, where: str, split: str, samples: str
) -> PerClass:
    """Fit isotonic maps from confidence to the share that is right, of all classes and of each.

    The map of class c, of n samples, weighs n / (n + 20) and that of all classes the rest. To each
    map a right sample is added at its least confidence and a wrong one at its largest, so that no
    probability is 0 or 1. Equal confidences are one; between blocks of the isotonic regression,
    which stand at the mean of their confidences, lines are straight.
    """
    predicted, confidence, labels = _answers(outputs, labels, where)
    correct = predicted == labels
    ((knots, heights),) = _isotonic_maps(np.zeros_like(predicted), confidence, correct)
    classes, counts = np.unique(predicted, return_counts=True)
    maps = _isotonic_maps(predicted, confidence, correct)
    return PerClass(
        "per-class",
        (0.0, *(np.diff(heights) / np.diff(knots)).tolist(), 0.0),
        tuple(knots.tolist()),
        float(heights[0]),
        split,
        samples,
        tuple(classes.tolist()),
        tuple(np.round(counts / (counts + HALF_WEIGHT), _HEIGHTS).tolist()),
        tuple(tuple(each.tolist()) for each, _ in maps),
        tuple(tuple(each.tolist()) for _, each in maps),
    )


def fit_experts(
    outputs: Outputs, labels: Array, classes: int, where: str, split: str, samples: str
) -> Experts:
    """Fit log P(truth | predicted class, bin of confidence) from counts, smoothed twice.

    There are up to eight bins of equally many samples, one for every 50. In bin b the pattern of
    all classes is: the prediction c is right as often as predictions of the bin are, and otherwise
    the truth is t as often as among the wrong predictions of c; these are smoothed by five samples
    of the frequency of classes. The counts of c in b are smoothed by five samples of that pattern.
    """
    predicted, confidence, labels = _answers(outputs, labels, where)
    edges = _edges(confidence)
    bins = len(edges) + 1
    _check_table(where, classes, bins)
    if max(predicted.max(), labels.max()) >= classes or labels.min() < 0:
        raise MisalignedError(
            f"{where}: labels and predictions go up to {max(predicted.max(), labels.max())}, but "
            f"there are {classes} classes, 0 to {classes - 1}"
        )
    place = np.searchsorted(edges, confidence, side="right")
    counts = np.zeros((bins, classes, classes))
    np.add.at(counts, (place, predicted, labels), 1)
    pattern = _pattern(counts)
    total = counts.sum(axis=2, keepdims=True)
    shares = (counts + _PRIOR * pattern) / (total + _PRIOR)
    logs = np.round(np.log(shares), _LOGS)
    table = tuple(tuple(tuple(row) for row in each) for each in logs.tolist())
    return Experts("experts", (), tuple(edges.tolist()), 0.0, split, samples, table)


def _pattern(counts: Array) -> Array:
    """Return P(truth) of each bin and predicted class by what all classes have in common."""
    classes = counts.shape[1]
    diagonal = np.eye(classes, dtype=bool)
    right = (np.einsum("bcc->b", counts) + 1) / (counts.sum(axis=(1, 2)) + 2)
    frequency = (counts.sum(axis=(0, 1)) + 1) / (counts.sum() + classes)
    others = np.where(diagonal, 0.0, frequency)
    wrong = np.where(diagonal, 0.0, counts.sum(axis=0))
    wrong += _PRIOR_OF_ERRORS * others / others.sum(axis=1, keepdims=True)
    wrong /= wrong.sum(axis=1, keepdims=True)
    share = right[:, None, None]
    made: Array = np.where(diagonal, share, (1 - share) * wrong)
    return made


def _check_table(where: str, classes: int, bins: int) -> None:
    if classes < 2:
        raise CalibrationError(f"{where}: with one class there is nothing to calibrate")
    if classes * classes * bins > _MOST_NUMBERS:
        raise CalibrationError(
            f"{where}: experts of {classes:,} classes in {bins} bins are "
            f"{classes * classes * bins:,} numbers, more than {_MOST_NUMBERS:,}. Use the method "
            "per-class"
        )


def _answers(outputs: Outputs, labels: Array, where: str) -> tuple[Array, Array, Array]:
    """Return predicted classes, confidences and labels of the samples that have an answer."""
    if len(labels) != len(outputs):
        raise MisalignedError(f"{where}: {len(outputs)} rows of outputs, {len(labels)} labels")
    if outputs.confidence is not None:
        answered = ~np.isneginf(outputs.confidence)
        outputs, labels = outputs.rows(answered), labels[answered]
    if len(labels) < LEAST_SAMPLES:
        raise CalibrationError(
            f"{where}: {len(labels)} samples are too few to fit a calibration by class; give "
            f"{LEAST_SAMPLES} or more"
        )
    if outputs.confidence is None:
        confidence = np.concatenate(list(_confidences(outputs)))
    else:
        confidence = np.asarray(outputs.confidence, np.float64)
    finite = np.isfinite(confidence)
    if not finite.all():
        raise CalibrationError(
            f"{where}: a confidence is NaN or infinite, first in row {np.argmin(finite)}. Keep the "
            "model's outputs finite"
        )
    if np.abs(confidence).max() > _LARGEST:
        raise CalibrationError(
            f"{where}: confidences are beyond {_LARGEST:g}; bring them nearer to 0"
        )
    return np.asarray(outputs.predicted(), np.int64), confidence, labels


def _confidences(outputs: Outputs) -> Iterator[Array]:
    for start in range(0, len(outputs), _ROWS):
        yield max_prob(outputs.values[start : start + _ROWS], outputs.kind)


def _isotonic_maps(group: Array, confidence: Array, correct: Array) -> list[tuple[Array, Array]]:
    """Return for each group knots, rising, and the share that is right at each, not falling."""
    from scipy.optimize import isotonic_regression

    order = np.lexsort((confidence, group))
    group, confidence = group[order], confidence[order]
    new_group = np.diff(group, prepend=-1) > 0
    begins = np.flatnonzero(new_group | (np.diff(confidence, prepend=confidence[0]) > 0))
    ends = np.append(begins[1:], len(group)) - 1
    right = np.add.reduceat(correct[order].astype(np.float64), begins)
    count = (ends - begins + 1).astype(np.float64)
    values, number = confidence[begins], np.cumsum(new_group)[begins]
    least = np.diff(number, prepend=0) > 0
    largest = np.append(least[1:], True)
    right += least
    count += least.astype(np.float64) + largest
    # One regression for all: groups lie so far apart that no block has samples of two.
    first = isotonic_regression(right / count + 2 * number, weights=count).blocks[:-1]
    last = np.append(first[1:], len(values)) - 1
    weight = np.add.reduceat(count, first)
    middle = np.add.reduceat(values * count, first) / weight
    # Rounding must not take a mean out of its block, or make a map fall.
    knots, owner = np.clip(middle, values[first], values[last]), number[first]
    digits = 10**_HEIGHTS
    whole = np.rint(np.add.reduceat(right, first) / weight * digits).astype(np.int64)
    heights = (np.maximum.accumulate(whole + 2 * digits * owner) - 2 * digits * owner) / digits
    near = np.diff(knots, prepend=-np.inf) <= _NEAREST * (confidence.max() - confidence.min())
    kept = ~near | (np.diff(owner, prepend=0) > 0)
    cuts = np.flatnonzero(np.diff(owner[kept])) + 1
    return list(zip(np.split(knots[kept], cuts), np.split(heights[kept], cuts), strict=True))


def _edges(confidence: Array) -> Array:
    """Return numbers between confidences that part samples evenly; fewer where many are equal."""
    values, counts = np.unique(confidence, return_counts=True)
    bins = int(np.clip(len(confidence) // _SAMPLES_A_BIN, 1, _BINS))
    below = np.cumsum(counts)[:-1]
    wanted = len(confidence) * np.arange(1, bins) / bins
    if not len(below):
        return np.empty(0)
    # The place between two different confidences that is nearest to each share.
    after = np.clip(np.searchsorted(below, wanted), 0, len(below) - 1)
    before = np.maximum(after - 1, 0)
    nearer = np.where(wanted - below[before] < below[after] - wanted, before, after)
    chosen = np.unique(nearer)
    low, high = values[chosen], values[chosen + 1]
    middle = low / 2 + high / 2
    edges: Array = np.where((middle > low) & (middle <= high), middle, high)
    return edges
