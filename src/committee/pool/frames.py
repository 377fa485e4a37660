"""Tables of pandas and polars: their columns and rows brought into one order, and new ones made.

None of these libraries is imported to read a table; the attributes of an object tell what it is.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any

import numpy as np

from committee.arrays import Array
from committee.errors import MisalignedError, MissingExtraError
from committee.names import class_order
from committee.rule.outputs import as_array
from committee.text import listed


def frame_of(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Return rows as a data frame of pandas or polars: of the one in use, else of either.

    Raises:
        MissingExtraError: If neither is installed.
    """
    for library in sorted(("pandas", "polars"), key=lambda each: each not in sys.modules):
        with suppress(ImportError):
            return import_module(library).DataFrame(rows)
    raise MissingExtraError("to_frame needs pandas or polars. Install one with: pip install pandas")


def _columns_of(value: Any) -> tuple[str, ...]:
    """Return the names of a table's columns; empty if it has none."""
    names = getattr(value, "column_names", getattr(value, "columns", None))
    return () if names is None or callable(names) else tuple(map(str, names))


def _rows_of(value: Any) -> tuple[str, ...]:
    """Return the names of a table's rows; empty if it has none, or only pandas' default index."""
    index = getattr(value, "index", None)
    if index is None or callable(index) or _is_default(index):
        return ()
    return tuple(map(str, np.asarray(index).tolist()))


def _is_default(index: Any) -> bool:
    is_range = type(index).__name__ == "RangeIndex"
    return is_range and (index.start, index.step) == (0, 1)


def in_class_order(where: str, value: Any, classes: Sequence[str]) -> tuple[Any, tuple[str, ...]]:
    """Return outputs in the order of the classes, and the names of the classes.

    Args:
        where: Owner of the outputs, for errors.
        value: An array, or a table with one column per class, which may name the classes.
        classes: Names of the classes; empty if unknown.

    Raises:
        MisalignedError: If the names of columns and classes differ.
    """
    names = _columns_of(value)
    if len(names) < 2:
        return value, tuple(classes)
    order, named = class_order(where, names, classes)
    values = as_array(where, value)
    return values if order is None else values[:, order], named or tuple(classes)


def in_row_order(
    values: Mapping[str, Any], ids: Sequence[str] | None
) -> tuple[dict[str, Array | None], Sequence[str] | None]:
    """Return the row order that each value needs, None for none, and the samples' ids.

    Args:
        values: Arrays and tables by name, as errors call them.
        ids: Ids of the samples, or None.

    Raises:
        MisalignedError: If row names differ, or some values have none and the orders differ.
    """
    named = {where: rows for where, value in values.items() if (rows := _rows_of(value))}
    unchanged: dict[str, Array | None] = dict.fromkeys(values)
    if not named:
        return unchanged, ids
    first = next(iter(named.values()))
    counted = _counted(values, first)
    first, named = next(iter(counted.values()), first), named | counted
    same = all(rows == first for rows in named.values())
    if ids is None and not same:
        _refuse_nameless([where for where in values if where not in named], named)
    wanted = first if ids is None else tuple(map(str, ids))
    if same and set(first) != set(wanted):
        # The index means something else than the ids.
        return unchanged, ids
    if same and ids is None:
        return unchanged, first if len(set(first)) == len(first) else None
    return unchanged | {where: _order(where, rows, wanted) for where, rows in named.items()}, wanted


def in_rows(where: str, value: Any, order: Array | None) -> Any:
    """Return a value with its rows in an order from :func:`in_row_order`."""
    return value if order is None else as_array(where, value)[order]


def _counted(values: Mapping[str, Any], first: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the default indices as names, if the named rows have the same names in some order."""
    numbers = tuple(map(str, range(len(first))))
    if set(numbers) != set(first):
        return {}
    indices = {where: getattr(value, "index", None) for where, value in values.items()}
    return {where: numbers for where, i in indices.items() if not callable(i) and _is_default(i)}


def _refuse_nameless(nameless: Sequence[str], named: Mapping[str, Sequence[str]]) -> None:
    if nameless:
        raise MisalignedError(
            f"Pool: {nameless[0]} has no index, and the indices of {listed(list(named))} are in "
            "different orders. Give all with an index, or all in one order without"
        )


def _order(where: str, rows: Sequence[str], wanted: Sequence[str]) -> Array:
    place = {name: row for row, name in enumerate(rows)}
    if len(rows) != len(place):
        raise MisalignedError(
            f"Pool: {where}: its index has duplicates, and others are in another order. Give "
            "each sample an index of its own"
        )
    known = set(wanted)
    strange = [name for name in rows if name not in known]
    if len(rows) != len(wanted) or strange:
        raise MisalignedError(
            f"Pool: {where}: its index has {len(rows):,} samples, others have {len(wanted):,}"
            f"{f'; {listed(strange)} are only here' if strange else ''}. Give all models the same "
            "samples"
        )
    return np.array([place[name] for name in wanted], np.int64)
