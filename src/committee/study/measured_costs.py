"""Speedups in measured time: Wang et al. (2022), section 5.1 and appendix A, tables 1, 2, 8, 9, 14.

The committees that match a model's accuracy for fewer multiply-adds, priced in latency or in time a
sample in batches (the inverse of throughput); and committees chosen by these costs. The paper finds
that fewer multiply-adds are a real speedup on hardware.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from committee.errors import CostError, Unsupported
from committee.report.style import cost_axis, empty_figure
from committee.study.base import About, Analysis, Cell, Column, Finding, Table
from committee.study.best_cascades import (
    draw_pairs,
    same_accuracy_table,
    same_cost_table,
    speedup,
    told_same_accuracy,
)
from committee.study.context import Judge, Judged, Pair, Study
from committee.study.estimates import accuracy_of
from committee.study.text import told_ratios

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ABOUT = About(
    "measured_costs",
    "The same in measured time",
    "section 5.1 and appendix A, tables 1, 2, 8, 9 and 14",
)
# Of these units, how many samples a second are 1000 over the cost.
_MILLISECONDS = ("latency_ms", "ms_per_sample")


@dataclass(frozen=True)
class MeasuredCosts:
    """What the figure shows.

    Args:
        pairs: By unit, single models with the best committees by that cost.
        judge: Which split judged.
    """

    pairs: dict[str, tuple[Pair, ...]]
    judge: Judge


def analyse(study: Study) -> Finding[MeasuredCosts]:
    """Price the matching committees in every other unit of the pool, and choose anew by each.

    Raises:
        Unsupported: If there is no other unit in which all models have comparable costs.
    """
    own = study.settings.unit
    tables: list[Table] = []
    told: list[str] = []
    pairs: dict[str, tuple[Pair, ...]] = {}
    refused: list[str] = []
    for unit in sorted({*study.val.costs.units} & {*study.test.costs.units} - {own}):
        try:
            study.val.costs.unit(unit)
            study.test.costs.unit(unit)
        except CostError as error:
            refused.append(str(error))
            continue
        priced, sentence = _priced(study, unit)
        pairs[unit] = study.pairs_in(unit)
        tables += [
            priced,
            same_cost_table(study, pairs[unit], unit, f"-{unit}"),
            same_accuracy_table(study, pairs[unit], unit, f"-{unit}"),
        ]
        told.append(sentence)
        told += [f"Chosen by {unit}: {each}" for each in told_same_accuracy(study, pairs[unit])]
    if not pairs:
        why = refused or [f"every model has a cost in {own}, and in no other unit"]
        raise Unsupported(
            f"{'; '.join(why)}. Measure them with: committee profile POOL.toml --store STORE"
        )
    return Finding(ABOUT, tuple(tables), (*told, *refused), MeasuredCosts(pairs, study.judge))


def _priced(study: Study, unit: str) -> tuple[Table, str]:
    """The committees chosen by the study's own unit, in another one."""
    own = study.settings.unit
    some = [(p.single, p.same_accuracy) for p in study.pairs if p.same_accuracy]
    singles = study.judged([single.cascade for single, _ in some], unit)
    found = study.judged([each.cascade for _, each in some], unit)
    rows: list[tuple[Cell, ...]] = []
    ratios: list[tuple[float | None, float | None]] = []
    for (single, each), single_there, there in zip(some, singles, found, strict=True):
        ratios.append((speedup(single, each), speedup(single_there, there)))
        rows.append(
            (
                single.told,
                accuracy_of(single.test),
                single_there.test.average_cost,
                each.told,
                accuracy_of(each.test),
                there.test.average_cost,
                *ratios[-1],
                *_throughputs(unit, single_there, there),
            )
        )
    rates = unit in _MILLISECONDS
    table = Table(
        f"Committees that match each model by {own}, priced in {unit}",
        (
            Column("model"),
            Column("accuracy", "share"),
            Column("cost", "cost", unit),
            Column("committee"),
            Column("committee: accuracy", "share"),
            Column("average cost", "cost", unit),
            Column(f"speedup in {own}", "ratio"),
            Column(f"speedup in {unit}", "ratio"),
            *(
                Column(f"{who}: samples a second", "number")
                for who in ("model", "committee")
                if rates
            ),
        ),
        tuple(rows),
        f"The average cost of a committee is computed from its models' own, as measured alone, and "
        f"its exits on {study.judge}; no committee was run.",
        name=f"priced-{unit}",
    )
    known = [(a, b) for a, b in ratios if a is not None and b is not None]
    sentence = (
        f"Committees that match each model by {own} have speedups of "
        f"{told_ratios([a for a, _ in known])} in {own}, and of "
        f"{told_ratios([b for _, b in known])} in {unit}."
        if known
        else f"No committee matches a model by {own}."
    )
    return table, sentence


def _throughputs(unit: str, *committees: Judged) -> tuple[float | None, ...]:
    if unit not in _MILLISECONDS:
        return ()
    return tuple(1000 / cost if (cost := c.test.average_cost) else None for c in committees)


def draw(data: MeasuredCosts) -> Figure:
    """One panel a unit, each after figure 5 of the paper.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    figure = empty_figure(7.2, 4.6 * len(data.pairs))
    panels = figure.subplots(len(data.pairs), 1, squeeze=False)
    for axes, (unit, pairs) in zip(panels[:, 0], data.pairs.items(), strict=True):
        size, label = cost_axis(unit, [pair.single.test.average_cost for pair in pairs])
        draw_pairs(axes, pairs, size, label, data.judge)
    return figure


ANALYSIS = Analysis(ABOUT, analyse, draw)
