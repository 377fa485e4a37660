"""Which samples a split has: their ids, labels and classes, and a fingerprint of each."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice

import numpy as np
from numpy.typing import ArrayLike

from committee.arrays import Array
from committee.errors import MisalignedError, ShapeError


def fingerprint(parts: Iterable[str]) -> str:
    """Sixteen hexadecimal digits that change when any part or their order does."""
    digest = hashlib.sha256()
    remaining = iter(parts)
    # Many at once: a split may have a million ids. A name may hold bytes that are no UTF-8.
    while block := [part.encode("utf-8", "surrogatepass") for part in islice(remaining, 4096)]:
        digest.update(b"".join(len(data).to_bytes(8, "little") + data for data in block))
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Broken:
    """A sample that could not be read and was left out.

    Args:
        id: Its name.
        reason: Why it could not be read.
        content: Fingerprint of its bytes, so that a mended one is noticed.
    """

    id: str
    reason: str
    content: str


@dataclass(frozen=True, eq=False)
class Samples:
    """The samples of one split.

    Args:
        ids: One name a sample, all different.
        labels: Class index of each sample, shape (N,), or None where nobody knows.
        classes: Names of the classes, in the order of the models' outputs; empty if unnamed.
        split: Name of the split.
        labelled_by: What predicted the labels, if they are no ground truth; else empty.
        rule: How the split was taken from a larger set; empty if it was not.
        broken: What was left out because it could not be read.
        parts: How many consecutive rows are parts of one whole, as tiles are of an image. What
            exits is a part; how sure a figure is, is a question of how many wholes there are.
        notes: What people should know of where these come from: what was left out, and why there
            are no labels. It is not part of their identity, and no store keeps it.
        content: Digest of each sample's bytes, shape (N,), uint64, 0 where it could not be read;
            parts have that of the whole. None where nobody knows.

    Raises:
        MisalignedError: If there is not one label and one digest for each id, or an id stands
            twice.
        ShapeError: If labels are not indices 0, 1, …
    """

    ids: tuple[str, ...]
    labels: Array | None
    classes: tuple[str, ...] = ()
    split: str = "val"
    labelled_by: str = ""
    rule: str = ""
    broken: tuple[Broken, ...] = ()
    parts: int = 1
    notes: tuple[str, ...] = ()
    content: Array | None = None

    def __post_init__(self) -> None:
        if len(self.ids) % self.parts:
            raise MisalignedError(
                f"samples of {self.split!r}: {len(self.ids)} rows are no wholes of {self.parts}"
            )
        if len(set(self.ids)) != len(self.ids):
            twice = Counter(self.ids).most_common(1)[0][0]
            raise MisalignedError(f"samples of {self.split!r}: id {twice!r} stands twice")
        if self.content is not None and len(self.content) != len(self.ids):
            raise MisalignedError(
                f"samples of {self.split!r}: {len(self.ids)} ids but {len(self.content)} digests"
            )
        if self.labels is None:
            return
        if self.labels.ndim != 1 or self.labels.dtype.kind not in "iu":
            raise ShapeError(
                f"labels of {self.split!r} must be class indices, shape (N,), "
                f"not {self.labels.dtype} {self.labels.shape}"
            )
        if len(self.labels) != len(self.ids):
            raise MisalignedError(
                f"samples of {self.split!r}: {len(self.ids)} ids but {len(self.labels)} labels"
            )
        count = len(self.classes)
        outside = self.labels < 0
        if count:
            outside = outside | (self.labels >= count)
        if outside.any():
            row = int(outside.argmax())
            known = f"classes 0 to {count - 1} are named" if count else "they begin at 0"
            raise ShapeError(
                f"labels of {self.split!r}: sample {self.ids[row]!r} has label "
                f"{self.labels[row]}, but {known}. Mend the labels, or the list of classes in the "
                "pool file or cascade file, which is in the order of the models' outputs"
            )

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        labelled = "without labels" if self.labels is None else "labelled"
        return f"<Samples: {len(self)} of {self.split!r}, {labelled}>"

    @property
    def wholes(self) -> int:
        """How many there are of what rows are parts of; of rows, where these are no parts."""
        return len(self) // self.parts

    @classmethod
    def of(
        cls,
        labels: ArrayLike | None,
        ids: Sequence[str] | None = None,
        classes: Sequence[str] = (),
        split: str = "val",
        count: int = 0,
    ) -> Samples:
        """Build samples; without ids they are called 0, 1, …, up to ``count`` if unlabelled."""
        array = None if labels is None else np.asarray(labels)
        if array is not None and array.dtype.kind in "iu":
            array = array.astype(np.int64)
        if ids is None:
            ids = [str(i) for i in range(count if array is None else len(array))]
        return cls(tuple(map(str, ids)), array, tuple(map(str, classes)), split)

    def taken(self, rows: Array) -> Samples:
        """Some of the samples, in the order of ``rows``, indices of shape (n,)."""
        ids = tuple(self.ids[row] for row in rows.tolist())
        labels = None if self.labels is None else self.labels[rows]
        content = None if self.content is None else self.content[rows]
        return replace(self, ids=ids, labels=labels, content=content)

    @property
    def left_out(self) -> str:
        """How many broken samples were left out, for people; empty if none were."""
        count = len(self.broken)
        plural = "" if count == 1 else "s"
        return f"{count:,} broken sample{plural} left out of {self.split}" if count else ""

    @property
    def numbered(self) -> bool:
        """Whether ids are 0, 1, … in this order, as those that nobody gave."""
        return all(each == str(number) for number, each in enumerate(self.ids))

    @property
    def only_count(self) -> bool:
        """Whether ids only count, from 0 or 1: then they say nothing of which sample is meant."""
        if not all(each.isascii() and each.isdigit() and len(each) < 16 for each in self.ids):
            return False
        numbers = sorted(map(int, self.ids))
        start = numbers[0] if numbers else 0
        return start < 2 and numbers == list(range(start, start + len(numbers)))

    @cached_property
    def fingerprint(self) -> str:
        """Changes when an id, a label or their order changes."""
        labels = [] if self.labels is None else self.labels.tolist()
        return fingerprint([*self.ids, "labels", *map(str, labels)])

    @cached_property
    def ids_fingerprint(self) -> str:
        """Changes when an id or their order changes; it is :attr:`fingerprint` without labels.

        Outputs depend on samples, not on labels: this is what a store notes beside outputs.
        """
        return fingerprint([*self.ids, "labels"])

    @cached_property
    def identity(self) -> str:
        """Changes when other samples are meant, whatever their order, labels and places.

        It is made of their contents where these are known, else of their ids; empty where ids only
        count, for then nobody knows.
        """
        if self.content is not None:
            pairs = zip(self.content[:: self.parts].tolist(), self.ids[:: self.parts], strict=True)
            return fingerprint(sorted(f"{each:016x}" if each else name for each, name in pairs))
        return "" if self.only_count else fingerprint(sorted(self.ids[:: self.parts]))

    @cached_property
    def labels_fingerprint(self) -> str:
        """Changes when a sample's label does, whatever the order; empty where labels are no truth.

        Samples go by their contents where these are known, else by their ids.
        """
        if self.labels is None or self.labelled_by:
            return ""
        known = [0] * len(self) if self.content is None else self.content.tolist()
        rows = zip(known, self.ids, self.labels.tolist(), strict=True)
        return fingerprint(sorted(f"{each or name} {label}" for each, name, label in rows))

    @cached_property
    def classes_fingerprint(self) -> str:
        """Changes when the name or the order of a class changes."""
        return fingerprint(self.classes)
