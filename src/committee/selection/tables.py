"""A front for notebooks: a table, rows of a data frame, and a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from committee.errors import needing
from committee.pool.evaluate import Evaluation, evaluation_columns
from committee.pool.table import Column, Table
from committee.rule.cascade import Cascade
from committee.style import BLUE, CASCADE, SINGLE, Axes, cost_axis, legend, plain, scale_cost
from committee.text import counted, printable

# Rows of a table; of a longer front the first and the last.
_MOST_ROWS = 40

# A committee with its evaluations on the validation split and on the test split.
Evaluated = tuple[Cascade, Evaluation, Evaluation | None]


def committees_table(title: str, committees: Sequence[Evaluated], note: str = "") -> Table:
    """Return committees with their evaluations; of many the cheapest and the most accurate."""
    shown = list(committees)
    if len(shown) > _MOST_ROWS:
        half = _MOST_ROWS // 2
        shown = [*shown[:half], *shown[-half:]]
        note = f"{len(committees) - _MOST_ROWS:,} in the middle are left out. {note}".strip()
    columns = [
        Column("committee", lambda each: str(each[0])),
        Column("thresholds", lambda each: ", ".join(f"{t:.4g}" for t in each[0].thresholds)),
    ]
    for place in (1, 2):
        example = committees[0][place] if committees else None
        if isinstance(example, Evaluation):
            heading = "" if committees[0][2] is None else f" on {example.split}"
            columns += [
                Column(f"{own.name}{heading}", own.get, own.format, own.unit).of(_at(place))
                for own in evaluation_columns(example)
            ]
    return Table(title, tuple(columns), shown, note)


def _at(place: int) -> Any:
    return lambda each: each[place]


def committee_rows(committees: Sequence[Evaluated]) -> list[dict[str, Any]]:
    """Return one row a committee for a data frame, every number in full."""
    return [
        {
            "committee": str(cascade),
            "kind": cascade.kind,
            "thresholds": list(cascade.thresholds),
            **_figures(val),
            "unit": val.unit,
            **({} if test is None else {f"test_{k}": v for k, v in _figures(test).items()}),
        }
        for cascade, val, test in committees
    ]


def _figures(own: Evaluation) -> dict[str, Any]:
    low, high = own.interval
    return {
        "split": own.split,
        "samples": own.samples,
        "accuracy": own.accuracy,
        "low": low,
        "high": high,
        "average_cost": own.average_cost,
        "worst_case_cost": own.worst_case_cost,
        "exit_ratios": list(own.exit_ratios),
    }


def plotted(
    committees: Sequence[Evaluated], singles: Mapping[str, Evaluation], axes: Axes | None
) -> Axes:
    """Draw accuracy against average cost on the validation split, with 95 % intervals."""
    if axes is None:
        with needing("The figure", "matplotlib", "report"):
            from matplotlib import pyplot
        axes = pyplot.subplots(figsize=(7.2, 4.8), layout="constrained")[1]
    example = next(iter(singles.values()))
    size, label = cost_axis(example.unit, [own.average_cost for own in singles.values()])
    scale = 100 if example.is_share else 1

    def place(own: Evaluation) -> tuple[float, float]:
        return own.average_cost / size, scale * own.accuracy

    alone = np.array([place(own) for own in singles.values()])
    axes.plot(*alone.T, **SINGLE.points("Single models") | {"zorder": 6})
    for name, own in singles.items():
        axes.annotate(
            printable(name), place(own), xytext=(5, -10), textcoords="offset points", fontsize=8,
            parse_math=False,
        )  # fmt: skip
    points = np.array([place(val) for _, val, _ in committees]).reshape(-1, 2)
    low, high = scale * np.array([val.interval for _, val, _ in committees]).reshape(-1, 2).T
    # Stars of a long front would hide each other.
    look = CASCADE if len(points) <= _MOST_ROWS else replace(CASCADE, marker=".", size=4)
    axes.plot(*points.T, **look.points(f"Front: {counted(len(points), 'committee')}", line=True))
    axes.fill_between(points[:, 0], low, high, color=BLUE, alpha=0.12, linewidth=0)
    costs = np.array([*points[:, 0], *alone[:, 0]])
    linear_to = 0.0 if costs.min() > 0 else float(costs[costs > 0].min(initial=np.inf))
    scale_cost(axes, costs.min() / 1.3, 1.3 * costs.max(), linear_to)
    axes.set_xlabel(label, parse_math=False)
    what = "accuracy" if example.measure == "top-1" else example.measure
    axes.set_ylabel(f"{what} on {example.split}{' (%)' if scale == 100 else ''}", parse_math=False)
    plain(axes)
    legend(axes)
    return axes
