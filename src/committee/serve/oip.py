"""Bodies of the Open Inference Protocol, version 2: tensors in JSON, or as bytes after the JSON.

The protocol is that of https://github.com/kserve/open-inference-protocol, with its extension
``binary_tensor_data``. Nothing here knows what is served, and nothing asks a library of HTTP.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from operator import mul
from typing import Annotated, Any, TypeVar

import msgspec

from committee.errors import RequestError, UnknownNameError, UnreadableError
from committee.reading import typed_json
from committee.serve.tensors import (
    BYTES,
    DATATYPES,
    Column,
    Tensor,
    bytes_of,
    check_texts,
    count_of,
    dtype_of,
    list_of,
    named,
    shape_of,
    shown,
    tensor_of,
    tensor_of_list,
    where_of,
)

# The header that says where the JSON of a body ends and the bytes of tensors begin.
JSON_SIZE = "Inference-Header-Content-Length"
EXTENSION = "binary_tensor_data"
# Bytes of JSON in one body, unless others are named.
MOST_JSON = 2**23
_LEAVES: dict[str, type] = {"b": bool, "u": int, "i": int, "f": float, "O": str}
# Parameters of a request.
_OURS = ("max_stage", "explain", "binary_data_output")
# Those that others use, and that change nothing here.
_OF_OTHERS = frozenset(
    {
        *("sequence_id", "sequence_start", "sequence_end", "priority", "timeout", "headers"),
        "content_type",
    }
)
# A parameter of an output that others serve.
_TOP_CLASSES = "classification"
_WHOLE = re.compile(r"[0-9]{1,18}")
_NESTED = re.compile(rb"\s*\[\s*\[")

T = TypeVar("T")
# What parameters hold.
_Stage = Annotated[int, msgspec.Meta(ge=0, le=10_000)]
_ByteCount = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
_Parameters = dict[str, msgspec.Raw]
# Bytes of parameters, and of the list of outputs: what they become takes many times their memory.
_MOST_OF_PARAMETERS = 2**16
_NOTHING = msgspec.Raw()
# Bytes of JSON that are kept, to be recognised.
_MOST_REPEATED = 2**11


class _Input(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tensor of a request as its JSON says it."""

    name: str
    shape: list[int]
    datatype: str
    parameters: msgspec.Raw = _NOTHING
    data: msgspec.Raw = _NOTHING


class _Output(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An output that is asked for."""

    name: str
    parameters: msgspec.Raw = _NOTHING


class _Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The JSON of a request."""

    inputs: Annotated[list[_Input], msgspec.Meta(min_length=1, max_length=10_000)]
    id: Annotated[str, msgspec.Meta(max_length=1024)] = ""
    parameters: msgspec.Raw = _NOTHING
    outputs: msgspec.Raw = _NOTHING


@dataclass(frozen=True)
class _Head:
    """What the JSON of a request says, checked; see :class:`InferRequest`.

    Attributes:
        inputs: Each with the bytes that it has after the JSON; None if its data are in the JSON.
    """

    inputs: Sequence[tuple[_Input, int | None]]
    outputs: Mapping[str, bool]
    binary: bool
    id: str
    max_stage: int | None
    explain: bool


class InferRequest(msgspec.Struct, frozen=True, eq=False):
    """What a request asks for.

    Args:
        inputs: Tensors by name.
        outputs: For each output that is asked for, whether it is wanted as bytes; empty for the
            usual ones.
        binary: Whether outputs are wanted as bytes that say nothing of it themselves.
        id: A text that the answer repeats.
        max_stage: The last stage that may run, from 0; None for all.
        explain: Whether each decision is wanted in words.
    """

    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, bool]
    binary: bool = False
    id: str = ""
    max_stage: int | None = None
    explain: bool = False


def read_request(
    body: bytes,
    json_size: str | None = None,
    *,
    most_json: int = MOST_JSON,
    most_texts: int = 2**16,
) -> InferRequest:
    """Return what the body of a request asks for.

    Args:
        body: JSON, and after it the bytes of tensors.
        json_size: The header :data:`JSON_SIZE`; None without one.
        most_json: The most bytes of JSON. Lists of numbers may take thirty times their memory until
            they are an array.
        most_texts: The largest number of elements that a tensor of BYTES may have.

    Raises:
        RequestError: If it is malformed; the message says where and how.
    """
    head = _json_size(json_size, len(body))
    if head > most_json:
        raise RequestError(
            f"request: {head:,} bytes of JSON are too many; {most_json:,} may be sent. Send "
            "tensors as binary data",
            413,
        )
    # Where the data follow the JSON, a client sends the same JSON again and again.
    repeated = head < len(body) and head <= _MOST_REPEATED
    known = (_known_head if repeated else _head_of)(body[:head])
    inputs, left = {}, memoryview(body)[head:]
    for each, size in known.inputs:
        inputs[each.name], left = _read_input(each, size, left, most_texts)
    if len(left):
        raise RequestError(
            f"request: {len(left):,} bytes follow those of its tensors; the binary_data_size of "
            "one of them, or of none, is wrong"
        )
    return InferRequest(
        inputs, known.outputs, known.binary, known.id, known.max_stage, known.explain
    )


def write_response(
    model: str,
    version: str,
    request: InferRequest,
    outputs: Sequence[Tensor | Column],
) -> tuple[bytes, int | None]:
    """Return the body of an answer, and the size of its JSON if bytes of tensors follow it.

    An output is written as bytes or in JSON as the request wants it.

    Args:
        model: The name of what answers.
        version: Its version.
        request: The request, whose id is repeated.
        outputs: The tensors; numbers in JSON must be finite.
    """
    written, parts = [], []
    for each in outputs:
        own: dict[str, Any] = {
            "name": each.name,
            "datatype": each.datatype,
            "shape": shape_of(each),
        }
        if request.outputs.get(each.name, request.binary):
            parts.append(bytes_of(each))
            own["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            own["data"] = list_of(each)
        written.append(own)
    head = {"model_name": model, "model_version": version}
    head |= {"id": request.id} if request.id else {}
    text = msgspec.json.encode({**head, "outputs": written})
    return (b"".join([text, *parts]), len(text)) if parts else (text, None)


def _head_of(text: bytes) -> _Head:
    wire = _typed("request", text, _Request)
    parameters = _parameters("request", wire.parameters)
    _check_parameters(parameters)
    binary = _parameter("request", parameters, "binary_data_output", bool, False)
    wanted = _small("request: outputs", wire.outputs, list[_Output], [])
    _check_once("input", [each.name for each in wire.inputs])
    _check_once("output", [each.name for each in wanted])
    return _Head(
        inputs=[(each, _binary_size(each)) for each in wire.inputs],
        outputs={each.name: _wants_bytes(each, binary) for each in wanted},
        binary=binary,
        id=wire.id,
        max_stage=_parameter("request", parameters, "max_stage", _Stage, None),
        explain=_parameter("request", parameters, "explain", bool, False),
    )


_known_head = lru_cache(64)(_head_of)


def _json_size(header: str | None, size: int) -> int:
    """Return how many bytes of a body are its JSON."""
    if header is None:
        return size
    if not _WHOLE.fullmatch(header) or int(header) > size:
        raise RequestError(
            f"header {JSON_SIZE}: must be the size of the JSON, at most the {size:,} bytes of the "
            f"body, not {named(header)}"
        )
    return int(header)


def _typed(where: str, data: bytes | msgspec.Raw, kind: Any) -> Any:
    try:
        return typed_json(where, data, kind)
    except UnreadableError as error:
        raise RequestError(str(error)) from None


def _small(where: str, data: msgspec.Raw, kind: Any, usual: Any) -> Any:
    """Return a part of the JSON that may not be large; ``usual`` if it is not there."""
    size = len(memoryview(data))
    if size > _MOST_OF_PARAMETERS:
        raise RequestError(
            f"{where}: {size:,} bytes are too many; {_MOST_OF_PARAMETERS:,} may be sent"
        )
    return _typed(where, data, kind) if size else usual


def _parameters(where: str, data: msgspec.Raw) -> _Parameters:
    found: _Parameters = _small(f"{where}: parameters", data, _Parameters, {})
    return found


def _parameter(where: str, parameters: _Parameters, name: str, kind: Any, usual: T) -> T:
    """Return a parameter of a request or of a tensor; ``usual`` if it is not there."""
    if name not in parameters:
        return usual
    value: T = _typed(f"{where}: parameter {name!r}", parameters[name], kind)
    return value


def _check_parameters(parameters: Collection[str]) -> None:
    """Refuse parameters that nobody knows: a limit that is misspelt would not hold."""
    for name in parameters:
        if name not in _OURS and name not in _OF_OTHERS and not name.startswith("triton_"):
            raise RequestError(str(UnknownNameError.of("request", "parameter", name[:60], _OURS)))


def _check_once(what: str, names: Sequence[str]) -> None:
    if len(set(names)) < len(names):
        twice = [name for name, count in Counter(names).items() if count > 1]
        raise RequestError(f"request: {what} {named(twice[0])} stands twice")


def _binary_size(wire: _Input) -> int | None:
    """Return how many bytes after the JSON are a tensor's; None if its data are in the JSON."""
    where = where_of("input", wire.name)
    dtype_of(where, wire.datatype)
    parameters = _parameters(where, wire.parameters)
    _refuse_shared_memory(where, parameters)
    size = _parameter(where, parameters, "binary_data_size", _ByteCount, None)
    in_json = len(memoryview(wire.data)) > 0
    if (size is not None) == in_json:
        found = "neither" if size is None else "both"
        raise RequestError(
            f"{where}: needs either data or the parameter binary_data_size; it has {found}"
        )
    return size


def _read_input(
    wire: _Input, size: int | None, rest: memoryview, most_texts: int
) -> tuple[Tensor, memoryview]:
    """Return a tensor, and the bytes of the body that are left for the next ones."""
    if size is None:
        return _from_json(where_of("input", wire.name), wire, most_texts), rest
    if size > len(rest):
        raise RequestError(
            f"{where_of('input', wire.name)}: binary_data_size is {size:,}, but {len(rest):,} "
            "bytes of the body are left"
        )
    tensor = tensor_of(wire.name, wire.datatype, wire.shape, rest[:size], most_texts)
    return tensor, rest[size:]


def _from_json(where: str, wire: _Input, most_texts: int) -> Tensor:
    """Return a tensor whose data are in the JSON: a flat list, or lists within lists."""
    text, count = bytes(wire.data), count_of(where, wire.shape)
    if wire.datatype == BYTES:
        check_texts(where, count, most_texts)
    elif text.lstrip().startswith(b"["):
        _check_numbers(where, text, wire.shape, count)
    kind: Any = list[_LEAVES[DATATYPES[wire.datatype].kind]]  # type: ignore[misc]
    for _ in wire.shape[1:] if _NESTED.match(text) else ():
        # A list of nothing takes more memory than any other, for what is sent.
        kind = list[Annotated[kind, msgspec.Meta(min_length=1)]]
    values = _typed(f"{where}: data", text, kind)
    return tensor_of_list(wire.name, wire.datatype, wire.shape, values)


def _check_numbers(where: str, text: bytes, shape: Sequence[int], count: int) -> None:
    """Refuse a text of more or fewer numbers than a shape says, before they take memory.

    Lists without numbers take the most of it for what is sent.
    """
    if text.count(b",") + 1 != count:
        raise RequestError(
            f"{where}: data has {text.count(b',') + 1:,} values, but the shape {shown(shape)} says "
            f"{shown(count)}"
        )
    if text.count(b"[") > sum(accumulate(shape[:-1], mul, initial=1)):
        raise RequestError(f"{where}: data has more lists than the shape {shown(shape)} says")


def _wants_bytes(wire: _Output, usual: bool) -> bool:
    if not memoryview(wire.parameters):
        return usual
    where = where_of("output", wire.name)
    parameters = _parameters(where, wire.parameters)
    _refuse_shared_memory(where, parameters)
    if _TOP_CLASSES in parameters:
        raise RequestError(f"{where}: classification is not served here; ask /classify?top_k=")
    return _parameter(where, parameters, "binary_data", bool, usual)


def _refuse_shared_memory(where: str, parameters: Collection[str]) -> None:
    if "shared_memory_region" in parameters:
        raise RequestError(f"{where}: shared memory is not served here; send its data")
