"""Scales: the ranges of accuracy and cost that figures and the page's chart show, with units."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from committee.arrays import Array
from committee.pool.metrics import TOP_1
from committee.report.rows import SINGLE, Report
from committee.report.style import cost_axis


@dataclass(frozen=True)
class _Scales:
    """The two axes.

    Args:
        title: Which split chose and which evaluated.
        accuracy: Label of the axis of accuracy.
        low: Least accuracy shown, in percent.
        high: Most.
        cost: Label of the axis of cost.
        size: How many of the cost's unit make one of the axis'.
        left: Least cost shown, in the axis' unit.
        right: Most.
        linear_to: Below this the axis of cost is linear, above logarithmic; 0 if it is all
            logarithmic, infinity if it is all linear.
    """

    title: str
    accuracy: str
    low: float
    high: float
    cost: str
    size: float
    left: float
    right: float
    linear_to: float


def scales_of(report: Report) -> _Scales:
    """Return the axes for a report, as the split that is reported puts its committees."""
    rows = report.rows
    singles = [row for row in rows if row.role == SINGLE]
    chosen = [row for row in rows if row.chosen]
    size, label = cost_axis(
        singles[0].reported.unit, [row.reported.average_cost for row in singles]
    )
    rest = [*chosen, *report.members, *report.ensembles]
    best = max(row.reported.accuracy for row in [*singles, *rest])
    low, high = range_of_interest(
        100 * np.array([row.reported.accuracy for row in singles]),
        100 * np.array([*(row.reported.accuracy for row in chosen), best]),
        100 * np.array([row.reported.interval for row in singles]),
        weak=1.5,
    )
    costs = np.array([row.reported.average_cost for row in [*singles, *rest]]) / size
    left, right, linear_to = range_of_cost(costs[: len(singles)], costs)
    val, test, what = rows[0].val, rows[0].test, rows[0].task.samples
    where = f"{val.split}, the split that chose" if test is None else test.split
    reported = "the same" if test is None else f"{test.split} ({test.samples:,} {what})"
    return _Scales(
        title=f"Chosen on {val.split} ({val.samples:,} {what}), evaluated on {reported}",
        accuracy=f"{measure_text(val.measure)} on {where} (%)",
        low=low,
        high=high,
        cost=label + scale_text(linear_to),
        size=size,
        left=left,
        right=right,
        linear_to=linear_to,
    )


def measure_text(measure: str) -> str:
    """Return what an axis calls a metric."""
    return "Top-1 accuracy" if measure == TOP_1.name else measure


def heading_of(measure: str) -> str:
    """Return the heading of a column of figures by a metric.

    >>> heading_of("top-1"), heading_of("agreement with big"), heading_of("mIoU")
    ('Accuracy', 'Agreement with big', 'mIoU')
    """
    if measure == TOP_1.name:
        return "Accuracy"
    return measure if measure[1:2].isupper() else measure[:1].upper() + measure[1:]


def range_of_cost(models: Array, costs: Array) -> tuple[float, float, float]:
    """Return limits of cost, and up to where it is linear: the cheapest model that costs anything.

    The last is 0 for an axis that is all logarithmic, infinity for one that is all linear.
    """
    positive = models[models > 0]
    if not positive.size:
        return 0.0, 1.0, np.inf
    if min(models.min(), costs.min()) > 0:
        return float(costs.min()) / 1.3, 1.3 * float(costs.max()), 0.0
    least = float(positive.min())
    return -0.1 * least, 1.3 * float(costs.max()), least


def scale_text(linear_to: float) -> str:
    """Return what the label of the axis adds about its scale."""
    if linear_to == np.inf:
        return ""
    return f", log scale from {linear_to:.3g}" if linear_to else ", log scale"


def range_of_interest(
    singles: Array,
    others: Array,
    intervals: Array | None = None,
    *,
    weak: float = 2.0,
    whole: bool = False,
) -> tuple[float, float]:
    """Return limits of accuracy, in percent, that a very weak single model does not stretch.

    A single model counts unless it is more than ``weak`` times as far below the median one as the
    best point is above that; everything else counts, and so do the intervals of single models that
    count.

    Args:
        singles: Accuracies of single models, shape (P,), P of 1 or more.
        others: Those of everything else, shape (Q,).
        intervals: Lower and upper ends of the intervals of the first R single models, shape (R, 2).
        weak: How much further below than above a single model may be.
        whole: True if every single model counts.

    >>> range_of_interest(np.array([50.0, 90.0, 91.0, 92.0]), np.array([80.0, 93.0]))
    (79.35, 93.65)
    """
    top = max(float(singles.max()), float(others.max(initial=0)))
    median = float(np.median(singles))
    lowest = -np.inf if whole else median - weak * (top - median)
    bottom = min(float(singles[singles >= lowest].min()), float(others.min(initial=np.inf)))
    if intervals is not None:
        shown = intervals[singles[: len(intervals)] >= bottom]
        bottom = min(bottom, float(shown.min(initial=np.inf)))
        top = max(top, float(shown.max(initial=0)))
    # Where all are alike, a range of nothing is none.
    margin = 0.05 * (top - bottom) or 0.5
    return bottom - margin, top + margin
