"""Answers of code that is not ours, read as arrays: tensors, mappings, tuples, lists."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from committee.arrays import Array
from committee.errors import ModelError
from committee.text import listed

# What libraries call the scores of classes, in a mapping or as an attribute.
_LOGITS = "logits"
# Types of torch that NumPy does not have, or that lose nothing in float32.
_HALVES = ("torch.bfloat16", "torch.float16")


def one_output(answer: Any, output: str = "") -> Any:
    """Return the one output of an answer that may hold several.

    Args:
        answer: An array or a tensor, or a mapping, an object or a tuple of them.
        output: The key, the attribute, or the number from 0 of the output; empty if there is no
            choice.

    Raises:
        ModelError: If there are several and none is named, or the named one is not there; the
            message does not name the model.
    """
    parts = _parts(answer)
    if parts is None:
        if output:
            raise ModelError(
                f"answers with one output, not with several; leave output {output!r} out"
            )
        return answer
    if output in parts:
        return parts[output]
    shown = listed([f"{name} {_form(value)}" for name, value in parts.items()])
    if output:
        raise ModelError(f"answers with no output {output!r}; there are {shown}")
    if _LOGITS in parts:
        return parts[_LOGITS]
    if len(parts) == 1:
        return next(iter(parts.values()))
    raise ModelError(
        f"answers with {len(parts)} outputs: {shown}. Name the one to take in its "
        f'[[model]], as in output = "{next(iter(parts), "")}"'
    )


def _parts(answer: Any) -> Mapping[str, Any] | None:
    """Return the outputs of an answer by their names or numbers; None if it is one output."""
    if _is_array(answer):
        return None
    if isinstance(answer, Mapping):
        return {str(key): value for key, value in answer.items()}
    if isinstance(answer, tuple | list):
        # Rows of one output have one axis, and all alike.
        axes = {_axes(value) for value in answer}
        if not axes or axes in ({0}, {1}):
            return None
        names = getattr(answer, "_fields", range(len(answer)))
        return {str(name): value for name, value in zip(names, answer, strict=True)}
    return {_LOGITS: answer.logits} if hasattr(answer, _LOGITS) else None


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _axes(value: Any) -> int:
    """Return how deeply lists and arrays are nested, as far as first entries show."""
    depth = 0
    while isinstance(value, list | tuple) and value and depth < 9:
        value, depth = value[0], depth + 1
    return depth + (np.ndim(value) if _is_array(value) else 0)


def _form(value: Any) -> str:
    if _is_array(value):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    return type(value).__name__


def as_array(value: Any) -> Array:
    """Return an output as an array of real numbers.

    A tensor may have a gradient, lie on another device, or be of a type that NumPy does not have.

    Raises:
        ModelError: If it holds no numbers; the message does not name the model.
    """
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = (value.float() if str(value.dtype) in _HALVES else value).numpy()
    try:
        array = np.asarray(value)
    except ValueError:
        raise ModelError("answers with rows of different lengths") from None
    if array.dtype.kind not in "fiu":
        what = type(value).__name__ if array.ndim == 0 else f"{array.dtype} {array.shape}"
        raise ModelError(f"answers with {what}, which are no real numbers")
    return array


def rows_of(values: Array) -> Array:
    """Return scores (N, C) from an output that has axes of length 1 beside that of the classes."""
    sides = [side for side in values.shape[1:] if side != 1]
    if values.ndim < 3 or len(sides) > 1:
        return values
    return values.reshape(len(values), *(sides or [1]))
