"""Opening what a runner runs: a cascade file, or a bundle, whose files are checked first."""

from __future__ import annotations

from pathlib import Path

from committee.cascade import Cascade
from committee.export import is_bundle, read_bundle


def open_cascade(path: str | Path) -> Cascade:
    """The cascade of a cascade file or of a bundle.

    Raises:
        CascadeError: If the file cannot be read.
        ExportError: If a file of a bundle is missing or altered.
    """
    path = Path(path)
    if is_bundle(path):
        return read_bundle(path if path.is_dir() else path.parent)
    return Cascade.load(path)
