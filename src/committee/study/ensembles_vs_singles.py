"""Ensembles against single models: Wang et al. (2022), section 3.

Figure 2 of the paper shows the Pareto-optimal ensembles beside the single models, table 11 an
ensemble as accurate as a large model for less. The paper finds that ensembles pay in the regime of
much computation, and not in that of little.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from committee.errors import Unsupported
from committee.report.style import ENSEMBLE
from committee.study.base import About, Analysis, Cell, Column, Finding, Table
from committee.study.best_cascades import speedup
from committee.study.context import Judge, Judged, Study
from committee.study.drawing import finish, mark, mark_singles, plane
from committee.study.estimates import accuracy_of
from committee.study.text import told_gains, told_ratios

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ABOUT = About(
    "ensembles_vs_singles",
    "Ensembles against single models",
    "section 3, figure 2, table 11",
)


@dataclass(frozen=True)
class EnsemblesAndSingles:
    """What the figure shows.

    Args:
        singles: One model an architecture, by rising cost.
        ensembles: Those that no other ensemble beat on the split that chose, by rising cost.
        unit: Unit of the costs.
        judge: Which split judged.
    """

    singles: tuple[Judged, ...]
    ensembles: tuple[Judged, ...]
    unit: str
    judge: Judge


def analyse(study: Study) -> Finding[EnsemblesAndSingles]:
    """Find, for each single model, the cheapest ensemble that is as accurate.

    Raises:
        Unsupported: If the pool makes no ensemble.
    """
    best = best_ensembles(study)
    unit = study.settings.unit
    matches = [(single, _match(single, best)) for single in study.singles]
    cheaper = [
        (single, found)
        for single, found in matches
        if found and found.val.average_cost < single.val.average_cost
    ]
    told = [
        f"{len(best)} ensembles of 2 to {study.settings.max_models} models are Pareto-optimal.",
        f"{len(cheaper)} of {len(matches)} single models {'has' if len(cheaper) == 1 else 'have'} "
        f"an ensemble that is as accurate on {study.val.samples.split} for less.",
    ]
    if cheaper:
        names = ", ".join(single.told for single, _ in cheaper)
        ratios = [r for single, found in cheaper if (r := speedup(single, found)) is not None]
        gains = [study.gain(found.cascade, single.cascade) for single, found in cheaper]
        told.append(
            f"For {names} the speedup is {told_ratios(ratios)}; accuracy on {study.judge} differs "
            f"by {told_gains(gains)} points."
        )
    rows: list[tuple[Cell, ...]] = []
    for single, found in matches:
        alone = (single.told, accuracy_of(single.test), single.test.average_cost)
        rows.append(
            (*alone, None, None, None, None, None)
            if found is None
            else (
                *alone,
                found.told,
                accuracy_of(found.test),
                found.test.average_cost,
                study.gain(found.cascade, single.cascade),
                speedup(single, found),
            )
        )
    table = Table(
        "For each single model the cheapest ensemble that is as accurate",
        (
            Column("model"),
            Column("accuracy", "share"),
            Column("cost", "cost", unit),
            Column("ensemble"),
            Column("ensemble: accuracy", "share"),
            Column("ensemble: cost", "cost", unit),
            Column("gain", "points"),
            Column("speedup", "ratio"),
        ),
        tuple(rows),
        f"As accurate on {study.val.samples.split}; the figures are of {study.judge}. A speedup "
        "below 1 means that the ensemble costs more. Of each architecture the first training is "
        "shown.",
        name="matching",
    )
    return Finding(
        ABOUT,
        (table, _pareto(study, best)),
        tuple(told),
        EnsemblesAndSingles(study.singles, best, unit, study.judge),
    )


def best_ensembles(study: Study) -> tuple[Judged, ...]:
    """The study's Pareto-optimal ensembles.

    Raises:
        Unsupported: If there are none.
    """
    if not study.ensembles:
        raise Unsupported(
            "no ensemble: there is one model only"
            if len(study.val.singles(study.settings.combine)) == 1
            else f"no ensemble: of {study.val.kind}, {study.settings.combine} averages nothing"
        )
    return study.ensembles


def _match(single: Judged, ensembles: tuple[Judged, ...]) -> Judged | None:
    # Ensembles rise in both, so that the first that is good enough is the cheapest.
    return next((each for each in ensembles if each.val.correct >= single.val.correct), None)


def _pareto(study: Study, ensembles: tuple[Judged, ...]) -> Table:
    return Table(
        "Pareto-optimal ensembles",
        (
            Column("ensemble"),
            Column("models", "count"),
            Column("cost", "cost", study.settings.unit),
            Column("accuracy", "share"),
            Column("accuracy on the choosing split", "share"),
        ),
        tuple(
            (
                each.told,
                len(study.apart(each.cascade)),
                each.test.average_cost,
                accuracy_of(each.test),
                each.val.accuracy,
            )
            for each in ensembles
        ),
        name="pareto",
    )


def draw(data: EnsemblesAndSingles) -> Figure:
    """Accuracy against cost of single models and ensembles, after figure 2 of the paper.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    figure, axes, size, label = plane(data.unit, data.singles)
    drawn = [
        mark_singles(axes, data.singles, size),
        mark(axes, data.ensembles, size, ENSEMBLE, "Pareto-optimal ensembles", line=True),
    ]
    finish(axes, drawn, label, data.judge, data.singles)
    return figure


ANALYSIS = Analysis(ABOUT, analyse, draw)
