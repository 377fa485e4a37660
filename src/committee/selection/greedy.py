"""Streeter's greedy cascades: one model after another, by samples answered for their cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from committee.arrays import Array
from committee.errors import CascadeError
from committee.pool.evaluate import check_has_labels, check_test_pool, shared_warnings
from committee.pool.metrics import TOP_1
from committee.pool.pool import Pool
from committee.pool.prefixes import Key, PrefixSource, prefixes_of
from committee.rule.cascade import Cascade
from committee.selection.evaluate_many import evaluate_all, evaluated_on
from committee.selection.front import Front, Settings, committee_of, front_of
from committee.selection.options import processors
from committee.selection.sequences import refuse_parts
from committee.selection.statistics import PrefixTable, prefix_table


def greedy(
    pool: Pool,
    max_models: int | None = None,
    *,
    shares: Sequence[float] = (0.97, 0.98, 0.99, 1.0),
    confidence: str = "max_prob",
    combine: str | None = None,
    grid: int = 100,
    unit: str | None = None,
    test: Pool | None = None,
    threads: int | None = None,
) -> Front:
    """Build cascades by the greedy algorithm of Streeter (2018), one for each model and share.

    A reference model sets the goal. Among the samples not answered yet each model may answer those
    on which it is surest, as many as leave it right at least ``share`` times as often as the
    reference is on the same samples. The model that answers the most for its cost is next; the
    reference itself may always answer all that is left.

    Args:
        pool: Labelled predictions on the split that chooses, and costs.
        max_models: Most models of a cascade; all of the pool if left out.
        shares: Goals tried, as shares of each reference model's right answers.
        confidence: Name of the confidence function; decisions bring their own.
        combine: ``last`` is the algorithm as published; a mean (the default where there is one)
            averages each model with those that ran before.
        grid: Percentiles tried for each threshold.
        unit: Unit of the cost; see :meth:`committee.spec.cost.CostTable.unit` for the default.
        test: The pool on a split that judges.
        threads: How many to use; all processors if left out.

    Returns:
        Those of these cascades and the models alone that no other beats; ``exact`` is False.

    Raises:
        CascadeError: If ``max_models`` is less than 1, a share is not above 0, or models see parts
            of samples.
        MisalignedError: If there are no labels or samples.

    References:
        Streeter (2018), Approximation Algorithms for Cascading Prediction Models.
    """
    refuse_parts("greedy", pool)
    check_has_labels(pool)
    unit = pool.costs.unit(unit)
    if test is not None:
        check_test_pool(pool, test, TOP_1, unit)
    most = len(pool.names) if max_models is None else max_models
    if most < 1:
        raise CascadeError(f"greedy: max_models must be 1 or more, not {most}")
    if not shares:
        raise CascadeError("greedy: shares are empty; give at least one goal, for example 1.0")
    if not all(share > 0 for share in shares):
        raise CascadeError(f"greedy: shares must be above 0, not {list(shares)}")
    source = prefixes_of(pool, confidence, combine)
    built = _Greedy(source, pool.costs.values(unit), most, grid, threads or processors())
    references = sorted(pool.names)
    made = [built.cascade(reference, share) for reference in references for share in shares]
    # Each model alone meets its own goal, too.
    cascades = list(dict.fromkeys([*made, *(source.cascade([name], []) for name in references)]))
    evaluations = evaluate_all(cascades, pool, unit)
    told = [committee_of(*each, pool) for each in zip(cascades, evaluations, strict=True)]
    members = front_of(told)
    if test is not None:
        members = evaluated_on(members, test, unit)
    settings = Settings(
        max_models=most,
        confidence=source.confidence,
        combine=source.combine,
        grid=grid,
        unit=unit,
        worst_case={},
        average_case={},
        families=False,
        metric=TOP_1,
        sequences=len({cascade.names for cascade in cascades}),
        cascades=len(cascades),
    )
    why = (
        f"greedy: one cascade for each of {len(pool.names)} reference models and "
        f"{len(shares)} goals was built; beside them and the models alone nothing was tried"
    )
    return Front(members, settings, pool, why, shared_warnings(pool, test))


@dataclass(frozen=True, eq=False)
class _Answers:
    """What the models that ran say of each sample.

    Args:
        right: Whether it is right, shape (N,).
        passed: How many candidate thresholds its score reaches, shape (N,).
        width: How many candidates there are, and one.
        threshold: From the number of a candidate to the threshold.
    """

    right: Array
    passed: Array
    width: int
    threshold: Callable[[int], float]


class _Greedy:
    """Builds cascades; what models say after which others is computed once."""

    def __init__(
        self, source: PrefixSource, costs: dict[str, float], most: int, grid: int, threads: int
    ) -> None:
        self._source, self._costs, self._most = source, costs, most
        self._grid, self._threads = grid, threads
        self._known: dict[Key, _Answers] = {}

    def _answers_of(self, sequences: Sequence[tuple[str, ...]]) -> list[_Answers]:
        """What models say after each sequence; what is not known yet is computed all at once."""
        keys = [self._source.key(models) for models in sequences]
        wanted = [key for key in dict.fromkeys(keys) if key not in self._known]
        if wanted:
            table = prefix_table(self._source, wanted, self._grid, threads=self._threads)
            self._known |= {key: _answers_of(table, key) for key in wanted}
        return [self._known[key] for key in keys]

    def cascade(self, reference: str, share: float) -> Cascade:
        """The greedy cascade for one goal."""
        goal = self._answers_of([(reference,)])[0].right
        left = np.ones(len(goal), bool)
        models: tuple[str, ...] = ()
        thresholds: list[float] = []
        while left.any() and reference not in models:
            room = len(models) + 1 < self._most
            names = sorted(set(self._source.pool.names) - set(models)) if room else [reference]
            offers = []
            for name, answers in zip(
                names, self._answers_of([(*models, name) for name in names]), strict=True
            ):
                # The reference meets its own goal on whatever is left.
                choice = -1 if name == reference else _lowest(answers, goal, left, share)
                answered = left & (answers.passed > choice)
                cost = self._costs[name]
                if answered.any():
                    worth = int(answered.sum()) / cost if cost else math.inf
                    offers.append((-worth, name, choice, answered, answers))
            _, name, choice, answered, answers = min(offers, key=lambda offer: offer[:2])
            models += (name,)
            if choice >= 0:
                thresholds.append(answers.threshold(choice))
            left &= ~answered
        return self._source.cascade(models, thresholds[: len(models) - 1])


def _answers_of(table: PrefixTable, key: Key) -> _Answers:
    row = table.rows[key]
    return _Answers(
        table.values[row] == 1,
        table.passed[row],
        int(table.widths[row]),
        lambda choice: float(table.thresholds(key, np.array([choice]))[0]),
    )


def _lowest(answers: _Answers, goal: Array, left: Array, share: float) -> int:
    """The lowest candidate threshold above which the goal is kept; -1 if it is for all samples.

    If it is kept above none, the number of candidates: nobody reaches that many and one more.
    """
    passed = answers.passed[left]
    right = np.bincount(passed, answers.right[left], answers.width)
    wanted = np.bincount(passed, goal[left], answers.width)
    # Sums over the samples that reach at least so many candidates.
    right, wanted = (np.cumsum(each[::-1])[::-1] for each in (right, wanted))
    kept = np.flatnonzero(right >= share * wanted)
    # Those that reach n candidates or more are answered by the candidate numbered n - 1.
    return int(kept[0]) - 1 if len(kept) else answers.width
