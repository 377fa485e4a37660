"""Tensors of the Open Inference Protocol: named arrays, as numbers in lists or as bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain
from typing import Any

import msgspec
import numpy as np

from committee.arrays import Array
from committee.errors import RequestError, UnknownNameError
from committee.text import printable

BYTES = "BYTES"
# Types of tensors, and how bytes of a body hold them; BYTES have no size of their own.
DATATYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(bool),
    **{f"UINT{bits}": np.dtype(f"<u{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": np.dtype(f"<i{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": np.dtype(f"<f{bits // 8}") for bits in (16, 32, 64)},
    BYTES: np.dtype(object),
}
_MOST_AXES = 8
# Letters of a name from outside that a message shows.
_MOST_OF_NAME = 60


class Tensor(msgspec.Struct, frozen=True, eq=False):
    """A named array.

    Args:
        name: Its name.
        datatype: One of :data:`DATATYPES`.
        values: The array; for BYTES an array of objects of type bytes.
    """

    name: str
    datatype: str
    values: Array


class Column(msgspec.Struct, frozen=True, eq=False):
    """A tensor of one axis as a list, from which JSON is written sooner.

    Args:
        name: Its name.
        datatype: One of :data:`DATATYPES`.
        values: Numbers or truth values; for BYTES texts.
    """

    name: str
    datatype: str
    values: list[Any]

    @property
    def tensor(self) -> Tensor:
        """Return it as an array."""
        if self.datatype == BYTES:
            array = _objects([text.encode("utf-8", "replace") for text in self.values])
        else:
            array = np.array(self.values, DATATYPES[self.datatype])
        return Tensor(self.name, self.datatype, array)


def tensor_of(
    name: str, datatype: str, shape: Sequence[int], data: bytes | memoryview, most_texts: int
) -> Tensor:
    """Return the tensor that bytes hold: little-endian, row by row, without gaps.

    Raises:
        RequestError: If the type is unknown, or there are not as many bytes as the shape says.
    """
    where = where_of("input", name)
    dtype, count = dtype_of(where, datatype), count_of(where, shape)
    if datatype == BYTES:
        check_texts(where, count, most_texts)
        return Tensor(name, datatype, _texts(where, data, count).reshape(shape))
    if count * dtype.itemsize != len(data):
        raise RequestError(
            f"{where}: {datatype} of shape {shown(list(shape))} is {shown(count * dtype.itemsize)} "
            f"bytes, not {len(data):,}"
        )
    if datatype == "BOOL":
        values = np.frombuffer(data, np.uint8) != 0
    elif dtype.itemsize == 1:
        values = np.frombuffer(data, dtype)
    else:  # a copy: where the bytes lie in the body, processors may not find such numbers
        values = np.frombuffer(bytearray(data), dtype).astype(dtype.newbyteorder("="), copy=False)
    return Tensor(name, datatype, values.reshape(shape))


def tensor_of_list(name: str, datatype: str, shape: Sequence[int], values: list[Any]) -> Tensor:
    """Return the tensor of a flat list, or of lists nested as the shape is.

    Args:
        name: Its name.
        datatype: A known type.
        shape: Its shape, checked.
        values: Texts for BYTES; truth values for BOOL; whole numbers for integers; else numbers.

    Raises:
        RequestError: If there are not as many as the shape says, or a number is too large.
    """
    where = where_of("input", name)
    nested = bool(values) and isinstance(values[0], list)
    flat = _flat(where, values, shape if nested else [math.prod(shape)])
    if datatype == BYTES:
        made = _objects([each.encode() for each in flat])
    else:
        made = _numbers(where, datatype, flat)
    return Tensor(name, datatype, made.reshape(shape))


def bytes_of(tensor: Tensor | Column) -> bytes:
    """Return a tensor as bytes, from which :func:`tensor_of` makes it again."""
    if isinstance(tensor, Column):
        tensor = tensor.tensor
    if tensor.datatype != BYTES:
        return np.ascontiguousarray(tensor.values, DATATYPES[tensor.datatype]).tobytes()
    texts: list[bytes] = tensor.values.ravel().tolist()
    return b"".join(part for text in texts for part in (len(text).to_bytes(4, "little"), text))


def shape_of(tensor: Tensor | Column) -> list[int]:
    """Return the shape of a tensor."""
    if isinstance(tensor, Column):
        return [len(tensor.values)]
    return [*tensor.values.shape]


def list_of(tensor: Tensor | Column) -> list[Any]:
    """Return a tensor as a flat list, as JSON holds it."""
    if isinstance(tensor, Column):
        if tensor.datatype == BYTES:
            return [text.encode("utf-8", "replace").decode() for text in tensor.values]
        return tensor.values
    flat: list[Any] = tensor.values.ravel().tolist()
    return [text.decode("utf-8", "replace") for text in flat] if tensor.datatype == BYTES else flat


def dtype_of(where: str, datatype: str) -> np.dtype[Any]:
    """Return how bytes of a body hold a type."""
    if datatype not in DATATYPES:
        error = UnknownNameError.of(where, "datatype", datatype[:_MOST_OF_NAME], DATATYPES)
        raise RequestError(str(error))
    return DATATYPES[datatype]


def count_of(where: str, shape: Sequence[int]) -> int:
    """Return how many elements a shape has."""
    if not 1 <= len(shape) <= _MOST_AXES or min(shape) < 1:
        raise RequestError(
            f"{where}: shape must be 1 to {_MOST_AXES} numbers, each 1 or more, not "
            f"{shown(list(shape[: _MOST_AXES + 1]))}"
        )
    return math.prod(shape)


def check_texts(where: str, count: int, most: int) -> None:
    """Refuse more elements of BYTES than may be sent at once: each takes time of its own."""
    if count > most:
        raise RequestError(
            f"{where}: {shown(count)} elements of BYTES are too many; {most:,} may be sent at once",
            413,
        )


def _flat(where: str, nested: list[Any], shape: Sequence[int]) -> list[Any]:
    """Return what lists of a shape hold, in one list."""
    level = [nested]
    for size in shape:
        wrong = next((len(each) for each in level if len(each) != size), None)
        if wrong is not None:
            raise RequestError(
                f"{where}: data has a list of {wrong:,}, where the shape says {shown(size)}"
            )
        level = list(chain.from_iterable(level)) if len(level) > 1 else level[0]
    return level


def _numbers(where: str, datatype: str, flat: list[Any]) -> Array:
    """Return numbers or truth values as an array of a type that can hold each."""
    dtype = DATATYPES[datatype].newbyteorder("=")
    with np.errstate(over="ignore"):
        try:
            values: Array = np.array(flat, np.float64 if dtype.kind == "f" else dtype).astype(dtype)
        except OverflowError:
            values = np.array([np.inf])
        # No number of JSON is infinite.
        if dtype.kind in "uif" and np.isinf(values).any():
            raise RequestError(f"{where}: data has a number that {datatype} cannot hold")
    return values


def _texts(where: str, data: bytes | memoryview, count: int) -> Array:
    """Return the elements of BYTES, each after its length, as objects (N,)."""
    found: list[bytes] = []
    at, end = 0, len(data)
    while len(found) < count and at + 4 <= end:
        start = at + 4
        at = start + int.from_bytes(data[at:start], "little")
        found.append(bytes(data[start:at]))
    if len(found) != count or at != end:
        raise RequestError(
            f"{where}: its {end:,} bytes are not {count:,} elements of BYTES, each after four "
            "bytes that say how long it is"
        )
    return _objects(found)


def _objects(values: Sequence[bytes]) -> Array:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def where_of(what: str, name: str) -> str:
    """Return where something is wrong, for an error."""
    return f"{what} {named(name)}"


def named(name: str) -> str:
    """Return a name from outside, safe to show and of bounded length."""
    if len(name) <= _MOST_OF_NAME and name.isascii() and name.isprintable():
        return f"'{name}'"
    end = "…" if len(name) > _MOST_OF_NAME else ""
    return f"'{printable(name[:_MOST_OF_NAME])}{end}'"


def shown(value: object) -> str:
    """Return a number or a list from outside, of bounded length."""
    text = f"{value:,}" if isinstance(value, int) else str(value)
    return text if len(text) <= _MOST_OF_NAME else f"{text[:_MOST_OF_NAME]}…"
