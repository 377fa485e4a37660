"""A folder of sample files: one folder a class, or all in one place and without labels."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np

from committee.data.base import Dataset
from committee.data.files import PICTURES, FileKind
from committee.errors import DataError, MisalignedError
from committee.samples import Samples


def open_folder(
    root: Path, split: str, classes: Sequence[str], kind: FileKind = PICTURES
) -> Dataset:
    """Open a folder: ``root/CLASS/file`` with labels, or ``root/file`` without.

    Args:
        root: The folder.
        split: Name for the split.
        classes: Names of the classes in the order of the models' outputs; needed
            where folders are labels. A slash in a name is an underscore in its folder's.
        kind: What the files are; others are passed over.

    Raises:
        DataError: If there is no such file.
        MisalignedError: If a folder is none of the classes, none are known, or only
            some pictures lie in folders.
        MissingExtraError: If what reads the files is not installed.
    """
    ids = sorted(_files(root, kind.endings))
    if not ids:
        listed = ", ".join(sorted(kind.endings))
        raise DataError(f"{root}: no {kind.word} in it or its folders ({listed})")
    folders = [Path(name).parts[0] if "/" in name else "" for name in ids]
    if not any(folders):
        return kind.open(root, Samples(tuple(ids), None, tuple(classes), split))
    if not all(folders):
        raise MisalignedError(
            f"{root}: {ids[folders.index('')]!r} lies in no folder of a class, others do. "
            f"Put every {kind.word} into the folder of its class, or all into one and go without "
            "labels"
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
    return kind.open(root, Samples(tuple(ids), labels, names, split))


def passed_over(root: Path, endings: Collection[str]) -> str:
    """How many files below a folder are of other endings, and which, for people; empty if none.

    Hidden files are not counted, for systems leave them everywhere.

    Args:
        root: The folder.
        endings: Of the files that are taken, in small letters, with the dot.
    """
    names = (name.rpartition("/")[2] for name in _files(root, None))
    others = Counter(
        _ending(name) if "." in name else "none"
        for name in names
        if not name.startswith(".") and _ending(name) not in endings
    )
    count = others.total()
    plural = "" if count == 1 else "s"
    listed = ", ".join(sorted(others))
    return f"{count:,} file{plural} of other endings left out: {listed}" if count else ""


def _files(root: Path, endings: Collection[str] | None) -> Iterator[str]:
    """Paths of the files below a folder, relative to it; links are followed, but in no circle.

    Of all endings if none are given.
    A link that leads nowhere is a file too: reading it names it.
    """
    for folder, inner, names in os.walk(root, followlinks=True):
        here = Path(folder)
        inner[:] = [name for name in inner if not _is_circle(here / name)]
        prefix = "" if here == root else f"{here.relative_to(root).as_posix()}/"
        for name in names:
            if endings is None or _ending(name) in endings:
                yield prefix + name


def _ending(name: str) -> str:
    return f".{name.rpartition('.')[2].lower()}"


def _is_circle(folder: Path) -> bool:
    return folder.is_symlink() and folder.parent.resolve().is_relative_to(folder.resolve())
