"""Run a cascade over a whole data set, stretch by stretch, in the order of the samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from msgspec.structs import asdict

from committee.arrays import Array
from committee.data.base import BrokenSamplesError, Dataset
from committee.errors import DataError, NotFiniteError
from committee.files import disk_errors
from committee.models.failures import divided_text
from committee.predict_batches import THREADS
from committee.rule.cascade import Cascade
from committee.rule.flow import Decisions
from committee.run.batching import Gathered
from committee.run.decision import Decision, class_name
from committee.run.read_ahead import Read, read_prepared
from committee.run.results import (
    Result,
    check_ending,
    check_free,
    encoded_results,
    join_results,
    read_results,
)
from committee.run.runner import Runner
from committee.store.chunks import RowChunks, exclusive, key_of


@dataclass(frozen=True, eq=False)
class Progress:
    """The samples decided, in earlier runs too, of all; and exits at each stage in this run."""

    done: int
    total: int
    exits: Array


def run_offline(
    runner: Runner, dataset: Dataset, batch_size: int | None = None
) -> Iterator[tuple[Array, Decisions]]:
    """Decide on all samples of a data set.

    Threads read samples and prepare them for the first stage while the models run. Samples that do
    not exit wait until they fill a batch of a later stage; at the end of each stretch no sample
    waits. Memory holds few batches.

    Args:
        runner: The cascade.
        dataset: The samples.
        batch_size: Samples a forward pass; the task's default if None.

    Yields:
        Rows of the data set, shape (n,), and their decisions, in order.

    Raises:
        BrokenSamplesError: If samples of a stretch cannot be read.
        ModelError, NotFiniteError: If a model fails or answers with NaN.
    """
    batch_size = batch_size or runner.task.batch_size
    starts = range(0, len(dataset.samples), batch_size * runner.task.stretch)
    for read, gathered in _stretches(runner, dataset, batch_size, starts):
        if read.broken:
            raise BrokenSamplesError(read.broken)
        for row, reason in sorted(gathered.failed.items())[:1]:
            raise NotFiniteError(
                f"sample {dataset.samples.ids[int(read.good[row])]!r}: {reason}. "
                "Fix the model, or run into a file, where such samples have a row of their own"
            )
        yield read.rows, gathered.decisions


def run_into(
    runner: Runner,
    dataset: Dataset,
    out: Path,
    batch_size: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    *,
    overwrite: bool = True,
    note: Callable[[str], None] | None = None,
) -> Iterator[list[Result]]:
    """Decide on all samples and write one row for each, in their order.

    An interrupted run resumes and recomputes damaged results and those of changed samples. A sample
    that cannot be read, or on which a model fails or gives NaN, gets a row with the reason.

    Args:
        runner: The cascade.
        dataset: The samples.
        out: The file of the results: csv, jsonl or parquet.
        batch_size: Samples a forward pass; the task's default if None.
        progress: Called after every batch, and once before the first.
        overwrite: True to replace an existing file of results.
        note: Called with each message for the user, one line each.

    Yields:
        The results of each stretch, those of an earlier run first. The file is complete after the
        last.

    Raises:
        DataError: If the ending of the file is unknown, another process writes it, or it exists and
            may not be replaced.
        ChangedError: If the file belongs to an unfinished run of other models, samples or settings.
        ModelError: If a model fails on sixteen samples in a row; decisions made before are stored.
    """
    check_ending(out)
    batch_size = batch_size or runner.task.batch_size
    identity = _identity(runner, dataset, batch_size)
    ids = dataset.samples.ids
    with exclusive(out) as folder:
        if not overwrite:
            check_free(out)
        text = _identity_text(runner.cascade, dataset)
        chunks = RowChunks(folder, out.suffix.lower(), identity, text)
        tell, told = note or (lambda _: None), set[str]()
        chunks.check(ids, dataset.digests, tell)
        yield from map(read_results, chunks.paths())
        missing = chunks.missing(len(ids), batch_size * runner.task.stretch)
        for read, gathered in _stretches(
            runner, dataset, batch_size, missing, progress, chunks.rows_done, stored=True
        ):
            for name in gathered.divided.keys() - told:
                tell(divided_text(name, gathered.divided[name]))
            told |= gathered.divided.keys()
            results = _results(runner, dataset, read, gathered)
            chunks.write_rows(read.rows, encoded_results(out, results), read.content)
            yield results
        with disk_errors(folder, DataError):
            join_results(out, chunks.paths())
        chunks.close()


def _stretches(
    runner: Runner,
    dataset: Dataset,
    batch_size: int,
    starts: Sequence[int],
    progress: Callable[[Progress], None] | None = None,
    done: int = 0,
    stored: bool = False,
) -> Iterator[tuple[Read, Gathered]]:
    """Yield the stretches that begin at ``starts``, which ascend, with their decisions.

    ``done`` is the number of samples that an earlier run decided. If decisions are ``stored``,
    samples have digests, and one on which a model fails does not end the run.
    """
    count, step = len(dataset.samples), batch_size * runner.task.stretch
    with ThreadPoolExecutor(1, thread_name_prefix="late-stages") as executor:
        gatherer = runner.gatherer(batch_size, executor, go_on=stored)
        earlier = np.zeros(len(runner.cascade.stages), np.int64)
        reads: list[Read] = []

        def report() -> None:
            if progress is not None:
                exits = gatherer.exits
                broken = sum(len(read.broken) for read in reads)
                progress(Progress(done + int(exits.sum()) + broken, count, earlier + exits))

        report()
        batches = units(starts, count, step, batch_size, runner.group_size(batch_size))
        for read in read_prepared(dataset, batches, *runner.recipes, digests=stored):
            gatherer.add(read.batch)
            reads.append(read.done())
            end = int(read.rows[-1]) + 1
            if end % step == 0 or end == count:
                whole, gathered = _joined(reads), gatherer.finish()
                yield whole, gathered
                stages = gathered.decisions.stage
                earlier += np.bincount(stages, minlength=len(earlier))
                done += len(whole.rows)
                reads.clear()
            report()


def _joined(reads: Sequence[Read]) -> Read:
    """Return consecutive batches as one, without images."""
    return replace(
        reads[0],
        rows=np.concatenate([read.rows for read in reads]),
        good=np.concatenate([read.good for read in reads]),
        broken=[each for read in reads for each in read.broken],
        content=np.concatenate([read.content for read in reads]),
    )


def units(
    starts: Sequence[int], count: int, step: int, batch_size: int, group_size: int = 0
) -> Iterator[Array]:
    """Yield the rows that one thread reads at a time; no group crosses the end of a stretch.

    All threads share the first batch, because no model can run before it is read.
    """
    first, part = min([*starts[:1], count]) + batch_size, -(-batch_size // THREADS)
    group_size = group_size or batch_size
    for start in starts:
        at, end = start, min(start + step, count)
        while at < end:
            to = min(at + part, first, end) if at < first else min(at + group_size, end)
            yield np.arange(at, to)
            at = to


def _results(runner: Runner, dataset: Dataset, read: Read, gathered: Gathered) -> list[Result]:
    ids = dataset.samples.ids
    failed = gathered.failed
    decisions = {
        int(row): runner.explained(gathered.decisions, i)
        for i, row in enumerate(read.good)
        if i not in failed
    }
    reasons = dict(read.broken)
    reasons.update((ids[int(read.good[i])], reason) for i, reason in failed.items())
    rule = runner.cascade.rule_fingerprint
    return [_result(dataset, int(row), decisions, reasons, rule) for row in read.rows]


def _result(
    dataset: Dataset,
    row: int,
    decisions: Mapping[int, Decision],
    reasons: Mapping[str, str],
    rule: str,
) -> Result:
    """Return the row of a sample: its decision, or why it could not be read."""
    samples = dataset.samples
    name = samples.ids[row]
    label = None if samples.labels is None else int(samples.labels[row])
    label_name = "" if label is None else class_name(samples.classes, label)
    if row in decisions:
        known = asdict(decisions[row])
        return Result(id=name, label=label, label_name=label_name, cascade=rule, **known)
    return Result.broken(name, reasons[name], label, label_name, rule)


def _identity_text(cascade: Cascade, dataset: Dataset) -> dict[str, str]:
    """Return the parts of an identity in words."""
    thresholds = ", ".join(f"{threshold:.4g}" for threshold in cascade.thresholds)
    at = f" at {thresholds}" if thresholds else ""
    ids = dataset.samples.ids
    return {
        "cascade": f"{cascade}{at} by {cascade.confidence} and {cascade.combine}",
        "samples": f"{len(ids):,} samples" + (f", {ids[0]} to {ids[-1]}" if ids else ""),
    }


def _identity(runner: Runner, dataset: Dataset, batch_size: int) -> dict[str, str]:
    return {
        "cascade": key_of(runner.cascade.to_json()),
        "samples": dataset.samples.fingerprint,
        "batch size": str(batch_size),
    }
