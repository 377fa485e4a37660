"""Self-cascades, one set of weights at two resolutions: Wang et al. (2022), section 6.

Table 5 of the paper: a model at the resolution that it was trained for, and for the samples of
which it is not sure the same model again at a higher one, against the next larger single model.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter, itemgetter

from committee.errors import Unsupported
from committee.pool.intervals import Estimate
from committee.pool.pool import Pool
from committee.pool.table import Column, Table
from committee.report.text import gain_range, named, ratio_range
from committee.selection.front import Committee
from committee.spec.model import ModelSpec
from committee.study import columns
from committee.study.base import POINTS, Analysis, Finding
from committee.study.context import Study, feasible
from committee.study.drawing import plane_of
from committee.style import CASCADE, SERIES, Figure
from committee.text import times


@dataclass(frozen=True)
class _SelfCascade:
    """One set of weights at two resolutions, and the thresholds that no other beats, by cost."""

    low: Committee
    high: Committee
    gain: Estimate
    cascade: Committee | None
    thresholds: tuple[Committee, ...]

    @property
    def better(self) -> Committee:
        """The better of the two on the validation split; the cheaper of equals."""
        return self.high if self.high.val.accuracy > self.low.val.accuracy else self.low

    @property
    def two_stages(self) -> Committee | None:
        """The cascade, unless it is one of the models alone."""
        both = self.cascade is not None and len(self.cascade.cascade.stages) > 1
        return self.cascade if both else None


@dataclass(frozen=True)
class _Resolutions:
    """For each set of weights its model at every resolution, and models of other weights."""

    groups: Mapping[str, tuple[Committee, ...]]
    others: tuple[Committee, ...]
    pairs: tuple[_SelfCascade, ...]


# A single model, and the cheapest self-cascade of other weights that is as accurate.
_Replaced = tuple[Committee, Committee]


def _analyse(study: Study) -> Finding:
    """Build a cascade of every two resolutions of the same weights."""
    if study.one_score:
        raise Unsupported(f"all models see {study.test.task.samples} of one size")
    shared = {_entry(study.val, names[0]): names for names in study.val.layout.same_weights}
    if not shared:
        raise Unsupported(
            "no weights are there at two resolutions; give a model resolutions = [...] in the pool "
            "file"
        )
    groups = {
        weights: study.evaluated([study.cascade([name]) for name in names])
        for weights, names in shared.items()
    }
    pairs = tuple(
        _pair(study, low, high)
        for resolutions in groups.values()
        for low, high in itertools.combinations(resolutions, 2)
    )
    alone = {name for names in shared.values() for name in names}
    others = tuple(single for single in study.singles if single.cascade.names[0] not in alone)
    data = _Resolutions(groups, others, pairs)
    replaced = list(_replaced(data))
    tables = [_pairs_table(study, pairs)]
    if replaced:
        tables.append(_replaced_table(study, replaced))
    return Finding(tuple(tables), tuple(_sentences(study, data, replaced)), data=data)


def _pair(study: Study, low: Committee, high: Committee) -> _SelfCascade:
    front = study.threshold_front([*low.cascade.names, *high.cascade.names])
    gain = study.gain(high.cascade, low.cascade)
    goal = max(low.val.accuracy, high.val.accuracy)
    return _SelfCascade(low, high, gain, feasible(front.at_least, goal), front.committees)


def _replaced(data: _Resolutions) -> Iterator[_Replaced]:
    """Yield single models, at their lowest resolution, with the self-cascade that matches them."""
    for resolutions in (*((each,) for each in data.others), *data.groups.values()):
        single = resolutions[0]
        own = {name for model in resolutions for name in model.cascade.names}
        candidates = [
            each
            for pair in data.pairs
            if own.isdisjoint(pair.low.cascade.names)
            for each in pair.thresholds
            if len(each.cascade.stages) > 1 and each.val.accuracy >= single.val.accuracy
        ]
        if candidates:
            yield single, min(candidates, key=lambda each: each.val.average_cost)


def _pairs_table(study: Study, pairs: Sequence[_SelfCascade]) -> Table:
    low, high, cascade, better = map(attrgetter, ("low", "high", "cascade", "better"))
    return Table(
        "One model at two resolutions",
        (
            columns.models("first", low),
            columns.models("second", high),
            columns.accuracies("accuracy of the first alone", low),
            columns.accuracies("accuracy of the second alone", high),
            Column("second over first", lambda pair: pair.gain, "points"),
            columns.costs("average cost of the self-cascade", cascade, study.settings.unit),
            columns.accuracies("its accuracy", cascade),
            study.gains("its accuracy over the better's", cascade, better, itself=False),
            columns.ratios("speedup over the second", cascade, high),
        ),
        pairs,
        "The cheapest threshold that is as accurate as the better of the two on the split that "
        "chose.",
        name="pairs",
    )


def _replaced_table(study: Study, replaced: Sequence[_Replaced]) -> Table:
    single, cascade, unit = itemgetter(0), itemgetter(1), study.settings.unit
    return Table(
        "Self-cascades against single models of other weights",
        (
            columns.models("model", single),
            columns.accuracies("its accuracy", single),
            columns.costs("its cost", single, unit),
            columns.models("self-cascade", cascade),
            columns.accuracies("accuracy", cascade),
            study.gains("accuracy over the model's", cascade, single),
            columns.costs("average cost", cascade, unit),
            columns.ratios("speedup", cascade, single),
        ),
        replaced,
        "The cheapest that is as accurate as the model on the split that chose, over all pairs of "
        "resolutions of other weights.",
        name="singles",
    )


def _sentences(study: Study, data: _Resolutions, replaced: Sequence[_Replaced]) -> Iterator[str]:
    gains = [pair.gain for pair in data.pairs]
    more, less = sum(gain.low > 0 for gain in gains), sum(gain.high < 0 for gain in gains)
    yield (
        f"Among {len(gains)} pairs of resolutions, the higher is clearly more accurate in {more} "
        f"and clearly less accurate in {less}; it gains {gain_range(gains)} points."
    )
    for weights, resolutions in data.groups.items():
        yield " ".join(_weights_sentences(study, weights, resolutions, data.pairs))
    if not more:
        yield (
            "A higher resolution does not gain here, and without that a self-cascade has nothing "
            "to gain but what averaging two resolutions gives."
        )
    if not replaced:
        yield "No single model of other weights is matched by a self-cascade."
        return
    known = columns.speedups(replaced)
    yield (
        f"{len(replaced)} single models are matched by a self-cascade of other weights, "
        f"{sum(ratio > 1 for ratio in known)} of them for less: {ratio_range(known)}."
    )


def _weights_sentences(
    study: Study, weights: str, resolutions: Sequence[Committee], pairs: Sequence[_SelfCascade]
) -> Iterator[str]:
    """Say up to which resolution one set of weights gains, and if a self-cascade of it pays."""
    # Of equals the first, which is that of the lowest resolution.
    best = max(resolutions, key=lambda model: model.val.accuracy)
    below = [pair.gain for pair in pairs if pair.high is best]
    above = [pair.gain for pair in pairs if pair.low is best]
    val, test = study.val_name, study.test.samples.split
    end = "." if above else ", its highest resolution."
    yield f"{weights} is the most accurate on {val} at {named(best.cascade)}{end}"
    if below:
        yield (
            f"Over lower ones it gains {gain_range(below)} points on {test}, clearly in "
            f"{sum(gain.low > 0 for gain in below)} of {len(below)}."
        )
    if above:
        gained = any(gain.low > 0 for gain in above)
        yield (
            f"{'Above it there are gains' if gained else 'It does not gain above that'}: "
            f"{gain_range(above)} points on {test}, clearly a loss in "
            f"{sum(gain.high < 0 for gain in above)} of {len(above)}."
        )
    some = [c for pair in pairs if pair.better is best and (c := pair.two_stages)]
    cheapest = min(some, key=lambda each: each.val.average_cost, default=None)
    if cheapest is None or cheapest.val.average_cost >= best.val.average_cost:
        yield "No self-cascade of it is as accurate there for less."
    else:
        yield (
            f"{named(cheapest.cascade)} is as accurate there for less: on {test} it is "
            f"{times(columns.speedup(best, cheapest))} cheaper, at "
            f"{POINTS.text(study.gain(cheapest.cascade, best.cascade))} points."
        )


def _draw(study: Study, data: _Resolutions) -> Figure:
    """Draw each set of weights at its resolutions, and its cascades."""
    every = [model for resolutions in data.groups.values() for model in resolutions]
    plane = plane_of(study, data.others, models=every)
    plane.mark_singles()
    # With more groups than looks, some look alike.
    for look, (weights, resolutions) in zip(
        itertools.cycle(SERIES[1:]), data.groups.items(), strict=False
    ):
        plane.mark(resolutions, look, f"{weights} at {len(resolutions)} resolutions", line=True)
    plane.mark([c for pair in data.pairs if (c := pair.two_stages)], CASCADE, "Self-cascades")
    return plane.finish()


ANALYSIS = Analysis(
    "self_cascades", "One model at two resolutions", "section 6, table 5", _analyse, _draw
)


def _entry(pool: Pool, name: str) -> str:
    """Return the pool file's entry that a model comes from, or else the model's own name."""
    spec = pool.specs[name]
    return spec.entry or name if isinstance(spec, ModelSpec) else name
