"""Messages of gRPC: the protocol's own, and bodies that say what they say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from committee.errors import RequestError
from committee.serve.grpc_messages import SERVICE, answer_of, body_of, methods
from committee.serve.oip import InferRequest, read_request
from committee.serve.tensors import DATATYPES, Column, Tensor
from proto import SOURCE, compiled

grpcclient = pytest.importorskip("tritonclient.grpc", reason="needs tritonclient")
service = pytest.importorskip("tritonclient.grpc.service_pb2")
pytest.importorskip("grpc_tools", reason="needs grpcio-tools, to compile the .proto")


def test_the_descriptors_are_those_of_the_file() -> None:
    assert SOURCE.with_suffix(".binpb").read_bytes() == compiled()


def fields(message: Any) -> dict[str, Any]:
    """What travels: of each field its number, type and label, and those of messages inside."""
    return {
        field.name: (
            field.number,
            field.type,
            field.is_repeated,
            fields(field.message_type) if field.message_type else None,
        )
        for field in message.fields
    }


def test_messages_are_those_of_the_public_client() -> None:
    theirs = service.DESCRIPTOR.services_by_name[SERVICE.partition(".")[2]].methods_by_name
    assert theirs["ModelInfer"].full_name == f"{SERVICE}.ModelInfer"
    for name, classes in methods().items():
        for own, other in zip(
            classes, (theirs[name].input_type, theirs[name].output_type), strict=True
        ):
            assert own.DESCRIPTOR.full_name == other.full_name
            assert fields(own.DESCRIPTOR).items() <= fields(other).items()


VALUES = {
    "BOOL": [True, False],
    **{f"UINT{bits}": [0, 2**bits - 1] for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": [-(2 ** (bits - 1)), 2 ** (bits - 1) - 1] for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": [0.5, -2.0] for bits in (16, 32, 64)},
    "BYTES": [b"", b"\xff\x00 no text"],
}
FIELDS = {
    "BOOL": "bool",
    **{f"{sign}INT{bits}": f"{sign.lower()}int" for sign in ("", "U") for bits in (8, 16, 32)},
    "INT64": "int64",
    "UINT64": "uint64",
    "FP32": "fp32",
    "FP64": "fp64",
    "BYTES": "bytes",
}


def typed(datatype: str, values: list[Any], shape: list[int]) -> Any:
    request, _ = methods()["ModelInfer"]
    message = request(id="7")
    tensor = message.inputs.add(name="x", datatype=datatype, shape=shape)
    getattr(tensor.contents, f"{FIELDS[datatype]}_contents").extend(values)
    return message


def through_the_wire(message: Any) -> Any:
    """The same bytes as a message of ours."""
    request, _ = methods()["ModelInfer"]
    return request.FromString(message.SerializeToString())


@pytest.mark.parametrize("datatype", DATATYPES)
def test_raw_tensors_of_the_public_client_are_read(datatype: str) -> None:
    values = np.array([VALUES[datatype]], DATATYPES[datatype])
    given = grpcclient.InferInput("x", list(values.shape), datatype)
    given.set_data_from_numpy(values)
    message = service.ModelInferRequest(raw_input_contents=[given._get_content()])
    message.inputs.append(given._get_tensor())
    message.outputs.add(name="class")
    message.parameters["max_stage"].int64_param = 1
    message.parameters["explain"].bool_param = True
    found = read_request(*body_of(through_the_wire(message)))
    assert found.inputs["x"].datatype == datatype
    assert found.inputs["x"].values.tolist() == values.tolist()
    assert (list(found.outputs), found.max_stage, found.explain) == (["class"], 1, True)


@pytest.mark.parametrize("datatype", FIELDS)
def test_typed_tensors_are_read_and_answered(datatype: str) -> None:
    found = read_request(*body_of(typed(datatype, VALUES[datatype], [2, 1])))
    assert found.inputs["x"].values.tolist() == [[each] for each in VALUES[datatype]]
    answer = answer_of("m", "1", found, list(found.inputs.values()), raw=False)
    assert (answer.id, answer.model_name, answer.model_version) == ("7", "m", "1")
    (tensor,) = answer.outputs
    assert list(getattr(tensor.contents, f"{FIELDS[datatype]}_contents")) == VALUES[datatype]
    assert list(tensor.shape) == [2, 1]


def test_raw_answers_are_read_by_the_public_client() -> None:
    tensors = [
        Tensor("class", "INT64", np.array([3, 4])),
        Column("label", "BYTES", ["Coat", "Stiefel ü"]).tensor,
        Tensor("probabilities", "FP32", np.eye(2, dtype=np.float32)),
    ]
    message = answer_of("m", "1", InferRequest({}, {}), tensors, raw=True)
    found = grpcclient.InferResult(
        service.ModelInferResponse.FromString(message.SerializeToString())
    )
    assert found.as_numpy("class").tolist() == [3, 4]
    assert [each.decode() for each in found.as_numpy("label")] == ["Coat", "Stiefel ü"]
    assert (found.as_numpy("probabilities") == np.eye(2)).all()


def wrong_raw(count: int, contents: bool = False) -> Any:
    message = typed("INT64", [1], [1]) if contents else typed("INT64", [], [1])
    if not contents:
        message.inputs[0].ClearField("contents")
    message.raw_input_contents.extend([b"12345678"] * count)
    return message


def with_parameter(**values: Any) -> Any:
    message = typed("INT64", [1], [1])
    for name, value in values.items():
        setattr(message.parameters[name], f"{type(value).__name__}_param", value)
    return message


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (typed("INT8", [128], [1]), "input 'x': contents has a number that INT8 cannot hold"),
        (typed("UINT16", [2**16], [1]), "contents has a number that UINT16 cannot hold"),
        (typed("INT64", [1, 2], [3]), "INT64 of shape [3] is 24 bytes, not 16"),
        (typed("INT64", [1], [-1]), "shape must be 1 to 8 numbers, each 1 or more"),
        (typed("INT64", [1], []), "shape must be 1 to 8 numbers"),
        (wrong_raw(2), "request: has 1 inputs, but 2 raw_input_contents"),
        (wrong_raw(1, contents=True), "raw_input_contents, and contents in an input; send one"),
        (with_parameter(bool=True), "no parameter 'bool'"),
    ],
)
def test_what_is_malformed_is_refused_in_one_line(message: Any, told: str) -> None:
    with pytest.raises(RequestError) as caught:
        read_request(*body_of(message))
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.status == 400


def test_types_without_a_field_are_refused_by_name() -> None:
    message = typed("INT64", [1], [1])
    for datatype, told in (("FP16", "goes into raw_input_contents alone"), ("FP8", "datatype")):
        message.inputs[0].datatype = datatype
        with pytest.raises(RequestError, match=told):
            read_request(*body_of(message))
