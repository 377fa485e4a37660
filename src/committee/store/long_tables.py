"""Tables as logs have them: a row for each sample and model, in any order, some perhaps missing."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from committee.arrays import Array
from committee.errors import DataError, MisalignedError, UnknownNameError
from committee.rule.outputs import WITH_CONFIDENCE
from committee.store.foreign import Foreign, Note, filled
from committee.store.tables import Column, Table
from committee.text import counted, listed, printable, tidy, word

# Usual names of the column that names the model of a row.
_WORDS = frozenset({"model", "models", "model_name", "system", "service", "engine"})
# What missing answers mean, for people.
_MEANINGS = {
    "pass": "a cascade goes on to the next model",
    "wrong": "they count as answers of the least value, as sure as its surest",
}


def expanded(
    tables: Mapping[str, Table], kind: str, named: Sequence[str], ignored: Sequence[str] = ()
) -> dict[str, Table]:
    """Return a table for each model; one that names the model of each row becomes several."""
    there = [name for table in tables.values() for name in table.columns]
    for name in named:
        if tidy(name) not in there:
            raise UnknownNameError.of("--columns model", "column", name, there)
    found: dict[str, Table] = {}
    for name, table in tables.items():
        column = _model_column(table, kind, {*map(tidy, named)}, {*map(tidy, ignored)})
        for model, own in ({name: table} if column is None else _split(table, column)).items():
            if model in found:
                raise DataError(
                    f"import: model {model!r} stands in {found[model].path} and {own.path}. Give "
                    "each model one file, or one part of one long table"
                )
            found[model] = own
    return found


def _model_column(
    table: Table, kind: str, named: Collection[str], ignored: Collection[str]
) -> str | None:
    if named:
        return next((name for name in table.columns if name in named), None)
    usual = (
        name
        for name, column in table.columns.items()
        if table.tabular and column.rank == 1 and word(name) in _WORDS and name not in ignored
    )
    return next((name for name in usual if _holds_names(table, kind, name)), None)


def _holds_names(table: Table, kind: str, name: str) -> bool:
    """Return True if a column holds names, not the outputs of a class of that name."""
    if kind in WITH_CONFIDENCE:
        return True
    try:
        np.asarray(table.read(name)[:1], np.float64)
    except (TypeError, ValueError):
        return True
    return False


def _split(table: Table, column: str) -> dict[str, Table]:
    """Return the rows of each model as a table of its own, models in the order of the file."""
    names = np.array([_name(each) for each in table.read(column).tolist()], str)
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
            part=True,
        )
    return parts


def _name(value: Any) -> str:
    """Return a cell as a model's name; empty if it is missing."""
    missing = value is None or (isinstance(value, float) and math.isnan(value))
    return "" if missing else tidy(str(value))


def _taken(read: Callable[[], Array], rows: Array) -> Callable[[], Array]:
    return lambda: read()[rows]


def completed(
    foreign: Mapping[str, Foreign], missing: str, least: float, tell: Note
) -> dict[str, Foreign]:
    """Return outputs of every model on every sample that some model has.

    Args:
        foreign: Outcomes or decisions of each model, with ids some of which others may lack.
        missing: ``refuse``; or what the lacking ones mean, see :func:`filled`.
        least: The least value of an outcome.
        tell: Called with a line on each model that lacks answers.
    """
    known = all(each.ids is not None for each in foreign.values())
    whole = _on_every_sample(foreign, missing, least) if known else dict(foreign)
    for model, each in whole.items():
        if each.gaps is not None and each.gaps.any():
            names = each.ids or [str(row) for row in range(each.count)]
            gone = [names[row] for row in np.flatnonzero(each.gaps).tolist()]
            tell(
                f"{model} gave no answer to {len(gone):,} of {each.count:,} samples, "
                f"{listed(gone)}: {_MEANINGS[missing]}"
            )
    return whole


def _on_every_sample(
    foreign: Mapping[str, Foreign], missing: str, least: float
) -> dict[str, Foreign]:
    _refuse_strangers(foreign)
    every = list(dict.fromkeys(name for each in foreign.values() for name in each.ids or ()))
    lacking = {
        model: [name for name in every if name not in own]
        for model, own in ((model, frozenset(each.ids or ())) for model, each in foreign.items())
        if len(own) < len(every)
    }
    if missing == "refuse" and lacking:
        text = "; ".join(
            f"{model} lacks {counted(len(names), 'answer')}: {listed(names)}"
            for model, names in lacking.items()
        )
        remedy = "Leave these samples out of all models"
        if next(iter(foreign.values())).roles.value is not None:
            remedy += ", or say what a missing answer means: --missing wrong, --missing pass"
        raise MisalignedError(f"import: of {len(every):,} samples {text}. {remedy}")
    return {
        model: _with_rows(each, lacking.get(model, []), missing, least)
        for model, each in foreign.items()
    }


def _refuse_strangers(foreign: Mapping[str, Foreign]) -> None:
    """Refuse a model that has no sample in common with the others."""
    holders = Counter(name for each in foreign.values() for name in each.ids or ())
    for model, each in foreign.items():
        own = each.ids or ()
        if len(foreign) > 1 and own and not any(holders[name] > 1 for name in own):
            other = next(o for m, o in foreign.items() if m != model)
            raise MisalignedError(
                f"import: {model} answered none of the samples of the others: its ids are like "
                f"{printable(own[0])!r}, those of {other.path} like "
                f"{printable((other.ids or ('',))[0])!r}. Write the same id for the same sample"
            )


def _with_rows(foreign: Foreign, names: Sequence[str], missing: str, least: float) -> Foreign:
    """Add rows of samples without an answer; they cost what the others do on average."""
    own = foreign.outputs
    if not names or own is None or own.confidence is None:
        return foreign
    gap = np.full(len(names), np.nan)
    values = np.concatenate([own.values, gap])
    costs = {c: np.append(o, np.full(len(names), o.mean())) for c, o in foreign.costs.items()}
    known = np.zeros(len(own), bool) if foreign.gaps is None else foreign.gaps
    return replace(
        foreign,
        gaps=np.concatenate([known, np.isnan(gap)]),
        count=len(values),
        outputs=filled(values, np.concatenate([own.confidence, gap]), missing, least),
        ids=(*(foreign.ids or ()), *names),
        costs=costs,
    )
