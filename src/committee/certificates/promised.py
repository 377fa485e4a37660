"""What a user wants to be certified, checked against a pool before anything is tested."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real

import numpy as np

from committee.certificates.certificate import reference_of
from committee.certificates.paths import Hypothesis
from committee.errors import CascadeError, CostError
from committee.pool.evaluate import check_has_labels, source_of
from committee.pool.metrics import TOP_1, Metric, check_metric
from committee.pool.pool import Pool
from committee.rule.cascade import Cascade
from committee.rule.certificate import LARGEST_LEVEL, LEAST_LEVEL, Promise
from committee.selection.evaluate_many import values_on
from committee.selection.front import check_within
from committee.selection.sequences import refuse_tiles


@dataclass(frozen=True)
class Promised:
    """What is to be certified, checked against a pool.

    Args:
        kind: The promise.
        margin: See :class:`~committee.rule.certificate.CertificateRecord`.
        level: See there.
        reference: What the committee is compared with; None without one.
        metric: What a sample scores, 1 or 0.
        max_cost: The most that a sample may cost on average; None if no cost is promised.
        unit: Unit of the costs.
        cost_limit: The most that one sample can cost; needed where costs differ by sample.
    """

    kind: Promise
    margin: float
    level: float
    reference: Cascade | None
    metric: Metric
    max_cost: float | None
    unit: str
    cost_limit: float | None = None

    @property
    def slack(self) -> float:
        """How much less than the goal the mean may be."""
        return {"within": self.margin, "at least": -self.margin}.get(self.kind, self.margin - 1)

    def hypothesis(self, pool: Pool) -> Hypothesis:
        """Return what is tested, on the samples of a pool."""
        goal, certainty = np.zeros(len(pool), np.int64), np.zeros(len(pool))
        if self.reference is not None:
            source = source_of(self.reference, pool, self.metric)
            if len(self.reference.stages) == 1:
                key = source.key(self.reference.names)
                certainty = source.scores(key, np.arange(len(pool)))
            if self.kind == "within":
                goal = values_on(self.reference, pool, self.metric).astype(np.int64)
        return Hypothesis(goal, certainty, self.slack, self.kind == "within")


def checked_promise(
    pool: Pool,
    match: str | Sequence[str] | Cascade | None,
    agree_with: str | Sequence[str] | Cascade | None,
    within: float,
    min_accuracy: float | None,
    max_cost: float | None,
    cost_limit: float | None,
    level: float,
    unit: str | None,
    metric: Metric | None,
    combine: str | None,
    confidence: str,
    labelled: bool,
) -> Promised:
    """Return the promise, or refuse what is no promise."""
    given = [each is not None for each in (match, agree_with, min_accuracy)]
    if sum(given) != 1:
        raise CascadeError(
            "certify: give one of match, agree_with and min_accuracy; max_cost goes beside them"
        )
    check_within(within)
    if not isinstance(level, Real) or not LEAST_LEVEL <= level <= LARGEST_LEVEL:
        raise CascadeError(
            f"certify: level {level!r} must lie between {LEAST_LEVEL} and {LARGEST_LEVEL}, for "
            "example 0.95"
        )
    if min_accuracy is not None and not 0 < min_accuracy < 1:
        raise CascadeError(f"certify: min_accuracy {min_accuracy:g} must lie between 0 and 1")
    if max_cost is not None and not 0 < max_cost < math.inf:
        raise CostError(f"certify: the cost to promise must be a number above 0, not {max_cost:g}")
    if cost_limit is not None and not 0 < cost_limit < math.inf:
        raise CostError(
            f"certify: the limit of one sample's cost must be a number above 0, not {cost_limit:g}"
        )
    refuse_tiles("certify", pool)
    check_metric(metric)
    own = metric or pool.metric
    if agree_with is not None and metric is not None and metric != TOP_1:
        raise CascadeError(
            f"certify: agreement is of answers, not of {metric.name}; leave the metric out"
        )
    if not own.counted:
        raise CascadeError(
            f"certify: a sample scores any number by {own.name!r}; certificates need 1 or 0. Use "
            "top-1 or another counted metric, or grade outcomes 1 or 0"
        )
    if agree_with is None and not labelled:
        check_has_labels(pool, own)
    named = match if match is not None else agree_with
    reference = None
    if named is not None:
        reference = reference_of(pool, named, combine, confidence)
    kind: Promise = "within" if match is not None else "agreement"
    if min_accuracy is not None:
        kind = "at least"
    margin = within if min_accuracy is None else min_accuracy
    chosen_unit = pool.costs.unit(unit)
    return Promised(kind, margin, level, reference, own, max_cost, chosen_unit, cost_limit)
