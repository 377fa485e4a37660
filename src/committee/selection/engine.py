"""The engine: sequences of stages in, candidates for the front out.

It computes the statistics of all prefixes, then tries every vector of thresholds of every sequence.
:mod:`committee.selection.refine` compares the candidates on exact figures.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, singledispatch

import numpy as np

from committee.arrays import Array
from committee.compiled import PLAIN
from committee.errors import TooLargeError
from committee.pool.costs import SampleCost, costs_of_stages
from committee.pool.prefixes import Key, PrefixSource, StageSequence
from committee.selection.approximations import compiled_part
from committee.selection.options import SearchPlan
from committee.selection.rules import Progress
from committee.selection.sequences import within_bounds
from committee.selection.shard_counts import count_table
from committee.selection.statistics import PrefixTable, Statistics, prefix_table
from committee.selection.sweep import CLEARLY, Batch, Points, dominated, pareto_envelope, sweep
from committee.selection.threads import executor_for

# Most sequences and threshold vectors of one call of the sweep, which takes well below a second.
_SEQUENCES = 64
_VECTORS = 1e8
# Bytes of one sample's statistics at one prefix: score, value, thresholds passed.
_BYTES = 8 + 1 + 2

# A sequence, the number of the candidate threshold of each stage but the last, how many rows run
# each stage, and the value: a total over rows in the table's units, or the figure of the source.
Point = tuple[StageSequence, Array, Array, float]


@dataclass(frozen=True, eq=False)
class Sweep:
    """All threshold vectors of some sequences.

    Args:
        table: Statistics of every prefix.
        sequences: The sequences.
        keys: For each sequence, the prefix after each stage.
        costs: Cost of each model for one sample, or for each where they differ: in the unit of the
            search, then in E units whose average is bounded.
        limits: Largest total over rows in each bounded unit, shape (E,).
        threads: Threads to use.
        progress: See :data:`~committee.selection.rules.Progress`.
    """

    table: Statistics
    sequences: list[StageSequence]
    keys: list[list[Key]]
    costs: list[dict[str, SampleCost]]
    limits: Array
    threads: int
    progress: Progress | None

    def report(self, done: int) -> None:
        """Call ``progress`` with how many sequences are done."""
        if self.progress is not None:
            self.progress("sequences", done, len(self.sequences))


@dataclass(frozen=True, eq=False)
class Candidates:
    """The committees of a search that may be on the front, before they are compared exactly.

    Args:
        plan: The checked options.
        table: Statistics of every prefix.
        sequences: The sequences within the bounds on the worst case.
        points: The candidates.
        cascades: How many cascades were covered.
        seconds: The time of each part of the search; later parts add theirs.
    """

    plan: SearchPlan
    table: Statistics
    sequences: list[StageSequence]
    points: list[Point]
    cascades: int
    seconds: dict[str, float]


def search_sequences(
    plan: SearchPlan, sequences: list[StageSequence], known: PrefixTable | None = None
) -> Candidates:
    """Return the candidates of all sequences within the worst-case bounds."""
    _warn_if_plain()
    source, pool = plan.source, plan.source.pool
    seconds: dict[str, float] = {}
    # Short sequences first: they rule out most of the candidates of the long ones.
    sequences = sorted(within_bounds(pool, sequences, plan.worst_case), key=len)
    keys = [source.keys(sequence) for sequence in sequences]
    distinct = list(dict.fromkeys(key for each in keys for key in each))
    progress = _part(plan.progress, "prefixes")
    table: Statistics
    with timed(seconds, "prefixes"):
        if source.by_row:
            check_memory(len(distinct), len(pool), plan.max_memory)
            if known and _bytes(len(distinct) + len(known.rows), len(pool)) > plan.max_memory:
                known = None
            table = prefix_table(source, distinct, plan.grid, None, plan.threads, progress, known)
        else:
            table = count_table(source, keys, plan.grid, plan.threads, plan.max_memory, progress)
    with timed(seconds, "thresholds"):
        units = [plan.unit, *plan.average_case]
        costs = [pool.sample_costs(pool.costs.unit(unit)) for unit in units]
        limits = np.array([b * len(pool) for b in plan.average_case.values()], np.float64)
        task = Sweep(table, sequences, keys, costs, limits, plan.threads, plan.progress)
        points, cascades = sweep_thresholds(source, task)
    return Candidates(plan, table, sequences, points, cascades, seconds)


@cache
def _warn_if_plain() -> None:
    """Say once, on standard error unless logging is set up otherwise, that searches are slow."""
    if PLAIN:
        remedy = "Install a C++ compiler and install again"
        logging.getLogger("committee").warning("Note: this is committee %s. %s", PLAIN, remedy)


def _part(progress: Progress | None, name: str) -> Callable[[int, int], None] | None:
    return None if progress is None else lambda done, total: progress(name, done, total)


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Record the time that the block takes, under a name."""
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start


def _bytes(prefixes: int, samples: int) -> int:
    return prefixes * samples * _BYTES


def check_memory(prefixes: int, samples: int, most: float) -> None:
    """Raise TooLargeError if the statistics of so many prefixes exceed the memory allowed."""
    size = _bytes(prefixes, samples)
    if size > most:
        raise TooLargeError(
            f"search: statistics of {prefixes:,} sets of models on {samples:,} samples take "
            f"{size / 1e9:.1f} GB, more than max_memory of {most / 1e9:.1f} GB. Lower "
            "max_models, search part of the pool, use committee.guided, or allow more"
        )


@singledispatch
def sweep_thresholds(source: PrefixSource, task: Sweep) -> tuple[list[Point], int]:
    """Return the candidates for the front, and how many cascades were covered.

    This function is for values that add up over rows; other kinds of source register their own.
    """
    table, sequences, threads = task.table, task.sequences, task.threads
    batches = list(_batches(task))
    cost, value = np.empty(0), np.empty(0, np.int64)
    swept: list[tuple[int, Points]] = []
    cascades = done = 0
    # The compiled part polls this flag.
    stop = np.zeros(1, np.uint8)
    with executor_for(_numbers(task), threads) as executor:
        try:
            # Each round prunes with the committees of all earlier rounds.
            for start in range(0, len(batches), threads):
                known = (cost, value)
                futures = [
                    (first, batch, executor.submit(sweep, table, batch, *known, stop))
                    for first, batch in batches[start : start + threads]
                ]
                for first, batch, future in futures:
                    points = future.result()
                    swept.append((first, points))
                    cost = np.concatenate([cost, points.cost])
                    value = np.concatenate([value, points.value])
                    widths = table.widths[batch.prefixes[:, :-1]].astype(np.float64) + 1
                    cascades += int(np.prod(widths, axis=1).sum())
                    done += len(batch.prefixes)
                cost, value = pareto_envelope(cost, value)
                task.report(done)
        except BaseException:
            _halt(stop)
            executor.shutdown(wait=False, cancel_futures=True)
            raise
    candidates: list[Point] = []
    clearly = batches[0][1].clearly if batches else CLEARLY
    for first, points in swept:
        for i in np.flatnonzero(~dominated(points.cost, points.value, cost, value, clearly)):
            sequence = sequences[first + points.sequence[i]]
            candidates.append((sequence, points.choices[i], points.reach[i], int(points.value[i])))
    return candidates, cascades


def _halt(stop: Array) -> None:
    """End the sweeps that poll a flag; the compiled part reads and writes it atomically."""
    native = compiled_part()
    if native is None:
        stop[0] = 1
    else:
        native.halt(stop)


def _numbers(task: Sweep) -> float:
    """Return about how many numbers the sweep reads: rows, then vectors, of each sequence."""
    widest = float(task.table.widths.max(initial=1))
    longest = max(map(len, task.sequences), default=1)
    rows = task.table.samples * longest
    return len(task.sequences) * float(rows + widest ** (longest - 1))


def _batches(task: Sweep) -> Iterator[tuple[int, Batch]]:
    """Yield batches of sequences of one length, each with the number of its first sequence."""
    start = 0
    for length, run in itertools.groupby(task.sequences, len):
        count = len(list(run))
        # Keep batches small where a sequence has many vectors, so that progress shows.
        vectors = float(task.table.widths.max()) ** (length - 1)
        step = int(np.clip(_VECTORS / vectors, 1, _SEQUENCES))
        for first in range(start, start + count, step):
            some = range(first, min(first + step, start + count))
            prefixes = [[task.table.rows[key] for key in task.keys[i]] for i in some]
            costs = [[costs_of_stages(task.sequences[i], c) for i in some] for c in task.costs]
            yield first, Batch.of(prefixes, costs, task.limits)
        start += count
