"""What a terminal shows of committees: the choice in a few lines, and one line for each of them.

Figures are rounded to what their 95 % interval supports; JSON and csv hold them in full.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from committee.pool.metrics import TOP_1
from committee.report.rows import CHOSEN, MEMBER, SINGLE, Row
from committee.report.tables import chosen_on, key_of, merged
from committee.report.text import (
    at_thresholds,
    figure_text,
    gap_text,
    named,
    promised,
    rough_thresholds,
    unusual_rule,
)
from committee.selection.paired import Comparison
from committee.text import (
    cost_number,
    human_cost,
    points_text,
    saving,
    times,
    unit_name,
)

# The average cost of a cascade depends on which samples exit where, so a few thousand samples
# support two digits of it.
_DIGITS = 2
# The least room for names of committees.
_NAME, _SHORT_NAME = 24, 16


def choice_lines(row: Row, other_split: str = "--test") -> list[tuple[str, str]]:
    """Return what is said first of a committee, each line with its label.

    That is what to take, what it costs and saves, how accurate it is, how sure that is, and which
    samples exit where. ``other_split`` is the command's option for another split that evaluates.
    """
    own, cascade = row.reported, row.cascade
    rule = unusual_rule(cascade)
    lines = [
        ("Choice", f"{named(cascade)}{f', {rule}' if rule else ''}{_why(row)}"),
        ("Cost", _cost(row)),
        ("Accuracy", _accuracy(row)),
    ]
    lines += _how_sure(row, other_split)
    if len(own.exit_ratios) > 1:
        by = f" of {cascade.confidence}" if cascade.confidence != "max_prob" else ""
        text = f"{_shares(row)} % of {row.task.units} by stage{at_thresholds(cascade)}{by}"
        lines.append(("Exits", text))
    return lines


def other_line(row: Row) -> tuple[str, str]:
    """Return a line on a committee that could be taken instead."""
    gain = "" if row.versus is None else f": {gap_text(row.versus.difference)}"
    return "Or", f"{named(row.cascade)}, {row.text}{gain}, {saving(row.speedup, _DIGITS)}"


def is_alternative(row: Row, choice: Row) -> bool:
    """Return True if a target picked a committee and it is not the choice."""
    return row.versus is not None and not row.versus.same and key_of(row) != key_of(choice)


def _why(row: Row) -> str:
    kind = f", a {row.kind}" if row.self_cascade else ""
    if row.role not in (CHOSEN, SINGLE):
        return f"{kind}, {row.text}"
    versus = row.versus
    beside = versus is not None and versus.within is not None and not versus.same
    return f"{kind}, in place of {row.reference}" if beside else kind


def _cost(row: Row) -> str:
    own = row.reported
    staged = len(own.exit_ratios) > 1
    average = human_cost(own.average_cost, own.unit, precision=_DIGITS if staged else 3)
    text = f"{'average ' if staged else ''}{average} per {row.task.sample}"
    if row.speedup is not None and not (row.versus is not None and row.versus.same):
        text += f", {saving(row.speedup, _DIGITS)} than {row.reference}"
    return f"{text}; worst {cost_number(own.worst_case_cost, own.unit)}" if staged else text


def _accuracy(row: Row) -> str:
    own, versus = row.reported, row.versus
    by = "" if own.measure == TOP_1.name else f" {own.measure}"
    value, ends = figure_text(own)
    percent = " %" if own.is_share else ""
    text = f"{value}{percent}{by} ({ends}) on {own.split}"
    if versus is None or versus.same:
        return text
    return f"{text}; {gap_text(versus.difference)} vs {versus.reference}"


def _how_sure(row: Row, other_split: str) -> list[tuple[str, str]]:
    """Return what these samples can tell of the choice; nothing if a certificate says more."""
    versus, split = row.versus, row.reported.split
    if row.cascade.is_certified:
        return []
    if versus is not None and versus.chose:
        unknown = (
            f"not known: {split} chose it, so expect less on new data. No other split evaluates "
            f"it; name one with {other_split}"
        )
        return [("How sure", unknown)]
    lines = [("Asked", promised(each).removeprefix("asked: ")) for each in row.promises]
    if versus is not None and not versus.same:
        lines += [("How sure", each) for each in _compared(versus)]
    return lines


def _compared(versus: Comparison) -> list[str]:
    gap, other = versus.difference, versus.reference
    these = f"{gap.samples:,} {versus.samples}"
    margin = points_text(100 * versus.within) if versus.within else ""
    if versus.promise == "kept":
        lies = f"within {margin} of" if margin else "not below"
        return [f"kept on {versus.split}: the 95 % interval lies {lies} {other}"]
    if versus.promise == "missed":
        by = f" by more than {margin}" if margin else ""
        return [f"missed on {versus.split}: it is less accurate than {other}{by}"]
    if versus.promise is not None:
        holds = f"is within {margin} of" if margin else "matches"
        return [f"open: {these} cannot tell whether it {holds} {other}"]
    if gap.low <= 0 <= gap.high:
        return [f"{these} cannot tell it from {other}"]
    return []


@dataclass(frozen=True)
class _Column:
    """A column of the table: heading, cell, and how soon it gives way to names."""

    name: str
    cell: Callable[[Row], str]
    gives_way: int

    def width(self, rows: Sequence[Row]) -> int:
        return max(len(self.name), *(len(self.cell(row)) for row in rows))


def committee_table(
    rows: Sequence[Row], choice: Row | None, width: int, details: bool = False
) -> Table:
    """Return a table of one line a committee, the choice with an arrow.

    Args:
        rows: What it shows; two rows of one committee become one.
        choice: The choice among them, or None.
        width: Characters of a line. Where names lack room, columns are left out.
        details: Say of each cascade where samples exit and at which thresholds, if need be in
            place of other columns.
    """
    rows = merged(rows)
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="")
    every = [*_columns(rows[0], details), *(_details(rows) if details else [])]
    columns = _fitting(every, rows, width)
    room = width - sum(each.width(rows) + 2 for each in columns)
    table.add_column("committee", overflow="fold")
    for column in columns:
        table.add_column(column.name, justify="right", no_wrap=True)
    for row in rows:
        chosen = choice is not None and key_of(row) == key_of(choice)
        name = f"{'> ' if chosen else '  '}{_label(row, room - 2, details)}"
        cells = [Text(column.cell(row)) for column in columns]
        table.add_row(Text(name), *cells, style="bold" if chosen else "")
    return table


def headings_text(row: Row) -> str:
    """Return what the columns of a table with this row hold."""
    own = row.reported
    by = own.measure if own.measure[1:2].isupper() else own.measure.capitalize()
    by += " in %" if own.is_share else ""
    speedup = "" if row.speedup is None else f"; speedup over {row.reference}"
    return f"{by}, {unit_name(own.unit)} per {row.task.sample}{speedup}."


def caption_of(rows: Sequence[Row]) -> str:
    """Return what the columns of a table hold, and which split chose its committees."""
    first, chose = rows[0], chosen_on(rows)
    if first.test is None:
        return f"{headings_text(first)} {chose}, and these figures are from it too."
    on = f"{first.test.split} ({first.test.samples:,} {first.task.samples})"
    return f"{headings_text(first)} {chose}; costs are of {on}, which chose nothing."


def _columns(first: Row, details: bool) -> list[_Column]:
    def cost(row: Row, value: float, staged: bool) -> str:
        return cost_number(value, row.reported.unit, precision=_DIGITS if staged else 3)

    def staged(row: Row) -> bool:
        return len(row.reported.exit_ratios) > 1

    speedup = _Column("speedup", lambda row: times(row.speedup, _DIGITS), 5 if details else 2)
    val = _Column(first.val.split, lambda row: figure_text(row.val)[0], 6)
    return [
        *([] if first.test is None else [val]),
        _Column(first.reported.split, lambda row: figure_text(row.reported)[0], 0),
        _Column("95 %", lambda row: figure_text(row.reported)[1], 3),
        _Column("average", lambda row: cost(row, row.reported.average_cost, staged(row)), 1),
        _Column("worst", lambda row: cost(row, row.reported.worst_case_cost, False), 7),
        *([] if first.speedup is None else [speedup]),
    ]


def _details(rows: Sequence[Row]) -> list[_Column]:
    """Return the columns that say how the cascades of a front decide."""

    def exits(row: Row) -> str:
        return _shares(row) if len(row.reported.exit_ratios) > 1 else ""

    def rule(row: Row) -> str:
        return re.sub(r"(combined|scored) by ", "", unusual_rule(row.cascade))

    rules = _Column("rule", rule, 1)
    return [
        _Column("exits, %", exits, 2),
        _Column("thresholds", lambda row: rough_thresholds(row.cascade), 4),
        *([rules] if any(map(rules.cell, rows)) else []),
    ]


def _shares(row: Row) -> str:
    return "/".join(f"{100 * share:.2g}" for share in row.reported.exit_ratios)


def _fitting(columns: list[_Column], rows: Sequence[Row], width: int) -> list[_Column]:
    """Return the columns that leave names some room, without those that give way first."""
    longest = 2 + max(len(named(row.cascade)) for row in rows)
    least = min(longest, _NAME if width >= 60 else _SHORT_NAME)
    while len(columns) > 1 and least + sum(c.width(rows) + 2 for c in columns) > width:
        first = max(columns, key=lambda each: each.gives_way)
        columns = [each for each in columns if each is not first]
    return columns


def _label(row: Row, room: int, whole: bool) -> str:
    """Return the name of a committee, or what it stands for if that is shorter."""
    name = named(row.cascade)
    short = row.role not in (SINGLE, MEMBER) and len(name) > room and not whole
    return row.text if short else name
