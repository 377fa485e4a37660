"""Where samples come from: folders of pictures and arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from committee.data.arrays import ArrayDataset, open_npz
from committee.data.base import BrokenSamplesError, Dataset, read_ahead
from committee.data.folder import FolderDataset, open_folder
from committee.data.part import part
from committee.errors import DataError

__all__ = [
    "ArrayDataset",
    "BrokenSamplesError",
    "Dataset",
    "FolderDataset",
    "open_data",
    "read_ahead",
]


def open_data(
    spec: str | Path, split: str = "val", classes: Sequence[str] = (), rows: str | None = None
) -> Dataset:
    """Open samples.

    Args:
        spec: A folder of pictures, one folder a class, or an npz file.
        split: Name for the split.
        classes: Names of the classes in the order of the models' outputs.
        rows: ``START:STOP:STEP`` to take only some samples.

    Raises:
        DataError: If there is nothing of a known form.
        MisalignedError: If labels do not fit the classes.
    """
    path = Path(spec)
    dataset: Dataset
    if path.is_dir():
        dataset = open_folder(path, split, classes)
    elif path.suffix == ".npz" and path.is_file():
        dataset = open_npz(path, split, classes)
    else:
        what = "is neither a folder nor an npz file" if path.exists() else "does not exist"
        raise DataError(f"data {spec}: {what}. Give a folder with one folder a class, or an npz")
    return part(dataset, rows) if rows is not None else dataset
