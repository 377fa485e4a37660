"""A folder of sample files: one folder a class, or all in one place and without labels."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from committee.arrays import Array
from committee.data.base import Dataset
from committee.data.files import IMAGES, FileKind
from committee.errors import DataError, MisalignedError
from committee.pool.imagenet import IMAGENET, is_imagenet
from committee.pool.labels import LabelMode, class_rows, labelled
from committee.pool.samples import Samples
from committee.text import listed, printable

# What systems leave in folders, beside names that begin with a dot.
_OF_SYSTEMS = frozenset(
    {
        "__macosx",
        "@eadir",
        "@tmp",
        "@recycle",
        "#recycle",
        "$recycle.bin",
        "system volume information",
        "lost+found",
        "thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
        "icon\r",
    }
)
# Endings that an error names.
_USUAL = (".jpg", ".jpeg", ".png", ".tif", ".mp4", ".mov", ".avi", ".mkv")
# Classes that an error writes out, to be copied.
_WRITTEN = 12


@dataclass
class Walk:
    """What lies below a folder.

    Args:
        names: Sample files, as paths relative to the folder.
        others: Endings of the files that are no samples, and how many have each.
        hidden: Hidden and system files and folders.
        special: Pipes, devices and sockets.
        closed: Folders that cannot be read, with the reason.
    """

    names: list[str] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    hidden: list[str] = field(default_factory=list)
    special: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)

    @property
    def other_endings(self) -> str:
        """How many files are of other endings, and which; empty if none are."""
        endings = sorted(map(printable, self.others))
        more = f" and {len(endings) - 5:,} more" if len(endings) > 5 else ""
        count = _counted(self.others.total(), "file")
        named = ", ".join(endings[:5])
        return f"{count} of other endings left out: {named}{more}" if endings else ""

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out, for people; empty if nothing was."""
        told = (
            (self.hidden, "hidden or system name", "left out"),
            (self.special, "special file", "left out (pipe, device or socket)"),
            (self.closed, "folder", "left out that cannot be read"),
        )
        found = [
            f"{_counted(len(names), what)} {why}: {listed(sorted(names))}"
            for names, what, why in told
            if names
        ]
        return tuple(each for each in (self.other_endings, *found) if each)


def open_folder(
    root: Path,
    split: str,
    classes: Sequence[str],
    kind: FileKind = IMAGES,
    labels: LabelMode = "must fit",
) -> Dataset:
    """Open a folder: ``root/CLASS/file`` with labels, or ``root/file`` without.

    Hidden and system files and folders are left out, and counted in a note of the samples.

    Args:
        root: The folder.
        split: Name for the split.
        classes: Names of the classes in the order of the models' outputs; needed
            where folders are labels. A slash in a name is an underscore in its folder's, and
            ImageNet's classes may be folders of WordNet ids.
        kind: What the files are; others are passed over.
        labels: What folders that are no classes mean; see :func:`committee.data.open_data`.

    Raises:
        DataError: If there is no such file.
        MisalignedError: If labels must fit, and a folder is none of the classes, none are known, or
            only some files lie in folders.
        MissingExtraError: If what reads the files is not installed.
    """
    found = walk(root, kind.endings)
    ids = tuple(sorted(found.names))
    if not ids:
        usual = [ending for ending in _USUAL if ending in kind.endings]
        more = f" and {len(kind.endings) - len(usual)} other endings"
        others = "".join(f"; {note}" for note in found.notes)
        raise DataError(
            f"{root}: no {kind.word} in it or its folders ({', '.join(usual)}{more}){others}"
        )
    samples = Samples(ids, None, tuple(classes), split, notes=found.notes)
    folders = [name.partition("/")[0] if "/" in name else "" for name in ids]
    if any(folders):
        samples = labelled(samples, labels, lambda: _labels(root, samples, folders, kind.word))
    return kind.open(root, samples)


def _labels(root: Path, samples: Samples, folders: Sequence[str], word: str) -> Array:
    if not all(folders):
        raise MisalignedError(
            f"{root}: '{printable(samples.ids[folders.index('')])}' lies in no folder of a class, "
            f"others do. Put every {word} into the folder of its class, or all into one and go "
            "without labels"
        )
    names = sorted(set(folders))
    if not samples.classes:
        raise MisalignedError(
            f"{root}: the folders are labels, but nothing says which output is which. "
            f"{_how_to_name(names)}"
        )
    rows = class_rows(str(root), names, samples.classes, "folders")
    index = dict(zip(names, rows.tolist(), strict=True))
    return np.array([index[folder] for folder in folders], np.int64)


def _how_to_name(names: Sequence[str]) -> str:
    """Return how a pool file names the classes of some folders."""
    if is_imagenet(names):
        return f'They are ImageNet\'s: write classes = "{IMAGENET}" in the pool file'
    written = ", ".join(f'"{printable(name)}"' for name in names[:_WRITTEN])
    if len(names) > _WRITTEN:
        return (
            f"Write the names of all classes, one a line, in the order of the outputs, into a file "
            f'and classes = "THAT FILE" into the pool file; these are {len(names):,} folders, '
            f"{listed(names)}"
        )
    return (
        "Name all classes in the order of the outputs in the pool file; in the order of the "
        f"alphabet these are classes = [{written}]"
    )


def passed_over(root: Path, endings: Collection[str]) -> str:
    """How many files below a folder are of other endings, and which, for people; empty if none.

    Hidden files are not counted, for systems leave them everywhere.

    Args:
        root: The folder.
        endings: Of the files that are taken, in small letters, with the dot.
    """
    return walk(root, endings).other_endings


def is_hidden(name: str) -> bool:
    """Whether a system or a program left a file or folder of that name, and no person."""
    return name.startswith(".") or name.lower() in _OF_SYSTEMS


def walk(root: Path, endings: Collection[str]) -> Walk:
    """Return what lies below a folder; links are followed, but in no circle.

    A link that leads nowhere is a file too: reading it names it.

    Args:
        root: The folder.
        endings: Of the files that are samples, in small letters, with the dot.
    """
    found, waiting = Walk(), [""]
    while waiting:
        prefix = waiting.pop()
        try:
            with os.scandir(root / prefix) as entries:
                waiting += [f"{each}/" for each in _sorted(entries, prefix, endings, found)]
        except OSError as error:
            found.closed.append(f"{prefix or root} ({error.strerror})")
    return found


def _sorted(
    entries: Iterable[os.DirEntry[str]], prefix: str, endings: Collection[str], found: Walk
) -> list[str]:
    """Sort what lies in one folder into what was found; return the folders in it."""
    inner = []
    for entry in entries:
        name = prefix + entry.name
        if is_hidden(entry.name):
            found.hidden.append(name)
        elif _is_folder(entry):
            inner += [] if _is_circle(Path(entry.path)) else [name]
        elif _is_special(entry):
            found.special.append(name)
        elif _ending(entry.name) in endings:
            found.names.append(name)
        else:
            found.others[_ending(entry.name) if "." in entry.name else "none"] += 1
    return inner


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # links that lead to each other
        return False


def _is_special(entry: os.DirEntry[str]) -> bool:
    """Whether something is there that is no file; a link that leads nowhere is not."""
    try:
        return not entry.is_file() and Path(entry.path).exists()
    except OSError:
        return False


def _ending(name: str) -> str:
    return f".{name.rpartition('.')[2].lower()}"


def _is_circle(folder: Path) -> bool:
    return folder.is_symlink() and folder.parent.resolve().is_relative_to(folder.resolve())


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
