"""Figure: accuracy against average cost, of single models, ensembles and the front."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from committee.errors import MissingExtraError
from committee.evaluate import Evaluation, evaluate
from committee.files import write_bytes
from committee.pool import Pool
from committee.predictions import Array
from committee.report.labels import place_labels
from committee.report.rows import SINGLE, Row, front_rows, matches, summary
from committee.report.tables import times
from committee.search import Front, ensembles
from committee.search.front import front_of
from committee.utility import TOP_1

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours; each kind has a marker of its own too, for print in grey.
_BLACK, _ORANGE, _BLUE, _VERMILION = "#000000", "#E69F00", "#0072B2", "#D55E00"
_SALT = "committee"
_DPI = 200
# With more members than this, each is a dot on the line and no longer a star.
_STARS = 40

_COUNTS = ((1e9, "billions"), (1e6, "millions"), (1e3, "thousands"))
_QUANTITIES = {
    "macs": "multiply-adds per sample",
    "latency_ms": "latency per sample (ms)",
    "ms_per_sample": "time per sample, in batches (ms)",
}


@dataclass(frozen=True)
class _Points:
    """Points to draw, each field of shape (P,): cost in the axis' unit, the others in percent."""

    cost: Array
    accuracy: Array
    low: Array
    high: Array

    @classmethod
    def of(cls, evaluations: Sequence[Evaluation], size: float) -> _Points:
        bounds = np.array([e.interval for e in evaluations]).reshape(-1, 2)
        cost = np.array([e.average_cost for e in evaluations]) / size
        accuracy = np.array([e.accuracy for e in evaluations])
        return cls(cost, 100 * accuracy, 100 * bounds[:, 0], 100 * bounds[:, 1])


def front_figure(
    front: Front,
    test: Pool | None = None,
    reference: str | None = None,
    *,
    members: Sequence[Row] | None = None,
) -> Figure:
    """Draw accuracy against average cost, after figure 1 of Wang et al. (2022).

    Committees stand where the judging split puts them, whatever split chose them; without a judging
    split the axis says that the choosing one is shown. Members of the front are joined in the order
    of their cost on the choosing split. A single model or an ensemble too weak for the range is
    marked at the lower edge.

    Args:
        front: Committees found on the choosing split.
        test: The pool on a split that chose nothing, or None.
        reference: A model of the pool; the most costly one if left out.
        members: What :func:`front_rows` gave for the same front and split, to save time.

    Raises:
        MissingExtraError: If matplotlib is not installed.
        UnknownNameError, MisalignedError, CostError: As of :func:`summary`.
    """
    figure = _empty_figure()
    rows = summary(front, test, reference)
    members = front_rows(front, test, reference) if members is None else members
    singles = [row for row in rows if row.role == SINGLE]
    size, label = _axis(singles)
    axes = figure.add_subplot()
    drawn = [
        _draw_singles(axes, singles, size),
        _draw_ensembles(axes, front, test, size),
        _draw_front(axes, members, size),
        _draw_chosen(axes, rows, size),
    ]
    _finish(axes, drawn, rows[0], label)
    _mark_below(axes, drawn[1])
    _arrow(axes, rows, size)
    place_labels(figure, axes, _named_points(singles, size), _corners(drawn))
    return figure


def figure_svg(figure: Figure) -> str:
    """A figure as SVG text; the same figure always gives the same text."""
    from matplotlib import rc_context

    text = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with rc_context({"svg.hashsalt": _SALT, "svg.fonttype": "path"}):
        figure.savefig(text, format="svg", metadata=nothing)
    return text.getvalue()


def save_figure(figure: Figure, path: str | Path) -> tuple[Path, Path]:
    """Write ``path`` + ``.png``, at 200 dots an inch, and ``path`` + ``.svg``.

    Args:
        figure: From :func:`front_figure`.
        path: Without a suffix.

    Returns:
        The two files.
    """
    path = Path(path)
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=_DPI)
    return (
        write_bytes(path.with_name(path.name + ".png"), image.getvalue()),
        write_bytes(path.with_name(path.name + ".svg"), figure_svg(figure).encode()),
    )


def _empty_figure() -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError.of("The figure", "matplotlib", "report") from None
    return Figure(figsize=(7.2, 4.8), layout="constrained")


def _axis(singles: Sequence[Row]) -> tuple[float, str]:
    """How many of the cost's unit make one of the axis', and the label of the axis."""
    unit = singles[0].judged.unit
    quantity = _QUANTITIES.get(unit, f"{unit} per sample")
    if unit != "macs":
        return 1.0, f"Average {quantity}"
    middle = float(np.median([row.judged.average_cost for row in singles]))
    for size, word in _COUNTS:
        if middle >= size:
            return size, f"Average {quantity} ({word})"
    return 1.0, f"Average {quantity}"


def _draw_singles(axes: Axes, singles: Sequence[Row], size: float) -> _Points:
    points = _Points.of([row.judged for row in singles], size)
    errors = np.stack([points.accuracy - points.low, points.high - points.accuracy])
    axes.errorbar(
        points.cost, points.accuracy, yerr=errors, color=_BLACK, ecolor="#888888",
        elinewidth=0.8, capsize=2, linewidth=0.7, marker="o", markersize=5, zorder=4,
        label="Single models, with 95 % interval",
    )  # fmt: skip
    return points


def _draw_ensembles(axes: Axes, front: Front, test: Pool | None, size: float) -> _Points:
    """Ensembles that no other ensemble beat on the choosing split, as the judging one puts them."""
    settings = front.settings
    found = ensembles(
        front.pool,
        settings.max_models,
        settings.combine,
        settings.unit,
        families=settings.families,
    )
    best = front_of(found) if found else ()
    judge = front.pool if test is None else test
    points = _Points.of([evaluate(c.cascade, judge, settings.unit) for c in best], size)
    if best:
        axes.plot(
            points.cost, points.accuracy, linestyle="none", marker="s", markersize=5.5,
            color=_ORANGE, markeredgecolor=_BLACK, markeredgewidth=0.5, zorder=3,
            label="Best ensembles",
        )  # fmt: skip
    return points


def _draw_front(axes: Axes, members: Sequence[Row], size: float) -> _Points:
    points = _Points.of([row.judged for row in members], size)
    many = len(members) > _STARS
    plural = "committee" if len(members) == 1 else "committees"
    axes.plot(
        points.cost, points.accuracy, color=_BLUE, linewidth=0.7, zorder=2,
        marker="." if many else "*", markersize=3 if many else 8, markeredgewidth=0,
        label=f"Front: {len(members)} {plural}",
    )  # fmt: skip
    return points


def _draw_chosen(axes: Axes, rows: Sequence[Row], size: float) -> _Points:
    chosen = [row for row in rows if row.chosen]
    points = _Points.of([row.judged for row in chosen], size)
    for row, cost, accuracy in zip(chosen, points.cost, points.accuracy, strict=True):
        star = row.role == matches(row.reference)
        axes.plot(
            cost, accuracy, linestyle="none", marker="*" if star else "P",
            markersize=13 if star else 9, color=_VERMILION, markeredgecolor=_BLACK,
            markeredgewidth=0.7, zorder=6, label=row.role[0].upper() + row.role[1:],
        )  # fmt: skip
    return points


def _finish(axes: Axes, drawn: Sequence[_Points], row: Row, label: str) -> None:
    val, test = row.val, row.test
    where = f"{val.split}, the split that chose" if test is None else test.split
    judged = "the same" if test is None else f"{test.split} ({test.samples:,} samples)"
    axes.set_title(
        f"Chosen on {val.split} ({val.samples:,} samples), judged on {judged}",
        fontsize=10, loc="left", parse_math=False,
    )  # fmt: skip
    measure = "Top-1 accuracy" if val.measure == TOP_1.name else val.measure
    axes.set_ylabel(f"{measure} on {where} (%)", parse_math=False)
    axes.set_ylim(*_range_of_interest(drawn))
    _scale_cost(axes, drawn)
    axes.set_xlabel(label + _told_scale(drawn[0].cost), parse_math=False)
    axes.grid(True, which="major", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    _legend(axes)


def _legend(axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    # Matplotlib lists points with error bars last; single models come first.
    legend = axes.legend(
        handles[-1:] + handles[:-1], labels[-1:] + labels[:-1],
        loc="lower right", fontsize=8, framealpha=0.9,
    )  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)


def _scale_cost(axes: Axes, drawn: Sequence[_Points]) -> None:
    """A logarithmic axis; below the cheapest model that costs anything linear, if one is free."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

    costs = np.concatenate([points.cost for points in drawn])
    positive = drawn[0].cost[drawn[0].cost > 0]
    if not positive.size:
        return
    free = bool(drawn[0].cost.min() == 0)
    least = positive.min() if free else costs.min()
    steps = (1.0,) if costs.max() > 1000 * least else (1.0, 2.0, 5.0)
    ticks = LogLocator(subs=steps, numticks=20)
    if free:
        axes.set_xscale("symlog", linthresh=float(least))
        axes.set_xlim(-0.1 * least, 1.3 * costs.max())
        values = ticks.tick_values(least, costs.max())
        axes.xaxis.set_major_locator(FixedLocator([0.0, *values[values >= least]]))
    else:
        axes.set_xscale("log")
        axes.set_xlim(costs.min() / 1.3, 1.3 * costs.max())
        axes.xaxis.set_major_locator(ticks)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _told_scale(singles: Array) -> str:
    """What the axis says of its scale, from the costs of the single models."""
    positive = singles[singles > 0]
    if not positive.size:
        return ""
    return ", log scale" if singles.min() > 0 else f", log scale from {positive.min():.3g}"


def _range_of_interest(drawn: Sequence[_Points]) -> tuple[float, float]:
    """Limits of accuracy, in percent, that a very weak model does not stretch.

    What counts is at most one and a half times as far below the median single model as the most
    accurate point is above it.
    """
    singles = drawn[0]
    median = float(np.median(singles.accuracy))
    top = max(float(points.accuracy.max()) for points in drawn if len(points.accuracy))
    shown = singles.accuracy >= median - 1.5 * (top - median)
    bottom, top = float(singles.low[shown].min()), max(top, float(singles.high[shown].max()))
    margin = 0.05 * (top - bottom)
    return bottom - margin, top + margin


def _mark_below(axes: Axes, ensembles_: _Points) -> None:
    """Say at the lower edge that an ensemble lies below the range."""
    below = ensembles_.accuracy < axes.get_ylim()[0]
    axes.plot(
        ensembles_.cost[below], np.full(below.sum(), 0.015), transform=axes.get_xaxis_transform(),
        linestyle="none", marker="v", color=_ORANGE, markeredgecolor=_BLACK, markeredgewidth=0.5,
        zorder=3,
    )  # fmt: skip


def _arrow(axes: Axes, rows: Sequence[Row], size: float) -> None:
    """An arrow from the reference to the committee that matches it, with the speedup."""
    name = rows[0].reference
    committee = next((row for row in rows if row.role == matches(name)), None)
    single = next(row for row in rows if row.cascade.names == (name,) and row.role == SINGLE)
    if committee is None or committee.speedup is None or committee.speedup <= 1:
        return
    start, end = (
        (row.judged.average_cost / size, 100 * row.judged.accuracy) for row in (single, committee)
    )
    arrow = {"arrowstyle": "->", "color": _VERMILION, "linewidth": 1.2, "shrinkA": 4, "shrinkB": 7}
    axes.annotate("", xy=end, xytext=start, arrowprops=arrow, zorder=5)
    axes.annotate(
        f"{times(committee.speedup)} speedup", xy=end, xytext=(-6, 10), textcoords="offset points",
        ha="right", color=_VERMILION, fontsize=9, fontweight="bold",
    )  # fmt: skip


def _named_points(singles: Sequence[Row], size: float) -> list[tuple[str, float, float]]:
    return [
        (row.cascade.names[0], row.judged.average_cost / size, 100 * row.judged.accuracy)
        for row in singles
    ]


def _corners(drawn: Sequence[_Points]) -> Array:
    """Every drawn point, shape (P, 2), which labels should keep off."""
    return np.concatenate([np.stack([p.cost, p.accuracy], axis=1) for p in drawn])
