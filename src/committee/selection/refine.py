"""Refine: turn candidates into the front, with exact figures, thresholds and evaluations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from committee.arrays import Array
from committee.errors import Infeasible
from committee.pool.costs import SampleCost, costs_of_stages, mean_cost, worst_cost
from committee.pool.evaluate import (
    average_cost,
    evaluation_of,
    shared_warnings,
)
from committee.pool.intervals import Estimate, counted_estimate
from committee.pool.prefixes import Key, StageSequence
from committee.rule.cascade import NEVER, Cascade
from committee.selection.engine import Candidates, timed
from committee.selection.evaluate_many import evaluated_on, values_of_each
from committee.selection.front import (
    Committee,
    Front,
    Settings,
    committee_of,
    preference,
    undominated,
)
from committee.selection.notes import search_notes
from committee.selection.statistics import PrefixTable, Statistics
from committee.selection.sweep import CLEARLY
from committee.selection.threads import executor_for


def front_of_candidates(
    candidates: Candidates,
    most: int,
    *,
    families: bool,
    inexact: str = "",
    self_cascades: bool = False,
) -> Front:
    """Return the front of candidates, compared on exact figures and evaluated."""
    plan, source = candidates.plan, candidates.plan.source
    with timed(candidates.seconds, "front"):
        committees = _committees(candidates)
    if plan.test is not None:
        with timed(candidates.seconds, "test"):
            committees = evaluated_on(committees, plan.test, plan.unit, source.metric, plan.threads)
    settings = Settings(
        max_models=most,
        confidence=source.confidence,
        combine=source.combine,
        grid=plan.grid,
        unit=plan.unit,
        worst_case=plan.worst_case,
        average_case=plan.average_case,
        families=families,
        self_cascades=self_cascades,
        metric=source.metric,
        sequences=len(candidates.sequences),
        cascades=candidates.cascades,
        seconds=candidates.seconds,
    )
    best, sequences = committees[-1].evaluation, candidates.sequences
    shared = tuple(shared_warnings(source.pool, plan.test))
    notes = search_notes(source, candidates.table, sequences, plan.unit, best, shared)
    return Front(committees, settings, source.pool, inexact, notes)


@dataclass(frozen=True, eq=False)
class _Candidate:
    """A committee that may be on the front; stages that never exit are merged with the next.

    Args:
        cascade: The cascade, with the numbers of candidate thresholds in place of thresholds.
        ends: The prefix of the sequence at which each stage but the last ends.
        sequence: The sequence that it comes from.
        exits: How many samples exit at each stage, shape (K,).
        rows: The stages of exit of the samples, computed where costs differ by sample.
        value: See :data:`~committee.selection.engine.Point`.
    """

    cascade: Cascade
    ends: tuple[int, ...]
    sequence: StageSequence
    exits: Array
    rows: Callable[[], Array]
    value: float

    def average(self, costs: Mapping[str, SampleCost]) -> float:
        own = costs_of_stages(self.cascade.models_of_stages, costs)
        numbers = [each for each in own if not isinstance(each, np.ndarray)]
        if len(numbers) == len(own):
            return average_cost(numbers, self.exits)
        return mean_cost(own, self.rows())


def _joined(candidates: Candidates) -> Iterator[_Candidate]:
    source, table = candidates.plan.source, candidates.table
    for sequence, choices, reach, value in candidates.points:
        rows = [table.rows[key] for key in source.keys(sequence)[:-1]]
        never = [choice == table.widths[row] - 1 for choice, row in zip(choices, rows, strict=True)]
        numbers = [NEVER if n else float(c) for n, c in zip(never, choices, strict=True)]
        exits = -np.diff(reach, append=0)
        ends = tuple(k for k, joins in enumerate(never) if not joins)
        cuts = [(rows[end], int(choices[end])) for end in ends]
        yield _Candidate(
            source.cascade(sequence, numbers).joined(),
            ends,
            sequence,
            exits[[*(not joins for joins in never), True]],
            partial(_exits, table, cuts),
            value,
        )


def _exits(table: Statistics, cuts: Sequence[tuple[int, int]]) -> Array:
    """Return the stage of exit of each sample, shape (N,)."""
    assert isinstance(table, PrefixTable)  # costs of the samples of shards do not differ
    stages = np.zeros(table.passed.shape[1], np.int64)
    alive = np.ones(len(stages), bool)
    for row, choice in cuts:
        alive &= table.passed[row] <= choice
        stages += alive
    return stages


def _committees(candidates: Candidates) -> tuple[Committee, ...]:
    plan = candidates.plan
    pool = plan.source.pool
    costs = pool.sample_costs(plan.unit)
    bounds = [(pool.sample_costs(unit), bound) for unit, bound in plan.average_case.items()]
    ranked = [
        candidate
        for candidate in _joined(candidates)
        if all(candidate.average(own) * CLEARLY <= bound for own, bound in bounds)
    ]
    if not ranked:
        limits = " and ".join(f"{bound:g} {unit}" for unit, bound in plan.average_case.items())
        raise Infeasible(
            f"no committee{' within the worst case' if plan.worst_case else ''} has an average "
            f"cost of at most {limits}. Raise the bound"
        )

    def rank(candidate: _Candidate) -> tuple[object, ...]:
        worst_case = worst_cost(costs[name] for name in candidate.cascade.names)
        return preference(candidate.cascade, worst_case)

    ranked.sort(key=rank)
    average = np.array([candidate.average(costs) for candidate in ranked])
    value = np.array([candidate.value for candidate in ranked])
    chosen = [ranked[i] for i in undominated(average, value)]
    thresholds = _thresholds(candidates, chosen)
    cascades = [_cascade(candidates, each, thresholds) for each in chosen]
    estimates = _estimates(candidates, chosen, cascades)
    return tuple(
        _committee(candidates, *each) for each in zip(chosen, cascades, estimates, strict=True)
    )


def _cuts(candidates: Candidates, candidate: _Candidate) -> list[tuple[Key, int]]:
    """Return the prefix and the number of the threshold of each stage but the last."""
    keys = candidates.plan.source.keys(candidate.sequence)
    numbers = candidate.cascade.thresholds
    return [(keys[end], int(n)) for end, n in zip(candidate.ends, numbers, strict=True)]


def _thresholds(candidates: Candidates, chosen: list[_Candidate]) -> dict[tuple[Key, int], float]:
    """Return the thresholds of candidates; compute those of one prefix together."""
    wanted: dict[Key, set[int]] = {}
    for candidate in chosen:
        for key, number in _cuts(candidates, candidate):
            wanted.setdefault(key, set()).add(number)

    def of(key: Key) -> dict[tuple[Key, int], float]:
        numbers = sorted(wanted[key])
        values = candidates.table.thresholds(key, np.array(numbers))
        return {(key, n): float(v) for n, v in zip(numbers, values, strict=True)}

    numbers = len(wanted) * candidates.table.samples
    with executor_for(numbers, candidates.plan.threads) as executor:
        return {cut: value for each in executor.map(of, wanted) for cut, value in each.items()}


def _cascade(
    candidates: Candidates, candidate: _Candidate, known: dict[tuple[Key, int], float]
) -> Cascade:
    thresholds = [known[cut] for cut in _cuts(candidates, candidate)]
    return candidates.plan.source.cascade(candidate.cascade.models_of_stages, thresholds)


def _estimates(
    candidates: Candidates, chosen: list[_Candidate], cascades: list[Cascade]
) -> Iterator[Estimate]:
    """Yield the accuracy of each candidate; the interval of a mean needs all of its values."""
    plan, source = candidates.plan, candidates.plan.source
    if not source.metric.counted:
        yield from map(source.estimate, values_of_each(cascades, source, plan.threads))
        return
    samples = len(source.pool)
    for candidate in chosen:
        yield counted_estimate(int(candidate.value), samples)


def _committee(
    candidates: Candidates, candidate: _Candidate, cascade: Cascade, estimate: Estimate
) -> Committee:
    plan, source = candidates.plan, candidates.plan.source
    priced = source.pool.sample_costs(plan.unit)
    costs = costs_of_stages(cascade.models_of_stages, priced)
    average, exits = candidate.average(priced), candidate.exits
    evaluation = evaluation_of(source, plan.unit, costs, average, exits, estimate)
    return committee_of(cascade, evaluation, source.pool)
