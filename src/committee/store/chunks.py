"""A folder of finished chunks that one process at a time fills, and that a later process resumes.

``predict``, ``run`` and segmentation all keep unfinished work this way:

``run.json``
    The identity of the work: what runs on what. Without it nothing in the folder is believed.
``journal``
    One line for each chunk that is safely on disk: its name, a checksum, and its content.
``NAME.*``
    The chunks, one file each.
``.lock``
    Held by the process that writes.

A chunk is synced before the journal line that vouches for it. The checksum covers the bytes, the
line and the identity. So after a crash or a power cut every chunk either proves itself or is
computed again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from committee.arrays import Array
from committee.errors import (
    ChangedError,
    CommitteeError,
    DataError,
    StoreError,
    UnreadableError,
)
from committee.files import disk_errors, sync_file, sync_folder, write_bytes, write_text
from committee.reading import MOST_OF_STORES, is_sealed, parsed_json, read_bytes, sealed_json
from committee.text import listed

ROW_NAMES = re.compile(r"\d{12}-\d{12}")
# Maps numbers of samples, (n,), to a digest of the bytes of each, (n,), uint64.
Digests = Callable[[Array], Array]

MANIFEST, _JOURNAL, _LOCK = "run.json", "journal", ".lock"
# Threads that compute digests of samples.
_THREADS = 2
# Names of files that are made here; other files in the folder belong to somebody else.
_OWN = re.compile(
    r"(\d{12}-\d{12}\..+|[0-9a-f]{16}\.npz|rows\.npy|images|(run\.json|journal)(\.tmp)?)"
)


@dataclass(frozen=True)
class Chunk:
    """One finished chunk.

    ``name`` and ``content``, which describes its samples, have no spaces; ``seal`` is a checksum of
    all else and of the identity of the work.
    """

    name: str
    content: str
    crc32: int
    seal: int


def folder_of(out: Path) -> Path:
    """Return the folder in which a file is made."""
    return out.with_name(f"{out.name}.part")


def is_begun(out: Path) -> bool:
    """Return True if work on a file has begun and is not finished."""
    return (folder_of(out) / MANIFEST).exists()


@contextmanager
def exclusive(out: Path, *, make_parents: bool = False) -> Iterator[Path]:
    """Lock the folder in which ``out`` is made; it goes afterwards unless work has begun there.

    Yields:
        The folder.
    """
    folder = folder_of(out)
    if make_parents:
        out.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock = _locked(folder)
    except BlockingIOError:
        raise DataError(
            f"{out}: another process is writing it; wait for it, or name another place"
        ) from None
    except OSError as error:
        raise DataError(
            f"{out}: cannot be written, because {folder.name} beside it, which holds what is done "
            f"so far, cannot be made ({error.strerror}). Name another place"
        ) from None
    try:
        yield folder
    finally:
        try:
            if not is_begun(out):
                remove_folder(folder)
        finally:
            os.close(lock)


def remove_folder(folder: Path) -> None:
    """Remove a folder of chunks; files that were not made here stay, and so does the folder then.

    Its lock is still held meanwhile, so that no other process begins there.
    """
    _clear(folder)
    with suppress(OSError):  # Windows removes no open file, and some may be somebody's own
        (folder / _LOCK).unlink(missing_ok=True)
        folder.rmdir()


def _clear(folder: Path, but: Collection[Path] = ()) -> None:
    """Remove all files that were made in a folder, except some."""
    for path in folder.iterdir():
        if not _OWN.fullmatch(path.name) or path in but:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _locked(folder: Path) -> int:
    """Return the open lock of a folder, which is made if it is not there."""
    while True:
        folder.mkdir(exist_ok=True)
        with suppress(FileNotFoundError):  # its owner has just removed it
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT)
            try:
                _lock(lock)
                if os.path.samestat(os.fstat(lock), (folder / _LOCK).stat()):
                    return lock
            except BaseException:
                os.close(lock)
                raise
            os.close(lock)


def _lock(descriptor: int) -> None:
    """Lock an open file until it is closed; refuse at once if another process has."""
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except OSError:
            raise BlockingIOError from None
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


class ChunkFiles:
    """The chunks in a folder, for reading; each is checked when it is read.

    ``identity`` says what ran on what, by name; chunks of anything else count as damaged.
    """

    # What chunks are named; a journal line of another name is ignored.
    names = re.compile(r"[0-9a-f]{16}")

    def __init__(self, folder: Path, suffix: str, identity: Mapping[str, str]) -> None:
        self._folder, self._suffix = folder, suffix
        self._key = json.dumps(dict(identity), sort_keys=True).encode()

    def path(self, name: str) -> Path:
        """Return the file of a chunk."""
        return self._folder / f"{name}{self._suffix}"

    def promised(self) -> dict[str, Chunk]:
        """Return the chunks that the journal vouches for, by name; torn lines are left out."""
        try:
            data = read_bytes(self._folder / _JOURNAL, MOST_OF_STORES)
        except (OSError, UnreadableError):
            return {}
        # Only lines that end in a line feed were written whole; the last line of a chunk counts.
        lines = data.decode("ascii", "replace").split("\n")[:-1]
        chunks = [chunk for chunk in map(_chunk, lines) if chunk is not None]
        return {chunk.name: chunk for chunk in chunks if self.names.fullmatch(chunk.name)}

    def read(self, chunk: Chunk) -> bytes | None:
        """Return the bytes of a chunk, or None if they are missing or wrong."""
        try:
            data = self._load(chunk)
        except (OSError, UnreadableError):
            return None
        right = chunk == self._sealed(chunk.name, chunk.content, data)
        return data if right else None

    def _load(self, chunk: Chunk) -> bytes:
        return read_bytes(self.path(chunk.name), MOST_OF_STORES)

    def _sealed(self, name: str, content: str, data: bytes) -> Chunk:
        crc32 = zlib.crc32(data)
        line = f" {name} {content} {crc32}\n".encode()
        return Chunk(name, content, crc32, zlib.crc32(self._key + line))


class Chunks(ChunkFiles):
    """The chunks of one piece of work.

    Work is resumed only with the same ``identity``; ``words`` describe parts of it for people.

    Attributes:
        done: Chunks that are there and right, by name.
        damaged: Names of chunks that the journal vouches for and that are missing or wrong.
    """

    error: type[CommitteeError] = StoreError

    def __init__(
        self,
        folder: Path,
        suffix: str,
        identity: Mapping[str, str],
        words: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(folder, suffix, identity)
        manifest = folder / MANIFEST
        known, words = _known(manifest), dict(words or {})
        for key, now in identity.items():
            if known is not None and known.get(key) != now:
                raise ChangedError(
                    f"{folder}: was begun with {_difference(key, known, {**identity, **words})}"
                    ". Finish it with the same, or delete that folder to begin again"
                )
        promised = {} if known is None else self.promised()
        self.done = {n: chunk for n, chunk in promised.items() if self.read(chunk) is not None}
        self.damaged = [name for name in promised if name not in self.done]
        with disk_errors(folder, self.error):
            # From now on the journal vouches for what is right only; the manifest comes last.
            _clear(folder, {manifest, *map(self.path, self.done)})
            self.write_journal()
            sync_folder(folder.parent)
            if known is None:
                write_bytes(manifest, sealed_json({**identity, "words": words}, indent=1))

    def write(self, name: str, data: bytes, content: str) -> None:
        """Write one chunk; when this returns it is on the disk."""
        chunk = self._sealed(name, content, data)
        with disk_errors(self._folder, self.error):
            self._store(chunk, data)
            _write_synced(self._folder / _JOURNAL, _line(chunk).encode(), "ab")
        self.done[name] = chunk

    def _store(self, chunk: Chunk, data: bytes) -> None:
        """Write the bytes of a chunk; they and their place are on the disk when this returns."""
        _write_synced(self.path(chunk.name), data)
        sync_folder(self._folder)

    def bytes_of(self, name: str) -> bytes:
        """Return the bytes of a chunk that is done."""
        data = self.read(self.done[name])
        if data is None:
            raise self.error(f"{self.path(name)}: damaged meanwhile; run the same command again")
        return data

    def forget(self, names: Collection[str]) -> None:
        """Vouch for some chunks no longer, and remove them."""
        if names:
            self.done = {n: chunk for n, chunk in self.done.items() if n not in names}
            with disk_errors(self._folder, self.error):
                self.write_journal()
                for path in {*map(self.path, names)} - {*map(self.path, self.done)}:
                    path.unlink(missing_ok=True)

    def write_journal(self) -> None:
        """Write the journal anew, its lines in the order of the chunks' names."""
        lines = (_line(self.done[name]) for name in sorted(self.done))
        write_text(self._folder / _JOURNAL, "".join(lines))

    def close(self) -> None:
        """End the work: nothing in the folder is believed any more."""
        with disk_errors(self._folder, self.error):
            (self._folder / MANIFEST).unlink()
            sync_folder(self._folder)


def _write_synced(path: Path, data: bytes, mode: str = "wb") -> None:
    """Write or append bytes in place, and sync the file; its name is not synced."""
    with path.open(mode) as file:
        file.write(data)
        sync_file(file)


class RowChunks(Chunks):
    """Chunks of consecutive samples, whose content is a digest of each sample's bytes."""

    names = ROW_NAMES
    error = DataError

    def missing(self, count: int, step: int) -> list[int]:
        """Return the first samples of the chunks, ``step`` samples each, that are not done."""
        starts = {rows_of(name)[0] for name in self.done}
        return [start for start in range(0, count, step) if start not in starts]

    @property
    def rows_done(self) -> int:
        """Return how many samples are done."""
        return sum(end - start for start, end in map(rows_of, self.done))

    def paths(self) -> list[Path]:
        """Return the files of all chunks that are done, in the order of their samples."""
        return [self.path(name) for name in sorted(self.done)]

    def write_rows(self, rows: Array, data: bytes, digests: Array) -> None:
        """Write the chunk of consecutive samples, numbers (n,), with their digests, (n,)."""
        name = name_of(int(rows[0]), int(rows[-1]) + 1)
        self.write(name, data, _content_of(digests))

    def check(self, ids: Sequence[str], digests: Digests, note: Callable[[str], None]) -> None:
        """Forget the chunks whose samples have changed, and say which are computed again.

        Several threads call ``digests``, which computes what the samples are now.
        """
        if self.damaged:
            names = [self.path(name).name for name in self.damaged]
            note(f"damaged in {self._folder} and computed again: {listed(names)}")

        def now(chunk: Chunk) -> str:
            return _content_of(digests(np.arange(*rows_of(chunk.name))))

        chunks = [self.done[name] for name in sorted(self.done)]
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="digests") as executor:
            pairs = list(zip(chunks, executor.map(now, chunks), strict=True))
        changed = {chunk: content for chunk, content in pairs if chunk.content != content}
        if not changed:
            return
        names = [ids[row] for each in changed.items() for row in _changed_rows(*each)]
        before = self.rows_done
        self.forget({chunk.name for chunk in changed})
        note(
            f"samples that have changed since they were run: {listed(names)}. They and what ran "
            f"together with them, {before - self.rows_done:,} samples, are computed again"
        )


def name_of(start: int, end: int) -> str:
    """Return the name of the chunk of some consecutive samples."""
    return f"{start:012}-{end:012}"


def rows_of(name: str) -> tuple[int, int]:
    """Return the number of the first sample of a chunk, and the number after the last."""
    start, end = name.split("-")
    return int(start), int(end)


def _content_of(digests: Array) -> str:
    """Return digests of samples, shape (n,), uint64, as text, 16 hexadecimal digits each."""
    return digests.astype(">u8").tobytes().hex()


def _changed_rows(chunk: Chunk, now: str) -> list[int]:
    """Return the numbers of the samples of a chunk whose digests differ now."""
    then, start = chunk.content, rows_of(chunk.name)[0]
    return [start + i // 16 for i in range(0, len(now), 16) if then[i : i + 16] != now[i : i + 16]]


def _line(chunk: Chunk) -> str:
    return f"{chunk.name} {chunk.crc32} {chunk.seal} {chunk.content}\n"


def _chunk(line: str) -> Chunk | None:
    """Return the chunk of a journal line, or None if the line was not written here."""
    try:
        name, crc32, seal, content = line.split(" ")
        return Chunk(name, content, int(crc32), int(seal))
    except ValueError:
        return None


def key_of(*parts: Any) -> str:
    """Return sixteen hexadecimal digits that change when one of some JSON values does."""
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _known(manifest: Path) -> dict[str, Any] | None:
    """Return the identity of the work that was begun, or None if none was."""
    try:
        content = read_bytes(manifest)
        data = parsed_json(content) if is_sealed(content) else None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnreadableError):
        data = None
    if not isinstance(data, dict):
        raise ChangedError(f"{manifest}: altered; delete {manifest.parent} and run again")
    return data


def _difference(key: str, known: Mapping[str, Any], now: Mapping[str, str]) -> str:
    """Describe how the identity of the work that was begun differs."""
    words = known.get("words")
    before = words.get(key) if isinstance(words, dict) else None
    other = "other" if key.endswith("s") else "another"
    if before == now[key] and key == "cascade":
        return (
            f"another cascade of the same stages, {before}: its thresholds, models, classes, "
            "calibrations or origin differ"
        )
    if before == now[key]:
        return f"other {key}: as many, but their ids, labels or order differ"
    return f"{other} {key}: {before or known.get(key)}; now {now[key]}"
