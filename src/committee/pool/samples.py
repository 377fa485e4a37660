"""The samples of a split: ids, labels, classes and contents, with fingerprints."""

from __future__ import annotations

import hashlib
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice

import numpy as np
from numpy.typing import ArrayLike

from committee.arrays import Array
from committee.errors import MisalignedError, ShapeError


def fingerprint(parts: Iterable[str]) -> str:
    """Return sixteen hexadecimal digits that change when any part or the order does."""
    digest = hashlib.sha256()
    remaining = iter(parts)
    # In blocks, as a split may have a million ids. A name may hold bytes that are not UTF-8.
    while block := [part.encode("utf-8", "surrogatepass") for part in islice(remaining, 4096)]:
        digest.update(b"".join(len(data).to_bytes(8, "little") + data for data in block))
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Broken:
    """A sample that could not be read and was left out.

    Args:
        id: Its id.
        reason: Why it could not be read.
        content: Fingerprint of its bytes, which tells when it is fixed.
    """

    id: str
    reason: str
    content: str


@dataclass(frozen=True, eq=False)
class Samples:
    """The samples of one split.

    Args:
        ids: One unique name per sample.
        labels: Class index of each sample, shape (N,); None if unknown.
        classes: Names of the classes, in the order of the models' outputs; empty if unnamed.
        split: Name of the split.
        labelled_by: The model that predicted the labels; empty if they are ground truth.
        rule: How the split was taken from a larger set; empty if it was not.
        broken: Samples that were left out because they could not be read.
        parts: Number of consecutive rows that are parts of one whole, such as tiles of an image.
            Parts exit a cascade one by one; intervals depend on the number of wholes.
        notes: Notes on the origin of the samples, such as what was left out. No store keeps them,
            and they are not part of the identity.
        content: Digest of each sample's bytes, shape (N,), uint64, 0 if it could not be read;
            parts have the digest of their whole. None if unknown.

    Raises:
        MisalignedError: If there is not one label and one digest per id, or ids repeat.
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
                f"samples of {self.split!r}: {len(self.ids)} rows, not a multiple of {self.parts}"
            )
        if len(set(self.ids)) != len(self.ids):
            twice = Counter(self.ids).most_common(1)[0][0]
            raise MisalignedError(
                f"samples of {self.split!r}: id {twice!r} stands twice; give each sample an id of "
                "its own"
            )
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
                f"{self.labels[row]}, but {known}. Fix the labels, or the list of classes in the "
                "pool file or cascade file, which is in the order of the models' outputs"
            )

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        labelled = "without labels" if self.labels is None else "labelled"
        return f"<Samples: {len(self)} of {self.split!r}, {labelled}>"

    @property
    def wholes(self) -> int:
        """Return the number of wholes, such as images of tiles; without parts that of samples."""
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
        """Return samples; without ids they are called 0, 1, …, ``count`` of them if unlabelled."""
        array = None if labels is None else np.asarray(labels)
        if array is not None and array.dtype.kind in "iu":
            array = array.astype(np.int64)
        if ids is None:
            ids = [str(i) for i in range(count if array is None else len(array))]
        return cls(tuple(map(str, ids)), array, tuple(map(str, classes)), split)

    def taken(self, rows: Array) -> Samples:
        """Return some of the samples, in the order of ``rows``, indices of shape (n,)."""
        ids = tuple(map(self.ids.__getitem__, rows.tolist()))
        labels = None if self.labels is None else self.labels[rows]
        content = None if self.content is None else self.content[rows]
        return replace(self, ids=ids, labels=labels, content=content)

    @property
    def left_out(self) -> str:
        """Return a text with the number of broken samples; empty if there are none."""
        count = len(self.broken)
        plural = "" if count == 1 else "s"
        return f"{count:,} broken sample{plural} left out of {self.split}" if count else ""

    @property
    def has_default_ids(self) -> bool:
        """Return True if the ids are 0, 1, … in this order, as without the user's ids."""
        return all(each == str(number) for number, each in enumerate(self.ids))

    @cached_property
    def has_counting_ids(self) -> bool:
        """Return True if ids only count, from 0 or 1, and so do not identify samples."""
        if not all(each.isascii() and each.isdigit() and len(each) < 16 for each in self.ids):
            return False
        numbers = sorted(map(int, self.ids))
        start = numbers[0] if numbers else 0
        return start < 2 and numbers == list(range(start, start + len(numbers)))

    @cached_property
    def fingerprint(self) -> str:
        """Return a fingerprint of ids and labels in order."""
        labels = [] if self.labels is None else self.labels.tolist()
        return fingerprint([*self.ids, "labels", *map(str, labels)])

    @cached_property
    def ids_fingerprint(self) -> str:
        """Return a fingerprint of ids in order, which a store records beside outputs."""
        return fingerprint([*self.ids, "labels"])

    @cached_property
    def numbers(self) -> Array | None:
        """A number for each sample, uint64, of its content or else its id; None if ids may count.

        Its sum over a set of samples is the same in whatever order.
        """
        if self.content is not None:
            return self.content
        if all(map(str.isdigit, self.ids)):
            return None
        each = (zlib.crc32(name.encode(errors="surrogatepass")) for name in self.ids)
        found = np.fromiter(each, np.uint64, len(self))
        # Checksums are linear: without products, sums over ids that count up would be equal.
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            found = (found ^ (found >> np.uint64(shift))) * np.uint64(factor)
        return found ^ (found >> np.uint64(31))

    @cached_property
    def identity(self) -> str:
        """Return a fingerprint of the set of samples, whatever their order, labels and paths.

        It is made of contents where they are known, otherwise of ids; empty if these only count.
        """
        if self.content is not None:
            pairs = zip(self.content[:: self.parts].tolist(), self.ids[:: self.parts], strict=True)
            return fingerprint(sorted(f"{each:016x}" if each else name for each, name in pairs))
        return "" if self.has_counting_ids else fingerprint(sorted(self.ids[:: self.parts]))

    @cached_property
    def labels_fingerprint(self) -> str:
        """Return a fingerprint of the labels, whatever the order; empty without ground truth.

        Samples are identified by content where it is known, otherwise by id.
        """
        if self.labels is None or self.labelled_by:
            return ""
        known = [0] * len(self) if self.content is None else self.content.tolist()
        rows = zip(known, self.ids, self.labels.tolist(), strict=True)
        return fingerprint(sorted(f"{each or name} {label}" for each, name, label in rows))

    @cached_property
    def classes_fingerprint(self) -> str:
        """Return a fingerprint of the names of the classes in order."""
        return fingerprint(self.classes)


@dataclass(frozen=True, eq=False, repr=False)
class CountedSamples(Samples):
    """Samples whose ids are not kept, because they are many; whoever made this checked them.

    Args:
        count: How many there are.
        contents: A fingerprint of the set of them.
    """

    count: int = field(kw_only=True)
    contents: str = field(kw_only=True)

    def __post_init__(self) -> None:
        pass

    def __len__(self) -> int:
        return self.count

    @property
    def fingerprint(self) -> str:
        """See :class:`Samples`."""
        return self.contents

    @property
    def identity(self) -> str:
        """See :class:`Samples`."""
        return self.contents

    @property
    def labels_fingerprint(self) -> str:
        """See :class:`Samples`; unknown."""
        return ""
