"""Messages of the protocol's gRPC form, and the bodies of its REST form that say the same.

A request becomes a body, so that :mod:`.oip` reads and checks both forms alike. The messages are
those of ``open_inference.proto``, whose descriptors lie beside it: no generated code has to fit the
protobuf that is installed, and a pool of their own keeps them apart from other packages' messages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import msgspec
import numpy as np

from committee.errors import RequestError, needing
from committee.serve.oip import InferRequest
from committee.serve.tensors import BYTES, DATATYPES, Column, Tensor, bytes_of, where_of

SERVICE = "inference.GRPCInferenceService"
_DESCRIPTORS = "open_inference.binpb"
# The field of InferTensorContents that holds a type; FP16 has none.
_FIELDS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    BYTES: "bytes_contents",
}


@cache
def methods() -> Mapping[str, tuple[Any, Any]]:
    """Return the classes of the request and of the answer of each method of the service."""
    with needing("gRPC", "protobuf", "grpc"):
        from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    pool = descriptor_pool.DescriptorPool()
    data = (files("committee.serve") / _DESCRIPTORS).read_bytes()
    for file in descriptor_pb2.FileDescriptorSet.FromString(data).file:
        pool.Add(file)
    return {
        method.name: (
            message_factory.GetMessageClass(method.input_type),
            message_factory.GetMessageClass(method.output_type),
        )
        for method in pool.FindServiceByName(SERVICE).methods
    }


def message_of(name: str, data: bytes) -> Any:
    """Return the request of a method, from its bytes.

    Raises:
        RequestError: If they are none.
    """
    from google.protobuf.message import DecodeError

    request, _ = methods()[name]
    try:
        return request.FromString(data)
    except DecodeError:
        kind = request.DESCRIPTOR.name
        raise RequestError(f"request: is no {kind}; send that message of {SERVICE}") from None


def body_of(message: Any) -> tuple[bytes, str]:
    """Return a ModelInferRequest as the body of a REST request, and the size of its JSON.

    Raises:
        RequestError: If its tensors are neither all raw nor all typed, or a number does not fit.
    """
    raw = message.raw_input_contents or [_typed_contents(each) for each in message.inputs]
    if len(raw) != len(message.inputs):
        raise RequestError(
            f"request: has {len(message.inputs):,} inputs, but {len(raw):,} raw_input_contents"
        )
    if message.raw_input_contents and any(each.HasField("contents") for each in message.inputs):
        raise RequestError("request: has raw_input_contents, and contents in an input; send one")
    head = {
        "id": message.id,
        "parameters": _values(message.parameters),
        "inputs": [
            {
                "name": each.name,
                "datatype": each.datatype,
                "shape": list(each.shape),
                "parameters": {**_values(each.parameters), "binary_data_size": len(data)},
            }
            for each, data in zip(message.inputs, raw, strict=True)
        ],
        "outputs": [
            {"name": each.name, "parameters": _values(each.parameters)} for each in message.outputs
        ],
    }
    text = msgspec.json.encode(head)
    return b"".join([text, *raw]), str(len(text))


def answer_of(
    model: str,
    version: str,
    request: InferRequest,
    outputs: Sequence[Tensor | Column],
    *,
    raw: bool,
) -> Any:
    """Return a ModelInferResponse: its tensors raw, or as fields of their types.

    Args:
        model: The name of what answers.
        version: Its version.
        request: The request, whose id is repeated.
        outputs: The tensors.
        raw: Whether they are wanted raw, as those of the request were.
    """
    _, response = methods()["ModelInfer"]
    message = response(model_name=model, model_version=version, id=request.id)
    for output in outputs:
        each = output.tensor if isinstance(output, Column) else output
        made = message.outputs.add(name=each.name, datatype=each.datatype, shape=each.values.shape)
        if raw:
            message.raw_output_contents.append(bytes_of(each))
        else:
            getattr(made.contents, _FIELDS[each.datatype]).extend(each.values.ravel().tolist())
    return message


def _values(parameters: Mapping[str, Any]) -> dict[str, Any]:
    chosen = {name: each.WhichOneof("parameter_choice") for name, each in parameters.items()}
    return {name: getattr(parameters[name], kind) for name, kind in chosen.items() if kind}


def _typed_contents(tensor: Any) -> bytes:
    """Return the bytes of a tensor whose contents are a field of its type."""
    where = where_of("input", tensor.name)
    if tensor.datatype not in DATATYPES:
        return b""  # refused by its name later, as in a body
    if tensor.datatype not in _FIELDS:
        raise RequestError(f"{where}: {tensor.datatype} goes into raw_input_contents alone")
    values = list(getattr(tensor.contents, _FIELDS[tensor.datatype]))
    try:
        array = np.array(values, DATATYPES[tensor.datatype])
    except OverflowError:
        raise RequestError(
            f"{where}: contents has a number that {tensor.datatype} cannot hold"
        ) from None
    return bytes_of(Tensor(tensor.name, tensor.datatype, array))
