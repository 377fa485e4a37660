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
        types: Of a row that is not stacked, a type or nothing for each of its columns.
    """

    name: str = ""
    columns: tuple[str, ...] = ()
    row: bool = False
    dtype: str = ""
    types: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for each in filter(None, (self.dtype, *self.types)):
            if each not in DTYPES:
                raise UnknownNameError.of("input", "dtype", each, DTYPES)
        if self.types and (self.dtype or not self.row or len(self.types) != len(self.columns)):
            raise PoolFileError("input: types are of the columns of a row, one each")
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
        fields = [plain(field) for field in self.fields]
        return {"fields": [{k: v for k, v in each.items() if v or k != "types"} for each in fields]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Record:
        """Read what :meth:`to_json` wrote."""
        return typed("input", data, cls)

    @classmethod
    def of(cls, given: Any, dtype: Any = "") -> Record:
        """Read ``input`` of a pool file: a column, a list of columns, or either by input.

        ``dtype`` is a type, or a table of types by column.

        >>> Record.of("text").columns, Record.of({"ids": "tokens", "mask": "mask"}).columns
        (('text',), ('tokens', 'mask'))
        """
        if not isinstance(given, Mapping):
            made = cls((_field("", given, dtype),))
        else:
            made = cls(tuple(_field(str(name), each, dtype) for name, each in given.items()))
        for column in dtype if isinstance(dtype, Mapping) else ():
            if column not in made.columns:
                raise UnknownNameError.of("dtype", "column of the input", column, made.columns)
        return made


def _field(name: str, columns: Any, dtype: Any) -> Field:
    by_column = dtype if isinstance(dtype, Mapping) else {}
    types = [*by_column.values()] if by_column else [dtype]
    if not all(isinstance(each, str) for each in types):
        raise PoolFileError(f"dtype {dtype!r} must be a type, or a table of types by column")
    common = "" if by_column else dtype
    if columns is None:
        return Field(name, dtype=common)
    if isinstance(columns, str):
        return Field(name, (columns,), dtype=by_column.get(columns, common))
    if isinstance(columns, list) and columns and all(isinstance(each, str) for each in columns):
        own = tuple(by_column.get(column, "") for column in columns) if by_column else ()
        return Field(name, tuple(columns), True, common, own)
    raise PoolFileError(
        f'input {columns!r} must be a column, as in "text", a list of columns, or a table that '
        "has such for each input of the model"
    )
