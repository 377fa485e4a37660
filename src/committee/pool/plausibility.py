"""Compare outputs with what was declared about them, before hours of work.

Pure functions of outputs, kind, classes and labels. What cannot be right raises an error; what is
seldom right gives a note.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from committee.arrays import Array
from committee.errors import MisalignedError, ShapeError
from committee.rule.outputs import Outputs
from committee.text import LISTED, printable

# Largest distance from 1 of a sum of probabilities: float16 with 1000 classes.
_SUM_TOLERANCE = 2e-2
# With fewer samples, constant or wrong predictions mean nothing.
_ENOUGH = 20
# With this many classes, no model is as bad as chance.
_MANY = 10
# Another order of classes gives a note if it reaches this accuracy, and gains this much.
_GOOD, _FAR = 0.6, 0.2
# With more classes orders take long to compare, and a wrong order is as bad as chance anyway.
_MOST_ORDERED = 2000
# So many rows of logits never sum to 1 by chance.
_FEW = 3
_ROWS = 4096
# Scales of probabilities, and the steps to which numbers are rounded on each scale.
_STEPS: dict[float, tuple[float, ...]] = {1.0: (0.1, 0.01), 100.0: (1.0, 0.1), 255.0: (1.0,)}
# Largest distance of a number from a step, in steps, and of a rounded row from its sum.
_ON_STEP, _MOST_OFF = 1e-3, 0.3


def check_declared(where: str, outputs: Outputs, remedy: str) -> None:
    """Refuse probabilities that are declared as logits, also percent, bytes and rounded ones."""
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
    """Refuse outputs that do not fit the number of named classes."""
    if not classes or not len(outputs) or outputs.kind == "outcomes":
        return
    if outputs.kind == "decisions":
        beyond = outputs.values >= classes
        if beyond.any():
            row = int(beyond.argmax())
            raise MisalignedError(
                f"{where}: sample {row} is decided as class {outputs.values[row]}, but classes "
                f"0 to {classes - 1} are named. Name all classes, in the model's order"
            )
        return
    width = outputs.values.shape[1]
    if width != classes:
        extra = "; if the first output is a background class, leave it out" * (width == classes + 1)
        raise MisalignedError(
            f"{where}: {classes:,} classes are named, but outputs have {width:,}. Name a class for "
            f"each output, in their order{extra}"
        )


def check_alike(where: str, widths: Mapping[str, int]) -> None:
    """Raise MisalignedError if models of one pool have different numbers of outputs."""
    first = next(iter(widths.items()), ("", 0))
    for name, width in widths.items():
        if width != first[1]:
            raise MisalignedError(
                f"{where}: all models must have the same number of classes: {first[0]!r} has "
                f"{first[1]:,}, {name!r} has {width:,}. Give all models the same classes; leave "
                "out an extra background class"
            )


def notes_on(
    name: str,
    outputs: Outputs,
    labels: Array | None,
    classes: int = 0,
    names: Sequence[str] = (),
) -> list[str]:
    """Return notes on suspect outputs: constant outputs, constant or wrong predictions."""
    count = len(outputs)
    if count < _ENOUGH or outputs.kind == "outcomes":
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
    correct = int((predicted == labels).sum())
    chance = f", no more than chance ({1 / classes:.2%})" * _by_chance(correct, count, classes)
    order = _other_order(predicted, labels, classes, names)
    if not chance and not order:
        return []
    return [
        f"{name}: {correct / count:.2%} of {count:,} predictions are correct{chance}. Are the "
        "classes in the order of the outputs, and do the labels belong to these samples?"
        f"{order}"
    ]


def _other_order(predicted: Array, labels: Array, classes: int, names: Sequence[str]) -> str:
    """Return a text on an order of the classes with far higher accuracy; empty if there is none."""
    known = (labels >= 0) & (labels < classes) & (predicted < classes)
    count = int(known.sum())
    accuracy = float((predicted == labels)[known].mean()) if count else 1.0
    if accuracy + _FAR >= 1 or classes > _MOST_ORDERED:
        return ""
    pairs = np.zeros((classes, classes), np.int64)
    np.add.at(pairs, (predicted[known], labels[known]), 1)
    # No order is better than one that may use a class twice; SciPy takes long to load.
    if float(pairs.max(axis=1).sum()) / count <= max(_GOOD, accuracy + _FAR):
        return ""
    from scipy.optimize import linear_sum_assignment

    # Among equally good orders, prefer the one that moves least: classes without samples stay.
    to = linear_sum_assignment(2 * classes * pairs + np.eye(classes), maximize=True)[1]
    best = float(pairs[np.arange(classes), to].sum()) / count
    # The best order fits chance, too; Hoeffding's bound over all orders, at 1 in 1,000.
    mean = float(pairs.sum(axis=1) @ pairs.sum(axis=0)[to]) / count**2
    by_chance = mean + math.sqrt((math.lgamma(classes + 1) + math.log(1000)) / (2 * count))
    if best <= max(_GOOD, accuracy + _FAR, by_chance):
        return ""
    moved = [(i, int(j)) for i, j in enumerate(to) if i != j and pairs[i, j]]
    swaps = ", ".join(f"{_called(i, names)} as {_called(j, names)}" for i, j in moved[:LISTED])
    more = f" and {len(moved) - LISTED:,} more" if len(moved) > LISTED else ""
    return f" With classes in another order ({swaps}{more}) accuracy would be {best:.2%}"


def _called(index: int, names: Sequence[str]) -> str:
    return printable(names[index]) if index < len(names) else f"class {index}"


def _by_chance(correct: int, count: int, classes: int) -> bool:
    """Return True if so few predictions are correct that the model hardly made them.

    With many classes no model is as bad as chance, but outputs in a wrong order are. With few
    classes some models are, but outputs in a wrong order are clearly worse.
    """
    expected = count / classes
    if classes < _MANY:
        expected -= 1.645 * np.sqrt(expected * (1 - 1 / classes))
    return bool(correct <= expected)


def _scale(block: Array, known: float = 0) -> float:
    """Return the sum of rows if they are scaled probabilities, 0 otherwise.

    ``known`` is the sum of other rows; 0 if it is not known yet.
    """
    if not block.size or not block.min() >= 0:
        return 0
    numbers = block.astype(np.float64)
    sums, most = numbers.sum(axis=1), numbers.max(axis=1)
    for scale in (known,) if known else _STEPS:
        off = np.abs(sums - scale).max()
        # Rows that consist of one large number prove nothing; inexact sums need more evidence.
        exact = off <= _SUM_TOLERANCE * scale
        enough = known or int((most < 0.999 * scale).sum()) >= (_FEW if exact else _ENOUGH)
        if enough and off <= _allowed(numbers, scale) and most.max() <= 1.001 * scale:
            return scale
    return 0


def _allowed(numbers: Array, scale: float) -> float:
    """Return the largest distance from the scale of a sum of scaled probabilities."""
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
