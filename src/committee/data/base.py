"""The contract that every source of samples keeps, and reading ahead of the models."""

from __future__ import annotations

import hashlib
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from committee.arrays import Array
from committee.errors import DataError
from committee.models.inputs import RawSamples
from committee.pool.samples import Samples
from committee.text import LISTED, printable

S = TypeVar("S")
T = TypeVar("T")
_AT_ONCE = 256


class BrokenSamplesError(DataError):
    """Samples that cannot be read, each with its reason; the message ends after the first five.

    Args:
        broken: For each such sample its id and the reason.
        total: How many samples were tried, if that is known.
        where: The folder that ids are paths in, if they are.
    """

    def __init__(
        self, broken: Sequence[tuple[str, str]], total: int = 0, where: str | Path = ""
    ) -> None:
        self.broken = tuple(broken)
        self.where = str(where)
        count = len(self.broken)
        first = self.broken[:LISTED]
        told = "; ".join(f"{printable(name)} ({printable(why)})" for name, why in first)
        more = f"; and {count - len(first):,} more" if count > len(first) else ""
        if count == total > 1:
            looked = f" in {printable(str(Path(self.where).absolute()))}" if self.where else ""
            super().__init__(
                f"none of the {total:,} samples can be read{looked}: {told}{more}. "
                "Are these the right data, and do their paths begin in that folder?"
            )
            return
        super().__init__(
            f"{count:,} of the samples cannot be read: {told}{more}. "
            "Fix or remove them and run again; committee predict and verify can leave them out: "
            "--skip-broken"
        )


class Dataset(Protocol):
    """Samples that can be read, in a fixed order, by several threads at once."""

    @property
    def samples(self) -> Samples:
        """Ids, labels and classes."""

    def read(self, rows: Array) -> RawSamples:
        """The images of some samples, in the order of ``rows``.

        Raises:
            BrokenSamplesError: If some cannot be read; all of them among ``rows`` are named.
        """

    def digests(self, rows: Array) -> Array:
        """A number for the bytes of each of some samples, shape (n,), uint64.

        It changes when the image does and depends on nothing else; :func:`digest` makes one.
        A sample that cannot be opened has 0.
        """


def digest(data: bytes | memoryview) -> int:
    """The first 64 bits of the SHA-256 of some bytes."""
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "big")


def check_regular(path: Path) -> None:
    """Refuse what is no file: a pipe would be waited for, a device be read for ever.

    Raises:
        DataError: If it is none.
        OSError, ValueError: If it is not there.
    """
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise DataError("no file but a pipe, a device or a socket")


def digest_of(path: Path) -> int:
    """Return the digest of a file, read in blocks; 0 if it cannot be opened."""
    try:
        check_regular(path)
        with path.open("rb") as file:
            return int.from_bytes(hashlib.file_digest(file, "sha256").digest()[:8], "big")
    except (OSError, ValueError, DataError):
        # Reading it will say why.
        return 0


def content_of(dataset: Dataset, threads: int = 2) -> Array:
    """The digests of all samples, shape (N,), uint64."""
    count = len(dataset.samples)
    blocks = (np.arange(i, min(i + _AT_ONCE, count)) for i in range(0, count, _AT_ONCE))
    parts = [part for _, part in in_order(dataset.digests, blocks, threads)]
    return np.concatenate([np.empty(0, np.uint64), *parts])


def in_order(
    work: Callable[[S], T], items: Iterable[S], threads: int = 2, ahead: int | None = None
) -> Iterator[tuple[S, T]]:
    """Yield each item and what work makes of it, in order, while threads work at later ones.

    Args:
        work: Called with an item.
        items: For example the rows of each batch.
        threads: How many items are worked at together.
        ahead: How many items are begun beside the one yielded; ``2 * threads`` if left out.
    """
    waiting: deque[tuple[S, Future[T]]] = deque()
    remaining = iter(items)
    executor = ThreadPoolExecutor(threads, thread_name_prefix="read-ahead")
    try:
        for item in islice(remaining, ahead or 2 * threads):
            waiting.append((item, executor.submit(work, item)))
        while waiting:
            item, future = waiting.popleft()
            made = future.result()
            for following in islice(remaining, 1):
                waiting.append((following, executor.submit(work, following)))
            yield item, made
            # Not held while the next is waited for.
            del made, future
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def read_ahead(
    dataset: Dataset, batches: Iterable[Array], threads: int = 2
) -> Iterator[tuple[Array, RawSamples]]:
    """Yield the rows and images of each batch, in order, while later ones are being read.

    At most ``2 * threads`` batches are held in memory beside the one yielded.

    Args:
        dataset: The samples.
        batches: Rows of each batch.
        threads: How many batches are read together.

    Raises:
        BrokenSamplesError: If samples of a batch cannot be read.
    """
    return in_order(dataset.read, batches, threads)


def readable(dataset: Dataset, rows: Array) -> tuple[Array, RawSamples, Sequence[tuple[str, str]]]:
    """Those of some rows that can be read, their images, and id and reason of the others."""
    try:
        return rows, dataset.read(rows), ()
    except BrokenSamplesError as error:
        names = {name for name, _ in error.broken}
        good = rows[[dataset.samples.ids[row] not in names for row in rows.tolist()]]
        return good, dataset.read(good) if len(good) else [], error.broken


def find_broken(dataset: Dataset, rows: Array, threads: int = 2) -> list[tuple[str, str]]:
    """Try to read some samples; id and reason of each that fails, in order."""
    blocks = (rows[i : i + _AT_ONCE] for i in range(0, len(rows), _AT_ONCE))
    found = in_order(lambda some: _failures(dataset, some), blocks, threads)
    return [each for _, broken in found for each in broken]


def _failures(dataset: Dataset, rows: Array) -> Sequence[tuple[str, str]]:
    broken: list[tuple[str, str]] = []
    # One by one, for photographs are large when they are decoded.
    for i in range(len(rows)):
        try:
            dataset.read(rows[i : i + 1])
        except BrokenSamplesError as error:
            broken.extend(error.broken)
    return broken
