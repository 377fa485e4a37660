"""Tables of pandas and polars: their columns and rows brought into one order, and new ones made.

None of these libraries is imported to read a table; the attributes of an object tell what it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from committee.arrays import Array
from committee.errors import MisalignedError
from committee.text import listed


def _rows_of(value: Any) -> tuple[str, ...]:
    """Return the names of a table's rows; empty if it has none, or only pandas' default index."""
    index = getattr(value, "index", None)
    if index is None or callable(index) or _is_default(index):
        return ()
    return tuple(map(str, np.asarray(index).tolist()))


def _is_default(index: Any) -> bool:
    is_range = type(index).__name__ == "RangeIndex"
    return is_range and (index.start, index.step) == (0, 1)


def in_row_order(
    values: Mapping[str, Any], ids: Sequence[str] | None
) -> tuple[dict[str, Array | None], Sequence[str] | None]:
    """Return the row order that each value needs, None for none, and the samples' ids."""
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
