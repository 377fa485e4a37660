"""The contract of a source of samples, as a test."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from committee.arrays import Array
from committee.data.base import BrokenSamplesError, Dataset
from committee.models.inputs import RawSamples, inputs_of
from committee.spec.preprocessing import Preprocessing

_RECIPE = Preprocessing((8, 8))
_THREADS = 4


def check_data(
    dataset: Dataset, broken: Sequence[int] = (), recipe: Preprocessing = _RECIPE
) -> None:
    """Check that a data set keeps :class:`committee.data.base.Dataset`.

    Args:
        dataset: A small one: every sample is read several times.
        broken: Rows that cannot be read, to check that they are reported as they should be.
        recipe: The preprocessing of samples; for clips one with views that the data set knows.

    Raises:
        AssertionError: If a part of the contract is broken; the line says which.
    """
    count = len(dataset.samples)
    _require(count > 0, "there is a sample")
    good = np.array([row for row in range(count) if row not in set(broken)], np.int64)
    _check_reading(dataset, good, recipe)
    _check_threads(dataset, good, recipe)
    _check_digests(dataset)
    _check_broken(dataset, good, broken)


def _check_reading(dataset: Dataset, good: Array, recipe: Preprocessing) -> None:
    whole = _inputs(dataset.read(good), recipe)
    _require(len(whole) == len(good), "read() gives one image a row")
    _require((whole == _inputs(dataset.read(good), recipe)).all(), "reading again gives the same")
    turned = _inputs(dataset.read(good[::-1]), recipe)
    _require((whole[::-1] == turned).all(), "images come in the order of the rows")
    alone = [_inputs(dataset.read(good[i : i + 1]), recipe) for i in range(len(good))]
    _require((whole == np.concatenate(alone)).all(), "an image does not depend on those with it")


def _check_threads(dataset: Dataset, good: Array, recipe: Preprocessing) -> None:
    with ThreadPoolExecutor(_THREADS) as threads:
        read = list(threads.map(lambda _: _inputs(dataset.read(good), recipe), range(2 * _THREADS)))
    _require(all((each == read[0]).all() for each in read), "several threads may read at once")


def _check_digests(dataset: Dataset) -> None:
    rows = np.arange(len(dataset.samples))
    digests = np.asarray(dataset.digests(rows))
    _require(digests.dtype == np.uint64, "digests are uint64")
    _require(digests.shape == rows.shape, "digests() gives one number a row")
    _require((digests == dataset.digests(rows)).all(), "a digest does not change by itself")
    turned = np.asarray(dataset.digests(rows[::-1]))
    _require((digests[::-1] == turned).all(), "digests come in the order of the rows")


def _check_broken(dataset: Dataset, good: Array, broken: Sequence[int]) -> None:
    ids = dataset.samples.ids
    for rows in ([*broken], [*broken, *good.tolist()[:1]]) if broken else ():
        try:
            dataset.read(np.array(rows))
        except BrokenSamplesError as error:
            names = [name for name, _ in error.broken]
            expected = [ids[row] for row in broken]
            _require(names == expected, "all that are broken are named, in order")
            _require(all(reason for _, reason in error.broken), "each with its reason")
        else:
            _require(False, "what cannot be read is a BrokenSamplesError")


def _inputs(samples: RawSamples, recipe: Preprocessing) -> Array:
    """Return inputs (N, …), or (N, views, …) for clips."""
    inputs = inputs_of(samples, recipe)
    if isinstance(inputs, np.ndarray):
        return inputs
    return np.concatenate(list(inputs.parts())).reshape(inputs.shape)


def _require(holds: bool, promise: str) -> None:
    if not holds:
        raise AssertionError(f"the data set does not keep its contract: {promise}")
