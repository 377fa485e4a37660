"""Chunks on their way into one file: a folder that one process at a time fills, and that goes on.

While ``OUT`` is made, ``OUT.part/`` holds

``run.json``
    what runs on what: work goes on only with the same. Without it nothing here is believed.
``journal``
    one line a chunk that is safely on disk: its samples, their contents, a checksum
``START-END.*``
    the chunks, one file each, which can be read
``.lock``
    held by the process that writes

A chunk is synced before the line that vouches for it, and the checksum covers the bytes, the line
and ``run.json``. So a chunk that is found after a crash is this run's, or is computed again.
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
from committee.errors import ChangedError, DataError, UnreadableError
from committee.files import sync_folder, write_bytes, write_text
from committee.reading import MOST_OF_STORES, is_sealed, parsed_json, read_bytes, sealed_json
from committee.text import listed

# From numbers of samples, (n,), to a number for the bytes of each, (n,), uint64.
Digests = Callable[[Array], Array]

MANIFEST, _JOURNAL, _LOCK = "run.json", "journal", ".lock"
# Threads that compare what samples are with what they were.
_THREADS = 2
# Names of files that are made here; whatever else lies in the folder is somebody's own.
_OWN = re.compile(r"(\d{12}-\d{12}\..+|joined\..+|images|(run\.json|journal)(\.tmp)?)")


@dataclass(frozen=True)
class Chunk:
    """Consecutive samples that are done.

    Args:
        start: Number of the first.
        end: Number after the last.
        content: What the bytes of the samples were, 16 hexadecimal digits each.
        crc32: Checksum of the chunk's bytes and of all that is said of it.
    """

    start: int
    end: int
    content: str
    crc32: int


def folder_of(out: Path) -> Path:
    """Return the folder in which a file is made."""
    return out.with_name(f"{out.name}.part")


def is_begun(out: Path) -> bool:
    """Return whether somebody began to make a file and has not finished."""
    return (folder_of(out) / MANIFEST).exists()


@contextmanager
def owned(out: Path) -> Iterator[Path]:
    """Make the folder in which a file is made, and own it; it goes when nothing is begun there.

    Yields:
        The folder.

    Raises:
        DataError: If another process owns it, or it cannot be made.
    """
    folder = folder_of(out)
    try:
        lock = _locked(folder)
    except BlockingIOError:
        raise DataError(
            f"{out}: another process is writing it; wait for it, or name another file"
        ) from None
    except OSError as error:
        raise DataError(
            f"{out}: cannot be written, for {folder.name} beside it, which holds what is done so "
            f"far, cannot be made ({error.strerror}). Name another place"
        ) from None
    try:
        yield folder
    finally:
        try:
            if not is_begun(out):
                _remove(folder)
        finally:
            os.close(lock)


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Let one process at a time write a file or a folder; its parents are made.

    Raises:
        DataError: If another process writes it.
        OSError: If it cannot be written; it names the path itself.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        lock = _locked(folder_of(out))
    except BlockingIOError:
        raise DataError(
            f"{out}: another process is writing it; wait for it, or name another place"
        ) from None
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(out)) from error
    try:
        yield
    finally:
        try:
            if not is_begun(out):
                _remove(folder_of(out))
        finally:
            os.close(lock)


def _remove(folder: Path) -> None:
    """Remove a folder, still under its lock, so that nobody has begun there meanwhile."""
    _clear(folder)
    with suppress(OSError):  # Windows removes no open file, and some may be somebody's own
        (folder / _LOCK).unlink()
        folder.rmdir()


def _clear(folder: Path, but: Collection[Path] = ()) -> None:
    """Remove what was made in a folder, but some files."""
    for path in folder.iterdir():
        if not _OWN.fullmatch(path.name) or path in but:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _locked(folder: Path) -> int:
    """Return the open lock of a folder, which is made if it is not there.

    Raises:
        BlockingIOError: If another process holds it.
    """
    while True:
        folder.mkdir(exist_ok=True)
        with suppress(FileNotFoundError):  # who owned it has just removed it
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


class Chunks:
    """The chunks of one run.

    Args:
        folder: Owned by this process; see :func:`owned`.
        suffix: Ending of the chunks' files.
        identity: What runs on what, by name: a run goes on only with the same.
        told: What parts of the identity are, in words.

    Attributes:
        done: What is there and right, rising.
        damaged: What the journal vouches for and is not there or not right.

    Raises:
        ChangedError: If another run was begun and not finished there.
        DataError: If it cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        suffix: str,
        identity: Mapping[str, str],
        told: Mapping[str, str] | None = None,
    ) -> None:
        self._folder, self._suffix = folder, suffix
        self._key = json.dumps(dict(identity), sort_keys=True).encode()
        manifest = folder / MANIFEST
        known, told = _known(manifest), dict(told or {})
        for key, now in identity.items():
            if known is not None and known.get(key) != now:
                raise ChangedError(
                    f"{folder}: was begun with {_difference(key, known, {**identity, **told})}"
                    ". Finish it with the same, or delete that folder to begin again"
                )
        promised = [] if known is None else self._promised()
        self.done: list[Chunk] = []
        self.damaged: list[Chunk] = []
        for chunk in promised:
            (self.done if self._is_right(chunk) else self.damaged).append(chunk)
        self.done.sort(key=lambda chunk: chunk.start)
        with writing(folder):
            # Only what is right is vouched for from now on; then comes what makes it believed.
            _clear(folder, {manifest, *self.paths()})
            self._write_journal()
            if known is None:
                data = {**identity, "told": told}
                write_bytes(manifest, sealed_json(data, indent=1))

    @property
    def joined(self) -> Path:
        """Where the file of all chunks is made."""
        return self._folder / f"joined{self._suffix}"

    def path(self, chunk: Chunk) -> Path:
        """Return the file of a chunk."""
        return self._folder / f"{chunk.start:012}-{chunk.end:012}{self._suffix}"

    def paths(self) -> list[Path]:
        """Return the files of all chunks that are done, in order."""
        return [self.path(chunk) for chunk in self.done]

    @property
    def rows_done(self) -> int:
        """How many samples are done."""
        return sum(chunk.end - chunk.start for chunk in self.done)

    def missing(self, count: int, step: int) -> list[int]:
        """Return the first samples of the chunks, ``step`` samples each, that are not done."""
        done = {chunk.start for chunk in self.done}
        return [start for start in range(0, count, step) if start not in done]

    def check(self, ids: Sequence[str], digests: Digests, note: Callable[[str], None]) -> None:
        """Forget the chunks whose samples have changed, and say which are computed again.

        Args:
            ids: Names of all samples.
            digests: What the samples are now; called by several threads.
            note: Called with a line of what is computed again.
        """
        if self.damaged:
            names = [self.path(chunk).name for chunk in self.damaged]
            note(f"damaged in {self._folder} and computed again: {listed(names)}")

        def now(chunk: Chunk) -> str:
            return content_of(digests(np.arange(chunk.start, chunk.end)))

        with ThreadPoolExecutor(_THREADS, thread_name_prefix="digests") as executor:
            found = list(zip(self.done, executor.map(now, self.done), strict=True))
        changed = {chunk: content for chunk, content in found if chunk.content != content}
        if not changed:
            return
        names = [ids[row] for each in changed.items() for row in _changed_rows(*each)]
        self.done = [chunk for chunk in self.done if chunk not in changed]
        with writing(self._folder):
            self._write_journal()
        count = sum(chunk.end - chunk.start for chunk in changed)
        note(
            f"samples that have changed since they were run: {listed(names)}. They and what ran "
            f"together with them, {count:,} samples, are computed again"
        )

    def write(self, rows: Array, data: bytes, digests: Array) -> None:
        """Write one chunk; when this returns it is on the disk.

        Args:
            rows: Numbers of its samples, which follow one another.
            data: The bytes of its file.
            digests: What the samples were, shape (n,), uint64.

        Raises:
            DataError: If the disk is full.
        """
        start, end, content = int(rows[0]), int(rows[-1]) + 1, content_of(digests)
        chunk = Chunk(start, end, content, self._checksum(start, end, content, data))
        with writing(self._folder):
            write_bytes(self.path(chunk), data)
            with (self._folder / _JOURNAL).open("a", encoding="ascii") as journal:
                journal.write(_line(chunk))
                journal.flush()
                os.fsync(journal.fileno())
        self.done.append(chunk)
        self.done.sort(key=lambda each: each.start)

    def finish(self, out: Path) -> None:
        """Give the file of all chunks its name; nothing in the folder is believed then.

        Raises:
            DataError: If it cannot be written.
        """
        with writing(self._folder):
            self.joined.replace(out)
            sync_folder(out.parent)
            (self._folder / MANIFEST).unlink()
            sync_folder(self._folder)

    def _promised(self) -> list[Chunk]:
        """Return what the journal vouches for; a line that was torn vouches for nothing."""
        try:
            data = read_bytes(self._folder / _JOURNAL, MOST_OF_STORES)
        except (OSError, UnreadableError):
            return []
        # Only lines that end in a line feed were written whole; of two of a chunk the last counts.
        lines = data.decode("ascii", "replace").split("\n")[:-1]
        chunks = [_chunk(line) for line in lines]
        return list({chunk.start: chunk for chunk in chunks if chunk is not None}.values())

    def _is_right(self, chunk: Chunk) -> bool:
        try:
            data = read_bytes(self.path(chunk), MOST_OF_STORES)
        except (OSError, UnreadableError):
            return False
        return chunk.crc32 == self._checksum(chunk.start, chunk.end, chunk.content, data)

    def _checksum(self, start: int, end: int, content: str, data: bytes) -> int:
        head = self._key + f" {start} {end} {content}\n".encode()
        return zlib.crc32(data, zlib.crc32(head))

    def _write_journal(self) -> None:
        write_text(self._folder / _JOURNAL, "".join(map(_line, self.done)))


def content_of(digests: Array) -> str:
    """Return digests of samples, shape (n,), uint64, as text, 16 hexadecimal digits each."""
    return digests.astype(">u8").tobytes().hex()


def _changed_rows(chunk: Chunk, now: str) -> list[int]:
    """Return the numbers of the samples of a chunk whose digests are others now."""
    places = range(0, len(now), 16)
    return [
        chunk.start + place // 16
        for place in places
        if chunk.content[place : place + 16] != now[place : place + 16]
    ]


def _line(chunk: Chunk) -> str:
    return f"{chunk.start} {chunk.end} {chunk.crc32} {chunk.content}\n"


def _chunk(line: str) -> Chunk | None:
    """Return the chunk of a line, or None if the line is none that was written."""
    try:
        start, end, crc32, content = line.split(" ")
        return Chunk(int(start), int(end), content, int(crc32))
    except ValueError:
        return None


def key_of(*parts: Any) -> str:
    """Return sixteen hexadecimal digits that change when one of some parts does.

    Args:
        parts: What JSON can hold.
    """
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Word the errors of a full or read-only disk.

    Raises:
        DataError: Instead of OSError.
    """
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be written ({error.strerror}). What is done is kept; make room and "
            "run the same command again"
        ) from None


def _known(manifest: Path) -> dict[str, Any] | None:
    """Return what was begun, or None if nothing was."""
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
    """Return in words what was another when a run was begun."""
    words = known.get("told")
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
