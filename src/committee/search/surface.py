"""All threshold vectors of one sequence of models at once: total cost and correct count of each.

A sample's path through a sequence depends only on how many candidate thresholds its score reaches
at each prefix. Samples are therefore counted in a histogram over these numbers, one axis a prefix,
and running sums along its axes give, for every vector of thresholds, how many samples go on and how
many predictions change by going on.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from committee.predictions import Array
from committee.search.prefixes import Prefix

# Counts of one histogram: 100 percentiles on three axes are a million, and a surface takes some
# 40 bytes a count. Thresholds of earlier stages are looped over until the rest fits.
_COUNTS = 1 << 21


@dataclass(frozen=True, eq=False)
class Surface:
    """Cost and accuracy over a grid of threshold vectors.

    Args:
        outer: Choices of the thresholds that were looped over, one index each.
        cost: Total over samples, float64; one axis for each remaining threshold. Index i of an axis
            stands for candidate threshold i, the last index for "never".
        correct: Samples predicted right, same shape, integers.
    """

    outer: tuple[int, ...]
    cost: Array
    correct: Array


def surfaces(prefixes: Sequence[Prefix], costs: Sequence[float]) -> Iterator[Surface]:
    """Yield every threshold vector of one sequence, "always" left out.

    Args:
        prefixes: Statistics of each prefix, shortest first, K of them.
        costs: Cost of each model for one sample, in the same order.
    """
    widths = [len(prefix.thresholds) + 1 for prefix in prefixes[:-1]]
    # The fewest outer loops that let the rest fit; one axis at least is never looped over.
    looped = next(
        k for k in range(len(prefixes)) if math.prod(widths[k:]) <= _COUNTS or k >= len(widths) - 1
    )
    choices = [range(width) for width in widths[:looped]]
    for outer in itertools.product(*choices):
        yield _surface(prefixes, costs, outer)


def _surface(prefixes: Sequence[Prefix], costs: Sequence[float], outer: tuple[int, ...]) -> Surface:
    samples = len(prefixes[0].correct)
    alive = np.ones(samples, bool)
    cost, correct = costs[0] * samples, 0
    for prefix, choice, next_cost in zip(prefixes, outer, costs[1:], strict=False):
        goes_on = alive & (prefix.passed <= choice)
        correct += int(prefix.correct[alive & ~goes_on].sum())
        alive = goes_on
        cost += next_cost * int(alive.sum())
    inner = [_kept(prefix, alive) for prefix in prefixes[len(outer) :]]
    return _histogram_surface(
        outer, inner, costs[len(outer) + 1 :], cost, correct + int(inner[0].correct.sum())
    )


def _kept(prefix: Prefix, alive: Array) -> Prefix:
    if alive.all():
        return prefix
    return Prefix(prefix.correct[alive], prefix.thresholds, prefix.passed[alive])


def _histogram_surface(
    outer: tuple[int, ...],
    prefixes: Sequence[Prefix],
    costs: Sequence[float],
    cost: float,
    correct: int,
) -> Surface:
    """Add, axis by axis, what going on to the next model costs and changes."""
    total_cost: Array = np.array(float(cost))
    total_correct: Array = np.array(correct, np.int32)
    index: Array = np.zeros(len(prefixes[0].correct), np.int64)
    shape: tuple[int, ...] = ()
    for (here, following), next_cost in zip(itertools.pairwise(prefixes), costs, strict=True):
        width = len(here.thresholds) + 1
        index = index * width + here.passed
        shape = (*shape, width)
        size = int(np.prod(shape))
        going_on = np.bincount(index, minlength=size)
        change = np.bincount(index, following.correct - here.correct, minlength=size)
        total_cost = total_cost[..., None] + float(next_cost) * _running_sums(going_on, shape)
        total_correct = total_correct[..., None] + _running_sums(change, shape)
    return Surface(outer, total_cost, total_correct)


def _running_sums(counts: Array, shape: tuple[int, ...]) -> Array:
    """Inclusive running sums along every axis, int32."""
    sums = counts.astype(np.int32).reshape(shape)
    # Whole slices at a time: several times faster than np.cumsum on all but the last axis.
    for axis in range(len(shape) - 1):
        slices = np.moveaxis(sums, axis, 0)
        for before, here in itertools.pairwise(slices):
            np.add(here, before, out=here)
    return np.cumsum(sums, axis=-1, out=sums, dtype=np.int32)
