"""Compare the exits of a run with those that a cascade file expects."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from committee.arrays import Array
from committee.rule.cascade import Cascade

# Exits differ if chance alone explains so large a distance with less than this probability.
_LEVEL = 1e-3


@dataclass(frozen=True)
class Promise:
    """The shares of a number of samples that are expected to exit at each stage."""

    ratios: tuple[float, ...]
    samples: int

    @classmethod
    def of(cls, cascade: Cascade) -> Promise | None:
        """Return what a cascade's file expects; None if it expects nothing of its stages.

        It expects the exits that alarms expect, or in older files those that chose the cascade.
        """
        expected, promised = cascade.expected, cascade.origin.promised
        if expected is not None and expected.fits(cascade.rule_fingerprint, len(cascade.stages)):
            return cls(tuple(n / expected.samples for n in expected.exits), expected.samples)
        if promised is None or len(promised.exit_ratios) != len(cascade.stages):
            return None
        return cls(promised.exit_ratios, promised.samples)

    def explained(self, exits: Sequence[int]) -> bool:
        """Return True if chance explains how far exits are from the expected ones.

        Each stage gets Fisher's exact test, at a level that all stages share (Bonferroni).
        """
        promised = [round(ratio * self.samples) for ratio in self.ratios]
        total = sum(exits)
        pairs = zip(promised, exits, strict=True)
        least = min(_p_value(then, self.samples, now, total) for then, now in pairs)
        return least * len(promised) >= _LEVEL


def _p_value(one: int, of_one: int, two: int, of_two: int) -> float:
    """Return the two-sided p-value of Fisher's exact test that two shares are the same."""
    from scipy.special import gammaln

    def ways(total: int, taken: Array) -> Array:
        logs: Array = gammaln(total + 1) - gammaln(taken + 1) - gammaln(total - taken + 1)
        return logs

    both = one + two
    ones = np.arange(max(0, both - of_two), min(both, of_one) + 1)
    logs = ways(of_one, ones) + ways(of_two, both - ones) - ways(of_one + of_two, np.array(both))
    # Sum all tables that are at most as likely as the observed one, up to rounding.
    return math.fsum(np.exp(logs[logs <= logs[one - ones[0]] + 1e-7]))
