"""Pictures with a label picture each: ``images/`` and ``labels/``, matched by the file's stem."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from committee.data.base import digest
from committee.data.files import ENDINGS, FilesDataset, reason_of
from committee.data.part import named_rows
from committee.errors import DataError
from committee.predictions import Array
from committee.samples import Samples

IMAGES, LABELS = "images", "labels"
_MODES = ("L", "P", "I;16", "I")


class LabelledPictures(FilesDataset):
    """Pictures and, if there are any, pictures of their labels.

    Args:
        root: The folder of the pictures.
        samples: Ids are names of the picture files.
        labels: The folder of the label pictures; None if there is none.
        ignore: The label of pixels that nobody labelled; None if all are.
    """

    def __init__(
        self, root: Path, samples: Samples, labels: Path | None, ignore: int | None
    ) -> None:
        super().__init__(root, samples)
        self._labels = labels
        self._ignore = ignore

    @property
    def labelled(self) -> bool:
        """Whether there are label pictures."""
        return self._labels is not None

    def label_digest(self, row: int) -> int:
        """A number for the bytes of a label picture; 0 if it cannot be opened."""
        try:
            return digest(self._label_path(row).read_bytes())
        except OSError:
            return 0

    def _label_path(self, row: int) -> Path:
        folder = self._labels if self._labels is not None else self._root
        return folder / f"{Path(self.samples.ids[row]).stem}.png"

    def label(self, row: int, size: tuple[int, int]) -> Array:
        """Class of each pixel of a picture, shape (height, width), int64.

        A label picture is a png, grey or with a palette, whose values are indices of classes.

        Raises:
            DataError: If it cannot be read, has colours or another size, or holds a class that is
                not there.
        """
        from PIL import Image

        if self._labels is None:
            raise DataError(f"{self._root}: there are no labels; put them into {LABELS}/ beside it")
        path = self._label_path(row)
        try:
            with Image.open(path) as picture:
                mode, values = picture.mode, np.asarray(picture).astype(np.int64)
        except Exception as error:  # Pillow's decoders raise of every kind
            raise DataError(f"{path}: no label picture ({reason_of(error)})") from None
        if mode not in _MODES or values.ndim != 2:
            raise DataError(
                f"{path}: labels are indices of classes, grey or by a palette, not of mode {mode}"
            )
        if values.shape != size:
            raise DataError(
                f"{path}: is {values.shape[0]} x {values.shape[1]} pixels, its picture {size[0]} x "
                f"{size[1]}; labels stand for pixels, one each"
            )
        self._check(path, values)
        return values

    def _check(self, path: Path, values: Array) -> None:
        classes = len(self.samples.classes)
        wrong = (values >= classes) & (values != (-1 if self._ignore is None else self._ignore))
        if classes and wrong.any():
            told = "" if self._ignore is None else f" and {self._ignore}, which is ignored"
            raise DataError(
                f"{path}: holds class {values[wrong][0]}, classes are 0 to {classes - 1}{told}. "
                "Name all classes in the pool file, or say ignore = NUMBER in its [cells]"
            )

    def picture(self, row: int, size: tuple[int, int]) -> Array:
        """A picture as bytes (height, width, 3).

        Raises:
            BrokenSamplesError: If it cannot be read.
            DataError: If it has another size, in pixels.
        """
        values = np.asarray(self.read(np.array([row]))[0].convert("RGB"))
        if values.shape[:2] != size:
            name = self._root / self.samples.ids[row]
            raise DataError(
                f"{name}: is {values.shape[0]} x {values.shape[1]} pixels, the pool file says "
                f"{size[0]} x {size[1]}. Resize pictures and labels to one size, or change "
                "resolution"
            )
        return values


def open_segmentation(
    root: str | Path,
    split: str = "val",
    classes: Sequence[str] = (),
    ignore: int | None = None,
    rows: str | None = None,
    labels: bool = True,
) -> LabelledPictures:
    """Open ``root/images`` and ``root/labels``; without labels ``root`` may hold the pictures.

    Args:
        root: The folder.
        split: Name for the split.
        classes: Names of the classes, in the order of the models' outputs.
        ignore: The label of pixels that nobody labelled.
        rows: ``START:STOP:STEP`` to take only some, in the order of their names.
        labels: Whether every picture needs labels.

    Raises:
        DataError: If there is no picture, two have one stem, or one has no labels.
    """
    root = Path(root)
    folder = root / IMAGES if (root / IMAGES).is_dir() else root
    names = sorted(p.name for p in folder.glob("*") if p.suffix.lower() in ENDINGS)
    if not names:
        raise DataError(
            f"data {root}: no picture in {folder}. Segmentation takes a folder with {IMAGES}/ and "
            f"{LABELS}/, one label picture for each picture"
        )
    twice, count = Counter(Path(name).stem for name in names).most_common(1)[0]
    if count > 1:
        raise DataError(f"{folder}: {count} pictures are called {twice!r}; labels go by that name")
    if rows is not None:
        names = [names[row] for row in named_rows(rows, len(names)).tolist()]
    beside = root / LABELS if labels else None
    if beside is not None:
        known = {path.stem for path in beside.glob("*.png")}
        lacking = [name for name in names if Path(name).stem not in known]
        if lacking:
            raise DataError(
                f"{beside}: {len(lacking)} of {len(names)} pictures have no labels, "
                f"{Path(lacking[0]).stem}.png first. Add them, or take those pictures away"
            )
    samples = Samples(
        tuple(names), None, tuple(classes), split, rule=f"rows {rows}" if rows else ""
    )
    return LabelledPictures(folder, samples, beside, ignore)
