"""Bodies of the Open Inference Protocol, held against the encoder and decoder of tritonclient."""

from __future__ import annotations

import json
import tracemalloc
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from committee.errors import RequestError
from committee.serve.oip import JSON_SIZE, InferRequest, read_request, write_response
from committee.serve.tensors import BYTES, DATATYPES, Column, Tensor, bytes_of, tensor_of

client = pytest.importorskip("tritonclient.http", reason="tritonclient is not installed")

TYPES = [each for each in DATATYPES if each != BYTES]
TEXTS = np.array(["", "red", "größer", "a" * 300], object)


def array(datatype: str, shape: tuple[int, ...] = (3, 2), seed: int = 0) -> np.ndarray:
    """Values of a type, those at its ends among them."""
    chance, dtype = np.random.default_rng(seed), DATATYPES[datatype]
    if datatype == "BOOL":
        return chance.random(shape) < 0.5
    bounds = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    values = chance.integers(0, 100, shape).astype(dtype)
    values.flat[:2] = bounds.min, bounds.max
    return values


def request(
    values: np.ndarray, datatype: str, *, binary: bool, **options: Any
) -> tuple[bytes, str | None]:
    """The body that the client sends, and its header of the size of the JSON."""
    own = client.InferInput("x", list(values.shape), datatype)
    own.set_data_from_numpy(values, binary_data=binary)
    body, size = client.InferenceServerClient.generate_request_body([own], **options)
    return body, None if size is None else str(size)


def body(**changes: Any) -> bytes:
    """A request in JSON, in which the input has some entries changed; None takes one out."""
    own = {"name": "x", "shape": [2], "datatype": "FP32", "data": [1, 2]} | changes
    return json.dumps({"inputs": [{k: v for k, v in own.items() if v is not None}]}).encode()


def refused(text: bytes, size: str | None = None) -> str:
    with pytest.raises(RequestError) as error:
        read_request(text, size)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("datatype", TYPES)
def test_tensors_of_the_client_are_read(datatype: str, binary: bool) -> None:
    for shape in ((5,), (3, 2), (2, 1, 4)):
        values = array(datatype, shape)
        read = read_request(*request(values, datatype, binary=binary)).inputs["x"]
        assert read.datatype == datatype
        assert read.values.dtype == values.dtype
        np.testing.assert_array_equal(read.values, values)


@pytest.mark.parametrize("binary", [True, False])
def test_texts_of_the_client_are_read(binary: bool) -> None:
    read = read_request(*request(TEXTS.reshape(2, 2), BYTES, binary=binary)).inputs["x"]
    assert read.values.tolist() == [[b"", b"red"], ["größer".encode(), b"a" * 300]]


def test_several_tensors_in_bytes_and_in_json() -> None:
    made = []
    values = {"a": array("INT16"), "b": TEXTS, "c": array("FP16"), "d": array("UINT8")}
    for name, each in values.items():
        kind = (
            BYTES
            if each.dtype == object
            else "UINT8"
            if name == "d"
            else f"{'INT' if name == 'a' else 'FP'}16"
        )
        made.append(client.InferInput(name, list(each.shape), kind))
        made[-1].set_data_from_numpy(each, binary_data=name != "a")
    text, size = client.InferenceServerClient.generate_request_body(made, request_id="7")
    read = read_request(text, str(size))
    assert read.id == "7"
    assert [each.tolist() for each in (read.inputs[n].values for n in "acd")] == [
        values[name].tolist() for name in "acd"
    ]
    assert [each.decode() for each in read.inputs["b"].values] == TEXTS.tolist()


@pytest.mark.parametrize("binary", [True, False])
def test_the_client_reads_answers(binary: bool) -> None:
    outputs = [Tensor(each, each, array(each)) for each in TYPES]
    if not binary:  # the client has no FP16 in JSON that it reads, and we answer with none
        outputs = [each for each in outputs if each.datatype != "FP16"]
    outputs.append(Column("label", "BYTES", TEXTS).tensor)
    asked = InferRequest({}, {}, binary, "an id")
    text, size = write_response("m", "1", asked, outputs)
    assert (size is not None) == binary
    result = client.InferenceServerClient.parse_response_body(text, header_length=size)
    for each in outputs[:-1]:
        np.testing.assert_array_equal(result.as_numpy(each.name), each.values)
    texts = result.as_numpy("label").tolist()
    assert texts == [each.encode() for each in TEXTS] if binary else TEXTS.tolist()
    head = result.get_response()
    assert (head["model_name"], head["model_version"], head["id"]) == ("m", "1", "an id")


def test_outputs_are_bytes_where_the_request_wants_it() -> None:
    wanted = [
        client.InferRequestedOutput("a", binary_data=True),
        client.InferRequestedOutput("b", binary_data=False),
    ]
    text, size = request(array("FP32"), "FP32", binary=True, outputs=wanted)
    read = read_request(text, size)
    assert read.outputs == {"a": True, "b": False}
    tensors = [Tensor("a", "FP32", array("FP32")), Tensor("b", "FP32", array("FP32"))]
    answer, json_size = write_response("m", "1", read, tensors)
    shown = json.loads(answer[:json_size])["outputs"]
    assert "data" not in shown[0]
    assert shown[0]["parameters"] == {"binary_data_size": 24}
    assert shown[1]["data"] == array("FP32").ravel().tolist()
    # Without outputs the client wants all as bytes.
    assert read_request(*request(array("FP32"), "FP32", binary=True)).binary


def test_parameters_of_a_request() -> None:
    own = {"max_stage": 1, "explain": True}
    text = request(array("FP32"), "FP32", binary=True, parameters=own, timeout=5, priority=2)
    read = read_request(*text)
    assert (read.max_stage, read.explain) == (1, True)


@given(
    datatype=st.sampled_from([*TYPES, BYTES]),
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple),
    seed=st.integers(0, 999),
)
@settings(max_examples=150, deadline=None)
def test_bytes_come_back(datatype: str, shape: tuple[int, ...], seed: int) -> None:
    if datatype == BYTES:
        made = [bytes([seed % 256]) * (n * seed % 7) for n in range(int(np.prod(shape)))]
        values = np.array([*made, None], object)[:-1].reshape(shape)
    else:
        values = array(datatype, (*shape, 2), seed)
    tensor = Tensor("x", datatype, values)
    read = tensor_of("x", datatype, values.shape, bytes_of(tensor), 10_000)
    assert read.values.dtype == values.dtype
    assert read.values.tolist() == values.tolist()


def test_lists_may_be_nested_as_the_shape_is() -> None:
    nested = body(shape=[2, 2], data=[[1, 2], [3, 4]])
    flat = body(shape=[2, 2], data=[1, 2, 3, 4])
    texts = body(shape=[2, 1], datatype=BYTES, data=[["a"], ["[,"]])
    for text in (nested, flat):
        assert read_request(text).inputs["x"].values.tolist() == [[1, 2], [3, 4]]
    assert read_request(texts).inputs["x"].values.tolist() == [[b"a"], [b"[,"]]


MALFORMED: list[tuple[bytes, str]] = [
    (b"", "request: no valid JSON (Input data was truncated)"),
    (b"[]", "request: it must be an object, not a list"),
    (b'{"inputs": []}', "inputs must be a list of length >= 1"),
    (b"{}", "request: lacks inputs"),
    (b"\xff", "no valid JSON"),
    (b'{"inputs": [' + b"[" * 10**5, "request: inputs[0] must be an object, not a list"),
    (body(name="x")[:-1] + b', "input": 1}', "object contains unknown field input"),
    (body(data=[1]), "input 'x': data has 1 values, but the shape [2] says 2"),
    (body(data=[]), "data has 1 values, but the shape [2] says 2"),
    (body(data=[], shape=[1]), "data has a list of 0, where the shape says 1"),
    (body(data="12"), "input 'x': data: it must be a list, not text"),
    (body(data=[1, "2"]), "input 'x': data: [1] must be a number, not text"),
    (body(data=[1, True]), "[1] must be a number, not true or false"),
    (body(data=[1, 2.5], datatype="INT8"), "[1] must be a whole number, not a number"),
    (body(data=[1, 300], datatype="UINT8"), "data has a number that UINT8 cannot hold"),
    (body(data=[1, -1], datatype="UINT64"), "data has a number that UINT64 cannot hold"),
    (body(data=[1, 1e39]), "data has a number that FP32 cannot hold"),
    (body(data=[1, 10**400]), "data: "),
    (body().replace(b"[1, 2]", b"[1, NaN]"), "no valid JSON"),
    (body().replace(b"[1, 2]", b"[1, 1e999]"), "data: [1]: number out of range"),
    (body(data=[[1, 2]]), "data has more lists than the shape [2] says"),
    (body(data=[[1], [2, 3]], shape=[2, 2]), "data has 3 values"),
    (body(data=[[1], [2, 3, 4]], shape=[2, 2]), "data has a list of 1, where the shape says 2"),
    (body(data=[[], []], shape=[2, 1]), "data: [0] must be a list of length >= 1"),
    (body(shape=[]), "shape must be 1 to 8 numbers, each 1 or more, not []"),
    (body(shape=[-2]), "each 1 or more, not [-2]"),
    (body(shape=[2, 0]), "each 1 or more, not [2, 0]"),
    (body(shape=[2] * 99), "shape must be 1 to 8 numbers"),
    (body(shape=[2**70, 2**70]), "but the shape"),
    (body(shape=["2"]), "shape[0] must be a whole number, not text"),
    (body(shape=2), "shape must be a list, not a whole number"),
    (body(datatype="FP31"), "input 'x': no datatype 'FP31'. Did you mean 'FP"),
    (body(datatype=BYTES), "data: [0] must be text, not a whole number"),
    (body(datatype=BYTES, shape=[2**40]), "elements of BYTES are too many; 65,536 may be sent"),
    (body(data=None), "needs either data or the parameter binary_data_size; it has neither"),
    (body(parameters={"binary_data_size": 8}), "it has both"),
    (body(data=None, parameters={"binary_data_size": 8}), "but 0 bytes of the body are left"),
    (body(data=None, parameters={"binary_data_size": -8}), "must be a whole number >= 0"),
    (body(data=None, parameters={"shared_memory_region": "r"}), "shared memory is not served"),
    (body(parameters=3), "parameters: it must be an object, not a whole number"),
    (body(name="\x1b[2J" + "a" * 500, shape=[3]), "input '\\x1b[2Jaaa"),
    (b'{"inputs": [%b, %b]}' % ((body()[12:-2],) * 2), "request: input 'x' stands twice"),
    (body()[:-1] + b', "parameters": {"max_stages": 1}}', "Did you mean 'max_stage'?"),
    (body()[:-1] + b', "parameters": {"max_stage": -1}}', "parameter 'max_stage': "),
    (body()[:-1] + b', "outputs": [{"name": "a"}, {"name": "a"}]}', "output 'a' stands twice"),
    (body()[:-1] + b', "outputs": [{"name": "a", "parameters": {"classification": 2}}]}', "top_k"),
    (body()[:-1] + b', "id": 3}', "id must be text, not a whole number"),
    (body() + b"x", "trailing characters"),
    (body()[:-1] + b', "outputs": [' + b'{"name": "a"},' * 9999 + b"1]}", "65,536 may be sent"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "reason"), MALFORMED)
def test_a_malformed_body_is_one_line(text: bytes, reason: str) -> None:
    said = refused(text)
    assert reason in said
    assert len(said) < 400
    assert said.isprintable()


@pytest.mark.parametrize("size", ["", "-1", "1e3", "99999", "1" * 50, " 5", "٣", "0x10"])
def test_the_header_of_the_size_must_be_right(size: str) -> None:
    assert refused(body(), size).startswith(f"header {JSON_SIZE}: must be")


def test_bytes_of_tensors_must_be_as_many_as_is_said() -> None:
    text, size = request(array("FP32"), "FP32", binary=True)
    assert "but 23 bytes of the body are left" in refused(text[:-1], size)
    assert "1 bytes follow those of its tensors" in refused(text + b"x", size)
    other = text.replace(b'"shape":[3,2]', b'"shape":[3,3]')
    assert "FP32 of shape [3, 3] is 36 bytes, not 24" in refused(other, size)
    huge = text.replace(b"[3,2]", b"[4294967296,4294967296]")
    assert "bytes, not 24" in refused(huge, str(int(size or 0) + len(huge) - len(text)))


def test_lengths_of_texts_must_be_right() -> None:
    right = bytes_of(Column("x", "BYTES", ["ab", "c"]).tensor)
    for wrong in (right[:-1], right + b"\0", b"\xff" * len(right), right[:4], b""):
        with pytest.raises(RequestError, match="are not 2 elements of BYTES, each after four"):
            tensor_of("x", BYTES, [2], wrong, 10)


@pytest.mark.parametrize(
    "data",
    [
        b"[" + b"[]," * 2**20 + b"[]]",
        b"[" * 2**20,
        b"[" + b"0," * 2**20 + b"0]",
        b"[" + b'"",' * 2**20 + b'""]',
        b"{" + b",".join(b'"%d":1' % n for n in range(2**17)) + b"}",
    ],
)
@pytest.mark.parametrize("datatype", ["UINT8", "FP64", BYTES])
def test_hostile_lists_take_bounded_memory(data: bytes, datatype: str) -> None:
    text = body(shape=[2**20 + 1, 1] if b"[]" in data else [2**20 + 1], datatype=datatype)
    tracemalloc.start()
    for where in (b"[1, 2]", b'"x"', b"[%d]" % (2**20 + 1)):
        with suppress(RequestError):
            read_request(text.replace(where, data))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30 * len(data) + 2**20
