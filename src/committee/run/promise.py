"""The exit ratios that a cascade file promises, and the exits of a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from committee.arrays import Array
from committee.rule.cascade import Cascade

# Exits that chance alone would move so far in fewer cases than this are said to differ.
_LEVEL = 1e-3


@dataclass(frozen=True)
class Promise:
    """Which share of the samples was promised to exit at each stage.

    Args:
        ratios: One a stage, which sum to 1.
        samples: On how many samples they were counted.
    """

    ratios: tuple[float, ...]
    samples: int

    @classmethod
    def of(cls, cascade: Cascade) -> Promise | None:
        """Return what a cascade promises; None if it promises nothing for its stages."""
        promised = cascade.origin.promised
        if promised is None or len(promised.exit_ratios) != len(cascade.stages):
            return None
        return cls(promised.exit_ratios, promised.samples)

    def explained(self, exits: Sequence[int]) -> bool:
        """Return True if chance explains how far exits are from the promised ones.

        Fisher's exact test of each stage, at a level shared by all stages.

        Args:
            exits: How many samples exited at each stage.
        """
        before = [round(ratio * self.samples) for ratio in self.ratios]
        found = sum(exits)
        pairs = zip(before, exits, strict=True)
        least = min(_by_chance(then, self.samples, now, found) for then, now in pairs)
        return least * len(before) >= _LEVEL


def _by_chance(one: int, of_one: int, two: int, of_two: int) -> float:
    """Return the two-sided p-value of Fisher's exact test: are two shares the same?"""
    from scipy.special import gammaln

    def ways(total: int, taken: Array) -> Array:
        logs: Array = gammaln(total + 1) - gammaln(taken + 1) - gammaln(total - taken + 1)
        return logs

    both = one + two
    ones = np.arange(max(0, both - of_two), min(both, of_one) + 1)
    logs = ways(of_one, ones) + ways(of_two, both - ones) - ways(of_one + of_two, np.array(both))
    # As likely as what was seen, up to rounding, or less.
    return math.fsum(np.exp(logs[logs <= logs[one - ones[0]] + 1e-7]))
