"""Evaluate many committees on one split, computing once what they share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from committee.arrays import Array
from committee.pool.costs import alike, mean_cost
from committee.pool.evaluate import (
    Evaluation,
    check_has_labels,
    counted_evaluation,
    evaluate,
    evaluation_of,
    exit_counts,
    exits_of,
    own_confidence,
    source_of,
    stage_costs,
)
from committee.pool.metrics import TOP_1, Metric
from committee.pool.order_statistics import summed
from committee.pool.pool import Pool
from committee.pool.prefixes import Key, PrefixSource, prefixes_of
from committee.rule.calibration import Calibration, made_kinds
from committee.rule.cascade import NEVER, Cascade
from committee.rule.outputs import Kind
from committee.selection.front import Committee
from committee.selection.options import processors
from committee.selection.statistics import prefix_table


def evaluate_all(
    cascades: Sequence[Cascade],
    pool: Pool,
    unit: str | None = None,
    metric: Metric | None = None,
    threads: int | None = None,
) -> list[Evaluation]:
    """Return the evaluation of each cascade, faster than separate :func:`committee.evaluate` calls.

    Arguments and errors are those of :func:`committee.evaluate`; ``threads`` is the number of
    threads, by default one for each processor.
    """
    check_has_labels(pool, metric)
    unit = unit or pool.costs.unit()
    evaluations: dict[int, Evaluation] = {}
    pools = [pool.holding(cascade.models_of_stages) for cascade in cascades]
    for tiling in dict.fromkeys(pools):
        numbers = [i for i, each in enumerate(pools) if each is tiling]
        for source, own in _sources([cascades[i] for i in numbers], tiling, metric):
            some = [cascades[numbers[i]] for i in own]
            answers = _of_one_source(some, source, unit, threads)
            evaluations |= {numbers[i]: answer for i, answer in zip(own, answers, strict=True)}
    return [evaluations[i] for i in range(len(cascades))]


def evaluated_on(
    committees: Sequence[Committee],
    test: Pool,
    unit: str,
    metric: Metric | None = None,
    threads: int | None = None,
) -> tuple[Committee, ...]:
    """Return the committees with an evaluation on the test split each."""
    tests = evaluate_all([each.cascade for each in committees], test, unit, metric, threads)
    return tuple(
        replace(each, test=evaluation) for each, evaluation in zip(committees, tests, strict=True)
    )


def _sources(
    cascades: Sequence[Cascade], pool: Pool, metric: Metric | None
) -> Iterator[tuple[PrefixSource, list[int]]]:
    """Yield each source with the numbers of the cascades that decide by its rule."""
    groups: list[tuple[tuple[str, str, Kind], dict[str, Calibration | None], list[int]]] = []
    for number, cascade in enumerate(cascades):
        own = {name: cascade.calibrations.get(name) for name in cascade.names}
        made = made_kinds({cascade.names[0]: pool.kind}, cascade.calibrations)[cascade.names[0]]
        names = (cascade.confidence, pool.bound(cascade).combination, made)
        for group, known, numbers in groups:
            # Cascades that calibrate one model differently decide by different rules.
            if group == names and all(known.get(n, c) == c for n, c in own.items()):
                known.update(own)
                numbers.append(number)
                break
        else:
            groups.append((names, own, [number]))
    for (confidence, combine, _), known, numbers in groups:
        calibrations = {n: c for n, c in known.items() if c is not None and n in pool.outputs}
        own_pool = pool.only(n for n in known if n in pool.outputs) if calibrations else pool
        own_pool = own_pool.with_calibrations(calibrations)
        yield prefixes_of(own_pool, own_confidence(own_pool, confidence), combine, metric), numbers


def _of_one_source(
    cascades: Sequence[Cascade], source: PrefixSource, unit: str, threads: int | None
) -> list[Evaluation]:
    pool = source.pool
    for cascade in cascades:
        for name in cascade.names:
            pool.model(name)
    if not (source.metric.counted or source.by_top_1):
        # The interval needs the value of every sample in full precision.
        return [evaluate(cascade, pool, unit, source.metric) for cascade in cascades]
    every = [alike(stage_costs(cascade, pool, unit)) for cascade in cascades]
    numbers = [each for each in every if each is not None]
    if source.counted and len(numbers) == len(every):
        counts = summed(source.each(partial(_count_exits, cascades, threads)))
        ends = np.cumsum([len(each) for each in numbers])[:-1]
        return [
            counted_evaluation(source, unit, *own)
            for own in zip(numbers, np.split(counts, ends), strict=True)
        ]
    evaluations = []
    for cascade, (stages, values) in zip(cascades, _walk(cascades, source, threads), strict=True):
        costs = stage_costs(cascade, pool, unit)
        exits = np.bincount(stages, minlength=len(costs))
        average, estimate = mean_cost(costs, stages), source.estimate(values)
        evaluations.append(evaluation_of(source, unit, costs, average, exits, estimate))
    return evaluations


def _count_exits(cascades: Sequence[Cascade], threads: int | None, source: PrefixSource) -> Array:
    """Return the counts of exits of cascades, one after another, shape (all stages, 2)."""
    walked = zip(cascades, _walk(cascades, source, threads), strict=True)
    return np.concatenate([exit_counts(*each, len(own.stages)) for own, each in walked])


def values_on(
    cascade: Cascade, pool: Pool, metric: Metric | None = None, threads: int | None = None
) -> Array:
    """Return what a cascade scores on each sample of a pool, shape (N, ...); see :func:`evaluate`.

    For top-1 that is 1 where it is correct. With many classes this is many times faster than
    :func:`~committee.pool.evaluate.stored_decisions`.
    """
    check_has_labels(pool, metric)
    (values,) = values_of_each([cascade], source_of(cascade, pool, metric), threads)
    return values


def values_of_each(
    cascades: Sequence[Cascade], source: PrefixSource, threads: int | None = None
) -> Iterator[Array]:
    """Yield what each cascade scores on each sample; all decide by the rule of the source."""
    if source.metric.counted or source.by_top_1:
        yield from (values for _, values in _walk(cascades, source, threads))
    else:
        yield from (source.per_sample(exits_of(each, source)[1]) for each in cascades)


def _walk(
    cascades: Sequence[Cascade], source: PrefixSource, threads: int | None
) -> Iterator[tuple[Array, Array]]:
    """Yield, for each cascade, the stage of exit of each sample and what it scores."""
    weights = source.weights
    if weights is not None:
        # The table of top-1 has whole numbers; weights are applied in full precision.
        for stages, correct in _walk(cascades, replace(source, metric=TOP_1), threads):
            yield stages, correct * weights
        return
    keys = [source.keys(cascade.models_of_stages) for cascade in cascades]
    finite: dict[Key, set[float]] = {}
    for cascade, own in zip(cascades, keys, strict=True):
        for key, threshold in zip(own, [*cascade.thresholds, NEVER], strict=True):
            finite.setdefault(key, set()).update([threshold] if np.isfinite(threshold) else [])
    cuts = {key: np.array(sorted(each), np.float64) for key, each in finite.items()}
    table = prefix_table(source, list(cuts), cuts=cuts, threads=threads or processors())
    for cascade, own in zip(cascades, keys, strict=True):
        rows = [table.rows[key] for key in own]
        last = len(rows) - 1
        stages, values = np.full(len(source), last), table.values[rows[last]].copy()
        # Backwards, so that a sample exits at the first stage whose cut it reaches.
        for k in reversed(range(last)):
            threshold = cascade.thresholds[k]
            # "always" and "never" are no cuts; every sample reaches 0 cuts, none one more than all.
            always = threshold == -np.inf
            cut = 0 if always else int(np.searchsorted(cuts[own[k]], threshold)) + 1
            exiting = table.passed[rows[k]] >= cut
            np.copyto(stages, k, where=exiting)
            np.copyto(values, table.values[rows[k]], where=exiting)
        yield stages, values
