"""Prefix statistics: which samples are right after a prefix, and which thresholds they reach.

The definition is :func:`committee.rule.flow.judged`, in double precision. Where the compiled part
is there, it gives all prefixes at once, within known rounding errors; samples whose class, or whose
side of a threshold, these errors leave open are computed again by the definition. So both ways give
the same statistics to the last sample.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from committee.arrays import Array
from committee.compiled import native as _native
from committee.pool.metrics import TOP_1
from committee.rule import scores as confidences
from committee.selection.prefixes import Key, PrefixTable, Rule
from committee.selection.thresholds import between, percentile_ranks

Progress = Callable[[int, int], None]

# Sums of a double-precision mantissa stay exact below this.
_EXACT = 2.0**52
# Multiplications that one call of the compiled part makes: about 50 ms.
_WORK = 1 << 27
# Sets of models whose statistics are in memory at once.
_SETS = 2048
_UNSURE = 2


@dataclass(frozen=True, eq=False)
class Approximate:
    """Scores of one prefix within an error, and classes that may be open.

    Args:
        score: Shape (N,), float64; NaN where nothing is known.
        slack: How far the score may be from the definition's, shape (N,); 0 if it is exact. A
            higher score plus its slack is never below a lower one plus its.
        hit: 1 if the class is right, 0 if not, 2 if that is open, shape (N,).
    """

    score: Array
    slack: Callable[[Array], Array]
    hit: Array


def prefix_table(
    rule: Rule,
    keys: Sequence[Key],
    grid: int | None = None,
    cuts: dict[Key, Array] | None = None,
    threads: int = 1,
    progress: Progress | None = None,
    known: PrefixTable | None = None,
) -> PrefixTable:
    """Compute the statistics of prefixes.

    Args:
        rule: By what is decided and judged.
        keys: The prefixes.
        grid: Percentiles that are candidate thresholds; or
        cuts: candidate thresholds of each prefix, rising; a prefix not named has none.
        threads: How many to use.
        progress: Called with (prefixes done, prefixes in all).
        known: Statistics by the same rule and candidates, from which prefixes are taken over.

    Raises:
        ShapeError: If ``grid`` is out of range.
    """
    samples = len(rule.pool)
    ranks = None if grid is None else percentile_ranks(samples, grid)
    top_1 = rule.metric is TOP_1
    # Counts are too many to be held for all prefixes; who needs them asks the rule.
    scored = rule.metric.figure is None
    values: Array = np.empty(
        (len(keys), samples if scored else 0), np.int8 if top_1 else np.float64
    )
    passed = np.empty((len(keys), samples), np.uint16)
    widths = np.empty(len(keys), np.int32)
    uppers: dict[Key, _Uppers] = {}
    ready = {} if known is None else {key: known.rows[key] for key in keys if key in known.rows}
    new = [row for row, key in enumerate(keys) if key not in ready]
    done = 0

    def take_over(table: PrefixTable, row: int) -> None:
        own = ready[keys[row]]
        passed[row], widths[row] = table.passed[own], table.widths[own]
        if top_1:
            values[row] = table.values[own]
        elif scored:
            # In what unit values are whole depends on all of a table's.
            values[row] = rule.values(keys[row], np.arange(samples))

    def fill(number: int, approximate: Approximate | None) -> None:
        row = new[number]
        key = keys[row]
        wanted = cuts.get(key, np.empty(0)) if cuts is not None else None
        settled = _settled(rule, key, approximate, ranks, wanted)
        passed[row], widths[row] = settled.passed, len(settled.uppers.values) + 1
        if scored:
            values[row] = settled.hit if top_1 else rule.values(key, np.arange(samples))
        uppers[key] = settled.uppers

    with ThreadPoolExecutor(threads) as executor:
        try:
            if known is not None:
                over = [row for row, key in enumerate(keys) if key in ready]
                done += len(list(executor.map(partial(take_over, known), over)))
            for batch in _approximated(rule, [keys[row] for row in new], threads, executor):
                for _ in executor.map(lambda pair: fill(*pair), batch):
                    done += 1
                    if progress is not None:
                        progress(done, len(keys))
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            raise
    values = values if top_1 or not scored else _whole(values)
    rows = {key: row for row, key in enumerate(keys)}

    def thresholds(key: Key, choices: Array) -> Array:
        if known is not None and key in ready:
            return known.thresholds(key, choices)
        return cuts[key][choices] if cuts is not None else uppers[key].thresholds(choices)

    return PrefixTable(rows, values, passed, widths, thresholds)


def _whole(values: Array) -> Array:
    """Values in whole multiples of a power of two, so that their sums are exact in any order."""
    most = float(np.abs(values).max(initial=0.0))
    if np.array_equal(values, np.rint(values)) and most * values.shape[1] < _EXACT:
        counted = bool(most <= 1 and (values >= 0).all())
        return values.astype(np.int8 if counted else np.int64)
    unit = 2.0 ** np.ceil(np.log2(max(most, 1e-300) * values.shape[1] / _EXACT))
    whole: Array = np.rint(values / unit).astype(np.int64)
    return whole


@dataclass(frozen=True, eq=False)
class _Uppers:
    """The least score that reaches each candidate threshold, and how thresholds are found."""

    values: Array
    thresholds: Callable[[Array], Array]


@dataclass(frozen=True, eq=False)
class _Settled:
    hit: Array
    passed: Array
    uppers: _Uppers


def _settled(
    rule: Rule, key: Key, approximate: Approximate | None, ranks: Array | None, cuts: Array | None
) -> _Settled:
    """Statistics of one prefix, all that is open computed by the definition."""
    every = np.arange(len(rule.pool))
    slack = np.zeros_like if approximate is None else approximate.slack
    if approximate is None:
        predicted, score = rule.scores(key, every)
        labels = rule.pool.samples.labels
        hit = np.zeros(len(every), np.int8) if labels is None else (predicted == labels)
        exact = np.ones(len(every), bool)
    else:
        score, hit = approximate.score.copy(), approximate.hit.astype(np.int8)
        exact = slack(score) == 0
        _replace(rule, key, np.flatnonzero(np.isnan(score)), score, hit, exact)
        _replace(rule, key, np.flatnonzero(hit == _UNSURE), score, hit, exact)
        ranked = np.sort(score)
        pivots = cuts if cuts is not None else np.unique(ranked[ranks])
        near, places = _near(score, ranked, pivots, slack, alone_is_sure=cuts is None)
        _replace(rule, key, near[~exact[near]], score, hit, exact)
        # They stay among themselves where it matters: on either side of a rank asked for.
        ranked[places] = np.sort(score[near])
    if cuts is not None:
        values = cuts
    else:
        ranked = np.sort(score) if approximate is None else ranked
        values = np.unique(ranked[ranks])
        values = values[values > ranked[0]]
    passed = _reached(score, values)

    def thresholds(choices: Array) -> Array:
        """Halfway between the exact scores of the samples next to each threshold."""
        if not len(choices):
            return np.empty(0)
        order = np.argsort(score, kind="stable")
        ranked = score[order]
        error = slack(ranked)
        first = np.searchsorted(ranked, values[choices], side="left")
        # Which sample below is next may be open; at most those within the errors are it.
        least = np.searchsorted(
            np.maximum.accumulate(ranked + error), ranked[first - 1] - error[first - 1], side="left"
        )
        above = [order[[rank]] for rank in first]
        below = [order[low:rank] for low, rank in zip(least, first, strict=True)]
        exact = rule.scores(key, np.concatenate(above + below))[1]
        ends = np.cumsum([len(rows) for rows in above + below])
        parts = np.split(exact, ends[:-1])
        upper = np.concatenate(parts[: len(choices)])
        lower = np.array([part.max() for part in parts[len(choices) :]])
        return between(lower, upper)

    return _Settled(hit, passed, _Uppers(values, thresholds))


def _replace(rule: Rule, key: Key, rows: Array, score: Array, hit: Array, exact: Array) -> None:
    """Compute samples by the definition."""
    if not len(rows):
        return
    predicted, score[rows] = rule.scores(key, rows)
    labels = rule.pool.samples.labels
    hit[rows] = 0 if labels is None else predicted == labels[rows]
    exact[rows] = True


def _near(
    score: Array,
    ranked: Array,
    pivots: Array,
    slack: Callable[[Array], Array],
    alone_is_sure: bool,
) -> tuple[Array, Array]:
    """Samples whose side of a pivot the slack leaves open, and the ranks that they hold.

    Args:
        score: Shape (N,).
        ranked: The same, rising.
        pivots: Rising. Either scores of samples, which are known within the slack as well, or exact
            numbers.
        slack: See :class:`Approximate`.
        alone_is_sure: True if pivots are scores: nothing is open if the one sample is alone.
    """
    slacks = slack(ranked)
    own = slack(pivots) if alone_is_sure else np.zeros(len(pivots))
    # Rank of the first sample that may be above a pivot's least, and past the last that may be
    # below its most. Each bound rises with the score; rounding must not make them fall.
    high = np.maximum.accumulate(ranked + slacks)
    low = np.maximum.accumulate(ranked - slacks)
    first = np.searchsorted(high, pivots - own, side="left")
    past = np.searchsorted(low, pivots + own, side="right")
    open_ = past - first > (1 if alone_is_sure else 0)
    first, past = first[open_], past[open_]
    if not len(first):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    # Windows rise at both ends; those that overlap, or part equal scores, are one.
    begin, end = ranked[first], ranked[past - 1]
    apart = np.flatnonzero(begin[1:] > end[:-1])
    begin, end = begin[np.append(0, apart + 1)], end[np.append(apart, len(end) - 1)]
    bounds = np.stack([begin, np.nextafter(end, np.inf)], axis=1).ravel()
    # Between the beginning of a window and its end an odd number of bounds is reached.
    return (
        np.flatnonzero(_reached(score, bounds) % 2 == 1),
        np.flatnonzero(_reached(ranked, bounds) % 2 == 1),
    )


def _reached(score: Array, rising: Array) -> Array:
    """How many of the rising numbers each score reaches, uint16."""
    if _native is None:
        return np.searchsorted(rising, score, side="right").astype(np.uint16)
    out = np.empty(len(score), np.uint16)
    _native.reached(np.ascontiguousarray(score), np.ascontiguousarray(rising), out)
    return out


def _approximated(
    rule: Rule, keys: Sequence[Key], threads: int, executor: ThreadPoolExecutor
) -> Iterator[list[tuple[int, Approximate | None]]]:
    """Batches of (row of a prefix, what the compiled part says of it, or None)."""
    if not keys:
        return
    if not compiled(rule):
        yield [(row, None) for row in range(len(keys))]
        return
    # Lexicographic order lets the compiled part share what prefixes begin with.
    ordered = sorted(range(len(keys)), key=lambda row: (len(keys[row]), keys[row]))
    for start in range(0, len(ordered), _SETS):
        rows = ordered[start : start + _SETS]
        found = _run(rule, [keys[row] for row in rows], threads, executor)
        yield list(zip(rows, found, strict=True))


def processors() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def compiled_part() -> Any:
    """The compiled part, or None where it could not be built."""
    return _native


def compiled(rule: Rule) -> bool:
    """Whether the compiled part is there and knows the rule."""
    return _native is not None and _kernel(rule) is not None


def _kernel(rule: Rule) -> str | None:
    """Which means the compiled part is to form, if it can."""
    kind, known = rule.pool.kind, confidences.BUILT_IN
    if known.get(rule.confidence) is not confidences.CONFIDENCES.get(rule.confidence):
        return None
    first = next(iter(rule.pool.outputs.values())).values
    if kind in ("decisions", "counts") or first.shape[1] < 2 or not len(first):
        return None
    if any(each.values.dtype.kind != "f" for each in rule.pool.outputs.values()):
        return None
    if kind == "logits" and rule.combine in ("mean_logits", "last"):
        return "logits"
    if rule.combine in ("mean_probabilities", "last"):
        return None if rule.confidence == "neg_entropy" else "probabilities"
    return None


def _run(
    rule: Rule, keys: Sequence[Key], threads: int, executor: ThreadPoolExecutor
) -> Iterator[Approximate | None]:
    """What the compiled part says of prefixes, given by rising size and name."""
    pool, samples = rule.pool, len(rule.pool)
    names = sorted({name for key in keys for name in key})
    number = {name: i for i, name in enumerate(names)}
    sizes = [
        np.array([[number[name] for name in key] for key in keys if len(key) == size], np.int32)
        for size in sorted({len(key) for key in keys})
    ]
    logits = _kernel(rule) == "logits"
    real = np.float32 if logits else np.float64
    first = [np.empty((len(sets), samples), real) for sets in sizes]
    second = [np.empty((len(sets), samples), real) for sets in sizes]
    hit = [np.empty((len(sets), samples), np.uint8) for sets in sizes]
    labels = pool.samples.labels
    labels = np.zeros(samples, np.int64) if labels is None else labels
    classes = pool.outputs[names[0]].values.shape[1]
    entropy = rule.confidence == "neg_entropy"

    def chunk(start: int, stop: int) -> float:
        rows = rule.outputs(tuple(names), slice(start, stop))
        models = [_plain(rows[name].values) for name in names]
        own = np.ascontiguousarray(labels[start:stop], np.int64)
        where = (start, samples, first, second, hit)
        if logits:
            return float(_native.mean_logits(models, own, sizes, entropy, *where))
        _native.mean_probabilities(models, pool.kind == "logits", own, sizes, *where)
        return 0.0

    work = len(keys) * (classes + 64)
    rows = int(np.clip(_WORK // work, 8, max(8, -(-samples // threads))))
    starts = range(0, samples, rows)
    largest = max(executor.map(lambda s: chunk(s, min(s + rows, samples)), starts))
    for sets, *parts in zip(sizes, first, second, hit, strict=True):
        count = sets.shape[1]
        for one, two, right in zip(*parts, strict=True):
            if logits:
                yield _of_logits(rule.confidence, one, two, right, count, classes, largest)
            else:
                yield _of_probabilities(rule.confidence, one, two, right, count, classes)


def _plain(values: Array) -> Array:
    """Rows as the compiled part reads them: native float32 or float64, one after another."""
    wide = values.dtype.itemsize == 8
    rows: Array = np.ascontiguousarray(values, dtype=np.float64 if wide else np.float32)
    # Minus infinity, a class that is masked: of a mean with a logit as low, too, nothing is left.
    masked = np.isneginf(rows)
    if masked.any() and np.abs(rows, where=~masked, out=np.zeros_like(rows)).max() < _USUAL:
        rows = np.where(masked, rows.dtype.type(-_LARGEST), rows)
    return rows


# Half a unit in the last place of single and double precision, with room to spare.
_SINGLE, _DOUBLE = 6e-8, 1.2e-16
# Logits beyond this make exponents that the compiled part cannot hold.
_LARGEST = 1e6
# Logits of people's models; far beyond it what is masked would not be nothing.
_USUAL = 1e3
# What is left beside the largest, below which probabilities round to 1.
_NOTHING = 2.0**-56


def _of_logits(
    confidence: str,
    rest: Array,
    second: Array,
    hit: Array,
    models: int,
    classes: int,
    largest: float,
) -> Approximate | None:
    """Scores from products of exponentials in single precision.

    Args:
        confidence: Name of the confidence function.
        rest: Sum of all products but the largest, over the largest.
        second: Second largest over the largest; of neg_entropy the sum of p log p, see
            ``spread`` in statistics.hpp.
        hit: See :class:`Approximate`.
        models: How many were averaged.
        classes: How many there are.
        largest: Greatest absolute logit.
    """
    if largest > _LARGEST:
        return None
    # See product_error in statistics.hpp; the reference's own rounding grows with the logits.
    product = 6 * _SINGLE * (models + 4) + 8 * _DOUBLE * (models + 2) * largest
    summed = 2 * product + (classes / (2 * _native.lanes()) + 16) * _SINGLE
    floor = 64 * _DOUBLE
    s, q = rest.astype(np.float64), second.astype(np.float64)
    if confidence == "max_prob":
        score = 1 / (1 + s)
        return Approximate(
            # What only rounds to 1 is kept below it, apart from what is 1 for certain.
            np.where(s < _NOTHING, 1.0, np.minimum(score, 1 - 2.0**-53)),
            lambda a: np.where(a == 1, 0.0, a * (1 - a) * summed + floor),
            hit,
        )
    if confidence == "logit_gap":
        with np.errstate(divide="ignore"):
            score = -np.log(q)
        slack = 2 * product + 2 * _SINGLE + floor * largest
        return Approximate(
            np.where(q > 1e-20, score, np.nan), lambda a: np.full(np.shape(a), slack), hit
        )
    if confidence == "prob_gap":
        error = summed + 2 * product + 2 * _SINGLE
        score = (1 - q) / (1 + s)
        return Approximate(score, lambda a: np.maximum(1 - a, 0) * error + floor, hit)
    error = 4 * product + 2 * summed + (models + 2) * 2 * _SINGLE * largest + 1e-6
    score = q / (1 + s) - np.log1p(s)
    return Approximate(score, lambda a: 2 * np.abs(a) * error + floor, hit)


def _of_probabilities(
    confidence: str, first: Array, second: Array, hit: Array, models: int, classes: int
) -> Approximate:
    """Scores from sums of probabilities in double precision."""
    error = (classes + 64) * 4 * _DOUBLE
    if confidence == "max_prob":
        return Approximate(first / models, lambda a: np.full(np.shape(a), error), hit)
    if confidence == "prob_gap":
        return Approximate((first - second) / models, lambda a: np.full(np.shape(a), error), hit)
    possible = second > 1e-250
    with np.errstate(divide="ignore", invalid="ignore"):
        score = np.log(first / models) - np.log(second / models)
    score = np.where(possible, score, np.nan)
    return Approximate(score, lambda a: np.full(np.shape(a), 4 * error + 1e-12), hit)
