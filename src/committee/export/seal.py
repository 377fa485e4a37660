"""Seal: a checksum at the end of an ONNX file, by which an altered or truncated one is noticed.

A message of protobuf goes on where another one ends. The seal is such a message, one more entry of
the model's metadata, that every ONNX runtime reads and passes over.
"""

from __future__ import annotations

import hashlib
import json
import mmap
from pathlib import Path

from committee.errors import ExportError

KEY = "committee.seal"
# The seal is shorter.
_TAIL = 1024


def seal(path: Path, beside: Path | None = None) -> None:
    """Append to an ONNX file the checksum of all that is in it.

    Args:
        path: The file.
        beside: The file that holds its larger tensors, if there is one.
    """
    from onnx import ModelProto, helper

    content = {
        "bytes": path.stat().st_size,
        "sha256": checksum(path),
        "beside": {} if beside is None else {beside.name: checksum(beside)},
    }
    tail = ModelProto()
    helper.set_model_props(tail, {KEY: json.dumps(content)})
    with path.open("ab") as file:
        file.write(tail.SerializeToString())


def check_seal(path: Path) -> bool:
    """Whether a file has a seal.

    Raises:
        ExportError: If the file, or the one beside it, is missing or not what was sealed.
    """
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL))
        _, found, told = file.read().rpartition(KEY.encode())
    if not found:
        return False
    again = "Copy it again, or export it"
    try:
        content = json.loads(told[told.index(b"{") :])
        length, expected, others = content["bytes"], content["sha256"], dict(content["beside"])
        whole = checksum(path, length) == expected
    except (ValueError, KeyError, TypeError, OverflowError):
        whole = False
    if not whole:
        raise ExportError(f"{path}: was altered. {again}")
    for name, expected in others.items():
        other = path.with_name(name)
        if not other.is_file():
            raise ExportError(f"{path}: {name}, which holds its weights, is missing. {again}")
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
