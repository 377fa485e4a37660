"""Threshold histograms: what the cascades of a front would score and cost at other thresholds.

A histogram counts the samples of one split by how many candidate thresholds their scores reach at
each stage. Its counts give the exact accuracy and cost of every vector of candidates.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from committee.arrays import Array
from committee.pool.costs import differ
from committee.pool.pool import Pool
from committee.pool.prefixes import Key, PrefixSource, StageSequence, prefixes_of
from committee.selection.front import Front
from committee.selection.options import processors
from committee.selection.statistics import prefix_table

# Most candidates for each threshold of a cascade of one, two, and more thresholds, besides the
# thresholds of the front. A histogram has at most their product of bins, and at most one a sample.
_CANDIDATES = {1: 100, 2: 100}
_CANDIDATES_OF_LONG = 20


@dataclass(frozen=True, eq=False)
class ThresholdHistogram:
    """The samples of one split in C bins, for one sequence of K stages.

    Args:
        stages: Models of each stage.
        thresholds: Candidates of each stage but the last, rising, K - 1 arrays.
        passed: How many candidates of each stage the samples of a bin reach, shape (C, K - 1).
            A sample exits at candidate number c, from 1, if it reaches c or more.
        count: Samples in each bin, shape (C,).
        correct: How many of them are correct if they exit at each stage, shape (C, K).
    """

    stages: StageSequence
    thresholds: tuple[Array, ...]
    passed: Array
    count: Array
    correct: Array


def threshold_histograms(
    front: Front, pool: Pool, threads: int | None = None
) -> dict[StageSequence, ThresholdHistogram]:
    """Return a histogram for each sequence of two or more stages on the front.

    The candidates are percentiles that search tried on the validation split, and every threshold of
    the front. The result is empty if a sample may score anything but 1 or 0, or samples
    differ in cost.
    """
    settings = front.settings
    if not settings.metric.counted or differ(pool.sample_costs(settings.unit).values()):
        return {}
    own: dict[StageSequence, list[tuple[float, ...]]] = {}
    for member in front:
        if len(member.cascade.stages) > 1:
            known = own.setdefault(member.cascade.models_of_stages, [])
            known.append(member.cascade.thresholds)
    sources = [
        prefixes_of(each, settings.confidence, settings.combine, settings.metric)
        for each in (front.pool, pool.with_calibrations(front.pool.calibrations))
    ]
    threads = threads or processors()
    tried = _thresholds_of_search(sources[0], list(own), settings.grid, threads)
    candidates = {
        stages: tuple(
            np.union1d(_evenly_spaced(tried[key], len(stages) - 1), _finite(column))
            for key, column in zip(sources[0].keys(stages), zip(*known, strict=True), strict=False)
        )
        for stages, known in own.items()
    }
    return _histograms(sources[1], candidates, threads)


def _thresholds_of_search(
    source: PrefixSource, sequences: list[StageSequence], grid: int, threads: int
) -> dict[Key, Array]:
    """Return the thresholds that search tried at each prefix."""
    keys = list(dict.fromkeys(key for stages in sequences for key in source.keys(stages)[:-1]))
    table = prefix_table(source, keys, grid, threads=threads)
    widths = {key: int(table.widths[table.rows[key]]) for key in keys}
    return {key: table.thresholds(key, np.arange(width - 1)) for key, width in widths.items()}


def _finite(thresholds: Iterable[float]) -> Array:
    return np.array([each for each in thresholds if np.isfinite(each)])


def _evenly_spaced(thresholds: Array, stages: int) -> Array:
    """Return some thresholds at equal distances in rank, including the first and the last."""
    most = min(len(thresholds), _CANDIDATES.get(stages, _CANDIDATES_OF_LONG))
    some: Array = thresholds[np.linspace(0, len(thresholds) - 1, most).round().astype(int)]
    return some


def _histograms(
    source: PrefixSource, candidates: Mapping[StageSequence, tuple[Array, ...]], threads: int
) -> dict[StageSequence, ThresholdHistogram]:
    cuts: dict[Key, Array] = {}
    for stages, columns in candidates.items():
        for key, column in zip(source.keys(stages), [*columns, np.empty(0)], strict=True):
            cuts[key] = np.union1d(cuts.get(key, np.empty(0)), column)
    table = prefix_table(source, list(cuts), cuts=cuts, threads=threads)
    histograms = {}
    for stages, columns in candidates.items():
        keys = source.keys(stages)
        rows = [table.rows[key] for key in keys]
        # The table counts the candidates of all sequences; keep those of this one.
        passed = [
            np.searchsorted(np.searchsorted(cuts[key], column) + 1, table.passed[row], "right")
            for key, row, column in zip(keys, rows, columns, strict=False)
        ]
        bins, numbers = np.unique(np.stack(passed, axis=1), axis=0, return_inverse=True)
        numbers = numbers.reshape(-1)  # NumPy 2.0 gives it a second axis
        correct = [np.bincount(numbers, table.values[row]).astype(np.int64) for row in rows]
        histograms[stages] = ThresholdHistogram(
            stages, columns, bins, np.bincount(numbers), np.stack(correct, axis=1)
        )
    return histograms
