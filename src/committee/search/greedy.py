"""Streeter's greedy cascades: one model after another, by samples answered for their cost."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from committee.cascade import Cascade
from committee.combine import DEFAULT_COMBINE
from committee.errors import CascadeError
from committee.evaluate import check_judge, check_judgeable
from committee.pool import Pool
from committee.predictions import Array
from committee.search.front import Committee, Front, Settings, front_of
from committee.search.judging import evaluate_all
from committee.search.prefixes import Rule
from committee.search.thresholds import between
from committee.utility import TOP_1


def greedy(
    pool: Pool,
    max_models: int | None = None,
    *,
    shares: Sequence[float] = (0.97, 0.98, 0.99, 1.0),
    confidence: str = "max_prob",
    combine: str | None = None,
    unit: str | None = None,
    test: Pool | None = None,
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
        unit: Unit of the cost; see :meth:`committee.cost.CostTable.unit` for the default.
        test: The pool on a split that judges.

    Returns:
        The cascades that no other of these beats; ``exact`` is False.

    Raises:
        CascadeError: If ``max_models`` is less than 1, or a share is not above 0.
        MisalignedError: If there are no labels or samples.

    References:
        Streeter (2018), Approximation Algorithms for Cascading Prediction Models.
    """
    check_judgeable(pool)
    if test is not None:
        check_judge(pool, test)
    unit = pool.costs.unit(unit)
    most = len(pool.names) if max_models is None else max_models
    if most < 1:
        raise CascadeError(f"greedy: max_models must be 1 or more, not {most}")
    if not all(share > 0 for share in shares):
        raise CascadeError(f"greedy: shares must be above 0, not {list(shares)}")
    rule = Rule(pool, confidence, combine or DEFAULT_COMBINE[pool.kind])
    built = _Greedy(rule, pool.costs.values(unit), most)
    cascades = list(
        dict.fromkeys(
            built.cascade(reference, share) for reference in sorted(pool.names) for share in shares
        )
    )
    evaluations = evaluate_all(cascades, pool, unit)
    members = front_of(list(map(Committee, cascades, evaluations)))
    if test is not None:
        tested = evaluate_all([m.cascade for m in members], test, unit)
        members = tuple(
            Committee(m.cascade, m.evaluation, t) for m, t in zip(members, tested, strict=True)
        )
    settings = Settings(
        max_models=most,
        confidence=confidence,
        combine=rule.combine,
        grid=0,
        unit=unit,
        worst_case={},
        average_case={},
        families=False,
        utility=TOP_1,
        sequences=len({cascade.names for cascade in cascades}),
        cascades=len(cascades),
    )
    why = (
        f"greedy: one cascade for each of {len(pool.names)} reference models and "
        f"{len(shares)} goals was built, {len(cascades)} different ones; no other was tried"
    )
    return Front(members, settings, pool, why)


class _Greedy:
    """Builds cascades; what models say after which others is computed once."""

    def __init__(self, rule: Rule, costs: dict[str, float], most: int) -> None:
        self._rule, self._costs, self._most = rule, costs, most
        self._known: dict[tuple[str, ...], tuple[Array, Array]] = {}

    def _judged(self, models: tuple[str, ...]) -> tuple[Array, Array]:
        """Whether each sample is right after these models, oldest first, and its score."""
        key = self._rule.key(models)
        if key not in self._known:
            rows = np.arange(len(self._rule.pool))
            predicted, score = self._rule.scores(key, rows)
            self._known[key] = (predicted == self._rule.pool.samples.labels, score)
        return self._known[key]

    def cascade(self, reference: str, share: float) -> Cascade:
        """The greedy cascade for one goal."""
        goal = self._judged((reference,))[0]
        left = np.arange(len(goal))
        models: tuple[str, ...] = ()
        thresholds: list[float] = []
        while True:
            best: tuple[float, str] | None = None
            chosen: tuple[str, Array, float] | None = None
            room = len(models) + 1 < self._most
            for name in sorted(set(self._rule.pool.names) - set(models)):
                if not room and name != reference:
                    continue
                right, score = self._judged((*models, name))
                if name == reference:
                    # It meets its own goal on whatever is left.
                    answered, threshold = left, -math.inf
                else:
                    answered, threshold = _answered(right, score, goal, left, share)
                if not len(answered):
                    continue
                cost = self._costs[name]
                rank = (-len(answered) / cost if cost else -math.inf, name)
                if best is None or rank < best:
                    best, chosen = rank, (name, answered, threshold)
            if chosen is None:  # the reference ran already, and nobody else may answer
                break
            name, answered, threshold = chosen
            models += (name,)
            left = np.setdiff1d(left, answered, assume_unique=True)
            if not len(left):
                break
            thresholds.append(threshold)
        return self._rule.cascade(models, thresholds[: len(models) - 1])


def _answered(
    right: Array, score: Array, goal: Array, left: Array, share: float
) -> tuple[Array, float]:
    """The most samples, the surest first, on which the goal is kept, and the threshold for it."""
    order = left[np.argsort(-score[left], kind="stable")]
    ranked = score[order]
    kept = np.cumsum(right[order]) >= share * np.cumsum(goal[order])
    # A threshold cannot part samples of equal scores.
    ends = np.append(ranked[1:] < ranked[:-1], True)
    possible = np.flatnonzero(kept & ends)
    if not len(possible):
        return left[:0], math.inf
    last = int(possible[-1])
    if last == len(order) - 1:
        return left, -math.inf
    threshold = between(ranked[[last + 1]], ranked[[last]])[0]
    return np.sort(order[: last + 1]), float(threshold)
