"""Targets: the conditions, all to be met, by which a committee is chosen from a front."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import accumulate
from statistics import NormalDist
from typing import Any

from committee.errors import CostError, Infeasible
from committee.pool.costs import differ, spent
from committee.pool.evaluate import Evaluation, evaluate, exits_of, source_of, stage_costs
from committee.pool.intervals import CONFIDENCE_LEVEL
from committee.pool.pool import Pool
from committee.rule.cascade import Cascade
from committee.rule.origin import RecordedTarget
from committee.selection.front import Committee, Front, check_within, described_text, with_target
from committee.text import human_cost


@dataclass(frozen=True)
class Target:
    """The conditions that a committee must meet on the validation split.

    Args:
        match: The model that it must be as accurate as, or None.
        within: How much less accurate than that model it may be, a share of 1.
        min_accuracy: The least accuracy, a share of 1, or None.
        max_cost: The most average cost, in the search's unit, or None.
        share: True if ``max_cost`` is a share of 1 of the cost of the matched model, or else of
            the most accurate single model.
    """

    match: str | None = None
    within: float = 0.0
    min_accuracy: float | None = None
    max_cost: float | None = None
    share: bool = False

    def of(self, front: Front) -> Committee | None:
        """Return the committee of a front that meets the target; None without conditions.

        With an accuracy to reach it is the cheapest, otherwise the most accurate for the cost.
        """
        check_within(self.within)
        most = self.cost(front)
        choice = self._accurate(front)
        if choice is None and most is not None:
            choice = front.at_most(most, self.cost_text(front))
        if choice is None:
            return None
        if most is not None and choice.evaluation.average_cost > most:
            raise Infeasible(self._infeasible_text(front, most, choice))
        target = RecordedTarget(min_accuracy=self.min_accuracy, max_cost=most)
        if self.match is None:
            return with_target(choice, target)
        alone = front.alone(self.match)
        target = replace(target, match=self.match, models=alone.names, within=self.within)
        return with_target(choice, target, alone)

    def cost(self, front: Front) -> float | None:
        """Return the largest average cost, in the unit of the search; raise CostError for NaN."""
        if self.max_cost is not None and math.isnan(self.max_cost):
            raise CostError("max_cost is NaN; give a number in the unit of the search")
        if self.max_cost is None or not self.share:
            return self.max_cost
        alone = front.alone(self.reference(front))
        costs = evaluate(alone, front.pool, front.settings.unit, front.settings.metric)
        return self.max_cost * costs.average_cost * (1 + 1e-12)

    def cost_text(self, front: Front) -> str:
        """Return that cost as text, with the model that it is a share of; empty without one."""
        most = self.cost(front)
        if most is None or self.max_cost is None:
            return ""
        text = human_cost(most, front.settings.unit)
        share = f"{100 * self.max_cost:.4g} % of {self.reference(front)}'s cost"
        return f"{text} ({share})" if self.share else text

    def reference(self, front: Front) -> str:
        """Return the model whose cost shares refer to: the one to match, else the most accurate."""
        return front.most_accurate_single if self.match is None else self.match

    def _accurate(self, front: Front) -> Committee | None:
        """Return the cheapest committee that meets every accuracy."""
        reaching = [] if self.match is None else [front.matching(self.match, self.within)]
        if self.min_accuracy is not None:
            reaching.append(front.at_least(self.min_accuracy))
        return max(reaching, key=lambda each: each.evaluation.accuracy, default=None)

    def _infeasible_text(self, front: Front, most: float, accurate: Committee) -> str:
        try:
            near = f"the most accurate for that cost is {described_text(front.at_most(most))}"
        except Infeasible:
            near = f"the cheapest of all is {described_text(front[0])}"
        return (
            f"no committee is that accurate for at most {self.cost_text(front)} on "
            f"{front.pool.samples.split!r}. Nearest: {near}; the cheapest that is so accurate is "
            f"{described_text(accurate)}"
        )


@dataclass(frozen=True)
class Promise:
    """An accuracy or a cost that a committee was chosen for, checked on a test split.

    Args:
        what: ``accuracy`` or ``cost``.
        goal: The least accuracy, a share of 1, or the largest average cost.
        value: The accuracy or cost on that split.
        low: Lower end of its 95 % interval.
        high: Upper end.
        split: Name of the split.
        unit: Unit of the cost; empty for an accuracy.
    """

    what: str
    goal: float
    value: float
    low: float
    high: float
    split: str
    unit: str = ""

    @property
    def outcome(self) -> str:
        """``kept``, ``missed``, or ``within chance`` if samples are too few to tell."""
        sign = 1 if self.what == "accuracy" else -1
        ends = sorted((sign * self.low, sign * self.high))
        # The choice had the same tolerance.
        goal = sign * self.goal - 1e-9 * abs(self.goal)
        return "kept" if ends[0] >= goal else "missed" if ends[1] < goal else "within chance"

    def to_json(self) -> dict[str, Any]:
        """Return every figure, the interval with its level."""
        return {
            **{name: each for name, each in vars(self).items() if name not in ("low", "high")},
            "interval": [self.low, self.high],
            "interval_level": CONFIDENCE_LEVEL,
            "outcome": self.outcome,
        }


def promises_of(cascade: Cascade, evaluation: Evaluation, pool: Pool) -> tuple[Promise, ...]:
    """Return the accuracy and the cost that a committee was chosen for, checked on a test split.

    An accuracy by another measure, or a cost in another unit, is not checked.
    """
    least, most = cascade.origin.target.min_accuracy, cascade.origin.target.max_cost
    then = cascade.origin.promised
    split, unit = evaluation.split, evaluation.unit
    promises = []
    if least is not None and (then is None or then.measure == evaluation.measure):
        accuracy = evaluation.accuracy
        promises.append(Promise("accuracy", least, accuracy, *evaluation.interval, split))
    if most is not None and cascade.origin.unit in ("", unit):
        value, half = evaluation.average_cost, _reach(cascade, evaluation, pool)
        promises.append(Promise("cost", most, value, value - half, value + half, split, unit))
    return tuple(promises)


def _reach(cascade: Cascade, evaluation: Evaluation, pool: Pool) -> float:
    """Return half the width of the 95 % interval of an average cost."""
    costs = stage_costs(cascade, pool, evaluation.unit)
    if differ(costs):
        spread = float(spent(costs, exits_of(cascade, source_of(cascade, pool))[0]).var())
    else:
        each = accumulate(costs)
        pairs = zip(evaluation.exit_ratios, each, strict=True)
        spread = math.fsum(share * (cost - evaluation.average_cost) ** 2 for share, cost in pairs)
    z = NormalDist().inv_cdf((1 + CONFIDENCE_LEVEL) / 2)
    return z * math.sqrt(spread / max(evaluation.samples - 1, 1))
