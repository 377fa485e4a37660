"""Tables of a report: for the page and as csv."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any

from committee.pool.evaluate import Evaluation
from committee.pool.table import Cell, Column, Table
from committee.report.rows import CHOSEN, Row
from committee.report.text import difference, exit_heading, exits, heading_of, interval, named
from committee.text import human_cost, percent, times


def merged(rows: Sequence[Row]) -> list[Row]:
    """Return rows of different committees; the first row of a committee takes the roles of all."""
    first: dict[tuple[object, ...], Row] = {}
    for row in rows:
        key = key_of(row)
        if key not in first:
            first[key] = row
            continue
        known = first[key]
        first[key] = replace(
            known,
            also=(*known.also, row.role),
            versus=row.versus if row.role == CHOSEN else known.versus or row.versus,
            promises=known.promises or row.promises,
        )
    return list(first.values())


def key_of(row: Row) -> tuple[object, ...]:
    """Return what tells committees apart: their stages and their rule."""
    return row.cascade.stages, row.cascade.combine, row.cascade.confidence


def provenance(rows: Sequence[Row]) -> str:
    """Return a line that names the validation split, the test split and the speedups' reference."""
    row = rows[0]
    what = row.task.samples
    chosen = chosen_on(rows)
    speedup = f"Speedup is in average cost, over {row.reference}."
    if row.test is None:
        return f"{chosen}, and these figures are from it too: expect less on new data. {speedup}"
    test = f"{row.test.split} ({row.test.samples:,} {what}), which chose nothing"
    return f"{chosen}; costs and exits are of {test}. {speedup}"


def chosen_on(rows: Sequence[Row]) -> str:
    """Return which samples of the validation split chose, and which tested a promise."""
    first = rows[0].val
    on = f"{first.split} ({first.samples:,} {rows[0].task.samples})"
    picked = [row.cascade.certificate for row in rows if row.chosen]
    own = next((each for each in picked if each is not None and each.choosing), None)
    if own is None or own.choosing + own.samples != first.samples:
        return f"Committees were chosen on {on}"
    divided = f"{own.choosing:,} chose what is certified, the other {own.samples:,} tested it"
    return f"Committees were chosen on {on}; of these {divided}" if None in picked else (
        f"Of {on} {divided}"
    )  # fmt: skip


def front_csv(rows: Sequence[Row]) -> str:
    """Return rows as csv, with every number in full precision.

    ``stages``, ``thresholds`` and ``exit_ratios`` are JSON lists. Columns that begin with ``val_``
    are of the validation split, those with ``test_`` of the test split, empty without one.
    """
    columns = (
        Column("role", lambda row: row.role),
        Column("committee", lambda row: str(row.cascade)),
        Column("stages", lambda row: _json([list(stage.models) for stage in row.cascade.stages])),
        Column("kind", lambda row: row.kind),
        Column("thresholds", lambda row: _json(_thresholds(row))),
        Column("confidence", lambda row: row.cascade.confidence),
        Column("combine", lambda row: row.cascade.combine),
        *(
            replace(column, name=f"{name}_{column.name}").of(pick)
            for name, pick in (("val", _val), ("test", _test))
            for column in _EVALUATION
        ),
        Column("worst_case_cost", lambda row: row.reported.worst_case_cost),
        Column("unit", lambda row: row.reported.unit),
        Column("speedup", lambda row: row.speedup),
    )
    return Table("", columns, rows).csv()


_EVALUATION = (
    *(
        Column(name, lambda evaluation, name=name: getattr(evaluation, name))  # type: ignore[misc]
        for name in ("split", "samples", "measure", "correct", "accuracy")
    ),
    Column("low", lambda evaluation: evaluation.interval[0]),
    Column("high", lambda evaluation: evaluation.interval[1]),
    Column("average_cost", lambda evaluation: evaluation.average_cost),
    Column("exit_ratios", lambda evaluation: _json(list(evaluation.exit_ratios))),
)


def _thresholds(row: Row) -> list[Any]:
    return [stage["threshold"] for stage in row.cascade.to_json()["stages"][:-1]]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def summary_table(rows: Sequence[Row]) -> Table:
    """Return the summary of the page."""
    first = rows[0]
    split, heading = first.reported.split, heading_of(first.reported.measure)
    columns = (
        _NAME,
        replace(_accuracy(_reported), name=f"{heading} on {split}", small="95 % interval"),
        replace(_COST, name=f"Average cost on {split}"),
        _speedup("Speedup over", first.reference, beside=True),
        Column(
            f"{exit_heading(first.task)} at each stage",
            lambda row: Cell(exits(row.reported), row.reported.exit_ratios[0]),
            small=f"on {split}",
        ),
    )
    return Table("Summary", columns, merged(rows), marked=lambda row: row.chosen)


def curse_table(rows: Sequence[Row]) -> Table:
    """Return the table of the winner's curse: each committee on both splits."""
    val, test = rows[0].val.split, rows[0].reported.split

    def cost(row: Row) -> Cell:
        val, test = row.val, row.reported
        small = human_cost(test.average_cost, test.unit)
        return Cell(human_cost(val.average_cost, val.unit), val.average_cost, small)

    columns = (
        _NAME,
        Column(val, lambda row: row.val.accuracy, "share", small="chose"),
        Column(test, lambda row: row.reported.accuracy, "share", small="evaluates"),
        Column("Gap", lambda row: row.gap, "points", small="points"),
        Column("Average cost", cost, small=f"{val} / {test}"),
    )
    return Table("Winner's curse", columns, merged(rows), marked=lambda row: row.chosen)


def front_table(members: Sequence[Row]) -> Table:
    """Return the whole front."""
    first = members[0]
    heading = heading_of(first.val.measure)
    val = Column(f"{heading} on {first.val.split}", lambda row: row.val.accuracy, "share")
    if first.test is None:
        accuracies = [replace(_accuracy(_val), name=val.name, small="chose")]
    else:
        own = f"{heading} on {first.test.split}"
        test = replace(_accuracy(_test), name=own, small="95 % interval")
        accuracies = [replace(val, small="chose"), test]
    unit = first.reported.unit
    columns = (
        Column("Committee", lambda row: named(row.cascade)),
        Column("Thresholds", lambda row: ", ".join(f"{t:.4g}" for t in row.cascade.thresholds)),
        *accuracies,
        Column(
            f"Average cost on {first.reported.split}",
            lambda row: row.reported.average_cost,
            "cost",
            unit,
        ),
        Column("Worst case", lambda row: row.reported.worst_case_cost, "cost", unit),
        Column("Speedup", lambda row: row.speedup, "ratio"),
    )
    return Table("The whole front", columns, members)


_val, _test, _reported = map(attrgetter, ("val", "test", "reported"))


def _accuracy(pick: Callable[[Row], Evaluation | None]) -> Column:
    def cell(each: Evaluation) -> Cell:
        return Cell(percent(each.accuracy), each.accuracy, interval(each))

    return Column("accuracy", cell).of(pick)


def _speedup(name: str = "speedup", small: str = "", beside: bool = False) -> Column:
    """Return a column of speedups; ``beside`` adds the gain over the reference of a choice."""

    def cell(row: Row) -> Cell:
        text = ""
        if beside and row.versus is not None and not row.versus.same:
            text = f"{difference(row.versus.difference)} vs {row.versus.reference}"
        return Cell(times(row.speedup), row.speedup, text)

    return Column(name, cell, small=small)


def _cost_cell(row: Row) -> Cell:
    own = row.reported
    worst = human_cost(own.worst_case_cost, own.unit)
    return Cell(human_cost(own.average_cost, own.unit), own.average_cost, worst)


_COST = Column("average cost", _cost_cell, small="worst case")
_NAME = Column(
    "Committee",
    lambda row: Cell(
        named(row.cascade), small=row.text + (", self-cascade" if row.self_cascade else "")
    ),
)
