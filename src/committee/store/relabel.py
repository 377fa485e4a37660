"""Labels added to a split, or corrected, after its outputs were computed; outputs stay as they are.

Outputs depend on the ids of samples, not on labels, so new labels are one file, which is written
whole or not at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from committee.arrays import Array
from committee.data.base import content_of, digest_of
from committee.data.open import open_data
from committee.data.table import ID_WORDS, LABEL_WORDS, PATH_WORDS, read_table
from committee.errors import DataError, MisalignedError, StoreError
from committee.pool.labels import indices
from committee.store.calibrations import KEY, remove_calibrations
from committee.store.entry import SAMPLES, finished_models, read_index, read_manifest
from committee.store.folder import writing
from committee.store.split import Split, read_split, write_split
from committee.text import from_cell, listed

# What arrays of labels are called in an npz file.
_LABELS, _IDS = ("labels", "label"), ("ids", "id")


@dataclass(frozen=True)
class _Relabelled:
    """What new labels changed.

    Args:
        folder: Folder of the split.
        samples: How many samples it has.
        added: How many had no label before.
        changed: How many had another.
        notes: What else to know.
    """

    folder: Path
    samples: int
    added: int
    changed: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class _Given:
    """Labels that are given: an index of a class for each, -1 where there is none.

    Args:
        labels: Shape (n,).
        ids: Of the samples that they are of; None if they are in the order of the split.
        content: Digests of these samples, if they are known.
    """

    labels: Array
    ids: Sequence[str] | None = None
    content: Array | None = None


def relabel(
    store: str | Path, split: str, labels: str | Path | Sequence[Any] | Mapping[str, Any]
) -> _Relabelled:
    """Add labels to a split of a store, or correct them; no output is computed again.

    Calibrations that were fitted to this split are removed if a label changes.

    Args:
        store: Folder of the store.
        split: Name of the split.
        labels: A csv file with columns ``id`` (or ``path``) and ``label``; an npz file with
            ``labels`` and maybe ``ids`` and ``classes``; an npy file, in the order of the samples;
            any data that :func:`committee.data.open_data` opens, joined by id or content; labels in
            the order of the samples; or labels by id. A label is the name of a class or its index.

    Raises:
        DataError: If labels cannot be read.
        MisalignedError: If a label is no class, or only some samples would have one.
        StoreError: If there is no such split, or another process writes to the store.
    """
    root = Path(store)
    if not (root / split / SAMPLES).exists():
        known = ", ".join(sorted(path.parent.name for path in root.glob(f"*/{SAMPLES}")))
        raise StoreError(f"{root}: no split {split!r} to relabel; there are: {known or 'none'}")
    classes = tuple(read_index(root / "store.json")["classes"])
    before = read_split(root / split, classes)
    given = _given(labels, before, classes)
    new, notes = _joined(before, given)
    _check_width(root / split, new)
    old = before.samples.labels
    added = len(new) if old is None else 0
    changed = 0 if old is None else int((old != new).sum())
    if added or changed:
        notes += _forget_calibrations(root, split)
        with writing(root):
            samples = replace(before.samples, labels=new)
            write_split(root / split, replace(before, samples=samples))
    return _Relabelled(root / split, len(new), added, changed, tuple(notes))


def _given(labels: Any, split: Split, classes: tuple[str, ...]) -> _Given:
    if isinstance(labels, Mapping):
        return _Given(indices("labels", list(labels.values()), classes), list(map(str, labels)))
    if not isinstance(labels, str | Path):
        array = np.asarray(labels)
        return _Given(indices("labels", array, classes))
    path = Path(labels)
    readers = {".csv": _of_csv, ".npy": _of_npy, ".npz": _of_npz}
    ending = path.suffix.lower()
    if ending in readers and path.is_file():
        given = readers[ending](path, classes)
        return _with_files(given, path.parent, split) if ending == ".csv" else given
    dataset = open_data(labels, split.samples.split, classes)
    samples = dataset.samples
    if samples.labels is None:
        raise DataError(f"labels {labels}: has no labels ({'; '.join(samples.notes) or 'none'})")
    known = set(split.samples.ids)
    # Who sorted a file into another folder gave it another name.
    moved = split.content is not None and not known.issuperset(samples.ids)
    return _Given(samples.labels, samples.ids, content_of(dataset) if moved else None)


def _of_csv(path: Path, classes: tuple[str, ...]) -> _Given:
    table = read_table(path)
    name, label = table.named((*ID_WORDS, *PATH_WORDS)), table.named(LABEL_WORDS)
    if not name or not label:
        raise DataError(
            f"{path}: its first line must name the columns id (or path) and label, with commas "
            f"between; it names {listed(table.header)}"
        )
    texts = [text if text in classes else from_cell(text) for text in table.column(label)]
    told = indices(str(path), texts, classes, place=table.place)
    return _Given(told, table.column(name))


def _with_files(given: _Given, folder: Path, split: Split) -> _Given:
    """Return labels of a csv with the contents of files that it names otherwise than the split."""
    known = set(split.samples.ids)
    if split.content is None or given.ids is None or known.issuperset(given.ids):
        return given
    contents = [0 if name in known else _digest_near(name, folder) for name in given.ids]
    return replace(given, content=np.array(contents, np.uint64))


def _digest_near(name: str, folder: Path) -> int:
    """Return the digest of a file by its path from a folder, or from here; 0 if there is none."""
    return digest_of(folder / name) or digest_of(Path(name))


def _of_npy(path: Path, classes: tuple[str, ...]) -> _Given:
    return _Given(indices(str(path), _loaded(path), classes))


def _of_npz(path: Path, classes: tuple[str, ...]) -> _Given:
    archive = _loaded(path)
    with archive:
        labels, ids = (
            next((archive[name] for name in words if name in archive.files), None)
            for words in (_LABELS, _IDS)
        )
        named = [str(each) for each in archive["classes"]] if "classes" in archive.files else []
    if labels is None:
        raise DataError(f"{path}: has no 'labels'; it holds {listed(archive.files)}")
    return _Given(
        indices(str(path), labels, classes, named), None if ids is None else [*map(str, ids)]
    )


def _loaded(path: Path) -> Any:
    try:
        return np.load(path, allow_pickle=False)
    except Exception as error:  # numpy and zip raise of every kind
        reason = str(error).split("\n")[0]
        raise DataError(f"{path}: cannot be read ({reason})") from None


def _joined(split: Split, given: _Given) -> tuple[Array, list[str]]:
    """Return a label for each sample of the split, shape (N,), and what to know of the rest."""
    samples = split.samples
    rows = _rows(split, given)
    new = np.full(len(samples), -1) if samples.labels is None else samples.labels.copy()
    if (given.labels < 0).all():
        raise MisalignedError(
            f"labels of {samples.split!r}: there are no labels in it, all are -1 or empty"
        )
    used = (rows >= 0) & (given.labels >= 0)
    if not used.any():
        theirs = listed((given.ids or ())[:6])
        raise MisalignedError(
            f"labels of {samples.split!r}: none of the {len(rows):,} is of a sample of the split, "
            f"whose ids are {listed(samples.ids)}; given are {theirs}. Write ids as in the store"
        )
    new[rows[used]] = given.labels[used]
    lacking = np.flatnonzero(new < 0)
    if len(lacking):
        names = listed([samples.ids[row] for row in lacking.tolist()])
        raise MisalignedError(
            f"labels of {samples.split!r}: {len(lacking):,} of {len(new):,} samples would have "
            f"none: {names}. Label all of them"
        )
    strange, empty = int((rows < 0).sum()), int((given.labels < 0).sum())
    notes = [f"{strange:,} labels are of samples that are not in the split"] if strange else []
    return new, notes + ([f"{empty:,} labels are empty and change nothing"] if empty else [])


def _rows(split: Split, given: _Given) -> Array:
    """Return which sample of the split each label is of, shape (n,), -1 where it is of none."""
    samples = split.samples
    if given.ids is None:
        if len(given.labels) != len(samples):
            raise MisalignedError(
                f"labels of {samples.split!r}: {len(given.labels):,} are given without ids, the "
                f"split has {len(samples):,} samples. Give ids beside them"
            )
        return np.arange(len(samples))
    place = {name: row for row, name in enumerate(samples.ids)}
    # A spreadsheet's apostrophe, which our csv files have, is no part of a name.
    rows = [place.get(name, place.get(from_cell(name), -1)) for name in given.ids]
    if given.content is not None and split.content is not None:
        by_content: dict[int, list[int]] = {}
        for row, each in enumerate(split.content.tolist()):
            by_content.setdefault(each, []).append(row)
        by_content.pop(0, None)
        moved = zip(rows, given.ids, given.content.tolist(), strict=True)
        rows = [
            _best(name, by_content.get(each, ()), samples.ids) if row < 0 else row
            for row, name, each in moved
        ]
    counts = Counter(row for row in rows if row >= 0)
    twice = [samples.ids[row] for row, count in counts.items() if count > 1]
    if twice:
        raise MisalignedError(
            f"labels of {samples.split!r}: {listed(twice)} stand twice; give each one label"
        )
    return np.array(rows, np.int64)


def _best(name: str, rows: Sequence[int], ids: Sequence[str]) -> int:
    """Return which of some copies is meant by a path: the one that it ends with; -1 if none is."""
    named = [row for row in rows if f"/{name}".endswith(f"/{ids[row]}")]
    return next(iter([*named, *rows]), -1)


def _check_width(folder: Path, labels: Array) -> None:
    """Refuse labels beyond the outputs of a model."""
    for name in sorted(finished_models(folder)):
        manifest = read_manifest(folder / f"{name}.json")
        if manifest.entry.kind != "decisions" and labels.max() >= manifest.width:
            raise MisalignedError(
                f"labels of {folder.name!r}: there is label {labels.max()}, but model "
                f"{name!r} has {manifest.width} outputs"
            )


def _forget_calibrations(root: Path, split: str) -> list[str]:
    """Remove calibrations that were fitted to the labels of a split; return what to know of it."""
    models = read_index(root / "store.json")["models"]
    stale = [name for name, each in models.items() if _split_of(each.get(KEY)) == split]
    if not stale:
        return []
    remove_calibrations(root, stale)
    return [
        f"calibrations of {listed(stale)} were fitted to the labels before and are removed; fit "
        f"them again: committee calibrate {root} --split {split}"
    ]


def _split_of(calibration: Any) -> Any:
    return calibration.get("split") if isinstance(calibration, dict) else None
