"""What numbers show, held against what was declared: before hours of work, not after.

Pure functions of outputs, kind, classes and labels. What cannot be right is an error, what is
seldom right a note.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from committee.arrays import Array
from committee.errors import MisalignedError, ShapeError
from committee.rule.outputs import Outputs
from committee.text import LISTED, printable

# How far a row may be from summing to 1 and still be probabilities: float16 of 1000 classes.
_SUM_TOLERANCE = 2e-2
# Samples without which constant or wrong predictions say nothing.
_ENOUGH = 20
# Classes of which no model is as bad as chance.
_MANY = 10
# An accuracy, and how much more it is than now, that another order of classes must give for a note.
_GOOD, _FAR = 0.6, 0.2
# Classes beyond which orders take long to compare; there another one is as bad as chance.
_MOST_ORDERED = 2000
# Rows of fractions that sum to 1 by chance in no one's logits.
_FEW = 3
_ROWS = 4096
# What probabilities are multiplied by, and the steps to which they are rounded then.
_STEPS: dict[float, tuple[float, ...]] = {1.0: (0.1, 0.01), 100.0: (1.0, 0.1), 255.0: (1.0,)}
# How far a number may be from a step, in steps, and rows of rounded numbers from their sum.
_ON_STEP, _MOST_OFF = 1e-3, 0.3


def check_declared(where: str, outputs: Outputs, remedy: str) -> None:
    """Refuse probabilities that are declared as logits, be they percent, bytes or rounded.

    Args:
        where: What the outputs belong to, for the error.
        outputs: Of some samples, or of all.
        remedy: How they are declared: ``--kind probabilities``.

    Raises:
        ShapeError: If no number is negative and all rows sum to about 1, 100 or 255.
    """
    if outputs.kind != "logits" or outputs.values.ndim != 2 or outputs.values.shape[1] < 2:
        return
    scale = _scale(outputs.values[:_ROWS])
    if not scale or any(_scale(block, scale) != scale for block in _blocks(outputs.values)):
        return
    if scale == 1 and all(_sum_to_one(block) for block in _blocks(outputs.values)):
        raise ShapeError(
            f"{where}: declared as logits, but all rows are within 0 and 1 and sum to 1: these are "
            f"probabilities. Declare so: {remedy}"
        )
    divided = " --normalise" if remedy.startswith("--") else ", with rows divided by their sums"
    raise ShapeError(
        f"{where}: declared as logits, but no number is negative and all rows sum to about "
        f"{scale:.6g}: these are probabilities, scaled or rounded. Declare so: {remedy}{divided}"
    )


def check_classes(where: str, outputs: Outputs, classes: int) -> None:
    """Refuse outputs that do not fit the number of named classes.

    Args:
        where: What the outputs belong to, for the error.
        outputs: Of some samples, or of all.
        classes: How many classes are named; 0 if none are.

    Raises:
        MisalignedError: If outputs are more or fewer, or a decision is beyond them.
    """
    if not classes or not len(outputs):
        return
    if outputs.kind == "decisions":
        beyond = outputs.values >= classes
        if beyond.any():
            row = int(beyond.argmax())
            raise MisalignedError(
                f"{where}: sample {row} is decided as class {outputs.values[row]}, but classes "
                f"0 to {classes - 1} are named. Name all classes, in the order of the model's"
            )
        return
    width = outputs.values.shape[1]
    if width != classes:
        extra = "; if the first output is a background class, leave it out" * (width == classes + 1)
        raise MisalignedError(
            f"{where}: {classes:,} classes are named, but outputs have {width:,}. Name a class for "
            f"each output, in their order{extra}"
        )


def check_labels(where: str, outputs: Outputs, labels: Array | None) -> None:
    """Refuse labels of classes beyond those that a model has.

    Args:
        where: What the outputs belong to, for the error.
        outputs: Of some samples, or of all.
        labels: Class index of each sample of the split, shape (N,), or None.

    Raises:
        MisalignedError: If there is such a label.
    """
    if labels is None or not len(labels) or outputs.values.ndim != 2:
        return
    width = outputs.values.shape[1]
    if labels.max() >= width:
        raise MisalignedError(
            f"{where}: labels go up to {labels.max()}, but outputs have only {width:,} classes, 0 "
            f"to {width - 1}. Are these the labels, and this the model, of one task?"
        )


def check_alike(where: str, widths: Mapping[str, int]) -> None:
    """Refuse models of one pool that have different numbers of outputs.

    Args:
        where: What the models are of, for the error.
        widths: How many outputs each model has, by name.

    Raises:
        MisalignedError: If they differ.
    """
    first = next(iter(widths.items()), ("", 0))
    for name, width in widths.items():
        if width != first[1]:
            raise MisalignedError(
                f"{where}: all models must have the same number of classes: {first[0]!r} has "
                f"{first[1]:,}, {name!r} has {width:,}. Give all models the same classes; one that "
                "has a background class more leaves it out"
            )


def check_kinds(kinds: Mapping[str, str]) -> None:
    """Refuse models of one pool that are declared to give different kinds of outputs.

    Args:
        kinds: Kind of each model's outputs, by name.

    Raises:
        MisalignedError: If they differ.
    """
    first = next(iter(kinds.items()), ("", ""))
    for name, kind in kinds.items():
        if kind != first[1]:
            raise MisalignedError(
                f"predict: all models must have the same kind of outputs: {first[0]!r} has "
                f"{first[1]}, {name!r} has {kind}. Predict those of another kind into a store of "
                f"their own: --only {name} --out OTHER"
            )


def normalised(where: str, values: Array) -> Array:
    """Return rows divided by their sums: of percent, of bytes, of rounded probabilities.

    Args:
        where: What the values belong to, for the error.
        values: Shape (N, C), not negative.

    Raises:
        ShapeError: If a row is negative or sums to 0, or sums differ by a factor of 2 or more:
            these are no probabilities on whatever scale.
    """
    numbers = np.asarray(values, np.float64)
    if numbers.ndim != 2 or not numbers.size:
        return numbers
    sums = numbers.sum(axis=1, keepdims=True)
    wrong = (numbers < 0).any(axis=1) | ~(sums[:, 0] > 0)
    if wrong.any() or sums.max() >= 2 * sums.min():
        row = int(wrong.argmax()) if wrong.any() else int(sums.argmax())
        raise ShapeError(
            f"{where}: --normalise divides rows of probabilities by their sums, but sample {row} "
            f"sums to {sums[row, 0]:.4g}, others to {np.median(sums):.4g}, the least number is "
            f"{numbers.min():.4g}. Are these logits? Declare so"
        )
    quotients: Array = numbers / sums
    return quotients


def notes_on(
    name: str,
    outputs: Outputs,
    labels: Array | None,
    classes: int = 0,
    names: Sequence[str] = (),
) -> list[str]:
    """Return what is seldom right: constant outputs, constant or wrong predictions.

    Args:
        name: Name of the model.
        outputs: All of its outputs, N rows.
        labels: Class index of each sample, shape (N,), or None.
        classes: How many classes there are, of decisions; 0 if that is not known.
        names: Names of the classes; empty if they have none.
    """
    count = len(outputs)
    if count < _ENOUGH:
        return []
    predicted = np.concatenate([rows.predicted() for rows in _parts(outputs)])
    if _is_constant(outputs):
        return [
            f"{name}: outputs are the same for all {count:,} samples. Do inputs reach the model, "
            "and is its preprocessing right?"
        ]
    if (predicted == predicted[0]).all() and (labels is None or (labels != labels[0]).any()):
        return [
            f"{name}: class {predicted[0]} is predicted for all {count:,} samples. Is its "
            "preprocessing right (mean, std, order of channels), and are all classes trained?"
        ]
    if labels is None:
        return []
    classes = outputs.values.shape[1] if outputs.kind != "decisions" else classes
    classes = classes or int(max(predicted.max(), labels.max())) + 1
    right = int((predicted == labels).sum())
    chance = f", no more than chance ({1 / classes:.2%})" * _by_chance(right, count, classes)
    order = _other_order(predicted, labels, classes, names)
    if not chance and not order:
        return []
    return [
        f"{name}: {right / count:.2%} of {count:,} samples are predicted right{chance}. Is "
        f"classes.txt in the order of the outputs, are labels those of these samples?{order}"
    ]


def _other_order(predicted: Array, labels: Array, classes: int, names: Sequence[str]) -> str:
    """Return in which order of the classes far more would be right; empty if in none."""
    from scipy.optimize import linear_sum_assignment

    known = (labels >= 0) & (labels < classes) & (predicted < classes)
    count = int(known.sum())
    right = float((predicted == labels)[known].mean()) if count else 1.0
    if right + _FAR >= 1 or classes > _MOST_ORDERED:
        return ""
    pairs = np.zeros((classes, classes), np.int64)
    np.add.at(pairs, (predicted[known], labels[known]), 1)
    # Of orders that suit alike the one that moves least: classes without samples stay.
    to = linear_sum_assignment(2 * classes * pairs + np.eye(classes), maximize=True)[1]
    best = float(pairs[np.arange(classes), to].sum()) / count
    # Some order suits chance, of few samples well: Hoeffding's bound for all orders, one in 1,000.
    mean = float(pairs.sum(axis=1) @ pairs.sum(axis=0)[to]) / count**2
    by_chance = mean + math.sqrt((math.lgamma(classes + 1) + math.log(1000)) / (2 * count))
    if best <= max(_GOOD, right + _FAR, by_chance):
        return ""
    moved = [(i, int(j)) for i, j in enumerate(to) if i != j and pairs[i, j]]
    told = ", ".join(f"{_called(i, names)} as {_called(j, names)}" for i, j in moved[:LISTED])
    more = f" and {len(moved) - LISTED:,} more" if len(moved) > LISTED else ""
    return f" With classes in another order ({told}{more}) accuracy would be {best:.2%}"


def _called(index: int, names: Sequence[str]) -> str:
    return printable(names[index]) if index < len(names) else f"class {index}"


def _by_chance(right: int, count: int, classes: int) -> bool:
    """Return whether so few are right that a model of these classes is hardly what predicted them.

    With many classes nobody's model is as bad as chance, and outputs in another order are about so;
    with few, some are, and outputs in another order are clearly worse.
    """
    expected = count / classes
    if classes < _MANY:
        expected -= 1.645 * np.sqrt(expected * (1 - 1 / classes))
    return bool(right <= expected)


def _scale(block: Array, known: float = 0) -> float:
    """Return what rows sum to if they are probabilities times that; 0 if they are none.

    Args:
        block: Some rows.
        known: What other rows sum to; 0 if that is not known yet.
    """
    if not block.size or not block.min() >= 0:
        return 0
    numbers = block.astype(np.float64)
    sums, most = numbers.sum(axis=1), numbers.max(axis=1)
    for scale in (known,) if known else _STEPS:
        off = np.abs(sums - scale).max()
        # Rows of one large number, and a few others, can be anything; more so if little is exact.
        exact = off <= _SUM_TOLERANCE * scale
        told = known or int((most < 0.999 * scale).sum()) >= (_FEW if exact else _ENOUGH)
        if told and off <= _allowed(numbers, scale) and most.max() <= 1.001 * scale:
            return scale
    return 0


def _allowed(numbers: Array, scale: float) -> float:
    """Return how far rows of probabilities times a scale may be from summing to it."""
    for step in _STEPS[scale]:
        if np.abs(numbers / step - np.round(numbers / step)).max() < _ON_STEP:
            rounded = min(numbers.shape[1] * step, _MOST_OFF * scale)
            return float(max(_SUM_TOLERANCE * scale, rounded))
    return _SUM_TOLERANCE * scale


def _sum_to_one(block: Array) -> bool:
    sums = block.sum(axis=1, dtype=np.float64)
    return bool(block.min() >= 0 and block.max() <= 1 and np.abs(sums - 1).max() <= _SUM_TOLERANCE)


def _is_constant(outputs: Outputs) -> bool:
    first = outputs.rows(slice(0, 1))
    return all(
        bool((rows.values == first.values).all())
        and (rows.confidence is None or bool((rows.confidence == first.confidence).all()))
        for rows in _parts(outputs)
    )


def _parts(outputs: Outputs) -> Iterator[Outputs]:
    return (outputs.rows(slice(at, at + _ROWS)) for at in range(0, len(outputs), _ROWS))


def _blocks(values: Array) -> Iterator[Array]:
    return (values[at : at + _ROWS] for at in range(0, len(values), _ROWS))
