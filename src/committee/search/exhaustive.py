"""Exhaustive search: every ordered sequence of models, every vector of thresholds."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from committee.cascade import NEVER, Cascade
from committee.combine import DEFAULT_COMBINE, ORDER_FREE
from committee.confidence import CONFIDENCES, confidence_of
from committee.errors import (
    CascadeError,
    CostError,
    Infeasible,
    TooLargeError,
    UnknownNameError,
)
from committee.evaluate import (
    Evaluation,
    average_cost,
    check_judge,
    check_judgeable,
    costs_of_stages,
    decided,
    evaluation_of,
    scored,
)
from committee.pool import Pool
from committee.predictions import Array
from committee.search.counts import counted_sweep
from committee.search.front import (
    Committee,
    Front,
    Settings,
    joined_fronts,
    preference,
    undominated,
)
from committee.search.judging import evaluate_all, judged_on
from committee.search.prefixes import Key, PrefixTable, Rule, Sequence_
from committee.search.sequences import (
    checked_stages,
    earlier_training,
    every_self_cascade,
    every_sequence,
    within,
)
from committee.search.statistics import prefix_table, processors
from committee.search.sweep import CLEARLY, Batch, Points, beaten, stairs, sweep
from committee.search.warnings import warnings_of
from committee.utility import Utility

# Called with what is being done, how much is done and how much there is.
Progress = Callable[[str, int, int], None]
Bounds = float | Mapping[str, float] | None

# Sequences that one thread goes through at once: well below a second.
_SEQUENCES = 64
_VECTORS = 1e8
# More than this are not listed, let alone searched.
_MOST_SEQUENCES = 3_000_000
# Bytes that statistics of one sample at one prefix take: score, value, thresholds passed.
_BYTES = 8 + 1 + 2


def search(
    pool: Pool,
    max_models: int | None = None,
    *,
    confidence: str = "max_prob",
    combine: str | None = None,
    grid: int = 100,
    worst_case: Bounds = None,
    average_case: Mapping[str, float] | None = None,
    unit: str | None = None,
    utility: Utility | None = None,
    families: bool = True,
    stages: Sequence[str | Sequence[str]] | None = None,
    self_cascades: bool = False,
    test: Pool | None = None,
    threads: int | None = None,
    max_memory: float = 4e9,
    progress: Progress | None = None,
) -> Front:
    """Find all committees of a pool that no other beats in both accuracy and average-case cost.

    Every ordered sequence of up to ``max_models`` distinct models is tried with every vector of
    thresholds out of ``grid`` percentiles, "always" and "never"; single models and ensembles are
    among them, and so are stages of several models, for a stage that never exits is one with the
    next. The result is exact and depends on neither threads nor the order of the pool, but for the
    order of the models of a family. A model on all blocks of its views is tried whatever
    ``max_models`` is. Where samples are divided in parts in several ways, every way
    is searched, and a committee keeps to one.

    Args:
        pool: Predictions on the split that chooses, and costs; labels unless the utility needs
            none.
        max_models: Most models of a committee; 3, or all of a smaller pool, if left out.
        confidence: Name of the confidence function; decisions bring their own.
        combine: ``mean_logits``, ``mean_probabilities`` or ``last``; by default the mean of what
            the models give.
        grid: Percentiles tried for each threshold.
        worst_case: Bound on the sum of the costs of all stages, in ``unit``, or by unit.
        average_case: Bounds on the average-case cost in units besides ``unit``. Bounds have a hair
            of slack, one part in 10^12, so that rounding breaks none.
        unit: Unit of the cost; see :meth:`committee.cost.CostTable.unit` for the default.
        utility: What a sample scores when it exits; that of the pool's task if left out: top-1,
            and mIoU for segmentation.
        families: Whether models of one family (see :class:`Pool`) are interchangeable: then the
            first, second, … use of a family takes its first, second, … model.
        stages: What to build from: names of models, or lists of names for stages of several models.
            ``max_models`` then counts stages.
        self_cascades: Whether to search single models and self-cascades only: sequences in which
            all models are one set of weights (see :class:`Pool`), at rising resolution.
        test: The pool on a split that judges; every committee found is evaluated there too.
        threads: How many to use; all processors if left out.
        max_memory: Bytes that statistics may take.
        progress: Called with (what is done, how much is done, how much there is).

    Raises:
        CascadeError: If ``max_models`` is less than 1 or more than there is to build from, or
            self-cascades are asked for and cannot be.
        Infeasible: If no committee keeps to the bounds.
        MisalignedError: If there are no labels or samples, or ``test`` cannot judge.
        CostError: If a model has no cost in a unit asked for.
        ShapeError: If ``grid`` is out of range.
        TooLargeError: If there are too many sequences, or statistics exceed ``max_memory``.

    References:
        Wang et al. (2022), section 5, appendix D.3 and E.1.
    """
    if pool.divided:
        options: dict[str, Any] = {
            "confidence": confidence,
            "combine": combine,
            "grid": grid,
            "worst_case": worst_case,
            "average_case": average_case,
            "unit": unit,
            "utility": utility,
            "families": families,
            "stages": stages,
            "self_cascades": self_cascades,
            "threads": threads,
            "max_memory": max_memory,
            "progress": progress,
        }
        return over_divisions(
            pool, test, lambda own, judge: search(own, max_models, test=judge, **options)
        )
    asked = asked_for(
        pool,
        confidence=confidence,
        combine=combine,
        grid=grid,
        worst_case=worst_case,
        average_case=average_case,
        unit=unit,
        utility=utility,
        test=test,
        threads=threads,
        max_memory=max_memory,
        progress=progress,
    )
    blocks = None if stages is None else checked_stages(pool, stages)
    available = len(blocks) if blocks else pool.most_models
    most = most_models(max_models, available, "stages given" if blocks else "pool")
    if self_cascades:
        if blocks is not None:
            raise CascadeError("search: self_cascades are built from models; leave stages out")
        return searched(asked, every_self_cascade(pool, most)).front(
            most, False, self_cascades=True
        )
    known = pool.families if families and blocks is None else {}
    everything = every_sequence(pool, most, known, blocks)
    listed = list(itertools.islice(everything, _MOST_SEQUENCES + 1))
    if len(listed) > _MOST_SEQUENCES:
        raise TooLargeError(
            f"search: {len(pool.names)} models make more than {_MOST_SEQUENCES:,} sequences of up "
            f"to {most}. Lower max_models, search part of the pool, or use committee.guided"
        )
    if blocks is None:
        # A model on all its views is one model, in however many blocks these are.
        wholes = pool.singles(asked.rule.combine).values()
        listed += [(names,) for names in wholes if len(names) > most]
    return searched(asked, listed).front(most, bool(known))


def over_divisions(
    pool: Pool, test: Pool | None, search_one: Callable[[Pool, Pool | None], Front]
) -> Front:
    """The best of what a search finds in each division of a pool's samples.

    Args:
        pool: The pool, divided or not.
        test: The pool on the split that judges.
        search_one: From one division on both splits to its front.
    """
    fronts = [
        search_one(own, None if test is None else test.divided_as(own)) for own in pool.divisions
    ]
    return joined_fronts(pool, fronts)


def most_models(asked: int | None, available: int, what: str) -> int:
    """How many models a committee may have: what is asked, else 3, or all of a smaller pool.

    Raises:
        CascadeError: If that is less than 1 or more than there are.
    """
    most = min(3, available) if asked is None else asked
    if not isinstance(most, int | np.integer) or not 1 <= most <= available:
        raise CascadeError(
            f"search: max_models must be 1 to {available}, as many as are in the {what}, not {most}"
        )
    return most


def bounds_of(worst_case: Bounds, unit: str) -> dict[str, float]:
    """Bounds by unit, from one number in the unit of the search or several by unit."""
    if worst_case is None:
        return {}
    given = worst_case if isinstance(worst_case, Mapping) else {unit: worst_case}
    return {each: float(bound) for each, bound in given.items()}


@dataclass(frozen=True, eq=False)
class Asked:
    """What every committee of one search shares; arguments as of :func:`search`."""

    rule: Rule
    grid: int
    unit: str
    worst_case: Mapping[str, float]
    average_case: Mapping[str, float]
    test: Pool | None
    threads: int
    max_memory: float
    progress: Progress | None


@dataclass(frozen=True, eq=False)
class Found:
    """The committees of a search that may be on the front, before they are compared exactly."""

    asked: Asked
    table: PrefixTable
    sequences: list[Sequence_]
    points: Sequence[tuple[Sequence_, Array, Array, float]]
    cascades: int
    seconds: dict[str, float]

    def front(
        self, most: int, families: bool, inexact: str = "", *, self_cascades: bool = False
    ) -> Front:
        """Compare on exact figures, describe, and judge."""
        asked, rule = self.asked, self.asked.rule
        with _timed(self.seconds, "front"):
            committees = _committees(self)
        if asked.test is not None:
            with _timed(self.seconds, "test"):
                committees = judged_on(
                    committees, asked.test, asked.unit, rule.utility, asked.threads
                )
        settings = Settings(
            max_models=most,
            confidence=rule.confidence,
            combine=rule.combine,
            grid=asked.grid,
            unit=asked.unit,
            worst_case=asked.worst_case,
            average_case=asked.average_case,
            families=families,
            self_cascades=self_cascades,
            utility=rule.utility,
            sequences=len(self.sequences),
            cascades=self.cascades,
            seconds=self.seconds,
        )
        warnings = warnings_of(rule, self.table, asked.unit)
        return Front(committees, settings, rule.pool, inexact, warnings)


def asked_for(
    pool: Pool,
    *,
    confidence: str,
    combine: str | None,
    grid: int,
    worst_case: Bounds,
    unit: str | None,
    utility: Utility | None,
    average_case: Mapping[str, float] | None = None,
    test: Pool | None = None,
    threads: int | None = None,
    max_memory: float = 4e9,
    progress: Progress | None = None,
) -> Asked:
    """What is asked of a search, checked; arguments as of :func:`search`.

    Raises:
        MisalignedError: If there are no labels or samples, or ``test`` cannot judge.
        UnknownNameError: If there is no such confidence function.
        CostError: If a bound is NaN, or a model has no cost in the unit.
        CascadeError: If ``threads`` is less than 1.
    """
    utility = utility or pool.task.utility
    check_judgeable(pool, utility)
    unit = pool.costs.unit(unit)
    if test is not None:
        check_judge(pool, test, utility, unit)
    confidence = pool.confidence_or(confidence)
    rule = Rule(pool, confidence, combine or DEFAULT_COMBINE[pool.kind], utility)
    if rule.pool.kind != "decisions" and confidence_of(rule.confidence) is None:
        raise UnknownNameError.of("search", "confidence function", rule.confidence, CONFIDENCES)
    if threads is not None and threads < 1:
        raise CascadeError(f"search: threads must be 1 or more, not {threads}")
    worst = bounds_of(worst_case, unit)
    for what, bounds in (("worst_case", worst), ("average_case", average_case or {})):
        for each, bound in bounds.items():
            if math.isnan(bound):
                raise CostError(f"search: {what} is NaN; give a number of {each} or leave it out")
    return Asked(
        rule,
        grid,
        unit,
        worst,
        bounds_of(average_case, unit),
        test,
        threads or processors(),
        max_memory,
        progress,
    )


def searched(asked: Asked, sequences: list[Sequence_]) -> Found:
    """Search the sequences given; those out of the worst-case bounds are left out.

    Raises:
        Infeasible: If no sequence keeps to the bounds.
        TooLargeError: If statistics exceed the memory allowed.
    """
    rule, pool = asked.rule, asked.rule.pool
    seconds: dict[str, float] = {}
    # Short ones first: what they find rules out most of the long ones.
    sequences = sorted(within(pool, iter(sequences), asked.worst_case), key=len)
    keys = [rule.keys(sequence) for sequence in sequences]
    distinct = list(dict.fromkeys(key for each in keys for key in each))
    check_memory(len(distinct), len(pool), asked.max_memory)
    with _timed(seconds, "prefixes"):
        table = prefix_table(
            rule,
            distinct,
            asked.grid,
            threads=asked.threads,
            progress=_part(asked.progress, "prefixes"),
        )
    with _timed(seconds, "thresholds"):
        go_through = _swept if rule.utility.figure is None else _counted
        points, cascades = go_through(asked, table, sequences, keys)
    return Found(asked, table, sequences, points, cascades, seconds)


def _part(progress: Progress | None, name: str) -> Callable[[int, int], None] | None:
    if progress is None:
        return None
    return lambda done, total: progress(name, done, total)


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start


def check_memory(prefixes: int, samples: int, most: float) -> None:
    """Refuse statistics of more prefixes than fit into memory.

    Raises:
        TooLargeError: If so.
    """
    needed = prefixes * samples * _BYTES
    if needed > most:
        raise TooLargeError(
            f"search: statistics of {prefixes:,} sets of models on {samples:,} samples take "
            f"{needed / 1e9:.1f} GB, more than max_memory of {most / 1e9:.1f} GB. Lower "
            "max_models, search part of the pool, use committee.guided, or allow more"
        )


def _swept(
    asked: Asked, table: PrefixTable, sequences: list[Sequence_], keys: list[list[Key]]
) -> tuple[Sequence[tuple[Sequence_, Array, Array, float]], int]:
    """(Sequence, choices, reach, value) of what may be on the front, and the cascades covered."""
    pool = asked.rule.pool
    units = [asked.unit, *asked.average_case]
    costs = [pool.costs.values(pool.costs.unit(unit)) for unit in units]
    limits = np.array([b * len(pool) for b in asked.average_case.values()], np.float64)
    batches = list(_batches(sequences, keys, table, costs, limits))
    cost, value = np.empty(0), np.empty(0, np.int64)
    kept: list[tuple[int, Points]] = []
    cascades = done = 0
    # What is under way looks at this now and then.
    stop = np.zeros(1, np.uint8)
    with ThreadPoolExecutor(asked.threads) as executor:
        try:
            # Every round starts from all that is known.
            for start in range(0, len(batches), asked.threads):
                round_ = batches[start : start + asked.threads]
                known = (cost, value)
                answers = executor.map(partial(_sweep, table, known, stop), round_)
                for (first, batch), points in zip(round_, answers, strict=True):
                    kept.append((first, points))
                    cost = np.concatenate([cost, points.cost])
                    value = np.concatenate([value, points.value])
                    widths = table.widths[batch.prefixes[:, :-1]].astype(np.float64) + 1
                    cascades += int(np.prod(widths, axis=1).sum())
                    done += len(batch.prefixes)
                cost, value = stairs(cost, value)
                if asked.progress is not None:
                    asked.progress("sequences", done, len(sequences))
        except BaseException:
            stop[0] = 1
            executor.shutdown(wait=False, cancel_futures=True)
            raise
    found = []
    for first, points in kept:
        left = np.flatnonzero(~beaten(points.cost, points.value, cost, value))
        found += [
            (sequences[first + s], choice, reach, int(worth))
            for s, choice, reach, worth in zip(
                points.sequence[left],
                points.choices[left],
                points.reach[left],
                points.value[left],
                strict=True,
            )
        ]
    return found, cascades


def _counted(
    asked: Asked, table: PrefixTable, sequences: list[Sequence_], keys: list[list[Key]]
) -> tuple[Sequence[tuple[Sequence_, Array, Array, float]], int]:
    """The same where a figure is made of counts."""
    pool = asked.rule.pool
    units = [asked.unit, *asked.average_case]
    costs = [pool.costs.values(pool.costs.unit(unit)) for unit in units]
    limits = np.array([b * len(pool) for b in asked.average_case.values()], np.float64)
    progress = _part(asked.progress, "sequences")
    return counted_sweep(asked.rule, table, sequences, keys, costs, limits, progress)


def _sweep(
    table: PrefixTable, known: tuple[Array, Array], stop: Array, numbered: tuple[int, Batch]
) -> Points:
    return sweep(table, numbered[1], *known, stop)


def _batches(
    sequences: list[Sequence_],
    keys: list[list[Key]],
    table: PrefixTable,
    costs: list[dict[str, float]],
    limits: Array,
) -> Iterator[tuple[int, Batch]]:
    """(Number of the first sequence, batch) for runs of sequences of one length."""
    start = 0
    for length, run in itertools.groupby(sequences, len):
        count = len(list(run))
        # Few at once where each has many vectors of thresholds, so that progress is seen.
        vectors = float(table.widths.max()) ** (length - 1)
        step = int(np.clip(_VECTORS / vectors, 1, _SEQUENCES))
        for first in range(start, start + count, step):
            last = min(first + step, start + count)
            prefixes = [[table.rows[key] for key in keys[i]] for i in range(first, last)]
            priced = [
                [costs_of_stages(sequences[i], each) for i in range(first, last)] for each in costs
            ]
            shape = (len(costs), last - first, length)
            yield (
                first,
                Batch(np.array(prefixes, np.int32), np.array(priced).reshape(shape), limits),
            )
        start += count


@dataclass(frozen=True, eq=False)
class _Candidate:
    """A committee that may be on the front, its stages joined where none exits.

    Args:
        cascade: With the numbers of candidate thresholds in place of thresholds.
        ends: For each stage but the last, which prefix of the sequence it ends at.
        sequence: The sequence it was found in.
        leaving: How many samples leave at each stage, shape (K,).
        value: Total over samples, in the table's units; of counts the figure.
    """

    cascade: Cascade
    ends: tuple[int, ...]
    sequence: Sequence_
    leaving: Array
    value: float


def _candidates(found: Found) -> Iterator[_Candidate]:
    rule, table = found.asked.rule, found.table
    for sequence, choices, reach, value in found.points:
        rows = [table.rows[key] for key in rule.keys(sequence)[:-1]]
        never = [choice == table.widths[row] - 1 for choice, row in zip(choices, rows, strict=True)]
        numbers = [NEVER if n else float(c) for n, c in zip(never, choices, strict=True)]
        leaving = -np.diff(reach, append=0)
        yield _Candidate(
            rule.cascade(sequence, numbers).joined(),
            tuple(k for k, joins in enumerate(never) if not joins),
            sequence,
            leaving[[*(not joins for joins in never), True]],
            value,
        )


def _committees(found: Found) -> tuple[Committee, ...]:
    """The front on exact figures, each member described.

    Raises:
        Infeasible: If no committee keeps to the bounds on average costs.
    """
    asked = found.asked
    costs = {unit: asked.rule.pool.costs.values(unit) for unit in [asked.unit, *asked.average_case]}

    def average(candidate: _Candidate, unit: str) -> float:
        own = costs_of_stages(candidate.cascade.models_of_stages, costs[unit])
        return average_cost(own, candidate.leaving)

    ranked = [
        candidate
        for candidate in _candidates(found)
        if all(
            average(candidate, unit) * CLEARLY <= bound
            for unit, bound in asked.average_case.items()
        )
    ]
    if not ranked:
        told = " and ".join(f"{bound:g} {unit}" for unit, bound in asked.average_case.items())
        raise Infeasible(
            f"no committee{' within the worst case' if asked.worst_case else ''} has an average "
            f"cost of at most {told}. Raise the bound"
        )

    def worst_case(candidate: _Candidate) -> float:
        return math.fsum(costs[asked.unit][name] for name in candidate.cascade.names)

    ranked.sort(key=lambda candidate: preference(candidate.cascade, worst_case(candidate)))
    cost = np.array([average(candidate, asked.unit) for candidate in ranked])
    value = np.array([candidate.value for candidate in ranked])
    chosen = [ranked[i] for i in undominated(cost, value)]
    thresholds = _thresholds(found, chosen)
    return tuple(_committee(found, candidate, thresholds) for candidate in chosen)


def _cuts(found: Found, candidate: _Candidate) -> list[tuple[Key, int]]:
    """For each stage but the last, its prefix and the number of its threshold."""
    keys = found.asked.rule.keys(candidate.sequence)
    numbers = candidate.cascade.thresholds
    return [(keys[end], int(n)) for end, n in zip(candidate.ends, numbers, strict=True)]


def _thresholds(found: Found, candidates: list[_Candidate]) -> dict[tuple[Key, int], float]:
    """The thresholds of all candidates; those of one prefix are found together."""
    wanted: dict[Key, set[int]] = {}
    for candidate in candidates:
        for key, number in _cuts(found, candidate):
            wanted.setdefault(key, set()).add(number)

    def of(key: Key) -> dict[tuple[Key, int], float]:
        numbers = sorted(wanted[key])
        values = found.table.thresholds(key, np.array(numbers))
        return {(key, n): float(v) for n, v in zip(numbers, values, strict=True)}

    with ThreadPoolExecutor(found.asked.threads) as executor:
        return {cut: value for each in executor.map(of, wanted) for cut, value in each.items()}


def _committee(
    found: Found, candidate: _Candidate, known: dict[tuple[Key, int], float]
) -> Committee:
    """A member of the front, with its thresholds, figures and origin."""
    asked, rule = found.asked, found.asked.rule
    pool = rule.pool
    thresholds = [known[cut] for cut in _cuts(found, candidate)]
    cascade = rule.cascade(candidate.cascade.models_of_stages, thresholds)
    costs = costs_of_stages(cascade.models_of_stages, pool.costs.values(asked.unit))
    scores: Array | int = int(candidate.value)
    if not rule.utility.counted:
        scores = scored(cascade, pool, decided(cascade, pool), rule.utility)
    evaluation = evaluation_of(pool, asked.unit, costs, candidate.leaving, rule.utility, scores)
    return described(cascade, evaluation, pool)


def described(cascade: Cascade, evaluation: Evaluation, pool: Pool) -> Committee:
    """A committee whose file says how its models are loaded, and what the choice rests on."""
    told = replace(
        pool.described(cascade),
        classes=pool.samples.classes,
        origin={
            "unit": evaluation.unit,
            "chosen_on": pool.samples.split,
            "samples_fingerprint": pool.samples.fingerprint,
            "promised": asdict(evaluation),
        },
    )
    return Committee(told, evaluation)


def ensembles(
    pool: Pool,
    max_models: int,
    combine: str | None = None,
    unit: str | None = None,
    utility: Utility | None = None,
    families: bool = True,
) -> tuple[Committee, ...]:
    """Every ensemble of 2 to ``max_models`` models of a pool, evaluated on it, by rising cost.

    Models are those of :meth:`committee.Pool.singles`: blocks of views go together.

    Models of one family are interchangeable, unless ``families`` is false, as in :func:`search`.

    References:
        Wang et al. (2022), section 3.
    """
    combine = combine or DEFAULT_COMBINE[pool.kind]
    if combine not in ORDER_FREE:
        return ()
    earlier = earlier_training(pool, pool.families if families else {})
    singles = sorted(pool.singles(combine).values())
    together = [
        [name for models in some for name in models]
        for size in range(2, max_models + 1)
        for some in itertools.combinations(singles, size)
    ]
    cascades = [
        pool.described(Cascade.ensemble(names, combine=combine, calibrations=pool.calibrations))
        for names in together
        if all(earlier.get(name, name) in names for name in names)
    ]
    evaluations = evaluate_all(cascades, pool, unit, utility)
    found = [Committee(*pair) for pair in zip(cascades, evaluations, strict=True)]
    return tuple(sorted(found, key=lambda c: (c.evaluation.average_cost, c.cascade.names)))
