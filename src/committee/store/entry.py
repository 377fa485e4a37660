"""What the files of a store say: entries, manifests, journals and the index, read with care."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from committee.cost import Cost
from committee.errors import CommitteeError, DamagedError, StoreError
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
            "Upgrade with: pip install --upgrade committee"
        )
    return data


def _altered(path: Path) -> DamagedError:
    return DamagedError(f"{path}: altered. Delete it and run committee predict or import again")


def read_index(path: Path) -> dict[str, Any]:
    """What ``store.json`` holds."""
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
    return data


def read_manifest(path: Path) -> tuple[Entry, int, list[int]]:
    """What ``MODEL.json`` holds: the entry, the width of a row, and the checksums of the chunks."""
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
    return entry, width, checksums


def read_journal(path: Path) -> tuple[Entry, int, list[int]]:
    """What ``MODEL.json.part`` holds; checksums of the chunks that are safely on disk."""
    try:
        # Only lines that end in a line feed were written whole.
        head, *checksums = path.read_text(encoding="utf-8").split("\n")[:-1]
        known = json.loads(head)
        width = int(known.pop("width"))
        return Entry(**known), width, [int(line) for line in checksums]
    except (KeyError, TypeError, ValueError, AttributeError):
        raise _altered(path) from None
