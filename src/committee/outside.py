"""Predictions made elsewhere: arrays and tables from any framework, into a store.

What a file may hold, by its ending:

    npy                 the outputs (N, C) alone
    npz, safetensors    ``outputs``, or ``class`` and ``confidence`` of decisions; maybe ``label``
                        and ``id`` beside them
    csv, parquet        maybe columns ``id`` and ``label``; of decisions ``class`` and
                        ``confidence``; all other columns are outputs, one a class, in order
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from committee.cost import Cost, CostTable
from committee.errors import (
    DataError,
    MisalignedError,
    MissingExtraError,
    ShapeError,
    UnknownNameError,
)
from committee.models.spec import check_name
from committee.pool import Pool
from committee.predictions import Array, Outputs, check_kind, checked_outputs
from committee.samples import Samples
from committee.store import CHUNK_ROWS, Entry, Split, writing

_BESIDE = ("id", "label")
_DECISION = ("class", "confidence")


@dataclass(frozen=True, eq=False)
class Foreign:
    """One file's content: outputs, and labels and ids if it has them."""

    path: Path
    outputs: Outputs
    labels: Array | None
    ids: tuple[str, ...] | None


def import_predictions(
    files: Mapping[str, Path],
    store: str | Path,
    *,
    kind: str,
    split: str,
    labels: Path | None = None,
    classes: Sequence[str] = (),
    costs: Mapping[str, float] | None = None,
    unit: str = "macs",
    families: Mapping[str, str] | None = None,
) -> Pool:
    """Put outputs made elsewhere into a store.

    Args:
        files: For each model the file of its outputs.
        store: Folder of the store; made if it is not there.
        kind: ``logits``, ``probabilities`` or ``decisions``.
        split: Name of the split.
        labels: A file of labels, and maybe ids; else they stand in the files themselves.
        classes: Names of the classes, in the order of the outputs.
        costs: What one sample costs in each model, in ``unit``.
        unit: Unit of the costs.
        families: Of models that are trainings of one architecture, the architecture's name.

    Returns:
        The pool of these models.

    Raises:
        DataError: If a file cannot be read.
        MisalignedError: If files differ in samples, their order, or labels.
        ShapeError, NotFiniteError: If outputs cannot be used; the file is named.
    """
    kind = check_kind("import", kind)
    for name in files:
        check_name("import", name)
    foreign = {name: _read(path, kind) for name, path in files.items()}
    samples = _agreed(list(foreign.values()), labels, classes, split)
    for what, table in (("cost", costs), ("family", families)):
        for name in table or {}:
            if name not in files:
                raise UnknownNameError.of(f"import: {what}", "model", name, files)
    specs = {
        name: _spec(kind, (costs or {}).get(name), unit, (families or {}).get(name, ""))
        for name in files
    }
    # Building the pool checks that everything fits before anything is written.
    outputs = {name: each.outputs for name, each in foreign.items()}
    Pool(samples, outputs, CostTable.of({name: [] for name in files}))
    with writing(Path(store)) as target:
        target.add_models(specs, samples.classes)
        target.add_samples(Split(samples))
        for name, each in foreign.items():
            dtype = "float64" if kind == "decisions" else str(each.outputs.values.dtype)
            entry = Entry(
                kind=kind,
                samples=samples.ids_fingerprint,
                classes=samples.classes_fingerprint,
                fingerprint=_fingerprint(each.outputs),
                batch_size=0,
                dtype=dtype,
                rows=len(samples),
            )
            target.writer(samples, name, entry).write_all(each.outputs)
    return Pool.load(Path(store) / split, list(files))


def _spec(kind: str, cost: float | None, unit: str, family: str) -> dict[str, Any]:
    costs = [] if cost is None else [Cost(cost, unit).to_json()]
    return {
        "source": "",
        "kind": kind,
        "family": family,
        "preprocessing": None,
        "costs": costs,
        "fingerprint": "",
    }


def _fingerprint(outputs: Outputs) -> str:
    """Changes when any number does; the file's form does not matter."""
    digest = hashlib.sha256()
    for start in range(0, len(outputs), CHUNK_ROWS):
        rows = outputs.rows(slice(start, start + CHUNK_ROWS))
        digest.update(rows.values.tobytes())
        digest.update(b"" if rows.confidence is None else rows.confidence.tobytes())
    return digest.hexdigest()[:16]


def _agreed(
    foreign: Sequence[Foreign], labels: Path | None, classes: Sequence[str], split: str
) -> Samples:
    """The samples that all files share."""
    told_ids = {each.path: each.ids for each in foreign if each.ids is not None}
    told_labels = {each.path: each.labels for each in foreign if each.labels is not None}
    if labels is not None:
        named = _columns(labels)
        alone = named.get("label", named.get("outputs"))
        if alone is None:
            raise DataError(f"{labels}: no 'label' in it; it has {', '.join(named)}")
        told_labels[labels] = _as_labels(labels, alone)
        if "id" in named:
            told_ids[labels] = tuple(map(str, named["id"]))
    ids = _one(told_ids, "ids, or their order")
    agreed = _one(told_labels, "labels")
    counts = {str(each.path): len(each.outputs) for each in foreign}
    for path, count in counts.items():
        known = len(agreed) if agreed is not None else next(iter(counts.values()))
        what = "the labels" if agreed is not None else "another file"
        if count != known:
            raise MisalignedError(
                f"{path}: has {count} samples, {what} {known}. "
                "Export all models on the same samples"
            )
    count = next(iter(counts.values()))
    if not count:
        raise DataError("import: the files hold no sample")
    return Samples.of(agreed, ids, classes, split, count)


def _one(told: Mapping[Path, Any], what: str) -> Any:
    """The value that all files tell, or None if none does."""
    first: tuple[Path, Any] | None = None
    for path, value in told.items():
        if first is None:
            first = (path, value)
        elif not np.array_equal(np.asarray(first[1]), np.asarray(value)):
            raise MisalignedError(
                f"import: {first[0]} and {path} differ in {what}. "
                "Sort all files by id and export the same samples"
            )
    return None if first is None else first[1]


def _read(path: Path, kind: str) -> Foreign:
    columns = _columns(path)
    ids = tuple(map(str, columns["id"])) if "id" in columns else None
    labels = _as_labels(path, columns["label"]) if "label" in columns else None
    if kind == "decisions":
        missing = [name for name in _DECISION if name not in columns]
        if missing:
            raise DataError(f"{path}: decisions need {' and '.join(missing)}; see --help")
        classes = _as_labels(path, columns["class"])
        outputs = checked_outputs(str(path), kind, classes, _numbers(path, columns["confidence"]))
        return Foreign(path, outputs, labels, ids)
    values = columns.get("outputs")
    if values is None:
        rest = [column for name, column in columns.items() if name not in _BESIDE]
        if not rest or path.suffix not in (".csv", ".parquet"):
            raise DataError(f"{path}: no 'outputs' in it; it has {', '.join(columns)}")
        values = np.stack([_numbers(path, column) for column in rest], axis=1)
    return Foreign(path, checked_outputs(str(path), kind, values), labels, ids)


def _columns(path: Path) -> dict[str, Array]:
    """Named arrays of a file; a bare array is called ``outputs``."""
    readers = {
        ".npy": _npy,
        ".npz": _npz,
        ".safetensors": _safetensors,
        ".csv": _csv,
        ".parquet": _parquet,
    }
    if path.suffix not in readers:
        raise DataError(f"{path}: can be {', '.join(readers)}, not {path.suffix or 'no ending'}")
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        return readers[path.suffix](path)
    except (MissingExtraError, DataError):
        raise
    except Exception as error:
        reason = str(error).split("\n")[0]
        raise DataError(f"{path}: cannot be read as {path.suffix[1:]} ({reason})") from None


def _npy(path: Path) -> dict[str, Array]:
    return {"outputs": np.load(path, mmap_mode="r", allow_pickle=False)}


def _npz(path: Path) -> dict[str, Array]:
    # Opened here, for numpy leaves a file open that is no zip archive.
    with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _safetensors(path: Path) -> dict[str, Array]:
    try:
        from safetensors.numpy import load_file
    except ImportError:
        raise MissingExtraError.of(str(path), "safetensors", "safetensors") from None
    loaded: dict[str, Array] = load_file(path)
    return loaded


def _csv(path: Path) -> dict[str, Array]:
    # Spreadsheets put a byte order mark before the header.
    with path.open(newline="", encoding="utf-8-sig") as file:
        header, *rows = list(csv.reader(file)) or [[]]
    if len(set(header)) < len(header) or not header:
        raise DataError(f"{path}: the header must name every column, each once")
    uneven = [number for number, row in enumerate(rows, 2) if len(row) != len(header)]
    if uneven:
        raise DataError(f"{path}: line {uneven[0]} has not the {len(header)} columns of the header")
    return {name: np.array([row[i] for row in rows]) for i, name in enumerate(header)}


def _parquet(path: Path) -> dict[str, Array]:
    try:
        import pyarrow.parquet
    except ImportError:
        raise MissingExtraError.of(str(path), "pyarrow", "parquet") from None
    table = pyarrow.parquet.read_table(path)
    return {name: np.asarray(table[name].to_numpy()) for name in table.column_names}


def _numbers(path: Path, column: Array) -> NDArray[np.float64]:
    try:
        return np.asarray(column, dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: all but ids must be numbers ({error})") from None


def _as_labels(path: Path, column: Array) -> Array:
    numbers = _numbers(path, column)
    if numbers.ndim != 1 or not np.isfinite(numbers).all() or (numbers % 1).any():
        raise ShapeError(f"{path}: labels and classes must be indices 0, 1, …, shape (N,)")
    return numbers.astype(np.int64)
