"""Threshold histograms: what the cascades of a front would score and cost at other thresholds.

Samples of one split are counted by how many candidate thresholds their scores reach at each stage.
From these counts follow the figures of every vector of candidates, to the last sample.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from committee.arrays import Array
from committee.pool.pool import Pool
from committee.pool.prefixes import Key, PrefixSource, StageSequence, prefixes_of
from committee.selection.front import Front
from committee.selection.options import processors
from committee.selection.statistics import prefix_table

# Most candidates of a threshold in a cascade of one, two, and more thresholds, besides those that
# members of the front have. There are as many cells as their product, but never more than samples.
_CANDIDATES = {1: 100, 2: 100}
_MANY = 20


@dataclass(frozen=True, eq=False)
class Moves:
    """Samples of one split, counted by what their scores reach in one sequence of K stages.

    Args:
        stages: Models of each stage.
        thresholds: Candidates of each stage but the last, rising, K - 1 arrays.
        passed: How many candidates of each stage the samples of a cell reach, shape (C, K - 1).
            A sample exits at candidate number c, from 1, if it reaches c or more.
        count: Samples of each cell, shape (C,).
        right: How many of them are right if they exit at each stage, shape (C, K).
    """

    stages: StageSequence
    thresholds: tuple[Array, ...]
    passed: Array
    count: Array
    right: Array


def moves(front: Front, pool: Pool, threads: int | None = None) -> dict[StageSequence, Moves]:
    """Count the samples of a split for each sequence of stages on the front, thresholds apart.

    Candidates are percentiles on the validation split that search tried, all thresholds of the
    front among them.

    Args:
        front: Committees chosen on the validation split.
        pool: The pool whose samples are counted.
        threads: How many to use; all processors by default.

    Returns:
        Counts by the models of the stages; nothing if a sample scores other than 1 or 0.
    """
    settings = front.settings
    if not settings.metric.counted:
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
    tried = _tried(sources[0], list(own), settings.grid, threads)
    candidates = {
        stages: tuple(
            np.union1d(_some(tried[key], len(stages) - 1), _finite(column))
            for key, column in zip(sources[0].keys(stages), zip(*known, strict=True), strict=False)
        )
        for stages, known in own.items()
    }
    return _counted(sources[1], candidates, threads)


def _tried(
    source: PrefixSource, sequences: list[StageSequence], grid: int, threads: int
) -> dict[Key, Array]:
    """Return the thresholds that search tried at each prefix."""
    keys = list(dict.fromkeys(key for stages in sequences for key in source.keys(stages)[:-1]))
    table = prefix_table(source, keys, grid, threads=threads)
    widths = {key: int(table.widths[table.rows[key]]) for key in keys}
    return {key: table.thresholds(key, np.arange(width - 1)) for key, width in widths.items()}


def _finite(thresholds: Iterable[float]) -> Array:
    return np.array([each for each in thresholds if np.isfinite(each)])


def _some(thresholds: Array, stages: int) -> Array:
    """Return thresholds at equal distances in rank, the first and the last among them."""
    most = min(len(thresholds), _CANDIDATES.get(stages, _MANY))
    some: Array = thresholds[np.linspace(0, len(thresholds) - 1, most).round().astype(int)]
    return some


def _counted(
    source: PrefixSource, candidates: Mapping[StageSequence, tuple[Array, ...]], threads: int
) -> dict[StageSequence, Moves]:
    cuts: dict[Key, Array] = {}
    for stages, columns in candidates.items():
        for key, column in zip(source.keys(stages), [*columns, np.empty(0)], strict=True):
            cuts[key] = np.union1d(cuts.get(key, np.empty(0)), column)
    table = prefix_table(source, list(cuts), cuts=cuts, threads=threads)
    histograms = {}
    for stages, columns in candidates.items():
        keys = source.keys(stages)
        rows = [table.rows[key] for key in keys]
        # Reached candidates of this sequence, from reached candidates of all sequences together.
        passed = [
            np.searchsorted(np.searchsorted(cuts[key], column) + 1, table.passed[row], "right")
            for key, row, column in zip(keys, rows, columns, strict=False)
        ]
        cells, cell = np.unique(np.stack(passed, axis=1), axis=0, return_inverse=True)
        cell = cell.reshape(-1)  # NumPy 2.0 gives it a second axis
        right = [np.bincount(cell, table.values[row]).astype(np.int64) for row in rows]
        histograms[stages] = Moves(
            stages, columns, cells, np.bincount(cell), np.stack(right, axis=1)
        )
    return histograms
