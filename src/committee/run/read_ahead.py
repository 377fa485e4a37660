"""Reading ahead for a cascade: threads read images and prepare them while the models run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from committee.arrays import Array
from committee.data.base import Dataset, map_ahead, readable
from committee.models.inputs import ImageLike, RawSamples, fitted, prepared
from committee.predict import THREADS
from committee.run.batch import SampleBatch
from committee.spec.preprocessing import Preprocessing

# Decoded images above so many bytes are not kept for later stages; their inputs are, as bytes.
LARGE = 2**20


@dataclass(frozen=True, eq=False)
class Read:
    """A batch of samples that was read.

    Args:
        rows: Which samples, shape (n,).
        good: Those that could be read, shape (m,).
        held: Their images.
        broken: Id and reason of the others.
        content: Digest of each sample, shape (n,); empty where nobody asked.
        seen: What was made of the decoded images, a few at a time, in order.
    """

    rows: Array
    good: Array
    held: SampleBatch
    broken: Sequence[tuple[str, str]]
    content: Array
    seen: Sequence[Any] = ()

    def done(self) -> Read:
        """Return the same without images."""
        return replace(self, held=SampleBatch(0, {}))


def read_prepared(
    dataset: Dataset,
    batches: Iterable[Array],
    first: Collection[Preprocessing],
    later: Collection[Preprocessing],
    *,
    digests: bool = False,
    seen: Callable[[RawSamples], Any] | None = None,
) -> Iterator[Read]:
    """Read samples, in order, while threads are at work on the following ones.

    Beside the batch that is yielded at most ``THREADS + 1`` lie in memory or are in work.

    Args:
        dataset: The samples.
        batches: Rows of each batch.
        first: What all images are prepared for at once.
        later: What some of them may be prepared for afterwards.
        digests: Whether to compute the digest of each sample.
        seen: Called with decoded images, which it must not keep; in a thread.
    """
    kept = [recipe for recipe in later if recipe not in first]
    work = _Reading(dataset, list(first), kept, digests, seen)
    return (read for _, read in map_ahead(work, batches, THREADS, THREADS + 1))


class _Reading:
    """Reads and prepares one batch; called by threads."""

    def __init__(
        self,
        dataset: Dataset,
        first: Sequence[Preprocessing],
        later: Sequence[Preprocessing],
        digests: bool,
        seen: Callable[[RawSamples], Any] | None,
    ) -> None:
        self._dataset, self._first, self._later = dataset, first, later
        self._digests, self._seen = digests, seen

    def __call__(self, rows: Array) -> Read:
        # Before the images: one that changes in between is then noticed, not believed.
        content = self._dataset.digests(rows) if self._digests else np.empty(0, np.uint64)
        if any(recipe.views is not None for recipe in self._first):
            return self._clips(rows, content)
        inputs = {
            recipe: np.empty((len(rows), *recipe.shape), np.float32) for recipe in self._first
        }
        good: list[Array] = [rows[:0]]
        broken: list[tuple[str, str]] = []
        kept: dict[Preprocessing, list[RawSamples]] = {recipe: [] for recipe in self._later}
        seen = []
        # Photographs one by one: decoded they may be a hundred times as large as what is kept.
        start, count, step = 0, 0, 1
        while start < len(rows):
            some, images, torn = readable(self._dataset, rows[start : start + step])
            start += step
            if isinstance(images, np.ndarray):
                # Small already: the rest in one go.
                step = len(rows)
            good.append(some)
            broken.extend(torn)
            if not len(some):
                continue
            if self._seen is not None:
                seen.append(self._seen(images))
            for recipe, made in inputs.items():
                prepared(images, recipe, made[count : count + len(some)])
            for recipe, parts in kept.items():
                parts.append(_to_keep(images, recipe))
            count += len(some)
            # Not held while the next is decoded.
            del images
        held = SampleBatch(
            count,
            {recipe: _joined(parts) for recipe, parts in kept.items()},
            {recipe: made[:count] for recipe, made in inputs.items()},
        )
        return Read(rows, np.concatenate(good), held, broken, content, seen)

    def _clips(self, rows: Array, content: Array) -> Read:
        """Frames come resized; views are made of them when a model runs."""
        good, clips, broken = readable(self._dataset, rows)
        held = SampleBatch(len(good), dict.fromkeys((*self._first, *self._later), clips))
        seen = [] if self._seen is None else [self._seen(clips)]
        return Read(rows, good, held, broken, content, seen)


def _to_keep(images: RawSamples, recipe: Preprocessing) -> RawSamples:
    """Images for a later stage: as they are, or, of large ones, no more than it will see."""
    if isinstance(images, np.ndarray):
        large = images[0].nbytes > LARGE
        return fitted(images, recipe) if large else images
    return [fitted([each], recipe)[0] if _bytes_of(each) > LARGE else each for each in images]


def _bytes_of(image: ImageLike) -> int:
    if isinstance(image, np.ndarray):
        return int(image.nbytes)
    return image.width * image.height * len(image.getbands())


def _joined(parts: Sequence[RawSamples]) -> RawSamples:
    if len(parts) == 1:
        return parts[0]
    arrays = [part for part in parts if isinstance(part, np.ndarray)]
    if arrays and len(arrays) == len(parts):
        return np.concatenate(arrays)
    return [image for part in parts for image in part]
