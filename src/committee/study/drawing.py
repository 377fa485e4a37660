"""Drawing: the plane of accuracy against cost, which most figures of a study share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from committee.arrays import Array
from committee.report.point_labels import mark_at_edge, place_labels
from committee.report.scales import measure_told
from committee.report.style import (
    SINGLE,
    Look,
    cost_axis,
    empty_figure,
    legend_above,
    log_cost,
    plain,
)
from committee.study.context import Judge, Judged

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SINGLES = "Single models, with 95 % interval"


def plane(unit: str, singles: Sequence[Judged]) -> tuple[Figure, Axes, float, str]:
    """An empty plane for these single models.

    Returns:
        Figure, axes, how many of the cost's unit make one of the axis', and the axis' label.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    figure = empty_figure()
    size, label = cost_axis(unit, [each.test.average_cost for each in singles])
    return figure, figure.add_subplot(), size, label


def positions(committees: Sequence[Judged], size: float) -> Array:
    """Where committees stand on the judging split: cost and percent right, shape (P, 2)."""
    return np.array(
        [(each.test.average_cost / size, 100 * each.test.accuracy) for each in committees]
    ).reshape(-1, 2)


def mark(
    axes: Axes,
    committees: Sequence[Judged],
    size: float,
    look: Look,
    label: str,
    *,
    line: bool = False,
) -> Array:
    """Draw committees; returns where they stand."""
    points = positions(committees, size)
    if len(points):
        axes.plot(points[:, 0], points[:, 1], **look.points(label, line))
    return points


def mark_singles(axes: Axes, singles: Sequence[Judged], size: float) -> Array:
    """Draw single models, whose intervals :func:`finish` adds; returns where they stand."""
    points = positions(singles, size)
    axes.plot(points[:, 0], points[:, 1], **SINGLE.points(_SINGLES, line=True))
    return points


def finish(
    axes: Axes,
    drawn: Sequence[Array],
    label: str,
    judge: Judge,
    singles: Sequence[Judged] = (),
    *,
    named: Sequence[tuple[str, float, float]] = (),
    whole: bool = False,
) -> None:
    """Limits, scales, labels and legend of a plane, and the names of single models.

    What lies below the limits is marked at the lower edge, with its value.

    Args:
        axes: Where everything is drawn already.
        drawn: Points drawn, each of shape (P, 2), those of the single models first.
        label: Of the axis of cost.
        judge: Which split judged, for the axis of accuracy.
        singles: Single models to name, with their intervals; the first of ``drawn[0]``.
        named: Name and place of each other point to name.
        whole: Whether every point is shown, however weak.
    """
    points = np.concatenate(list(drawn))
    models = points if whole else drawn[0]
    # A committee that is one of the single models may be left out with it.
    alone = (points[:, None] == drawn[0]).all(axis=2).any(axis=1)
    bounds = 100 * np.array([each.test.interval for each in singles]).reshape(-1, 2)
    axes.set_ylim(*range_of_interest(models[:, 1], points[~alone, 1], bounds, whole=whole))
    told_scale = log_cost(axes, points[:, 0])
    axes.set_xlabel(label + told_scale, parse_math=False)
    axes.set_ylabel(accuracy_on(judge), parse_math=False)
    plain(axes)
    legend_above(axes)
    below = _below(axes)
    _draw_intervals(axes, drawn[0][: len(singles)], bounds)
    names = [each.name or each.told for each in singles]
    known = [(n, float(x), float(y)) for n, (x, y) in zip(names, drawn[0], strict=False)]
    figure = axes.get_figure()
    if figure is not None:
        taken = place_labels(figure.figure, axes, [*known, *named], points)
        for color, x, y in below:
            taken.append(mark_at_edge(axes, f"{y:.1f} %", x, taken, color))


def _draw_intervals(axes: Axes, points: Array, bounds: Array) -> None:
    """Intervals of single models, but for those that are not in view themselves."""
    shown = points[:, 1] >= axes.get_ylim()[0]
    if not shown.any():
        return
    errors = np.abs(bounds - points[:, 1:])[shown].T
    axes.errorbar(
        points[shown, 0], points[shown, 1], yerr=errors, fmt="none", ecolor="#888888",
        elinewidth=0.8, capsize=2, zorder=1,
    )  # fmt: skip


def _below(axes: Axes) -> list[tuple[str, float, float]]:
    """Colour and place of each marker below the lower limit, but for named single models."""
    bottom = axes.get_ylim()[0]
    lines = [line for line in axes.get_lines() if line.get_label() != _SINGLES]
    found = [
        (str(line.get_color()), float(x), float(y))
        for line in lines
        if line.get_marker() not in (None, "None", "")
        for x, y in np.asarray(line.get_xydata())
        if y < bottom
    ]
    # One committee may be the answer to several questions.
    return list(dict.fromkeys(found))


def accuracy_on(judge: Judge) -> str:
    """Label of an axis of accuracy."""
    return f"{measure_told(judge.measure)} on {judge} (%)"


def range_of_interest(
    singles: Array, others: Array, intervals: Array | None = None, *, whole: bool = False
) -> tuple[float, float]:
    """Limits of accuracy, in percent, that a very weak single model does not stretch.

    A single model counts unless it is more than twice as far below the median one as the best point
    is above that; everything else counts, and so do the intervals of single models that count.

    Args:
        singles: Accuracies of single models, shape (P,), P of 1 or more.
        others: Of everything else, shape (Q,).
        intervals: Lower and upper ends of the intervals of the first R single models, shape (R, 2).
        whole: Whether every single model counts.

    >>> range_of_interest(np.array([50.0, 90.0, 91.0, 92.0]), np.array([80.0, 93.0]))
    (79.35, 93.65)
    """
    top = max(float(singles.max()), float(others.max(initial=0)))
    median = float(np.median(singles))
    lowest = -np.inf if whole else median - 2 * (top - median)
    bottom = min(float(singles[singles >= lowest].min()), float(others.min(initial=np.inf)))
    if intervals is not None:
        shown = intervals[singles[: len(intervals)] >= bottom]
        bottom = min(bottom, float(shown.min(initial=np.inf)))
        top = max(top, float(shown.max(initial=0)))
    margin = 0.05 * (top - bottom) or 0.5
    return bottom - margin, top + margin
