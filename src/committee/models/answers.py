"""What code that is not ours answers, read as an array: tensors, mappings, tuples, lists."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from committee.arrays import Array
from committee.errors import ModelError
from committee.text import listed

# What libraries call the scores of classes, in a mapping or as an attribute.
_LOGITS = "logits"
# Types of which torch makes no array of NumPy, and those that lose nothing in float32.
_HALVES = ("torch.bfloat16", "torch.float16")


def one_output(answer: Any, output: str = "") -> Any:
    """Return the one output of an answer that may hold several.

    Args:
        answer: An array or a tensor, or a mapping, an object or a tuple of them.
        output: Which is taken: the key, the attribute, or the number from 0; empty if there is no
            choice.

    Raises:
        ModelError: If there are several and none is named, or the named one is not there; the
            message does not say whose it is.
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
    if output:
        raise ModelError(f"answers with no output {output!r}; there are {_told(parts)}")
    if _LOGITS in parts:
        return parts[_LOGITS]
    if len(parts) == 1:
        return next(iter(parts.values()))
    raise ModelError(
        f"answers with {len(parts)} outputs: {_told(parts)}. Name the one to take in its "
        f'[[model]], as in output = "{next(iter(parts), "")}"'
    )


def _parts(answer: Any) -> Mapping[str, Any] | None:
    """The outputs of an answer by their names or numbers; None if the answer is one output."""
    if _is_array(answer):
        return None
    if isinstance(answer, Mapping):
        return {str(key): value for key, value in answer.items()}
    if isinstance(answer, tuple | list):
        if not _several(answer):
            return None
        names = getattr(answer, "_fields", range(len(answer)))
        return {str(name): value for name, value in zip(names, answer, strict=True)}
    return {_LOGITS: answer.logits} if hasattr(answer, _LOGITS) else None


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _several(values: tuple[Any, ...] | list[Any]) -> bool:
    """Whether a sequence holds outputs, not the rows of one: these have one axis, and all alike."""
    axes = {np.ndim(value) if _is_array(value) else _depth(value) for value in values}
    return bool(axes) and axes not in ({0}, {1})


def _depth(value: Any) -> int:
    """How deeply lists are nested, as far as their first entries show."""
    depth = 0
    while isinstance(value, list | tuple) and value and depth < 9:
        value, depth = value[0], depth + 1
    return depth + (np.ndim(value) if _is_array(value) else 0)


def _told(parts: Mapping[str, Any]) -> str:
    shown = [f"{name} {_form(value)}" for name, value in parts.items()]
    return listed(shown)


def _form(value: Any) -> str:
    if _is_array(value):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    return type(value).__name__


def as_array(value: Any) -> Array:
    """Return an output as an array of real numbers.

    A tensor may have a gradient, lie on another device, or be of a type that NumPy does not have.

    Raises:
        ModelError: If it holds no numbers; the message does not say whose it is.
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
    """Return scores (N, C) of an output with axes of length 1 beside that of the classes."""
    sides = [side for side in values.shape[1:] if side != 1]
    if values.ndim < 3 or len(sides) > 1:
        return values
    return values.reshape(len(values), *(sides or [1]))
