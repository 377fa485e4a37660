"""How many views a clip needs, and exits between them: Wang et al. (2022), section 7.1, table 6.

A video model's output is the mean over many views of a clip, and its cost counts them all: 30 views
are 30 times the multiply-adds of one. Where the views are divided into blocks, a clip may exit
after some of them. That is a cascade of one set of weights. It is compared not only with all views,
but with fewer views of every clip, which save as much without a cascade.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter

from committee.errors import Unsupported
from committee.pool.table import Column, Table
from committee.report.text import named
from committee.rule.combinations import ORDER_FREE
from committee.selection.front import Committee
from committee.spec.model import ModelSpec
from committee.study import columns
from committee.study.base import POINTS, Analysis, Finding
from committee.study.context import Study, feasible
from committee.study.drawing import plane_of
from committee.style import SERIES, Figure
from committee.text import times


@dataclass(frozen=True)
class _Views:
    """One set of weights on the first block of views, the first two, …, and with exits between."""

    model: str
    each: int
    fixed: tuple[Committee, ...]
    exits: Committee | None
    front: tuple[Committee, ...]

    @property
    def whole(self) -> Committee:
        """On all views."""
        return self.fixed[-1]

    @property
    def total(self) -> int:
        """How many views a clip has."""
        return self.each * len(self.fixed)

    @property
    def enough(self) -> int:
        """How many blocks of every clip are as accurate as all on the validation split."""
        goal = self.whole.val.accuracy
        return next(n for n, some in enumerate(self.fixed, 1) if some.val.accuracy >= goal)


def _analyse(study: Study) -> Finding:
    """Give every clip the same number of blocks, and let clips exit between blocks."""
    if not study.val.layout.view_groups:
        raise Unsupported(
            "no model sees a sample in several blocks of views; give a model of video view_blocks "
            "in the pool file"
        )
    if study.settings.combine not in ORDER_FREE:
        raise Unsupported(f"{study.settings.combine}: nothing is averaged over views")
    views = [_views(study, name, names) for name, names in study.val.layout.view_groups.items()]
    sentences = tuple(line for each in views for line in _sentences(study, each))
    return Finding((_table(study, views),), sentences, data=views)


def _views(study: Study, model: str, names: tuple[str, ...]) -> _Views:
    ends = range(1, len(names) + 1)
    fixed = study.evaluated([study.cascade([names[:end]]) for end in ends])
    front = study.search(models=names)
    spec = study.val.specs[names[0]]
    assert isinstance(spec, ModelSpec)
    each = spec.preprocessing.inputs
    return _Views(
        model, each, fixed, feasible(front.at_least, fixed[-1].val.accuracy), front.committees
    )


# The views of a model, a text that says which of them run, and the committee of these.
_Row = tuple[_Views, str, Committee]


def _rows(views: _Views) -> Iterator[_Row]:
    for count, committee in enumerate(views.fixed[:-1], 1):
        yield views, f"{views.each * count} of {views.total}", committee
    yield views, f"all {views.total}", views.whole
    if views.exits is not None:
        yield views, f"exits between views: {named(views.exits.cascade)}", views.exits


def _table(study: Study, every: Sequence[_Views]) -> Table:
    def whole(row: _Row) -> Committee:
        return row[0].whole

    committee, unit = itemgetter(2), study.settings.unit
    return Table(
        "Models on some of their views, and exits between views",
        (
            Column("model", lambda row: row[0].model),
            Column("views", lambda row: row[1]),
            columns.accuracies("accuracy", committee),
            columns.costs("average cost", committee, unit),
            columns.worst_costs("worst-case cost", committee, unit),
            columns.exit_texts("exit at each stage", committee),
            study.gains("accuracy over all views'", committee, whole, itself=False),
            columns.ratios("speedup over all views", committee, whole),
        ),
        [row for each in every for row in _rows(each)],
        f"Exits between views: the cheapest cascade of up to {study.settings.max_models} blocks "
        f"that is as accurate as all views on {study.val_name}. All figures are of "
        f"{study.test_text}.",
    )


def _sentences(study: Study, views: _Views) -> Iterator[str]:
    val, total, test = study.val_name, views.total, study.test_text
    enough = views.fixed[views.enough - 1]
    seen = views.each * views.enough
    if views.enough < len(views.fixed):
        yield (
            f"{views.model}: {seen} of {total} views of every clip are as accurate as all on "
            f"{val}, {times(columns.speedup(views.whole, enough))} cheaper; on {test} the "
            f"difference is {POINTS.text(study.gain(enough.cascade, views.whole.cascade))} points."
        )
    if views.exits is None:
        yield (
            f"{views.model}: no cascade of up to {study.settings.max_models} blocks is as accurate "
            f"as all {total} views on {val}."
        )
        return
    gain = study.gain(views.exits.cascade, views.whole.cascade)
    saved, over_fixed = (
        times(columns.speedup(each, views.exits)) for each in (views.whole, enough)
    )
    yield (
        f"{views.model}: exits between views are {saved} cheaper than all {total} views and "
        f"{over_fixed} cheaper than {seen} of every clip, at {POINTS.text(gain)} points on {test}."
    )


def _draw(study: Study, every: Sequence[_Views]) -> Figure:
    """Draw each model on rising numbers of views, and its exits between views."""
    plane = plane_of(study)
    plane.mark_singles()
    for number, views in enumerate(every):
        fixed, between = (SERIES[(2 * number + i) % len(SERIES)] for i in (0, 1))
        plane.mark(views.fixed, fixed, f"{views.model}, fixed views", line=True)
        plane.mark(views.front, between, f"{views.model}, exits between views", line=True)
    return plane.finish(whole=True)


ANALYSIS = Analysis(
    "views", "How many views, and exits between them", "section 7.1, table 6", _analyse, _draw
)
