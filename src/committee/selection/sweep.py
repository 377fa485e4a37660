"""The sweep: find the threshold vectors of sequences that no known committee clearly beats.

A point is dropped only if another is at least as good and costs less by more than rounding can
explain. :mod:`committee.selection.refine` compares the rest on exact figures, so that batches,
threads and the compiled part do not change the front.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from committee.arrays import Array
from committee.pool.costs import SampleCost, differ
from committee.selection.approximations import compiled_part
from committee.selection.numpy_sweep import Step, Surface, surfaces
from committee.selection.statistics import PrefixTable, Statistics

# Below this share of another's cost, a committee is cheaper whatever the rounding.
CLEARLY = 1 - 1e-12
# The same in sums of costs that differ by sample, one after another, of up to a million samples.
CLEARLY_IN_SUMS = 1 - 1e-9
_GO = np.zeros(1, np.uint8)


@dataclass(frozen=True, eq=False)
class Batch:
    """B sequences of K stages each.

    Args:
        prefixes: Row in the prefix table of the prefix after each stage, shape (B, K), int32.
        costs: Cost of each stage for one sample, shape (1 + E, B, K): in the unit of the search,
            then in E units whose average is bounded. Where costs differ by sample, nested lists.
        limits: Largest total over samples in each bounded unit, shape (E,).
    """

    prefixes: Array
    costs: Array | Sequence[Sequence[Sequence[SampleCost]]]
    limits: Array

    @classmethod
    def of(
        cls,
        prefixes: Sequence[Sequence[int]],
        costs: Sequence[Sequence[Sequence[SampleCost]]],
        limits: Array,
    ) -> Batch:
        """Return a batch; costs are an array where they are the same for all samples."""
        numbers = not any(differ(own) for unit in costs for own in unit)
        return cls(np.array(prefixes, np.int32), np.array(costs) if numbers else costs, limits)

    @property
    def clearly(self) -> float:
        """Below this share of another's cost, a committee is cheaper whatever the rounding."""
        return CLEARLY if isinstance(self.costs, np.ndarray) else CLEARLY_IN_SUMS


@dataclass(frozen=True, eq=False)
class Points:
    """P committees.

    Args:
        sequence: Number of the sequence in its batch, shape (P,).
        choices: Number of the candidate threshold of each stage but the last; the last number
            stands for "never", shape (P, K - 1).
        reach: How many samples run each stage, shape (P, K), int64.
        cost: Total over samples, shape (P,), float64.
        value: Total over samples, shape (P,), int64.
    """

    sequence: Array
    choices: Array
    reach: Array
    cost: Array
    value: Array

    def taken(self, index: Array) -> Points:
        """Return some of the points."""
        return Points(*(getattr(self, each.name)[index] for each in fields(self)))


def sweep(
    table: Statistics, batch: Batch, known_cost: Array, known_value: Array, stop: Array = _GO
) -> Points:
    """Return the committees of a batch that neither each other nor known committees clearly beat.

    Args:
        table: Statistics of the prefixes.
        batch: The sequences.
        known_cost: Total cost of known committees, rising, shape (Q,).
        known_value: Total value of the same, rising, shape (Q,).
        stop: Shape (1,), uint8; once it is not 0 the sweep ends early with part of the result.
    """
    native = compiled_part()
    # The compiled part counts rows of samples, and costs that differ by sample must be summed.
    if (
        native is None
        or not isinstance(table, PrefixTable)
        or not isinstance(batch.costs, np.ndarray)
    ):
        return _plain_sweep(table, batch, known_cost, known_value, stop)
    arrays = native.sweep(
        table.passed,
        table.values,
        table.widths,
        np.ascontiguousarray(batch.prefixes, np.int32),
        np.ascontiguousarray(batch.costs, np.float64),
        np.ascontiguousarray(batch.limits, np.float64),
        np.ascontiguousarray(known_cost, np.float64),
        np.ascontiguousarray(known_value, np.int64),
        stop,
    )
    return Points(*arrays)


def _plain_sweep(
    table: Statistics, batch: Batch, known_cost: Array, known_value: Array, stop: Array = _GO
) -> Points:
    """Return what :func:`sweep` returns, computed in NumPy."""
    parts: list[Points] = []
    for number, rows in enumerate(batch.prefixes):
        points = _of_sequence(table, rows, number, batch, known_cost, known_value, stop)
        if len(points.cost):
            parts.append(points)
            known_cost, known_value = pareto_envelope(
                np.concatenate([known_cost, points.cost]),
                np.concatenate([known_value, points.value]),
            )
    return _joined(parts, batch.prefixes.shape[1])


def _of_sequence(
    table: Statistics,
    rows: Array,
    number: int,
    batch: Batch,
    known_cost: Array,
    known_value: Array,
    stop: Array,
) -> Points:
    steps = table.steps(rows)
    parts = []
    for surface, *bounded in zip(
        *(surfaces(steps, costs[number]) for costs in batch.costs), strict=True
    ):
        if stop[0]:
            break
        clearly = batch.clearly
        index = np.flatnonzero(within_limits(bounded, batch.limits, surface.cost.size, clearly))
        cost, value = surface.cost.ravel()[index], surface.value.ravel()[index]
        # Drop the dominated points, nearly all, before computing reach.
        keep = np.flatnonzero(~dominated(cost, value, known_cost, known_value, clearly))
        cost, value, index = cost[keep], value[keep], index[keep]
        keep = np.flatnonzero(~dominated(cost, value, *pareto_envelope(cost, value), clearly))
        cost, value, index = cost[keep], value[keep], index[keep]
        choices = choices_of(surface, index).astype(np.int32)
        reach = reach_of(steps, choices)
        parts.append(Points(np.full(len(index), number), choices, reach, cost, value))
    return _thinned(_joined(parts, len(rows)), [step.width for step in steps], batch.clearly)


def within_limits(
    bounded: Sequence[Surface], limits: Array, points: int, clearly: float = CLEARLY
) -> Array:
    """Return which points of surfaces are within every limit on total cost, shape (points,).

    Points within rounding of a limit pass; refine checks the limit on the exact figure.
    """
    within = np.ones(points, bool)
    for surface, limit in zip(bounded, limits, strict=True):
        within &= surface.cost.ravel() * clearly <= limit
    return within


def choices_of(surface: Surface, index: Array) -> Array:
    """Return the numbers of the candidate thresholds of points of a surface, shape (P, K - 1)."""
    outer = np.broadcast_to(np.array(surface.outer, np.int64), (len(index), len(surface.outer)))
    # A single stage has no threshold, and NumPy refuses to unravel into no axes.
    axes = np.unravel_index(index, surface.cost.shape) if surface.cost.ndim else ()
    return np.concatenate([outer, *(axis[:, None] for axis in axes)], axis=1)


def reach_of(steps: Sequence[Step], choices: Array) -> Array:
    """Return how many samples run each stage under each vector of choices, shape (P, K)."""
    samples = steps[0].samples
    reach = np.full((len(choices), len(steps)), samples.sum(), np.int64)
    for point, choice in enumerate(choices):
        alive = np.ones(len(samples), bool)
        for k, (step, number) in enumerate(zip(steps, choice, strict=False)):
            alive &= step.passed <= number
            reach[point, k + 1] = samples[alive].sum()
    return reach


def _thinned(points: Points, widths: Sequence[int], clearly: float) -> Points:
    """Drop clearly dominated points; among equals keep the fewest stages, then low thresholds."""
    joins = (points.choices == np.array(widths[:-1], int) - 1).sum(axis=1)
    order = np.lexsort((*points.choices.T[::-1], -joins, -points.value, points.cost))
    points = points.taken(order)
    first = np.ones(len(order), bool)
    first[1:] = points.cost[1:] != points.cost[:-1]
    envelope = pareto_envelope(points.cost, points.value)
    beaten = dominated(points.cost, points.value, *envelope, clearly)
    return points.taken(np.flatnonzero(first & ~beaten))


def _joined(parts: Sequence[Points], stages: int) -> Points:
    """Concatenate points; ``stages`` is K, for an empty list."""
    none = np.empty(0, np.int64)
    empty = Points(
        none,
        np.empty((0, stages - 1), np.int32),
        np.empty((0, stages), np.int64),
        np.empty(0),
        none,
    )
    every = [empty, *parts]
    return Points(
        *(np.concatenate([getattr(part, each.name) for part in every]) for each in fields(empty))
    )


def pareto_envelope(cost: Array, value: Array) -> tuple[Array, Array]:
    """Return cost and value, both rising, of the points that no other beats."""
    order = np.lexsort((-value, cost))
    cost, value = cost[order], value[order]
    improves = np.ones(len(order), bool)
    improves[1:] = value[1:] > np.maximum.accumulate(value)[:-1]
    return cost[improves], value[improves]


def dominated(
    cost: Array,
    value: Array,
    known_cost: Array,
    known_value: Array,
    clearly: float = CLEARLY,
) -> Array:
    """Return which points a known one clearly beats; pass the known as a Pareto envelope."""
    if not len(known_cost):
        return np.zeros(len(cost), bool)
    below = np.searchsorted(known_cost, cost * clearly, side="left") - 1
    return (below >= 0) & (known_value[below] >= value)
