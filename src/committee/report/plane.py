"""The plane of accuracy against average cost, which most figures share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from committee.arrays import Array
from committee.report.point_labels import mark_at_edge, place_labels
from committee.report.scales import range_of_cost, range_of_interest, scale_text
from committee.report.style import (
    GREY,
    SINGLE,
    Axes,
    Figure,
    Look,
    cost_axis,
    empty_figure,
    legend_above,
    plain,
    scale_cost,
)
from committee.report.text import named
from committee.selection.front import Committee

_SINGLES = "Single models, with 95 % interval"


class Plane:
    """The plane of accuracy against average cost, on the split that is reported.

    Args:
        singles: Single models to draw with their intervals and names.
        unit: The unit of the cost.
        label: The label of the axis of accuracy.
        axes: Where to draw; a new figure if left out.
        models: What else counts as a single model for the range of the axes.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """

    def __init__(
        self,
        singles: Sequence[Committee],
        unit: str,
        label: str,
        axes: Axes | None = None,
        models: Sequence[Committee] = (),
    ) -> None:
        self.singles, self.label = singles, label
        every = [*singles, *models]
        self.size, self.cost_label = cost_axis(unit, [e.reported.average_cost for e in every])
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
        limits: tuple[float, float] | None = None,
    ) -> Figure:
        """Set limits, labels and the legend, and write the names of the single models.

        What lies below the limits is marked at the lower edge, with its value.

        Args:
            names: Name and place of each other point to name.
            whole: True to show every point, however weak.
            bare: True to leave out the intervals and the names of the single models.
            limits: Limits of accuracy in percent, where the caller marks what lies below.
        """
        axes, singles = self.axes, [] if bare else self.singles
        points = np.concatenate([self.models, *self.others])
        # A committee that is one of the single models may be left out with it.
        alone = (points[:, None] == self.models).all(axis=2).any(axis=1)
        bounds = 100 * np.array([each.reported.interval for each in singles]).reshape(-1, 2)
        shown = points if whole else self.models
        auto = range_of_interest(shown[:, 1], points[~alone, 1], bounds, whole=whole)
        axes.set_ylim(*(limits or auto))
        left, right, linear_to = range_of_cost(self.models[:, 0], points[:, 0])
        scale_cost(axes, left, right, linear_to)
        axes.set_xlabel(self.cost_label + scale_text(linear_to), parse_math=False)
        axes.set_ylabel(self.label, parse_math=False)
        plain(axes)
        legend_above(axes)
        below = [] if limits else self._below()
        self._draw_intervals(self.models[: len(singles)], bounds)
        labels = [each.name or named(each.cascade) for each in singles]
        places = [(n, float(x), float(y)) for n, (x, y) in zip(labels, self.models, strict=False)]
        taken = place_labels(axes, [*places, *names], points)
        for color, x, y in below:
            taken.append(mark_at_edge(axes, f"{y:.1f} %", x, taken, color))
        return self.figure

    @property
    def figure(self) -> Figure:
        """The figure of the axes."""
        figure: Figure = self.axes.figure  # type: ignore[assignment]
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
