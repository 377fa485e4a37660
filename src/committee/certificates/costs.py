"""The bound of an average cost on new data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from committee.arrays import Array
from committee.certificates.exact_tests import mean_upper_bound
from committee.errors import CostError
from committee.pool.costs import SampleCost, differ, spent, worst_cost
from committee.pool.evaluate import stage_costs
from committee.pool.pool import Pool
from committee.rule.cascade import Cascade
from committee.text import human_cost


def cost_bound(
    cascade: Cascade, pool: Pool, unit: str, spent: Array, level: float, most: float | None
) -> float:
    """Return what a cascade costs on average on new data at most, at a level.

    Where costs are the same for all samples, the dearest sample runs every stage. Where they
    differ, no sample of the past tells what a future one may cost at most, so that must be stated.

    Args:
        cascade: The cascade.
        pool: The samples that test it.
        unit: Unit of the costs.
        spent: What each of these samples costs, shape (N,), in random order.
        level: The level.
        most: The most that one sample can cost, all stages together; needed where costs differ.
    """
    costs = stage_costs(cascade, pool, unit)
    if not differ(costs):
        limit = worst_cost(costs)
        return mean_upper_bound(spent, limit, level) if len(costs) > 1 else float(np.mean(spent))
    dearest = human_cost(worst_cost(costs), unit)
    if most is None:
        raise CostError(
            f"certify: {unit} differ from sample to sample, so a promise of a cost needs the most "
            "that one sample can cost, all stages together (--cost-limit, cost_limit=), such as "
            "the price of the longest answer allowed. The dearest sample of "
            f"{cascade} cost {dearest}"
        )
    if worst_cost(costs) > most:
        raise CostError(
            f"certify: the limit (--cost-limit, cost_limit=) is {human_cost(most, unit)}, but a "
            f"sample cost {dearest} in all stages of {cascade}. State the most that one sample "
            "can cost"
        )
    return mean_upper_bound(spent, most, level)


@dataclass(frozen=True)
class AverageCost:
    """What a cascade costs on average on new samples, with its one-sided bounds.

    Args:
        average: On these samples.
        low: What it is at least, at the level.
        high: What it is at most; infinite where nothing bounds the cost of a sample.
        most: The most that was promised.
        unit: Unit of the costs.
        limit: The most that one sample can cost, as the promise states it; None if it does not.
    """

    average: float
    low: float
    high: float
    most: float
    unit: str
    limit: float | None = None

    @property
    def kept(self) -> bool:
        """Return True if the samples show that the promise is kept."""
        return self.high <= self.most * (1 + 1e-12)

    @property
    def broken(self) -> bool:
        """Return True if they show that it is broken."""
        return self.low > self.most * (1 + 1e-12)

    @property
    def text(self) -> str:
        """The figures in words."""
        average, most = human_cost(self.average, self.unit), human_cost(self.most, self.unit)
        bounds = human_cost(self.low, self.unit, "down")
        if np.isfinite(self.high):
            bounds += f" to {human_cost(self.high, self.unit, 'up')}"
        else:
            bounds += " or more, for nothing bounds what one sample costs"
        if self.limit is not None and not np.isfinite(self.high):
            bounds += f": one cost more than the limit, {human_cost(self.limit, self.unit)}"
        return f"cost {average} of {most} promised ({bounds})"


def average_cost_of(
    costs: Sequence[SampleCost],
    exits: Array,
    level: float,
    most: float,
    limit: float | None,
    unit: str,
) -> AverageCost:
    """Return what new samples show of a promised cost; their order is taken as it is."""
    each, stated = spent(costs, exits), limit
    average = float(each.mean())
    if not differ(costs):
        limit = worst_cost(costs)
    if len(costs) == 1 and not differ(costs):
        return AverageCost(average, average, average, most, unit)
    # What a sample costs above a fixed cap can only raise the mean.
    cap = limit if limit is not None else 10 * most
    low = cap - mean_upper_bound(cap - np.minimum(each, cap), cap, level)
    stays = limit is not None and each.max(initial=0.0) <= limit
    high = mean_upper_bound(each, cap, level) if stays else float("inf")
    return AverageCost(average, low, high, most, unit, stated)
