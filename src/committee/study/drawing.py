"""Drawing: the plane of accuracy against cost, which most figures of a study share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from committee.predictions import Array
from committee.report.labels import place_labels
from committee.report.scales import measure_told
from committee.report.style import SINGLE, Look, cost_axis, empty_figure, legend, log_cost, plain
from committee.study.context import Judge, Judged

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


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
    """Draw single models with their intervals; returns where they stand."""
    points = positions(singles, size)
    bounds = 100 * np.array([each.test.interval for each in singles])
    errors = np.abs(bounds - points[:, 1:]).T
    axes.errorbar(
        points[:, 0], points[:, 1], yerr=errors, fmt="none", ecolor="#888888", elinewidth=0.8,
        capsize=2, zorder=1,
    )  # fmt: skip
    axes.plot(
        points[:, 0], points[:, 1], **SINGLE.points("Single models, with 95 % interval", line=True)
    )
    return points


def finish(
    axes: Axes,
    drawn: Sequence[Array],
    label: str,
    judge: Judge,
    singles: Sequence[Judged] = (),
    *,
    whole: bool = False,
) -> None:
    """Limits, scales, labels and legend of a plane, and the names of single models.

    Args:
        axes: Where everything is drawn already.
        drawn: Points drawn, each of shape (P, 2), those of the single models first.
        label: Of the axis of cost.
        judge: Which split judged, for the axis of accuracy.
        singles: Single models to name.
        whole: Whether every point is shown, however weak.
    """
    points = np.concatenate(list(drawn))
    accuracy = points[:, 1]
    known = accuracy if whole else drawn[0][:, 1]
    axes.set_ylim(*range_of_interest(known, accuracy, whole=whole))
    log_cost(axes, points[:, 0])
    axes.set_xlabel(label, parse_math=False)
    axes.set_ylabel(accuracy_on(judge), parse_math=False)
    plain(axes)
    legend(axes)
    names = [each.name or each.told for each in singles]
    named = [(n, float(x), float(y)) for n, (x, y) in zip(names, drawn[0], strict=False)]
    figure = axes.get_figure()
    if named and figure is not None:
        place_labels(figure.figure, axes, named, points)


def accuracy_on(judge: Judge) -> str:
    """Label of an axis of accuracy."""
    return f"{measure_told(judge.measure)} on {judge} (%)"


def range_of_interest(singles: Array, others: Array, *, whole: bool = False) -> tuple[float, float]:
    """Limits of accuracy, in percent, that a very weak model does not stretch.

    A single model counts unless it is more than twice as far below the median one as the best point
    is above that; of the others, all that are above the weakest that counts.

    Args:
        singles: Accuracies of single models, shape (P,), P of 1 or more.
        others: Of everything else, shape (Q,).
        whole: Whether every single model counts.

    >>> range_of_interest(np.array([50.0, 90.0, 91.0, 92.0]), np.array([60.0, 93.0]))
    (89.85, 93.15)
    """
    top = max(float(singles.max()), float(others.max(initial=0)))
    median = float(np.median(singles))
    lowest = -np.inf if whole else median - 2 * (top - median)
    bottom = float(singles[singles >= lowest].min())
    margin = 0.05 * (top - bottom) or 0.5
    return bottom - margin, top + margin
