"""A family of cascades scaled from one base cascade: Wang et al. (2022), appendix E.2.

Table 15 of the paper: models of one base cascade, each replaced by the next larger one again and
again, make a family of cascades at the costs of the single models. Only the thresholds of its
members are chosen anew, and that spares the search over models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from committee.errors import Unsupported
from committee.report.style import CASCADE, SERIES
from committee.selection.paired import Estimate
from committee.study.base import About, Analysis, Column, Finding, Table
from committee.study.context import Judge, Judged, Study, feasible
from committee.study.drawing import finish, mark, mark_singles, plane
from committee.study.estimates import accuracy_of
from committee.study.text import told_gains

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ABOUT = About("scaled_family", "Cascades scaled from one", "appendix E.2, table 15")
# Models of the base cascade, as in the paper.
_MOST = 3

Stages = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Member:
    """One cascade of the family.

    Args:
        single: The model whose cost it keeps to.
        scaled: The base cascade, scaled up; its thresholds are the best for that cost.
        searched: The best committee at that cost, whatever its models; None if there is none.
    """

    single: Judged
    scaled: Judged
    searched: Judged | None


@dataclass(frozen=True)
class ScaledFamily:
    """What the figure shows: single models, members, unit of costs, which split judged."""

    singles: tuple[Judged, ...]
    members: tuple[Member, ...]
    unit: str
    judge: Judge


def analyse(study: Study) -> Finding[ScaledFamily]:
    """Choose a base cascade at the cost of a small model, and scale it up as far as models go.

    The base is the best committee of up to three models at the cost of the cheapest model for which
    that is a cascade whose models have larger ones.

    Raises:
        Unsupported: If there is no such cascade.
    """
    members = _members(study)
    own = study.settings
    cells = tuple(_cells(study, number, member) for number, member in enumerate(members))
    table = Table(
        "A family of cascades",
        (
            Column("member"),
            Column("cascade"),
            Column("accuracy", "share"),
            Column("average cost", "cost", own.unit),
            Column("at the cost of"),
            Column("its cost", "cost", own.unit),
            Column("its accuracy", "share"),
            Column("accuracy over the model's", "points"),
            Column("searched at that cost"),
            Column("accuracy over the searched one's", "points"),
        ),
        cells,
        "C0 was chosen by search; of the others only thresholds were. Larger means next in cost "
        "among the architectures of the pool.",
    )
    return Finding(
        ABOUT,
        (table,),
        _sentences(study, members),
        ScaledFamily(study.singles, members, own.unit, study.judge),
    )


def scaled(stages: Stages, architectures: Sequence[Sequence[str]], steps: int) -> Stages | None:
    """Stages whose models are some steps further up; None if there are none so large.

    The second training of an architecture becomes the second of the larger one.

    Args:
        stages: Of the cascade to be scaled.
        architectures: Trainings of each, by rising cost.
        steps: How far up.

    >>> ladder = [["a1", "a2"], ["b1", "b2"], ["c1"]]
    >>> scaled((("a1",), ("a2", "b1")), ladder, 1)
    (('b1',), ('b2', 'c1'))
    >>> scaled((("a1",), ("b2",)), ladder, 1) is None
    True
    """
    place = {name: (i, j) for i, each in enumerate(architectures) for j, name in enumerate(each)}

    def larger(name: str) -> str | None:
        size, training = place[name]
        if size + steps >= len(architectures) or training >= len(architectures[size + steps]):
            return None
        return architectures[size + steps][training]

    found = tuple(tuple(larger(name) for name in stage) for stage in stages)
    if any(name is None for stage in found for name in stage):
        return None
    return tuple(tuple(name for name in stage if name is not None) for stage in found)


def _members(study: Study) -> tuple[Member, ...]:
    ladder = list(study.architectures.values())
    front = study.search(min(_MOST, study.val.most_models))
    if study.val.blocks:
        raise Unsupported(
            "models are divided in blocks of views, of which none is the next larger one's"
        )
    for start, pair in enumerate(study.pairs):
        base = feasible(front.at_most, pair.single.val.average_cost)
        if base is None or len(base.cascade.stages) == 1:
            continue
        division = study.val.holding(base.cascade.models_of_stages)
        stages = division.seeing_wholes(base.cascade.models_of_stages)
        if scaled(stages, ladder, 1) is None:
            continue
        members = []
        for steps, of in enumerate(study.pairs[start:]):
            models = scaled(stages, ladder, steps)
            if models is None:
                break
            found = feasible(
                study.threshold_front(division.seeing_parts(models)).at_most,
                of.single.val.average_cost,
            )
            if found is None:
                break
            members.append(Member(of.single, found, of.same_cost))
        return tuple(members)
    raise Unsupported(
        f"no cascade of up to {_MOST} models costs as little as a single model and can be scaled "
        "up; it takes more architectures of rising cost"
    )


def _over_searched(study: Study, member: Member) -> Estimate | None:
    if member.searched is None:
        return None
    return study.gain(member.scaled.cascade, member.searched.cascade)


def _cells(study: Study, number: int, member: Member) -> tuple[str | float | Estimate | None, ...]:
    return (
        f"C{number}",
        member.scaled.told,
        accuracy_of(member.scaled.test),
        member.scaled.test.average_cost,
        member.single.told,
        member.single.test.average_cost,
        accuracy_of(member.single.test),
        study.gain(member.scaled.cascade, member.single.cascade),
        member.searched.told if member.searched is not None else None,
        _over_searched(study, member),
    )


def _sentences(study: Study, members: Sequence[Member]) -> tuple[str, ...]:
    gains = [study.gain(each.scaled.cascade, each.single.cascade) for each in members]
    lost = [e for e in (_over_searched(study, member) for member in members) if e is not None]
    told = [
        f"The base {members[0].scaled.told} makes a family of {len(members)} cascades.",
        f"At the cost of single models they gain {told_gains(gains)} points on {study.judge}; "
        f"{sum(gain.low > 0 for gain in gains)} of {len(gains)} gains are clear of their paired "
        "interval.",
    ]
    if lost:
        told.append(
            f"Against committees searched at the same cost they gain {told_gains(lost)} points; "
            f"{sum(each.high < 0 for each in lost)} are clearly less accurate."
        )
    return tuple(told)


def draw(data: ScaledFamily) -> Figure:
    """Accuracy against average cost: single models, the scaled family, searched committees.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    figure, axes, size, label = plane(data.unit, data.singles)
    searched = [m.searched for m in data.members if m.searched is not None]
    family = [member.scaled for member in data.members]
    drawn = [
        mark_singles(axes, data.singles, size),
        mark(axes, family, size, CASCADE, "Scaled from C0", line=True),
        mark(axes, searched, size, SERIES[2], "Searched at each cost", line=True),
    ]
    named = [(f"C{number}", float(x), float(y)) for number, (x, y) in enumerate(drawn[1])]
    finish(axes, drawn, label, data.judge, data.singles, named=named)
    return figure


ANALYSIS = Analysis(ABOUT, analyse, draw)
