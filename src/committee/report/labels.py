"""Labels of points: placed one by one where they cover least."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from committee.predictions import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.transforms import Bbox

_FONT_SIZE = 8
# Offsets in points and alignments to try, the most welcome first.
_PLACES = (
    (6, -4, "left", "top"),
    (6, 4, "left", "bottom"),
    (-6, 4, "right", "bottom"),
    (-6, -4, "right", "top"),
    (0, -14, "center", "top"),
    (0, 14, "center", "bottom"),
)


def place_labels(axes: Axes, named: Sequence[tuple[str, float, float]], others: Array) -> None:
    """Write names beside points, off one another, off other points and off the legend.

    A point below the lower limit is named at the lower edge, with its accuracy.

    Args:
        axes: With its final limits.
        named: Name, x and y of each point, in data coordinates.
        others: Points to keep off, shape (P, 2), in data coordinates.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None  # noqa: S101
    figure.draw_without_rendering()
    points = axes.transData.transform(others)
    legend = axes.get_legend()
    taken = [] if legend is None else [legend.get_window_extent()]
    for name, x, y in named:
        low = axes.get_ylim()[0]
        if y < low:
            taken.append(_at_edge(axes, f"▼ {name} {y:.1f} %", x))
        else:
            taken.append(_beside(axes, name, (x, y), points, taken))


def _at_edge(axes: Axes, text: str, x: float) -> Bbox:
    label = axes.annotate(
        text, (x, 0), xycoords=("data", "axes fraction"), xytext=(-3, 3),
        textcoords="offset points", fontsize=_FONT_SIZE, zorder=7, parse_math=False,
    )  # fmt: skip
    return label.get_window_extent()


def _beside(
    axes: Axes, name: str, point: tuple[float, float], points: Array, taken: Sequence[Bbox]
) -> Bbox:
    """Write one name at the place where it covers least; returns where that is."""
    best = None
    for dx, dy, ha, va in _PLACES:
        label = axes.annotate(
            name, point, xytext=(dx, dy), textcoords="offset points", ha=ha, va=va,
            fontsize=_FONT_SIZE, zorder=7, parse_math=False,
        )  # fmt: skip
        box = label.get_window_extent()
        covered = _covered(axes, box, points, taken)
        if best is None or covered < best[0]:
            if best is not None:
                best[1].remove()
            best = covered, label, box
        else:
            label.remove()
    assert best is not None  # noqa: S101
    return best[2]


def _covered(axes: Axes, box: Bbox, points: Array, taken: Sequence[Bbox]) -> float:
    """How much a box covers: points, and ten for each box and for each edge it crosses."""
    inside = np.all((points >= box.min) & (points <= box.max), axis=1).sum()
    within = axes.get_window_extent()
    outside = not (within.x0 <= box.x0 and box.x1 <= within.x1 and within.y0 <= box.y0)
    return float(inside) + 10 * sum(box.overlaps(other) for other in taken) + 10 * outside
