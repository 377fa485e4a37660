"""Committees against models outside the pool: Wang et al. (2022), section 5.1, table 3, figure 1.

The paper sets cascades of ordinary networks beside those that architecture search found. Of an
outside model only a published accuracy and a cost are known, no predictions: differences are not
paired, and only mean something if it was judged on samples like those of the judging split.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from committee.errors import Unsupported
from committee.report.style import CASCADE, OUTSIDE
from committee.selection.paired import Estimate
from committee.study.base import About, Analysis, Cell, Column, Finding, Table
from committee.study.context import Judge, Judged, Reference, Study, feasible
from committee.study.drawing import finish, mark, mark_singles, plane
from committee.study.estimates import accuracy_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ABOUT = About(
    "outside_references",
    "Models from outside the pool",
    "section 5.1, table 3, figure 1",
)


@dataclass(frozen=True)
class OutsideReferences:
    """What the figure shows.

    Args:
        singles: One model an architecture, by rising cost.
        front: The best committees, by rising cost.
        references: The models from outside.
        unit: Unit of the costs.
        judge: Which split judged.
    """

    singles: tuple[Judged, ...]
    front: tuple[Judged, ...]
    references: tuple[Reference, ...]
    unit: str
    judge: Judge


def analyse(study: Study) -> Finding[OutsideReferences]:
    """Find the best committee at each outside model's cost and at its accuracy.

    Raises:
        Unsupported: If no outside model was given.
    """
    if not study.references:
        raise Unsupported("no models from outside were given; name them with --reference FILE.csv")
    unit, front = study.settings.unit, study.search()
    rows: list[tuple[Cell, ...]] = []
    wins = 0
    for each in sorted(study.references, key=lambda reference: reference.cost):
        dearest = feasible(front.at_most, each.cost)
        cheapest = feasible(front.at_least, each.accuracy)
        gain = None if dearest is None else _over(accuracy_of(dearest.test), each.accuracy)
        wins += gain is not None and gain.value > 0
        rows.append(
            (
                each.name,
                each.accuracy,
                each.cost,
                *_cells(dearest),
                gain,
                *_cells(cheapest),
                _speedup(each, cheapest),
            )
        )
    table = Table(
        "The best committee at each outside model's cost and at its accuracy",
        (
            Column("outside model"),
            Column("accuracy", "share"),
            Column("cost", "cost", unit),
            Column("at its cost"),
            Column("at its cost: accuracy", "share"),
            Column("at its cost: average cost", "cost", unit),
            Column("gain", "points"),
            Column("at its accuracy"),
            Column("at its accuracy: accuracy", "share"),
            Column("at its accuracy: average cost", "cost", unit),
            Column("speedup", "ratio"),
        ),
        tuple(rows),
        f"Figures of outside models are as given. Gains are not paired: the interval is that of "
        f"the committee on {study.judge} alone.",
    )
    told = (
        f"{wins} of {len(rows)} outside models are less accurate than the committee that costs no "
        "more.",
    )
    data = OutsideReferences(study.singles, study.front, study.references, unit, study.judge)
    return Finding(ABOUT, (table,), told, data)


def _speedup(reference: Reference, found: Judged | None) -> float | None:
    average = found.test.average_cost if found else 0.0
    return reference.cost / average if average else None


def _over(accuracy: Estimate, other: float) -> Estimate:
    return Estimate(
        accuracy.value - other, accuracy.low - other, accuracy.high - other, accuracy.samples
    )


def _cells(found: Judged | None) -> tuple[Cell, Cell, Cell]:
    if found is None:
        return (None, None, None)
    return (found.told, accuracy_of(found.test), found.test.average_cost)


def draw(data: OutsideReferences) -> Figure:
    """Single models, the front and outside models, after figure 1 of the paper.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    figure, axes, size, label = plane(data.unit, data.singles)
    points = np.array([(each.cost / size, 100 * each.accuracy) for each in data.references])
    # A front has many members; each is a dot on its line.
    front = replace(CASCADE, marker=".", size=3, order=2)
    drawn = [
        mark_singles(axes, data.singles, size),
        mark(axes, data.front, size, front, "Front of the pool", line=True),
        points,
    ]
    axes.plot(points[:, 0], points[:, 1], **OUTSIDE.points("Outside models, as given"))
    for each, (x, y) in zip(data.references, points, strict=True):
        axes.annotate(
            each.name, (x, y), xytext=(6, -10), textcoords="offset points", fontsize=8,
            color=OUTSIDE.color, parse_math=False,
        )  # fmt: skip
    finish(axes, drawn, label, data.judge, data.singles)
    return figure


ANALYSIS = Analysis(ABOUT, analyse, draw)
