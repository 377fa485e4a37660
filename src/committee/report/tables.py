"""Tables: rows as CSV for programs and as text for people, and how numbers are written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from committee.pool.evaluate import Evaluation
from committee.report.rows import Row, merged
from committee.report.text import exits, interval, named, promised, times, versus
from committee.text import csv_text, human_cost, percent

if TYPE_CHECKING:
    from rich.table import Table

_ON_SPLIT = (
    "split", "samples", "measure", "correct", "accuracy", "low", "high", "average_cost",
    "exit_ratios",
)  # fmt: skip


def versus_lines(rows: Sequence[Row]) -> list[str]:
    """Each choice beside its reference, on the split that evaluates."""
    lines = []
    for row in merged(rows):
        beside = row.versus is not None and not row.versus.same
        if beside or row.promises:
            lines.append(f"{row.told}: {named(row.cascade)}")
        if row.versus is not None and beside:
            lines.append(f"  {versus(row.versus)}")
            if row.versus.chose:
                lines.append(f"  (measured on {row.versus.split}, which chose it: expect less)")
        lines += [f"  {promised(each)}" for each in row.promises]
    return lines


def front_csv(rows: Sequence[Row]) -> str:
    """Rows as CSV with a header, every number in full.

    ``stages``, ``thresholds`` and ``exit_ratios`` are JSON lists. Columns that begin with ``val_``
    stand for the split that chose, those with ``test_`` for the one that judges, empty without one;
    ``val_split`` and ``test_split`` name them.
    """
    records = map(_record, rows)
    return csv_text([_columns(), *([each.get(c, "") for c in _columns()] for each in records)])


def _columns() -> list[str]:
    what = ["role", "committee", "stages", "kind", "thresholds", "confidence", "combine"]
    splits = [f"{split}_{field}" for split in ("val", "test") for field in _ON_SPLIT]
    return [*what, *splits, "worst_case_cost", "unit", "speedup"]


def _record(row: Row) -> dict[str, Any]:
    stages = row.cascade.to_json()["stages"]
    return {
        "role": row.role,
        "committee": str(row.cascade),
        "stages": _json([stage["models"] for stage in stages]),
        "kind": row.kind,
        "thresholds": _json([stage["threshold"] for stage in stages[:-1]]),
        "confidence": row.cascade.confidence,
        "combine": row.cascade.combine,
        **_on_split("val", row.val),
        **_on_split("test", row.test),
        "worst_case_cost": row.judged.worst_case_cost,
        "unit": row.judged.unit,
        "speedup": row.speedup,
    }


def _on_split(prefix: str, evaluation: Evaluation | None) -> dict[str, Any]:
    if evaluation is None:
        return {}
    data = evaluation.to_json()
    data["low"], data["high"] = data["interval"]
    data["exit_ratios"] = _json(data["exit_ratios"])
    return {f"{prefix}_{field}": data[field] for field in _ON_SPLIT}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def provenance(rows: Sequence[Row]) -> str:
    """Which split chose, which judged, what speedups are over; ``rows`` holds one or more."""
    row = rows[0]
    what = row.task.samples
    chose = f"Committees were chosen on {row.val.split} ({row.val.samples:,} {what})"
    speedup = f"Speedup is in average cost, over {row.reference}."
    if row.test is None:
        return f"{chose}, and these figures are from it too: expect less on new data. {speedup}"
    judge = f"{row.test.split} ({row.test.samples:,} {what}), which chose nothing"
    return f"{chose}; costs and exits are of {judge}. {speedup}"


def rich_table(rows: Sequence[Row], title: str | None = None) -> Table:
    """Rows as a table that fits into 80 columns.

    Accuracy stands under the name of its split; cost, exits and speedup are those of the split that
    judges. Names of models are never read as markup.

    Args:
        rows: One or more.
        title: Stands above the table; may hold markup.
    """
    from rich.box import HORIZONTALS
    from rich.table import Table
    from rich.text import Text

    caption = Text(provenance(rows))
    table = Table(
        title=title, caption=caption, caption_justify="left", box=HORIZONTALS, show_lines=True
    )
    table.add_column("committee\nexits by stage", overflow="fold")
    for evaluation in _shown(rows[0]):
        heading = Text(f"{evaluation.split} {evaluation.measure}\n95 % interval")
        table.add_column(heading, justify="right", overflow="fold", max_width=13)
    table.add_column("average cost\nworst case", justify="right", overflow="fold")
    table.add_column("speedup", justify="right", no_wrap=True)
    for row in merged(rows):
        table.add_row(*_cells(row))
    return table


def _shown(row: Row) -> list[Evaluation]:
    return [row.val] if row.test is None else [row.val, row.test]


def _cells(row: Row) -> list[Any]:
    from rich.text import Text

    judged, unit = row.judged, row.judged.unit
    worst = human_cost(judged.worst_case_cost, unit)
    parts = "" if row.task.unit == row.task.sample else f" of {row.task.units}"
    exited = f"\n{exits(judged)}{parts}" if row.cascade.kind == "cascade" else ""
    if row.self_cascade:
        exited = f"\n{row.kind}, {exits(judged)}"
    return [
        Text.assemble((named(row.cascade), "bold"), "\n", (row.told, "dim"), exited),
        *(
            Text.assemble(percent(each.accuracy), "\n", (interval(each), "dim"))
            for each in _shown(row)
        ),
        Text.assemble(human_cost(judged.average_cost, unit), "\n", (worst, "dim")),
        times(row.speedup),
    ]
