"""Results on their way into one file: parts that are whole at any moment, joined in the end.

While a run goes on, ``OUT.part/`` holds one file a stretch of samples, of the kind of ``OUT``; see
:mod:`committee.store.chunks`. A run that was stopped leaves them, readable; the same run computes
what is missing. When all samples are decided the parts become ``OUT`` and the folder goes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from committee.arrays import Array
from committee.data.base import Dataset
from committee.run.results import Result, encoded_results, join_results, read_results
from committee.store.chunks import Chunks, writing


class Parts:
    """The parts of one run.

    Args:
        out: The file that the results end up in.
        folder: Where they are meanwhile; see :func:`committee.store.chunks.owned`.
        identity: What runs on what, by name: a run goes on only with the same.
        told: What parts of the identity are, in words.

    Raises:
        ChangedError: If another run was begun and not finished there.
        DataError: If it cannot be written.
    """

    def __init__(
        self,
        out: Path,
        folder: Path,
        identity: Mapping[str, str],
        told: Mapping[str, str] | None = None,
    ) -> None:
        self._out, self._folder = out, folder
        self._chunks = Chunks(folder, out.suffix.lower(), identity, told)

    @property
    def done(self) -> int:
        """How many samples have their results."""
        return self._chunks.rows_done

    def missing(self, count: int, step: int) -> list[int]:
        """Return the first samples of the stretches, ``step`` samples each, that are not done."""
        return self._chunks.missing(count, step)

    def check(self, dataset: Dataset, note: Callable[[str], None]) -> None:
        """Forget the parts of samples that have changed, and say which are computed again."""
        self._chunks.check(dataset.samples.ids, dataset.digests, note)

    def write(self, rows: Array, results: Sequence[Result], digests: Array) -> None:
        """Write the results of samples that follow one another, shape (n,), and their digests."""
        self._chunks.write(rows, encoded_results(self._out, results), digests)

    def read(self) -> Iterator[list[Result]]:
        """Yield the results of each part, in order."""
        for path in self._chunks.paths():
            yield read_results(path)

    def finish(self) -> None:
        """Join the parts into the file; what owns the folder removes it."""
        with writing(self._folder):
            join_results(self._chunks.joined, self._chunks.paths())
        self._chunks.finish(self._out)
