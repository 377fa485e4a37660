"""Committees against models outside the pool: Wang et al. (2022), section 5.1, table 3, figure 1.

The paper sets cascades of ordinary networks beside those that architecture search found. Only a
published accuracy and a cost are known of a model outside the pool, no predictions: differences are
not paired, and only mean something if it was evaluated on samples like those of the test split.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

import numpy as np

from committee.errors import Unsupported
from committee.pool.intervals import Estimate
from committee.pool.table import Column, Table
from committee.selection.front import Committee
from committee.study import columns
from committee.study.base import Analysis, Finding
from committee.study.context import Reference, Study, feasible
from committee.study.drawing import plane_of
from committee.style import CASCADE, OUTSIDE, Figure


@dataclass(frozen=True)
class _Row:
    """A model outside the pool, and the best committees at its cost and at its accuracy."""

    reference: Reference
    same_cost: Committee | None
    same_accuracy: Committee | None

    @property
    def gain(self) -> Estimate | None:
        if self.same_cost is None:
            return None
        own, other = columns.accuracy_of(self.same_cost.reported), self.reference.accuracy
        return Estimate(own.value - other, own.low - other, own.high - other, own.samples)

    @property
    def speedup(self) -> float | None:
        average = self.same_accuracy.reported.average_cost if self.same_accuracy else 0.0
        return self.reference.cost / average if average else None


def _analyse(study: Study) -> Finding:
    """Find the best committee at the cost of each model outside the pool and at its accuracy."""
    if not study.references:
        raise Unsupported("no models from outside were named; name them with --reference FILE.csv")
    unit, front = study.settings.unit, study.search()
    rows = [
        _Row(each, feasible(front.at_most, each.cost), feasible(front.at_least, each.accuracy))
        for each in sorted(study.references, key=lambda reference: reference.cost)
    ]

    at_cost, at_accuracy = map(attrgetter, ("same_cost", "same_accuracy"))
    table = Table(
        "The best committee at each outside model's cost and at its accuracy",
        (
            Column("outside model", lambda row: row.reference.name),
            Column("accuracy", lambda row: row.reference.accuracy, "share"),
            Column("cost", lambda row: row.reference.cost, "cost", unit),
            columns.models("at its cost", at_cost),
            columns.accuracies("at its cost: accuracy", at_cost),
            columns.costs("at its cost: average cost", at_cost, unit),
            Column("gain", lambda row: row.gain, "points"),
            columns.models("at its accuracy", at_accuracy),
            columns.accuracies("at its accuracy: accuracy", at_accuracy),
            columns.costs("at its accuracy: average cost", at_accuracy, unit),
            Column("speedup", lambda row: row.speedup, "ratio"),
        ),
        rows,
        "Figures of outside models are as given. Gains are not paired: the interval is that of "
        f"the committee on {study.test_text} alone.",
    )
    wins = sum(row.gain is not None and row.gain.value > 0 for row in rows)
    sentence = (
        f"{wins} of {len(rows)} outside models are less accurate than the committee that costs no "
        "more."
    )
    return Finding((table,), (sentence,), data=rows)


def _draw(study: Study, data: Any) -> Figure:
    """Draw single models, the front and outside models, after figure 1 of the paper."""
    plane = plane_of(study)
    plane.mark_singles()
    # A front has many members; each is a dot on its line.
    front = replace(CASCADE, marker=".", size=3, order=2)
    plane.mark(list(study.search()), front, "Front of the pool", line=True)
    places = [(each.cost / plane.size, 100 * each.accuracy) for each in study.references]
    plane.mark_points(np.array(places), OUTSIDE, "Outside models, as given")
    for each, place in zip(study.references, places, strict=True):
        plane.axes.annotate(
            each.name, place, xytext=(6, -10), textcoords="offset points", fontsize=8,
            color=OUTSIDE.color, parse_math=False,
        )  # fmt: skip
    return plane.finish()


ANALYSIS = Analysis(
    "outside_references",
    "Models from outside the pool",
    "section 5.1, table 3, figure 1",
    _analyse,
    _draw,
)
