"""Writing one model's outputs chunk by chunk, so that a later process can resume at any moment.

Finished outputs are ``MODEL.npy``, one array, and ``MODEL.json``, the manifest that vouches for it.
Until then the chunks lie in ``MODEL.npy.part/``; see :mod:`committee.store.chunks`. When samples
are added, or a chunk of the finished file is damaged, only what is missing is computed: the new
file is joined from the right chunks of the old file and those of the folder.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from committee.arrays import Array
from committee.errors import ChangedError, NotFiniteError, StoreError
from committee.files import disk_errors, whole_file
from committee.pool.samples import Samples, fingerprint
from committee.rule.outputs import Outputs
from committee.store.chunks import (
    ROW_NAMES,
    Chunks,
    folder_of,
    name_of,
    remove_folder,
    rows_of,
)
from committee.store.entry import (
    CHUNK_ROWS,
    IDENTITY,
    Entry,
    Manifest,
    Part,
    chunk_count,
    header,
    is_intact,
    read_manifest,
    write_manifest,
)


class Writer:
    """Writes one model's outputs chunk by chunk, resuming where an earlier process stopped.

    Args:
        folder: Folder of the split.
        model: Name of the model.
        entry: Describes the outputs that are written.
        samples: The samples of the split.
        replaceable: True if outputs of entirely other samples may be replaced.

    Attributes:
        damaged: Numbers of chunks that were found damaged and must be computed again.

    Raises:
        ChangedError: If something else was begun or written under this name.
        StoreError: If the disk is full.
    """

    def __init__(
        self, folder: Path, model: str, entry: Entry, samples: Samples, replaceable: bool = False
    ) -> None:
        self._entry, self._samples = entry, samples
        self._final, self._manifest = folder / f"{model}.npy", folder / f"{model}.json"
        self._part = folder_of(self._final)
        # Rows that are there, by chunk, in the finished file or in the folder.
        self._stored: dict[int, _Rows] = {}
        self._chunks: _ModelChunks | None = None
        self._width, self._is_finished = 0, False
        damaged: set[int] = set()
        with disk_errors(self._final, StoreError):
            if self._manifest.exists():
                damaged |= self._find_finished(read_manifest(self._manifest), replaceable)
            if self._is_finished:
                if self._part.exists():
                    remove_folder(self._part)
            elif self._part.exists():
                damaged |= self._find_begun(replaceable)
        self.damaged = tuple(sorted(damaged & set(self.missing)))
        if self._stored and not self.missing and not self._is_finished:
            self._finish()

    @property
    def rows_done(self) -> int:
        """Return how many rows need not be computed again."""
        return sum(map(self._usable, range(self._count)))

    @property
    def missing(self) -> list[int]:
        """Return the numbers of the chunks that are not complete, rising."""
        sizes = map(self._rows_in, range(self._count))
        return [chunk for chunk, rows in enumerate(sizes) if self._usable(chunk) < rows]

    def first_rows(self, chunk: int) -> Outputs | None:
        """Return the first rows of an incomplete chunk, or None if there are none."""
        rows = self._usable(chunk)
        if not 0 < rows < self._rows_in(chunk):
            return None
        data = self._stored[chunk].read()
        block = np.frombuffer(data, self._entry.dtype).reshape(-1, self._width)[:rows]
        if self._entry.kind == "decisions":
            return Outputs("decisions", block[:, 0].astype(np.int64), block[:, 1])
        return Outputs(self._entry.kind, block)

    def write(self, chunk: int, outputs: Outputs) -> None:
        """Write one chunk: ``CHUNK_ROWS`` rows, fewer only at the end.

        Raises:
            StoreError: If the disk is full or the chunk has another width than those before.
            NotFiniteError: If outputs do not fit the type of the numbers.
        """
        block = self._block(outputs, chunk)
        self._width = self._width or block.shape[1]
        if block.shape[1] != self._width:
            raise StoreError(
                f"{self._part}: outputs had {self._width} columns, now {block.shape[1]}"
            )
        start = chunk * CHUNK_ROWS
        end = start + len(block)
        name = name_of(start, end)
        with disk_errors(self._part, StoreError):
            chunks = self._opened_chunks()
            chunks.write(name, block.tobytes(), self._content(start, end))
        self._stored[chunk] = _Rows(len(block), partial(chunks.bytes_of, name))
        if not self.missing:
            self._finish()

    def write_all(self, outputs: Outputs) -> None:
        """Write outputs that are there already, unless the same are stored.

        Raises:
            StoreError, NotFiniteError: As :meth:`write`.
        """
        if self._is_finished:
            return
        blocks = (
            self._block(outputs.rows(slice(i * CHUNK_ROWS, (i + 1) * CHUNK_ROWS)), i)
            for i in range(self._count)
        )
        self._write_final(blocks)

    @property
    def _count(self) -> int:
        return chunk_count(self._entry.rows)

    def _rows_in(self, chunk: int) -> int:
        return min(CHUNK_ROWS, self._entry.rows - chunk * CHUNK_ROWS)

    def _usable(self, chunk: int) -> int:
        """Return how many first rows of a chunk can be used: all, or those of whole batches."""
        rows = self._stored[chunk].count if chunk in self._stored else 0
        if rows == self._rows_in(chunk):
            return rows
        return rows - rows % self._entry.batch_size if self._entry.batch_size else 0

    def _content(self, start: int, end: int) -> str:
        return fingerprint(self._samples.ids[start:end])

    def _find_finished(self, manifest: Manifest, replaceable: bool) -> set[int]:
        """Take the right chunks of the finished file; return the damaged ones."""
        old = manifest.entry
        for key in IDENTITY:
            then, now = getattr(old, key), getattr(self._entry, key)
            if then != now:
                raise self._changed(key, then, now)
        ours = {
            chunk: part
            for chunk, part in enumerate(manifest.parts)
            if part.ids == self._content(chunk * CHUNK_ROWS, chunk * CHUNK_ROWS + part.rows)
        }
        if manifest.parts and not ours and not replaceable:
            raise self._changed("samples", old.samples, self._entry.samples)
        for chunk, part in ours.items():
            read = partial(_read_finished, self._final, manifest, chunk)
            with suppress(OSError):
                if zlib.crc32(read()) == part.crc32:
                    self._stored[chunk] = _Rows(part.rows, read)
        self._width = manifest.width
        self._is_finished = (
            old == self._entry and not self.missing and is_intact(self._final, manifest)
        )
        return set(ours) - set(self._stored)

    def _changed(self, key: str, then: object, now: object) -> ChangedError:
        return ChangedError(
            f"{self._final}: was written with another {key}: {then}; now {now}. Use the same, or "
            f"delete {self._final.stem}.* in that folder"
        )

    def _find_begun(self, replaceable: bool) -> set[int]:
        """Take the right chunks of the folder; return the damaged ones."""
        chunks = self._opened_chunks()
        numbers = set()
        for name, chunk in sorted(chunks.done.items()):
            start, end = rows_of(name)
            number, rest = divmod(start, CHUNK_ROWS)
            if not rest and chunk.content == self._content(start, end):
                numbers.add(name)
                read = partial(chunks.bytes_of, name)
                self._stored[number] = _Rows(end - start, read)
                self._width = len(read()) // (end - start) // np.dtype(self._entry.dtype).itemsize
        if chunks.done and not numbers and not replaceable:
            raise ChangedError(
                f"{self._part}: was begun with other samples. Use the same, or delete that folder"
            )
        chunks.forget(chunks.done.keys() - numbers)
        return {rows_of(name)[0] // CHUNK_ROWS for name in chunks.damaged}

    def _opened_chunks(self) -> _ModelChunks:
        """Return the folder of chunks, which is made if it is not there."""
        if self._chunks is None:
            self._part.mkdir(parents=True, exist_ok=True)
            identity = {key: str(getattr(self._entry, key)) for key in IDENTITY}
            self._chunks = _ModelChunks(self._part, ".rows", identity)
        return self._chunks

    def _finish(self) -> None:
        """Join all chunks into the finished file, and remove the folder."""
        dtype = self._entry.dtype
        parts = (self._stored[chunk].read() for chunk in range(self._count))
        self._write_final(np.frombuffer(part, dtype).reshape(-1, self._width) for part in parts)
        if self._chunks is not None:
            self._chunks.close()
            remove_folder(self._part)

    def _write_final(self, blocks: Iterable[Array]) -> None:
        parts = []
        with disk_errors(self._final, StoreError):
            with whole_file(self._final) as file:
                for number, block in enumerate(blocks):
                    if not number:
                        self._width = block.shape[1]
                        file.write(header(self._entry, self._width))
                    data = block.tobytes()
                    file.write(data)
                    start = number * CHUNK_ROWS
                    ids = self._content(start, start + len(block))
                    parts.append(Part(len(block), zlib.crc32(data), ids))
            write_manifest(self._manifest, Manifest(self._entry, self._width, tuple(parts)))

    def _block(self, outputs: Outputs, chunk: int) -> Array:
        """Return outputs as the rows of the file, shape (n, width)."""
        values = outputs.values
        if outputs.confidence is not None:
            values = np.stack([values, outputs.confidence], axis=1)
        with np.errstate(over="ignore"):
            block = np.ascontiguousarray(values, dtype=self._entry.dtype)
        if block.dtype.itemsize >= values.dtype.itemsize:
            return block
        # A class that was infinite before is masked.
        fits = np.isfinite(block).all(axis=1)
        if not fits.all():
            fits = (np.isfinite(block) | ~np.isfinite(values)).all(axis=1)
        if not fits.all():
            row = int(np.argmin(fits)) + chunk * CHUNK_ROWS
            raise NotFiniteError(
                f"{self._final}: outputs of sample {row} do not fit into {self._entry.dtype}. "
                "Use --dtype float32 and another store with --out"
            )
        return block


class _ModelChunks(Chunks):
    """Chunks of one model's outputs, whose content is a fingerprint of their samples' ids."""

    names = ROW_NAMES


@dataclass(frozen=True)
class _Rows:
    """The first rows of a chunk that are stored.

    Args:
        count: How many.
        read: Returns their bytes.
    """

    count: int
    read: Callable[[], bytes]


def _read_finished(path: Path, manifest: Manifest, chunk: int) -> bytes:
    start, size = manifest.place(chunk)
    with path.open("rb") as file:
        file.seek(start)
        return file.read(size)
