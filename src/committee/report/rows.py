"""Report: a front with what people read of each committee, on both splits."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

from committee.errors import Infeasible
from committee.pool.evaluate import Evaluation, check_test_pool
from committee.pool.pool import Pool
from committee.rule.cascade import Cascade
from committee.rule.combinations import JOINT
from committee.selection.evaluate_many import evaluate_all
from committee.selection.exhaustive import ensembles
from committee.selection.front import Committee, Front, front_of
from committee.selection.notes import notes_of, target_of
from committee.selection.paired import Comparison, compare
from committee.selection.targets import Promise, promises_of
from committee.spec.task import CLASSIFICATION, Task

SINGLE = "single model"
ENSEMBLE = "ensemble of all"
MEMBER = "front"
BEST_ENSEMBLE = "best ensemble"
CHOSEN = "chosen"


@dataclass(frozen=True, kw_only=True)
class Row(Committee):
    """One committee of a report.

    Args:
        role: Why it stands in the report: ``single model``, ``ensemble of all``, ``best
            ensemble``, ``front``, ``matches X``, ``most accurate for X's cost`` or ``chosen``.
        speedup: Average cost of the reference over the average cost of this committee, on the
            split that is reported; None if this committee costs nothing.
        reference: The model that the speedup is over.
        self_cascade: True if the models are one set of weights at rising resolutions.
        task: What a sample is, and what of it exits.
        versus: How a committee that a target picked compares with its reference; else None.
        also: More roles of the same committee, where rows are merged.
        promises: What became of the accuracy and the cost that the user asked for, on the test
            split; empty without one.
    """

    role: str
    speedup: float | None
    reference: str
    self_cascade: bool = False
    task: Task = CLASSIFICATION
    versus: Comparison | None = None
    also: tuple[str, ...] = ()
    promises: tuple[Promise, ...] = ()

    @property
    def kind(self) -> str:
        """``model``, ``ensemble``, ``cascade`` or ``self-cascade``."""
        return "self-cascade" if self.self_cascade else self.cascade.kind

    @property
    def chosen(self) -> bool:
        """True if the validation split picked it, so that its figures there flatter it."""
        return self.role not in (SINGLE, ENSEMBLE)

    @property
    def text(self) -> str:
        """Its roles; ``matches X`` names the split, for it may not match on the other."""
        match = matches(self.reference)
        split = "" if self.test is None else f" on {self.val.split}"
        return ", ".join(f"{role}{split * (role == match)}" for role in (self.role, *self.also))

    @property
    def gap(self) -> float | None:
        """Accuracy on the validation split less that on the test split; None without one."""
        return None if self.test is None else self.val.accuracy - self.test.accuracy


class Report:
    """A front with its single models, ensembles and choice, each evaluated once.

    Args:
        front: The front, chosen on the validation split.
        test: The pool on a split that chose nothing, or None.
        reference: A model of the pool; the most accurate single one if left out.
        chosen: The committee that the user's own target picked, or None.
    """

    def __init__(
        self,
        front: Front,
        test: Pool | None = None,
        reference: str | None = None,
        chosen: Cascade | None = None,
    ) -> None:
        self.front, self.test, self.chosen = front, test, chosen
        if test is not None:
            check_test_pool(front.pool, test, front.settings.metric, front.settings.unit)
        self.reference = reference or front.most_accurate_single
        front.pool.single(self.reference, front.settings.combine)

    @cached_property
    def rows(self) -> list[Row]:
        """The rows that most readers want.

        Every single model by rising cost; the ensemble of all, where the combination joins their
        answers; the cheapest committee that matches the reference; the most accurate that
        costs no more than it; what the user chose. What nothing can meet is left out.
        """
        combine, pool = self.front.settings.combine, self.front.pool
        cascades = [
            (SINGLE, Cascade.of([models], combine=combine, calibrations=pool.calibrations))
            for models in self._singles.values()
        ]
        if len(cascades) > 1 and combine in JOINT:
            names = [name for name in pool.names if name not in pool.layout.whole_of]
            if combine == "vote":  # the dearest breaks ties
                names.sort(key=pool.costs.values(self.front.settings.unit).__getitem__)
            every = Cascade.ensemble(names, combine=combine, calibrations=pool.calibrations)
            cascades.append((ENSEMBLE, every))
        cascades += self._targets()
        cascades += [] if self.chosen is None else [(CHOSEN, self.chosen)]
        return self.rows_of(cascades)

    @cached_property
    def members(self) -> list[Row]:
        """Every member of the front, cheapest first."""
        return self.rows_of([(MEMBER, member.cascade) for member in self.front])

    @cached_property
    def ensembles(self) -> list[Row]:
        """The ensembles that no other ensemble beats on the validation split, cheapest first.

        There are none where the combination depends on order.
        """
        own = self.front.settings
        every = ensembles(
            self.front.pool, own.max_models, own.combine, own.unit, own.metric,
            families=own.families,
        )  # fmt: skip
        best = front_of(every) if every else ()
        return self.rows_of([(BEST_ENSEMBLE, each.cascade) for each in best])

    @property
    def choice(self) -> Row | None:
        """The row that the user chose, else the one that matches the reference; None without."""
        by_role = {role: row for row in self.rows for role in (row.role, *row.also)}
        return by_role.get(CHOSEN) or by_role.get(matches(self.reference))

    @property
    def notes(self) -> tuple[str, ...]:
        """What to note on the front and on the choice."""
        row = self.choice
        return notes_of(self.front, *(() if row is None else (row.versus, row.promises)))

    def rows_of(self, cascades: Sequence[tuple[str, Cascade]]) -> list[Row]:
        """Return a row for each role and cascade."""
        own, pool, test = self.front.settings, self.front.pool, self.test
        every = [pool.described(cascade) for _, cascade in cascades]
        vals = evaluate_all(every, pool, own.unit, own.metric)
        tests: Sequence[Evaluation | None] = [None] * len(every)
        if test is not None:
            tests = evaluate_all(every, test, own.unit, own.metric)
        roles = [role for role, _ in cascades]
        return list(map(self._row, roles, every, vals, tests))

    def _row(self, role: str, cascade: Cascade, val: Evaluation, test: Evaluation | None) -> Row:
        average = (test or val).average_cost
        names = {models: name for name, models in self._singles.items()}
        chosen = role not in (SINGLE, ENSEMBLE, MEMBER, BEST_ENSEMBLE)
        within = 0.0 if role == matches(self.reference) else None
        return Row(
            cascade, val, test,
            names.get(cascade.names, "") if len(cascade.stages) == 1 else "",
            role=role,
            speedup=self._cost(self.test or self.front.pool) / average if average else None,
            reference=self.reference,
            self_cascade=self.front.pool.is_self_cascade(cascade),
            task=self.front.pool.task,
            versus=_front_comparison(self.front, cascade, self.reference, self.test, within)
            if chosen else None,
            promises=promises_of(cascade, test, self.test)
            if role == CHOSEN and test and self.test else (),
        )  # fmt: skip

    @cached_property
    def _singles(self) -> dict[str, tuple[str, ...]]:
        """The models that make up each single model, cheapest first."""
        own, pool = self.front.settings, self.front.pool
        prices, singles = pool.costs.values(own.unit), pool.singles(own.combine)
        costs = {name: math.fsum(prices[n] for n in models) for name, models in singles.items()}
        return {name: singles[name] for name in sorted(singles, key=lambda n: (costs[n], n))}

    def _cost(self, pool: Pool) -> float:
        """Return the cost of the reference."""
        own = self.front.settings
        prices = pool.costs.values(own.unit)
        models = self.front.pool.single(self.reference, own.combine)
        return math.fsum(prices[name] for name in models)

    def _targets(self) -> list[tuple[str, Cascade]]:
        front, reference, cost = self.front, self.reference, self._cost(self.front.pool)
        targets: dict[str, Callable[[], Committee]] = {
            matches(reference): lambda: front.matching(reference),
            f"most accurate for {reference}'s cost": lambda: front.at_most(cost),
        }
        cascades = []
        for role, choose in targets.items():
            with suppress(Infeasible):
                cascades.append((role, choose().cascade))
        return cascades


def _front_comparison(
    front: Front,
    committee: Committee | Cascade,
    reference: str,
    test: Pool | None = None,
    within: float | None = None,
) -> Comparison:
    """Return a committee compared with a model of the pool, on the test split or the front's."""
    cascade = committee.cascade if isinstance(committee, Committee) else committee
    own = front.settings
    name, other = reference, front.alone(reference)
    target = target_of(cascade, front.pool.calibrations)
    if target is not None:
        name, other, within = target
    return compare(
        cascade,
        other,
        front.pool if test is None else test,
        own.unit,
        own.metric,
        name=name,
        within=within,
        chose=test is None,
    )


def matches(reference: str) -> str:
    """Return the role of the cheapest committee at least as accurate as the reference."""
    return f"matches {reference}"
