"""Confidence: a pure function from outputs (N, C) to one score per sample, larger is surer.

All work is done in float64 and row by row, so that a sample's score does not depend on the samples
around it. Scores are finite: a gap to an impossible runner-up counts as :data:`SUREST`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from committee.arrays import Array
from committee.errors import CascadeError, NotFiniteError, ShapeError, UnknownNameError
from committee.rule.outputs import Kind, Outputs, all_finite

Confidence = Callable[[Array, Kind], Array]

# Less than this is lost in the rounding of the largest number, so the difference is a number too.
_NO_OVERFLOW = 1e290
SUREST = float(np.finfo(np.float32).max)


def max_prob(outputs: Array, kind: Kind = "logits") -> Array:
    """Score each sample by the probability of its most likely class.

    Args:
        outputs: Logits or probabilities, shape (N, C).
        kind: Which of the two.

    Returns:
        Scores in [1/C, 1], shape (N,); larger is surer.

    Raises:
        ShapeError: If C is 0.

    References:
        Wang et al. (2022), section 4.1.

    >>> max_prob(np.array([[0.0, 0.0]]))
    array([0.5])
    """
    if kind == "probabilities":
        largest: Array = _matrix(outputs).max(axis=1)
        return largest
    # The largest exponential is exp(0) = 1, so this is the largest probability, to the last bit.
    scores: Array = 1 / _exponentials(_matrix(outputs)).sum(axis=1)
    return scores


def logit_gap(outputs: Array, kind: Kind = "logits") -> Array:
    """Score each sample by the difference of its two largest logits.

    Args:
        outputs: Logits or probabilities, shape (N, C); of probabilities the logarithm is taken.
        kind: Which of the two.

    Returns:
        Scores in [0, SUREST], shape (N,); SUREST if there is no second class that is possible.

    Raises:
        ShapeError: If C is 0.

    References:
        Wang et al. (2022), section 4.1 and appendix D.1.

    >>> logit_gap(np.array([[3.0, 1.0, 0.0]]))
    array([2.])
    """
    first, second = _two_largest(outputs)
    if kind == "probabilities":
        with np.errstate(divide="ignore"):
            first, second = np.log(first), np.log(np.maximum(second, 0))
    with np.errstate(over="ignore"):
        gaps: Array = np.minimum(first - second, SUREST)
    return gaps


def prob_gap(outputs: Array, kind: Kind = "logits") -> Array:
    """Score each sample by the difference of its two largest probabilities.

    Args:
        outputs: Logits or probabilities, shape (N, C).
        kind: Which of the two.

    Returns:
        Scores in [0, 1], shape (N,); 1 if there is one class only.

    Raises:
        ShapeError: If C is 0.

    References:
        Wang et al. (2022), section 4.1 and appendix D.1.

    >>> prob_gap(np.array([[0.75, 0.25]]), "probabilities")
    array([0.5])
    """
    first, second = _two_largest(softmax(outputs, kind))
    return first - np.maximum(second, 0)


def neg_entropy(outputs: Array, kind: Kind = "logits") -> Array:
    """Score each sample by the negative entropy of its distribution, in nats.

    Args:
        outputs: Logits or probabilities, shape (N, C).
        kind: Which of the two.

    Returns:
        Scores in [-log C, 0], shape (N,).

    Raises:
        ShapeError: If C is 0.

    References:
        Wang et al. (2022), section 4.1 and appendix D.1.

    >>> neg_entropy(np.array([[1.0, 0.0]]), "probabilities")
    array([0.])
    """
    probabilities = softmax(outputs, kind)
    # An impossible class adds nothing: x log x tends to 0 with x.
    logarithms = np.log(np.where(probabilities > 0, probabilities, 1))
    scores: Array = (probabilities * logarithms).sum(axis=1)
    return scores


def softmax(outputs: Array, kind: Kind = "logits") -> Array:
    """Probabilities, shape (N, C), float64, of logits; probabilities pass unchanged.

    Raises:
        ShapeError: If ``outputs`` is not (N, C) with C of 1 or more.
    """
    values = _matrix(outputs)
    if kind == "probabilities":
        return values
    exponentials = _exponentials(values)
    probabilities: Array = exponentials / exponentials.sum(axis=1, keepdims=True)
    return probabilities


def _exponentials(values: Array) -> Array:
    """Of logits (N, C), each less the largest of its row."""
    if len(values) == 1:
        # Online every step shows: the caches hold nothing of it when a model has run.
        most = values.item(values.argmax())
        if most < _NO_OVERFLOW:
            row: Array = np.exp(values - most)
            return row
    largest = values.max(axis=1, keepdims=True)
    with np.errstate(over="ignore"):
        exponentials: Array = np.exp(values - largest)
    return exponentials


def _matrix(outputs: Array) -> Array:
    # C order, so that sums over classes run alike however the rows were gathered.
    values = np.ascontiguousarray(outputs, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] == 0:
        raise ShapeError(
            f"confidence: outputs must have shape (samples, classes), not {np.shape(outputs)}"
        )
    return values


def _two_largest(outputs: Array) -> tuple[Array, Array]:
    values = _matrix(outputs)
    if values.shape[1] == 1:
        return values[:, 0], np.full(len(values), -np.inf)
    two = np.partition(values, -2, axis=1)[:, -2:]
    return two[:, 1], two[:, 0]


def tile_max_prob(outputs: Array, kind: Kind = "logits", above: float = 0.5) -> Array:
    """Score each tile of pixels by the mean of its pixels' largest probabilities.

    Only pixels whose largest probability is above a bound count: what nobody labelled, models are
    unsure of. A tile without such a pixel has score 0, so that it goes on at every threshold above.

    Args:
        outputs: Logits or probabilities of tiles, shape (N, C, height, width).
        kind: Which of the two.
        above: The bound, which the paper calls t_unlab. In cascades ``tile_max_prob>0.7`` names
            another than 0.5.

    Returns:
        Scores, 0 or in (above, 1], shape (N,); larger is surer.

    Raises:
        ShapeError: If outputs are not tiles of pixels.

    References:
        Wang et al. (2022), section 7.2 and appendix F.2.

    >>> tile_max_prob(np.array([[[[0.9, 0.4]], [[0.1, 0.6]]]]), "probabilities", above=0.7)
    array([0.9])
    """
    if outputs.ndim != 4 or outputs.shape[1] == 0:
        raise ShapeError(
            "tile_max_prob: outputs must have shape (tiles, classes, height, width), not "
            f"{outputs.shape}"
        )
    surest = np.empty((len(outputs), outputs.shape[2] * outputs.shape[3]))
    for own, tile in zip(surest, outputs, strict=True):  # one at a time, for pixels are many
        values = np.asarray(tile, np.float64).reshape(tile.shape[0], -1)
        most = values.max(axis=0)
        own[:] = most if kind == "probabilities" else 1 / np.exp(values - most).sum(axis=0)
    counted = surest > above
    total, number = np.where(counted, surest, 0).sum(axis=1), counted.sum(axis=1)
    scores: Array = np.divide(total, number, out=np.zeros(len(total)), where=number > 0)
    return scores


CONFIDENCES: dict[str, Confidence] = {
    "max_prob": max_prob,
    "logit_gap": logit_gap,
    "prob_gap": prob_gap,
    "neg_entropy": neg_entropy,
}


BUILT_IN = dict(CONFIDENCES)


def register_confidence(name: str, function: Confidence) -> None:
    """Make a function of (outputs (N, C), kind) usable by name in cascades and search.

    It must be pure and work row by row; :mod:`committee.testing` has the contract test. A process
    that runs a cascade file which names it must have registered it too.

    Raises:
        CascadeError: If the name is taken by another function.
    """
    if CONFIDENCES.get(name, function) is not function:
        raise CascadeError(f"register_confidence: {name!r} is taken; choose another name")
    CONFIDENCES[name] = function


def confidence_of(name: str) -> Confidence | None:
    """The confidence function of a name; None if there is none.

    Tiles of pixels have one of their own, ``tile_max_prob``, or ``tile_max_prob>BOUND``.

    >>> confidence_of("tile_max_prob>0.7").keywords
    {'above': 0.7}
    """
    plain, bounded, bound = name.partition(">")
    if plain != "tile_max_prob":
        return CONFIDENCES.get(name)
    try:
        return partial(tile_max_prob, above=float(bound)) if bounded else tile_max_prob
    except ValueError:
        return None


def score(outputs: Outputs, confidence: str) -> Array:
    """Score combined outputs, shape (N,); decisions and counts bring their own confidence.

    Raises:
        UnknownNameError: If there is no confidence function of that name.
        NotFiniteError: If a score is NaN or infinite: no threshold could be trusted to hold it.
    """
    if outputs.confidence is not None:
        return np.asarray(outputs.confidence, dtype=np.float64)
    function = confidence_of(confidence)
    if function is None:
        raise UnknownNameError.of("confidence", "confidence function", confidence, CONFIDENCES)
    scores = function(outputs.values, outputs.kind)
    if not all_finite(np.asarray(scores)):
        finite = np.isfinite(scores)
        raise NotFiniteError(
            f"confidence {confidence!r}: NaN or infinite score, first in row {np.argmin(finite)} "
            f"of {len(finite)}. Keep the models' outputs and the function's scores finite"
        )
    return scores
