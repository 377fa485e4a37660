"""Arrays and tables of any library, checked and brought into one order of rows and classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from committee.arrays import Array
from committee.errors import CostError, MisalignedError, ShapeError
from committee.names import class_order
from committee.pool.costs import checked_costs
from committee.pool.labels import indices
from committee.pool.plausibility import check_classes, check_declared
from committee.rule.outputs import WITH_CONFIDENCE, Outputs, as_array, checked_outputs
from committee.spec.cost import MEAN, Cost
from committee.text import listed, printable


def checked_arrays(
    labels: ArrayLike | None,
    outputs: Mapping[str, Any],
    kind: str,
    ids: Sequence[str] | None,
    classes: Sequence[str],
    costs: Mapping[str, ArrayLike | Cost],
) -> tuple[
    dict[str, Outputs],
    Array | None,
    Sequence[str] | None,
    Sequence[str],
    Mapping[str, ArrayLike | Cost],
]:
    """Return outputs by model, labels as indices, ids, classes, and costs in the order of rows.

    Arguments and errors are those of :meth:`committee.pool.pool.Pool.from_arrays`.
    """
    tables = {} if labels is None else {"labels": labels}
    for name, values in outputs.items():
        pair = values if kind in WITH_CONFIDENCE else (values, None)
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            first = "classes" if kind == "decisions" else "values"
            raise MisalignedError(
                f"Pool: {name!r}: {kind} are a pair of {first} (N,) and confidence (N,)"
            )
        where = f"model {name!r}"
        tables[where] = pair[0]
        if pair[1] is not None:
            tables[f"{where}, confidence"] = pair[1]
    # One number a model has no rows to bring into order.
    one = (str, Cost)
    each_costs = {n: c for n, c in costs.items() if not isinstance(c, one) and np.ndim(c)}
    tables |= {f"costs of {name!r}": own for name, own in each_costs.items()}
    orders, ids = _in_row_order(tables, ids)
    for name in each_costs:
        where = f"costs of {name!r}"
        own = as_array(where, tables.pop(where))
        each_costs[name] = _in_rows(where, own, orders[where])
    arrays = {}
    for where, value in tables.items():
        named = () if where == "labels" else classes
        array, named = _in_class_order(where, value, named)
        classes = classes if where == "labels" else named
        arrays[where] = _in_rows(where, array, orders[where])
    checked = {}
    for name in outputs:
        where = f"model {name!r}"
        confidence = arrays.get(f"{where}, confidence")
        checked[name] = checked_outputs(where, kind, arrays[where], confidence)
        check_declared(where, checked[name], 'kind="probabilities"')
        check_classes(where, checked[name], len(classes))
    indexed = _labels(arrays.get("labels"), classes)
    return checked, indexed, ids, classes, {**costs, **each_costs}


def _rows_of(value: Any) -> tuple[str, ...]:
    """Return the names of a table's rows; empty if it has none, or only pandas' default index."""
    index = getattr(value, "index", None)
    if index is None or callable(index) or _is_default(index):
        return ()
    return tuple(map(str, np.asarray(index).tolist()))


def _is_default(index: Any) -> bool:
    is_range = type(index).__name__ == "RangeIndex"
    return is_range and (index.start, index.step) == (0, 1)


def _in_row_order(
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


def _in_rows(where: str, value: Any, order: Array | None) -> Any:
    """Return a value with its rows in an order from :func:`_in_row_order`."""
    return value if order is None else as_array(where, value)[order]


def _columns_of(value: Any) -> tuple[str, ...]:
    """Return the names of a table's columns; empty if it has none."""
    names = getattr(value, "column_names", getattr(value, "columns", None))
    return () if names is None or callable(names) else tuple(map(str, names))


def _in_class_order(where: str, value: Any, classes: Sequence[str]) -> tuple[Any, tuple[str, ...]]:
    """Return outputs in the order of the classes, and the names of the classes."""
    names = _columns_of(value)
    if len(names) < 2:
        return value, tuple(classes)
    order, named = class_order(where, names, classes)
    values = as_array(where, value)
    return values if order is None else values[:, order], named or tuple(classes)


def priced(
    name: str, cost: ArrayLike | Cost | None, unit: str, ids: Sequence[str]
) -> tuple[tuple[Cost, ...], dict[str, Array]]:
    """Return a model's cost, and what each sample cost by unit where that differs.

    A :class:`Cost` has its own unit.
    """
    if cost is None:
        return (), {}
    if isinstance(cost, Cost):
        return (cost,), {}
    if not np.ndim(cost):
        return (_cost(name, cost, unit),), {}
    each = checked_costs(f"Pool: {name!r}", np.asarray(cost), ids)
    mean = Cost(float(each.mean()) if len(each) else 0.0, unit, "given", MEAN)
    return (mean,), ({unit: each} if (each != each[:1]).any() else {})


def _cost(name: str, value: Any, unit: str) -> Cost:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        text = printable(str(value)[:30])
        raise CostError(f"Pool: costs: {name!r} costs '{text}', no number; write 5e6") from None
    return Cost(number, unit)


def _labels(labels: ArrayLike | None, classes: Sequence[str]) -> Array | None:
    """Return labels as indices; None if no sample has one."""
    if labels is None:
        return None
    array = as_array("labels", labels)
    if array.ndim == 1 and array.dtype.kind in "iu" and (array >= 0).all():
        return array
    found = indices("labels", array, classes)
    lacking = np.flatnonzero(found < 0)
    if len(lacking) == len(found):
        return None
    if len(lacking):
        raise ShapeError(
            f"Pool: {len(lacking):,} of {len(found):,} samples have no label, rows "
            f"{listed(lacking.tolist())}. Label them, or leave these samples out"
        )
    return found
