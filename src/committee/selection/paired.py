"""Paired: how much more accurate one committee is than another on the same samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from committee.arrays import Array
from committee.pool.evaluate import CONFIDENCE_LEVEL, counts_of, draws, scored, stored_decisions
from committee.pool.metrics import Metric
from committee.pool.pool import Pool
from committee.rule.cascade import Cascade
from committee.selection.evaluate_many import evaluate_all, values_on


@dataclass(frozen=True)
class Estimate:
    """A figure that would differ on other samples.

    Args:
        value: Its best guess.
        low: Lower end of its 95 % interval.
        high: Upper end.
        samples: How many samples it rests on.
    """

    value: float
    low: float
    high: float
    samples: int

    def to_json(self) -> dict[str, float | int]:
        """Its four figures by name."""
        return vars(self)


@dataclass(frozen=True)
class Comparison:
    """A committee beside the reference that it is to match, on the samples of one split.

    Args:
        committee: Its models, as text.
        reference: Name of the model or ensemble.
        difference: Accuracy of the committee less that of the reference, paired, shares of 1.
        saving: Average cost of the reference over that of the committee; None if that is nothing.
        split: Name of the split.
        samples: Several samples, in a word.
        within: How much less accurate than the reference the committee was chosen to be at most;
            None if it was not chosen to match it.
        chose: Whether the split chose the committee, so that the difference flatters it.
    """

    committee: str
    reference: str
    difference: Estimate
    saving: float | None
    split: str
    samples: str
    within: float | None = None
    chose: bool = False

    @property
    def same(self) -> bool:
        """True if the committee is the reference itself."""
        return self.committee == self.reference

    @property
    def promise(self) -> str | None:
        """``kept``, ``missed``, or ``within chance`` if these samples do not tell; None without."""
        if self.within is None:
            return None
        if self.difference.low >= -self.within:
            return "kept"
        return "missed" if self.difference.high < -self.within else "within chance"

    @property
    def text(self) -> str:
        """The promise in words: ``match``, or ``be within 0.5 points of``, the reference."""
        within = f"{100 * (self.within or 0.0):.4g}"
        return f"be within {within} points of" if self.within else "match"

    def to_json(self) -> dict[str, Any]:
        """Every figure, the interval with its level."""
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
        reference: What it is to match.
        pool: Predictions of the models of both.
        unit: Unit of the costs; see :meth:`committee.spec.cost.CostTable.unit` for the default.
        metric: What a sample scores; that of the pool's task if left out.
        name: What the reference is called; its models if left out.
        within: How much less accurate it was chosen to be at most; None if not to match.
        chose: Whether this split chose the committee.

    Raises:
        UnknownNameError: If the pool lacks a model.
        MisalignedError: If the pool has no samples, or no labels where they are needed.
        CostError: If a model has no cost in that unit.
    """
    metric = metric or pool.metric
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
    )  # fmt: skip


def _rule(pool: Pool, cascade: Cascade) -> tuple[object, ...]:
    """What a committee decides by; of one model every combination is its own output."""
    short = pool.bound(cascade).simplified()
    combine = "" if len(short.names) == 1 else short.combine
    confidence = "" if len(short.stages) == 1 else short.confidence
    return short.stages, combine, confidence, tuple(sorted(short.calibrations.items()))


def _difference(cascade: Cascade, other: Cascade, pool: Pool, metric: Metric) -> Estimate:
    if metric.figure is not None:
        own, others = (counts_of(each, pool, metric) for each in (cascade, other))
        return paired_figures([own], [others], metric.figure)
    if metric.counted:
        return paired_difference(*(values_on(each, pool, metric) for each in (cascade, other)))
    return _paired_mean(*(_scores(each, pool, metric) for each in (cascade, other)))


def _scores(cascade: Cascade, pool: Pool, metric: Metric) -> Array:
    own = pool.holding(cascade.models_of_stages)
    return scored(cascade, own, stored_decisions(cascade, own), metric)


def _paired_mean(scores: Array, others: Array) -> Estimate:
    """The mean of differences of any size, with Student's interval."""
    from scipy.special import stdtrit

    differences = scores - others
    count, value = len(differences), float(differences.mean())
    if count < 2:
        return Estimate(value, -math.inf, math.inf, count)
    reach = -float(stdtrit(count - 1, (1 - CONFIDENCE_LEVEL) / 2))
    half = reach * float(differences.std(ddof=1)) / math.sqrt(count)
    return Estimate(value, value - half, value + half, count)


def paired_difference(right: Array, other: Array) -> Estimate:
    """How much more accurate one committee is than another on the same samples, shares of 1.

    Both mostly fail on the same samples, so that this interval is much narrower than two intervals
    side by side would suggest. It is Wald's, with half a sample added to each cell of the table of
    who is right: so it has a width where the two never differ, and holds its level where they
    seldom do.

    Args:
        right: Whether the one is right on each sample, or any number from 0 to 1, such as the
            share of several committees that are, shape (N,), N of 1 or more.
        other: The same of the other, shape (N,).

    References:
        Agresti and Min (2005), Simple improved confidence intervals for comparing matched
        proportions, Statistics in Medicine 24.

    >>> found = paired_difference(np.array([1, 1, 1, 0] * 25), np.array([1, 1, 0, 0] * 25))
    >>> found.value, round(found.low, 3), round(found.high, 3), found.samples
    (0.25, 0.159, 0.331, 100)
    """
    from scipy.special import ndtri

    # As floats: a difference of truth values or of unsigned integers is none.
    differences = np.asarray(right, np.float64) - np.asarray(other, np.float64)
    samples, total = len(differences), float(differences.sum())
    middle = total / (samples + 2)
    # Of truth values the squares count the samples on which the two differ.
    spread = (float((differences**2).sum()) + 1) / (samples + 2) - middle**2
    half = -float(ndtri((1 - CONFIDENCE_LEVEL) / 2)) * math.sqrt(spread / (samples + 2))
    low, high = max(middle - half, -1.0), min(middle + half, 1.0)
    return Estimate(total / samples, low, high, samples)


def paired_figures(
    counts: Sequence[Array], others: Sequence[Array], figure: Callable[[Array], Array]
) -> Estimate:
    """How much higher a figure of sums is for some committees than for others, in the mean of each.

    The interval is the bootstrap's over samples, each draw the same samples for all: by its
    percentiles, as of the figures themselves.

    Args:
        counts: Of each committee the counts of each sample, shape (N, K).
        others: The same of the others.
        figure: From sums (…, K) to figures (…).

    >>> of = [np.array([[3.0, 4.0], [2.0, 4.0]])]
    >>> paired_figures(of, of, lambda sums: sums[..., 0] / sums[..., 1])
    Estimate(value=0.0, low=0.0, high=0.0, samples=2)
    """
    samples = len(counts[0])

    def mean(some: Sequence[Array], drawn: Array) -> Array:
        figures: Array = np.mean([figure(drawn @ each) for each in some], axis=0)
        return figures

    once = np.ones((1, samples))
    value = float((mean(counts, once) - mean(others, once))[0])
    differences = mean(counts, draws(samples)) - mean(others, draws(samples))
    tail = 100 * (1 - CONFIDENCE_LEVEL) / 2
    low, high = np.nanpercentile(differences, [tail, 100 - tail])
    return Estimate(value, float(low), float(high), samples)
