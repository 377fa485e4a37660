"""Exact order statistics of numbers that lie in several shards, in two passes of bounded memory.

The first pass takes numbers at equal distances in rank from each shard, which together bracket the
wanted ranks. The second takes the distinct numbers inside the brackets, and counts the others. The
result is what sorting all numbers at once gives, whatever the shards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial, reduce
from typing import NamedTuple, Protocol, TypeVar

import numpy as np

from committee.arrays import Array

Made = TypeVar("Made")


class EachShard(Protocol):
    """Maps a function of the columns of numbers of a shard, shape (n,) each, over all shards."""

    def __call__(self, function: Callable[[Iterable[Array]], Made], /) -> Iterator[Made]:
        """Yield what the function makes of each shard."""


class Ranked(NamedTuple):
    """The numbers at R ranks of one column.

    Args:
        values: Shape (R,).
        below: The largest number below each, shape (R,); NaN where there is none.
    """

    values: Array
    below: Array


class _Summary(NamedTuple):
    """Some numbers of a column of a shard, rising, with their places among all."""

    values: Array
    places: Array
    length: int


class _Inside(NamedTuple):
    """The distinct numbers of a column inside B brackets, and how many are below each bracket."""

    values: Array
    counts: Array
    below: Array


def order_statistics(each: EachShard, ranks_of: Callable[[int], Array]) -> list[Ranked]:
    """Return the numbers at some ranks of each column, over all shards.

    Args:
        each: Maps a function of the columns of a shard over all shards; it is called twice.
        ranks_of: Takes how many numbers a column has, and returns ranks from 0, shape (R,).
    """
    summaries = list(zip(*each(partial(_summaries, len(ranks_of(1)))), strict=True))
    ranks = [ranks_of(sum(own.length for own in column)) for column in summaries]
    brackets = [_brackets(*each) for each in zip(summaries, ranks, strict=True)]
    insides = zip(*each(partial(_insides, brackets)), strict=True)
    return [
        _ranked(inside, low, own)
        for inside, (low, _), own in zip(insides, brackets, ranks, strict=True)
    ]


def summed(parts: Iterable[Array]) -> Array:
    """Return the sum of the counts of shards, one or more; they are added as they come."""
    return reduce(np.add, parts)


def _summaries(ranks: int, columns: Iterable[Array]) -> list[_Summary]:
    return [_summary(column, ranks) for column in columns]


def _summary(column: Array, ranks: int) -> _Summary:
    """Summarise a column by so many numbers that both passes return about as many."""
    count = len(column)
    most = int(np.sqrt(2.0 * ranks * count)) + 2
    places = np.unique(np.linspace(0, count - 1, most).astype(np.int64)) if count else np.arange(0)
    return _Summary(np.sort(column)[places], places, count)


def _brackets(column: Sequence[_Summary], ranks: Array) -> tuple[Array, Array]:
    """Return the ends of intervals, apart and rising, that hold the numbers at some ranks.

    The lower end of an interval is a number below the one at the rank, unless that is the least of
    all. So the interval holds its neighbour below, too.
    """
    if not len(ranks):
        return np.empty(0), np.empty(0)
    values = np.concatenate([own.values for own in column])
    order = np.argsort(values, kind="stable")
    values = values[order]
    # What is certain to be at or below each value, and what may be.
    least = np.cumsum(_steps(column, lambda own: np.diff(own.places + 1, prepend=0))[order])
    most = np.cumsum(_steps(column, lambda own: np.diff(own.places, append=own.length))[order])
    last = np.append(values[1:] > values[:-1], True)
    values, least, most = values[last], least[last], most[last]
    below = np.searchsorted(most, ranks, side="right") - 1
    low, high = values[np.maximum(below, 0)], values[np.searchsorted(least, ranks + 1)]
    apart = np.flatnonzero(low[1:] > np.maximum.accumulate(high)[:-1])
    return low[np.append(0, apart + 1)], high[np.append(apart, len(high) - 1)]


def _steps(column: Sequence[_Summary], of: Callable[[_Summary], Array]) -> Array:
    return np.concatenate([of(own) for own in column])


def _insides(brackets: Sequence[tuple[Array, Array]], columns: Iterable[Array]) -> list[_Inside]:
    return [_inside(column, *ends) for column, ends in zip(columns, brackets, strict=True)]


def _inside(column: Array, low: Array, high: Array) -> _Inside:
    ranked = np.sort(column)
    first = np.searchsorted(ranked, low, side="left")
    past = np.searchsorted(ranked, high, side="right")
    parts = [ranked[begin:end] for begin, end in zip(first, past, strict=True)]
    values, counts = np.unique(np.concatenate([ranked[:0], *parts]), return_counts=True)
    return _Inside(values, counts, first)


def _ranked(column: Sequence[_Inside], low: Array, ranks: Array) -> Ranked:
    """Return the numbers at some ranks from those inside the brackets around them."""
    if not len(ranks):
        return Ranked(np.empty(0), np.empty(0))
    values, number = np.unique(np.concatenate([own.values for own in column]), return_inverse=True)
    counts = np.bincount(number.reshape(-1), np.concatenate([own.counts for own in column]))
    before = np.cumsum(counts) - counts
    # A number's rank is what is below its bracket, and what is before it inside.
    first = np.searchsorted(values, low)
    bracket = np.searchsorted(low, values, side="right") - 1
    outside = sum(own.below for own in column) - before[first]
    place = np.searchsorted(outside[bracket] + before, ranks, side="right") - 1
    below = np.where(place > 0, values[place - 1], np.nan)
    return Ranked(values[place], below)
