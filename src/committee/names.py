"""Names of classes in files, folders and models, matched with the classes of the models."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from committee.arrays import Array
from committee.errors import DataError, MisalignedError, UnreadableError
from committee.reading import read_text
from committee.text import difference, listed, tidy

# No list of classes is larger.
_MOST_BYTES = 2**24
# Names of columns that only count, and prefixes of names of classes.
COUNTED = re.compile(r"(?P<before>.*?)(?P<number>\d+)")
PREFIX = re.compile(
    r"(logits?|probs?|probabilit(?:y|ies)|p|scores?|class|outputs?|out)[ _.:/-]+", re.IGNORECASE
)


def class_names(where: str, lines: Sequence[str]) -> tuple[str, ...]:
    """Return names of classes, one per line, for comparison; empty lines at the end are dropped."""
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
    """Return the names of classes in a text file, one per line; see :func:`class_names`."""
    try:
        text = read_text(path, _MOST_BYTES)
    except (OSError, UnreadableError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{where} {path}: cannot be read ({reason})") from None
    if "\0" in text:
        raise DataError(f"{where} {path}: holds a NUL, so it is no text")
    return class_names(str(path), text.split("\n"))


def doubled(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names that occur more than once, in their order."""
    return tuple(name for name, count in Counter(map(tidy, names)).items() if count > 1)


def refuse_doubled(where: str, classes: Sequence[str], why: str) -> None:
    """Refuse class names that occur twice, if something is looked up by them.

    ``why`` says why they must be unique: ``labels are names``.
    """
    twice = doubled(classes)
    if twice:
        rows = [i for i, name in enumerate(classes) if tidy(name) == twice[0]]
        raise MisalignedError(
            f"{where}: {why}, but classes {' and '.join(map(str, rows))} are both called "
            f"{twice[0]!r}. Give each class a name of its own, or "
            "write labels as indices 0, 1, …"
        )


def matched(
    where: str,
    names: Sequence[str],
    classes: Sequence[str],
    what: str = "classes",
    spelled: Callable[[str], str] = tidy,
) -> Array:
    """Return the index of each name among the classes, shape (n,).

    Some of the classes are enough. ``what`` says what the names are, as ``folders``; ``spelled``
    gives another spelling of a class that counts.
    """
    refuse_doubled(where, classes, f"{what} are found by name")
    index = {spelled(tidy(name)): i for i, name in enumerate(classes)}
    index |= {tidy(name): i for i, name in enumerate(classes)}
    strange = [name for name in names if tidy(name) not in index]
    if strange:
        raise MisalignedError(f"{where}: {unknown(what, strange, classes)}")
    twice = doubled(names)
    if twice:
        raise MisalignedError(f"{where}: {what} {listed(twice)} stand twice")
    return np.array([index[tidy(name)] for name in names], np.int64)


def permutation(where: str, names: Sequence[str], classes: Sequence[str], what: str) -> Array:
    """Return the place of each class among the names, shape (C,).

    ``outputs[:, permutation(...)]`` are in the order of ``classes``.
    """
    places = matched(where, names, classes, what)
    lacking = sorted(set(range(len(classes))) - set(places.tolist()))
    if lacking:
        raise MisalignedError(
            f"{where}: {what} name {len(names)} of {len(classes)} classes; "
            f"{listed([classes[i] for i in lacking])} are missing"
        )
    return np.argsort(places)


def numbering(names: Sequence[str]) -> Array | None:
    """Return the order of columns that only count, shape (C,); None if they are names.

    >>> numbering(["c0", "c2", "c1"])
    array([0, 2, 1])
    """
    parsed = [COUNTED.fullmatch(name) for name in names]
    befores = {match["before"] for match in parsed if match}
    if not all(parsed) or len(befores) != 1 or len(names) < 2:
        return None
    numbers = [int(match["number"]) for match in parsed if match]
    order = np.argsort(numbers, kind="stable")
    ranked = [numbers[i] for i in order]
    return order if ranked[0] in (0, 1) and ranked == [*range(ranked[0], ranked[-1] + 1)] else None


def class_order(
    where: str, names: Sequence[str], classes: Sequence[str]
) -> tuple[Array | None, tuple[str, ...]]:
    """Return the order of columns that is that of the classes, and the names of the classes.

    Classes are empty if they are unknown.

    Returns:
        Indices of columns, shape (C,), or None if their order is right; and names, empty if columns
        only count.
    """
    bare = tuple(map(tidy, names))
    short = tuple(PREFIX.sub("", name, count=1) for name in bare)
    if classes:
        known = [tidy(each) for each in classes]
        for each in (bare, short):
            if sorted(each) == sorted(known):
                return permutation(where, each, classes, "columns"), tuple(classes)
    order = numbering(bare)
    if order is not None:
        return order, ()
    if classes:
        return permutation(where, bare, classes, "columns"), tuple(classes)
    if len(set(short)) == len(short) and all(s != b for s, b in zip(short, bare, strict=True)):
        bare = short
    return None, bare


def unknown(what: str, strange: Sequence[str], classes: Sequence[str]) -> str:
    """Return an error for names that are no classes, with the nearest class and the remedy.

    ``what`` says what the names are: ``folders``, or ``label`` for one name.
    """
    names = list(dict.fromkeys(strange))
    alike = next((text for n in names[:20] for c in classes if (text := difference(n, c))), "")
    near = difflib.get_close_matches(tidy(names[0]), [tidy(c) for c in classes], 1)
    hint = f"; {alike}." if alike else f"; did you mean {near[0]!r}?" if near else "."
    known = listed(classes) if classes else "unnamed"
    are = "are no classes" if what.endswith("s") else "is no class"
    return (
        f"{what} {listed(names)} {are} of the models, which are {known}{hint} "
        f"Name {what.removesuffix('s')}s and classes alike: the models' are in the pool "
        "file's classes, or in --classes of committee import"
    )
