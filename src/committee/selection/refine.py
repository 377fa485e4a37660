"""Members of the front: what the engine found, compared on exact figures and described."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from committee.arrays import Array
from committee.errors import Infeasible
from committee.pool.evaluate import (
    average_cost,
    costs_of_stages,
    decided,
    evaluation_of,
    scored,
    shared_warnings,
)
from committee.rule.cascade import NEVER, Cascade
from committee.selection.chance import warnings_of
from committee.selection.engine import Found, timed
from committee.selection.evaluate_many import judged_on
from committee.selection.front import Committee, Front, Settings, described, preference, undominated
from committee.selection.prefixes import Key, Sequence_
from committee.selection.sweep import CLEARLY


def front_of_found(
    found: Found, most: int, families: bool, inexact: str = "", *, self_cascades: bool = False
) -> Front:
    """Compare what was found on exact figures, describe it, and judge it.

    Args:
        found: What the engine found.
        most: Most models, or stages, of a committee.
        families: Whether trainings of one architecture were taken as interchangeable.
        inexact: Why not every cascade was covered; empty if all were.
        self_cascades: Whether only single models and self-cascades were.

    Raises:
        Infeasible: If no committee keeps to the bounds on average costs.
    """
    asked, rule = found.asked, found.asked.rule
    with timed(found.seconds, "front"):
        committees = _committees(found)
    if asked.test is not None:
        with timed(found.seconds, "test"):
            committees = judged_on(committees, asked.test, asked.unit, rule.utility, asked.threads)
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
        sequences=len(found.sequences),
        cascades=found.cascades,
        seconds=found.seconds,
    )
    warnings = (
        *warnings_of(rule, found.table, asked.unit, committees[-1].evaluation),
        *shared_warnings(rule.pool, asked.test),
    )
    return Front(committees, settings, rule.pool, inexact, warnings)


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
