"""How many views a clip needs, and exits between them: Wang et al. (2022), section 7.1, table 6.

A video model's output is the mean over many views of a clip, and its cost counts them all: 30 views
are 30 times the multiply-adds of one. Where the views are divided in blocks, a clip may leave after
some of them. That is a cascade of one set of weights; what it is measured by is not only all views,
but fewer views of every clip, which save as much without a cascade.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from committee.errors import Unsupported
from committee.report.style import SERIES
from committee.report.text import exits, times
from committee.rule.combinations import ORDER_FREE
from committee.study.base import About, Analysis, Cell, Column, Finding, Table
from committee.study.best_cascades import speedup
from committee.study.context import Judge, Judged, Study, feasible
from committee.study.cost_gain_figure import gain_over
from committee.study.drawing import finish, mark, mark_singles, plane
from committee.study.estimates import accuracy_of
from committee.study.text import told_gain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ABOUT = About("views", "How many views, and exits between them", "section 7.1, table 6")


@dataclass(frozen=True)
class Views:
    """One set of weights on more and more blocks of views.

    Args:
        model: Its name.
        each: Views of a block.
        fixed: On the first block, the first two, … of every clip; the last on all views.
        exits: The cheapest cascade of these blocks that is as accurate as all views on the choosing
            split, in committees as long as the study's; None if none is.
        front: The cascades that no other of these blocks beats there.
    """

    model: str
    each: int
    fixed: tuple[Judged, ...]
    exits: Judged | None
    front: tuple[Judged, ...]

    @property
    def whole(self) -> Judged:
        """On all views."""
        return self.fixed[-1]

    @property
    def enough(self) -> int:
        """How many blocks of every clip are as accurate as all on the choosing split."""
        goal = self.whole.val.correct
        return next(n for n, found in enumerate(self.fixed, 1) if found.val.correct >= goal)


@dataclass(frozen=True)
class OfViews:
    """What the figure shows.

    Args:
        singles: Models on all views, by rising cost.
        views: By model.
        unit: Unit of the costs.
        judge: Which split judged.
    """

    singles: tuple[Judged, ...]
    views: Mapping[str, Views]
    unit: str
    judge: Judge


def analyse(study: Study) -> Finding[OfViews]:
    """Give every clip the same number of blocks, and let clips leave between blocks.

    Raises:
        Unsupported: If no model's views are divided in blocks, or nothing is averaged over them.
    """
    if not study.val.blocks:
        raise Unsupported(
            "no model sees a sample in several blocks of views; give a model of video view_blocks "
            "in the pool file"
        )
    if study.settings.combine not in ORDER_FREE:
        raise Unsupported(f"{study.settings.combine}: nothing is averaged over views")
    found = {name: _views(study, name, names) for name, names in study.val.blocks.items()}
    unit = study.settings.unit
    table = Table(
        "Models on some of their views, and exits between views",
        (
            Column("model"),
            Column("views"),
            Column("accuracy", "share"),
            Column("average cost", "cost", unit),
            Column("worst-case cost", "cost", unit),
            Column("leave at each stage"),
            Column("accuracy over all views'", "points"),
            Column("speedup over all views", "ratio"),
        ),
        tuple(row for each in found.values() for row in _rows(study, each)),
        f"Exits between views: the cheapest cascade of up to {study.settings.max_models} blocks "
        f"that is as accurate as all views on {study.val.samples.split}. All figures are of "
        f"{study.judge}.",
    )
    told = tuple(line for each in found.values() for line in _sentences(study, each))
    return Finding(ABOUT, (table,), told, OfViews(study.singles, found, unit, study.judge))


def _views(study: Study, model: str, names: tuple[str, ...]) -> Views:
    ends = range(1, len(names) + 1)
    fixed = study.judged([study.cascade([names[:end]]) for end in ends])
    front = study.search(models=names)
    goal = fixed[-1].val.accuracy
    recipe: Mapping[str, Any] = study.val.specs[names[0]]["preprocessing"]["views"]
    each = recipe["temporal"] * recipe["spatial"] // recipe["blocks"]
    return Views(model, each, fixed, feasible(front.at_least, goal), tuple(map(Judged.of, front)))


def _rows(study: Study, views: Views) -> Iterator[tuple[Cell, ...]]:
    total = views.each * len(views.fixed)
    told = [f"{views.each * n} of {total}" for n in range(1, len(views.fixed))]
    shown = [*zip([*told, f"all {total}"], views.fixed, strict=True)]
    if views.exits is not None:
        shown.append((f"exits between views: {views.exits.told}", views.exits))
    for what, each in shown:
        yield (
            views.model,
            what,
            accuracy_of(each.test),
            each.test.average_cost,
            each.test.worst_case_cost,
            exits(each.test) if len(each.cascade.stages) > 1 else None,
            gain_over(study, each, views.whole),
            speedup(views.whole, each),
        )


def _sentences(study: Study, views: Views) -> Iterator[str]:
    val, total = study.val.samples.split, views.each * len(views.fixed)
    enough = views.fixed[views.enough - 1]
    seen = views.each * views.enough
    if views.enough < len(views.fixed):
        yield (
            f"{views.model}: {seen} of {total} views of every clip are as accurate as all on "
            f"{val}, {times(speedup(views.whole, enough))} cheaper; on {study.judge} the "
            f"difference is {told_gain(study.gain(enough.cascade, views.whole.cascade))} points."
        )
    if views.exits is None:
        yield (
            f"{views.model}: no cascade of up to {study.settings.max_models} blocks is as accurate "
            f"as all {total} views on {val}."
        )
        return
    gain = study.gain(views.exits.cascade, views.whole.cascade)
    saved, over_fixed = (times(speedup(each, views.exits)) for each in (views.whole, enough))
    yield (
        f"{views.model}: exits between views are {saved} cheaper than all {total} views and "
        f"{over_fixed} cheaper than {seen} of "
        f"every clip, at {told_gain(gain)} points on {study.judge}."
    )


def draw(data: OfViews) -> Figure:
    """Each model on rising numbers of views, and its exits between views.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    figure, axes, size, label = plane(data.unit, data.singles)
    drawn = [mark_singles(axes, data.singles, size)]
    for number, views in enumerate(data.views.values()):
        fixed, between = (SERIES[(2 * number + i) % len(SERIES)] for i in (0, 1))
        drawn.append(mark(axes, views.fixed, size, fixed, f"{views.model}, fixed views", line=True))
        drawn.append(
            mark(axes, views.front, size, between, f"{views.model}, exits between views", line=True)
        )
    finish(axes, drawn, label, data.judge, data.singles, whole=True)
    return figure


ANALYSIS = Analysis(ABOUT, analyse, draw)
