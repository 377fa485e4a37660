"""Exhaustive search: every ordered sequence of distinct models, every vector of thresholds."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace

import numpy as np

from committee.cascade import NEVER, Cascade
from committee.combine import DEFAULT_COMBINE, ORDER_FREE
from committee.errors import CascadeError, CostError, Infeasible
from committee.evaluate import evaluate, labels_of
from committee.pool import Pool
from committee.predictions import Array
from committee.search.front import (
    Committee,
    Front,
    Screen,
    Settings,
    front_of,
    undominated,
)
from committee.search.prefixes import Prefix, Prefixes
from committee.search.surface import surfaces

Progress = Callable[[int, int], None]
Sequence_ = tuple[str, ...]
# Cost (P,), correct (P,) and threshold choices (P, K - 1) of the points of one sequence.
Points = tuple[Array, Array, Array]

_SEQUENCES_AT_ONCE = 64


@dataclass(frozen=True, eq=False)
class _Search:
    """What every committee of one search shares."""

    pool: Pool
    confidence: str
    combine: str
    unit: str


def search(
    pool: Pool,
    max_models: int | None = None,
    *,
    confidence: str = "max_prob",
    combine: str | None = None,
    grid: int = 100,
    worst_case: float | None = None,
    unit: str | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Front:
    """Find all committees of a pool that no other beats in both accuracy and average-case cost.

    Every ordered sequence of up to ``max_models`` distinct models is tried with every vector of
    thresholds out of ``grid`` percentiles, "always" and "never"; single models and ensembles are
    among them. The result is exact and depends on neither threads nor the order of the pool.

    Args:
        pool: Labelled predictions on the split that chooses, and costs.
        max_models: Most models of a committee; 3, or all of a smaller pool, if left out.
        confidence: Name of the confidence function; decisions bring their own.
        combine: ``mean_logits``, ``mean_probabilities`` or ``last``; by default the mean of what
            the models give.
        grid: Percentiles tried for each threshold.
        worst_case: Bound on the sum of the costs of all stages, in ``unit``.
        unit: Unit of the cost; see :meth:`committee.cost.CostTable.unit` for the default.
        threads: How many to use; all processors if left out.
        progress: Called with (sequences done, sequences in all).

    Raises:
        CascadeError: If ``max_models`` is less than 1 or more than the pool has.
        Infeasible: If no committee keeps to ``worst_case``.
        MisalignedError: If there are no labels or samples.
        CostError: If a model has no cost in that unit.

    References:
        Wang et al. (2022), section 5, appendix D.3 and E.1.
    """
    labels = labels_of(pool)
    unit = pool.costs.unit(unit)
    costs = pool.costs.values(unit)
    combine = combine or DEFAULT_COMBINE[pool.kind]
    most = min(3, len(pool.names)) if max_models is None else max_models
    if not 1 <= most <= len(pool.names):
        raise CascadeError(
            f"search: max_models must be 1 to {len(pool.names)}, the models of the pool, not {most}"
        )
    prefixes = Prefixes(pool, labels, confidence, combine, grid)
    sequences = _affordable(pool.names, most, costs, worst_case, unit)
    points, covered = _points(prefixes, sequences, costs, threads or os.cpu_count() or 1, progress)
    asked = _Search(pool, confidence, combine, unit)
    committees = front_of([_committee(*point, prefixes, asked) for point in points])
    settings = Settings(most, confidence, combine, grid, unit, worst_case, len(sequences), covered)
    return Front(committees, settings, pool)


def ensembles(
    pool: Pool, max_models: int, combine: str | None = None, unit: str | None = None
) -> tuple[Committee, ...]:
    """Every ensemble of 2 to ``max_models`` models of a pool, evaluated on it, by rising cost.

    References:
        Wang et al. (2022), section 3.
    """
    combine = combine or DEFAULT_COMBINE[pool.kind]
    if combine not in ORDER_FREE:
        return ()
    found = [
        Committee(cascade, evaluate(cascade, pool, unit))
        for size in range(2, max_models + 1)
        for names in itertools.combinations(sorted(pool.names), size)
        for cascade in [Cascade.ensemble(names, combine=combine)]
    ]
    return tuple(sorted(found, key=lambda c: (c.evaluation.average_cost, c.cascade.names)))


def _affordable(
    names: Sequence[str], most: int, costs: dict[str, float], bound: float | None, unit: str
) -> list[Sequence_]:
    """Sequences within the worst-case bound, in the order in which equal ones are preferred.

    That is by rising worst-case cost, then number of models, then names; see :func:`front_of`.
    """
    if bound is not None and math.isnan(bound):
        raise CostError(f"search: worst_case is NaN; give a number of {unit} or leave it out")
    every = sorted(
        (math.fsum(costs[name] for name in sequence), size, sequence)
        for size in range(1, most + 1)
        for sequence in itertools.permutations(names, size)
    )
    within = [sequence for worst, _, sequence in every if bound is None or worst <= bound]
    if not within and bound is not None:
        cheapest = min(costs, key=lambda name: (costs[name], name))
        raise Infeasible(
            f"no committee has a worst-case cost of at most {bound:g} {unit}. "
            f"Nearest: {cheapest} with {costs[cheapest]:g} {unit}"
        )
    return within


def _points(
    prefixes: Prefixes,
    sequences: list[Sequence_],
    costs: dict[str, float],
    threads: int,
    progress: Progress | None,
) -> tuple[list[tuple[Sequence_, Array]], int]:
    """The undominated (sequence, threshold choice) pairs, and how many cascades were covered."""
    samples = len(prefixes(sequences[0]).correct)
    highest = max(math.fsum(costs[name] for name in s) for s in sequences) * samples
    screen = Screen(highest)
    cost, correct = np.empty(0), np.empty(0, np.int64)
    members: list[tuple[Sequence_, Array]] = []
    covered = done = 0
    with ThreadPoolExecutor(threads) as executor:
        try:
            for batch in _batches(sequences):
                # Prefix statistics are computed here, once each, before threads share them.
                inputs = [[prefixes(s[: k + 1]) for k in range(len(s))] for s in batch]
                covered += sum(_cascades(each) for each in inputs)
                answers = executor.map(
                    lambda pair: _sequence_points(pair[1], [costs[n] for n in pair[0]], screen),
                    zip(batch, inputs, strict=True),
                )
                for sequence, (costs_, correct_, choices) in zip(batch, answers, strict=True):
                    cost = np.concatenate([cost, costs_])
                    correct = np.concatenate([correct, correct_])
                    members += [(sequence, choice) for choice in choices]
                keep = undominated(cost, correct)
                cost, correct = cost[keep], correct[keep]
                members = [members[i] for i in keep]
                screen.learn(cost, correct)
                done += len(batch)
                if progress is not None:
                    progress(done, len(sequences))
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            raise
    return members, covered


def _batches(sequences: list[Sequence_]) -> Iterator[list[Sequence_]]:
    for start in range(0, len(sequences), _SEQUENCES_AT_ONCE):
        yield sequences[start : start + _SEQUENCES_AT_ONCE]


def _cascades(prefixes: list[Prefix]) -> int:
    """Threshold vectors of one sequence, with "always" and "never"."""
    return math.prod(len(prefix.thresholds) + 2 for prefix in prefixes[:-1])


def _sequence_points(prefixes: list[Prefix], costs: list[float], screen: Screen) -> Points:
    """The points of one sequence that may be on the front."""
    found: list[Points] = []
    for surface in surfaces(prefixes, costs):
        flat_cost, flat_correct = surface.cost.ravel(), surface.correct.ravel()
        passing = screen.passing(flat_cost, flat_correct)
        keep = passing[undominated(flat_cost[passing], flat_correct[passing])]
        outer = np.broadcast_to(surface.outer, (len(keep), len(surface.outer)))
        # A single model has no threshold, and NumPy refuses to unravel into no axes.
        axes = np.unravel_index(keep, surface.cost.shape) if surface.cost.ndim else ()
        inner = [axis[:, None] for axis in axes]
        choices = np.concatenate([outer, *inner], axis=1).astype(np.int64)
        found.append((flat_cost[keep], flat_correct[keep].astype(np.int64), choices))
    cost, correct, choices = (np.concatenate(parts) for parts in zip(*found, strict=True))
    keep = undominated(cost, correct)
    return cost[keep], correct[keep], choices[keep]


def _committee(
    sequence: Sequence_, choice: Array, prefixes: Prefixes, search: _Search
) -> Committee:
    thresholds = []
    for k, index in enumerate(choice):
        candidates = prefixes(sequence[: k + 1]).thresholds
        thresholds.append(float(candidates[index]) if index < len(candidates) else NEVER)
    pool = search.pool
    cascade = Cascade.of(sequence, thresholds, search.confidence, search.combine).simplified()
    evaluation = evaluate(cascade, pool, search.unit)
    described = replace(
        cascade,
        classes=pool.samples.classes,
        models={name: pool.specs[name] for name in cascade.names if name in pool.specs},
        origin={
            "unit": search.unit,
            "chosen_on": pool.samples.split,
            "samples_fingerprint": pool.samples.fingerprint,
            "promised": asdict(evaluation),
        },
    )
    return Committee(described, evaluation)
