"""A sweep of the threshold, from a single model to the ensemble: Wang et al. (2022), section 4.1.

Figure 4 of the paper: cascades of two models whose threshold goes from "always" to "never". The
curve starts at the first model, ends at the ensemble of both, and has a plateau before: there the
cascade is as accurate as the ensemble for less.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter, itemgetter

import numpy as np

from committee.errors import Unsupported
from committee.pool.table import Column, Table
from committee.report.text import named
from committee.rule.combinations import ORDER_FREE
from committee.selection.front import Committee
from committee.study import columns
from committee.study.base import POINTS, Analysis, Finding
from committee.study.context import Study
from committee.study.drawing import plane_of
from committee.style import ENSEMBLE, SERIES, Figure

# Cascades that one figure shows without becoming a tangle.
_MOST = 4


@dataclass(frozen=True)
class _Sweep:
    """One cascade of two models under every threshold, by rising threshold; see `cheapest`."""

    committees: tuple[Committee, ...]
    plateau: int

    @property
    def text(self) -> str:
        """Its two models."""
        return named(self.committees[1].cascade)

    @property
    def ensemble(self) -> Committee:
        """Both models on every sample."""
        return self.committees[-1]

    @property
    def cheapest(self) -> Committee:
        """Where the plateau begins."""
        return self.committees[self.plateau]

    def exit_ratio(self, committee: Committee) -> float:
        """Return the share of samples that exit after the first model."""
        if len(committee.cascade.stages) == 2:
            return committee.reported.exit_ratios[0]
        return 0.0 if committee is self.ensemble else 1.0


def _analyse(study: Study) -> Finding:
    """Sweep the threshold of pairs of models, one for each range of cost of the front."""
    if study.settings.combine not in ORDER_FREE:
        raise Unsupported(
            f"{study.settings.combine}: no ensemble ends the sweep, for nothing is averaged"
        )
    sweeps = [_sweep(study, pair) for pair in pairs_on_front(study)]
    step = itemgetter(1)
    table = Table(
        "Every threshold tried",
        (
            Column("cascade", lambda each: each[0].text),
            Column("threshold", _threshold_text).of(step),
            Column("exit after the first model", lambda e: e[0].exit_ratio(e[1]), "share"),
            columns.costs("average cost", step, study.settings.unit),
            columns.accuracies("accuracy", step),
            Column("accuracy on the validation split", lambda each: each.val.accuracy, "share").of(
                step
            ),
        ),
        [(sweep, committee) for sweep in sweeps for committee in sweep.committees],
        name="steps",
    )
    sentences = tuple(_sentence(study, sweep) for sweep in sweeps)
    return Finding((_plateaus(study, sweeps), table), sentences, data=sweeps)


def pairs_on_front(study: Study) -> list[tuple[str, ...]]:
    """Return pairs of models, in order: the most frequent on the front in each range of cost."""
    front = study.search(2) if len(study.val.names) > 1 else ()
    twos = [each for each in front if len(each.cascade.stages) == 2]
    if not twos:
        raise Unsupported("no cascade of two models is on the front")
    costs = np.array([each.val.average_cost for each in twos])
    # Ranges of equal ratio; a cost of nothing counts as the first.
    scale = np.log(np.maximum(costs, costs.max() * 1e-9))
    width = np.ptp(scale) or 1.0
    ranges = np.minimum(_MOST * (scale - scale.min()) / width, _MOST - 1).astype(int)
    chosen: list[tuple[str, ...]] = []
    for number in range(_MOST):
        own = Counter(c.cascade.names for c, r in zip(twos, ranges, strict=True) if r == number)
        by_frequency = sorted(own, key=lambda pair: (-own[pair], pair))
        chosen += [pair for pair in by_frequency if pair not in chosen][:1]
    return chosen


def _sweep(study: Study, pair: Sequence[str]) -> _Sweep:
    committees = study.sweep(pair)
    enough = committees[-1].val.accuracy
    return _Sweep(committees, next(i for i, c in enumerate(committees) if c.val.accuracy >= enough))


def _threshold_text(committee: Committee) -> str:
    cascade = committee.cascade
    if len(cascade.stages) == 2:
        return f"{cascade.thresholds[0]:.6g}"
    return "always" if len(cascade.names) == 1 else "never"


def _plateaus(study: Study, sweeps: Sequence[_Sweep]) -> Table:
    unit = study.settings.unit

    def first(sweep: _Sweep) -> Committee:
        return sweep.committees[0]

    ensemble, cheapest = map(attrgetter, ("ensemble", "cheapest"))
    return Table(
        "Where the plateau begins",
        (
            Column("cascade", lambda sweep: sweep.text),
            columns.costs("first model: cost", first, unit),
            columns.accuracies("first model: accuracy", first),
            columns.costs("ensemble: cost", ensemble, unit),
            columns.accuracies("ensemble: accuracy", ensemble),
            Column("threshold", _threshold_text).of(cheapest),
            columns.costs("average cost", cheapest, unit),
            columns.accuracies("accuracy", cheapest),
            study.gains("accuracy over the ensemble's", cheapest, ensemble),
            columns.ratios("speedup over the ensemble", cheapest, ensemble),
        ),
        sweeps,
        "The plateau begins at the lowest threshold that is as accurate as the ensemble on the "
        "split that chose; its figures are of the test split.",
        name="plateau",
    )


def _sentence(study: Study, sweep: _Sweep) -> str:
    best, ensemble = sweep.cheapest, sweep.ensemble
    whole = ensemble.reported.average_cost
    saved = 1 - best.reported.average_cost / whole if whole else 0.0
    gain = study.gain(best.cascade, ensemble.cascade)
    return (
        f"{sweep.text}: at threshold {_threshold_text(best)} as accurate as the ensemble on "
        f"{study.val_name}, for {100 * saved:.0f} % less; on {study.test_text} the difference is "
        f"{POINTS.text(gain)} points."
    )


def _draw(study: Study, sweeps: Sequence[_Sweep]) -> Figure:
    """Draw one curve a cascade, after figure 4 of the paper; large markers begin plateaus."""
    plane = plane_of(study)
    plane.mark_singles("Single models", line=False)
    for look, sweep in zip(SERIES, sweeps, strict=False):
        points = plane.positions(sweep.committees)
        plane.others.append(points)
        plane.axes.plot(
            *points.T, color=look.color, linestyle=look.line, linewidth=1.5, zorder=look.order
        )
        start = {**look.points(f"{sweep.text}, plateau"), "markersize": look.size + 3, "zorder": 6}
        plane.axes.plot(*points[sweep.plateau], **start)
    ends = [sweep.ensemble for sweep in sweeps]
    plane.mark(ends, ENSEMBLE, "Ensembles: no sample exits early")
    return plane.finish(whole=True, bare=True)


ANALYSIS = Analysis(
    "threshold_sweep",
    "One threshold, from the single model to the ensemble",
    "section 4.1, figure 4",
    _analyse,
    _draw,
)
