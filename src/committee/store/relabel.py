"""Add or correct the labels of a split after its outputs were computed.

Outputs depend on the ids of samples, not on labels, so only the file of samples is rewritten, whole
or not at all.
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
from committee.data.table import read_labels
from committee.errors import DataError, MisalignedError, StoreError
from committee.pool.labels import indices
from committee.rule.outputs import WITH_CONFIDENCE
from committee.spec.model import ModelSpec, model_from_json
from committee.store.calibrations import KEY, remove_calibrations
from committee.store.entry import SAMPLES, finished_models, read_index, read_manifest
from committee.store.folder import writing
from committee.store.split import Split, read_split, write_split
from committee.store.tables import read_table as read_arrays
from committee.text import from_cell, listed

# Names of the arrays of an npz file.
_LABELS, _IDS = ("labels", "label"), ("ids", "id")


@dataclass(frozen=True)
class _Relabelled:
    """How many labels were added and changed, and notes for the user."""

    folder: Path
    samples: int
    added: int
    changed: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class _NewLabels:
    """The user's labels.

    A label of -1 is none. Without ``ids`` labels are in the order of the split. ``content`` has
    digests where they are known.
    """

    labels: Array
    ids: Sequence[str] | None = None
    content: Array | None = None


def relabel(
    store: str | Path, split: str, labels: str | Path | Sequence[Any] | Mapping[str, Any]
) -> _Relabelled:
    """Add labels to a split of a store, or correct them, and return what changed.

    No output is computed again. Calibrations that were fitted on this split are removed if a label
    changes.

    Args:
        store: Folder of the store.
        split: Name of the split.
        labels: A csv file with columns ``id`` (or ``path``) and ``label``; an npz file with
            ``labels`` and optionally ``ids`` and ``classes``; an npy file, in the order of the
            samples; any data that :func:`committee.data.open.open_data` opens, joined by id or
            content; a sequence in the order of the samples; or a mapping from ids. A label is
            the name of a class or its index.
    """
    root = Path(store)
    if not (root / split / SAMPLES).exists():
        known = ", ".join(sorted(path.parent.name for path in root.glob(f"*/{SAMPLES}")))
        raise StoreError(f"{root}: no split {split!r} to relabel; there are: {known or 'none'}")
    classes = tuple(read_index(root / "store.json")["classes"])
    before = read_split(root / split, classes)
    new, notes = _joined(before, _read_labels(labels, before, classes, _models_of(root)))
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


def _models_of(root: Path) -> list[ModelSpec]:
    """Return the models of a store that say what a sample is."""
    known = read_index(root / "store.json")["models"]
    models = [
        model_from_json(name, {k: v for k, v in data.items() if k != KEY}, str(root))
        for name, data in known.items()
    ]
    return [model for model in models if isinstance(model, ModelSpec)]


def _read_labels(
    labels: Any, split: Split, classes: tuple[str, ...], models: Sequence[ModelSpec]
) -> _NewLabels:
    if isinstance(labels, Mapping):
        return _NewLabels(indices("labels", list(labels.values()), classes), [*map(str, labels)])
    if not isinstance(labels, str | Path):
        return _NewLabels(indices("labels", np.asarray(labels), classes))
    path = Path(labels)
    readers = {".csv": _from_csv, ".npy": _from_arrays, ".npz": _from_arrays}
    ending = path.suffix.lower()
    if ending in readers and path.is_file():
        new = readers[ending](path, classes)
        return _with_content(new, path.parent, split) if ending == ".csv" else new
    dataset = open_data(labels, split.samples.split, classes, models=models)
    samples = dataset.samples
    if samples.labels is None:
        raise DataError(f"labels {labels}: has no labels ({'; '.join(samples.notes) or 'none'})")
    known = set(split.samples.ids)
    # A file that was moved to another folder has another id, but the same content.
    moved = split.content is not None and not known.issuperset(samples.ids)
    return _NewLabels(samples.labels, samples.ids, content_of(dataset) if moved else None)


def _from_csv(path: Path, classes: tuple[str, ...]) -> _NewLabels:
    ids, labels = read_labels(path, classes)
    return _NewLabels(labels, ids)


def _with_content(new: _NewLabels, folder: Path, split: Split) -> _NewLabels:
    """Add the digests of files that a csv names otherwise than the split does, 0 for the rest.

    Paths start at the folder of the csv, or else at the working directory.
    """
    known = set(split.samples.ids)
    if split.content is None or new.ids is None or known.issuperset(new.ids):
        return new
    contents = [
        0 if name in known else digest_of(folder / name) or digest_of(Path(name))
        for name in new.ids
    ]
    return replace(new, content=np.array(contents, np.uint64))


def _from_arrays(path: Path, classes: tuple[str, ...]) -> _NewLabels:
    arrays = read_arrays(path)
    words = _LABELS if path.suffix.lower() == ".npz" else ("outputs",)
    labels, ids, own = (
        next((arrays.read(name) for name in names if name in arrays.columns), None)
        for names in (words, _IDS, ("classes",))
    )
    if labels is None:
        raise DataError(f"{path}: has no 'labels'; it holds {listed(arrays.columns)}")
    rows = indices(str(path), labels, classes, [] if own is None else [*map(str, own)])
    return _NewLabels(rows, None if ids is None else [*map(str, ids)])


def _joined(split: Split, given: _NewLabels) -> tuple[Array, list[str]]:
    """Return a label for each sample of the split, shape (N,), and notes on unused labels."""
    samples = split.samples
    rows = _rows(split, given)
    new = np.full(len(samples), -1) if samples.labels is None else samples.labels.copy()
    if (given.labels < 0).all():
        raise MisalignedError(
            f"labels of {samples.split!r}: there are no labels, all are -1 or empty"
        )
    used = (rows >= 0) & (given.labels >= 0)
    if not used.any():
        theirs = listed((given.ids or ())[:6])
        raise MisalignedError(
            f"labels of {samples.split!r}: none of the {len(rows):,} ids is in the split, which "
            f"has {listed(samples.ids)}; the labels have {theirs}. Write ids as in the store"
        )
    new[rows[used]] = given.labels[used]
    lacking = np.flatnonzero(new < 0)
    if len(lacking):
        names = listed([samples.ids[row] for row in lacking.tolist()])
        raise MisalignedError(
            f"labels of {samples.split!r}: {len(lacking):,} of {len(new):,} samples would have "
            f"no label: {names}. Label all of them"
        )
    strange, empty = int((rows < 0).sum()), int((given.labels < 0).sum())
    notes = [f"{strange:,} labels belong to samples that are not in the split"] if strange else []
    return new, notes + ([f"{empty:,} labels are empty and change nothing"] if empty else [])


def _rows(split: Split, given: _NewLabels) -> Array:
    """Return the row in the split of each label's sample, shape (n,), -1 if it is not there."""
    samples = split.samples
    if given.ids is None:
        if len(given.labels) != len(samples):
            raise MisalignedError(
                f"labels of {samples.split!r}: {len(given.labels):,} labels without ids, but the "
                f"split has {len(samples):,} samples. Give ids with them"
            )
        return np.arange(len(samples))
    place = {name: row for row, name in enumerate(samples.ids)}
    # Our csv files put an apostrophe before some ids, for spreadsheets.
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
            f"labels of {samples.split!r}: {listed(twice)} appear twice; give each one label"
        )
    return np.array(rows, np.int64)


def _best(name: str, rows: Sequence[int], ids: Sequence[str]) -> int:
    """Return the copy whose id ends the path, else the first copy; -1 if there is none."""
    matching = [row for row in rows if f"/{name}".endswith(f"/{ids[row]}")]
    return next(iter([*matching, *rows]), -1)


def _check_width(folder: Path, labels: Array) -> None:
    for name in sorted(finished_models(folder)):
        manifest = read_manifest(folder / f"{name}.json")
        if manifest.entry.kind not in WITH_CONFIDENCE and labels.max() >= manifest.width:
            raise MisalignedError(
                f"labels of {folder.name!r}: there is label {labels.max()}, but model "
                f"{name!r} has {manifest.width} outputs"
            )


def _forget_calibrations(root: Path, split: str) -> list[str]:
    """Remove the calibrations that were fitted on a split; return a note on them."""
    models = read_index(root / "store.json")["models"]
    stale = [name for name, each in models.items() if _split_of(each.get(KEY)) == split]
    if not stale:
        return []
    remove_calibrations(root, stale)
    return [
        f"calibrations of {listed(stale)} were fitted to the old labels and were removed; fit "
        f"them again: committee calibrate {root} --split {split}"
    ]


def _split_of(calibration: Any) -> Any:
    return calibration.get("split") if isinstance(calibration, dict) else None
