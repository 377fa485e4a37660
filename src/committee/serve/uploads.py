"""Bodies of ``/classify``: an image, a form of several files, or JSON, as their type says."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from committee.errors import RequestError, UnreadableError
from committee.reading import typed, typed_json
from committee.serve.samples import ReadSamples, SampleReader, raw_image, text_of
from committee.serve.tensors import named

_FORM, _JSON = "multipart/form-data", "application/json"
# Types that are not looked into: what a file is, it says itself. curl's is among them.
_FILES = ("application/octet-stream", "application/x-www-form-urlencoded", "")


@dataclass(frozen=True, eq=False)
class Upload:
    """What was sent to ``/classify``.

    Args:
        samples: The samples.
        several: Whether several are answered, with a list for each.
        top_k: How many classes are wanted; None if the body does not say.
    """

    samples: ReadSamples
    several: bool
    top_k: int | None = None


class _Parameters(msgspec.Struct, frozen=True):
    top_k: Annotated[int, msgspec.Meta(ge=1)] | None = None


class _HuggingFace(msgspec.Struct, frozen=True):
    """The JSON that clients of Hugging Face send."""

    inputs: Any
    parameters: _Parameters = _Parameters()


class _InMemory(MultiPartParser):
    """Keeps files in memory, whose size the limit of the body bounds, and not on a disk."""

    spool_max_size = 2**62


async def files_of(body: bytes, content_type: str, most: int) -> list[bytes]:
    """Return the files of a form, in their order.

    Raises:
        RequestError: If it is malformed, has something else than files, or too many.
    """

    async def whole() -> AsyncGenerator[bytes, None]:
        yield body

    headers = Headers({"content-type": content_type})
    parser = _InMemory(headers, whole(), max_files=most, max_fields=most)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        status = 413 if error.message.startswith("Too many") else 400
        raise RequestError(f"form: {error.message}", status) from None
    files = []
    for name, part in form.multi_items():
        if not isinstance(part, UploadFile):
            raise RequestError(f"form: {named(name)} is no file; send each with a file name")
        files.append(part.file.read())
        part.file.close()
    return files


def read_files(files: list[bytes], reader: SampleReader) -> Upload:
    """Return the samples of a form."""
    return Upload(reader.files(files), len(files) > 1)


def read_body(
    body: bytes, content_type: str, reader: SampleReader, most_json: int = 2**23
) -> Upload:
    """Return the samples of a body that is no form.

    Raises:
        RequestError: If its type is not taken, or it is malformed.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind == _JSON:
        if len(body) > most_json:
            raise RequestError(f"{len(body):,} bytes of JSON; {most_json:,} may be sent", 413)
        return _read_json(body, reader)
    if kind == "text/plain" and reader.task.records:
        return Upload(reader.records(text_of(body)), False)
    if kind in _FILES or (kind.startswith("image/") and not reader.task.records):
        return Upload(reader.files([body]), False)
    takes = _JSON if reader.task.records else f"image/jpeg, image/png, {_FORM} or {_JSON}"
    raise RequestError(f"the type {named(kind)} is not taken; send {takes}", 415)


def is_form(content_type: str) -> bool:
    """Return True if a body is a form of files."""
    return content_type.partition(";")[0].strip().lower() == _FORM


def _read_json(body: bytes, reader: SampleReader) -> Upload:
    """Return the samples of JSON: records, or ``{"inputs": ...}`` as Hugging Face's clients say."""
    top_k = None
    try:
        given = typed_json("request", body, Any)
        if isinstance(given, dict) and "inputs" in given and "inputs" not in reader.columns:
            wire = typed("request", given, _HuggingFace)
            given, top_k = wire.inputs, wire.parameters.top_k
        elif not reader.task.records:
            raise RequestError(
                'send an image as JPEG or PNG, not as JSON, or its base64 as {"inputs": "…"}', 415
            )
    except UnreadableError as error:
        raise RequestError(str(error)) from None
    several = isinstance(given, list)
    if reader.task.records:
        return Upload(reader.records(given), several, top_k)
    images: list[Any] = given if isinstance(given, list) else [given]
    if not all(isinstance(each, str) for each in images):
        raise RequestError("inputs: each must be the base64 of an image")
    return Upload(reader.files([raw_image(each.encode()) for each in images]), several, top_k)
