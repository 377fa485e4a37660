"""The exits that are expected on new data: how many samples exited where, and with which score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from committee.arrays import Array
from committee.errors import CascadeError

# More samples than this are no count.
_MOST = 2**50
# Bins of the scores at one stage; each holds about as many samples as the others.
_BINS = 10


@dataclass(frozen=True)
class StageExits:
    """The samples that exited at one stage, by their score.

    Args:
        edges: Rising scores between neighbouring bins; a score that equals one is in the upper bin.
        counts: Samples in each bin, one bin more than edges.

    Raises:
        CascadeError: If the edges do not rise, or do not fit the counts.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        rising = all(low < high for low, high in zip(self.edges, self.edges[1:], strict=False))
        fits = len(self.counts) == len(self.edges) + 1
        if not (rising and fits and all(0 <= each <= _MOST for each in self.counts)):
            raise CascadeError(
                "expected: each stage needs rising edges and one count more than edges, 0 or more"
            )

    @classmethod
    def of(cls, scores: Array) -> StageExits:
        """Return the bins of some scores, shape (n,), between their quantiles."""
        finite = np.sort(scores[np.isfinite(scores)])
        edges = np.unique(finite[edge_ranks(len(finite))])
        return cls(tuple(edges.tolist()), tuple(counts_between(edges, scores).tolist()))


def edge_ranks(scores: int) -> Array:
    """Return the ranks, from 0, of the tenths of so many scores; none without scores.

    Halfway between two ranks the odd one is taken, as in ``closest_observation`` of NumPy.
    """
    if not scores:
        return np.empty(0, np.int64)
    whole, rest = np.divmod(2 * scores * np.arange(1, _BINS) - 3 * _BINS, 2 * _BINS)
    nearest: Array = whole + ((rest > 0) | (whole % 2 == 0))
    return nearest.clip(0, scores - 1)


def counts_between(edges: Array, scores: Array) -> Array:
    """Return how many scores lie in each bin between rising edges, shape (edges + 1,)."""
    bins = np.searchsorted(edges, scores, side="right")
    return np.bincount(bins, minlength=len(edges) + 1)


@dataclass(frozen=True)
class Expected:
    """Where samples exited that are like those to come; alarms compare new exits with them.

    Args:
        rule: Fingerprint of the decisions that were counted; see
            :attr:`committee.rule.cascade.Cascade.rule_fingerprint`.
        split: Name of the split of these samples.
        stages: Their exits, stage by stage.

    Raises:
        CascadeError: If there is no sample.
    """

    rule: str
    split: str
    stages: tuple[StageExits, ...]

    def __post_init__(self) -> None:
        if not self.samples:
            raise CascadeError("expected: there are no samples")

    @classmethod
    def of(cls, rule: str, split: str, stage: Array, score: Array, stages: int) -> Expected:
        """Count the exits of samples; stage and score at the exit have shape (N,)."""
        return cls(rule, split, tuple(StageExits.of(score[stage == k]) for k in range(stages)))

    def fits(self, rule: str, stages: int) -> bool:
        """Return True if these are the exits of some decisions of so many stages."""
        return self.rule == rule and len(self.stages) == stages

    @property
    def samples(self) -> int:
        """How many samples were counted."""
        return sum(self.exits)

    @property
    def exits(self) -> tuple[int, ...]:
        """How many of them exited at each stage."""
        return tuple(sum(each.counts) for each in self.stages)

    @property
    def counts(self) -> tuple[int, ...]:
        """How many of them are in each cell: the bins of all stages, the least sure first.

        A sample that exits late is less sure than one that exits early.
        """
        return tuple(n for each in reversed(self.stages) for n in each.counts)

    def cells(self, stage: Array, score: Array) -> Array:
        """Return the cell of each of N samples, shape (N,); see :attr:`counts`."""
        cells: Array = np.zeros(len(stage), np.int64)
        for k, first in enumerate(self.first_cells):
            here = stage == k
            cells[here] = first + np.searchsorted(self.stages[k].edges, score[here], side="right")
        return cells

    @property
    def first_cells(self) -> Sequence[int]:
        """The first cell of each stage."""
        after = np.cumsum([0, *(len(each.counts) for each in reversed(self.stages))])
        return [int(first) for first in after[-2::-1]]
