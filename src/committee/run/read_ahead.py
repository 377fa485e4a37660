"""Threads that read and prepare images for a cascade while its models run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from committee.arrays import Array
from committee.data.base import Dataset, map_ahead, readable
from committee.models.inputs import ImageLike, RawSamples, fitted, prepared
from committee.predict_batches import THREADS
from committee.run.sample_batch import SampleBatch
from committee.spec.preprocessing import Preprocessing
from committee.spec.recipe import Recipe

# A decoded image above this many bytes is resized before it is kept for later stages.
LARGE = 2**20


@dataclass(frozen=True, eq=False)
class Read:
    """A batch of samples as read from a data set.

    Args:
        rows: Numbers of the samples, shape (n,).
        good: Numbers of the readable samples, shape (m,).
        batch: The images of the readable samples.
        broken: Id and reason of each unreadable sample.
        content: Digest of each sample, shape (n,); empty unless requested.
        seen: Results of the caller's function on the decoded images, a few at a time, in order.
    """

    rows: Array
    good: Array
    batch: SampleBatch
    broken: Sequence[tuple[str, str]]
    content: Array
    seen: Sequence[Any] = ()

    def done(self) -> Read:
        """Return it without images."""
        return replace(self, batch=SampleBatch(0, {}))


def read_prepared(
    dataset: Dataset,
    batches: Iterable[Array],
    first: Collection[Recipe],
    later: Collection[Recipe],
    *,
    digests: bool = False,
    seen: Callable[[RawSamples], Any] | None = None,
) -> Iterator[Read]:
    """Yield samples in order while threads read and prepare the following ones.

    Beside the yielded batch, at most ``THREADS + 1`` batches are in memory or in progress. ``seen``
    is called in a thread with decoded images, which it must not keep.
    """
    only_later = [recipe for recipe in later if recipe not in first]
    work = partial(_read, dataset, list(first), only_later, digests, seen)
    return (read for _, read in map_ahead(work, batches, THREADS, THREADS + 1))


def _read(
    dataset: Dataset,
    first: Sequence[Recipe],
    later: Sequence[Recipe],
    digests: bool,
    seen: Callable[[RawSamples], Any] | None,
    rows: Array,
) -> Read:
    """Read and prepare one batch; called by threads."""
    # Digests come before images, so that a file that changes in between is noticed.
    content = dataset.digests(rows) if digests else np.empty(0, np.uint64)
    if any(recipe.lazy for recipe in (*first, *later)):
        # Records are small, and frames arrive resized; a model makes its views when it runs.
        some, samples, torn = readable(dataset, rows)
        batch = SampleBatch(len(some), dict.fromkeys((*first, *later), samples))
        return Read(rows, some, batch, torn, content, [] if seen is None else [seen(samples)])
    now, then = ([r for r in each if isinstance(r, Preprocessing)] for each in (first, later))
    read = _read_images(dataset, now, then, seen, rows)
    return replace(read, content=content)


def _read_images(
    dataset: Dataset,
    first: Sequence[Preprocessing],
    later: Sequence[Preprocessing],
    seen: Callable[[RawSamples], Any] | None,
    rows: Array,
) -> Read:
    """Read and prepare one batch of images."""
    inputs = {recipe: np.empty((len(rows), *recipe.shape), np.float32) for recipe in first}
    good: list[Array] = [rows[:0]]
    broken: list[tuple[str, str]] = []
    waiting: dict[Preprocessing, list[RawSamples]] = {recipe: [] for recipe in later}
    results = []
    # Photographs are read one by one: decoded, one may be a hundred times its inputs.
    start, count, step = 0, 0, 1
    while start < len(rows):
        some, images, torn = readable(dataset, rows[start : start + step])
        start += step
        if isinstance(images, np.ndarray):
            # Arrays are small: read the rest at once.
            step = len(rows)
        good.append(some)
        broken.extend(torn)
        if not len(some):
            continue
        if seen is not None:
            results.append(seen(images))
        for recipe, values in inputs.items():
            prepared(images, recipe, values[count : count + len(some)])
        for recipe, parts in waiting.items():
            parts.append(_shrunk(images, recipe))
        count += len(some)
        # Free the memory before the next image is decoded.
        del images
    batch = SampleBatch(
        count,
        {recipe: _joined(parts) for recipe, parts in waiting.items()},
        {recipe: values[:count] for recipe, values in inputs.items()},
    )
    none = np.empty(0, np.uint64)
    return Read(rows, np.concatenate(good), batch, broken, none, results)


def _shrunk(images: RawSamples, recipe: Preprocessing) -> RawSamples:
    """Return images for a later stage, large ones resized as that stage needs them."""
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
