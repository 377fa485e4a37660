"""Confidence: a pure function from outputs (N, C) to one score per sample; larger is surer.

Each function works row by row, over any :mod:`array namespace <committee.rule.namespace>`: with
NumPy in float64, so that a sample's score does not depend on the samples around it. Scores are
finite: a gap to an impossible runner-up counts as :data:`SUREST`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from inspect import signature

import numpy as np

from committee.arrays import Array
from committee.errors import CascadeError, ShapeError, UnknownNameError
from committee.rule.namespace import NUMPY, Namespace
from committee.rule.outputs import Kind, Outputs

# Of outputs and their kind; one that also takes a namespace, ``xp``, runs in exports too.
Confidence = Callable[..., Array]

SUREST = float(np.finfo(np.float32).max)

# Logits may be so far apart that their difference is infinite, and probabilities may be 0.
quiet = np.errstate(over="ignore", divide="ignore", invalid="ignore")


@quiet
def max_prob(outputs: Array, kind: Kind = "logits", xp: Namespace = NUMPY) -> Array:
    """Score each sample by the probability of its most likely class.

    Args:
        outputs: Logits or probabilities, shape (N, C).
        kind: Which of the two.
        xp: Namespace of the array.

    Returns:
        Scores in [1/C, 1], shape (N,); larger is surer.

    Raises:
        ShapeError: If C is 0.

    References:
        Wang et al. (2022), section 4.1.

    >>> max_prob(np.array([[0.0, 0.0]]))
    array([0.5])
    """
    values = _matrix(outputs, xp)
    if kind == "probabilities":
        return xp.max(values)
    # The largest exponential is exp(0) = 1, so this is the largest probability, to the last bit.
    return 1 / xp.sum(_exponentials(values, xp))


@quiet
def logit_gap(outputs: Array, kind: Kind = "logits", xp: Namespace = NUMPY) -> Array:
    """Score each sample by the difference of its two largest logits.

    Arguments and errors as of :func:`max_prob`; the logarithm is taken of probabilities.

    Returns:
        Scores in [0, SUREST], shape (N,); SUREST if no second class is possible.

    References:
        Wang et al. (2022), section 4.1 and appendix D.1.

    >>> logit_gap(np.array([[3.0, 1.0, 0.0]]))
    array([2.])
    """
    first, second = _two_largest(_matrix(outputs, xp), xp)
    if kind == "probabilities":
        first, second = xp.log(first), xp.log(xp.maximum(second, 0))
    return xp.minimum(first - second, SUREST)


@quiet
def prob_gap(outputs: Array, kind: Kind = "logits", xp: Namespace = NUMPY) -> Array:
    """Score each sample by the difference of its two largest probabilities.

    Arguments and errors as of :func:`max_prob`.

    Returns:
        Scores in [0, 1], shape (N,); 1 if there is one class only.

    References:
        Wang et al. (2022), section 4.1 and appendix D.1.

    >>> prob_gap(np.array([[0.75, 0.25]]), "probabilities")
    array([0.5])
    """
    first, second = _two_largest(softmax(outputs, kind, xp), xp)
    return first - xp.maximum(second, 0)


@quiet
def neg_entropy(outputs: Array, kind: Kind = "logits", xp: Namespace = NUMPY) -> Array:
    """Score each sample by the negative entropy of its distribution, in nats.

    Arguments and errors as of :func:`max_prob`.

    Returns:
        Scores in [-log C, 0], shape (N,).

    References:
        Wang et al. (2022), section 4.1 and appendix D.1.

    >>> neg_entropy(np.array([[1.0, 0.0]]), "probabilities")
    array([0.])
    """
    probabilities = softmax(outputs, kind, xp)
    # An impossible class adds nothing: x log x tends to 0 with x.
    return xp.sum(probabilities * xp.log(xp.where(probabilities > 0, probabilities, 1)))


@quiet
def softmax(outputs: Array, kind: Kind = "logits", xp: Namespace = NUMPY) -> Array:
    """Return the probabilities, shape (N, C), of logits; probabilities pass unchanged.

    Raises:
        ShapeError: If ``outputs`` is not (N, C) with C of 1 or more.
    """
    values = _matrix(outputs, xp)
    if kind == "probabilities":
        return values
    exponentials = _exponentials(values, xp)
    return exponentials / xp.sum(exponentials, keepdims=True)


def _exponentials(values: Array, xp: Namespace) -> Array:
    """Return the exponentials of logits (N, C), each less the largest of its row."""
    return xp.exp(values - xp.max(values, keepdims=True))


def _matrix(outputs: Array, xp: Namespace) -> Array:
    values = xp.floats(outputs)
    if len(values.shape) != 2 or values.shape[1] == 0:
        raise ShapeError(
            f"confidence: outputs must have shape (samples, classes), not {tuple(values.shape)}"
        )
    return values


def _two_largest(values: Array, xp: Namespace) -> tuple[Array, Array]:
    if values.shape[1] == 1:
        only = xp.max(values)
        return only, only * 0 - np.inf  # no second class is possible
    return xp.two_largest(values)


def _tile_max_prob(outputs: Array, kind: Kind = "logits", above: float = 0.5) -> Array:
    """Score each tile of pixels by the mean of its pixels' largest probabilities.

    Only pixels whose largest probability is above a bound count, for models are unsure of what
    nobody labelled. A tile without such a pixel has score 0 and stays at every threshold above 0.

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

    >>> _tile_max_prob(np.array([[[[0.9, 0.4]], [[0.1, 0.6]]]]), "probabilities", above=0.7)
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
# Confidences that look at every model that ran; see :mod:`committee.rule.agreement`.
AGREEMENTS = ("agreement", "ranked_agreement")
# The largest score there can be, where that is known.
LARGEST_SCORE = {"max_prob": 1.0, "prob_gap": 1.0, "neg_entropy": 0.0, "tile_max_prob": 1.0}
LARGEST_SCORE |= dict.fromkeys(AGREEMENTS, 1.0)


def register_confidence(name: str, function: Confidence) -> None:
    """Make a function of (outputs (N, C), kind) usable by name in cascades and search.

    It must be pure and work row by row; :mod:`committee.testing` has the contract test. Register it
    in every process that runs a cascade file with its name. A function with a third parameter
    ``xp``, the namespace that it computes with, also runs in torch modules and in ONNX files; see
    :mod:`committee.rule.namespace`.

    Raises:
        CascadeError: If the name is taken by another function.
    """
    if name in AGREEMENTS or CONFIDENCES.get(name, function) is not function:
        raise CascadeError(f"register_confidence: {name!r} is taken; choose another name")
    CONFIDENCES[name] = function


def _confidence_of(name: str) -> Confidence | None:
    """Return the confidence function of a name; None if there is none.

    Tiles of pixels have one of their own, ``_tile_max_prob``, or ``tile_max_prob>BOUND``.

    >>> _confidence_of("tile_max_prob>0.7").keywords
    {'above': 0.7}
    """
    plain, bounded, bound = name.partition(">")
    if plain != "tile_max_prob":
        return CONFIDENCES.get(name)
    try:
        return partial(_tile_max_prob, above=float(bound)) if bounded else _tile_max_prob
    except ValueError:
        return None


def is_confidence(name: str) -> bool:
    """Return True if cascades may have a confidence of that name."""
    return name in AGREEMENTS or _confidence_of(name) is not None


def is_portable(name: str) -> bool:
    """Return True if a confidence runs over any namespace, not over NumPy alone."""
    function = CONFIDENCES.get(name)
    own = function is not None and "xp" in signature(function).parameters
    return own or name in AGREEMENTS


def score(outputs: Outputs, confidence: str, xp: Namespace = NUMPY) -> Array:
    """Score combined outputs, shape (N,); decisions bring their own confidence.

    Raises:
        UnknownNameError: If there is no confidence function of that name.
        NotFiniteError: If a score is NaN or infinite: no threshold could be trusted to hold it.
    """
    if outputs.confidence is not None:
        return xp.floats(outputs.confidence)
    function = _confidence_of(confidence)
    if function is None:
        raise UnknownNameError.of("confidence", "confidence function", confidence, CONFIDENCES)
    if xp is NUMPY and confidence in CONFIDENCES and confidence not in BUILT_IN:
        scores = _registered(function, outputs, confidence)
    else:
        # That of tiles knows NumPy alone.
        own = {} if xp is NUMPY else {"xp": xp}
        scores = function(outputs.values, outputs.kind, **own)
    return xp.checked_scores(scores, confidence)


def _registered(function: Confidence, outputs: Outputs, name: str) -> Array:
    """Score by a user's function, which may know NumPy alone or work in place."""
    own = {"xp": NUMPY} if is_portable(name) else {}
    scores = function(outputs.values.copy(), outputs.kind, **own)
    if np.shape(scores) != (len(outputs.values),):
        raise ShapeError(
            f"confidence {name!r}: gives scores of shape {np.shape(scores)} for "
            f"{len(outputs.values)} samples; give one score for each"
        )
    return scores
