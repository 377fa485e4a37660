"""Rows: what a report says of each committee, on the split that chose and the one that judges."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from committee.errors import Infeasible
from committee.pool.evaluate import Evaluation
from committee.pool.evaluate import check_test_pool as check_judge_of
from committee.pool.pool import Pool
from committee.rule.cascade import Cascade
from committee.rule.combinations import ORDER_FREE
from committee.selection.evaluate_many import evaluate_all
from committee.selection.exhaustive import ensembles
from committee.selection.front import Committee, Front, front_of
from committee.selection.notes import front_comparison
from committee.selection.paired import Comparison
from committee.selection.targets import Promise, promises_of
from committee.spec.task import CLASSIFICATION, Task

SINGLE = "single model"
ENSEMBLE = "ensemble of all"
MEMBER = "front"
BEST_ENSEMBLE = "best ensemble"
CHOSEN = "chosen"


@dataclass(frozen=True)
class Row:
    """One committee, with its figures on each split. Every evaluation names its split.

    Args:
        role: Why it stands in the report: ``single model``, ``ensemble of all``, ``best
            ensemble``, ``front``, ``matches X``, ``most accurate for X's cost`` or ``chosen``.
        cascade: The committee.
        val: What it scores and costs on the split that chose.
        test: The same on the split that judges, or None if there is none.
        speedup: Average cost of the reference model over the average cost of this committee, on the
            split that judges if there is one; None if this committee costs nothing.
        reference: The model that the speedup is over.
        self_cascade: Whether the models are one set of weights at rising resolutions.
        name: Of a single model, its name; else empty.
        task: What a sample is, and what of it leaves.
        versus: Of what a target picked, how it compares with its reference on the split that
            evaluates; else None.
        also: More roles of the same committee, where rows are merged; see :func:`merged`.
        promises: Of what the user chose, what became of the accuracy and the cost asked for, on the
            split that evaluates; empty without one.
    """

    role: str
    cascade: Cascade
    val: Evaluation
    test: Evaluation | None
    speedup: float | None
    reference: str
    self_cascade: bool = False
    name: str = ""
    task: Task = CLASSIFICATION
    versus: Comparison | None = None
    also: tuple[str, ...] = ()
    promises: tuple[Promise, ...] = ()

    @property
    def judged(self) -> Evaluation:
        """The evaluation to report: on the judging split; without one, on the one that chose."""
        return self.val if self.test is None else self.test

    @property
    def kind(self) -> str:
        """``model``, ``ensemble``, ``cascade`` or ``self-cascade``."""
        return "self-cascade" if self.self_cascade else self.cascade.kind

    @property
    def chosen(self) -> bool:
        """Whether the choosing split picked it, so that its figures there flatter it."""
        return self.role not in (SINGLE, ENSEMBLE)

    @property
    def told(self) -> str:
        """Its role for people; what matches on the split that chose may not on the one that judges.

        So ``matches X`` names the split.
        """
        match = matches(self.reference)
        split = "" if self.test is None else f" on {self.val.split}"
        return ", ".join(f"{role}{split * (role == match)}" for role in (self.role, *self.also))

    @property
    def gap(self) -> float | None:
        """Accuracy on the choosing split less that on the judging one, shares of 1; else None."""
        return None if self.test is None else self.val.accuracy - self.test.accuracy


def summary(
    front: Front,
    test: Pool | None = None,
    reference: str | None = None,
    chosen: Cascade | None = None,
) -> list[Row]:
    """The rows that most readers want.

    Every single model by rising cost; the ensemble of all, where the combination does not depend on
    order; the cheapest committee that matches the reference model; the most accurate that costs no
    more than it; what the user chose. What nothing can meet is left out.

    Args:
        front: Committees found on the choosing split.
        test: The pool on a split that chose nothing, or None.
        reference: A model of the pool; the most accurate single one if left out.
        chosen: The committee that the user's own target picked, or None.

    Raises:
        UnknownNameError: If the reference is not in the pool, or a model is not in ``test``.
        MisalignedError: If ``test`` holds the samples that chose, other classes, or no labels.
        CostError: If a model has no cost in the search's unit.
    """
    check_judge(front, test)
    name = reference_of(front, reference)
    combine, known = front.settings.combine, front.pool.calibrations
    cascades = [
        (SINGLE, Cascade.of([models], combine=combine, calibrations=known))
        for models in _rising(front).values()
    ]
    if len(cascades) > 1 and front.settings.combine in ORDER_FREE:
        names = [name for name in front.pool.names if name not in front.pool.whole_of]
        every = Cascade.ensemble(names, combine=combine, calibrations=known)
        cascades.append((ENSEMBLE, every))
    cascades += _targets(front, name)
    cascades += [] if chosen is None else [(CHOSEN, chosen)]
    return _rows(front, test, name, cascades)


def ensemble_rows(
    front: Front, test: Pool | None = None, reference: str | None = None
) -> list[Row]:
    """Ensembles that no other ensemble beats on the choosing split, cheapest first.

    There are none where the combination depends on order. Arguments and errors as of
    :func:`summary`.
    """
    check_judge(front, test)
    own = front.settings
    found = ensembles(
        front.pool, own.max_models, own.combine, own.unit, own.metric, families=own.families
    )
    best = front_of(found) if found else ()
    cascades = [(BEST_ENSEMBLE, each.cascade) for each in best]
    return _rows(front, test, reference_of(front, reference), cascades)


def front_rows(front: Front, test: Pool | None = None, reference: str | None = None) -> list[Row]:
    """Every member of the front, cheapest first; arguments and errors as of :func:`summary`."""
    check_judge(front, test)
    name = reference_of(front, reference)
    return _rows(front, test, name, [(MEMBER, member.cascade) for member in front])


def row_of(
    front: Front,
    role: str,
    cascade: Cascade,
    test: Pool | None = None,
    reference: str | None = None,
) -> Row:
    """One committee; arguments and errors as of :func:`summary`."""
    check_judge(front, test)
    return _rows(front, test, reference_of(front, reference), [(role, cascade)])[0]


def choice_of(rows: Sequence[Row]) -> Row | None:
    """The row that the user chose, else the one that matches the reference; None without both."""
    for role in (CHOSEN, matches(rows[0].reference)):
        for row in rows:
            if role in (row.role, *row.also):
                return row
    return None


def merged(rows: Sequence[Row]) -> list[Row]:
    """Rows of which no two are the same committee: what a later one is, the first tells too."""
    found: dict[tuple[object, ...], Row] = {}
    for row in rows:
        key = (row.cascade.stages, row.cascade.combine)
        first = found.setdefault(key, row)
        if first is not row:
            versus = first.versus or row.versus
            if row.role == CHOSEN:
                versus = row.versus
            promises = first.promises or row.promises
            also = (*first.also, row.role)
            found[key] = replace(first, also=also, versus=versus, promises=promises)
    return list(found.values())


def matches(reference: str) -> str:
    """Role of the cheapest committee at least as accurate as the reference."""
    return f"matches {reference}"


def reference_of(front: Front, reference: str | None) -> str:
    """The model that others are compared with: the one named, else the most accurate single.

    Raises:
        UnknownNameError: If it is not in the pool.
    """
    if reference is None:
        return front.most_accurate_single
    front.pool.single(reference, front.settings.combine)
    return reference


def check_judge(front: Front, test: Pool | None) -> None:
    """Refuse a judging split that is the choosing one, or that has other classes.

    Raises:
        MisalignedError: If so.
    """
    if test is not None:
        check_judge_of(front.pool, test, front.settings.metric, front.settings.unit)


def _rising(front: Front) -> dict[str, tuple[str, ...]]:
    """What each single model is made of, cheapest first."""
    singles = front.pool.singles(front.settings.combine)
    prices = front.pool.costs.values(front.settings.unit)
    return dict(sorted(singles.items(), key=lambda each: (_total(prices, each[1]), each[0])))


def _total(prices: Mapping[str, float], models: Iterable[str]) -> float:
    return math.fsum(prices[name] for name in models)


def _price(front: Front, pool: Pool, single: str) -> float:
    """What a single model costs."""
    models = front.pool.single(single, front.settings.combine)
    return _total(pool.costs.values(front.settings.unit), models)


def _targets(front: Front, reference: str) -> list[tuple[str, Cascade]]:
    cost = _price(front, front.pool, reference)
    wanted: list[tuple[str, Callable[[], Committee]]] = [
        (matches(reference), lambda: front.matching(reference)),
        (f"most accurate for {reference}'s cost", lambda: front.at_most(cost)),
    ]
    found = []
    for role, choose in wanted:
        try:
            found.append((role, choose().cascade))
        except Infeasible:
            continue
    return found


def _rows(
    front: Front, test: Pool | None, reference: str, cascades: list[tuple[str, Cascade]]
) -> list[Row]:
    unit = front.settings.unit
    judge = front.pool if test is None else test
    cost = _price(front, judge, reference)
    metric, task = front.settings.metric, front.pool.task
    names = {models: name for name, models in _rising(front).items()}
    every = [front.pool.described(cascade) for _, cascade in cascades]
    vals = evaluate_all(every, front.pool, unit, metric)
    tests = [None] * len(every) if test is None else evaluate_all(every, test, unit, metric)
    rows = []
    for (role, _), cascade, val, judged in zip(cascades, every, vals, tests, strict=True):
        average = (judged or val).average_cost
        speedup = cost / average if average else None
        own = front.pool.is_self_cascade(cascade)
        name = names.get(cascade.names, "") if len(cascade.stages) == 1 else ""
        versus = None
        if role not in (SINGLE, ENSEMBLE, MEMBER, BEST_ENSEMBLE):
            within = 0.0 if role == matches(reference) else None
            versus = front_comparison(front, cascade, reference, test, within)
        told: tuple[Promise, ...] = ()
        if role == CHOSEN and test is not None and judged is not None:
            told = promises_of(cascade, judged, test)
        row = Row(role, cascade, val, judged, speedup, reference, own, name, task, versus)
        rows.append(replace(row, promises=told))
    return rows
