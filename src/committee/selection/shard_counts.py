"""Prefix statistics summed over shards, so that search needs no memory for all samples.

Candidate thresholds are exact percentiles of all scores, found in two passes
(:mod:`committee.pool.order_statistics`). A third pass counts, for each sequence, the samples by the
candidates that they reach at each stage. These counts add up over shards, and the sweep needs
nothing else of the samples: the front is that of one table of all rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from committee.arrays import Array
from committee.errors import CascadeError, TooLargeError
from committee.pool.order_statistics import Ranked, order_statistics, summed
from committee.pool.pool import Made
from committee.pool.prefixes import Key, PrefixSource
from committee.selection.numpy_sweep import Step
from committee.selection.statistics import between, percentile_ranks, prefix_table

# Rows in a table of the prefix after each stage of a sequence.
Rows = tuple[int, ...]
_PASSES = 3


@dataclass(frozen=True, eq=False)
class CountTable:
    """Statistics of P prefixes, counted over all samples.

    Args:
        rows: Row of each prefix in the arrays below.
        widths: As of :class:`~committee.selection.statistics.PrefixTable`.
        samples: How many samples there are.
        candidates: For each prefix the least score that reaches each candidate, and the largest
            that does not.
        counts: For the prefixes of each sequence of K stages, by the candidates reached at each
            stage but the last: how many samples, then how many are correct after each stage; shape
            (product of widths, 1 + K), int64.
        wins: For each pair of the first S prefixes, which are of one model, how many samples only
            the first has correct, shape (S, S); on the diagonal how many it has correct.
    """

    rows: Mapping[Key, int]
    widths: Array
    samples: int
    candidates: Sequence[Ranked]
    counts: Mapping[Rows, Array]
    wins: Array

    def thresholds(self, key: Key, choices: Array) -> Array:
        """Return some thresholds of a prefix, by the numbers of their candidates."""
        own = self.candidates[self.rows[key]]
        return between(own.below[choices], own.values[choices])

    def steps(self, rows: Array) -> list[Step]:
        """Return the steps of a sequence; a row stands for the samples that reach the same."""
        counts = self.counts[tuple(rows.tolist())]
        bins = np.flatnonzero(counts[:, 0])
        samples, *values = counts[bins].T
        widths = [int(self.widths[row]) for row in rows]
        # A single stage has no threshold, and NumPy refuses to unravel into no axes.
        passed = np.unravel_index(bins, widths[:-1]) if len(rows) > 1 else ()
        numbers = [each.astype(np.uint16) for each in (*passed, np.zeros_like(bins))]
        steps = zip(values, numbers, widths, strict=True)
        return [Step(own, reached, width, samples) for own, reached, width in steps]


def count_table(
    source: PrefixSource,
    sequences: Sequence[Sequence[Key]],
    grid: int,
    threads: int,
    max_memory: float,
    progress: Callable[[int, int], None] | None = None,
) -> CountTable:
    """Return the statistics of the prefixes of sequences, in three passes over all shards.

    Args:
        source: Prefixes of shards, by a metric that counts samples.
        sequences: For each the prefix after each stage.
        grid: Number of percentiles that are the candidate thresholds of each prefix.
        threads: Threads to use for one shard.
        max_memory: Bytes that counts may take.
        progress: Called with how many shards are done and how many in all, over all passes.
    """
    if not source.counted:
        raise CascadeError(
            f"search: counts add up over shards, and {source.metric.name!r} counts no samples. Use "
            "a metric that scores 1 or 0, such as top-1"
        )
    singles = {source.key([name]): None for name in source.pool.names}
    keys = list(dict.fromkeys([*singles, *(key for each in sequences for key in each)]))
    rows = {key: row for row, key in enumerate(keys)}
    each = _reporting(source, progress)
    candidates = [
        _distinct(own)
        for own in order_statistics(
            lambda function: each(partial(_of_scores, keys, function)),
            partial(percentile_ranks, grid=grid),
        )
    ]
    widths = np.array([len(own.values) + 1 for own in candidates], np.int32)
    indices = list(dict.fromkeys(tuple(rows[key] for key in own) for own in sequences))
    shapes = [_shape(widths, own) for own in indices]
    _check_memory(shapes, max_memory)
    cuts = {key: own.values for key, own in zip(keys, candidates, strict=True)}
    *parts, wins = np.split(
        summed(each(partial(_count, cuts, len(singles), indices, threads))),
        np.cumsum([math.prod(shape) for shape in shapes]),
    )
    counts = {
        own: part.reshape(shape) for own, part, shape in zip(indices, parts, shapes, strict=True)
    }
    pairs = wins.reshape(len(singles), len(singles))
    return CountTable(rows, widths, len(source), candidates, counts, pairs)


def _reporting(
    source: PrefixSource, progress: Callable[[int, int], None] | None
) -> Callable[[Callable[[PrefixSource], Made]], Iterator[Made]]:
    """Return what maps a function over the shards of a source, and tells how many are done."""
    done = 0

    def each(function: Callable[[PrefixSource], Made]) -> Iterator[Made]:
        nonlocal done
        for made in source.each(function):
            yield made
            done += 1
            if progress is not None:
                progress(done, _PASSES * source.shards)

    return each


def _of_scores(
    keys: Sequence[Key], function: Callable[[Iterable[Array]], Made], source: PrefixSource
) -> Made:
    every = np.arange(len(source))
    return function(source.scores(key, every) for key in keys)


def _distinct(percentiles: Ranked) -> Ranked:
    """Return distinct candidates, without one that every sample reaches."""
    values, first = np.unique(percentiles.values, return_index=True)
    below = percentiles.below[first]
    reached = ~np.isnan(below)
    return Ranked(values[reached], below[reached])


def _shape(widths: Array, rows: Rows) -> tuple[int, int]:
    return math.prod(int(widths[row]) for row in rows[:-1]), 1 + len(rows)


def _check_memory(shapes: Iterable[tuple[int, int]], most: float) -> None:
    """Raise TooLargeError if counts exceed the memory allowed, or those of one sequence do."""
    # A shard counts apart what is correct at each stage or not.
    size = 8.0 * max(sum(map(math.prod, shapes := list(shapes))), *(
        bins * 2 ** (columns - 1) for bins, columns in shapes
    ))  # fmt: skip
    if size > most:
        raise TooLargeError(
            f"search: counts of {len(shapes):,} sequences of models take {size / 1e9:.1f} GB, more "
            f"than max_memory of {most / 1e9:.1f} GB. Lower max_models or grid, search part of "
            "the pool, or allow more"
        )


def _count(
    cuts: dict[Key, Array],
    singles: int,
    sequences: Sequence[Rows],
    threads: int,
    source: PrefixSource,
) -> Array:
    """Return the counts of one shard: of each sequence, then of each pair of models, shape (n,)."""
    table = prefix_table(source, list(cuts), cuts=cuts, threads=threads)
    correct = table.values.astype(bool)
    parts = [_counts(table.passed, correct, table.widths, rows).ravel() for rows in sequences]
    alone = correct[:singles]
    wins = np.array([[np.count_nonzero(one & ~other) for other in alone] for one in alone])
    np.fill_diagonal(wins, alone.sum(axis=1))
    return np.concatenate([*parts, wins.ravel()])


def _counts(passed: Array, correct: Array, widths: Array, rows: Rows) -> Array:
    """Return ``counts`` of :class:`CountTable` of one sequence, from rows of samples."""
    bins, _ = _shape(widths, rows)
    cell: Array = np.zeros(passed.shape[1], np.int64)
    for row in rows[:-1]:
        cell = cell * int(widths[row]) + passed[row]
    for row in rows:
        cell = 2 * cell + correct[row]
    patterns = 2 ** len(rows)
    counts = np.bincount(cell, minlength=bins * patterns).reshape(bins, patterns)
    # The bits of a pattern, the first stage first.
    bits = np.arange(patterns)[:, None] >> np.arange(len(rows))[::-1] & 1
    made: Array = counts @ np.concatenate([np.ones((patterns, 1), np.int64), bits], axis=1)
    return made
