"""Self-cascades, one set of weights at two resolutions: Wang et al. (2022), section 6.

Table 5 of the paper: a model at the resolution that it was trained for, and for the samples of
which it is not sure the same model again at a higher one, against the next larger single model.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from committee.errors import Unsupported
from committee.report.style import CASCADE, SERIES
from committee.report.text import times
from committee.selection.paired import Estimate
from committee.study.base import About, Analysis, Column, Finding, Table
from committee.study.best_cascades import speedup
from committee.study.context import Judge, Judged, Study, feasible
from committee.study.drawing import finish, mark, mark_singles, plane, positions
from committee.study.estimates import accuracy_of
from committee.study.text import told_gain, told_gains, told_ratios

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ABOUT = About("self_cascades", "One model at two resolutions", "section 6, table 5")


@dataclass(frozen=True)
class SelfCascade:
    """One set of weights at two resolutions.

    Args:
        low: Alone at the lower resolution.
        high: Alone at the higher one.
        gain: Accuracy of ``high`` less that of ``low`` on the judging split, paired.
        cascade: The cheapest of both that is as accurate as the better of them on the choosing
            split; None if none is.
        thresholds: All that no other threshold beats on the choosing split, cheapest first.
    """

    low: Judged
    high: Judged
    gain: Estimate
    cascade: Judged | None
    thresholds: tuple[Judged, ...]

    @property
    def better(self) -> Judged:
        """The better of the two on the choosing split; of equals the cheaper."""
        return self.high if self.high.val.correct > self.low.val.correct else self.low


@dataclass(frozen=True)
class Replaced:
    """A single model, and the cheapest self-cascade of other weights that is as accurate."""

    single: Judged
    found: Judged


@dataclass(frozen=True)
class SelfCascades:
    """What the figure shows.

    Args:
        groups: For each set of weights its model at every resolution, by rising resolution.
        others: Models of other weights, by rising cost.
        pairs: All pairs of resolutions.
        unit: Unit of the costs.
        judge: Which split judged.
    """

    groups: Mapping[str, tuple[Judged, ...]]
    others: tuple[Judged, ...]
    pairs: tuple[SelfCascade, ...]
    unit: str
    judge: Judge


def analyse(study: Study) -> Finding[SelfCascades]:
    """Build a cascade of every two resolutions of the same weights.

    Raises:
        Unsupported: If no two models of the pool are known to share their weights.
    """
    if study.val.kind == "counts":
        raise Unsupported(f"all models see {study.judge.samples} of one size")
    shared = {names[0].partition("@")[0]: names for names in study.val.same_weights}
    if not shared:
        raise Unsupported(
            "no weights are there at two resolutions; give a model resolutions = [...] in the pool "
            "file"
        )
    alone = {
        name: each
        for names in shared.values()
        for name, each in zip(names, study.judged([study.cascade([n]) for n in names]), strict=True)
    }
    groups = {weights: tuple(alone[name] for name in names) for weights, names in shared.items()}
    pairs = tuple(
        _pair(study, low, high)
        for models in groups.values()
        for low, high in itertools.combinations(models, 2)
    )
    others = tuple(single for single in study.singles if single.cascade.names[0] not in alone)
    replaced = tuple(_replaced(groups, others, pairs))
    tables = [_pairs_table(study, pairs)]
    if replaced:
        tables.append(_replaced_table(study, replaced))
    data = SelfCascades(groups, others, pairs, study.settings.unit, study.judge)
    return Finding(ABOUT, tuple(tables), _sentences(study, data, replaced), data)


def _pair(study: Study, low: Judged, high: Judged) -> SelfCascade:
    front = study.threshold_front([*low.cascade.names, *high.cascade.names])
    gain = study.gain(high.cascade, low.cascade)
    goal = max(low.val.accuracy, high.val.accuracy)
    cascade = feasible(front.at_least, goal)
    return SelfCascade(low, high, gain, cascade, tuple(map(Judged.of, front)))


def _replaced(
    groups: Mapping[str, Sequence[Judged]],
    others: Sequence[Judged],
    pairs: Sequence[SelfCascade],
) -> Iterator[Replaced]:
    """Single models at their lowest resolution that a self-cascade of other weights matches."""
    sets: list[tuple[Judged, tuple[Judged, ...]]] = [(each, (each,)) for each in others]
    sets += [(models[0], tuple(models)) for models in groups.values()]
    for single, same in sets:
        own = {name for model in same for name in model.cascade.names}
        candidates = [
            each
            for pair in pairs
            if own.isdisjoint(pair.low.cascade.names)
            for each in pair.thresholds
            if len(each.cascade.stages) > 1 and each.val.correct >= single.val.correct
        ]
        cheapest = min(candidates, key=lambda each: each.val.average_cost, default=None)
        if cheapest is not None:
            yield Replaced(single, cheapest)


def _pairs_table(study: Study, pairs: Sequence[SelfCascade]) -> Table:
    unit = study.settings.unit
    rows = []
    for pair in pairs:
        cascade, better = pair.cascade, pair.better
        same = cascade is not None and cascade.cascade.stages == better.cascade.stages
        rows.append(
            (
                pair.low.told,
                pair.high.told,
                accuracy_of(pair.low.test),
                accuracy_of(pair.high.test),
                pair.gain,
                *(
                    (None, None, None, None)
                    if cascade is None
                    else (
                        cascade.test.average_cost,
                        accuracy_of(cascade.test),
                        None if same else study.gain(cascade.cascade, better.cascade),
                        speedup(pair.high, cascade),
                    )
                ),
            )
        )
    return Table(
        "One model at two resolutions",
        (
            Column("first"),
            Column("second"),
            Column("accuracy of the first alone", "share"),
            Column("accuracy of the second alone", "share"),
            Column("second over first", "points"),
            Column("average cost of the self-cascade", "cost", unit),
            Column("its accuracy", "share"),
            Column("its accuracy over the better's", "points"),
            Column("speedup over the second", "ratio"),
        ),
        tuple(rows),
        "The cheapest threshold that is as accurate as the better of the two on the split that "
        "chose.",
        name="pairs",
    )


def _replaced_table(study: Study, replaced: Sequence[Replaced]) -> Table:
    unit = study.settings.unit
    return Table(
        "Self-cascades against single models of other weights",
        (
            Column("model"),
            Column("its accuracy", "share"),
            Column("its cost", "cost", unit),
            Column("self-cascade"),
            Column("accuracy", "share"),
            Column("accuracy over the model's", "points"),
            Column("average cost", "cost", unit),
            Column("speedup", "ratio"),
        ),
        tuple(
            (
                each.single.told,
                accuracy_of(each.single.test),
                each.single.test.average_cost,
                each.found.told,
                accuracy_of(each.found.test),
                study.gain(each.found.cascade, each.single.cascade),
                each.found.test.average_cost,
                speedup(each.single, each.found),
            )
            for each in replaced
        ),
        "The cheapest that is as accurate as the model on the split that chose, over all pairs of "
        "resolutions of other weights.",
        name="singles",
    )


def _sentences(study: Study, data: SelfCascades, replaced: Sequence[Replaced]) -> tuple[str, ...]:
    pairs = data.pairs
    more, less = sum(p.gain.low > 0 for p in pairs), sum(p.gain.high < 0 for p in pairs)
    told = [
        f"Of {len(pairs)} pairs of resolutions the higher is clearly more accurate in {more} and "
        f"clearly less accurate in {less}; it gains {told_gains([p.gain for p in pairs])} points.",
        *(_of_weights(study, *each, pairs) for each in data.groups.items()),
    ]
    if not more:
        told.append(
            "A higher resolution does not gain here, and without that a self-cascade has nothing "
            "to gain but what averaging two resolutions gives."
        )
    if not replaced:
        told.append("No single model of other weights is matched by a self-cascade.")
        return tuple(told)
    speedups = [ratio for e in replaced if (ratio := speedup(e.single, e.found)) is not None]
    told.append(
        f"{len(replaced)} single models are matched by a self-cascade of other weights, "
        f"{sum(ratio > 1 for ratio in speedups)} of them for less: {told_ratios(speedups)}."
    )
    return tuple(told)


def _of_weights(
    study: Study, weights: str, models: Sequence[Judged], pairs: Sequence[SelfCascade]
) -> str:
    """Up to which resolution one set of weights gains, and whether a self-cascade of it pays."""
    # Of equals the first, which is that of the lowest resolution.
    best = max(models, key=lambda model: model.val.correct)
    below = [pair.gain for pair in pairs if pair.high is best]
    above = [pair.gain for pair in pairs if pair.low is best]
    chose, judge = study.val.samples.split, study.test.samples.split
    told = f"{weights} is the most accurate on {chose} at {best.told}"
    told += "." if above else ", its highest resolution."
    if below:
        gained = sum(gain.low > 0 for gain in below)
        told += (
            f" Over lower ones it gains {told_gains(below)} points on {judge}, clearly "
            f"in {gained} of {len(below)}."
        )
    if above:
        gained, lost = (sum(g.low > 0 for g in above), sum(g.high < 0 for g in above))
        told += " Above it there are gains:" if gained else " It does not gain above that:"
        told += f" {told_gains(above)} points on {judge}, clearly a loss in {lost} of {len(above)}."
    found = [
        pair.cascade
        for pair in pairs
        if pair.better is best and pair.cascade and len(pair.cascade.cascade.stages) > 1
    ]
    cheapest = min(found, key=lambda each: each.val.average_cost, default=None)
    if cheapest is None or cheapest.val.average_cost >= best.val.average_cost:
        return f"{told} No self-cascade of it is as accurate there for less."
    gain = told_gain(study.gain(cheapest.cascade, best.cascade))
    return (
        f"{told} As accurate there for less is {cheapest.told}: on {judge} it costs "
        f"{times(speedup(best, cheapest))} less, at {gain} points."
    )


def draw(data: SelfCascades) -> Figure:
    """Accuracy against average cost: each set of weights at its resolutions, and its cascades.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    everything = [*data.others, *(each for models in data.groups.values() for each in models)]
    figure, axes, size, label = plane(data.unit, everything)
    if data.others:
        mark_singles(axes, data.others, size)
    # Of more groups than looks some look alike.
    looks = itertools.cycle(SERIES[1:])
    for look, (weights, models) in zip(looks, data.groups.items(), strict=False):
        mark(axes, models, size, look, f"{weights} at {len(models)} resolutions", line=True)
    # One model alone may be what is as accurate; it is drawn already.
    found = [p.cascade for p in data.pairs if p.cascade and len(p.cascade.cascade.stages) > 1]
    drawn = [positions(everything, size), mark(axes, found, size, CASCADE, "Self-cascades")]
    finish(axes, drawn, label, data.judge, data.others)
    return figure


ANALYSIS = Analysis(ABOUT, analyse, draw)
