"""Drawing: the plane of a study, and committees in rows beside single models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from committee.arrays import Array
from committee.report.plane import Plane
from committee.report.text import measure_text, named
from committee.selection.front import Committee
from committee.study.base import Entry
from committee.study.context import Study
from committee.style import (
    GREY,
    SINGLE,
    Axes,
    Figure,
    Look,
    empty_figure,
    plain,
    plain_text,
    scale_cost,
)


def plane_of(
    study: Study,
    singles: Sequence[Committee] | None = None,
    unit: str = "",
    axes: Axes | None = None,
    models: Sequence[Committee] = (),
) -> Plane:
    """Return the plane of a study; arguments as of :class:`Plane`, the study's if left out."""
    singles = study.singles if singles is None else singles
    label = f"{measure_text(study.measure)} on {study.test_text} (%)"
    return Plane(singles, unit or study.settings.unit, label, axes, models)


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

    Costs are divided by ``size``; ``worst`` adds lines to the worst case. Kinds without a look are
    not drawn.
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
    scale = _log_cost(left, np.array(costs)[np.array(costs) > 0])
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


def _log_cost(axes: Axes, costs: Array) -> str:
    """Make the axis of cost logarithmic; leave it linear if something costs nothing.

    Returns what the label of the axis adds about its scale.
    """
    if costs.min() > 0:
        scale_cost(axes, costs.min() / 1.3, 1.3 * costs.max())
        return ", log scale"
    return ""
