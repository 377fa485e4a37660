"""The front: the committees that no other beats in both accuracy and cost; targets pick from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from committee.cascade import Cascade
from committee.errors import CostError, Infeasible
from committee.evaluate import Evaluation, evaluate
from committee.pool import Pool
from committee.predictions import Array


@dataclass(frozen=True)
class Committee:
    """A committee and what it scores and costs on the split that chose it."""

    cascade: Cascade
    evaluation: Evaluation


@dataclass(frozen=True)
class Settings:
    """What was searched.

    Args:
        max_models: Most models of a committee.
        confidence: Name of the confidence function.
        combine: Name of the combination.
        grid: Percentiles tried for each threshold, beside "always" and "never".
        unit: Unit of the cost.
        worst_case: Bound on the worst-case cost, or None.
        sequences: How many ordered sequences of models were covered.
        cascades: How many cascades, threshold vectors counted, were covered.
    """

    max_models: int
    confidence: str
    combine: str
    grid: int
    unit: str
    worst_case: float | None
    sequences: int
    cascades: int


@dataclass(frozen=True, eq=False)
class Front:
    """The best committees of a pool, cheapest first; accuracy rises with cost.

    Args:
        committees: Members of the front.
        settings: What was searched.
        pool: The pool on the split that chose.
        exact: True if every cascade that the settings allow was covered.
    """

    committees: tuple[Committee, ...]
    settings: Settings
    pool: Pool
    exact: bool = True

    def __len__(self) -> int:
        return len(self.committees)

    def __iter__(self) -> Iterator[Committee]:
        return iter(self.committees)

    def __getitem__(self, index: int) -> Committee:
        return self.committees[index]

    def matching(self, model: str) -> Committee:
        """The committee of least average-case cost that is as accurate as a model of the pool.

        Raises:
            UnknownNameError: If the model is not in the pool.
            Infeasible: If no committee reaches it.
        """
        self.pool.model(model)
        alone = Cascade.of([model], (), self.settings.confidence, self.settings.combine)
        goal = evaluate(alone, self.pool, self.settings.unit)
        return self._cheapest(goal.correct, f"{model}'s accuracy {goal.accuracy:.4f}")

    def at_least(self, accuracy: float) -> Committee:
        """The committee of least average-case cost with at least this accuracy, a share of 1.

        Raises:
            Infeasible: If no committee reaches it; the most accurate is named.
        """
        return self._cheapest(accuracy * len(self.pool), f"accuracy {accuracy:.4f}")

    def at_most(self, cost: float) -> Committee:
        """The most accurate committee for at most this average-case cost, in the search's unit.

        Raises:
            Infeasible: If every committee costs more; the cheapest is named.
            CostError: If the cost is NaN.
        """
        if np.isnan(cost):
            raise CostError("at_most: cost is NaN; give a number in the unit of the search")
        within = [c for c in self.committees if c.evaluation.average_cost <= cost]
        if not within:
            near = self.committees[0]
            raise Infeasible(
                f"no committee costs at most {cost:g} {self.settings.unit} on "
                f"{self.pool.samples.split!r}. Nearest: {self._told(near)}"
            )
        return within[-1]

    def _cheapest(self, correct: float, goal: str) -> Committee:
        # A hair of slack, so that an accuracy printed and typed again is met by its owner.
        enough = correct - 1e-9 * len(self.pool)
        for committee in self.committees:
            if committee.evaluation.correct >= enough:
                return committee
        raise Infeasible(
            f"no committee reaches {goal} on {self.pool.samples.split!r}"
            f"{self._bounded()}. Nearest: {self._told(self.committees[-1])}"
        )

    def _bounded(self) -> str:
        bound = self.settings.worst_case
        return "" if bound is None else f" within a worst case of {bound:g} {self.settings.unit}"

    def _told(self, committee: Committee) -> str:
        evaluation = committee.evaluation
        return (
            f"{committee.cascade} with accuracy {evaluation.accuracy:.4f} "
            f"at {evaluation.average_cost:g} {evaluation.unit}"
        )

    def to_json(self) -> dict[str, Any]:
        """Settings and every member, with its figures on the choosing split."""
        return {
            "exact": self.exact,
            "settings": vars(self.settings),
            "committees": [
                {"cascade": c.cascade.to_json(), "evaluation": c.evaluation.to_json()}
                for c in self.committees
            ],
        }


def undominated(cost: Array, correct: Array) -> Array:
    """Indices of the points that no other beats, by rising cost.

    Of points equal in both, the first is kept.

    Args:
        cost: Shape (P,).
        correct: Shape (P,); more is better.

    >>> undominated(np.array([2.0, 1.0, 3.0]), np.array([5, 5, 6]))
    array([1, 2])
    """
    order = np.lexsort((np.arange(len(cost)), -correct, cost))
    best = np.maximum.accumulate(correct[order])
    improves = np.ones(len(order), bool)
    improves[1:] = best[1:] > best[:-1]
    kept: Array = order[improves]
    return kept


class Screen:
    """A quick test that throws out points which a known committee clearly beats.

    The range of costs is cut into slots. A point is thrown out only if a known point costs strictly
    less than its slot's lower edge and is at least as accurate, so nothing that belongs on the
    front is lost and the outcome does not depend on the order in which points arrive.
    """

    _SLOTS = 1 << 16

    def __init__(self, highest_cost: float) -> None:
        self._scale = self._SLOTS / highest_cost if highest_cost > 0 else 0.0
        self._best_below = np.full(self._SLOTS + 2, -1, np.int32)

    def _slots(self, cost: Array) -> Array:
        slots: Array = (cost * self._scale).astype(np.int32)
        return slots

    def passing(self, cost: Array, correct: Array) -> Array:
        """Flat indices of the points that may be on the front."""
        best = self._best_below[self._slots(cost)]
        return np.flatnonzero(correct > best)

    def learn(self, cost: Array, correct: Array) -> None:
        """Remember points that stand for themselves."""
        np.maximum.at(self._best_below, self._slots(cost) + 1, correct.astype(np.int32))
        np.maximum.accumulate(self._best_below, out=self._best_below)


def front_of(committees: Sequence[Committee]) -> tuple[Committee, ...]:
    """The committees that no other beats in both accuracy and average-case cost, cheapest first.

    Of committees equal in both, the one of least worst-case cost, then of fewest models, then the
    first by name is kept.
    """

    def preference(committee: Committee) -> tuple[Any, ...]:
        cascade, evaluation = committee.cascade, committee.evaluation
        return (
            evaluation.worst_case_cost,
            len(cascade.names),
            len(cascade.stages),
            cascade.names,
            cascade.thresholds,
        )

    ranked = sorted(committees, key=preference)
    cost = np.array([c.evaluation.average_cost for c in ranked])
    correct = np.array([c.evaluation.correct for c in ranked])
    return tuple(ranked[i] for i in undominated(cost, correct))
