"""Offline: a cascade over a whole data set, stretch by stretch, in the order of the samples."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from committee.cascade import Cascade
from committee.data import BrokenSamplesError, Dataset
from committee.errors import NotFiniteError
from committee.flow import Decisions
from committee.predict import THREADS
from committee.predictions import Array
from committee.run.gathering import Gathered
from committee.run.parts import Parts
from committee.run.reading import read_prepared
from committee.run.results import Result, check_ending
from committee.run.runner import Decision, Runner


@dataclass(frozen=True, eq=False)
class Progress:
    """How far a run is.

    Args:
        done: Samples that are done, those of an earlier run too.
        total: Samples in all.
        leaving: How many left at each stage, in this run alone.
    """

    done: int
    total: int
    leaving: Array


@dataclass(frozen=True, eq=False)
class _Stretch:
    """Some samples and what became of them.

    Args:
        rows: Which samples, shape (n,).
        good: Those that could be read, shape (m,).
        gathered: What became of these.
        broken: Id and reason of the others.
    """

    rows: Array
    good: Array
    gathered: Gathered
    broken: Sequence[tuple[str, str]]


def run_offline(
    runner: Runner, dataset: Dataset, batch_size: int | None = None
) -> Iterator[tuple[Array, Decisions]]:
    """Decide on all samples of a data set.

    Threads read samples and prepare them for the first stage while the models run. Samples that
    stay wait until they fill a batch of a later stage; after as many batches as the task's stretch
    has none waits any more. Memory holds few batches.

    Args:
        runner: The cascade.
        dataset: The samples.
        batch_size: Samples a forward pass; as the task says if left out.

    Yields:
        Rows of the data set, shape (n,), and their decisions, in order.

    Raises:
        BrokenSamplesError: If samples of a stretch cannot be read.
        ModelError, NotFiniteError: If a model fails or answers with NaN.
    """
    batch_size = batch_size or runner.task.batch_size
    for stretch in _stretches(runner, dataset, batch_size):
        if stretch.broken:
            raise BrokenSamplesError(stretch.broken)
        for row, reason in sorted(stretch.gathered.failed.items())[:1]:
            raise NotFiniteError(
                f"sample {dataset.samples.ids[int(stretch.good[row])]!r}: {reason}. "
                "Mend the model, or run into a file, where such samples have a row of their own"
            )
        yield stretch.rows, stretch.gathered.decisions


def run_into(
    runner: Runner,
    dataset: Dataset,
    out: Path,
    batch_size: int | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Iterator[list[Result]]:
    """Decide on all samples and write one row a sample, in their order; see :mod:`.parts`.

    A run that was stopped goes on where it was. Samples that cannot be read, or of which a model
    makes NaN, get a row with the reason.

    Args:
        runner: The cascade.
        dataset: The samples.
        out: The file of the results: csv, jsonl or parquet.
        batch_size: Samples a forward pass; as the task says if left out.
        progress: Called after every batch, and once before the first.

    Yields:
        The results of each stretch, those of an earlier run first. The file is there when all were
        taken.

    Raises:
        DataError: If the ending of the file is unknown.
        ChangedError: If another run was begun and not finished there.
        ModelError: If a model fails; what was decided is kept.
    """
    check_ending(out)
    batch_size = batch_size or runner.task.batch_size
    parts = Parts(out, _identity(runner, dataset, batch_size), _told(runner.cascade, dataset))
    yield from parts.read()
    for stretch in _stretches(runner, dataset, batch_size, parts.done, progress):
        results = _results(runner, dataset, stretch)
        parts.write(int(stretch.rows[0]), int(stretch.rows[-1]) + 1, results)
        yield results
    parts.finish()


def _stretches(
    runner: Runner,
    dataset: Dataset,
    batch_size: int,
    start: int = 0,
    progress: Callable[[Progress], None] | None = None,
) -> Iterator[_Stretch]:
    """Decide on the samples from ``start`` on."""
    count, step = len(dataset.samples), batch_size * runner.task.stretch
    with ThreadPoolExecutor(1, thread_name_prefix="late-stages") as executor:
        gatherer = runner.gatherer(batch_size, executor)
        left = np.zeros(len(runner.cascade.stages), np.int64)
        good: list[Array] = []
        broken: list[tuple[str, str]] = []

        def tell() -> None:
            if progress is not None:
                leaving = gatherer.leaving
                done = start + int(leaving.sum()) + len(broken)
                progress(Progress(done, count, left + leaving))

        tell()
        units = _units(start, count, step, runner.together(batch_size), batch_size)
        for read in read_prepared(dataset, units, *runner.recipes):
            good.append(read.good)
            broken.extend(read.broken)
            gatherer.add(read.held)
            end = int(read.rows[-1]) + 1
            if end - start == step or end == count:
                gathered = gatherer.finish()
                yield _Stretch(np.arange(start, end), np.concatenate(good), gathered, tuple(broken))
                left += np.bincount(gathered.decisions.stage, minlength=len(left))
                start = end
                good.clear()
                broken.clear()
            tell()


def _units(start: int, count: int, step: int, together: int, batch_size: int) -> Iterator[Array]:
    """Rows that are read as one; none crosses the end of a stretch.

    Of the first batch every thread reads a part, for nothing runs before it is there.
    """
    first, part = min(start + batch_size, count), -(-batch_size // THREADS)
    at = start
    while at < count:
        of_stretch = start + ((at - start) // step + 1) * step
        end = min(at + part, first) if at < first else min(at + together, of_stretch, count)
        yield np.arange(at, end)
        at = end


def _results(runner: Runner, dataset: Dataset, stretch: _Stretch) -> list[Result]:
    """A row for every sample of a stretch."""
    ids = dataset.samples.ids
    failed = stretch.gathered.failed
    found = {
        int(row): runner.explained(stretch.gathered.decisions, i)
        for i, row in enumerate(stretch.good)
        if i not in failed
    }
    reasons = dict(stretch.broken)
    reasons.update((ids[int(stretch.good[i])], reason) for i, reason in failed.items())
    return [_result(dataset, int(row), found, reasons) for row in stretch.rows]


def _result(
    dataset: Dataset, row: int, found: Mapping[int, Decision], reasons: Mapping[str, str]
) -> Result:
    """What was decided for a sample, or why it could not be read."""
    samples = dataset.samples
    name = samples.ids[row]
    label = None if samples.labels is None else int(samples.labels[row])
    if row in found:
        return Result(id=name, label=label, **vars(found[row]))
    return Result.broken(name, reasons[name], label)


def _told(cascade: Cascade, dataset: Dataset) -> dict[str, str]:
    """What an identity is of, for people."""
    thresholds = ", ".join(f"{threshold:.4g}" for threshold in cascade.thresholds)
    at = f" at {thresholds}" if thresholds else ""
    ids = dataset.samples.ids
    return {
        "cascade": f"{cascade}{at} by {cascade.confidence} and {cascade.combine}",
        "samples": f"{len(ids):,} samples" + (f", {ids[0]} to {ids[-1]}" if ids else ""),
    }


def _identity(runner: Runner, dataset: Dataset, batch_size: int) -> dict[str, str]:
    cascade = json.dumps(runner.cascade.to_json(), sort_keys=True)
    return {
        "cascade": hashlib.sha256(cascade.encode()).hexdigest()[:16],
        "samples": dataset.samples.fingerprint,
        "batch size": str(batch_size),
    }
