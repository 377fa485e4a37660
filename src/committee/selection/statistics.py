"""Prefix statistics: which samples are correct after a prefix, and which thresholds they reach.

:meth:`committee.pool.prefixes.PrefixSource.scored` defines them, in double precision. The compiled
part, where installed, computes all prefixes at once, within known rounding errors. Samples whose
class, or whose side of a threshold, these errors leave open are computed again by the definition,
so that the statistics are exact either way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np

from committee.arrays import Array
from committee.errors import ShapeError
from committee.pool.metrics import TOP_1
from committee.pool.prefixes import Key, PrefixSource
from committee.selection.approximations import UNSURE, Approximate, approximate, count_reached
from committee.selection.numpy_sweep import Step
from committee.selection.threads import executor_for

# Sums of integers in double precision are exact below this.
_EXACT = 2.0**52
# Thresholds are counted in 16 bits.
_MOST_THRESHOLDS = 65_000


class Statistics(Protocol):
    """What search knows of P prefixes; see :class:`PrefixTable` for rows of samples."""

    @property
    def rows(self) -> Mapping[Key, int]:
        """Row of each prefix in arrays."""

    @property
    def widths(self) -> Array:
        """The number of candidates of each prefix, plus one for "never", shape (P,)."""

    @property
    def samples(self) -> int:
        """How many samples there are."""

    @property
    def thresholds(self) -> Callable[[Key, Array], Array]:
        """Takes a prefix and the numbers of candidates, rising, and returns thresholds."""

    def steps(self, rows: Array) -> list[Step]:
        """Return the steps of a sequence, by the row of the prefix after each stage, (K,)."""


@dataclass(frozen=True, eq=False)
class PrefixTable:
    """Statistics of P prefixes on the N rows of a split.

    Args:
        rows: Row of each prefix in the arrays below.
        values: What each row scores if it exits after the prefix, shape (P, N): int8 where that
            is 1 or 0, else int64 in multiples of one power of two; (P, 0) where values do not add
            up.
        passed: How many of the prefix's candidate thresholds a row's score reaches, shape
            (P, N), uint16.
        widths: The number of candidates of each prefix, plus one for "never", shape (P,), int32.
        thresholds: Takes a prefix and the numbers of candidates, rising, and returns thresholds.
    """

    rows: Mapping[Key, int]
    values: Array
    passed: Array
    widths: Array
    thresholds: Callable[[Key, Array], Array]

    @property
    def samples(self) -> int:
        """How many samples there are."""
        return int(self.passed.shape[1])

    def steps(self, rows: Array) -> list[Step]:
        """Return the steps of a sequence, by the row of the prefix after each stage, (K,)."""
        return [Step(self.values[r], self.passed[r], int(self.widths[r])) for r in rows]


def percentile_ranks(samples: int, grid: int) -> Array:
    """Return the ranks of the 1/grid, 2/grid, … 1 quantiles among ranked scores, shape (grid,)."""
    if not isinstance(grid, int | np.integer) or not 1 <= grid <= _MOST_THRESHOLDS:
        raise ShapeError(f"search: grid must be 1 to {_MOST_THRESHOLDS} percentiles, not {grid}")
    return -(-np.arange(1, grid + 1) * (samples - 1) // grid)


def between(lower: Array, upper: Array) -> Array:
    """Return numbers halfway between neighbours, or the upper where no float lies between."""
    # Halve before adding: the sum of two huge scores overflows.
    middle = lower / 2 + upper / 2
    return np.where((middle > lower) & (middle < upper), middle, upper)


def _percentile_thresholds(scores: Array, grid: int) -> Array:
    """Return distinct thresholds at the 1/grid, 2/grid, … 1 quantiles of scores, rising.

    Each threshold lies halfway between two neighbouring scores, so that rounding noise in a score
    does not move a sample across it; samples at or above the upper one exit. Thresholds at which
    every sample exits are omitted, because "always" covers them. If all scores are equal, the
    result is empty.

    Args:
        scores: Shape (N,), finite.
        grid: Number of percentiles; the result has at most so many thresholds.

    References:
        Wang et al. (2022), appendix D.3.

    >>> _percentile_thresholds(np.array([0.2, 0.4, 0.8]), grid=2)
    array([0.3, 0.6])
    """
    ranked = np.sort(scores)
    upper = np.unique(ranked[percentile_ranks(len(ranked), grid)])
    first = np.searchsorted(ranked, upper, side="left")
    upper, first = upper[first > 0], first[first > 0]
    return between(ranked[first - 1], upper)


def prefix_table(
    source: PrefixSource,
    keys: Sequence[Key],
    grid: int | None = None,
    cuts: dict[Key, Array] | None = None,
    threads: int = 1,
    progress: Callable[[int, int], None] | None = None,
    known: PrefixTable | None = None,
) -> PrefixTable:
    """Return the statistics of prefixes. Pass either ``grid`` or ``cuts``.

    Args:
        source: Scores and values of prefixes.
        keys: The prefixes.
        grid: Number of percentiles that are the candidate thresholds of each prefix.
        cuts: Candidate thresholds by prefix, rising; other prefixes have none.
        threads: Threads to use.
        progress: Called with (prefixes done, prefixes in all).
        known: Statistics of the same source and candidates, to copy prefixes from.
    """
    samples = len(source)
    every = np.arange(samples)
    ranks = None if grid is None else percentile_ranks(samples, grid)
    top_1 = source.by_top_1
    values: Array = np.empty(
        (len(keys), samples if source.additive else 0), np.int8 if top_1 else np.float64
    )
    passed = np.empty((len(keys), samples), np.uint16)
    widths = np.empty(len(keys), np.int32)
    candidates: dict[Key, _Candidates] = {}
    ready = {} if known is None else {key: known.rows[key] for key in keys if key in known.rows}
    new = [row for row, key in enumerate(keys) if key not in ready]
    done = 0

    def copy(table: PrefixTable, row: int) -> None:
        own = ready[keys[row]]
        passed[row], widths[row] = table.passed[own], table.widths[own]
        if top_1:
            values[row] = table.values[own] > 0
        elif source.additive:
            # The common unit depends on all values of a table.
            values[row] = source.values(keys[row], every)

    def fill(number: int, approximation: Approximate | None) -> None:
        row = new[number]
        key = keys[row]
        own_cuts = cuts.get(key, np.empty(0)) if cuts is not None else None
        own = _exact_candidates(source, key, approximation, ranks, own_cuts)
        passed[row], widths[row] = own.passed, len(own.upper) + 1
        if source.additive:
            values[row] = own.correct if top_1 else source.values(key, every)
        candidates[key] = own

    with executor_for(len(keys) * samples, threads) as executor:
        try:
            if known is not None:
                copied = [row for row, key in enumerate(keys) if key in ready]
                done += len(list(executor.map(partial(copy, known), copied)))
            for batch in approximate(source, [keys[row] for row in new], threads, executor):
                for _ in executor.map(lambda pair: fill(*pair), batch):
                    done += 1
                    if progress is not None:
                        progress(done, len(keys))
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            raise

    def thresholds(key: Key, choices: Array) -> Array:
        if known is not None and key in ready:
            return known.thresholds(key, choices)
        return cuts[key][choices] if cuts is not None else candidates[key].thresholds(choices)

    if source.weights is not None:
        values = values * source.weights
    integers = values if source.metric == TOP_1 or not source.additive else _as_integers(values)
    return PrefixTable({k: row for row, k in enumerate(keys)}, integers, passed, widths, thresholds)


def _as_integers(values: Array) -> Array:
    """Return values as integer multiples of a power of two, whose sums are exact in any order."""
    most = float(np.abs(values).max(initial=0.0))
    if np.array_equal(values, np.rint(values)) and most * values.shape[1] < _EXACT:
        counted = bool(most <= 1 and (values >= 0).all())
        return values.astype(np.int8 if counted else np.int64)
    unit = 2.0 ** np.ceil(np.log2(max(most, 1e-300) * values.shape[1] / _EXACT))
    integers: Array = np.rint(values / unit).astype(np.int64)
    return integers


@dataclass(frozen=True, eq=False)
class _Candidates:
    """Candidate thresholds of one prefix, and which samples reach them.

    Args:
        correct: 1 for each sample whose class is correct; meaningless unless values are by top-1.
        passed: How many candidates each sample reaches.
        upper: The least score that reaches each candidate.
        thresholds: Takes the numbers of candidates and returns the thresholds.
    """

    correct: Array
    passed: Array
    upper: Array
    thresholds: Callable[[Array], Array]


@dataclass(frozen=True, eq=False)
class _Scores:
    """Scores and values of one prefix; ``exact`` marks those computed by the definition."""

    source: PrefixSource
    key: Key
    score: Array
    correct: Array
    exact: Array

    def compute(self, rows: Array) -> None:
        """Compute some samples by the definition."""
        if not len(rows):
            return
        if self.source.by_top_1:
            self.score[rows], values = self.source.scored(self.key, rows)
            self.correct[rows] = values > 0
        else:
            self.score[rows] = self.source.scores(self.key, rows)
        self.exact[rows] = True


def _exact_candidates(
    source: PrefixSource,
    key: Key,
    approximation: Approximate | None,
    ranks: Array | None,
    cuts: Array | None,
) -> _Candidates:
    """Return the exact candidates of one prefix; compute open samples by the definition."""
    count = len(source)
    bound: Callable[[Array], Array] = np.zeros_like
    if approximation is None:
        own = _Scores(source, key, np.empty(count), np.zeros(count, np.int8), np.zeros(count, bool))
        own.compute(np.arange(count))
        ranked = np.empty(0) if cuts is not None else np.sort(own.score)
    else:
        bound, score = approximation.error_bound, approximation.score.copy()
        correct = approximation.correct.astype(np.int8)
        own = _Scores(source, key, score, correct, bound(score) == 0)
        own.compute(np.flatnonzero(np.isnan(score)))
        if source.by_top_1:
            own.compute(np.flatnonzero(own.correct == UNSURE))
        ranked = np.sort(score)
        pivots = cuts if cuts is not None else np.unique(ranked[ranks])
        near, places = _near(score, ranked, pivots, bound, alone_is_sure=cuts is None)
        own.compute(near[~own.exact[near]])
        # Exact scores change the order of samples only within their windows of ranks.
        ranked[places] = np.sort(score[near])
    upper = cuts
    if upper is None:
        upper = np.unique(ranked[ranks])
        upper = upper[upper > ranked[0]]
    passed = count_reached(own.score, upper)
    thresholds = partial(_thresholds, source, key, own.score, upper, bound)
    return _Candidates(own.correct, passed, upper, thresholds)


def _thresholds(
    source: PrefixSource,
    key: Key,
    score: Array,
    upper: Array,
    bound: Callable[[Array], Array],
    choices: Array,
) -> Array:
    """Return thresholds halfway between the exact scores of the samples next to each."""
    if not len(choices):
        return np.empty(0)
    order = np.argsort(score, kind="stable")
    ranked = score[order]
    error = bound(ranked)
    first = np.searchsorted(ranked, upper[choices], side="left")
    # Errors may leave open which sample is the next below; compute all that may be.
    least = np.searchsorted(
        np.maximum.accumulate(ranked + error), ranked[first - 1] - error[first - 1], side="left"
    )
    below = [order[low:rank] for low, rank in zip(least, first, strict=True)]
    exact = source.scores(key, np.concatenate([order[first], *below]))
    upper, lower = exact[: len(first)], exact[len(first) :]
    starts = np.cumsum([0, *(first - least)[:-1]])
    return between(np.maximum.reduceat(lower, starts), upper)


def _near(
    score: Array,
    ranked: Array,
    pivots: Array,
    bound: Callable[[Array], Array],
    alone_is_sure: bool,
) -> tuple[Array, Array]:
    """Return the samples whose side of a pivot the errors leave open, and their ranks.

    Args:
        score: Shape (N,).
        ranked: The same, rising.
        pivots: Rising; either scores of samples, with the same errors, or exact numbers.
        bound: ``error_bound`` of :class:`Approximate`.
        alone_is_sure: True if pivots are scores of samples: a sample alone near one is not open.
    """
    error = bound(ranked)
    own = bound(pivots) if alone_is_sure else np.zeros(len(pivots))
    # The rank of the first sample that may reach a pivot's lower end, and the rank after the last
    # that may stay below its upper end. Both bounds rise with the score, up to rounding.
    high = np.maximum.accumulate(ranked + error)
    low = np.maximum.accumulate(ranked - error)
    first = np.searchsorted(high, pivots - own, side="left")
    past = np.searchsorted(low, pivots + own, side="right")
    open_ = past - first > (1 if alone_is_sure else 0)
    first, past = first[open_], past[open_]
    if not len(first):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    # Windows rise at both ends; merge those that overlap or split equal scores.
    begin, end = ranked[first], ranked[past - 1]
    apart = np.flatnonzero(begin[1:] > end[:-1])
    begin, end = begin[np.append(0, apart + 1)], end[np.append(apart, len(end) - 1)]
    bounds = np.stack([begin, np.nextafter(end, np.inf)], axis=1).ravel()
    # A score inside a window reaches an odd number of bounds.
    return (
        np.flatnonzero(count_reached(score, bounds) % 2 == 1),
        np.flatnonzero(count_reached(ranked, bounds) % 2 == 1),
    )
