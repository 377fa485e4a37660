"""Offline: a cascade over a whole data set, window by window, in the order of the samples."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from committee.data import Dataset, read_ahead
from committee.flow import Decisions
from committee.predictions import Array
from committee.run.parts import Parts
from committee.run.results import Result, check_ending
from committee.run.runner import WINDOW, Runner

# Called with (samples done, samples in all).
Progress = Callable[[int, int], None]


def run_offline(
    runner: Runner,
    dataset: Dataset,
    batch_size: int = 32,
    skipped: Callable[[Sequence[tuple[str, str]]], None] | None = None,
    start: int = 0,
) -> Iterator[tuple[Array, Decisions]]:
    """Decide on all samples of a data set.

    A window of :data:`~committee.run.runner.WINDOW` batches is held in memory while the next are
    read; within it each stage runs on full batches of those that the stage before passed on.

    Args:
        runner: The cascade.
        dataset: The samples.
        batch_size: Samples a forward pass.
        skipped: If given, pictures that cannot be read are left out, and this is called with id and
            reason of each before their window is yielded; else they are an error.
        start: The first sample.

    Yields:
        Rows of the data set, shape (n,), and their decisions, in order.

    Raises:
        BrokenSamplesError: If samples of a window cannot be read and are not to be left out.
    """
    count, step = len(dataset.samples), batch_size * WINDOW
    windows = (np.arange(at, min(at + step, count)) for at in range(start, count, step))
    for rows, pictures in read_ahead(dataset, windows, 1, skipped):
        yield rows, runner.decide(pictures, batch_size)


def run_into(
    runner: Runner,
    dataset: Dataset,
    out: Path,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> Iterator[list[Result]]:
    """Decide on all samples and write one row a sample, in their order; see :mod:`.parts`.

    A run that was stopped goes on where it was. Samples that cannot be read get a row with the
    reason.

    Args:
        runner: The cascade.
        dataset: The samples.
        out: The file of the results: csv, jsonl or parquet.
        batch_size: Samples a forward pass.
        progress: Called with (samples done, samples in all).

    Yields:
        The results of each window, those of an earlier run first. The file is there when all were
        taken.

    Raises:
        DataError: If the ending of the file is unknown.
        ChangedError: If another run was begun and not finished there.
        ModelError, NotFiniteError: If a model fails; what was decided is kept.
    """
    check_ending(out)
    parts = Parts(out, _identity(runner, dataset, batch_size))
    yield from parts.read()
    if progress is not None:
        progress(parts.done, len(dataset.samples))
    yield from _new_windows(runner, dataset, batch_size, parts, progress)
    parts.finish()


def _new_windows(
    runner: Runner,
    dataset: Dataset,
    batch_size: int,
    parts: Parts,
    progress: Progress | None,
) -> Iterator[list[Result]]:
    samples = dataset.samples
    count, step = len(samples), batch_size * WINDOW
    reasons: dict[str, str] = {}
    decided = run_offline(runner, dataset, batch_size, reasons.update, parts.done)
    ready: tuple[Array, Decisions] | None = None
    for start in range(parts.done, count, step):
        end = min(start + step, count)
        # A window of which nothing could be read is not yielded.
        ready = ready or next(decided, None)
        rows = dict[int, int]()
        if ready is not None and ready[0][0] < end:
            rows = {int(row): position for position, row in enumerate(ready[0])}
        results = []
        for row in range(start, end):
            label = None if samples.labels is None else int(samples.labels[row])
            name = samples.ids[row]
            if row in rows and ready is not None:
                decision = runner.explained(ready[1], rows[row])
                results.append(Result(id=name, label=label, **vars(decision)))
            else:
                results.append(Result.broken(name, reasons[name], label))
        if rows:
            ready = None
        parts.write(start, end, results)
        if progress is not None:
            progress(end, count)
        yield results


def _identity(runner: Runner, dataset: Dataset, batch_size: int) -> dict[str, str]:
    cascade = json.dumps(runner.cascade.to_json(), sort_keys=True)
    return {
        "cascade": hashlib.sha256(cascade.encode()).hexdigest()[:16],
        "samples": dataset.samples.fingerprint,
        "batch size": str(batch_size),
    }
