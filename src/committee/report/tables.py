"""Tables: rows as CSV for programs and as text for people, and how numbers are written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from committee.pool.evaluate import Evaluation
from committee.report.rows import Row, merged
from committee.rule.cascade import Cascade
from committee.selection.paired import Comparison, Estimate
from committee.selection.targets import Promise
from committee.spec.task import Task
from committee.text import csv_text, digits, human_cost, percent

if TYPE_CHECKING:
    from rich.table import Table

_ON_SPLIT = (
    "split", "samples", "measure", "correct", "accuracy", "low", "high", "average_cost",
    "exit_ratios",
)  # fmt: skip


def interval(evaluation: Evaluation) -> str:
    """The 95 % interval of the accuracy, in percent.

    >>> interval(Evaluation("val", 100, 90, 1.0, 1.0, "macs", (1.0,)))
    '82.6–94.5 %'
    """
    low, high = evaluation.interval
    return f"{100 * low:.1f}–{100 * high:.1f} %"


def points(difference: float) -> str:
    """A difference of two shares of 1, in percentage points with its sign.

    >>> points(0.0123), points(-0.0123)
    ('+1.23', '−1.23')
    """
    return f"{100 * difference:+.2f}".replace("-", "−")


def times(ratio: float | None) -> str:
    """A speedup; a dash where there is none.

    >>> times(2.437), times(19.42), times(None)
    ('2.44×', '19.4×', '–')
    """
    return "–" if ratio is None else f"{digits(ratio)}×" if ratio >= 1 else f"{ratio:.2f}×"


def difference(estimate: Estimate) -> str:
    """A difference of accuracies with its 95 % interval, in percentage points.

    >>> difference(Estimate(-0.0115, -0.022, -0.001, 1999))
    '−1.15 points (−2.20 to −0.10)'
    """
    ends = f"{points(estimate.low)} to {points(estimate.high)}"
    return f"{points(estimate.value)} points ({ends})"


def saving(ratio: float | None) -> str:
    """How much cheaper, or dearer, than a reference.

    >>> saving(2.87), saving(0.5), saving(None)
    ('2.87× cheaper', '2.00× dearer', 'free')
    """
    if ratio is None:
        return "free"
    return f"{times(ratio)} cheaper" if ratio >= 1 or not ratio else f"{times(1 / ratio)} dearer"


def versus(comparison: Comparison) -> str:
    """A committee beside its reference, with what became of its promise.

    >>> less = Estimate(-0.0115, -0.022, -0.001, 1999)
    >>> versus(Comparison("a", "b", less, 2.87, "test", "samples", within=0.0))
    'vs b: −1.15 points (−2.20 to −0.10), 2.87× cheaper; promise missed'
    """
    if comparison.same:
        return f"is {comparison.reference} itself"
    told = (
        f"vs {comparison.reference}: {difference(comparison.difference)}, "
        f"{saving(comparison.saving)}"
    )
    if comparison.chose:
        return told
    outcome = {
        "kept": "promise kept",
        "missed": "promise missed",
        "within chance": "promise open",
    }
    return "; ".join(filter(None, [told, outcome.get(comparison.promise or "", "")]))


def promised(promise: Promise) -> str:
    """An accuracy or a cost that was asked for, with what became of it.

    >>> promised(Promise("accuracy", 0.9, 0.785, 0.751, 0.816, "test"))
    'asked: accuracy of 90.00 % or more; 78.50 % (75.1–81.6 %) on test: promise missed'
    """
    if promise.what == "accuracy":
        goal = f"accuracy of {percent(promise.asked)} or more"
        told = f"{percent(promise.value)} ({100 * promise.low:.1f}–{100 * promise.high:.1f} %)"
    else:
        asked, value, low, high = (
            human_cost(each, promise.unit)
            for each in (promise.asked, promise.value, promise.low, promise.high)
        )
        goal, told = f"average cost of {asked} or less", f"{value} ({low} to {high})"
    open_ = "promise open, for these samples are too few to tell"
    outcome = {"kept": "promise kept", "missed": "promise missed"}.get(promise.outcome, open_)
    return f"asked: {goal}; {told} on {promise.split}: {outcome}"


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


def exits(evaluation: Evaluation) -> str:
    """Share of samples that leave at each stage, in percent.

    >>> exits(Evaluation("val", 100, 90, 1.0, 1.0, "macs", (0.75, 0.25)))
    '75/25 %'
    """
    return shares(evaluation.exit_ratios)


def shares(ratios: Iterable[float]) -> str:
    """Shares of 1 in percent, as those of the samples that leave at each stage.

    >>> shares([0.7512, 0.2488])
    '75.1/24.9 %'
    """
    return "/".join(f"{100 * ratio:.3g}" for ratio in ratios) + " %"


def leaving(task: Task) -> str:
    """What a column of exit ratios is headed by."""
    return "Leave" if task.unit == task.sample else f"{task.units.capitalize()} that leave"


def named(cascade: Cascade) -> str:
    """The models of a committee with room to break lines.

    >>> named(Cascade.of([["a", "b"], "c"], [0.5]))
    'a + b -> c'
    """
    return " -> ".join(stages_named(cascade))


def stages_named(cascade: Cascade) -> list[str]:
    """The models of each stage, as people read them.

    Several blocks of one model's views are told together; which models are blocks the cascade
    knows where it says how its models are loaded.
    """
    return [" + ".join(_together(cascade.models, list(stage.models))) for stage in cascade.stages]


def _together(specs: Mapping[str, Mapping[str, Any]], models: list[str]) -> Iterator[str]:
    blocks = {name: _blocks(specs.get(name, {})) for name in models}
    groups: dict[str, list[str]] = {}
    for name in models:
        groups.setdefault(name.rpartition(".")[0] if blocks[name] > 1 else name, []).append(name)
    for whole, names in groups.items():
        total = blocks[names[0]]
        if len(names) == 1:
            yield names[0]
        elif len(names) == total:
            yield f"{whole} (all {total} blocks of views)"
        else:
            yield f"{whole} ({len(names)} of {total} blocks of views)"


def _blocks(spec: Mapping[str, Any]) -> int:
    views = (spec.get("preprocessing") or {}).get("views") or {}
    return int(views.get("blocks", 1))


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


__all__ = [
    "difference",
    "exits",
    "front_csv",
    "human_cost",
    "interval",
    "leaving",
    "named",
    "percent",
    "points",
    "provenance",
    "rich_table",
    "saving",
    "shares",
    "stages_named",
    "times",
    "versus",
    "versus_lines",
]
