"""What the files of a store say: entries, manifests, journals and the index, read with care."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from committee.errors import CommitteeError, DamagedError, StoreError, UnreadableError
from committee.files import write_bytes
from committee.paths import portable, resolved
from committee.reading import MOST_OF_STORES, is_sealed, parsed_json, read_bytes, sealed_json, typed
from committee.rule.outputs import Kind, check_kind
from committee.spec.cost import Cost
from committee.spec.model import check_name
from committee.spec.preprocessing import Preprocessing

SCHEMA = 2
CHUNK_ROWS = 256
# Rows, or numbers of one: more were altered.
_MOST = 2**40
# Types of the numbers that are stored, as NumPy names them.
_FLOAT = re.compile(r"float(16|32|64)|[<>]f[248]")


@dataclass(frozen=True)
class Entry:
    """What a store says of one model's outputs on one split.

    Args:
        kind: Kind of the outputs.
        samples: Fingerprint of the samples.
        classes: Fingerprint of the classes.
        fingerprint: Of the model; if the outputs were made elsewhere, of the outputs.
        batch_size: Samples a forward pass; 0 if made elsewhere. Rounding depends on it.
        dtype: NumPy's name of the type of the numbers.
        rows: How many samples.
    """

    kind: Kind
    samples: str
    classes: str
    fingerprint: str
    batch_size: int
    dtype: str
    rows: int


@dataclass(frozen=True)
class Part:
    """Rows at the start of a chunk that are safely on disk.

    Args:
        rows: How many.
        crc32: Checksum of their bytes.
    """

    rows: int
    crc32: int


def rows_of(chunk: int, rows: int) -> int:
    """How many rows a chunk has in a file of ``rows`` rows."""
    return min(CHUNK_ROWS, rows - chunk * CHUNK_ROWS)


def header(entry: Entry, width: int) -> bytes:
    """The head of an npy file of ``entry.rows`` rows of ``width`` numbers."""
    file = BytesIO()
    np.lib.format.write_array_header_1_0(
        file,
        {
            "descr": np.lib.format.dtype_to_descr(np.dtype(entry.dtype)),
            "fortran_order": False,
            "shape": (entry.rows, width),
        },
    )
    return file.getvalue()


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Word the errors of a full or read-only disk.

    Raises:
        StoreError: Instead of OSError.
    """
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be written ({error.strerror}). What was written is kept; make room "
            "and run the same command again"
        ) from None


def write_json(path: Path, data: Mapping[str, Any], indent: int | None = 1) -> None:
    """Write one of the store's small files, whole or not at all, with a checksum of itself."""
    write_bytes(path, sealed_json(data, indent))


def read_json(path: Path) -> dict[str, Any]:
    """Return what a JSON file says that :func:`write_json` wrote.

    Raises:
        StoreError: If it is missing, or of another schema than this version's.
        DamagedError: If it is not what was written, to the byte.
    """
    try:
        content = read_bytes(path, MOST_OF_STORES)
        data = parsed_json(content, strict=False)
    except FileNotFoundError:
        raise StoreError(f"{path}: not there; make it with committee predict or import") from None
    except (OSError, UnreadableError) as error:
        raise DamagedError(
            f"{path}: damaged ({error}). Delete it and run committee predict again"
        ) from None
    if not isinstance(data, dict) or type(data.get("schema")) is not int:
        raise _altered(path)
    check_schema(path, data["schema"], SCHEMA)
    if not is_sealed(content):
        raise _altered(path)
    del data["checksum"]
    return data


def check_schema(path: Path, schema: int, known: int) -> None:
    """Refuse a file of a store that another version wrote.

    Raises:
        StoreError: If the schema is not the known one.
    """
    if schema > known:
        raise StoreError(
            f"{path}: schema {schema} is newer than {known}, which this version reads. "
            "Use the version of committee that wrote it, or a newer one"
        )
    if schema < known:
        raise StoreError(
            f"{path}: schema {schema} is older than {known}, whose files carry checksums. "
            "Predict or import again, into another store with --out"
        )


def _altered(path: Path) -> DamagedError:
    return DamagedError(
        f"{path}: altered, for its checksum is another. Delete it and run the same committee "
        "predict or import again; outputs are kept. Costs are changed by costs in the pool file, "
        "by --cost NAME=NUMBER on import, or by committee profile --store"
    )


@dataclass(frozen=True)
class _Model:
    """What the index says of a model; more is said of how it is loaded."""

    source: str
    kind: Kind
    preprocessing: dict[str, Any] | None
    fingerprint: str
    costs: tuple[dict[str, Any], ...]
    family: str = ""
    weights: str = ""
    seed: int = 0
    engine: str = ""
    precision: str = ""


def write_index(path: Path, data: Mapping[str, Any]) -> None:
    """Write ``store.json``; paths in it are relative to it where they can be."""
    write_json(path, {**data, "models": portable(data["models"], path)})


def read_index(path: Path) -> dict[str, Any]:
    """Return what ``store.json`` holds, of the types that all rely on, with absolute paths."""
    data = read_json(path)
    try:
        typed("classes", data["classes"], list[str])
        for name, spec in data["models"].items():
            _check_model(name, spec)
    except (KeyError, TypeError, AttributeError, CommitteeError):
        raise _altered(path) from None
    return {**data, "models": resolved(data["models"], path)}


def _check_model(name: str, spec: Mapping[str, Any]) -> None:
    known = {field.name for field in fields(_Model)}
    model = typed("model", {key: each for key, each in spec.items() if key in known}, _Model)
    for cost in model.costs:
        Cost.from_json(cost)
    check_name("store", name)
    check_kind("store", model.kind)
    if model.preprocessing is not None:
        Preprocessing.from_json(model.preprocessing)


def read_manifest(path: Path) -> tuple[Entry, int, dict[int, Part]]:
    """Return what ``MODEL.json`` holds: entry, width of a row, and the chunks it vouches for."""
    data = read_json(path)
    try:
        told = {field.name: data[field.name] for field in fields(Entry)}
        entry, width = _checked(told, data["width"])
        checksums = typed("crc32", data["crc32"], list[int])
        intact = data["chunk_rows"] == CHUNK_ROWS and len(checksums) == -(-entry.rows // CHUNK_ROWS)
    except (KeyError, CommitteeError):
        intact = False
    if not intact:
        raise DamagedError(f"{path}: altered. Delete it and run committee predict or import again")
    parts = {i: Part(rows_of(i, entry.rows), each) for i, each in enumerate(checksums)}
    return entry, width, parts


def _checked(told: Any, width: Any) -> tuple[Entry, int]:
    """Return an entry and the width of its rows.

    Raises:
        CommitteeError: If one cannot be.
    """
    entry, width = typed("entry", told, Entry), typed("width", width, int)
    check_kind("entry", entry.kind)
    wide = width == 2 if entry.kind == "decisions" else 0 < width < _MOST
    if not (wide and 0 <= entry.rows < _MOST and 0 <= entry.batch_size < _MOST):
        raise UnreadableError("rows or width out of range")
    if not _FLOAT.fullmatch(entry.dtype):
        raise UnreadableError(f"no numbers of type {entry.dtype}")
    return entry, width


def head_line(entry: Entry, width: int) -> str:
    """The first line of a journal."""
    return json.dumps({**vars(entry), "width": width}) + "\n"


def part_line(chunk: int, part: Part) -> str:
    """A journal's line of one chunk."""
    return f"{chunk} {part.rows} {part.crc32}\n"


def read_journal(path: Path) -> tuple[Entry, int, dict[int, Part]]:
    """What ``MODEL.json.part`` holds: entry, width, and what it vouches for, by chunk.

    A line that a power cut tore ends what is believed.
    """
    try:
        # Only lines that end in a line feed were written whole.
        head, *lines = read_bytes(path, MOST_OF_STORES).decode(errors="replace").split("\n")[:-1]
        known = parsed_json(head)
        entry, width = _checked(known, known.pop("width"))
    except (KeyError, TypeError, ValueError, AttributeError, CommitteeError):
        raise DamagedError(f"{path}: altered. Delete it and run the same command again") from None
    parts: dict[int, Part] = {}
    for line in lines:
        try:
            chunk, rows, crc32 = map(int, line.split(" "))
        except ValueError:
            break
        if not (0 <= chunk * CHUNK_ROWS < entry.rows and 0 < rows <= rows_of(chunk, entry.rows)):
            break
        parts[chunk] = Part(rows, crc32)
    return entry, width, parts
