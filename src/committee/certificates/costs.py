"""The bound of an average cost on new data."""

from __future__ import annotations

import numpy as np

from committee.arrays import Array
from committee.certificates.exact_tests import mean_upper_bound
from committee.errors import CostError
from committee.pool.costs import differ, worst_cost
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

    Raises:
        CostError: If it is needed and not stated, or a sample costs more.
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
