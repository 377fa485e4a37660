"""Records as models take them: columns of N records, brought to the form that a model declares."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from committee.arrays import Array
from committee.errors import DataError
from committee.text import listed

if TYPE_CHECKING:  # bundles have this file, and read recipes as they stand in the cascade
    from committee.spec.record import Field, Record

# N values of a column: stacked arrays (N, ...), or a list of whatever the data has.
Values: TypeAlias = Array | list[Any]
# Cells of tables that hold no number.
_MISSING = ("", "nan", "NaN", "null", "None")


class RecordBatch:
    """The inputs of N records for one model, by the names that the model has for them."""

    def __init__(self, parts: Mapping[str, Values]) -> None:
        self._parts = dict(parts)

    @classmethod
    def of(cls, records: Array | Sequence[Any], recipe: Record) -> RecordBatch:
        """Return what a model takes of N records.

        A record is a mapping of columns, or the value of its only column. Arrays are stacked, and
        so is everything that has a dtype; other values stay as they are, in a list.
        """
        check_whole(records, [recipe])
        return cls({field.name: _values(records, field) for field in recipe.fields})

    def __len__(self) -> int:
        return len(next(iter(self._parts.values())))

    def __getitem__(self, rows: slice | Array) -> RecordBatch:
        """Return some of the records: a slice, or rows (n,)."""
        return RecordBatch({name: _taken(part, rows) for name, part in self._parts.items()})

    def __str__(self) -> str:
        """Return how many there are and their form, for errors."""
        forms = [
            f"{name} {part.dtype} {part.shape}" if isinstance(part, np.ndarray) else name
            for name, part in self._parts.items()
        ]
        form = f" ({', '.join(each.strip() for each in forms)})" if any(forms) else ""
        return f"{len(self)} records{form}"

    def joined(self, others: Sequence[RecordBatch]) -> RecordBatch:
        """Return these records and others for the same model."""
        return RecordBatch(
            {
                name: _joined([part, *(other._parts[name] for other in others)])
                for name, part in self._parts.items()
            }
        )

    def items(self) -> Iterator[tuple[str, Values]]:
        """Yield each input of the model with its values."""
        return iter(self._parts.items())

    def value(self, copied: bool = False) -> Any:
        """Return what a function is called with: its only input, or a dict of several by name.

        Lists are new ones, and with ``copied`` arrays are too.
        """
        parts = {
            name: part.copy() if copied and isinstance(part, np.ndarray) else part[:]
            for name, part in self._parts.items()
        }
        return parts.get("", parts)

    @property
    def forms(self) -> tuple[tuple[int, ...], ...]:
        """Return the shape of one record in each input; empty where it is in no array."""
        return tuple(
            part.shape[1:] if isinstance(part, np.ndarray) else () for part in self._parts.values()
        )


def check_whole(records: Array | Sequence[Any], recipes: Iterable[Record]) -> None:
    """Refuse values without names where models take more than one thing."""
    fields = [field for recipe in recipes for field in recipe.fields]
    taken = {tuple(field.columns) for field in fields if field.columns}
    if len(taken) > 1 and not all(isinstance(record, Mapping) for record in records):
        names = list(dict.fromkeys(name for columns in sorted(taken) for name in columns))
        raise DataError(
            f"a record must be a dict of {listed(names)}, for models take different columns"
        )


def only_value(record: Any) -> Any:
    """Return the value of a record's only column, whatever its name; a bare value stays.

    Raises:
        DataError: If the record has several columns.
    """
    if not isinstance(record, Mapping):
        return record
    if len(record) != 1:
        raise DataError(
            f"has the columns {listed(list(record))}, and models take one without its name. Give "
            "a record of that column alone, or its value"
        )
    return next(iter(record.values()))


def fed(values: Any, dtype: str, shape: Sequence[Any] | None) -> Array:
    """Return the values of N records as an input of a graph takes them; text has no dtype."""
    array = np.asarray(values, dtype or object)
    # A column of numbers is (N,), and many graphs take each column as (N, 1).
    if shape is not None and tuple(shape[array.ndim :]) == (1,):
        return array[..., None]
    return array


def _values(records: Array | Sequence[Any], field: Field) -> Values:
    values = records if isinstance(records, np.ndarray) else _selected(records, field)
    whole, count = isinstance(records, np.ndarray) and field.row, len(field.columns)
    if whole and np.shape(values)[1:2] != (count,):
        raise DataError(
            f"an array {np.shape(values)} has not the {count} columns that the model takes"
        )
    if field.dtype:
        return _numbers(values, field.dtype)
    if isinstance(values, np.ndarray):
        return values
    return _stacked(values) if _has_arrays(values) else values


def _selected(records: Sequence[Any], field: Field) -> list[Any]:
    """Return the value of each record's column, or its row of columns."""
    if field.row:
        rows = [_row(record, field) for record in records]
        return _typed(rows, field) if any(field.types) else rows
    # A mapping is no number; only a function can take one.
    if field.dtype and not field.columns:
        return [only_value(record) for record in records]
    values = list(records)
    for column in field.columns:
        values = [_cell(r, column) if isinstance(r, Mapping) else r for r in records]
    if not field.dtype and any(value is None for value in values):
        raise DataError(f"has no {field.columns[0]!r}" if field.columns else "is empty")
    return values


def _typed(rows: Sequence[dict[str, Any]], field: Field) -> list[Any]:
    """Return rows whose columns of numbers are numbers."""
    columns: list[Any] = []
    for column, dtype in zip(field.columns, field.types, strict=True):
        cells = [row[column] for row in rows]
        columns.append(_numbers(cells, dtype).tolist() if dtype else cells)
    return [dict(zip(field.columns, cells, strict=True)) for cells in zip(*columns, strict=True)]


def _row(record: Any, field: Field) -> Any:
    """Return a record's columns: a list of numbers if it has a dtype, else a dict."""
    if isinstance(record, Mapping):
        own = {column: _cell(record, column) for column in field.columns}
        return list(own.values()) if field.dtype else own
    alone = isinstance(record, str | bytes) or not isinstance(record, Sequence | np.ndarray)
    cells = [record] if alone else list(record)
    if len(cells) != len(field.columns):
        what = type(record).__name__ if alone else f"{len(cells)} values"
        raise DataError(
            f"a record must have the columns {listed(field.columns)}, as a dict; it is {what}"
        )
    return cells if field.dtype else dict(zip(field.columns, cells, strict=True))


def _cell(record: Mapping[str, Any], column: str) -> Any:
    try:
        return record[column]
    except KeyError:
        others = f", but {listed(list(record))}" if record else ""
        raise DataError(f"has no {column!r}{others}") from None


def _numbers(values: Values, dtype: str) -> Array:
    """Return values as one array of a type; an integer must be exact."""
    try:
        array = np.asarray(values)
        if array.dtype.kind == "f" and values is not array and np.dtype(dtype).kind in "iu":
            array = np.asarray(values, object)  # whole numbers beside others would be rounded
        if array.dtype.kind in "OUS":
            array = _parsed(array, np.dtype(dtype))
        with np.errstate(over="ignore", invalid="ignore"):
            made: Array = array.astype(dtype)
    except (ValueError, TypeError, OverflowError) as error:
        raise DataError(_not_numbers(values, dtype, error)) from None
    lost = np.isinf(made) & np.isfinite(array) if made.dtype.kind == "f" else made != array
    if lost.any():
        raise DataError(f"has {array[lost].flat[0]}, which is no {dtype}")
    return made


def _parsed(array: Array, dtype: np.dtype[Any]) -> Array:
    """Return texts and objects as numbers, and those that are missing as NaN if they may be."""
    if dtype.kind == "f":
        with suppress(ValueError, TypeError):
            return array.astype(np.float64)  # where none is missing, at once
        flat = [np.nan if v is None or v in _MISSING else v for v in array.ravel().tolist()]
        return np.array(flat, np.float64).reshape(array.shape)
    return np.array(list(map(_whole, array.ravel().tolist())), object).reshape(array.shape)


def _whole(value: Any) -> Any:
    if value is None:
        raise ValueError("a value is missing")
    return int(value) if isinstance(value, str | bytes) else value


def _not_numbers(values: Values, dtype: str, error: Exception) -> str:
    lengths = {len(each) if isinstance(each, Sequence | np.ndarray) else -1 for each in values}
    if len(lengths) > 1 and not any(isinstance(each, str) for each in values):
        return f"lists are of unequal length ({', '.join(map(str, sorted(lengths)[:5]))})"
    return f"is no {dtype} ({str(error).splitlines()[0]})"


def _stacked(values: Sequence[Array]) -> Array:
    shapes = {value.shape for value in values}
    if len(shapes) > 1:
        text = ", ".join(map(str, sorted(shapes)[:5]))
        raise DataError(f"arrays of one column have different shapes ({text}); give lists instead")
    _check_types(values)
    return np.stack(values)


def _has_arrays(values: Sequence[Any]) -> bool:
    """Return True if all values are arrays; refuse some among others, as :func:`_check_types`."""
    found = sum(isinstance(value, np.ndarray) for value in values)
    if 0 < found < len(values):
        raise DataError("some values of one column are arrays, and others are not; give all alike")
    return found > 0


def _check_types(values: Sequence[Any]) -> None:
    """Refuse arrays of different types: what a model sees of one would depend on its neighbours."""
    types = {value.dtype for value in values}
    if len(types) > 1:
        text = listed(sorted(map(str, types)), 5)
        raise DataError(f"arrays of one column have different types ({text}); give all one type")


def _taken(part: Values, rows: slice | Array) -> Values:
    if isinstance(part, np.ndarray) or isinstance(rows, slice):
        return part[rows]
    return [part[row] for row in rows.tolist()]


def _joined(parts: Sequence[Values]) -> Values:
    if _has_arrays(parts):
        _check_types(parts)
        return np.concatenate(parts)
    return [value for part in parts for value in part]
