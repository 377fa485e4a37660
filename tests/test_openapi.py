"""The description of the server is valid OpenAPI 3.1."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from committee.serve.app import make_app
from committee.serve.openapi import openapi
from committee.serve.samples import SampleReader
from committee.serve.served import Serving
from committee.serve.settings import Settings
from committee.spec.preprocessing import Preprocessing
from committee.spec.record import Record
from committee.spec.task import CLASSIFICATION, IMAGE_CLASSIFICATION

WATCHED = ("/metrics", "/alarms")
READERS = {
    "images": SampleReader(IMAGE_CLASSIFICATION, frozenset({Preprocessing((8, 8))})),
    "columns": SampleReader(CLASSIFICATION, frozenset({Record.of({"a": "text", "b": "stars"})})),
    "whole": SampleReader(CLASSIFICATION, frozenset({Record()})),
}


@pytest.fixture(params=READERS)
def description(request: pytest.FixtureRequest) -> dict[str, Any]:
    return openapi(READERS[request.param], token=request.param == "images")


def parts(value: Any, where: str = "#") -> Iterator[tuple[str, Any]]:
    """Every value of a description with its place."""
    yield where, value
    pairs = value.items() if isinstance(value, dict) else ()
    pairs = enumerate(value) if isinstance(value, list) else pairs
    for key, each in pairs:
        yield from parts(each, f"{where}/{str(key).replace('~', '~0').replace('/', '~1')}")


def test_references_lead_somewhere(description: dict[str, Any]) -> None:
    places = dict(parts(description))
    wanted = {v for k, v in places.items() if k.endswith("/$ref")}
    assert wanted
    assert wanted <= places.keys()
    held = {p for p in places if p.startswith("#/components/") and p.count("/") == 3}
    assert held - {"#/components/securitySchemes/token"} <= wanted


def test_schemas_are_schemas(description: dict[str, Any]) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    found = [each for where, each in parts(description) if where.endswith("/schema")]
    found += [*description["components"]["schemas"].values()]
    for each in found:
        jsonschema.Draft202012Validator.check_schema(each)


def test_paths_say_what_openapi_asks_for(description: dict[str, Any]) -> None:
    assert description["openapi"] == "3.1.0"
    names = []
    for path, methods in description["paths"].items():
        for operation in methods.values():
            names.append(operation["operationId"])
            assert operation["responses"]
            own = [
                description["components"]["parameters"][each["$ref"].rpartition("/")[2]]
                if "$ref" in each
                else each
                for each in operation.get("parameters", ())
            ]
            inside = {each["name"] for each in own if each["in"] == "path"}
            assert inside == {part[1:-1] for part in path.split("/") if part.startswith("{")}
            for each in operation["responses"].values():
                assert "$ref" in each or each["description"]
    assert len(set(names)) == len(names)


def test_the_whole_is_valid(description: dict[str, Any]) -> None:
    validator = pytest.importorskip(
        "openapi_spec_validator", reason="openapi-spec-validator is not installed"
    )
    validator.validate(description)


def test_classify_takes_what_the_cascade_takes() -> None:
    def content(name: str) -> set[str]:
        made = openapi(READERS[name], token=False)
        return set(made["paths"]["/classify"]["post"]["requestBody"]["content"])

    assert {"image/jpeg", "multipart/form-data", "application/json"} < content("images")
    assert content("columns") == {"application/json"}
    assert "image/jpeg" not in content("whole")
    assert json.dumps(openapi(READERS["images"], token=True)["security"]) == '[{"token": []}]'


def test_every_route_is_described_and_no_other() -> None:
    made = make_app(Serving(lambda: pytest.fail("nothing is loaded"), Settings()))
    shown = [route for route in made._app.routes if route.include_in_schema]
    routes = {route.path: route.methods - {"HEAD"} for route in shown}
    described = {
        path: {method.upper() for method in methods}
        for path, methods in openapi(READERS["images"], token=False)["paths"].items()
    }
    # These come from those who watch the server.
    described = {path: own for path, own in described.items() if path not in WATCHED}
    assert {path: own for path, own in routes.items() if path not in WATCHED} == described
