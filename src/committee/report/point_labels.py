"""Labels of points, placed one by one where they cover least."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from committee.arrays import Array
from committee.report.style import BLACK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

_FONT_SIZE = 8
# From the middle of a marker to its edge, in points.
_REACH = 3
# Offsets in points and alignments to try, the most welcome first.
_PLACES = (
    (6, -4, "left", "top"),
    (6, 4, "left", "bottom"),
    (-6, 4, "right", "bottom"),
    (-6, -4, "right", "top"),
    (0, -14, "center", "top"),
    (0, 14, "center", "bottom"),
)


def place_labels(
    axes: Axes, named: Sequence[tuple[str, float, float]], others: Array
) -> list[Bbox]:
    """Write names beside points, off one another, off other points and off the legend.

    A point below the lower limit is named at the lower edge, with its accuracy.

    Args:
        axes: With its final limits.
        named: Name, x and y, in percent, of each point, in data coordinates.
        others: Points to keep off, shape (P, 2), in data coordinates.

    Returns:
        Where the legend and the names are, in pixels.
    """
    figure: Figure = axes.figure  # type: ignore[assignment]
    figure.draw_without_rendering()
    points = axes.transData.transform(others)
    legend = axes.get_legend()
    taken = [] if legend is None else [legend.get_window_extent()]
    for name, x, y in named:
        if y < axes.get_ylim()[0]:
            taken.append(mark_at_edge(axes, f"{name} {y:.1f} %", x, taken))
        else:
            taken.append(_beside(axes, name, (x, y), points, taken))
    return taken


def mark_at_edge(
    axes: Axes, text: str, x: float, taken: Sequence[Bbox], color: str = BLACK
) -> Bbox:
    """Write at the lower edge what lies below it, above other texts there.

    Args:
        axes: With its final limits.
        text: The name or value of what lies there.
        x: Its place, in data coordinates.
        taken: Where other texts are, in pixels.
        color: Of the mark and the text.

    Returns:
        Where the text is, in pixels.
    """
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
    axes: Axes, name: str, point: tuple[float, float], points: Array, taken: Sequence[Bbox]
) -> Bbox:
    """Write one name at the place where it covers least; returns where that is."""
    labels = [
        axes.annotate(
            name, point, xytext=(dx, dy), textcoords="offset points", ha=ha, va=va,
            fontsize=_FONT_SIZE, zorder=7, parse_math=False,
        )
        for dx, dy, ha, va in _PLACES
    ]  # fmt: skip
    boxes = [label.get_window_extent() for label in labels]
    best = int(np.argmin([_covered(axes, box, points, taken) for box in boxes]))
    for place, label in enumerate(labels):
        if place != best:
            label.remove()
    return boxes[best]


def _covered(axes: Axes, box: Bbox, points: Array, taken: Sequence[Bbox]) -> int:
    """Return how much a box covers: 1 a point, 10 a box, 10 for reaching beyond the axes."""
    reach = _REACH * axes.figure.dpi / 72
    wide = box.padded(reach)
    inside = int(np.all((points >= wide.min) & (points <= wide.max), axis=1).sum())
    within = axes.get_window_extent()
    outside = box.x0 < within.x0 or box.x1 > within.x1 or box.y0 < within.y0 or box.y1 > within.y1
    return inside + 10 * sum(bool(box.overlaps(other)) for other in taken) + 10 * bool(outside)
