"""The best committee at each single model's cost, and at its accuracy.

Wang et al. (2022), section 5.1, figures 1 and 5, tables 13 and 14: models and thresholds are both
chosen. The paper finds that cascades are more accurate at equal cost, and cheaper at equal
accuracy, over the whole range.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from committee.report.style import GREEN, VERMILION, Look
from committee.study.base import About, Analysis, Cell, Column, Finding, Table
from committee.study.context import Judge, Judged, Pair, Study
from committee.study.drawing import finish, mark, mark_singles, plane, positions
from committee.study.estimates import accuracy_of
from committee.study.text import told_gains, told_ratios

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ABOUT = About(
    "best_cascades",
    "The best committees at each model's cost and at its accuracy",
    "section 5.1, figures 1 and 5, tables 13 and 14",
)
_SAME_COST = Look(VERMILION, "P", 8, "-", 5)
_SAME_ACCURACY = Look(GREEN, "D", 6, "-", 5)


@dataclass(frozen=True)
class BestCascades:
    """What the figure shows.

    Args:
        pairs: Each single model with the best committees at its cost and its accuracy.
        unit: Unit of the costs.
        judge: Which split judged.
    """

    pairs: tuple[Pair, ...]
    unit: str
    judge: Judge


def analyse(study: Study) -> Finding[BestCascades]:
    """Find both committees for every single model."""
    pairs, unit = study.pairs, study.settings.unit
    tables = (same_cost_table(study, pairs, unit), same_accuracy_table(study, pairs, unit))
    told = (*told_same_cost(study, pairs), *told_same_accuracy(study, pairs))
    return Finding(ABOUT, tables, told, BestCascades(pairs, unit, study.judge))


def same_cost_table(study: Study, pairs: Sequence[Pair], unit: str, suffix: str = "") -> Table:
    """The most accurate committee for what each model costs."""
    return _table(
        study,
        pairs,
        unit,
        "The most accurate committee for each model's cost",
        lambda pair: pair.same_cost,
        f"same_cost{suffix}",
    )


def same_accuracy_table(study: Study, pairs: Sequence[Pair], unit: str, suffix: str = "") -> Table:
    """The cheapest committee that is as accurate as each model."""
    return _table(
        study,
        pairs,
        unit,
        "The cheapest committee as accurate as each model",
        lambda pair: pair.same_accuracy,
        f"same_accuracy{suffix}",
    )


def _table(
    study: Study,
    pairs: Sequence[Pair],
    unit: str,
    title: str,
    of: Callable[[Pair], Judged | None],
    name: str,
) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for pair in pairs:
        single, found = pair.single, of(pair)
        alone = (single.told, accuracy_of(single.test), single.test.average_cost)
        rows.append(
            (*alone, *([None] * 6))
            if found is None
            else (
                *alone,
                found.told,
                accuracy_of(found.test),
                found.test.average_cost,
                found.test.worst_case_cost,
                study.gain(found.cascade, single.cascade),
                speedup(single, found),
            )
        )
    val, test = study.val.samples.split, study.test.samples.split
    return Table(
        title,
        (
            Column("model"),
            Column("accuracy", "share"),
            Column("cost", "cost", unit),
            Column("committee"),
            Column("committee: accuracy", "share"),
            Column("average cost", "cost", unit),
            Column("worst-case cost", "cost", unit),
            Column("gain", "points"),
            Column("speedup", "ratio"),
        ),
        tuple(rows),
        f"The target is met on {val}, where the committee was chosen; all figures are of {test}.",
        name=name,
    )


def speedup(single: Judged, committee: Judged) -> float | None:
    """Cost of a model over the average cost of a committee, on the judging split."""
    average = committee.test.average_cost
    return single.test.average_cost / average if average else None


def told_same_cost(study: Study, pairs: Sequence[Pair]) -> list[str]:
    """What equal cost brings, in one sentence; none if nothing was found."""
    gains = [study.gain(p.same_cost.cascade, p.single.cascade) for p in pairs if p.same_cost]
    if not gains:
        return []
    return [
        f"At no more cost than each model, committees gain {told_gains(gains)} points on "
        f"{study.judge}; {sum(gain.low > 0 for gain in gains)} of {len(gains)} gains are clear of "
        "their paired interval."
    ]


def told_same_accuracy(study: Study, pairs: Sequence[Pair]) -> list[str]:
    """What equal accuracy brings, in two sentences; none if nothing was found."""
    some = [(p.single, p.same_accuracy) for p in pairs if p.same_accuracy]
    ratios = [(ratio, single.told) for single, c in some if (ratio := speedup(single, c))]
    if not ratios:
        return []
    changes = [study.gain(found.cascade, single.cascade) for single, found in some]
    worse = sum(change.high < 0 for change in changes)
    return [
        f"As accurate as each model on {study.val.samples.split}, committees have speedups of "
        f"{told_ratios([ratio for ratio, _ in ratios])}; the largest is over {max(ratios)[1]}.",
        f"On {study.judge} their accuracy then differs by {told_gains(changes)} points; {worse} of "
        f"{len(changes)} {'loses' if worse == 1 else 'lose'} more than the paired interval "
        "explains.",
    ]


def draw(data: BestCascades) -> Figure:
    """Single models, each joined with both its committees, after figure 5 of the paper.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    figure, axes, size, label = plane(data.unit, [pair.single for pair in data.pairs])
    draw_pairs(axes, data.pairs, size, label, data.judge)
    return figure


def draw_pairs(axes: Axes, pairs: Sequence[Pair], size: float, label: str, judge: Judge) -> None:
    """Draw single models and their committees into axes, and finish these."""
    singles = [pair.single for pair in pairs]
    drawn = [
        mark_singles(axes, singles, size),
        mark(axes, [p.same_cost for p in pairs if p.same_cost], size, _SAME_COST, "At equal cost"),
        mark(
            axes,
            [p.same_accuracy for p in pairs if p.same_accuracy],
            size,
            _SAME_ACCURACY,
            "At equal accuracy",
        ),
    ]
    for pair in pairs:
        for found, look in ((pair.same_cost, _SAME_COST), (pair.same_accuracy, _SAME_ACCURACY)):
            if found and found.cascade != pair.single.cascade:
                _join(axes, pair.single, found, size, look)
    finish(axes, drawn, label, judge, singles)


def _join(axes: Axes, single: Judged, found: Judged, size: float, look: Look) -> None:
    points = positions([single, found], size)
    axes.plot(
        points[:, 0], points[:, 1], color=look.color, linewidth=0.9, linestyle=":", zorder=2
    )  # fmt: skip


ANALYSIS = Analysis(ABOUT, analyse, draw)
