"""A folder that Hugging Face ``datasets`` saved with ``save_to_disk``."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from committee.data.base import BrokenSamplesError, digest
from committee.data.files import decoded, reason_of
from committee.errors import DataError, MisalignedError, MissingExtraError, UnknownNameError
from committee.predictions import Array
from committee.samples import Samples

if TYPE_CHECKING:
    from PIL.Image import Image


class HuggingFaceDataset:
    """Encoded pictures of an Arrow table, decoded when they are read.

    Args:
        encoded: What gives, for a list of rows, ``bytes`` or ``path`` of each.
        samples: One entry a row.
    """

    def __init__(self, encoded: Any, samples: Samples) -> None:
        self._encoded = encoded
        self.samples = samples

    def read(self, rows: Array) -> list[Image]:
        """See :class:`committee.data.base.Dataset`."""
        pictures, broken = [], []
        for row, each in zip(rows.tolist(), self._encoded(rows), strict=True):
            try:
                pictures.append(decoded(BytesIO(_bytes(each))))
            except Exception as error:  # Pillow's decoders raise of every kind
                broken.append((self.samples.ids[row], reason_of(error)))
        if broken:
            raise BrokenSamplesError(broken)
        return pictures

    def digests(self, rows: Array) -> Array:
        """See :class:`committee.data.base.Dataset`."""
        return np.array([_digest(each) for each in self._encoded(rows)], np.uint64)


def is_saved(root: Path) -> bool:
    """Whether a folder was written by ``save_to_disk``."""
    return (root / "dataset_dict.json").exists() or (root / "dataset_info.json").exists()


def open_saved(root: Path, split: str, classes: Sequence[str]) -> HuggingFaceDataset:
    """Open a data set saved to disk.

    Pictures stand in its only column of images, labels in ``label`` or its only column of class
    labels, ids in ``id`` if there is one.

    Args:
        root: The folder; of several splits, the one named ``split`` is taken.
        split: Name for the split.
        classes: Names of the classes in the order of the models' outputs.

    Raises:
        DataError: If it cannot be read, or does not have one column of images.
        UnknownNameError: If it has several splits, and none of that name.
        MisalignedError: If its classes are not those of the models.
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
    features = found.features
    column = _only(root, "images", [n for n, f in features.items() if type(f) is datasets.Image])
    labels = [n for n, f in features.items() if type(f) is datasets.ClassLabel]
    label = "label" if "label" in features else (labels or [None])[0]
    named = features[label].names if label in labels else []
    told = None if label is None else np.array(found[label][:])
    if label in labels and classes:
        told = _reordered(root, told, named, classes)
    ids = found["id"][:] if "id" in features else None
    samples = Samples.of(told, ids, classes or named, split, len(found))
    pictures = found.select_columns([column]).cast_column(column, datasets.Image(decode=False))
    return HuggingFaceDataset(lambda rows: pictures[rows.tolist()][column], samples)


def _only(root: Path, what: str, columns: Sequence[str]) -> str:
    if len(columns) != 1:
        raise DataError(
            f"{root}: has {len(columns)} columns of {what} ({', '.join(columns) or 'none'}), needs "
            "just one. Choose it with datasets' select_columns and save again"
        )
    return columns[0]


def _reordered(root: Path, labels: Any, named: Sequence[str], classes: Sequence[str]) -> Array:
    """Labels in the order of the models' outputs, matched by the names of the classes."""
    strange = [name for name in named if name not in classes]
    if strange:
        raise MisalignedError(
            f"{root}: classes {', '.join(map(repr, strange[:3]))} are no classes of the models, "
            f"which are {', '.join(classes[:3])}, …. Name them alike"
        )
    index = np.array([list(classes).index(name) for name in named], np.int64)
    ordered: Array = index[np.asarray(labels)]
    return ordered


def _bytes(encoded: dict[str, Any]) -> bytes:
    data: bytes | None = encoded["bytes"]
    return Path(encoded["path"]).read_bytes() if data is None else data


def _digest(encoded: dict[str, Any]) -> int:
    try:
        return digest(_bytes(encoded))
    except (OSError, TypeError):
        # Reading it will say why.
        return 0
