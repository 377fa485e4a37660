"""Read and write the small files of a store: the index, and the manifest of each model."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from committee.errors import CommitteeError, DamagedError, StoreError, UnreadableError
from committee.files import write_bytes
from committee.paths import portable, resolved
from committee.reading import MOST_OF_STORES, is_sealed, parsed_json, read_bytes, sealed_json, typed
from committee.rule.outputs import WITH_CONFIDENCE, Kind, check_kind
from committee.spec.model import check_name, model_from_json
from committee.store.chunks import MANIFEST

SCHEMA = 3
# The record of the samples of a split, beside its models.
SAMPLES = "samples.json"
# The folder of the costs that differ by sample, in the folder of a split.
COSTS = "costs"
CHUNK_ROWS = 256
# Length of the header of every npy file of a store; NumPy pads it.
HEADER_BYTES = 128
# A larger number of rows or columns means an altered file.
_MOST = 2**40
# NumPy's names of the types that a store holds.
_FLOAT = re.compile(r"float(16|32|64)|[<>]f[248]")


@dataclass(frozen=True)
class Entry:
    """Describes one model's outputs on one split.

    Args:
        kind: Kind of the outputs.
        samples: Fingerprint of the ids of the samples.
        classes: Fingerprint of the classes.
        fingerprint: Of the model's weights and code, or of imported outputs.
        batch_size: Samples that ran together, on which rounding depends; 0 for imported outputs.
        dtype: Type of the numbers, as NumPy names it.
        rows: Samples.
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


# Fields of an entry that must stay equal to resume it; samples may be added.
IDENTITY = ("kind", "classes", "fingerprint", "batch_size", "dtype")


@dataclass(frozen=True)
class Part:
    """One chunk of a finished file.

    Args:
        rows: Samples in it.
        crc32: Checksum of its bytes.
        ids: Fingerprint of the ids of its samples.
    """

    rows: int
    crc32: int
    ids: str


@dataclass(frozen=True)
class Manifest:
    """One model's finished outputs.

    Args:
        entry: What they are.
        width: Numbers a row.
        parts: Chunks, in order.
    """

    entry: Entry
    width: int
    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        entry = self.entry
        wide = self.width == 2 if entry.kind in WITH_CONFIDENCE else 0 < self.width < _MOST
        sizes = [min(CHUNK_ROWS, entry.rows - i) for i in range(0, entry.rows, CHUNK_ROWS)]
        if not wide or [part.rows for part in self.parts] != sizes:
            raise UnreadableError("rows or width out of range")

    @property
    def row_bytes(self) -> int:
        """Return the length of a row in bytes."""
        return self.width * np.dtype(self.entry.dtype).itemsize

    def place(self, chunk: int) -> tuple[int, int]:
        """Return the offset of a chunk in the file, and its length in bytes."""
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


def header(entry: Entry, width: int) -> bytes:
    """Return the header of an npy file of ``entry.rows`` rows of ``width`` numbers."""
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
    """Return True if a finished file has the right header and length."""
    head = header(manifest.entry, manifest.width)
    size = len(head) + manifest.entry.rows * manifest.row_bytes
    with path.open("rb") as file:
        return file.read(len(head)) == head and file.seek(0, os.SEEK_END) == size


def write_json(path: Path, data: Mapping[str, Any], indent: int | None = 1) -> None:
    """Write a small file of the store, whole or not at all, with its own checksum."""
    write_bytes(path, sealed_json(data, indent))


def read_json(path: Path, schema: int = SCHEMA) -> dict[str, Any]:
    """Return the content of a file that :func:`write_json` wrote in this schema."""
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
    _check_schema(path, data["schema"], schema)
    if not is_sealed(content):
        raise _altered(path)
    del data["checksum"]
    return data


def _check_schema(path: Path, schema: int, known: int) -> None:
    """Raise StoreError if another version of committee wrote a file of the store."""
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
        f"{path}: altered, its checksum does not match. Delete it and run the same committee "
        "predict or import again; outputs are kept. Change costs in the pool file, by --cost "
        "NAME=NUMBER on import, or by committee profile --store"
    )


def write_index(path: Path, data: Mapping[str, Any]) -> None:
    """Write ``store.json``; paths in it are relative to it where they can be."""
    write_json(path, {**data, "models": portable(data["models"], path)})


def read_index(path: Path) -> dict[str, Any]:
    """Return the content of ``store.json``, with its types checked and paths absolute."""
    data = read_json(path)
    try:
        typed("classes", data["classes"], list[str])
        for name, spec in data["models"].items():
            known = {key: value for key, value in spec.items() if key != "calibration"}
            model_from_json(check_name("store", name), known, str(path))
    except (KeyError, TypeError, AttributeError, CommitteeError):
        raise _altered(path) from None
    return {**data, "models": resolved(data["models"], path)}


def read_manifest(path: Path) -> Manifest:
    """Return the content of ``MODEL.json``; raises as :func:`read_json` does."""
    data = read_json(path)
    del data["schema"]
    try:
        return typed("manifest", data, Manifest)
    except CommitteeError:
        raise DamagedError(
            f"{path}: altered. Delete it and run committee predict or import again"
        ) from None
