"""Bodies of ``/classify``: an image, a form of several files, or JSON, as their type says."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from committee.errors import RequestError, UnknownNameError, UnreadableError
from committee.reading import typed, typed_json
from committee.serve.image_files import raw_image
from committee.serve.samples import ReadSamples, SampleReader, text_of
from committee.serve.tensors import named

_FORM, _JSON = "multipart/form-data", "application/json"
# It warns of what strangers send; they are answered instead.
logging.getLogger("python_multipart").addHandler(logging.NullHandler())
# Types that are not looked into: what a file is, it says itself. curl's is among them.
_FILES = ("application/octet-stream", "application/x-www-form-urlencoded", "")
_IMAGES = ("image/jpeg", "image/jpg", "image/png")


@dataclass(frozen=True, eq=False)
class Upload:
    """What was sent to ``/classify``.

    Args:
        samples: The samples.
        several: Whether several are answered, with a list for each.
        top_k: How many classes are wanted; None if the body does not say.
        max_stage: The last stage that may run; None if the body does not say.
    """

    samples: ReadSamples
    several: bool
    top_k: int | None = None
    max_stage: int | None = None


class _Parameters(msgspec.Struct, frozen=True):
    top_k: Annotated[int, msgspec.Meta(ge=1)] | None = None
    max_stage: Annotated[int, msgspec.Meta(ge=0, le=10_000)] | None = None


class _HuggingFace(msgspec.Struct, frozen=True):
    """The JSON that clients of Hugging Face send.

    Their options say how long to wait for a model, and change nothing here.
    """

    inputs: Any
    parameters: _Parameters = _Parameters()
    options: Any = None


class _Files:
    """The files of a form, kept in memory as its parser finds them."""

    def __init__(self, most: int) -> None:
        self.files: list[bytearray] = []
        self.ended = False
        self._most = most
        self._name, self._value = b"", b""

    def callbacks(self) -> Any:
        """Return what the parser calls."""
        return {
            "on_part_begin": self._begin,
            "on_part_data": lambda data, start, end: self.files[-1].extend(data[start:end]),
            "on_header_field": self._field,
            "on_header_value": self._add_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._check_file,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        if len(self.files) == self._most:
            raise RequestError(f"form: too many files; {self._most:,} may be sent at once", 413)
        self.files.append(bytearray())
        self._disposition = b""

    def _field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = self._value
        self._name, self._value = b"", b""

    def _check_file(self) -> None:
        _, options = parse_options_header(self._disposition)
        if b"filename" not in options:
            name = options.get(b"name", b"").decode("utf-8", "replace")
            raise RequestError(
                f"form: {named(name)} is no file; send each with a file name, and parameters in "
                "the address: /classify?top_k=3&max_stage=0"
            )

    def _end(self) -> None:
        self.ended = True


def files_of(body: bytes, content_type: str, most: int) -> list[bytes]:
    """Return the files of a form, in their order.

    Raises:
        RequestError: If it is malformed, has something else than files, or too many.
    """
    found = _Files(most)
    _, options = parse_options_header(content_type)
    try:
        parser = MultipartParser(options.get(b"boundary", b""), found.callbacks())
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise RequestError(f"form: it is malformed ({error})") from None
    if not found.ended:
        raise RequestError("form: its end is missing, or the boundary is not the header's")
    return [bytes(each) for each in found.files]


def read_body(
    body: bytes, content_type: str, reader: SampleReader, most_json: int = 2**23
) -> Upload:
    """Return the samples of a body.

    Raises:
        RequestError: If its type is not taken, or it is malformed.
    """
    kind = content_type.partition(";")[0].strip().lower()
    # Old clients of Hugging Face name no type for an image in JSON; no image file begins so.
    if not kind and body.startswith(b"{") and not reader.task.records:
        kind = _JSON
    if kind == _FORM:
        files = files_of(body, content_type, reader.most_samples)
        return Upload(reader.files(files), len(files) > 1)
    if kind == _JSON:
        if len(body) > most_json:
            raise RequestError(f"{len(body):,} bytes of JSON; {most_json:,} may be sent", 413)
        return _read_json(body, reader)
    if kind == "text/plain" and reader.task.records:
        return Upload(reader.records(text_of(body)), False)
    if kind in _FILES or (kind in _IMAGES and not reader.task.records):
        return Upload(reader.files([body]), False)
    takes = _JSON if reader.task.records else f"image/jpeg, image/png, {_FORM} or {_JSON}"
    raise RequestError(f"the type {named(kind)} is not taken; send {takes}", 415)


def _check_names(where: str, given: Any, known: type[msgspec.Struct]) -> None:
    """Refuse names that nobody knows: a limit that is misspelt would not hold."""
    names = known.__struct_fields__
    for name in given if isinstance(given, dict) else ():
        if name not in names:
            raise RequestError(str(UnknownNameError.of(where, "parameter", name[:60], names)))


def _read_json(body: bytes, reader: SampleReader) -> Upload:
    """Return the samples of JSON: records, or ``{"inputs": ...}`` as Hugging Face's clients say."""
    asked = _Parameters()
    try:
        given = typed_json("request", body, Any)
        if isinstance(given, dict) and "inputs" in given and "inputs" not in reader.columns:
            _check_names("request", given, _HuggingFace)
            _check_names("request: parameters", given.get("parameters"), _Parameters)
            wire = typed("request", given, _HuggingFace)
            given, asked = wire.inputs, wire.parameters
        elif not reader.task.records:
            raise RequestError(
                'send an image as JPEG or PNG, not as JSON, or its base64 as {"inputs": "…"}', 415
            )
    except UnreadableError as error:
        raise RequestError(str(error)) from None
    several = isinstance(given, list)
    if reader.task.records:
        return Upload(reader.records(given), several, asked.top_k, asked.max_stage)
    images: list[Any] = given if isinstance(given, list) else [given]
    if not all(isinstance(each, str) for each in images):
        raise RequestError("inputs: each must be the base64 of an image")
    samples = reader.files([raw_image(each.encode()) for each in images])
    return Upload(samples, several, asked.top_k, asked.max_stage)
