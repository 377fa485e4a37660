"""Record: which columns of a record a model sees, and in which form.

A record is one sample that is no image and no clip: a text, a row of a table, an array of any
shape, or the bytes of a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from committee.errors import PoolFileError, UnknownNameError
from committee.reading import plain, typed
from committee.spec.recipe import Recipe

# Types that columns can be brought to.
DTYPES = (
    *("float16", "float32", "float64", "bool"),
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
)


@dataclass(frozen=True)
class Field:
    """One input of a model.

    Args:
        name: What the model calls it; empty if it is the model's only input.
        columns: The columns that it is made of; empty for a record of one column, whatever its
            name.
        row: True if it is a row of columns, even of one; False if it is the value of one column.
        dtype: One of :data:`DTYPES`, to stack N records into one array (N, ...); empty to leave
            values as the data has them.

    Raises:
        UnknownNameError: If dtype is unknown.
        PoolFileError: If columns are missing or repeated.
    """

    name: str = ""
    columns: tuple[str, ...] = ()
    row: bool = False
    dtype: str = ""

    def __post_init__(self) -> None:
        if self.dtype and self.dtype not in DTYPES:
            raise UnknownNameError.of("input", "dtype", self.dtype, DTYPES)
        if len(set(self.columns)) < len(self.columns):
            raise PoolFileError(f"input: {list(self.columns)} names a column twice")
        if self.row != bool(self.columns) and (self.row or len(self.columns) > 1):
            raise PoolFileError("input: a row is of the columns that it names, a value of one")

    def __str__(self) -> str:
        """Return what the input is made of: ``tokens from ids, as int32``."""
        made = ", ".join(self.columns) or "the whole record"
        made = f"the row {made}" if self.row else made
        return f"{self.name} from {made}".removeprefix(" ") + (self.dtype and f", as {self.dtype}")


@dataclass(frozen=True)
class Record(Recipe):
    """How a record becomes what a model takes, the recipe of models that take no images.

    It stands where models of images have a
    :class:`~committee.spec.preprocessing.Preprocessing`.

    Args:
        fields: The inputs of the model; more than one have names.

    Raises:
        PoolFileError: If names are missing or repeated.
    """

    fields: tuple[Field, ...] = (Field(),)

    def __post_init__(self) -> None:
        names = [field.name for field in self.fields]
        if not names or (len(names) > 1 and "" in names) or len(set(names)) < len(names):
            raise PoolFileError(f"input: names of several inputs must differ, not {names}")

    @property
    def views(self) -> None:  # type: ignore[override]  # no record has any
        """None: views are of clips."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Empty: records have any shape."""
        return ()

    @property
    def inputs(self) -> int:
        """One: a model sees the whole record."""
        return 1

    @property
    def lazy(self) -> bool:
        """True: records are small."""
        return True

    @property
    def sample(self) -> str:
        """One record, in a word."""
        return "sample"

    @property
    def words(self) -> str:
        """Everything that it says, in one line, for people."""
        return "; ".join(map(str, self.fields))

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the columns that the model needs, each once."""
        return tuple(dict.fromkeys(name for field in self.fields for name in field.columns))

    def to_json(self) -> dict[str, Any]:
        """Return the object that a store and a cascade file hold."""
        data: dict[str, Any] = plain(self)
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Record:
        """Read what :meth:`to_json` wrote."""
        return typed("input", data, cls)

    @classmethod
    def of(cls, given: Any, dtype: str = "") -> Record:
        """Read ``input`` of a pool file: a column, a list of columns, or either by input.

        >>> Record.of("text").columns, Record.of({"ids": "tokens", "mask": "mask"}).columns
        (('text',), ('tokens', 'mask'))
        """
        if not isinstance(given, Mapping):
            return cls((_field("", given, dtype),))
        return cls(tuple(_field(str(name), each, dtype) for name, each in given.items()))


def _field(name: str, columns: Any, dtype: str) -> Field:
    if columns is None:
        return Field(name, dtype=dtype)
    if isinstance(columns, str):
        return Field(name, (columns,), dtype=dtype)
    if isinstance(columns, list) and columns and all(isinstance(each, str) for each in columns):
        return Field(name, tuple(columns), True, dtype)
    raise PoolFileError(
        f'input {columns!r} must be a column, as in "text", a list of columns, or a table that '
        "has such for each input of the model"
    )
