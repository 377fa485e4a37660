"""Tables as logs have them: a row for each sample and model, in any order, some perhaps missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from committee.arrays import Array
from committee.errors import DataError, MisalignedError
from committee.store.foreign import Foreign, filled
from committee.store.tables import Column, Table
from committee.text import counted, listed, tidy, word

# Usual names of the column that names the model of a row.
_WORDS = frozenset({"model", "models", "model_name", "system", "service", "engine"})


def expanded(tables: Mapping[str, Table], named: Sequence[str]) -> dict[str, Table]:
    """Return a table for each model; one that names the model of each row becomes several.

    Args:
        tables: The tables, by the name of the model if a table is of one.
        named: Names of the user's for the column that names models; often none.

    Raises:
        DataError: If two tables have the same model, or a row names none.
    """
    found: dict[str, Table] = {}
    for name, table in tables.items():
        column = _model_column(table, named)
        for model, own in ({name: table} if column is None else _split(table, column)).items():
            if model in found:
                raise DataError(
                    f"import: model {model!r} stands in {found[model].path} and {own.path}. Give "
                    "each model one file, or one part of one long table"
                )
            found[model] = own
    return found


def _model_column(table: Table, named: Sequence[str]) -> str | None:
    wanted = {tidy(name) for name in named}
    for name, column in table.columns.items():
        if name in wanted:
            return name
        if table.tabular and column.rank == 1 and word(name) in _WORDS and _is_text(table, name):
            return name
    return None


def _is_text(table: Table, name: str) -> bool:
    """Return True if a column holds names, not the outputs of a class of that name."""
    try:
        np.asarray(table.read(name)[:1], np.float64)
    except (TypeError, ValueError):
        return True
    return False


def _split(table: Table, column: str) -> dict[str, Table]:
    """Return the rows of each model as a table of its own, models in the order of the file."""
    names = np.array([tidy(str(each)) for each in table.read(column).tolist()])
    if (names == "").any():
        row = int((names == "").argmax())
        raise DataError(f"{table.path}: {table.place(row)} names no model in {column!r}")
    parts: dict[str, Table] = {}
    readers = {n: cache(c.read) for n, c in table.columns.items() if n != column}
    for model in dict.fromkeys(names.tolist()):
        rows = np.flatnonzero(names == model)
        lines = range(len(names)) if table.lines is None else table.lines
        parts[model] = replace(
            table,
            path=Path(f"{table.path} ({model})"),
            columns={
                name: Column(table.columns[name].rank, _taken(read, rows))
                for name, read in readers.items()
            },
            lines=None if table.lines is None else [lines[row] for row in rows.tolist()],
        )
    return parts


def _taken(read: Callable[[], Array], rows: Array) -> Callable[[], Array]:
    return lambda: read()[rows]


def completed(foreign: Mapping[str, Foreign], missing: str, least: float) -> dict[str, Foreign]:
    """Return outcomes of every model on every sample that some model has.

    Args:
        foreign: Outcomes of each model with ids, some of which others may lack.
        missing: ``refuse``; or what the lacking ones mean, see :func:`filled`.
        least: The least value of an outcome.

    Raises:
        MisalignedError: If some are missing and that is refused, or a file has no ids.
    """
    if any(each.ids is None for each in foreign.values()):
        return dict(foreign)
    every = list(dict.fromkeys(name for each in foreign.values() for name in each.ids or ()))
    lacking = {
        model: [name for name in every if name not in set(each.ids or ())]
        for model, each in foreign.items()
        if len(each.ids or ()) < len(every)
    }
    if missing == "refuse" and lacking:
        text = "; ".join(
            f"{model} lacks {counted(len(names), 'answer')}: {listed(names)}"
            for model, names in lacking.items()
        )
        raise MisalignedError(
            f"import: of {len(every):,} samples {text}. Say what a missing answer means with "
            "--missing wrong or --missing pass, or leave these samples out of all models"
        )
    return {
        model: _with_rows(each, lacking.get(model, []), missing, least)
        for model, each in foreign.items()
    }


def _with_rows(foreign: Foreign, names: Sequence[str], missing: str, least: float) -> Foreign:
    """Add rows of samples without an answer; they cost what the others do on average."""
    own = foreign.outputs
    if not names or own is None or own.confidence is None:
        return foreign
    gap = np.full(len(names), np.nan)
    values = np.concatenate([own.values, gap])
    costs = {c: np.append(o, np.full(len(names), o.mean())) for c, o in foreign.costs.items()}
    return replace(
        foreign,
        count=len(values),
        outputs=filled(values, np.concatenate([own.confidence, gap]), missing, least),
        ids=(*(foreign.ids or ()), *names),
        costs=costs,
    )
