"""A folder that Hugging Face ``datasets`` saved with ``save_to_disk``."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from committee.arrays import Array
from committee.data.base import BrokenSamplesError, check_regular, digest, digest_of
from committee.data.files import decoded, reason_of
from committee.errors import DataError, MissingExtraError, UnknownNameError
from committee.pool.labels import LabelMode, indices, labelled, noted, unused
from committee.pool.samples import Samples

if TYPE_CHECKING:
    from PIL.Image import Image


class HuggingFaceDataset:
    """Encoded images of an Arrow table, decoded when they are read.

    Args:
        encoded: What gives, for a list of rows, ``bytes`` or ``path`` of each.
        samples: One entry a row.
    """

    def __init__(self, encoded: Any, samples: Samples) -> None:
        self._encoded = encoded
        self.samples = samples

    def read(self, rows: Array) -> list[Image]:
        """See :class:`committee.data.base.Dataset`."""
        images, broken = [], []
        for row, each in zip(rows.tolist(), self._encoded(rows), strict=True):
            try:
                images.append(decoded(BytesIO(_bytes(each))))
            except Exception as error:  # Pillow's decoders raise of every kind
                broken.append((self.samples.ids[row], reason_of(error)))
        if broken:
            raise BrokenSamplesError(broken)
        return images

    def digests(self, rows: Array) -> Array:
        """See :class:`committee.data.base.Dataset`."""
        return np.array([_digest(each) for each in self._encoded(rows)], np.uint64)


def is_saved(root: Path) -> bool:
    """Whether a folder was written by ``save_to_disk``."""
    return (root / "dataset_dict.json").exists() or (root / "dataset_info.json").exists()


def open_saved(
    root: Path, split: str, classes: Sequence[str], labels: LabelMode = "must fit"
) -> HuggingFaceDataset:
    """Open a data set saved to disk.

    Images stand in its only column of images, labels in ``label`` or its only column of class
    labels, ids in ``id`` if there is one. Images that lie outside, in files, are read there.

    Args:
        root: The folder; of several splits, the one named ``split`` is taken.
        split: Name for the split.
        classes: Names of the classes in the order of the models' outputs; its own may stand in
            another order.
        labels: What labels that do not fit mean; see :func:`committee.data.open_data`.

    Raises:
        DataError: If it cannot be read, or does not have one column of images.
        UnknownNameError: If it has several splits, and none of that name.
        MisalignedError: If labels must fit, and its classes are not among those of the models.
        MissingExtraError: If ``datasets`` is not installed.
    """
    try:
        import datasets
    except ImportError:
        raise MissingExtraError.of(str(root), "datasets", "datasets") from None
    try:
        found = datasets.load_from_disk(str(root))
    except Exception as error:  # Arrow raises of every kind
        reason = str(error).split("\n")[0]
        raise DataError(f"{root}: no readable data set of datasets ({reason})") from None
    if isinstance(found, datasets.DatasetDict):
        if split not in found:
            raise UnknownNameError.of(f"{root} (name one as {root}/SPLIT)", "split", split, found)
        found = found[split]
    _check(root, found)
    features = found.features
    column = _only(root, "images", [n for n, f in features.items() if type(f) is datasets.Image])
    of_classes = [n for n, f in features.items() if type(f) is datasets.ClassLabel]
    label = "label" if "label" in features else (of_classes or [None])[0]
    named = tuple(features[label].names) if label in of_classes else ()
    others = [name for name in features if name not in (column, label, "id")]
    ids = found["id"][:] if "id" in features else None
    samples = noted(Samples.of(None, ids, classes or named, split, len(found)), unused(others))
    if label is not None:
        samples = labelled(
            samples, labels, lambda: indices(str(root), found[label][:], samples.classes, named)
        )
    images = found.select_columns([column]).cast_column(column, datasets.Image(decode=False))
    return HuggingFaceDataset(lambda rows: images[rows.tolist()][column], samples)


def _check(root: Path, found: Any) -> None:
    """Refuse a table whose offsets lead out of it: Arrow follows them without a look.

    Raises:
        DataError: If it is damaged.
    """
    try:
        found.data.table.validate(full=True)
    except Exception as error:  # Arrow raises of every kind
        reason = str(error).split("\n")[0]
        raise DataError(f"{root}: damaged data set ({reason})") from None


def _only(root: Path, what: str, columns: Sequence[str]) -> str:
    if len(columns) != 1:
        raise DataError(
            f"{root}: has {len(columns)} columns of {what} ({', '.join(columns) or 'none'}), needs "
            "just one. Choose it with datasets' select_columns and save again"
        )
    return columns[0]


def _bytes(encoded: dict[str, Any] | None) -> bytes:
    if encoded is None:
        raise DataError("no image")
    data: bytes | None = encoded["bytes"]
    if data is not None:
        return data
    check_regular(Path(encoded["path"]))
    return Path(encoded["path"]).read_bytes()


def _digest(encoded: dict[str, Any] | None) -> int:
    if encoded is None or encoded["bytes"] is None:
        return digest_of(Path((encoded or {}).get("path") or ""))
    return digest(encoded["bytes"])
