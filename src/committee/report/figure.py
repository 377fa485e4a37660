"""Figure: accuracy against average cost of single models, ensembles and the front; its files."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from committee.arrays import Array
from committee.errors import DataError, require
from committee.files import write_bytes
from committee.report.plane import Plane, conditions_of, scales_of
from committee.report.promise import promise_sentence
from committee.report.rows import CHOSEN, SINGLE, Report, Row, matches
from committee.style import BLACK, BLUE, CASCADE, ENSEMBLE, ORANGE, VERMILION, Axes, Figure
from committee.text import counted, points, times

_SALT = "committee"
_DPI = 200
_ENDINGS = (".png", ".svg")
# Characters of a line under the axis.
_NOTE_WIDTH = 110
# With more members than this, each is a dot on the line and no longer a star.
_STARS = 40


def front_figure(report: Report) -> Figure:
    """Draw accuracy against average cost, after figure 1 of Wang et al. (2022).

    Committees stand where the reported split puts them, whatever split chose them. Members of the
    front are joined in the order of their cost on the validation split. Whatever is too weak for
    the range is marked at the lower edge. What was certified of the choice stands under the axis.
    """
    scales, rows, members = scales_of(report), report.rows, report.members
    singles = [row for row in rows if row.role == SINGLE]
    conditions = conditions_of(report.front)
    unit = report.front.settings.unit
    plane = Plane(singles, unit, scales.accuracy, conditions=conditions)
    plane.mark_singles()
    best = plane.mark(report.ensembles, ENSEMBLE, "Best ensembles")
    many = len(members) > _STARS
    look = replace(CASCADE, marker="." if many else "*", size=3 if many else 8, order=2)
    committees = f"{len(members)} {'committee' if len(members) == 1 else 'committees'}"
    most = counted(report.front.settings.max_models, "model")
    front = plane.mark(members, look, f"Front: {committees} of up to {most}", line=True)
    chosen = [row for row in rows if row.chosen]
    places = plane.positions(chosen)
    plane.others.append(places)
    for row, place in zip(chosen, places, strict=True):
        label = row.text[0].upper() + row.text[1:]
        label += ", certified" if row.role == CHOSEN and row.cascade.is_certified else ""
        plane.axes.plot(*place, linestyle="none", zorder=6, label=label, **_style(row))
    _mark_below(plane.axes, scales.low, ((ORANGE, best), (BLUE, front), (VERMILION, places)))
    _arrow(plane, rows)
    certified = "" if report.chosen is None else promise_sentence(report.chosen)
    notes = [f"Note: {note}." for note in report.notes]
    _note(plane.axes, [certified, *notes] if certified else notes)
    figure = plane.finish(limits=(scales.low, scales.high))
    figure.suptitle(scales.title, fontsize=10, x=0.01, ha="left", parse_math=False)
    return figure


def figure_svg(figure: Figure) -> str:
    """Return a figure as SVG; the same figure always gives the same text."""
    from matplotlib import rc_context

    text = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with rc_context({"svg.hashsalt": _SALT, "svg.fonttype": "path"}):
        figure.savefig(text, format="svg", metadata=nothing)
    return text.getvalue()


@dataclass(frozen=True)
class Drawing:
    """A figure drawn once, as PNG at 200 dots an inch and as SVG."""

    png: bytes
    svg: str

    def save(self, path: str | Path) -> tuple[Path, Path]:
        """Write ``path`` + ``.png`` and ``path`` + ``.svg``."""
        path = Path(path)
        png, svg = (path.with_name(path.name + end) for end in _ENDINGS)
        return write_bytes(png, self.png), write_bytes(svg, self.svg.encode())


def drawing_of(figure: Figure) -> Drawing:
    """Draw a figure; it is laid out once for both formats."""
    engine = figure.get_layout_engine()
    try:
        svg = figure_svg(figure)
        figure.set_layout_engine("none")
        return Drawing(_figure_png(figure), svg)
    finally:
        figure.set_layout_engine(engine)


def save_figure(figure: Figure, path: str | Path) -> tuple[Path, Path]:
    """Write ``path`` + ``.png``, at 200 dots an inch, and ``path`` + ``.svg``."""
    return drawing_of(figure).save(path)


def check_figure_ending(path: Path) -> None:
    """Refuse an ending that is neither png nor svg, before any work is done."""
    if path.suffix.lower() not in _ENDINGS:
        raise DataError(f"{path}: a figure can be written as {' or '.join(_ENDINGS)}")
    require("The figure", "report")


def write_figure(figure: Figure, path: Path) -> Path:
    """Write a figure as png, at 200 dots an inch, or svg, by the ending."""
    check_figure_ending(path)
    if path.suffix.lower() == ".svg":
        return write_bytes(path, figure_svg(figure).encode())
    return write_bytes(path, _figure_png(figure))


def _figure_png(figure: Figure) -> bytes:
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=_DPI)
    return image.getvalue()


def _style(row: Row) -> dict[str, Any]:
    """Return a star or a plus for what a target picked, a ring for what the user chose."""
    if row.role == CHOSEN:
        ring = {"marker": "o", "markersize": 16, "color": "none"}
        return {**ring, "markeredgecolor": VERMILION, "markeredgewidth": 1.4}
    star = row.role == matches(row.reference)
    shape = {"marker": "*" if star else "P", "markersize": 13 if star else 9}
    return {**shape, "color": VERMILION, "markeredgecolor": BLACK, "markeredgewidth": 0.7}


def _mark_below(axes: Axes, low: float, series: Sequence[tuple[str, Array]]) -> None:
    """Mark at the lower edge what lies below the range, in the colour of its series."""
    label = "Below the range, in the colour of its kind"
    for color, places in series:
        below = places[places[:, 1] < low, 0]
        if below.size:
            axes.plot(
                below, np.full(below.size, 0.015), transform=axes.get_xaxis_transform(),
                linestyle="none", marker="v", color=color, markeredgecolor=BLACK,
                markeredgewidth=0.5, zorder=3, label=label,
            )  # fmt: skip
            label = ""


def _arrow(plane: Plane, rows: Sequence[Row]) -> None:
    """Draw an arrow from the reference to the committee that matches it, with the speedup."""
    name = rows[0].reference
    committee = next((row for row in rows if row.role == matches(name)), None)
    single = next((row for row in rows if row.name == name and row.role == SINGLE), None)
    if single is None or committee is None or committee.speedup is None or committee.speedup <= 1:
        return
    start, end = plane.positions([single, committee])
    arrow = {"arrowstyle": "->", "color": VERMILION, "linewidth": 1.2, "shrinkA": 4, "shrinkB": 7}
    plane.axes.annotate("", xy=end, xytext=start, arrowprops=arrow, zorder=5)
    text = f"{times(committee.speedup)} cheaper"
    if committee.versus is not None:
        text += f", {points(committee.versus.difference.value)} points"
    plane.axes.annotate(
        text, xy=end, xytext=(-6, 10), textcoords="offset points",
        ha="right", color=VERMILION, fontsize=9, fontweight="bold",
    )  # fmt: skip


def _note(axes: Axes, notes: Sequence[str]) -> None:
    """Write notes in small lines under the axis; the layout makes room for them."""
    texts = (note.replace("`", "") for note in notes)
    lines = [line for text in texts for line in textwrap.wrap(text, _NOTE_WIDTH)]
    if lines:
        axes.annotate(
            "\n".join(lines), (0, 0), xycoords="axes fraction", xytext=(0, -38),
            textcoords="offset points", va="top", fontsize=7, color="#444444", parse_math=False,
            annotation_clip=False,
        )  # fmt: skip
