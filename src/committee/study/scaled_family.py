"""A family of cascades scaled from one base cascade: Wang et al. (2022), appendix E.2.

Table 15 of the paper: models of one base cascade, each replaced by the next larger one again and
again, make a family of cascades at the costs of the single models. Only the thresholds of its
members are chosen anew, which spares the search over models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter

from committee.errors import Unsupported
from committee.pool.table import Column, Table
from committee.report.text import gain_range, named
from committee.selection.front import Committee
from committee.study import columns
from committee.study.base import Analysis, Finding
from committee.study.context import Study, feasible
from committee.study.drawing import plane_of
from committee.style import CASCADE, SERIES, Figure

# Models of the base cascade, as in the paper.
_MOST = 3

Stages = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class _Member:
    """A cascade of the family, the model whose cost it keeps, and what search finds there."""

    name: str
    single: Committee
    scaled: Committee
    searched: Committee | None


def _analyse(study: Study) -> Finding:
    """Choose a base cascade at the cost of a small model, and scale it up as far as models go.

    The base is the best committee of up to three models at the cost of the cheapest model for which
    that is a cascade whose models have larger ones.
    """
    members = _members(study)
    unit = study.settings.unit

    single, scaled, searched = map(attrgetter, ("single", "scaled", "searched"))
    table = Table(
        "A family of cascades",
        (
            Column("member", lambda member: member.name),
            columns.models("cascade", scaled),
            columns.accuracies("accuracy", scaled),
            columns.costs("average cost", scaled, unit),
            columns.models("at the cost of", single),
            columns.costs("its cost", single, unit),
            columns.accuracies("its accuracy", single),
            study.gains("accuracy over the model's", scaled, single),
            columns.models("searched at that cost", searched),
            study.gains("accuracy over the searched one's", scaled, searched),
        ),
        members,
        "C0 was chosen by search; only the thresholds of the others were. Larger means next in "
        "cost among the architectures of the pool.",
    )
    return Finding((table,), _sentences(study, members), data=members)


def _scale(stages: Stages, architectures: Sequence[Sequence[str]], steps: int) -> Stages | None:
    """Return stages whose models are some steps further up; None if none are so large.

    The second training of an architecture becomes the second of the larger one.

    >>> ladder = [["a1", "a2"], ["b1", "b2"], ["c1"]]
    >>> _scale((("a1",), ("a2", "b1")), ladder, 1)
    (('b1',), ('b2', 'c1'))
    >>> _scale((("a1",), ("b2",)), ladder, 1) is None
    True
    """
    place = {
        name: (size, training)
        for size, trainings in enumerate(architectures)
        for training, name in enumerate(trainings)
    }
    names = {at: name for name, at in place.items()}
    larger = {name: names.get((size + steps, training)) for name, (size, training) in place.items()}
    scaled = tuple(tuple(larger[name] for name in stage) for stage in stages)
    if any(name is None for stage in scaled for name in stage):
        return None
    return scaled  # type: ignore[return-value]  # no name is None


def _members(study: Study) -> list[_Member]:
    ladder = list(study.architectures.values())
    front = study.search(min(_MOST, study.val.most_models))
    if study.val.layout.view_groups:
        raise Unsupported("models are divided into blocks of views, none of which has a larger one")
    for start, pair in enumerate(study.pairs):
        base = feasible(front.at_most, pair.single.val.average_cost)
        if base is None or len(base.cascade.stages) == 1:
            continue
        division = study.val.holding(base.cascade.models_of_stages)
        stages = division.layout.on_wholes(base.cascade.models_of_stages)
        if _scale(stages, ladder, 1) is None:
            continue
        members: list[_Member] = []
        for steps, larger in enumerate(study.pairs[start:]):
            larger_stages = _scale(stages, ladder, steps)
            if larger_stages is None:
                break
            front_here = study.threshold_front(division.layout.on_tiles(larger_stages))
            best = feasible(front_here.at_most, larger.single.val.average_cost)
            if best is None:
                break
            members.append(_Member(f"C{steps}", larger.single, best, larger.same_cost))
        return members
    raise Unsupported(
        f"no cascade of up to {_MOST} models costs as little as a single model and can be scaled "
        "up; it takes more architectures of rising cost"
    )


def _sentences(study: Study, members: Sequence[_Member]) -> tuple[str, ...]:
    gains = study.gains_of([(each.single, each.scaled) for each in members])
    lost = study.gains_of([(each.searched, each.scaled) for each in members if each.searched])
    sentences = [
        f"The base {named(members[0].scaled.cascade)} makes a family of {len(members)} cascades.",
        f"At the cost of single models they gain {gain_range(gains)} points on {study.test_text}; "
        f"{sum(gain.low > 0 for gain in gains)} of {len(gains)} gains are clear of their paired "
        "interval.",
    ]
    if lost:
        sentences.append(
            f"Against committees searched at the same cost they gain {gain_range(lost)} points; "
            f"{sum(each.high < 0 for each in lost)} are clearly less accurate."
        )
    return tuple(sentences)


def _draw(study: Study, members: Sequence[_Member]) -> Figure:
    """Draw accuracy against average cost: single models, the family, searched committees."""
    plane = plane_of(study)
    plane.mark_singles()
    family = plane.mark([m.scaled for m in members], CASCADE, "Scaled from C0", line=True)
    searched = [member.searched for member in members if member.searched]
    plane.mark(searched, SERIES[2], "Searched at each cost", line=True)
    return plane.finish([(m.name, *place) for m, place in zip(members, family, strict=True)])


ANALYSIS = Analysis(
    "scaled_family", "Cascades scaled from one", "appendix E.2, table 15", _analyse, _draw
)
