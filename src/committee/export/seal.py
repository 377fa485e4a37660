"""Seal: a checksum at the end of an ONNX file, by which an altered or truncated one is noticed.

A message of protobuf goes on where another one ends. The seal is such a message, one more entry of
the model's metadata, that every ONNX runtime reads and passes over.
"""

from __future__ import annotations

import hashlib
import json
import mmap
from dataclasses import asdict, dataclass
from pathlib import Path

from committee.errors import CommitteeError, ExportError
from committee.reading import parsed_json, typed

KEY = "committee.seal"
# The seal is shorter.
_TAIL = 1024


@dataclass(frozen=True)
class _Sealed:
    """What a seal says: how many bytes are sealed, their SHA-256, and that of files beside."""

    bytes: int
    sha256: str
    beside: dict[str, str]

    def __post_init__(self) -> None:
        if self.bytes < 1 or any(name != Path(name).name or name == ".." for name in self.beside):
            raise ExportError("seal: names no file beside")


def seal(path: Path, beside: Path | None = None) -> None:
    """Append to an ONNX file the checksum of all that is in it.

    Args:
        path: The file.
        beside: The file that holds its larger tensors, if there is one.
    """
    others = {} if beside is None else {beside.name: checksum(beside)}
    content = _Sealed(path.stat().st_size, checksum(path), others)
    with path.open("ab") as file:
        file.write(_message(content))


def _message(content: _Sealed) -> bytes:
    """Return the seal as protobuf has it: ModelProto.metadata_props (14) of a key and a value."""
    entry = _field(1, KEY.encode()) + _field(2, json.dumps(asdict(content)).encode())
    return _field(14, entry)


def _field(number: int, data: bytes) -> bytes:
    length, size = b"", len(data)
    while size > 0x7F:
        length, size = length + bytes([size & 0x7F | 0x80]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + data


def check_seal(path: Path) -> bool:
    """Whether a file has a seal.

    Raises:
        ExportError: If the file, or the one beside it, is missing or not what was sealed.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - _TAIL))
        tail = file.read()
    _, found, told = tail.rpartition(KEY.encode())
    if not found:
        return False
    again = "Copy it again, or export it"
    try:
        start = told.index(b"{")
        content = typed("seal", parsed_json(told[start:]), _Sealed, whole=True)
        # Nothing may stand between what was sealed and the seal, nor behind it.
        whole = content.bytes + len(_message(content)) == size
        whole = whole and tail.endswith(_message(content))
        whole = whole and checksum(path, content.bytes) == content.sha256
    except (ValueError, CommitteeError):
        whole = False
    if not whole:
        raise ExportError(f"{path}: was altered. {again}")
    for name, expected in content.beside.items():
        other = path.with_name(name)
        if not other.is_file():
            raise ExportError(f"{path}: {name}, which holds its weights, is missing. {again}")
        if other.resolve().parent != path.resolve().parent:
            raise ExportError(f"{path}: {name}, which holds its weights, lies elsewhere. {again}")
        if checksum(other) != expected:
            raise ExportError(f"{other}: was altered. {again}")
    return True


def checksum(path: Path, length: int | None = None) -> str:
    """SHA-256 of a file, or of its first bytes: 64 hexadecimal digits."""
    with path.open("rb") as file:
        if length is None:
            return hashlib.file_digest(file, "sha256").hexdigest()
        with mmap.mmap(file.fileno(), length, access=mmap.ACCESS_READ) as content:
            return hashlib.sha256(content).hexdigest()
