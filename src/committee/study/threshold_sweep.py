"""A sweep of the threshold, from a single model to the ensemble: Wang et al. (2022), section 4.1.

Figure 4 of the paper: cascades of two models whose threshold goes from "always" to "never". The
curve starts at the first model, ends at the ensemble of both, and has a plateau before: there the
cascade is as accurate as the ensemble for less.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from committee.errors import Unsupported
from committee.report.style import ENSEMBLE, SERIES, SINGLE
from committee.rule.combinations import ORDER_FREE
from committee.selection.fixed_models import threshold_sweep
from committee.study.base import About, Analysis, Column, Finding, Table
from committee.study.best_cascades import speedup
from committee.study.context import Judge, Judged, Study
from committee.study.drawing import finish, mark, plane, positions
from committee.study.estimates import accuracy_of
from committee.study.text import told_gain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ABOUT = About(
    "threshold_sweep",
    "One threshold, from the single model to the ensemble",
    "section 4.1, figure 4",
)
# Cascades that one figure shows without becoming a tangle.
_MOST = 4


@dataclass(frozen=True)
class Sweep:
    """One cascade of two models under every threshold.

    Args:
        committees: By rising threshold; the first is the first model alone, the last the ensemble.
        plateau: Number of the lowest threshold that is as accurate as the ensemble on the choosing
            split.
    """

    committees: tuple[Judged, ...]
    plateau: int

    @property
    def told(self) -> str:
        """Its two models, for people."""
        return self.committees[1].told

    @property
    def ensemble(self) -> Judged:
        """Both models on every sample."""
        return self.committees[-1]

    @property
    def cheapest(self) -> Judged:
        """Where the plateau begins."""
        return self.committees[self.plateau]


@dataclass(frozen=True)
class ThresholdSweeps:
    """What the figure shows.

    Args:
        singles: Single models, by rising cost.
        sweeps: One a pair of models.
        unit: Unit of the costs.
        judge: Which split judged.
    """

    singles: tuple[Judged, ...]
    sweeps: tuple[Sweep, ...]
    unit: str
    judge: Judge


def analyse(study: Study) -> Finding[ThresholdSweeps]:
    """Sweep the threshold of pairs of models, one for each range of cost of the front.

    Raises:
        Unsupported: If nothing averages two models, or no cascade of two is on the front.
    """
    own = study.settings
    if own.combine not in ORDER_FREE:
        raise Unsupported(f"{own.combine}: no ensemble ends the sweep, for nothing is averaged")
    sweeps = tuple(_sweep(study, pair) for pair in pairs_on_front(study))
    steps = tuple(
        (
            sweep.told,
            _told_threshold(each),
            each.test.exit_ratios[0] if len(each.cascade.stages) == 2 else _only_exit(sweep, each),
            each.test.average_cost,
            accuracy_of(each.test),
            each.val.accuracy,
        )
        for sweep in sweeps
        for each in sweep.committees
    )
    table = Table(
        "Every threshold tried",
        (
            Column("cascade"),
            Column("threshold"),
            Column("leave after the first model", "share"),
            Column("average cost", "cost", own.unit),
            Column("accuracy", "share"),
            Column("accuracy on the choosing split", "share"),
        ),
        steps,
        name="steps",
    )
    return Finding(
        ABOUT,
        (_plateaus(study, sweeps), table),
        tuple(_sentence(study, sweep) for sweep in sweeps),
        ThresholdSweeps(study.singles, sweeps, own.unit, study.judge),
    )


def pairs_on_front(study: Study) -> tuple[tuple[str, str], ...]:
    """Pairs of models, in order, on the front of two: of each range of cost the most frequent.

    Raises:
        Unsupported: If there is no cascade of two on it.
    """
    front = study.search(2) if len(study.val.names) > 1 else ()
    twos = [each for each in front if len(each.cascade.stages) == 2]
    if not twos:
        raise Unsupported("no cascade of two models is on the front")
    costs = np.array([each.evaluation.average_cost for each in twos])
    # Ranges of equal ratio; a cost of nothing counts as the first.
    scale = np.log(np.maximum(costs, costs.max() * 1e-9))
    width = np.ptp(scale) or 1.0
    ranges = np.minimum(_MOST * (scale - scale.min()) / width, _MOST - 1).astype(int)
    chosen: list[tuple[str, str]] = []
    for number in range(_MOST):
        own = [each.cascade.names for each, of in zip(twos, ranges, strict=True) if of == number]
        for first, second in sorted(set(own), key=lambda pair: (-own.count(pair), pair)):
            if (first, second) not in chosen:
                chosen.append((first, second))
                break
    return tuple(chosen)


def _sweep(study: Study, pair: Sequence[str]) -> Sweep:
    own = study.settings
    found = threshold_sweep(
        pair,
        study.val,
        confidence=own.confidence,
        combine=own.combine,
        grid=own.grid,
        unit=own.unit,
    )
    committees = study.judged([each.cascade for each in found])
    enough = committees[-1].val.correct
    plateau = next(i for i, c in enumerate(committees) if c.val.correct >= enough)
    return Sweep(committees, plateau)


def _told_threshold(committee: Judged) -> str:
    cascade = committee.cascade
    if len(cascade.stages) == 2:
        return f"{cascade.thresholds[0]:.6g}"
    return "always" if len(cascade.names) == 1 else "never"


def _only_exit(sweep: Sweep, committee: Judged) -> float:
    return 0.0 if committee is sweep.ensemble else 1.0


def _plateaus(study: Study, sweeps: Sequence[Sweep]) -> Table:
    unit = study.settings.unit
    rows = []
    for sweep in sweeps:
        first, best, ensemble = (sweep.committees[0], sweep.cheapest, sweep.ensemble)
        rows.append(
            (
                sweep.told,
                first.test.average_cost,
                accuracy_of(first.test),
                ensemble.test.average_cost,
                accuracy_of(ensemble.test),
                _told_threshold(best),
                best.test.average_cost,
                accuracy_of(best.test),
                study.gain(best.cascade, ensemble.cascade),
                speedup(ensemble, best),
            )
        )
    return Table(
        "Where the plateau begins",
        (
            Column("cascade"),
            Column("first model: cost", "cost", unit),
            Column("first model: accuracy", "share"),
            Column("ensemble: cost", "cost", unit),
            Column("ensemble: accuracy", "share"),
            Column("threshold"),
            Column("average cost", "cost", unit),
            Column("accuracy", "share"),
            Column("accuracy over the ensemble's", "points"),
            Column("speedup over the ensemble", "ratio"),
        ),
        tuple(rows),
        "The plateau begins at the lowest threshold that is as accurate as the ensemble on the "
        "split that chose; its figures are of the one that judges.",
        name="plateau",
    )


def _sentence(study: Study, sweep: Sweep) -> str:
    best, ensemble = sweep.cheapest, sweep.ensemble
    whole = ensemble.test.average_cost
    saved = 1 - best.test.average_cost / whole if whole else 0.0
    gain = study.gain(best.cascade, ensemble.cascade)
    return (
        f"{sweep.told}: at threshold {_told_threshold(best)} as accurate as the ensemble on "
        f"{study.val.samples.split}, for {100 * saved:.0f} % less; on {study.judge} the difference "
        f"is {told_gain(gain)} points."
    )


def draw(data: ThresholdSweeps) -> Figure:
    """Accuracy against average cost, one curve a cascade, after figure 4 of the paper.

    Large markers say where plateaus begin.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    figure, axes, size, label = plane(data.unit, data.singles)
    drawn = [mark(axes, data.singles, size, SINGLE, "Single models")]
    for look, sweep in zip(SERIES, data.sweeps, strict=False):
        points = positions(sweep.committees, size)
        axes.plot(
            points[:, 0], points[:, 1], color=look.color, linestyle=look.line, linewidth=1.5,
            zorder=look.order,
        )  # fmt: skip
        start = {**look.points(f"{sweep.told}, plateau"), "markersize": look.size + 3, "zorder": 6}
        axes.plot(*points[sweep.plateau], **start)
        drawn.append(points)
    ends = [sweep.ensemble for sweep in data.sweeps]
    drawn.append(mark(axes, ends, size, ENSEMBLE, "Ensembles: no sample leaves early"))
    finish(axes, drawn, label, data.judge, whole=True)
    return figure


ANALYSIS = Analysis(ABOUT, analyse, draw)
