"""Cascades with and without a guarantee on worst-case cost: Wang et al. (2022), section 5.2.

Table 4 of the paper: the cheapest cascade that is as accurate as a single model may cost more than
it on samples that run all stages. A bound on the sum over all stages forbids that, at some price on
average.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from committee.errors import Unsupported
from committee.report.text import named
from committee.selection.front import Committee
from committee.study import columns
from committee.study.base import Analysis, Entry, Finding
from committee.study.context import Study, feasible
from committee.study.drawing import draw_beside
from committee.style import CASCADE, SERIES, Figure, cost_axis
from committee.text import times

_WITHOUT, _WITH = "without guarantee", "with guarantee"

# A single model, its cheapest equal whatever that costs at worst, and its guaranteed equal.
Guarantee = tuple[Committee, Committee, Committee]


def _analyse(study: Study) -> Finding:
    """Find for each single model the cheapest equal committee with and without the guarantee."""
    rows = _guarantees(study)
    if not any(len(without.cascade.names) > 1 for _, without, _ in rows):
        raise Unsupported("no committee of several models costs less than its equal in accuracy")
    table = columns.beside_table(
        study,
        "With and without a guarantee on worst-case cost",
        "guarantee",
        _entries(rows),
        "The cheapest committees that are as accurate as the model on the split that chose; with "
        "the guarantee none costs more than the model on any sample.",
        columns.worst_costs("worst-case cost", lambda e: e.committee, study.settings.unit),
        columns.ratios("speedup on average", lambda e: e.committee, lambda e: e.single),
    )
    return Finding((table,), tuple(_sentences(rows)), data=rows)


def _guarantees(study: Study) -> list[Guarantee]:
    """Return single models with their equals in accuracy, where there are any within the bound."""
    rows = []
    for single, without in study.matched:
        bound = single.val.worst_case_cost
        # The cheapest of all is also the cheapest of those that keep to the bound.
        guaranteed: Committee | None = without
        if without.val.worst_case_cost > bound:
            front = study.search(worst_case=bound)
            guaranteed = feasible(front.at_least, single.val.accuracy)
        if guaranteed is not None:
            rows.append((single, without, guaranteed))
    return rows


def _entries(rows: Sequence[Guarantee]) -> list[Entry]:
    kinds = ("", _WITHOUT, _WITH)
    return [Entry(r[0], kind, c) for r in rows for kind, c in zip(kinds, r, strict=True)]


def _sentences(rows: Sequence[Guarantee]) -> Iterator[str]:
    dearer = [r for r in rows if r[1].val.worst_case_cost > r[0].val.worst_case_cost]
    yield (
        f"{len(dearer)} of {len(rows)} cheapest committees that match a single model cost more "
        "than it at worst."
    )
    for single, without, guaranteed in dearer:
        before, after = (columns.speedup(single, each) for each in (without, guaranteed))
        if before is None or after is None:
            continue
        cost = single.reported.average_cost
        yield (
            f"{named(single.cascade)}: {times(before)} cheaper on average without the guarantee, "
            f"at worst {without.reported.worst_case_cost / cost:.2f} times its cost; with it "
            f"{times(after)} cheaper, at worst {guaranteed.reported.worst_case_cost / cost:.2f} "
            "times."
        )


def _draw(study: Study, rows: Sequence[Guarantee]) -> Figure:
    """Draw average cost with a line to the worst case, and the gain in accuracy."""
    size, label = cost_axis(study.settings.unit, [row[0].reported.average_cost for row in rows])
    looks = {_WITHOUT: SERIES[1], _WITH: CASCADE}
    title = f"Lines end at the worst case; {study.provenance}"
    return draw_beside(study, _entries(rows), looks, label, title, size=size, worst=True)


ANALYSIS = Analysis(
    "worst_case", "A guarantee on worst-case cost", "section 5.2, table 4", _analyse, _draw
)
