"""models x data -> store: the outputs of every model on every sample, each picture decoded once."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np

from committee.data import BrokenSamplesError, Dataset, PartDataset, content_of, without
from committee.data.base import find_broken, in_order
from committee.data.part import REST
from committee.errors import MisalignedError, UnknownNameError
from committee.models import (
    Model,
    ModelSpec,
    PoolFile,
    Preprocessing,
    load_model,
    outputs_of,
    prepared,
)
from committee.predictions import Array, Outputs
from committee.samples import Broken
from committee.store import (
    CHUNK_ROWS,
    Entry,
    Split,
    Store,
    Writer,
    other_splits,
    shared_ids,
    store_order,
    writing,
)

# Called with (samples done, samples in all), counted over all models.
Progress = Callable[[int, int], None]
# Called with a line for people.
Note = Callable[[str], None]
Loaded: TypeAlias = tuple[Model, ModelSpec]
Inputs: TypeAlias = Mapping[Preprocessing, Array]

DTYPES = ("float32", "float16")
# Threads that read and prepare pictures while the models run. Two fill what the models leave of two
# cores; on more cores more are needed to keep up, and each costs the memory of a batch.
THREADS = max(2, min(4, (os.cpu_count() or 2) // 2))
# Decoded pictures that each holds at once: photographs are large before they are resized.
_AT_ONCE = 4


def predict(
    pool: PoolFile,
    dataset: Dataset,
    store: str | Path,
    *,
    batch_size: int = 32,
    dtype: str = "float32",
    skip_broken: bool = False,
    allow_code: Collection[str] = (),
    progress: Progress | None = None,
    note: Note | None = None,
) -> Path:
    """Compute the outputs of all models on all samples and keep them in a store.

    What the store already has is not computed again: of a new model everything is computed, of new
    samples only these, of a damaged file only its damaged chunks. Samples that the store knows
    keep their order; new ones follow. The call can be stopped at any moment and repeated: it goes
    on where it was, and the store ends up the same to the byte.

    Args:
        pool: The models.
        dataset: The samples, with the name of their split.
        store: Folder of the store; made if it is not there.
        batch_size: Samples a forward pass; part of what is recorded, for rounding depends on it.
        dtype: Type of the stored logits or probabilities: ``float32`` or ``float16``. Decisions
            are float64 always.
        skip_broken: Whether samples that cannot be read are left out and recorded, not an error.
            Every new sample is then read once before the models run.
        allow_code: Python files and modules that may be run.
        progress: Called with (samples done, samples in all), counted over all models.
        note: Called with a line for each thing that people should know.

    Returns:
        The folder of the split, for :meth:`committee.Pool.load`.

    Raises:
        BrokenSamplesError: If samples cannot be read; all of them are named.
        ChangedError: If the store holds other samples, classes or models under these names.
        ModelError, NotFiniteError: If a model cannot be loaded or used.
        MisalignedError: If the batch size does not divide the store's chunks.
        StoreError: If another split of the store has some of the samples.
        UnknownNameError: If the type is another.
    """
    if batch_size < 1 or CHUNK_ROWS % batch_size:
        raise MisalignedError(f"predict: batch size must divide {CHUNK_ROWS}, not {batch_size}")
    if dtype not in DTYPES:
        raise UnknownNameError.of("predict", "dtype", dtype, DTYPES)
    loaded = [load_model(spec, allow_code) for spec in pool.models]
    tell = note or (lambda _: None)
    with writing(Path(store)) as target:
        target.add_models({s.name: s.to_json() for _, s in loaded}, dataset.samples.classes)
        dataset, split = _settled(target, dataset, skip_broken, tell)
        samples = dataset.samples
        writers = []
        for _, spec in loaded:
            entry = _entry(spec, dataset, batch_size, dtype)
            writers.append(target.writer(samples, spec.name, entry))
            for chunk in writers[-1].damaged:
                tell(f"{spec.name}: chunk {chunk} was damaged and is computed again")
        target.settle(samples)
        try:
            _fill(loaded, writers, dataset, batch_size, progress)
        except BrokenSamplesError as error:
            target.allow_mending(split, {name for name, _ in error.broken})
            raise
    return Path(store) / samples.split


def rest(dataset: Dataset, store: str | Path) -> Dataset:
    """What the splits of a store that were taken by fraction leave of a data set.

    Args:
        dataset: The samples. If their split is not called ``test``, or the store has no split that
            was taken from them by a rule, they are returned as they are.
        store: Folder of the store.

    Raises:
        DataError: If nothing is left.
    """
    if dataset.samples.split != REST:
        return dataset
    others = [each for each in other_splits(Path(store), REST) if each.samples.rule]
    if not others:
        return dataset
    given = Split(dataset.samples, content_of(dataset))
    taken = {each.samples.split: shared_ids(each, given) for each in others}
    whole = [each for each in others if len(taken[each.samples.split]) == len(each.samples)]
    if not whole:
        return dataset
    ids = {name for each in whole for name in taken[each.samples.split]}
    # What is broken in another split is that split's.
    ids |= {broken.id for each in whole for broken in each.samples.broken}
    names = ", ".join(each.samples.split for each in whole)
    return without(dataset, frozenset(ids), f"what {names} left ({whole[0].samples.rule})")


def _entry(spec: ModelSpec, dataset: Dataset, batch_size: int, dtype: str) -> Entry:
    samples = dataset.samples
    return Entry(
        kind=spec.kind,
        samples=samples.fingerprint,
        classes=samples.classes_fingerprint,
        fingerprint=spec.fingerprint,
        batch_size=batch_size,
        dtype="float64" if spec.kind == "decisions" else dtype,
        rows=len(samples),
    )


def _settled(
    store: Store, dataset: Dataset, skip_broken: bool, tell: Note
) -> tuple[Dataset, Split]:
    """The data set in the order of the store, broken samples left out; recorded in the store."""
    samples = dataset.samples
    known = store.split(samples.split, samples.classes)
    given = Split(samples, content_of(dataset))
    broken = _broken(dataset, given, known, skip_broken)
    good = np.array([name not in broken for name in samples.ids], bool)
    if not good.any():
        raise BrokenSamplesError([(each.id, each.reason) for each in broken.values()])
    rows = np.flatnonzero(good)
    fewer, first_changed = _without(known, broken)
    rows = rows[store_order(store.root / samples.split, fewer, given.taken(rows))]
    settled = replace(samples.taken(rows), broken=tuple(broken.values()))
    if broken:
        tell(settled.left_out)
    unchanged = fewer is not None and len(fewer.samples) == len(settled)
    checked = skip_broken or (unchanged and fewer is not None and fewer.checked)
    split = replace(given.taken(rows), samples=settled, checked=checked)
    store.add_samples(split, first_changed)
    return PartDataset(dataset, rows, settled), split


def _broken(
    dataset: Dataset, given: Split, known: Split | None, skip_broken: bool
) -> dict[str, Broken]:
    """What is to be left out, by id, in the order given.

    Raises:
        BrokenSamplesError: If the store left out samples that are broken still, and that was not
            asked for again.
    """
    recorded = {} if known is None else {(b.id, b.content): b for b in known.samples.broken}
    if given.content is None or not (skip_broken or recorded):
        return {}
    ids = given.samples.ids
    contents = [f"{each:016x}" for each in given.content.tolist()]
    broken = {
        pair[0]: recorded[pair] for pair in zip(ids, contents, strict=True) if pair in recorded
    }
    if not skip_broken:
        if broken:
            raise BrokenSamplesError([(each.id, each.reason) for each in broken.values()])
        return {}
    readable = set(known.samples.ids) if known is not None and known.checked else set()
    unsure = [row for row, name in enumerate(ids) if name not in readable and name not in broken]
    content_by_id = dict(zip(ids, contents, strict=True))
    for name, reason in find_broken(dataset, np.array(unsure, np.int64), THREADS):
        broken[name] = Broken(name, reason, content_by_id[name])
    return {name: broken[name] for name in ids if name in broken}


def _without(known: Split | None, broken: Collection[str]) -> tuple[Split | None, int | None]:
    """What the store knows less what is broken, and the first row that this changes, if any."""
    if known is None:
        return None, None
    bad = np.array([name in broken for name in known.samples.ids], bool)
    if not bad.any():
        return known, None
    return known.taken(np.flatnonzero(~bad)), int(np.argmax(bad))


@dataclass(frozen=True, eq=False)
class _Batch:
    """Samples that go through some of the models together.

    Args:
        chunk: Number of their chunk.
        rows: Which samples, shape (n,).
        due: Numbers of the models that lack them.
        last: Whether the chunk is complete after it.
    """

    chunk: int
    rows: Array
    due: tuple[int, ...]
    last: bool


def _fill(
    loaded: Sequence[Loaded],
    writers: Sequence[Writer],
    dataset: Dataset,
    batch_size: int,
    progress: Progress | None,
) -> None:
    """Compute what the writers lack, chunk by chunk, each picture read once for all of them."""
    total = len(dataset.samples) * len(writers)
    done = sum(writer.rows_done for writer in writers)
    if progress is not None:
        progress(done, total)
    parts: dict[int, list[Outputs]] = {}
    work = _Reading(dataset, [spec.preprocessing for _, spec in loaded])
    batches = _batches(writers, len(dataset.samples), batch_size)
    for batch, inputs in _named_if_broken(
        in_order(work, batches, THREADS, THREADS + 1), dataset, writers
    ):
        for i in batch.due:
            model, spec = loaded[i]
            if i not in parts:
                parts[i] = [each for each in [writers[i].kept(batch.chunk)] if each is not None]
            first = int(batch.rows[0])
            parts[i].append(outputs_of(model, spec, inputs[spec.preprocessing], first))
        done += len(batch.rows) * len(batch.due)
        if progress is not None:
            progress(done, total)
        if batch.last:
            for i, part in parts.items():
                writers[i].write(batch.chunk, joined(part))
            parts = {}


class _Reading:
    """Reads a batch once and prepares it for every model that lacks it; called by threads."""

    def __init__(self, dataset: Dataset, recipes: Sequence[Preprocessing]) -> None:
        self._dataset = dataset
        self._recipes = recipes

    def __call__(self, batch: _Batch) -> Inputs:
        rows, first, step = batch.rows, 0, _AT_ONCE
        inputs = {
            recipe: np.empty((len(rows), recipe.channels, *recipe.size), np.float32)
            for recipe in (self._recipes[i] for i in batch.due)
        }
        while first < len(rows):
            pictures = self._dataset.read(rows[first : first + step])
            for recipe, made in inputs.items():
                made[first : first + len(pictures)] = prepared(pictures, recipe)
            first += len(pictures)
            if isinstance(pictures, np.ndarray):
                # Small already: the rest in one go.
                step = len(rows)
        return inputs


def _batches(writers: Sequence[Writer], count: int, batch_size: int) -> Iterator[_Batch]:
    """The batches of all chunks that some model lacks; none crosses a chunk."""
    lacking: dict[int, dict[int, int]] = {}
    for i, writer in enumerate(writers):
        for chunk in writer.missing:
            kept = writer.kept(chunk)
            lacking.setdefault(chunk, {})[i] = 0 if kept is None else len(kept)
    for chunk in sorted(lacking):
        start, stop = chunk * CHUNK_ROWS, min((chunk + 1) * CHUNK_ROWS, count)
        begin = start + min(lacking[chunk].values())
        for first in range(begin, stop, batch_size):
            due = tuple(i for i, kept in lacking[chunk].items() if start + kept <= first)
            rows = np.arange(first, min(first + batch_size, stop))
            yield _Batch(chunk, rows, due, first + batch_size >= stop)


def _named_if_broken(
    batches: Iterator[tuple[_Batch, Inputs]], dataset: Dataset, writers: Sequence[Writer]
) -> Iterator[tuple[_Batch, Inputs]]:
    """The batches; if one cannot be read, all samples that cannot are looked for and named."""
    try:
        yield from batches
    except BrokenSamplesError:
        chunks = sorted({chunk for writer in writers for chunk in writer.missing})
        rows = [np.arange(c * CHUNK_ROWS, (c + 1) * CHUNK_ROWS) for c in chunks]
        missing = np.concatenate(rows)
        missing = missing[missing < len(dataset.samples)]
        raise BrokenSamplesError(find_broken(dataset, missing, THREADS)) from None


def joined(parts: Sequence[Outputs]) -> Outputs:
    """The outputs of consecutive batches as one."""
    values = np.concatenate([part.values for part in parts])
    if parts[0].confidence is None:
        return Outputs(parts[0].kind, values)
    scores = [part.confidence for part in parts if part.confidence is not None]
    return Outputs(parts[0].kind, values, np.concatenate(scores))
