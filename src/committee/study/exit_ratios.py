"""Where samples exit: Wang et al. (2022), appendix E.3, table 16.

For the cascades that match a single model's accuracy, the share of samples that exit at each
stage. The paper finds that most samples need the first model only.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter

import numpy as np

from committee.errors import Unsupported
from committee.pool.table import Column, Table
from committee.report.text import named
from committee.selection.front import Committee
from committee.study import columns
from committee.study.base import Analysis, Finding
from committee.study.context import Study
from committee.style import Figure, empty_figure, plain

# From light to dark, so that stages stand apart in grey; hatched alternately.
_STAGES = ("#cfe3f1", "#7fb5d8", "#0072B2", "#003f63", "#001a29")
_HATCHES = ("", "//", "", "..", "")

Matches = Sequence[tuple[Committee, Committee]]


def _analyse(study: Study) -> Finding:
    """Count how many samples exit at each stage of each matching cascade."""
    matches = [pair for pair in study.matched if len(_exits(pair)) > 1]
    if not matches:
        raise Unsupported("no single model's accuracy is matched by a cascade of several stages")
    single, cascade, units = itemgetter(0), itemgetter(1), study.test.task.units

    def stage(number: int) -> Column:
        return Column(f"exit_{number}", lambda pair: dict(enumerate(_exits(pair))).get(number),
                      "share")  # fmt: skip

    table = Table(
        f"{units.capitalize()} that exit at each stage",
        (
            columns.models("matches", single),
            columns.models("cascade", cascade),
            columns.accuracies("accuracy", cascade),
            columns.costs("average cost", cascade, study.settings.unit),
            columns.ratios("speedup", cascade, single),
            *map(stage, range(max(len(_exits(pair)) for pair in matches))),
        ),
        matches,
        f"The cheapest committees as accurate as a model on {study.val_name}; the figures are of "
        f"{study.test_text}.",
    )
    first, last = ([100 * _exits(pair)[end] for pair in matches] for end in (0, -1))
    sentence = (
        f"{min(first):.1f} % to {max(first):.1f} % of the {units} exit after the first stage, "
        f"{min(last):.1f} % to {max(last):.1f} % after the last."
    )
    return Finding((table,), (sentence,), data=matches)


def _exits(pair: tuple[Committee, Committee]) -> tuple[float, ...]:
    return pair[1].reported.exit_ratios


def _draw(study: Study, matches: Matches) -> Figure:
    """Draw one bar a cascade, cut into the samples that exit at each stage."""
    figure = empty_figure(7.2, 1.6 + 0.5 * len(matches))
    axes = figure.add_subplot()
    most = max(len(_exits(pair)) for pair in matches)
    ratios = 100 * np.array([np.pad(_exits(p), (0, most - len(_exits(p)))) for p in matches])
    starts = np.cumsum(ratios, axis=1) - ratios
    for stage in range(most):
        style = stage % len(_STAGES)
        axes.barh(
            np.arange(len(matches)), ratios[:, stage], left=starts[:, stage], height=0.65,
            color=_STAGES[style], hatch=_HATCHES[style], edgecolor="black", linewidth=0.6,
            label=f"Stage {stage}",
        )  # fmt: skip
    labels = [f"{named(c.cascade)}\nmatches {named(s.cascade)}" for s, c in matches]
    axes.set_yticks(range(len(matches)), labels, fontsize=8, parse_math=False)
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    units = study.test.task.units.capitalize()
    axes.set_xlabel(f"{units} of {study.test_text} that exit (%)", parse_math=False)
    plain(axes)
    # Above the names too, which may leave the bars little room.
    figure.legend(loc="outside upper left", ncols=most, frameon=False, fontsize=8)
    return figure


ANALYSIS = Analysis("exit_ratios", "Where samples exit", "appendix E.3, table 16", _analyse, _draw)
