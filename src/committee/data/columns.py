"""Tables of records: csv, jsonl, parquet, npz and npy files, and data sets of Hugging Face."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from committee.arrays import Array
from committee.data.arrays import CLASS_WORDS, read_npy, read_npz
from committee.data.huggingface import load_saved
from committee.data.table import read_table
from committee.errors import DataError, MisalignedError, UnreadableError, needing
from committee.reading import parsed_json, read_text
from committee.text import first_line, listed

Rows: TypeAlias = Array | list[dict[str, Any]]
# Bytes of a jsonl file that is read; larger tables are read from parquet as they are needed.
_MOST = 2**32


@dataclass(frozen=True)
class Columns:
    """The columns of a table.

    Args:
        count: Number of records.
        names: Names of the columns; empty if the records are one array.
        column: Returns all values of a column, for labels and ids.
        take: Returns the records of some rows, of the columns that are named.
        place: Returns where a row stands, for errors.
        classes: Returns the names of the classes in the order of a column's own labels, if any.
        beside: Labels and ids that lie in files beside it, by name.
    """

    count: int
    names: tuple[str, ...]
    column: Callable[[str], Sequence[Any] | Array]
    take: Callable[[Array, Sequence[str]], Rows]
    place: Callable[[int], str] = "record {}".format
    classes: Callable[[str], tuple[str, ...]] = lambda _: ()
    beside: Mapping[str, Array] | None = None


def read_columns(path: Path, split: str) -> Columns:
    """Open a table by its ending, or as a folder that ``datasets`` saved."""
    columns = _saved(path, split) if path.is_dir() else READERS[path.suffix.lower()](path)
    if not columns.count:
        raise DataError(f"{path}: has no record; there is no sample")
    return columns


def _csv(path: Path) -> Columns:
    table = read_table(path)

    def take(rows: Array, names: Sequence[str]) -> Rows:
        places = {name: table.spelled.index(name) for name in names}
        return [{name: table.rows[r][at] for name, at in places.items()} for r in rows.tolist()]

    def column(name: str) -> list[str]:
        at = table.spelled.index(name)
        return [row[at] for row in table.rows]

    return Columns(len(table.rows), table.spelled, column, take, table.place)


def _jsonl(path: Path) -> Columns:
    try:
        lines = read_text(path, _MOST).split("\n")
    except (OSError, UnreadableError) as error:
        raise DataError(f"{path}: no readable jsonl file ({error})") from None
    numbers = [number for number, line in enumerate(lines, 1) if line.strip()]
    records = [_record(path, number, lines[number - 1]) for number in numbers]
    names = tuple(dict.fromkeys(name for record in records for name in record))

    def take(rows: Array, names: Sequence[str]) -> Rows:
        wanted = set(names)
        each = (records[row] for row in rows.tolist())
        return [{k: v for k, v in record.items() if k in wanted} for record in each]

    return Columns(
        len(records),
        names,
        lambda name: [record.get(name) for record in records],
        take,
        lambda row: f"line {numbers[row]}",
    )


def _record(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        record = parsed_json(line)
    except UnreadableError as error:
        raise DataError(f"{path}: line {number}: {error}") from None
    if not isinstance(record, dict):
        raise DataError(
            f"{path}: line {number} must be an object with a key for each column, as in "
            '{"text": "…", "label": "…"}'
        )
    return record


def _parquet(path: Path) -> Columns:
    with needing(str(path), "pyarrow", "parquet"):
        import pyarrow.parquet
    try:
        table = pyarrow.parquet.read_table(path, memory_map=True)
    except Exception as error:  # Arrow raises many kinds
        raise DataError(f"{path}: no readable parquet file ({first_line(error)})") from None
    _check_names(path, table.column_names)

    def take(rows: Array, names: Sequence[str]) -> Rows:
        found: list[dict[str, Any]] = table.select(list(names)).take(rows).to_pylist()
        return found

    def column(name: str) -> list[Any]:
        values: list[Any] = table.column(name).to_pylist()
        return values

    return Columns(table.num_rows, tuple(table.column_names), column, take)


def _check_names(path: Path, names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{path}: columns {listed(twice)} stand twice; give each a name of its own")


def _npz(path: Path) -> Columns:
    arrays = read_npz(path)
    naming = next((word for word in CLASS_WORDS if word in arrays), "")
    named = tuple(map(str, np.atleast_1d(arrays.pop(naming)).tolist())) if naming else ()
    lengths = {name: len(np.atleast_1d(array)) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        text = ", ".join(f"{name} has {count:,}" for name, count in lengths.items())
        raise MisalignedError(f"{path}: arrays must have one entry a sample, but {text}")
    count = next(iter(lengths.values()), 0)

    def take(rows: Array, names: Sequence[str]) -> Rows:
        return [{name: arrays[name][row] for name in names} for row in rows.tolist()]

    return Columns(count, tuple(arrays), lambda name: arrays[name], take, classes=lambda _: named)


def _npy(path: Path) -> Columns:
    array = read_npy(path)
    if not array.ndim:
        raise DataError(f"{path}: holds one number; records are along the first axis of an array")
    beside = {
        name: read_npy(each)
        for name in ("labels", "ids")
        if (each := path.with_suffix(f".{name}.npy")).exists()
    }

    def take(rows: Array, _: Sequence[str]) -> Rows:
        return np.asarray(array[rows])

    return Columns(len(array), (), lambda name: beside[name], take, beside=beside)


def _saved(path: Path, split: str) -> Columns:
    saved = load_saved(path, split)
    named = {n: tuple(f.names) for n, f in saved.features.items() if hasattr(f, "names")}

    def take(rows: Array, names: Sequence[str]) -> Rows:
        found = saved.select_columns(list(names))[rows.tolist()]
        return [{name: found[name][i] for name in names} for i in range(len(rows))]

    return Columns(
        len(saved),
        tuple(saved.column_names),
        lambda name: saved[name][:],
        take,
        classes=lambda name: named.get(name, ()),
    )


# Forms of tables by the ending of a file.
READERS: dict[str, Callable[[Path], Columns]] = {
    ".csv": _csv,
    ".jsonl": _jsonl,
    ".parquet": _parquet,
    ".npz": _npz,
    ".npy": _npy,
}
