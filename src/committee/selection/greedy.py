"""Greedy search after Streeter: add one model after another, by samples answered per cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from committee.arrays import Array
from committee.calibration.cross_fitting import cross_fitted
from committee.errors import CascadeError
from committee.pool.evaluate import check_has_labels, check_test_pool, shared_warnings
from committee.pool.pool import Pool
from committee.pool.prefixes import Key, PrefixSource, prefixes_of
from committee.rule.cascade import Cascade
from committee.selection.evaluate_many import evaluate_all, evaluated_on
from committee.selection.front import Front, Settings, committee_of, front_of
from committee.selection.options import processors
from committee.selection.rules import refuse_auto
from committee.selection.sequences import refuse_tiles
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
    """Return the front of the greedy cascades of Streeter (2018), one for each model and share.

    A reference model sets the goal. At each step every model may answer those of the remaining
    samples on which it is surest, as long as it is correct at least ``share`` times as often as the
    reference on the same samples. The next model is the one that answers the most samples for its
    cost; the reference itself may always answer all that remain.

    ``shares`` are the goals, as shares of each reference's correct answers. ``combine="last"``
    is the algorithm as published; a mean averages each model with those that ran before.
    ``max_models`` is all of the pool by default, and the other arguments are those of
    :func:`committee.search`. Single models compete for the front too; ``exact`` is False.

    Raises:
        CascadeError: If ``max_models`` is less than 1, a share is not above 0, or models see tiles.
        MisalignedError: If there are no labels or samples.

    References:
        Streeter (2018), Approximation Algorithms for Cascading Prediction Models.
    """
    refuse_auto("greedy", combine, confidence)
    refuse_tiles("greedy", pool)
    check_has_labels(pool)
    if not pool.metric.counted:
        raise CascadeError("greedy: counts correct samples, so values must be 1 or 0")
    unit = pool.costs.unit(unit)
    if test is not None:
        check_test_pool(pool, test, pool.metric, unit)
    most = len(pool.names) if max_models is None else max_models
    if most < 1:
        raise CascadeError(f"greedy: max_models must be 1 or more, not {most}")
    if not shares:
        raise CascadeError("greedy: shares are empty; give at least one goal, for example 1.0")
    if not all(share > 0 for share in shares):
        raise CascadeError(f"greedy: shares must be above 0, not {list(shares)}")
    pool = cross_fitted(pool)
    source = prefixes_of(pool, confidence, combine)
    built = _Greedy(source, pool.costs.values(unit), most, grid, threads or processors())
    references = sorted(pool.names)
    made = [built.cascade(reference, share) for reference in references for share in shares]
    # Each model alone meets its own goal too.
    cascades = list(dict.fromkeys([*made, *(source.cascade([name], []) for name in references)]))
    evaluations = evaluate_all(cascades, pool, unit)
    members = front_of(
        [committee_of(*each, pool) for each in zip(cascades, evaluations, strict=True)]
    )
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
        metric=source.metric,
        sequences=len({cascade.names for cascade in cascades}),
        cascades=len(cascades),
    )
    why = (
        f"greedy: one cascade for each of {len(pool.names)} reference models and "
        f"{len(shares)} goals, and each model alone, were tried, and nothing else"
    )
    return Front(members, settings, pool, why, partial(tuple, shared_warnings(pool, test)))


@dataclass(frozen=True, eq=False)
class _Answers:
    """The answers of one prefix.

    Args:
        correct: True for each sample whose class is correct, shape (N,).
        passed: How many candidate thresholds its score reaches, shape (N,).
        width: The number of candidates plus one.
    """

    correct: Array
    passed: Array
    width: int

    def lowest(self, goal: Array, open_: Array, share: float) -> int:
        """Return the lowest candidate whose samples meet the goal; -1 if all open samples do.

        If no candidate meets it, return the number of candidates, which no sample passes.
        """
        passed = self.passed[open_]
        correct = np.bincount(passed, self.correct[open_], self.width)
        needed = np.bincount(passed, goal[open_], self.width)
        # Sums over the samples that reach at least so many candidates.
        correct, needed = (np.cumsum(each[::-1])[::-1] for each in (correct, needed))
        met = np.flatnonzero(correct >= share * needed)
        # Candidate n - 1 answers the samples that reach n candidates or more.
        return int(met[0]) - 1 if len(met) else self.width


class _Greedy:
    """Builds greedy cascades and computes the answers of each prefix once."""

    def __init__(
        self, source: PrefixSource, costs: dict[str, float], most: int, grid: int, threads: int
    ) -> None:
        self._source, self._costs, self._most = source, costs, most
        self._grid, self._threads = grid, threads
        self._tables: dict[Key, PrefixTable] = {}

    def _answers(self, sequences: Sequence[tuple[str, ...]]) -> list[_Answers]:
        """Return the answers after each sequence; compute all new prefixes in one call."""
        keys = [self._source.key(models) for models in sequences]
        new = [key for key in dict.fromkeys(keys) if key not in self._tables]
        if new:
            table = prefix_table(self._source, new, self._grid, threads=self._threads)
            self._tables |= dict.fromkeys(new, table)
        rows = [(self._tables[key], self._tables[key].rows[key]) for key in keys]
        return [_Answers(t.values[r] == 1, t.passed[r], int(t.widths[r])) for t, r in rows]

    def _threshold(self, models: tuple[str, ...], choice: int) -> float:
        key = self._source.key(models)
        return float(self._tables[key].thresholds(key, np.array([choice]))[0])

    def cascade(self, reference: str, share: float) -> Cascade:
        goal = self._answers([(reference,)])[0].correct
        open_ = np.ones(len(goal), bool)
        models: tuple[str, ...] = ()
        thresholds: list[float] = []
        while open_.any() and reference not in models:
            room = len(models) + 1 < self._most
            names = sorted(set(self._source.pool.names) - set(models)) if room else [reference]
            offers = []
            every = self._answers([(*models, name) for name in names])
            for name, answers in zip(names, every, strict=True):
                # The reference meets its own goal on any samples.
                choice = -1 if name == reference else answers.lowest(goal, open_, share)
                answered = open_ & (answers.passed > choice)
                cost = self._costs[name]
                if answered.any():
                    worth = int(answered.sum()) / cost if cost else math.inf
                    offers.append((-worth, name, choice, answered))
            _, name, choice, answered = min(offers, key=lambda offer: offer[:2])
            models += (name,)
            if choice >= 0:
                thresholds.append(self._threshold(models, choice))
            open_ &= ~answered
        return self._source.cascade(models, thresholds[: len(models) - 1])
