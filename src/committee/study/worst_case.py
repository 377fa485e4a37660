"""Cascades with and without a guarantee on worst-case cost: Wang et al. (2022), section 5.2.

Table 4 of the paper: the cheapest cascade that is as accurate as a single model may cost more than
it on samples that run all stages. A bound on the sum over all stages forbids that, at some price on
average.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from committee.errors import Unsupported
from committee.report.style import CASCADE, SERIES, cost_axis
from committee.report.text import times
from committee.study.base import About, Analysis, Column, Finding, Table
from committee.study.best_cascades import speedup
from committee.study.context import Judged, Pair, Study, feasible
from committee.study.cost_gain_figure import Beside, beside, draw_beside, gain_over
from committee.study.estimates import accuracy_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ABOUT = About("worst_case", "A guarantee on worst-case cost", "section 5.2, table 4")
_WITHOUT, _WITH = "without guarantee", "with guarantee"


@dataclass(frozen=True)
class Guarantee:
    """A single model, and the cheapest committees that are as accurate on the choosing split.

    Args:
        single: The model alone.
        without: Whatever it costs at worst.
        guaranteed: Costs at worst no more than the model.
    """

    single: Judged
    without: Judged
    guaranteed: Judged


@dataclass(frozen=True)
class Guarantees:
    """What the figure shows: rows, the unit of their costs, and the splits."""

    rows: tuple[Guarantee, ...]
    drawn: tuple[Beside, ...]
    unit: str
    provenance: str


def analyse(study: Study) -> Finding[Guarantees]:
    """For each single model, the cheapest equal committee with and without the guarantee.

    Raises:
        Unsupported: If no committee of several models is as accurate as a single one.
    """
    found = [guarantee(study, pair) for pair in study.pairs]
    rows = tuple(each for each in found if each is not None)
    if not any(len(row.without.cascade.names) > 1 for row in rows):
        raise Unsupported("no committee of several models costs less than its equal in accuracy")
    unit = study.settings.unit
    columns = (
        Column("model"),
        Column("guarantee"),
        Column("committee"),
        Column("accuracy", "share"),
        Column("accuracy over the model's", "points"),
        Column("average cost", "cost", unit),
        Column("worst-case cost", "cost", unit),
        Column("speedup on average", "ratio"),
    )
    cells = tuple(
        (
            row.single.told,
            told,
            each.told,
            accuracy_of(each.test),
            gain_over(study, each, row.single),
            each.test.average_cost,
            each.test.worst_case_cost,
            speedup(row.single, each),
        )
        for row in rows
        for told, each in (("", row.single), ("without", row.without), ("with", row.guaranteed))
    )
    note = (
        "The cheapest committees that are as accurate as the model on the split that chose; with "
        "the guarantee none costs more than the model on any sample."
    )
    drawn = tuple(
        beside(study, row.single, {_WITHOUT: row.without, _WITH: row.guaranteed}, worst=True)
        for row in rows
    )
    return Finding(
        ABOUT,
        (Table("With and without a guarantee on worst-case cost", columns, cells, note),),
        _sentences(rows),
        Guarantees(rows, drawn, unit, study.provenance),
    )


def guarantee(study: Study, pair: Pair) -> Guarantee | None:
    """A single model with its equals in accuracy; None if there are none within the bound."""
    single, without = pair.single, pair.same_accuracy
    if without is None:
        return None
    bound = single.val.worst_case_cost
    if without.val.worst_case_cost <= bound:
        # The cheapest of all is also the cheapest of those that keep to the bound.
        return Guarantee(single, without, without)
    guaranteed = feasible(study.search(worst_case=bound).at_least, single.val.accuracy)
    return None if guaranteed is None else Guarantee(single, without, guaranteed)


def _sentences(rows: Sequence[Guarantee]) -> tuple[str, ...]:
    dearer = [r for r in rows if r.without.val.worst_case_cost > r.single.val.worst_case_cost]
    told = [
        f"Of {len(rows)} cheapest committees that match a single model, {len(dearer)} cost more "
        "than it at worst."
    ]
    for row in dearer:
        before, after = (speedup(row.single, each) for each in (row.without, row.guaranteed))
        if before is None or after is None:
            continue
        cost = row.single.test.average_cost
        told.append(
            f"{row.single.told}: {times(before)} cheaper on average without the guarantee, at "
            f"worst {row.without.test.worst_case_cost / cost:.2f} times its cost; with it "
            f"{times(after)} cheaper, at worst {row.guaranteed.test.worst_case_cost / cost:.2f} "
            "times."
        )
    return tuple(told)


def draw(data: Guarantees) -> Figure:
    """Average cost with a line to the worst case, and the gain in accuracy, a row a model.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    size, label = cost_axis(data.unit, [row.single.test.average_cost for row in data.rows])
    looks = {_WITHOUT: SERIES[1], _WITH: CASCADE}
    title = f"Lines end at the worst case; {data.provenance}"
    return draw_beside(data.drawn, looks, size, label, title)


ANALYSIS = Analysis(ABOUT, analyse, draw)
