"""Ensembles turned into cascades of the same models: Wang et al. (2022), section 4.2.

The stars of figure 2: each Pareto-optimal ensemble becomes the cheapest cascade of its models that
is as accurate on the split that chooses. The paper finds that every one costs less than its
ensemble, and that cascades beat single models in all regimes of computation.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter

from committee.pool.table import Table
from committee.report.text import gain_range, ratio_range
from committee.selection.fixed_models import as_cascade
from committee.selection.front import Committee
from committee.study import columns
from committee.study.base import Analysis, Finding
from committee.study.context import Study
from committee.study.drawing import plane_of
from committee.study.ensembles_vs_singles import best_ensembles
from committee.style import CASCADE, ENSEMBLE, Figure

Conversions = Sequence[tuple[Committee, Committee]]


def _analyse(study: Study) -> Finding:
    """Turn each Pareto-optimal ensemble into a cascade."""
    best = best_ensembles(study)
    converted = [
        as_cascade(study.by_weights(each.cascade), study.val, **study.options()).cascade
        for each in best
    ]
    cascades = study.evaluated(converted)
    both = list(zip(best, cascades, strict=True))
    gains, known, unit = study.gains_of(both), columns.speedups(both), study.settings.unit
    ensemble, cascade = itemgetter(0), itemgetter(1)
    table = Table(
        "Each Pareto-optimal ensemble and the cascade that it becomes",
        (
            columns.models("ensemble", ensemble),
            columns.accuracies("accuracy", ensemble),
            columns.costs("cost", ensemble, unit),
            columns.models("cascade", cascade),
            columns.accuracies("cascade: accuracy", cascade),
            columns.costs("cascade: average cost", cascade, unit),
            study.gains("gain", cascade, ensemble),
            columns.ratios("speedup", cascade, ensemble),
        ),
        both,
        f"The cheapest cascade of the same models, or of some of them, that is as accurate as the "
        f"ensemble on {study.val_name}.",
    )
    worse = sum(gain.high < 0 for gain in gains)
    matched = sum(any(map(_beats, cascades, [single] * len(cascades))) for single in study.singles)
    sentences = (
        f"{sum(each > 1 for each in known)} of {len(best)} ensembles cost less as a cascade: "
        f"{ratio_range(known)}.",
        f"Their accuracy changes by {gain_range(gains)} points on {study.test_text}; {worse} "
        f"{'loses' if worse == 1 else 'lose'} more than the paired interval explains.",
        f"{matched} of {len(study.singles)} single models are matched there by one of these "
        "cascades that costs less.",
    )
    return Finding((table,), sentences, data=both)


def _beats(cascade: Committee, single: Committee) -> bool:
    """Return True if a cascade is as accurate as a single model on the test split for less."""
    ours, theirs = cascade.reported, single.reported
    return ours.accuracy >= theirs.accuracy and ours.average_cost < theirs.average_cost


def _draw(study: Study, both: Conversions) -> Figure:
    """Draw ensembles and what they become, joined, after figure 2 of the paper."""
    plane = plane_of(study)
    plane.mark_singles()
    plane.mark([ensemble for ensemble, _ in both], ENSEMBLE, "Pareto-optimal ensembles")
    plane.mark([cascade for _, cascade in both], CASCADE, "The same models as a cascade")
    for ensemble, cascade in both:
        plane.join(ensemble, cascade, "#bbbbbb")
    return plane.finish()


ANALYSIS = Analysis(
    "ensembles_as_cascades",
    "Ensembles turned into cascades of the same models",
    "section 4.2, figure 2",
    _analyse,
    _draw,
)
