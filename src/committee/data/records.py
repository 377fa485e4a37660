"""Records as samples: rows of a table, entries of an array, or files as bytes.

Which columns are inputs is said by the models, whose recipes name them. The label and the id are
found by their usual names, or named after the path: ``reviews.csv:label=stars,id=key``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from committee.arrays import Array
from committee.data.arrays import CLASS_WORDS, read_npy, read_npz
from committee.data.base import BrokenSamplesError, Dataset, digest
from committee.data.files import FileKind, FilesDataset, open_folder
from committee.data.huggingface import is_saved, load_saved
from committee.data.table import ID_WORDS, LABEL_WORDS, read_table
from committee.errors import DataError, MisalignedError, UnknownNameError, UnreadableError, needing
from committee.models.records import RecordBatch, check_whole
from committee.pool.labels import LabelMode, indices, labelled, unused_note, with_notes
from committee.pool.samples import Samples
from committee.reading import parsed_json, read_text
from committee.spec.model import ModelSpec
from committee.spec.record import Record
from committee.text import first_line, listed, word

# The shape of one record in each input of a model.
Forms: TypeAlias = tuple[tuple[int, ...], ...]
# Records that are tried for the form that all should have.
_TRIED = 100
# What may follow a path: the columns of the label and of the id.
_NAMED = re.compile(r"(.+?):((?:(?:label|id)=[^,]+)(?:,(?:label|id)=[^,]+)*)")


class _RecordsDataset:
    """Records of a table.

    Args:
        columns: The table.
        names: The columns that are neither label nor id.
        needed: Those of them that models see; all if the records have one column.
        recipes: What models take; a record that does not fit one of them is broken.
        samples: Ids and labels.
    """

    def __init__(
        self,
        columns: _Columns,
        names: Sequence[str],
        needed: Sequence[str],
        recipes: Iterable[Record],
        samples: Samples,
    ) -> None:
        self._columns, self._names, self._needed = columns, tuple(names), tuple(needed)
        self._recipes = tuple(dict.fromkeys(recipes))
        self.samples = samples

    def read(self, rows: Array) -> Array | list[Any]:
        """See :class:`committee.data.base.Dataset`."""
        records = self._records(rows)
        if isinstance(records, np.ndarray):
            return records
        problems = problems_of(records, self._recipes, self._first_forms)
        if problems:
            ids, numbers = self.samples.ids, rows.tolist()
            raise BrokenSamplesError([(ids[numbers[at]], why) for at, why in problems.items()])
        return records

    def _records(self, rows: Array) -> Array | list[Any]:
        """Return records as the table has them: mappings, or values of its only column."""
        taken = self._columns.take(rows, self._needed)
        if isinstance(taken, np.ndarray) or len(self._names) != 1:
            return taken
        return [record.get(self._names[0]) for record in taken]

    def digests(self, rows: Array) -> Array:
        """See :class:`committee.data.base.Dataset`."""
        taken = self._columns.take(rows, self._names)
        return np.array([digest(_bytes_of(record)) for record in taken], np.uint64)

    @cached_property
    def _first_forms(self) -> dict[Record, Forms]:
        """The form, for each recipe, of the first record that has one."""
        tried = (self._records(np.array([row])) for row in range(min(len(self.samples), _TRIED)))
        return first_forms(tried, self._recipes)


def first_forms(
    each: Iterable[Array | Sequence[Any]], recipes: Collection[Record]
) -> dict[Record, Forms]:
    """Return the form, for each recipe, of the first record, in a batch of one, that has one."""
    found: dict[Record, Forms] = {}
    for record in each:
        for recipe in recipes:
            with suppress(DataError):
                found.setdefault(recipe, RecordBatch.of(record, recipe).forms)
        if len(found) == len(recipes):
            break
    return found


def problems_of(
    records: Array | Sequence[Any], recipes: Collection[Record], forms: Mapping[Record, Forms]
) -> dict[int, str]:
    """Return by its place why a record does not fit all models; of all if they fit not together.

    ``forms`` are those that records must have.
    """
    whole = _problem(records, recipes, forms) if len(records) else ""
    if not whole:
        return {}
    whys = [_problem([record], recipes, forms) for record in records]
    return {at: why or whole for at, why in enumerate(whys) if why or not any(whys)}


def _problem(
    records: Array | Sequence[Any], recipes: Collection[Record], forms: Mapping[Record, Forms]
) -> str:
    """Return why some records fit no model; empty if they fit all, in the forms."""
    for recipe in recipes:
        try:
            own = RecordBatch.of(records, recipe).forms
        except DataError as error:
            return str(error)
        first = forms.get(recipe, own)
        if own != first:
            return f"has the shape {_shown(own)}, where others have {_shown(first)}"
    return ""


def _shown(forms: Forms) -> str:
    return ", ".join(map(str, forms))


def _bytes_of(value: Any) -> bytes:
    """Return bytes that tell a value from others, whatever the order of its columns."""
    if isinstance(value, Mapping):
        # As text, so that a number of jsonl is that of csv.
        plain = {k: v for k, v in value.items() if not isinstance(v, np.ndarray | bytes)}
        text = "\0".join([f"{name}={plain[name]}" for name in sorted(plain)])
        others = [_bytes_of(value[name]) for name in sorted(value.keys() - plain.keys())]
        return b"\0".join([text.encode("utf-8", "surrogatepass"), *others])
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{value.shape}".encode() + value.tobytes()
    if isinstance(value, bytes):
        return value
    return str(value).encode("utf-8", "surrogatepass")


class _BytesDataset(FilesDataset):
    """Files as bytes."""

    def __init__(self, root: Path, samples: Samples) -> None:
        self._root = root
        self.samples = samples

    def decode(self, path: Path) -> bytes:
        return path.read_bytes()

    def reason(self, error: Exception) -> str:
        return str(getattr(error, "strerror", None) or error)


# Files as records.
FILES = FileKind("file", None, _BytesDataset)


def open_records(
    spec: str | Path,
    split: str,
    classes: Sequence[str],
    models: Sequence[ModelSpec],
    labels: LabelMode = "must fit",
) -> Dataset | None:
    """Open records for some models; None if there is nothing of a known form.

    Args:
        spec: A csv, jsonl, parquet, npz or npy file, a folder that ``datasets`` saved, or a folder
            of files, one folder a class; ``:label=COLUMN,id=COLUMN`` may follow a table.
        split: Name for the split.
        classes: Names of the classes in the order of the models' outputs.
        models: The models that will see the records.
        labels: See :func:`committee.data.open.open_data`.
    """
    path, named = _parsed(spec)
    if path.is_dir() and not is_saved(path):
        return open_folder(path, split, classes, FILES, labels)
    if not path.is_dir() and not (path.is_file() and path.suffix.lower() in READERS):
        return None
    columns = _read_columns(path, split)
    recipes = [s.preprocessing for s in models if isinstance(s.preprocessing, Record)]
    seen = {name for recipe in recipes for name in recipe.columns}
    label, key = (_found(path, columns, named, seen, *each) for each in _WORDS.items())
    if label in seen and columns.beside is None:
        raise DataError(f"{path}: models take {label!r}, so it cannot be the label too")
    # A model may see the id.
    inputs = [n for n in columns.names if n in seen or n not in (label, key)]
    needed = _needed(path, columns, inputs, recipes)
    samples = _samples(path, columns, label, key, (split, classes, labels))
    samples = with_notes(samples, _note(inputs, needed, label))
    if not columns.names:
        _check_array(path, columns.take(np.array([0]), ()), recipes)
    return _RecordsDataset(columns, inputs, needed, recipes, samples)


def _check_array(path: Path, first: _Rows, recipes: Sequence[Record]) -> None:
    """Refuse a file of one array whose first record models cannot take."""
    try:
        check_whole(first, recipes)
    except DataError as error:
        raise DataError(
            f"{path}: has no names of columns, and {error}. Give a csv, jsonl, parquet or npz "
            "file with these columns"
        ) from None
    for recipe in recipes:
        try:
            RecordBatch.of(first, recipe)
        except DataError as error:
            raise DataError(f"{path}: {error}") from None


def _parsed(spec: str | Path) -> tuple[Path, dict[str, str]]:
    """Return the path of a spec, and the columns that it names."""
    if Path(spec).exists():
        return Path(spec), {}
    place, named = divided(str(spec))
    pairs = (each.partition("=") for each in named.split(",") if named)
    return Path(place), {name: column for name, _, column in pairs}


def divided(spec: str) -> tuple[str, str]:
    """Return where a spec says that samples are, and the text that names columns."""
    match = _NAMED.fullmatch(spec)
    return (spec, "") if match is None else (match[1], match[2])


_WORDS = {"label": LABEL_WORDS, "id": ID_WORDS}


def _found(
    path: Path,
    columns: _Columns,
    named: Mapping[str, str],
    seen: Collection[str],
    what: str,
    words: Sequence[str],
) -> str:
    """Return the column that is named as the label or the id, or has one of the usual names.

    What models see is not taken for one.
    """
    if columns.beside is not None:
        return f"{what}s" if f"{what}s" in columns.beside else ""
    if what in named:
        if named[what] not in columns.names:
            raise UnknownNameError.of(str(path), "column", named[what], columns.names)
        return named[what]
    spelled = {word(name): name for name in reversed(columns.names) if name not in seen}
    return next((spelled[each] for each in words if each in spelled), "")


def _needed(
    path: Path, columns: _Columns, inputs: Sequence[str], recipes: Sequence[Record]
) -> list[str]:
    """Return the columns that models see."""
    wanted = list(dict.fromkeys(name for recipe in recipes for name in recipe.columns))
    for name in wanted:
        if columns.names and name not in columns.names:
            near = UnknownNameError.of(str(path), "column", name, columns.names)
            raise DataError(f"{near}. Models take it: input in the pool file")
    whole = all(recipe.columns for recipe in recipes)
    if columns.names and not (whole and recipes) and len(inputs) != 1:
        raise DataError(
            f"{path}: has the columns {listed(inputs)}. Say in the pool file which of them models "
            f'take, as in input = "{next(iter(inputs), "text")}", or input = [...] for a row of '
            "several"
        )
    return wanted if whole and recipes else [*dict.fromkeys((*wanted, *inputs))]


def _samples(
    path: Path,
    columns: _Columns,
    label: str,
    key: str,
    given: tuple[str, Sequence[str], LabelMode],
) -> Samples:
    split, classes, mode = given
    ids = list(map(_text, columns.column(key))) if key else None
    own_classes = columns.classes(label)
    samples = Samples.of(None, ids, classes or own_classes, split, count=columns.count)
    if not label:
        return samples
    own = columns.column(label)
    return labelled(
        samples,
        mode,
        lambda: indices(str(path), own, samples.classes, own_classes, columns.place),
    )


def _text(value: Any) -> str:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)


def _note(inputs: Sequence[str], needed: Sequence[str], label: str) -> str:
    unused = [name for name in inputs if name not in needed]
    note = unused_note(unused)
    if label or not unused:
        return note
    return (
        f"{note}; a column of labels is called 'label', or named by --data PATH:label=COLUMN, once "
        "outputs are stored by committee relabel --labels PATH:label=COLUMN"
    )


_Rows: TypeAlias = Array | list[dict[str, Any]]
# Bytes of a jsonl file that is read; larger tables are read from parquet as they are needed.
_MOST = 2**32


@dataclass(frozen=True)
class _Columns:
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
    take: Callable[[Array, Sequence[str]], _Rows]
    place: Callable[[int], str] = "record {}".format
    classes: Callable[[str], tuple[str, ...]] = lambda _: ()
    beside: Mapping[str, Array] | None = None


def _read_columns(path: Path, split: str) -> _Columns:
    """Open a table by its ending, or as a folder that ``datasets`` saved."""
    columns = _saved(path, split) if path.is_dir() else READERS[path.suffix.lower()](path)
    if not columns.count:
        raise DataError(f"{path}: has no record; there is no sample")
    return columns


def _csv(path: Path) -> _Columns:
    table = read_table(path)
    for number, row in enumerate(table.rows):
        if not all(map(_is_text, row)):
            raise DataError(f"{path}: {table.place(number)} is no UTF-8. Save the file as UTF-8")

    def take(rows: Array, names: Sequence[str]) -> _Rows:
        places = {name: table.spelled.index(name) for name in names}
        return [{name: table.rows[r][at] for name, at in places.items()} for r in rows.tolist()]

    def column(name: str) -> list[str]:
        at = table.spelled.index(name)
        return [row[at] for row in table.rows]

    return _Columns(len(table.rows), table.spelled, column, take, table.place)


def _is_text(cell: str) -> bool:
    """Return False if bytes of a cell, read as lone surrogates, were no UTF-8."""
    return cell.isascii() or cell == cell.encode("utf-8", "ignore").decode()


def _jsonl(path: Path) -> _Columns:
    try:
        lines = read_text(path, _MOST).split("\n")
    except (OSError, UnreadableError) as error:
        raise DataError(f"{path}: no readable jsonl file ({error})") from None
    numbers = [number for number, line in enumerate(lines, 1) if line.strip()]
    records = [_record(path, number, lines[number - 1]) for number in numbers]
    names = tuple(dict.fromkeys(name for record in records for name in record))

    def take(rows: Array, names: Sequence[str]) -> _Rows:
        wanted = set(names)
        each = (records[row] for row in rows.tolist())
        return [{k: v for k, v in record.items() if k in wanted} for record in each]

    return _Columns(
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


def _parquet(path: Path) -> _Columns:
    with needing(str(path), "pyarrow", "parquet"):
        import pyarrow.parquet
    try:
        table = pyarrow.parquet.read_table(path, memory_map=True)
    except Exception as error:  # Arrow raises many kinds
        raise DataError(f"{path}: no readable parquet file ({first_line(error)})") from None
    _check_names(path, table.column_names)

    def take(rows: Array, names: Sequence[str]) -> _Rows:
        found: list[dict[str, Any]] = table.select(list(names)).take(rows).to_pylist()
        return found

    def column(name: str) -> list[Any]:
        values: list[Any] = table.column(name).to_pylist()
        return values

    return _Columns(table.num_rows, tuple(table.column_names), column, take)


def _check_names(path: Path, names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{path}: columns {listed(twice)} stand twice; give each a name of its own")


def _npz(path: Path) -> _Columns:
    arrays = read_npz(path)
    naming = next((word for word in CLASS_WORDS if word in arrays), "")
    named = tuple(map(str, np.atleast_1d(arrays.pop(naming)).tolist())) if naming else ()
    lengths = {name: len(np.atleast_1d(array)) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        text = ", ".join(f"{name} has {count:,}" for name, count in lengths.items())
        raise MisalignedError(f"{path}: arrays must have one entry a sample, but {text}")
    count = next(iter(lengths.values()), 0)

    def take(rows: Array, names: Sequence[str]) -> _Rows:
        return [{name: arrays[name][row] for name in names} for row in rows.tolist()]

    return _Columns(count, tuple(arrays), lambda name: arrays[name], take, classes=lambda _: named)


def _npy(path: Path) -> _Columns:
    array = read_npy(path)
    if not array.ndim:
        raise DataError(f"{path}: holds one number; records are along the first axis of an array")
    beside = {
        name: read_npy(each)
        for name in ("labels", "ids")
        if (each := path.with_suffix(f".{name}.npy")).exists()
    }

    def take(rows: Array, _: Sequence[str]) -> _Rows:
        return np.asarray(array[rows])

    return _Columns(len(array), (), lambda name: beside[name], take, beside=beside)


def _saved(path: Path, split: str) -> _Columns:
    saved = load_saved(path, split)
    named = {n: tuple(f.names) for n, f in saved.features.items() if hasattr(f, "names")}

    def take(rows: Array, names: Sequence[str]) -> _Rows:
        found = saved.select_columns(list(names))[rows.tolist()]
        return [{name: found[name][i] for name in names} for i in range(len(rows))]

    return _Columns(
        len(saved),
        tuple(saved.column_names),
        lambda name: saved[name][:],
        take,
        classes=lambda name: named.get(name, ()),
    )


# Forms of tables by the ending of a file.
READERS: dict[str, Callable[[Path], _Columns]] = {
    ".csv": _csv,
    ".jsonl": _jsonl,
    ".parquet": _parquet,
    ".npz": _npz,
    ".npy": _npy,
}
