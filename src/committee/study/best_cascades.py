"""The best committee at each single model's cost, and at its accuracy.

Wang et al. (2022), section 5.1, figures 1 and 5, tables 13 and 14: models and thresholds are both
chosen. The paper finds that cascades are more accurate at equal cost, and cheaper at equal
accuracy, over the whole range.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter

from committee.pool.table import Table
from committee.report.plane import Plane
from committee.report.text import gain_range, named, ratio_range
from committee.study import columns
from committee.study.base import Analysis, Finding
from committee.study.context import Pair, Study
from committee.study.drawing import plane_of
from committee.style import GREEN, VERMILION, Figure, Look

_SAME_COST = Look(VERMILION, "P", 8, "-", 5)
_SAME_ACCURACY = Look(GREEN, "D", 6, "-", 5)


def _analyse(study: Study) -> Finding:
    """Find both committees for every single model."""
    pairs = study.pairs
    sentences = (*_same_cost_sentences(study, pairs), *same_accuracy_sentences(study, pairs))
    return Finding(pair_tables(study, pairs, study.settings.unit), sentences, data=pairs)


def pair_tables(
    study: Study, pairs: Sequence[Pair], unit: str, suffix: str = ""
) -> tuple[Table, Table]:
    """Return the best committees at the cost of each model, and those at its accuracy."""

    def table(title: str, name: str) -> Table:
        pick, single = attrgetter(name), attrgetter("single")
        own = (
            columns.models("model", single),
            columns.accuracies("accuracy", single),
            columns.costs("cost", single, unit),
            columns.models("committee", pick),
            columns.accuracies("committee: accuracy", pick),
            columns.costs("average cost", pick, unit),
            columns.worst_costs("worst-case cost", pick, unit),
            study.gains("gain", pick, single),
            columns.ratios("speedup", pick, single),
        )
        note = (
            f"The target is met on {study.val_name}, where the committee was chosen; all figures "
            f"are of {study.test.samples.split}."
        )
        return Table(title, own, pairs, note, f"{name}{suffix}")

    return (
        table("The most accurate committee for each model's cost", "same_cost"),
        table("The cheapest committee as accurate as each model", "same_accuracy"),
    )


def _same_cost_sentences(study: Study, pairs: Sequence[Pair]) -> list[str]:
    """Return what equal cost brings, in one sentence; none if nothing was found."""
    gains = study.gains_of([(p.single, p.same_cost) for p in pairs if p.same_cost])
    if not gains:
        return []
    return [
        f"At no more cost than each model, committees gain {gain_range(gains)} points on "
        f"{study.test_text}; {sum(gain.low > 0 for gain in gains)} of {len(gains)} gains are clear "
        "of their paired interval."
    ]


def same_accuracy_sentences(study: Study, pairs: Sequence[Pair]) -> list[str]:
    """Return what equal accuracy brings, in two sentences; none if nothing was found."""
    some = [(p.single, p.same_accuracy) for p in pairs if p.same_accuracy]
    named_ratios = [(ratio, named(s.cascade)) for s, c in some if (ratio := columns.speedup(s, c))]
    if not named_ratios:
        return []
    changes = study.gains_of(some)
    worse = sum(change.high < 0 for change in changes)
    return [
        f"As accurate as each model on {study.val_name}, committees have speedups of "
        f"{ratio_range(columns.speedups(some))}; the largest is over {max(named_ratios)[1]}.",
        f"On {study.test_text} their accuracy then differs by {gain_range(changes)} points; "
        f"{worse} of {len(changes)} {'loses' if worse == 1 else 'lose'} more than the paired "
        "interval explains.",
    ]


def _draw(study: Study, pairs: Sequence[Pair]) -> Figure:
    """Draw single models, each joined with both its committees, after figure 5 of the paper."""
    return draw_pairs(plane_of(study), pairs)


def draw_pairs(plane: Plane, pairs: Sequence[Pair]) -> Figure:
    """Draw single models and their committees on a plane."""
    plane.mark_singles()
    for look, label, name in (
        (_SAME_COST, "At equal cost", "same_cost"),
        (_SAME_ACCURACY, "At equal accuracy", "same_accuracy"),
    ):
        both = [(p.single, c) for p in pairs if (c := getattr(p, name)) is not None]
        plane.mark([committee for _, committee in both], look, label)
        for single, committee in both:
            if committee.cascade != single.cascade:
                plane.join(single, committee, look.color, ":")
    return plane.finish()


ANALYSIS = Analysis(
    "best_cascades",
    "The best committees at each model's cost and at its accuracy",
    "section 5.1, figures 1 and 5, tables 13 and 14",
    _analyse,
    _draw,
)
