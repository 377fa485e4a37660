"""What a graph declares: names, types and shapes of its inputs and outputs, read from the file."""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

# A side that may differ has a name, or none at all.
Side: TypeAlias = "int | str"
# A message of protobuf: its fields by number, in the order of the file.
_Message: TypeAlias = "Iterator[tuple[int, int | memoryview]]"

# Numbers of ONNX for the types of tensors, by NumPy's names where it has one.
_TYPES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    8: "string",
    9: "bool",
    10: "float16",
    11: "float64",
    12: "uint32",
    13: "uint64",
    16: "bfloat16",
}
# Numbers of the fields that are read, by message.
_GRAPH, _INITIALIZER, _INPUT, _OUTPUT = 7, 5, 11, 12
_TENSOR_NAME, _NAME, _TYPE, _TENSOR, _ELEMENT, _SHAPE = 8, 1, 2, 1, 1, 2


@dataclass(frozen=True)
class Port:
    """One input or output of a graph.

    Args:
        name: Its name.
        dtype: NumPy's name of its type, or what ONNX calls it if NumPy has none.
        shape: Its sides: numbers where they are fixed, names where they may differ; None if the
            graph does not even declare how many there are.
    """

    name: str
    dtype: str
    shape: tuple[Side, ...] | None

    def __str__(self) -> str:
        """Name, type and shape, as errors tell them."""
        if self.shape is None:
            return f"{self.name!r} {self.dtype} of any shape"
        return f"{self.name!r} {self.dtype} ({', '.join(map(str, self.shape))})"


Ports: TypeAlias = tuple[Port, ...]


def ports_of(path: Path) -> tuple[Ports, Ports]:
    """Return the inputs and the outputs of an ONNX file; weights are no inputs.

    Neither onnx nor an engine is asked, so that a pool file is read at once and without them.

    Raises:
        ValueError: If the file is no ONNX model.
        OSError: If it cannot be read.
    """
    if not path.is_file():  # a pipe would be waited for
        raise FileNotFoundError(f"no file {path}")
    with path.open("rb") as file:
        # Closed with its last view: an error's traceback may still hold one.
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    try:
        return _ports(data)
    except (IndexError, ValueError) as error:
        raise ValueError(f"{path}: no ONNX model ({error})") from None


def _ports(data: memoryview) -> tuple[Ports, Ports]:
    graph = next((value for number, value in _fields(data) if number == _GRAPH), None)
    if not isinstance(graph, memoryview):
        raise ValueError("there is no graph in it")
    weights: set[str] = set()
    found: dict[int, list[Port]] = {_INPUT: [], _OUTPUT: []}
    for number, value in _fields(graph):
        if number == _INITIALIZER:
            weights.add(_text(_first(value, _TENSOR_NAME)))
        elif number in found:
            found[number].append(_port(value))
    inputs = tuple(port for port in found[_INPUT] if port.name not in weights)
    return inputs, tuple(found[_OUTPUT])


def _port(value: int | memoryview) -> Port:
    tensor = _first(_first(value, _TYPE), _TENSOR)
    name = _text(_first(value, _NAME))
    if not isinstance(tensor, memoryview):
        return Port(name, "no tensor", None)
    element, shape = _first(tensor, _ELEMENT), _first(tensor, _SHAPE)
    kind = _TYPES.get(element, f"type {element}") if isinstance(element, int) else "untyped"
    if not isinstance(shape, memoryview):
        return Port(name, kind, None)
    sides = (side for number, side in _fields(shape) if number == 1)
    return Port(name, kind, tuple(_side(each, "?" if k else "N") for k, each in enumerate(sides)))


def _side(side: int | memoryview, unnamed: str) -> Side:
    """The number or the name of a side, or what stands for it."""
    for number, value in _fields(side):
        if number == 1 and isinstance(value, int) and value > 0:
            return value
        if number == 2 and isinstance(value, memoryview):
            return _text(value) or unnamed
    return unnamed


def _first(value: int | memoryview | None, number: int) -> int | memoryview | None:
    """The first field of that number; None if there is none."""
    if not isinstance(value, memoryview):
        return None
    return next((each for found, each in _fields(value) if found == number), None)


def _text(value: int | memoryview | None) -> str:
    return bytes(value).decode("utf-8") if isinstance(value, memoryview) else ""


def _fields(data: int | memoryview) -> _Message:
    """The fields of a message: whole numbers, or the bytes of texts and messages.

    Raises:
        ValueError, IndexError: If the bytes are no message.
    """
    if not isinstance(data, memoryview):
        raise ValueError("a number stands where a message is expected")
    at = 0
    while at < len(data):
        key, at = _number(data, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _number(data, at)
            yield number, value
            continue
        if wire not in (1, 2, 5):
            raise ValueError(f"byte {at} begins no field")
        size, at = _number(data, at) if wire == 2 else (8 if wire == 1 else 4, at)
        if at + size > len(data):
            raise ValueError("it ends too early")
        yield number, data[at : at + size]
        at += size


def _number(data: memoryview, at: int) -> tuple[int, int]:
    """A whole number of seven bits a byte, the lowest first, and where the next field begins."""
    value = shift = 0
    while shift < 70:
        byte = data[at]
        value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return value, at
    raise ValueError("a number never ends")


def told(ports: Iterable[Port]) -> str:
    """Return ports in one line, for errors."""
    return ", ".join(map(str, ports))
