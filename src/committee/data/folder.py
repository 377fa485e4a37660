"""A folder of pictures: one folder a class, or all in one place and without labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from committee.data.base import BrokenSamplesError
from committee.errors import DataError, MisalignedError, MissingExtraError
from committee.models.preprocessing import as_image
from committee.predictions import Array
from committee.samples import Samples

if TYPE_CHECKING:
    from PIL.Image import Image

ENDINGS = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm"})


class FolderDataset:
    """Picture files, decoded when they are read.

    Args:
        root: The folder.
        samples: Ids are paths relative to ``root``.
    """

    def __init__(self, root: Path, samples: Samples) -> None:
        self._root = root
        self.samples = samples

    def read(self, rows: Array) -> list[Image]:
        """See :class:`committee.data.base.Dataset`."""
        pictures, broken = [], []
        for row in rows:
            name = self.samples.ids[row]
            try:
                pictures.append(_decoded(self._root / name))
            except Exception as error:  # Pillow's decoders raise of every kind
                broken.append((name, str(error).split("\n")[0] or type(error).__name__))
        if broken:
            raise BrokenSamplesError(broken)
        return pictures


def _decoded(path: Path) -> Image:
    from PIL import Image

    with Image.open(path) as picture:
        # What EXIF says is read while the file is open.
        return as_image(picture)


def open_folder(root: Path, split: str, classes: Sequence[str]) -> FolderDataset:
    """Open a folder: ``root/CLASS/picture`` with labels, or ``root/picture`` without.

    Args:
        root: The folder.
        split: Name for the split.
        classes: Names of the classes in the order of the models' outputs; needed
            where folders are labels. A slash in a name is an underscore in its folder's.

    Raises:
        DataError: If there is no picture.
        MisalignedError: If a folder is none of the classes, none are known, or only
            some pictures lie in folders.
        MissingExtraError: If Pillow is not installed.
    """
    try:
        import PIL  # noqa: F401  # only to name the remedy before any work is done
    except ImportError:
        raise MissingExtraError.of("Reading pictures", "Pillow", "images") from None
    ids = sorted(
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if path.suffix.lower() in ENDINGS and path.is_file()
    )
    if not ids:
        raise DataError(f"{root}: no picture in it or its folders ({', '.join(sorted(ENDINGS))})")
    folders = [Path(name).parts[0] if "/" in name else "" for name in ids]
    if not any(folders):
        return FolderDataset(root, Samples(tuple(ids), None, tuple(classes), split))
    if not all(folders):
        raise MisalignedError(
            f"{root}: {ids[folders.index('')]!r} lies in no folder of a class, others do. "
            "Put every picture into the folder of its class, or all into one and go without labels"
        )
    if not classes:
        listed = ", ".join(f'"{name}"' for name in sorted(set(folders))[:12])
        raise MisalignedError(
            f"{root}: the folders are labels, but nothing says which output is which. "
            f"Name the classes in the order of the outputs, in the pool file: classes = [{listed}]"
        )
    names = tuple(classes)
    # A folder's name can hold no slash.
    index = {name.replace("/", "_"): position for position, name in enumerate(names)}
    strange = sorted({folder for folder in folders if folder not in index})
    if strange:
        raise MisalignedError(
            f"{root}: folders {', '.join(map(repr, strange[:3]))} are no classes of the models, "
            f"which are {', '.join(names[:3])}, …. Name each folder as its class"
        )
    labels = np.array([index[folder] for folder in folders], np.int64)
    return FolderDataset(root, Samples(tuple(ids), labels, names, split))
