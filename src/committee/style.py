"""Style: how single models, ensembles and cascades look in every figure, and the axis of cost.

Colours are Okabe and Ito's. Each kind has a marker and a line of its own too, so that a figure can
be read in grey.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from committee.errors import needing

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure
    import matplotlib.legend

    Axes: TypeAlias = matplotlib.axes.Axes
    Figure: TypeAlias = matplotlib.figure.Figure
    Legend: TypeAlias = matplotlib.legend.Legend
else:
    # Names for annotations in every module that draws; matplotlib itself is imported when needed.
    Axes = Figure = Legend = Any

BLACK, ORANGE, BLUE, VERMILION = "#000000", "#E69F00", "#0072B2", "#D55E00"
GREEN, SKY, PURPLE, GREY = "#009E73", "#56B4E9", "#CC79A7", "#888888"

Place = Literal["lower right", "lower left", "upper right", "upper left", "best"]

COUNTS = ((1e9, "billions"), (1e6, "millions"), (1e3, "thousands"))
# Where costs differ by more than this, the axis marks powers of ten alone.
_WIDE = 1000
# Marks in each power of ten, if one of the first gives too few.
_STEPS = ((1.0,), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 5.0, 7.0))
_TICKS = 4
QUANTITIES = {
    "macs": "multiply-adds per sample",
    "latency_ms": "latency per sample (ms)",
    "ms_per_sample": "time per sample, in batches (ms)",
}


@dataclass(frozen=True)
class Look:
    """How one kind of thing is drawn."""

    color: str
    marker: str
    size: float
    line: str
    order: float

    def points(self, label: str = "", line: bool = False) -> dict[str, Any]:
        """Return arguments for ``axes.plot``: markers, joined by a line if ``line``."""
        return {
            "color": self.color,
            "marker": self.marker,
            "markersize": self.size,
            "markeredgecolor": BLACK,
            "markeredgewidth": 0.4,
            "linestyle": self.line if line else "none",
            "linewidth": 0.9,
            "zorder": self.order,
            "label": label or None,
        }


SINGLE = Look(BLACK, "o", 5, "-", 4)
ENSEMBLE = Look(ORANGE, "s", 5.5, "--", 3)
CASCADE = Look(BLUE, "*", 9, "-", 5)
OUTSIDE = Look(GREEN, "^", 7, ":", 6)
# Further series of one figure, told apart by colour, marker and line.
SERIES = (
    Look(BLUE, "*", 8, "-", 3),
    Look(VERMILION, "P", 6, "--", 3),
    Look(GREEN, "^", 6, "-.", 3),
    Look(PURPLE, "D", 5, ":", 3),
    Look(ORANGE, "s", 5, (0, (5, 1)), 3),  # type: ignore[arg-type]  # matplotlib takes both
    Look(SKY, "v", 6, "-", 3),
    Look(BLACK, "x", 6, "--", 3),
    Look(GREY, "o", 5, "-.", 3),
)


def empty_figure(width: float = 7.2, height: float = 4.8) -> Figure:
    """Return a figure without axes, its size in inches."""
    with needing("The figure", "matplotlib", "report"):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    figure = Figure(figsize=(width, height), layout="constrained")
    # This canvas keeps its renderer; others make one for each text that is measured.
    FigureCanvasAgg(figure)
    return figure


def cost_axis(unit: str, typical: Sequence[float], conditions: str = "") -> tuple[float, str]:
    """Return how many of the cost's unit make one of the axis', and the label of the axis.

    The median of ``typical`` decides between thousands, millions and billions. ``conditions``
    stand beside milliseconds of the user's.
    """
    quantity = QUANTITIES.get(unit, f"{unit} per sample")
    if unit not in QUANTITIES and unit.endswith("_ms"):
        quantity = f"time per sample (ms, {conditions or unit})"
    if unit != "macs":
        return 1.0, f"Average {quantity}"
    middle = float(np.median(typical))
    for size, word in COUNTS:
        if middle >= size:
            return size, f"Average {quantity} ({word})"
    return 1.0, f"Average {quantity}"


def scale_cost(axes: Axes, left: float, right: float, linear_to: float = 0.0) -> None:
    """Scale the axis of cost, logarithmic above ``linear_to``, and label it with plain numbers.

    ``linear_to`` is 0 if all is logarithmic, infinity if all is linear.
    """
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    if linear_to == np.inf:
        return
    least = linear_to or left
    ticks = _cost_ticks(least, right)
    if linear_to:
        axes.set_xscale("symlog", linthresh=least)
        ticks = [0.0, *ticks]
    else:
        axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.set_xlim(left, right)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _cost_ticks(least: float, right: float) -> list[float]:
    """Return round costs to mark on a logarithmic axis: the fewest that show its scale."""
    from matplotlib.ticker import LogLocator, MaxNLocator

    for steps in _STEPS if right > _WIDE * least else _STEPS[1:]:
        values = np.asarray(LogLocator(subs=steps, numticks=20).tick_values(least, right))
        shown: list[float] = values[(values >= least) & (values <= right)].tolist()
        if len(shown) >= _TICKS:
            return shown
    values = np.asarray(MaxNLocator(6).tick_values(least, right))
    return [float(each) for each in values if least <= each <= right]


def plain(axes: Axes, title: str = "") -> None:
    """Draw the frame that all figures share: a light grid, no box, the title at the left."""
    if title:
        axes.set_title(title, fontsize=10, loc="left", parse_math=False)
    axes.grid(True, which="major", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def legend(axes: Axes, place: Place = "lower right") -> None:
    """Draw a small legend at a place, as matplotlib names it."""
    plain_text(axes.legend(loc=place, fontsize=8, framealpha=0.9))


def plain_text(legend: Legend) -> None:
    """Keep the names in a legend from being read as mathematics."""
    for text in legend.get_texts():
        text.set_parse_math(False)
