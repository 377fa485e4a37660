"""Figure: accuracy against average cost, of single models, ensembles and the front."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from committee.arrays import Array
from committee.files import write_bytes
from committee.pool.pool import Pool
from committee.report.point_labels import place_labels
from committee.report.rows import (
    CHOSEN,
    SINGLE,
    Row,
    choice_of,
    ensemble_rows,
    front_rows,
    matches,
    summary,
)
from committee.report.scales import Points, Scales, scales_of
from committee.report.style import (
    BLACK,
    BLUE,
    ORANGE,
    VERMILION,
    empty_figure,
    legend,
    plain,
    scale_cost,
)
from committee.report.text import points, times
from committee.rule.cascade import Cascade
from committee.selection.front import Front
from committee.selection.notes import notes_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SALT = "committee"
_DPI = 200
# Characters of a line under the axis.
_NOTE_WIDTH = 110
# With more members than this, each is a dot on the line and no longer a star.
_STARS = 40


def front_figure(
    front: Front,
    test: Pool | None = None,
    reference: str | None = None,
    *,
    chosen: Cascade | None = None,
    members: Sequence[Row] | None = None,
    best: Sequence[Row] | None = None,
) -> Figure:
    """Draw accuracy against average cost, after figure 1 of Wang et al. (2022).

    Committees stand where the judging split puts them, whatever split chose them; without a judging
    split the axis says that the choosing one is shown. Members of the front are joined in the order
    of their cost on the choosing split. Whatever is too weak for the range is marked at the lower
    edge.

    Args:
        front: Committees found on the choosing split.
        test: The pool on a split that chose nothing, or None.
        reference: A model of the pool; the most accurate single one if left out.
        chosen: A committee to draw a ring around.
        members: What :func:`front_rows` gave for the same front and split, to save time.
        best: What :func:`ensemble_rows` gave, likewise.

    Raises:
        MissingExtraError: If matplotlib is not installed.
        UnknownNameError, MisalignedError, CostError: As of :func:`summary`.
    """
    figure = empty_figure()
    rows = summary(front, test, reference, chosen)
    members = front_rows(front, test, reference) if members is None else members
    best = ensemble_rows(front, test, reference) if best is None else best
    singles = [row for row in rows if row.role == SINGLE]
    scales = scales_of(rows, [*members, *best])
    axes = figure.add_subplot()
    drawn = [
        _draw_singles(axes, singles, scales.size),
        _draw_ensembles(axes, best, scales.size),
        _draw_front(axes, members, scales.size, front.settings.max_models),
        _draw_chosen(axes, rows, scales.size),
    ]
    _finish(axes, scales)
    _mark_below(axes, dict(zip((ORANGE, BLUE, VERMILION), drawn[1:], strict=True)))
    # Matplotlib lists points with error bars last; single models come first.
    legend(axes, last_first=True)
    _arrow(axes, rows, scales.size)
    choice = choice_of(rows)
    _note(axes, notes_of(front, *(() if choice is None else (choice.versus, choice.promises))))
    place_labels(axes, _named_points(singles, scales.size), _corners(drawn))
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


def _draw_singles(axes: Axes, singles: Sequence[Row], size: float) -> Points:
    points = Points.of([row.judged for row in singles], size)
    errors = np.stack([points.accuracy - points.low, points.high - points.accuracy])
    axes.errorbar(
        points.cost, points.accuracy, yerr=errors, color=BLACK, ecolor="#888888",
        elinewidth=0.8, capsize=2, linewidth=0.7, marker="o", markersize=5, zorder=4,
        label="Single models, with 95 % interval",
    )  # fmt: skip
    return points


def _draw_ensembles(axes: Axes, found: Sequence[Row], size: float) -> Points:
    points = Points.of([row.judged for row in found], size)
    if found:
        axes.plot(
            points.cost, points.accuracy, linestyle="none", marker="s", markersize=5.5,
            color=ORANGE, markeredgecolor=BLACK, markeredgewidth=0.5, zorder=3,
            label="Best ensembles",
        )  # fmt: skip
    return points


def _draw_front(axes: Axes, members: Sequence[Row], size: float, most: int) -> Points:
    points = Points.of([row.judged for row in members], size)
    many = len(members) > _STARS
    plural = "committee" if len(members) == 1 else "committees"
    axes.plot(
        points.cost, points.accuracy, color=BLUE, linewidth=0.7, zorder=2,
        marker="." if many else "*", markersize=3 if many else 8, markeredgewidth=0,
        label=f"Front: {len(members)} {plural} of up to {most} model{'s' * (most > 1)}",
    )  # fmt: skip
    return points


def _draw_chosen(axes: Axes, rows: Sequence[Row], size: float) -> Points:
    chosen = [row for row in rows if row.chosen]
    points = Points.of([row.judged for row in chosen], size)
    for row, cost, accuracy in zip(chosen, points.cost, points.accuracy, strict=True):
        axes.plot(
            cost, accuracy, linestyle="none", zorder=6, label=row.told[0].upper() + row.told[1:],
            **_style(row),
        )  # fmt: skip
    return points


def _style(row: Row) -> dict[str, Any]:
    """What a target picked is a star or a plus; what the user chose has a ring around it."""
    if row.role == CHOSEN:
        return {
            "marker": "o", "markersize": 17, "color": "none", "markeredgecolor": VERMILION,
            "markeredgewidth": 1.8,
        }  # fmt: skip
    star = row.role == matches(row.reference)
    return {
        "marker": "*" if star else "P", "markersize": 13 if star else 9, "color": VERMILION,
        "markeredgecolor": BLACK, "markeredgewidth": 0.7,
    }  # fmt: skip


def _finish(axes: Axes, scales: Scales) -> None:
    plain(axes, scales.title)
    axes.set_ylabel(scales.accuracy, parse_math=False)
    axes.set_ylim(scales.low, scales.high)
    scale_cost(axes, scales.left, scales.right, scales.linear_to)
    axes.set_xlabel(scales.cost, parse_math=False)


def _mark_below(axes: Axes, drawn: Mapping[str, Points]) -> None:
    """Say at the lower edge, in the colour of its series, that a committee lies below the range."""
    told = "Below the range, in the colour of its kind"
    for color, some in drawn.items():
        below = some.accuracy < axes.get_ylim()[0]
        if not below.any():
            continue
        axes.plot(
            some.cost[below], np.full(below.sum(), 0.015), transform=axes.get_xaxis_transform(),
            linestyle="none", marker="v", color=color, markeredgecolor=BLACK, markeredgewidth=0.5,
            zorder=3, label=told,
        )  # fmt: skip
        told = ""


def _arrow(axes: Axes, rows: Sequence[Row], size: float) -> None:
    """An arrow from the reference to the committee that matches it, with the speedup."""
    name = rows[0].reference
    committee = next((row for row in rows if row.role == matches(name)), None)
    single = next((row for row in rows if row.name == name and row.role == SINGLE), None)
    if single is None or committee is None or committee.speedup is None or committee.speedup <= 1:
        return
    start, end = (
        (row.judged.average_cost / size, 100 * row.judged.accuracy) for row in (single, committee)
    )
    arrow = {"arrowstyle": "->", "color": VERMILION, "linewidth": 1.2, "shrinkA": 4, "shrinkB": 7}
    axes.annotate("", xy=end, xytext=start, arrowprops=arrow, zorder=5)
    told = f"{times(committee.speedup)} cheaper"
    if committee.versus is not None:
        told += f", {points(committee.versus.difference.value)} points"
    axes.annotate(
        told, xy=end, xytext=(-6, 10), textcoords="offset points",
        ha="right", color=VERMILION, fontsize=9, fontweight="bold",
    )  # fmt: skip


def _note(axes: Axes, notes: Sequence[str]) -> None:
    """What to note, in small lines under the axis; the layout makes room for them."""
    lines = [line for note in notes for line in textwrap.wrap(f"Note: {note}.", _NOTE_WIDTH)]
    if lines:
        axes.annotate(
            "\n".join(lines), (0, 0), xycoords="axes fraction", xytext=(0, -38),
            textcoords="offset points", va="top", fontsize=7, color="#444444", parse_math=False,
            annotation_clip=False,
        )  # fmt: skip


def _named_points(singles: Sequence[Row], size: float) -> list[tuple[str, float, float]]:
    return [
        (row.name, row.judged.average_cost / size, 100 * row.judged.accuracy) for row in singles
    ]


def _corners(drawn: Sequence[Points]) -> Array:
    """Every drawn point, shape (P, 2), which labels should keep off."""
    return np.concatenate([np.stack([p.cost, p.accuracy], axis=1) for p in drawn])
