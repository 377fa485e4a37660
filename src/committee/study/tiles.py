"""Exits of tiles, for every tiling: Wang et al. (2022), section 7.2, table 7.

In segmentation the tiles of an image exit a cascade one by one. The paper compares tiles of two
sizes with whole images: smaller tiles exit where the image is easy, and cost less. A model sees a
tile through a window, so that a small tile with a wide margin may cost more than it saves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter

from committee.errors import Unsupported
from committee.pool.table import Column, Table
from committee.selection.front import Committee, Front
from committee.study import columns
from committee.study.base import POINTS, Analysis, Finding
from committee.study.context import Study, feasible
from committee.study.drawing import plane_of
from committee.style import SERIES, Figure
from committee.text import times

# A share of the reference model's cost: enough below 1 that something must exit early.
_SHARE = 0.7

# A tiling, what a committee is the best for, and the committee; None if nothing meets the aim.
_Row = tuple[str, str, Committee | None]


def _analyse(study: Study) -> Finding:
    """Set the best committees of each tiling beside the most accurate model."""
    tilings = [each.layout.tiling for each in study.val.divisions]
    task = study.val.task
    if not any(tilings):
        raise Unsupported(f"{task.samples} exit as a whole; tiles are of segmentation")
    fronts = {name: study.search(tiling=name) for name in tilings}
    # Of equally accurate ones the first, which is the cheapest.
    best = max(study.singles, key=lambda single: single.val.accuracy)
    chosen = [row for name, front in fronts.items() for row in _best_of(name, front, best)]
    singles: list[_Row] = [("", "a single model", each) for each in study.singles]
    sentences = tuple(_sentences(study, chosen, best))
    return Finding((_table(study, [*singles, *chosen], best),), sentences, data=fronts)


def _best_of(tiling: str, front: Front, best: Committee) -> tuple[_Row, ...]:
    accuracy, cost = best.val.accuracy, best.val.average_cost
    return (
        (tiling, f"cheapest as accurate as {best.name}", feasible(front.at_least, accuracy)),
        (
            tiling,
            f"most accurate for {_SHARE:g} of its cost",
            feasible(front.at_most, _SHARE * cost),
        ),
        (tiling, "most accurate", front[-1]),
    )


def _table(study: Study, rows: Sequence[_Row], best: Committee) -> Table:
    def reference(row: _Row) -> Committee:
        return best

    committee, unit, task = itemgetter(2), study.settings.unit, study.val.task
    return Table(
        "Single models, and for each size of tiles the best committees",
        (
            Column("tiles", itemgetter(0)),
            Column("what", itemgetter(1)),
            columns.models("committee", committee),
            columns.accuracies("accuracy", committee),
            study.gains(f"accuracy over {best.name}'s", committee, reference, itself=False),
            columns.costs("average cost", committee, unit),
            columns.worst_costs("worst-case cost", committee, unit),
            columns.ratios(f"speedup over {best.name}", committee, reference),
            columns.exit_texts(f"{task.units} that exit at each stage", committee),
        ),
        rows,
        f"Chosen on {study.val_name} among committees that keep to these tiles, single models "
        f"included; all figures are of {study.test_text}. full: {task.samples} exit as a whole. In "
        "A+B, A is the side of a tile in pixels and B the margin that is seen around it.",
    )


def _sentences(study: Study, chosen: Sequence[_Row], best: Committee) -> Iterator[str]:
    equal, cheaper, most = (chosen[start::3] for start in range(3))
    savings = [
        f"{times(ratio)} with {tiling}"
        for tiling, _, each in equal
        if each
        and len(each.cascade.names) > 1
        and (ratio := columns.speedup(best, each)) is not None
    ]
    val = study.val_name
    if savings:
        yield f"As accurate as {best.name} on {val} for less: {', '.join(savings)}."
    else:
        yield f"With no size of tiles is a committee as accurate as {best.name} on {val} for less."
    for what, rows in ((f"For {_SHARE:g} of its cost", cheaper), ("At their most accurate", most)):
        gains = [
            f"{POINTS.text(study.gain(each.cascade, best.cascade))} with {tiling}"
            for tiling, _, each in rows
            if each
        ]
        if gains:
            yield f"{what}, in points over {best.name} on {study.test_text}: {', '.join(gains)}."


def _draw(study: Study, fronts: Mapping[str, Front]) -> Figure:
    """Draw single models, and a front for each tiling."""
    plane = plane_of(study)
    plane.mark_singles()
    for look, (name, front) in zip(SERIES, fronts.items(), strict=False):
        plane.mark(list(front), look, f"Tiles of {name}", line=True)
    return plane.finish()


ANALYSIS = Analysis("tiles", "Tiles of several sizes", "section 7.2, table 7", _analyse, _draw)
