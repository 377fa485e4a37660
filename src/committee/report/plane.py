"""The plane of accuracy against average cost, which most figures share."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from committee.arrays import Array
from committee.report.rows import SINGLE as SINGLE_MODEL
from committee.report.rows import Report
from committee.report.text import measure_text, named
from committee.selection.front import Committee, Front
from committee.style import (
    BLACK,
    GREY,
    SINGLE,
    Axes,
    Figure,
    Look,
    cost_axis,
    empty_figure,
    plain,
    plain_text,
    scale_cost,
)

if TYPE_CHECKING:
    from matplotlib.transforms import Bbox

_SINGLES = "Single models, with 95 % interval"
_BEST = "Best single models for their cost"
# The largest marker of a legend; a larger one would reach into the next line.
_LEGEND_MARKER = 11
# Of a legend across a whole figure, in letters.
_LEGEND_WIDTH = 100


class Plane:
    """The plane of accuracy against average cost, on the split that is reported."""

    def __init__(
        self,
        singles: Sequence[Committee],
        unit: str,
        label: str,
        axes: Axes | None = None,
        models: Sequence[Committee] = (),
        conditions: str = "",
    ) -> None:
        self.singles, self.label = singles, label
        every = [*singles, *models]
        typical = [each.reported.average_cost for each in every]
        self.size, self.cost_label = cost_axis(unit, typical, conditions)
        self.axes = empty_figure().add_subplot() if axes is None else axes
        self.models = self.positions(every)
        self.others: list[Array] = []

    def positions(self, committees: Sequence[Committee]) -> Array:
        """Return where committees stand: cost and accuracy in percent, shape (P, 2)."""
        return np.array(
            [(c.reported.average_cost / self.size, 100 * c.reported.accuracy) for c in committees]
        ).reshape(-1, 2)

    def mark_singles(self, label: str = _SINGLES, line: bool = True) -> None:
        """Draw the single models; :meth:`finish` adds intervals and names.

        The line joins those that no cheaper one beats: models need not be one family.
        """
        if not self.singles:
            return
        points = self.models[: len(self.singles)]
        self.axes.plot(points[:, 0], points[:, 1], **SINGLE.points(label))
        if line:
            rising = points[np.lexsort((-points[:, 1], points[:, 0]))]
            best = rising[rising[:, 1] >= np.maximum.accumulate(rising[:, 1])]
            label = _BEST if len(best) > 1 else ""
            self.axes.plot(*best.T, color=BLACK, linewidth=0.9, zorder=1, label=label)

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
        """
        axes, singles = self.axes, [] if bare else self.singles
        points = np.concatenate([self.models, *self.others])
        # A committee that is one of the single models may be left out with it.
        alone = (points[:, None] == self.models).all(axis=2).any(axis=1)
        bounds = 100 * np.array([each.reported.interval for each in singles]).reshape(-1, 2)
        shown = points if whole else self.models
        auto = _range_of_interest(shown[:, 1], points[~alone, 1], bounds, whole=whole)
        axes.set_ylim(*(limits or auto))
        left, right, linear_to = _range_of_cost(self.models[:, 0], points[:, 0])
        scale_cost(axes, left, right, linear_to)
        axes.set_xlabel(self.cost_label + _scale_text(linear_to), parse_math=False)
        axes.set_ylabel(self.label, parse_math=False)
        plain(axes)
        _legend_above(axes)
        below = [] if limits else self._below()
        self._draw_intervals(self.models[: len(singles)], bounds)
        labels = [each.name or named(each.cascade) for each in singles]
        places = [(n, float(x), float(y)) for n, (x, y) in zip(labels, self.models, strict=False)]
        bars = np.column_stack([self.models[: len(singles), 0], bounds])
        taken = _place_labels(axes, [*places, *names], points, bars)
        for color, x, y in below:
            taken.append(_mark_at_edge(axes, f"{y:.1f} %", x, taken, color))
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


_FONT_SIZE = 8
# From the middle of a marker to its edge, in points.
_REACH = 3
# Offsets in points and alignments to try, the most welcome first.
_PLACES = (
    (7, 0, "left", "center"),
    (-7, 0, "right", "center"),
    (6, -4, "left", "top"),
    (6, 4, "left", "bottom"),
    (-6, 4, "right", "bottom"),
    (-6, -4, "right", "top"),
    (0, -14, "center", "top"),
    (0, 14, "center", "bottom"),
    (5, 9, "left", "bottom"),
    (-5, 9, "right", "bottom"),
    (5, -9, "left", "top"),
    (-5, -9, "right", "top"),
)
# What lies under a name, so that a line behind it does not cross it out.
_PAPER = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.4}
# Pixels between the points of a line that names should not cover.
_SPACING = 4
# What a name may cover at most.
_MOST_COVERED = 6


def _place_labels(
    axes: Axes, named: Sequence[tuple[str, float, float]], others: Array, bars: Array
) -> list[Bbox]:
    """Write names beside points, off one another, off points, lines and bars, and off the legend.

    A point below the lower limit is named at the lower edge, with its accuracy. A name that finds
    no place is left out, unless no cheaper model is as accurate.

    Args:
        axes: The axes.
        named: Name and place of each point.
        others: Where all points are, shape (P, 2).
        bars: Place and both ends of each upright bar, shape (B, 3).

    Returns:
        Where the legend and all texts are, in pixels.
    """
    figure: Figure = axes.figure  # type: ignore[assignment]
    figure.draw_without_rendering()
    points, lines = axes.transData.transform(others), _drawn(axes, bars)
    legend = axes.get_legend()
    taken = [] if legend is None else [legend.get_window_extent()]
    taken += [text.get_window_extent() for text in axes.texts if text.get_text()]
    best = {(x, y) for _, x, y in named if all(y > b for _, a, b in named if a < x)}
    low = axes.get_ylim()[0]
    for name, x, y in sorted(named, key=lambda each: each[1:] not in best):
        if y < low:
            taken.append(_mark_at_edge(axes, f"{name} {y:.1f} %", x, taken))
        elif box := _beside(axes, name, (x, y), points, lines, taken, (x, y) in best):
            taken.append(box)
    return taken


def _drawn(axes: Axes, bars: Array) -> Array:
    """Return points of all lines and bars, in pixels, shape (L, 2)."""
    upright = [np.array([[x, low], [x, high]]) for x, low, high in bars]
    lines = [
        np.asarray(line.get_xydata(), float)
        for line in axes.get_lines()
        if line.get_linestyle() != "None" and line.get_transform() == axes.transData
    ]
    found = [np.zeros((0, 2))]
    for each in [*upright, *lines]:
        ends = axes.transData.transform(each)
        for start, end in itertools.pairwise(ends[np.isfinite(ends).all(axis=1)]):
            steps = max(2, int(np.abs(end - start).max() / _SPACING))
            found.append(start + np.linspace(0, 1, steps)[:, None] * (end - start))
    return np.concatenate(found)


def _mark_at_edge(
    axes: Axes, text: str, x: float, taken: Sequence[Bbox], color: str = BLACK
) -> Bbox:
    """Write at the lower edge what lies below it, above other texts there; return its place."""
    label = axes.annotate(
        f"▼ {text}", (x, 0), xycoords=("data", "axes fraction"), xytext=(-3, 3),
        textcoords="offset points", fontsize=_FONT_SIZE, zorder=7, parse_math=False, color=color,
    )  # fmt: skip
    # One more text than others are there has a free place.
    for line in range(len(taken) + 1):
        label.set_position((-3, 3 + 1.4 * _FONT_SIZE * line))
        if not any(label.get_window_extent().overlaps(other) for other in taken):
            break
    return label.get_window_extent()


def _beside(
    axes: Axes,
    name: str,
    point: tuple[float, float],
    points: Array,
    lines: Array,
    taken: Sequence[Bbox],
    needed: bool,
) -> Bbox | None:
    """Write one name at the place where it covers least; returns where, None if it is left out."""
    labels = [
        axes.annotate(
            name, point, xytext=(dx, dy), textcoords="offset points", ha=ha, va=va,
            fontsize=_FONT_SIZE, zorder=7, parse_math=False, bbox=_PAPER,
        )
        for dx, dy, ha, va in _PLACES
    ]  # fmt: skip
    boxes = [label.get_window_extent() for label in labels]
    own = axes.transData.transform(point)
    covered = [_covered(axes, box, own, points, lines, taken) for box in boxes]
    best = int(np.argmin(covered))
    fits = needed or covered[best] < _MOST_COVERED
    for place, label in enumerate(labels):
        if place != best or not fits:
            label.remove()
    return boxes[best] if fits else None


def _covered(
    axes: Axes, box: Bbox, own: Array, points: Array, lines: Array, taken: Sequence[Bbox]
) -> int:
    """Return how much a name covers or confuses.

    It is 2 for each few pixels of a line, 3 for a point, 3 if another point is nearer to the name
    than its own, and 10 for each text and for reaching beyond the axes.
    """
    reach = _REACH * axes.figure.dpi / 72
    wide = box.padded(reach)
    covered, crossed = (
        int(np.all((each >= where.min) & (each <= where.max), axis=1).sum())
        for each, where in ((points, wide), (lines, box))
    )
    distances = np.hypot(*(points - np.clip(points, box.min, box.max)).T)
    distance = np.hypot(*(own - np.clip(own, box.min, box.max)))
    apart = np.hypot(*(points - own).T) > reach
    nearer = bool((distances[apart] < 1.2 * distance).any())
    within = axes.get_window_extent()
    outside = box.x0 < within.x0 or box.x1 > within.x1 or box.y0 < within.y0 or box.y1 > within.y1
    texts = sum(bool(box.overlaps(other)) for other in taken)
    return 2 * crossed + 3 * covered + 3 * nearer + 10 * texts + 10 * bool(outside)


@dataclass(frozen=True)
class _Scales:
    """The two axes."""

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
    singles = [row for row in rows if row.role == SINGLE_MODEL]
    chosen = [row for row in rows if row.chosen]
    size, label = cost_axis(
        singles[0].reported.unit,
        [row.reported.average_cost for row in singles],
        conditions_of(report.front),
    )
    rest = [*chosen, *report.members, *report.ensembles]
    best = max(row.reported.accuracy for row in [*singles, *rest])
    low, high = _range_of_interest(
        100 * np.array([row.reported.accuracy for row in singles]),
        100 * np.array([*(row.reported.accuracy for row in chosen), best]),
        100 * np.array([row.reported.interval for row in singles]),
        weak=1.5,
    )
    costs = np.array([row.reported.average_cost for row in [*singles, *rest]]) / size
    left, right, linear_to = _range_of_cost(costs[: len(singles)], costs)
    val, test, what = rows[0].val, rows[0].test, rows[0].task.samples
    where = f"{val.split}, the split that chose" if test is None else test.split
    reported = "the same" if test is None else f"{test.split} ({test.samples:,} {what})"
    return _Scales(
        title=f"Chosen on {val.split} ({val.samples:,} {what}), evaluated on {reported}",
        accuracy=f"{measure_text(val.measure)} on {where} (%)",
        low=low,
        high=high,
        cost=label + _scale_text(linear_to),
        size=size,
        left=left,
        right=right,
        linear_to=linear_to,
    )


def conditions_of(front: Front) -> str:
    """Return the first words of the conditions that all costs share, such as a processor."""
    unit = front.settings.unit
    found = {
        costs[unit].conditions
        for each in front.pool.divisions
        for costs in each.costs.costs.values()
    }
    return found.pop().partition(",")[0] if len(found) == 1 else ""


def _range_of_cost(models: Array, costs: Array) -> tuple[float, float, float]:
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


def _scale_text(linear_to: float) -> str:
    """Return what the label of the axis adds about its scale."""
    if linear_to == np.inf:
        return ""
    return f", log scale from {linear_to:.3g}" if linear_to else ", log scale"


def _range_of_interest(
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

    >>> _range_of_interest(np.array([50.0, 90.0, 91.0, 92.0]), np.array([80.0, 93.0]))
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


def _legend_above(axes: Axes) -> None:
    """Draw the legend above the axes, where it covers no point, in as many columns as fit."""
    labels = axes.get_legend_handles_labels()[1]
    widths = [len(label) + 6 for label in labels]
    one_row = sum(widths) <= _LEGEND_WIDTH
    columns = len(labels) if one_row else max(1, _LEGEND_WIDTH // max(widths))
    found = axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, fontsize=8, frameon=False,
        labelspacing=0.8,
    )  # fmt: skip
    for line in found.get_lines():
        line.set_markersize(min(line.get_markersize(), _LEGEND_MARKER))
    plain_text(found)
