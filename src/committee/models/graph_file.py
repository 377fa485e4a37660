"""An ONNX file as it describes itself: inputs and outputs, files of tensors beside it, fingerprint.

Read without onnx and without an engine, so that pool files are read at once, and large graphs are
not parsed whole.
"""

from __future__ import annotations

import hashlib
import mmap
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from committee.models.base import file_fingerprint

# A side that may vary has a name, or "N" or "?" if the file gives it none.
Side: TypeAlias = int | str

# ONNX's numbers of tensor types, by NumPy's names where NumPy has the type.
_TYPES = (
    *("untyped", "float32", "uint8", "int8", "uint16", "int16", "int32", "int64", "string"),
    *("bool", "float16", "float64", "uint32", "uint64", "complex64", "complex128", "bfloat16"),
)
# Numbers of protobuf fields, by message.
_GRAPH, _INITIALIZER, _INPUT, _OUTPUT = 7, 5, 11, 12
_TENSOR_NAME, _NAME, _TYPE, _TENSOR, _ELEMENT, _SHAPE, _DIM = 8, 1, 2, 1, 1, 2, 1
# A tensor in another file names it by an entry of two strings, as protobuf writes them: field 1 is
# the key, field 2 the value.
_LOCATION = re.compile(rb"\x0a\x08location\x12([\x80-\xff]?)([\x00-\x7f])")


@dataclass(frozen=True)
class Port:
    """One input or output of a graph.

    Args:
        name: Its name.
        dtype: NumPy's name of its type, or ONNX's if NumPy has none.
        shape: Numbers where sides are fixed, names where they may vary; None if not even their
            number is declared.
    """

    name: str
    dtype: str
    shape: tuple[Side, ...] | None

    def __str__(self) -> str:
        """Return name, type and shape, for errors."""
        if self.shape is None:
            return f"{self.name!r} {self.dtype} of any shape"
        return f"{self.name!r} {self.dtype} ({', '.join(map(str, self.shape))})"


Ports: TypeAlias = tuple[Port, ...]


def ports_of(path: Path) -> tuple[Ports, Ports]:
    """Return the inputs and the outputs of an ONNX file; weights are no inputs.

    Raises:
        ValueError: If the file is no ONNX model.
        OSError: If it cannot be read.
    """
    if not path.is_file():  # reading a pipe would wait for ever
        raise FileNotFoundError(f"no file {path}")
    with path.open("rb") as file:
        # Closed with its last view: an error's traceback may still hold one.
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    try:
        return _ports(data)
    except (IndexError, ValueError) as error:
        raise ValueError(f"{path}: no ONNX model ({error})") from None


def _ports(data: memoryview) -> tuple[Ports, Ports]:
    graph = _first(data, _GRAPH)
    if not isinstance(graph, memoryview):
        raise ValueError("there is no graph in it")
    weights: set[str] = set()
    ports: dict[int, list[Port]] = {_INPUT: [], _OUTPUT: []}
    for number, value in _fields(graph):
        if number == _INITIALIZER:
            weights.add(_text(_first(value, _TENSOR_NAME)))
        elif number in ports:
            ports[number].append(_port(value))
    inputs = tuple(port for port in ports[_INPUT] if port.name not in weights)
    return inputs, tuple(ports[_OUTPUT])


def _port(value: int | memoryview) -> Port:
    name, tensor = _text(_first(value, _NAME)), _first(_first(value, _TYPE), _TENSOR)
    if not isinstance(tensor, memoryview):
        return Port(name, "no tensor", None)
    element, shape = _first(tensor, _ELEMENT), _first(tensor, _SHAPE)
    number = element if isinstance(element, int) else 0
    dtype = _TYPES[number] if number < len(_TYPES) else f"type {number}"
    if not isinstance(shape, memoryview):
        return Port(name, dtype, None)
    sides = [side for field, side in _fields(shape) if field == _DIM]
    return Port(name, dtype, tuple(_side(side, "?" if k else "N") for k, side in enumerate(sides)))


def _side(side: int | memoryview, unnamed: str) -> Side:
    for number, value in _fields(side):
        if number == 1 and isinstance(value, int) and value > 0:
            return value
        if number == 2 and isinstance(value, memoryview):
            return _text(value) or unnamed
    return unnamed


def _first(message: int | memoryview | None, number: int) -> int | memoryview | None:
    """Return the first field of that number; None if there is none."""
    if not isinstance(message, memoryview):
        return None
    return next((value for field, value in _fields(message) if field == number), None)


def _text(value: int | memoryview | None) -> str:
    return bytes(value).decode("utf-8") if isinstance(value, memoryview) else ""


def _fields(data: int | memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield the fields of a protobuf message: whole numbers, or bytes of texts and messages.

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
    """Return a whole number, seven bits a byte, lowest first, and where the next field begins."""
    value = shift = 0
    while shift < 70:
        byte = data[at]
        value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return value, at
    raise ValueError("a number never ends")


def graph_fingerprint(path: Path) -> str:
    """Return sixteen hexadecimal digits that change with a graph or a file of its tensors."""
    own = file_fingerprint(path)
    beside = [path.parent / name for name in tensor_files(path)]
    if not beside:
        return own
    # A file that is missing or outside the folder is not opened; the engine refuses it by name.
    prints = [
        file_fingerprint(each) if is_inside(each, path.parent) and each.is_file() else "not there"
        for each in beside
    ]
    return hashlib.sha256(" ".join((own, *prints)).encode()).hexdigest()[:16]


def is_inside(path: Path, folder: Path) -> bool:
    """Return True if a path, every link followed, is in a folder."""
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError):  # a NUL in its name, or links in a circle
        return False


def tensor_files(path: Path) -> list[str]:
    """Return the files that hold tensors of a graph, relative to its folder, sorted."""
    if not path.stat().st_size:
        return []
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        names = {data[at.end() : at.end() + _length(at)] for at in _LOCATION.finditer(data)}
    return sorted(name.decode("utf-8", "replace") for name in names)


def _length(location: re.Match[bytes]) -> int:
    low, high = location.groups()
    return (low[0] & 127) + (high[0] << 7) if low else high[0]
