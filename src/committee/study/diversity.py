"""Committees of one architecture against those of several: Wang et al. (2022), appendix E.5.1.

Table 18 of the paper: cascades of trainings of one architecture already cost less than an equally
accurate single model; those that mix architectures cost less still.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from committee.errors import Unsupported
from committee.report.style import CASCADE, SERIES, cost_axis
from committee.study.base import About, Analysis, Column, Finding, Table
from committee.study.best_cascades import speedup
from committee.study.context import Judged, Study, feasible
from committee.study.cost_gain_figure import Beside, beside, draw_beside, gain_over
from committee.study.estimates import accuracy_of
from committee.study.text import told_ratios

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ABOUT = About("diversity", "One architecture or several", "appendix E.5.1, table 18")
_ONE, _ANY = "one architecture", "any architectures"


@dataclass(frozen=True)
class Matched:
    """A single model, and the cheapest committees that are as accurate on the choosing split.

    Args:
        single: The model alone.
        same: Of trainings of one architecture, that of the model or another.
        mixed: Of any models.
    """

    single: Judged
    same: Judged
    mixed: Judged


@dataclass(frozen=True)
class Diversity:
    """What the figure shows: rows, the unit of their costs, and the splits."""

    rows: tuple[Matched, ...]
    drawn: tuple[Beside, ...]
    unit: str
    provenance: str


def analyse(study: Study) -> Finding[Diversity]:
    """For each single model, the cheapest equal of one architecture, and of any.

    Raises:
        Unsupported: If no architecture was trained twice, or there is only one.
    """
    trained = [models for models in study.architectures.values() if len(models) > 1]
    if not trained or len(study.architectures) < 2:
        raise Unsupported(
            "it takes two architectures and two trainings of one; families say which models are "
            "trainings of one architecture"
        )
    rows = tuple(
        _matched(study, pair.single, pair.same_accuracy)
        for pair in study.pairs
        if pair.same_accuracy is not None
    )
    unit = study.settings.unit
    cells = tuple(
        (
            row.single.told,
            told,
            each.told,
            accuracy_of(each.test),
            gain_over(study, each, row.single),
            each.test.average_cost,
            speedup(row.single, each),
        )
        for row in rows
        for told, each in (("single", row.single), ("one", row.same), ("any", row.mixed))
    )
    table = Table(
        "Committees of one architecture and of any",
        (
            Column("model"),
            Column("architectures"),
            Column("committee"),
            Column("accuracy", "share"),
            Column("accuracy over the model's", "points"),
            Column("average cost", "cost", unit),
            Column("speedup", "ratio"),
        ),
        cells,
        "The cheapest that are as accurate as the model on the split that chose.",
    )
    drawn = tuple(beside(study, row.single, {_ONE: row.same, _ANY: row.mixed}) for row in rows)
    return Finding(
        ABOUT, (table,), _sentences(rows), Diversity(rows, drawn, unit, study.provenance)
    )


def _matched(study: Study, single: Judged, mixed: Judged) -> Matched:
    """The best over all architectures, each searched by itself; a model alone is one of them."""
    found = [single]
    for models in study.architectures.values():
        front = study.search(models=[n for each in models for n in study.val.single(each)])
        best = feasible(front.at_least, single.val.accuracy)
        found += [] if best is None else [best]
    return Matched(single, min(found, key=lambda each: each.val.average_cost), mixed)


def _sentences(rows: Sequence[Matched]) -> tuple[str, ...]:
    ratios = [(speedup(row.single, row.same), speedup(row.single, row.mixed)) for row in rows]
    known = [(same, mixed) for same, mixed in ratios if same and mixed]
    cheaper = sum(mixed > same for same, mixed in known)
    return (
        f"Against {len(rows)} single models, committees of one architecture cost "
        f"{told_ratios([same for same, _ in known])} less, those of any architectures "
        f"{told_ratios([mixed for _, mixed in known])}.",
        f"Mixing architectures was cheaper for {cheaper} of {len(rows)}.",
    )


def draw(data: Diversity) -> Figure:
    """Average cost and gain in accuracy, a row a single model.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    size, label = cost_axis(data.unit, [row.single.test.average_cost for row in data.rows])
    looks = {_ONE: SERIES[2], _ANY: CASCADE}
    return draw_beside(data.drawn, looks, size, label, data.provenance.capitalize())


ANALYSIS = Analysis(ABOUT, analyse, draw)
