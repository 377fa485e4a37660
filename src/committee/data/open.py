"""Where samples come from: folders and tables of files, arrays, saved data sets, plug-ins.

A plug-in is a function ``open(rest, split, classes)`` that returns a :class:`Dataset`, installed
under an entry point of the group ``committee.data``. ``NAME:REST`` calls the one called NAME;
:mod:`committee.testing.data` has the tests that every source must pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import numpy as np

from committee.data.arrays import ArrayDataset, open_npy, open_npz
from committee.data.base import BrokenSamplesError, Dataset, content_of, digest, read_ahead
from committee.data.clips import CLIP_ENDINGS, ClipsDataset, read_clip
from committee.data.files import IMAGES, FileKind, FilesDataset
from committee.data.folder import open_folder
from committee.data.folder import passed_over as files_passed_over
from committee.data.huggingface import is_saved, open_saved
from committee.data.subset import PartDataset, part, readable_part, share, without
from committee.data.table import open_csv
from committee.errors import CommitteeError, DataError, ShapeError, UnknownNameError
from committee.pool.labels import LabelMode, told_of_labels
from committee.pool.samples import Samples
from committee.spec.model import ModelSpec, task_of
from committee.spec.task import IMAGE_CLASSIFICATION, VIDEO_CLASSIFICATION, Task

__all__ = [
    "ArrayDataset",
    "BrokenSamplesError",
    "ClipsDataset",
    "Dataset",
    "FilesDataset",
    "LabelMode",
    "PartDataset",
    "content_of",
    "digest",
    "open_data",
    "passed_over",
    "read_ahead",
    "read_clip",
    "readable_part",
    "told_of_labels",
    "without",
]

GROUP = "committee.data"
# Sources of this package that are named as plug-ins are.
_OWN = {"embedded": EntryPoint("embedded", "committee.embedded:open_images", GROUP)}
# Of images alone; folders and tables list files of any task.
_ARRAYS: dict[str, Callable[[Path, str, Sequence[str], LabelMode], Dataset]] = {
    ".npz": open_npz,
    ".npy": open_npy,
}


def open_data(
    spec: str | Path,
    split: str = "val",
    classes: Sequence[str] = (),
    rows: str | None = None,
    fraction: str | None = None,
    seed: int = 0,
    models: Sequence[ModelSpec] = (),
    labels: LabelMode = "must fit",
) -> Dataset:
    """Open samples; what people should know of them stands in the notes of its samples.

    Args:
        spec: A folder of files, one folder a class; a csv of paths and labels; one image or clip;
            a plug-in's ``NAME:REST``; of images also an npz or npy file, a folder that Hugging
            Face datasets saved, or ``embedded:val`` and ``embedded:test``, the demo's.
        split: Name for the split.
        classes: Names of the classes in the order of the models' outputs.
        rows: ``START:STOP:STEP`` to take only some samples.
        fraction: Share of every class to take, of what ``rows`` leaves; see
            :func:`committee.data.subset.share`.
        seed: Chooses the samples of a fraction.
        models: Who will look at the samples. It is needed for clips: that the files are clips, and
            which of their frames are decoded, follows from what the models take.
        labels: ``must fit``: labels that are no classes of the models, or that only some samples
            have, are an error; ``if they fit``: all are left out then, with a note; ``none``: no
            labels are read. A label that is -1, None, NaN or empty is none.

    Raises:
        CascadeError: If some of the models take images and others clips.
        DataError: If there is nothing of a known form.
        MisalignedError, ShapeError: If labels do not fit the classes.
        UnknownNameError: If there is no such plug-in.
    """
    task = task_of(models)
    try:
        dataset = _open(spec, split, classes, _kind(task, models), task, labels)
    except ShapeError as error:
        raise ShapeError(f"data {spec}: {error}") from None
    if rows is not None:
        dataset = part(dataset, rows)
    return dataset if fraction is None else share(dataset, fraction, seed)


def passed_over(spec: str | Path, models: Sequence[ModelSpec] = ()) -> str:
    """How many files of a folder are no samples by their endings, for people; empty if none are.

    Args:
        spec: As of :func:`open_data`.
        models: Who will look at the samples.
    """
    path, task = Path(spec), task_of(models)
    if not path.is_dir() or is_saved(path):
        return ""
    endings = CLIP_ENDINGS if task is VIDEO_CLASSIFICATION else IMAGES.endings
    return files_passed_over(path, endings)


def _kind(task: Task, models: Sequence[ModelSpec]) -> FileKind:
    """What files of a task are read as."""
    if task is IMAGE_CLASSIFICATION:
        return IMAGES
    recipes = [spec.preprocessing for spec in models]
    return FileKind(task.sample, CLIP_ENDINGS, partial(ClipsDataset, recipes=recipes))


def _open(
    spec: str | Path,
    split: str,
    classes: Sequence[str],
    kind: FileKind,
    task: Task,
    labels: LabelMode,
) -> Dataset:
    path = Path(spec)
    arrays = _ARRAYS if task is IMAGE_CLASSIFICATION else {}
    if path.is_dir():
        if arrays and is_saved(path):
            return open_saved(path, split, classes, labels)
        return open_folder(path, split, classes, kind, labels)
    if path.suffix.lower() == ".csv" and path.is_file():
        return open_csv(path, split, classes, kind, labels)
    if path.suffix.lower() in arrays and path.is_file():
        return arrays[path.suffix.lower()](path, split, classes, labels)
    if path.suffix.lower() in kind.endings and path.is_file():
        return kind.open(path.parent, Samples((path.name,), None, tuple(classes), split))
    name, colon, rest = str(spec).partition(":")
    if colon and not path.exists():
        return _plugged(name, rest, split, classes, labels)
    what = "is of no known form" if path.exists() else "does not exist"
    saved = "a folder saved by datasets, " if arrays else ""
    raise DataError(
        f"data {spec}: {what}. Give a folder with one folder a class, {saved}"
        f"a file ({', '.join((*arrays, '.csv'))}) or one {kind.word}"
    )


def _plugged(
    name: str, rest: str, split: str, classes: Sequence[str], labels: LabelMode
) -> Dataset:
    found = {each.name: each for each in entry_points(group=GROUP)} | _OWN
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
    if labels != "none" or dataset.samples.labels is None:
        return dataset
    every = np.arange(len(dataset.samples))
    return PartDataset(dataset, every, replace(dataset.samples, labels=None))
