"""The files of a graph: the ONNX file, and those beside it that hold large tensors."""

from __future__ import annotations

import hashlib
import mmap
import re
from pathlib import Path

from committee.models.base import file_fingerprint

# A tensor says where its numbers are by entries of two strings, as protobuf writes them: field 1
# is the key, field 2 the value. Read here, for the package onnx is not asked of who runs a model.
_LOCATION = re.compile(rb"\x0a\x08location\x12([\x80-\xff]?)([\x00-\x7f])")


def graph_fingerprint(path: Path) -> str:
    """Sixteen hexadecimal digits that change with a graph's file or one that holds its tensors.

    Of a graph that is one file they are those of the file.
    """
    own = file_fingerprint(path)
    beside = [path.parent / name for name in tensor_files(path)]
    if not beside:
        return own
    # One that is missing or lies elsewhere is named by the engine, which needs it; here it is not
    # opened.
    there = [is_inside(each, path.parent) and each.is_file() for each in beside]
    told = [
        file_fingerprint(each) if readable else "not there"
        for each, readable in zip(beside, there, strict=True)
    ]
    return hashlib.sha256(" ".join((own, *told)).encode()).hexdigest()[:16]


def is_inside(path: Path, folder: Path) -> bool:
    """Return whether a path, every link followed, lies in a folder."""
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError):  # a NUL in its name, or links in a circle
        return False


def tensor_files(path: Path) -> list[str]:
    """Files that hold tensors of a graph, relative to its folder, sorted."""
    with path.open("rb") as file:
        if not path.stat().st_size:
            return []
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            found = {
                data[each.end() : each.end() + _length(each)] for each in _LOCATION.finditer(data)
            }
    return sorted(name.decode("utf-8", "replace") for name in found)


def _length(found: re.Match[bytes]) -> int:
    """How many bytes a value has: seven bits a byte, the lowest first."""
    low, high = found.groups()
    return (low[0] & 127) + (high[0] << 7) if low else high[0]
