"""Ensembles turned into cascades of the same models: Wang et al. (2022), section 4.2.

The stars of figure 2: each Pareto-optimal ensemble becomes the cheapest cascade of its models that
is as accurate on the split that chooses. The paper finds that every one costs less than its
ensemble, and that cascades beat single models in all regimes of computation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from committee.report.style import CASCADE, ENSEMBLE
from committee.rule.cascade import Cascade
from committee.selection.fixed_models import as_cascade
from committee.study.base import About, Analysis, Column, Finding, Table
from committee.study.best_cascades import speedup
from committee.study.context import Judge, Judged, Study
from committee.study.drawing import finish, mark, mark_singles, plane
from committee.study.ensembles_vs_singles import best_ensembles
from committee.study.estimates import accuracy_of
from committee.study.text import told_gains, told_ratios

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ABOUT = About(
    "ensembles_as_cascades",
    "Ensembles turned into cascades of the same models",
    "section 4.2, figure 2",
)


@dataclass(frozen=True)
class Conversions:
    """What the figure shows; the i-th cascade is of the i-th ensemble's models.

    Args:
        singles: One model an architecture, by rising cost.
        ensembles: The Pareto-optimal ones.
        cascades: What each became.
        unit: Unit of the costs.
        judge: Which split judged.
    """

    singles: tuple[Judged, ...]
    ensembles: tuple[Judged, ...]
    cascades: tuple[Judged, ...]
    unit: str
    judge: Judge


def analyse(study: Study) -> Finding[Conversions]:
    """Turn each Pareto-optimal ensemble into a cascade.

    Raises:
        Unsupported: If the pool makes no ensemble.
    """
    own = study.settings
    best = best_ensembles(study)
    cascades = study.judged([_converted(study, each) for each in best])
    gains = [study.gain(c.cascade, e.cascade) for c, e in zip(cascades, best, strict=True)]
    speedups = [speedup(e, c) for c, e in zip(cascades, best, strict=True)]
    known = [each for each in speedups if each is not None]
    table = Table(
        "Each Pareto-optimal ensemble and the cascade that it becomes",
        (
            Column("ensemble"),
            Column("accuracy", "share"),
            Column("cost", "cost", own.unit),
            Column("cascade"),
            Column("cascade: accuracy", "share"),
            Column("cascade: average cost", "cost", own.unit),
            Column("gain", "points"),
            Column("speedup", "ratio"),
        ),
        tuple(
            (
                e.told,
                accuracy_of(e.test),
                e.test.average_cost,
                c.told,
                accuracy_of(c.test),
                c.test.average_cost,
                gain,
                speedup,
            )
            for e, c, gain, speedup in zip(best, cascades, gains, speedups, strict=True)
        ),
        f"The cheapest cascade of the same models, or of some of them, that is as accurate as the "
        f"ensemble on {study.val.samples.split}.",
    )
    worse = sum(gain.high < 0 for gain in gains)
    beaten = [
        s
        for s in study.singles
        if any(c.test.correct >= s.test.correct and _cost(c) < _cost(s) for c in cascades)
    ]
    return Finding(
        ABOUT,
        (table,),
        (
            f"{sum(each > 1 for each in known)} of {len(best)} ensembles cost less as a "
            f"cascade: {told_ratios(known)}.",
            f"Their accuracy changes by {told_gains(gains)} points on {study.judge}; {worse} "
            f"{'loses' if worse == 1 else 'lose'} more than the paired interval explains.",
            f"{len(beaten)} of {len(study.singles)} single models are matched there by one of "
            "these cascades that costs less.",
        ),
        Conversions(study.singles, best, cascades, own.unit, study.judge),
    )


def _converted(study: Study, ensemble: Judged) -> Cascade:
    own = study.settings
    return as_cascade(
        study.apart(ensemble.cascade),
        study.val,
        confidence=own.confidence,
        combine=own.combine,
        grid=own.grid,
        unit=own.unit,
    ).cascade


def _cost(each: Judged) -> float:
    return each.test.average_cost


def draw(data: Conversions) -> Figure:
    """Ensembles and what they become, joined, after figure 2 of the paper.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    figure, axes, size, label = plane(data.unit, data.singles)
    drawn = [
        mark_singles(axes, data.singles, size),
        mark(axes, data.ensembles, size, ENSEMBLE, "Pareto-optimal ensembles"),
        mark(axes, data.cascades, size, CASCADE, "The same models as a cascade"),
    ]
    for (x, y), (to_x, to_y) in zip(drawn[1], drawn[2], strict=True):
        axes.plot([x, to_x], [y, to_y], color="#bbbbbb", linewidth=0.7, zorder=1)
    finish(axes, drawn, label, data.judge, data.singles)
    return figure


ANALYSIS = Analysis(ABOUT, analyse, draw)
