"""Offline: a cascade over a whole data set, window by window, in the order of the samples."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from committee.data import Dataset, read_ahead
from committee.data.base import in_order, readable
from committee.flow import Decisions
from committee.predictions import Array
from committee.run.parts import Parts
from committee.run.results import Result, check_ending
from committee.run.runner import Decision, Runner

# Called with (samples done, samples in all).
Progress = Callable[[int, int], None]


def run_offline(
    runner: Runner, dataset: Dataset, batch_size: int | None = None
) -> Iterator[tuple[Array, Decisions]]:
    """Decide on all samples of a data set.

    A window of batches, as many as the task says, is held in memory while the next are read; within
    it each stage runs on full batches of those that the stage before passed on.

    Args:
        runner: The cascade.
        dataset: The samples.
        batch_size: Samples a forward pass; as the task says if left out.

    Yields:
        Rows of the data set, shape (n,), and their decisions, in order.

    Raises:
        BrokenSamplesError: If samples of a window cannot be read.
    """
    batch_size = batch_size or runner.task.batch_size
    for rows, pictures in read_ahead(dataset, _windows(runner, dataset, batch_size), 1):
        yield rows, runner.decide(pictures, batch_size)


def _windows(runner: Runner, dataset: Dataset, batch_size: int, start: int = 0) -> Iterator[Array]:
    count, step = len(dataset.samples), batch_size * runner.task.window
    return (np.arange(at, min(at + step, count)) for at in range(start, count, step))


def run_into(
    runner: Runner,
    dataset: Dataset,
    out: Path,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> Iterator[list[Result]]:
    """Decide on all samples and write one row a sample, in their order; see :mod:`.parts`.

    A run that was stopped goes on where it was. Samples that cannot be read get a row with the
    reason.

    Args:
        runner: The cascade.
        dataset: The samples.
        out: The file of the results: csv, jsonl or parquet.
        batch_size: Samples a forward pass; as the task says if left out.
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
    batch_size = batch_size or runner.task.batch_size
    parts = Parts(out, _identity(runner, dataset, batch_size))
    yield from parts.read()
    if progress is not None:
        progress(parts.done, len(dataset.samples))
    windows = _windows(runner, dataset, batch_size, parts.done)
    for rows, (good, pictures, broken) in in_order(partial(readable, dataset), windows, 1):
        decisions = runner.decide(pictures, batch_size)
        found = {int(row): runner.explained(decisions, i) for i, row in enumerate(good)}
        results = [_result(dataset, int(row), found, dict(broken)) for row in rows]
        start, end = int(rows[0]), int(rows[-1]) + 1
        parts.write(start, end, results)
        if progress is not None:
            progress(end, len(dataset.samples))
        yield results
    parts.finish()


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


def _identity(runner: Runner, dataset: Dataset, batch_size: int) -> dict[str, str]:
    cascade = json.dumps(runner.cascade.to_json(), sort_keys=True)
    return {
        "cascade": hashlib.sha256(cascade.encode()).hexdigest()[:16],
        "samples": dataset.samples.fingerprint,
        "batch size": str(batch_size),
    }
