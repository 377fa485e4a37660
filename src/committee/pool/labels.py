"""Convert labels from any source to class indices, -1 for no label."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, Literal, TypeAlias

import numpy as np

from committee.arrays import Array
from committee.errors import MisalignedError, ShapeError
from committee.names import matched, refuse_doubled, unknown
from committee.pool.imagenet import ambiguous, spelling_of
from committee.pool.samples import Samples
from committee.text import listed, printable, tidy

# Labels must fit the classes, are dropped if they do not fit, or are not read.
LabelMode: TypeAlias = Literal["must fit", "if they fit", "none"]
# Table cells that mean no label, unless a class has that name.
NO_LABEL = frozenset({"", "nan", "none", "null", "<na>"})
# More classes than any pool has; smaller whole numbers are exact in every type.
_MOST = 2**31
# Index for no label.
_NONE = -1


# The remedy for predict if only some samples have labels.
_UNLABELLED = (
    ". Label them or remove them, or predict without labels (--unlabelled) and add them later with "
    "committee relabel"
)


def labelled(samples: Samples, mode: LabelMode, find: Callable[[], Array]) -> Samples:
    """Return samples with their labels, or with a note if they have none."""
    if mode == "none":
        return samples
    try:
        return _with_labels(samples, find(), _UNLABELLED if mode == "must fit" else "")
    except (MisalignedError, ShapeError) as error:
        if mode == "must fit":
            raise
        return with_notes(samples, f"no labels, because they do not fit ({error})")


def _with_labels(samples: Samples, labels: Array, remedy: str) -> Samples:
    if len(labels) != len(samples):
        # Raises the usual error.
        return replace(samples, labels=labels)
    lacking = np.flatnonzero(labels < 0)
    if len(lacking) == len(labels):
        return with_notes(samples, f"none of the {len(labels):,} samples has a label")
    if len(lacking):
        names = listed([samples.ids[row] for row in lacking.tolist()])
        raise MisalignedError(
            f"labels of {samples.split!r}: {len(lacking):,} of {len(labels):,} samples have none: "
            f"{names}{remedy}"
        )
    return replace(samples, labels=labels.astype(np.int64))


def with_notes(samples: Samples, *notes: str) -> Samples:
    """Return samples with further notes."""
    return replace(samples, notes=(*samples.notes, *(note for note in notes if note)))


def unused_note(columns: Collection[str]) -> str:
    """Return a note on columns that are not used; empty if there are none."""
    are = "column is" if len(columns) == 1 else "columns are"
    return f"{len(columns)} {are} not used: {listed(columns)}" if columns else ""


def class_rows(where: str, names: Sequence[str], classes: Sequence[str], what: str) -> Array:
    """Return the class index of each name, as folders spell them, shape (n,)."""
    if reason := ambiguous(names, classes):
        raise MisalignedError(f"{where}: {what}: {reason}")
    return matched(where, names, classes, what, spelling_of(classes))


def indices(
    where: str,
    labels: Sequence[Any] | Array,
    classes: Sequence[str],
    named: Sequence[str] = (),
    place: Callable[[int], str] = "sample {}".format,
) -> Array:
    """Return the class index of each label, shape (N,), -1 for no label.

    Labels are names of classes or, if none of them is a name, indices. None, NaN, an empty text
    and a negative index mean no label.

    Args:
        where: Source of the labels, for errors.
        labels: The labels, as the source writes them.
        classes: Names of the classes in the order of the models' outputs.
        named: Names of the classes in the order of the source's own indices, if it has any.
        place: Returns the place of a row's label, for errors.
    """
    array = labels if isinstance(labels, np.ndarray) else None
    if array is not None and array.ndim != 1:
        raise ShapeError(
            f"labels must be class indices or names, shape (N,), not {array.dtype} {array.shape}"
        )
    if array is not None and array.dtype.kind in "iu":
        found = np.where(array > _MOST, _MOST, array).astype(np.int64)
        if (found == _MOST).any():
            row = int(np.argmax(found == _MOST))
            raise _strange(where, place(row), array[row], classes)
    else:
        entries = [_entry(each) for each in (labels if array is None else array.tolist())]
        found = _read_entries(where, entries, named or classes, place)
    found = np.maximum(found, _NONE)
    same = not named or not classes or tuple(named) == tuple(classes)
    return found if same else _permuted(where, found, named, classes, place)


# Many labels, few classes.
_tidied = lru_cache(2**16)(tidy)


def _entry(value: Any) -> Any:
    """Return a label as a text or a number, or None."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    if isinstance(value, str):
        return _tidied(value)
    # NA and NaT of pandas.
    missing = value is None or type(value).__name__ in ("NAType", "NaTType")
    missing = missing or (isinstance(value, float) and np.isnan(value))
    return None if missing else value


def _read_entries(
    where: str, entries: Sequence[Any], classes: Sequence[str], place: Callable[[int], str]
) -> Array:
    texts = {each for each in entries if isinstance(each, str)}
    spelled = spelling_of(classes)
    known = {tidy(name) for name in classes} | {spelled(name) for name in classes}
    if texts & known:
        return _by_name(where, entries, texts, classes, place)
    found = np.full(len(entries), _NONE, np.int64)
    for row, each in enumerate(entries):
        if each is None or (isinstance(each, str) and each.casefold() in NO_LABEL):
            continue
        number = _whole(each) if isinstance(each, str | int | float) else None
        # True and False are labels of two classes only.
        yes_or_no = isinstance(each, bool) and len(classes) > 2
        if number is None or number >= _MOST or yes_or_no:
            raise _strange(where, place(row), each, classes)
        found[row] = max(number, _NONE)
    return found


def _by_name(
    where: str,
    entries: Sequence[Any],
    texts: set[str],
    classes: Sequence[str],
    place: Callable[[int], str],
) -> Array:
    spelled = spelling_of(classes)
    refuse_doubled(where, classes, "labels are names")
    known = {tidy(name) for name in classes} | {spelled(name) for name in classes}
    names = sorted(texts & known)
    index = dict(zip(names, class_rows(where, names, classes, "labels"), strict=True))
    found = np.full(len(entries), _NONE, np.int64)
    for row, each in enumerate(entries):
        if each in index:
            found[row] = index[each]
        elif each is not None and str(each).casefold() not in {*NO_LABEL, "-1"}:
            if isinstance(each, str | int | float) and _whole(each) is not None:
                raise MisalignedError(
                    f"{where}: {place(row)}: label '{printable(str(each))}' is an index, but "
                    f"others are names of classes, such as {names[0]!r}: the two are mixed. Write "
                    "all labels as names, or all as indices 0, 1, …"
                )
            raise _strange(where, place(row), each, classes)
    return found


@lru_cache(2**16, typed=True)
def _whole(value: str | float) -> int | None:
    """Return a number or a text as a whole number; None if it is not one."""
    try:
        number = int(value) if isinstance(value, str) and "." not in value else float(value)
        return int(number) if number == int(number) else None
    except (TypeError, ValueError, OverflowError):
        return None


def _strange(where: str, place: str, label: Any, classes: Sequence[str]) -> MisalignedError:
    if not classes:
        return MisalignedError(
            f"{where}: {place}: label '{printable(str(label))}' is no index 0, 1, … of a class, "
            "and the classes have no names. Name them in the order of the outputs, in the pool "
            "file's classes, or in --classes of committee import"
        )
    return MisalignedError(f"{where}: {place}: {unknown('label', [str(label)], classes)}")


def _permuted(
    where: str,
    found: Array,
    named: Sequence[str],
    classes: Sequence[str],
    place: Callable[[int], str],
) -> Array:
    """Convert indices into ``named`` to indices into ``classes``, by name."""
    beyond = np.flatnonzero(found >= len(named))
    if len(beyond):
        row = int(beyond[0])
        raise MisalignedError(
            f"{where}: {place(row)}: has label {found[row]}, but it names {len(named)} classes"
        )
    order = class_rows(where, named, classes, "classes")
    return np.where(found < 0, _NONE, order[found])
