"""models x data -> store: the outputs of every model on every sample, each picture decoded once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

from committee.data import BrokenSamplesError, Dataset, read_ahead
from committee.errors import MisalignedError
from committee.models import (
    Model,
    ModelSpec,
    Pictures,
    PoolFile,
    Preprocessing,
    load_model,
    outputs_of,
    prepared,
)
from committee.predictions import Array, Outputs
from committee.store import CHUNK_ROWS, Entry, Store, Writer, writing

# Called with (samples done, samples in all), counted over all models.
Progress = Callable[[int, int], None]
Loaded: TypeAlias = tuple[Model, ModelSpec]


def predict(
    pool: PoolFile,
    dataset: Dataset,
    store: str | Path,
    *,
    batch_size: int = 32,
    allow_code: Collection[str] = (),
    progress: Progress | None = None,
) -> Path:
    """Compute the outputs of all models on all samples and keep them in a store.

    What the store already has is not computed again. The call can be stopped at any moment and
    repeated: it goes on where it was, and the store ends up the same to the byte.

    Args:
        pool: The models.
        dataset: The samples, with the name of their split.
        store: Folder of the store; made if it is not there.
        batch_size: Samples a forward pass; part of what is recorded, for rounding depends on it.
        allow_code: Python files and modules that may be run.
        progress: Called with (samples done, samples in all), counted over all models.

    Returns:
        The folder of the split, for :meth:`committee.Pool.load`.

    Raises:
        BrokenSamplesError: If samples cannot be read; all of them are named.
        ChangedError: If the store holds other samples, classes or models under these names.
        ModelError, NotFiniteError: If a model cannot be loaded or used.
        MisalignedError: If the batch size does not divide the store's chunks.
    """
    if batch_size < 1 or CHUNK_ROWS % batch_size:
        raise MisalignedError(f"predict: batch size must divide {CHUNK_ROWS}, not {batch_size}")
    loaded = [load_model(spec, allow_code) for spec in pool.models]
    samples = dataset.samples
    with writing(Path(store)) as target:
        target.add_models({spec.name: spec.to_json() for _, spec in loaded}, samples.classes)
        target.add_samples(samples)
        writers = [_writer(target, spec, dataset, batch_size) for _, spec in loaded]
        _fill(loaded, writers, dataset, batch_size, progress)
    return Path(store) / samples.split


def _writer(store: Store, spec: ModelSpec, dataset: Dataset, batch_size: int) -> Writer:
    samples = dataset.samples
    entry = Entry(
        kind=spec.kind,
        samples=samples.fingerprint,
        classes=samples.classes_fingerprint,
        fingerprint=spec.fingerprint,
        batch_size=batch_size,
        dtype="float64" if spec.kind == "decisions" else "float32",
        rows=len(samples),
    )
    return store.writer(samples.split, spec.name, entry)


def _fill(
    loaded: Sequence[Loaded],
    writers: Sequence[Writer],
    dataset: Dataset,
    batch_size: int,
    progress: Progress | None,
) -> None:
    count = len(dataset.samples)
    done = sum(writer.rows_done for writer in writers)
    if progress is not None:
        progress(done, count * len(writers))
    starts = range(min(writer.rows_done for writer in writers), count, CHUNK_ROWS)
    batches = [rows for start in starts for rows in _batches(start, count, batch_size)]
    pictures = read_ahead(dataset, batches)
    for start in starts:
        due = [i for i, writer in enumerate(writers) if writer.rows_done <= start]
        parts: list[list[Outputs]] = [[] for _ in due]
        for _ in _batches(start, count, batch_size):
            rows, batch = _next(pictures, dataset)
            outputs = run_models([loaded[i] for i in due], batch, int(rows[0]))
            for part, each in zip(parts, outputs, strict=True):
                part.append(each)
            done += len(rows) * len(due)
            if progress is not None:
                progress(done, count * len(writers))
        for i, part in zip(due, parts, strict=True):
            writers[i].append(joined(part))


def _batches(start: int, count: int, batch_size: int) -> Iterator[Array]:
    """Rows of each batch of the chunk that begins at ``start``."""
    stop = min(start + CHUNK_ROWS, count)
    for first in range(start, stop, batch_size):
        yield np.arange(first, min(first + batch_size, stop))


def _next(pictures: Iterator[tuple[Array, Pictures]], dataset: Dataset) -> tuple[Array, Pictures]:
    try:
        return next(pictures)
    except BrokenSamplesError:
        raise BrokenSamplesError(find_broken(dataset)) from None


def find_broken(dataset: Dataset) -> list[tuple[str, str]]:
    """Try to read every sample; list the id and the reason of each that fails."""
    broken: list[tuple[str, str]] = []
    for row in range(len(dataset.samples)):
        try:
            dataset.read(np.array([row]))
        except BrokenSamplesError as error:
            broken += error.broken
    return broken


def run_models(loaded: Sequence[Loaded], pictures: Pictures, first: int) -> list[Outputs]:
    """Run models on the same pictures; those that share a preprocessing share its result.

    Args:
        loaded: The models.
        pictures: Of a batch.
        first: Number of the batch's first sample, for errors.
    """
    inputs: dict[Preprocessing, Array] = {}
    outputs = []
    for model, spec in loaded:
        if spec.preprocessing not in inputs:
            inputs[spec.preprocessing] = prepared(pictures, spec.preprocessing)
        outputs.append(outputs_of(model, spec, inputs[spec.preprocessing], first))
    return outputs


def joined(parts: Sequence[Outputs]) -> Outputs:
    """The outputs of consecutive batches as one."""
    values = np.concatenate([part.values for part in parts])
    if parts[0].confidence is None:
        return Outputs(parts[0].kind, values)
    scores = [part.confidence for part in parts if part.confidence is not None]
    return Outputs(parts[0].kind, values, np.concatenate(scores))
