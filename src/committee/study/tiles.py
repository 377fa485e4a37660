"""Exits of parts, for every way to divide: Wang et al. (2022), section 7.2, table 7.

In segmentation the tiles of an image leave a cascade one by one. The paper compares tiles of two
sizes with whole images: smaller tiles leave where the image is easy, and cost less. What tiles
cost is seen through windows, so that a small tile with much around it may cost more than it saves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from committee.errors import Unsupported
from committee.report.style import SERIES
from committee.report.text import exits, times
from committee.selection.front import Front
from committee.study.base import About, Analysis, Cell, Column, Finding, Table
from committee.study.best_cascades import speedup
from committee.study.context import Judge, Judged, Study, feasible
from committee.study.cost_gain_figure import gain_over
from committee.study.drawing import finish, mark, mark_singles, plane
from committee.study.estimates import accuracy_of
from committee.study.text import told_gain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ABOUT = About("tiles", "Tiles of several sizes", "section 7.2, table 7")


# A share of the reference model's cost: enough below 1 that something must leave early.
_SHARE = 0.7


@dataclass(frozen=True)
class Chosen:
    """A committee that one way to divide has for one aim.

    Args:
        division: How images are divided.
        aim: What it is the best for, for people.
        found: The committee; None if nothing meets the aim.
    """

    division: str
    aim: str
    found: Judged | None


@dataclass(frozen=True)
class Tiles:
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


def analyse(study: Study) -> Finding[Tiles]:
    """For each way to divide, the best committees of that way beside the most accurate model.

    Raises:
        Unsupported: If samples are not divided in parts.
    """
    divisions = [each.division for each in study.val.divisions]
    if not any(divisions):
        raise Unsupported(f"{study.judge.samples} leave as a whole; tiles are of segmentation")
    fronts = {name: study.search(division=name) for name in divisions}
    # Of equally accurate ones the first, which is the cheapest.
    best = max(study.singles, key=lambda single: single.val.correct)
    chosen = [each for name, front in fronts.items() for each in _chosen(name, front, best)]
    unit = study.settings.unit
    rows: list[tuple[Cell, ...]] = [
        (None, "a single model", each.told, *_figures(study, each, best)) for each in study.singles
    ]
    rows += [
        (
            each.division,
            each.aim,
            each.found.told if each.found else None,
            *_figures(study, each.found, best),
        )
        for each in chosen
    ]
    table = Table(
        "Single models, and for each size of tiles the best committees",
        (
            Column("tiles"),
            Column("what"),
            Column("committee"),
            Column("accuracy", "share"),
            Column(f"accuracy over {best.name}'s", "points"),
            Column("average cost", "cost", unit),
            Column("worst-case cost", "cost", unit),
            Column(f"speedup over {best.name}", "ratio"),
            Column(f"{study.judge.units} that leave at each stage"),
        ),
        tuple(rows),
        f"Chosen on {study.val.samples.split} among committees that keep to these tiles, single "
        f"models among them; all figures are of {study.judge}. full: {study.judge.samples} leave "
        "as a whole. Of A+B, A is the side of a tile in pixels, B what is seen around it.",
    )
    drawn = {name: tuple(map(Judged.of, front)) for name, front in fronts.items()}
    return Finding(
        ABOUT,
        (table,),
        tuple(_sentences(study, chosen, best)),
        Tiles(study.singles, drawn, unit, study.judge),
    )


def _chosen(division: str, front: Front, best: Judged) -> tuple[Chosen, ...]:
    cost = best.val.average_cost
    return (
        Chosen(
            division,
            f"cheapest as accurate as {best.name}",
            feasible(front.at_least, best.val.accuracy),
        ),
        Chosen(
            division,
            f"most accurate for {_SHARE:g} of its cost",
            feasible(front.at_most, _SHARE * cost),
        ),
        Chosen(division, "most accurate", Judged.of(front[-1])),
    )


def _figures(study: Study, found: Judged | None, best: Judged) -> tuple[Cell, ...]:
    if found is None:
        return (None,) * 6
    return (
        accuracy_of(found.test),
        gain_over(study, found, best),
        found.test.average_cost,
        found.test.worst_case_cost,
        speedup(best, found),
        exits(found.test) if len(found.cascade.stages) > 1 else None,
    )


def _sentences(study: Study, chosen: list[Chosen], best: Judged) -> Iterator[str]:
    equal, cheaper, most = (chosen[start::3] for start in range(3))
    saving = {
        each.division: ratio
        for each in equal
        if each.found is not None
        and len(each.found.cascade.names) > 1
        and (ratio := speedup(best, each.found)) is not None
    }
    val = study.val.samples.split
    if saving:
        told = ", ".join(f"{times(ratio)} with {name}" for name, ratio in saving.items())
        yield f"As accurate as {best.name} on {val} for less: {told}."
    else:
        yield f"With no size of tiles is a committee as accurate as {best.name} on {val} for less."
    for what, some in ((f"For {_SHARE:g} of its cost", cheaper), ("At their most accurate", most)):
        gains = {
            each.division: study.gain(each.found.cascade, best.cascade)
            for each in some
            if each.found is not None
        }
        if gains:
            told = ", ".join(f"{told_gain(gain)} with {name}" for name, gain in gains.items())
            yield f"{what}, in points over {best.name} on {study.judge}: {told}."


def draw(data: Tiles) -> Figure:
    """Single models, and a front for each way to divide.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    figure, axes, size, label = plane(data.unit, data.singles)
    drawn = [mark_singles(axes, data.singles, size)]
    for look, (name, found) in zip(SERIES, data.fronts.items(), strict=False):
        drawn.append(mark(axes, found, size, look, f"Tiles of {name}", line=True))
    finish(axes, drawn, label, data.judge, data.singles)
    return figure


ANALYSIS = Analysis(ABOUT, analyse, draw)
