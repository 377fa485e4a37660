"""One figure for committees that stand beside a single model: what they cost, what they gain."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from committee.report.style import GREY, SINGLE, Look, empty_figure, log_cost, plain
from committee.selection.paired import Estimate
from committee.study.context import Judged, Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


# The series of the models that committees stand beside.
SINGLE_MODEL = "single model"


@dataclass(frozen=True)
class Mark:
    """A committee beside a single model.

    Args:
        series: Which of the figure's series it belongs to.
        cost: What it costs, on the figure's axis.
        gain: Its accuracy less that of the single model, paired; None for that model itself.
        most: What it costs at worst; None where that is not shown.
    """

    series: str
    cost: float
    gain: Estimate | None = None
    most: float | None = None


@dataclass(frozen=True)
class Beside:
    """A single model and the committees that stand beside it, in the order drawn."""

    model: str
    marks: tuple[Mark, ...]


def average_cost(committee: Judged) -> float:
    """What a committee costs on average on the judging split."""
    return committee.test.average_cost


def gain_over(study: Study, committee: Judged, single: Judged) -> Estimate | None:
    """Its accuracy less that of a single model, paired; None if it is that model."""
    if committee.cascade.stages == single.cascade.stages:
        return None
    return study.gain(committee.cascade, single.cascade)


def beside(
    study: Study,
    single: Judged,
    committees: Mapping[str, Judged],
    cost: Callable[[Judged], float] = average_cost,
    worst: bool = False,
) -> Beside:
    """A row of the figure.

    Args:
        study: Whose judging split is meant.
        single: The model alone.
        committees: By series.
        cost: What is drawn of each.
        worst: Whether to draw the worst case, too.
    """
    marks = [
        Mark(
            series,
            cost(each),
            gain_over(study, each, single),
            each.test.worst_case_cost if worst else None,
        )
        for series, each in committees.items()
    ]
    return Beside(single.told, (Mark(SINGLE_MODEL, cost(single)), *marks))


def draw_beside(
    rows: Sequence[Beside], looks: Mapping[str, Look], size: float, label: str, title: str
) -> Figure:
    """A row for each single model: costs at the left, gains with their intervals at the right.

    Args:
        rows: From the top.
        looks: How each series is drawn, but for the single models.
        size: How many of the costs' unit make one of the axis'.
        label: Of the axis of costs.
        title: Above both panels.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    figure = empty_figure(8.6, 1.8 + 0.5 * len(rows))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1.5, 1))
    looks, seen = {SINGLE_MODEL: SINGLE, **looks}, set[str]()
    for number, row in enumerate(rows):
        # Marks of a row stand a little below one another, so that none hides another.
        heights = number + np.linspace(-0.25, 0.25, len(row.marks)) if len(row.marks) > 1 else [0]
        for mark, height in zip(row.marks, heights, strict=True):
            told = mark.series if mark.series not in seen else ""
            seen.add(mark.series)
            _draw(left, right, mark, looks[mark.series], (float(height), size, told))
    right.axvline(0, color=GREY, linewidth=0.8, zorder=1)
    left.set_yticks(range(len(rows)), [row.model for row in rows], parse_math=False)
    left.invert_yaxis()
    every = [each for row in rows for m in row.marks for each in (m.cost, m.most) if each]
    told_scale = log_cost(left, np.array(every) / size)
    left.set_xlabel(label + told_scale, parse_math=False)
    # In two lines, for the panel is narrow.
    right.set_xlabel("Accuracy over the model's\n(points, with paired 95 % interval)")
    for axes in (left, right):
        plain(axes)
    figure.suptitle(title, fontsize=10, x=0.01, ha="left", parse_math=False)
    drawn = figure.legend(loc="outside lower center", ncols=len(seen), fontsize=8)
    for text in drawn.get_texts():
        text.set_parse_math(False)
    return figure


def _draw(left: Axes, right: Axes, mark: Mark, look: Look, place: tuple[float, float, str]) -> None:
    height, size, told = place
    if mark.most is not None:
        ends = (mark.cost / size, mark.most / size)
        left.plot(ends, (height, height), color=look.color, linewidth=1, zorder=look.order)
        left.plot(ends[1], height, color=look.color, marker="|", markersize=8, zorder=look.order)
    left.plot(mark.cost / size, height, **look.points(told))
    if mark.gain is not None:
        value, low, high = (100 * each for each in (mark.gain.value, mark.gain.low, mark.gain.high))
        right.plot((low, high), (height, height), color=look.color, linewidth=1, zorder=look.order)
        right.plot(value, height, **look.points())
