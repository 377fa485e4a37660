"""Calibration: outputs of one model to outputs whose confidence is how often they are right.

Averaging lets the loudest model win; a calibration brings each model to the scale of its own
errors before outputs are combined. Two methods are here, after appendix D.2 of Wang et al. (2022);
:mod:`committee.rule.class_calibration` has two more, which depend on the predicted class.

``temperature``
    Logits are divided by one number T, probabilities raised to the power 1/T (Guo et al. 2017).
``platt``
    The paper's "Platt scaling via a learned monotonic calibration network". The logarithm of each
    probability goes through one rising function, the same for all classes, made of straight
    pieces; the softmax of the result gives the new probabilities. One piece is a temperature.
    Rahimi et al. (2020) call such a map diagonal and order-preserving. The confidence of a
    decision goes through such a function and then the logistic one, as in Platt (1999), and
    becomes the probability that the decision is right.

Neither changes what a model predicts by itself. :mod:`committee.calibration` fits them.

References:
    Wang et al. (2022), Wisdom of Committees, appendix D.2.
    Guo et al. (2017), On Calibration of Modern Neural Networks.
    Rahimi et al. (2020), Intra Order-Preserving Functions for Calibration of Multi-Class Networks.
    Platt (1999), Probabilistic Outputs for Support Vector Machines.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from committee.arrays import Array
from committee.errors import CalibrationError, UnknownNameError
from committee.rule.combinations import if_answered
from committee.rule.namespace import NUMPY, Namespace
from committee.rule.outputs import Kind, Outputs
from committee.rule.scores import quiet, softmax

METHODS = ("temperature", "platt", "per-class", "experts")


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

    >>> import numpy as np
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
        if self.method not in ("temperature", "platt"):
            raise CalibrationError(f"calibration: {self.method} has a class of its own")
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
        """Return a calibration that divides logits; a temperature above 1 makes a model less sure.

        Raises:
            CalibrationError: If it is not above 0 and finite.
        """
        if not (temperature > 0 and math.isfinite(temperature)):
            raise CalibrationError(
                f"calibration: a temperature must be above 0 and finite, not {temperature}"
            )
        return cls("temperature", (1 / temperature,))

    @property
    def text(self) -> str:
        """The calibration in a word or two, for tables."""
        if self.method == "temperature":
            temperature = 1 / self.slopes[0]
            return f"T = {temperature:.3f}" if temperature >= 0.1 else f"T = {temperature:.3g}"
        return f"{self.method}, {len(self.slopes)} piece{'s' if len(self.slopes) > 1 else ''}"

    def made(self, kind: Kind) -> Kind:
        """Return the kind of outputs that it makes of a kind."""
        return kind

    @property
    def width(self) -> int | None:
        """How many classes the outputs that it makes have; None for as many as before."""
        return None

    @quiet  # logits beyond all exponents: scores that are no numbers are refused
    def apply(self, outputs: Outputs, xp: Namespace = NUMPY) -> Outputs:
        """Calibrate outputs row by row; kind, shape and predicted classes stay.

        Without an answer the confidence stays minus infinity.

        Raises:
            CalibrationError: If a temperature is to be applied to decisions.
        """
        if outputs.confidence is not None:
            check_method(self.method, outputs.kind)
            scores = logistic(self._mapped(xp.floats(outputs.confidence), xp), xp)
            own = if_answered(outputs, scores, -math.inf, xp)
            return Outputs(outputs.kind, outputs.values, own)

        def calibrated(raw: Array) -> Array:
            made = self._calibrated(raw, outputs.kind, xp)
            return _preserve_argmax(raw, made, xp) if raw.shape[1] else made

        return Outputs(outputs.kind, xp.by_rows(calibrated, outputs.values))

    def _calibrated(self, raw: Array, kind: Kind, xp: Namespace) -> Array:
        if self.method == "platt":
            mapped = self._mapped(log_probabilities(raw, kind, xp), xp)
            return mapped if kind == "logits" else softmax(mapped, "logits", xp)
        if kind == "logits":
            return raw * self.slopes[0]
        powers = raw ** self.slopes[0]
        # Multiplied by the sum of the row, which is 1 but for rounding, so that T = 1 changes
        # nothing.
        scaled: Array = powers * (xp.sum(raw, keepdims=True) / xp.sum(powers, keepdims=True))
        return scaled

    def _mapped(self, values: Array, xp: Namespace) -> Array:
        """Apply the rising function; rounding never makes it fall."""
        slopes, knots = self.slopes, self.knots
        if not knots:
            return values * slopes[0] + self.offset
        heights = [self.offset]
        for slope, (low, high) in zip(slopes[1:], itertools.pairwise(knots), strict=False):
            heights.append(heights[-1] + slope * (high - low))
        return xp.straight_pieces(values, knots, tuple(heights), slopes)

    def to_json(self) -> dict[str, Any]:
        """Return what stores and cascade files hold."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}


def check_method(method: str, kind: Kind = "logits", where: str = "calibration") -> None:
    """Refuse a method that does not exist, or that is not for this kind of outputs."""
    if method not in METHODS:
        raise UnknownNameError.of("calibration", "method", str(method), METHODS)
    if method == "temperature" and kind == "decisions":
        raise CalibrationError(
            f"{where}: a temperature is for logits and probabilities, these are decisions; "
            "use the method platt"
        )


def calibrated(
    outputs: Mapping[str, Outputs],
    calibrations: Mapping[str, Calibration],
    xp: Namespace = NUMPY,
) -> dict[str, Outputs]:
    """Apply each model's calibration to its outputs; models without one pass through, in order."""
    return {
        name: calibrations[name].apply(each, xp) if name in calibrations else each
        for name, each in outputs.items()
    }


def made_kinds(
    kinds: Mapping[str, Kind], calibrations: Mapping[str, Calibration]
) -> dict[str, Kind]:
    """Return the kind of outputs of each model once calibrations are applied."""
    return {n: calibrations[n].made(k) if n in calibrations else k for n, k in kinds.items()}


def log_probabilities(raw: Array, kind: Kind, xp: Namespace = NUMPY) -> Array:
    """Return the logarithms of the probabilities, shape (N, C); minus infinity for 0."""
    if kind == "probabilities":
        return xp.log(raw)
    below = raw - xp.max(raw, keepdims=True)
    return below - xp.log(xp.sum(xp.exp(below), keepdims=True))


def logistic(values: Array, xp: Namespace = NUMPY) -> Array:
    """Return 1 / (1 + exp(-x)) of each value."""
    return 1 / (1 + xp.exp(-values))


def _preserve_argmax(raw: Array, made: Array, xp: Namespace) -> Array:
    """Keep the class that led before in front, where rounding let another overtake it."""
    before, after = xp.argmax(raw, keepdims=True), xp.argmax(made, keepdims=True)
    ahead = xp.next_larger(xp.take_along(made, after))
    kept = xp.where(before == after, xp.take_along(made, before), ahead)
    return xp.put_along(made, before, kept)
