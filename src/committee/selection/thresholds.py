"""Thresholds worth trying: percentiles of the score at one prefix on the choosing split."""

from __future__ import annotations

import numpy as np

from committee.arrays import Array
from committee.errors import ShapeError

# Samples are told apart by how many thresholds they reach, in 16 bits.
MOST = 65_000


def percentile_ranks(samples: int, grid: int) -> Array:
    """Ranks of the 1/grid, 2/grid, … 1 quantiles among ranked scores, shape (grid,).

    Raises:
        ShapeError: If ``grid`` is less than 1 or more than 65,000.
    """
    if not isinstance(grid, int | np.integer) or not 1 <= grid <= MOST:
        raise ShapeError(f"search: grid must be 1 to {MOST} percentiles, not {grid}")
    return -(-np.arange(1, grid + 1) * (samples - 1) // grid)


def between(lower: Array, upper: Array) -> Array:
    """Numbers halfway between neighbours; of two with nothing between them, the upper."""
    # Halves are added, not the sum halved: the sum of two huge scores overflows.
    middle = lower / 2 + upper / 2
    return np.where((middle > lower) & (middle < upper), middle, upper)


def percentile_thresholds(scores: Array, grid: int) -> Array:
    """Thresholds at the 1/grid, 2/grid, … 1 quantiles of the scores, rising, all different.

    Each threshold lies halfway between two neighbouring scores, so that rounding noise in a score
    does not move a sample across it; the samples that exit are those at or above the upper one.
    Thresholds by which every sample would exit are left out: "always" stands for them.

    Args:
        scores: Shape (N,), finite.
        grid: How many percentiles, 1 or more; 100 by default everywhere.

    Returns:
        Thresholds, shape (at most ``grid``,); none if all scores are equal.

    Raises:
        ShapeError: If ``grid`` is less than 1 or more than 65,000.

    References:
        Wang et al. (2022), appendix D.3.

    >>> percentile_thresholds(np.array([0.2, 0.4, 0.8]), grid=2)
    array([0.3, 0.6])
    """
    ranked = np.sort(scores)
    upper = np.unique(ranked[percentile_ranks(len(ranked), grid)])
    first = np.searchsorted(ranked, upper, side="left")
    upper, first = upper[first > 0], first[first > 0]
    return between(ranked[first - 1], upper)
