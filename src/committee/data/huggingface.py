"""A folder that Hugging Face ``datasets`` saved with ``save_to_disk``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from committee.arrays import Array
from committee.data.base import BrokenSamplesError, digest, digest_of
from committee.data.files import decoded, reason_of
from committee.errors import DataError, UnknownNameError, needing
from committee.pool.labels import LabelMode, indices, labelled, unused_note, with_notes
from committee.pool.samples import Samples
from committee.reading import check_regular
from committee.text import first_line

if TYPE_CHECKING:
    from PIL.Image import Image

# An image of the table: ``bytes``, or else the ``path`` of a file.
Encoded = dict[str, Any] | None


class _HuggingFaceDataset:
    """Encoded images of an Arrow table, decoded when they are read.

    ``encoded`` returns the encoded images of an array of rows.
    """

    def __init__(self, encoded: Callable[[Array], list[Encoded]], samples: Samples) -> None:
        self._encoded = encoded
        self.samples = samples

    def read(self, rows: Array) -> list[Image]:
        """See :class:`committee.data.base.Dataset`."""
        images, broken = [], []
        for row, each in zip(rows.tolist(), self._encoded(rows), strict=True):
            try:
                images.append(decoded(BytesIO(_bytes(each))))
            except Exception as error:  # Pillow's decoders raise many kinds
                broken.append((self.samples.ids[row], reason_of(error)))
        if broken:
            raise BrokenSamplesError(broken)
        return images

    def digests(self, rows: Array) -> Array:
        """See :class:`committee.data.base.Dataset`."""
        return np.array([_digest(each) for each in self._encoded(rows)], np.uint64)


def is_saved(root: Path) -> bool:
    """Return True if ``save_to_disk`` wrote a folder."""
    return (root / "dataset_dict.json").exists() or (root / "dataset_info.json").exists()


def open_saved(
    root: Path, split: str, classes: Sequence[str], labels: LabelMode = "must fit"
) -> _HuggingFaceDataset:
    """Open a saved data set; of several splits, the one named ``split``.

    Images are its only column of images, labels ``label`` or its only column of class labels, ids
    ``id`` if there is one. Images may be stored as paths of files. Its classes may be in another
    order than those of the models.
    """
    saved = load_saved(root, split)
    import datasets  # after the line that says what is missing

    features = saved.features
    column = _only_column(root, [n for n, f in features.items() if type(f) is datasets.Image])
    of_classes = [n for n, f in features.items() if type(f) is datasets.ClassLabel]
    label = "label" if "label" in features else (of_classes or [None])[0]
    named = tuple(features[label].names) if label in of_classes else ()
    others = [name for name in features if name not in (column, label, "id")]
    ids = saved["id"][:] if "id" in features else None
    samples = with_notes(
        Samples.of(None, ids, classes or named, split, len(saved)), unused_note(others)
    )
    if label is not None:
        samples = labelled(
            samples, labels, lambda: indices(str(root), saved[label][:], samples.classes, named)
        )
    images = saved.select_columns([column]).cast_column(column, datasets.Image(decode=False))
    return _HuggingFaceDataset(lambda rows: images[rows.tolist()][column], samples)


def load_saved(root: Path, split: str) -> Any:
    """Return a saved data set, checked; of several splits, the one named ``split``."""
    with needing(str(root), "datasets", "datasets"):
        import datasets
    try:
        saved = datasets.load_from_disk(str(root))
    except Exception as error:  # Arrow raises many kinds
        raise DataError(f"{root}: no readable data set of datasets ({first_line(error)})") from None
    if isinstance(saved, datasets.DatasetDict):
        if split not in saved:
            raise UnknownNameError.of(f"{root} (name one as {root}/SPLIT)", "split", split, saved)
        saved = saved[split]
    _check(root, saved)
    return saved


def _check(root: Path, saved: Any) -> None:
    """Refuse a damaged table: Arrow would follow offsets out of it."""
    try:
        saved.data.table.validate(full=True)
    except Exception as error:  # Arrow raises many kinds
        raise DataError(f"{root}: damaged data set ({first_line(error)})") from None


def _only_column(root: Path, columns: Sequence[str]) -> str:
    if len(columns) != 1:
        raise DataError(
            f"{root}: has {len(columns)} columns of images ({', '.join(columns) or 'none'}), needs "
            "just one. Choose it with datasets' select_columns and save again"
        )
    return columns[0]


def _bytes(encoded: Encoded) -> bytes:
    if encoded is None:
        raise DataError("no image")
    data: bytes | None = encoded["bytes"]
    if data is not None:
        return data
    check_regular(Path(encoded["path"]))
    return Path(encoded["path"]).read_bytes()


def _digest(encoded: Encoded) -> int:
    if encoded is None or encoded["bytes"] is None:
        return digest_of(Path((encoded or {}).get("path") or ""))
    return digest(encoded["bytes"])
