"""Files of samples, which a folder or a table lists; image files, decoded when they are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from committee.arrays import Array
from committee.data.base import BrokenSamplesError, Dataset, digest_of
from committee.errors import needing
from committee.models.inputs import as_image
from committee.pool.samples import Samples
from committee.reading import check_regular

if TYPE_CHECKING:
    from typing import IO

    from PIL.Image import Image

# Images that Pillow decodes by itself. Not what needs another program (EPS, WMF), what Pillow only
# recognises (HDF5, GRIB, BUFR, MPEG), and measurements without a range (FITS, PFM).
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
        endings: Endings of its files, in small letters, with the dot.
        open: Makes a data set of the folder that ids are relative to, and samples.
    """

    word: str
    endings: frozenset[str]
    open: Callable[[Path, Samples], Dataset]


class FilesDataset:
    """Image files, decoded when they are read. Other kinds of files override :meth:`decode`.

    Args:
        root: The folder that ids are relative to.
        samples: Ids are paths of the files.

    Raises:
        MissingExtraError: If Pillow is not installed.
    """

    def __init__(self, root: Path, samples: Samples) -> None:
        with needing("Reading images", "Pillow", "images"):
            import PIL  # noqa: F401  # only to name the remedy before any work is done
        self._root = root
        self.samples = samples

    def decode(self, path: Path) -> Any:
        """Return the sample of a file; raise any error if it cannot be read."""
        return decoded(path)

    def reason(self, error: Exception) -> str:
        """Return why a file cannot be read, in one line."""
        return reason_of(error)

    def read(self, rows: Array) -> list[Any]:
        """See :class:`committee.data.base.Dataset`."""
        read, broken = [], []
        for row in rows.tolist():
            name = self.samples.ids[row]
            try:
                check_regular(self._root / name)
                read.append(self.decode(self._root / name))
            except Exception as error:  # decoders raise many kinds
                broken.append((name, self.reason(error)))
        if broken:
            raise BrokenSamplesError(broken, where=self._root)
        return read

    def digests(self, rows: Array) -> Array:
        """See :class:`committee.data.base.Dataset`."""
        return np.array([digest_of(self._root / self.samples.ids[row]) for row in rows], np.uint64)


def decoded(file: Path | IO[bytes]) -> Image:
    """Return an image file, the first of several frames, with its pixels in memory.

    Raises:
        Exception: Of any kind, if it cannot be read; see :func:`reason_of`.
    """
    from PIL import Image

    with Image.open(file) as image:
        image.load()
        return as_image(image)


def reason_of(error: Exception) -> str:
    """Return why an image cannot be read, in one line."""
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        # Raised by the header, before any pixel is in memory.
        return f"{str(error).partition(',')[0]}; make it smaller"
    if isinstance(error, UnidentifiedImageError):
        # Pillow's text has the file's path, or its address in memory, which must not be recorded.
        return "no image that Pillow knows"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).split("\n")[0] or type(error).__name__


IMAGES = FileKind("image", ENDINGS, FilesDataset)
