"""Files of samples, which a folder or a table lists; image files, decoded when they are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from committee.arrays import Array
from committee.data.base import BrokenSamplesError, Dataset, check_regular, digest_of
from committee.errors import MissingExtraError
from committee.models.inputs import as_image
from committee.pool.samples import Samples

if TYPE_CHECKING:
    from typing import IO

    from PIL.Image import Image

# Of every image that Pillow decodes by itself. Left out are what needs another program (EPS, WMF),
# what Pillow only names (HDF5, GRIB, BUFR, MPEG), and measurements without a range (FITS, PFM).
ENDINGS = frozenset(
    f".{ending}"
    for ending in (
        *("jpg", "jpeg", "jpe", "jfif", "mpo", "jp2", "j2k", "j2c", "jpc", "jpf", "jpx"),
        *("png", "apng", "gif", "webp", "avif", "avifs", "bmp", "dib", "tif", "tiff"),
        *("ppm", "pgm", "pbm", "pnm", "tga", "icb", "vda", "vst", "ico", "cur", "icns"),
        *("pcx", "dcx", "dds", "psd", "sgi", "rgb", "rgba", "bw", "qoi", "xbm", "xpm", "msp"),
        *("im", "fli", "flc", "blp", "ftc", "ftu", "gbr", "pcd", "pxr", "ras"),
    )
)


@dataclass(frozen=True)
class FileKind:
    """One kind of sample that lies in files.

    Args:
        word: What a sample is called.
        endings: Of its files, in small letters, with the dot.
        open: Makes a data set of the folder that ids are relative to, and samples.
    """

    word: str
    endings: frozenset[str]
    open: Callable[[Path, Samples], Dataset]


class FilesDataset:
    """Image files, decoded when they are read.

    Args:
        root: The folder that ids are relative to.
        samples: Ids are paths of the files.

    Raises:
        MissingExtraError: If Pillow is not installed.
    """

    def __init__(self, root: Path, samples: Samples) -> None:
        try:
            import PIL  # noqa: F401  # only to name the remedy before any work is done
        except ImportError:
            raise MissingExtraError.of("Reading images", "Pillow", "images") from None
        self._root = root
        self.samples = samples

    def read(self, rows: Array) -> list[Image]:
        """See :class:`committee.data.base.Dataset`."""
        images, broken = [], []
        for row in rows.tolist():
            name = self.samples.ids[row]
            try:
                check_regular(self._root / name)
                images.append(decoded(self._root / name))
            except Exception as error:  # Pillow's decoders raise of every kind
                broken.append((name, reason_of(error)))
        if broken:
            raise BrokenSamplesError(broken, where=self._root)
        return images

    def digests(self, rows: Array) -> Array:
        """See :class:`committee.data.base.Dataset`."""
        return digests_of(self._root, self.samples, rows)


def digests_of(root: Path, samples: Samples, rows: Array) -> Array:
    """The digests of some files, shape (n,); 0 of one that cannot be opened.

    Args:
        root: The folder that ids are relative to.
        samples: Ids are paths of the files.
        rows: Which, shape (n,).
    """
    return np.array([digest_of(root / samples.ids[row]) for row in rows], np.uint64)


def decoded(file: Path | IO[bytes]) -> Image:
    """An image file as a PIL image with its pixels in memory; of several frames the first.

    Raises:
        Exception: Of any kind, if it cannot be read; see :func:`reason_of`.
    """
    from PIL import Image

    with Image.open(file) as image:
        image.load()
        return as_image(image)


def reason_of(error: Exception) -> str:
    """Why an image cannot be read, in one line for people."""
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        # Told by its header, before any pixel is in memory.
        return f"{str(error).partition(',')[0]}; make it smaller"
    if isinstance(error, UnidentifiedImageError):
        # Pillow names the file, or where it lies in memory: what is recorded must not depend on it.
        return "no image that Pillow knows"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).split("\n")[0] or type(error).__name__


IMAGES = FileKind("image", ENDINGS, FilesDataset)
