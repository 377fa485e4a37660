"""Names that a file, a folder or a model brings, matched with the classes of the models."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from committee.errors import DataError, MisalignedError
from committee.predictions import Array
from committee.text import difference, listed, tidy

# No list of classes is larger.
_MOST_BYTES = 2**24


def class_names(where: str, lines: Sequence[str]) -> tuple[str, ...]:
    """Return the names of classes, one a line, as they are compared; see :func:`tidy`.

    Empty lines at the end are no classes.

    Raises:
        DataError: If a line between two names is empty.
    """
    names = [tidy(line) for line in lines]
    while names and not names[-1]:
        names.pop()
    if "" in names:
        raise DataError(
            f"{where}: line {names.index('') + 1} is empty; each line must name a class, in the "
            "order of the outputs"
        )
    return tuple(names)


def read_class_names(where: str, path: Path) -> tuple[str, ...]:
    """Return the names of classes of a text file, one a line; see :func:`class_names`.

    Raises:
        DataError: If it is no file, too large, no UTF-8 text, or a line names nothing.
    """
    try:
        if path.exists() and not path.is_file():
            raise DataError(f"{where} {path}: is no file; name a text file of one class a line")
        if path.stat().st_size > _MOST_BYTES:
            raise DataError(f"{where} {path}: is too large for a list of class names")
        # Windows puts a byte order mark before the text.
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no UTF-8 text"
        raise DataError(f"{where} {path}: cannot be read ({reason})") from None
    if "\0" in text:
        raise DataError(f"{where} {path}: holds a NUL, so it is no text")
    return class_names(str(path), text.split("\n"))


def doubled(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names that stand more than once, in their order."""
    return tuple(name for name, count in Counter(map(tidy, names)).items() if count > 1)


def refuse_doubled(where: str, classes: Sequence[str], why: str) -> None:
    """Refuse class names that stand twice, where something is found by its class's name.

    Args:
        where: What brings the names, for the error.
        classes: Names of the classes.
        why: What is found by name, for the error: ``labels are names``.

    Raises:
        MisalignedError: If a name stands twice.
    """
    twice = doubled(classes)
    if twice:
        rows = [i for i, name in enumerate(classes) if tidy(name) == twice[0]]
        raise MisalignedError(
            f"{where}: {why}, but classes {' and '.join(map(str, rows))} are both called "
            f"{twice[0]!r}. Give each class a name of its own (every line of classes.txt), or "
            "write labels as indices 0, 1, …"
        )


def matched(
    where: str,
    found: Sequence[str],
    classes: Sequence[str],
    what: str = "classes",
    spelled: Callable[[str], str] = tidy,
) -> Array:
    """Return the index of each found name among the classes, shape (len(found),).

    Args:
        where: What brings the names, for errors.
        found: Names as they stand there, in their order; they need not be all classes.
        classes: Names of the classes, in the order of the models' outputs.
        what: What the names are there, for errors: ``folders``, ``columns``.
        spelled: How a name of a class is written there, beside its usual form.

    Raises:
        MisalignedError: If a name is no class, or means two.
    """
    refuse_doubled(where, classes, f"{what} are found by name")
    index = {spelled(tidy(name)): i for i, name in enumerate(classes)}
    index |= {tidy(name): i for i, name in enumerate(classes)}
    strange = [name for name in found if tidy(name) not in index]
    if strange:
        raise MisalignedError(f"{where}: {unknown(what, strange, classes)}")
    twice = doubled(found)
    if twice:
        raise MisalignedError(f"{where}: {what} {listed(twice)} stand twice")
    return np.array([index[tidy(name)] for name in found], np.int64)


def label_indices(labels: ArrayLike | None, classes: Sequence[str]) -> ArrayLike | None:
    """Return labels by name as indices of classes; indices, and None, as they are.

    Raises:
        MisalignedError: If a name is no class, or classes are not named.
    """
    array = None if labels is None else np.asarray(labels)
    if array is None or array.ndim != 1 or not len(array):
        return labels
    if array.dtype.kind not in "US" and not isinstance(array[0], str):
        return labels
    names, rows = np.unique([tidy(str(each)) for each in array.tolist()], return_inverse=True)
    if not classes:
        raise MisalignedError(
            f"labels: {listed(names.tolist())} are names, but no classes are named. Give classes, "
            "in the order of the outputs, or indices 0, 1, …"
        )
    indices: Array = matched("labels", names.tolist(), classes, "labels")[rows]
    return indices


def permutation(where: str, found: Sequence[str], classes: Sequence[str], what: str) -> Array:
    """Return for each class the place of its name among those found, shape (C,).

    ``outputs[:, permutation(...)]`` are then in the order of ``classes``.

    Args:
        where: What brings the names, for errors.
        found: Names in the order of the outputs there.
        classes: Names of the classes, in the order that is wanted.
        what: What the names are there, for errors.

    Raises:
        MisalignedError: If the two are not the same names, each once.
    """
    places = matched(where, found, classes, what)
    lacking = sorted(set(range(len(classes))) - set(places.tolist()))
    if lacking:
        raise MisalignedError(
            f"{where}: {what} name {len(found)} of {len(classes)} classes; "
            f"{listed([classes[i] for i in lacking])} are missing"
        )
    return np.argsort(places)


def unknown(what: str, strange: Sequence[str], classes: Sequence[str]) -> str:
    """Return what is wrong with names that are no classes, which are near, and the remedy.

    Args:
        what: What the names are, ``folders``; of one name ``label``.
        strange: The names.
        classes: Names of the classes.
    """
    names = list(dict.fromkeys(strange))
    alike = next((told for n in names[:20] for c in classes if (told := difference(n, c))), "")
    near = difflib.get_close_matches(tidy(names[0]), [tidy(c) for c in classes], 1)
    hint = f"; {alike}" if alike else f"; did you mean {near[0]!r}?" if near else ""
    known = listed(classes) if classes else "unnamed"
    are = "are no classes" if what.endswith("s") else "is no class"
    return (
        f"{what} {listed(names)} {are} of the models, which are {known}{hint}. "
        f"Name {what.removesuffix('s')}s and classes alike: the models' are in the pool "
        "file's classes, or in --classes of committee import"
    )
