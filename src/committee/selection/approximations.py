"""Approximations: the compiled part scores many prefixes at once, within known errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np

from committee.arrays import Array
from committee.compiled import native as _native
from committee.pool.prefixes import Key, PrefixSource, StoredPrefixes
from committee.rule import scores as confidences
from committee.rule.outputs import WITH_CONFIDENCE

# Multiplications in one call of the compiled part; they take about 50 ms.
_WORK = 1 << 27
# Most prefixes whose approximations are in memory at once.
_SETS = 2048
# Marks a sample whose class the errors leave open.
UNSURE = 2


@dataclass(frozen=True, eq=False)
class Approximate:
    """Scores of one prefix within an error, and classes that may be open.

    Args:
        score: Shape (N,), float64; NaN where the score is unknown.
        error_bound: From scores to how far they may be from the definition's; 0 where they are
            exact. ``score + error_bound(score)`` is non-decreasing in score.
        correct: 1 if the class is correct, 0 if not, 2 if that is open, shape (N,).
    """

    score: Array
    error_bound: Callable[[Array], Array]
    correct: Array


def compiled_part() -> Any:
    """Return the compiled part, or None where it could not be built."""
    return _native


def _compiled(source: PrefixSource) -> bool:
    """Return True if the compiled part is installed and supports the rule."""
    if _native is None or not isinstance(source, StoredPrefixes):
        return False
    return _kernel(source) is not None


def count_reached(score: Array, rising: Array) -> Array:
    """Return how many numbers of a rising array each score reaches, uint16."""
    if _native is None:
        return np.searchsorted(rising, score, side="right").astype(np.uint16)
    out = np.empty(len(score), np.uint16)
    _native.reached(np.ascontiguousarray(score), np.ascontiguousarray(rising), out)
    return out


def approximate(
    source: PrefixSource, keys: Sequence[Key], threads: int, executor: Executor
) -> Iterator[list[tuple[int, Approximate | None]]]:
    """Yield batches of (row, approximation) for all prefixes; None where none can be computed."""
    if not keys:
        return
    if not (isinstance(source, StoredPrefixes) and _compiled(source)):
        yield [(row, None) for row in range(len(keys))]
        return
    # In lexicographic order the compiled part shares the common beginnings of prefixes.
    ordered = sorted(range(len(keys)), key=lambda row: (len(keys[row]), keys[row]))
    for start in range(0, len(ordered), _SETS):
        rows = ordered[start : start + _SETS]
        approximations = _run(source, [keys[row] for row in rows], threads, executor)
        yield list(zip(rows, approximations, strict=True))


def _kernel(source: StoredPrefixes) -> str | None:
    """Return what the compiled part averages, logits or probabilities; None if it cannot."""
    kind, known = source.pool.combined_kind, confidences.BUILT_IN
    own = known.get(source.confidence)
    if own is None or own is not confidences.CONFIDENCES.get(source.confidence):
        return None
    if kind in WITH_CONFIDENCE or _classes(source) < 2 or not len(source):
        return None
    raw = source.pool.kind not in WITH_CONFIDENCE and source.pool.outputs.values()
    if raw and any(each.values.dtype.kind != "f" for each in raw):
        return None
    if kind == "logits" and source.combine in ("mean_logits", "last"):
        return "logits"
    if source.combine in ("mean_probabilities", "last"):
        return None if source.confidence == "neg_entropy" else "probabilities"
    return None


def _classes(source: StoredPrefixes) -> int:
    """Return how many classes the outputs have that are combined."""
    return next(iter(source.pool.models.values())).width or 0


def _run(
    source: StoredPrefixes, keys: Sequence[Key], threads: int, executor: Executor
) -> Iterator[Approximate | None]:
    """Yield the approximation of each prefix; pass the prefixes by rising size, then name."""
    pool, samples = source.pool, len(source.pool)
    names = sorted({name for key in keys for name in key})
    number = {name: i for i, name in enumerate(names)}
    sizes = [
        np.array([[number[name] for name in key] for key in keys if len(key) == size], np.int32)
        for size in sorted({len(key) for key in keys})
    ]
    logits = _kernel(source) == "logits"
    real = np.float32 if logits else np.float64
    first = [np.empty((len(sets), samples), real) for sets in sizes]
    second = [np.empty((len(sets), samples), real) for sets in sizes]
    correct = [np.empty((len(sets), samples), np.uint8) for sets in sizes]
    labels = pool.samples.labels
    labels = np.zeros(samples, np.int64) if labels is None else labels
    classes = _classes(source)
    entropy = source.confidence == "neg_entropy"

    def chunk(start: int, stop: int) -> float:
        rows = source.outputs(tuple(names), slice(start, stop))
        models = [_plain(rows[name].values) for name in names]
        own = np.ascontiguousarray(labels[start:stop], np.int64)
        where = (start, samples, first, second, correct)
        if logits:
            return float(_native.mean_logits(models, own, sizes, entropy, *where))
        _native.mean_probabilities(models, pool.combined_kind == "logits", own, sizes, *where)
        return 0.0

    work = len(keys) * (classes + 64)
    rows = int(np.clip(_WORK // work, 8, max(8, -(-samples // threads))))
    starts = range(0, samples, rows)
    largest = max(executor.map(lambda s: chunk(s, min(s + rows, samples)), starts))
    for sets, *parts in zip(sizes, first, second, correct, strict=True):
        count = sets.shape[1]
        for one, two, right in zip(*parts, strict=True):
            if logits:
                yield _of_logits(source.confidence, one, two, right, count, classes, largest)
            else:
                yield _of_probabilities(source.confidence, one, two, right, count, classes)


def _plain(values: Array) -> Array:
    """Return outputs as the compiled part reads them: contiguous native float32 or float64."""
    wide = values.dtype.itemsize == 8
    rows: Array = np.ascontiguousarray(values, dtype=np.float64 if wide else np.float32)
    # Minus infinity masks a class; a very low logit masks it in the mean as well.
    masked = np.isneginf(rows)
    if masked.any() and np.abs(rows, where=~masked, out=np.zeros_like(rows)).max() < _USUAL:
        rows = np.where(masked, rows.dtype.type(-_LARGEST), rows)
    return rows


# Just above half a unit in the last place of single and double precision.
_SINGLE, _DOUBLE = 6e-8, 1.2e-16
# Larger logits overflow the exponents of the compiled part.
_LARGEST = 1e6
# Real models have smaller logits; beside much larger ones a masked class would not vanish.
_USUAL = 1e3
# The largest probability rounds to 1 if the others sum to less than this share of it.
_NOTHING = 2.0**-56


def _of_logits(
    confidence: str,
    rest: Array,
    second: Array,
    correct: Array,
    models: int,
    classes: int,
    largest: float,
) -> Approximate | None:
    """Return scores from products of exponentials in single precision.

    Args:
        confidence: Name of the confidence function.
        rest: Sum of all products but the largest, over the largest.
        second: Second largest product over the largest; for neg_entropy the sum of p log p, see
            ``spread`` in statistics.hpp.
        correct: See :class:`Approximate`.
        models: Number of models averaged.
        classes: Number of classes.
        largest: Largest absolute logit.
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
            # A score is 1 only if the definition's is 1 for certain; others stay just below.
            np.where(s < _NOTHING, 1.0, np.minimum(score, 1 - 2.0**-53)),
            lambda a: np.where(a == 1, 0.0, a * (1 - a) * summed + floor),
            correct,
        )
    if confidence == "logit_gap":
        with np.errstate(divide="ignore"):
            score = -np.log(q)
        bound = 2 * product + 2 * _SINGLE + floor * largest
        return Approximate(
            np.where(q > 1e-20, score, np.nan), lambda a: np.full(np.shape(a), bound), correct
        )
    if confidence == "prob_gap":
        error = summed + 2 * product + 2 * _SINGLE
        score = (1 - q) / (1 + s)
        return Approximate(score, lambda a: np.maximum(1 - a, 0) * error + floor, correct)
    error = 4 * product + 2 * summed + (models + 2) * 2 * _SINGLE * largest + 1e-6
    score = q / (1 + s) - np.log1p(s)
    return Approximate(score, lambda a: 2 * np.abs(a) * error + floor, correct)


def _of_probabilities(
    confidence: str, first: Array, second: Array, correct: Array, models: int, classes: int
) -> Approximate:
    """Return scores from sums of probabilities in double precision."""
    error = (classes + 64) * 4 * _DOUBLE
    if confidence == "max_prob":
        return Approximate(first / models, lambda a: np.full(np.shape(a), error), correct)
    if confidence == "prob_gap":
        return Approximate(
            (first - second) / models, lambda a: np.full(np.shape(a), error), correct
        )
    possible = second > 1e-250
    with np.errstate(divide="ignore", invalid="ignore"):
        score = np.log(first / models) - np.log(second / models)
    score = np.where(possible, score, np.nan)
    return Approximate(score, lambda a: np.full(np.shape(a), 4 * error + 1e-12), correct)
