"""Write docs/schemas and docs/formats.md, the formats of files: ``make docs``.

The schemas are those of the types that read the files, and their words those of the docstrings.
"""

import inspect
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from committee.certificates.monitors import State
from committee.models.pool_file import _Entry, _File
from committee.rule.cascade import SCHEMA
from committee.rule.format import CascadeFields
from committee.run.results import Result
from committee.store.entry import SCHEMA as STORE_SCHEMA
from committee.store.entry import Manifest
from committee.store.split import _Record

DOCS = Path(__file__).parent
DRAFT = "https://json-schema.org/draft/2020-12/schema"


@dataclass(frozen=True)
class _Index:
    """The index of a store.

    Args:
        classes: Their names, in the order of the outputs.
        models: Each model by name: its kind, family, costs and fingerprint; of one that can be
            loaded also its source, its preprocessing and what else its line of the pool file says;
            its calibration, once one was fitted.
    """

    classes: list[str]
    models: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Format:
    """One kind of file: its title, what it is for, its type, and the number of its version."""

    title: str
    text: str
    kind: Any
    number: int | None = None


FORMATS = {
    "cascade": Format(
        "Cascade file: cascade.json",
        "`committee search` writes it; `run`, `serve`, `export` and `evaluate` read it. With a "
        "certificate it says what was promised, how it was tested, and what came out.",
        CascadeFields,
        SCHEMA,
    ),
    "pool": Format(
        "Pool file: pool.toml",
        "People write it, as TOML. [Models](sources.md) explains its keys; "
        "[records](records.md), [video](video.md) and [segmentation](segmentation.md) those of "
        "other samples.",
        _File,
    ),
    "store": Format(
        "Index of a store: store.json",
        "The classes and the models of [a store](store.md).",
        _Index,
        STORE_SCHEMA,
    ),
    "samples": Format(
        "Samples of a split: SPLIT/samples.json",
        "Its samples, in the order of the rows of every model.",
        _Record,
        STORE_SCHEMA,
    ),
    "outputs": Format(
        "Outputs of a model: SPLIT/MODEL.json",
        "It stands beside `SPLIT/MODEL.npy`, which holds the numbers, and vouches for every chunk "
        "of 256 rows.",
        Manifest,
        STORE_SCHEMA,
    ),
    "result": Format(
        "Results: one row a sample",
        "`committee run` writes them as csv, jsonl or parquet. The schema is that of a line of "
        "jsonl.",
        Result,
    ),
    "watch": Format(
        "State of alarms",
        "What `committee watch --state` and `committee serve --alarm-state` remember.",
        State,
    ),
}
HEAD = """# File formats

<!-- Written by docs/schemas.py; do not edit. -->

Files are JSON, TOML, npy, csv or parquet. None can run code. Files from others are checked field by
field, and a key that is not listed here is refused by its name. The JSON Schemas are made from the
types that read the files.

`schema` is the version of a format; a file of another version is refused in one line. `checksum` is
the SHA-256 of all bytes before it.
"""


def plain(text: str) -> str:
    """Return a docstring's words on one line, as JSON says them, without the marks of roles."""
    text = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"\1", text.replace("``", "`"))
    return " ".join(text.replace("None", "null").split())


def words_of(docstring: str) -> tuple[str, dict[str, str]]:
    """Return what a docstring says of its class, and of each field."""
    text = inspect.cleandoc(docstring)
    listed = re.search(r"^Args:\n(.*?)(?=^\S|\Z)", text, re.M | re.S)
    each = re.findall(
        r"^    (\w+): (.*?)(?=^    \w+: |\Z)", listed[1] if listed else "", re.M | re.S
    )
    return plain(text.partition("\n\n")[0]), {name: plain(words) for name, words in each}


def parts_of(kind: Any) -> tuple[str, dict[str, Any]]:
    """Return the name of a type, and by name the schema of each type that it is made of."""
    (top,), parts = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    for part in parts.values():
        text, words = words_of(part.get("description", ""))
        for name, field in part["properties"].items():
            field.pop("default", None)  # versions of msgspec differ in which they name
            if name in words:
                field["description"] = words[name]
        part |= {"title": part["title"].lstrip("_"), "description": text}
        part["additionalProperties"] = False
    return top["$ref"].rpartition("/")[2], parts


def schema_of(name: str) -> dict[str, Any]:
    """Return the JSON Schema of a format."""
    own = FORMATS[name]
    top, parts = parts_of(own.kind)
    if name == "pool":
        entry, more = parts_of(_Entry)
        parts |= more
        parts[top]["properties"]["model"]["items"] = {"$ref": f"#/$defs/{entry}"}
    fields, required = parts[top]["properties"], parts[top]["required"]
    if own.number is not None:
        fields, required = {"schema": {"const": own.number}, **fields}, ["schema", *required]
    if own.number == STORE_SCHEMA:
        fields, required = {**fields, "checksum": {"type": "string"}}, [*required, "checksum"]
    body = {**parts.pop(top), "title": own.title, "properties": fields, "required": required}
    return {"$schema": DRAFT, **body, **({"$defs": parts} if parts else {})}


def type_text(field: dict[str, Any]) -> str:
    """Return the type of a field in a few words."""
    if "$ref" in field:
        return field["$ref"].rpartition("/")[2].lstrip("_")
    if "anyOf" in field:
        return " or ".join(map(type_text, field["anyOf"]))
    if "enum" in field or "const" in field:
        return " or ".join(f"`{each}`" for each in field.get("enum", [field.get("const")]))
    if field.get("type") == "array":
        inner = field.get("items") or {}
        several = "" if "$ref" in inner else "s"
        return f"list of {type_text(inner)}{several}" if inner else "list"
    return str(field.get("type", "any"))


def table_of(part: dict[str, Any]) -> str:
    """Return the fields of an object as a table; those that must be there are bold."""
    rows = ["| field | type | |", "|---|---|---|"]
    for name, field in part["properties"].items():
        shown = f"**{name}**" if name in part["required"] else name
        rows.append(f"| {shown} | {type_text(field)} | {field.get('description', '')} |")
    return "\n".join(rows).replace(" |  |", " | |")


def section(name: str) -> str:
    """Return what the page says of a format."""
    own, schema = FORMATS[name], schema_of(name)
    parts = [
        f"**{part['title']}.** {part['description']}\n\n{table_of(part)}\n"
        for part in schema.get("$defs", {}).values()
    ]
    link = f"[JSON Schema](schemas/{name}.schema.json)"
    return "\n".join([f"## {own.title}\n\n{own.text} {link}\n", f"{table_of(schema)}\n", *parts])


def files() -> dict[Path, str]:
    """Return the content of every file that this writes."""
    found = {DOCS / "formats.md": "\n".join([HEAD, *map(section, FORMATS)])}
    for name in FORMATS:
        text = json.dumps(schema_of(name), indent=1, ensure_ascii=False)
        found[DOCS / "schemas" / f"{name}.schema.json"] = f"{text}\n"
    return found


if __name__ == "__main__":
    (DOCS / "schemas").mkdir(exist_ok=True)
    for path, text in files().items():
        path.write_text(text, encoding="utf-8")
