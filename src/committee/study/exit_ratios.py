"""Where samples leave: Wang et al. (2022), appendix E.3, table 16.

For the cascades that match a single model's accuracy, the share of samples that leave at each
stage. The paper finds that most samples need the first model only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from committee.errors import Unsupported
from committee.report.style import empty_figure, plain
from committee.study.base import About, Analysis, Cell, Column, Finding, Table
from committee.study.best_cascades import speedup
from committee.study.context import Judge, Pair, Study
from committee.study.estimates import accuracy_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ABOUT = About("exit_ratios", "Where samples leave", "appendix E.3, table 16")
# From light to dark, so that stages stand apart in grey; hatched alternately.
_STAGES = ("#cfe3f1", "#7fb5d8", "#0072B2", "#003f63", "#001a29")
_HATCHES = ("", "//", "", "..", "")


@dataclass(frozen=True)
class ExitRatios:
    """What the figure shows.

    Args:
        pairs: Single models whose accuracy a cascade of two or more stages matches, by rising cost.
        judge: Which split judged.
    """

    pairs: tuple[Pair, ...]
    judge: Judge


def analyse(study: Study) -> Finding[ExitRatios]:
    """Say how many samples leave each matching cascade at each stage.

    Raises:
        Unsupported: If no single model is matched by a cascade of two or more stages.
    """
    pairs = tuple(p for p in study.pairs if p.same_accuracy and _stages(p) > 1)
    if not pairs:
        raise Unsupported("no single model's accuracy is matched by a cascade of several stages")
    most = max(map(_stages, pairs))
    rows: list[tuple[Cell, ...]] = []
    for pair in pairs:
        found = pair.same_accuracy
        if found is not None:
            ratios = found.test.exit_ratios
            rows.append(
                (
                    pair.single.told,
                    found.told,
                    accuracy_of(found.test),
                    found.test.average_cost,
                    speedup(pair.single, found),
                    *ratios,
                    *([None] * (most - len(ratios))),
                )
            )
    what = study.judge.units.capitalize()
    table = Table(
        f"{what} that leave at each stage",
        (
            Column("matches"),
            Column("cascade"),
            Column("accuracy", "share"),
            Column("average cost", "cost", study.settings.unit),
            Column("speedup", "ratio"),
            *(Column(f"stage {number}", "share") for number in range(1, most + 1)),
        ),
        tuple(rows),
        f"The cheapest committees as accurate as a model on {study.val.samples.split}; the figures "
        f"are of {study.judge}.",
    )
    first = [_ratios(pair)[0] for pair in pairs]
    last = [_ratios(pair)[-1] for pair in pairs]
    told = (
        f"{100 * min(first):.1f} % to {100 * max(first):.1f} % of the {study.judge.units} leave "
        f"after the first stage, {100 * min(last):.1f} % to {100 * max(last):.1f} % after the "
        "last.",
    )
    return Finding(ABOUT, (table,), told, ExitRatios(pairs, study.judge))


def _ratios(pair: Pair) -> tuple[float, ...]:
    return pair.same_accuracy.test.exit_ratios if pair.same_accuracy else ()


def _stages(pair: Pair) -> int:
    return len(_ratios(pair))


def draw(data: ExitRatios) -> Figure:
    """One bar a cascade, cut into the samples that leave at each stage.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    figure = empty_figure(7.2, 1.6 + 0.5 * len(data.pairs))
    axes = figure.add_subplot()
    most = max(map(_stages, data.pairs))
    ratios = np.array([[*_ratios(p), *([0.0] * (most - _stages(p)))] for p in data.pairs]) * 100
    places = np.arange(len(data.pairs))
    starts = np.cumsum(ratios, axis=1) - ratios
    for stage in range(most):
        style = stage % len(_STAGES)
        axes.barh(
            places, ratios[:, stage], left=starts[:, stage], height=0.65, color=_STAGES[style],
            hatch=_HATCHES[style], edgecolor="black", linewidth=0.6, label=f"Stage {stage + 1}",
        )  # fmt: skip
    names = [
        f"{p.same_accuracy.told}\nmatches {p.single.told}" for p in data.pairs if p.same_accuracy
    ]
    axes.set_yticks(places, names, fontsize=8, parse_math=False)
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel(
        f"{data.judge.units.capitalize()} of {data.judge} that leave (%)", parse_math=False
    )
    plain(axes)
    # Above the names too, which may leave the bars little room.
    figure.legend(loc="outside upper left", ncols=most, frameon=False, fontsize=8)
    return figure


ANALYSIS = Analysis(ABOUT, analyse, draw)
