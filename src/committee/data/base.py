"""The contract that every source of samples keeps, and reading ahead of the models."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Protocol

from committee.errors import DataError
from committee.models.preprocessing import Pictures
from committee.predictions import Array
from committee.samples import Samples


class BrokenSamplesError(DataError):
    """Samples that cannot be read, each with its reason.

    Args:
        broken: For each such sample its id and the reason.
    """

    def __init__(self, broken: Sequence[tuple[str, str]]) -> None:
        self.broken = tuple(broken)
        listed = "; ".join(f"{name} ({reason})" for name, reason in self.broken)
        super().__init__(
            f"{len(self.broken)} of the samples cannot be read: {listed}. "
            "Mend or remove them and run again"
        )


class Dataset(Protocol):
    """Samples that can be read, in a fixed order."""

    @property
    def samples(self) -> Samples:
        """Ids, labels and classes."""

    def read(self, rows: Array) -> Pictures:
        """The pictures of some samples, in the order of ``rows``.

        Raises:
            BrokenSamplesError: If some cannot be read; all of them among ``rows`` are named.
        """


def read_ahead(
    dataset: Dataset, batches: Iterable[Array], threads: int = 2
) -> Iterator[tuple[Array, Pictures]]:
    """Yield the rows and pictures of each batch, in order, while later ones are being read.

    At most ``2 * threads`` batches are held in memory beside the one yielded.
    """
    waiting: deque[tuple[Array, Future[Pictures]]] = deque()
    remaining = iter(batches)
    executor = ThreadPoolExecutor(threads, thread_name_prefix="read-ahead")
    try:
        for rows in islice(remaining, 2 * threads):
            waiting.append((rows, executor.submit(dataset.read, rows)))
        while waiting:
            rows, future = waiting.popleft()
            pictures = future.result()
            for following in islice(remaining, 1):
                waiting.append((following, executor.submit(dataset.read, following)))
            yield rows, pictures
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
