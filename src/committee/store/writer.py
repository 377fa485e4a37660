"""Writing one model's outputs chunk by chunk, so that a later process can resume at any moment.

Finished outputs are ``MODEL.npy``, one array, and ``MODEL.json``, the manifest that vouches for it.
Until then the chunks lie in ``MODEL.npy.part/``; see :mod:`committee.store.chunks`. They lie in one
file there, each in its place, and that file becomes ``MODEL.npy``. When samples are added, or a
chunk of the finished file is damaged, only what is missing is computed: the new file is joined from
the right chunks of the old file and those of the folder.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from committee.arrays import Array
from committee.errors import ChangedError, NotFiniteError, StoreError
from committee.files import disk_errors, sync_file, sync_folder, whole_file
from committee.pool.samples import Samples, fingerprint
from committee.rule.outputs import Outputs
from committee.store.chunks import (
    ROW_NAMES,
    Chunk,
    Chunks,
    folder_of,
    name_of,
    remove_folder,
    rows_of,
)
from committee.store.entry import (
    CHUNK_ROWS,
    HEADER_BYTES,
    IDENTITY,
    SCHEMA,
    Entry,
    Manifest,
    Part,
    header,
    is_intact,
    read_manifest,
    write_json,
)


class Writer:
    """Writes one model's outputs chunk by chunk, resuming where an earlier process stopped.

    With ``replaceable`` outputs of entirely other samples may be replaced.

    Attributes:
        damaged: Numbers of chunks that were found damaged and must be computed again.
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
    def width(self) -> int:
        """Return how many numbers a row has; 0 if none is there."""
        return self._width

    @property
    def row(self) -> Outputs | None:
        """Return one row that is stored; None if none is."""
        data = next((each.read() for each in self._stored.values()), None)
        if data is None:
            return None
        block = np.frombuffer(data, self._entry.dtype).reshape(-1, self._width)
        return self._outputs(block[:1])

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
        rows = self._first(chunk)
        if not rows or (rows == self._rows_in(chunk) and not self.holes(chunk)):
            return None
        data = self._stored[chunk].read()
        return self._outputs(np.frombuffer(data, self._entry.dtype).reshape(-1, self._width)[:rows])

    def _outputs(self, block: Array) -> Outputs:
        """Return rows of the file, shape (n, width), as outputs."""
        if self._entry.kind == "decisions":
            return Outputs("decisions", block[:, 0].astype(np.int64), block[:, 1])
        if self._entry.kind == "outcomes":
            return Outputs("outcomes", block[:, 0], block[:, 1])
        return Outputs(self._entry.kind, block)

    def holes(self, chunk: int) -> tuple[int, ...]:
        """Return which of the first rows of a chunk are not outputs, because the model failed."""
        if chunk not in self._stored:
            return ()
        return tuple(row for row in self._stored[chunk].holes if row < self._first(chunk))

    def lacking(self, chunk: int) -> Array:
        """Return the rows of a chunk that have no outputs yet, rising, counted from 0 overall."""
        rows = np.arange(self._rows_in(chunk))
        first, holes = self._first(chunk), self.holes(chunk)
        missing: Array = rows[(rows >= first) | np.isin(rows, holes)] + chunk * CHUNK_ROWS
        return missing

    def write(self, chunk: int, outputs: Outputs, holes: Collection[int] = ()) -> None:
        """Write one chunk: ``CHUNK_ROWS`` rows, fewer only at the end or if more will follow.

        What stands in rows of ``holes``, counted within the chunk, means nothing.
        """
        block = self._block(outputs, chunk)
        self._width = self._width or block.shape[1]
        if block.shape[1] != self._width:
            raise other_width(self._final.stem, self._width, block.shape[1])
        start = chunk * CHUNK_ROWS
        end = start + len(block)
        name = name_of(start, end)
        with disk_errors(self._part, StoreError):
            chunks = self._opened_chunks()
            content = _content(self._width, self._ids(start, end), holes)
            chunks.write(name, block.tobytes(), content)
        self._stored[chunk] = self._rows(chunks, name)
        if not self.missing:
            self._finish()

    def write_all(self, outputs: Outputs) -> None:
        """Write outputs that are there already, unless the same are stored."""
        if self._is_finished:
            return
        self._width = outputs.values.shape[1] if outputs.confidence is None else 2
        starts = range(0, self._entry.rows, CHUNK_ROWS)
        self._write_blocks(
            self._block(outputs.rows(slice(start, start + CHUNK_ROWS)), start // CHUNK_ROWS)
            for start in starts
        )

    def keep(self, rows: Array, samples: Samples) -> None:
        """Keep only some rows, which are complete, as the finished file of these samples."""
        blocks = self._blocks_of(rows, range(self._count))
        self._entry = replace(self._entry, rows=len(rows), samples=samples.ids_fingerprint)
        self._samples = samples
        self._write_blocks(blocks)
        if self._part.exists():
            self._opened_chunks().close()
            remove_folder(self._part)

    def _blocks_of(self, rows: Array, chunks: Iterable[int]) -> Iterator[Array]:
        """Yield some stored rows, rising, in blocks of a chunk."""
        waiting = np.empty((0, self._width), self._entry.dtype)
        for chunk in chunks:
            data = np.frombuffer(self._stored[chunk].read(), self._entry.dtype)
            own = rows[(rows >= chunk * CHUNK_ROWS) & (rows < (chunk + 1) * CHUNK_ROWS)]
            some = data.reshape(-1, self._width)[own - chunk * CHUNK_ROWS]
            waiting = np.concatenate([waiting, some])
            while len(waiting) >= CHUNK_ROWS:
                yield waiting[:CHUNK_ROWS]
                waiting = waiting[CHUNK_ROWS:]
        if len(waiting):
            yield waiting

    def _write_blocks(self, blocks: Iterable[Array]) -> None:
        """Write blocks of a chunk, shape (n, width), as the finished file."""
        parts: list[Part] = []

        def data_of() -> Iterator[bytes]:
            start = 0
            for block in blocks:
                data = block.tobytes()
                ids = self._ids(start, start + len(block))
                parts.append(Part(len(block), zlib.crc32(data), ids))
                start += len(block)
                yield data

        with disk_errors(self._final, StoreError):
            self._write_final(data_of())
            self._write_manifest(parts)

    @property
    def _count(self) -> int:
        return -(-self._entry.rows // CHUNK_ROWS)

    def _rows_in(self, chunk: int) -> int:
        return min(CHUNK_ROWS, self._entry.rows - chunk * CHUNK_ROWS)

    def _usable(self, chunk: int) -> int:
        """Return how many rows of a chunk need not be computed again."""
        return self._first(chunk) - len(self.holes(chunk))

    def _first(self, chunk: int) -> int:
        """Return how many first rows of a chunk were computed: all, or those of whole batches."""
        rows = self._stored[chunk].part.rows if chunk in self._stored else 0
        if rows == self._rows_in(chunk):
            return rows
        return rows - rows % self._entry.batch_size if self._entry.batch_size else 0

    def _ids(self, start: int, end: int) -> str:
        return fingerprint(self._samples.ids[start:end])

    def _find_finished(self, manifest: Manifest, replaceable: bool) -> set[int]:
        """Take the right chunks of the finished file; return the damaged ones."""
        old = manifest.entry
        check_identity(self._final, old, self._entry)
        ours = {
            chunk: part
            for chunk, part in enumerate(manifest.parts)
            if part.ids == self._ids(chunk * CHUNK_ROWS, chunk * CHUNK_ROWS + part.rows)
        }
        if manifest.parts and not ours and not replaceable:
            raise _changed(self._final, "samples", old.samples, self._entry.samples)
        for chunk, part in ours.items():
            read = partial(_read_at, self._final, *manifest.place(chunk))
            with suppress(OSError):
                if zlib.crc32(read()) == part.crc32:
                    self._stored[chunk] = _Rows(part, read)
        self._width = manifest.width
        self._is_finished = (
            old == self._entry and not self.missing and is_intact(self._final, manifest)
        )
        return set(ours) - set(self._stored)

    def _find_begun(self, replaceable: bool) -> set[int]:
        """Take the right chunks of the folder; return the damaged ones."""
        chunks = self._opened_chunks()
        numbers = set()
        for name, chunk in sorted(chunks.done.items()):
            start, end = rows_of(name)
            number, rest = divmod(start, CHUNK_ROWS)
            if not rest and chunk.content.split(":")[1:2] == [self._ids(start, end)]:
                numbers.add(name)
                self._width = chunks.width(chunk)
                self._stored[number] = self._rows(chunks, name)
        if chunks.done and not numbers and not replaceable:
            raise ChangedError(
                f"{self._part}: was begun with other samples. Use the same, or delete that folder"
            )
        chunks.forget(chunks.done.keys() - numbers)
        # A chunk that has grown since, and whose holes were filled, is not damaged.
        return {rows_of(name)[0] // CHUNK_ROWS for name in chunks.damaged} - set(self._stored)

    def _rows(self, chunks: _ModelChunks, name: str) -> _Rows:
        start, end = rows_of(name)
        part = Part(end - start, chunks.done[name].crc32, self._ids(start, end))
        holes = _holes(chunks.done[name])
        return _Rows(part, partial(chunks.bytes_of, name), chunks.path(name), holes)

    def _opened_chunks(self) -> _ModelChunks:
        """Return the folder of chunks, which is made if it is not there."""
        if self._chunks is None:
            self._part.mkdir(parents=True, exist_ok=True)
            self._chunks = _ModelChunks(self._final, self._entry)
        return self._chunks

    def _finish(self) -> None:
        """Make the finished file of all chunks, and remove the folder."""
        rows = [self._stored[chunk] for chunk in range(self._count)]
        files = {each.file for each in rows}
        (file,) = files if len(files) == 1 else (None,)
        with disk_errors(self._final, StoreError):
            if file is not None and file.exists():
                self._rename(file)
            else:
                self._write_final(each.read() for each in rows)
            self._write_manifest([each.part for each in rows])
        if self._chunks is not None:
            self._chunks.close()
            remove_folder(self._part)

    def _rename(self, file: Path) -> None:
        """Make the file of all chunks the finished one."""
        size = self._entry.rows * self._width * np.dtype(self._entry.dtype).itemsize
        with file.open("r+b") as opened:
            opened.write(header(self._entry, self._width))
            opened.truncate(HEADER_BYTES + size)
            sync_file(opened)
        file.replace(self._final)
        sync_folder(self._final.parent)

    def _write_final(self, parts: Iterable[bytes]) -> None:
        with whole_file(self._final) as file:
            file.write(header(self._entry, self._width))
            file.writelines(parts)

    def _write_manifest(self, parts: Sequence[Part]) -> None:
        manifest = Manifest(self._entry, self._width, tuple(parts))
        write_json(self._manifest, {"schema": SCHEMA, **asdict(manifest)}, indent=None)

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


def other_width(model: str, then: int, now: int) -> StoreError:
    """Return the error of a model whose rows have another length than before."""
    return StoreError(
        f"model {model!r}: answers with {now} outputs a sample, before it were {then}. What was "
        "computed before is kept. Let it give one output for each class, always"
    )


def check_identity(final: Path, old: Entry, new: Entry) -> None:
    """Refuse to go on with outputs that were made otherwise."""
    for key in IDENTITY:
        then, now = getattr(old, key), getattr(new, key)
        if then != now:
            raise _changed(final, key, then, now)


def _changed(final: Path, key: str, then: object, now: object) -> ChangedError:
    return ChangedError(
        f"{final}: was written with another {key}: {then}; now {now}. Use the same, or delete "
        f"{final.stem}.* in that folder"
    )


class _ModelChunks(Chunks):
    """Chunks of one model's outputs, in one file, each in its place.

    Their content is the width of a row, a fingerprint of their samples' ids, and which rows are
    without outputs, if any are. Between the moment
    at which the file gets its final name and that at which the manifest is written, the chunks are
    found under the final name.
    """

    names = ROW_NAMES

    def __init__(self, final: Path, entry: Entry) -> None:
        self._final, self._dtype = final, np.dtype(entry.dtype)
        identity = {key: str(getattr(entry, key)) for key in IDENTITY}
        super().__init__(folder_of(final), ".npy", identity)

    def path(self, name: str) -> Path:
        return self._folder / "rows.npy"

    def width(self, chunk: Chunk) -> int:
        """Return how many numbers a row of a chunk has."""
        return int(chunk.content.partition(":")[0])

    def _place(self, chunk: Chunk) -> tuple[int, int]:
        start, end = rows_of(chunk.name)
        row_bytes = self.width(chunk) * self._dtype.itemsize
        return HEADER_BYTES + start * row_bytes, (end - start) * row_bytes

    def _load(self, chunk: Chunk) -> bytes:
        path = self.path(chunk.name)
        return _read_at(path if path.exists() else self._final, *self._place(chunk))

    def _store(self, chunk: Chunk, data: bytes) -> None:
        path = self.path(chunk.name)
        is_new = not path.exists()
        with path.open("wb" if is_new else "r+b") as file:
            file.seek(self._place(chunk)[0])
            file.write(data)
            sync_file(file)
        if is_new:
            sync_folder(path.parent)


@dataclass(frozen=True)
class _Rows:
    """The first rows of a chunk that are stored.

    ``file`` is the file of all chunks, if they are in the folder; ``holes`` are rows without
    outputs.
    """

    part: Part
    read: Callable[[], bytes]
    file: Path | None = None
    holes: tuple[int, ...] = ()


def _content(width: int, ids: str, holes: Collection[int]) -> str:
    rows = [",".join(map(str, sorted(holes)))] if holes else []
    return ":".join([str(width), ids, *rows])


def _holes(chunk: Chunk) -> tuple[int, ...]:
    rows = chunk.content.partition(":")[2].partition(":")[2]
    return tuple(map(int, rows.split(","))) if rows else ()


def _read_at(path: Path, start: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(size)
