"""Outputs of models for samples, of one declared kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from committee.arrays import Array
from committee.errors import NotFiniteError, ShapeError, UnknownNameError
from committee.rule.namespace import all_finite

Kind = Literal["logits", "probabilities", "decisions", "outcomes"]
KINDS: tuple[Kind, ...] = get_args(Kind)
# Kinds that bring a confidence of their own beside a value for each sample.
WITH_CONFIDENCE = frozenset({"decisions", "outcomes"})

# How far a row of probabilities may be from summing to 1: float16 rounding of 1000 classes.
_SUM_TOLERANCE = 2e-2
_ROWS_AT_ONCE = 4096
# Numbers that are checked in one go.
_FEW = 2**20


def check_kind(where: str, kind: str) -> Kind:
    """Return ``kind`` if it is one of the kinds that users declare."""
    for known in KINDS:
        if kind == known:
            return known
    raise UnknownNameError.of(where, "kind of outputs", kind, KINDS)


@dataclass(frozen=True, eq=False)
class Outputs:
    """Outputs of one model, or of several combined, for N samples.

    Args:
        kind: ``logits``, ``probabilities``, ``decisions`` or ``outcomes``; declared, never guessed.
        values: Shape (N, C) for logits and probabilities, or (N, C, height, width) where a sample
            is a tile of pixels; for decisions the predicted classes, shape (N,), integers; for
            outcomes how good each answer was, shape (N,), or while running the answers themselves.
        confidence: Only for decisions and outcomes: shape (N,), larger is surer; -inf where the
            model gave no answer.
    """

    kind: Kind
    values: Array
    confidence: Array | None = None

    def __len__(self) -> int:
        return len(self.values)

    def rows(self, index: Array | slice) -> Outputs:
        """Return the outputs of some samples; ``index`` as in NumPy."""
        confidence = None if self.confidence is None else self.confidence[index]
        return Outputs(self.kind, self.values[index], confidence)

    def predicted(self) -> Array:
        """Return the lowest index among the largest values of each sample, shape (N,).

        Tiles give the class of each pixel, shape (N, height, width); outcomes their values.
        """
        if self.kind in WITH_CONFIDENCE:
            return self.values
        classes: Array = self.values.argmax(axis=1)
        return classes


def joined(parts: Sequence[Outputs]) -> Outputs:
    """Return the outputs of consecutive batches as one."""
    if len(parts) == 1:
        return parts[0]
    values = np.concatenate([part.values for part in parts])
    if parts[0].confidence is None:
        return Outputs(parts[0].kind, values)
    scores = [part.confidence for part in parts if part.confidence is not None]
    return Outputs(parts[0].kind, values, np.concatenate(scores))


def checked_outputs(
    where: str,
    kind: str,
    values: ArrayLike,
    confidence: ArrayLike | None = None,
    first: int = 0,
) -> Outputs:
    """Return outputs from outside, checked for all that a rule needs.

    Args:
        where: Names the outputs in errors.
        kind: ``logits``, ``probabilities``, ``decisions`` or ``outcomes``.
        values: See :class:`Outputs`. Memory-mapped arrays stay on disk.
        confidence: See :class:`Outputs`.
        first: Number of the first sample, for the error.
    """
    if (
        kind == "logits"
        and isinstance(values, np.ndarray)
        and confidence is None
        and values.ndim == 2
        and values.dtype.kind == "f"
        and 0 < values.size <= _FEW
        and all_finite(values)
    ):
        # The usual answer; online every step shows.
        return Outputs("logits", values)
    kind = check_kind(where, kind)
    array = as_array(where, values)
    if kind == "decisions":
        return _checked_decisions(where, array, confidence, first)
    if kind == "outcomes":
        return _checked_outcomes(where, array, confidence, first)
    if confidence is not None:
        raise ShapeError(f"{where}: {kind} carry no separate confidence; declare decisions instead")
    of_one = array.ndim == 1 or (kind == "probabilities" and array.shape[1:] == (1,))
    if array.ndim != 2 or array.shape[1] < 1 or (of_one and (array != 1).any()):
        # What a binary classifier gives.
        remedy = _of_one_number(kind) if of_one else ""
        raise ShapeError(
            f"{where}: {kind} must have shape (samples, classes), not {array.shape}{remedy}"
        )
    if array.dtype.kind not in "fiu":
        raise ShapeError(f"{where}: {kind} must be real numbers, not {array.dtype}")
    if array.dtype.kind in "iu":
        array = array.astype(np.float64)
    for start in range(0, len(array), _ROWS_AT_ONCE):
        block = array[start : start + _ROWS_AT_ONCE]
        _check_finite(where, block, first + start, kind)
        if kind == "probabilities":
            _check_probabilities(where, block, first + start)
    return Outputs(kind, array)


def refuse_one_output(where: str, outputs: Outputs) -> None:
    """Refuse outputs of one number a sample, which every rule would take for certainty."""
    if outputs.kind in ("logits", "probabilities") and outputs.values.shape[1:] == (1,):
        raise ShapeError(
            f"{where}: one output is no choice of classes: it has shape {outputs.values.shape}"
            f"{_of_one_number(outputs.kind)}"
        )


def _of_one_number(kind: str) -> str:
    """Say how one number a sample becomes the outputs of two classes."""
    if kind == "probabilities":
        return ". If it is the probability p of the second class, give np.stack([1 - p, p], 1)"
    return (
        ". If it is the score z of the second class, before a sigmoid, give np.stack([0*z, z], 1)"
    )


def as_array(where: str, values: ArrayLike) -> Array:
    """Return numbers of any library as an array."""
    try:
        return np.asanyarray(values)
    except ValueError:
        raise ShapeError(f"{where}: rows must all have the same length") from None
    except (TypeError, RuntimeError, BufferError) as error:
        reason = str(error).split("\n")[0][:100]
        raise ShapeError(
            f"{where}: cannot be read as an array ({reason}). Give NumPy arrays; of a tensor "
            "x.detach().float().cpu().numpy()"
        ) from None


def _checked_decisions(
    where: str, classes: Array, confidence: ArrayLike | None, first: int
) -> Outputs:
    if confidence is None:
        raise ShapeError(f"{where}: decisions need a confidence for each predicted class")
    scores = _checked_confidence(where, "decisions need classes", classes, confidence, first)
    if classes.dtype.kind not in "iu" or (classes.size and classes.min() < 0):
        raise ShapeError(f"{where}: predicted classes must be indices 0, 1, …, not {classes.dtype}")
    return Outputs("decisions", classes.astype(np.int64), scores)


def _checked_outcomes(
    where: str, values: Array, confidence: ArrayLike | None, first: int
) -> Outputs:
    if confidence is None:
        raise ShapeError(f"{where}: outcomes need a confidence for each value")
    scores = _checked_confidence(where, "outcomes need values", values, confidence, first)
    if values.dtype.kind not in "fiub":
        raise ShapeError(f"{where}: values must be real numbers, not {values.dtype}")
    numbers = values.astype(np.float64)
    _check_finite(where, numbers[:, None], first)
    return Outputs("outcomes", numbers, scores)


def _checked_confidence(
    where: str, what: str, values: Array, confidence: ArrayLike, first: int
) -> Array:
    scores = as_array(where, confidence)
    if values.ndim != 1 or scores.shape != values.shape:
        raise ShapeError(
            f"{where}: {what} (N,) and confidence (N,), not {values.shape} and {scores.shape}"
        )
    if scores.dtype.kind not in "fiu":
        raise ShapeError(f"{where}: confidence must be real numbers, not {scores.dtype}")
    # Minus infinity says that there is no answer; it reaches no threshold.
    _check_finite(where, np.where(np.isneginf(scores), 0, scores)[:, None], first)
    return scores.astype(np.float64)


def usable_rows(values: Array, kind: str = "logits") -> Array:
    """Return which samples have outputs that every rule takes, shape (N,).

    Args:
        values: Outputs, shape (N, C) or with further axes; confidences, shape (N,) or (N, 1).
        kind: Their kind; among logits, minus infinity is a masked class, usable beside another.
    """
    rows = values.reshape(len(values), -1)
    if kind == "logits" and rows.size:
        # The largest of a row is NaN if any is.
        return np.asarray(np.isfinite(rows.max(axis=1)))
    return np.asarray(np.isfinite(rows).all(axis=1))


def _check_finite(where: str, block: Array, start: int, kind: str = "") -> None:
    if all_finite(block):
        return
    rows = np.flatnonzero(~usable_rows(block, kind))
    if not len(rows):
        return
    named = ", ".join(str(start + row) for row in rows[:5])
    masked = "; -inf may mask some classes, not all" if kind == "logits" else ""
    if start == 0 and len(block) == 1:
        raise NotFiniteError(f"{where}: NaN or infinite outputs{masked}")
    count = f"at least {len(rows)} sample{'' if len(rows) == 1 else 's'}"
    raise NotFiniteError(
        f"{where}: NaN or infinite outputs, first at sample {named} "
        f"(counted from 0; {count}{masked}). Recompute this model's outputs"
    )


def _check_probabilities(where: str, block: Array, start: int) -> None:
    sums = block.sum(axis=1, dtype=np.float64)
    wrong = (np.abs(sums - 1) > _SUM_TOLERANCE) | (block < 0).any(axis=1)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ShapeError(
            f"{where}: sample {start + row} is no probability distribution "
            f"(sum {sums[row]:.4g}, least {block[row].min():.4g}). {_remedy_of(block, sums)}"
        )


def _remedy_of(block: Array, sums: Array) -> str:
    """Say what rows that are no distributions may be, and what to do."""
    divide = "divide each row by its sum (committee import: --normalise)"
    if block.min() >= 0 and sums.min() > 0 and sums.max() < 2 * sums.min():
        for total, what in ((1, "rounded or dequantised"), (100, "percent"), (255, "bytes")):
            if total / 2 < sums.mean() < total * 2:
                return f"Rows sum to {sums.min():.4g} to {sums.max():.4g}: {what}? Then {divide}"
    return "Are these logits? Declare so"
