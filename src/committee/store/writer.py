"""Writing one model's outputs chunk by chunk, at any moment resumable.

The order of what reaches the disk is the point. A chunk is synced before the journal's line that
vouches for it; a name is synced before the file that speaks of it is removed. So whatever is found
after a crash or a power cut either proves itself by its checksum, or is computed again.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from committee.arrays import Array
from committee.errors import ChangedError, NotFiniteError, StoreError
from committee.files import sync_folder, write_text
from committee.rule.outputs import Outputs
from committee.store.entry import (
    CHUNK_ROWS,
    SCHEMA,
    Entry,
    Part,
    head_line,
    header,
    part_line,
    read_journal,
    read_manifest,
    rows_of,
    told,
    write_json,
)

# What is synced at once of outputs that are there already.
_SYNCED_BYTES = 64 << 20

# How many first rows the samples of an earlier entry share with today's; None if it is another set.
Shared = Callable[[Entry], int | None]


class Writer:
    """Writes one model's outputs chunk by chunk, going on where an earlier process stopped.

    Args:
        folder: Folder of the split.
        model: Name of the model.
        entry: What is being written.
        shared: Says of outputs that were begun on other samples how many first rows are the same;
            these are kept, as far as whole batches go.

    Raises:
        ChangedError: If something else was begun or written under this name.
        StoreError: If the disk is full.
    """

    def __init__(
        self, folder: Path, model: str, entry: Entry, shared: Shared = lambda _: None
    ) -> None:
        self._model = model
        self._entry = entry
        self._shared = shared
        self._final = folder / f"{model}.npy"
        self._manifest = folder / f"{model}.json"
        self._part = folder / f"{model}.npy.part"
        self._journal = folder / f"{model}.json.part"
        self._width = 0
        self._parts: dict[int, Part] = {}
        #: Numbers of chunks whose checksum was wrong and that must be computed again.
        self.damaged: tuple[int, ...] = ()
        with told(self._part):
            self._resume()
        self._left = set(self.missing)

    @property
    def rows_done(self) -> int:
        """How many rows are safely on disk."""
        return sum(part.rows for part in self._parts.values())

    @property
    def missing(self) -> list[int]:
        """Numbers of the chunks that are not wholly there, rising."""
        chunks = range(-(-self._entry.rows // CHUNK_ROWS))
        return [chunk for chunk in chunks if not self._is_whole(chunk)]

    def kept(self, chunk: int) -> Outputs | None:
        """The first rows of a missing chunk, if some are there already."""
        part = self._parts.get(chunk)
        if part is None or self._is_whole(chunk):
            return None
        with self._part.open("rb") as file:
            data = self._read(file, chunk, part.rows)
        block = np.frombuffer(data, self._entry.dtype).reshape(part.rows, self._width)
        if self._entry.kind == "decisions":
            return Outputs("decisions", block[:, 0].astype(np.int64), block[:, 1])
        return Outputs(self._entry.kind, block)

    def write(self, chunk: int, outputs: Outputs) -> None:
        """Write one chunk: ``CHUNK_ROWS`` rows, fewer only at the end.

        Raises:
            StoreError: If the disk is full or the chunk has another width than those before.
            NotFiniteError: If outputs do not fit the type of the numbers.
        """
        self._write({chunk: self._block(outputs, chunk)})

    def write_all(self, outputs: Outputs) -> None:
        """Write what is missing of outputs that are there already, synced by bytes, not by chunks.

        Args:
            outputs: All rows of the model.

        Raises:
            StoreError, NotFiniteError: As :meth:`write`.
        """
        blocks: dict[int, Array] = {}
        for chunk in self.missing:
            rows = slice(chunk * CHUNK_ROWS, (chunk + 1) * CHUNK_ROWS)
            blocks[chunk] = self._block(outputs.rows(rows), chunk)
            if len(blocks) * blocks[chunk].nbytes >= _SYNCED_BYTES:
                self._write(blocks)
                blocks = {}
        if blocks:
            self._write(blocks)

    def _write(self, blocks: Mapping[int, Array]) -> None:
        """Write chunks by number: all are synced before the journal vouches for any."""
        parts = {}
        for block in blocks.values():
            if not self._width:
                self._begin(block.shape[1])
            if block.shape[1] != self._width:
                raise StoreError(
                    f"{self._part}: outputs had {self._width} columns, now {block.shape[1]}"
                )
        with told(self._part):
            with self._part.open("r+b") as file:
                for chunk, block in blocks.items():
                    data = block.tobytes()
                    parts[chunk] = Part(len(block), zlib.crc32(data))
                    file.seek(self._offset(chunk))
                    file.write(data)
                _sync(file)
            with self._journal.open("a", encoding="utf-8") as journal:
                journal.writelines(part_line(chunk, part) for chunk, part in parts.items())
                _sync(journal)
            self._parts |= parts
            self._left -= parts.keys()
            if not self._left:
                self._finish()

    def _begin(self, width: int) -> None:
        self._width = width
        with told(self._part):
            self._part.parent.mkdir(parents=True, exist_ok=True)
            with self._part.open("wb") as file:
                file.write(header(self._entry, width))
                _sync(file)
            # Syncs the folder too, and so the names of both.
            self._write_journal()

    def _finish(self) -> None:
        self._part.replace(self._final)
        sync_folder(self._final.parent)
        data = {
            "schema": SCHEMA,
            **vars(self._entry),
            "width": self._width,
            "chunk_rows": CHUNK_ROWS,
            "crc32": [self._parts[chunk].crc32 for chunk in sorted(self._parts)],
        }
        write_json(self._manifest, data)
        self._journal.unlink()

    def _is_whole(self, chunk: int) -> bool:
        part = self._parts.get(chunk)
        return part is not None and part.rows == rows_of(chunk, self._entry.rows)

    def _row_bytes(self) -> int:
        return self._width * np.dtype(self._entry.dtype).itemsize

    def _offset(self, chunk: int) -> int:
        return len(header(self._entry, self._width)) + chunk * CHUNK_ROWS * self._row_bytes()

    def _resume(self) -> None:
        if self._manifest.exists():
            known, self._width, promised = read_manifest(self._manifest)
            self._keep(self._final, known, promised)
            if self.missing or known != self._entry or not self._is_right(self._final):
                self._reopen()
            else:
                # Stopped after the manifest was written and before the journal was removed.
                self._journal.unlink(missing_ok=True)
        elif self._journal.exists():
            if self._final.exists() and not self._part.exists():
                # Stopped after the data got their name and before the manifest was written.
                self._final.replace(self._part)
                sync_folder(self._part.parent)
            known, self._width, promised = read_journal(self._journal)
            self._keep(self._part, known, promised)
            self._write_journal()
            self._mend()

    def _keep(self, path: Path, known: Entry, promised: Mapping[int, Part]) -> None:
        """Remember of what was promised that which is there, right, and of today's samples."""
        shared = self._require_same(known)
        if header(known, self._width)[8:10] != header(self._entry, self._width)[8:10]:
            return  # The head is longer now: every row would stand elsewhere.
        good = self._vouched(path, promised)
        self.damaged = tuple(sorted(set(promised) - set(good)))
        for chunk, part in good.items():
            rows = min(part.rows, shared - chunk * CHUNK_ROWS)
            if rows == part.rows:
                self._parts[chunk] = part
            elif rows > 0:
                self._keep_head(path, chunk, rows)
        # A chunk that was the last may have grown; only its whole batches stay the same batches.
        for chunk, part in tuple(self._parts.items()):
            whole = part.rows - part.rows % max(self._entry.batch_size, 1)
            if not self._is_whole(chunk):
                del self._parts[chunk]
                if whole and self._entry.batch_size:
                    self._keep_head(path, chunk, whole)

    def _keep_head(self, path: Path, chunk: int, rows: int) -> None:
        with path.open("rb") as file:
            self._parts[chunk] = Part(rows, zlib.crc32(self._read(file, chunk, rows)))

    def _reopen(self) -> None:
        """Turn a finished file into an unfinished one, what is good in it kept."""
        if not self._final.exists():
            self._final.write_bytes(b"")
        self._write_journal()
        self._manifest.unlink()
        sync_folder(self._manifest.parent)
        self._final.replace(self._part)
        sync_folder(self._part.parent)
        self._mend()

    def _mend(self) -> None:
        """Give the unfinished file its head and cut off what is too much."""
        head = header(self._entry, self._width)
        size = len(head) + self._entry.rows * self._row_bytes()
        mode = "r+b" if self._part.exists() else "w+b"
        with self._part.open(mode) as file:
            file.write(head)
            if file.seek(0, os.SEEK_END) > size:
                file.truncate(size)
            _sync(file)
        if not self.missing:
            self._finish()

    def _is_right(self, path: Path) -> bool:
        """Whether a finished file has its head and its length."""
        head = header(self._entry, self._width)
        with path.open("rb") as file:
            right = file.read(len(head)) == head
            return right and file.seek(0, os.SEEK_END) == (
                len(head) + self._entry.rows * self._row_bytes()
            )

    def _write_journal(self) -> None:
        lines = [part_line(chunk, part) for chunk, part in sorted(self._parts.items())]
        write_text(self._journal, head_line(self._entry, self._width) + "".join(lines))

    def _require_same(self, known: Entry) -> int:
        """How many first rows of something begun earlier are of today's samples."""
        shared = self._entry.rows
        if (known.samples, known.rows) != (self._entry.samples, self._entry.rows):
            shared = self._shared(known) or 0
        for key, value in vars(self._entry).items():
            if getattr(known, key) != value and not (shared and key in ("samples", "rows")):
                raise ChangedError(
                    f"{self._final}: was written with {key} {getattr(known, key)}, asked for now: "
                    f"{value}. Use the same, or delete {self._model}.* in that folder"
                )
        return shared

    def _vouched(self, path: Path, promised: Mapping[int, Part]) -> dict[int, Part]:
        """Of the promised chunks those that are there and right."""
        if not path.exists():
            return {}
        with path.open("rb") as file:
            return {
                chunk: part
                for chunk, part in sorted(promised.items())
                if self._is_there(self._read(file, chunk, part.rows), part)
            }

    def _is_there(self, data: bytes, part: Part) -> bool:
        return len(data) == part.rows * self._row_bytes() and zlib.crc32(data) == part.crc32

    def _read(self, file: Any, chunk: int, rows: int) -> bytes:
        file.seek(self._offset(chunk))
        data: bytes = file.read(rows * self._row_bytes())
        return data

    def _block(self, outputs: Outputs, chunk: int) -> Array:
        """Outputs as the rows of the file, shape (n, width)."""
        values = outputs.values
        if outputs.confidence is not None:
            values = np.stack([values, outputs.confidence], axis=1)
        with np.errstate(over="ignore"):
            block = np.ascontiguousarray(values, dtype=self._entry.dtype)
        fits = np.isfinite(block).all(axis=1)
        if block.dtype.itemsize < values.dtype.itemsize and not fits.all():
            # What was infinite before is a class that is masked.
            fits = (np.isfinite(block) | ~np.isfinite(values)).all(axis=1)
        if block.dtype.itemsize < values.dtype.itemsize and not fits.all():
            row = int(np.argmin(fits)) + chunk * CHUNK_ROWS
            raise NotFiniteError(
                f"{self._final}: outputs of sample {row} do not fit into {self._entry.dtype}. "
                "Use --dtype float32 and another store with --out"
            )
        return block


def _sync(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())
