"""The sweep in NumPy: total cost and value of all threshold vectors of one sequence at once.

A sample's path through a sequence depends only on how many candidate thresholds its score reaches
at each prefix. A histogram therefore counts the samples over these numbers, with one axis for each
prefix. Running sums along its axes give, for every vector of thresholds, how many samples go on and
how much the value changes. The compiled part does the same in less memory (sweep.hpp).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from committee.arrays import Array
from committee.pool.costs import SampleCost, total_of

# Most bins of one histogram, of some 40 bytes each. Thresholds of earlier stages are looped over
# until the rest fits; an interrupt waits for one histogram.
_BINS = 1 << 18


@dataclass(frozen=True, eq=False)
class Step:
    """The statistics of one prefix of a sequence, which is a row of a prefix table.

    Args:
        values: What each sample scores if it exits here, integers, shape (N,).
        passed: How many candidate thresholds its score reaches, shape (N,).
        width: The number of candidates, plus one for "never".
        counts: How many samples each row stands for, shape (N,), the same at all steps of a
            sequence; ``values`` then are their sums. None if each stands for itself.
    """

    values: Array
    passed: Array
    width: int
    counts: Array | None = None

    @property
    def samples(self) -> Array:
        """How many samples each row stands for, shape (N,)."""
        return np.ones(len(self.passed), np.int64) if self.counts is None else self.counts

    def taken(self, rows: Array) -> Step:
        """Return some of the rows."""
        counts = None if self.counts is None else self.counts[rows]
        return Step(self.values[rows], self.passed[rows], self.width, counts)


@dataclass(frozen=True, eq=False)
class Surface:
    """Cost and value over a grid of threshold vectors.

    Args:
        outer: One index for each threshold that was looped over.
        cost: Total over samples, float64; one axis for each other threshold. Index i of an axis
            stands for candidate threshold i, the last index for "never".
        value: Total over samples, same shape, int64.
    """

    outer: tuple[int, ...]
    cost: Array
    value: Array


def surfaces(steps: Sequence[Step], costs: Sequence[SampleCost]) -> Iterator[Surface]:
    """Yield surfaces that cover every threshold vector of one sequence, without "always"."""
    widths = [step.width for step in steps[:-1]]
    # Loop over as few thresholds as let the rest fit, and leave at least one axis.
    looped = next(
        k for k in range(len(steps)) if math.prod(widths[k:]) <= _BINS or k >= len(widths) - 1
    )
    choices = [range(width) for width in widths[:looped]]
    for outer in itertools.product(*choices):
        yield _surface(steps, costs, outer)


def _surface(steps: Sequence[Step], costs: Sequence[SampleCost], outer: tuple[int, ...]) -> Surface:
    samples = steps[0].samples
    alive = np.ones(len(samples), bool)
    cost, value = _total_of(costs[0], alive, samples), 0
    for step, choice, next_cost in zip(steps, outer, costs[1:], strict=False):
        goes_on = alive & (step.passed <= choice)
        value += int(step.values[alive & ~goes_on].sum(dtype=np.int64))
        alive = goes_on
        cost += _total_of(next_cost, alive, samples)
    inner = [step.taken(alive) for step in steps[len(outer) :]]
    return _histogram_surface(
        outer,
        inner,
        [c[alive] if isinstance(c, np.ndarray) else c for c in costs[len(outer) + 1 :]],
        cost,
        value + int(inner[0].values.sum(dtype=np.int64)),
    )


def _total_of(cost: SampleCost, alive: Array, samples: Array) -> float:
    """Return what the samples of some rows cost together."""
    if isinstance(cost, np.ndarray):
        return total_of(cost, alive)
    return cost * int(samples[alive].sum())


def _histogram_surface(
    outer: tuple[int, ...],
    steps: Sequence[Step],
    costs: Sequence[SampleCost],
    cost: float,
    value: int,
) -> Surface:
    """Add the cost and the change of value of going on to the next stage, axis by axis."""
    total_cost: Array = np.array(float(cost))
    total_value: Array = np.array(value, np.int64)
    index: Array = np.zeros(len(steps[0].values), np.int64)
    shape: tuple[int, ...] = ()
    for (here, following), next_cost in zip(itertools.pairwise(steps), costs, strict=True):
        index = index * here.width + here.passed
        shape = (*shape, here.width)
        change = np.zeros(shape, np.int64)
        np.add.at(change.reshape(-1), index, following.values.astype(np.int64) - here.values)
        if isinstance(next_cost, np.ndarray):
            spent = np.bincount(index, next_cost, change.size).reshape(shape)
            added = _running_sums(spent)
        else:
            # Counts in double precision are exact.
            going_on = np.bincount(index, steps[0].counts, change.size).reshape(shape)
            added = float(next_cost) * _running_sums(going_on)
        total_cost = total_cost[..., None] + added
        total_value = total_value[..., None] + _running_sums(change)
    return Surface(outer, total_cost, total_value)


def _running_sums(counts: Array) -> Array:
    """Return inclusive running sums along every axis."""
    sums = counts.copy()
    for axis in range(sums.ndim):
        np.cumsum(sums, axis=axis, out=sums)
    return sums
