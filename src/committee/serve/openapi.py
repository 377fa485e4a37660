"""The description of the server at ``/openapi.json``, in OpenAPI 3.1."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from committee.serve.samples import SampleReader
from committee.version import __version__

_OF_IMAGES = ("image/jpeg", "image/png")


def openapi(reader: SampleReader, *, token: bool) -> dict[str, Any]:
    """Return the description of a server.

    Args:
        reader: What reads its samples.
        token: Whether requests must bring one.
    """
    text = files("committee.serve").joinpath("web", "openapi.json").read_text(encoding="utf-8")
    made: dict[str, Any] = json.loads(text)
    made["info"]["version"] = __version__
    if token:
        made["security"] = [{"token": []}]
    content = made["paths"]["/classify"]["post"]["requestBody"]["content"]
    if not reader.task.records:
        image = {"description": "An image in base64.", "type": "string"}
        content["application/json"] = {"schema": _inputs(image)}
        del made["components"]["schemas"]["Record"]
        return made
    for kind in _OF_IMAGES:
        del content[kind]
    if reader.columns:  # a file is no record of columns
        del content["application/octet-stream"], content["multipart/form-data"]
        columns: dict[str, Any] = {column: {} for column in reader.columns}
        record = {"type": "object", "properties": columns, "required": [*columns]}
        made["components"]["schemas"]["Record"] |= record
    return made


def _inputs(sample: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of what clients of Hugging Face send."""
    several = {"type": "array", "items": sample, "minItems": 1}
    inputs = {"oneOf": [sample, several]}
    asked = {"top_k": {"type": "integer", "minimum": 1}}
    asked |= {"max_stage": {"type": "integer", "minimum": 0}}
    parameters = {"type": "object", "additionalProperties": False, "properties": asked}
    properties = {"inputs": inputs, "parameters": parameters}
    return {"type": "object", "required": ["inputs"], "properties": properties}
