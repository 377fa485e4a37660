"""Writing files whole or not at all, in an order that a power cut cannot change."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from uuid import uuid4

from committee.errors import CommitteeError


@contextmanager
def whole_file(path: Path, alone: bool = True) -> Iterator[IO[bytes]]:
    """Open a temporary neighbour of a file for writing; it takes the file's name at the end.

    So no reader ever sees half a file. At the end the file and its name are on the disk, not only
    in its cache; after an error nothing is left.

    Args:
        path: The file.
        alone: False if others may write it at the same time; then a process that is killed leaves
            its neighbour, which no later one writes over.
    """
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        own = "" if alone else f".{uuid4().hex[:8]}"
        temporary = path.with_name(f"{path.name}{own}.tmp")
        try:
            with temporary.open("wb") as file:
                yield file
                sync_file(file)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def write_bytes(path: Path, data: bytes, alone: bool = True) -> Path:
    """Write a file whole or not at all; see :func:`whole_file`."""
    with whole_file(path, alone) as file:
        file.write(data)
    return path


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Re-raise an OSError about ``x.tmp`` as one about the path that the user named."""
    try:
        yield
    except OSError as error:
        parts = Path(error.filename or ".tmp").parts
        if not any(part.endswith(".tmp") for part in parts):
            raise
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


@contextmanager
def disk_errors(path: Path, kind: type[CommitteeError]) -> Iterator[None]:
    """Re-raise an OSError, as of a full or read-only disk, as one of ours that names a path."""
    try:
        yield
    except OSError as error:
        raise kind(
            f"{path}: cannot be written ({error.strerror}). What is done is kept; make room and "
            "run the same command again"
        ) from None


def write_text(path: Path, text: str) -> Path:
    """Write UTF-8 text whole or not at all.

    Characters that UTF-8 lacks, as bytes of a file's name may be, become escapes that JSON reads.
    """
    return write_bytes(path, text.encode("utf-8", "backslashreplace"))


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk: what was renamed, made or removed there."""
    if os.name == "nt":  # Windows syncs no folders
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(file: IO[bytes]) -> None:
    """Bring what was written into an open file to the disk."""
    file.flush()
    os.fsync(file.fileno())
