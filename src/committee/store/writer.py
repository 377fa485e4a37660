"""Writing one model's outputs chunk by chunk, at any moment resumable."""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from committee.errors import ChangedError, StoreError
from committee.files import write_text
from committee.predictions import Array, Outputs
from committee.store.entry import (
    CHUNK_ROWS,
    SCHEMA,
    Entry,
    dump,
    header,
    read_journal,
    read_manifest,
)


class Writer:
    """Writes one model's outputs chunk by chunk, going on where an earlier process stopped.

    Args:
        folder: Folder of the split.
        model: Name of the model.
        entry: What is being written.

    Raises:
        ChangedError: If something else was begun or written under this name.
    """

    def __init__(self, folder: Path, model: str, entry: Entry) -> None:
        self._model = model
        self._entry = entry
        self._final = folder / f"{model}.npy"
        self._manifest = folder / f"{model}.json"
        self._part = folder / f"{model}.npy.part"
        self._journal = folder / f"{model}.json.part"
        self._width = 0
        self._checksums: list[int] = []
        self._resume()

    @property
    def rows_done(self) -> int:
        """How many rows are safely on disk."""
        return self._rows(self._checksums)

    @property
    def complete(self) -> bool:
        """Whether every row is there."""
        return self.rows_done == self._entry.rows

    def append(self, outputs: Outputs) -> None:
        """Write the next chunk: ``CHUNK_ROWS`` rows, fewer only at the end.

        Raises:
            StoreError: If the disk is full or the chunk has another width than those before.
        """
        block = _as_block(outputs, self._entry.dtype)
        if not self._checksums:
            self._begin(block.shape[1])
        if block.shape[1] != self._width:
            raise StoreError(
                f"{self._part}: outputs had {self._width} columns, now {block.shape[1]}"
            )
        data = block.tobytes()
        try:
            with self._part.open("r+b") as file:
                file.seek(self._offset(len(self._checksums)))
                file.write(data)
                file.truncate()
                _sync(file)
            with self._journal.open("a", encoding="utf-8") as journal:
                journal.write(f"{zlib.crc32(data)}\n")
                _sync(journal)
        except OSError as error:
            raise StoreError(
                f"{self._part}: cannot be written ({error.strerror}). What was written is kept; "
                "make room and run the same command again"
            ) from None
        self._checksums.append(zlib.crc32(data))
        if self.complete:
            self._finish()

    def _begin(self, width: int) -> None:
        self._width = width
        self._part.parent.mkdir(parents=True, exist_ok=True)
        self._part.write_bytes(header(self._entry, width))
        write_text(self._journal, json.dumps({**vars(self._entry), "width": width}) + "\n")

    def _finish(self) -> None:
        self._part.replace(self._final)
        data = {
            "schema": SCHEMA,
            **vars(self._entry),
            "width": self._width,
            "chunk_rows": CHUNK_ROWS,
            "crc32": self._checksums,
        }
        write_text(self._manifest, dump(data))
        self._journal.unlink()

    def _rows(self, checksums: list[int]) -> int:
        return min(len(checksums) * CHUNK_ROWS, self._entry.rows)

    def _offset(self, chunk: int) -> int:
        row_bytes = self._width * np.dtype(self._entry.dtype).itemsize
        return len(header(self._entry, self._width)) + chunk * CHUNK_ROWS * row_bytes

    def _resume(self) -> None:
        if self._manifest.exists():
            known, self._width, promised = read_manifest(self._manifest)
            self._require_same(known)
            self._checksums = self._vouched(self._final, promised)
            if not self.complete:
                self._reopen()
            else:
                # Stopped after the manifest was written and before the journal was removed.
                self._journal.unlink(missing_ok=True)
        elif self._journal.exists():
            if self._final.exists() and not self._part.exists():
                # Stopped after the data got their name and before the manifest was written.
                self._final.replace(self._part)
            known, self._width, promised = read_journal(self._journal)
            self._require_same(known)
            self._checksums = self._vouched(self._part, promised)
            self._rewrite_journal()
            if self.complete:
                self._finish()

    def _reopen(self) -> None:
        """Turn a finished but damaged file into an unfinished one, its good beginning kept."""
        if not self._final.exists():
            self._final.write_bytes(b"")
        self._rewrite_journal()
        self._manifest.unlink()
        self._final.replace(self._part)

    def _rewrite_journal(self) -> None:
        lines = [json.dumps({**vars(self._entry), "width": self._width})]
        lines += [str(checksum) for checksum in self._checksums]
        write_text(self._journal, "\n".join(lines) + "\n")

    def _require_same(self, known: Entry) -> None:
        for key, value in vars(self._entry).items():
            if getattr(known, key) != value:
                raise ChangedError(
                    f"{self._final}: was written with {key} {getattr(known, key)}, asked for now: "
                    f"{value}. Use the same, or delete {self._model}.* in that folder"
                )

    def _vouched(self, path: Path, promised: list[int]) -> list[int]:
        """The checksums of the chunks from the start that are there and right."""
        good: list[int] = []
        if not path.exists():
            return good
        with path.open("rb") as file:
            if file.read(len(header(self._entry, self._width))) != header(self._entry, self._width):
                return good
            for chunk, checksum in enumerate(promised):
                size = self._offset(chunk + 1) - self._offset(chunk)
                rows_left = self._entry.rows - chunk * CHUNK_ROWS
                if rows_left < CHUNK_ROWS:
                    size = size // CHUNK_ROWS * rows_left
                data = file.read(size)
                if len(data) != size or zlib.crc32(data) != checksum:
                    break
                good.append(checksum)
            if len(good) == len(promised) and self._rows(good) == self._entry.rows and file.read(1):
                # Writing the last chunk again cuts off what follows it.
                good.pop()
        return good


def _sync(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def _as_block(outputs: Outputs, dtype: str) -> Array:
    if outputs.confidence is not None:
        return np.stack([outputs.values, outputs.confidence], axis=1).astype(dtype)
    return np.ascontiguousarray(outputs.values, dtype=dtype)
