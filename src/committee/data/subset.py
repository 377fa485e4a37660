"""Some of the samples of a data set: by rows, or by a share of every class."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np

from committee.arrays import Array
from committee.data.base import BrokenSamplesError, Dataset, find_broken
from committee.errors import DataError
from committee.models.inputs import RawSamples
from committee.pool.samples import Samples

# The split that takes the rest of a single fraction.
REST = "test"


class PartDataset:
    """Some rows of a data set."""

    def __init__(self, whole: Dataset, rows: Array, samples: Samples | None = None) -> None:
        self._whole = whole
        self._rows = rows
        self.samples = whole.samples.taken(rows) if samples is None else samples

    def read(self, rows: Array) -> RawSamples:
        """See :class:`committee.data.base.Dataset`."""
        return self._whole.read(self._rows[rows])

    def digests(self, rows: Array) -> Array:
        """See :class:`committee.data.base.Dataset`."""
        return self._whole.digests(self._rows[rows])


def part(dataset: Dataset, rows: str) -> Dataset:
    """Return the samples that ``START:STOP:STEP`` names; see :func:`named_rows`."""
    return PartDataset(dataset, named_rows(rows, len(dataset.samples)))


def named_rows(rows: str, count: int) -> Array:
    """Return the indices that ``START:STOP:STEP`` names of ``count`` samples, as in Python."""
    try:
        numbers = [int(number) if number else None for number in rows.split(":")]
        chosen = np.arange(count)[slice(*numbers)]
    except (ValueError, TypeError):
        raise DataError(f"rows {rows!r} must be START:STOP or START:STOP:STEP") from None
    if ":" not in rows or not len(chosen):
        raise DataError(f"rows {rows!r} name no sample of {count}; write START:STOP:STEP")
    return chosen


def share(dataset: Dataset, fraction: str, seed: int) -> Dataset:
    """Return a share of every class, chosen by seed.

    Args:
        dataset: The samples.
        fraction: ``START:STOP``, both in [0, 1]: shares that do not overlap have no sample in
            common. ``F`` alone is ``0:F``, and ``F:1`` for the split named ``test``.
        seed: Chooses which samples; beside it only ids and labels matter.

    Raises:
        DataError: If the fraction is not of that form, or takes no sample.
    """
    start, stop = _bounds(fraction, dataset.samples.split)
    places = _places(dataset.samples, seed)
    rows = np.flatnonzero((start <= places) & (places < stop))
    if not len(rows):
        raise DataError(f"fraction {fraction} takes no sample of {len(places)}; give a larger one")
    rule = f"fraction {start:g}:{stop:g}, seed {seed}, of {len(places)} samples"
    return PartDataset(dataset, rows, replace(dataset.samples.taken(rows), rule=rule))


def readable_part(dataset: Dataset) -> tuple[Dataset, list[tuple[str, str]]]:
    """Return the samples that can be read, and the id and reason of each other one."""
    broken = find_broken(dataset, np.arange(len(dataset.samples)))
    if not broken:
        return dataset, []
    bad = {name for name, _ in broken}
    rows = np.flatnonzero([name not in bad for name in dataset.samples.ids])
    if not len(rows):
        raise BrokenSamplesError(broken, len(bad))
    return PartDataset(dataset, rows), broken


def without(dataset: Dataset, ids: frozenset[str], rule: str) -> Dataset:
    """Return the samples with other ids than these; ``rule`` says which these are."""
    keep = [row for row, name in enumerate(dataset.samples.ids) if name not in ids]
    if not keep:
        raise DataError(f"split {dataset.samples.split!r}: the other splits leave no sample for it")
    rows = np.array(keep)
    return PartDataset(dataset, rows, replace(dataset.samples.taken(rows), rule=rule))


def _bounds(fraction: str, split: str) -> tuple[float, float]:
    start, colon, stop = fraction.partition(":")
    try:
        if colon:
            bounds = float(start or 0), float(stop or 1)
        else:
            bounds = (float(fraction), 1.0) if split == REST else (0.0, float(fraction))
    except ValueError:
        bounds = (1.0, 0.0)
    if not 0 <= bounds[0] < bounds[1] <= 1:
        raise DataError(
            f"fraction {fraction!r} must be F or START:STOP between 0 and 1, for example 0.5; "
            f"the split {REST!r} takes the rest of F"
        )
    return bounds


def _places(samples: Samples, seed: int) -> Array:
    """Return a place in [0, 1) for each sample, shape (N,), evenly spread within each class.

    The k-th sample of a class of n, in the order of a hash, has the place ``(k + v) / n``; v
    differs between classes and is evenly spread itself. So a share F takes ``F * n`` samples of a
    class, rounded up or down, and a sample from about a share F of the classes that have only one.
    """
    labels = np.zeros(len(samples), np.int64) if samples.labels is None else samples.labels
    classes = np.unique(labels).tolist()
    by_hash = sorted(classes, key=lambda label: _hash(f"{seed} class {label}"))
    shift = {label: (i + 0.5) / len(classes) for i, label in enumerate(by_hash)}
    hashes = [_hash(f"{seed} sample {name}") for name in samples.ids]
    # By class, and by hash within it; ids differ, so hashes do.
    order = np.array(sorted(range(len(labels)), key=lambda i: (labels[i], hashes[i])), np.int64)
    starts = np.flatnonzero(np.diff(labels[order])) + 1
    places = np.empty(len(labels))
    for label, rows in zip(classes, np.split(order, starts), strict=True):
        places[rows] = (np.arange(len(rows)) + shift[label]) / len(rows)
    return places


def _hash(text: str) -> bytes:
    # Not a generator of random numbers: their streams change between versions of libraries.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
