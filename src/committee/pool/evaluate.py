"""Evaluation: the accuracy and the costs of a committee on one split."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from committee.arrays import Array
from committee.errors import CascadeError, MisalignedError, UnknownNameError
from committee.pool.comparison import identity_of, shared_samples
from committee.pool.costs import SampleCost, alike, costs_of_stages, mean_cost, worst_cost
from committee.pool.identity import shared_note
from committee.pool.intervals import (
    CONFIDENCE_LEVEL,
    Estimate,
    counted_estimate,
    wilson_interval,
)
from committee.pool.metrics import TOP_1, Metric, check_metric
from committee.pool.order_statistics import order_statistics, summed
from committee.pool.pool import Made, Pool
from committee.pool.prefixes import PrefixSource, prefixes_of
from committee.pool.table import Column, Table
from committee.rule.cascade import Cascade
from committee.rule.expected import Expected, StageExits, counts_between, edge_ranks
from committee.rule.flow import Answers, Decisions, Request, decide, drive
from committee.rule.origin import Promised
from committee.rule.outputs import WITH_CONFIDENCE, Outputs
from committee.rule.scores import AGREEMENTS
from committee.text import counted, shares


@dataclass(frozen=True)
class Evaluation:
    """The accuracy and the costs of a committee on the samples of one split.

    Args:
        split: Name of the split.
        samples: Number of samples.
        accuracy: Share of samples predicted correctly, or the figure of another metric.
        average_cost: Mean over samples of the cost of the stages that ran, in ``unit``.
        worst_case_cost: Sum over all stages, in ``unit``; the largest where samples differ in it.
        unit: Unit of both costs.
        exit_ratios: Share of samples that exit at each stage; sums to 1.
        measure: Name of the metric; ``top-1`` counts the samples predicted correctly.
        bounds: The 95 % interval of a metric that does not count samples; else None.
        is_share: False if a sample may score any number, so that the accuracy is no share of 1.
    """

    split: str
    samples: int
    accuracy: float
    average_cost: float
    worst_case_cost: float
    unit: str
    exit_ratios: tuple[float, ...]
    measure: str = TOP_1.name
    bounds: tuple[float, float] | None = None
    is_share: bool = True

    @property
    def correct(self) -> int | None:
        """How many samples were predicted correctly; None if the metric does not count samples."""
        return round(self.accuracy * self.samples) if self.bounds is None else None

    @property
    def promised(self) -> Promised:
        """The part of the evaluation that a cascade file stores."""
        return Promised(
            self.samples,
            self.accuracy,
            self.average_cost,
            self.worst_case_cost,
            self.exit_ratios,
            self.measure,
        )

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the accuracy: Wilson's for a metric that counts samples."""
        correct = self.correct
        if correct is None:
            assert self.bounds is not None
            return self.bounds
        return wilson_interval(correct, self.samples)

    def __repr__(self) -> str:
        accuracy, cost, worst, exits = (
            column.text(column.get(self)) for column in evaluation_columns(self)
        )
        return (
            f"<Evaluation: {self.measure} {accuracy} on {counted(self.samples, 'sample')} of "
            f"{self.split!r}; {cost} on average, {worst} at worst; exits {exits}>"
        )

    def _repr_html_(self) -> str:
        title = f"{self.split}, {counted(self.samples, 'sample')}"
        return Table(title, evaluation_columns(self), [self]).html()

    def to_json(self) -> dict[str, Any]:
        """Return every figure, the interval with its level."""
        return {
            "split": self.split,
            "samples": self.samples,
            "correct": self.correct,
            "accuracy": self.accuracy,
            "interval": list(self.interval),
            "interval_level": CONFIDENCE_LEVEL,
            "average_cost": self.average_cost,
            "worst_case_cost": self.worst_case_cost,
            "unit": self.unit,
            "exit_ratios": list(self.exit_ratios),
            "measure": self.measure,
        }


def evaluation_columns(example: Evaluation) -> tuple[Column, ...]:
    """Return the columns of a table of evaluations like one: by its metric, in its unit."""

    def accuracy(own: Evaluation) -> Estimate:
        return Estimate(own.accuracy, *own.interval, own.samples)

    heading = "accuracy" if example.measure == TOP_1.name else example.measure
    return (
        Column(heading, accuracy, "share" if example.is_share else "number"),
        Column("average cost", lambda own: own.average_cost, "cost", example.unit),
        Column("worst case", lambda own: own.worst_case_cost, "cost", example.unit),
        Column("exits", lambda own: shares(own.exit_ratios)),
    )


def evaluate(
    cascade: Cascade, pool: Pool, unit: str | None = None, metric: Metric | None = None
) -> Evaluation:
    """Return the evaluation of a cascade on the stored predictions of a pool.

    Args:
        cascade: The committee; its own calibrations are applied, not those of the pool.
        pool: Labelled predictions of its models.
        unit: Unit of the costs; see :meth:`committee.spec.cost.CostTable.unit` for the default.
        metric: What a sample scores when it exits; by default that of the pool.

    Raises:
        UnknownNameError: If the pool lacks a model of the cascade.
        MisalignedError: If the pool has no samples, or no labels where they are needed.
        CostError: If a model has no cost in that unit.
    """
    if not isinstance(cascade, Cascade):
        raise CascadeError(
            f"evaluate: a {type(cascade).__name__} is not a cascade; give choice.cascade"
        )
    check_has_labels(pool, metric)
    unit = unit or pool.costs.unit()
    costs = stage_costs(cascade, pool, unit)
    source = source_of(cascade, pool, metric)
    if source.counted and (numbers := alike(costs)) is not None:
        counts = summed(source.each(partial(_count_exits, cascade)))
        return counted_evaluation(source, unit, numbers, counts)
    stages, values = exits_of(cascade, source)
    exits = np.bincount(stages, minlength=len(cascade.stages))
    estimate = source.estimate(source.per_sample(values))
    return evaluation_of(source, unit, costs, mean_cost(costs, stages), exits, estimate)


def _count_exits(cascade: Cascade, source: PrefixSource) -> Array:
    return exit_counts(*exits_of(cascade, source), len(cascade.stages))


def exit_counts(stages: Array, values: Array, most: int) -> Array:
    """Return how many samples score 0 and 1 at each stage of exit, shape (most, 2), int64.

    Such counts add up over the shards of a pool.
    """
    cells = 2 * stages + values.astype(np.int64)
    return np.bincount(cells, minlength=2 * most).reshape(most, 2)


def counted_evaluation(
    source: PrefixSource, unit: str, costs: Sequence[float], counts: Array
) -> Evaluation:
    """Return an evaluation from the counts of :func:`exit_counts`, where all samples cost alike."""
    exits = counts.sum(axis=1)
    estimate = counted_estimate(int(counts[:, 1].sum()), int(exits.sum()))
    return evaluation_of(source, unit, costs, average_cost(costs, exits), exits, estimate)


def source_of(cascade: Cascade, pool: Pool, metric: Metric | None = None) -> PrefixSource:
    """Return the prefixes of a pool under the rule and the calibrations of a cascade."""
    pool = pool.holding(cascade.models_of_stages)
    for name in cascade.names:
        if name not in pool.outputs:
            raise UnknownNameError.of("evaluate", "model", name, pool.outputs)
    own = {n: c for n, c in cascade.calibrations.items() if n in pool.outputs}
    if own:  # models without a calibration may be of another kind
        pool = pool.only(cascade.names)
    pool = pool.with_calibrations(own)
    combine = pool.bound(cascade).combination
    confidence = own_confidence(pool, cascade.confidence)
    return prefixes_of(pool, confidence, combine, metric)


def own_confidence(pool: Pool, confidence: str) -> str:
    """Return the confidence of a cascade on a pool; decisions and outcomes bring their own."""
    own = pool.combined_kind in WITH_CONFIDENCE and confidence not in AGREEMENTS
    return "max_prob" if own else confidence


def exits_of(cascade: Cascade, source: PrefixSource) -> tuple[Array, Array]:
    """Return the stage of exit, from 0, and the value of each row of a split."""
    made, values = _decided(cascade, source)
    return made.stage, values


def with_expected(cascade: Cascade, pool: Pool, metric: Metric | None = None) -> Cascade:
    """Return a cascade whose file says where the samples of a pool exit, for alarms."""
    source = source_of(cascade, pool, metric)
    counted_by = cascade.rule_fingerprint, pool.samples.split
    if source.by_row:
        made, _ = _decided(cascade, source)
        expected = Expected.of(*counted_by, made.stage, made.score, len(cascade.stages))
    else:
        expected = Expected(*counted_by, _exits_of_shards(cascade, source))
    return replace(cascade, expected=expected)


def _exits_of_shards(cascade: Cascade, source: PrefixSource) -> tuple[StageExits, ...]:
    """Return the exits at each stage by score, counted over all shards."""

    def finite(function: Callable[[Iterable[Array]], Made]) -> Iterator[Made]:
        return source.each(partial(_of_finite, cascade, function))

    ranked = order_statistics(finite, edge_ranks)
    edges = [np.unique(own.values) for own in ranked]
    counts = summed(source.each(partial(_count_between, cascade, edges)))
    ends = np.cumsum([len(own) + 1 for own in edges])[:-1]
    return tuple(
        StageExits(tuple(own.tolist()), tuple(each.tolist()))
        for own, each in zip(edges, np.split(counts, ends), strict=True)
    )


def _scores_at_exit(cascade: Cascade, source: PrefixSource) -> list[Array]:
    """Return the scores of the rows that exit at each stage, K arrays."""
    made, _ = _decided(cascade, source)
    return [made.score[made.stage == k] for k in range(len(cascade.stages))]


def _of_finite(
    cascade: Cascade, function: Callable[[Iterable[Array]], Made], source: PrefixSource
) -> Made:
    return function(own[np.isfinite(own)] for own in _scores_at_exit(cascade, source))


def _count_between(cascade: Cascade, edges: Sequence[Array], source: PrefixSource) -> Array:
    scores = _scores_at_exit(cascade, source)
    return np.concatenate([counts_between(*own) for own in zip(edges, scores, strict=True)])


def _decided(cascade: Cascade, source: PrefixSource) -> tuple[Decisions, Array]:
    """Return the decisions on each row of a split, whose classes mean nothing, and the values."""
    ran: list[str] = []
    values: Array = np.empty(0)

    def answer(request: Request) -> Answers:
        nonlocal values
        ran.extend(request.models)
        scores, own = source.scored(source.key(ran), request.rows)
        # The next stage overwrites the values of rows that go on.
        values = own if request.stage == 0 else values
        values[request.rows] = own
        classes = np.zeros(len(scores), np.int64)
        return {name: Outputs("decisions", classes, scores) for name in request.models}

    scored = replace(cascade, confidence="max_prob", combine="last", calibrations={})
    return drive(decide(scored, len(source)), answer), values


def evaluation_of(
    source: PrefixSource,
    unit: str,
    costs: Sequence[SampleCost],
    average: float,
    exits: Array,
    estimate: Estimate,
) -> Evaluation:
    """Return an evaluation from its parts."""
    pool, metric = source.pool, source.metric
    return Evaluation(
        split=pool.samples.split,
        samples=estimate.samples,
        accuracy=estimate.value,
        average_cost=average,
        worst_case_cost=worst_cost(costs),
        unit=unit,
        exit_ratios=tuple((exits / len(pool)).tolist()),
        measure=measure_of(pool, metric),
        bounds=None if metric.counted else (estimate.low, estimate.high),
        is_share=metric.is_share or not source.additive,
    )


def stored_decisions(cascade: Cascade, pool: Pool) -> Decisions:
    """Return the decision of a cascade on each sample, from stored outputs.

    Raises:
        UnknownNameError: If the pool lacks a model of the cascade.
    """
    pool = pool.holding(cascade.models_of_stages)
    pool.require_rows("the decisions of a cascade")
    for name in cascade.names:
        pool.model(name)

    def stored(request: Request) -> Answers:
        return {name: pool.outputs[name].rows(request.rows) for name in request.models}

    return drive(decide(pool.bound(cascade), len(pool)), stored)


def stage_costs(cascade: Cascade, pool: Pool, unit: str | None = None) -> list[SampleCost]:
    """Return the cost of each stage for one sample, or for each where that differs."""
    used = pool.holding(cascade.models_of_stages).only(cascade.names)
    return costs_of_stages(cascade.models_of_stages, used.sample_costs(unit or pool.costs.unit()))


def average_cost(costs: Iterable[float], exits: Array) -> float:
    """Return the mean cost of a sample, where all samples cost the same."""
    reaching = exits[::-1].cumsum()[::-1]
    return math.fsum(c * int(n) for c, n in zip(costs, reaching, strict=True)) / int(reaching[0])


def check_test_pool(
    pool: Pool, test: Pool, metric: Metric | None = None, unit: str | None = None
) -> None:
    """Refuse a test split that chose or calibrated committees, or that cannot evaluate them."""
    check_has_labels(test, metric)
    there = {name for each in test.divisions for name in each.names}
    lacking = [n for each in pool.divisions for n in each.names if n not in there]
    if lacking:
        raise UnknownNameError(
            f"test split {test.samples.split!r} lacks {', '.join(lacking)}. Predict or import them "
            "there too, or leave them out of the pool"
        )
    for each in pool.divisions:
        test.divided_as(each).only(each.names).costs.unit(unit)
    val, own = pool.samples, test.samples
    if val.labelled_by != own.labelled_by:
        raise MisalignedError(
            f"{val.split!r} is labelled by {val.labelled_by or 'the truth'}, {own.split!r} by "
            f"{own.labelled_by or 'the truth'}. Use labelled_by on both or on neither"
        )
    both = shared_samples(pool, test)
    if both.most:
        holds = "the same samples as" if len(both.second) == own.wholes else "samples of"
        raise MisalignedError(
            f"{own.split!r} holds {holds} {val.split!r}, which chose the committees: "
            f"{both.text(pool.task.samples)}. Evaluate on others, or leave the split out"
        )
    fitted = sorted(n for n, c in pool.calibrations.items() if c.samples == identity_of(test, [n]))
    if fitted:
        raise MisalignedError(
            f"{own.split!r} holds the samples that the calibrations of {', '.join(fitted)} were "
            "fitted on. Evaluate on others, or calibrate on a split of its own"
        )
    if val.classes and own.classes and val.classes != own.classes:
        raise MisalignedError(
            f"{val.split!r} and {own.split!r} differ in their classes or in the order of them. "
            "Predict or import both splits with the same classes"
        )


def shared_warnings(pool: Pool, test: Pool | None) -> tuple[str, ...]:
    """Return the notes on the samples of a pool and of its test pool; often none."""
    if test is None:
        return pool.notes
    shared = shared_note(shared_samples(pool, test), pool.task.samples)
    return (*filter(None, [shared]), *pool.notes, *test.notes)


def measure_of(pool: Pool, metric: Metric) -> str:
    """Return the name of a metric on a pool, as tables print it."""
    check_metric(metric)
    if metric == TOP_1 and pool.samples.labelled_by:
        return f"agreement with {pool.samples.labelled_by}"
    if metric.needs_labels and pool.samples.labelled_by:
        return f"{metric.name} agreement with {pool.samples.labelled_by}"
    return metric.name


def check_has_labels(pool: Pool, metric: Metric | None = None) -> None:
    """Refuse a pool that a metric, by default its own, cannot evaluate."""
    check_metric(metric)
    metric = metric or pool.metric
    if pool.kind == "outcomes" and metric.needs_labels:
        raise MisalignedError(
            f"split {pool.samples.split!r}: {metric.name} needs classes and labels; outcomes are "
            "graded already, so leave the metric out"
        )
    if pool.samples.labels is None and metric.needs_labels:
        raise MisalignedError(
            f"split {pool.samples.split!r} has no labels; accuracy needs them. "
            f"Add labels with: committee relabel STORE --split {pool.samples.split} --labels FILE"
        )
    if not len(pool):
        raise MisalignedError(f"split {pool.samples.split!r} has no samples")
