"""Where samples come from: folders and tables of files, arrays, saved data sets, plug-ins.

A plug-in is a function ``open(rest, split, classes)`` that returns a
:class:`committee.data.base.Dataset`, installed under an entry point of the group
``committee.data``. ``NAME:REST`` calls the one named NAME. :mod:`committee.testing` has the
tests that every source must pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import numpy as np

from committee.data.arrays import open_npy, open_npz
from committee.data.base import Dataset, PartDataset, part, share, stamped, stat_of, whole_of
from committee.data.clips import CLIP_ENDINGS, ClipsDataset
from committee.data.files import IMAGES, FileKind, FilesDataset, open_folder
from committee.data.huggingface import is_saved, open_saved
from committee.data.records import FILES, READERS, divided, open_records
from committee.data.remote import Place, RemoteFiles, is_remote
from committee.data.table import open_csv
from committee.errors import CommitteeError, DataError, ShapeError, UnknownNameError
from committee.pool.labels import LabelMode
from committee.pool.samples import Samples
from committee.spec.model import ModelSpec, task_of
from committee.text import first_line

GROUP = "committee.data"
# Sources of this package that are named as plug-ins are.
_OWN = {"embedded": EntryPoint("embedded", "committee.embedded:open_images", GROUP)}
# Arrays of these hold images; folders and tables list files of any kind.
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
    """Open samples; their notes say what people should know of them.

    Args:
        spec: A folder of files, one folder per class; a csv of paths and labels; one image or clip;
            the address of a folder or file, as ``s3://BUCKET/FOLDER``; a plug-in's ``NAME:REST``;
            for images also an npz or npy file, a folder that Hugging Face datasets saved, or
            ``embedded:val`` and ``embedded:test``, the demo's; for records see
            :func:`committee.data.records.open_records`.
        split: Name for the split.
        classes: Names of the classes in the order of the models' outputs.
        rows: ``START:STOP:STEP`` to take only some samples.
        fraction: Share of every class to take, of the samples that ``rows`` takes; see
            :func:`committee.data.base.share`.
        seed: Chooses the samples of a fraction.
        models: The models that will see the samples. Clips and records need them: they say what a
            sample is, and which frames to decode or which columns to read.
        labels: ``must fit``: an error if labels are no classes of the models, or only some samples
            have one; ``if they fit``: no labels then, and a note; ``none``: read no labels. -1,
            None, NaN and an empty text are no label.

    Raises:
        CascadeError: If some of the models take images and others clips.
        DataError: If nothing of a known form is there.
        MisalignedError, ShapeError: If labels do not fit the classes.
        UnknownNameError: If there is no such plug-in.
    """
    try:
        if _is_behind(spec):
            dataset = _behind(str(spec), split, classes, models, labels)
        elif task_of(models).records:
            dataset = _records(spec, split, classes, models, labels)
        else:
            dataset = _open(spec, split, classes, _KINDS[task_of(models).sample](models), labels)
    except ShapeError as error:
        raise ShapeError(f"data {spec}: {error}") from None
    if rows is not None:
        dataset = part(dataset, rows)
    return dataset if fraction is None else share(dataset, fraction, seed)


def stamp_of(spec: str, dataset: Dataset) -> str:
    """Return a text that tells whether samples have changed, without reading them.

    It is made of the sizes and times of their files; empty where a source has none of its own.

    Args:
        spec: What was opened.
        dataset: The samples.
    """
    whole, rows = whole_of(dataset)
    if isinstance(whole, FilesDataset):
        return whole.stamp(rows)
    if isinstance(whole, RemoteFiles):
        return whole.stamp
    where, _ = divided(spec)
    if _is_behind(where):
        return Place.of(where).stamp
    path = Path(where)
    files = [path]
    if path.is_dir():  # datasets puts what it computes from them beside its files
        files = [each for each in sorted(path.rglob("*.arrow")) if not each.match("cache-*")]
    return stamped(map(stat_of, files)) if path.exists() else ""


def _is_behind(spec: str | Path) -> bool:
    return is_remote(spec) and str(spec).partition(":")[0] not in _plugins()


def _clips(models: Sequence[ModelSpec]) -> FileKind:
    recipes = [spec.image for spec in models]
    return FileKind("clip", CLIP_ENDINGS, partial(ClipsDataset, recipes=recipes))


# What files are read as, by what a task calls a sample.
_KINDS: dict[str, Callable[[Sequence[ModelSpec]], FileKind]] = {
    "image": lambda _: IMAGES,
    "clip": _clips,
}


def _records(
    spec: str | Path,
    split: str,
    classes: Sequence[str],
    models: Sequence[ModelSpec],
    labels: LabelMode,
) -> Dataset:
    dataset = open_records(spec, split, classes, models, labels)
    if dataset is not None:
        return dataset
    name, colon, rest = str(spec).partition(":")
    if colon and not Path(spec).exists() and Path(name).suffix.lower() not in READERS:
        return _open_plugin(name, rest, split, classes, labels)
    what = "is of no known form" if Path(spec).exists() else "does not exist"
    raise DataError(
        f"data {spec}: {what}. Give a table of records ({', '.join(READERS)}), a folder saved by "
        "datasets, or a folder of files with one folder per class. PATH:label=COLUMN,id=COLUMN "
        "names the columns of the label and the id"
    )


def _open(
    spec: str | Path, split: str, classes: Sequence[str], kind: FileKind, labels: LabelMode
) -> Dataset:
    path = Path(spec)
    ending = path.suffix.lower()
    arrays = _ARRAYS if kind is IMAGES else {}
    if path.is_dir():
        if arrays and is_saved(path):
            return open_saved(path, split, classes, labels)
        return open_folder(path, split, classes, kind, labels)
    if path.is_file():
        if ending == ".csv":
            return open_csv(path, split, classes, kind, labels)
        if ending in arrays:
            return arrays[ending](path, split, classes, labels)
        if kind.endings is not None and ending in kind.endings:
            return kind.open(path.parent, Samples((path.name,), None, tuple(classes), split))
    name, colon, rest = str(spec).partition(":")
    if colon and not path.exists():
        return _open_plugin(name, rest, split, classes, labels)
    what = "is of no known form" if path.exists() else "does not exist"
    saved = "a folder saved by datasets, " if arrays else ""
    raise DataError(
        f"data {spec}: {what}. Give a folder with one folder per class, {saved}"
        f"a file ({', '.join((*arrays, '.csv'))}) or one {kind.word}"
    )


def _behind(
    spec: str, split: str, classes: Sequence[str], models: Sequence[ModelSpec], labels: LabelMode
) -> Dataset:
    """Open what lies behind an address."""
    task = task_of(models)
    address, named = divided(spec) if task.records else (spec, "")
    place = Place.of(address)
    kind = FILES if task.records else _KINDS[task.sample](models)
    if place.is_folder:
        return place.folder(split, classes, kind, labels)
    arrays = READERS if task.records else _ARRAYS if kind is IMAGES else {}
    if place.ending in (".csv", *arrays):
        with place.fetched() as path:
            if place.ending in arrays:
                own = f"{path}:{named}" if named else path
                dataset = open_data(own, split, classes, models=models, labels=labels)
            else:
                dataset = open_csv(path, split, classes, place.beside(kind), labels)
        samples = dataset.samples
        notes = tuple(each.replace(str(path), address) for each in samples.notes)
        return PartDataset(dataset, np.arange(len(samples)), replace(samples, notes=notes))
    if kind.endings is not None and place.ending in kind.endings:
        return place.one(split, classes, kind)
    raise DataError(
        f"data {spec}: is of no known form. Of addresses a folder of {task.samples} is read, or a "
        f"file ({', '.join(dict.fromkeys((*arrays, '.csv')))})"
    )


def _plugins() -> dict[str, EntryPoint]:
    return {each.name: each for each in entry_points(group=GROUP)} | _OWN


def _open_plugin(
    name: str, rest: str, split: str, classes: Sequence[str], labels: LabelMode
) -> Dataset:
    plugins = _plugins()
    if name not in plugins:
        raise UnknownNameError.of(f"data {name}:{rest}", f"plug-in of {GROUP}", name, plugins)
    try:
        dataset: Dataset = plugins[name].load()(rest, split, tuple(classes))
    except CommitteeError:
        raise
    except Exception as error:
        raise DataError(
            f"data {name}:{rest}: the plug-in {plugins[name].value} failed ({first_line(error)})"
        ) from error
    if labels != "none" or dataset.samples.labels is None:
        return dataset
    every = np.arange(len(dataset.samples))
    return PartDataset(dataset, every, replace(dataset.samples, labels=None))
