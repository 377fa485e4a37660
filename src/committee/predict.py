"""Compute the outputs of every model on every sample, each decoded once, into a store."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from committee.arrays import Array
from committee.data.base import BrokenSamplesError, Dataset, find_broken
from committee.errors import MisalignedError, UnknownNameError
from committee.models.base import Model
from committee.models.failures import Answered, divided_text
from committee.models.load import labels_of, load_models
from committee.models.pool_file import PoolFile
from committee.pool.plausibility import check_alike, check_classes, check_declared, notes_on
from committee.pool.samples import Samples
from committee.predict_batches import THREADS, Batch, Compute, Computed, Loaded, Work, compute_here
from committee.rule.outputs import Outputs, joined
from committee.spec.model import ModelSpec
from committee.store.entry import CHUNK_ROWS, Entry
from committee.store.folder import writing
from committee.store.leave_out import leave_out
from committee.store.reader import load_pool, stored_widths
from committee.store.reconcile import reconcile
from committee.store.split import check_split_name
from committee.store.writer import Writer, other_width
from committee.text import counted, listed

# Called with (samples done, all samples), counted over all models.
Progress = Callable[[int, int], None]
# Called with each message for the user, one line each.
Note = Callable[[str], None]

DTYPES = ("float32", "float16")


def predict(
    pool: PoolFile,
    dataset: Dataset,
    store: str | Path,
    *,
    batch_size: int | None = None,
    dtype: str = "float32",
    skip_broken: bool = False,
    allow_code: Collection[str] = (),
    progress: Progress | None = None,
    note: Note | None = None,
    compute: Compute = compute_here,
) -> Path:
    """Compute the outputs of all models on all samples and write them to a store.

    Only what the store lacks is computed: all samples for a new model, otherwise new samples and
    damaged chunks. Samples in the store keep their order; new samples follow. The call can be
    stopped at any moment and repeated: it resumes, and the final store is the same to the byte.

    Args:
        pool: The models.
        dataset: The samples, with the name of their split.
        store: Folder of the store; created if it does not exist.
        batch_size: Samples a forward pass; the task's default if None. The store records it,
            because rounding depends on it.
        dtype: Type of the stored logits or probabilities: ``float32`` or ``float16``. Decisions
            are always float64.
        skip_broken: True to skip and record samples that cannot be read, and those on which a
            model fails. Every new sample is then read once before the models run.
        allow_code: Python files and modules that may be run.
        progress: Called with (samples done, all samples), counted over all models.
        note: Called with each message for the user, one line each.
        compute: Where the models run; here by default.

    Returns:
        The folder of the split, for :meth:`committee.Pool.load`.

    Raises:
        BrokenSamplesError: If samples cannot be read; it names all of them.
        ChangedError: If the store holds other samples, classes or models under these names.
        ModelError, NotFiniteError: If a model cannot be loaded or used.
        MisalignedError: If the batch size does not divide the store's chunks.
        StoreError: If another split of the store has some of the samples.
        UnknownNameError: If ``dtype`` is not one of these.
    """
    batch_size = pool.task.batch_size if batch_size is None else batch_size
    if batch_size < 1 or CHUNK_ROWS % batch_size:
        raise MisalignedError(f"predict: batch size must divide {CHUNK_ROWS}, not {batch_size}")
    if dtype not in DTYPES:
        raise UnknownNameError.of("predict", "dtype", dtype, DTYPES)
    check_split_name(dataset.samples.split)
    _check_kinds({model.name: model.kind for model in pool.models})
    loaded = load_models(pool.models, allow_code, classes=dataset.samples.classes)
    note = note or (lambda _: None)
    for line in (*_unknown_costs(loaded), *_stated(loaded), *_naming(loaded, dataset.samples)):
        note(line)
    names = [spec.name for _, spec in loaded]
    with writing(Path(store)) as target:
        specs = {s.name: s.to_json() for _, s in loaded}
        with target.all_or_nothing():
            changed = target.add_models(specs, dataset.samples.classes)
            dataset, split, notes = reconcile(target, dataset, skip_broken)
            samples = dataset.samples
            writers = [
                target.writer(samples, spec.name, _entry(model, spec, dataset, batch_size, dtype))
                for model, spec in loaded
            ]
        if samples.broken:
            note(samples.left_out)
        for line in (*changed, *notes):
            note(line)
        for name, writer in zip(names, writers, strict=True):
            for chunk in writer.damaged:
                note(f"{name}: chunk {chunk} was damaged and is computed again")
        folder = target.root / samples.split
        widths = stored_widths(folder)
        known = {name: w.width for name, w in zip(names, writers, strict=True) if w.width}
        first = _FirstOutputs(samples, {n: widths[n] for n in widths.keys() - {*names}}, known)
        work = Work(loaded, dataset, skip_broken, [writer.row for writer in writers])
        computed = compute(work, _batches(writers, len(samples), batch_size))
        try:
            failed, divided = _fill(
                [spec for _, spec in loaded],
                writers,
                _named_if_broken(computed, dataset, writers),
                len(samples) * len(writers),
                progress,
                first,
            )
        except BrokenSamplesError as error:
            target.forget_content(split, {name for name, _ in error.broken})
            raise
        if failed:
            split = leave_out(target, split, failed, dict(zip(names, writers, strict=True)))
            samples = split.samples
            for name, why in divided.items():
                note(divided_text(name, why))
            note(_failures(samples, len(failed)))
    for name in names:
        own = load_pool(folder, [name])
        for line in notes_on(
            name, own.model(name), own.samples.labels, len(samples.classes), samples.classes
        ):
            note(line)
    return folder


def _check_kinds(kinds: Mapping[str, str]) -> None:
    """Raise MisalignedError if models of one pool declare different kinds, given by name."""
    first = next(iter(kinds.items()), ("", ""))
    for name, kind in kinds.items():
        if kind != first[1]:
            raise MisalignedError(
                f"predict: all models must have the same kind of outputs: {first[0]!r} has "
                f"{first[1]}, {name!r} has {kind}. Predict each kind into its own store: "
                f"--only {name} --out OTHER"
            )


class _FirstOutputs:
    """Checks the first outputs of each model against its declaration, before hours of work.

    ``widths`` has the number of outputs of the models that are in the store, by name, and ``known``
    that of the models themselves, as far as they were run before.
    """

    def __init__(self, samples: Samples, widths: dict[str, int], known: dict[str, int]) -> None:
        self._samples = samples
        self._widths = widths
        self._known = known
        self._seen: set[str] = set()

    def check(self, spec: ModelSpec, outputs: Outputs) -> None:
        """Check the outputs of a model's first batch; of later batches only their number."""
        if outputs.values.ndim == 2:
            width = outputs.values.shape[1]
            known = self._known.setdefault(spec.name, width)
            if width != known:
                raise other_width(spec.name, known, width)
        if spec.name in self._seen:
            return
        self._seen.add(spec.name)
        where = f"model {spec.name!r}"
        check_declared(where, outputs, 'kind = "probabilities" in its [[model]]')
        check_classes(where, outputs, len(self._samples.classes))
        _check_labels(where, outputs, self._samples.labels)
        if outputs.values.ndim == 2:
            self._widths[spec.name] = outputs.values.shape[1]
            check_alike("predict", self._widths)


def _check_labels(where: str, outputs: Outputs, labels: Array | None) -> None:
    """Raise MisalignedError if a label is beyond the classes of a model."""
    if labels is None or not len(labels) or outputs.values.ndim != 2:
        return
    width = outputs.values.shape[1]
    if labels.max() >= width:
        raise MisalignedError(
            f"{where}: labels go up to {labels.max()}, but outputs have only {width:,} classes, 0 "
            f"to {width - 1}. Do the labels and the model belong to the same task?"
        )


def _unknown_costs(loaded: Sequence[Loaded]) -> list[str]:
    """Return a line for each model whose multiply-adds are unknown, with the reason."""
    reasons = {
        spec.name: getattr(model, "macs_unknown", "")
        for model, spec in loaded
        if not any(cost.unit == "macs" for cost in spec.costs)
    }
    # A model with a cost in another unit needs no such line.
    priced = {spec.name for _, spec in loaded if spec.costs}
    return [
        f"{name}: multiply-adds unknown: {reason}"
        for name, reason in reasons.items()
        if reason and name not in priced
    ]


def _stated(loaded: Sequence[Loaded]) -> list[str]:
    """Return what models state of their inputs, such as where they cut a text."""
    states = {spec.name: getattr(model, "states", "") for model, spec in loaded}
    return [f"{name}: {text}" for name, text in states.items() if text]


def _naming(loaded: Sequence[Loaded], samples: Samples) -> list[str]:
    """Return a line if only a model that was loaded names the classes."""
    names = {spec.name: labels_of(model) for model, spec in loaded}
    first = next((name for name, labels in names.items() if labels), "")
    if samples.classes or not first:
        return []
    return [
        f"outputs are in the order in which {first} names the classes: {listed(names[first])}. "
        "Nothing else names them; write classes = [...] in the pool file"
    ]


def _entry(model: Model, spec: ModelSpec, dataset: Dataset, batch_size: int, dtype: str) -> Entry:
    samples = dataset.samples
    return Entry(
        kind=spec.kind,
        samples=samples.ids_fingerprint,
        classes=samples.classes_fingerprint,
        fingerprint=spec.fingerprint,
        # Of calls for single samples nothing depends on the batch.
        batch_size=1 if getattr(model, "one_by_one", False) else batch_size,
        dtype="float64" if spec.kind == "decisions" else dtype,
        rows=len(samples),
    )


def _failures(samples: Samples, failed: int) -> str:
    """Return a line on the samples that were left out."""
    shown = [f"{each.id} ({each.reason})" for each in samples.broken[-failed:]]
    return (
        f"models failed on {counted(failed, 'sample')}, left out of {samples.split} until the same "
        f"command is run again: {listed(shown)}"
    )


class _Growing:
    """The outputs of one model on a chunk, as far as they are computed."""

    def __init__(self, writer: Writer, chunk: int) -> None:
        self._writer, self._chunk = writer, chunk
        stored = writer.first_rows(chunk)
        # Numbers of rows within the chunk, with their outputs; the last of a row counts.
        self._parts = [] if stored is None else [(np.arange(len(stored)), stored)]
        self._holes = set(writer.holes(chunk))

    def add(self, rows: Array, own: Answered) -> None:
        """Add the outputs on some samples: holes of the first rows, and rows that follow."""
        within = rows - self._chunk * CHUNK_ROWS
        self._parts.append((within, own.outputs))
        self._holes.difference_update(within.tolist())
        self._holes.update(within[[*own.failed]].tolist())

    def write(self) -> None:
        """Write what there is."""
        if not self._parts:
            return
        rows = np.concatenate([within for within, _ in self._parts])
        place = np.empty(int(rows.max()) + 1, np.int64)
        place[rows] = np.arange(len(rows))
        outputs = joined([outputs for _, outputs in self._parts])
        self._writer.write(self._chunk, outputs.rows(place), self._holes)


def _fill(
    specs: Sequence[ModelSpec],
    writers: Sequence[Writer],
    computed: Computed,
    total: int,
    progress: Progress | None,
    checks: _FirstOutputs,
) -> tuple[dict[int, str], dict[str, str]]:
    """Check and write what the models answer, chunk by chunk.

    Returns:
        Why a model failed, by number of the sample; and why a batch was run in parts, by model.
    """
    done = sum(writer.rows_done for writer in writers)
    if progress is not None:
        progress(done, total)
    growing: dict[int, _Growing] = {}
    failed: dict[int, str] = {}
    divided: dict[str, str] = {}
    for batch, answers in computed:
        try:
            for i, own in zip(batch.due, answers, strict=True):
                if i not in growing:
                    growing[i] = _Growing(writers[i], batch.chunk)
                checks.check(specs[i], own.outputs)
                growing[i].add(batch.rows, own)
                if own.error is not None:
                    raise own.error
                if own.divided:
                    divided.setdefault(specs[i].name, own.divided)
                for row, reason in own.failed.items():
                    failed.setdefault(int(batch.rows[row]), reason)
        except BaseException:
            # Nothing is computed twice.
            for each in growing.values():
                each.write()
            raise
        done += len(batch.rows) * len(batch.due)
        if progress is not None:
            progress(done, total)
        if batch.last:
            for each in growing.values():
                each.write()
            growing = {}
    return failed, divided


def _batches(writers: Sequence[Writer], count: int, batch_size: int) -> Iterator[Batch]:
    """Yield the batches of all chunks that some model lacks; none crosses a chunk."""
    for chunk in sorted({chunk for writer in writers for chunk in writer.missing}):
        lacking = [writer.lacking(chunk) for writer in writers]
        found: list[tuple[Array, list[int]]] = []
        start, stop = chunk * CHUNK_ROWS, min((chunk + 1) * CHUNK_ROWS, count)
        for first in range(start, stop, batch_size):
            # Models lack the same rows, unless one failed on some of them before.
            due: dict[bytes, tuple[Array, list[int]]] = {}
            for i, own in enumerate(lacking):
                rows = own[(own >= first) & (own < first + batch_size)]
                due.setdefault(rows.tobytes(), (rows, []))[1].append(i)
            found += [each for each in due.values() if len(each[0])]
        for number, (rows, models) in enumerate(found, 1):
            yield Batch(chunk, rows, tuple(models), number == len(found))


def _named_if_broken(computed: Computed, dataset: Dataset, writers: Sequence[Writer]) -> Computed:
    """Yield the batches; if one cannot be read, raise an error that names all such samples."""
    try:
        yield from computed
    except BrokenSamplesError as error:
        chunks = sorted({chunk for writer in writers for chunk in writer.missing})
        rows = [np.arange(c * CHUNK_ROWS, (c + 1) * CHUNK_ROWS) for c in chunks]
        missing = np.concatenate(rows)
        missing = missing[missing < len(dataset.samples)]
        broken = find_broken(dataset, missing, THREADS)
        raise BrokenSamplesError(broken, len(dataset.samples), error.where) from None
