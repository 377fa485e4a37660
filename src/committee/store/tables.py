"""Read files of predictions as named columns; csv is read at once, other formats by column.

The ending names the format: npy, npz, safetensors, csv, jsonl or parquet. No format runs code.
"""

from __future__ import annotations

import csv
import json
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from committee.arrays import Array
from committee.errors import DataError, MissingExtraError, UnreadableError, needing
from committee.reading import check_growth, parsed_json, parsed_npz, shape_in
from committee.text import from_cell, is_ours, listed, printable, tidy

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_MOST_HEADER = 100 << 20
_TENSORS = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "<i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "<u1",
    "BOOL": "?",
}


@dataclass(frozen=True, eq=False)
class Column:
    """One column of a table, or one array of an archive.

    ``rank`` is 1 for one value per sample, 2 for a row of values.
    """

    rank: int
    read: Callable[[], Array]


@dataclass(frozen=True, eq=False)
class Table:
    """The columns of a file by name, in the file's order.

    ``tabular``: each class may have a column of its own. ``headless``: its columns are called c0,
    c1, …. ``lines`` has the line of each row; None if the format has no lines. ``part``: these are
    the rows of one of several models.
    """

    path: Path
    columns: Mapping[str, Column]
    tabular: bool = False
    headless: bool = False
    lines: Sequence[int] | None = None
    part: bool = False

    def read(self, name: str) -> Array:
        """Return the values of a column, shape (N,) or (N, C)."""
        where = f"{self.path}: {printable(name)!r}" if name else str(self.path)
        array: Array = _reading(where, self.path, self.columns[name].read)
        if array.ndim == 0:
            raise DataError(f"{where} is a single number; there must be one per sample")
        return array

    def place(self, row: int) -> str:
        """Return the place of a row in the file, for messages."""
        return f"row {row} (from 0)" if self.lines is None else f"line {self.lines[row]}"


def read_table(path: Path) -> Table:
    """Return a file as a table."""
    suffix = path.suffix.lower()
    if suffix not in _READERS:
        raise DataError(f"{path}: can be {', '.join(_READERS)}, not {path.suffix or 'no ending'}")
    if path.is_dir():
        raise DataError(f"{path}: is a folder; name one of the files in it")
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    table: Table = _reading(str(path), path, partial(_READERS[suffix], path))
    return table


def _reading(where: str, path: Path, read: Callable[[], Any]) -> Any:
    """Return ``read()``; an error of a library about a broken file becomes one line."""
    try:
        return read()
    except (MissingExtraError, DataError):
        raise
    except Exception as error:
        reason = printable(str(error).split("\n")[0])
        remedy = ". Save it as UTF-8" if isinstance(error, UnicodeDecodeError) else ""
        ending = path.suffix[1:].partition(" ")[0]  # the rest is the model of a part
        raise DataError(f"{where}: cannot be read as {ending} ({reason}){remedy}") from None


def _npy(path: Path) -> Table:
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    return Table(path, {"outputs": Column(array.ndim, lambda: array)})


def _npz(path: Path) -> Table:
    with zipfile.ZipFile(path) as archive:
        columns = {
            info.filename.removesuffix(".npy"): Column(
                len(shape_in(archive, info)), partial(_member, path, info)
            )
            for info in archive.infolist()
            if info.filename.endswith(".npy")
        }
    return Table(path, columns)


def _member(path: Path, info: zipfile.ZipInfo) -> Array:
    check_growth(info)
    name = info.filename.removesuffix(".npy")
    with path.open("rb") as file:
        return parsed_npz(file, [name])[name]


def _safetensors(path: Path) -> Table:
    """Read the header of a safetensors file; bfloat16, which NumPy lacks, becomes float32."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(size - 8, _MOST_HEADER):
            raise ValueError("the length of its header is not right")
        header = json.loads(file.read(length))
    columns = {
        name: Column(len(tensor["shape"]), partial(_tensor, path, 8 + length, size, tensor))
        for name, tensor in header.items()
        if name != "__metadata__"
    }
    return Table(path, columns)


def _tensor(path: Path, start: int, size: int, tensor: Mapping[str, Any]) -> Array:
    if tensor["dtype"] not in _TENSORS:
        raise DataError(f"{path}: numbers of type {tensor['dtype']} are not read; save float32")
    dtype, (first, last) = np.dtype(_TENSORS[tensor["dtype"]]), tensor["data_offsets"]
    count = int(np.prod(tensor["shape"], dtype=object))
    if not 0 <= first <= last <= size - start or last - first != count * dtype.itemsize:
        raise ValueError("a tensor is not where the header says")
    with path.open("rb") as file:
        file.seek(start + first)
        values = np.frombuffer(file.read(last - first), dtype).reshape(tensor["shape"])
    if tensor["dtype"] == "BF16":
        # bfloat16 is the upper half of a float32.
        return (values.astype("<u4") << 16).view("<f4")
    return values


def _csv(path: Path) -> Table:
    # Spreadsheets put a byte order mark before the header.
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        numbered = [(row, reader.line_num) for row in reader if row]
    if not numbered:
        raise DataError(f"{path}: is empty; the header must name every column, each once")
    lines, rows = [line for _, line in numbered], [row for row, _ in numbered]
    first = [tidy(name) for name in rows[0]]
    headless = _is_headless(path, first, rows[1:])
    if headless:
        first = [f"c{number}" for number in range(len(first))]
    else:
        del rows[0], lines[0]
    _check_names(path, first)
    uneven = [i for i, row in enumerate(rows) if len(row) != len(first)]
    if uneven:
        line = lines[uneven[0]]
        raise DataError(f"{path}: line {line} does not have the {len(first)} columns of the header")
    if is_ours(first):
        rows = [[*map(from_cell, row)] for row in rows]
    cells = list(zip(*rows, strict=True)) if rows else [()] * len(first)
    columns = {
        name: Column(2 if _is_list(texts) else 1, partial(_texts, texts))
        for name, texts in zip(first, cells, strict=True)
    }
    return Table(path, columns, tabular=True, headless=headless, lines=lines)


def _jsonl(path: Path) -> Table:
    """Read a file with one object a line; a key that a line lacks is missing there."""
    rows: list[dict[str, Any]] = []
    lines = []
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                rows.append(_json_row(f"{path}: line {number}", line))
                lines.append(number)
    if not rows:
        raise DataError(f"{path}: is empty; write one object on each line")
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: _json_column([row.get(name) for row in rows]) for name in names}
    return Table(path, columns, tabular=True, lines=lines)


def _json_row(where: str, line: str) -> dict[str, Any]:
    try:
        row = parsed_json(line.strip())
    except UnreadableError as error:
        raise DataError(f"{where}: {error}. Fix or remove the line") from None
    if not isinstance(row, dict):
        raise DataError(f"{where} is no object; write one on each line")
    tidied = {tidy(name): value for name, value in row.items()}
    if len(tidied) < len(row):
        raise DataError(f"{where}: {listed(row)} hold one name twice. Remove one of the two")
    return tidied


def _json_column(values: list[Any]) -> Column:
    if any(isinstance(each, list) for each in values):
        return Column(2, lambda: np.array(values, np.float64))
    if all(each is None or isinstance(each, int) for each in values):
        # Ids are whole numbers of any length, which float64 does not keep apart.
        exact = all(each is not None and abs(each) < 2**63 for each in values)
        return Column(1, lambda: np.array(values, np.int64 if exact else object))
    if all(each is None or isinstance(each, int | float) for each in values):
        return Column(1, lambda: np.array(values, np.float64))
    texts = ["" if each is None else str(each) for each in values]
    return Column(1, lambda: np.array(texts, str))


def _is_headless(path: Path, first: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Return True if the first row is a sample: its cells are numbers, and not all are whole."""
    numbers = [bool(_NUMBER.fullmatch(cell)) for cell in first]
    whole = [cell.isdecimal() for cell in first]
    if all(whole):
        # pandas names columns 0, 1, … by default. Other whole numbers may be a sample.
        counted = sorted(map(int, first)) in ([*range(len(first))], [*range(1, len(first) + 1)])
        if not counted or all(cell.strip().isdecimal() for row in rows for cell in row):
            raise DataError(
                f"{path}: line 1 ({','.join(first[:5])}) can be a header or a sample. Write a "
                "header of names: id, label, c0, c1, …"
            )
        return False
    if all(numbers):
        return True
    strange = [cell for cell, is_number in zip(first, numbers, strict=True) if is_number]
    if any(not cell.isdecimal() for cell in strange):
        raise DataError(
            f"{path}: line 1 looks like a sample, for it holds {listed(strange)}. Write a header "
            "before it that names every column: id, label, c0, c1, …"
        )
    return False


def _check_names(path: Path, names: Sequence[str]) -> None:
    if len(names) == 1 and any(mark in names[0] for mark in ";\t|"):
        raise DataError(f"{path}: columns must be separated by commas; line 1 is {names[0]!r}")
    twice = [name for i, name in enumerate(names) if name in names[:i]]
    if twice:
        raise DataError(
            f"{path}: the header must name every column, each once; {listed(twice)} appear twice"
        )


def _is_list(texts: Sequence[str]) -> bool:
    return bool(texts) and texts[0].startswith("[")


def _texts(texts: Sequence[str]) -> Array:
    if not _is_list(texts):
        return np.array(texts, dtype=str)
    rows = [json.loads(text) for text in texts]
    if len({len(row) for row in rows}) > 1:
        raise ValueError("lists are not all of one length")
    return np.array(rows, dtype=np.float64)


def _parquet(path: Path) -> Table:
    with needing(str(path), "pyarrow", "parquet"):
        import pyarrow.parquet
    schema = pyarrow.parquet.read_schema(path)
    _check_names(path, [tidy(name) for name in schema.names])
    columns = {
        tidy(field.name): Column(_arrow_rank(field.type), partial(_arrow, path, field.name))
        for field in schema
    }
    return Table(path, columns, tabular=True)


def _arrow_rank(kind: Any) -> int:
    storage = getattr(kind, "storage_type", kind)
    return 2 if hasattr(storage, "value_field") else 1


def _arrow(path: Path, name: str) -> Array:
    """Read one column as an array; lists of the same length become rows."""
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path, columns=[name])
    column = table.column(0).combine_chunks()
    column = column.chunk(0) if hasattr(column, "chunks") and column.num_chunks else column
    column = getattr(column, "storage", column)
    if _arrow_rank(column.type) == 1:
        return np.asarray(table.column(0).to_numpy())
    if column.null_count:
        row = int(np.argmax(column.is_null().to_numpy(zero_copy_only=False)))
        raise DataError(f"{path}: row {row} (from 0): {name!r} is missing")
    values, rows = column.flatten(), len(column)
    lengths = {len(values) // max(rows, 1)}
    if hasattr(column, "value_lengths"):
        lengths = set(column.value_lengths().unique().to_pylist())
    if len(lengths) > 1:
        raise DataError(f"{path}: {name!r}: lists must all have the same length")
    return np.asarray(values.to_numpy(zero_copy_only=False)).reshape(rows, -1)


_READERS: dict[str, Callable[[Path], Table]] = {
    ".npy": _npy,
    ".npz": _npz,
    ".safetensors": _safetensors,
    ".csv": _csv,
    ".jsonl": _jsonl,
    ".parquet": _parquet,
}
