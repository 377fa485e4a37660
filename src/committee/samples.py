"""Which samples a split has: their ids, labels and classes, and a fingerprint of each."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from committee.errors import MisalignedError, ShapeError
from committee.predictions import Array


def fingerprint(parts: Iterable[str]) -> str:
    """Sixteen hexadecimal digits that change when any part or their order does."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class Samples:
    """The samples of one split.

    Args:
        ids: One name a sample, all different.
        labels: Class index of each sample, shape (N,), or None where nobody knows.
        classes: Names of the classes, in the order of the models' outputs; empty if unnamed.
        split: Name of the split.
        labelled_by: What predicted the labels, if they are no ground truth; else empty.

    Raises:
        MisalignedError: If there is not one label for each id, or an id stands twice.
        ShapeError: If labels are not indices 0, 1, …
    """

    ids: tuple[str, ...]
    labels: Array | None
    classes: tuple[str, ...] = ()
    split: str = "val"
    labelled_by: str = ""

    def __post_init__(self) -> None:
        if len(set(self.ids)) != len(self.ids):
            twice = Counter(self.ids).most_common(1)[0][0]
            raise MisalignedError(f"samples of {self.split!r}: id {twice!r} stands twice")
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
        top = len(self.classes) or None
        if len(self.labels) and (
            self.labels.min() < 0 or (top is not None and self.labels.max() >= top)
        ):
            raise ShapeError(
                f"labels of {self.split!r} run from {self.labels.min()} to {self.labels.max()}, "
                f"but there are {top or 'no negative'} classes"
            )

    def __len__(self) -> int:
        return len(self.ids)

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

    @cached_property
    def fingerprint(self) -> str:
        """Changes when an id, a label or their order changes."""
        labels = [] if self.labels is None else self.labels.tolist()
        return fingerprint([*self.ids, "labels", *map(str, labels)])

    @cached_property
    def classes_fingerprint(self) -> str:
        """Changes when the name or the order of a class changes."""
        return fingerprint(self.classes)
