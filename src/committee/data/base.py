"""The contract of every source of samples, and work on samples that runs ahead of its reader."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from committee.arrays import Array
from committee.errors import DataError, UnreadableError
from committee.models.inputs import RawSamples
from committee.pool.samples import Samples, fingerprint
from committee.reading import check_regular
from committee.text import LISTED, printable

S = TypeVar("S")
T = TypeVar("T")
_BLOCK = 256


class BrokenSamplesError(DataError):
    """Samples that cannot be read, each with its reason; the message ends after the first five.

    ``total`` is how many samples were tried, and ``where`` the folder that ids are paths in.
    """

    def __init__(
        self, broken: Sequence[tuple[str, str]], total: int = 0, where: str | Path = ""
    ) -> None:
        self.broken = tuple(broken)
        self.where = str(where)
        self._total = total
        count, first = len(self.broken), self.broken[:LISTED]
        names = "; ".join(f"{printable(name)} ({printable(why)})" for name, why in first)
        names += f"; and {count - len(first):,} more" if count > len(first) else ""
        if count == total > 1:
            folder = f" in {printable(str(Path(self.where).absolute()))}" if self.where else ""
            super().__init__(
                f"none of the {total:,} samples can be read{folder}: {names}. "
                "Are these the right data, and do their paths begin in that folder?"
            )
            return
        super().__init__(
            f"{count:,} of the samples cannot be read: {names}. Fix or remove them and run again; "
            "committee predict and verify can skip them: --skip-broken"
        )

    def __reduce__(self) -> tuple[type[BrokenSamplesError], tuple[object, ...]]:
        return type(self), (self.broken, self._total, self.where)


class Dataset(Protocol):
    """Samples in a fixed order, which several threads may read at once."""

    @property
    def samples(self) -> Samples:
        """Ids, labels and classes."""

    def read(self, rows: Array) -> RawSamples:
        """Return the images of some samples, in the order of ``rows``.

        Raises:
            BrokenSamplesError: If some cannot be read; it names all of them among ``rows``.
        """

    def digests(self, rows: Array) -> Array:
        """Return a number for the bytes of each of some samples, shape (n,), uint64.

        It depends on the bytes alone; :func:`digest` makes one. It is 0 for a sample that cannot be
        opened.
        """


def digest(data: bytes | memoryview) -> int:
    """Return the first 64 bits of the SHA-256 of some bytes."""
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "big")


def digest_of(path: Path) -> int:
    """Return the digest of a file; 0 if it cannot be opened, and reading it will say why."""
    try:
        check_regular(path)
        with path.open("rb") as file:
            return int.from_bytes(hashlib.file_digest(file, "sha256").digest()[:8], "big")
    except (OSError, UnreadableError):
        return 0


def stamped(files: Iterable[tuple[int, int]]) -> str:
    """Return a text that tells whether files have changed, without reading them.

    Args:
        files: The size of each and the time of its last change in nanoseconds; see :func:`stat_of`.
    """
    size, newest = 0, 0

    def texts() -> Iterator[str]:
        nonlocal size, newest
        for own_size, own_time in files:
            size, newest = size + own_size, max(newest, own_time)
            yield f"{own_size} {own_time}"

    digits = fingerprint(texts())
    last = f", newest of {datetime.fromtimestamp(newest // 10**9, UTC):%Y-%m-%d %H:%M:%S}"
    return f"{size:,} bytes{last if newest else ''} ({digits})"


def stat_of(path: str | Path) -> tuple[int, int]:
    """Return the size of a file and the time of its last change in nanoseconds; 0 if not there."""
    try:
        found = os.stat(path)  # noqa: PTH116  # of a million files
    except (OSError, ValueError):
        return 0, 0
    return found.st_size, found.st_mtime_ns


def content_of(dataset: Dataset) -> Array:
    """Return the digests of all samples, shape (N,), uint64."""
    some = blocks(np.arange(len(dataset.samples)))
    parts = [part for _, part in map_ahead(dataset.digests, some)]
    return np.concatenate([np.empty(0, np.uint64), *parts])


def map_ahead(
    work: Callable[[S], T], items: Iterable[S], threads: int = 2, ahead: int | None = None
) -> Iterator[tuple[S, T]]:
    """Yield each item with its result, in order, while threads work on later items.

    At most ``ahead`` items, or ``2 * threads``, are begun before they are needed.
    """
    waiting: deque[tuple[S, Future[T]]] = deque()
    remaining = iter(items)
    executor = ThreadPoolExecutor(threads, thread_name_prefix="read-ahead")
    try:
        for item in islice(remaining, ahead or 2 * threads):
            waiting.append((item, executor.submit(work, item)))
        while waiting:
            item, future = waiting.popleft()
            result = future.result()
            for following in islice(remaining, 1):
                waiting.append((following, executor.submit(work, following)))
            yield item, result
            # Free its memory before waiting for the next.
            del result, future
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def readable(dataset: Dataset, rows: Array) -> tuple[Array, RawSamples, Sequence[tuple[str, str]]]:
    """Return the rows that can be read, their images, and the id and reason of each other one."""
    try:
        return rows, dataset.read(rows), ()
    except BrokenSamplesError as error:
        names = {name for name, _ in error.broken}
        good = rows[[dataset.samples.ids[row] not in names for row in rows.tolist()]]
        return good, dataset.read(good) if len(good) else [], error.broken


def find_broken(dataset: Dataset, rows: Array, threads: int = 2) -> list[tuple[str, str]]:
    """Try to read some samples; return the id and reason of each that fails, in order."""
    results = map_ahead(lambda block: _failures(dataset, block), blocks(rows), threads)
    return [each for _, broken in results for each in broken]


def blocks(rows: Array) -> Iterator[Array]:
    """Yield some rows at a time."""
    return (rows[i : i + _BLOCK] for i in range(0, len(rows), _BLOCK))


def _failures(dataset: Dataset, rows: Array) -> Sequence[tuple[str, str]]:
    broken: list[tuple[str, str]] = []
    # One by one: decoded photographs are large.
    for i in range(len(rows)):
        try:
            dataset.read(rows[i : i + 1])
        except BrokenSamplesError as error:
            broken.extend(error.broken)
    return broken


# The split that takes the rest of a single fraction.
REST = "test"


class PartDataset:
    """Some rows of a data set."""

    def __init__(self, whole: Dataset, rows: Array, samples: Samples | None = None) -> None:
        self._whole = whole
        self._rows = rows
        self.samples = whole.samples.taken(rows) if samples is None else samples

    def read(self, rows: Array) -> RawSamples:
        """See :class:`committee.data.base.Dataset`."""
        return self._whole.read(self._rows[rows])

    def digests(self, rows: Array) -> Array:
        """See :class:`committee.data.base.Dataset`."""
        return self._whole.digests(self._rows[rows])

    @property
    def taken_of(self) -> tuple[Dataset, Array]:
        """Return the data set that it is a part of, and which rows of it."""
        return self._whole, self._rows


def whole_of(dataset: Dataset) -> tuple[Dataset, Array]:
    """Return the data set that a part of a part was taken of at first, and the rows of it."""
    rows = np.arange(len(dataset.samples))
    while isinstance(dataset, PartDataset):
        dataset, own = dataset.taken_of
        rows = own[rows]
    return dataset, rows


def part(dataset: Dataset, rows: str) -> Dataset:
    """Return the samples that ``START:STOP:STEP`` names; see :func:`named_rows`."""
    return PartDataset(dataset, named_rows(rows, len(dataset.samples)))


def named_rows(rows: str, count: int) -> Array:
    """Return the indices that ``START:STOP:STEP`` names of ``count`` samples, as in Python."""
    try:
        numbers = [int(number) if number else None for number in rows.split(":")]
        chosen = np.arange(count)[slice(*numbers)]
    except (ValueError, TypeError):
        raise DataError(f"rows {rows!r} must be START:STOP or START:STOP:STEP") from None
    if ":" not in rows or not len(chosen):
        raise DataError(f"rows {rows!r} name no sample of {count}; write START:STOP:STEP")
    return chosen


def share(dataset: Dataset, fraction: str, seed: int) -> Dataset:
    """Return a share of every class, chosen by seed.

    Args:
        dataset: The samples.
        fraction: ``START:STOP``, both in [0, 1]: shares that do not overlap have no sample in
            common. ``F`` alone is ``0:F``, and ``F:1`` for the split named ``test``.
        seed: Chooses which samples; beside it only ids and labels matter.
    """
    rows, rule = share_rows(dataset.samples, fraction, seed)
    return PartDataset(dataset, rows, replace(dataset.samples.taken(rows), rule=rule))


def share_rows(samples: Samples, fraction: str, seed: int) -> tuple[Array, str]:
    """Return the rows that :func:`share` takes, rising, and the rule as text."""
    start, stop = _bounds(fraction, samples.split)
    places = _places(samples, seed)
    rows = np.flatnonzero((start <= places) & (places < stop))
    if not len(rows):
        raise DataError(f"fraction {fraction} takes no sample of {len(places)}; give a larger one")
    return rows, f"fraction {start:g}:{stop:g}, seed {seed}, of {len(places)} samples"


def without(dataset: Dataset, ids: frozenset[str], rule: str) -> Dataset:
    """Return the samples with other ids than these; ``rule`` says which these are."""
    keep = [row for row, name in enumerate(dataset.samples.ids) if name not in ids]
    if not keep:
        raise DataError(f"split {dataset.samples.split!r}: the other splits leave no sample for it")
    rows = np.array(keep)
    return PartDataset(dataset, rows, replace(dataset.samples.taken(rows), rule=rule))


def _bounds(fraction: str, split: str) -> tuple[float, float]:
    start, colon, stop = fraction.partition(":")
    try:
        if colon:
            bounds = float(start or 0), float(stop or 1)
        else:
            bounds = (float(fraction), 1.0) if split == REST else (0.0, float(fraction))
    except ValueError:
        bounds = (1.0, 0.0)
    if not 0 <= bounds[0] < bounds[1] <= 1:
        raise DataError(
            f"fraction {fraction!r} must be F or START:STOP between 0 and 1, for example 0.5; "
            f"the split {REST!r} takes the rest of F"
        )
    return bounds


def _places(samples: Samples, seed: int) -> Array:
    """Return a place in [0, 1) for each sample, shape (N,), evenly spread within each class.

    The k-th sample of a class of n, in the order of a hash, has the place ``(k + v) / n``; v
    differs between classes and is evenly spread itself. So a share F takes ``F * n`` samples of a
    class, rounded up or down, and a sample from about a share F of the classes that have only one.
    """
    labels = np.zeros(len(samples), np.int64) if samples.labels is None else samples.labels
    classes = np.unique(labels).tolist()
    by_hash = sorted(classes, key=lambda label: _hash(f"{seed} class {label}"))
    shift = {label: (i + 0.5) / len(classes) for i, label in enumerate(by_hash)}
    hashes = [_hash(f"{seed} sample {name}") for name in samples.ids]
    # By class, and by hash within it; ids differ, so hashes do.
    order = np.array(sorted(range(len(labels)), key=lambda i: (labels[i], hashes[i])), np.int64)
    starts = np.flatnonzero(np.diff(labels[order])) + 1
    places = np.empty(len(labels))
    for label, rows in zip(classes, np.split(order, starts), strict=True):
        places[rows] = (np.arange(len(rows)) + shift[label]) / len(rows)
    return places


def _hash(text: str) -> bytes:
    # Not a generator of random numbers: their streams change between versions of libraries.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
