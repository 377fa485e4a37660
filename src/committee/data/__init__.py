"""Where samples come from: folders and tables of pictures, arrays, saved data sets, plug-ins.

A plug-in is a function ``open(rest, split, classes)`` that returns a :class:`Dataset`, installed
under an entry point of the group ``committee.data``. ``NAME:REST`` calls the one called NAME;
:mod:`committee.testing.data` has the tests that every source must pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from pathlib import Path

from committee.data.arrays import ArrayDataset, open_npy, open_npz
from committee.data.base import BrokenSamplesError, Dataset, content_of, digest, read_ahead
from committee.data.files import FilesDataset
from committee.data.folder import open_folder
from committee.data.huggingface import is_saved, open_saved
from committee.data.part import PartDataset, part, share, without
from committee.data.table import open_csv
from committee.errors import CommitteeError, DataError, UnknownNameError

__all__ = [
    "ArrayDataset",
    "BrokenSamplesError",
    "Dataset",
    "FilesDataset",
    "PartDataset",
    "content_of",
    "digest",
    "open_data",
    "read_ahead",
    "without",
]

GROUP = "committee.data"
_FILES: dict[str, Callable[[Path, str, Sequence[str]], Dataset]] = {
    ".npz": open_npz,
    ".npy": open_npy,
    ".csv": open_csv,
}


def open_data(
    spec: str | Path,
    split: str = "val",
    classes: Sequence[str] = (),
    rows: str | None = None,
    fraction: str | None = None,
    seed: int = 0,
) -> Dataset:
    """Open samples.

    Args:
        spec: A folder of pictures, one folder a class; a csv of paths and labels; an npz or npy
            file; a folder that Hugging Face datasets saved; or ``NAME:REST`` of a plug-in.
        split: Name for the split.
        classes: Names of the classes in the order of the models' outputs.
        rows: ``START:STOP:STEP`` to take only some samples.
        fraction: Share of every class to take, of what ``rows`` leaves; see
            :func:`committee.data.part.share`.
        seed: Chooses the samples of a fraction.

    Raises:
        DataError: If there is nothing of a known form.
        MisalignedError: If labels do not fit the classes.
        UnknownNameError: If there is no such plug-in.
    """
    dataset = _open(spec, split, classes)
    if rows is not None:
        dataset = part(dataset, rows)
    return dataset if fraction is None else share(dataset, fraction, seed)


def _open(spec: str | Path, split: str, classes: Sequence[str]) -> Dataset:
    path = Path(spec)
    if path.is_dir():
        opener = open_saved if is_saved(path) else open_folder
        return opener(path, split, classes)
    if path.suffix in _FILES and path.is_file():
        return _FILES[path.suffix](path, split, classes)
    name, colon, rest = str(spec).partition(":")
    if colon and not path.exists():
        return _plugged(name, rest, split, classes)
    what = "is of no known form" if path.exists() else "does not exist"
    raise DataError(
        f"data {spec}: {what}. Give a folder with one folder a class, a folder saved by datasets, "
        f"or a file ({', '.join(_FILES)})"
    )


def _plugged(name: str, rest: str, split: str, classes: Sequence[str]) -> Dataset:
    found = {each.name: each for each in entry_points(group=GROUP)}
    if name not in found:
        raise UnknownNameError.of(f"data {name}:{rest}", f"plug-in of {GROUP}", name, found)
    try:
        dataset: Dataset = found[name].load()(rest, split, tuple(classes))
    except CommitteeError:
        raise
    except Exception as error:
        reason = str(error).split("\n")[0]
        raise DataError(
            f"data {name}:{rest}: the plug-in {found[name].value} failed "
            f"({type(error).__name__}: {reason})"
        ) from error
    return dataset
