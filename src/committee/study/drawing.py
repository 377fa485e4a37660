"""Drawing: the plane of accuracy against cost, and committees in rows beside single models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from committee.arrays import Array
from committee.report.point_labels import mark_at_edge, place_labels
from committee.report.scales import measure_text, range_of_interest
from committee.report.style import (
    GREY,
    SINGLE,
    Look,
    cost_axis,
    empty_figure,
    legend_above,
    log_cost,
    plain,
    plain_text,
)
from committee.report.text import named
from committee.selection.front import Committee
from committee.study.base import Entry
from committee.study.context import Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SINGLES = "Single models, with 95 % interval"


class Plane:
    """The plane of accuracy against average cost on the test split.

    Args:
        study: Which splits and which unit.
        singles: Single models to draw with their intervals and names; the study's if left out.
        unit: The unit of the cost; the study's if left out.
        axes: Where to draw; a new figure if left out.
        models: What else counts as a single model for the range of the axes.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """

    def __init__(
        self,
        study: Study,
        singles: Sequence[Committee] | None = None,
        unit: str = "",
        axes: Axes | None = None,
        models: Sequence[Committee] = (),
    ) -> None:
        self.study = study
        self.singles = study.singles if singles is None else singles
        every = [*self.singles, *models]
        costs = [each.reported.average_cost for each in every]
        self.size, self.label = cost_axis(unit or study.settings.unit, costs)
        self.axes = empty_figure().add_subplot() if axes is None else axes
        self.models = self.positions(every)
        self.others: list[Array] = []

    def positions(self, committees: Sequence[Committee]) -> Array:
        """Return where committees stand: cost and accuracy in percent, shape (P, 2)."""
        return np.array(
            [(c.reported.average_cost / self.size, 100 * c.reported.accuracy) for c in committees]
        ).reshape(-1, 2)

    def mark_singles(self, label: str = _SINGLES, line: bool = True) -> None:
        """Draw the single models; :meth:`finish` adds intervals and names."""
        if self.singles:
            points = self.models[: len(self.singles)]
            self.axes.plot(points[:, 0], points[:, 1], **SINGLE.points(label, line=line))

    def mark(
        self, committees: Sequence[Committee], look: Look, label: str, line: bool = False
    ) -> Array:
        """Draw committees and return where they stand."""
        return self.mark_points(self.positions(committees), look, label, line)

    def mark_points(self, points: Array, look: Look, label: str, line: bool = False) -> Array:
        """Draw points, shape (P, 2), and return them."""
        if len(points):
            self.axes.plot(points[:, 0], points[:, 1], **look.points(label, line))
        self.others.append(points)
        return points

    def join(self, one: Committee, other: Committee, color: str, style: str = "-") -> None:
        """Draw a thin line between two committees."""
        points = self.positions([one, other])
        self.axes.plot(*points.T, color=color, linewidth=0.8, linestyle=style, zorder=1)

    def finish(
        self,
        names: Sequence[tuple[str, float, float]] = (),
        *,
        whole: bool = False,
        bare: bool = False,
    ) -> Figure:
        """Set limits, labels and the legend, and write the names of the single models.

        What lies below the limits is marked at the lower edge, with its value.

        Args:
            names: Name and place of each other point to name.
            whole: True to show every point, however weak.
            bare: True to leave out the intervals and the names of the single models.
        """
        axes, singles = self.axes, [] if bare else self.singles
        points = np.concatenate([self.models, *self.others])
        # A committee that is one of the single models may be left out with it.
        alone = (points[:, None] == self.models).all(axis=2).any(axis=1)
        bounds = 100 * np.array([each.reported.interval for each in singles]).reshape(-1, 2)
        shown = points if whole else self.models
        axes.set_ylim(*range_of_interest(shown[:, 1], points[~alone, 1], bounds, whole=whole))
        axes.set_xlabel(self.label + log_cost(axes, points[:, 0]), parse_math=False)
        axes.set_ylabel(accuracy_label(self.study), parse_math=False)
        plain(axes)
        legend_above(axes)
        below = self._below()
        self._draw_intervals(self.models[: len(singles)], bounds)
        labels = [each.name or named(each.cascade) for each in singles]
        places = [(n, float(x), float(y)) for n, (x, y) in zip(labels, self.models, strict=False)]
        taken = place_labels(axes, [*places, *names], points)
        for color, x, y in below:
            taken.append(mark_at_edge(axes, f"{y:.1f} %", x, taken, color))
        figure: Figure = axes.figure  # type: ignore[assignment]
        return figure

    def _draw_intervals(self, points: Array, bounds: Array) -> None:
        """Draw the intervals of those single models that are in view."""
        shown = points[:, 1] >= self.axes.get_ylim()[0]
        if shown.any():
            self.axes.errorbar(
                points[shown, 0], points[shown, 1], yerr=np.abs(bounds - points[:, 1:])[shown].T,
                fmt="none", ecolor=GREY, elinewidth=0.8, capsize=2, zorder=1,
            )  # fmt: skip

    def _below(self) -> list[tuple[str, float, float]]:
        """Return colour and place of each committee below the lower limit, once each."""
        bottom = self.axes.get_ylim()[0]
        lines = [line for line in self.axes.get_lines() if line.get_label() != _SINGLES]
        points = [
            (str(line.get_color()), float(x), float(y))
            for line in lines
            if line.get_marker() not in (None, "None", "")
            for x, y in np.asarray(line.get_xydata())
            if y < bottom
        ]
        return list(dict.fromkeys(points))


def accuracy_label(study: Study) -> str:
    """Return the label of an axis of accuracy."""
    return f"{measure_text(study.measure)} on {study.test_text} (%)"


def draw_beside(
    study: Study,
    entries: Sequence[Entry],
    looks: Mapping[str, Look],
    label: str,
    title: str,
    *,
    size: float = 1.0,
    cost: Callable[[Committee], float] | None = None,
    worst: bool = False,
) -> Figure:
    """Draw a row for each single model: costs on the left, gains with intervals on the right.

    Args:
        study: Whose test split is meant.
        entries: Committees beside single models, in the order drawn.
        looks: How each kind of committee is drawn; other kinds are not.
        label: The label of the axis of costs.
        title: What stands above both panels.
        size: How many of the cost's unit make one of the axis'.
        cost: What is drawn of a committee; its average cost if left out.
        worst: True to draw lines to the worst case.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    rows: dict[str, list[tuple[str, Committee]]] = {}
    for each in entries:
        row = rows.setdefault(named(each.single.cascade), [("single model", each.single)])
        row += [(each.kind, each.committee)] if each.committee and each.kind in looks else []
    figure = empty_figure(8.6, 1.8 + 0.5 * len(rows))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1.5, 1))
    costs: list[float] = []
    seen: set[str] = set()
    for number, row in enumerate(rows.values()):
        # The marks of a row stand a little below one another, so that none hides another.
        heights = number + np.linspace(-0.25, 0.25, len(row)) if len(row) > 1 else [number]
        for (kind, committee), height in zip(row, heights, strict=True):
            look = {"single model": SINGLE, **looks}[kind]
            own = committee.reported
            here = most = (cost(committee) if cost else own.average_cost) / size
            if worst and kind != "single model":
                most = own.worst_case_cost / size
                left.plot((here, most), (height, height), color=look.color, linewidth=1)
                left.plot(most, height, color=look.color, marker="|", markersize=8)
            left.plot(here, height, **look.points("" if kind in seen else kind))
            _draw_gain(right, study, committee, row[0][1], look, float(height))
            costs += [here, most]
            seen.add(kind)
    right.axvline(0, color=GREY, linewidth=0.8, zorder=1)
    left.set_yticks(range(len(rows)), list(rows), parse_math=False)
    left.invert_yaxis()
    scale = log_cost(left, np.array(costs)[np.array(costs) > 0])
    left.set_xlabel(label + scale, parse_math=False)
    # In two lines, for the panel is narrow.
    right.set_xlabel("Accuracy over the model's\n(points, with paired 95 % interval)")
    for axes in (left, right):
        plain(axes)
    figure.suptitle(title, fontsize=10, x=0.01, ha="left", parse_math=False)
    plain_text(figure.legend(loc="outside lower center", ncols=len(seen), fontsize=8))
    return figure


def _draw_gain(
    axes: Axes, study: Study, committee: Committee, over: Committee, look: Look, height: float
) -> None:
    if committee.cascade.stages != over.cascade.stages:
        gain = study.gain(committee.cascade, over.cascade)
        ends = (100 * gain.low, 100 * gain.high)
        axes.plot(ends, (height, height), color=look.color, linewidth=1, zorder=look.order)
        axes.plot(100 * gain.value, height, **look.points())
