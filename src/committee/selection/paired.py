"""Paired comparison: how much more accurate one committee is than another on the same samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from committee.arrays import Array
from committee.pool.intervals import CONFIDENCE_LEVEL, Estimate, difference_of_sums
from committee.pool.metrics import Metric
from committee.pool.order_statistics import summed
from committee.pool.pool import Pool
from committee.pool.prefixes import prefixes_of
from committee.rule.cascade import Cascade
from committee.selection.evaluate_many import evaluate_all, values_on
from committee.text import points_text


@dataclass(frozen=True)
class Comparison:
    """A committee compared with the reference that it should match, on the samples of one split.

    Args:
        committee: The committee, as text.
        reference: Name of the model or ensemble.
        difference: Accuracy of the committee less that of the reference, paired, shares of 1.
        saving: Average cost of the reference over that of the committee; None if that costs 0.
        split: Name of the split.
        samples: The word for several samples.
        within: The margin by which the committee may be less accurate than the reference; None if
            it was not chosen to match it.
        chose: True if the split chose the committee, so that the difference flatters it.
        certified: True if a certificate says how the two compare on new data, and how surely.
    """

    committee: str
    reference: str
    difference: Estimate
    saving: float | None
    split: str
    samples: str
    within: float | None = None
    chose: bool = False
    certified: bool = False

    @property
    def same(self) -> bool:
        """True if the committee is the reference itself."""
        return self.committee == self.reference

    @property
    def promise(self) -> str | None:
        """``kept``, ``missed``, or ``within chance`` for too few samples.

        It is None without margin, and where a certificate says more.
        """
        if self.within is None or self.certified:
            return None
        if self.difference.low >= -self.within:
            return "kept"
        return "missed" if self.difference.high < -self.within else "within chance"

    @property
    def text(self) -> str:
        """The promise in words: ``match``, or ``be within 0.5 points of``, the reference."""
        within = points_text(100 * (self.within or 0.0))
        return f"be within {within} of" if self.within else "match"

    def to_json(self) -> dict[str, Any]:
        """Return every figure, the interval with its level."""
        own = self.difference
        return {
            "reference": self.reference,
            "split": self.split,
            "samples": own.samples,
            "difference": own.value,
            "interval": [end if math.isfinite(end) else None for end in (own.low, own.high)],
            "interval_level": CONFIDENCE_LEVEL,
            "saving": self.saving,
            "within": self.within,
            "promise": self.promise,
            "chosen_on_these_samples": self.chose,
        }


def compare(
    cascade: Cascade,
    reference: Cascade,
    pool: Pool,
    unit: str | None = None,
    metric: Metric | None = None,
    *,
    name: str = "",
    within: float | None = None,
    chose: bool = False,
) -> Comparison:
    """Return how much more accurate and how much cheaper a committee is than a reference.

    Args:
        cascade: The committee.
        reference: The cascade that it should match.
        pool: Predictions of the models of both.
        unit: Unit of the costs; see :meth:`committee.spec.cost.CostTable.unit` for the default.
        metric: What a sample scores; by default that of the pool's task.
        name: Name of the reference; by default its models.
        within: As in :class:`Comparison`.
        chose: As in :class:`Comparison`.
    """
    own, other = evaluate_all([cascade, reference], pool, unit, metric)
    same = _rule(pool, cascade) == _rule(pool, reference)
    known = name or str(reference)
    return Comparison(
        known if same else str(cascade),
        known,
        Estimate(0.0, 0.0, 0.0, own.samples) if same
        else _difference(cascade, reference, pool, metric),
        other.average_cost / own.average_cost if own.average_cost else None,
        pool.samples.split,
        pool.task.samples,
        within,
        chose,
        _certified(cascade, known),
    )  # fmt: skip


def _difference(
    cascade: Cascade, reference: Cascade, pool: Pool, metric: Metric | None
) -> Estimate:
    if not prefixes_of(pool, metric=metric).counted:
        values, others = (values_on(each, pool, metric) for each in (cascade, reference))
        return mean_difference([values], [others], pool, metric)
    gained, lost = compared_counts(cascade, reference, metric, pool)
    return difference_of_sums(gained - lost, gained + lost, len(pool))


def compared_counts(
    cascade: Cascade, reference: Cascade | None, metric: Metric | None, pool: Pool
) -> tuple[int, int]:
    """Return how many samples only the cascade has correct, and how many only the reference.

    The metric counts samples. Without reference the cascade has all alone that it has correct.
    """
    counts = summed(pool.each(partial(_compared, cascade, reference, metric)))
    return int(counts[0]), int(counts[1])


def _compared(
    cascade: Cascade, reference: Cascade | None, metric: Metric | None, pool: Pool
) -> Array:
    own = values_on(cascade, pool, metric)
    other = np.zeros_like(own) if reference is None else values_on(reference, pool, metric)
    return np.array([(own > other).sum(), (own < other).sum()], np.int64)


def _certified(cascade: Cascade, reference: str) -> bool:
    own = cascade.certificate
    return own is not None and own.reference == reference and cascade.is_certified


def _rule(pool: Pool, cascade: Cascade) -> tuple[object, ...]:
    """Return the rule of a committee, without what has no effect for one model or one stage."""
    short = pool.bound(cascade).simplified()
    combine = "" if len(short.names) == 1 else short.combine
    confidence = "" if len(short.stages) == 1 else short.confidence
    return short.stages, combine, confidence, tuple(sorted(short.calibrations.items()))


def mean_difference(
    values: Sequence[Array], others: Sequence[Array], pool: Pool, metric: Metric | None = None
) -> Estimate:
    """Return how much more accurate some committees are on average than others, paired.

    Args:
        values: The score of each committee on each sample; see
            :func:`~committee.selection.evaluate_many.values_on`.
        others: The same for the others.
        pool: The samples.
        metric: What a sample scores; by default that of the pool.
    """
    return prefixes_of(pool, metric=metric).difference(values, others)
