"""Writing files whole or not at all, in an order that a power cut cannot turn round."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_bytes(path: Path, data: bytes) -> Path:
    """Write through a temporary neighbour, so that no reader ever sees half a file.

    When this returns, the file and its name are on the disk, not only in its cache.

    Raises:
        OSError: If it cannot be written; it names the path itself.
    """
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(path.name + ".tmp")
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
    return path


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """What fails of a temporary file or folder ``*.tmp`` is told of the path it is written for.

    Raises:
        OSError: Of the same class as the one inside.
    """
    try:
        yield
    except OSError as error:
        parts = Path(error.filename or ".tmp").parts
        if not any(part.endswith(".tmp") for part in parts):
            raise
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def write_text(path: Path, text: str) -> Path:
    """Write UTF-8 text whole or not at all.

    What is no UTF-8, as bytes of a file's name may be, is written as an escape that JSON reads.
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
