"""(Cascade, Pool) -> Evaluation: what a committee scores and costs on one split."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Any

import numpy as np

from committee.arrays import Array
from committee.errors import MisalignedError, UnknownNameError
from committee.pool.identity import doubles_note, shared_note
from committee.pool.metrics import TOP_1, Exits, Metric
from committee.pool.pool import Pool
from committee.rule.calibration import calibrated
from committee.rule.cascade import Cascade
from committee.rule.combinations import ORDER_FREE, combined
from committee.rule.flow import Answers, Decisions, Request, decide, drive
from committee.rule.origin import Promised

CONFIDENCE_LEVEL = 0.95
_DRAWS = 2000


@dataclass(frozen=True)
class Evaluation:
    """What a committee scores and costs on the samples of one split.

    Args:
        split: Name of the split.
        samples: How many samples.
        correct: How many of them were predicted right; the sum over samples of another metric.
        average_cost: Mean over samples of the cost of the stages that ran, in ``unit``.
        worst_case_cost: Sum over all stages, in ``unit``.
        unit: Unit of both costs.
        exit_ratios: Share of samples that leave at each stage; sums to 1.
        measure: Name of the metric; ``top-1`` counts the samples predicted right.
        deviation: Standard deviation of the metric over samples; None where a sample scores
            1 or 0, which needs none.
        bounds: Of a metric that is no mean over samples, its 95 % interval; else None. ``correct``
            is then its figure times the samples.
    """

    split: str
    samples: int
    correct: float
    average_cost: float
    worst_case_cost: float
    unit: str
    exit_ratios: tuple[float, ...]
    measure: str = TOP_1.name
    deviation: float | None = None
    bounds: tuple[float, float] | None = None

    @property
    def accuracy(self) -> float:
        """Share of samples predicted right; the mean of another metric."""
        return self.correct / self.samples

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the accuracy: Wilson's for a proportion, Student's for another mean.

        Of what is no mean, by the bootstrap over samples, see :func:`bootstrap_interval`.
        """
        if self.bounds is not None:
            return self.bounds
        if self.deviation is not None:
            from scipy.special import stdtrit

            reach = -float(stdtrit(max(self.samples - 1, 1), (1 - CONFIDENCE_LEVEL) / 2))
            half = reach * self.deviation / math.sqrt(self.samples)
            return self.accuracy - half, self.accuracy + half
        return wilson_interval(int(self.correct), self.samples)

    @property
    def promised(self) -> Promised:
        """What a cascade file keeps of the evaluation that chose it."""
        return Promised(
            self.samples,
            self.correct,
            self.average_cost,
            self.worst_case_cost,
            self.exit_ratios,
            self.measure,
        )

    def to_json(self) -> dict[str, Any]:
        """Every figure, the interval with its level."""
        low, high = self.interval
        return {
            "split": self.split,
            "samples": self.samples,
            "correct": self.correct,
            "accuracy": self.accuracy,
            "interval": [low, high],
            "interval_level": CONFIDENCE_LEVEL,
            "average_cost": self.average_cost,
            "worst_case_cost": self.worst_case_cost,
            "unit": self.unit,
            "exit_ratios": list(self.exit_ratios),
            "measure": self.measure,
        }


def wilson_interval(correct: int, samples: int) -> tuple[float, float]:
    """Return Wilson's interval of a proportion, as of ``scipy.stats.binomtest``.

    >>> [round(end, 4) for end in wilson_interval(90, 100)]
    [0.8256, 0.9448]
    """
    z = NormalDist().inv_cdf((1 + CONFIDENCE_LEVEL) / 2)
    share, wide = correct / samples, 2 * (samples + z**2)
    middle = (2 * correct + z**2) / wide
    half = z / wide * math.sqrt(4 * correct * (1 - share) + z**2)
    return middle - half if correct else 0.0, middle + half if correct < samples else 1.0


def evaluate(
    cascade: Cascade, pool: Pool, unit: str | None = None, metric: Metric | None = None
) -> Evaluation:
    """Apply a cascade to the stored predictions of a pool.

    Args:
        cascade: The committee; its own calibrations are applied, not those of the pool.
        pool: Labelled predictions of its models.
        unit: Unit of the costs; see :meth:`committee.spec.cost.CostTable.unit` for the default.
        metric: What a sample scores when it exits; that of the pool's task if left out.

    Raises:
        UnknownNameError: If the pool lacks a model of the cascade.
        MisalignedError: If the pool has no samples, or no labels where they are needed.
        CostError: If a model has no cost in that unit.
    """
    metric = metric or pool.metric
    check_has_labels(pool, metric)
    unit = unit or pool.costs.unit()
    pool = pool.holding(cascade.models_of_stages)
    costs = stage_costs(cascade, pool, unit)
    decisions = stored_decisions(cascade, pool)
    leaving = np.bincount(decisions.stage, minlength=len(cascade.stages))
    return evaluation_of(
        pool, unit, costs, leaving, metric, scored(cascade, pool, decisions, metric)
    )


def scored(cascade: Cascade, pool: Pool, decisions: Decisions, metric: Metric = TOP_1) -> Array:
    """What each sample scores by how a cascade decided, shape (N,)."""
    labels, cascade = pool.samples.labels, pool.bound(cascade)
    if metric is TOP_1:
        right: Array = (decisions.predicted == labels).astype(np.int64)
        return right
    scores: Array = np.empty(len(pool))
    ran: tuple[str, ...] = ()
    for index, stage in enumerate(cascade.stages):
        ran += stage.models
        rows = np.flatnonzero(decisions.stage == index)
        if not len(rows):
            continue
        own = {name: pool.outputs[name].rows(rows) for name in ran}
        outputs = combined(calibrated(own, cascade.calibrations), cascade.combination)
        known = None if labels is None else labels[rows]
        heard = ran if cascade.combination in ORDER_FREE else ran[-1:]
        values = metric.of(Exits(tuple(sorted(heard)), outputs, known, rows, len(pool)))
        if scores.shape[1:] != values.shape[1:]:
            scores = np.zeros((len(pool), *values.shape[1:]), values.dtype)
        scores[rows] = values
    return scores


def evaluation_of(
    pool: Pool,
    unit: str,
    costs: Sequence[float],
    leaving: Array,
    metric: Metric,
    scores: Array | int,
) -> Evaluation:
    """An evaluation from its parts.

    Args:
        pool: The samples.
        unit: Unit of the costs.
        costs: Cost of each stage, K of them.
        leaving: How many samples leave at each stage, shape (K,), integers.
        metric: What samples score.
        scores: Score of each sample, shape (N,), or its counts, shape (N, K); of a counted metric
            the sum is enough.

    Raises:
        MisalignedError: If there is nothing that a metric of counts could judge.
    """
    if metric.figure is not None:
        return _of_counts(pool, unit, costs, leaving, metric, np.asarray(scores))
    counted = metric.counted
    return Evaluation(
        split=pool.samples.split,
        samples=len(pool),
        correct=int(np.sum(scores)) if counted else math.fsum(np.atleast_1d(scores)),
        average_cost=average_cost(costs, leaving),
        worst_case_cost=math.fsum(costs),
        unit=unit,
        exit_ratios=tuple((leaving / len(pool)).tolist()),
        measure=measure_of(pool, metric),
        deviation=None if counted else float(np.std(scores, ddof=1)) if len(pool) > 1 else 0.0,
    )


def _of_counts(
    pool: Pool,
    unit: str,
    costs: Sequence[float],
    leaving: Array,
    metric: Metric,
    counts: Array,
) -> Evaluation:
    """An evaluation by a metric that is no mean; see :func:`evaluation_of`."""
    assert metric.figure is not None
    samples = pool.samples
    figure = float(metric.figure(counts.sum(axis=0)))
    if math.isnan(figure):
        raise MisalignedError(
            f"split {samples.split!r}: {metric.name} has nothing to judge by; no pixel has a label"
        )
    wholes = counts.reshape(samples.wholes, samples.parts, -1).sum(axis=1)
    return Evaluation(
        split=samples.split,
        samples=samples.wholes,
        correct=figure * samples.wholes,
        average_cost=average_cost(costs, leaving),
        worst_case_cost=math.fsum(costs),
        unit=unit,
        exit_ratios=tuple((leaving / len(pool)).tolist()),
        measure=measure_of(pool, metric),
        bounds=bootstrap_interval(wholes, metric.figure),
    )


def bootstrap_interval(counts: Array, figure: Callable[[Array], Array]) -> tuple[float, float]:
    """95 % interval of a figure of sums, by the percentiles of the bootstrap over samples.

    Args:
        counts: Counts of each sample, shape (N, K). Parts of one whole are summed before, for they
            are not independent of each other.
        figure: From sums (…, K) to figures (…).

    Returns:
        Lower and upper bound. 2,000 draws from a fixed seed: the same counts, the same bounds.

    References:
        Efron and Tibshirani (1993), An Introduction to the Bootstrap, section 13.3.
    """
    tail = 100 * (1 - CONFIDENCE_LEVEL) / 2
    low, high = np.nanpercentile(figure(draws(len(counts)) @ counts), [tail, 100 - tail])
    return float(low), float(high)


def counts_of(cascade: Cascade, pool: Pool, metric: Metric) -> Array:
    """What each whole sample counts towards a figure that is no mean, shape (wholes, K).

    Args:
        cascade: The committee.
        pool: Stored predictions of its models.
        metric: One with a figure.
    """
    own = pool.holding(cascade.models_of_stages)
    counts = scored(cascade, own, stored_decisions(cascade, own), metric)
    whole: Array = counts.reshape(own.samples.wholes, own.samples.parts, -1).sum(axis=1)
    return whole


@lru_cache(maxsize=2)
def draws(samples: int) -> Array:
    """How often each draw of the bootstrap takes each sample, shape (draws, N)."""
    # Many committees are judged on the same samples.
    shares = np.full(samples, 1 / samples)
    # In double precision, in which counts of pixels are exact and products fast.
    return np.random.default_rng(0).multinomial(samples, shares, size=_DRAWS).astype(np.float64)


def stored_decisions(cascade: Cascade, pool: Pool) -> Decisions:
    """What a cascade decides on stored predictions, sample by sample.

    Raises:
        UnknownNameError: If the pool lacks a model of the cascade.
    """
    pool = pool.holding(cascade.models_of_stages)
    for name in cascade.names:
        if name not in pool.outputs:
            raise UnknownNameError.of("evaluate", "model", name, pool.outputs)

    cascade = pool.bound(cascade)

    def stored(request: Request) -> Answers:
        return {name: pool.outputs[name].rows(request.rows) for name in request.models}

    return drive(decide(cascade, len(pool)), stored)


def stage_costs(cascade: Cascade, pool: Pool, unit: str | None = None) -> list[float]:
    """What running each stage on one sample costs.

    Raises:
        UnknownNameError: If the pool lacks a model of the cascade.
        CostError: If a model has no cost in that unit.
    """
    used = pool.holding(cascade.models_of_stages).only(cascade.names)
    return costs_of_stages(cascade.models_of_stages, used.costs.values(unit or pool.costs.unit()))


def costs_of_stages(stages: Iterable[Iterable[str]], costs: Mapping[str, float]) -> list[float]:
    """What running each stage on one sample costs, from its models and the cost of each."""
    return [math.fsum(costs[name] for name in stage) for stage in stages]


def average_cost(costs: Iterable[float], leaving: Array) -> float:
    """Mean cost of a sample.

    Args:
        costs: Cost of each stage, K of them.
        leaving: How many samples leave at each stage, shape (K,), integers.
    """
    reaching = leaving[::-1].cumsum()[::-1]
    return math.fsum(c * int(n) for c, n in zip(costs, reaching, strict=True)) / int(reaching[0])


def check_test_pool(
    pool: Pool, judge: Pool, metric: Metric | None = None, unit: str | None = None
) -> None:
    """Refuse a judging split that chose or calibrated, or on which nothing can be judged.

    Raises:
        MisalignedError: If it holds the samples that chose, other classes, or no labels.
        UnknownNameError: If it lacks a model.
        CostError: If a model has no cost in the unit.
    """
    check_has_labels(judge, metric)
    there = {name for each in judge.divisions for name in each.names}
    lacking = [n for each in pool.divisions for n in each.names if n not in there]
    if lacking:
        raise UnknownNameError(
            f"split {judge.samples.split!r}, which judges, lacks {', '.join(lacking)}. Predict or "
            "import them there too, or leave them out of the pool"
        )
    for each in pool.divisions:
        judge.divided_as(each).only(each.names).costs.unit(unit)
    val, test = pool.samples, judge.samples
    if val.labelled_by != test.labelled_by:
        raise MisalignedError(
            f"{val.split!r} is labelled by {val.labelled_by or 'the truth'}, {test.split!r} by "
            f"{test.labelled_by or 'the truth'}. Use labelled_by on both or on neither"
        )
    both = pool.shared_with(judge)
    if both.most:
        holds = "the same samples as" if len(both.second) == test.wholes else "samples of"
        raise MisalignedError(
            f"{test.split!r} holds {holds} {val.split!r}, which chose the committees: "
            f"{both.told(pool.task.samples)}. Evaluate on others, or leave the split out"
        )
    fitted = sorted(n for n, c in pool.calibrations.items() if c.samples == judge.identity([n]))
    if fitted:
        raise MisalignedError(
            f"{test.split!r} holds the samples that the calibrations of {', '.join(fitted)} were "
            "fitted on. Judge on others, or calibrate on a split of its own"
        )
    if val.classes and test.classes and val.classes != test.classes:
        raise MisalignedError(
            f"{val.split!r} and {test.split!r} differ in their classes or in the order of them. "
            "Predict or import both splits with the same classes"
        )


def split_notes(pool: Pool) -> tuple[str, ...]:
    """What to know of the samples of a pool: what no figure counts, and copies; often nothing."""
    # A store of tiles notes copies itself, for its rows are tiles.
    copies = [] if pool.kind == "counts" else [doubles_note(pool.samples), pool.copies]
    return (*pool.samples.notes, *filter(None, copies))


def shared_warnings(pool: Pool, test: Pool | None) -> tuple[str, ...]:
    """What to know of the samples of the pool that chose and of the test pool; often nothing."""
    if test is None:
        return split_notes(pool)
    told = shared_note(pool.shared_with(test), pool.task.samples)
    return (*filter(None, [told]), *split_notes(pool), *split_notes(test))


def measure_of(pool: Pool, metric: Metric) -> str:
    """What tables call the mean of a metric on a pool."""
    if metric is TOP_1 and pool.samples.labelled_by:
        return f"agreement with {pool.samples.labelled_by}"
    if metric.needs_labels and pool.samples.labelled_by:
        return f"{metric.name} agreement with {pool.samples.labelled_by}"
    return metric.name


def check_has_labels(pool: Pool, metric: Metric | None = None) -> None:
    """Refuse a pool on which nothing can be judged, by the task's metric if none is given.

    Raises:
        MisalignedError: If it has no samples, or no labels and the metric needs them.
    """
    metric = metric or pool.metric
    if pool.samples.labels is None and metric.needs_labels:
        raise MisalignedError(
            f"split {pool.samples.split!r} has no labels; accuracy needs them. "
            f"Add labels with: committee relabel STORE --split {pool.samples.split} --labels FILE"
        )
    if not len(pool):
        raise MisalignedError(f"split {pool.samples.split!r} has no samples")
