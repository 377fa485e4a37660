"""Results on their way into one file: parts that are whole at any moment, joined in the end.

While a run goes on, ``OUT.part/`` holds one file a stretch of samples, of the kind of ``OUT``; see
:mod:`committee.chunks`. A run that was stopped leaves them, readable; the same run computes what
is missing. When all samples are decided the parts become ``OUT`` and the folder goes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from committee.chunks import Chunk, Chunks, writing
from committee.data import Dataset
from committee.data.base import in_order
from committee.predict import THREADS
from committee.predictions import Array
from committee.run.results import Result, encoded_results, join_results, read_results
from committee.text import printable


class Parts:
    """The parts of one run.

    Args:
        out: The file that the results end up in.
        folder: Where they are meanwhile; see :func:`committee.chunks.owned`.
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
        self._chunks = Chunks(folder, out.suffix, identity, told)

    @property
    def done(self) -> int:
        """How many samples have their results."""
        return sum(chunk.end - chunk.start for chunk in self._chunks.done)

    def missing(self, count: int, step: int) -> list[int]:
        """Return the first samples of the stretches, ``step`` samples each, that are not done."""
        done = {chunk.start for chunk in self._chunks.done}
        return [start for start in range(0, count, step) if start not in done]

    def check(self, dataset: Dataset, note: Callable[[str], None]) -> None:
        """Forget the parts of samples that have changed, and say which parts are computed again."""
        for chunk in self._chunks.damaged:
            note(f"{_rows(chunk)} in {self._folder} are damaged and computed again")
        done = list(self._chunks.done)
        for chunk, now in in_order(lambda each: _content_now(dataset, each), done, THREADS):
            if chunk.content != now:
                name = printable(dataset.samples.ids[_first_changed(chunk, now)])
                note(f"{name} has changed since it was run: {_rows(chunk)} are computed again")
                self._chunks.forget(chunk)

    def write(self, rows: Array, results: Sequence[Result], content: Array) -> None:
        """Write the results of some consecutive samples, shape (n,), and digests of these."""
        data = encoded_results(self._out, results)
        self._chunks.write(int(rows[0]), int(rows[-1]) + 1, data, hexadecimal(content))

    def read(self) -> Iterator[list[Result]]:
        """Yield the results of each part, in order."""
        for path in self._chunks.paths():
            yield read_results(path)

    def finish(self) -> None:
        """Join the parts into the file; what owns the folder removes it."""
        with writing(self._folder):
            join_results(self._chunks.joined, self._chunks.paths())
        self._chunks.finish(self._out)


def hexadecimal(content: Array) -> str:
    """Return digests of samples, shape (n,), uint64, as text, 16 digits each."""
    return content.astype(">u8").tobytes().hex()


def _content_now(dataset: Dataset, chunk: Chunk) -> str:
    return hexadecimal(dataset.digests(np.arange(chunk.start, chunk.end)))


def _first_changed(chunk: Chunk, now: str) -> int:
    pairs = range(0, len(now), 16)
    return (
        chunk.start + next(i for i in pairs if chunk.content[i : i + 16] != now[i : i + 16]) // 16
    )


def _rows(chunk: Chunk) -> str:
    return f"results of samples {chunk.start:,} to {chunk.end - 1:,}"
