"""Files of samples, which a folder or a table lists; image files, decoded when they are read."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from committee.arrays import Array
from committee.data.base import (
    BrokenSamplesError,
    Dataset,
    blocks,
    digest_of,
    map_ahead,
    stamped,
    stat_of,
)
from committee.errors import DataError, MisalignedError, needing
from committee.models.inputs import as_image
from committee.pool.imagenet import IMAGENET, is_imagenet
from committee.pool.labels import LabelMode, class_rows, labelled
from committee.pool.samples import Samples
from committee.reading import check_regular
from committee.text import counted, listed, printable

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

    ``endings`` are in small letters, with the dot, None for any; ``open`` takes the folder that ids
    are relative to.
    """

    word: str
    endings: frozenset[str] | None
    open: Callable[[Path, Samples], Dataset]


class FilesDataset:
    """Image files, decoded when they are read. Other kinds of files override :meth:`decode`.

    Ids are paths relative to ``root``.
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

    def stamp(self, rows: Array) -> str:
        """See :func:`committee.data.open.stamp_of`."""
        ids = self.samples.ids

        def stats(some: Array) -> list[tuple[int, int]]:
            return [stat_of(os.path.join(self._root, ids[row])) for row in some.tolist()]  # noqa: PTH118

        return stamped(each for _, some in map_ahead(stats, blocks(rows), 8) for each in some)


def decoded(
    file: Path | IO[bytes],
    formats: tuple[str, ...] | None = None,
    check: Callable[[Image], None] | None = None,
) -> Image:
    """Return an image file, the first of several frames, with its pixels in memory.

    Args:
        file: Its path, or the open file.
        formats: Pillow's names of the formats that it may have; None for all.
        check: Called with the image before its pixels are in memory, to refuse it.

    Raises:
        Exception: Of any kind, if it cannot be read; see :func:`reason_of`.
    """
    from PIL import Image

    with Image.open(file, formats=formats) as image:
        if check is not None:
            check(image)
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


# Files that systems put into folders, beside names that begin with a dot.
_OF_SYSTEMS = frozenset(
    {
        *("__macosx", "@eadir", "@tmp", "@recycle", "#recycle", "$recycle.bin", "lost+found"),
        *("system volume information", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"),
    }
)


def is_hidden(name: str) -> bool:
    """Return True for names of files and folders that are no samples."""
    return name.startswith(".") or name.lower() in _OF_SYSTEMS


# Endings that an error names.
_USUAL = (".jpg", ".jpeg", ".png", ".tif", ".mp4", ".mov", ".avi", ".mkv")
# Classes that an error writes out, to be copied.
_WRITTEN = 12


@dataclass
class Walk:
    """The contents of a folder and the folders in it.

    ``others`` counts files of each other ending; ``special`` are pipes, devices and sockets;
    ``closed`` are folders that cannot be read; ``stamp`` tells whether the files have changed,
    if the listing told it.
    """

    names: list[str] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    hidden: list[str] = field(default_factory=list)
    special: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    stamp: str = ""

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on what was skipped."""
        notes = []
        if self.others:
            endings = sorted(map(printable, self.others))
            more = f" and {len(endings) - 5:,} more" if len(endings) > 5 else ""
            count = counted(self.others.total(), "file")
            notes.append(f"{count} of other endings skipped: {', '.join(endings[:5])}{more}")
        for names, what, why in (
            (self.hidden, "hidden or system name", "skipped"),
            (self.special, "special file", "skipped (pipe, device or socket)"),
            (self.closed, "folder", "skipped that cannot be read"),
        ):
            if names:
                notes.append(f"{counted(len(names), what)} {why}: {listed(sorted(names))}")
        return tuple(notes)


def open_folder(
    root: Path,
    split: str,
    classes: Sequence[str],
    kind: FileKind = IMAGES,
    labels: LabelMode = "must fit",
) -> Dataset:
    """Open a folder: ``root/CLASS/file`` with labels, or ``root/file`` without.

    A slash in the name of a class is an underscore in its folder's, and the classes of ImageNet may
    be folders of WordNet ids. Notes of the samples count the files that are skipped.
    """
    samples = samples_in(str(root), walk(root, kind.endings), split, classes, kind, labels)
    return kind.open(root, samples)


def samples_in(
    where: str,
    contents: Walk,
    split: str,
    classes: Sequence[str],
    kind: FileKind = IMAGES,
    labels: LabelMode = "must fit",
) -> Samples:
    """Return the samples that a folder holds, with the names of its folders as labels."""
    ids = tuple(sorted(contents.names))
    if not ids:
        others = "".join(f"; {note}" for note in contents.notes)
        raise DataError(
            f"{where}: no {kind.word} in it or its folders{_endings_text(kind.endings)}{others}"
        )
    samples = Samples(ids, None, tuple(classes), split, notes=contents.notes)
    folders = [name.partition("/")[0] if "/" in name else "" for name in ids]
    if any(folders):
        samples = labelled(samples, labels, lambda: _labels(where, samples, folders, kind.word))
    return samples


def _endings_text(endings: frozenset[str] | None) -> str:
    if endings is None:
        return ""
    usual = [ending for ending in _USUAL if ending in endings]
    return f" ({', '.join(usual)} and {len(endings) - len(usual)} other endings)"


def _labels(root: str, samples: Samples, folders: Sequence[str], word: str) -> Array:
    if not all(folders):
        raise MisalignedError(
            f"{root}: '{printable(samples.ids[folders.index('')])}' is in no folder of a class, "
            f"others are. Put every {word} into the folder of its class, or all into one and go "
            "without labels"
        )
    names = sorted(set(folders))
    if not samples.classes:
        raise MisalignedError(
            f"{root}: the folders are labels, but nothing says which output is which. "
            f"{_how_to_name(names)}"
        )
    rows = class_rows(root, names, samples.classes, "folders")
    index = dict(zip(names, rows.tolist(), strict=True))
    return np.array([index[folder] for folder in folders], np.int64)


def _how_to_name(names: Sequence[str]) -> str:
    """Return how a pool file names the classes of some folders."""
    if is_imagenet(names):
        return f'They are ImageNet\'s: write classes = "{IMAGENET}" in the pool file'
    if len(names) > _WRITTEN:
        return (
            f"Write the names of all classes, one per line, in the order of the outputs, into a "
            f'file and classes = "THAT FILE" into the pool file; these are {len(names):,} folders, '
            f"{listed(names)}"
        )
    written = ", ".join(f'"{printable(name)}"' for name in names)
    return (
        "Name all classes in the order of the outputs in the pool file; in the order of the "
        f"alphabet these are classes = [{written}]"
    )


def walk(root: Path, endings: Collection[str] | None) -> Walk:
    """Return the contents of a folder and the folders in it; links are followed, but in no circle.

    A link to nothing counts as a file: reading it names it.
    """
    contents, waiting = Walk(), [""]
    while waiting:
        prefix = waiting.pop()
        try:
            with os.scandir(root / prefix) as entries:
                waiting += [
                    f"{each}/" for each in _sort_entries(entries, prefix, endings, contents)
                ]
        except OSError as error:
            contents.closed.append(f"{prefix or root} ({error.strerror})")
    return contents


def _sort_entries(
    entries: Iterable[os.DirEntry[str]],
    prefix: str,
    endings: Collection[str] | None,
    contents: Walk,
) -> list[str]:
    """Add the files of one folder to ``contents``; return the folders in it."""
    folders = []
    for entry in entries:
        name = prefix + entry.name
        ending = f".{entry.name.rpartition('.')[2].lower()}"
        if is_hidden(entry.name):
            contents.hidden.append(name)
        elif _is_folder(entry):
            folders += [] if _is_circle(Path(entry.path)) else [name]
        elif _is_special(entry):
            contents.special.append(name)
        elif endings is None or ending in endings:
            contents.names.append(name)
        else:
            contents.others[ending if "." in entry.name else "none"] += 1
    return folders


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # links that lead to each other
        return False


def _is_special(entry: os.DirEntry[str]) -> bool:
    """Return True for what exists and is no file; a link to nothing is not special."""
    try:
        return not entry.is_file() and Path(entry.path).exists()
    except OSError:
        return False


def _is_circle(folder: Path) -> bool:
    return folder.is_symlink() and folder.parent.resolve().is_relative_to(folder.resolve())
