"""Evaluating many committees on one split: what they share is computed once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from committee.arrays import Array
from committee.pool.evaluate import (
    Evaluation,
    check_has_labels,
    evaluate,
    evaluation_of,
    stage_costs,
)
from committee.pool.metrics import TOP_1, Metric
from committee.pool.pool import Pool
from committee.rule.calibration import Calibration
from committee.rule.cascade import NEVER, Cascade
from committee.selection.front import Committee
from committee.selection.prefixes import Key, Rule
from committee.selection.statistics import prefix_table, processors


def evaluate_all(
    cascades: Sequence[Cascade],
    pool: Pool,
    unit: str | None = None,
    metric: Metric | None = None,
    threads: int | None = None,
) -> list[Evaluation]:
    """What :func:`committee.pool.evaluate` gives for each cascade, many times faster for many.

    Args:
        cascades: The committees.
        pool: Predictions of their models.
        unit: Unit of the costs; see :meth:`committee.spec.cost.CostTable.unit` for the default.
        metric: What a sample scores when it exits; that of the pool's task if left out.
        threads: How many to use; all processors if left out.

    Raises:
        UnknownNameError: If the pool lacks a model of a cascade.
        MisalignedError: If the pool has no samples, or no labels where they are needed.
        CostError: If a model has no cost in that unit.
    """
    metric = metric or pool.metric
    check_has_labels(pool, metric)
    unit = unit or pool.costs.unit()
    found: list[Evaluation | None] = [None] * len(cascades)
    held = [pool.holding(cascade.models_of_stages) for cascade in cascades]
    for division in dict.fromkeys(held):
        numbers = [i for i, each in enumerate(held) if each is division]
        for rule, own in _by_rule([cascades[i] for i in numbers], division, metric):
            answers = _of_one_rule([cascades[numbers[i]] for i in own], rule, unit, threads)
            for i, answer in zip(own, answers, strict=True):
                found[numbers[i]] = answer
    return [each for each in found if each is not None]


def evaluated_on(
    committees: Sequence[Committee],
    test: Pool,
    unit: str,
    metric: Metric | None = None,
    threads: int | None = None,
) -> tuple[Committee, ...]:
    """Return committees with their evaluations on the test split."""
    tests = evaluate_all([each.cascade for each in committees], test, unit, metric, threads)
    return tuple(
        replace(each, test=evaluation) for each, evaluation in zip(committees, tests, strict=True)
    )


def _by_rule(
    cascades: Sequence[Cascade], pool: Pool, metric: Metric
) -> Iterator[tuple[Rule, list[int]]]:
    """Rules, and the numbers of the cascades that decide by each; what a pool holds is shared."""
    groups: list[tuple[tuple[str, str], dict[str, Calibration | None], list[int]]] = []
    for number, cascade in enumerate(cascades):
        names = (cascade.confidence, pool.bound(cascade).combination)
        own = {name: cascade.calibrations.get(name) for name in cascade.names}
        for group, known, numbers in groups:
            # A model may be calibrated in one cascade and not in another: these have two rules.
            if group == names and all(known.get(n, c) == c for n, c in own.items()):
                known.update(own)
                numbers.append(number)
                break
        else:
            groups.append((names, own, [number]))
    for names, known, numbers in groups:
        calibrations = {n: c for n, c in known.items() if c is not None and n in pool.outputs}
        yield Rule(pool.with_calibrations(calibrations), *names, metric), numbers


def _of_one_rule(
    cascades: Sequence[Cascade], rule: Rule, unit: str, threads: int | None
) -> list[Evaluation]:
    pool = rule.pool
    for cascade in cascades:
        for name in cascade.names:
            pool.model(name)
    if not rule.metric.counted:
        # The spread over samples needs every score, in full precision.
        return [evaluate(cascade, pool, unit, rule.metric) for cascade in cascades]
    found = []
    for cascade, (exits, hits) in zip(cascades, _walked(cascades, rule, threads), strict=True):
        costs = stage_costs(cascade, pool, unit)
        right = int(hits.sum(dtype=np.int64))
        found.append(evaluation_of(pool, unit, costs, exits, rule.metric, right))
    return found


def values_on(
    cascade: Cascade, pool: Pool, metric: Metric = TOP_1, threads: int | None = None
) -> Array:
    """What a cascade scores on each sample of a pool by a counted metric, shape (N,).

    Arguments and errors as of :func:`correct_on`.
    """
    pool = pool.holding(cascade.models_of_stages)
    check_has_labels(pool, metric)
    ((rule, _),) = _by_rule([cascade], pool, metric)
    for name in cascade.names:
        pool.model(name)
    ((_, hits),) = _walked([cascade], rule, threads)
    return hits


def correct_on(cascade: Cascade, pool: Pool, threads: int | None = None) -> Array:
    """Return on which samples of a pool a cascade is right, shape (N,).

    Gives the same as comparing :func:`~committee.pool.evaluate.stored_decisions` with the labels,
    many times faster where there are many classes.

    Args:
        cascade: The committee.
        pool: Labelled predictions of its models.
        threads: How many to use; all processors if left out.

    Raises:
        UnknownNameError: If the pool lacks a model of the cascade.
        MisalignedError: If the pool has no samples or no labels.
    """
    right: Array = values_on(cascade, pool, TOP_1, threads).astype(bool)
    return right


def _walked(
    cascades: Sequence[Cascade], rule: Rule, threads: int | None
) -> Iterator[tuple[Array, Array]]:
    """How many samples leave each cascade at each stage, and what each sample scores there."""
    keys = [rule.keys(cascade.models_of_stages) for cascade in cascades]
    cuts: dict[Key, set[float]] = {}
    for cascade, own in zip(cascades, keys, strict=True):
        for key, threshold in zip(own, [*cascade.thresholds, NEVER], strict=True):
            cuts.setdefault(key, set())
            if np.isfinite(threshold):
                cuts[key].add(threshold)
    sorted_cuts = {key: np.array(sorted(each), np.float64) for key, each in cuts.items()}
    table = prefix_table(
        rule,
        list(cuts),
        cuts=sorted_cuts,
        threads=threads or processors(),
    )
    for cascade, own in zip(cascades, keys, strict=True):
        alive = np.ones(len(rule.pool), bool)
        leaving, hits = np.zeros(len(own), np.int64), np.zeros(len(rule.pool), table.values.dtype)
        for k, (key, threshold) in enumerate(
            zip(own, (stage.threshold for stage in cascade.stages), strict=True)
        ):
            # Reaching the i-th cut is the exit rule; "always" and "never" have no cut.
            cut = int(np.searchsorted(sorted_cuts[key], threshold)) + 1
            row = table.rows[key]
            exits = alive.copy() if threshold == -np.inf else alive & (table.passed[row] >= cut)
            leaving[k] = exits.sum()
            hits[exits] = table.values[row][exits]
            alive &= ~exits
        yield leaving, hits
