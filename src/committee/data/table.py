"""``FILE.csv``: paths of sample files and, if known, their labels."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from committee.data.base import Dataset
from committee.data.files import PICTURES, FileKind
from committee.errors import DataError, MisalignedError
from committee.predictions import Array
from committee.samples import Samples


def open_csv(path: Path, split: str, classes: Sequence[str], kind: FileKind = PICTURES) -> Dataset:
    """Open a csv file with a header that names ``path`` and, if known, ``label``.

    Args:
        path: The file. Paths in it are relative to its folder.
        split: Name for the split.
        classes: Names of the classes in the order of the models' outputs. A label is one of these
            names or, where none of the labels is, an index 0, 1, ….
        kind: What the files are.

    Raises:
        DataError: If it cannot be read, or has no ``path`` or no row.
        MisalignedError: If a label is no class, or a path stands twice.
        MissingExtraError: If what reads the files is not installed.
    """
    try:
        # Spreadsheets put a byte order mark before the header.
        with path.open(newline="", encoding="utf-8-sig") as file:
            header, *rows = list(csv.reader(file)) or [[]]
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: no readable csv file ({error})") from None
    if "path" not in header:
        raise DataError(f"{path}: its first line must name the columns path and, if known, label")
    uneven = [number for number, row in enumerate(rows, 2) if len(row) != len(header)]
    if uneven:
        raise DataError(f"{path}: line {uneven[0]} has not the {len(header)} columns of the header")
    if not rows:
        raise DataError(f"{path}: names no {kind.word}; write one path a line after the header")
    ids = tuple(row[header.index("path")] for row in rows)
    labels = None
    if "label" in header:
        labels = _labels(path, [row[header.index("label")] for row in rows], classes)
    return kind.open(path.parent, Samples(ids, labels, tuple(classes), split))


def _labels(path: Path, told: Sequence[str], classes: Sequence[str]) -> Array:
    """Labels as indices, from names of classes or from numbers, never from a mix of both."""
    index = {name: position for position, name in enumerate(classes)}
    if not any(each in index for each in told):
        try:
            return np.array([int(each) for each in told], np.int64)
        except ValueError:
            pass
    for line, each in enumerate(told, 2):
        if each not in index:
            raise MisalignedError(
                f"{path}: line {line}: label {each!r} is no class of the models, which are "
                f"{', '.join(classes[:3]) or 'unnamed'}, …. Write the name of a class, or name the "
                "classes in the pool file"
            )
    return np.array([index[each] for each in told], np.int64)
