"""Exits of parts, for every way to divide: Wang et al. (2022), section 7.2, table 7.

In segmentation the cells of a picture leave a cascade one by one. The paper compares cells of two
sizes with whole pictures: smaller cells leave where the picture is easy, and cost less. What cells
cost is seen through windows, so that a small cell with much around it may cost more than it saves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from committee.errors import Unsupported
from committee.report.style import SERIES
from committee.report.tables import exits, percent, times
from committee.study.base import About, Analysis, Cell, Column, Finding, Table
from committee.study.best_cascades import speedup
from committee.study.compared import gain_over
from committee.study.context import Judge, Judged, Study, feasible
from committee.study.drawing import finish, mark, mark_singles, plane
from committee.study.estimates import accuracy_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ABOUT = About("cells", "Cells of several sizes", "section 7.2, table 7")


@dataclass(frozen=True)
class Chosen:
    """The committees that one way to divide has for one single model.

    Args:
        division: How pictures are divided.
        single: The model alone.
        same_accuracy: The cheapest committee that is as accurate on the choosing split.
        same_cost: The most accurate committee that costs no more there.
    """

    division: str
    single: Judged
    same_accuracy: Judged | None
    same_cost: Judged | None


@dataclass(frozen=True)
class Cells:
    """What the figure shows.

    Args:
        singles: One model an architecture, by rising cost.
        fronts: The best committees of each way to divide, by rising cost.
        unit: Unit of the costs.
        judge: Which split judged.
    """

    singles: tuple[Judged, ...]
    fronts: Mapping[str, tuple[Judged, ...]]
    unit: str
    judge: Judge


def analyse(study: Study) -> Finding[Cells]:
    """For each way to divide and each single model, the best committees of that way.

    Raises:
        Unsupported: If samples are not divided in parts.
    """
    divisions = [each.division for each in study.val.divisions]
    if not any(divisions):
        raise Unsupported(f"{study.judge.samples} leave as a whole; cells are of segmentation")
    fronts = {name: study.search(division=name) for name in divisions}
    # Nothing is cheaper than the cheapest model.
    chosen = [
        Chosen(
            name,
            single,
            feasible(front.at_least, single.val.accuracy),
            feasible(front.at_most, single.val.average_cost),
        )
        for single in study.singles[1:] or study.singles
        for name, front in fronts.items()
    ]
    unit = study.settings.unit
    rows: list[tuple[Cell, ...]] = [
        (each.told, None, None, *_figures(study, each, None)) for each in study.singles
    ]
    for each in chosen:
        for what, found in (("accuracy", each.same_accuracy), ("cost", each.same_cost)):
            rows.append(
                (
                    f"{what} of {each.single.told}",
                    each.division,
                    found.told if found else None,
                    *_figures(study, found, each.single),
                )
            )
    table = Table(
        "Single models, and for each size of cells the best committees",
        (
            Column("at the"),
            Column("cells"),
            Column("committee"),
            Column("accuracy", "share"),
            Column("average cost", "cost", unit),
            Column("worst-case cost", "cost", unit),
            Column(f"{study.judge.units} that leave at each stage"),
            Column("accuracy over the model's", "points"),
            Column("speedup", "ratio"),
        ),
        tuple(rows),
        f"Chosen on {study.val.samples.split} among committees that keep to these cells, single "
        f"models among them; all figures are of {study.judge}. full: whole {study.judge.samples} "
        "leave. Of A+B, A is the side of a cell in pixels and B what is seen around it.",
    )
    drawn = {name: tuple(map(Judged.of, front)) for name, front in fronts.items()}
    return Finding(
        ABOUT,
        (table,),
        tuple(_sentences(study, chosen)),
        Cells(study.singles, drawn, unit, study.judge),
    )


def _figures(study: Study, found: Judged | None, single: Judged | None) -> tuple[Cell, ...]:
    if found is None:
        return (None,) * 6
    several = len(found.cascade.stages) > 1
    return (
        accuracy_of(found.test),
        found.test.average_cost,
        found.test.worst_case_cost,
        exits(found.test) if several else None,
        gain_over(study, found, single) if single else None,
        speedup(single, found) if single else None,
    )


def _sentences(study: Study, chosen: list[Chosen]) -> Iterator[str]:
    val = study.val.samples.split
    for single in dict.fromkeys(each.single for each in chosen):
        own = [each for each in chosen if each.single is single]
        ratios = {
            each.division: ratio
            for each in own
            if each.same_accuracy is not None
            and len(each.same_accuracy.cascade.names) > 1
            and (ratio := speedup(single, each.same_accuracy)) is not None
        }
        if ratios:
            best = max(ratios, key=lambda name: ratios[name])
            yield (
                f"As accurate as {single.told} on {val}: cells of {best} save most, "
                f"{times(ratios[best])}; of all sizes "
                f"{', '.join(f'{name} {times(ratio)}' for name, ratio in ratios.items())}."
            )
        else:
            yield f"{single.told}: no committee of several models is as accurate for less."
        costs = {each.division: each.same_cost for each in own if each.same_cost is not None}
        if costs:
            # Told by the split that judges, of committees that the other chose.
            told = ", ".join(f"{n} {percent(found.test.accuracy)}" for n, found in costs.items())
            alone = percent(single.test.accuracy)
            yield f"For the cost of {single.told}, which has {alone}: {told}."


def draw(data: Cells) -> Figure:
    """Single models, and a front for each way to divide.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    figure, axes, size, label = plane(data.unit, data.singles)
    drawn = [mark_singles(axes, data.singles, size)]
    for look, (name, found) in zip(SERIES, data.fronts.items(), strict=False):
        drawn.append(mark(axes, found, size, look, f"Cells of {name}", line=True))
    finish(axes, drawn, label, data.judge, data.singles)
    return figure


ANALYSIS = Analysis(ABOUT, analyse, draw)
