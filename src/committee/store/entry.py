"""What the files of a store say: entries, manifests, journals and the index, read with care."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from committee.errors import CommitteeError, DamagedError, StoreError, UnreadableError
from committee.files import write_bytes
from committee.paths import portable, resolved
from committee.reading import MOST_OF_STORES, is_sealed, parsed_json, read_bytes, sealed_json, typed
from committee.rule.outputs import Kind, check_kind
from committee.spec.model import check_name, model_from_json
from committee.store.chunks import MANIFEST

SCHEMA = 3
# The record of the samples of a split, beside its models.
SAMPLES = "samples.json"
CHUNK_ROWS = 256
# Bytes of the head of every npy file of a store: NumPy pads it.
HEADER_BYTES = 128
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

    def __post_init__(self) -> None:
        check_kind("entry", self.kind)
        if not (0 <= self.rows < _MOST and 0 <= self.batch_size < _MOST):
            raise UnreadableError("rows or batch size out of range")
        if not _FLOAT.fullmatch(self.dtype):
            raise UnreadableError(f"no numbers of type {self.dtype}")


# Fields of an entry without which outputs cannot be resumed; samples may be added.
IDENTITY = ("kind", "classes", "fingerprint", "batch_size", "dtype")


@dataclass(frozen=True)
class Part:
    """One chunk of a finished file.

    Args:
        rows: How many rows it has.
        crc32: Checksum of their bytes.
        ids: Fingerprint of the ids of its samples.
    """

    rows: int
    crc32: int
    ids: str


@dataclass(frozen=True)
class Manifest:
    """Vouches for one model's finished outputs.

    Args:
        entry: Describes the outputs.
        width: How many numbers a row has.
        parts: The chunks, in order.
    """

    entry: Entry
    width: int
    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        entry = self.entry
        wide = self.width == 2 if entry.kind == "decisions" else 0 < self.width < _MOST
        sizes = [min(CHUNK_ROWS, entry.rows - i) for i in range(0, entry.rows, CHUNK_ROWS)]
        if not wide or [part.rows for part in self.parts] != sizes:
            raise UnreadableError("rows or width out of range")

    @property
    def row_bytes(self) -> int:
        """Return the bytes of a row."""
        return self.width * np.dtype(self.entry.dtype).itemsize

    def place(self, chunk: int) -> tuple[int, int]:
        """Return where a chunk begins in the file, and how many bytes it has."""
        begin = HEADER_BYTES + chunk * CHUNK_ROWS * self.row_bytes
        return begin, self.parts[chunk].rows * self.row_bytes


def finished_models(folder: Path) -> set[str]:
    """Return the names of the models of a split that have a manifest."""
    return {path.stem for path in folder.glob("*.json") if path.name != SAMPLES}


def begun_models(folder: Path) -> set[str]:
    """Return the names of the models of a split whose outputs are unfinished."""
    ending = ".npy.part"
    parts = {path.parent.name for path in folder.glob(f"*{ending}/{MANIFEST}")}
    return {name.removesuffix(ending) for name in parts}


def chunk_count(rows: int) -> int:
    """Return how many chunks a file of so many rows has."""
    return -(-rows // CHUNK_ROWS)


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


def is_intact(path: Path, manifest: Manifest) -> bool:
    """Return True if a finished file has its head and its length."""
    head = header(manifest.entry, manifest.width)
    size = len(head) + manifest.entry.rows * manifest.row_bytes
    with path.open("rb") as file:
        return file.read(len(head)) == head and file.seek(0, os.SEEK_END) == size


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
            f"{path}: schema {schema} is older than {known}, which this version reads. "
            "Predict or import again, into another store with --out"
        )


def _altered(path: Path) -> DamagedError:
    return DamagedError(
        f"{path}: altered, for its checksum is another. Delete it and run the same committee "
        "predict or import again; outputs are kept. Costs are changed by costs in the pool file, "
        "by --cost NAME=NUMBER on import, or by committee profile --store"
    )


def write_index(path: Path, data: Mapping[str, Any]) -> None:
    """Write ``store.json``; paths in it are relative to it where they can be."""
    write_json(path, {**data, "models": portable(data["models"], path)})


def read_index(path: Path) -> dict[str, Any]:
    """Return what ``store.json`` holds, of the types that all rely on, with absolute paths."""
    data = read_json(path)
    try:
        typed("classes", data["classes"], list[str])
        for name, spec in data["models"].items():
            known = {key: value for key, value in spec.items() if key != "calibration"}
            model_from_json(check_name("store", name), known, str(path))
    except (KeyError, TypeError, AttributeError, CommitteeError):
        raise _altered(path) from None
    return {**data, "models": resolved(data["models"], path)}


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write ``MODEL.json``."""
    write_json(path, {"schema": SCHEMA, **asdict(manifest)}, indent=None)


def read_manifest(path: Path) -> Manifest:
    """Return what ``MODEL.json`` holds.

    Raises:
        StoreError: If it is missing, altered, or of another schema.
    """
    data = read_json(path)
    del data["schema"]
    try:
        return typed("manifest", data, Manifest)
    except CommitteeError:
        raise DamagedError(
            f"{path}: altered. Delete it and run committee predict or import again"
        ) from None
