"""(Cascade, Pool) -> Evaluation: what a committee scores and costs on one split."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from committee.cascade import Cascade
from committee.errors import MisalignedError, UnknownNameError
from committee.flow import Answers, Decisions, Request, decide, drive
from committee.pool import Pool
from committee.predictions import Array

CONFIDENCE_LEVEL = 0.95


@dataclass(frozen=True)
class Evaluation:
    """What a committee scores and costs on the samples of one split.

    Args:
        split: Name of the split.
        samples: How many samples.
        correct: How many of them were predicted right.
        average_cost: Mean over samples of the cost of the stages that ran, in ``unit``.
        worst_case_cost: Sum over all stages, in ``unit``.
        unit: Unit of both costs.
        exit_ratios: Share of samples that leave at each stage; sums to 1.
    """

    split: str
    samples: int
    correct: int
    average_cost: float
    worst_case_cost: float
    unit: str
    exit_ratios: tuple[float, ...]

    @property
    def accuracy(self) -> float:
        """Share of samples predicted right, top-1."""
        return self.correct / self.samples

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the accuracy: Wilson's, for a proportion of ``samples``."""
        from scipy.stats import binomtest

        bounds = binomtest(self.correct, self.samples).proportion_ci(CONFIDENCE_LEVEL, "wilson")
        return float(bounds.low), float(bounds.high)

    def to_json(self) -> dict[str, Any]:
        """Every figure, the interval with its level."""
        low, high = self.interval
        return {
            "split": self.split,
            "samples": self.samples,
            "correct": self.correct,
            "accuracy": self.accuracy,
            "interval": [low, high],
            "interval_level": CONFIDENCE_LEVEL,
            "average_cost": self.average_cost,
            "worst_case_cost": self.worst_case_cost,
            "unit": self.unit,
            "exit_ratios": list(self.exit_ratios),
        }


def evaluate(cascade: Cascade, pool: Pool, unit: str | None = None) -> Evaluation:
    """Apply a cascade to the stored predictions of a pool.

    Args:
        cascade: The committee.
        pool: Labelled predictions of its models.
        unit: Unit of the costs; see :meth:`committee.cost.CostTable.unit` for the default.

    Raises:
        UnknownNameError: If the pool lacks a model of the cascade.
        MisalignedError: If the pool has no labels or no samples.
        CostError: If a model has no cost in that unit.
    """
    labels = labels_of(pool)
    unit = unit or pool.costs.unit()
    costs = stage_costs(cascade, pool, unit)
    decisions = decided(cascade, pool)
    leaving = np.bincount(decisions.stage, minlength=len(cascade.stages))
    return Evaluation(
        split=pool.samples.split,
        samples=len(pool),
        correct=int((decisions.predicted == labels).sum()),
        average_cost=average_cost(costs, leaving),
        worst_case_cost=math.fsum(costs),
        unit=unit,
        exit_ratios=tuple((leaving / len(pool)).tolist()),
    )


def decided(cascade: Cascade, pool: Pool) -> Decisions:
    """What a cascade decides on stored predictions, sample by sample.

    Raises:
        UnknownNameError: If the pool lacks a model of the cascade.
    """
    for name in cascade.names:
        if name not in pool.outputs:
            raise UnknownNameError.of("evaluate", "model", name, pool.outputs)

    def stored(request: Request) -> Answers:
        return {name: pool.outputs[name].rows(request.rows) for name in request.models}

    return drive(decide(cascade, len(pool)), stored)


def stage_costs(cascade: Cascade, pool: Pool, unit: str | None = None) -> list[float]:
    """What running each stage on one sample costs.

    Raises:
        UnknownNameError: If the pool lacks a model of the cascade.
        CostError: If a model has no cost in that unit.
    """
    used = pool.only(cascade.names)
    return costs_of_stages(cascade, used.costs.values(unit or pool.costs.unit()))


def costs_of_stages(cascade: Cascade, costs: Mapping[str, float]) -> list[float]:
    """What running each stage on one sample costs, from the cost of each model."""
    return [math.fsum(costs[name] for name in stage.models) for stage in cascade.stages]


def average_cost(costs: Iterable[float], leaving: Array) -> float:
    """Mean cost of a sample.

    Args:
        costs: Cost of each stage, K of them.
        leaving: How many samples leave at each stage, shape (K,), integers.
    """
    reaching = leaving[::-1].cumsum()[::-1]
    return math.fsum(c * int(n) for c, n in zip(costs, reaching, strict=True)) / int(reaching[0])


def labels_of(pool: Pool) -> Array:
    """The labels of a pool's samples, shape (N,).

    Raises:
        MisalignedError: If there are none.
    """
    if pool.samples.labels is None:
        raise MisalignedError(
            f"split {pool.samples.split!r} has no labels; accuracy needs them. "
            "Predict again on labelled data, or import labels with: committee import --labels"
        )
    if not len(pool):
        raise MisalignedError(f"split {pool.samples.split!r} has no samples")
    return pool.samples.labels
