"""The engine: sequences of stages to the committees that may be on the front.

Statistics of all prefixes first, then every vector of thresholds of every sequence. What is found
is compared on exact figures by :mod:`committee.selection.refine`.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np

from committee.arrays import Array
from committee.errors import TooLargeError
from committee.pool.evaluate import costs_of_stages
from committee.selection.options import Asked, Progress
from committee.selection.prefixes import Key, PrefixTable, Sequence_
from committee.selection.sequences import within
from committee.selection.statistics import prefix_table
from committee.selection.sweep import Batch, Points, beaten, stairs, sweep
from committee.selection.totals import counted_sweep

# Sequences that one thread goes through at once: well below a second.
_SEQUENCES = 64
_VECTORS = 1e8
# Bytes that statistics of one sample at one prefix take: score, value, thresholds passed.
_BYTES = 8 + 1 + 2


@dataclass(frozen=True, eq=False)
class Found:
    """The committees of a search that may be on the front, before they are compared exactly.

    Args:
        asked: What was asked.
        table: Statistics of every prefix.
        sequences: Those that keep to the bounds on the worst case.
        points: Of each committee its sequence, the number of the candidate threshold of each stage
            but the last, how many samples run each stage, and its value: the total over samples
            in the table's units, of counts the figure.
        cascades: How many were covered.
        seconds: What each part of the search took; parts that follow add theirs.
    """

    asked: Asked
    table: PrefixTable
    sequences: list[Sequence_]
    points: Sequence[tuple[Sequence_, Array, Array, float]]
    cascades: int
    seconds: dict[str, float]


def searched(asked: Asked, sequences: list[Sequence_], known: PrefixTable | None = None) -> Found:
    """Search the sequences given; those out of the worst-case bounds are left out.

    Args:
        asked: What is asked.
        sequences: The sequences.
        known: Statistics of some prefixes by the same rule; they are not computed again if there
            is memory for both.

    Raises:
        Infeasible: If no sequence keeps to the bounds.
        TooLargeError: If statistics exceed the memory allowed.
    """
    rule, pool = asked.rule, asked.rule.pool
    seconds: dict[str, float] = {}
    # Short ones first: what they find rules out most of the long ones.
    sequences = sorted(within(pool, iter(sequences), asked.worst_case), key=len)
    keys = [rule.keys(sequence) for sequence in sequences]
    distinct = list(dict.fromkeys(key for each in keys for key in each))
    check_memory(len(distinct), len(pool), asked.max_memory)
    if known and needed(len(distinct) + len(known.rows), len(pool)) > asked.max_memory:
        known = None
    with timed(seconds, "prefixes"):
        table = prefix_table(
            rule,
            distinct,
            asked.grid,
            threads=asked.threads,
            progress=_part(asked.progress, "prefixes"),
            known=known,
        )
    with timed(seconds, "thresholds"):
        go_through = _swept if rule.utility.figure is None else _counted
        points, cascades = go_through(asked, table, sequences, keys)
    return Found(asked, table, sequences, points, cascades, seconds)


def _part(progress: Progress | None, name: str) -> Callable[[int, int], None] | None:
    if progress is None:
        return None
    return lambda done, total: progress(name, done, total)


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Note what a part of a search takes."""
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start


def needed(prefixes: int, samples: int) -> int:
    """Bytes that statistics take."""
    return prefixes * samples * _BYTES


def check_memory(prefixes: int, samples: int, most: float) -> None:
    """Refuse statistics of more prefixes than fit into memory.

    Raises:
        TooLargeError: If so.
    """
    size = needed(prefixes, samples)
    if size > most:
        raise TooLargeError(
            f"search: statistics of {prefixes:,} sets of models on {samples:,} samples take "
            f"{size / 1e9:.1f} GB, more than max_memory of {most / 1e9:.1f} GB. Lower "
            "max_models, search part of the pool, use committee.guided, or allow more"
        )


def _swept(
    asked: Asked, table: PrefixTable, sequences: list[Sequence_], keys: list[list[Key]]
) -> tuple[Sequence[tuple[Sequence_, Array, Array, float]], int]:
    """(Sequence, choices, reach, value) of what may be on the front, and the cascades covered."""
    pool = asked.rule.pool
    units = [asked.unit, *asked.average_case]
    costs = [pool.costs.values(pool.costs.unit(unit)) for unit in units]
    limits = np.array([b * len(pool) for b in asked.average_case.values()], np.float64)
    batches = list(_batches(sequences, keys, table, costs, limits))
    cost, value = np.empty(0), np.empty(0, np.int64)
    kept: list[tuple[int, Points]] = []
    cascades = done = 0
    # What is under way looks at this now and then.
    stop = np.zeros(1, np.uint8)
    with ThreadPoolExecutor(asked.threads) as executor:
        try:
            # Every round starts from all that is known.
            for start in range(0, len(batches), asked.threads):
                round_ = batches[start : start + asked.threads]
                known = (cost, value)
                answers = executor.map(partial(_sweep, table, known, stop), round_)
                for (first, batch), points in zip(round_, answers, strict=True):
                    kept.append((first, points))
                    cost = np.concatenate([cost, points.cost])
                    value = np.concatenate([value, points.value])
                    widths = table.widths[batch.prefixes[:, :-1]].astype(np.float64) + 1
                    cascades += int(np.prod(widths, axis=1).sum())
                    done += len(batch.prefixes)
                cost, value = stairs(cost, value)
                if asked.progress is not None:
                    asked.progress("sequences", done, len(sequences))
        except BaseException:
            stop[0] = 1
            executor.shutdown(wait=False, cancel_futures=True)
            raise
    found = []
    for first, points in kept:
        left = np.flatnonzero(~beaten(points.cost, points.value, cost, value))
        found += [
            (sequences[first + s], choice, reach, int(worth))
            for s, choice, reach, worth in zip(
                points.sequence[left],
                points.choices[left],
                points.reach[left],
                points.value[left],
                strict=True,
            )
        ]
    return found, cascades


def _counted(
    asked: Asked, table: PrefixTable, sequences: list[Sequence_], keys: list[list[Key]]
) -> tuple[Sequence[tuple[Sequence_, Array, Array, float]], int]:
    """The same where a figure is made of counts."""
    pool = asked.rule.pool
    units = [asked.unit, *asked.average_case]
    costs = [pool.costs.values(pool.costs.unit(unit)) for unit in units]
    limits = np.array([b * len(pool) for b in asked.average_case.values()], np.float64)
    progress = _part(asked.progress, "sequences")
    return counted_sweep(asked.rule, table, sequences, keys, costs, limits, progress)


def _sweep(
    table: PrefixTable, known: tuple[Array, Array], stop: Array, numbered: tuple[int, Batch]
) -> Points:
    return sweep(table, numbered[1], *known, stop)


def _batches(
    sequences: list[Sequence_],
    keys: list[list[Key]],
    table: PrefixTable,
    costs: list[dict[str, float]],
    limits: Array,
) -> Iterator[tuple[int, Batch]]:
    """(Number of the first sequence, batch) for runs of sequences of one length."""
    start = 0
    for length, run in itertools.groupby(sequences, len):
        count = len(list(run))
        # Few at once where each has many vectors of thresholds, so that progress is seen.
        vectors = float(table.widths.max()) ** (length - 1)
        step = int(np.clip(_VECTORS / vectors, 1, _SEQUENCES))
        for first in range(start, start + count, step):
            last = min(first + step, start + count)
            prefixes = [[table.rows[key] for key in keys[i]] for i in range(first, last)]
            priced = [
                [costs_of_stages(sequences[i], each) for i in range(first, last)] for each in costs
            ]
            shape = (len(costs), last - first, length)
            yield (
                first,
                Batch(np.array(prefixes, np.int32), np.array(priced).reshape(shape), limits),
            )
        start += count
