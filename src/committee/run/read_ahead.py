"""Reading ahead for a cascade: threads read pictures and prepare them while the models run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from committee.data.base import Dataset, in_order, readable
from committee.models.inputs import Picture, Pictures, fitted, prepared
from committee.predict import THREADS
from committee.rule.outputs import Array
from committee.run.batch import Held
from committee.spec.preprocessing import Preprocessing

# Decoded pictures above so many bytes are not kept for later stages; their inputs are, as bytes.
LARGE = 2**20


@dataclass(frozen=True, eq=False)
class Read:
    """A batch of samples that was read.

    Args:
        rows: Which samples, shape (n,).
        good: Those that could be read, shape (m,).
        held: Their pictures.
        broken: Id and reason of the others.
        content: Digest of each sample, shape (n,); empty where nobody asked.
        seen: What was made of the decoded pictures, a few at a time, in order.
    """

    rows: Array
    good: Array
    held: Held
    broken: Sequence[tuple[str, str]]
    content: Array
    seen: Sequence[Any] = ()

    def done(self) -> Read:
        """Return the same without pictures."""
        return replace(self, held=Held(0, {}))


def read_prepared(
    dataset: Dataset,
    batches: Iterable[Array],
    first: Collection[Preprocessing],
    later: Collection[Preprocessing],
    *,
    digests: bool = False,
    seen: Callable[[Pictures], Any] | None = None,
) -> Iterator[Read]:
    """Read samples, in order, while threads are at work on the following ones.

    Beside the batch that is yielded at most ``THREADS + 1`` lie in memory or are in work.

    Args:
        dataset: The samples.
        batches: Rows of each batch.
        first: What all pictures are prepared for at once.
        later: What some of them may be prepared for afterwards.
        digests: Whether to compute the digest of each sample.
        seen: Called with decoded pictures, which it must not keep; in a thread.
    """
    kept = [recipe for recipe in later if recipe not in first]
    work = _Reading(dataset, list(first), kept, digests, seen)
    return (read for _, read in in_order(work, batches, THREADS, THREADS + 1))


class _Reading:
    """Reads and prepares one batch; called by threads."""

    def __init__(
        self,
        dataset: Dataset,
        first: Sequence[Preprocessing],
        later: Sequence[Preprocessing],
        digests: bool,
        seen: Callable[[Pictures], Any] | None,
    ) -> None:
        self._dataset, self._first, self._later = dataset, first, later
        self._digests, self._seen = digests, seen

    def __call__(self, rows: Array) -> Read:
        # Before the pictures: one that changes in between is then noticed, not believed.
        content = self._dataset.digests(rows) if self._digests else np.empty(0, np.uint64)
        if any(recipe.views is not None for recipe in self._first):
            return self._clips(rows, content)
        inputs = {
            recipe: np.empty((len(rows), *recipe.shape), np.float32) for recipe in self._first
        }
        good: list[Array] = [rows[:0]]
        broken: list[tuple[str, str]] = []
        kept: dict[Preprocessing, list[Pictures]] = {recipe: [] for recipe in self._later}
        seen = []
        # Photographs one by one: decoded they may be a hundred times as large as what is kept.
        start, count, step = 0, 0, 1
        while start < len(rows):
            some, pictures, torn = readable(self._dataset, rows[start : start + step])
            start += step
            if isinstance(pictures, np.ndarray):
                # Small already: the rest in one go.
                step = len(rows)
            good.append(some)
            broken.extend(torn)
            if not len(some):
                continue
            if self._seen is not None:
                seen.append(self._seen(pictures))
            for recipe, made in inputs.items():
                prepared(pictures, recipe, made[count : count + len(some)])
            for recipe, parts in kept.items():
                parts.append(_to_keep(pictures, recipe))
            count += len(some)
            # Not held while the next is decoded.
            del pictures
        held = Held(
            count,
            {recipe: _joined(parts) for recipe, parts in kept.items()},
            {recipe: made[:count] for recipe, made in inputs.items()},
        )
        return Read(rows, np.concatenate(good), held, broken, content, seen)

    def _clips(self, rows: Array, content: Array) -> Read:
        """Frames come resized; views are made of them when a model runs."""
        good, clips, broken = readable(self._dataset, rows)
        held = Held(len(good), dict.fromkeys((*self._first, *self._later), clips))
        seen = [] if self._seen is None else [self._seen(clips)]
        return Read(rows, good, held, broken, content, seen)


def _to_keep(pictures: Pictures, recipe: Preprocessing) -> Pictures:
    """Pictures for a later stage: as they are, or, of large ones, no more than it will see."""
    if isinstance(pictures, np.ndarray):
        large = pictures[0].nbytes > LARGE
        return fitted(pictures, recipe) if large else pictures
    return [
        fitted([each], recipe)[0] if _bytes_of(each) > LARGE else each
        for each in cast("Sequence[Picture]", pictures)
    ]


def _bytes_of(picture: Picture) -> int:
    if isinstance(picture, np.ndarray):
        return int(picture.nbytes)
    return picture.width * picture.height * len(picture.getbands())


def _joined(parts: Sequence[Pictures]) -> Pictures:
    if len(parts) == 1:
        return parts[0]
    arrays = [part for part in parts if isinstance(part, np.ndarray)]
    if arrays and len(arrays) == len(parts):
        return np.concatenate(arrays)
    return cast("Pictures", [picture for part in parts for picture in part])
