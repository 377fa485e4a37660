"""Samples of requests: the pixels and the values that data sets would give, or a reason."""

from __future__ import annotations

import base64
import io
import re
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from committee import Cascade
from committee.cli import main
from committee.data.files import decoded
from committee.errors import CascadeError, RequestError
from committee.models.inputs import prepared
from committee.serve.samples import SampleReader
from committee.serve.tensors import BYTES, Column, Tensor
from committee.spec.model import ModelSpec
from committee.spec.preprocessing import Preprocessing
from committee.spec.record import Record
from committee.spec.task import (
    CLASSIFICATION,
    IMAGE_CLASSIFICATION,
    SEMANTIC_SEGMENTATION,
    VIDEO_CLASSIFICATION,
    Task,
)
from committee.spec.views import Views

RECIPE = Preprocessing((8, 8), exif=True)
SCAN = re.compile(rb"\xff\xda\x00[\x08\x0c]")
READER = SampleReader(IMAGE_CLASSIFICATION, frozenset({RECIPE}), 10_000, 8)
WHOLE = replace(READER, whole=True)


def pixels(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def file(form: str, height: int = 12, width: int = 9, **options: Any) -> bytes:
    made = io.BytesIO()
    Image.fromarray(pixels(height, width)).save(made, form, **options)
    return made.getvalue()


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return file("JPEG", exif=exif)


def with_chunk(name: bytes, data: bytes, png: bytes, times: int = 1) -> bytes:
    """A PNG file with one more chunk after its header, or several."""
    body = name + data
    chunk = struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))
    return png[:33] + chunk * times + png[33:]


def scanned(scans: int) -> bytes:
    """A JPEG file with so many scans, and what looks like more of them to a coarse look."""
    jpeg = file("JPEG", progressive=True, comment=b"\xff\xda" * 99)
    own = len(SCAN.findall(jpeg))
    last = jpeg[[*SCAN.finditer(jpeg)][-1].start() : -2]
    return jpeg[:-2] + last * (scans - own) + jpeg[-2:]


def sized(width: int, height: int) -> bytes:
    """A PNG file whose header names another size."""
    png = file("PNG")
    head = png[12:16] + struct.pack(">II", width, height) + png[24:29]
    return png[:12] + head + struct.pack(">I", zlib.crc32(head)) + png[33:]


def columns(*names: str, **types: str) -> SampleReader:
    recipe = Record.of({name: name for name in names} if len(names) > 1 else names[0], types or "")
    return SampleReader(CLASSIFICATION, frozenset({recipe}), most_samples=8)


def objects(*values: bytes) -> Tensor:
    array = np.empty(len(values), object)
    array[:] = values
    return Tensor("images", BYTES, array)


@pytest.mark.parametrize("reader", [READER, WHOLE])
def test_files_are_decoded_as_predict_does(reader: SampleReader, tmp_path: Path) -> None:
    files = [file("PNG"), file("JPEG"), turned(), scanned(64)]
    read = reader.files(files)
    assert (read.count, read.rows, read.failed) == (4, (0, 1, 2, 3), {})
    for number, data in enumerate(files):
        (tmp_path / f"{number}").write_bytes(data)
        want = prepared([decoded(tmp_path / f"{number}")], RECIPE)
        np.testing.assert_array_equal(prepared(read.samples[number : number + 1], RECIPE), want)
    # EXIF turns the last one, which is the second but for that.
    assert not np.array_equal(*(prepared([read.samples[n]], RECIPE) for n in (1, 2)))


def test_images_come_as_bytes_as_base64_and_as_arrays() -> None:
    png, plain = file("PNG"), pixels(12, 9)
    for tensor in (
        objects(png),
        objects(base64.b64encode(png)),
        Tensor("images", "UINT8", plain[None]),
    ):
        np.testing.assert_array_equal(WHOLE.tensors({"images": tensor}).samples[0], plain)
    grey = READER.tensors({"images": Tensor("images", "UINT8", plain[None, ..., 0])})
    np.testing.assert_array_equal(grey.samples, plain[None, ..., 0])


PARTS = 2**15
FLOODS = [
    *(
        file("JPEG")[:2] + part * (PARTS // count) + file("JPEG")[2:]
        for part, count in (
            (b"\xff", 1),
            (b"\xff\x00", 2),
            (b"\xff\xe5\x00\x02", 1),
            (b"\xff\xd0", 1),
        )
    ),
    with_chunk(b"aaCd", b"", file("PNG"), PARTS),
    file("PNG")[:-12] + with_chunk(b"aaCd", b"", b"", PARTS) + file("PNG")[-12:],
]
BROKEN = [
    (b"", "no JPEG or PNG image"),
    (b"\xff\xd8\xff", "no JPEG or PNG image"),
    (b"/etc/passwd", "no JPEG or PNG image"),
    (b"http://127.0.0.1/x.png", "no JPEG or PNG image"),
    (file("GIF"), "no JPEG or PNG image"),
    (file("TIFF"), "no JPEG or PNG image"),
    (file("JPEG")[:-60], "broken image (image file is truncated"),
    (file("PNG")[:-40], "broken image"),
    (file("PNG", 101, 100), "has 100 x 101 pixels; 10,000 may be sent"),
    (scanned(65), "has 65 scans; 64 may be sent"),
    *((flood, "has too many chunks, markers or bytes between them") for flood in FLOODS),
    (sized(2**31 - 1, 2**31 - 1), "make it smaller"),
    (sized(10_001, 10_000), "make it smaller"),
    (sized(3000, 3000), "has 3,000 x 3,000 pixels"),
    (with_chunk(b"zTXt", b"k\0\0" + zlib.compress(b"a" * 2**24), file("PNG")), "broken image"),
]


@pytest.mark.parametrize(("data", "reason"), BROKEN, ids=lambda value: str(value)[-30:])
def test_a_broken_image_has_a_reason_and_harms_no_other(data: bytes, reason: str) -> None:
    for read in (
        READER.files([file("PNG"), data, file("JPEG")]),
        READER.tensors({"images": objects(file("PNG"), data, file("JPEG"))}),
    ):
        assert read.rows == (0, 2)
        assert len(read.samples) == 2
        assert list(read.failed) == [1]
        assert reason in read.failed[1]
        assert "\n" not in read.failed[1]


def test_broken_exif_harms_no_batch() -> None:
    exif = b"Exif\0\0II*\0" + b"\xff" * 40
    whole = file("JPEG")
    broken = whole[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + whole[2:]
    read = READER.files([broken, whole])
    assert 1 in read.rows
    prepared(read.samples, RECIPE)


def test_images_wait_at_the_size_that_all_models_see() -> None:
    """Large ones would fill the memory; recipes of one size differ in numbers alone."""
    other = replace(RECIPE, mean=(0.1, 0.2, 0.3), order="bgr")
    larger = replace(RECIPE, size=(16, 16))
    photo = [file("JPEG", 90, 80), turned()]
    same = replace(READER, recipes=frozenset({RECIPE, other})).files(photo)
    assert [each.shape for each in same.samples] == [(8, 8, 3)] * 2
    kept = replace(READER, recipes=frozenset({RECIPE, larger})).files(photo)
    assert [each.size for each in kept.samples] == [(80, 90), (9, 12)]
    for recipe in (RECIPE, other):
        want = prepared(WHOLE.files(photo).samples, recipe)
        np.testing.assert_array_equal(prepared(same.samples, recipe), want)
        np.testing.assert_array_equal(prepared(np.stack(same.samples), recipe), want)


def test_images_that_wait_have_a_limit_together() -> None:
    reader = replace(WHOLE)
    photo = file("PNG", 100, 99)
    waiting = [reader.files([photo] * 4) for _ in range(4)]
    with pytest.raises(RequestError, match="too many large images wait; ask again") as error:
        reader.files([photo])
    assert error.value.status == 503
    del waiting[0], error
    assert reader.files([photo, b"broken"]).rows == (0,)
    # Those that are resized at once need no room afterwards.
    few = [READER.files([photo] * 4) for _ in range(9)]
    assert all(each.rows == (0, 1, 2, 3) for each in few)


def test_images_of_one_request_have_a_limit_together() -> None:
    read = READER.files([file("PNG", 100, 99)] * 5)
    assert read.rows == (0, 1, 2, 3)
    assert read.failed[4] == "has 99 x 100 pixels; 400 may be sent (of 40,000 in one request)"


@pytest.mark.parametrize(
    ("datatype", "shape", "reason"),
    [
        ("FP32", (1, 8, 8, 3), "must be UINT8 [N, H, W, 3], [N, H, W, 1] or [N, H, W]"),
        ("UINT8", (1, 8, 8, 4), "not UINT8 [1, 8, 8, 4]"),
        ("UINT8", (8,), "not UINT8 [8]"),
        ("UINT8", (8, 8, 3), "looks like one image; its number comes first: [1, 8, 8, 3]"),
        ("UINT8", (1, 200, 200, 3), "images have 200 x 200 pixels; 10,000 may be sent"),
        ("UINT8", (9, 8, 8, 3), "9 samples are too many; 8 may be sent at once"),
        (BYTES, (1, 2), "or BYTES [N], each a JPEG or PNG file; not BYTES [1, 2]"),
    ],
)
def test_images_of_another_form_are_refused(
    datatype: str, shape: tuple[int, ...], reason: str
) -> None:
    values = np.full(shape, b"", object) if datatype == BYTES else np.zeros(shape)
    tensor = Tensor("images", datatype, values.astype(object if datatype == BYTES else np.uint8))
    with pytest.raises(RequestError) as error:
        READER.tensors({"images": tensor})
    assert reason in str(error.value)
    assert error.value.status == (413 if "may be sent" in reason else 400)


def test_inputs_have_the_names_of_the_cascade() -> None:
    tensor = Tensor("image", "UINT8", np.zeros((1, 8, 8, 3), np.uint8))
    with pytest.raises(RequestError, match="no input 'image'"):
        READER.tensors({"image": tensor})
    two = columns("text", "stars", stars="float32")
    with pytest.raises(RequestError, match="no input 'stars'"):
        two.tensors({"text": Column("text", "BYTES", ["a"]).tensor})
    with pytest.raises(RequestError, match="not 2 of 'text', 1 of 'stars'"):
        two.tensors(
            {
                "text": Column("text", "BYTES", ["a", "b"]).tensor,
                "stars": Tensor("stars", "FP32", np.ones(1, np.float32)),
            }
        )


def test_columns_become_records() -> None:
    two = columns("text", "stars", stars="float32")
    tensors = {
        "stars": Tensor("stars", "INT8", np.array([[1], [2]], np.int8)),
        "text": Column("text", "BYTES", ["good", "größer"]).tensor,
    }
    want = [{"stars": 1, "text": "good"}, {"stars": 2, "text": "größer"}]
    assert two.tensors(tensors).samples == want
    assert two.records(want).samples == want
    assert two.records(want[0]).samples == want[:1]
    assert two.inputs == (("stars", "FP32", (-1,)), ("text", "BYTES", (-1,)))


def test_records_without_columns_are_values() -> None:
    whole = SampleReader(CLASSIFICATION, frozenset({Record()}), most_samples=8)
    assert whole.inputs == (("record", "BYTES", (-1,)),)
    assert whole.tensors({"record": Column("record", "BYTES", ["a", "b"]).tensor}).samples == [
        "a",
        "b",
    ]
    assert whole.files([b"\xff\0", b"text"]).samples == [b"\xff\0", b"text"]
    rows = np.ones((2, 3), np.float32)
    read = whole.tensors({"record": Tensor("record", "FP32", rows)})
    np.testing.assert_array_equal(read.samples, rows)


def test_a_record_that_fits_no_model_has_a_reason() -> None:
    two = columns("text", "stars", stars="float32")
    good = {"text": "a", "stars": 1}
    read = two.records([good, {"text": "b"}, {"text": "c", "stars": "many"}, 3, good])
    assert read.rows == (0, 4)
    assert read.failed[1] == "has no 'stars', but 'text'"
    assert "is no float32" in read.failed[2]
    assert set(read.failed) == {1, 2, 3}
    lists = columns("x", x="float32").records([{"x": [1, 2]}, {"x": [1]}, {"x": [[1], [2, 3]]}])
    assert lists.rows == (0,)
    assert lists.failed[1] == "has the shape (1,), where others have (2,)"


def test_a_value_that_is_no_text_is_doubted_where_models_leave_the_type_open() -> None:
    two = columns("text", "stars", stars="float32")
    assert two.doubt({"text": 5, "stars": 1}) == "'text' may have to be text, and is a number"
    assert two.doubt({"text": None, "stars": 1}) == "'text' may have to be text, and is null"
    assert two.doubt({"text": "good", "stars": 1}) == ""
    assert columns("text").doubt(["a"]) == "'text' may have to be text, and is a list"
    assert READER.doubt(np.zeros((8, 8, 3))) == ""


def test_a_file_is_no_record_of_columns() -> None:
    with pytest.raises(RequestError, match="must be JSON, an object of 'stars', 'text'") as error:
        columns("text", "stars").files([b"x"])
    assert error.value.status == 415


def test_requests_without_samples_or_of_too_many_are_refused() -> None:
    with pytest.raises(RequestError, match="has no sample"):
        columns("x").records([])
    with pytest.raises(RequestError, match="9 samples are too many") as error:
        columns("x").records([{"x": 1}] * 9)
    assert error.value.status == 413


@pytest.mark.parametrize("task", [VIDEO_CLASSIFICATION, SEMANTIC_SEGMENTATION])
def test_clips_and_segmentation_are_not_served(
    task: Task, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(CascadeError, match=f"cascades of {task.name} are not served"):
        SampleReader(task, frozenset({RECIPE}))
    recipe = replace(RECIPE, exif=False, views=Views(frames=4)) if task.views else RECIPE
    spec = ModelSpec("one", "onnx:missing.onnx", recipe, task=task.name)
    cascade = replace(Cascade.of(["one"]), models={"one": spec})
    path = cascade.save(tmp_path / "c.json")
    # It is refused before models are loaded.
    assert main(["serve", str(path), "--port", "0"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"cascades of {task.name} are not served, but those of 'image-class" in line
    assert "'classification' are. Run this one with committee run" in line
