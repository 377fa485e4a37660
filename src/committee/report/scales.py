"""Scales: what of accuracy and cost the figure and the page's chart show, and in which unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from committee.arrays import Array
from committee.pool.evaluate import Evaluation
from committee.pool.metrics import TOP_1
from committee.report.rows import SINGLE, Row
from committee.report.style import cost_axis


@dataclass(frozen=True)
class Points:
    """Points to draw, each field of shape (P,): cost in the axis' unit, the others in percent."""

    cost: Array
    accuracy: Array
    low: Array
    high: Array

    @classmethod
    def of(cls, evaluations: Sequence[Evaluation], size: float) -> Points:
        """Points where evaluations put them; ``size`` as in :class:`Scales`."""
        bounds = np.array([e.interval for e in evaluations]).reshape(-1, 2)
        cost = np.array([e.average_cost for e in evaluations]) / size
        accuracy = np.array([e.accuracy for e in evaluations])
        return cls(cost, 100 * accuracy, 100 * bounds[:, 0], 100 * bounds[:, 1])


@dataclass(frozen=True)
class Scales:
    """The two axes.

    Args:
        title: What chose and what judged.
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


def scales_of(rows: Sequence[Row], others: Sequence[Row]) -> Scales:
    """The axes for a summary and for other rows, as the split that judges puts them all.

    Args:
        rows: From :func:`committee.report.summary`.
        others: Members of the front, ensembles.
    """
    singles = [row for row in rows if row.role == SINGLE]
    size, label = cost_axis(singles[0].judged.unit, [r.judged.average_cost for r in singles])
    models = Points.of([row.judged for row in singles], size)
    chosen = [row for row in rows if row.chosen]
    rest = Points.of([row.judged for row in [*chosen, *others]], size)
    most = rest.accuracy.max(initial=0)
    low, high = range_of_interest(
        models.accuracy,
        np.append(rest.accuracy[: len(chosen)], most),
        np.stack([models.low, models.high], axis=1),
        weak=1.5,
    )
    left, right, linear_to = _range_of_cost(models.cost, np.append(models.cost, rest.cost))
    val, test = rows[0].val, rows[0].test
    where = f"{val.split}, the split that chose" if test is None else test.split
    what = rows[0].task.samples
    judged = "the same" if test is None else f"{test.split} ({test.samples:,} {what})"
    return Scales(
        title=f"Chosen on {val.split} ({val.samples:,} {what}), evaluated on {judged}",
        accuracy=f"{measure_text(val.measure)} on {where} (%)",
        low=low,
        high=high,
        cost=label + _told_scale(linear_to),
        size=size,
        left=left,
        right=right,
        linear_to=linear_to,
    )


def measure_text(measure: str) -> str:
    """What an axis calls a measure of evaluations."""
    return "Top-1 accuracy" if measure == TOP_1.name else measure


def heading_of(measure: str) -> str:
    """What a column of figures is headed by.

    >>> heading_of("top-1"), heading_of("agreement with big"), heading_of("mIoU")
    ('Accuracy', 'Agreement with big', 'mIoU')
    """
    if measure == TOP_1.name:
        return "Accuracy"
    return measure if measure[1:2].isupper() else measure[:1].upper() + measure[1:]


def _range_of_cost(models: Array, costs: Array) -> tuple[float, float, float]:
    """Limits of cost, and up to where it is linear: to the cheapest model that costs anything."""
    positive = models[models > 0]
    if not positive.size:
        return 0.0, 1.0, np.inf
    if models.min() > 0:
        return float(costs.min()) / 1.3, 1.3 * float(costs.max()), 0.0
    least = float(positive.min())
    return -0.1 * least, 1.3 * float(costs.max()), least


def _told_scale(linear_to: float) -> str:
    """What the axis says of its scale."""
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
