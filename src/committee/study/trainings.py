"""How much trainings of one architecture differ: Wang et al. (2022), appendix E.5.

Table 17 of the paper: the spread of single models, of all ensembles of two of them and of all
cascades of two, over trainings of one architecture. It is small, so that more trainings to choose
from add little.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from committee.arrays import Array
from committee.errors import Unsupported
from committee.report.scales import measure_told
from committee.report.style import CASCADE, ENSEMBLE, SINGLE, empty_figure, legend, plain
from committee.rule.combinations import ORDER_FREE
from committee.selection.paired import Estimate
from committee.study.base import About, Analysis, Column, Finding, Table
from committee.study.context import Judged, Study
from committee.study.text import told_gains

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ABOUT = About("trainings", "Spread over trainings", "appendix E.5, table 17")
# Fewer make a single pair, which has no spread.
_LEAST = 3
_KINDS = {
    "single": "single models",
    "ensemble": "ensembles of two",
    "cascade": "cascades of two",
}
# The columns of the paper's table.
_FIGURES = (np.max, np.min, np.mean, partial(np.std, ddof=1))


@dataclass(frozen=True)
class Spread:
    """All committees of one kind that trainings of one architecture make.

    Args:
        architecture: Its name.
        kind: ``single``, ``ensemble`` or ``cascade``.
        committees: All of them.
        gain: Mean accuracy less that of the single models, paired; None of these themselves.
    """

    architecture: str
    kind: str
    committees: tuple[Judged, ...]
    gain: Estimate | None

    @property
    def accuracies(self) -> Array:
        """On the judging split, shape (M,)."""
        return np.array([each.test.accuracy for each in self.committees])

    @property
    def costs(self) -> Array:
        """Average cost on the judging split, shape (M,)."""
        return np.array([each.test.average_cost for each in self.committees])


@dataclass(frozen=True)
class Spreads:
    """What the figure shows: spreads by architecture, the splits, and by what is judged."""

    spreads: tuple[Spread, ...]
    provenance: str
    measure: str


def analyse(study: Study) -> Finding[Spreads]:
    """Evaluate all single models, pairs, and cascades of two of each architecture.

    The threshold of a cascade is the cheapest that is as accurate as the ensemble of both on the
    choosing split.

    Raises:
        Unsupported: If no architecture was trained three times, or nothing averages two models.
    """
    trained = {n: models for n, models in study.architectures.items() if len(models) >= _LEAST}
    if not trained:
        raise Unsupported(
            f"no architecture was trained {_LEAST} times; families say which models are trainings "
            "of one architecture"
        )
    if study.settings.combine not in ORDER_FREE:
        raise Unsupported(f"{study.settings.combine}: nothing is averaged, so there is no ensemble")
    spreads = tuple(s for name, models in trained.items() for s in _spreads(study, name, models))
    return Finding(
        ABOUT,
        (_table(study, spreads),),
        _sentences(spreads),
        Spreads(spreads, study.provenance, study.judge.measure),
    )


def _spreads(study: Study, name: str, models: Sequence[str]) -> tuple[Spread, ...]:
    singles = study.judged([study.cascade([model]) for model in models])
    pairs = itertools.combinations(models, 2)
    ensembles = study.judged([study.cascade([pair]) for pair in pairs])
    goals = {each.cascade.names: each.val.accuracy for each in ensembles}
    # The ensemble itself is among the thresholds, as "never".
    cascades = tuple(
        Judged.of(study.threshold_front(order).at_least(goals[pair]))
        for pair in goals
        for order in (pair, pair[::-1])
    )
    alone = [each.cascade for each in singles]
    return (
        Spread(name, "single", singles, None),
        *(
            Spread(name, kind, some, study.mean_gain([each.cascade for each in some], alone))
            for kind, some in (("ensemble", ensembles), ("cascade", cascades))
        ),
    )


def _table(study: Study, spreads: Sequence[Spread]) -> Table:
    unit = study.settings.unit
    rows = tuple(
        (
            each.architecture,
            each.kind,
            len(each.committees),
            *(float(figure(each.accuracies)) for figure in _FIGURES),
            each.gain,
            *(float(figure(each.costs)) for figure in _FIGURES),
        )
        for each in spreads
    )
    return Table(
        "Spread over trainings",
        (
            Column("architecture"),
            Column("committees"),
            Column("number", "count"),
            Column("accuracy: max", "share"),
            Column("accuracy: min", "share"),
            Column("accuracy: mean", "share"),
            Column("accuracy: std", "share"),
            Column("mean over the single models'", "points"),
            Column("average cost: max", "cost", unit),
            Column("average cost: min", "cost", unit),
            Column("average cost: mean", "cost", unit),
            Column("average cost: std", "cost", unit),
        ),
        rows,
        "Ensembles are all pairs, cascades all ordered pairs. The standard deviation is over "
        "committees, with one less than their number below; pairs share models. All stand on the "
        f"same {study.judge.count:,} {study.judge.samples}.",
    )


def _sentences(spreads: Sequence[Spread]) -> tuple[str, ...]:
    told = []
    for kind, word in _KINDS.items():
        own = [each for each in spreads if each.kind == kind]
        deviations = [100 * float(each.accuracies.std(ddof=1)) for each in own]
        gains = [each.gain for each in own if each.gain is not None]
        told.append(
            f"Accuracy of {word} has a standard deviation of {min(deviations):.2f} to "
            f"{max(deviations):.2f} points over trainings"
            + (f"; in the mean they gain {told_gains(gains)} points." if gains else ".")
        )
    return tuple(told)


def draw(data: Spreads) -> Figure:
    """Accuracy of every committee, architecture by architecture.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    looks = dict(zip(_KINDS, (SINGLE, ENSEMBLE, CASCADE), strict=True))
    names = list(dict.fromkeys(each.architecture for each in data.spreads))
    figure = empty_figure(max(4.0, 1.5 + 0.9 * len(names)))
    axes = figure.add_subplot()
    seen: set[str] = set()
    for each in data.spreads:
        look, told = looks[each.kind], _KINDS[each.kind].capitalize()
        middle = names.index(each.architecture) + 0.25 * (list(looks).index(each.kind) - 1)
        places = middle + 0.08 * np.linspace(-1, 1, len(each.committees))
        axes.plot(
            places, 100 * np.sort(each.accuracies),
            **look.points("" if each.kind in seen else told),
        )  # fmt: skip
        seen.add(each.kind)
    axes.set_xticks(range(len(names)), names, parse_math=False)
    axes.set_ylabel(f"{measure_told(data.measure)} (%)", parse_math=False)
    plain(axes, data.provenance.capitalize())
    legend(axes, "best")
    return figure


ANALYSIS = Analysis(ABOUT, analyse, draw)
