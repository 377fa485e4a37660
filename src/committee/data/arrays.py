"""``FILE.npz`` or ``FILE.npy``: images of one size in an array, with labels and ids.

An npz has ``images`` and may have ``labels``, ``ids`` and ``classes`` (or ``class_names``,
``names``); a note names its other arrays. ``FILE.npy`` may have ``FILE.labels.npy`` and
``FILE.ids.npy`` beside it; its images stay on disk until they are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from committee.arrays import Array
from committee.data.base import digest
from committee.errors import DataError, MisalignedError, UnreadableError
from committee.pool.labels import LabelMode, indices, labelled, with_notes
from committee.pool.samples import Samples
from committee.reading import check_members, parsed_npz
from committee.text import first_line, listed

# What may follow (N, H, W): nothing, or one or three channels.
_COLOURS = ((), (1,), (3,))
# Names of the array of class names; the first that is there counts.
CLASS_WORDS = ("classes", "class_names", "names")
_MEMBERS = ("images", "labels", "ids", *CLASS_WORDS)


class ArrayDataset:
    """Images in one array.

    They are uint8, of shape (N, H, W) or (N, H, W, 3), and may be memory-mapped.
    """

    def __init__(self, images: Array, samples: Samples) -> None:
        if len(images) != len(samples):
            raise MisalignedError(f"data: {len(images)} images but {len(samples)} samples")
        self._images = images
        self.samples = samples

    def read(self, rows: Array) -> Array:
        """See :class:`committee.data.base.Dataset`."""
        return np.asarray(self._images[rows])

    def digests(self, rows: Array) -> Array:
        """See :class:`committee.data.base.Dataset`."""
        return np.array([digest(self._images[row].tobytes()) for row in rows], np.uint64)


def open_npz(
    path: Path, split: str, classes: Sequence[str], labels: LabelMode = "must fit"
) -> ArrayDataset:
    """Open an npz file; its classes may be in another order than those of the models."""
    # Other arrays are not read: they may be large.
    members, arrays = _members(path, _MEMBERS)
    if "images" not in arrays:
        raise DataError(f"{path}: has {', '.join(members[:5]) or 'nothing'}, but no 'images'")
    naming = next((word for word in CLASS_WORDS if word in arrays), "")
    named = _texts(path, naming, arrays.get(naming)) or ()
    images, label_array, ids = (arrays.get(name) for name in ("images", "labels", "ids"))
    dataset = _dataset(path, images, label_array, ids, classes, named, split, labels)
    others = [name for name in members if name not in ("images", "labels", "ids", naming)]
    if others:
        are = "array is" if len(others) == 1 else "arrays are"
        note = f"{len(others):,} {are} not used: {listed(others)}"
        dataset.samples = with_notes(dataset.samples, note)
    return dataset


def open_npy(
    path: Path, split: str, classes: Sequence[str], labels: LabelMode = "must fit"
) -> ArrayDataset:
    """Open an npy file of images, with the labels and ids beside it."""
    images = read_npy(path)
    beside = (path.with_suffix(f".{name}.npy") for name in ("labels", "ids"))
    label_array, ids = (read_npy(each) if each.exists() else None for each in beside)
    return _dataset(path, images, label_array, ids, classes, (), split, labels)


def read_npz(path: Path) -> dict[str, Array]:
    """Return all arrays of an npz file."""
    names, _ = _members(path, ("",))
    return {name: array for each in names for name, array in _members(path, (each,))[1].items()}


def _members(path: Path, names: Sequence[str]) -> tuple[list[str], dict[str, Array]]:
    """Return the names of all arrays of an npz file, and those arrays that are named."""
    try:
        members = check_members(path, names)
        with path.open("rb") as file:
            return members, parsed_npz(file, names)
    except (OSError, UnreadableError) as error:
        raise DataError(f"{path}: no readable npz file ({error})") from None


def read_npy(path: Path) -> Array:
    """Return the array of an npy file, which stays on disk until it is read."""
    try:
        array: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # numpy raises many kinds
        raise DataError(f"{path}: no readable npy file ({first_line(error)})") from None
    return array


def _texts(path: Path, what: str, array: Array | None) -> tuple[str, ...] | None:
    if array is None:
        return None
    if np.ndim(array) != 1:
        raise DataError(f"{path}: {what} must be names, shape (N,), not {np.shape(array)}")
    return tuple(
        each.decode("utf-8", "surrogateescape") if isinstance(each, bytes) else str(each)
        for each in array.tolist()
    )


def _dataset(
    path: Path,
    images: Array | None,
    label_array: Array | None,
    ids: Array | None,
    classes: Sequence[str],
    named: Sequence[str],
    split: str,
    labels: LabelMode,
) -> ArrayDataset:
    if (
        not isinstance(images, np.ndarray)
        or images.dtype != np.uint8
        or images.ndim not in (3, 4)
        or images.shape[3:] not in _COLOURS
    ):
        what = f"{images.dtype} {images.shape}" if isinstance(images, np.ndarray) else "an archive"
        raise DataError(
            f"{path}: images must be uint8 of shape (N, H, W) or (N, H, W, 3), not {what}"
        )
    if not len(images):
        raise DataError(f"{path}: 'images' is empty; there is no sample")
    samples = Samples.of(None, _texts(path, "ids", ids), classes or named, split, count=len(images))
    if label_array is not None:
        samples = labelled(
            samples, labels, lambda: indices(str(path), label_array, samples.classes, named)
        )
    return ArrayDataset(images, samples)
