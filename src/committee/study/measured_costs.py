"""Speedups in measured time: Wang et al. (2022), section 5.1 and appendix A, tables 1, 2, 8, 9, 14.

The committees that match a model's accuracy for fewer multiply-adds, priced in latency or in time a
sample in batches (the inverse of throughput); and committees chosen by these costs. The paper finds
that fewer multiply-adds are a real speedup on hardware.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter

from committee.errors import CostError, Unsupported
from committee.pool.table import Column, Table
from committee.report.text import ratio_range
from committee.selection.front import Committee
from committee.study import columns
from committee.study.base import Analysis, Finding
from committee.study.best_cascades import draw_pairs, pair_tables, same_accuracy_sentences
from committee.study.context import Pick, Study
from committee.study.drawing import plane_of
from committee.style import Figure, empty_figure

# In these units, samples a second are 1000 over the cost.
_MILLISECONDS = ("latency_ms", "ms_per_sample")


def _analyse(study: Study) -> Finding:
    """Price the matching committees in every other unit of the pool, and choose anew by each."""
    own = study.settings.unit
    tables: list[Table] = []
    sentences: list[str] = []
    units: list[str] = []
    refused: list[str] = []
    for unit in sorted({*study.val.costs.units} & {*study.test.costs.units} - {own}):
        try:
            study.val.costs.unit(unit)
            study.test.costs.unit(unit)
        except CostError as error:
            refused.append(str(error))
            continue
        units.append(unit)
        pairs = study.pairs_in(unit)
        priced, sentence = _priced(study, unit)
        tables += [priced, *pair_tables(study, pairs, unit, f"-{unit}")]
        sentences.append(sentence)
        sentences += [f"Chosen by {unit}: {s}" for s in same_accuracy_sentences(study, pairs)]
    if not units:
        why = refused or [f"every model has a cost in {own}, and in no other unit"]
        raise Unsupported(
            f"{'; '.join(why)}. Measure them with: committee profile POOL.toml --store STORE"
        )
    return Finding(tuple(tables), (*sentences, *refused), data=units)


def _priced(study: Study, unit: str) -> tuple[Table, str]:
    """Return the committees chosen by the study's own unit, priced in another one."""
    own = study.settings.unit
    here = list(zip(*study.matched, strict=True)) or [(), ()]
    there = [study.evaluated([each.cascade for each in column], unit) for column in here]
    # Model and committee in the study's unit, then both in the other.
    rows = list(zip(*here, *there, strict=True))
    single, committee, single_there, committee_there = map(itemgetter, range(4))
    throughputs = [
        _throughput("model: samples a second", single_there),
        _throughput("committee: samples a second", committee_there),
    ]
    table = Table(
        f"Committees that match each model by {own}, priced in {unit}",
        (
            columns.models("model", single),
            columns.accuracies("accuracy", single),
            columns.costs("cost", single_there, unit),
            columns.models("committee", committee),
            columns.accuracies("committee: accuracy", committee),
            columns.costs("average cost", committee_there, unit),
            columns.ratios(f"speedup in {own}", committee, single),
            columns.ratios(f"speedup in {unit}", committee_there, single_there),
            *(throughputs if unit in _MILLISECONDS else ()),
        ),
        rows,
        f"The average cost of a committee is computed from the costs of its models, measured alone,"
        f" and from its exits on {study.test_text}; no committee was run.",
        name=f"priced-{unit}",
    )
    known = [(columns.speedup(*row[:2]), columns.speedup(*row[2:])) for row in rows]
    some = [(before, after) for before, after in known if before and after]
    if not some:
        return table, f"No committee matches a model by {own}."
    return table, (
        f"Committees that match each model by {own} have speedups of "
        f"{ratio_range([before for before, _ in some])} in {own}, and of "
        f"{ratio_range([after for _, after in some])} in {unit}."
    )


def _throughput(name: str, pick: Pick) -> Column:
    def throughput(each: Committee) -> float | None:
        cost = each.reported.average_cost
        return 1000 / cost if cost else None

    return Column(name, throughput, "number").of(pick)


def _draw(study: Study, units: Sequence[str]) -> Figure:
    """Draw one panel a unit, each after figure 5 of the paper."""
    figure = empty_figure(7.2, 4.6 * len(units))
    panels = figure.subplots(len(units), 1, squeeze=False)
    for axes, unit in zip(panels[:, 0], units, strict=True):
        pairs = study.pairs_in(unit)
        draw_pairs(plane_of(study, [pair.single for pair in pairs], unit, axes), pairs)
    return figure


ANALYSIS = Analysis(
    "measured_costs",
    "The same in measured time",
    "section 5.1 and appendix A, tables 1, 2, 8, 9 and 14",
    _analyse,
    _draw,
)
