"""How much trainings of one architecture differ: Wang et al. (2022), appendix E.5.

Table 17 of the paper: the spread of single models, of all ensembles of two of them and of all
cascades of two, over trainings of one architecture. It is small, so that more trainings to choose
from add little.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from committee.arrays import Array
from committee.errors import Unsupported
from committee.pool.intervals import Estimate
from committee.pool.table import Column, Table
from committee.report.text import gain_range, measure_text
from committee.rule.combinations import ORDER_FREE
from committee.selection.front import Committee
from committee.study.base import Analysis, Finding
from committee.study.context import Study
from committee.style import CASCADE, ENSEMBLE, SINGLE, Figure, empty_figure, legend, plain

# Fewer make a single pair, which has no spread.
_LEAST = 3
_KINDS = {
    "single": ("single models", SINGLE),
    "ensemble": ("ensembles of two", ENSEMBLE),
    "cascade": ("cascades of two", CASCADE),
}


@dataclass(frozen=True)
class _Spread:
    """All committees of a kind of one architecture, and their mean gain over single models."""

    architecture: str
    kind: str
    committees: tuple[Committee, ...]
    gain: Estimate | None = None

    @property
    def accuracies(self) -> Array:
        """On the test split, shape (M,)."""
        return np.array([each.reported.accuracy for each in self.committees])

    @property
    def costs(self) -> Array:
        """Average cost on the test split, shape (M,)."""
        return np.array([each.reported.average_cost for each in self.committees])

    @property
    def deviation(self) -> float:
        """Standard deviation of the accuracy."""
        return float(self.accuracies.std(ddof=1))


def _analyse(study: Study) -> Finding:
    """Evaluate all single models, pairs, and cascades of two of each architecture.

    The threshold of a cascade is the cheapest that is as accurate as the ensemble of both on the
    validation split.
    """
    trained = {n: models for n, models in study.architectures.items() if len(models) >= _LEAST}
    if not trained:
        raise Unsupported(
            f"no architecture was trained {_LEAST} times; families say which models are trainings "
            "of one architecture"
        )
    if study.settings.combine not in ORDER_FREE:
        raise Unsupported(f"{study.settings.combine}: nothing is averaged, so there is no ensemble")
    spreads = [s for name, models in trained.items() for s in _spreads(study, name, models)]
    return Finding((_table(study, spreads),), tuple(_sentences(spreads)), data=spreads)


def _spreads(study: Study, name: str, models: Sequence[str]) -> Iterator[_Spread]:
    singles = study.evaluated([study.cascade([model]) for model in models])
    ensembles = study.evaluated(
        [study.cascade([pair]) for pair in itertools.combinations(models, 2)]
    )
    goals = {each.cascade.names: each.val.accuracy for each in ensembles}
    # The ensemble itself is among the thresholds, as "never".
    cascades = tuple(
        study.threshold_front(order).at_least(goal)
        for pair, goal in goals.items()
        for order in (pair, pair[::-1])
    )
    alone = [each.cascade for each in singles]
    yield _Spread(name, "single", singles)
    for kind, some in (("ensemble", ensembles), ("cascade", cascades)):
        gain = study.mean_gain([each.cascade for each in some], alone)
        yield _Spread(name, kind, some, gain)


def _table(study: Study, spreads: Sequence[_Spread]) -> Table:
    def figures(name: str, get: Callable[[_Spread], Array], *options: str) -> Iterator[Column]:
        """Yield the columns of the paper's table."""
        yield Column(f"{name}: max", lambda s: float(get(s).max()), *options)  # type: ignore[arg-type]
        yield Column(f"{name}: min", lambda s: float(get(s).min()), *options)  # type: ignore[arg-type]
        yield Column(f"{name}: mean", lambda s: float(get(s).mean()), *options)  # type: ignore[arg-type]
        yield Column(f"{name}: std", lambda s: float(get(s).std(ddof=1)), *options)  # type: ignore[arg-type]

    return Table(
        "Spread over trainings",
        (
            Column("architecture", lambda spread: spread.architecture),
            Column("committees", lambda spread: spread.kind),
            Column("number", lambda spread: len(spread.committees), "count"),
            *figures("accuracy", lambda spread: spread.accuracies, "share"),
            Column("mean over the single models'", lambda spread: spread.gain, "points"),
            *figures("average cost", lambda spread: spread.costs, "cost", study.settings.unit),
        ),
        spreads,
        "Ensembles are all pairs, cascades all ordered pairs. The standard deviation is over "
        "committees, divided by their number less one; pairs share models. All were evaluated on "
        f"{study.test_text}.",
    )


def _sentences(spreads: Sequence[_Spread]) -> Iterator[str]:
    for kind, (word, _) in _KINDS.items():
        deviations = [100 * each.deviation for each in spreads if each.kind == kind]
        gains = [each.gain for each in spreads if each.kind == kind and each.gain is not None]
        end = f"; on average they gain {gain_range(gains)} points." if gains else "."
        yield (
            f"The accuracy of {word} has a standard deviation of {min(deviations):.2f} to "
            f"{max(deviations):.2f} points over trainings{end}"
        )


def _draw(study: Study, spreads: Sequence[_Spread]) -> Figure:
    """Draw the accuracy of every committee, architecture by architecture."""
    names = list(dict.fromkeys(each.architecture for each in spreads))
    figure = empty_figure(max(4.0, 1.5 + 0.9 * len(names)))
    axes = figure.add_subplot()
    seen: set[str] = set()
    for each in spreads:
        word, look = _KINDS[each.kind]
        middle = names.index(each.architecture) + 0.25 * (list(_KINDS).index(each.kind) - 1)
        places = middle + 0.08 * np.linspace(-1, 1, len(each.committees))
        label = "" if each.kind in seen else word.capitalize()
        axes.plot(places, 100 * np.sort(each.accuracies), **look.points(label))
        seen.add(each.kind)
    axes.set_xticks(range(len(names)), names, parse_math=False)
    axes.set_ylabel(f"{measure_text(study.measure)} (%)", parse_math=False)
    plain(axes, study.provenance.capitalize())
    legend(axes, "best")
    return figure


ANALYSIS = Analysis("trainings", "Spread over trainings", "appendix E.5, table 17", _analyse, _draw)
