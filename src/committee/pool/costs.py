"""Costs of the samples of a split: one number for all of them, or one each where they differ.

Tokens, dollars of a call and seconds differ from sample to sample. An average cost is the mean over
samples of what the models that ran cost for each; the worst case is the largest over samples of
what all stages together cost.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import TypeAlias, overload

import numpy as np

from committee.arrays import Array
from committee.errors import CostError
from committee.text import printable

# What one sample costs: a number, or one for each sample of a split, shape (N,).
SampleCost: TypeAlias = float | Array


def differ(costs: Iterable[SampleCost]) -> bool:
    """Return True if some of these costs differ from sample to sample."""
    return any(isinstance(each, np.ndarray) for each in costs)


def alike(costs: Sequence[SampleCost]) -> list[float] | None:
    """Return costs as numbers if all samples cost the same; None if some differ."""
    numbers = [each for each in costs if not isinstance(each, np.ndarray)]
    return numbers if len(numbers) == len(costs) else None


def _total(costs: Iterable[SampleCost]) -> SampleCost:
    """Return what one sample costs in all of several models."""
    numbers: list[float] = []
    arrays: list[Array] = []
    for each in costs:
        if isinstance(each, np.ndarray):
            arrays.append(each)
        else:
            numbers.append(each)
    own = math.fsum(numbers)
    if not arrays:
        return own
    summed = sum(arrays[1:], arrays[0])
    return summed + own if own else summed


@overload
def costs_of_stages(stages: Iterable[Iterable[str]], costs: Mapping[str, float]) -> list[float]: ...
@overload
def costs_of_stages(
    stages: Iterable[Iterable[str]], costs: Mapping[str, SampleCost]
) -> list[SampleCost]: ...
def costs_of_stages(
    stages: Iterable[Iterable[str]], costs: Mapping[str, SampleCost]
) -> list[SampleCost] | list[float]:
    """Return the cost of each stage for one sample, from the cost of each model."""
    # In one order, so that the same models cost the same to the last bit.
    return [_total(costs[name] for name in sorted(stage)) for stage in stages]


def worst_cost(costs: Iterable[SampleCost]) -> float:
    """Return the most that a sample costs in all stages together."""
    every = _total(costs)
    return float(every.max(initial=0.0)) if isinstance(every, np.ndarray) else every


def mean_cost(costs: Sequence[SampleCost], exits: Array) -> float:
    """Return the mean cost of a sample."""
    return math.fsum(total_of(own, exits >= k) for k, own in enumerate(costs)) / len(exits)


def total_of(cost: SampleCost, rows: Array) -> float:
    """Return what some samples cost together; ``rows`` is a mask of shape (N,)."""
    if isinstance(cost, np.ndarray):
        return float(cost[rows].sum())
    return cost * int(rows.sum())


def spent_by_stage(costs: Sequence[SampleCost], samples: int) -> list[Array]:
    """Return what each sample costs if it exits at each stage, K arrays of shape (N,)."""
    return [np.full(samples, own, np.float64) for own in accumulate(costs)]


def spent(costs: Sequence[SampleCost], exits: Array) -> Array:
    """Return what each sample costs, shape (N,); arguments as of :func:`mean_cost`."""
    each: Array = np.stack(spent_by_stage(costs, len(exits)))[exits, np.arange(len(exits))]
    return each


def _floats(values: Array) -> Array:
    """Return objects as numbers, NaN for None; as they are if one is something else."""
    if not all(each is None or isinstance(each, int | float) for each in values.ravel().tolist()):
        return values
    return values.astype(np.float64)


def checked_costs(where: str, values: Array, names: Sequence[str]) -> Array:
    """Return the costs of samples as float64, shape (N,)."""
    if values.dtype.kind == "O":
        values = _floats(values)
    if values.shape != (len(names),) or values.dtype.kind not in "fiu":
        raise CostError(
            f"{where}: costs must be one number, or one a sample, not {values.dtype} "
            f"{values.shape} for {len(names)} samples"
        )
    costs = values.astype(np.float64)
    wrong = ~(np.isfinite(costs) & (costs >= 0))
    if wrong.any():
        row = int(wrong.argmax())
        raise CostError(
            f"{where}: sample {printable(names[row])!r} costs {costs[row]:g}, one of "
            f"{int(wrong.sum()):,} of {len(costs):,}; a cost is a number from 0. Fill it in, or "
            "give the model one cost for all samples"
        )
    return costs
