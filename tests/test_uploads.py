"""Bodies of /classify: images, forms and JSON."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from committee.errors import RequestError
from committee.serve.samples import SampleReader
from committee.serve.uploads import Upload, read_body
from committee.spec.preprocessing import Preprocessing
from committee.spec.record import Record
from committee.spec.task import CLASSIFICATION, IMAGE_CLASSIFICATION

IMAGES = SampleReader(IMAGE_CLASSIFICATION, frozenset({Preprocessing((8, 8))}), 10_000, 4)
COLUMNS = SampleReader(CLASSIFICATION, frozenset({Record.of("text")}), most_samples=4)
WHOLE = SampleReader(CLASSIFICATION, frozenset({Record()}), most_samples=4)
FORM = "multipart/form-data; boundary=cut"


def png(seed: int = 0) -> bytes:
    made = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 7, 3), np.uint8)
    Image.fromarray(pixels).save(made, "PNG")
    return made.getvalue()


def form(*files: bytes, disposition: str = 'form-data; name="f"; filename="x"') -> bytes:
    parts = [
        b"--cut\r\nContent-Disposition: %b\r\n\r\n%b\r\n" % (disposition.encode(), each)
        for each in files
    ]
    return b"".join(parts) + b"--cut--\r\n"


def read(body: bytes | Any, kind: str, reader: SampleReader = IMAGES) -> Upload:
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_body(body, kind, reader, 10_000)


def refused(body: bytes | Any, kind: str, reader: SampleReader = IMAGES) -> tuple[int, str]:
    with pytest.raises(RequestError) as error:
        read(body, kind, reader)
    assert "\n" not in str(error.value)
    return error.value.status, str(error.value)


@pytest.mark.parametrize(
    "kind", ["image/png", "IMAGE/JPEG", "application/octet-stream", "", "image/png; charset=x"]
)
def test_what_an_image_is_it_says_itself(kind: str) -> None:
    upload = read(png(), kind)
    assert (upload.several, upload.samples.count, upload.samples.failed) == (False, 1, {})


def test_a_form_has_any_number_of_files() -> None:
    one, two = read(form(png()), FORM), read(form(png(1), b"", png(2)), FORM)
    assert (one.several, one.samples.count) == (False, 1)
    assert (two.several, two.samples.rows) == (True, (0, 2))
    assert two.samples.failed == {1: "no JPEG or PNG image"}


@pytest.mark.parametrize(
    ("body", "kind", "status", "reason"),
    [
        (b"", FORM, 400, "its end is missing"),
        (form(b"x")[:-8], FORM, 400, "its end is missing"),
        (b"--cut--\r\n", FORM, 400, "the request has no sample"),
        (
            form(b"x", disposition='form-data; name="top_k"'),
            FORM,
            400,
            "in the address: /classify?top_k=3",
        ),
        (form(b"x", disposition="form-data"), FORM, 400, "is no file; send each"),
        (form(*[b"x"] * 5), FORM, 413, "too many files; 4 may be sent"),
        (form(b"x"), "multipart/form-data", 400, "form: "),
        (b"no form", FORM, 400, "form: "),
        (b"x", "image/webp", 415, "send image/jpeg, image/png, multipart/form-data or"),
        (b"x", "video/mp4", 415, "send image/jpeg, image/png, multipart/form-data or"),
        (b"{", "application/json", 400, "request: no valid JSON"),
        ([1], "application/json", 415, "or its base64"),
        ({"inputs": [1]}, "application/json", 400, "each must be the base64"),
        ({"inputs": "", "parameters": {"top_k": 0}}, "application/json", 400, "top_k must be"),
        (
            {"inputs": "", "parameters": {"topk": 1}},
            "application/json",
            400,
            "Did you mean 'top_k'?",
        ),
        ({"inputs": "", "max_stage": 0}, "application/json", 400, "no parameter 'max_stage'"),
        (b" " * 10_001, "application/json", 413, "10,001 bytes of JSON; 10,000 may be sent"),
    ],
)
def test_what_cannot_be_read_is_one_line(
    body: bytes | Any, kind: str, status: int, reason: str
) -> None:
    found = refused(body, kind)
    assert found[0] == status
    assert reason in found[1]


@pytest.mark.parametrize("kind", ["application/json", ""])
def test_clients_of_hugging_face_send_base64(kind: str) -> None:
    text = base64.b64encode(png()).decode()
    one = read(
        {
            "inputs": text,
            "parameters": {"top_k": 2, "max_stage": 1},
            "options": {"wait_for_model": True},
        },
        kind,
    )
    assert (one.several, one.samples.failed, one.top_k, one.max_stage) == (False, {}, 2, 1)
    two = read({"inputs": [text, "/etc/passwd"]}, kind)
    assert (two.several, two.samples.rows) == (True, (0,))


def test_records_are_json() -> None:
    kind = "application/json; charset=utf-8"
    record = {"text": "good"}
    assert read(record, kind, COLUMNS).samples.samples == [record]
    assert not read(record, kind, COLUMNS).several
    assert read([record], kind, COLUMNS).several
    assert read({"inputs": "good"}, kind, COLUMNS).samples.samples == ["good"]
    assert read({"inputs": ["a", "b"]}, kind, WHOLE).samples.samples == ["a", "b"]
    assert read(b"good", "text/plain", WHOLE).samples.samples == ["good"]
    assert read(b"\xff", "application/octet-stream", WHOLE).samples.samples == [b"\xff"]
    assert read(form(b"a", b"b"), FORM, WHOLE).samples.samples == [b"a", b"b"]
    assert refused(b"x", "image/png", COLUMNS)[0] == 415
    assert refused(form(b"x"), FORM, COLUMNS)[0] == 415
    assert refused(b"x=1", "application/x-www-form-urlencoded", COLUMNS)[0] == 415
