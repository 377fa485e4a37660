"""How figures are written for people, in tables and in sentences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median

from committee.report.text import points, times
from committee.selection.paired import Estimate
from committee.study.base import Cell, Column, Written
from committee.text import human_cost, percent

_POINTS = Column("", "points")


def cell_text(cell: Cell, column: Column) -> str:
    """A cell as people read it.

    >>> cell_text(Estimate(0.934, 0.927, 0.94, 5000), Column("accuracy", "share"))
    '93.40 % (92.7–94.0)'
    >>> cell_text(Estimate(0.005, -0.001, 0.011, 5000), Column("gain", "points"))
    '+0.50 (−0.10 to +1.10)'
    >>> cell_text(None, Column("speedup", "ratio"))
    '–'
    """
    if isinstance(cell, Estimate):
        value = cell_text(cell.value, column)
        if column.written == "share":
            return f"{value} ({100 * cell.low:.1f}–{100 * cell.high:.1f})"
        return f"{value} ({cell_text(cell.low, column)} to {cell_text(cell.high, column)})"
    if cell is None or isinstance(cell, str):
        return cell or "–"
    write: dict[Written, Callable[[float], str]] = {
        "share": percent,
        "points": points,
        "cost": lambda value: human_cost(value, column.unit),
        "ratio": times,
        "count": "{:,}".format,
    }
    return write.get(column.written, "{:.4g}".format)(cell)


def told_gain(gain: Estimate) -> str:
    """A difference of accuracies in percentage points, with its interval.

    >>> told_gain(Estimate(0.005, -0.001, 0.011, 5000))
    '+0.50 (−0.10 to +1.10)'
    """
    return cell_text(gain, _POINTS)


def told_gains(gains: Sequence[Estimate]) -> str:
    """From the smallest to the largest of several differences; one or more.

    >>> told_gains([Estimate(0.005, 0, 0.01, 9), Estimate(-0.01, -0.02, 0, 9)])
    '−1.00 to +0.50'
    """
    return _span([gain.value for gain in gains], points)


def told_ratios(ratios: Sequence[float]) -> str:
    """From the smallest to the largest of several ratios, and the median of more than two.

    Where something costs nothing there is no ratio; of none at all the dash of empty cells.

    >>> told_ratios([2.0, 1.5, 4.0])
    '1.50× to 4.00×, 2.00× in the median'
    """
    if not ratios:
        return "–"
    span = _span(ratios, times)
    return f"{span}, {times(median(ratios))} in the median" if len(ratios) > 2 else span


def _span(values: Sequence[float], write: Callable[[float], str]) -> str:
    low, high = write(min(values)), write(max(values))
    return low if low == high else f"{low} to {high}"
