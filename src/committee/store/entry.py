"""What the files of a store say: entries, manifests, journals and the index, read with care."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from committee.cost import Cost
from committee.errors import CommitteeError, DamagedError, StoreError
from committee.files import write_text
from committee.paths import portable, resolved
from committee.predictions import Kind, check_kind

SCHEMA = 1
CHUNK_ROWS = 256


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


def dump(data: Any) -> str:
    """JSON as the store's small files hold it."""
    return json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def read_json(path: Path) -> Any:
    """Read a JSON file of a schema that this version knows.

    Raises:
        StoreError: If it is missing or of a newer schema.
        DamagedError: If it is no JSON object with a schema.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StoreError(f"{path}: not there; make it with committee predict or import") from None
    except (OSError, ValueError) as error:
        raise DamagedError(
            f"{path}: damaged ({error}). Delete it and run committee predict again"
        ) from None
    if not isinstance(data, dict) or type(data.get("schema")) is not int:
        raise _altered(path)
    if data["schema"] > SCHEMA:
        raise StoreError(
            f"{path}: schema {data['schema']} is newer than {SCHEMA}, which this version reads. "
            "Use the version of committee that wrote it, or a newer one"
        )
    return data


def _altered(path: Path) -> DamagedError:
    return DamagedError(f"{path}: altered. Delete it and run committee predict or import again")


def write_index(path: Path, data: Mapping[str, Any]) -> None:
    """Write ``store.json``; paths in it are relative to it where they can be."""
    write_text(path, dump({**data, "models": portable(data["models"], path)}))


def read_index(path: Path) -> dict[str, Any]:
    """What ``store.json`` holds, with absolute paths."""
    data: dict[str, Any] = read_json(path)
    try:
        for spec in data["models"].values():
            [Cost(**cost) for cost in spec["costs"]]
            intact = {"source", "kind", "preprocessing", "fingerprint"} <= set(spec)
            if not intact:
                raise KeyError
        if not isinstance(data["classes"], list):
            raise TypeError
    except (KeyError, TypeError, AttributeError, CommitteeError):
        raise _altered(path) from None
    return {**data, "models": resolved(data["models"], path)}


def read_manifest(path: Path) -> tuple[Entry, int, dict[int, Part]]:
    """What ``MODEL.json`` holds: entry, width of a row, and what it vouches for, by chunk."""
    data = read_json(path)
    try:
        entry = Entry(**{field.name: data[field.name] for field in fields(Entry)})
        width, checksums = int(data["width"]), [int(each) for each in data["crc32"]]
        np.dtype(entry.dtype)
        check_kind(str(path), entry.kind)
        intact = data["chunk_rows"] == CHUNK_ROWS and len(checksums) == -(-entry.rows // CHUNK_ROWS)
    except (KeyError, TypeError, ValueError, CommitteeError):
        intact = False
    if not intact:
        raise _altered(path)
    parts = {i: Part(rows_of(i, entry.rows), each) for i, each in enumerate(checksums)}
    return entry, width, parts


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
        head, *lines = path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
        known = json.loads(head)
        width = int(known.pop("width"))
        entry = Entry(**known)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise _altered(path) from None
    parts: dict[int, Part] = {}
    for line in lines:
        try:
            chunk, rows, crc32 = map(int, line.split(" "))
        except ValueError:
            break
        parts[chunk] = Part(rows, crc32)
    return entry, width, parts
